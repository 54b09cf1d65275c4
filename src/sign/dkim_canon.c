// SPDX-License-Identifier: MIT
//
// How it works. Whatever may turn out to be the end of the body, line ends (and, relaxed, white
// space before and between them), is held back as numbers until a character follows. What passes is
// gathered in `out`, so that the hash is not called for every word.
#include "sign/dkim_canon.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

// ---- the body -----------------------------------------------------------------------------------

void dkim_canon_body_init(struct dkim_canon_body *b, enum dkim_canon canon,
                          void (*emit)(void *ctx, struct bytes piece), void *ctx)
{
    b->canon = canon;
    b->emit = emit;
    b->ctx = ctx;
    b->line_ends = 0;
    b->has_space = b->has_cr = false;
    b->is_empty = true;
    b->used = 0;
}

static void flush(struct dkim_canon_body *b)
{
    if (b->used)
        b->emit(b->ctx, bytes_of(b->out, b->used));
    b->used = 0;
}

static void put(struct dkim_canon_body *b, struct bytes piece)
{
    if (piece.len > sizeof b->out - b->used)
        flush(b);
    if (piece.len > sizeof b->out) {
        b->emit(b->ctx, piece);
        return;
    }
    memcpy(b->out + b->used, piece.at, piece.len);
    b->used += (uint32_t)piece.len;
}

// Characters that count: what was held back before them counts, too.
static void put_text(struct dkim_canon_body *b, struct bytes text)
{
    for (; b->line_ends; b->line_ends--)
        put(b, BYTES("\r\n"));
    if (b->has_space)
        put(b, BYTES(" "));
    b->has_space = b->is_empty = false;
    put(b, text);
}

static void end_line(struct dkim_canon_body *b)
{
    b->has_space = false; // 3.4.4: white space at the end of a line is ignored
    b->line_ends++;
}

// A CR that is, or may be once more has come, half of a CRLF.
static bool is_line_end(struct bytes piece, size_t at)
{
    return piece.at[at] == '\r' && (at + 1 == piece.len || piece.at[at + 1] == '\n');
}

// Does the byte mean nothing but itself? So does a space between two words.
static bool is_plain(const struct dkim_canon_body *b, struct bytes piece, size_t at)
{
    char c = piece.at[at];
    if (b->canon == DKIM_SIMPLE || !is_space(c))
        return !is_line_end(piece, at);
    return c == ' ' && (at > 0 || !b->has_space) && at + 1 < piece.len &&
           (unsigned char)piece.at[at + 1] > ' ';
}

static size_t plain_bytes(const struct dkim_canon_body *b, struct bytes piece)
{
    size_t n = 0;
    while (n < piece.len && ((unsigned char)piece.at[n] > ' ' || is_plain(b, piece, n)))
        n++;
    return n;
}

// Takes what is not plain from the start of `piece`; returns how many bytes.
static size_t feed_special(struct dkim_canon_body *b, struct bytes piece)
{
    if (piece.at[0] != '\r') {
        b->has_space = true; // only relaxed stops at white space
        return 1;
    }
    b->has_cr = piece.len == 1;
    if (!b->has_cr)
        end_line(b);
    return b->has_cr ? 1 : 2;
}

void dkim_canon_body_feed(struct dkim_canon_body *b, struct bytes piece)
{
    if (b->has_cr && piece.len) {
        b->has_cr = false;
        if (piece.at[0] == '\n') {
            end_line(b);
            piece = bytes_skip(piece, 1);
        } else {
            put_text(b, BYTES("\r"));
        }
    }
    while (piece.len) {
        size_t n = plain_bytes(b, piece);
        if (n)
            put_text(b, bytes_first(piece, n));
        piece = bytes_skip(piece, n);
        if (piece.len)
            piece = bytes_skip(piece, feed_special(b, piece));
    }
}

void dkim_canon_body_finish(struct dkim_canon_body *b)
{
    if (b->has_cr)
        put_text(b, BYTES("\r"));
    b->has_cr = false;
    // 3.4.3: an empty body is CRLF; 3.4.4: or nothing
    if (!b->is_empty || b->canon == DKIM_SIMPLE)
        put(b, BYTES("\r\n"));
    flush(b);
}

// ---- the header ---------------------------------------------------------------------------------

// 3.4.2: unfolded, white space reduced to one space, none at the ends.
static void add_relaxed_value(struct bytes value, struct buf *out)
{
    bool has_space = false, begun = false;
    for (size_t i = 0; i < value.len; i++) {
        char c = value.at[i];
        if (c == '\r' && i + 1 < value.len && value.at[i + 1] == '\n') {
            i++;
        } else if (is_space(c)) {
            has_space = begun;
        } else {
            if (has_space)
                buf_add_byte(out, ' ');
            buf_add_byte(out, c);
            has_space = false;
            begun = true;
        }
    }
}

static void add_relaxed(struct bytes field, struct buf *out)
{
    struct bytes name = field, value = BYTES_NONE;
    ptrdiff_t colon = bytes_find(field, ':');
    if (colon >= 0) {
        name = bytes_first(field, (size_t)colon);
        value = bytes_skip(field, (size_t)colon + 1);
    }
    while (name.len && is_space(name.at[name.len - 1]))
        name.len--;
    for (size_t i = 0; i < name.len; i++)
        buf_add_byte(out, ascii_lower(name.at[i]));
    buf_add_byte(out, ':');
    add_relaxed_value(value, out);
}

// Without the last CRLF.
static void add_field(enum dkim_canon canon, struct bytes field, struct buf *out)
{
    if (canon == DKIM_SIMPLE)
        buf_add(out, field);
    else
        add_relaxed(field, out);
}

static struct bytes without_end(struct bytes raw)
{
    return bytes_ends(raw, BYTES("\r\n")) ? bytes_first(raw, raw.len - 2) : raw;
}

void dkim_canon_field(enum dkim_canon canon, struct bytes raw, struct buf *out)
{
    add_field(canon, without_end(raw), out);
    buf_add(out, BYTES("\r\n"));
}

void dkim_canon_signature(enum dkim_canon canon, struct bytes raw, struct buf *out)
{
    struct bytes field = without_end(raw), rest = field, tag;
    struct buf text = {0};
    ptrdiff_t colon = bytes_find(field, ':');
    rest = bytes_skip(rest, colon < 0 ? 0 : (size_t)colon + 1);
    buf_add(&text, bytes_first(field, field.len - rest.len));
    for (bool first = true; bytes_cut(&rest, ';', &tag); first = false) {
        struct bytes left = tag, name;
        if (!first)
            buf_add_byte(&text, ';');
        bytes_cut(&left, '=', &name);
        if (bytes_eq(bytes_trim(name), BYTES("b")) && left.at)
            buf_add(&text, bytes_first(tag, name.len + 1)); // 3.7: the value is deleted
        else
            buf_add(&text, tag);
    }
    add_field(canon, buf_bytes(&text), out);
    buf_done(&text);
}
