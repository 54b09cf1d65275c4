// SPDX-License-Identifier: MIT
#include "intake/wall_jumps.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#define NOTE_KEY BYTES("clock")

static int64_t load(const _Atomic int64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

// "jumped=MS", below zero as "jumped=-MS".
bool wall_jumps_restore(struct wall_jumps *j, struct bytes key, struct bytes value)
{
    if (!bytes_eq(key, NOTE_KEY))
        return false;
    uint64_t ms = 0;
    struct bytes number = bytes_skip(value, strlen("jumped="));
    bool back = bytes_starts(number, BYTES("-"));
    if (!bytes_starts(value, BYTES("jumped=")) ||
        bytes_to_u64(bytes_skip(number, back), INT64_MAX / 1000, &ms) != OK)
        log_warn("note not understood", LOG_STR("key", key), LOG_STR("value", value));
    j->sum_ms = j->kept_ms = back ? -(int64_t)ms : (int64_t)ms;
    return true;
}

void wall_jumps_start(struct wall_jumps *j, struct queue_now now)
{
    j->base_us = now.wall.us - now.mono.us - load(&j->sum_ms) * 1000;
    j->started = true;
}

int64_t wall_jumps_now(const struct wall_jumps *j, struct queue_now now)
{
    int64_t known_ms = load(&j->sum_ms);
    if (!j->started)
        return 0;
    int64_t sum_ms = (now.wall.us - now.mono.us - j->base_us) / 1000;
    int64_t moved_ms = sum_ms - known_ms;
    return moved_ms >= -WALL_JUMPS_IGNORED_MS && moved_ms <= WALL_JUMPS_IGNORED_MS ? known_ms
                                                                                   : sum_ms;
}

int64_t wall_jumps_known(const struct wall_jumps *j)
{
    return load(&j->sum_ms);
}

int64_t wall_jumps_then(const struct wall_jumps *j, struct queue_now now)
{
    return j->started ? wall_jumps_now(j, now) : wall_jumps_known(j);
}

struct keeping {
    struct wall_jumps *jumps;
    int64_t sum_ms;
};

static void on_kept(void *ctx, int err)
{
    struct keeping *k = ctx;
    if (!err)
        atomic_store(&k->jumps->kept_ms, k->sum_ms);
    free(k);
}

void wall_jumps_keep(struct wall_jumps *j, int64_t sum_ms, struct spool *spool)
{
    char text[40];
    if (sum_ms == load(&j->kept_ms))
        return;
    int n = snprintf(text, sizeof text, "jumped=%lld", (long long)sum_ms);
    struct keeping *k = mem_new(sizeof *k);
    *k = (struct keeping){j, sum_ms};
    struct spool_frame *frame = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_note(frame, NOTE_KEY, bytes_of(text, (size_t)n));
    spool_commit(spool, frame, on_kept, k);
}

int64_t wall_jumps_look(struct wall_jumps *j, struct spool *spool, struct queue *queue,
                        struct queue_now now, uint64_t *kicks)
{
    int64_t sum_ms = wall_jumps_now(j, now), delta_ms = sum_ms - load(&j->sum_ms);
    if (!delta_ms)
        return 0;
    atomic_store(&j->sum_ms, sum_ms);
    wall_jumps_keep(j, sum_ms, spool);
    queue_clock_jumped(queue, delta_ms, now, kicks);
    return delta_ms;
}
