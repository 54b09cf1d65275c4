// SPDX-License-Identifier: MIT
//
// sim_internal - what the parts of the simulator share: events, loops, hosts
#pragma once

#include "sim.h"
#include "sys/sys_core.h"

#define SIM_OFFLOAD_LOOPS (2 * SYS_JOB_KINDS) // two for each kind of job

// Something that happens to a loop at a time. Events of one loop fire in the order of their times.
struct sim_event {
    struct heap_node node;
    void (*fire)(struct sim_event *event); // the event is freed after it
    void *about;
    int code;
    size_t len;
    char data[];
};

struct sys_loop {
    struct list link; // in its host
    struct sim_host *host;
    const char *name;
    uint32_t number;       // unique in the world
    struct heap events;    // sim_event by time
    struct sys_core core;  // timers and turn ends
    int64_t busy_until_us; // no turn before
    int64_t mono_us;       // as read at the start of the turn
    int64_t wall_us;
    int64_t *last_post_us; // by number of the posting loop: keeps the order of each pair
    uint32_t last_post_count;
    uint32_t jobs; // offloaded and not yet done
};

struct sim_host {
    const char *name;
    struct sys_addr address;
    struct list loops;
    struct sys_loop *offload[SIM_OFFLOAD_LOOPS]; // threads of the pools, started when first needed
    uint16_t next_port;
    uint32_t crashes;
    bool down;
    enum sim_crash_kind crash_kind;
    uint64_t crash_in; // operations until it crashes; 0: not armed
};

// Time inside the running turn: its start and what its disk calls have cost so far.
int64_t sim_turn_us(void);
void sim_spend_us(int64_t us);
// The host and loop whose turn it is; NULL outside of one.
struct sim_host *sim_here(void);
struct sys_loop *sim_loop_current(void);

// Schedules fire() on a loop; `data` is copied.
struct sim_event *sim_event_add(struct sys_loop *loop, int64_t at_us,
                                void (*fire)(struct sim_event *), void *about, struct bytes data);
// Counts an operation of the current host; true if it is the one in which the host must crash (then
// do a part of it and call sim_crash_now()).
bool sim_op_crashes(void);
_Noreturn void sim_crash_now(void);

// The parts' own life.
void sim_net_start(void);
void sim_net_stop(void);
void sim_net_host_down(struct sim_host *host, enum sim_crash_kind kind);
void sim_net_loop_gone(struct sys_loop *loop);
void sim_disk_start(void);
void sim_disk_stop(void);
void sim_disk_host_down(struct sim_host *host, enum sim_crash_kind kind);
