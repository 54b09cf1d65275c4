// SPDX-License-Identifier: MIT
#include "queue/queue_world.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"

// ---- the journal: what is on record of each recipient ----

struct world_recipient {
    struct message_id id;
    uint32_t number, account, attempts, route, notify;
    enum mail_class class;
    uint64_t size;
    struct wall accepted_at, not_before, expires_at, next_attempt_at;
    char domain[64];
    bool leased, held, exempt, warned, ended, singly;
};

static struct bytes key_of(struct message_id id, uint32_t number, char out[64])
{
    char text[MESSAGE_ID_CHARS + 1];
    message_id_format(id, text);
    return bytes_of(out, (size_t)snprintf(out, 64, "%s.%u", text, number));
}

static struct world_recipient *find(struct world *w, struct message_id id, uint32_t number)
{
    char key[64];
    struct world_recipient *r = map_find(&w->recipients, key_of(id, number, key));
    CHECK(r);
    return r;
}

// ---- lanes, watched ----

struct taken {
    int64_t at_us;
    uint64_t size;
    bool low;
};
struct watched_lane {
    char name[QUEUE_LANE_MAX + 1];
    struct list idle; // of connections
    uint32_t connections, low_busy;
    int64_t refused_at_us; // the last refusal; 0: none
    struct taken *taken;
    size_t taken_count, taken_cap;
};

static struct watched_lane *watch(struct world *w, const char *name)
{
    struct watched_lane *l = map_find(&w->lanes, bytes_cstr(name));
    if (l)
        return l;
    l = mem_new(sizeof(*l));
    snprintf(l->name, sizeof(l->name), "%s", name);
    list_init(&l->idle);
    map_set(&w->lanes, bytes_cstr(name), l);
    return l;
}

static const struct conf_lane *limits_of(struct world *w, const char *name)
{
    for (uint32_t i = 0; i < w->conf->lanes_count; i++)
        if (conf_patterns_match(&w->conf->lanes[i].match, bytes_cstr(name)))
            return &w->conf->lanes[i];
    return NULL;
}

// Law 7: in no stretch of `us` more than limit.
static void check_window(const struct watched_lane *l, int64_t us, uint64_t limit)
{
    if (limit == 0 || l->taken_count <= limit)
        return;
    const struct taken *first = &l->taken[l->taken_count - 1 - limit];
    const struct taken *last = &l->taken[l->taken_count - 1];
    if (last->at_us - first->at_us < us)
        fprintf(stderr, "%s: %llu messages within %lld us of a window of %lld us, at %lld\n",
                l->name, (unsigned long long)limit + 1, (long long)(last->at_us - first->at_us),
                (long long)us, (long long)last->at_us);
    CHECK(last->at_us - first->at_us >= us);
}

static void check_bytes(const struct watched_lane *l, uint64_t limit)
{
    if (limit == 0 || l->taken_count < 2)
        return;
    const struct taken *before = &l->taken[l->taken_count - 2];
    const struct taken *last = &l->taken[l->taken_count - 1];
    CHECK((double)(last->at_us - before->at_us) * (double)limit >= (double)before->size * 1e6);
}

static void watch_take(struct world *w, struct watched_lane *l, const struct queue_batch *b)
{
    const struct conf_lane *limits = limits_of(w, l->name);
    if (l->taken_count == l->taken_cap) {
        l->taken_cap = l->taken_cap ? l->taken_cap * 2 : 64;
        l->taken = mem_resize(l->taken, l->taken_cap * sizeof(*l->taken));
    }
    l->taken[l->taken_count++] =
        (struct taken){w->now.mono.us, b->size, b->class != MAIL_TRANSACTIONAL};
    uint64_t milli = limits->messages_per_second_milli;
    if (milli >= 1000)
        check_window(l, 1000000, milli / 1000);
    else if (milli)
        check_window(l, (int64_t)(1000000000 / milli), 1);
    check_window(l, 3600 * 1000000LL, limits->messages_per_hour);
    check_window(l, 86400 * 1000000LL, limits->messages_per_day);
    check_bytes(l, limits->bytes_per_second);
    uint32_t most = b->flags & QUEUE_SINGLY ? 1 : limits->recipients_per_transaction;
    CHECK(b->count <= (most ? most : QUEUE_BATCH_MAX));
}

// ---- events ----

struct connection {
    struct map domains; // over it so far
    struct queue_connection c;
    struct watched_lane *lane;
    struct world_site *site;
    struct list idle;
    uint32_t worker;
    struct queue_batch *batch;
};

enum event_kind {
    EVENT_RESOLVED,
    EVENT_CONNECTED,
    EVENT_TRANSACTION_OVER,
    EVENT_SETTLED,
    EVENT_SAVED
};
struct event {
    struct heap_node node;
    enum event_kind kind;
    struct queue_domain *domain;
    uint32_t route;
    char name[QUEUE_NAME_MAX + 1];
    struct connection *connection;
    struct queue_batch *batch;
    struct queue_result *results;
    struct queue_note note;
};

static struct event *event_add(struct world *w, enum event_kind kind, int64_t in_ms)
{
    struct event *e = mem_new(sizeof(*e));
    e->kind = kind;
    heap_add(&w->events, &e->node, mono_add_ms(w->now.mono, in_ms).us);
    return e;
}

static uint64_t random_below(struct world *w, uint64_t n)
{
    w->random = w->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (w->random >> 33) % n;
}

struct world_site *world_site(struct world *w, const char *name)
{
    for (size_t i = 0; i < w->sites_count; i++)
        if (strcmp(w->sites[i].name, name) == 0)
            return &w->sites[i];
    CHECK(w->sites_count < COUNT_OF(w->sites));
    w->sites[w->sites_count].name = name;
    return &w->sites[w->sites_count++];
}

static struct world_site *site_of(struct world *w, const char *name)
{
    for (size_t i = 0; i < w->sites_count; i++)
        if (strcmp(w->sites[i].name, name) == 0)
            return &w->sites[i];
    CHECK(!"a site that the test did not name");
    return NULL;
}

// ---- what batches come to ----

static void lease(struct world *w, const struct queue_batch *b, bool may_be_held)
{
    for (uint32_t i = 0; i < b->count; i++) {
        struct world_recipient *r = find(w, b->id, b->recipients[i].number);
        CHECK(!r->leased && !r->ended);
        CHECK(may_be_held || !r->held);
        CHECK(r->attempts == b->recipients[i].attempts);
        r->leased = true;
    }
}

static struct queue_result *results_new(const struct queue_batch *b, enum queue_outcome outcome)
{
    struct queue_result *results = mem_new(b->count * sizeof(*results));
    for (uint32_t i = 0; i < b->count; i++)
        results[i].outcome = outcome;
    return results;
}

// The journal first, then the queue.
static void record(struct world *w, const struct queue_batch *b, const struct queue_result *results)
{
    for (uint32_t i = 0; i < b->count; i++) {
        struct world_recipient *r = find(w, b->id, b->recipients[i].number);
        CHECK(r->leased && !r->ended);
        r->leased = false;
        switch (results[i].outcome) {
        case QUEUE_DONE:
            r->ended = true;
            w->done++;
            break;
        case QUEUE_DEFERRED:
            r->attempts++;
            r->next_attempt_at = results[i].next_attempt_at;
            break;
        case QUEUE_HELD:
            r->held = true;
            r->exempt = false;
            r->next_attempt_at = b->recipients[i].next_attempt_at;
            break;
        case QUEUE_RELEASED:
        case QUEUE_EXEMPTED:
            r->held = false;
            r->exempt = r->exempt || results[i].outcome == QUEUE_EXEMPTED;
            r->next_attempt_at = b->recipients[i].next_attempt_at;
            break;
        case QUEUE_RETRIED:
            r->held = false;
            r->next_attempt_at = r->not_before = (struct wall){0};
            break;
        case QUEUE_REROUTED:
            r->route = results[i].route;
            break;
        case QUEUE_WARNED:
            r->warned = true;
            r->next_attempt_at = b->recipients[i].next_attempt_at;
            break;
        case QUEUE_UNTRIED:
            r->next_attempt_at = r->not_before = (struct wall){0};
            break;
        case QUEUE_SUSPENDED: // not recorded
        case QUEUE_KEPT:
            break;
        }
    }
}

static void settle(struct world *w, struct queue_batch *b, struct queue_result *results)
{
    uint64_t kicks = 0;
    record(w, b, results);
    queue_settle(w->queue, b, results, w->now, &kicks);
    free(results);
}

static void settle_all(struct world *w, struct queue_batch *b, struct queue_result result)
{
    struct queue_result *results = results_new(b, result.outcome);
    for (uint32_t i = 0; i < b->count; i++)
        results[i] = result;
    settle(w, b, results);
}

static void check_due(struct world *w, const struct queue_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        struct world_recipient *r = find(w, b->id, b->recipients[i].number);
        CHECK(r->next_attempt_at.us <= w->now.wall.us && r->not_before.us <= w->now.wall.us);
    }
}

// ---- transactions ----

static void note_sent(struct world *w, struct connection *c, const struct queue_batch *b)
{
    c->site->messages++;
    c->site->recipients += b->count;
    if (!w->keep_sent)
        return;
    if (w->sent_count == w->sent_cap) {
        w->sent_cap = w->sent_cap ? w->sent_cap * 2 : 256;
        w->sent = mem_resize(w->sent, w->sent_cap * sizeof(*w->sent));
    }
    struct world_sent *s = &w->sent[w->sent_count++];
    *s = (struct world_sent){b->id, b->account, b->class, b->count, w->now.mono.us};
}

static struct queue_result result_of(struct world *w, const struct queue_batch *b,
                                     enum world_reply reply)
{
    struct queue_result deferred = {.outcome = QUEUE_DEFERRED,
                                    .next_attempt_at = queue_retry_at(b, w->now.wall)};
    if (reply == WORLD_MIX)
        reply = (enum world_reply)random_below(w, 3);
    return reply == WORLD_DEFER ? deferred : (struct queue_result){.outcome = QUEUE_DONE};
}

static void connection_free(struct connection *c)
{
    if (!c)
        return;
    map_done(&c->domains);
    free(c);
}

static void hang_up(struct world *w, struct connection *c, bool failed)
{
    uint64_t kicks = 0;
    list_remove(&c->idle);
    c->lane->connections--;
    c->site->stand--;
    queue_disconnected(w->queue, &c->c, failed, BYTES("421 go away"), w->now, &kicks);
    if (failed)
        c->lane->refused_at_us = w->now.mono.us;
    connection_free(c);
}

// RFC 9422: a server is not sent more than it said.
static void check_remote(struct connection *c, const struct queue_batch *b)
{
    const struct queue_remote *r = &c->site->remote;
    CHECK(!r->messages_per_connection || c->c.messages <= r->messages_per_connection);
    CHECK(!r->recipients_per_transaction || b->count <= r->recipients_per_transaction);
    if (!map_find(&c->domains, b->domain))
        map_set(&c->domains, b->domain, c);
    CHECK(!r->domains_per_connection || c->domains.count <= r->domains_per_connection);
}

static void take(struct world *w, struct connection *c)
{
    struct queue_batch *b;
    uint64_t kicks = 0;
    list_remove(&c->idle);
    switch (queue_take(w->queue, &c->c, w->now, &b, &kicks)) {
    case QUEUE_TAKE_BATCH:
        lease(w, b, false);
        check_due(w, b);
        check_remote(c, b);
        watch_take(w, c->lane, b);
        note_sent(w, c, b);
        c->batch = b;
        event_add(w, EVENT_TRANSACTION_OVER, c->site->transaction_ms)->connection = c;
        break;
    case QUEUE_TAKE_IDLE:
        list_push_back(&c->lane->idle, &c->idle);
        break;
    case QUEUE_TAKE_CLOSE:
        hang_up(w, c, false);
        break;
    }
}

static void transaction_over(struct world *w, struct connection *c)
{
    struct queue_batch *b = c->batch;
    c->batch = NULL;
    bool by_this =
        message_id_eq(b->id, c->site->breaks[0]) || message_id_eq(b->id, c->site->breaks[1]);
    // Known at once; the outcomes when they are saved.
    bool breaks = by_this || c->site->reply == WORLD_BREAK;
    struct event *e = event_add(w, EVENT_SETTLED, w->save_ms);
    e->batch = b;
    e->results = results_new(b, QUEUE_DONE);
    for (uint32_t i = 0; i < b->count; i++)
        e->results[i] = result_of(w, b, breaks ? WORLD_DEFER : c->site->reply);
    if (breaks)
        hang_up(w, c, !by_this || c->c.messages == 1); // what has served is not to blame
    else
        take(w, c);
}

static void put_off(struct world *w, struct connection *c)
{
    uint64_t kicks = 0;
    c->site->puts_off--;
    c->lane->connections--;
    queue_connect_later(w->queue, &c->c, w->now, &kicks);
    connection_free(c);
}

static void start_connection(struct world *w, uint32_t worker, const struct queue_work *work)
{
    struct connection *c = mem_new(sizeof(*c));
    c->c = work->connection;
    c->worker = worker;
    c->lane = watch(w, work->name);
    c->site = site_of(w, work->name);
    CHECK(work->hosts_len > 0);
    const struct conf_lane *limits = limits_of(w, work->name);
    c->lane->connections++;
    c->site->connects++;
    if (c->lane->connections > c->site->connections_most)
        c->site->connections_most = c->lane->connections;
    CHECK(!limits->connections || c->lane->connections <= limits->connections);
    if (c->site->puts_off) {
        put_off(w, c);
        return;
    }
    event_add(w, EVENT_CONNECTED, c->site->connect_ms)->connection = c;
}

static void connected(struct world *w, struct connection *c)
{
    uint64_t kicks = 0;
    struct world_site *site = c->site;
    if (!site->refuses && (!site->stand_max || site->stand < site->stand_max)) {
        site->stand++;
        queue_connected(w->queue, &c->c, c->c.proof, w->now, &kicks);
        queue_limit_connection(w->queue, &c->c, &site->remote);
        take(w, c);
        return;
    }
    site->refused++;
    queue_connect_failed(w->queue, &c->c, BYTES(WORLD_REFUSED), w->now, &kicks);
    c->lane->connections--;
    c->lane->refused_at_us = w->now.mono.us;
    connection_free(c);
}

// ---- resolution ----

static void resolved(struct world *w, const struct event *e)
{
    uint64_t kicks = 0;
    enum world_dns dns = e->route == w->route_now ? w->dns : WORLD_DNS_REROUTE;
    struct queue_failure failure = {550, BYTES("5.1.2"), BYTES("no such domain")};
    if (dns == WORLD_DNS_OK) {
        const char *dot = strchr(e->name, '.');
        struct bytes site = bytes_cstr(dot ? dot + 1 : e->name);
        struct queue_resolution r = {site, BYTES("10 mx\n"), site, w->proof, 60000};
        queue_resolved(w->queue, e->domain, &r, w->now, &kicks);
        return;
    }
    enum queue_unresolved how = dns == WORLD_DNS_DEFER  ? QUEUE_UNRESOLVED_DEFER
                                : dns == WORLD_DNS_FAIL ? QUEUE_UNRESOLVED_FAIL
                                                        : QUEUE_UNRESOLVED_REROUTE;
    queue_unresolved(w->queue, e->domain, how, &failure, w->now, &kicks);
}

// ---- work ----

static void save_note(struct world *w, const struct queue_note *note)
{
    struct buf *value = mem_new(sizeof(*value));
    buf_add(value, bytes_of(note->value, note->value_len));
    struct buf *old = map_set(&w->notes, bytes_cstr(note->name), value);
    if (old) {
        buf_done(old);
        free(old);
    }
}

static void wake(struct world *w, const struct queue_work *work)
{
    size_t cursor = 0;
    void *value;
    struct bytes key;
    while (map_next(&w->lanes, &cursor, &key, &value)) {
        struct watched_lane *l = value;
        list_each(link, &l->idle)
        {
            struct connection *c = list_get(link, struct connection, idle);
            if (c->c.lane == work->lane && c->c.proof == work->proof) {
                take(w, c);
                return;
            }
        }
    }
    CHECK(!"woken without an idle connection");
}

static void ended_by(struct world *w, const struct queue_work *work)
{
    struct queue_result result = {.outcome = QUEUE_DONE};
    for (uint32_t i = 0; i < work->batch->count; i++) {
        struct world_recipient *r = find(w, work->batch->id, work->batch->recipients[i].number);
        if (work->kind == QUEUE_EXPIRE)
            CHECK(r->expires_at.us <= w->now.wall.us);
        if (work->kind == QUEUE_WARN)
            CHECK(!r->warned && (r->notify == 0 || r->notify & NOTIFY_DELAY));
    }
    lease(w, work->batch, false);
    if (w->unreadable) {
        CHECK(++w->unread < 1000);
        result.outcome = QUEUE_DEFERRED;
        result.next_attempt_at = queue_retry_at(work->batch, w->now.wall);
    } else if (work->kind == QUEUE_EXPIRE) {
        w->expired += work->batch->count;
    } else if (work->kind == QUEUE_WARN) {
        w->warned += work->batch->count;
        result.outcome = QUEUE_WARNED;
    } else if (work->kind == QUEUE_FAIL) {
        CHECK(work->code == 550 && strcmp(work->enhanced, "5.1.2") == 0);
        w->failed += work->batch->count;
        if (w->failed == w->mended_after) {
            uint64_t kicks = 0;
            w->dns = WORLD_DNS_OK;
            for (uint32_t i = 0; i < w->options.workers; i++)
                queue_resolve_again(w->queue, i, w->now, &kicks);
        }
    } else {
        w->rerouted += work->batch->count;
        result.outcome = QUEUE_REROUTED;
        result.route = w->route_now;
    }
    settle_all(w, work->batch, result);
}

static void do_work(struct world *w, uint32_t worker, const struct queue_work *work)
{
    struct event *e;
    switch (work->kind) {
    case QUEUE_IDLE:
        break;
    case QUEUE_RESOLVE:
        w->resolves++;
        e = event_add(w, EVENT_RESOLVED, w->dns_ms);
        e->domain = work->domain;
        e->route = work->route;
        snprintf(e->name, sizeof(e->name), "%s", work->name);
        break;
    case QUEUE_CONNECT:
        start_connection(w, worker, work);
        break;
    case QUEUE_WAKE:
        wake(w, work);
        break;
    case QUEUE_EXPIRE:
    case QUEUE_WARN:
    case QUEUE_FAIL:
    case QUEUE_REROUTE:
        ended_by(w, work);
        break;
    case QUEUE_SAVE:
        w->saves++;
        event_add(w, EVENT_SAVED, w->save_ms)->note = work->note;
        break;
    }
}

// Lets all workers work until they idle; returns when one of them wants to be asked again.
static struct mono work_off(struct world *w)
{
    static struct queue_work work;
    struct mono until = MONO_NEVER;
    bool busy = true;
    uint64_t rounds = 0;
    while (busy) {
        CHECK(++rounds < 50000000);
        busy = false;
        until = MONO_NEVER;
        for (uint32_t i = 0; i < w->options.workers; i++) {
            uint64_t kicks = 0;
            queue_next(w->queue, i, true, w->now, &work, &kicks);
            busy = busy || work.kind != QUEUE_IDLE || work.until.us <= w->now.mono.us;
            if (work.kind == QUEUE_IDLE)
                until = mono_min(until, work.until);
            do_work(w, i, &work);
        }
    }
    return until;
}

static void run_event(struct world *w, struct event *e)
{
    uint64_t kicks = 0;
    switch (e->kind) {
    case EVENT_RESOLVED:
        resolved(w, e);
        break;
    case EVENT_CONNECTED:
        connected(w, e->connection);
        break;
    case EVENT_TRANSACTION_OVER:
        transaction_over(w, e->connection);
        break;
    case EVENT_SETTLED:
        settle(w, e->batch, e->results);
        break;
    case EVENT_SAVED:
        save_note(w, &e->note);
        queue_saved(w->queue, &e->note, w->now, &kicks);
        break;
    }
    free(e);
}

static void pass(struct world *w, int64_t to_us)
{
    int64_t by = to_us - w->now.mono.us;
    CHECK(by >= 0);
    w->now.mono.us += by;
    w->now.wall.us += by;
}

void world_turn(struct world *w)
{
    work_off(w);
}

void world_run(struct world *w, int64_t ms)
{
    int64_t end = mono_add_ms(w->now.mono, ms).us;
    for (;;) {
        int64_t next = work_off(w).us;
        struct heap_node *first = heap_first(&w->events);
        if (first && first->key < next)
            next = first->key;
        if (next > end)
            break;
        if (next > w->now.mono.us)
            pass(w, next);
        while ((first = heap_first(&w->events)) && first->key <= w->now.mono.us) {
            heap_remove(&w->events, first);
            run_event(w, container_of(first, struct event, node));
        }
    }
    pass(w, end);
}

// ---- mail in ----

static void release_stored(void *message)
{
    ++*(uint64_t *)message;
}

struct message_id world_add(struct world *w, const struct world_mail *mail)
{
    struct message_id id = message_id_make(w->now.wall, 1, 1, ++w->next_id);
    CHECK(mail->recipients > 0 && mail->recipients <= WORLD_RECIPIENTS_MAX);
    struct queue_recipient *list = mem_new(mail->recipients * sizeof(*list));
    struct wall not_before = {0}, expires_at;
    if (mail->not_before_ms)
        not_before = wall_add_ms(w->now.wall, mail->not_before_ms);
    expires_at = wall_add_ms(w->now.wall, mail->lifetime_ms ? mail->lifetime_ms : 432000000);
    for (uint32_t i = 0; i < mail->recipients; i++) {
        struct world_recipient *r = mem_new(sizeof(*r));
        *r = (struct world_recipient){.id = id,
                                      .number = i + 1,
                                      .account = mail->account,
                                      .route = mail->route,
                                      .notify = mail->notify,
                                      .class = mail->class,
                                      .size = mail->size,
                                      .singly = mail->singly,
                                      .accepted_at = w->now.wall,
                                      .not_before = not_before,
                                      .expires_at = expires_at};
        if (mail->spread)
            snprintf(r->domain, sizeof(r->domain), "%u%s", i % mail->spread, mail->domain);
        else
            snprintf(r->domain, sizeof(r->domain), "%s", mail->domain);
        list[i] = (struct queue_recipient){.number = i + 1,
                                           .route = mail->route,
                                           .domain = bytes_cstr(r->domain),
                                           .notify = mail->notify};
        char key[64];
        map_set(&w->recipients, key_of(id, i + 1, key), r);
    }
    struct queue_message_new m = {.id = id,
                                  .account = mail->account,
                                  .class = mail->class,
                                  .priority = mail->priority,
                                  .accepted_at = w->now.wall,
                                  .not_before = not_before,
                                  .expires_at = expires_at,
                                  .warn_at = mail->warn_ms ? wall_add_ms(w->now.wall, mail->warn_ms)
                                                           : (struct wall){0},
                                  .size = mail->size,
                                  .flags = mail->singly ? QUEUE_SINGLY : 0,
                                  .stored = {&w->released, release_stored, mail->size},
                                  .recipients = list,
                                  .recipients_count = mail->recipients};
    uint64_t kicks = 0;
    int err = queue_add(w->queue, &m, w->now, &kicks);
    CHECK(err == OK);
    free(list);
    return id;
}

static uint64_t count_recipients(struct world *w, bool held_only)
{
    uint64_t n = 0;
    size_t cursor = 0;
    struct bytes key;
    void *value;
    while (map_next(&w->recipients, &cursor, &key, &value)) {
        const struct world_recipient *r = value;
        n += !r->ended && (r->held || !held_only);
    }
    return n;
}

uint64_t world_queued(struct world *w)
{
    return count_recipients(w, false);
}

uint64_t world_held(struct world *w)
{
    return count_recipients(w, true);
}

bool world_next_claim(struct world *w, const struct queue_filter *filter,
                      enum queue_outcome outcome)
{
    uint64_t cursor = 0;
    struct queue_batch *b;
    bool any = false;
    while (queue_claim(w->queue, filter, &cursor, w->now, &b)) {
        if (!b)
            continue;
        lease(w, b, true);
        settle_all(w, b, (struct queue_result){.outcome = outcome});
        any = true;
    }
    return any;
}

// ---- life ----

static void queue_start(struct world *w)
{
    struct queue_options options = {.workers = w->options.workers,
                                    .connections_max = w->options.connections_max,
                                    .stored_bytes_max = w->options.stored_bytes_max,
                                    .seed = w->options.seed,
                                    .conf = w->conf};
    w->queue = queue_new(&options);
}

void world_init(struct world *w, const struct world_options *options)
{
    *w = (struct world){.options = *options, .random = options->seed};
    if (w->options.workers == 0)
        w->options.workers = 2;
    struct buf errors = {0}, text = {0};
    buf_printf(&text, "hostname: test.example\n%s", options->conf ? options->conf : "");
    int err = conf_load_text(buf_bytes(&text), "test", "/", &w->conf, &errors);
    buf_done(&text);
    if (err)
        fprintf(stderr, "%s\n", buf_cstr(&errors));
    CHECK(err == OK);
    buf_done(&errors);
    w->now = (struct queue_now){{1000000000}, {1800000000000000}};
    queue_start(w);
}

static void drop_lanes(struct world *w)
{
    size_t cursor = 0;
    struct bytes key;
    void *value;
    while (map_next(&w->lanes, &cursor, &key, &value)) {
        struct watched_lane *l = value;
        for (struct list *link; (link = list_pop_front(&l->idle));)
            connection_free(list_get(link, struct connection, idle));
        l->connections = 0;
        // A byte rate's pause is noted behind the message: one that is being noted may be forgotten.
        if (l->taken_count &&
            w->now.mono.us - l->taken[l->taken_count - 1].at_us <= w->save_ms * 1000)
            l->taken[l->taken_count - 1].size = 0;
    }
}

// What was under way when the power went.
static void drop_events(struct world *w, bool clean)
{
    struct heap_node *first;
    while ((first = heap_first(&w->events))) {
        struct event *e = container_of(first, struct event, node);
        heap_remove(&w->events, first);
        struct queue_batch *b = e->kind == EVENT_TRANSACTION_OVER ? e->connection->batch : e->batch;
        if (clean && e->kind == EVENT_SETTLED) {
            settle(w, e->batch, e->results);
            b = NULL, e->results = NULL;
        }
        if (b)
            queue_batch_free(w->queue, b);
        free(e->results);
        connection_free(e->connection);
        free(e);
    }
}

// Those of one message, as recovery would give them.
static void add_back(struct world *w, struct world_recipient **all, uint32_t count)
{
    struct queue_recipient list[WORLD_RECIPIENTS_MAX];
    for (uint32_t i = 0; i < count; i++)
        list[i] = (struct queue_recipient){.number = all[i]->number,
                                           .route = all[i]->route,
                                           .domain = bytes_cstr(all[i]->domain),
                                           .notify = all[i]->notify,
                                           .attempts = all[i]->attempts,
                                           .next_attempt_at = all[i]->next_attempt_at,
                                           .held = all[i]->held,
                                           .warned = all[i]->warned,
                                           .exempt = all[i]->exempt};
    const struct world_recipient *r = all[0];
    struct queue_message_new m = {.id = r->id,
                                  .account = r->account,
                                  .class = r->class,
                                  .accepted_at = r->accepted_at,
                                  .not_before = r->not_before,
                                  .expires_at = r->expires_at,
                                  .spared = true,
                                  .size = r->size,
                                  .flags = r->singly ? QUEUE_SINGLY : 0,
                                  .recipients = list,
                                  .recipients_count = count};
    uint64_t kicks = 0;
    int err = queue_add(w->queue, &m, w->now, &kicks);
    CHECK(err == OK);
}

// The journal knows the recipients of one message next to each other.
static void recover(struct world *w)
{
    static struct world_recipient *all[WORLD_RECIPIENTS_MAX];
    uint32_t count = 0;
    size_t cursor = 0;
    struct bytes key;
    void *value;
    while (map_next(&w->recipients, &cursor, &key, &value)) {
        struct world_recipient *r = value;
        r->leased = false;
        if (count && !message_id_eq(all[0]->id, r->id)) {
            add_back(w, all, count);
            count = 0;
        }
        if (!r->ended)
            all[count++] = r;
    }
    if (count)
        add_back(w, all, count);
}

void world_hold_domain(struct world *w, struct bytes domain, bool on,
                       const struct queue_hold_facts *facts)
{
    struct queue_note note;
    uint64_t kicks = 0;
    queue_hold_domain(w->queue, domain, on, facts, &note, &kicks);
    save_note(w, &note);
}

void world_hold_account(struct world *w, uint32_t account, bool on,
                        const struct queue_hold_facts *facts)
{
    struct queue_note note;
    uint64_t kicks = 0;
    queue_hold_account(w->queue, account, on, facts, &note, &kicks);
    save_note(w, &note);
}

void world_hold_all(struct world *w, bool on, const struct queue_hold_facts *facts)
{
    struct queue_note note;
    uint64_t kicks = 0;
    queue_hold_all(w->queue, on, facts, &note, &kicks);
    save_note(w, &note);
}

static void restore_notes(struct world *w)
{
    size_t cursor = 0;
    struct bytes key;
    void *value;
    while (map_next(&w->notes, &cursor, &key, &value)) {
        struct bytes text = buf_bytes(value);
        int err = text.len ? queue_restore(w->queue, key, text, w->now) : OK;
        CHECK(err == OK);
    }
}

void world_crash(struct world *w, int64_t down_ms, bool clean)
{
    drop_events(w, clean);
    drop_lanes(w);
    for (size_t i = 0; i < w->sites_count; i++)
        w->sites[i].stand = 0;
    struct queue_note note;
    uint64_t saved = 0;
    while (clean && queue_save_next(w->queue, &saved, w->now, &note))
        save_note(w, &note);
    queue_free(w->queue);
    w->now.mono.us += down_ms * 1000;
    w->now.wall.us += down_ms * 1000;
    queue_start(w);
    restore_notes(w);
    recover(w);
}

static void free_map(struct map *m, void (*free_value)(void *value))
{
    size_t cursor = 0;
    struct bytes key;
    void *value;
    while (map_next(m, &cursor, &key, &value))
        free_value(value);
    map_done(m);
}

// By how much mail of the message that is not due yet goes later: all has the time that its sender asked for.
static int64_t *later_of(struct map *later, const struct world_recipient *r)
{
    char key[64];
    struct bytes id = key_of(r->id, 0, key);
    int64_t *us = map_find(later, id);
    if (!us)
        map_set(later, id, us = mem_new(sizeof(*us)));
    return us;
}

void world_jump(struct world *w, int64_t ms)
{
    struct map later = {0}; // by message
    size_t cursor = 0;
    struct bytes key;
    void *value;
    int64_t then_us = w->now.wall.us + ms * 1000;
    while (map_next(&w->recipients, &cursor, &key, &value)) {
        struct world_recipient *r = value;
        if (r->not_before.us <= w->now.wall.us)
            r->not_before.us = 0; // has been reached
        else if (!r->ended)
            *later_of(&later, r) =
                (r->not_before.us > then_us ? 0 : then_us - r->not_before.us) - ms * 1000;
    }
    cursor = 0;
    while (map_next(&w->recipients, &cursor, &key, &value)) {
        struct world_recipient *r = value;
        r->expires_at.us += ms * 1000 + *later_of(&later, r);
        if (r->next_attempt_at.us)
            r->next_attempt_at.us += ms * 1000;
    }
    free_map(&later, free);
    uint64_t kicks = 0;
    w->now.wall.us += ms * 1000;
    queue_clock_jumped(w->queue, ms, w->now, &kicks);
}

void world_hang_up_idle(struct world *w)
{
    size_t cursor = 0;
    struct bytes key;
    void *value;
    while (map_next(&w->lanes, &cursor, &key, &value)) {
        struct watched_lane *l = value;
        for (struct list *link; (link = list_first(&l->idle));)
            hang_up(w, list_get(link, struct connection, idle), false);
    }
}

static void free_lane(void *value)
{
    free(((struct watched_lane *)value)->taken);
    free(value);
}

static void free_note(void *value)
{
    buf_done(value);
    free(value);
}

void world_done(struct world *w)
{
    drop_events(w, false);
    drop_lanes(w);
    queue_free(w->queue);
    heap_done(&w->events);
    free_map(&w->recipients, free);
    free_map(&w->lanes, free_lane);
    free_map(&w->notes, free_note);
    free(w->sent);
    conf_free(w->conf);
}
