// SPDX-License-Identifier: MIT
//
// queue_ask - the questions: why not, what is there, how much
#include "queue/queue_inside.h"

#include <stdarg.h>
#include <stdio.h>

const char *queue_limit_name(enum queue_limit limit)
{
    static const char *const names[] = {
        "none",  "retry_time",   "scheduled",        "hold",
        "dns",   "backoff",      "lane_connections", "lane_rate",
        "class", "account_turn", "remote",           "connections",
    };
    CHECK((size_t)limit < COUNT_OF(names));
    return names[limit];
}

const char *queue_state_name(enum queue_state state)
{
    static const char *const names[] = {"queued", "scheduled", "held", "active"};
    CHECK((size_t)state < COUNT_OF(names));
    return names[state];
}

// ---- why ----

__attribute__((format(printf, 5, 6))) static void say(struct queue_reason *out,
                                                      enum queue_limit limit, struct wall until,
                                                      const char *setting, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    out->limit = limit;
    out->until = until;
    snprintf(out->setting, sizeof(out->setting), "%s", setting);
    vsnprintf(out->text, sizeof(out->text), format, args);
    va_end(args);
}

// Behind what has been said.
__attribute__((format(printf, 2, 3))) static void add_text(struct queue_reason *out,
                                                           const char *format, ...)
{
    size_t n = strlen(out->text);
    va_list args;
    va_start(args, format);
    vsnprintf(out->text + n, sizeof(out->text) - n, format, args);
    va_end(args);
}

static void why_waiting(const struct queue_bundle *b, struct queue_now now,
                        struct queue_reason *out)
{
    const struct queue_domain *d = b->domain;
    const char *refusal = d->refusal ? d->refusal->text : "";
    if (b->due_us > now.mono.us && b->flags & BUNDLE_SCHEDULED)
        say(out, QUEUE_LIMIT_SCHEDULED, queue_wall_of(b->due_us, now), "X-Posthaste-Send-At",
            "the sender asked for this time");
    else if (b->due_us > now.mono.us)
        say(out, QUEUE_LIMIT_RETRY_TIME, queue_wall_of(b->due_us, now),
            b->attempts > 1 ? "retry.factor" : "retry.first",
            "waits for the next attempt, after %u", b->attempts);
    else if (d->state == DOMAIN_BACKOFF)
        say(out, QUEUE_LIMIT_DNS, queue_wall_of(d->until_us, now), "retry.first",
            "%s can't be resolved just now: %s", d->name, refusal);
    else if (d->state == DOMAIN_ASKING || d->state == DOMAIN_RESOLVING)
        say(out, QUEUE_LIMIT_DNS, (struct wall){0}, "", "%s is being resolved", d->name);
    else
        say(out, QUEUE_LIMIT_NONE, (struct wall){0}, "", "due now");
}

static void setting_of(const struct queue_lane *l, const char *name, char out[64])
{
    snprintf(out, 64, "lanes[%u].%s", l->rule, name);
}

// Lane backoff and rates; false: neither binds.
static bool why_lane(struct queue *q, struct queue_lane *l, enum share share, struct queue_now now,
                     struct queue_reason *out)
{
    char setting[64];
    const char *limit = NULL;
    int64_t when = queue_lane_when(q, l, share, now, &limit);
    uint32_t open = queue_lane_connections(l);
    if (l->backoff_us > now.mono.us && open == 0 && !l->failures) {
        say(out, QUEUE_LIMIT_BACKOFF, queue_wall_of(l->backoff_us, now), "",
            "no connection to %s is opened before that", l->name);
    } else if (l->backoff_us > now.mono.us && open == 0) {
        say(out, QUEUE_LIMIT_BACKOFF, queue_wall_of(l->backoff_us, now), "retry.first",
            "%s could not be reached %u times in a row%s%s", l->name, l->failures,
            l->text ? ": " : "", l->text ? l->text : "");
    } else if (limit) {
        setting_of(l, limit, setting);
        say(out, QUEUE_LIMIT_LANE_RATE,
            when == INT64_MAX ? (struct wall){0} : queue_wall_of(when, now), setting,
            "%s has sent as much as %s allows", l->name, limit);
    } else {
        return false;
    }
    return true;
}

static void why_ready(struct queue *q, const struct queue_bundle *b, struct queue_now now,
                      struct queue_reason *out)
{
    struct queue_turn *t = b->flow->turn;
    struct queue_lane *l = t->lane;
    enum share share = t->class == MAIL_TRANSACTIONAL ? SHARE_ALL : SHARE_LOW;
    if (why_lane(q, l, share, now, out))
        return;
    uint32_t open = queue_lane_connections(l), above = 0;
    uint64_t max = queue_lane_connections_max(l, share, now);
    char setting[64], remote[QUEUE_TEXT_MAX];
    setting_of(l, "connections", setting);
    if (queue_remote_binds(l, b, open >= max, remote)) {
        say(out, QUEUE_LIMIT_REMOTE, (struct wall){0}, open < max ? "" : setting, "%s", remote);
        return;
    }
    uint32_t ours = l->limits->connections;
    if (open >= max && l->ceiling_us > now.mono.us && queue_tighter(ours, l->ceiling) != ours) {
        say(out, QUEUE_LIMIT_LANE_CONNECTIONS, queue_wall_of(l->ceiling_us, now), "",
            "the site of %s lets no more than %u connections stand just now, and they are in use",
            l->name, l->ceiling);
        return;
    }
    if (open < max && list_is_linked(&l->slot_wait)) {
        say(out, QUEUE_LIMIT_CONNECTIONS, (struct wall){0}, "limits.connections",
            "all %u connections of the service are in use; %s waits for one to be free",
            q->connections_max, l->name);
        return;
    }
    if (open < max && l->failures) {
        say(out, QUEUE_LIMIT_NONE, (struct wall){0}, "",
            "the connection by which %s is tried again comes first", l->name);
        return;
    }
    if (open < max) {
        say(out, QUEUE_LIMIT_NONE, (struct wall){0}, "",
            open ? "about to go" : "a connection to %s is about to be opened", l->name);
        return;
    }
    for (int class = 0; class < t->class; class ++)
        above += l->ready[t->proof][class];
    struct list *ring = &l->rings[t->proof][t->class];
    if (above)
        say(out, QUEUE_LIMIT_CLASS, (struct wall){0}, setting,
            "%u messages of a more urgent class go to %s first", above, l->name);
    else if (ring->next != ring->prev)
        say(out, QUEUE_LIMIT_ACCOUNT_TURN, (struct wall){0}, setting,
            "several accounts have mail for %s and take turns", l->name);
    else
        say(out, QUEUE_LIMIT_LANE_CONNECTIONS, (struct wall){0}, setting,
            "all %llu connections to %s are in use", (unsigned long long)max, l->name);
}

// The bundle of that number, or of the lowest for 0; *out_number is which. NULL: none.
static struct queue_bundle *bundle_of(struct queue *q, struct message_id id, uint32_t number,
                                      uint32_t *out_number)
{
    struct queue_message *m = queue_message_find(q, id);
    struct queue_bundle *best = NULL;
    uint32_t lowest = UINT32_MAX;
    for (struct queue_bundle *b = m ? m->bundles : NULL; b; b = b->next) {
        const uint32_t *numbers = queue_bundle_numbers(b);
        for (uint32_t i = 0; i < b->count; i++) {
            if (number ? numbers[i] == number : numbers[i] <= lowest) {
                best = b;
                lowest = numbers[i];
            }
        }
    }
    *out_number = lowest;
    return best;
}

// Which hold it is: that of all mail, of its domain, of its account, or its own.
static void why_held(const struct queue *q, const struct queue_bundle *b, struct queue_reason *out)
{
    const struct queue_rule *rule = NULL;
    struct wall never = {0};
    if (b->flags & BUNDLE_SUSPENDED)
        say(out, QUEUE_LIMIT_HOLD, never, "account activate, queue bounce --account",
            "held while its account may not send, for ever if it is closed");
    else if ((rule = q->hold_restored))
        say(out, QUEUE_LIMIT_HOLD, never, "queue release --all",
            "held until released: all mail of a restored backup is held");
    else if ((rule = q->hold_all))
        say(out, QUEUE_LIMIT_HOLD, never, "queue release --all",
            "held until released: all mail is held");
    else if ((rule = queue_rule_of_domain(q, queue_domain_name(b->domain))))
        say(out, QUEUE_LIMIT_HOLD, never, "queue release --domain",
            "held until released: mail to %s is held", b->domain->name);
    else if ((rule = queue_rule_of_account(q, b->message->account)))
        say(out, QUEUE_LIMIT_HOLD, never, "queue release --account",
            "held until released: mail of its account is held");
    else
        say(out, QUEUE_LIMIT_HOLD, never, "queue release", "held until released");
    if (rule && rule->why[0])
        add_text(out, ": %s", rule->why);
}

// Others of its kind are held: why it is not.
static void why_exempt(const struct queue *q, const struct queue_bundle *b,
                       struct queue_reason *out)
{
    if (b->flags & BUNDLE_EXEMPT &&
        queue_is_held(q, queue_domain_name(b->domain), b->message->account, false))
        add_text(out, "; released by itself from a hold that stands");
}

static void why_bundle(struct queue *q, const struct queue_bundle *b, struct queue_now now,
                       struct queue_reason *out)
{
    if (b->state == BUNDLE_HELD)
        why_held(q, b, out);
    else if (b->state == BUNDLE_LEASED)
        say(out, QUEUE_LIMIT_NONE, (struct wall){0}, "", "being worked on just now");
    else if (b->state == BUNDLE_WAITING)
        why_waiting(b, now, out);
    else
        why_ready(q, b, now, out);
    if (b->state != BUNDLE_HELD)
        why_exempt(q, b, out);
}

int queue_why(struct queue *q, struct message_id id, uint32_t number, struct queue_now now,
              struct queue_reason *out)
{
    *out = (struct queue_reason){0};
    queue_lock(q);
    struct queue_bundle *b = bundle_of(q, id, number, &out->number);
    if (b)
        why_bundle(q, b, now, out);
    queue_unlock(q, NULL, NULL);
    return b ? OK : E_NOT_FOUND;
}

// ---- what is there ----

static enum queue_state state_of(const struct queue_bundle *b)
{
    switch ((enum bundle_state)b->state) {
    case BUNDLE_HELD:
        return QUEUE_STATE_HELD;
    case BUNDLE_LEASED:
        return QUEUE_STATE_ACTIVE;
    case BUNDLE_WAITING:
        return b->flags & BUNDLE_SCHEDULED ? QUEUE_STATE_SCHEDULED : QUEUE_STATE_QUEUED;
    case BUNDLE_READY:
        break;
    }
    return QUEUE_STATE_QUEUED;
}

// Its own schedule, or what its domain or its lane waits for.
static struct wall next_attempt(struct queue *q, const struct queue_bundle *b, struct queue_now now)
{
    struct queue_reason reason = {0};
    why_bundle(q, b, now, &reason);
    return reason.until.us > now.wall.us ? reason.until : (struct wall){0};
}

int queue_find(struct queue *q, struct message_id id, uint32_t number, struct queue_now now,
               struct queue_place *out)
{
    queue_lock(q);
    struct queue_bundle *b = bundle_of(q, id, number, &number);
    if (b)
        *out = (struct queue_place){state_of(b), b->attempts, next_attempt(q, b, now)};
    queue_unlock(q, NULL, NULL);
    return b ? OK : E_NOT_FOUND;
}

static void fill_row(struct queue *q, const struct queue_bundle *b, struct queue_now now,
                     struct queue_row *row)
{
    const struct queue_message *m = b->message;
    *row = (struct queue_row){.id = m->id,
                              .account = m->account,
                              .class = (enum mail_class)m->class,
                              .size = m->size,
                              .state = state_of(b),
                              .recipients = b->count,
                              .first_number = queue_bundle_numbers(b)[0],
                              .attempts = b->attempts,
                              .next_attempt_at = next_attempt(q, b, now)};
    snprintf(row->domain, sizeof(row->domain), "%s", b->domain->name);
}

// The cursor: a message's index, and how many of its bundles have been shown.
#define CURSOR_BITS 32

static size_t list_message(struct queue *q, const struct queue_message *m,
                           const struct queue_filter *filter, uint64_t *skip, struct queue_now now,
                           struct queue_row *rows, size_t max)
{
    size_t n = 0;
    uint64_t seen = 0;
    for (const struct queue_bundle *b = m->bundles; b; b = b->next) {
        if (!queue_filter_matches(filter, b) || seen++ < *skip)
            continue;
        if (n == max)
            return n;
        fill_row(q, b, now, &rows[n++]);
        (*skip)++;
    }
    *skip = UINT64_MAX; // the message is done
    return n;
}

static size_t list_some(struct queue *q, const struct queue_filter *filter, uint64_t *cursor,
                        struct queue_now now, struct queue_row *rows, size_t max)
{
    uint64_t index = *cursor >> CURSOR_BITS, skip = *cursor & UINT32_MAX, looked = 0;
    size_t n = 0;
    while (index < q->messages.made && n < max && looked++ < QUEUE_SCAN_MAX) {
        struct queue_message *m = queue_pool_at(&q->messages, (uint32_t)index);
        n += list_message(q, m, filter, &skip, now, rows + n, max - n);
        if (skip != UINT64_MAX)
            break;
        skip = 0;
        index++;
    }
    bool end = index >= q->messages.made;
    *cursor = end ? UINT64_MAX : index << CURSOR_BITS | skip;
    return n;
}

size_t queue_list(struct queue *q, const struct queue_filter *filter, uint64_t *cursor,
                  struct queue_now now, struct queue_row *rows, size_t max)
{
    CHECK(max > 0);
    if (*cursor == UINT64_MAX)
        return 0;
    size_t n;
    queue_lock_slice(q);
    if (filter->by == QUEUE_SELECT_ID) {
        struct queue_message *m = queue_message_find(q, filter->id);
        n = m ? list_message(q, m, filter, cursor, now, rows, max) : 0;
        *cursor = m ? *cursor : UINT64_MAX;
    } else {
        n = list_some(q, filter, cursor, now, rows, max);
    }
    queue_unlock(q, NULL, NULL);
    return n;
}

static void fill_lane(struct queue_lane *l, struct queue_now now, struct queue_lane_row *row)
{
    *row = (struct queue_lane_row){.worker = l->worker, .rule = l->rule};
    snprintf(row->name, sizeof(row->name), "%s", l->name);
    snprintf(row->text, sizeof(row->text), "%s", l->text ? l->text : "");
    for (int p = 0; p < QUEUE_PROOFS; p++) {
        row->connecting += l->connecting[p];
        for (int c = 0; c < MAIL_CLASSES; c++)
            row->ready += l->ready[p][c];
    }
    row->connections = queue_lane_connections(l);
    row->busy = l->busy;
    row->connections_max = l->limits->connections;
    row->remote = l->remote;
    row->deferred = l->deferred;
    row->oldest_at.us = l->oldest.told_us;
    row->hour_used = l->hour ? queue_window_used(l->hour, now.mono) : 0;
    row->day_used = l->day ? queue_window_used(l->day, now.mono) : 0;
    if (l->backoff_us > now.mono.us)
        row->backoff_until = queue_wall_of(l->backoff_us, now);
}

size_t queue_lanes(struct queue *q, uint64_t *cursor, struct queue_now now,
                   struct queue_lane_row *rows, size_t max)
{
    size_t n = 0;
    queue_lock(q);
    while (n < max && *cursor < q->lanes.made) {
        struct queue_lane *l = queue_pool_at(&q->lanes, (uint32_t)(*cursor)++);
        if (l->name)
            fill_lane(l, now, &rows[n++]);
    }
    queue_unlock(q, NULL, NULL);
    return n;
}

static uint64_t message_bytes(const struct queue *q)
{
    uint64_t bytes = queue_pool_bytes(&q->messages) + queue_ids_bytes(&q->by_id);
    bytes += queue_pool_bytes(&q->kept) + queue_hash_bytes(&q->by_message);
    for (uint32_t i = 0; i < q->workers_count; i++)
        bytes += (uint64_t)q->workers[i].messages.cap * sizeof(uint32_t);
    return bytes;
}

static uint64_t domain_bytes(const struct queue *q)
{
    uint64_t bytes = queue_pool_bytes(&q->domains) + queue_hash_bytes(&q->by_domain);
    for (uint32_t i = 0; i < q->workers_count; i++)
        bytes += q->workers[i].domains.cap * sizeof(void *);
    return bytes + q->names_bytes;
}

static uint64_t lane_bytes(const struct queue *q)
{
    uint64_t bytes = sizeof(*q) + queue_pool_bytes(&q->flows) + queue_pool_bytes(&q->turns);
    bytes += queue_pool_bytes(&q->lanes) + queue_hash_bytes(&q->by_flow);
    bytes += queue_hash_bytes(&q->by_turn) + queue_hash_bytes(&q->by_lane);
    for (uint32_t i = 0; i < q->workers_count; i++)
        bytes += q->workers[i].lanes.cap * sizeof(void *);
    return bytes;
}

// What of `bytes`, which hold `made` items, is there for those that are not in use.
static uint64_t free_share(uint64_t bytes, uint32_t used, uint32_t made)
{
    return made ? (uint64_t)((double)bytes * (made - used) / made) : 0;
}

static uint64_t free_bytes(const struct queue *q)
{
    return free_share(message_bytes(q), q->messages.used, q->messages.made) +
           free_share(queue_pool_bytes(&q->bundles), q->bundles.used, q->bundles.made) +
           free_share(domain_bytes(q) - q->names_bytes, q->domains.used, q->domains.made) +
           free_share(lane_bytes(q), q->flows.used, q->flows.made);
}

void queue_count(struct queue *q, struct queue_counts *out)
{
    queue_lock(q);
    *out = (struct queue_counts){.messages = q->messages.used,
                                 .domains = q->domains.used,
                                 .lanes = q->lanes.used,
                                 .connections = q->connections,
                                 .oldest_at = {q->oldest.told_us},
                                 .stored_bytes = q->stored_bytes,
                                 .message_bytes = message_bytes(q),
                                 .recipient_bytes = queue_pool_bytes(&q->bundles) +
                                                    q->numbers_bytes + q->waiting_bytes,
                                 .domain_bytes = domain_bytes(q),
                                 .free_bytes = free_bytes(q)};
    out->memory_bytes =
        out->message_bytes + out->recipient_bytes + out->domain_bytes + lane_bytes(q);
    out->recipients[QUEUE_STATE_QUEUED] =
        q->recipients[BUNDLE_WAITING] - q->scheduled + q->recipients[BUNDLE_READY];
    out->recipients[QUEUE_STATE_SCHEDULED] = q->scheduled;
    out->recipients[QUEUE_STATE_HELD] = q->recipients[BUNDLE_HELD];
    out->recipients[QUEUE_STATE_ACTIVE] = q->recipients[BUNDLE_LEASED];
    queue_unlock(q, NULL, NULL);
}
