// SPDX-License-Identifier: MIT
//
// record - one record of the journal: a 64-byte head, then meta bytes, then content bytes
//
// head (little-endian):
//    0 magic u32 | 4 type u8 | 5 flags u8 | 6 frame_index u8 | 7 frame_left u8
//    8 sequence u64 | 16 id high u64 | 24 id low u64 | 32 meta_bytes u32 | 36 content_bytes u32
//   40 meta hash u64 | 48 content hash u64 | 56 head checksum u64
// meta: states_bytes u32, summary_bytes u32, states, summary, rest. States and summary go into the
// segment's index, so a restart reads no more than these. Content: a message's header and inline
// body.
//
// The head checksum is XXH3 of the 56 bytes before it, seeded by the segment (its secret salt,
// number and generation): a recycled segment's old records never check out, nor does a record
// forged inside a body. Records start at multiples of RECORD_ALIGN, the first of a batch at a
// multiple of RECORD_BLOCK.
#pragma once

#include "base/bytes.h"
#include "mail/message_id.h"

#define RECORD_MAGIC 0x31524850u // "PHR1"
#define RECORD_HEAD_BYTES 64
#define RECORD_META_HEAD_BYTES 8
#define RECORD_ALIGN 16
#define RECORD_BLOCK 4096
// Longest meta and content believed.
#define RECORD_META_MAX ((uint32_t)8 << 20)
#define RECORD_CONTENT_MAX ((uint32_t)4 << 20)

enum record_type {
    RECORD_MESSAGE = 1,
    RECORD_OUTCOME = 2,
    RECORD_NOTE = 3,
    RECORD_TAIL = 4, // segments below the number in the summary are free
    RECORD_FEEDBACK = 5,
};

#define RECORD_COPY 1        // made by compaction; readers have seen the original
#define RECORD_BATCH_START 2 // the first of a batch: all before it in this segment is flushed

struct record_head {
    uint8_t type, flags;
    uint8_t frame_index, frame_left; // place in its frame; 0 left: the last
    uint64_t sequence;
    struct message_id id; // zero for notes and tails
    uint32_t meta_bytes, content_bytes;
    uint64_t meta_hash, content_hash;
};

// Bytes a record takes in the segment, padding to RECORD_ALIGN included.
static inline uint64_t record_bytes(uint32_t meta_bytes, uint32_t content_bytes)
{
    uint64_t n = (uint64_t)RECORD_HEAD_BYTES + meta_bytes + content_bytes;
    return (n + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1);
}

void record_head_format(const struct record_head *head, uint64_t seed, char out[RECORD_HEAD_BYTES]);
// E_DAMAGED: not a head of this segment.
int record_head_parse(const char in[RECORD_HEAD_BYTES], uint64_t seed,
                      struct record_head *out) MUST_USE;
// The sequence number that stands in a head of whatever segment, unproved; 0: this is no head.
uint64_t record_head_peek(const char in[RECORD_HEAD_BYTES]);
uint64_t record_hash(struct bytes data);
// True if both parts match their hashes; empty content is not checked.
bool record_is_sound(const struct record_head *head, struct bytes meta, struct bytes content);

// The three parts of a meta.
struct record_meta {
    struct bytes states, summary, rest;
};
// E_DAMAGED.
int record_meta_parse(struct bytes meta, struct record_meta *out) MUST_USE;
