// SPDX-License-Identifier: MIT
//
// How it works. Whatever may turn out to be the end of the body, line ends (and, relaxed, white
// space before and between them), is held back as numbers until a character follows. What passes is
// gathered in `out`, so that the hash is not called for every word. Most lines pass as they are,
// and are looked at eight bytes at a time; each line is tried once.
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

#define EACH(byte) (0x0101010101010101u * (byte))

static uint64_t eight(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

// The high bit of each byte that is zero, perhaps also of one behind such a byte.
static uint64_t zero_bytes(uint64_t word)
{
    return (word - EACH(0x01)) & ~word & EACH(0x80);
}

// May there be white space that relaxed changes, but at the ends? All that is missed is false alarm.
static bool may_fold(struct bytes line)
{
    size_t i = 0;
    uint64_t found = 0;
    for (; i + 9 <= line.len; i += 8)
        found |= zero_bytes(eight(line.at + i) ^ EACH('\t')) |
                 (zero_bytes(eight(line.at + i) ^ EACH(' ')) &
                  zero_bytes(eight(line.at + i + 1) ^ EACH(' ')));
    for (; i < line.len; i++)
        found |= line.at[i] == '\t' || (line.at[i] == ' ' && i > 0 && line.at[i - 1] == ' ');
    return found != 0;
}

// At the start of a line: how many bytes of it mean nothing but themselves, if that is all of it.
static size_t plain_line(const struct dkim_canon_body *b, struct bytes piece)
{
    ptrdiff_t end = b->line_ends && !b->has_space ? bytes_find(piece, '\r') : -1;
    if (end <= 0)
        return 0;
    struct bytes line = bytes_first(piece, (size_t)end);
    bool as_it_is = b->canon == DKIM_SIMPLE || !(is_space(line.at[line.len - 1]) || may_fold(line));
    return as_it_is ? line.len : 0;
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
        size_t n = plain_line(b, piece);
        if (!n)
            n = plain_bytes(b, piece);
        if (n)
            put_text(b, bytes_first(piece, n));
        else
            n = feed_special(b, piece);
        piece = bytes_skip(piece, n);
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
static char *put_relaxed_value(struct bytes value, char *to)
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
                *to++ = ' ';
            *to++ = c;
            has_space = false;
            begun = true;
        }
    }
    return to;
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
    char *at = buf_reserve(out, field.len + 1); // a colon may be missing
    if (!at)
        return;
    char *to = at;
    for (size_t i = 0; i < name.len; i++)
        *to++ = ascii_lower(name.at[i]);
    *to++ = ':';
    to = put_relaxed_value(value, to);
    buf_commit(out, (size_t)(to - at));
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
