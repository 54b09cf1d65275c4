// SPDX-License-Identifier: MIT
//
// spool_reader - the journal read forward, by sequence number, never past the flushed watermark
//
// For those who follow the journal (enum spool_follower): blocking, on their own threads, through disk.h only.
//
//     while ((err = spool_reader_next(r, &record)) == OK) ...   E_AGAIN: nothing more is flushed
//     yet spool_watch(r, &watch)                                    and be posted when there is
//     spool_copied(spool, who, sequence)                        segments up to there may be freed
//
// Records come in log order, which is sequence order. Copies made by compaction are not shown again, but on demand
// (spool_reader_show_copies). Damaged records are skipped (recovery and reads report them).
#pragma once

#include "spool/spool.h"

enum spool_record_type {
    SPOOL_RECORD_MESSAGE = 1,
    SPOOL_RECORD_OUTCOME = 2,
    SPOOL_RECORD_NOTE = 3,
    SPOOL_RECORD_FEEDBACK = 5,
};

struct spool_record {
    uint64_t sequence;
    enum spool_record_type type;
    bool copy;            // MESSAGE: a copy; `sequence` is that of the original
    struct message_id id; // MESSAGE, OUTCOME, FEEDBACK
    struct bytes meta;    // what stands in the journal: kept, spool_record_decode() reads it again
    const struct envelope *envelope; // MESSAGE
    struct bytes states;             // MESSAGE: of a copy, its recipients' states; else empty
    struct spool_outcome outcome;    // OUTCOME
    struct spool_feedback feedback;  // FEEDBACK
    struct bytes key, value;         // NOTE
};

// Fills in what follows `meta` from it; sequence, type, id and meta are set. A message is decoded into m, which is
// fresh. Slices borrow from m or meta. E_DAMAGED.
int spool_record_decode(struct spool_record *record, struct stored_message *m) MUST_USE;
// How a recipient of a message stood when it was copied; queued, without an attempt, if it is no copy.
enum recipient_state spool_record_state(const struct spool_record *record, uint32_t recipient,
                                        uint32_t *out_attempts);

struct spool_reader;

// The first record shown has the smallest sequence > after (0: from the oldest kept). Never NULL;
// opens lazily.
struct spool_reader *spool_reader_open(struct spool *spool, uint64_t after);
void spool_reader_close(struct spool_reader *r);
// Who reads (SPOOL_HISTORY, unless it is said). What the disk does not give keeps each of them for an hour; then he passes
// it over, also with a reader that is opened anew.
void spool_reader_set_follower(struct spool_reader *r, enum spool_follower who);
// From now on copies of messages with a sequence number below this are shown too: who lacks the originals learns
// of all live messages so.
void spool_reader_show_copies(struct spool_reader *r, uint64_t below);
// From now on messages are passed over, undecoded: for who follows the outcomes.
void spool_reader_skip_messages(struct spool_reader *r);
// OK: *out is valid until the next call. E_AGAIN. E_IO: try later. E_NOT_FOUND: records were freed
// before they were read (the lag was passed); the next call goes on with the oldest there is.
int spool_reader_next(struct spool_reader *r, struct spool_record *out) MUST_USE;

// How far the reader has come, to compare with spool_flushed(): all records before this position have been shown or
// passed over (tails, damage). At E_AGAIN it is the position of all that was flushed at that call.
uint64_t spool_reader_position(const struct spool_reader *r);
// The largest sequence number shown or passed over; at least the `after` it was opened with.
uint64_t spool_reader_sequence(const struct spool_reader *r);
// The position behind all that is flushed; it only grows. Any thread; who was told that his frame is flushed
// finds it counted.
uint64_t spool_flushed(const struct spool *spool);

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

// The history has read up to this sequence. If that is further than this journal goes, as it was another one that it
// read, records to come get numbers above it, which is logged. Any thread, after spool_start(), before the first commit.
void spool_go_on_behind(struct spool *spool, uint64_t sequence);
// All records up to this sequence are of no more use to `who`. Any thread.
void spool_copied(struct spool *spool, enum spool_follower who, uint64_t sequence);
