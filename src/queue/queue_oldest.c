// SPDX-License-Identifier: MIT
//
// How it works: an id tells when its message came, so that nothing is kept for it. A sweep looks at all messages, a
// slice at a time, and notes the oldest of each lane; what the last whole sweep found is what is told. Sweeps are
// apart by what they take, so that asking often costs no more.
#include "queue/queue_inside.h"

#define PAUSE_MIN_US 900000
#define PAUSE_US_PER_MESSAGE 1 // ten times what the look at one takes, and more

static void note(int64_t *oldest, int64_t at_us)
{
    if (!*oldest || at_us < *oldest)
        *oldest = at_us;
}

// What is on hold, or scheduled, waits for nobody.
static void look_at(struct queue *q, const struct queue_message *m)
{
    int64_t at_us = message_id_time(m->id).us;
    for (const struct queue_bundle *b = m->bundles; b; b = b->next) {
        struct queue_lane *lane = b->domain->lane;
        if (b->state == BUNDLE_HELD || (b->state == BUNDLE_WAITING && b->flags & BUNDLE_SCHEDULED))
            continue;
        note(&q->oldest.found_us, at_us);
        if (!lane)
            continue;
        if (lane->oldest.sweep != q->oldest.sweep)
            lane->oldest.found_us = 0;
        lane->oldest.sweep = q->oldest.sweep;
        note(&lane->oldest.found_us, at_us);
    }
}

static void publish(struct queue *q)
{
    q->oldest.told_us = q->oldest.found_us;
    for (uint32_t i = 0; i < q->lanes.made; i++) {
        struct queue_lane *l = queue_pool_at(&q->lanes, i);
        if (l->name)
            l->oldest.told_us = l->oldest.sweep == q->oldest.sweep ? l->oldest.found_us : 0;
    }
}

// False: that was the last slice.
static bool look_on(struct queue *q, struct queue_now now)
{
    if (q->oldest.next == 0 && now.mono.us < q->oldest.again_us)
        return false;
    if (q->oldest.next == 0) {
        q->oldest.sweep++;
        q->oldest.found_us = 0;
    }
    for (int i = 0; i < QUEUE_SCAN_MAX && q->oldest.next < q->messages.made; i++) {
        const struct queue_message *m = queue_pool_at(&q->messages, q->oldest.next++);
        if (m->bundles)
            look_at(q, m);
    }
    if (q->oldest.next < q->messages.made)
        return true;
    publish(q);
    int64_t pause_us = (int64_t)q->messages.made * PAUSE_US_PER_MESSAGE;
    q->oldest.next = 0;
    q->oldest.again_us = now.mono.us + (pause_us > PAUSE_MIN_US ? pause_us : PAUSE_MIN_US);
    return false;
}

void queue_look_for_oldest(struct queue *q, struct queue_now now)
{
    for (bool more = true; more;) {
        queue_lock_slice(q);
        more = look_on(q, now);
        queue_unlock(q, NULL, NULL);
    }
}
