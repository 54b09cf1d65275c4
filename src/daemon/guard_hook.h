// SPDX-License-Identifier: MIT
//
// guard_hook - runs the command that is told of alerts (alerts.command)
//
// The relay may start no program, so the guard does: sh -c COMMAND, one at a time, as the relay's user where the guard
// is root, the alert as one line of JSON on its standard input. What the alert says never becomes part of a command
// line. A POST to a web address is a command, too: curl -s --json @- URL.
//
// Limits: GUARD_HOOK_MAX alerts wait, further ones are dropped and logged; GUARD_HOOK_MS for one command, then it and
//         what it started are killed.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "conf/conf.h"

#define GUARD_HOOK_MAX 32
#define GUARD_HOOK_MS 30000

struct guard_hook {
    struct bytes waiting[GUARD_HOOK_MAX]; // owned
    uint32_t count;
    pid_t pid;          // 0: none runs
    int64_t kill_at_ms; // monotonic
};

// An alert; the command starts now, or when the one before has ended. `prepare(ctx)` runs in its process first.
void guard_hook_add(struct guard_hook *h, struct bytes alert);
// Starts the next command where none runs.
void guard_hook_next(struct guard_hook *h, const struct conf *conf, void (*prepare)(void *ctx),
                     void *ctx, int64_t now_ms);
// It has ended; its process was reaped.
void guard_hook_gone(struct guard_hook *h, int status);
// Kills a command that takes too long.
void guard_hook_look(struct guard_hook *h, int64_t now_ms);
// What runs is killed, what waits forgotten.
void guard_hook_done(struct guard_hook *h);
