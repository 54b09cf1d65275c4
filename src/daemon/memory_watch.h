// SPDX-License-Identifier: MIT
//
// memory_watch - says when the relay has taken as much memory as it may
//
// New mail is refused then (452), instead of the kernel ending the relay and with it all sessions, again and again where
// it is the queue that does not fit. What it takes is what it can't give back by itself: resident and of no file.
//
// Owner:  the relay, one. Thread: any may ask; the limit is set on the main loop.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sys/sys_process.h"

#define MEMORY_LOOK_MS 20        // a look is good for so long
#define MEMORY_LOOK_SHORT_MS 250 // where it is short: what is not used is given back between two

struct memory_watch;
// `process` outlives it. max_bytes 0: nine tenths of what the machine, or a control group of this process, has.
struct memory_watch *memory_watch_new(struct sys_process *process, uint64_t max_bytes);
// What is resident and free for new mail all the same, as a queue's memory never shrinks: it does not count. Asked once the
// limit is reached, on the thread that asks.
void memory_watch_set_free(struct memory_watch *w, uint64_t (*free_bytes)(void *ctx), void *ctx);
// While it is short, each look has tell(ctx) called, on the thread that asks: to have threads mem_give_back().
void memory_watch_on_short(struct memory_watch *w, void (*tell)(void *ctx), void *ctx);
void memory_watch_free(struct memory_watch *w);
void memory_watch_set_max(struct memory_watch *w, uint64_t max_bytes);
// 0: not known, so there is none.
uint64_t memory_watch_max(const struct memory_watch *w);
// For struct intake_port: `watch` is a struct memory_watch.
bool memory_watch_is_short(void *watch);
