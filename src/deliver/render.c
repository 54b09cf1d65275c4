// SPDX-License-Identifier: MIT
#include "deliver/render.h"

#include <stdlib.h>

static unsigned plan_flags(enum render_kind kind, enum mail_body body)
{
    unsigned flags = kind == RENDER_SEVEN_BIT ? 0 : MAIL_DOWNGRADE_KEEP_8BIT;
    if (body == BODY_BINARYMIME && kind != RENDER_CHECKED)
        flags |= MAIL_DOWNGRADE_LONG_LINES | MAIL_DOWNGRADE_KEEP_SIGNED;
    return flags;
}

void render_init(struct render *r, struct spool *spool, struct stored_message *m,
                 enum render_kind kind, struct bytes added, void (*ready)(void *ctx), void *ctx)
{
    r->message = stored_message_ref(m);
    r->kind = kind;
    r->added = (struct buf){0};
    buf_add(&r->added, added);
    r->added_at = r->header_at = r->body_at = 0;
    r->plan = (struct mail_downgrade_plan){0};
    r->planned = false;
    r->downgrade = NULL;
    r->out = (struct buf){0};
    r->out_taken = 0;
    r->ended = false;
    r->err = OK;
    spool_body_init(&r->body, spool, m, ready, ctx);
    if (kind != RENDER_IDENTITY)
        mail_downgrade_plan_start(&r->plan, plan_flags(kind, m->envelope->body));
}

void render_done(struct render *r)
{
    if (!r->message)
        return;
    if (r->kind != RENDER_IDENTITY) {
        mail_downgrade_free(r->downgrade);
        mail_downgrade_plan_done(&r->plan);
    }
    buf_done(&r->out);
    buf_done(&r->added);
    spool_body_done(&r->body);
    stored_message_unref(r->message);
    r->message = NULL;
}

uint64_t render_size(const struct render *r)
{
    const struct envelope *e = r->message->envelope;
    return !render_converts(r->kind) ? r->added.len + e->header_bytes + e->body_bytes : 0;
}

// The next piece of the message before it is converted, what is added first; empty only at its end.
static int read_piece(struct render *r, size_t max, struct bytes *out)
{
    struct bytes header = r->message->header;
    if (r->added_at < r->added.len) {
        *out = bytes_mid(buf_bytes(&r->added), r->added_at, max);
        r->added_at += out->len;
        return OK;
    }
    if (r->header_at < header.len) {
        *out = bytes_mid(header, r->header_at, max);
        r->header_at += out->len;
        return OK;
    }
    int err = spool_body_read(&r->body, r->body_at, max, out);
    if (err)
        return err == E_NOT_FOUND ? E_DAMAGED : err; // set aside by an earlier reader
    r->body_at += out->len;
    return OK;
}

static bool at_end(const struct render *r)
{
    return r->added_at == r->added.len && r->header_at == r->message->header.len &&
           r->body_at == r->message->envelope->body_bytes;
}

static int next_identity(struct render *r, size_t max, struct bytes *out, bool *out_end)
{
    int err = read_piece(r, max, out);
    if (!err && out->len == 0 && !at_end(r))
        err = E_DAMAGED; // shorter than its envelope says
    *out_end = at_end(r);
    return err;
}

// ---- in two readings -------------------------------------------------------------------------------------------

static void emit(void *ctx, struct bytes piece)
{
    struct render *r = ctx;
    buf_add(&r->out, piece);
}

static int plan(struct render *r)
{
    while (!at_end(r)) {
        struct bytes piece;
        int err = read_piece(r, RENDER_PIECE_BYTES, &piece);
        if (err)
            return err;
        if (piece.len == 0)
            return E_DAMAGED;
        mail_downgrade_plan_feed(&r->plan, piece);
    }
    int err = mail_downgrade_plan_finish(&r->plan);
    if (err == E_SYNTAX || err == E_LIMIT) // what can't be taken apart can't be converted
        err = E_DENIED;
    if (r->kind == RENDER_CHECKED)
        err = r->plan.has_8bit_header ? E_DENIED : OK; // what can't be taken apart passes as it is
    if (err)
        return err;
    if (render_converts(r->kind))
        r->downgrade = mail_downgrade_new(&r->plan, emit, r);
    r->added_at = r->header_at = r->body_at = 0;
    r->planned = true;
    return OK;
}

static int convert_more(struct render *r)
{
    buf_clear(&r->out);
    r->out_taken = 0;
    while (r->out.len == 0 && !r->ended) {
        struct bytes piece;
        int err = read_piece(r, RENDER_PIECE_BYTES, &piece);
        if (err)
            return err;
        if (piece.len == 0 && !at_end(r))
            return E_DAMAGED;
        err = mail_downgrade_feed(r->downgrade, piece);
        if (!err && at_end(r)) {
            r->ended = true;
            err = mail_downgrade_finish(r->downgrade);
        }
        if (err)
            return err;
    }
    return r->out.err;
}

static int next_converted(struct render *r, size_t max, struct bytes *out, bool *out_end)
{
    int err = r->out_taken == r->out.len ? convert_more(r) : OK;
    if (err)
        return err;
    *out = bytes_mid(buf_bytes(&r->out), r->out_taken, max);
    r->out_taken += out->len;
    *out_end = r->ended && r->out_taken == r->out.len;
    return OK;
}

int render_next(void *render, size_t max, struct bytes *out, bool *out_end)
{
    struct render *r = render;
    *out = BYTES_NONE;
    *out_end = false;
    int err = r->kind == RENDER_IDENTITY || r->planned ? OK : plan(r);
    if (!err)
        err = render_converts(r->kind) ? next_converted(r, max, out, out_end)
                                       : next_identity(r, max, out, out_end);
    if (err && err != E_AGAIN)
        r->err = err;
    return err;
}
