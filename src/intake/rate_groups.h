// SPDX-License-Identifier: MIT
//
// rate_groups - how often something comes, counted by the minute for each of a fixed number of groups
//
// It forgets by itself, and whoever comes under many names fills no memory: two that share a group share its rate. Two
// threads that begin a minute at once may lose a count.
//
// Thread: any.
#pragma once

#include <stdatomic.h>

#include "base/bytes.h"
#include "base/clock.h"

#define RATE_GROUPS 1024

struct rate_groups {
    _Atomic uint64_t
        groups[RATE_GROUPS]; // the minute in the upper half, its count in the lower; zeroed: empty
};

// Counts one of `key`; false beyond `rate` in this minute.
bool rate_groups_take(struct rate_groups *g, struct bytes key, uint32_t rate, struct mono now);
