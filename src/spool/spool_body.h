// SPDX-License-Identifier: MIT
//
// spool_body - reads a stored body in pieces, wherever it stands
//
// Owner:  embedded in its user, who holds a reference on the message; spool_body_done() before that
// goes. Thread: one loop; ready() runs there.
#pragma once

#include "spool/spool.h"

struct spool_body {
    struct spool *spool;
    struct stored_message *message;
    void (*ready)(void *ctx);
    void *ctx;
    struct spool_body_file *file; // extents only
};

// Takes its own reference on m. `ready` is called once after each E_AGAIN.
void spool_body_init(struct spool_body *b, struct spool *spool, struct stored_message *m,
                     void (*ready)(void *ctx), void *ctx);
// Up to max bytes from offset, good until the next call; empty only at the end of the body. A piece never
// needs more than two calls for progress. E_AGAIN: the disk is asked, call again after ready().
// E_DAMAGED: a block does not match its checksum; the extent file has been moved to `damaged/` and that logged.
// E_NOT_FOUND: it is gone, for example there. E_IO.
int spool_body_read(struct spool_body *b, uint64_t offset, size_t max, struct bytes *out) MUST_USE;
// No ready() afterwards; gives the reference back.
void spool_body_done(struct spool_body *b);
