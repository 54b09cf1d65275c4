// SPDX-License-Identifier: MIT
#include "intake/intake_content.h"

#define HEADER_SCAN_BACK 3 // an empty line may begin in what came before

void intake_content_init(struct intake_content *c, struct spool *spool, struct message_id id,
                         size_t header_bytes_max, bool hashes, void (*drained)(void *ctx),
                         void *ctx)
{
    *c = (struct intake_content){
        .spool = spool, .id = id, .hashes = hashes, .drained = drained, .ctx = ctx};
    buf_init(&c->header, header_bytes_max);
    if (hashes)
        dkim_body_init(&c->hash, DKIM_RELAXED);
}

static void on_drained(void *ctx)
{
    struct intake_content *c = ctx;
    c->drained(c->ctx);
}

static bool add_body(struct intake_content *c, struct bytes piece)
{
    if (piece.len == 0)
        return false;
    if (c->hashes)
        dkim_body_feed(&c->hash, piece);
    c->body_bytes += piece.len;
    chain_add(&c->body, piece);
    if (!c->extent) {
        if (c->body.len <= STORED_INLINE_MAX)
            return false;
        c->extent = spool_extent_begin(c->spool, c->id, on_drained, c);
    }
    if (c->body.len >= SPOOL_EXTENT_BLOCK)
        spool_extent_write(c->extent, &c->body);
    return spool_extent_pending(c->extent) > SPOOL_EXTENT_WINDOW;
}

// Where the header ends in the buffer (behind its empty line), looking from `from`; 0: not yet.
static size_t header_end(struct bytes header, size_t from)
{
    if (bytes_starts(header, BYTES("\r\n")))
        return 2; // no fields at all
    ptrdiff_t at = bytes_search(bytes_skip(header, from), BYTES("\r\n\r\n"));
    return at == -1 ? 0 : from + (size_t)at + 4;
}

static bool add_header(struct intake_content *c, struct bytes piece)
{
    size_t before = c->header.len;
    size_t room = c->header.max - before;
    size_t taken = piece.len < room ? piece.len : room;
    buf_add(&c->header, bytes_first(piece, taken));
    size_t end = header_end(buf_bytes(&c->header),
                            before > HEADER_SCAN_BACK ? before - HEADER_SCAN_BACK : 0);
    if (end) {
        c->header_done = true;
        buf_truncate(&c->header, end);
        return add_body(c, bytes_skip(piece, end - before));
    }
    if (taken < piece.len) {
        c->header_too_large = true;
        buf_done(&c->header);
    }
    return false;
}

bool intake_content_add(struct intake_content *c, struct bytes piece)
{
    if (c->header_too_large)
        return false; // refused at its end; consumed until then
    return c->header_done ? add_body(c, piece) : add_header(c, piece);
}

void intake_content_end(struct intake_content *c)
{
    if (c->header_done || c->header_too_large)
        return;
    c->header.max += 4;
    if (c->header.len && !bytes_ends(buf_bytes(&c->header), BYTES("\r\n")))
        buf_add_cstr(&c->header, "\r\n");
    buf_add_cstr(&c->header, "\r\n");
    c->header_done = true;
}

static void on_extent_finished(void *ctx, int err)
{
    struct intake_content *c = ctx;
    c->extent = NULL;
    c->message = NULL;
    c->done(c->ctx, err);
}

void intake_content_finish(struct intake_content *c, struct stored_message *m,
                           void (*done)(void *ctx, int err))
{
    struct envelope *e = m->envelope;
    e->has_body_hash = c->hashes;
    if (c->hashes)
        dkim_body_finish(&c->hash, e->body_hash);
    e->body_bytes = c->body_bytes;
    c->done = done;
    if (!c->extent) {
        chain_move(&m->body, &c->body);
        done(c->ctx, OK);
        return;
    }
    if (c->body.len)
        spool_extent_write(c->extent, &c->body);
    c->message = m;
    spool_extent_finish(c->extent, m, on_extent_finished);
}

void intake_content_drop(struct intake_content *c)
{
    CHECK(!c->message);
    if (c->extent)
        spool_extent_abort(c->extent);
    c->extent = NULL;
    chain_done(&c->body);
    buf_done(&c->header);
    dkim_body_done(&c->hash);
}
