// SPDX-License-Identifier: MIT
//
// queue_lane - whose turn it is, over which connections, within which limits
//
// How it works: ready mail hangs under its lane as ring[proof][class] of turns (accounts), a turn
// as a ring of flows (domains), a flow as a list of bundles. A batch comes from the first class
// that has mail the connection may carry, from the account at the head of the ring, which then goes
// to the end.
//
// Shaping: queue_lane_when() is the earliest time at which all rates allow one more message. For
// mail that is not transactional every limit is smaller by QUEUE_TRANSACTIONAL_PERCENT (at least
// one, if the limit is more than one). New connections: one until the site has answered, then never
// more under way than stand; and one of those that all lanes share must be free (queue_slot.c). Where one
// fails while others stand, the site has as many as it wants: these are a *ceiling* for the first interval of the
// retry schedule. With none standing the lane backs off, and the message whose session broke last goes behind all
// others until the site has taken something: it may be that one that the site can't bear. Hour and day limits also need
// tokens, which durable notes have counted ahead (queue_note.c).
#include "queue/queue_inside.h"

#include <stdio.h>
#include <stdlib.h>

#define PACED_MILLI_MAX 20000 // up to 20 messages a second are spaced evenly, more are counted
#define SECOND_SLOTS 20
#define ASIDE_MS 60000 // a message that lets others go first is looked at again

// ---- tables ----

uint64_t queue_lane_hash(const struct queue_hash_node *node)
{
    return map_hash(bytes_cstr(container_of(node, struct queue_lane, hash)->name));
}

static uint64_t flow_hash(const struct queue_domain *d, uint32_t account, uint8_t class,
                          uint8_t level)
{
    uint64_t kind = (uint64_t) class << 54 | (uint64_t)level << 58;
    return queue_hash_mix((uintptr_t)d ^ ((uint64_t)account << 20) ^ kind);
}

uint64_t queue_flow_hash(const struct queue_hash_node *node)
{
    const struct queue_flow *f = container_of(node, struct queue_flow, hash);
    return flow_hash(f->domain, f->account, f->class, f->level);
}

static uint64_t turn_hash(const struct queue_lane *l, uint32_t account, uint8_t class,
                          uint8_t proof)
{
    uint64_t kind = (uint64_t) class << 54 | (uint64_t)proof << 58;
    return queue_hash_mix((uintptr_t)l ^ ((uint64_t)account << 20) ^ kind);
}

uint64_t queue_turn_hash(const struct queue_hash_node *node)
{
    const struct queue_turn *t = container_of(node, struct queue_turn, hash);
    return turn_hash(t->lane, t->account, t->class, t->proof);
}

struct queue_lane *queue_lane_find(struct queue *q, struct bytes name)
{
    struct queue_hash_node *n = queue_hash_chain(&q->by_lane, map_hash(name));
    for (; n; n = n->next) {
        struct queue_lane *l = container_of(n, struct queue_lane, hash);
        if (bytes_eq(bytes_cstr(l->name), name))
            return l;
    }
    return NULL;
}

char *queue_dup_text(struct bytes s)
{
    char *copy = mem_new(s.len + 1);
    if (s.len)
        memcpy(copy, s.at, s.len);
    return copy;
}

struct queue_lane *queue_lane_get(struct queue *q, struct bytes name)
{
    struct queue_lane *l = queue_lane_find(q, name);
    if (l)
        return l;
    l = queue_pool_new(&q->lanes);
    l->name = queue_dup_text(name);
    l->worker = (uint8_t)(map_hash(name) % q->workers_count);
    list_init(&l->domains);
    for (int p = 0; p < QUEUE_PROOFS; p++)
        for (int c = 0; c < MAIL_CLASSES; c++)
            list_init(&l->rings[p][c]);
    queue_hash_add(&q->by_lane, &l->hash);
    queue_lane_set_limits(q, l);
    return l;
}

void queue_lane_free(struct queue *q, struct queue_lane *l)
{
    CHECK(l->domains_count == 0 && queue_lane_connections(l) == 0 && l->batches == 0);
    queue_slot_leave(q, l);
    heap_remove(&q->workers[l->worker].lanes, &l->wake);
    list_remove(&l->work);
    list_remove(&l->note_work);
    queue_hash_remove(&q->by_lane, &l->hash);
    free(l->name), free(l->hosts), free(l->match_names), free(l->text);
    free(l->second), free(l->hour), free(l->day);
    queue_pool_free(&q->lanes, l);
}

void queue_lane_touch(struct queue *q, struct queue_lane *l)
{
    if (list_is_linked(&l->work))
        return;
    list_push_back(&q->workers[l->worker].touched, &l->work);
    queue_kick(q, l->worker);
}

static void wake_at(struct queue *q, struct queue_lane *l, int64_t at_us)
{
    struct heap *h = &q->workers[l->worker].lanes;
    if (at_us == INT64_MAX)
        heap_remove(h, &l->wake);
    else
        heap_move(h, &l->wake, at_us);
}

// ---- limits ----

static uint32_t first_match(const struct conf *conf, struct bytes subject, uint32_t below)
{
    for (uint32_t i = 0; i < below; i++)
        if (conf_patterns_match(&conf->lanes[i].match, subject))
            return i;
    return below;
}

static void need_window(struct queue_window **w, uint64_t limit, int64_t seconds, uint32_t slots)
{
    if (limit == 0 || *w)
        return;
    *w = mem_new(sizeof(**w));
    queue_window_init(*w, seconds * 1000000, slots);
}

static void use_rule(struct queue *q, struct queue_lane *l, uint32_t rule)
{
    l->rule = rule;
    l->limits = &q->conf->lanes[rule];
    need_window(&l->hour, l->limits->messages_per_hour, 3600, QUEUE_HOUR_SLOTS);
    need_window(&l->day, l->limits->messages_per_day, 86400, QUEUE_DAY_SLOTS);
    if (l->limits->messages_per_second_milli > PACED_MILLI_MAX)
        need_window(&l->second, 1, 1, SECOND_SLOTS);
}

// The first entry of lanes[] that matches one of the site's hosts or one of the domains on the
// lane.
static void choose_rule(struct queue *q, struct queue_lane *l)
{
    uint32_t rule = l->names_rule < l->domains_rule ? l->names_rule : l->domains_rule;
    if (rule != l->rule)
        use_rule(q, l, rule);
}

static void match_names(struct queue *q, struct queue_lane *l)
{
    struct bytes names = bytes_cstr(l->match_names), name;
    l->names_rule = q->conf->lanes_count - 1; // matches everything
    while (names.len && bytes_cut(&names, ' ', &name))
        l->names_rule = first_match(q->conf, name, l->names_rule);
}

static void add_domain(struct queue *q, struct queue_lane *l, struct queue_domain *d)
{
    uint32_t last = q->conf->lanes_count - 1;
    d->rule = first_match(q->conf, queue_domain_name(d), last);
    if (d->rule == last)
        list_push_back(&l->domains, &d->of_lane);
    else
        list_push_front(&l->domains, &d->of_lane);
    if (d->rule < l->domains_rule)
        l->domains_rule = d->rule;
}

// One provider's domains may be very many: only those with a rule of their own are looked at.
static void remove_domain(struct queue *q, struct queue_lane *l, struct queue_domain *d)
{
    uint32_t last = q->conf->lanes_count - 1, best = last;
    list_remove(&d->of_lane);
    if (d->rule != l->domains_rule || d->rule == last)
        return;
    list_each(link, &l->domains)
    {
        uint32_t rule = list_get(link, struct queue_domain, of_lane)->rule;
        best = rule < best ? rule : best;
        if (rule == last || best == l->domains_rule)
            break;
    }
    l->domains_rule = best;
}

void queue_lane_set_limits(struct queue *q, struct queue_lane *l)
{
    match_names(q, l);
    l->domains_rule = q->conf->lanes_count - 1;
    struct list all;
    list_init(&all);
    for (struct list *link; (link = list_pop_front(&l->domains));)
        list_push_back(&all, link);
    for (struct list *link; (link = list_pop_front(&all));)
        add_domain(q, l, list_get(link, struct queue_domain, of_lane));
    use_rule(q, l, l->names_rule < l->domains_rule ? l->names_rule : l->domains_rule);
}

uint64_t queue_share_limit(uint64_t limit, enum share share)
{
    if (limit == 0)
        return UINT64_MAX;
    if (share == SHARE_ALL || limit == 1)
        return limit;
    uint64_t kept =
        limit / 100 * QUEUE_TRANSACTIONAL_PERCENT + limit % 100 * QUEUE_TRANSACTIONAL_PERCENT / 100;
    return limit - (kept ? kept : 1);
}

// The time per message or byte, a share's own: the low share is slower by what is kept.
static int64_t stretched(int64_t us, enum share share)
{
    if (share == SHARE_ALL)
        return us;
    return us + us * QUEUE_TRANSACTIONAL_PERCENT / (100 - QUEUE_TRANSACTIONAL_PERCENT) + 1;
}

static int64_t spacing_us(const struct conf_lane *limits)
{
    uint64_t milli = limits->messages_per_second_milli;
    return (int64_t)((1000000000 + milli - 1) / milli);
}

static bool is_paced(const struct conf_lane *limits)
{
    uint64_t milli = limits->messages_per_second_milli;
    return milli > 0 && milli <= PACED_MILLI_MAX;
}

struct limit_time {
    int64_t at_us;
    const char *setting;
};

static void later(struct limit_time *t, int64_t at_us, const char *setting)
{
    if (at_us > t->at_us)
        *t = (struct limit_time){at_us, setting};
}

static void later_window(struct limit_time *t, struct queue_window *w, uint64_t limit,
                         enum share share, struct queue_now now, const char *setting)
{
    if (w && limit)
        later(t, queue_window_when(w, now.mono, queue_share_limit(limit, share)).us, setting);
}

// The limit that durable notes count ahead.
static const char *token_setting(const struct conf_lane *limits)
{
    if (limits->messages_per_hour)
        return "messages_per_hour";
    return limits->messages_per_day ? "messages_per_day" : "messages_per_second";
}

int64_t queue_lane_when(struct queue *q, struct queue_lane *l, enum share share,
                        struct queue_now now, const char **out_limit)
{
    const struct conf_lane *limits = l->limits;
    struct limit_time t = {now.mono.us, NULL};
    if (limits->messages_per_second_milli) // as if the last run had just used it up
        later(&t, q->born_us + 1000000 + 1000000 / SECOND_SLOTS, "messages_per_second");
    for (int s = SHARE_ALL; s <= (int)share; s++) {
        if (is_paced(limits) && l->last_us[s])
            later(&t, l->last_us[s] + stretched(spacing_us(limits), s), "messages_per_second");
        if (limits->bytes_per_second)
            later(&t, l->bytes_us[s], "bytes_per_second");
    }
    if (limits->messages_per_second_milli && !is_paced(limits))
        later_window(&t, l->second, limits->messages_per_second_milli / 1000, share, now,
                     "messages_per_second");
    later_window(&t, l->hour, limits->messages_per_hour, share, now, "messages_per_hour");
    later_window(&t, l->day, limits->messages_per_day, share, now, "messages_per_day");
    if (queue_note_block(l) && l->tokens == 0)
        later(&t, INT64_MAX, token_setting(limits));
    if (out_limit)
        *out_limit = t.setting;
    return t.at_us;
}

int64_t queue_lane_spacing(const struct queue_lane *l)
{
    return is_paced(l->limits) ? stretched(spacing_us(l->limits), SHARE_LOW) : 0;
}

int64_t queue_lane_paced(const struct queue_lane *l)
{
    int64_t spacing = queue_lane_spacing(l), until = l->last_us[SHARE_ALL] + spacing;
    return spacing && l->last_us[SHARE_ALL] && until > l->rested_us ? until : l->rested_us;
}

int64_t queue_lane_rests(struct queue *q, struct queue_lane *l, struct queue_now now)
{
    struct queue_window *windows[] = {l->second, l->hour, l->day};
    for (size_t i = 0; i < COUNT_OF(windows); i++)
        if (windows[i] && queue_window_used(windows[i], now.mono) > 0)
            return INT64_MAX;
    l->tokens = l->tokens ? l->tokens : 1; // not what is asked here
    int64_t until = queue_lane_when(q, l, SHARE_LOW, now, NULL);
    l->tokens = 0;
    int64_t noted[] = {queue_lane_paced(l), l->bytes_us[SHARE_ALL], l->bytes_us[SHARE_LOW]};
    for (size_t i = 0; i < COUNT_OF(noted); i++)
        until = noted[i] > until ? noted[i] : until;
    return until;
}

static void spend(struct queue *q, struct queue_lane *l, enum share share, uint32_t size,
                  struct queue_now now)
{
    const struct conf_lane *limits = l->limits;
    for (int s = SHARE_ALL; s <= (int)share; s++) {
        l->last_us[s] = now.mono.us;
        if (limits->bytes_per_second) {
            uint64_t us = ((uint64_t)size * 1000000 + limits->bytes_per_second - 1) /
                          limits->bytes_per_second;
            l->bytes_us[s] = now.mono.us + stretched((int64_t)us, s);
        }
    }
    if (l->second)
        queue_window_add(l->second, now.mono, 1);
    if (l->hour)
        queue_window_add(l->hour, now.mono, 1);
    if (l->day)
        queue_window_add(l->day, now.mono, 1);
    if (limits->bytes_per_second && l->bytes_us[SHARE_ALL] - now.mono.us > QUEUE_DEBT_NOTED_US)
        queue_note_want(q, l);
    uint32_t block = queue_note_block(l);
    if (block == 0)
        return;
    CHECK(l->tokens > 0);
    l->tokens--;
    l->taken_since_note++;
    if (l->tokens <= block)
        queue_note_want(q, l);
}

// ---- flows and turns ----

static struct queue_turn *turn_get(struct queue *q, struct queue_lane *l, uint32_t account,
                                   uint8_t class, uint8_t proof)
{
    uint64_t hash = turn_hash(l, account, class, proof);
    for (struct queue_hash_node *n = queue_hash_chain(&q->by_turn, hash); n; n = n->next) {
        struct queue_turn *t = container_of(n, struct queue_turn, hash);
        if (t->lane == l && t->account == account && t->class == class && t->proof == proof)
            return t;
    }
    struct queue_turn *t = queue_pool_new(&q->turns);
    t->lane = l;
    t->account = account;
    t->class = class;
    t->proof = proof;
    for (int i = 0; i < QUEUE_LEVELS; i++)
        list_init(&t->flows[i]);
    list_push_back(&l->rings[proof][class], &t->ring);
    queue_hash_add(&q->by_turn, &t->hash);
    return t;
}

static void hang_flow(struct queue *q, struct queue_flow *f, struct queue_lane *l, uint8_t proof)
{
    f->turn = turn_get(q, l, f->account, f->class, proof);
    list_push_back(&f->turn->flows[f->level], &f->of_turn);
    l->ready[proof][f->class] += f->count;
}

static void unhang_flow(struct queue *q, struct queue_flow *f)
{
    struct queue_turn *t = f->turn;
    t->lane->ready[t->proof][t->class] -= f->count;
    list_remove(&f->of_turn);
    f->turn = NULL;
    for (int i = 0; i < QUEUE_LEVELS; i++)
        if (!list_is_empty(&t->flows[i]))
            return;
    list_remove(&t->ring);
    queue_hash_remove(&q->by_turn, &t->hash);
    queue_pool_free(&q->turns, t);
}

struct queue_flow *queue_flow_get(struct queue *q, struct queue_domain *d, uint32_t account,
                                  uint8_t class, uint8_t level)
{
    uint64_t hash = flow_hash(d, account, class, level);
    for (struct queue_hash_node *n = queue_hash_chain(&q->by_flow, hash); n; n = n->next) {
        struct queue_flow *f = container_of(n, struct queue_flow, hash);
        if (f->domain == d && f->account == account && f->class == class && f->level == level)
            return f;
    }
    struct queue_flow *f = queue_pool_new(&q->flows);
    f->domain = d;
    f->account = account;
    f->class = class;
    f->level = level;
    list_init(&f->bundles);
    list_push_back(&d->flows, &f->of_domain);
    queue_hash_add(&q->by_flow, &f->hash);
    hang_flow(q, f, d->lane, d->proof);
    return f;
}

void queue_flow_drop_if_empty(struct queue *q, struct queue_flow *f)
{
    if (f->count > 0)
        return;
    struct queue_domain *d = f->domain;
    unhang_flow(q, f);
    list_remove(&f->of_domain);
    queue_hash_remove(&q->by_flow, &f->hash);
    queue_pool_free(&q->flows, f);
    if (list_is_empty(&d->flows) && d->state == DOMAIN_RESOLVED)
        queue_domain_check(q, d);
}

void queue_lane_join(struct queue *q, struct queue_domain *d, struct queue_lane *l,
                     enum queue_proof proof)
{
    if (d->lane == l && d->proof == proof)
        return;
    CHECK(l || list_is_empty(&d->flows));
    list_each(link, &d->flows)
    {
        struct queue_flow *f = list_get(link, struct queue_flow, of_domain);
        unhang_flow(q, f);
        hang_flow(q, f, l, (uint8_t)proof);
    }
    if (d->lane && d->lane != l) {
        remove_domain(q, d->lane, d);
        choose_rule(q, d->lane);
        d->lane->domains_count--;
        queue_lane_touch(q, d->lane);
    }
    if (l && d->lane != l) {
        add_domain(q, l, d);
        choose_rule(q, l);
        l->domains_count++;
    }
    d->lane = l;
    d->proof = (uint8_t)proof;
    if (l)
        queue_lane_touch(q, l);
}

void queue_lane_update(struct queue *q, struct queue_lane *l, const struct queue_resolution *r)
{
    if (!l->hosts || !bytes_eq(bytes_of(l->hosts, l->hosts_len), r->hosts)) {
        free(l->hosts);
        l->hosts = queue_dup_text(r->hosts);
        l->hosts_len = (uint32_t)r->hosts.len;
    }
    if (!bytes_eq(bytes_cstr(l->match_names), r->match_names)) {
        free(l->match_names);
        l->match_names = queue_dup_text(r->match_names);
        match_names(q, l);
        choose_rule(q, l);
    }
}

// ---- decisions ----

uint32_t queue_lane_connections(const struct queue_lane *l)
{
    uint32_t n = l->busy;
    for (int p = 0; p < QUEUE_PROOFS; p++)
        n += l->idle[p] + l->connecting[p];
    return n;
}

static uint32_t ready_of(const struct queue_lane *l, int proof, enum share share)
{
    const uint32_t *ready = l->ready[proof];
    return share == SHARE_ALL ? ready[MAIL_TRANSACTIONAL] : ready[MAIL_PERSONAL] + ready[MAIL_BULK];
}

// Those that are open; of these so many as are `used_up` are about to be closed.
static uint32_t standing(const struct queue_lane *l)
{
    uint32_t n = l->busy;
    for (int p = 0; p < QUEUE_PROOFS; p++)
        n += l->idle[p];
    return n;
}

uint64_t queue_lane_connections_max(const struct queue_lane *l, enum share share,
                                    struct queue_now now)
{
    uint32_t ceiling = l->ceiling_us > now.mono.us ? l->ceiling : 0;
    return queue_share_limit(queue_tighter(l->limits->connections, ceiling), share);
}

bool queue_lane_has_ready(const struct queue_lane *l)
{
    for (int p = 0; p < QUEUE_PROOFS; p++)
        if (ready_of(l, p, SHARE_ALL) || ready_of(l, p, SHARE_LOW))
            return true;
    return false;
}

// What a lane could do now.
struct outlook {
    bool may[SHARES];              // the share may send a message now
    uint64_t usable[QUEUE_PROOFS]; // bundles that may go now, by the proof they need
    uint64_t usable_all;
    uint64_t connections_max; // for what may be sent now
    int64_t at_us;            // when more may go; INT64_MAX: by an event only
};

static struct outlook look(struct queue *q, struct queue_lane *l, struct queue_now now)
{
    struct outlook o = {.at_us = INT64_MAX};
    uint64_t low_max = queue_lane_connections_max(l, SHARE_LOW, now);
    if (l->ceiling_us > now.mono.us)
        o.at_us = l->ceiling_us;
    for (int s = 0; s < SHARES; s++) {
        uint64_t ready = 0;
        for (int p = 0; p < QUEUE_PROOFS; p++)
            ready += ready_of(l, p, s);
        if (ready == 0)
            continue;
        int64_t when = queue_lane_when(q, l, s, now, NULL);
        if (when > now.mono.us)
            o.at_us = when < o.at_us ? when : o.at_us;
        else
            o.may[s] = s == SHARE_ALL || l->busy_low < low_max;
        for (int p = 0; o.may[s] && p < QUEUE_PROOFS; p++)
            o.usable[p] += ready_of(l, p, s);
        o.usable_all += o.may[s] ? ready : 0;
    }
    o.connections_max =
        queue_lane_connections_max(l, o.may[SHARE_ALL] ? SHARE_ALL : SHARE_LOW, now);
    return o;
}

// An idle connection that can carry something usable, or (`weak`) the weakest there is: it only
// keeps a slot from one that could.
static bool wake_idle(struct queue_lane *l, const struct outlook *o, bool weak,
                      struct queue_work *out)
{
    uint64_t woken = 0;
    for (int v = 0; v < QUEUE_PROOFS; v++)
        woken += l->woken[v];
    bool usable = weak;
    for (int v = 0; v < QUEUE_PROOFS; v++) {
        usable = usable || o->usable[v] > 0;
        if (!usable || l->idle[v] <= l->woken[v] || woken >= o->usable_all)
            continue;
        l->woken[v]++;
        out->kind = QUEUE_WAKE;
        out->lane = l;
        out->proof = (enum queue_proof)v;
        return true;
    }
    return false;
}

// One that could be done without: whoever owns it asks, and is told.
static bool wake_any(struct queue_lane *l, struct queue_work *out)
{
    struct outlook o = {.usable_all = UINT64_MAX};
    return wake_idle(l, &o, true, out);
}

// The strongest proof for which more mail is usable than connections stand ready or are coming.
static int wanted_proof(const struct queue_lane *l, const struct outlook *o)
{
    uint64_t mail = 0, supply = 0;
    for (int p = QUEUE_PROOFS - 1; p >= 0; p--) {
        mail += o->usable[p];
        supply += l->idle[p] + l->connecting[p];
        if (mail > supply)
            return p;
    }
    return -1;
}

static bool has_slot(const struct outlook *o, uint32_t connections)
{
    return connections < o->connections_max;
}

// More connections than a limit allows that was higher when they were opened (law 7). count: of the lane, without those
// that were told to close.
static bool has_surplus(const struct queue *q, const struct queue_lane *l, uint32_t count)
{
    return count > queue_share_limit(l->limits->connections, SHARE_ALL) ||
           (q->connections_max && q->connections - q->slots.closing > q->connections_max);
}

static bool connect(struct queue_lane *l, int proof, struct queue_work *out)
{
    l->connecting[proof]++;
    out->kind = QUEUE_CONNECT;
    out->lane = l;
    out->proof = (enum queue_proof)proof;
    out->connection =
        (struct queue_connection){.lane = l, .proof = (enum queue_proof)proof, .state = 1};
    snprintf(out->name, sizeof(out->name), "%s", l->name);
    out->hosts_len = l->hosts_len;
    if (l->hosts_len)
        memcpy(out->hosts, l->hosts, l->hosts_len);
    return true;
}

bool queue_lane_decide(struct queue *q, struct queue_lane *l, struct queue_now now,
                       struct queue_work *out)
{
    struct outlook o = look(q, l, now);
    if (wake_idle(l, &o, false, out))
        return true;
    bool surplus = has_surplus(q, l, queue_lane_connections(l) - l->used_up);
    if ((surplus || queue_slot_is_short(q)) && wake_any(l, out))
        return true;
    int proof = wanted_proof(l, &o);
    if (proof < 0) {
        queue_slot_leave(q, l);
        wake_at(q, l, o.at_us);
        return false;
    }
    uint32_t all = queue_lane_connections(l), stand = standing(l), connecting = all - stand;
    wake_at(q, l, o.at_us);
    if (l->backoff_us > now.mono.us) {
        queue_slot_leave(q, l);
        wake_at(q, l, l->backoff_us < o.at_us ? l->backoff_us : o.at_us);
    } else if (connecting >= (stand ? stand : 1) || (l->failures && all > 0)) {
        queue_slot_leave(q, l); // the answer of those under way comes first
    } else if (!has_slot(&o, all)) {
        queue_slot_leave(q, l);
        return wake_idle(l, &o, true, out);
    } else if (queue_slot_take(q, l, o.may[SHARE_ALL])) {
        return connect(l, proof, out);
    }
    return false;
}

// ---- connections ----

enum { CONNECTION_NONE, CONNECTION_CONNECTING, CONNECTION_IDLE, CONNECTION_BUSY };

static void set_idle(struct queue *q, struct queue_connection *c)
{
    c->lane->idle[c->proof]++;
    c->state = CONNECTION_IDLE;
    queue_slot_note_idle(q, c->lane);
}

static void set_busy(struct queue_lane *l, struct queue_connection *c, bool low)
{
    l->busy++;
    l->busy_low += low;
    c->low = low;
    c->state = CONNECTION_BUSY;
}

// Out of the counts of whatever state it is in.
static void uncount(struct queue *q, struct queue_connection *c)
{
    struct queue_lane *l = c->lane;
    if (c->state == CONNECTION_CONNECTING) {
        l->connecting[c->proof]--;
    } else if (c->state == CONNECTION_IDLE) {
        l->idle[c->proof]--;
        if (l->woken[c->proof] > l->idle[c->proof])
            l->woken[c->proof] = l->idle[c->proof];
        queue_slot_note_idle(q, l);
    } else {
        CHECK(c->state == CONNECTION_BUSY);
        l->busy--;
        l->busy_low -= c->low;
        l->used_up -= c->used_up;
        q->slots.closing -= c->used_up;
        c->used_up = false;
    }
    c->state = CONNECTION_NONE;
}

static void give_back_slot(struct queue *q, struct queue_connection *c)
{
    uncount(q, c);
    queue_slot_give(q);
    queue_lane_touch(q, c->lane);
    c->lane = NULL;
}

// Only upwards jitter: never more than one attempt in a retry interval. Several connections that
// fail together count as one failure; `again`: so does what has failed the last time.
static void back_off(struct queue *q, struct queue_lane *l, bool again, struct bytes text,
                     struct queue_now now)
{
    if (l->backoff_us > now.mono.us)
        return;
    l->failures -= again && l->failures;
    int64_t ms = queue_retry_ms(q, l->failures);
    ms += (int64_t)(queue_random(q) % (uint64_t)(ms * QUEUE_JITTER_PERCENT / 100 + 1));
    l->failures++;
    l->backoff_us = mono_add_ms(now.mono, ms).us;
    free(l->text);
    l->text = queue_dup_text(bytes_first(text, QUEUE_TEXT_MAX));
    queue_note_want(q, l);
}

// A connection could not be opened, or was broken. It is not counted any more.
static void note_failure(struct queue *q, struct queue_lane *l, bool again, struct bytes text,
                         struct queue_now now)
{
    uint32_t stand = standing(l);
    l->breaks++;
    if (stand == l->used_up) {
        back_off(q, l, again, text, now);
        return;
    }
    l->ceiling = stand;
    l->ceiling_us = mono_add_ms(now.mono, queue_retry_ms(q, 0)).us;
}

void queue_connected(struct queue *q, struct queue_connection *c, enum queue_proof proof,
                     struct queue_now now, uint64_t *kicks)
{
    (void)now;
    queue_lock(q);
    CHECK(c->state == CONNECTION_CONNECTING && proof >= c->proof && proof < QUEUE_PROOFS);
    uncount(q, c);
    c->proof = proof;
    set_idle(q, c);
    uint32_t stand = standing(c->lane);
    c->lane->ceiling = c->lane->ceiling < stand ? stand : c->lane->ceiling; // it was under way
    queue_lane_touch(q, c->lane);
    queue_unlock(q, kicks, NULL);
}

void queue_connect_failed(struct queue *q, struct queue_connection *c, struct bytes text,
                          struct queue_now now, uint64_t *kicks)
{
    queue_lock(q);
    CHECK(c->state == CONNECTION_CONNECTING);
    struct queue_lane *l = c->lane;
    give_back_slot(q, c);
    note_failure(q, l, false, text, now);
    queue_unlock(q, kicks, NULL);
}

void queue_connect_later(struct queue *q, struct queue_connection *c, struct queue_now now,
                         uint64_t *kicks)
{
    queue_lock(q);
    CHECK(c->state == CONNECTION_CONNECTING);
    int64_t until_us = mono_add_ms(now.mono, QUEUE_LATER_MS).us;
    if (c->lane->backoff_us < until_us)
        c->lane->backoff_us = until_us;
    give_back_slot(q, c);
    queue_unlock(q, kicks, NULL);
}

// Counted as busy until it says that it is gone.
static void set_used_up(struct queue *q, struct queue_connection *c)
{
    set_busy(c->lane, c, false);
    c->used_up = true;
    c->lane->used_up++;
    q->slots.closing++;
}

void queue_leaving(struct queue *q, struct queue_connection *c, uint64_t *kicks)
{
    queue_lock(q);
    CHECK(c->state == CONNECTION_IDLE || c->state == CONNECTION_BUSY);
    uncount(q, c);
    set_used_up(q, c);
    queue_lane_touch(q, c->lane); // what it was woken for
    queue_unlock(q, kicks, NULL);
}

void queue_disconnected(struct queue *q, struct queue_connection *c, bool failed, struct bytes text,
                        struct queue_now now, uint64_t *kicks)
{
    queue_lock(q);
    struct queue_lane *l = c->lane;
    give_back_slot(q, c);
    if (failed) {
        bool again = c->messages && message_id_eq(c->last, l->broke);
        note_failure(q, l, again, text, now);
        l->broke = c->last;
    }
    queue_unlock(q, kicks, NULL);
}

// ---- turns ----

static struct queue_turn *turn_of_class(struct queue_lane *l, enum queue_proof proof, int class)
{
    for (int i = 0; i <= (int)proof; i++) { // needs take turns too
        int p = (l->proof_turn + i) % ((int)proof + 1);
        struct list *first = list_first(&l->rings[p][class]);
        if (!first)
            continue;
        l->proof_turn = (uint8_t)((p + 1) % QUEUE_PROOFS);
        return list_get(first, struct queue_turn, ring);
    }
    return NULL;
}

// Strictly by class; but where the site has failed each try begins with another class, as it may be the mail of one that
// the site breaks sessions over.
static struct queue_turn *next_turn(struct queue_lane *l, enum queue_proof proof,
                                    const struct outlook *o)
{
    for (uint32_t i = 0; i < MAIL_CLASSES; i++) {
        int class = (int)((l->failures + i) % MAIL_CLASSES);
        enum share share = class == MAIL_TRANSACTIONAL ? SHARE_ALL : SHARE_LOW;
        struct queue_turn *t = o->may[share] ? turn_of_class(l, proof, class) : NULL;
        if (t)
            return t;
    }
    return NULL;
}

// The next bundle of the turn; the turn and its flow go to the end of their rings.
static struct queue_bundle *bundle_of_flow(struct queue_flow *f)
{
    struct queue_turn *t = f->turn;
    struct list *ring = &t->lane->rings[t->proof][t->class];
    list_remove(&t->ring);
    list_push_back(ring, &t->ring);
    list_remove(&f->of_turn);
    list_push_back(&t->flows[f->level], &f->of_turn);
    return list_get(list_first(&f->bundles), struct queue_bundle, ready);
}

static struct queue_bundle *lease_some(struct queue *q, const struct queue_connection *c,
                                       struct queue_bundle *b)
{
    uint32_t max = queue_tighter(c->lane->limits->recipients_per_transaction,
                                 c->remote.recipients_per_transaction);
    max = max == 0 ? QUEUE_RECIPIENTS_DEFAULT : max;
    max = max < QUEUE_BATCH_MAX ? max : QUEUE_BATCH_MAX;
    if (b->message->flags & QUEUE_SINGLY)
        max = 1;
    if (b->count > max)
        b = queue_bundle_split(q, b, max);
    queue_bundle_lease(q, b);
    return b;
}

// Nothing for this connection: would its slot serve mail that needs a stronger one?
static bool is_in_the_way(const struct queue_lane *l, enum queue_proof proof,
                          const struct outlook *o)
{
    for (int p = (int)proof + 1; p < QUEUE_PROOFS; p++)
        if (o->usable[p] > 0)
            return !has_slot(o, queue_lane_connections(l) + 1); // its own is not counted now
    return false;
}

static bool is_ready_on(const struct queue_bundle *b, const struct queue_lane *l)
{
    return b->state == BUNDLE_READY && b->flow->turn->lane == l;
}

// A lane that is tried again: the message whose session broke last waits for a while, if the connection could carry
// others.
static void let_others_go_first(struct queue *q, const struct queue_connection *c,
                                struct outlook *o, struct queue_now now)
{
    struct queue_lane *l = c->lane;
    struct queue_message *m = l->failures ? queue_message_find(q, l->broke) : NULL;
    uint64_t usable = 0, own = 0;
    for (int p = 0; p <= (int)c->proof; p++)
        usable += o->usable[p];
    for (const struct queue_bundle *b = m ? m->bundles : NULL; b; b = b->next)
        own += is_ready_on(b, l);
    if (own == 0 || usable <= own)
        return;
    for (struct queue_bundle *b = m->bundles; b; b = b->next)
        if (is_ready_on(b, l))
            queue_bundle_wait(q, b, mono_add_ms(now.mono, ASIDE_MS).us);
    *o = look(q, l, now);
}

enum queue_take queue_take(struct queue *q, struct queue_connection *c, struct queue_now now,
                           struct queue_batch **out_batch, uint64_t *kicks)
{
    *out_batch = NULL;
    queue_lock(q);
    struct queue_lane *l = c->lane;
    CHECK(l && (c->state == CONNECTION_IDLE || c->state == CONNECTION_BUSY));
    if (c->state == CONNECTION_IDLE && l->woken[c->proof])
        l->woken[c->proof]--;
    uncount(q, c);
    enum queue_take result;
    struct outlook o = look(q, l, now);
    let_others_go_first(q, c, &o, now);
    uint32_t messages_max =
        queue_tighter(l->limits->messages_per_connection, c->remote.messages_per_connection);
    struct queue_turn *t = next_turn(l, c->proof, &o);
    struct queue_flow *f = t ? queue_remote_flow(t, c) : NULL;
    uint32_t others = queue_lane_connections(l) - l->used_up;
    bool low = t && t->class != MAIL_TRANSACTIONAL;
    if ((messages_max && c->messages >= messages_max) || (t && !f) ||
        has_surplus(q, l, others + 1) || (f && queue_slot_gives_way(q, c, others, low))) {
        set_used_up(q, c);
        result = QUEUE_TAKE_CLOSE;
    } else if (f) {
        struct queue_bundle *b = lease_some(q, c, bundle_of_flow(f));
        struct queue_message *m = b->message;
        queue_remote_note(c, b->domain);
        spend(q, l, low ? SHARE_LOW : SHARE_ALL, m->size, now);
        set_busy(l, c, low);
        c->messages++;
        c->last = m->id;
        *out_batch = queue_batch_new(q, m, b, now);
        (*out_batch)->lane = l;
        (*out_batch)->breaks = l->breaks;
        l->batches++;
        result = QUEUE_TAKE_BATCH;
    } else if (is_in_the_way(l, c->proof, &o) || queue_slot_is_short(q)) {
        set_used_up(q, c);
        result = QUEUE_TAKE_CLOSE;
    } else {
        set_idle(q, c);
        result = QUEUE_TAKE_IDLE;
    }
    queue_slot_press(q);
    if (queue_lane_has_ready(l)) // more connections, a time to wake, a note
        queue_lane_touch(q, l);
    queue_unlock(q, kicks, NULL);
    return result;
}
