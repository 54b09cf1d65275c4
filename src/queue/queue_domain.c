// SPDX-License-Identifier: MIT
//
// queue_domain - where recipients wait: due times, resolution once for all, DNS backoff
//
// How it works: a domain has one wake-up in its worker's heap, set by queue_domain_check(): when
// the first bundle is due, when its resolution must be renewed (only while mail depends on it),
// when its backoff ends, or when it may be forgotten. queue_domain_wake() then moves bundles on or
// asks.
#include "queue/queue_inside.h"

#include <stdlib.h>

uint64_t queue_domain_hash(const struct queue_hash_node *node)
{
    return container_of(node, struct queue_domain, hash)->name_hash;
}

struct bytes queue_domain_name(const struct queue_domain *d)
{
    return bytes_of(d->name, d->name_len);
}

struct queue_domain *queue_domain_get(struct queue *q, uint32_t route, struct bytes name)
{
    CHECK(name.len <= QUEUE_NAME_MAX);
    uint64_t of_name = map_hash(name);
    uint32_t hash = (uint32_t)(of_name ^ queue_hash_mix(route));
    for (struct queue_hash_node *n = queue_hash_chain(&q->by_domain, hash); n; n = n->next) {
        struct queue_domain *d = container_of(n, struct queue_domain, hash);
        if (d->name_hash == hash && d->route == route && bytes_eq(queue_domain_name(d), name))
            return d;
    }
    struct queue_domain *d = queue_pool_new(&q->domains);
    d->name_hash = hash;
    d->name = mem_new(name.len + 1);
    memcpy(d->name, name.at ? name.at : "", name.len);
    d->name_len = (uint8_t)name.len;
    q->names_bytes += mem_chunk_bytes(d->name);
    d->route = route;
    d->worker = (uint8_t)(of_name % q->workers_count);
    list_init(&d->flows);
    queue_hash_add(&q->by_domain, &d->hash);
    return d;
}

void queue_domain_free(struct queue *q, struct queue_domain *d)
{
    CHECK(d->bundles == 0 && list_is_empty(&d->flows));
    heap_remove(&q->workers[d->worker].domains, &d->wake);
    list_remove(&d->work);
    queue_lane_join(q, d, NULL, QUEUE_PROOF_NONE);
    queue_hash_remove(&q->by_domain, &d->hash);
    q->names_bytes -= mem_chunk_bytes(d->name);
    queue_waiting_free(q, d);
    free(d->name);
    free(d->refusal);
    queue_pool_free(&q->domains, d);
}

// When the domain needs attention next; INT64_MAX: not by itself.
static int64_t wake_time(const struct queue_domain *d)
{
    struct heap_node *first = heap_first(&d->waiting);
    switch ((enum domain_state)d->state) {
    case DOMAIN_ASKING:
    case DOMAIN_RESOLVING:
    case DOMAIN_DRAINING:
        return INT64_MAX;
    case DOMAIN_UNRESOLVED:
        if (!list_is_empty(&d->flows)) // mail goes on over what was known last
            return INT64_MIN;
        return first ? first->key : INT64_MAX;
    case DOMAIN_BACKOFF:
        return d->until_us;
    case DOMAIN_RESOLVED:
        break;
    }
    // Renewed while mail is ready, forgotten when none is left, moved on when something is due.
    bool until_counts = d->bundles == 0 || !list_is_empty(&d->flows);
    int64_t at = until_counts ? d->until_us : INT64_MAX;
    return first && first->key < at ? first->key : at;
}

void queue_domain_check(struct queue *q, struct queue_domain *d)
{
    bool passive =
        d->state == DOMAIN_UNRESOLVED || d->state == DOMAIN_ASKING || d->state == DOMAIN_BACKOFF;
    if (d->bundles == 0 && passive) {
        queue_domain_free(q, d);
        return;
    }
    struct heap *h = &q->workers[d->worker].domains;
    int64_t at = wake_time(d);
    if (at == INT64_MAX) {
        heap_remove(h, &d->wake);
        return;
    }
    if (heap_has(&d->wake) && d->wake.key == at)
        return;
    heap_move(h, &d->wake, at);
    if (heap_first(h) == &d->wake)
        queue_kick(q, d->worker);
}

static void ask(struct queue *q, struct queue_domain *d)
{
    d->state = DOMAIN_ASKING;
    list_push_back(&q->workers[d->worker].resolve, &d->work);
    queue_domain_check(q, d);
}

static void promote(struct queue *q, struct queue_domain *d, struct queue_now now)
{
    for (int i = 0; i < QUEUE_PROMOTE_MAX; i++) {
        struct heap_node *first = heap_first(&d->waiting);
        if (!first || first->key > now.mono.us)
            break;
        struct queue_bundle *b = container_of(first, struct queue_bundle, due);
        queue_bundle_ready(
            q, b, queue_flow_get(q, d, b->message->account, b->message->class, b->message->level));
    }
    queue_lane_touch(q, d->lane);
    queue_domain_check(q, d);
}

void queue_domain_wake(struct queue *q, struct queue_domain *d, struct queue_now now)
{
    struct heap_node *first = heap_first(&d->waiting);
    bool due = first && first->key <= now.mono.us, over = d->until_us <= now.mono.us;
    if (d->state == DOMAIN_BACKOFF && over) {
        d->state = DOMAIN_UNRESOLVED;
        queue_domain_check(q, d);
    } else if (d->state == DOMAIN_UNRESOLVED && (due || !list_is_empty(&d->flows))) {
        ask(q, d);
    } else if (d->state == DOMAIN_RESOLVED && over && d->bundles == 0) {
        queue_domain_free(q, d);
    } else if (d->state == DOMAIN_RESOLVED && over) {
        ask(q, d); // something is due or ready
    } else if (d->state == DOMAIN_RESOLVED && due) {
        promote(q, d, now);
    } else {
        queue_domain_check(q, d);
    }
}

static void set_refusal(struct queue_domain *d, const struct queue_failure *f, bool reroute)
{
    free(d->refusal);
    struct bytes text = f ? bytes_first(f->text, QUEUE_TEXT_MAX) : BYTES_NONE;
    struct bytes enhanced = f ? f->enhanced : BYTES_NONE;
    d->refusal = mem_new(sizeof(*d->refusal) + text.len + 1);
    d->refusal->code = f ? f->code : 0;
    d->refusal->reroute = reroute;
    enhanced = bytes_first(enhanced, sizeof(d->refusal->enhanced) - 1);
    if (enhanced.len)
        memcpy(d->refusal->enhanced, enhanced.at, enhanced.len);
    if (text.len)
        memcpy(d->refusal->text, text.at, text.len);
}

static void forget_refusal(struct queue_domain *d)
{
    free(d->refusal);
    d->refusal = NULL;
}

// What is ready goes back to waiting, due now: the way it was going is closed.
static void call_back(struct queue *q, struct queue_domain *d, struct queue_now now)
{
    while (!list_is_empty(&d->flows)) {
        struct queue_flow *f = list_get(list_first(&d->flows), struct queue_flow, of_domain);
        struct list *link = list_first(&f->bundles);
        CHECK(link); // its last bundle takes the flow along
        queue_bundle_wait(q, list_get(link, struct queue_bundle, ready), now.mono.us);
    }
    queue_lane_join(q, d, NULL, QUEUE_PROOF_NONE);
}

void queue_resolved(struct queue *q, struct queue_domain *d, const struct queue_resolution *r,
                    struct queue_now now, uint64_t *kicks)
{
    CHECK(r->lane.len > 0 && r->lane.len <= QUEUE_LANE_MAX && r->hosts.len <= QUEUE_HOSTS_MAX);
    CHECK(r->proof < QUEUE_PROOFS);
    queue_lock(q);
    CHECK(d->state == DOMAIN_RESOLVING);
    forget_refusal(d);
    int64_t ttl_ms = r->ttl_ms > QUEUE_RESOLVED_MIN_MS ? r->ttl_ms : QUEUE_RESOLVED_MIN_MS;
    d->state = DOMAIN_RESOLVED;
    d->failures = 0;
    d->until_us = mono_add_ms(now.mono, ttl_ms).us;
    struct queue_lane *l = queue_lane_get(q, r->lane);
    queue_lane_update(q, l, r);
    queue_lane_join(q, d, l, r->proof);
    queue_domain_check(q, d);
    queue_unlock(q, kicks, NULL);
}

void queue_unresolved(struct queue *q, struct queue_domain *d, enum queue_unresolved how,
                      const struct queue_failure *failure, struct queue_now now, uint64_t *kicks)
{
    queue_lock(q);
    CHECK(d->state == DOMAIN_RESOLVING);
    set_refusal(d, failure, how == QUEUE_UNRESOLVED_REROUTE);
    if (how == QUEUE_UNRESOLVED_DEFER) {
        int64_t ms = queue_retry_ms(q, d->failures);
        ms += (int64_t)(queue_random(q) % (uint64_t)(ms * QUEUE_JITTER_PERCENT / 100 + 1));
        if (d->failures < UINT16_MAX)
            d->failures++;
        d->state = DOMAIN_BACKOFF;
        d->until_us = mono_add_ms(now.mono, ms).us;
    } else {
        d->until_us = now.mono.us;
        d->failures = 0;
        d->state = DOMAIN_DRAINING;
        call_back(q, d, now);
        list_push_back(&q->workers[d->worker].drain, &d->work);
        queue_kick(q, d->worker);
    }
    queue_domain_check(q, d);
    queue_unlock(q, kicks, NULL);
}

// What is being failed, by an answer or a table that may be another now: the rest of it is asked about anew.
static void stop_failing(struct queue *q, struct queue_domain *d)
{
    if (d->state != DOMAIN_DRAINING || d->refusal->reroute)
        return;
    list_remove(&d->work);
    d->state = DOMAIN_UNRESOLVED;
    forget_refusal(d);
    queue_domain_check(q, d);
}

void queue_resolve_again(struct queue *q, uint32_t worker, struct queue_now now, uint64_t *kicks)
{
    queue_lock(q);
    for (uint32_t i = 0; i < q->domains.made; i++) {
        struct queue_domain *d = queue_pool_at(&q->domains, i);
        if (!d->name || d->worker != worker)
            continue;
        if (d->state == DOMAIN_RESOLVED && d->until_us > now.mono.us) {
            d->until_us = now.mono.us;
            queue_domain_check(q, d);
        }
        queue_domain_retry_now(q, d); // where DNS had failed
        if (d->name)                  // still there
            stop_failing(q, d);
    }
    queue_unlock(q, kicks, NULL);
}

void queue_domain_retry_now(struct queue *q, struct queue_domain *d)
{
    if (d->state == DOMAIN_BACKOFF) {
        d->state = DOMAIN_UNRESOLVED;
        queue_domain_check(q, d);
    }
}
