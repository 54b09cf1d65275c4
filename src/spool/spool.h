// SPDX-License-Identifier: MIT
//
// spool - the journal: the only writer of messages and of what became of them
//
// Accepted messages, outcomes and state notes are records; a frame holds several of them
// atomically. Frames are made durable together by group commit (law 1): whoever commits while a
// flush runs shares the next. On-disk format, crash table, space: docs/SPOOL.md.
//
//     spool_open(&options, &recovery, &spool)        start-up: blocking, before loops run
//     spool_start(spool)                             the spool's own loop runs
//     f = spool_frame_new(SPOOL_INTAKE); spool_frame_add_message(f, m); spool_commit(spool, f,
//     done, ctx) spool_stop(spool); spool_close(spool)          flushes what is pending, seals,
//     frees
//
// Thread: open, start, stop and close on the starting thread (not a loop's). Frames are built on
// the caller's
//         loop. What says "any thread" reads atomics. Everything else is asked on a loop and
//         answered there.
// Limits: SPOOL_FRAME_RECORDS records a frame, SPOOL_META_MAX bytes of envelope, STORED_INLINE_MAX
// of body,
//         SPOOL_HEADER_MAX of header, SPOOL_NOTE_KEY_MAX and SPOOL_NOTE_VALUE_MAX; the encoded
//         frame must fit half a segment. Beyond: the frame is refused with E_LIMIT through done().
// Never:  calls done() from inside the call that asked.
#pragma once

#include <stdatomic.h>

#include "spool/feedback.h"
#include "spool/outcome.h"
#include "spool/stored_message.h"
#include "sys/sys.h"

#define SPOOL_SEGMENT_BYTES ((uint64_t)64 << 20) // default
#define SPOOL_SEGMENT_BYTES_MIN ((uint64_t)256 << 10)
#define SPOOL_SEGMENT_BYTES_MAX ((uint64_t)1 << 30)
#define SPOOL_RESERVE_SEGMENTS 3 // default; for outcomes, operator actions and compaction only
#define SPOOL_FRAME_RECORDS 128
#define SPOOL_META_MAX ((size_t)4 << 20)
#define SPOOL_HEADER_MAX ((size_t)1 << 20)
#define SPOOL_NOTE_KEY_MAX 512
#define SPOOL_NOTE_VALUE_MAX 4096
// A commit flushes at once if the last flush started this long ago, and ended three quarters as long ago
// as it took; else it waits for that mark.
#define SPOOL_FLUSH_EVERY_MS 4
#define SPOOL_FLUSH_WORTH 32 // messages: so many wait for nobody else
#define SPOOL_REST_MS_MAX 8  // after a long flush, for those whom it answered

struct spool;
struct disk;

// Who reads the journal forward (spool_reader.h) and stores how far it has come; segments wait for the slowest.
enum spool_follower {
    SPOOL_HISTORY,
    SPOOL_SUPPRESSION,
};
#define SPOOL_FOLLOWERS 2

struct spool_options {
    const char *directory;
    uint32_t node;             // of message ids, 0..1023
    uint64_t segment_bytes;    // 0: SPOOL_SEGMENT_BYTES; a multiple of 4096
    uint32_t reserve_segments; // 0: SPOOL_RESERVE_SEGMENTS
    uint64_t bytes_max; // intake stops when segments and extents would pass this; 0: no such limit
    uint64_t free_bytes_min;  // intake stops below this much free disk; 0: 64 MiB
    uint64_t free_inodes_min; // and below this many free inodes; 0: 1000
    uint32_t followers; // segments wait for spool_copied() of so many of enum spool_follower before
                        // they are freed
    uint32_t copied_lag_segments; // but at most this many wait; 0: 64
};

// ---- start-up -----------------------------------------------------------------------------------

struct spool_summary_recipient {
    uint32_t number;
    struct bytes domain;        // routing domain
    uint32_t notify;            // NOTIFY_ bits
    enum recipient_state state; // QUEUED or HELD
    uint32_t attempts;
    struct wall next_attempt_at; // 0: at once
    bool warned;
    bool exempt; // released by itself from the standing holds that cover it
};

// What the queue needs of one message with live recipients; borrowed for the call.
struct spool_summary {
    struct message_id id;
    uint32_t account;
    enum mail_class class;
    enum mail_body body;
    int8_t priority;
    bool smtputf8, requiretls, null_sender;
    bool singly; // each recipient in a transaction of its own
    bool by_trace;
    enum by_mode by_mode;
    struct wall accepted_at, not_before, expires_at, deliver_by;
    int64_t wall_jumped_ms; // when it was accepted
    uint64_t size;          // header and body bytes
    struct bytes tag;
    uint32_t recipients_total; // settled ones included
    const struct spool_summary_recipient *recipients;
    uint32_t recipients_count;
};

// The summary of a fresh message, as recovery would give it (all its recipients queued); slices
// point into the message, the recipients array is made in `arena`.
void spool_summary_of(const struct stored_message *m, struct arena *arena,
                      struct spool_summary *out);

// Notes are told first. NULL on_slice: all messages are told in spool_open(). Else spool_open()
// tells no more than at_once, and the others come on the spool's loop, in slices, once
// spool_tell_rest() has asked for them: a start need not wait for a long queue. on_slice() follows
// each slice on the loop; `all` with the last, also when nothing was left.
#define SPOOL_TELL_AT_ONCE 10000
struct spool_recovery {
    void *ctx;
    void (*on_message)(void *ctx, const struct spool_summary *summary);
    void (*on_note)(void *ctx, struct bytes key, struct bytes value);
    void (*on_slice)(void *ctx, bool all);
    uint32_t at_once; // 0: SPOOL_TELL_AT_ONCE
};

// Makes or opens the spool, recovers it and tells what is in it; blocking. Damaged records are
// copied to `damaged/`, logged one by one, and the rest goes on. Callbacks may be NULL. E_BUSY:
// another process has it. E_VERSION: a newer format (the log names both versions). E_IO, E_DENIED,
// E_FULL.
int spool_open(const struct spool_options *options, const struct spool_recovery *recovery,
               struct spool **out) MUST_USE;
// Starts the spool's loop; commits are taken from now on.
void spool_start(struct spool *spool);
// Tells the messages that spool_open() has left, if any. Once, after spool_start(); only with
// on_slice. What is not told yet is neither read, settled nor moved meanwhile: nobody knows of it.
void spool_tell_rest(struct spool *spool);
// True until on_slice() is told that this was all. Any thread.
bool spool_is_telling(const struct spool *spool);
// Flushes what has been committed (done()s are posted), seals the open segment, ends the loop.
// Retries of a failing disk are given up; such frames get E_CLOSED.
void spool_stop(struct spool *spool);
// Frees everything. Also valid after spool_open() without spool_start().
void spool_close(struct spool *spool);

// A restored backup: nothing may be sent until an operator releases it.
bool spool_is_on_hold(const struct spool *spool);
// Removes the mark of a restored backup; the release is durable when OK. Blocking (offload or
// start-up).
int spool_release_hold(struct spool *spool) MUST_USE;

// A fresh message id; any thread. The start epoch in it is durable.
struct message_id spool_next_id(struct spool *spool, struct wall now);

// ---- writing ------------------------------------------------------------------------------------

enum spool_kind {
    SPOOL_INTAKE,  // refused when it would touch the reserve or when its flush fails
    SPOOL_OUTCOME, // outcomes and operator actions: kept and retried until flushed
    SPOOL_REPORT,  // outcomes with a message about them: as these, but refused where room is short
};

struct spool_frame;

struct spool_frame *spool_frame_new(enum spool_kind kind);
// For a frame that is not committed after all.
void spool_frame_free(struct spool_frame *frame);
// Accepts m: takes a reference, encodes and hashes here and now. A body in an extent must be
// finished.
void spool_frame_add_message(struct spool_frame *frame, struct stored_message *m);
void spool_frame_add_outcome(struct spool_frame *frame, const struct spool_outcome *outcome);
// Its message need not be there any more. In a frame of either kind.
void spool_frame_add_feedback(struct spool_frame *frame, const struct spool_feedback *feedback);
// State that outlives a restart, latest value wins (lane backoff, counters, holds). An empty value
// removes.
void spool_frame_add_note(struct spool_frame *frame, struct bytes key, struct bytes value);
// This frame ends a body announced by spool_expect(+1): its arrival takes the announcement back.
void spool_frame_set_expected(struct spool_frame *frame);

// `done(ctx, err)` runs on the loop that asked, once the frame is flushed or refused. The frame is
// the spool's from now on. E_FULL (intake: the reserve would be touched), E_IO (write or flush
// failed; the frame is forgotten and will not come back), E_LIMIT, E_CLOSED (stopping).
// SPOOL_OUTCOME gets only OK, E_LIMIT or E_CLOSED; a message added to it is retried with it. SPOOL_REPORT the same, or
// E_FULL: the reserve that is left is for outcomes alone.
void spool_commit(struct spool *spool, struct spool_frame *frame, void (*done)(void *ctx, int err),
                  void *ctx);

// Bodies now being received: +1 when one begins, -1 when it is given up. While none is expected a
// commit does not wait for company. Any thread.
void spool_expect(struct spool *spool, int change);

// ---- state, any thread --------------------------------------------------------------------------

// False: MAIL FROM is answered 452 4.3.1 (free space, inodes, limit, reserve, or a failing disk).
bool spool_accepting(const struct spool *spool);
// True: an outcome cannot be made durable just now; no delivery may start.
bool spool_outcomes_blocked(const struct spool *spool);

struct spool_stats {
    uint64_t flushes, flush_failures, frames, records, written_bytes;
    uint64_t flush_us; // that the flushes took, with the writing before each
    uint64_t segments, free_segments, segment_bytes; // of all segment files, free ones included
    uint64_t live_messages, live_bytes;              // live_bytes: their records, without extents
    uint64_t extents, extent_bytes;
    uint64_t compacted_bytes, damaged_records;
    uint64_t sequence; // of the last flushed record
    // of the table in memory: what is known of each live message, and of each of its recipients
    uint64_t table_message_bytes, table_recipient_bytes;
};
void spool_get_stats(const struct spool *spool, struct spool_stats *out);

// ---- reading back -------------------------------------------------------------------------------

// Reads one live message. Owned by the caller and untouched by it from spool_read() until done(),
// which runs on the asking loop. OK: *message has one reference, the caller's. E_NOT_FOUND: no live
// recipient (or never was). E_DAMAGED: it does not match its checksums and is set aside in
// `damaged/`. E_IO: the disk does not give it; later it may.
struct spool_read {
    struct message_id id;
    void (*done)(struct spool_read *read);
    int err;
    struct stored_message *message;
    struct spool *spool; // from here on: the spool's
    struct sys_loop *home;
    struct sys_task task;
    struct sys_job job;
    struct spool_place {
        struct disk_file *file;
        uint64_t seed, number, offset;
        uint32_t bytes;
    } place, failed;
    char *buffer;
    size_t got;
    int tries, io_tries;
};
void spool_read(struct spool *spool, struct spool_read *read);

// ---- backup -------------------------------------------------------------------------------------

// Copies one consistent cut of the spool into the new or empty directory `to` (copied string) and
// marks it as on hold. done() on the asking loop: OK, E_EXISTS (not empty), E_BUSY (one is
// running), E_FULL, E_IO, E_CLOSED (stopped). Nothing is freed while it runs. `watch` (may be NULL) stays until done().
struct spool_backup_watch {
    _Atomic bool stop;             // set by who asked: the copy ends soon and is not whole
    _Atomic uint64_t copied, size; // bytes
};
void spool_backup(struct spool *spool, const char *to, struct spool_backup_watch *watch,
                  void (*done)(void *ctx, int err), void *ctx);

// For reading files of this spool (reader, extents); thread-safe as disk.h says.
struct disk *spool_disk(struct spool *spool);
