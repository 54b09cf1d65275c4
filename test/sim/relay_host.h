// SPDX-License-Identifier: MIT
//
// relay_host - the relay's own objects on a simulated machine: what daemon/relay.c wires together, without the
// guard, the store and the history
//
// Owner:    one at a time, global; what a crash leaves of it is forgotten.
#pragma once

#include "queue/queue.h"
#include "sim.h"
#include "spool/spool.h"

#define RELAY_SPOOL "/spool"
#define RELAY_WORKERS 2

struct relay_setup {
    const char *config; // YAML; listeners are added: "in", plain, trusted
    uint64_t segment_bytes;
};

// A machine with the relay's address. Once a world.
struct sim_host *relay_host_new(const struct relay_setup *setup);
const struct sys_addr *relay_host_address(void);
// Starts the relay on it (after a crash, too). False: it crashed while starting. A relay that can't open its
// spool tries again after a second (the guard's part).
bool relay_host_start(void);
// Stops it in order: drains, closes, frees. False: it crashed meanwhile, or did not get done in max_ms.
bool relay_host_stop(int64_t max_ms);
bool relay_host_is_up(void);
// NULL while it is down.
struct queue *relay_host_queue(void);
struct spool *relay_host_spool(void);
// Up, and a jump of the wall clock would not be forgotten by a crash any more.
bool relay_host_clock_is_kept(void);
