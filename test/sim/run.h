// SPDX-License-Identifier: MIT
//
// run - one seed: a relay between clients and receivers, with crashes, disk faults and peers that misbehave
#pragma once

#include "book.h"

#define RUN_MESSAGES 540 // at least 500 are handed over
#define RUN_CRASHES 2
#define RUN_DISK_FAULTS 1
#define RUN_PEER_FAULTS 3

struct run_facts {
    struct book_counts counts;
    uint32_t crashes, disk_faults, peer_faults, rots;
    uint64_t turns, trace_hash;
    int64_t virtual_ms;
    const char *law; // the first one broken, or NULL
};

// Runs the seed; violations are printed as they happen.
void run_seed(uint64_t seed, struct run_facts *out);
