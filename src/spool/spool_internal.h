// SPDX-License-Identifier: MIT
//
// spool_internal - the spool's own state, shared by the files that make it up
//
// Thread: the spool's loop, but for what says otherwise.
#pragma once

#include <stdatomic.h>

#include "spool/journal.h"

// Compaction begins when segments in use hold more than this many times the live bytes, and this
// many more segments (docs/SPOOL.md, "Space").
#define SPOOL_AMPLIFICATION 2
#define SPOOL_SLACK_SEGMENTS 4
// Free segments kept: the reserve, and this many more.
#define SPOOL_AHEAD_SEGMENTS 1
#define SPOOL_SPARE_SEGMENTS 4 // at least; SPOOL_LOT_TICKS times what a second takes
#define SPOOL_LOT_TICKS 6
// Marks a restored backup: nothing may be sent.
#define SPOOL_HOLD_FILE "hold"
// Left by a close that found no mail; gone while the spool is open.
#define SPOOL_EMPTY_FILE "empty"
#define SPOOL_TICK_MS 1000
#define SPOOL_UNREAD_PATIENCE_MS 3600000 // then readers pass over what the disk does not give
// Messages told in one turn of the loop, which is for commits first of all.
#define SPOOL_TELL_SLICE 1000
#define SPOOL_TELL_RETRY_MS 1000
#define SPOOL_MAKE_PAUSE_MS 250 // after a segment could not be made ahead
// While a flush takes longer nothing new may be delivered: a crash would have all of it delivered again.
#define SPOOL_FLUSH_SLOW_US INT64_C(500000)
#define SPOOL_RETRY_MS_MIN 50
#define SPOOL_RETRY_MS_MAX 5000
// The refusal of a message whose flush failed waits at most this long until it is certain.
#define SPOOL_WITHHOLD_MS 10000
#define SPOOL_COPIED_LAG_SEGMENTS 64
#define SPOOL_HISTORY_TICKS 60 // a full disk waits no longer for a history that stands still

// Makes segment files ahead of need, on the offload pool.
struct spool_maker {
    struct sys_job job;
    bool running;
    struct disk *disk;
    uint32_t slot;
    uint64_t size;
    struct disk_file *file;
    int err;
};

// Removes the extents of settled messages, on the offload pool.
struct spool_remover {
    struct sys_job job;
    bool running;
    struct disk *disk;
    struct message_id *ids;
    uint32_t count;
    uint64_t removed, removed_bytes;
};

struct compact;
struct backup;

struct spool {
    struct journal *journal;
    struct spool_options options;
    struct sys_loop *loop; // NULL before the start and after the stop
    struct sys_loop *home; // the same, but stays after the stop, for late watches: dropped there
    struct sys_task start, stop; // two: a stop may come before the start has run
    bool stopping;
    // group commit
    struct list pending; // frames, in order
    uint32_t pending_intake;
    uint32_t answered; // intake frames of the last flush that had any
    uint32_t round;    // those, and the ones that came while it ran: who may share the next flush
    bool just_flushed;
    struct mono flush_mark; // from here on the next flush waits for nobody
    struct sys_timer flush_timer;
    struct sys_turn_end turn_end;
    bool failing;
    bool full; // failing for want of room
    int64_t retry_ms;
    struct sys_timer retry_timer;
    struct list withheld; // refused intake frames that are not told yet
    struct sys_timer withheld_timer;
    struct sys_timer tick;
    struct spool_maker maker;
    struct mono make_after;
    struct spool_remover remover;
    struct compact *compact; // NULL: not running
    struct backup *backup;   // NULL: not running
    uint64_t stuck;          // number of a segment that can't be compacted in this run
    uint64_t unreadable;     // number of the segment that the disk did not give lately
    int64_t compact_pause_ms;
    struct mono compact_after;
    bool tail_pending; // a tail record is on its way
    bool lag_told, short_told;
    uint64_t ticked_copied;  // by the history, at the last tick
    uint32_t history_stands; // ticks for which it has come no further
    uint64_t ticked_number;  // of segments, at the last tick
    uint32_t lot; // segments that SPOOL_LOT_TICKS seconds took, one less each second since
    struct spool_watch *watches;
    uint64_t recovered,
        recovered_sure; // the last segment that the start found, and from where it may be torn
    struct sys_task tell;
    struct sys_timer tell_timer; // after an index could not be read
    void (*on_slice)(void *ctx, bool all);
    void *on_slice_ctx;
    // any thread
    atomic_bool telling;
    atomic_uint id_counter;
    atomic_int expected;
    atomic_bool accepting, blocked;
    atomic_bool on_hold;         // a restored backup
    atomic_llong flush_since_us; // monotonic, of the one that runs; 0: none does
    atomic_ullong watermark; // segment number << 32 | offset in blocks: all before it is flushed
    atomic_ullong copied[SPOOL_FOLLOWERS];
    // Where each follower last met what the disk did not give, as a watermark, and since when (monotonic, ms).
    struct spool_unread {
        atomic_ullong at;
        atomic_llong since;
        atomic_ullong passed; // places up to there have had their time
    } unread[SPOOL_FOLLOWERS];
    atomic_ullong extents, extent_bytes;
    struct spool_atomic_stats {
        atomic_ullong flushes, flush_failures, flush_us, frames, records, written_bytes, segments,
            free_segments, segment_bytes, live_messages, live_bytes, compacted_bytes,
            damaged_records, sequence, table_message_bytes, table_recipient_bytes;
    } stats;
};

static inline uint64_t watermark_of(uint64_t number, uint64_t offset)
{
    return number << 32 | offset / RECORD_BLOCK;
}
static inline uint64_t watermark_number(uint64_t mark)
{
    return mark >> 32;
}
static inline uint64_t watermark_offset(uint64_t mark)
{
    return (mark & UINT32_MAX) * RECORD_BLOCK;
}

// An internal frame (no home): done(ctx, err) runs on the spool's loop inside the flush's turn.
void spool_submit(struct spool *spool, struct spool_frame *frame, void (*done)(void *ctx, int err),
                  void *ctx);
// Brings the atomics up to date; after anything that changed the journal.
void spool_publish(struct spool *spool);

struct spool_watch;
// Arms w for the first flush behind the watermark `seen`. On any loop.
void spool_watch_from(struct spool *spool, struct spool_watch *w, uint64_t seen);

// compact.c: frees and compacts the oldest segments if there is reason to. Cheap to ask.
void compact_consider(struct spool *spool);
// Frees what a running compaction holds, at the stop.
void compact_stop(struct spool *spool);
// True once those who follow the journal are done with the segment.
bool spool_is_copied(const struct spool *spool, const struct segment *s);
// The same, or they lag too far behind, `live` segments from s on, or the disk is full and the history does not move.
bool spool_may_free(struct spool *spool, const struct segment *s, uint32_t live);

// spool_backup.c: begins a backup that was asked for, once nothing is being freed.
void backup_consider(struct spool *spool);
// Answers one that has not begun, at the stop.
void backup_stop(struct spool *spool);
