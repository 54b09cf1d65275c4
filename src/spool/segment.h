// SPDX-License-Identifier: MIT
//
// segment - the layout of one segment file: header, batches of records, index, footer
//
//     block 0, block 1   header, twice (a flipped bit in one costs nothing)
//     batches            each on a fresh block, padded with zeros to the next
//     index              of a sealed segment, on a fresh block behind the last batch
//     last block         footer: where the index is
//
// Blocking; used at start-up, on the spool's loop and in offload jobs. Pure reading of a sealed
// segment.
#pragma once

#include "base/buf.h"
#include "spool/record.h"
#include "sys/disk.h"

#define SEGMENT_VERSION 1u
#define SEGMENT_DATA_AT ((uint64_t)2 * RECORD_BLOCK)
#define SEGMENT_DIRECTORY "segments"
#define SEGMENT_NAME_BYTES 32
#define SEGMENT_SIZE_MAX ((uint64_t)1 << 32)

static inline uint64_t block_up(uint64_t n)
{
    return (n + RECORD_BLOCK - 1) & ~(uint64_t)(RECORD_BLOCK - 1);
}

struct segment_header {
    uint32_t version;
    uint32_t slot;       // the file's own number, in its name
    uint64_t number;     // place in the journal, from 1
    uint32_t generation; // how often this file has been used
    uint32_t epoch;      // start that wrote it
    uint64_t salt;       // random secret
    uint64_t size;       // of the file
    uint64_t first_sequence;
    uint64_t last_sequence; // of the records before this segment
    uint64_t previous;      // number of the predecessor, 0: none; numbers between are void
    uint64_t previous_end;  // the predecessor's records beyond this offset are void
    uint64_t previous_sure; // its frames behind this offset count only when complete
    uint64_t tail;          // segments below this number are free
};

// "segments/0000002a". Returns out.
const char *segment_name(uint32_t slot, char out[SEGMENT_NAME_BYTES]);
uint64_t segment_seed(const struct segment_header *h);
void segment_header_format(const struct segment_header *h, char out[RECORD_BLOCK]);
// E_DAMAGED; E_VERSION (out->version is set).
int segment_header_parse(const char in[RECORD_BLOCK], struct segment_header *out) MUST_USE;
// Reads either copy. E_NOT_FOUND: neither was ever written (zeros, or too short). E_DAMAGED,
// E_VERSION. E_IO: the disk did not give one, and the other is not sound.
int segment_header_read(struct disk_file *file, struct segment_header *out) MUST_USE;
int segment_header_write(struct disk_file *file,
                         const struct segment_header *h) MUST_USE; // and flushes

// ---- index --------------------------------------------------------------------------------------

// One record as a restart sees it.
struct index_entry {
    uint8_t type;
    uint64_t offset;
    uint64_t bytes; // of the whole record, padding included
    struct message_id id;
    struct bytes states, summary; // borrowed
};
void index_add(struct buf *index, const struct index_entry *e);
// At most this many bytes are added by index_add().
static inline uint64_t index_add_max(uint64_t states, uint64_t summary)
{
    return 64 + states + summary;
}
// Takes the next entry; false at the end or with *err = E_DAMAGED.
bool index_next(struct bytes *in, struct index_entry *out, int *err);

// What is known of a segment's contents.
struct segment_index {
    struct buf entries;
    uint64_t records;
    uint64_t messages;      // entries of messages, where that is known, else 0
    uint64_t end;           // offset behind the last record that counts, a multiple of RECORD_BLOCK
    uint64_t sure;          // offset from which frames counted only when complete
    uint64_t last_sequence; // 0: none
    uint64_t tail;          // highest seen in TAIL records or the header
    bool scanned;           // no index was found: the records themselves were read
    bool unread; // the disk did not give all of them: what is missing here may still be there
};
void segment_index_done(struct segment_index *x);

// Why a stretch does not count.
enum segment_loss {
    SEGMENT_DAMAGED, // it does not match its checksum
    SEGMENT_TORN, // it lies in the last batch of a segment without a successor, which a crash may have
                  // cut short before anything in it was acknowledged
    SEGMENT_UNREAD, // the disk did not give all of the segment: it may be sound
};
// head is NULL where not even that could be read.
struct segment_damage {
    void *ctx;
    void (*found)(void *ctx, uint64_t offset, uint64_t bytes, const struct record_head *head,
                  enum segment_loss loss);
};

// Writes index and footer behind `end` and flushes.
int segment_index_write(struct disk_file *file, const struct segment_header *h,
                        const struct segment_index *x) MUST_USE;
// About how many messages live in a sealed segment, as its footer says; 0: that is not known.
uint64_t segment_messages(struct disk_file *file, const struct segment_header *h);
// From the footer, or by scanning. end: offset stated by the successor, 0 if there is none; sure:
// the same. E_IO.
int segment_index_read(struct disk_file *file, const struct segment_header *h, uint64_t end,
                       uint64_t sure, const struct segment_damage *damage,
                       struct segment_index *out) MUST_USE;

// The entries that count of the batch [from, end), which a crash may have cut short: whole frames of sound records. All
// types, nothing folded. E_IO: the disk does not give all of it.
int segment_index_batch(struct disk_file *file, const struct segment_header *h, uint64_t from,
                        uint64_t end, struct segment_index *out) MUST_USE;

// ---- scanning -----------------------------------------------------------------------------------

struct segment_scan {
    struct disk_file *file;
    uint64_t seed, offset;
    uint64_t limit; // records end here at the latest
    bool meta_only; // content is neither read nor checked
    bool exact;     // the limit is known to be the end, so what is missing before it is damage
    bool unread;    // a block could not be read, so damage may be none
    char *window;
    size_t window_cap, ahead;
    uint64_t window_at, window_bytes;
};

struct scanned {
    enum {
        SCANNED_RECORD,
        SCANNED_DAMAGED,
        SCANNED_GAP
    } kind; // DAMAGED: the head holds, the rest does not
    uint64_t offset, bytes;
    struct record_head head;
    struct bytes meta, content; // borrowed until the next call
};

void segment_scan_init(struct segment_scan *s, struct disk_file *file, uint64_t seed, uint64_t from,
                       uint64_t limit, bool exact);
void segment_scan_done(struct segment_scan *s);
// Goes back to an offset that the scan has been at; what was not read is read again.
void segment_scan_back(struct segment_scan *s, uint64_t offset);
// The next record or damaged stretch; what the disk can't give counts as zeros and sets `unread`.
// E_NOT_FOUND at the end.
int segment_scan_next(struct segment_scan *s, struct scanned *out) MUST_USE;
