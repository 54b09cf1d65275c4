// SPDX-License-Identifier: MIT
//
// How it works: while no boundary is known, bytes pass through. Else each line is looked at first:
// one that starts with "--" is held until it is known whether it is a boundary of any open level,
// innermost first (RFC 2046 section 5.1.2). The CRLF before a boundary belongs to it, so a line's
// CRLF in a body is held until the next line is known. In a header it goes to the header's reader
// at once.
#include "mail/mail_mime_walk.h"

#include <stdlib.h>

#include "base/check.h"

#define BOUNDARY_LINE_MAX 998 // a longer line is no boundary

enum phase {
    PHASE_HEADER,
    PHASE_BODY, // in a leaf
    PHASE_RAW,  // in a preamble or epilogue
};

struct level {
    char boundary[MAIL_BOUNDARY_MAX];
    uint8_t length;
    uint8_t depth; // of the multipart itself
    bool is_digest, is_signed;
};

struct mail_mime_walk {
    const struct mail_mime_events *events;
    void *ctx;
    enum phase phase;
    struct mail_part part; // the current one
    size_t parts;
    unsigned depth; // of the current part
    struct level levels[MAIL_MIME_DEPTH_MAX];
    unsigned level_count;
    struct mail_header_reader reader;
    bool default_rfc822; // the header being read is of a part of a multipart/digest
    bool at_line_start;
    char held[2]; // CR or CRLF
    uint8_t held_len;
    struct buf line; // start of a line that may be a boundary
    int err;
};

static void feed(struct mail_mime_walk *w, struct bytes data);

// ---- headers

static void start_header(struct mail_mime_walk *w, bool is_message, bool default_rfc822)
{
    static const struct mail_header_limits limits = {.line_max = MAIL_HEADER_BYTES_MAX};
    mail_header_reader_done(&w->reader);
    mail_header_reader_init(&w->reader, &limits);
    if (w->parts == MAIL_MIME_PARTS_MAX || w->depth > MAIL_MIME_DEPTH_MAX)
        w->err = E_LIMIT;
    w->part = (struct mail_part){
        .index = w->parts++, .is_message = is_message, .in_multipart = w->level_count > 0};
    for (unsigned i = 0; i < w->level_count; i++)
        w->part.in_signed |= w->levels[i].is_signed;
    w->default_rfc822 = default_rfc822;
    w->phase = PHASE_HEADER;
    w->at_line_start = true;
    w->held_len = 0;
}

static bool is_identity(enum mail_encoding encoding)
{
    return encoding == ENCODING_7BIT || encoding == ENCODING_8BIT || encoding == ENCODING_BINARY;
}

// Fills in w->part; for a multipart *out_boundary.
static void classify(struct mail_mime_walk *w, struct bytes block, struct arena *arena,
                     struct mail_content_type *type, struct bytes *out_boundary)
{
    struct mail_part *part = &w->part;
    struct mail_field field;
    bool is_known = mail_header_find(block, BYTES("Content-Type"), &field) &&
                    mail_content_type_parse(field.value, arena, type) == OK;
    part->encoding = mail_encoding_of(block);
    if (!is_known) // RFC 2045 section 5.2, RFC 2046 section 5.1.5
        *type = w->default_rfc822 ? (struct mail_content_type){BYTES("message"), BYTES("rfc822")}
                                  : (struct mail_content_type){BYTES("text"), BYTES("plain")};
    part->kind = PART_OTHER;
    if (bytes_eq_nocase(type->type, BYTES("text")))
        part->kind = PART_TEXT;
    else if (bytes_eq_nocase(type->type, BYTES("message"))) {
        bool is_rfc822 = bytes_eq_nocase(type->subtype, BYTES("rfc822"));
        part->is_opaque = is_rfc822 && !is_identity(part->encoding);
        part->kind = is_rfc822 && !part->is_opaque ? PART_RFC822 : PART_MESSAGE;
    } else if (bytes_eq_nocase(type->type, BYTES("multipart"))) {
        *out_boundary = mail_content_type_find(type, BYTES("boundary"));
        part->is_signed = bytes_eq_nocase(type->subtype, BYTES("signed"));
        part->is_opaque = out_boundary->len == 0 || out_boundary->len > MAIL_BOUNDARY_MAX ||
                          !is_identity(part->encoding);
        part->kind = part->is_opaque ? PART_OTHER : PART_MULTIPART;
    }
}

static void push_level(struct mail_mime_walk *w, struct bytes boundary, bool is_digest)
{
    if (w->level_count == MAIL_MIME_DEPTH_MAX) {
        w->err = E_LIMIT;
        return;
    }
    struct level *level = &w->levels[w->level_count++];
    *level = (struct level){.length = (uint8_t)boundary.len,
                            .depth = (uint8_t)w->depth,
                            .is_digest = is_digest,
                            .is_signed = w->part.is_signed};
    memcpy(level->boundary, boundary.at, boundary.len);
}

// The header of the current part is whole: what follows it?
static void header_done(struct mail_mime_walk *w)
{
    struct arena arena = {0};
    struct mail_content_type type;
    struct bytes block = buf_bytes(&w->reader.block), boundary = BYTES_NONE;
    classify(w, block, &arena, &type, &boundary);
    w->events->on_header(w->ctx, &w->part, block, w->reader.has_separator);
    struct buf rest = w->reader.rest; // body that the reader took, when there was no separator
    w->reader.rest = (struct buf){0};
    w->phase = w->part.kind == PART_MULTIPART ? PHASE_RAW : PHASE_BODY;
    w->at_line_start = true;
    if (w->part.kind == PART_MULTIPART)
        push_level(w, boundary, bytes_eq_nocase(type.subtype, BYTES("digest")));
    arena_done(&arena);
    if (w->part.kind == PART_RFC822) {
        w->depth++;
        start_header(w, true, false);
    }
    feed(w, buf_bytes(&rest));
    buf_done(&rest);
}

static int header_err(enum mail_header_state state)
{
    return state == MAIL_HEADER_BARE_NEWLINE ? E_SYNTAX : E_LIMIT;
}

// Gives the header's reader its bytes; returns how many it took.
static size_t header_bytes(struct mail_mime_walk *w, struct bytes data)
{
    size_t used;
    enum mail_header_state state = mail_header_reader_feed(&w->reader, data, &used);
    if (used)
        w->at_line_start = data.at[used - 1] == '\n';
    if (state == MAIL_HEADER_DONE)
        header_done(w);
    else if (state != MAIL_HEADER_MORE)
        w->err = header_err(state);
    return used;
}

// A boundary or the end of the message cuts the header off.
static void header_cut(struct mail_mime_walk *w)
{
    while (w->phase == PHASE_HEADER && !w->err) { // message/rfc822 starts another
        enum mail_header_state state = mail_header_reader_finish(&w->reader);
        if (state == MAIL_HEADER_DONE)
            header_done(w);
        else
            w->err = header_err(state);
    }
}

// ---- content

static void content(struct mail_mime_walk *w, struct bytes piece)
{
    if (piece.len == 0)
        return;
    if (w->phase == PHASE_BODY)
        w->events->on_body(w->ctx, &w->part, piece);
    else
        w->events->on_raw(w->ctx, piece);
}

static void content_held(struct mail_mime_walk *w)
{
    content(w, bytes_of(w->held, w->held_len));
    w->held_len = 0;
}

// Bytes of a line that is no boundary; returns how many it took, at most up to the line's end.
static size_t content_line(struct mail_mime_walk *w, struct bytes data)
{
    if (w->held_len == 1 && data.at[0] == '\n') {
        w->held[w->held_len++] = '\n';
        w->at_line_start = true;
        return 1;
    }
    content_held(w);
    w->at_line_start = false;
    ptrdiff_t cr = bytes_find(data, '\r');
    size_t n = cr < 0 ? data.len : (size_t)cr;
    content(w, bytes_first(data, n));
    if (cr < 0)
        return n;
    w->held[w->held_len++] = '\r';
    return n + 1;
}

// ---- boundaries

static void leaf_end(struct mail_mime_walk *w)
{
    if (w->phase == PHASE_BODY)
        w->events->on_end(w->ctx, &w->part);
    w->phase = PHASE_RAW;
}

// The level whose boundary the line (without CRLF) is, or -1. delimiter := "--" boundary; the last
// one has
// "--" behind it; either may have white space behind it.
static int find_boundary(const struct mail_mime_walk *w, struct bytes line, bool *out_is_last)
{
    while (line.len && (line.at[line.len - 1] == ' ' || line.at[line.len - 1] == '\t'))
        line.len--;
    line = bytes_skip(line, 2);
    for (int i = (int)w->level_count - 1; i >= 0; i--) {
        struct bytes boundary = bytes_of(w->levels[i].boundary, w->levels[i].length);
        if (!bytes_starts(line, boundary))
            continue;
        struct bytes behind = bytes_skip(line, boundary.len);
        *out_is_last = bytes_eq(behind, BYTES("--"));
        if (behind.len == 0 || *out_is_last)
            return i;
    }
    return -1;
}

// Acts on the held line if it is a boundary. False: it is none.
static bool try_boundary(struct mail_mime_walk *w)
{
    struct bytes line = buf_bytes(&w->line);
    bool is_last;
    int found = find_boundary(
        w, bytes_ends(line, BYTES("\r\n")) ? bytes_first(line, line.len - 2) : line, &is_last);
    if (found < 0)
        return false;
    header_cut(w);
    leaf_end(w);
    content_held(w);
    content(w, line);
    buf_clear(&w->line);
    w->at_line_start = true;
    w->depth = w->levels[found].depth + 1u;
    w->level_count = (unsigned)found + !is_last;
    if (!is_last)
        start_header(w, false, w->levels[found].is_digest);
    return true;
}

// The held line is no boundary: it is what the phase takes it for.
static void release_line(struct mail_mime_walk *w)
{
    struct buf line = w->line;
    w->line = (struct buf){0};
    w->at_line_start = false;
    feed(w, buf_bytes(&line));
    buf_done(&line);
}

// At a line's start with a boundary to look for: takes bytes of what may be one.
static size_t candidate(struct mail_mime_walk *w, struct bytes data)
{
    size_t n = 0;
    while (n < data.len) {
        char c = data.at[n];
        if (w->line.len < 2 && c != '-')
            break;
        buf_add_byte(&w->line, c);
        n++;
        if (c == '\n' && bytes_ends(buf_bytes(&w->line), BYTES("\r\n"))) {
            if (!try_boundary(w))
                release_line(w);
            return n;
        }
        if (w->line.len > BOUNDARY_LINE_MAX + 2)
            break;
    }
    if (n < data.len)
        release_line(w);
    return n;
}

// ---- the walk

static void feed(struct mail_mime_walk *w, struct bytes data)
{
    while (data.len && !w->err) {
        size_t n;
        bool looks = w->level_count > 0 && w->at_line_start;
        if (looks && (w->line.len || data.at[0] == '-') && w->held_len != 1) {
            n = candidate(w, data);
        } else if (w->phase == PHASE_HEADER) {
            ptrdiff_t end = bytes_find(data, '\n');
            n = header_bytes(w, end < 0 ? data : bytes_first(data, (size_t)end + 1));
        } else if (w->level_count == 0) {
            content_held(w);
            content(w, data);
            n = data.len;
        } else
            n = content_line(w, data);
        data = bytes_skip(data, n);
    }
}

struct mail_mime_walk *mail_mime_walk_new(const struct mail_mime_events *events, void *ctx)
{
    struct mail_mime_walk *w = mem_new(sizeof(*w));
    w->events = events;
    w->ctx = ctx;
    start_header(w, true, false);
    return w;
}

int mail_mime_walk_feed(struct mail_mime_walk *w, struct bytes piece)
{
    feed(w, piece);
    return w->err;
}

int mail_mime_walk_finish(struct mail_mime_walk *w)
{
    do { // what is released can end a header, which can make a line one to look at again
        while (w->line.len && !w->err && !try_boundary(w))
            release_line(w);
        header_cut(w);
    } while (w->line.len && !w->err);
    if (!w->err) {
        content_held(w);
        leaf_end(w);
    }
    return w->err;
}

void mail_mime_walk_free(struct mail_mime_walk *w)
{
    if (!w)
        return;
    mail_header_reader_done(&w->reader);
    buf_done(&w->line);
    free(w);
}
