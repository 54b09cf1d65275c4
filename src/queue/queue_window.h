// SPDX-License-Identifier: MIT
//
// queue_window - counts events so that no stretch of the window's length ever holds more than the
// limit
//
// The window slides in slots. Counted is everything since the start of the slot that `length` ago
// fell in, so the count is never too small; the price is up to one slot's time of idleness (slots =
// 60: 1.7 %).
#pragma once

#include "base/buf.h"
#include "base/clock.h"

#define QUEUE_WINDOW_SLOTS_MAX 60

struct queue_window {
    int64_t slot_us;
    uint32_t slots;
    int64_t head; // number of the newest slot that was counted
    uint64_t sum;
    uint32_t counts[QUEUE_WINDOW_SLOTS_MAX + 1];
};

// length_us is a multiple of slots; slots at most QUEUE_WINDOW_SLOTS_MAX.
void queue_window_init(struct queue_window *w, int64_t length_us, uint32_t slots);
void queue_window_add(struct queue_window *w, struct mono now, uint32_t n);
uint64_t queue_window_used(struct queue_window *w, struct mono now);
// The earliest time, `now` or later, at which the count is below limit (> 0), if nothing is added.
struct mono queue_window_when(struct queue_window *w, struct mono now, uint64_t limit);

// Its counts by age, "AGE_US:COUNT,..." (ages are the least they can be); empty when nothing
// counts.
void queue_window_format(struct queue_window *w, struct mono now, struct buf *out);
// Adds counts that were formatted elapsed_us (>= 0) ago. E_SYNTAX: the part before the error
// counts.
int queue_window_restore(struct queue_window *w, struct bytes text, int64_t elapsed_us,
                         struct mono now) MUST_USE;
