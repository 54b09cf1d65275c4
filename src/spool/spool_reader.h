// SPDX-License-Identifier: MIT
//
// spool_reader - the journal read forward, by sequence number, never past the flushed watermark
//
// For the event writer: blocking, on its own thread, through disk.h only.
//
//     while ((err = spool_reader_next(r, &record)) == OK) ...   E_AGAIN: nothing more is flushed
//     yet spool_watch(r, &watch)                                    and be posted when there is
//     spool_copied(spool, sequence)                             segments up to there may be freed
//
// Records come in log order, which is sequence order; copies made by compaction are not shown
// again. Damaged records are skipped (recovery and reads report them).
#pragma once

#include "spool/spool.h"

enum spool_record_type {
    SPOOL_RECORD_MESSAGE = 1,
    SPOOL_RECORD_OUTCOME = 2,
    SPOOL_RECORD_NOTE = 3
};

struct spool_record {
    uint64_t sequence;
    enum spool_record_type type;
    const struct envelope *envelope; // MESSAGE
    struct spool_outcome outcome;    // OUTCOME
    struct bytes key, value;         // NOTE
};

struct spool_reader;

// The first record shown has the smallest sequence > after (0: from the oldest kept). Never NULL;
// opens lazily.
struct spool_reader *spool_reader_open(struct spool *spool, uint64_t after);
void spool_reader_close(struct spool_reader *r);
// OK: *out is valid until the next call. E_AGAIN. E_IO: try later. E_NOT_FOUND: records were freed
// before they were read (the lag was passed); the next call goes on with the oldest there is.
int spool_reader_next(struct spool_reader *r, struct spool_record *out) MUST_USE;

// One shot: task.run is posted to `loop` once something is flushed behind what the reader has
// shown, or when the spool stops (not once it has). `loop` and task.run are the caller's to set; the spool's from
// then until it runs.
struct spool_watch {
    struct sys_task task;
    struct sys_loop *loop;
    struct spool *spool; // from here on: the spool's
    struct sys_task arm;
    struct spool_watch *next;
    uint64_t seen;
    bool armed;
};
void spool_watch(struct spool_reader *r, struct spool_watch *watch);

// All records up to this sequence are copied elsewhere. Any thread.
void spool_copied(struct spool *spool, uint64_t sequence);
