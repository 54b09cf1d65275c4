// SPDX-License-Identifier: MIT
//
// predecessor - the service that had this configuration before: does it live, or is it just dying?
//
// Who answers at the control socket is asked for its process. After a kill -9 that process may still hold sockets
// and locks for a moment, which a start has to wait for; one that lives keeps them.
#pragma once

#include <sys/types.h>

#include "base/err.h"

#define PREDECESSOR_WAIT_MS 5000 // for a dying one, and for a lock that nobody who lives holds
#define PREDECESSOR_LOOK_MS 50

// Returns once there is none, or one that was dying has gone, or PREDECESSOR_WAIT_MS have passed: OK.
// E_BUSY: one lives; *out_pid is the service's (its guard).
int predecessor_wait(const char *control, pid_t *out_pid) MUST_USE;
