// SPDX-License-Identifier: MIT
//
// queue_slot - the process's connections (limits.connections), shared among lanes
//
// How it works: a lane that wants a connection while none is free waits in the list of its rank: lanes that have none
// come before those that want more (law 9), and among both those with transactional mail come first; for that mail a
// connection that is busy with other mail, perhaps for long, is none. Whoever gives a connection back hands it to the
// head of the lists: the lane has it *granted* until its worker looks at it, and then opens the connection or passes it
// on. Where somebody waits, idle connections of other lanes are closed, and so are, after their transaction, those of
// lanes that have more than the waiting one.
#include "queue/queue_inside.h"

// Messages over one connection, while a lane that has none waits for it. With transactional mail that lane waits for
// none of other mail, or for few if it has connections that are busy with such: one of these may be free before.
#define SHARED_MESSAGES_MAX 100
#define SHARED_LOW_MAX 10

static uint8_t rank_of(const struct queue_lane *l, bool urgent)
{
    uint32_t has = queue_lane_connections(l) - (urgent ? l->busy_low : 0);
    return (uint8_t)((has ? 2 : 0) + (urgent ? 0 : 1));
}

static bool has_none(uint8_t rank)
{
    return rank < 2;
}

static bool is_urgent(uint8_t rank)
{
    return (rank & 1) == 0;
}

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
    uint8_t rank = rank_of(l, urgent);
    bool waited = list_is_linked(&l->slot_wait);
    if (waited && l->slot_rank == rank)
        return false;
    list_remove(&l->slot_wait);
    list_push_back(&q->slots.waits[rank], &l->slot_wait);
    l->slot_rank = rank;
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

// The next of its rank, behind one that waits, or NULL.
static struct queue_lane *behind(const struct queue *q, const struct queue_lane *l)
{
    struct list *next = l->slot_wait.next;
    return next == &q->slots.waits[l->slot_rank] ? NULL
                                                 : list_get(next, struct queue_lane, slot_wait);
}

// So that nobody's connection goes to and fro, the waiting lane has at least two less, or none.
static bool has_more_right(const struct queue_lane *l, const struct queue_connection *c,
                           uint32_t others, bool low)
{
    uint32_t has = queue_lane_connections(l), most = SHARED_MESSAGES_MAX;
    if (!low)
        others -= c->lane->busy_low; // none for its mail, either
    else if (is_urgent(l->slot_rank))
        most = has ? SHARED_LOW_MAX : 0;
    return has < others || (has_none(l->slot_rank) && c->messages >= most);
}

// The first in line gets what is free: if that is the lane itself, it goes behind whom it gives way to.
bool queue_slot_gives_way(struct queue *q, const struct queue_connection *c, uint32_t others,
                          bool low)
{
    if (!queue_slot_is_short(q))
        return false;
    struct queue_lane *first = first_waiting(q), *l = first == c->lane ? behind(q, first) : first;
    if (!l || !has_more_right(l, c, others, low))
        return false;
    if (first != l) {
        list_remove(&first->slot_wait);
        list_push_back(&q->slots.waits[first->slot_rank], &first->slot_wait);
    }
    return true;
}
