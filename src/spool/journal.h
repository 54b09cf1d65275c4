// SPDX-License-Identifier: MIT
//
// journal - the segments behind the spool: recovery, batches, flushes, freeing; no loop, no thread
//
// What must be flushed together is a batch: it starts on a fresh block, is written and flushed
// once, and only then counts. After a failed flush the segment is abandoned at its last flushed
// offset, which the next segment's header states. Segments are freed oldest first.
//
// Thread:   one at a time: start-up, then the spool's loop.
// Blocking: all of it.
#pragma once

#include "base/map.h"
#include "spool/frame.h"
#include "spool/segment.h"
#include "spool/table.h"

// A batch is closed when it is this large.
#define JOURNAL_BATCH_BYTES ((uint64_t)8 << 20)
#define JOURNAL_SEGMENT_BYTES_MIN ((uint64_t)64 << 10) // tests
#define JOURNAL_FREE_BYTES_MIN ((uint64_t)64 << 20)    // defaults
#define JOURNAL_FREE_INODES_MIN 1000
#define JOURNAL_SLOTS_MAX 1000000 // below TABLE_SLOTS_MAX
#define JOURNAL_NO_SLOT UINT32_MAX

struct segment {
    struct list link; // in live (oldest first) or free
    struct segment_header head;
    uint64_t seed;
    struct disk_file *file;
    uint32_t slot;
    uint64_t size;      // of the file
    uint64_t end, sure; // once it is no longer open
    uint64_t last_sequence;
    uint32_t messages; // live ones that stand here
    uint64_t bytes;    // of their records
    uint32_t notes;    // whose latest value stands here
    bool abandoned;    // a write or flush failed: not recycled
    bool unread;       // the disk did not give all of it at the start: kept for the next one
};

struct note {
    uint64_t segment; // number and slot of the one that has its latest value
    uint32_t slot;
    uint32_t value_bytes;
    char value[];
};

struct journal_counts {
    uint64_t flushes, flush_failures, frames, records, written_bytes, damaged, compacted_bytes;
};

// Messages found at the start that are still to be told.
struct journal_telling {
    bool open;
    struct spool_recovery recovery;
    uint64_t next, last; // numbers of segments
    struct segment *segment;
    struct segment_index index; // its index
    struct bytes left;          // of that
    struct spool_summary_recipient *recipients;
    uint32_t recipients_cap;
};

struct journal {
    struct disk *disk;
    uint64_t segment_bytes;
    uint32_t reserve;
    uint64_t free_bytes_min, free_inodes_min;
    uint32_t epoch;
    struct table table;
    struct map notes;
    struct segment **slots; // by slot number, NULL: no file
    uint32_t slots_count;
    struct list live, free;
    uint32_t live_count, free_count;
    struct list gone;           // unlinked files, closed at the end: a reader may still hold them
    struct segment *open;       // the last of live, or NULL
    struct segment_index index; // of the open one
    uint64_t offset;            // of its next batch
    uint64_t next_number, next_sequence;
    uint64_t last_sequence; // of the last record that is flushed
    uint64_t tail;          // live segments begin at this number
    uint64_t file_bytes;    // of all segment files
    uint64_t used_bytes;    // of the live ones
    uint64_t live_bytes;    // records of live messages
    uint32_t reserved_slot; // being made elsewhere
    bool can_create;        // the disk has room for new segments (the spool's judgement)
    // the batch being built
    struct batch *batch;
    uint32_t retrying; // frames taken back after a failure
    // extents of settled messages: waiting for the flush, and ready to be removed
    struct message_id *settling, *settled;
    uint32_t settling_count, settling_cap, settled_count, settled_cap;
    uint64_t extents, extent_bytes; // found by recovery
    struct journal_counts counts;
    struct journal_telling telling;
    char *zeros; // a block
};

// Opens the directory, locks, recovers, raises the start epoch. As spool_open(); with
// recovery->on_slice the messages beyond the first are left to journal_tell().
int journal_open(const struct spool_options *options, const struct spool_recovery *recovery,
                 struct journal **out) MUST_USE;
// Tells about `max` more messages. While journal_is_telling() nothing may be freed or compacted.
// E_IO: an index can't be read just now; the next call tries again.
int journal_tell(struct journal *j, uint32_t max) MUST_USE;
bool journal_is_telling(const struct journal *j);
// Writes the open segment's index and frees everything.
void journal_close(struct journal *j);

// Places the frames in order into batches and flushes them. Frames that are through (flushed or
// refused: frame->err) move to `done`; when this returns an error, those to be retried stay in
// `frames`.
int journal_commit(struct journal *j, struct list *frames, struct list *done) MUST_USE;
// After a failure: OK if there is a segment to go on with, or none was needed.
int journal_reopen(struct journal *j) MUST_USE;
// True if an intake frame would be taken now, with some room to spare.
bool journal_has_room(const struct journal *j);

// True if the disk has room for one more segment, those being made included.
bool journal_check_space(const struct journal *j);

// A pre-written segment file made elsewhere joins the free ones. next_slot() names the file to
// make.
uint32_t journal_next_slot(struct journal *j);
void journal_add_free(struct journal *j, uint32_t slot, struct disk_file *file, uint64_t size);
// Unlinks a free segment, if there is one.
void journal_drop_free(struct journal *j);

// The oldest segment that is not open, or NULL.
struct segment *journal_oldest(const struct journal *j);
struct segment *journal_slot(const struct journal *j, uint32_t slot);

// Settled messages' extents, to be removed by the caller, who frees the array. *out_count may be 0.
struct message_id *journal_take_settled(struct journal *j, uint32_t *out_count);
// Copies bytes [offset, offset + bytes) of a segment to damaged/ and logs it.
void journal_set_aside(struct disk *disk, struct disk_file *file, uint64_t number, uint64_t offset,
                       uint64_t bytes, const struct record_head *head);

// "extents/ID". Returns out.
#define EXTENT_DIRECTORY "extents"
#define EXTENT_NAME_BYTES 48
const char *extent_name(struct message_id id, char out[EXTENT_NAME_BYTES]);

// ---- between journal.c, journal_recover.c, journal_fold.c and journal_tell.c --------------------

// Rewrites the index of s, which is about to be sealed, all its records applied to the table and flushed: to what a
// replay still needs.
void journal_fold(struct journal *j, const struct segment *s, struct segment_index *x);

// Takes the next entries of an index and fetches what the table has of them. 0 at the end.
#define JOURNAL_ENTRIES_AHEAD 32
size_t journal_take_entries(const struct journal *j, struct bytes *in,
                            struct index_entry out[JOURNAL_ENTRIES_AHEAD], int *err);
void journal_tell_begin(struct journal *j, const struct spool_recovery *recovery);
void journal_tell_end(struct journal *j);

struct segment *journal_segment_new(struct journal *j, uint32_t slot, struct disk_file *file,
                                    uint64_t size);
void journal_segment_drop(struct journal *j, struct segment *s); // from all lists; unlinks its file
void journal_place(struct journal *j, struct table_entry *e, uint32_t slot, uint32_t offset16,
                   uint32_t bytes);
void journal_settle(struct journal *j, struct table_entry *e);
// value empty: removed.
void journal_set_note(struct journal *j, struct bytes key, struct bytes value, struct segment *s);
int journal_recover(struct journal *j, const struct spool_recovery *recovery) MUST_USE;
int journal_raise_epoch(struct journal *j, uint32_t at_least) MUST_USE;
