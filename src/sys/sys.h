// SPDX-License-Identifier: MIT
//
// sys - the only door to the kernel: loops, posts, timers, streams, offload, random
//
// A loop is one turn-taking actor: everything it owns is touched in its turns only. Loops speak to
// each other by sys_post() and by nothing else. Two implementations stand behind these names:
// sys_uv (libuv, one thread a loop) and sys_sim (all loops on one thread, in an order a seed
// decides, with a virtual network and clock). A program links one of them.
//
// Never: a callback runs from inside the call that caused it, except where said. Objects passed to
// close functions get no callback afterwards and are freed at the end of the turn.
#pragma once

#include "base/bytes.h"
#include "base/chain.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"

// ---- loops and posts --------------------------------------------------------------------------

struct sys_loop;

// A message to a loop, embedded in what it is about; owned by the loop from sys_post() until run().
struct sys_task {
    struct sys_task *next; // used by sys
    void (*run)(struct sys_task *task);
};

// A loop named `name` (static string; the thread's name). In sys_uv its thread starts at once and
// waits for posts; sys_loop_stop() ends it after the posts already made and its offloaded jobs have
// run, closes what its owners left open, stops its timers, and waits for the thread's end. Posts to a
// stopped loop are dropped; nothing else may be done with it.
struct sys_loop *sys_loop_start(const char *name);
void sys_loop_stop(struct sys_loop *loop);

// Runs task->run on `to`'s thread in one of its next turns; posts from one loop to another keep
// their order. May be called from any thread.
void sys_post(struct sys_loop *to, struct sys_task *task);
// What this loop has posted wakes the others, and what it has logged is written, at the end of its
// turn; before it blocks for long: now. Until then no other's post wakes them either. On threads without a loop there
// is nothing to do.
void sys_hand_over(void);
// This thread does little at a time, and many wait for it: asks the kernel to run it soon after it
// wakes, for short turns. A hint; kernels before 6.12 take no notice of it.
void sys_run_promptly(void);

// The loop whose turn it is on this thread; CHECKs that there is one.
struct sys_loop *sys_loop_self(void);

// Both clocks, read once at the start of the turn. Only on the loop's own thread.
struct mono sys_mono(void);
struct wall sys_wall(void);
// Not the turn's time but the time now, for who has blocked its loop and asks how long.
struct mono sys_mono_now(void);

// Calls fn once when this turn ends, after all callbacks (flush output, reap). May be asked for
// again then.
struct sys_turn_end {
    struct list link;
    void (*fn)(struct sys_turn_end *end);
};
void sys_at_turn_end(
    struct sys_turn_end *end); // on the current loop; asking twice in a turn counts once

// ---- timers -----------------------------------------------------------------------------------

// Belongs to the loop it was last set on. Zeroed is "not set"; a fired timer is not set.
struct sys_timer {
    struct heap_node node;
    void (*fire)(struct sys_timer *timer);
    struct sys_loop *loop;
};
void sys_timer_set(struct sys_timer *timer, struct mono at); // on the current loop; moves it if set
void sys_timer_stop(struct sys_timer *timer);
static inline bool sys_timer_is_set(const struct sys_timer *timer)
{
    return heap_has(&timer->node);
}

// ---- addresses --------------------------------------------------------------------------------

// An IPv4 or IPv6 address with port, or the path of a Unix socket.
struct sys_addr {
    enum { SYS_ADDR_NONE, SYS_ADDR_IP4, SYS_ADDR_IP6, SYS_ADDR_UNIX } kind;
    uint16_t port;
    uint8_t ip[16]; // 4 or 16 bytes, network order
    char path[108];
};
#define SYS_ADDR_TEXT 128
// "192.0.2.1:25", "[2001:db8::1]:25", "unix:/path". Returns out.
const char *sys_addr_format(const struct sys_addr *addr, char out[SYS_ADDR_TEXT]);
// The same without the port: "192.0.2.1", "2001:db8::1".
const char *sys_addr_format_ip(const struct sys_addr *addr, char out[SYS_ADDR_TEXT]);
// "IP:PORT", "[IP6]:PORT", "IP@PORT", "unix:/path", "/path". E_SYNTAX.
int sys_addr_parse(struct bytes text, struct sys_addr *out) MUST_USE;
// An address alone, with or without [] and "IPv6:"; port as given.
int sys_addr_parse_ip(struct bytes text, uint16_t port, struct sys_addr *out) MUST_USE;
bool sys_addr_eq(const struct sys_addr *a, const struct sys_addr *b); // port included

// ---- streams ----------------------------------------------------------------------------------

// A TCP or Unix connection. Belongs to the loop it was made on. IPv4-mapped peers are shown as
// IPv4.
struct sys_stream;

struct sys_stream_events {
    void (*on_connected)(void *ctx);               // connect only
    void (*on_data)(void *ctx, struct bytes data); // borrowed for the call
    // The kernel has all written bytes; told after sys_stream_pending() was not 0. May be NULL.
    void (*on_drained)(void *ctx);
    // The connection ended: E_CLOSED (the peer ended it in order), E_REFUSED, E_UNREACHABLE,
    // E_TIMEOUT, E_IO (reset). Once; then only sys_stream_close() is allowed, and must still be
    // called.
    void (*on_end)(void *ctx, int err);
};

// Starts to connect; never NULL. `from` may be NULL (any) or an address to bind. Success and
// failure arrive by on_connected or on_end, in a later turn.
struct sys_stream *sys_stream_connect(const struct sys_addr *to, const struct sys_addr *from,
                                      const struct sys_stream_events *events, void *ctx);
// Replaces who is told (an accepted stream has nobody until then and reads nothing).
void sys_stream_set_events(struct sys_stream *s, const struct sys_stream_events *events, void *ctx);
// Queues a copy and sends what the kernel takes at once. Bytes still queued: sys_stream_pending().
void sys_stream_write(struct sys_stream *s, struct bytes data);
// The same for a whole chain, which is taken over (and empty then).
void sys_stream_write_chain(struct sys_stream *s, struct chain *from);
size_t sys_stream_pending(const struct sys_stream *s);
// Reading is on from on_connected / sys_stream_set_events() on; backpressure by switching it off.
void sys_stream_read(struct sys_stream *s, bool on);
// After what is queued has gone out, sends FIN; reading goes on.
void sys_stream_shutdown(struct sys_stream *s);
// No callback afterwards; queued bytes are sent by a best effort (5 s, then FIN) unless `abort`
// (RST).
void sys_stream_close(struct sys_stream *s, bool abort);
const struct sys_addr *sys_stream_peer(const struct sys_stream *s);
const struct sys_addr *sys_stream_local(const struct sys_stream *s);
// The user whose process is at the other end of a Unix socket, as the kernel knows; is it this very process? False: it
// is no Unix socket.
bool sys_stream_peer_user(const struct sys_stream *s, uint32_t *out_uid, bool *out_is_self);

struct sys_listener;
// Takes over a bound, listening descriptor (several loops may each hold a dup of it). on_accept
// runs on the current loop and owns the stream. Running out of descriptors pauses accepting for 100
// ms, without a spin.
struct sys_listener *sys_listener_open(int fd, void (*on_accept)(void *ctx, struct sys_stream *s),
                                       void *ctx);
// Leaves what comes next to other loops on the same socket, for a millisecond.
void sys_listener_yield(struct sys_listener *l);
void sys_listener_close(struct sys_listener *l);

// ---- offload ----------------------------------------------------------------------------------

// CPU-heavy or blocking work for the pool (password hashes, RSA, file reads): run() on a pool
// thread, then done() on the loop that asked.
enum sys_job_kind { // each has its own threads: none waits for another
    SYS_JOB_CPU,
    SYS_JOB_DISK, // spool and state
    SYS_JOB_FAR,  // folders that are not ours, and may hang for long: mailboxes on a network
};
#define SYS_JOB_KINDS 3
struct sys_job {
    struct sys_task task; // used by sys
    struct sys_loop *home;
    enum sys_job_kind kind; // SYS_JOB_CPU when zeroed
    void (*run)(struct sys_job *job);
    void (*done)(struct sys_job *job);
};
void sys_offload(struct sys_job *job);

// ---- random -----------------------------------------------------------------------------------

void sys_random(void *out, size_t bytes);  // cryptographic in sys_uv; from the seed in sys_sim
uint64_t sys_random_below(uint64_t bound); // 0 <= result < bound
