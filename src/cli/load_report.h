// SPDX-License-Identifier: MIT
//
// load_report - what a load run measured: replies by code, failures, latencies in buckets
//
// Latencies fall into buckets whose width is at most 1/32 of their value, so percentiles are that
// exact.
#pragma once

#include <stdatomic.h>

#include "base/buf.h"
#include "base/clock.h"

#define LOAD_BUCKETS 1024
#define LOAD_ERRORS 32

struct load_report {
    // Read by the main thread for its progress line while the loop runs.
    _Atomic uint64_t messages, accepted;
    uint64_t messages_refused, messages_broken; // by a reply; by the connection
    uint64_t recipients_accepted, recipients_refused;
    uint64_t bytes, connections, connections_failed, resumed; // resumed: TLS sessions
    uint64_t replies[600];        // by code: the deciding reply of each recipient
    uint64_t errors[LOAD_ERRORS]; // by -enum err
    uint64_t latency_count, latency_us_max, latency_us_sum;
    uint32_t latency[LOAD_BUCKETS];
    struct mono first, last; // the first message's start, the last one's end
};

void load_report_latency(struct load_report *r, uint64_t us);
// The latency that `percent` of the messages stayed below, in microseconds.
uint64_t load_report_percentile(const struct load_report *r, double percent);
double load_report_seconds(const struct load_report *r);
// One JSON object and a newline; or lines for people.
void load_report_json(const struct load_report *r, struct buf *out);
void load_report_text(const struct load_report *r, struct buf *out);
