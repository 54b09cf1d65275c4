// SPDX-License-Identifier: MIT
#include "mail/mail_downgrade.h"

#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_encode.h"
#include "mail/mail_mime_walk.h"

// A label that the next hop does not take.
static bool has_bad_label(const struct mail_part *part, unsigned flags)
{
    return part->encoding == ENCODING_BINARY ||
           (part->encoding == ENCODING_8BIT && !(flags & MAIL_DOWNGRADE_KEEP_8BIT));
}

// ---- the plan

static void plan_fail(struct mail_downgrade_plan *plan, int err)
{
    if (!plan->err)
        plan->err = err;
}

// The part does not stay as it is.
static void plan_change(struct mail_downgrade_plan *plan, const struct mail_part *part)
{
    plan->is_needed = true;
    if (part->in_signed && plan->flags & MAIL_DOWNGRADE_KEEP_SIGNED)
        plan_fail(plan, E_DENIED);
}

static void plan_header(void *ctx, const struct mail_part *part, struct bytes block,
                        bool has_separator)
{
    struct mail_downgrade_plan *plan = ctx;
    struct mail_field field;
    CHECK(plan->marks.len == part->index);
    buf_add_byte(&plan->marks, 0);
    plan->parts++;
    plan->is_bad = false;
    plan->last = 0;
    plan->column = 0;
    if (!bytes_is_ascii(block)) {
        plan->has_8bit_header = true;
        if (!(plan->flags & MAIL_DOWNGRADE_KEEP_8BIT))
            plan_fail(plan, E_DENIED);
    }
    if (part->is_signed || (part->is_message && part->index == 0 &&
                            mail_header_find(block, BYTES("DKIM-Signature"), &field)))
        plan->has_signed = true;
    if (has_bad_label(part, plan->flags))
        plan_change(plan, part);
}

// Does the piece have bytes that can't pass? Follows lines and line ends across pieces.
static bool scan(struct mail_downgrade_plan *plan, struct bytes piece)
{
    bool keep_8bit = plan->flags & MAIL_DOWNGRADE_KEEP_8BIT;
    bool long_lines = plan->flags & MAIL_DOWNGRADE_LONG_LINES;
    bool is_bad = false;
    for (size_t i = 0; i < piece.len; i++) {
        char c = piece.at[i];
        bool ends_line = c == '\n' && plan->last == '\r';
        is_bad |= c == 0 || ((unsigned char)c >= 0x80 && !keep_8bit);
        is_bad |= (c == '\n' || plan->last == '\r') && !ends_line;
        plan->column = ends_line ? 0 : plan->column + (c != '\r');
        is_bad |= long_lines && plan->column > MAIL_LINE_MAX;
        plan->last = c;
    }
    return is_bad;
}

static void plan_body(void *ctx, const struct mail_part *part, struct bytes piece)
{
    struct mail_downgrade_plan *plan = ctx;
    plan->is_bad |= scan(plan, piece);
}

static void plan_end(void *ctx, const struct mail_part *part)
{
    struct mail_downgrade_plan *plan = ctx;
    bool is_identity = part->encoding == ENCODING_7BIT || part->encoding == ENCODING_8BIT ||
                       part->encoding == ENCODING_BINARY;
    if (!plan->is_bad && plan->last != '\r')
        return;
    if (!is_identity || part->is_opaque)
        plan_fail(plan, E_DENIED);
    plan->marks.at[part->index] = 1;
    plan_change(plan, part);
}

// Is there something in a preamble or epilogue that becomes "?"
static bool is_raw_bad(char c, unsigned flags)
{
    return c == 0 || ((unsigned char)c >= 0x80 && !(flags & MAIL_DOWNGRADE_KEEP_8BIT));
}

static void plan_raw(void *ctx, struct bytes piece)
{
    struct mail_downgrade_plan *plan = ctx;
    for (size_t i = 0; i < piece.len && !plan->is_needed; i++)
        plan->is_needed = is_raw_bad(piece.at[i], plan->flags);
}

static const struct mail_mime_events plan_events = {plan_header, plan_body, plan_end, plan_raw};

void mail_downgrade_plan_start(struct mail_downgrade_plan *plan, unsigned flags)
{
    *plan = (struct mail_downgrade_plan){.flags = flags};
    plan->walk = mail_mime_walk_new(&plan_events, plan);
}

void mail_downgrade_plan_feed(struct mail_downgrade_plan *plan, struct bytes piece)
{
    int err = mail_mime_walk_feed(plan->walk, piece);
    if (err)
        plan_fail(plan, err);
}

int mail_downgrade_plan_finish(struct mail_downgrade_plan *plan)
{
    int err = mail_mime_walk_finish(plan->walk);
    if (err)
        plan_fail(plan, err);
    mail_mime_walk_free(plan->walk);
    plan->walk = NULL;
    return plan->err;
}

void mail_downgrade_plan_done(struct mail_downgrade_plan *plan)
{
    mail_mime_walk_free(plan->walk);
    buf_done(&plan->marks);
    *plan = (struct mail_downgrade_plan){0};
}

// ---- the downgrade

struct mail_downgrade {
    const struct mail_downgrade_plan *plan;
    void (*emit)(void *ctx, struct bytes piece);
    void *ctx;
    struct mail_mime_walk *walk;
    struct mail_qp_encoder qp;
    struct mail_base64_encoder base64;
    struct buf out;
    size_t parts;
    int err;
};

static void flush(struct mail_downgrade *d)
{
    if (d->out.len)
        d->emit(d->ctx, buf_bytes(&d->out));
    buf_clear(&d->out);
}

static bool must_encode(const struct mail_downgrade *d, const struct mail_part *part)
{
    return part->index < d->plan->marks.len && d->plan->marks.at[part->index];
}

static bool is_for_qp(const struct mail_part *part)
{
    return part->kind == PART_TEXT || part->kind == PART_MESSAGE;
}

static const char *new_label(const struct mail_downgrade *d, const struct mail_part *part)
{
    if (must_encode(d, part))
        return is_for_qp(part) ? "quoted-printable" : "base64";
    return d->plan->flags & MAIL_DOWNGRADE_KEEP_8BIT ? "8bit" : "7bit";
}

static void end_line(struct buf *out)
{
    if (out->len && !bytes_ends(buf_bytes(out), BYTES("\r\n")))
        buf_add(out, BYTES("\r\n"));
}

// The fields with the label in the place of the old one, or behind them all.
static void write_header(struct mail_downgrade *d, const struct mail_part *part, struct bytes block)
{
    struct mail_field field;
    bool is_written = false, has_version = !part->is_message;
    while (mail_header_next(&block, &field)) {
        has_version |= bytes_eq_nocase(field.name, BYTES("MIME-Version"));
        if (!bytes_eq_nocase(field.name, BYTES("Content-Transfer-Encoding"))) {
            buf_add(&d->out, field.raw);
            continue;
        }
        if (!is_written)
            buf_printf(&d->out, "Content-Transfer-Encoding: %s\r\n", new_label(d, part));
        is_written = true;
    }
    end_line(&d->out);
    if (!has_version)
        buf_add(&d->out, BYTES("MIME-Version: 1.0\r\n"));
    if (!is_written)
        buf_printf(&d->out, "Content-Transfer-Encoding: %s\r\n", new_label(d, part));
}

static void on_header(void *ctx, const struct mail_part *part, struct bytes block,
                      bool has_separator)
{
    struct mail_downgrade *d = ctx;
    bool changes = must_encode(d, part) || has_bad_label(part, d->plan->flags);
    if (part->index >= d->plan->parts)
        d->err = E_DAMAGED;
    d->parts++;
    if (changes)
        write_header(d, part, block);
    else
        buf_add(&d->out, block);
    // Without a separator what is changed behind this header could turn into a field of it.
    bool add_separator = !has_separator && d->plan->is_needed;
    if (add_separator)
        end_line(&d->out); // the message may have ended in its header
    if (has_separator || add_separator)
        buf_add(&d->out, BYTES("\r\n"));
    if (d->out.err)
        d->err = d->out.err;
    flush(d);
}

static void on_body(void *ctx, const struct mail_part *part, struct bytes piece)
{
    struct mail_downgrade *d = ctx;
    if (!must_encode(d, part)) {
        d->emit(d->ctx, piece);
        return;
    }
    while (piece.len && !d->err) { // in steps, so that the encoded form stays small
        struct bytes step = bytes_first(piece, 8192);
        if (is_for_qp(part))
            mail_qp_encoder_feed(&d->qp, step, &d->out);
        else
            mail_base64_encoder_feed(&d->base64, step, &d->out);
        flush(d);
        piece = bytes_skip(piece, step.len);
    }
}

static void on_end(void *ctx, const struct mail_part *part)
{
    struct mail_downgrade *d = ctx;
    if (!must_encode(d, part))
        return;
    if (is_for_qp(part)) {
        bool cut_line = d->qp.column || d->qp.matched || d->qp.space || d->qp.held_cr;
        mail_qp_encoder_finish(&d->qp, &d->out);
        if (cut_line &&
            !part->in_multipart) // a sender ends the last line: that CRLF must not count
            buf_add(&d->out, BYTES("=\r\n"));
    } else {
        mail_base64_encoder_finish(&d->base64, &d->out);
        if (d->out.len && part->in_multipart)
            buf_truncate(&d->out, d->out.len - 2); // the boundary brings its own CRLF
    }
    flush(d);
}

static void on_raw(void *ctx, struct bytes piece)
{
    struct mail_downgrade *d = ctx;
    for (size_t i = 0; i < piece.len; i++)
        buf_add_byte(&d->out, is_raw_bad(piece.at[i], d->plan->flags) ? '?' : piece.at[i]);
    flush(d);
}

static const struct mail_mime_events downgrade_events = {on_header, on_body, on_end, on_raw};

struct mail_downgrade *mail_downgrade_new(const struct mail_downgrade_plan *plan,
                                          void (*emit)(void *ctx, struct bytes piece), void *ctx)
{
    CHECK(plan->err == OK && !plan->walk);
    struct mail_downgrade *d = mem_new(sizeof(*d));
    d->plan = plan;
    d->emit = emit;
    d->ctx = ctx;
    d->walk = mail_mime_walk_new(&downgrade_events, d);
    return d;
}

int mail_downgrade_feed(struct mail_downgrade *d, struct bytes piece)
{
    int err = mail_mime_walk_feed(d->walk, piece);
    return err ? err : d->err;
}

int mail_downgrade_finish(struct mail_downgrade *d)
{
    int err = mail_mime_walk_finish(d->walk);
    if (err == OK && d->parts != d->plan->parts)
        err = E_DAMAGED;
    return err ? err : d->err;
}

void mail_downgrade_free(struct mail_downgrade *d)
{
    if (!d)
        return;
    mail_mime_walk_free(d->walk);
    buf_done(&d->out);
    free(d);
}
