// SPDX-License-Identifier: MIT
//
// queue_slot - the process's connections (limits.connections), shared among lanes
//
// How it works: a lane that wants a connection while none is free waits in one of two lists, that of transactional mail
// first. Whoever gives a connection back hands it to the head of the lists: the lane has it *granted* until its worker
// looks at it, and then opens the connection or passes it on. Where somebody waits, idle connections of other lanes are
// closed, and so are, after their transaction, those of lanes that have more than the waiting one.
#include "queue/queue_inside.h"

#define SHARED_MESSAGES_MAX 100 // over one connection, while a lane that has none waits for it

static struct queue_lane *first_waiting(const struct queue *q)
{
    for (size_t i = 0; i < COUNT_OF(q->slots.waits); i++) {
        struct list *link = list_first(&q->slots.waits[i]);
        if (link)
            return list_get(link, struct queue_lane, slot_wait);
    }
    return NULL;
}

static void stop_waiting(struct queue *q, struct queue_lane *l)
{
    if (list_is_linked(&l->slot_wait))
        q->slots.waiting--;
    list_remove(&l->slot_wait);
}

void queue_slot_share(struct queue *q)
{
    struct queue_lane *l;
    while ((!q->connections_max || q->connections + q->slots.granted < q->connections_max) &&
           (l = first_waiting(q))) {
        stop_waiting(q, l);
        l->slot_granted = true;
        q->slots.granted++;
        queue_lane_touch(q, l);
    }
}

void queue_slot_leave(struct queue *q, struct queue_lane *l)
{
    stop_waiting(q, l);
    if (!l->slot_granted)
        return;
    l->slot_granted = false;
    q->slots.granted--;
    queue_slot_share(q);
}

// A lane that could do without an idle connection; each in turn.
static void ask_idle(struct queue *q)
{
    struct list *link = list_pop_front(&q->slots.idle);
    if (!link)
        return;
    list_push_back(&q->slots.idle, link);
    queue_lane_touch(q, list_get(link, struct queue_lane, slot_idle));
}

bool queue_slot_take(struct queue *q, struct queue_lane *l, bool urgent)
{
    bool granted = l->slot_granted;
    q->slots.granted -= granted;
    l->slot_granted = false;
    bool free = !q->connections_max || q->connections + q->slots.granted < q->connections_max;
    if (free && (granted || !q->slots.waiting)) {
        q->connections++;
        return true;
    }
    struct list *waits = &q->slots.waits[urgent ? 0 : 1];
    bool waited = list_is_linked(&l->slot_wait);
    if (waited && l->slot_urgent == urgent)
        return false;
    list_remove(&l->slot_wait);
    list_push_back(waits, &l->slot_wait);
    l->slot_urgent = urgent;
    q->slots.waiting += !waited;
    ask_idle(q);
    return false;
}

void queue_slot_give(struct queue *q)
{
    q->connections--;
    queue_slot_share(q);
}

void queue_slot_note_idle(struct queue *q, struct queue_lane *l)
{
    bool idle = false;
    for (int p = 0; p < QUEUE_PROOFS; p++)
        idle = idle || l->idle[p];
    if (!idle)
        list_remove(&l->slot_idle);
    else if (!list_is_linked(&l->slot_idle))
        list_push_back(&q->slots.idle, &l->slot_idle);
}

bool queue_slot_is_short(const struct queue *q)
{
    return q->slots.waiting > q->slots.closing;
}

void queue_slot_press(struct queue *q)
{
    if (queue_slot_is_short(q))
        ask_idle(q);
}

// So that nobody's connection goes to and fro, the waiting lane has at least two less, or none.
bool queue_slot_gives_way(const struct queue *q, const struct queue_connection *c, uint32_t others,
                          bool low)
{
    if (!queue_slot_is_short(q))
        return false;
    const struct queue_lane *l = first_waiting(q);
    uint32_t has = queue_lane_connections(l);
    if (l == c->lane)
        return false;
    return has < others ||
           (has == 0 && ((low && l->slot_urgent) || c->messages >= SHARED_MESSAGES_MAX));
}
