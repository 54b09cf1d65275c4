// SPDX-License-Identifier: MIT
//
// sys_core - what both implementations of sys.h share: a loop's timers and its turn-end list
//
// Each implementation embeds one in its struct sys_loop and hands it out by sys_core_of(); the
// functions sys_timer_set(), sys_timer_stop() and sys_at_turn_end() of sys.h are here, on top of
// it.
#pragma once

#include "sys/sys.h"

#define SYS_TURN_END_ROUNDS 16 // hooks that ask again run again, so many times in one turn

struct sys_core {
    struct heap timers;
    struct list turn_ends;
    int64_t firing_us; // timers are being fired, those due at this time; else 0
};

// By the implementation: the core inside its loop.
struct sys_core *sys_core_of(struct sys_loop *loop);

void sys_core_init(struct sys_core *core);
void sys_core_done(struct sys_core *core);
// When the next timer is due; MONO_NEVER if none is set.
struct mono sys_core_next_timer(const struct sys_core *core);
// Fires what is due at `now`; timers set meanwhile wait for the next call, even if due, and keep none waiting that
// was due before.
void sys_core_run_timers(struct sys_core *core, struct mono now);
// Runs the hooks asked for. True if some remain (asked for again too often): the turn must not
// block then.
bool sys_core_run_turn_ends(struct sys_core *core);
