// SPDX-License-Identifier: MIT
//
// queue_work - what a worker does next
//
// How it works: each kind of work has a step function that either has something to hand out or has
// not; queue_next() asks them in turn, beginning behind the one that last had something, so that no
// kind starves another. What is to be judged has to be read first: a worker that has enough of it is asked for
// the rest only, at full speed (a flood of expiries does not stop connections).
#include "queue/queue_inside.h"

#include <stdio.h>
#include <stdlib.h>

#define LANE_LOOK_MS 600000 // an empty lane with running windows is looked at again
#define STEPS_MAX 64        // bookkeeping steps in one call, before it says "again at once"

enum step { STEP_NOTHING, STEP_AGAIN, STEP_WORK }; // AGAIN: something moved, nothing to hand out

// ---- messages: warnings and the end of lifetimes ----

static bool may_end(const struct queue_bundle *b)
{
    return b->state == BUNDLE_WAITING || b->state == BUNDLE_READY;
}

static bool may_warn(const struct queue_bundle *b)
{
    return may_end(b) && (b->flags & (BUNDLE_WARNABLE | BUNDLE_WARNED)) == BUNDLE_WARNABLE;
}

static struct queue_batch *lease_where(struct queue *q, struct queue_message *m,
                                       bool (*wanted)(const struct queue_bundle *b),
                                       struct queue_now now)
{
    struct queue_bundle *chain = NULL, **tail = &chain;
    for (struct queue_bundle *b = m->bundles; b; b = b->next) {
        if (!wanted(b))
            continue;
        queue_bundle_lease(q, b);
        *tail = b;
        tail = &b->next_leased;
    }
    return chain ? queue_batch_new(q, m, chain, now) : NULL;
}

// Why nothing came of it so far, as far as its domain or its lane knows.
static void explain(const struct queue_message *m, struct queue_work *out)
{
    out->text[0] = '\0';
    for (const struct queue_bundle *b = m->bundles; b && !out->text[0]; b = b->next) {
        const struct queue_domain *d = b->domain;
        const char *text = d->refusal                 ? d->refusal->text
                           : d->lane && d->lane->text ? d->lane->text
                                                      : "";
        snprintf(out->text, sizeof(out->text), "%s", text);
    }
}

static enum step step_messages(struct queue *q, struct queue_worker *w, struct queue_now now,
                               struct queue_work *out)
{
    struct queue_message *m = queue_timers_first(q, &w->messages);
    if (!m || m->timer_us > now.mono.us)
        return STEP_NOTHING;
    explain(m, out);
    if (m->expires_us <= now.mono.us) {
        queue_timers_remove(q, &w->messages, m); // set again when something comes back
        out->kind = QUEUE_EXPIRE;
        out->batch = lease_where(q, m, may_end, now);
    } else {
        m->warn_passed = true;
        queue_timers_set(q, &w->messages, m, m->expires_us);
        out->kind = QUEUE_WARN;
        out->batch = lease_where(q, m, may_warn, now);
    }
    return out->batch ? STEP_WORK : STEP_AGAIN;
}

// ---- domains ----

static enum step step_domains(struct queue *q, struct queue_worker *w, struct queue_now now,
                              struct queue_work *out)
{
    (void)out;
    struct heap_node *first = heap_first(&w->domains);
    if (!first || first->key > now.mono.us)
        return STEP_NOTHING;
    queue_domain_wake(q, container_of(first, struct queue_domain, wake), now);
    return STEP_AGAIN;
}

static enum step step_resolve(struct queue *q, struct queue_worker *w, struct queue_now now,
                              struct queue_work *out)
{
    (void)q, (void)now;
    struct list *link = list_pop_front(&w->resolve);
    if (!link)
        return STEP_NOTHING;
    struct queue_domain *d = list_get(link, struct queue_domain, work);
    d->state = DOMAIN_RESOLVING;
    out->kind = QUEUE_RESOLVE;
    out->domain = d;
    out->route = d->route;
    snprintf(out->name, sizeof(out->name), "%s", d->name);
    return STEP_WORK;
}

static enum step step_drain(struct queue *q, struct queue_worker *w, struct queue_now now,
                            struct queue_work *out)
{
    struct list *link = list_first(&w->drain);
    if (!link)
        return STEP_NOTHING;
    struct queue_domain *d = list_get(link, struct queue_domain, work);
    struct heap_node *first = heap_first(&d->waiting);
    if (!first || first->key > d->until_us) {
        list_remove(&d->work);
        d->state = DOMAIN_UNRESOLVED;
        free(d->refusal);
        d->refusal = NULL;
        queue_domain_check(q, d);
        return STEP_AGAIN;
    }
    struct queue_bundle *b = container_of(first, struct queue_bundle, due);
    queue_bundle_lease(q, b);
    out->kind = d->refusal->reroute ? QUEUE_REROUTE : QUEUE_FAIL;
    out->batch = queue_batch_new(q, b->message, b, now);
    out->code = d->refusal->code;
    snprintf(out->enhanced, sizeof(out->enhanced), "%s", d->refusal->enhanced);
    snprintf(out->text, sizeof(out->text), "%s", d->refusal->text);
    return STEP_WORK;
}

// ---- lanes and notes ----

// A lane that nobody needs: forgotten once nothing of it has to last.
static void retire(struct queue *q, struct queue_lane *l, struct queue_now now)
{
    if (l->domains_count || l->batches || l->note_pending || queue_lane_connections(l))
        return;
    int64_t rests = queue_lane_rests(q, l, now), look = mono_add_ms(now.mono, LANE_LOOK_MS).us;
    if (l->backoff_us > now.mono.us || rests > now.mono.us) {
        heap_move(&q->workers[l->worker].lanes, &l->wake,
                  rests > now.mono.us && rests < look ? rests : look);
        return;
    }
    l->failures = 0;
    if (l->note_kept)
        queue_note_want(q, l); // takes it back; queue_saved() touches the lane again
    else
        queue_lane_free(q, l);
}

static enum step step_lanes(struct queue *q, struct queue_worker *w, struct queue_now now,
                            struct queue_work *out)
{
    struct heap_node *first = heap_first(&w->lanes);
    if (first && first->key <= now.mono.us) {
        struct queue_lane *l = container_of(first, struct queue_lane, wake);
        heap_remove(&w->lanes, &l->wake);
        queue_lane_touch(q, l);
        return STEP_AGAIN;
    }
    struct list *link = list_first(&w->touched);
    if (!link)
        return STEP_NOTHING;
    struct queue_lane *l = list_get(link, struct queue_lane, work);
    list_remove(link);
    if (queue_note_block(l) && l->tokens == 0 && !l->note_pending && queue_lane_has_ready(l))
        queue_note_want(q, l);
    if (queue_lane_decide(q, l, now, out)) {
        list_push_back(&w->touched, &l->work); // it may want more; others first
        return STEP_WORK;
    }
    retire(q, l, now);
    return STEP_AGAIN;
}

static enum step step_notes(struct queue *q, struct queue_worker *w, struct queue_now now,
                            struct queue_work *out)
{
    struct list *link = list_pop_front(&w->notes);
    if (!link)
        return STEP_NOTHING;
    struct queue_lane *l = list_get(link, struct queue_lane, note_work);
    uint32_t block = queue_lane_has_ready(l) || l->batches ? queue_note_block(l) : 0;
    queue_note_make(q, l, now, block * 2, &out->note);
    l->note_pending = true;
    l->note_again = false;
    out->kind = QUEUE_SAVE;
    return STEP_WORK;
}

// ---- all together ----

static const struct {
    enum step (*run)(struct queue *q, struct queue_worker *w, struct queue_now now,
                     struct queue_work *out);
    bool judges; // hands out what is to be judged
} STEPS[] = {{step_messages, true}, {step_domains, false}, {step_resolve, false},
             {step_drain, true},    {step_lanes, false},   {step_notes, false}};

static struct mono next_time(const struct queue *q, const struct queue_worker *w, bool judges)
{
    const struct heap *heaps[] = {&w->domains, &w->lanes};
    struct mono until = MONO_NEVER;
    const struct queue_message *m = judges ? queue_timers_first(q, &w->messages) : NULL;
    if (m)
        until.us = m->timer_us;
    for (size_t i = 0; i < COUNT_OF(heaps); i++) {
        struct heap_node *first = heap_first(heaps[i]);
        if (first)
            until = mono_min(until, (struct mono){first->key});
    }
    return until;
}

static void clear_work(struct queue_work *out)
{
    out->kind = QUEUE_IDLE;
    out->until = MONO_NEVER;
    out->domain = NULL;
    out->lane = NULL;
    out->batch = NULL;
    out->connection = (struct queue_connection){0};
    out->code = 0;
    out->route = out->hosts_len = out->note.value_len = 0;
    out->enhanced[0] = out->text[0] = out->name[0] = out->note.name[0] = '\0';
}

void queue_next(struct queue *q, uint32_t worker, bool judges, struct queue_now now,
                struct queue_work *out, uint64_t *kicks)
{
    CHECK(worker < q->workers_count);
    clear_work(out);
    queue_lock(q);
    q->born_us = q->born_us ? q->born_us : now.mono.us;
    struct queue_worker *w = &q->workers[worker];
    uint32_t quiet = 0, done = 0;
    while (quiet < COUNT_OF(STEPS) && done < STEPS_MAX && out->kind == QUEUE_IDLE) {
        bool skips = STEPS[w->step].judges && !judges;
        enum step step = skips ? STEP_NOTHING : STEPS[w->step].run(q, w, now, out);
        if (step != STEP_WORK)
            out->kind = QUEUE_IDLE;
        quiet = step == STEP_NOTHING ? quiet + 1 : 0;
        done++;
        w->step = (w->step + 1) % COUNT_OF(STEPS);
    }
    if (out->kind == QUEUE_IDLE)
        out->until = quiet < COUNT_OF(STEPS) ? now.mono : next_time(q, w, judges);
    queue_unlock(q, kicks, NULL);
}
