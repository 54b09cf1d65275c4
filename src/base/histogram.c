// SPDX-License-Identifier: MIT
#include "base/histogram.h"

#define MS INT64_C(1000)
#define S (1000 * MS)
#define M (60 * S)
#define H (60 * M)

const int64_t histogram_bounds_us[HISTOGRAM_BOUNDS] = {
    1 * MS,   5 * MS / 2, 5 * MS,    10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS,
    500 * MS, 1 * S,      5 * S / 2, 5 * S,   10 * S,  30 * S,  1 * M,    5 * M,
    15 * M,   1 * H,      4 * H,     24 * H,  48 * H,  120 * H,
};

void histogram_add(struct histogram *h, int64_t us)
{
    int i = 0;
    us = us > 0 ? us : 0;
    while (i < HISTOGRAM_BOUNDS && us > histogram_bounds_us[i])
        i++;
    atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, (uint64_t)us, memory_order_relaxed);
}
