// SPDX-License-Identifier: MIT
//
// frame - records on their way into the journal, encoded and hashed by whoever made them
//
// The public half is in spool.h (spool_frame_*); this is what journal and spool see of it.
#pragma once

#include "spool/record.h"
#include "spool/spool.h"

struct frame_record {
    uint8_t type, flags;
    struct message_id id;
    size_t meta_at; // in the frame's meta buffer
    uint32_t meta_bytes, states_bytes, summary_bytes;
    uint64_t meta_hash, content_hash;
    uint32_t content_bytes;
    struct stored_message *message; // RECORD_MESSAGE; a reference
    uint32_t recipients;            // RECORD_MESSAGE
    bool has_extent;
    // RECORD_OUTCOME
    uint32_t recipient;
    uint64_t status; // struct recipient_status
    // RECORD_COPY: the record as it stood
    struct bytes content; // of a copy; borrowed until the frame ends
    uint32_t old_slot, old_offset16, old_bytes;
    uint64_t sequence; // kept by a copy, else set when placed
    uint64_t tail;     // RECORD_TAIL
    uint64_t
        moved_from; // RECORD_NOTE: the number of the segment that its value is moved out of; 0: a new value
    // set when placed
    uint32_t slot, offset16, bytes;
    bool placed;
};

struct spool_frame {
    struct sys_task task;
    struct sys_loop *home; // NULL: done() is called where the frame ends
    void (*done)(void *ctx, int err);
    void *ctx;
    struct spool *spool;
    struct list link;
    enum spool_kind kind;
    bool expected, retried;
    bool internal; // compaction's: may use the last free segment, and pass by outcomes that may not
    bool voided;   // it was written, but its flush failed
    int err;       // sticky
    struct buf meta;
    struct frame_record *records, first[1];
    uint32_t count, cap;
};

// Internal records, made on the spool's loop.
// A live message as it was read back: `meta` without its states (they are written when it is
// placed). All is borrowed until the frame ends.
void frame_add_copy(struct spool_frame *frame, const struct record_head *head,
                    const struct record_meta *meta, struct bytes content, uint32_t slot,
                    uint32_t offset16);
// A note's value as it stands in segment `number`; a newer one that is placed before it wins.
void frame_add_moved_note(struct spool_frame *frame, struct bytes key, struct bytes value,
                          uint64_t number);
// Segments below `number` are free once this is flushed.
void frame_add_tail(struct spool_frame *frame, uint64_t number);

// Segment bytes of all records, and at most how much the index grows; copies count with all their
// states.
uint64_t frame_bytes(const struct spool_frame *frame);
uint64_t frame_index_bytes(const struct spool_frame *frame);
static inline struct bytes frame_meta(const struct spool_frame *f, const struct frame_record *r)
{
    return bytes_of(f->meta.at + r->meta_at, r->meta_bytes);
}
static inline struct bytes frame_summary(const struct spool_frame *f, const struct frame_record *r)
{
    return bytes_of(f->meta.at + r->meta_at + RECORD_META_HEAD_BYTES + r->states_bytes,
                    r->summary_bytes);
}
static inline struct bytes frame_states(const struct spool_frame *f, const struct frame_record *r)
{
    return bytes_of(f->meta.at + r->meta_at + RECORD_META_HEAD_BYTES, r->states_bytes);
}
// Where a copy's states are written before it is placed.
static inline char *frame_states_at(struct spool_frame *f, const struct frame_record *r)
{
    return f->meta.at + r->meta_at + RECORD_META_HEAD_BYTES;
}
