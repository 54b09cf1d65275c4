// SPDX-License-Identifier: MIT
//
// intake_content - takes in the content of one message: header into memory, body into memory or an extent
//
// The header ends at the first empty line. The body is hashed as it comes, where a key may sign it; up to
// STORED_INLINE_MAX it stays in a chain, beyond that it streams to an extent file, so a large message never stands whole
// in memory.
//
// Owner:  the session; every path ends in intake_content_finish() or intake_content_drop().
// Limits: header_bytes_max: past it the header is not kept and `header_too_large` is set (content goes on to be
//         consumed by the session until its end).
#pragma once

#include "sign/dkim_body.h"
#include "spool/spool_extent.h"

struct intake_content {
    struct spool *spool;
    struct message_id id;
    struct buf header; // with its empty line, once header_done
    bool header_done, header_too_large;
    struct chain body; // what is not with the extent yet
    uint64_t body_bytes;
    struct spool_extent *extent; // NULL: all in `body`
    bool hashes;
    struct dkim_body hash;      // while `hashes`
    void (*drained)(void *ctx); // the extent has caught up
    void *ctx;
    // while finishing
    struct stored_message *message;
    void (*done)(void *ctx, int err);
};

// `hashes`: the body's hash for DKIM is made, in this one pass; mail that no key signs does without.
void intake_content_init(struct intake_content *c, struct spool *spool, struct message_id id,
                         size_t header_bytes_max, bool hashes, void (*drained)(void *ctx),
                         void *ctx);
// Adds a piece of content. True: stop feeding until drained() is called.
bool intake_content_add(struct intake_content *c, struct bytes piece);
// No more content: settles where the header ends when no empty line came (all of it is header).
void intake_content_end(struct intake_content *c);
// Moves the body into m (chain or extent; body_bytes, hash). done(ctx, err) may come before this returns when
// nothing has to be written; m is borrowed until then.
void intake_content_finish(struct intake_content *c, struct stored_message *m,
                           void (*done)(void *ctx, int err));
// Forgets everything, removes what was written. Harmless twice and after finish.
void intake_content_drop(struct intake_content *c);
