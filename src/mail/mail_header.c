// SPDX-License-Identifier: MIT
//
// How it works: bytes are copied to `block` one by one while a small machine follows the line they
// are in. Where a line turns out not to be a field, what it has so far moves from `block` to
// `rest`.
#include "mail/mail_header.h"

#include "base/check.h"

enum phase {
    LINE_START, // nothing of the line yet
    NAME,       // in a field's name
    NAME_SPACE, // white space between name and colon (obsolete)
    TEXT,       // in a value or a continuation
    TEXT_CR,    // behind the CR of such a line
    EMPTY_CR,   // behind a CR that starts a line
};

void mail_header_reader_init(struct mail_header_reader *r, const struct mail_header_limits *limits)
{
    static const struct mail_header_limits none;
    const struct mail_header_limits *given = limits ? limits : &none;
    *r = (struct mail_header_reader){
        .limits = {given->bytes_max ? given->bytes_max : MAIL_HEADER_BYTES_MAX,
                   given->fields_max ? given->fields_max : MAIL_HEADER_FIELDS_MAX,
                   given->line_max ? given->line_max : MAIL_LINE_MAX}};
    buf_init(&r->block, r->limits.bytes_max + 2);
    buf_init(&r->rest, r->limits.bytes_max + 2);
}

void mail_header_reader_done(struct mail_header_reader *r)
{
    buf_done(&r->block);
    buf_done(&r->rest);
}

static bool is_ftext(char c)
{
    return c >= 33 && c <= 126 && c != ':';
}

// The line is no field: it and what follows is the body.
static enum mail_header_state end_without_separator(struct mail_header_reader *r)
{
    buf_add(&r->rest, bytes_skip(buf_bytes(&r->block), r->line_start));
    buf_truncate(&r->block, r->line_start);
    return MAIL_HEADER_DONE;
}

// The next byte of a line that is a field for certain.
static enum mail_header_state text_byte(struct mail_header_reader *r, char c)
{
    if (c == '\r')
        r->phase = TEXT_CR;
    else if (c == '\n' || c == 0)
        return MAIL_HEADER_BARE_NEWLINE;
    else if (r->block.len - r->line_start > r->limits.line_max)
        return MAIL_HEADER_LINE_LONG;
    return MAIL_HEADER_MORE;
}

static enum mail_header_state line_start_byte(struct mail_header_reader *r, char c)
{
    r->line_start = r->block.len - 1;
    if (c == '\r')
        r->phase = EMPTY_CR;
    else if ((c == ' ' || c == '\t') && r->fields)
        r->phase = TEXT;
    else if (is_ftext(c))
        r->phase = NAME;
    else
        return end_without_separator(r);
    return MAIL_HEADER_MORE;
}

static enum mail_header_state name_byte(struct mail_header_reader *r, char c)
{
    if (c == ':') {
        r->phase = TEXT;
        if (++r->fields > r->limits.fields_max)
            return MAIL_HEADER_TOO_MANY;
    } else if (c == ' ' || c == '\t')
        r->phase = NAME_SPACE;
    else if (r->phase == NAME_SPACE || !is_ftext(c) ||
             r->block.len - r->line_start > r->limits.line_max)
        return end_without_separator(r);
    return MAIL_HEADER_MORE;
}

static enum mail_header_state after_cr_byte(struct mail_header_reader *r, char c)
{
    if (c != '\n')
        return r->phase == EMPTY_CR ? end_without_separator(r) : MAIL_HEADER_BARE_NEWLINE;
    if (r->phase == TEXT_CR) {
        r->phase = LINE_START;
        return MAIL_HEADER_MORE;
    }
    buf_truncate(&r->block, r->line_start);
    r->has_separator = true;
    return MAIL_HEADER_DONE;
}

static enum mail_header_state one_byte(struct mail_header_reader *r, char c)
{
    buf_add_byte(&r->block, c);
    if (r->block.len > r->limits.bytes_max && r->phase != EMPTY_CR && c != '\r')
        return MAIL_HEADER_TOO_LARGE;
    switch ((enum phase)r->phase) {
    case LINE_START:
        return line_start_byte(r, c);
    case NAME:
    case NAME_SPACE:
        return name_byte(r, c);
    case TEXT:
        return text_byte(r, c);
    default:
        return after_cr_byte(r, c);
    }
}

// Bytes at the start of data that are plain text of the current line and below every limit.
static size_t text_run(const struct mail_header_reader *r, struct bytes data)
{
    size_t line = r->block.len - r->line_start, n = 0;
    size_t room = r->limits.line_max > line ? r->limits.line_max - line : 0;
    if (room > r->limits.bytes_max - r->block.len)
        room = r->limits.bytes_max - r->block.len;
    if (room > data.len)
        room = data.len;
    while (n < room && data.at[n] != '\r' && data.at[n] != '\n' && data.at[n] != 0)
        n++;
    return n;
}

enum mail_header_state mail_header_reader_feed(struct mail_header_reader *r, struct bytes data,
                                               size_t *out_used)
{
    size_t at = 0;
    while (at < data.len && r->state == MAIL_HEADER_MORE) {
        size_t run = r->phase == TEXT ? text_run(r, bytes_skip(data, at)) : 0;
        buf_add(&r->block, bytes_mid(data, at, run));
        at += run;
        if (at < data.len && run == 0)
            r->state = one_byte(r, data.at[at++]);
    }
    CHECK(r->block.err == OK && r->rest.err == OK);
    *out_used = at;
    return r->state;
}

enum mail_header_state mail_header_reader_finish(struct mail_header_reader *r)
{
    if (r->state != MAIL_HEADER_MORE)
        return r->state;
    if (r->phase == TEXT_CR)
        r->state = MAIL_HEADER_BARE_NEWLINE;
    else if (r->phase == TEXT || r->phase == LINE_START)
        r->state = MAIL_HEADER_DONE;
    else
        r->state = end_without_separator(r);
    return r->state;
}

// ---- a whole block

// Octets of the line that s starts with, its CRLF included.
static size_t line_of(struct bytes s)
{
    ptrdiff_t end = bytes_find(s, '\n');
    return end < 0 ? s.len : (size_t)end + 1;
}

static struct bytes without_crlf(struct bytes s)
{
    if (bytes_ends(s, BYTES("\r\n")))
        s.len -= 2;
    return s;
}

bool mail_header_next(struct bytes *block, struct mail_field *out)
{
    size_t end = line_of(*block);
    ptrdiff_t colon = bytes_find(bytes_first(*block, end), ':');
    if (colon <= 0)
        return false;
    while (end < block->len && (block->at[end] == ' ' || block->at[end] == '\t'))
        end += line_of(bytes_skip(*block, end));
    out->raw = bytes_first(*block, end);
    out->name = bytes_trim(bytes_first(*block, (size_t)colon));
    out->value = without_crlf(bytes_skip(out->raw, (size_t)colon + 1));
    *block = bytes_skip(*block, end);
    return true;
}

bool mail_header_find(struct bytes block, struct bytes name, struct mail_field *out)
{
    while (mail_header_next(&block, out))
        if (bytes_eq_nocase(out->name, name))
            return true;
    return false;
}

size_t mail_header_count(struct bytes block, struct bytes name)
{
    struct mail_field field;
    size_t count = 0;
    while (mail_header_next(&block, &field))
        count += bytes_eq_nocase(field.name, name);
    return count;
}

size_t mail_header_remove(struct buf *block, struct bytes name)
{
    struct bytes rest = buf_bytes(block);
    struct mail_field field;
    size_t kept = 0, removed = 0;
    while (mail_header_next(&rest, &field)) {
        if (bytes_eq_nocase(field.name, name)) {
            removed++;
            continue;
        }
        memmove(block->at + kept, field.raw.at, field.raw.len);
        kept += field.raw.len;
    }
    if (rest.len)
        memmove(block->at + kept, rest.at, rest.len);
    buf_truncate(block, kept + rest.len);
    return removed;
}

void mail_header_unfold(struct bytes value, struct buf *out)
{
    value = bytes_trim(value);
    while (value.len) {
        ptrdiff_t cr = bytes_search(value, BYTES("\r\n"));
        size_t n = cr < 0 ? value.len : (size_t)cr;
        buf_add(out, bytes_first(value, n));
        value = bytes_skip(value, n + 2);
    }
}
