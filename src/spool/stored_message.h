// SPDX-License-Identifier: MIT
//
// stored_message - one accepted message: envelope, header bytes and body, shared by reference
//
// Built by intake (or by spool_read() from the journal), then never changed but for `made`: from
// spool_frame_add_message() on it may be read on any thread. The body stands in memory (at most
// STORED_INLINE_MAX bytes) or in an extent file; either is read through spool/spool_body.h.
//
// Owner:  reference counted, the one such thing beside the configuration snapshot. The arena holds
// the
//         envelope, all its slices and the header bytes, and dies with the last reference.
// Thread: ref and unref on any; everything else only before it is shared.
#pragma once

#include <stdatomic.h>

#include "base/chain.h"
#include "mail/envelope.h"

// A body up to this many bytes is kept in the message's record; a larger one goes to an extent
// file.
#define STORED_INLINE_MAX ((size_t)256 << 10)

// What delivery has made for a rendering of this message and keeps with it (deliver/signature.h). The first to ask makes
// it; `askers` are those who wait for it, or STORED_MADE.
#define STORED_RENDERINGS 3
#define STORED_MADE ((void *)1)
struct stored_made {
    void *_Atomic askers;
    struct bytes fields; // once made; the message's own
};

struct stored_message {
    atomic_int refs;
    struct arena arena;
    struct envelope *envelope; // in the arena; header_bytes and body_bytes are true
    struct bytes header; // in the arena; all fields as stored, and the empty line that ends them
    struct chain body;   // empty when body_in_extent
    bool body_in_extent; // the body is in the extent file named by envelope->id
    bool is_held; // comes into the queue held; an outcome in the frame of its acceptance says why
    uint64_t extent_sum; // checksum of the extent's block sums, set by spool_extent_finish()
    struct stored_made made[STORED_RENDERINGS];
};

// A message with one reference, an empty arena and a zeroed envelope in it.
struct stored_message *stored_message_new(void);
// Takes one more reference; returns m.
struct stored_message *stored_message_ref(struct stored_message *m);
// Bytes that it takes in memory, blocks that are not full included.
size_t stored_message_memory(const struct stored_message *m);
// Gives one reference back; the last one frees. NULL is fine.
void stored_message_unref(struct stored_message *m);
