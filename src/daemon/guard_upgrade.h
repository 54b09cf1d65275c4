// SPDX-License-Identifier: MIT
//
// guard_upgrade - becoming the program that is now installed, in the same process and with the same sockets
//
// The next program is looked for where this one was started from, asked whether it takes the configuration, and at
// last executed; it finds the listening sockets by an environment variable.
//
// Owner:  the guard. Thread: its only one.
// Limits: GUARD_UPGRADE_CHECK_MS for the check, during which the guard does nothing else.
#pragma once

#include <limits.h>

#include "daemon/guard_sockets.h"

#define GUARD_UPGRADE_CHECK_MS 10000

// What `posthaste serve` was called with; borrowed. NULL: not given.
struct guard_upgrade {
    const char *config, *ready_file;
    char program[PATH_MAX]; // this program's file
};

// At the start, before another file may stand there.
void guard_upgrade_init(struct guard_upgrade *u, const char *config, const char *ready_file);
// Does the installed program run here, and does it take the configuration? What it says goes to standard error.
bool guard_upgrade_agrees(const struct guard_upgrade *u);
// Becomes it. Returns only if that fails, with all as it was; the reason is logged.
void guard_upgrade_become(const struct guard_upgrade *u, const struct guard_sockets *sockets);
// The sockets that the program before left, if one did.
void guard_upgrade_take(struct guard_sockets *sockets);
