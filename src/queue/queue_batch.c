// SPDX-License-Identifier: MIT
//
// queue_batch - leases and how they end
//
// How it works: a batch is a chain of leased bundles of one message. At its end each bundle is cut
// into groups of recipients with the same result, and each group goes where its result says.
#include "queue/queue_inside.h"

#include <stdlib.h>

static void copy_recipients(struct queue_batch *batch, struct queue_now now)
{
    uint32_t i = 0;
    for (struct queue_bundle *b = batch->bundles; b; b = b->next_leased) {
        const uint32_t *numbers = queue_bundle_numbers(b);
        bool waits = b->due_us > now.mono.us && !(b->flags & BUNDLE_SCHEDULED);
        struct wall next = waits ? queue_wall_of(b->due_us, now) : (struct wall){0};
        for (uint32_t k = 0; k < b->count; k++, i++)
            batch->recipients[i] =
                (struct queue_batch_recipient){numbers[k], b->attempts, next, false};
    }
    CHECK(i == batch->count);
}

struct queue_batch *queue_batch_new(struct queue *q, struct queue_message *m,
                                    struct queue_bundle *bundles, struct queue_now now)
{
    uint32_t count = 0;
    for (struct queue_bundle *b = bundles; b; b = b->next_leased) {
        CHECK(b->state == BUNDLE_LEASED && b->message == m);
        count += b->count;
    }
    CHECK(count > 0 && m->leases < UINT16_MAX);
    m->leases++;
    struct bytes domain = queue_domain_name(bundles->domain);
    struct queue_batch *batch = mem_new(sizeof(*batch));
    *batch = (struct queue_batch){.id = m->id,
                                  .account = m->account,
                                  .class = (enum mail_class)m->class,
                                  .flags = m->flags,
                                  .size = m->size,
                                  .expires_at = queue_wall_of(m->expires_us, now),
                                  .route = bundles->domain->route,
                                  .stored = m->drop_stored ? NULL : queue_message_stored(q, m),
                                  .count = count,
                                  .bundles = bundles};
    batch->text = mem_new(domain.len + 1);
    memcpy(batch->text, domain.at, domain.len);
    batch->domain = bytes_of(batch->text, domain.len);
    batch->recipients = mem_new(count * sizeof(*batch->recipients));
    copy_recipients(batch, now);
    int64_t ms = queue_retry_ms(q, bundles->attempts), spread = ms * QUEUE_JITTER_PERCENT / 100;
    batch->retry_ms = ms - spread + (int64_t)(queue_random(q) % (uint64_t)(2 * spread + 1));
    return batch;
}

static void free_batch(struct queue_batch *batch)
{
    free(batch->recipients);
    free(batch->text);
    free(batch);
}

struct wall queue_retry_at(const struct queue_batch *batch, struct wall now)
{
    return wall_add_ms(now, batch->retry_ms);
}

// ---- results ----

static bool same_result(const struct queue_result *a, const struct queue_result *b)
{
    return a->outcome == b->outcome &&
           (a->outcome != QUEUE_DEFERRED || a->next_attempt_at.us == b->next_attempt_at.us) &&
           (a->outcome != QUEUE_REROUTED || a->route == b->route);
}

static void suspend(struct queue *q, struct queue_bundle *b)
{
    b->flags |= BUNDLE_SUSPENDED;
    queue_bundle_hold(q, b);
}

static bool is_covered(const struct queue *q, const struct queue_bundle *b)
{
    return queue_is_held(q, queue_domain_name(b->domain), b->message->account,
                         b->flags & BUNDLE_EXEMPT);
}

// Waits until due; for as long as a hold covers it or its account may not send, held.
static void wait_until(struct queue *q, struct queue_bundle *b, int64_t due_us)
{
    b->flags &= ~BUNDLE_SUSPENDED;
    b->due_us = due_us;
    if (is_covered(q, b))
        queue_bundle_hold(q, b);
    else if (queue_is_suspended(q, b->message->account))
        suspend(q, b);
    else
        queue_bundle_wait(q, b, due_us);
}

// Back to where it was before the lease.
static void put_back(struct queue *q, struct queue_bundle *b)
{
    if (b->flags & BUNDLE_WAS_HELD && !(b->flags & BUNDLE_SUSPENDED))
        queue_bundle_hold(q, b);
    else
        wait_until(q, b, b->due_us);
}

// A held message may be past its lifetime: it gets time for an attempt, so that releasing is not failing. That need
// not be kept: a start gives it again (`spared`).
static void give_grace(struct queue *q, struct queue_message *m, struct queue_now now)
{
    int64_t until_us = queue_grace_us(q, now);
    if (m->expires_us >= until_us)
        return;
    m->expires_us = until_us;
    queue_timers_remove(q, &q->workers[queue_message_worker(q, m->id)].messages, m);
}

static void retry_now(struct queue *q, struct queue_bundle *b, struct queue_now now)
{
    struct queue_domain *d = b->domain;
    b->flags &= ~BUNDLE_SCHEDULED;
    wait_until(q, b, now.mono.us);
    queue_domain_retry_now(q, d);
    if (d->lane && d->lane->backoff_us > now.mono.us) {
        d->lane->backoff_us = now.mono.us;
        queue_lane_touch(q, d->lane);
    }
}

static void reroute(struct queue *q, struct queue_bundle *b, uint32_t route)
{
    struct queue_domain *d = queue_domain_get(q, route, queue_domain_name(b->domain));
    if (d != b->domain)
        queue_bundle_move(q, b, d);
    put_back(q, b);
}

static void defer(struct queue *q, struct queue_bundle *b, const struct queue_result *r,
                  struct queue_now now)
{
    if (b->attempts < UINT16_MAX)
        b->attempts++;
    b->flags &= ~BUNDLE_SCHEDULED;
    b->message->drop_stored = true;
    wait_until(q, b, queue_us_of(r->next_attempt_at, now));
}

// All recipients of the bundle have this result.
static void apply(struct queue *q, struct queue_bundle *b, const struct queue_result *r,
                  struct queue_now now)
{
    struct queue_message *m = b->message;
    switch (r->outcome) {
    case QUEUE_DONE:
        queue_bundle_free(q, b);
        break;
    case QUEUE_DEFERRED:
        defer(q, b, r, now);
        break;
    case QUEUE_UNTRIED:
        wait_until(q, b, now.mono.us);
        break;
    case QUEUE_HELD:
        b->flags &= ~(BUNDLE_SUSPENDED | BUNDLE_EXEMPT);
        queue_bundle_hold(q, b);
        break;
    case QUEUE_SUSPENDED:
        wait_until(q, b, b->due_us); // active again already: not held
        break;
    case QUEUE_RELEASED:
        give_grace(q, m, now);
        wait_until(q, b, b->due_us);
        break;
    case QUEUE_EXEMPTED:
        give_grace(q, m, now);
        b->flags |= BUNDLE_EXEMPT;
        wait_until(q, b, b->due_us);
        break;
    case QUEUE_RETRIED:
        give_grace(q, m, now);
        retry_now(q, b, now);
        break;
    case QUEUE_REROUTED:
        reroute(q, b, r->route);
        break;
    case QUEUE_WARNED:
        b->flags |= BUNDLE_WARNED;
        put_back(q, b);
        break;
    case QUEUE_KEPT:
        put_back(q, b);
        break;
    }
}

// Cuts off the recipients that share the first one's result and applies it to them, until none is
// left.
static void settle_bundle(struct queue *q, struct queue_bundle *b, struct queue_result *results,
                          struct queue_now now)
{
    while (b->count > 1) {
        uint32_t n = 1, count = b->count;
        for (uint32_t i = 1; i < count; i++) {
            if (!same_result(&results[i], &results[0]))
                continue;
            struct queue_result result = results[i];
            results[i] = results[n];
            results[n] = result;
            uint32_t number = b->numbers[i];
            b->numbers[i] = b->numbers[n];
            b->numbers[n++] = number;
        }
        if (n == count)
            break;
        apply(q, queue_bundle_split(q, b, n), &results[0], now);
        results += n;
    }
    apply(q, b, &results[0], now);
}

// The lane has shown that it works. That something is deferred does not, where a connection broke meanwhile: that may be
// why.
static void note_success(struct queue *q, const struct queue_batch *batch,
                         const struct queue_result *results)
{
    struct queue_lane *l = batch->lane;
    bool answered = false, broke = batch->breaks != l->breaks;
    l->batches--;
    for (uint32_t i = 0; i < batch->count; i++) {
        bool deferred = results[i].outcome == QUEUE_DEFERRED;
        l->deferred += deferred;
        answered = answered || (deferred && !broke) || results[i].outcome == QUEUE_DONE;
    }
    if (answered && l->failures) {
        l->failures = 0;
        free(l->text);
        l->text = NULL;
        queue_note_want(q, l);
    }
    queue_lane_touch(q, l);
}

// Of what is no lane's (its time was over, or a warning due) nothing was tried: nobody could say so, as the message can't
// be read just now. When it is looked at again, else 0.
static int64_t put_off_until(const struct queue_batch *batch, const struct queue_result *results,
                             struct queue_now now)
{
    for (uint32_t i = 0; i < batch->count && !batch->lane; i++)
        if (results[i].outcome == QUEUE_DEFERRED)
            return queue_us_of(results[i].next_attempt_at, now);
    return 0;
}

void queue_settle(struct queue *q, struct queue_batch *batch, const struct queue_result *results,
                  struct queue_now now, uint64_t *kicks)
{
    struct queue_result *copy = mem_new(batch->count * sizeof(*copy));
    memcpy(copy, results, batch->count * sizeof(*copy));
    queue_lock(q);
    struct queue_message *m = batch->bundles->message;
    CHECK(m->leases > 0 && message_id_eq(m->id, batch->id));
    m->leases--;
    if (batch->lane)
        note_success(q, batch, results);
    int64_t until_us = put_off_until(batch, results, now);
    struct queue_result *next_results = copy;
    for (struct queue_bundle *b = batch->bundles, *next; b; b = next) {
        next = b->next_leased;
        uint32_t count = b->count;
        settle_bundle(q, b, next_results, now);
        next_results += count;
    }
    if (until_us)
        queue_message_put_off(q, m, until_us);
    void *drop = queue_message_settle(q, m, now);
    queue_unlock(q, kicks, drop);
    free(copy);
    free_batch(batch);
}

void queue_settle_all(struct queue *q, struct queue_batch *batch, struct queue_result result,
                      struct queue_now now, uint64_t *kicks)
{
    struct queue_result *results = mem_new(batch->count * sizeof(*results));
    for (uint32_t i = 0; i < batch->count; i++)
        results[i] = result;
    queue_settle(q, batch, results, now, kicks);
    free(results);
}

void queue_batch_free(struct queue *q, struct queue_batch *batch)
{
    queue_lock(q);
    if (batch->lane)
        batch->lane->batches--;
    queue_unlock(q, NULL, NULL);
    free_batch(batch);
}

// ---- claims ----

bool queue_filter_matches(const struct queue_filter *f, const struct queue_bundle *b)
{
    const struct queue_message *m = b->message;
    bool held =
        b->state == BUNDLE_HELD || (b->state == BUNDLE_LEASED && b->flags & BUNDLE_WAS_HELD);
    bool suspended = held && b->flags & BUNDLE_SUSPENDED;
    bool by_operator = held && !suspended;
    if ((f->held_only && !by_operator) || (f->unheld_only && by_operator) ||
        (f->suspended_only && !suspended))
        return false;
    if (f->made_before.high && !message_id_is_before(m->id, f->made_before))
        return false;
    switch (f->by) {
    case QUEUE_SELECT_ALL:
        return true;
    case QUEUE_SELECT_ID:
        return message_id_eq(m->id, f->id);
    case QUEUE_SELECT_DOMAIN:
        return bytes_eq_nocase(queue_domain_name(b->domain), f->domain);
    case QUEUE_SELECT_ACCOUNT:
        return m->account == f->account;
    }
    return false;
}

// The index of a number in the bundle, or -1.
static ptrdiff_t number_index(const struct queue_bundle *b, uint32_t number)
{
    const uint32_t *numbers = queue_bundle_numbers(b);
    for (uint32_t i = 0; i < b->count; i++)
        if (numbers[i] == number)
            return i;
    return -1;
}

// Cuts one number out of the bundle; b is what is left, the result only has that number.
static struct queue_bundle *single_out(struct queue *q, struct queue_bundle *b, ptrdiff_t i)
{
    if (b->count == 1)
        return b;
    uint32_t number = b->numbers[i];
    b->numbers[i] = b->numbers[0];
    b->numbers[0] = number;
    struct queue_bundle *one = queue_bundle_split(q, b, 1);
    if (b->state == BUNDLE_HELD)
        one->flags |= BUNDLE_WAS_HELD;
    else
        one->flags &= ~BUNDLE_WAS_HELD;
    return one;
}

static void mark_covered(const struct queue *q, struct queue_batch *batch)
{
    uint32_t i = 0;
    for (const struct queue_bundle *b = batch->bundles; b; b = b->next_leased) {
        bool covered = is_covered(q, b);
        for (uint32_t k = 0; k < b->count; k++)
            batch->recipients[i++].covered = covered;
    }
}

static struct queue_batch *claim_message(struct queue *q, struct queue_message *m,
                                         const struct queue_filter *filter, struct queue_now now)
{
    struct queue_bundle *chain = NULL, **tail = &chain;
    for (struct queue_bundle *b = m->bundles, *next; b; b = next) {
        next = b->next;
        if (b->state == BUNDLE_LEASED || !queue_filter_matches(filter, b))
            continue;
        bool single = filter->by == QUEUE_SELECT_ID && filter->recipient;
        ptrdiff_t i = single ? number_index(b, filter->recipient) : 0;
        if (i < 0)
            continue;
        if (filter->held_only && is_covered(q, b) && (!filter->through || q->hold_restored)) {
            if (filter->covered)
                *filter->covered += single ? 1 : b->count;
            continue;
        }
        struct queue_bundle *claimed = single ? single_out(q, b, i) : b;
        if (claimed->state != BUNDLE_LEASED)
            queue_bundle_lease(q, claimed);
        claimed->next_leased = NULL;
        *tail = claimed;
        tail = &claimed->next_leased;
    }
    struct queue_batch *batch = chain ? queue_batch_new(q, m, chain, now) : NULL;
    if (batch && filter->through)
        mark_covered(q, batch);
    return batch;
}

bool queue_claim(struct queue *q, const struct queue_filter *filter, uint64_t *cursor,
                 struct queue_now now, struct queue_batch **out_batch)
{
    *out_batch = NULL;
    bool more = false;
    queue_lock_slice(q);
    if (filter->by == QUEUE_SELECT_ID) {
        struct queue_message *m = *cursor == 0 ? queue_message_find(q, filter->id) : NULL;
        *cursor = 1;
        if (m)
            *out_batch = claim_message(q, m, filter, now);
        more = *out_batch != NULL;
    } else {
        for (int i = 0; i < QUEUE_SCAN_MAX && *cursor < q->messages.made && !*out_batch; i++) {
            struct queue_message *m = queue_pool_at(&q->messages, (uint32_t)(*cursor)++);
            if (m->bundles)
                *out_batch = claim_message(q, m, filter, now);
        }
        more = *out_batch || *cursor < q->messages.made;
    }
    queue_unlock(q, NULL, NULL);
    return more;
}

uint64_t queue_scan_end(struct queue *q)
{
    queue_lock(q);
    uint64_t end = q->messages.made;
    queue_unlock(q, NULL, NULL);
    return end;
}

static uint64_t count_message(const struct queue_message *m, const struct queue_filter *filter)
{
    uint64_t count = 0;
    for (const struct queue_bundle *b = m->bundles; b; b = b->next) {
        if (!queue_filter_matches(filter, b))
            continue;
        if (filter->by == QUEUE_SELECT_ID && filter->recipient)
            count += number_index(b, filter->recipient) >= 0;
        else
            count += b->count;
    }
    return count;
}

bool queue_match(struct queue *q, const struct queue_filter *filter, uint64_t *cursor,
                 uint64_t *count)
{
    bool more = false;
    queue_lock_slice(q);
    if (filter->by == QUEUE_SELECT_ID) {
        struct queue_message *m = queue_message_find(q, filter->id);
        *count += m ? count_message(m, filter) : 0;
    } else {
        for (int i = 0; i < QUEUE_SCAN_MAX && *cursor < q->messages.made; i++) {
            struct queue_message *m = queue_pool_at(&q->messages, (uint32_t)(*cursor)++);
            *count += count_message(m, filter);
        }
        more = *cursor < q->messages.made;
    }
    queue_unlock(q, NULL, NULL);
    return more;
}
