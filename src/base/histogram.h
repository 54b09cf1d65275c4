// SPDX-License-Identifier: MIT
//
// histogram - how long something took, counted in classes from 1 ms to 5 days
//
// One scale for all, so that any two can be compared; the classes are those of the metrics (each holds what took at most
// its bound, and more than the bound before).
//
// Thread: any; counts are relaxed, so that a reader may see a sum without its count for a moment.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS 22

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BOUNDS + 1]; // the last: beyond all bounds
    _Atomic uint64_t sum_us;
};

// In microseconds, rising.
extern const int64_t histogram_bounds_us[HISTOGRAM_BOUNDS];

// What took less than nothing (a clock was set back) took nothing.
void histogram_add(struct histogram *h, int64_t us);
