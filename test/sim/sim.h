// SPDX-License-Identifier: MIT
//
// sim - a whole world on one thread: hosts, actors, clocks, chance and crashes, all from one seed
//
// The deterministic twin of sys_uv. Every loop (sys/sys.h) is an actor of the host it was started
// on; the scheduler gives turns to actors in virtual time, and the seed decides every delay, cut
// and tie. A crash ends a host in the middle of whatever it does: the call that crashed never
// returns to the old world (longjmp to the scheduler), whose heap is left behind. Disks
// (sim_disk.h) outlive the crash, peers on other hosts live on.
//
// Owner:    one world at a time, made by sim_start(); global because sys/sys.h has no context.
// Thread:   one.
// Limits:   SIM_LOOPS_MAX loops in one world's life, SIM_HOSTS_MAX hosts.
// Fails:    never; misuse of sys/sys.h by the code under test is a CHECK.
#pragma once

#include "sys/sys.h"

#define SIM_LOOPS_MAX 4096
#define SIM_HOSTS_MAX 64

// ---- the world ---------------------------------------------------------------------------------

// Starts a world; everything that happens in it follows from `seed`. SIM_TRACE=1 in the environment
// prints each event to standard error.
void sim_start(uint64_t seed);
void sim_stop(void);
uint64_t sim_seed(void);

// Runs one turn of one actor; false if nothing is ever going to happen.
bool sim_step(void);
// Runs until the virtual clock has moved on by ms.
void sim_run_ms(int64_t ms);
// Runs until done(ctx) holds (asked after every turn); false if that took more than max_ms or the
// world stood still.
bool sim_run_until(bool (*done)(void *ctx), void *ctx, int64_t max_ms);

// Virtual microseconds on the monotonic clock, and the wall clock.
int64_t sim_now_us(void);
struct wall sim_wall(void);
// Makes the wall clock jump, which the monotonic one does not confirm.
void sim_wall_jump_ms(int64_t ms);

// ---- chance ------------------------------------------------------------------------------------

// Each dice has its own sequence, so that one more throw of one does not change what the others
// show.
enum sim_dice { DICE_SCHEDULE, DICE_NET, DICE_DISK, DICE_RELAY, DICE_DNS, DICE_TEST, DICE_COUNT };
uint64_t sim_roll(enum sim_dice dice, uint64_t bound); // 0 <= result < bound; 0 if bound is 0
int64_t sim_between(enum sim_dice dice, int64_t low, int64_t high); // both included
bool sim_chance(enum sim_dice dice, uint32_t parts, uint32_t of); // true in `parts` of `of` throws

// ---- hosts and crashes -------------------------------------------------------------------------

struct sim_host;
enum sim_crash_kind {
    SIM_KILL,  // the process dies; the kernel keeps its page cache and ends its connections
    SIM_POWER, // the machine dies: unflushed pages are lost or torn, peers notice nothing until
               // they speak
};

// A machine; `name` is static. Its outgoing connections come from `address` (port ignored;
// NULL: 10.0.0.N).
struct sim_host *sim_host_new(const char *name, const struct sys_addr *address);
// Calls fn(ctx) as the host's main thread: loops started and disks opened in it belong to the host.
// False if the host crashed in the call.
bool sim_host_call(struct sim_host *host, void (*fn)(void *ctx), void *ctx);
// Ends everything that runs on the host. From inside one of its turns it does not return.
void sim_host_crash(struct sim_host *host, enum sim_crash_kind kind);
// Crashes the host inside its n-th disk or network operation from now (0: never).
void sim_host_crash_at(struct sim_host *host, enum sim_crash_kind kind, uint64_t n);
// Is there one to come?
bool sim_host_crash_is_armed(const struct sim_host *host);
// True from a crash until sim_host_boot().
bool sim_host_is_down(const struct sim_host *host);
void sim_host_boot(struct sim_host *host);
uint32_t sim_host_crashes(const struct sim_host *host);
// Stops one loop of the host from having turns until then (a thread that is not scheduled).
void sim_loop_stall_ms(struct sys_loop *loop, int64_t ms);

// ---- the network -------------------------------------------------------------------------------

// How packets to an address fare. Zeroed: the defaults.
struct sim_path {
    bool refused, unreachable, blackhole; // connection attempts only
    uint32_t latency_us_min, latency_us_max;
    uint32_t bytes_per_second;  // 0: no limit
    uint32_t reset_per_million; // chance for each segment that both ends see a reset
    uint32_t hang_per_million;  // chance for each segment that nothing gets through any more, ever
};

// A descriptor for sys_listener_open() on the current host; `address` answers until the host
// crashes.
int sim_listen(const struct sys_addr *address);
// The path to an address, port included; port 0 means every port of it.
void sim_path_set(const struct sys_addr *address, const struct sim_path *path);
void sim_path_default(const struct sim_path *path);
// Streams that are open now, on all hosts; those from a host to an address (port 0: any).
uint32_t sim_streams_open(void);
uint32_t sim_streams_to(const struct sim_host *from, const struct sys_addr *to);
// How many connections ever came about: while it stays the same, no count of open ones has grown.
uint64_t sim_streams_connected(void);
// Connection attempts to it so far, by anybody.
uint64_t sim_attempts_to(const struct sys_addr *to);

// ---- the trace ---------------------------------------------------------------------------------

// Adds an event to the trace; all of it goes into the hash, by which two runs are compared.
void sim_note(const char *what, uint64_t a, uint64_t b);
uint64_t sim_trace_hash(void);
uint64_t sim_turns(void);
