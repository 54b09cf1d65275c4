// SPDX-License-Identifier: MIT
//
// wall_jumps - how far the wall clock has jumped, kept in the spool, so that no lifetime is charged for it
//
// A jump is what the wall clock moved while the monotonic one did not. The sum of all jumps is a note of the spool;
// each message is accepted with the sum of that moment. When a restart reads the wall times of a message back, it
// moves them by what the sum has grown since: they are then today's wall times.
//
// Owner:    embedded in the intake_port, which all workers share.
// Thread:   restore and start before loops run; wall_jumps_now() any; wall_jumps_look() one loop.
// Limits:   what moves by WALL_JUMPS_IGNORED_MS or less is no jump. A jump while the service is stopped, or in the
//           last second before it dies, is not seen.
#pragma once

#include <stdatomic.h>

#include "queue/queue.h"
#include "spool/spool.h"

#define WALL_JUMPS_IGNORED_MS 500
#define WALL_JUMPS_LOOK_MS 1000 // how often to look

struct wall_jumps {
    bool started;
    int64_t base_us;         // wall less mono, without the jumps
    _Atomic int64_t sum_ms;  // as last looked at
    _Atomic int64_t kept_ms; // the note is durable with this sum
};

// At start, for each note of the spool: true if it was this one.
bool wall_jumps_restore(struct wall_jumps *j, struct bytes key, struct bytes value);
// Behind the recovery: jumps are seen from now on.
void wall_jumps_start(struct wall_jumps *j, struct queue_now now);
// The sum up to now, in milliseconds; 0 before the start.
int64_t wall_jumps_now(const struct wall_jumps *j, struct queue_now now);
// On a loop: writes the note with this sum, unless it is durable already. What the same loop commits behind it is not
// durable before it.
void wall_jumps_keep(struct wall_jumps *j, int64_t sum_ms, struct spool *spool);
// The sum as it was last looked at, or as restored.
int64_t wall_jumps_known(const struct wall_jumps *j);
// The sum up to `now`, also where a jump is not looked at yet or `now` is of before one; before the start, as
// restored. For what a recovery tells, some of it when jumps are seen already.
int64_t wall_jumps_then(const struct wall_jumps *j, struct queue_now now);
// To be called every WALL_JUMPS_LOOK_MS: if the clock has jumped since the last time, writes the note and tells
// the queue. Returns by how many milliseconds, or 0.
int64_t wall_jumps_look(struct wall_jumps *j, struct spool *spool, struct queue *queue,
                        struct queue_now now, uint64_t *kicks);
// The note has all that is known; for the simulator.
static inline bool wall_jumps_is_kept(const struct wall_jumps *j)
{
    return atomic_load(&j->sum_ms) == atomic_load(&j->kept_ms);
}
