// SPDX-License-Identifier: MIT
//
// smtp_content - decodes the content of a message as it comes
//
// How it works: behind the header, stretches of plain lines are taken whole (smtp_plain.h); other lines are
// found with memchr(), never byte by byte. A piece grows over many lines and is emitted when a dot must
// be left out, or at the end of the input. Nothing is held back over a call but the states below: a CR
// may be emitted before its LF is seen, as a CR without one spoils the message anyway.

#include "smtp/smtp_content.h"

#include "smtp/smtp_plain.h"

void smtp_content_init(struct smtp_content *c, bool dots, uint64_t size_max, uint32_t line_max,
                       void (*emit)(void *ctx, struct bytes piece), void *ctx)
{
    *c = (struct smtp_content){.dots = dots,
                               .size_max = size_max,
                               .line_max = line_max,
                               .emit = emit,
                               .ctx = ctx,
                               .in_header = true,
                               .ends_in_crlf = false,
                               .state = CONTENT_LINE_START};
}

static void fault(struct smtp_content *c, enum smtp_content_fault what)
{
    if (c->fault < SMTP_CONTENT_BARE_LF && what > c->fault)
        c->fault = what;
}

static void emit(struct smtp_content *c, struct bytes in, size_t from, size_t to)
{
    struct bytes piece = bytes_mid(in, from, to - from);
    if (piece.len == 0)
        return;
    c->size += piece.len;
    if (c->size > c->size_max)
        fault(c, SMTP_CONTENT_TOO_LARGE);
    if (c->fault == SMTP_CONTENT_GOOD)
        c->emit(c->ctx, piece);
}

static void note(struct smtp_content *c, struct smtp_plain found)
{
    c->has_8bit |= found.has_8bit;
    c->has_nul |= found.has_nul;
}

static void add_to_line(struct smtp_content *c, struct bytes text)
{
    struct smtp_plain found = smtp_plain_look(0, text);
    note(c, found);
    c->line_bytes += text.len;
    if (c->line_max && c->line_bytes > c->line_max)
        fault(c, SMTP_CONTENT_LINE_TOO_LONG);
    if (c->in_header && found.has_nul)
        fault(c, SMTP_CONTENT_NUL_IN_HEADER);
}

static void end_line(struct smtp_content *c)
{
    if (c->line_bytes == 0)
        c->in_header = false;
    c->line_bytes = 0;
    c->state = CONTENT_LINE_START;
}

// Takes the rest of a line, or as much of it as is there; returns the index behind it.
static size_t take_text(struct smtp_content *c, struct bytes in, size_t at)
{
    const char *from = in.at + at;
    const char *lf = memchr(from, '\n', in.len - at);
    size_t len = lf ? (size_t)(lf - from) : in.len - at;
    const char *cr = len ? memchr(from, '\r', len) : NULL;
    c->state = CONTENT_TEXT;
    if (lf && cr == lf - 1 && cr) {
        add_to_line(c, bytes_of(from, len - 1));
        end_line(c);
        return at + len + 1;
    }
    if (!lf && cr && (size_t)(cr - from) == len - 1) {
        add_to_line(c, bytes_of(from, len - 1));
        c->state = CONTENT_CR;
        return in.len;
    }
    if (!lf && !cr) {
        add_to_line(c, bytes_of(from, len));
        return in.len;
    }
    // RFC 5321 2.3.8: CR and LF only together. What follows is no line start, but a CR that ends
    // what we have, or stands before this LF, may still belong to a CRLF.
    fault(c, cr ? SMTP_CONTENT_BARE_CR : SMTP_CONTENT_BARE_LF);
    note(c, smtp_plain_look(0, bytes_of(from, len)));
    if (lf && len && lf[-1] == '\r')
        c->state = CONTENT_LINE_START;
    else if (!lf && in.at[in.len - 1] == '\r')
        c->state = CONTENT_CR;
    c->line_bytes = 0;
    return at + len + (lf ? 1 : 0);
}

// Goes over s, plain lines that begin `before` bytes into one: the bytes of the line that it ends in. A line over
// max (0: any) counts more than that, whichever it is.
static uint64_t line_bytes_behind(struct bytes s, uint64_t before, uint32_t max)
{
    size_t from = 0; // all lines that end before this are short enough
    while (max && before + (s.len - from) > max) {
        size_t reach = max + 2 > before ? max + 2 - (size_t)before : 0;
        const char *lf = memrchr(s.at + from, '\n', reach < s.len - from ? reach : s.len - from);
        if (!lf)
            return before + (s.len - from);
        from = (size_t)(lf + 1 - s.at);
        before = 0;
    }
    const char *lf = memrchr(s.at + from, '\n', s.len - from);
    return lf ? (uint64_t)(s.at + s.len - (lf + 1)) : before + (s.len - from);
}

// Takes a stretch of plain lines of the body; 0: what stands there goes line by line.
static size_t take_stretch(struct smtp_content *c, struct bytes in)
{
    bool at_start = c->state == CONTENT_LINE_START;
    struct smtp_plain found;
    if (c->in_header || (!at_start && c->state != CONTENT_TEXT))
        return 0;
    size_t n = smtp_plain_stretch(at_start ? '\n' : 'x', in, &found);
    if (n == 0)
        return 0;
    uint64_t line_bytes = line_bytes_behind(bytes_first(in, n), c->line_bytes, c->line_max);
    if (c->line_max && line_bytes > c->line_max)
        return 0;
    note(c, found);
    c->line_bytes = line_bytes;
    c->state = in.at[n - 1] == '\n' ? CONTENT_LINE_START : CONTENT_TEXT;
    return n;
}

// RFC 3030 section 3: behind the header nothing is a line, but how it ends is told.
static void take_binary(struct smtp_content *c, struct bytes in)
{
    bool ends_line =
        bytes_ends(in, BYTES("\r\n")) || (c->state == CONTENT_CR && bytes_eq(in, BYTES("\n")));
    note(c, smtp_plain_look(0, in));
    c->state = ends_line                   ? CONTENT_LINE_START
               : in.at[in.len - 1] == '\r' ? CONTENT_CR
                                           : CONTENT_TEXT;
}

size_t smtp_content_feed(struct smtp_content *c, struct bytes in, bool *out_end)
{
    size_t at = 0, from = 0, by_line = 0; // up to there a stretch has been looked for
    *out_end = false;
    while (at < in.len) {
        if (c->binary && !c->in_header) {
            take_binary(c, bytes_skip(in, at));
            at = in.len;
            break;
        }
        size_t plain = at >= by_line ? take_stretch(c, bytes_skip(in, at)) : 0;
        at += plain;
        if (plain)
            continue;
        if (at >= by_line && !c->in_header)
            by_line = at + SMTP_PLAIN_BLOCK;
        char byte = in.at[at];
        switch (c->state) {
        case CONTENT_LINE_START:
            if (!c->dots || byte != '.') {
                at = take_text(c, in, at);
                break;
            }
            emit(c, in, from, at);
            from = ++at;
            c->state = CONTENT_DOT;
            break;
        case CONTENT_TEXT:
            at = take_text(c, in, at);
            break;
        case CONTENT_CR:
            if (byte == '\n') {
                end_line(c);
                at++;
            } else {
                fault(c, SMTP_CONTENT_BARE_CR);
                at = take_text(c, in, at);
            }
            break;
        case CONTENT_DOT: // the dot itself is left out, RFC 5321 4.5.2
            if (byte == '\r') {
                c->state = CONTENT_DOT_CR;
                from = ++at;
            } else {
                at = take_text(c, in, at);
            }
            break;
        case CONTENT_DOT_CR:
            if (byte == '\n') {
                c->ends_in_crlf = c->size > 0;
                *out_end = true;
                return at + 1;
            }
            fault(c, SMTP_CONTENT_BARE_CR);
            at = take_text(c, in, at);
            break;
        }
    }
    emit(c, in, from, at);
    return at;
}

void smtp_content_end(struct smtp_content *c)
{
    if (c->state == CONTENT_CR && !(c->binary && !c->in_header))
        fault(c, SMTP_CONTENT_BARE_CR);
    c->ends_in_crlf = c->state == CONTENT_LINE_START && c->size > 0;
}
