// SPDX-License-Identifier: MIT
#include "sys/sys_core.h"

void sys_core_init(struct sys_core *core)
{
    *core = (struct sys_core){0};
    list_init(&core->turn_ends);
}

// Timers left set belong to a loop that is no more: they are not set from here on.
void sys_core_done(struct sys_core *core)
{
    for (struct heap_node *node; (node = heap_first(&core->timers)) != NULL;)
        heap_remove(&core->timers, node);
    heap_done(&core->timers);
}

struct mono sys_core_next_timer(const struct sys_core *core)
{
    const struct heap_node *first = heap_first(&core->timers);
    return first ? (struct mono){first->key} : MONO_NEVER;
}

// What is set meanwhile is set for `now` at the earliest, so it comes behind all that was due when we began.
void sys_core_run_timers(struct sys_core *core, struct mono now)
{
    uint32_t end = core->timers.next_order;
    struct heap_node *first;
    core->firing_us = now.us;
    while ((first = heap_first(&core->timers)) != NULL && first->key <= now.us &&
           (int32_t)(first->order - end) < 0) {
        struct sys_timer *timer = container_of(first, struct sys_timer, node);
        heap_remove(&core->timers, first);
        timer->fire(timer);
    }
    core->firing_us = 0;
}

static void run_round(struct sys_core *core)
{
    struct list round;
    list_init(&round);
    for (struct list *link; (link = list_pop_front(&core->turn_ends)) != NULL;)
        list_push_back(&round, link);
    // Popped one at a time: a hook may free others of its round, which unlink themselves.
    for (struct list *link; (link = list_pop_front(&round)) != NULL;) {
        struct sys_turn_end *end = list_get(link, struct sys_turn_end, link);
        end->fn(end);
    }
}

bool sys_core_run_turn_ends(struct sys_core *core)
{
    for (int i = 0; i < SYS_TURN_END_ROUNDS && !list_is_empty(&core->turn_ends); i++)
        run_round(core);
    return !list_is_empty(&core->turn_ends);
}

void sys_at_turn_end(struct sys_turn_end *end)
{
    if (!list_is_linked(&end->link))
        list_push_back(&sys_core_of(sys_loop_self())->turn_ends, &end->link);
}

void sys_timer_set(struct sys_timer *timer, struct mono at)
{
    struct sys_loop *self = sys_loop_self();
    CHECK(!sys_timer_is_set(timer) || timer->loop == self);
    timer->loop = self;
    struct sys_core *core = sys_core_of(self);
    heap_move(&core->timers, &timer->node, at.us > core->firing_us ? at.us : core->firing_us);
}

void sys_timer_stop(struct sys_timer *timer)
{
    if (!sys_timer_is_set(timer))
        return;
    CHECK(timer->loop == sys_loop_self());
    heap_remove(&sys_core_of(timer->loop)->timers, &timer->node);
}

// Draws again where the range does not divide evenly, so that every value is equally likely.
uint64_t sys_random_below(uint64_t bound)
{
    CHECK(bound > 0);
    uint64_t first_fair = -bound % bound, value; // 2^64 mod bound
    do
        sys_random(&value, sizeof value);
    while (value < first_fair);
    return value % bound;
}
