// SPDX-License-Identifier: MIT
//
// guard_lines - the lines of the relay's workers to the private keys
//
// Limits:   GUARD_LINES_MAX workers; GUARD_LINES_BATCH answers of a line in one turn, so that a flood of handshakes
//           waits and the guard's other duties do not.
// Never:    blocks: an answer that the relay has no room for is dropped, its handshake runs into its time-out.
#pragma once

#include <poll.h>

#include "daemon/guard_keys.h"

#define GUARD_LINES_MAX 64
#define GUARD_LINES_BATCH 8

// Zeroed is empty.
struct guard_lines {
    int fds[GUARD_LINES_MAX];
    size_t count;
};

// Takes a descriptor over. One too many is closed.
void guard_lines_add(struct guard_lines *lines, int fd);
void guard_lines_done(struct guard_lines *lines);
// Fills in what to poll; how many.
size_t guard_lines_poll(const struct guard_lines *lines, struct pollfd out[GUARD_LINES_MAX]);
// Answers what has come, by what poll(2) said of them.
void guard_lines_serve(struct guard_lines *lines, struct guard_keys *keys,
                       const struct pollfd *polled);
