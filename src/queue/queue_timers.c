// SPDX-License-Identifier: MIT
//
// queue_timers - when something is due to be said about each message, in 16 to 17 bytes a message
//
// How it works: a binary min-heap of item numbers; a message has its time and its place in the
// heap. base/heap.h would take twice as much, and there may be millions.
#include "queue/queue_inside.h"

#include <stdlib.h>

static struct queue_message *at(const struct queue *q, uint32_t item)
{
    return queue_pool_at(&q->messages, item);
}

static void place(struct queue *q, struct queue_timers *h, uint32_t i, uint32_t item)
{
    h->items[i] = item;
    at(q, item)->timer_place = i + 1;
}

static void sift_up(struct queue *q, struct queue_timers *h, uint32_t i, uint32_t item)
{
    int64_t key = at(q, item)->timer_us;
    while (i > 0 && key < at(q, h->items[(i - 1) / 2])->timer_us) {
        place(q, h, i, h->items[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(q, h, i, item);
}

static void sift_down(struct queue *q, struct queue_timers *h, uint32_t i, uint32_t item)
{
    int64_t key = at(q, item)->timer_us;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count &&
            at(q, h->items[child + 1])->timer_us < at(q, h->items[child])->timer_us)
            child++;
        if (at(q, h->items[child])->timer_us >= key)
            break;
        place(q, h, i, h->items[child]);
        i = child;
    }
    place(q, h, i, item);
}

static void settle(struct queue *q, struct queue_timers *h, uint32_t i, uint32_t item)
{
    if (i > 0 && at(q, item)->timer_us < at(q, h->items[(i - 1) / 2])->timer_us)
        sift_up(q, h, i, item);
    else
        sift_down(q, h, i, item);
}

static void add(struct queue *q, struct queue_timers *h, struct queue_message *m)
{
    CHECK(h->count < UINT32_MAX / 2);
    if (h->count == h->cap) {
        h->cap = h->cap ? h->cap + h->cap / 8 + 1 : 8;
        h->items = mem_resize(h->items, h->cap * sizeof(*h->items));
    }
    sift_up(q, h, h->count++, queue_message_item(q, m));
}

void queue_timers_set(struct queue *q, struct queue_timers *h, struct queue_message *m,
                      int64_t at_us)
{
    m->timer_us = at_us;
    if (m->timer_place)
        settle(q, h, m->timer_place - 1, h->items[m->timer_place - 1]);
    else
        add(q, h, m);
}

void queue_timers_remove(struct queue *q, struct queue_timers *h, struct queue_message *m)
{
    if (m->timer_place == 0)
        return;
    uint32_t i = m->timer_place - 1, last = h->items[--h->count];
    CHECK(at(q, h->items[i]) == m);
    m->timer_place = 0;
    if (at(q, last) != m)
        settle(q, h, i, last);
}

struct queue_message *queue_timers_first(const struct queue *q, const struct queue_timers *h)
{
    return h->count ? at(q, h->items[0]) : NULL;
}
