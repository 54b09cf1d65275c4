// SPDX-License-Identifier: MIT
//
// How it works: this file has the queue's life, its messages and its bundles; queue_domain.c the
// waiting, queue_lane.c the turns and the shaping, queue_work.c what workers are told,
// queue_batch.c leases and their end, queue_ask.c the questions. Every public function takes the
// mutex, does a bounded step and hands out the kicks it caused.
#include "queue/queue_inside.h"

#include <stdio.h>
#include <stdlib.h>

// ---- small things ----

#define SLICE_WAITS_MAX 100
#define SLICE_WAIT_NS 20000

void queue_lock(struct queue *q)
{
    if (pthread_mutex_trylock(&q->mutex) == 0)
        return;
    atomic_fetch_add(&q->lock_waiters, 1);
    CHECK(pthread_mutex_lock(&q->mutex) == 0);
    atomic_fetch_sub(&q->lock_waiters, 1);
}

void queue_lock_slice(struct queue *q)
{
    for (int i = 0; i < SLICE_WAITS_MAX && atomic_load(&q->lock_waiters); i++)
        nanosleep(&(struct timespec){.tv_nsec = SLICE_WAIT_NS}, NULL);
    queue_lock(q);
}

void queue_unlock(struct queue *q, uint64_t *kicks, void *drop)
{
    void (*release)(void *) = q->release;
    if (kicks) {
        *kicks |= q->kick;
        q->kick = 0;
    }
    CHECK(pthread_mutex_unlock(&q->mutex) == 0);
    if (drop)
        release(drop);
}

uint64_t queue_random(struct queue *q)
{
    q->random += 0x9e3779b97f4a7c15u;
    return queue_hash_mix(q->random);
}

int64_t queue_retry_ms(const struct queue *q, uint32_t times)
{
    int64_t ms = q->conf->retry.first_ms, max = q->conf->retry.max_ms;
    for (uint32_t i = 0; i < times && ms < max; i++) {
        int64_t next = ms / CONF_FACTOR_ONE * q->conf->retry.factor_milli +
                       ms % CONF_FACTOR_ONE * q->conf->retry.factor_milli / CONF_FACTOR_ONE;
        if (next <= ms)
            break;
        ms = next;
    }
    ms = ms < max ? ms : max;
    return ms > 0 ? ms : 1;
}

int64_t queue_grace_us(const struct queue *q, struct queue_now now)
{
    return mono_add_ms(now.mono, queue_retry_ms(q, 0) * 2).us;
}

// A wall time on the mono scale. 0 ("at once") is far in the past.
int64_t queue_us_of(struct wall t, struct queue_now now)
{
    if (t.us == INT64_MAX)
        return INT64_MAX;
    return t.us - now.wall.us + now.mono.us;
}

struct wall queue_wall_of(int64_t us, struct queue_now now)
{
    if (us == INT64_MAX)
        return WALL_NEVER;
    return (struct wall){us - now.mono.us + now.wall.us};
}

// ---- life ----

static uint64_t id_hash(struct message_id id)
{
    return queue_hash_mix(id.low ^ queue_hash_mix(id.high));
}

static uint64_t kept_hash(const struct queue_hash_node *node)
{
    return queue_hash_mix((uintptr_t)container_of(node, struct queue_kept, hash)->message);
}

static void init_tables(struct queue *q)
{
    queue_pool_init(&q->messages, sizeof(struct queue_message));
    queue_pool_init(&q->bundles, sizeof(struct queue_bundle));
    queue_pool_init(&q->domains, sizeof(struct queue_domain));
    queue_pool_init(&q->flows, sizeof(struct queue_flow));
    queue_pool_init(&q->turns, sizeof(struct queue_turn));
    queue_pool_init(&q->lanes, sizeof(struct queue_lane));
    queue_pool_init(&q->kept, sizeof(struct queue_kept));
    queue_ids_init(&q->by_id);
    queue_hash_init(&q->by_message, kept_hash);
    queue_hash_init(&q->by_domain, queue_domain_hash);
    queue_hash_init(&q->by_flow, queue_flow_hash);
    queue_hash_init(&q->by_turn, queue_turn_hash);
    queue_hash_init(&q->by_lane, queue_lane_hash);
}

struct queue *queue_new(const struct queue_options *options)
{
    CHECK(options->workers > 0 && options->workers <= QUEUE_WORKERS_MAX && options->conf);
    CHECK(options->conf->lanes_count > 0);
    struct queue *q = mem_new(sizeof(*q));
    CHECK(pthread_mutex_init(&q->mutex, NULL) == 0);
    q->workers_count = options->workers;
    q->connections_max = options->connections_max;
    q->stored_bytes_max = options->stored_bytes_max;
    q->random = options->seed;
    q->conf = options->conf;
    init_tables(q);
    for (size_t i = 0; i < COUNT_OF(q->slots.waits); i++)
        list_init(&q->slots.waits[i]);
    list_init(&q->slots.idle);
    list_init(&q->kept_by_age);
    for (uint32_t i = 0; i < q->workers_count; i++) {
        struct queue_worker *w = &q->workers[i];
        list_init(&w->resolve);
        list_init(&w->drain);
        list_init(&w->touched);
        list_init(&w->notes);
    }
    return q;
}

static void free_domains(struct queue *q)
{
    for (uint32_t i = 0; i < q->domains.made; i++) {
        struct queue_domain *d = queue_pool_at(&q->domains, i);
        if (!d->name)
            continue;
        queue_waiting_free(q, d);
        free(d->name);
        free(d->refusal);
    }
}

static void free_lanes(struct queue *q)
{
    for (uint32_t i = 0; i < q->lanes.made; i++) {
        struct queue_lane *l = queue_pool_at(&q->lanes, i);
        if (!l->name)
            continue;
        free(l->name), free(l->hosts), free(l->match_names), free(l->text);
        free(l->second), free(l->hour), free(l->day);
    }
}

static void free_messages(struct queue *q)
{
    for (uint32_t i = 0; i < q->messages.made; i++) {
        struct queue_message *m = queue_pool_at(&q->messages, i);
        if (m->bundles && m->has_stored)
            q->release(queue_message_stored(q, m));
        for (struct queue_bundle *b = m->bundles; b; b = b->next)
            if (b->count > 1)
                free(b->numbers);
    }
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    free_messages(q);
    free_domains(q);
    free_lanes(q);
    for (uint32_t i = 0; i < q->workers_count; i++) {
        free(q->workers[i].messages.items);
        free(q->workers[i].domains.nodes);
        free(q->workers[i].lanes.nodes);
    }
    queue_holds_free(q);
    queue_pool_done(&q->kept), queue_pool_done(&q->messages), queue_pool_done(&q->bundles),
        queue_pool_done(&q->domains);
    queue_pool_done(&q->flows), queue_pool_done(&q->turns), queue_pool_done(&q->lanes);
    queue_ids_done(&q->by_id), queue_hash_done(&q->by_message);
    queue_hash_done(&q->by_domain), queue_hash_done(&q->by_flow);
    queue_hash_done(&q->by_turn), queue_hash_done(&q->by_lane);
    map_done(&q->suspended_accounts);
    CHECK(pthread_mutex_destroy(&q->mutex) == 0);
    free(q);
}

void queue_configure(struct queue *q, const struct conf *conf, uint32_t connections_max)
{
    CHECK(conf->lanes_count > 0);
    queue_lock(q);
    q->conf = conf;
    q->connections_max = connections_max;
    for (uint32_t i = 0; i < q->lanes.made; i++) {
        struct queue_lane *l = queue_pool_at(&q->lanes, i);
        if (!l->name)
            continue;
        queue_lane_set_limits(q, l);
        queue_lane_touch(q, l);
    }
    queue_slot_share(q);
    queue_unlock(q, NULL, NULL);
}

// ---- bundles ----

struct queue_bundle *queue_bundle_new(struct queue *q, struct queue_message *m,
                                      struct queue_domain *d, const uint32_t *numbers,
                                      uint32_t count)
{
    CHECK(count > 0);
    struct queue_bundle *b = queue_pool_new(&q->bundles);
    b->message = m;
    b->domain = d;
    b->count = count;
    if (count == 1) {
        b->number = numbers[0];
    } else {
        b->numbers = mem_new(count * sizeof(uint32_t));
        memcpy(b->numbers, numbers, count * sizeof(uint32_t));
        q->numbers_bytes += mem_chunk_bytes(b->numbers);
    }
    b->next = m->bundles;
    b->link = &m->bundles;
    if (b->next)
        b->next->link = &b->next;
    m->bundles = b;
    d->bundles++;
    b->state = BUNDLE_LEASED; // in no place yet
    q->recipients[BUNDLE_LEASED] += count;
    return b;
}

const uint32_t *queue_bundle_numbers(const struct queue_bundle *b)
{
    return b->count == 1 ? &b->number : b->numbers;
}

static void free_numbers(struct queue *q, struct queue_bundle *b)
{
    if (b->count == 1)
        return;
    q->numbers_bytes -= mem_chunk_bytes(b->numbers);
    free(b->numbers);
}

void queue_bundle_free(struct queue *q, struct queue_bundle *b)
{
    CHECK(b->state == BUNDLE_LEASED);
    struct queue_domain *d = b->domain;
    q->recipients[BUNDLE_LEASED] -= b->count;
    *b->link = b->next;
    if (b->next)
        b->next->link = b->link;
    free_numbers(q, b);
    queue_pool_free(&q->bundles, b);
    d->bundles--;
    queue_domain_check(q, d);
}

static void set_numbers(struct queue *q, struct queue_bundle *b, const uint32_t *numbers,
                        uint32_t count)
{
    uint32_t one = numbers[0], *many = NULL;
    if (count > 1) {
        many = mem_new(count * sizeof(uint32_t));
        memcpy(many, numbers, count * sizeof(uint32_t));
        q->numbers_bytes += mem_chunk_bytes(many);
    }
    free_numbers(q, b);
    b->count = count;
    if (many)
        b->numbers = many;
    else
        b->number = one;
}

struct queue_bundle *queue_bundle_split(struct queue *q, struct queue_bundle *b, uint32_t n)
{
    CHECK(n > 0 && n < b->count);
    const uint32_t *numbers = queue_bundle_numbers(b);
    struct queue_bundle *cut = queue_bundle_new(q, b->message, b->domain, numbers, n);
    cut->attempts = b->attempts;
    cut->flags = b->flags;
    cut->due_us = b->state == BUNDLE_READY ? INT64_MIN : b->due_us;
    set_numbers(q, b, numbers + n, b->count - n);
    q->recipients[b->state] -= n;
    if (b->state == BUNDLE_WAITING && b->flags & BUNDLE_SCHEDULED)
        q->scheduled -= n;
    return cut;
}

void queue_bundle_take_out(struct queue *q, struct queue_bundle *b)
{
    q->recipients[b->state] -= b->count;
    if (b->state == BUNDLE_WAITING) {
        heap_remove(&b->domain->waiting, &b->due);
        if (b->flags & BUNDLE_SCHEDULED)
            q->scheduled -= b->count;
    } else if (b->state == BUNDLE_READY) {
        struct queue_flow *f = b->flow;
        list_remove(&b->ready);
        f->count--;
        f->turn->lane->ready[f->turn->proof][f->class]--;
        queue_flow_drop_if_empty(q, f);
        b->due_us = INT64_MIN;
    }
}

static void put_in(struct queue *q, struct queue_bundle *b, enum bundle_state state)
{
    b->state = (uint8_t)state;
    q->recipients[state] += b->count;
}

// Most domains have one that waits, a few very many.
static void waiting_grow(struct queue *q, struct queue_domain *d)
{
    struct heap *h = &d->waiting;
    if (h->cap == 0) {
        h->nodes = &d->waiting_one;
        h->cap = 1;
        return;
    }
    size_t cap = h->cap == 1 ? 3 : h->cap + h->cap / 4 + 1;
    bool own = h->nodes != &d->waiting_one;
    if (own)
        q->waiting_bytes -= mem_chunk_bytes(h->nodes);
    h->nodes = mem_resize(own ? h->nodes : NULL, cap * sizeof(struct heap_node *));
    if (!own)
        h->nodes[0] = d->waiting_one;
    q->waiting_bytes += mem_chunk_bytes(h->nodes);
    h->cap = cap;
}

void queue_waiting_free(struct queue *q, struct queue_domain *d)
{
    if (d->waiting.cap > 1) {
        q->waiting_bytes -= mem_chunk_bytes(d->waiting.nodes);
        free(d->waiting.nodes);
    }
    d->waiting = (struct heap){0};
}

void queue_bundle_wait(struct queue *q, struct queue_bundle *b, int64_t due_us)
{
    queue_bundle_take_out(q, b);
    put_in(q, b, BUNDLE_WAITING);
    if (b->flags & BUNDLE_SCHEDULED)
        q->scheduled += b->count;
    if ((b->flags & (BUNDLE_WARNABLE | BUNDLE_WARNED)) == BUNDLE_WARNABLE)
        b->message->warn_again = b->message->warn_passed;
    b->due_us = due_us;
    struct heap *h = &b->domain->waiting;
    if (h->count == h->cap)
        waiting_grow(q, b->domain);
    b->due = (struct heap_node){0};
    heap_add(h, &b->due, due_us);
    if (heap_first(h) == &b->due)
        queue_domain_check(q, b->domain);
}

void queue_bundle_hold(struct queue *q, struct queue_bundle *b)
{
    queue_bundle_take_out(q, b);
    put_in(q, b, BUNDLE_HELD);
}

void queue_bundle_lease(struct queue *q, struct queue_bundle *b)
{
    b->flags = b->state == BUNDLE_HELD ? b->flags | BUNDLE_WAS_HELD : b->flags & ~BUNDLE_WAS_HELD;
    queue_bundle_take_out(q, b);
    put_in(q, b, BUNDLE_LEASED);
    b->next_leased = NULL;
}

void queue_bundle_ready(struct queue *q, struct queue_bundle *b, struct queue_flow *f)
{
    queue_bundle_take_out(q, b);
    put_in(q, b, BUNDLE_READY);
    b->flags &= ~BUNDLE_SCHEDULED;
    b->flow = f;
    b->ready = (struct list){0};
    list_push_back(&f->bundles, &b->ready);
    f->count++;
    f->turn->lane->ready[f->turn->proof][f->class]++;
}

void queue_bundle_move(struct queue *q, struct queue_bundle *b, struct queue_domain *d)
{
    CHECK(b->state == BUNDLE_LEASED);
    struct queue_domain *old = b->domain;
    b->domain = d;
    d->bundles++;
    old->bundles--;
    queue_domain_check(q, old);
}

// ---- messages ----

static bool find_item(const struct queue *q, struct message_id id, uint32_t *out_item)
{
    uint64_t hash = id_hash(id);
    for (uint32_t probe = 0; queue_ids_next(&q->by_id, hash, &probe, out_item);) {
        const struct queue_message *m = queue_pool_at(&q->messages, *out_item);
        if (message_id_eq(m->id, id))
            return true;
    }
    return false;
}

struct queue_message *queue_message_find(struct queue *q, struct message_id id)
{
    uint32_t item;
    return find_item(q, id, &item) ? queue_pool_at(&q->messages, item) : NULL;
}

uint32_t queue_message_item(const struct queue *q, const struct queue_message *m)
{
    uint32_t item;
    CHECK(find_item(q, m->id, &item) && queue_pool_at(&q->messages, item) == m);
    return item;
}

static struct queue_kept *find_kept(const struct queue *q, const struct queue_message *m)
{
    struct queue_hash_node *node = queue_hash_chain(&q->by_message, queue_hash_mix((uintptr_t)m));
    for (; node; node = node->next)
        if (container_of(node, struct queue_kept, hash)->message == m)
            break;
    CHECK(node);
    return container_of(node, struct queue_kept, hash);
}

void *queue_message_stored(struct queue *q, const struct queue_message *m)
{
    return m->has_stored ? find_kept(q, m)->stored : NULL;
}

static void keep_stored(struct queue *q, struct queue_message *m, const struct queue_stored *stored,
                        struct queue_now now)
{
    struct queue_kept *kept = queue_pool_new(&q->kept);
    kept->message = m;
    kept->stored = stored->message;
    kept->bytes = stored->bytes;
    kept->since_us = now.mono.us;
    queue_hash_add(&q->by_message, &kept->hash);
    list_push_back(&q->kept_by_age, &kept->link);
    m->has_stored = true;
    q->stored_bytes += kept->bytes;
}

uint32_t queue_message_worker(const struct queue *q, struct message_id id)
{
    return (uint32_t)(id_hash(id) % q->workers_count);
}

static void set_timer(struct queue *q, struct queue_message *m, int64_t at_us)
{
    uint32_t worker = queue_message_worker(q, m->id);
    struct queue_timers *h = &q->workers[worker].messages;
    queue_timers_set(q, h, m, at_us);
    if (m->timer_place == 1)
        queue_kick(q, worker);
}

void queue_message_check(struct queue *q, struct queue_message *m, struct queue_now now)
{
    if (m->timer_place == 0)
        set_timer(q, m, m->expires_us);
    if (m->warn_again && m->timer_us > now.mono.us)
        set_timer(q, m, now.mono.us);
    m->warn_again = false;
}

void queue_message_put_off(struct queue *q, struct queue_message *m, int64_t until_us)
{
    int64_t at_us = m->warn_again ? until_us : m->timer_place ? m->timer_us : m->expires_us;
    set_timer(q, m, at_us > until_us ? at_us : until_us);
    m->warn_again = false;
}

static void *take_stored(struct queue *q, struct queue_message *m)
{
    if (!m->has_stored)
        return NULL;
    struct queue_kept *kept = find_kept(q, m);
    void *stored = kept->stored;
    queue_hash_remove(&q->by_message, &kept->hash);
    list_remove(&kept->link);
    q->stored_bytes -= kept->bytes;
    queue_pool_free(&q->kept, kept);
    m->has_stored = false;
    return stored;
}

#define STALE_AT_ONCE 4

// Room for `bytes`: what has been kept for long, and no batch has, goes. Returns how many are in `out`, to be released
// outside the mutex.
static uint32_t drop_stale(struct queue *q, uint64_t bytes, struct queue_now now,
                           void *out[STALE_AT_ONCE])
{
    uint32_t count = 0;
    for (uint32_t looks = 0; looks < STALE_AT_ONCE && q->stored_bytes + bytes > q->stored_bytes_max;
         looks++) {
        struct list *link = list_first(&q->kept_by_age);
        if (!link)
            break;
        struct queue_kept *kept = list_get(link, struct queue_kept, link);
        if (now.mono.us - kept->since_us < QUEUE_STORED_STALE_US)
            break;
        if (kept->message->leases == 0) {
            out[count++] = take_stored(q, kept->message);
            continue;
        }
        list_remove(&kept->link);
        list_push_back(&q->kept_by_age, &kept->link);
        kept->since_us = now.mono.us;
    }
    return count;
}

void *queue_message_settle(struct queue *q, struct queue_message *m, struct queue_now now)
{
    void *drop = NULL;
    if (m->leases == 0 && (m->drop_stored || !m->bundles))
        drop = take_stored(q, m);
    if (m->bundles) {
        queue_message_check(q, m, now);
        return drop;
    }
    CHECK(m->leases == 0);
    queue_timers_remove(q, &q->workers[queue_message_worker(q, m->id)].messages, m);
    uint32_t item = queue_message_item(q, m);
    queue_ids_remove(&q->by_id, id_hash(m->id), item);
    queue_pool_free_at(&q->messages, item);
    return drop;
}

static bool has_account(const struct map *accounts, uint32_t account)
{
    char number[16];
    if (!accounts->count)
        return false;
    int n = snprintf(number, sizeof(number), "%u", account);
    return map_find(accounts, bytes_of(number, (size_t)n));
}

bool queue_is_suspended(const struct queue *q, uint32_t account)
{
    return has_account(&q->suspended_accounts, account);
}

// Sorts recipients so that those of one bundle stand together, by number within.
struct sorted {
    const struct queue_recipient *r;
    uint8_t flags;
    bool held;
};

static int by_bundle(const void *left, const void *right)
{
    const struct sorted *a = left, *b = right;
    if (a->r->route != b->r->route)
        return a->r->route < b->r->route ? -1 : 1;
    int order = bytes_cmp(a->r->domain, b->r->domain);
    if (order)
        return order;
    if (a->held != b->held)
        return a->held ? 1 : -1;
    if (a->flags != b->flags)
        return a->flags < b->flags ? -1 : 1;
    if (a->r->attempts != b->r->attempts)
        return a->r->attempts < b->r->attempts ? -1 : 1;
    if (a->r->next_attempt_at.us != b->r->next_attempt_at.us)
        return a->r->next_attempt_at.us < b->r->next_attempt_at.us ? -1 : 1;
    return 0;
}

static int by_bundle_and_number(const void *left, const void *right)
{
    const struct sorted *a = left, *b = right;
    int order = by_bundle(left, right);
    if (order == 0)
        order = a->r->number < b->r->number ? -1 : a->r->number > b->r->number;
    return order;
}

static void add_bundle(struct queue *q, struct queue_message *m,
                       const struct queue_message_new *new, const struct sorted *first,
                       uint32_t count, struct queue_now now)
{
    const struct queue_recipient *r = first->r;
    uint32_t one, *numbers = count > 1 ? mem_new(count * sizeof(uint32_t)) : &one;
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = first[i].r->number;
    struct queue_domain *d = queue_domain_get(q, r->route, r->domain);
    struct queue_bundle *b = queue_bundle_new(q, m, d, numbers, count);
    if (count > 1)
        free(numbers);
    b->attempts = r->attempts < UINT16_MAX ? (uint16_t)r->attempts : UINT16_MAX;
    b->flags = first->flags;
    int64_t due = queue_us_of(r->next_attempt_at, now);
    int64_t not_before = queue_us_of(new->not_before, now);
    if (not_before > now.mono.us && not_before >= due) {
        due = not_before;
        b->flags |= BUNDLE_SCHEDULED;
    }
    b->due_us = due;
    if (first->held)
        queue_bundle_hold(q, b);
    else
        queue_bundle_wait(q, b, due);
}

static void add_bundles(struct queue *q, struct queue_message *m,
                        const struct queue_message_new *new, struct queue_now now)
{
    uint32_t count = new->recipients_count;
    struct sorted one, *all = count > 1 ? mem_new(count * sizeof(*all)) : &one;
    for (uint32_t i = 0; i < count; i++) {
        const struct queue_recipient *r = &new->recipients[i];
        CHECK(r->number > 0 && r->domain.len <= QUEUE_NAME_MAX);
        bool warn = (r->notify == 0 || r->notify & NOTIFY_DELAY) && !(m->flags & QUEUE_NULL_SENDER);
        all[i].r = r;
        all[i].flags = (uint8_t)((warn ? BUNDLE_WARNABLE : 0) | (r->warned ? BUNDLE_WARNED : 0) |
                                 (r->exempt ? BUNDLE_EXEMPT : 0));
        all[i].held = r->held || queue_is_held(q, r->domain, m->account, r->exempt);
        if (!all[i].held && queue_is_suspended(q, m->account)) {
            all[i].held = true;
            all[i].flags |= BUNDLE_SUSPENDED;
        }
    }
    if (count > 1)
        qsort(all, count, sizeof(*all), by_bundle_and_number);
    for (uint32_t i = 0, n; i < count; i += n) {
        for (n = 1; i + n < count && by_bundle(&all[i], &all[i + n]) == 0; n++)
            CHECK(all[i + n].r->number != all[i + n - 1].r->number);
        add_bundle(q, m, new, &all[i], n, now);
    }
    if (count > 1)
        free(all);
}

// The first time something is due to be said about the message: its warning or its end.
static void start_timer(struct queue *q, struct queue_message *m,
                        const struct queue_message_new *new, struct queue_now now)
{
    int64_t warn_after_ms = q->conf->retry.warn_after_ms, at = m->expires_us;
    bool is_over = wall_reached(new->expires_at, now.wall); // a warning would come too late
    bool warns = !is_over && (new->warn_at.us || warn_after_ms > 0);
    int64_t from = queue_us_of(new->accepted_at, now), start = queue_us_of(new->not_before, now);
    from = start > from ? start : from;
    if (warns && !(m->flags & QUEUE_NULL_SENDER)) {
        int64_t warn = new->warn_at.us ? queue_us_of(new->warn_at, now)
                                       : mono_add_ms((struct mono){from}, warn_after_ms).us;
        at = warn < at ? warn : at;
    }
    set_timer(q, m, at);
}

int queue_add(struct queue *q, const struct queue_message_new *new, struct queue_now now,
              uint64_t *kicks)
{
    CHECK(new->recipients_count > 0);
    void (*release)(void *) = new->stored.message ? new->stored.release : NULL;
    void *drop = NULL, *stale[STALE_AT_ONCE];
    uint32_t stale_count = 0;
    int err = OK;
    queue_lock(q);
    if (release) {
        CHECK(!q->release || q->release == release);
        q->release = release;
    }
    if (queue_message_find(q, new->id)) {
        err = E_EXISTS;
        drop = new->stored.message;
        goto out;
    }
    uint32_t item = queue_pool_next(&q->messages);
    struct queue_message *m = queue_pool_new(&q->messages);
    m->id = new->id;
    m->account = new->account;
    m->class = new->class & 0x7;
    m->level = queue_level_of(new->priority) & 0x7;
    m->flags = new->flags & 0x1f;
    m->size = new->size < UINT32_MAX ? (uint32_t) new->size : UINT32_MAX;
    m->expires_us = queue_us_of(new->expires_at, now);
    if (new->spared && m->expires_us < queue_grace_us(q, now))
        m->expires_us = queue_grace_us(q, now);
    if (new->stored.message)
        stale_count = drop_stale(q, new->stored.bytes, now, stale);
    if (new->stored.message && q->stored_bytes + new->stored.bytes <= q->stored_bytes_max)
        keep_stored(q, m, &new->stored, now);
    else
        drop = new->stored.message;
    queue_ids_add(&q->by_id, id_hash(m->id), item);
    add_bundles(q, m, new, now);
    start_timer(q, m, new, now);
out:
    queue_unlock(q, kicks, drop);
    for (uint32_t i = 0; i < stale_count; i++)
        release(stale[i]);
    return err;
}

void queue_suspend_account(struct queue *q, uint32_t account, bool on, uint64_t *kicks)
{
    char number[16];
    int n = snprintf(number, sizeof(number), "%u", account);
    queue_lock(q);
    if (on)
        map_set(&q->suspended_accounts, bytes_of(number, (size_t)n), q);
    else
        map_remove(&q->suspended_accounts, bytes_of(number, (size_t)n));
    queue_unlock(q, kicks, NULL);
}

// Mail whose time has not come keeps to the wall clock. Returns by how much it goes later (below zero: sooner, but not
// before now).
static int64_t move_scheduled(struct queue *q, struct queue_bundle *b, int64_t delta_us,
                              struct queue_now now)
{
    if (b->state == BUNDLE_READY || !(b->flags & BUNDLE_SCHEDULED) || b->due_us <= now.mono.us)
        return 0;
    int64_t was = b->due_us, due = was - delta_us;
    if (b->state == BUNDLE_WAITING)
        queue_bundle_wait(q, b, due);
    else
        b->due_us = due;
    return (due > now.mono.us ? due : now.mono.us) - was;
}

void queue_clock_jumped(struct queue *q, int64_t delta_ms, struct queue_now now, uint64_t *kicks)
{
    queue_lock(q);
    for (uint32_t i = 0; i < q->messages.made; i++) {
        struct queue_message *m = queue_pool_at(&q->messages, i);
        int64_t later_us = 0;
        for (struct queue_bundle *b = m->bundles; b; b = b->next) {
            int64_t us = move_scheduled(q, b, delta_ms * 1000, now);
            later_us = us ? us : later_us;
        }
        if (!later_us) // the others' lifetimes go by mono
            continue;
        m->expires_us += m->expires_us == INT64_MAX ? 0 : later_us;
        if (m->timer_place && m->timer_us != INT64_MAX)
            set_timer(q, m, m->timer_us + later_us);
    }
    for (uint32_t i = 0; i < q->lanes.made; i++) { // their notes tell ages by the wall clock
        struct queue_lane *l = queue_pool_at(&q->lanes, i);
        if (l->name && l->note_kept)
            queue_note_want(q, l);
    }
    queue_unlock(q, kicks, NULL);
}
