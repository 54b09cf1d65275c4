// SPDX-License-Identifier: MIT
//
// guard_notify - tells a service manager how the service is: sd_notify(3)'s protocol, without its library
//
// One datagram of lines NAME=VALUE to the Unix socket that $NOTIFY_SOCKET names. Without the variable nothing
// happens; a manager that does not listen is not waited for.
#pragma once

#include "base/bytes.h"

// All listeners accept: after the start, after a reload, whether it was taken or refused, and after an upgrade.
void guard_notify_ready(const char *status);
// A reload or an upgrade begins; guard_notify_ready() ends it.
void guard_notify_reloading(void);
// The end begins, and takes at most so long.
void guard_notify_stopping(int64_t at_most_ms);
// How many sockets the manager has left from descriptor GUARD_NOTIFY_SOCKETS on (sd_listen_fds(3)). Once: later none.
#define GUARD_NOTIFY_SOCKETS 3
int guard_notify_sockets(void);
