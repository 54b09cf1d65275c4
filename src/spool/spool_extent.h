// SPDX-License-Identifier: MIT
//
// spool_extent - a large body on its way into a file of its own
//
//     e = spool_extent_begin(spool, id, drained, ctx)
//     spool_extent_write(e, &chain)   as the body arrives; stop reading while pending >
//     SPOOL_EXTENT_WINDOW spool_extent_finish(e, m, done) flushed with its directory entry; then
//     commit the frame with m
//
// Writing and flushing run on the offload pool, one job an extent at a time, so a large body delays
// nobody's commit. Blocks of 64 KiB are checksummed; the sums stand behind the body.
//
// Owner:  the caller, until finish's done() or abort. A finished extent whose message is not
// accepted must be
//         removed by spool_extent_remove(); a crash leaves an orphan that recovery removes.
// Thread: the loop it began on; callbacks there.
// Fails:  sticky: the first error comes back from finish (E_FULL, E_IO).
#pragma once

#include "spool/spool.h"

#define SPOOL_EXTENT_WINDOW ((size_t)512 << 10)
#define SPOOL_EXTENT_BLOCK ((size_t)64 << 10)

struct spool_extent;

// drained(ctx) is called when pending bytes fall to half the window after they passed the window.
struct spool_extent *spool_extent_begin(struct spool *spool, struct message_id id,
                                        void (*drained)(void *ctx), void *ctx);
// Moves the chunks out of `from`.
void spool_extent_write(struct spool_extent *e, struct chain *from);
size_t spool_extent_pending(const struct spool_extent *e);
// Error so far (the session may answer early), or OK.
int spool_extent_error(const struct spool_extent *e);
// Writes the rest, flushes file and directory, marks m (body_in_extent, extent_sum,
// envelope->body_bytes). done(ctx, err) with begin's ctx; e is gone then, and on an error its file
// too.
void spool_extent_finish(struct spool_extent *e, struct stored_message *m,
                         void (*done)(void *ctx, int err));
// Gives up; no callback follows.
void spool_extent_abort(struct spool_extent *e);
// Removes the finished extent of a message that was not accepted.
void spool_extent_remove(struct spool *spool, struct message_id id);
