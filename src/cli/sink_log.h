// SPDX-License-Identifier: MIT
//
// sink_log - one JSON line for each recipient of each message taken in
//
// Lines of a turn are written together at its end.
//
// Owner:  the sink; fd is borrowed, -1: lines are counted only. Thread: the sink's loop.
#pragma once

#include "cli/sink_smtp.h"
#include "sys/sys.h"

struct sink_log {
    int fd;
    int err; // sticky: the first failed write
    struct buf lines;
    struct sys_turn_end end;
    uint64_t recipients, messages, bytes;
};

void sink_log_init(struct sink_log *log, int fd);
void sink_log_done(struct sink_log *log); // writes what is left
void sink_log_add(struct sink_log *log, const struct sink_message *m, struct wall at);
