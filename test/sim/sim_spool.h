// SPDX-License-Identifier: MIT
//
// sim_spool - for unit tests: an open spool in a simulated world of one host, and a loop that uses it
//
// Log lines are swallowed. Owner: the test. Thread: outside the loops; the world runs by sim_run_until() and the like.
#pragma once

#include "sim.h"
#include "spool/spool.h"

#define SIM_SPOOL_DIRECTORY "/spool" // on the host's disk

struct sim_spool {
    struct sim_host *host;
    struct spool *spool;
    struct sys_loop *client;
};

// Begins the world by its seed and opens an empty spool. False if that fails.
bool sim_spool_start(struct sim_spool *s, uint64_t seed, uint64_t segment_bytes);
// Ends both. False if the host has died.
bool sim_spool_stop(struct sim_spool *s);
