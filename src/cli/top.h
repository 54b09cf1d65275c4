// SPDX-License-Identifier: MIT
//
// top - what the service does just now, as one frame of text
//
// Pure: two looks at its counters and lanes, a while apart, become lines.
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"

#define TOP_LANES_MAX 1000 // the busiest are shown; beyond these none is looked at

enum top_counter {
    TOP_ACCEPTED,
    TOP_REFUSED,
    TOP_DELIVERED,
    TOP_DEFERRED,
    TOP_FAILED,
    TOP_SENT_BYTES,
    TOP_FLUSHES,
    // from here on what is now, no sum
    TOP_SESSIONS,
    TOP_CONNECTIONS,
    TOP_QUEUED,
    TOP_SCHEDULED,
    TOP_HELD,
    TOP_ACTIVE,
    TOP_OLDEST, // seconds
    TOP_ACCEPTING,
    TOP_LOADING,
    TOP_COUNTERS,
};

struct top_lane {
    struct bytes name, text, backoff_until; // in the look's arena
    uint64_t ready, connections, connections_max, busy, hour_used;
    int64_t oldest_s; // how long its oldest message waits; -1: nothing does
};

struct top_look {
    struct arena arena;
    struct mono at;
    double values[TOP_COUNTERS];
    struct top_lane lanes[TOP_LANES_MAX];
    size_t lanes_count;
    struct bytes alerts[16]; // names of those that are raised
    size_t alerts_count;
};

// A line of /metrics; others are passed over.
void top_take_metric(struct top_look *look, struct bytes line);
// What grew between the looks, a second. Of what is no sum: what it is now.
double top_rate(const struct top_look *before, const struct top_look *now,
                enum top_counter counter);
// In words: the one limit that binds the lane now; "-" for none.
struct bytes top_binding(const struct top_lane *lane, struct arena *arena);
// At most `height` lines of at most `width` characters (0: no limit). Sorts the lanes of *now.
void top_frame(const struct top_look *before, struct top_look *now, uint32_t width, uint32_t height,
               struct buf *out);
