// SPDX-License-Identifier: MIT
//
// smtp_stuffer - encodes content for DATA

#include "smtp/smtp_stuffer.h"

#include "smtp/smtp_plain.h"

// The bare CR or LF at `at` becomes CRLF; returns the index behind it (and behind the LF of a CR
// LF).
static size_t mend_line_end(struct smtp_stuffer *s, struct bytes in, size_t at, struct buf *out)
{
    buf_add_cstr(out, "\r\n");
    s->in_line = false;
    if (in.at[at] == '\n')
        return at + 1;
    s->skip_lf = at + 1 == in.len;
    return at + 1 < in.len && in.at[at + 1] == '\n' ? at + 2 : at + 1;
}

void smtp_stuffer_feed(struct smtp_stuffer *s, struct bytes in, struct buf *out)
{
    size_t at = 0, from, by_line = 0; // up to there a plain stretch has been looked for
    struct smtp_plain found;
    if (s->skip_lf && in.len > 0) {
        at = in.at[0] == '\n';
        s->skip_lf = false;
    }
    from = at;
    while (at < in.len) {
        size_t plain =
            at < by_line ? 0
                         : smtp_plain_stretch(s->in_line ? 'x' : '\n', bytes_skip(in, at), &found);
        if (plain) {
            at += plain;
            s->in_line = in.at[at - 1] != '\n';
            continue;
        }
        if (at >= by_line)
            by_line = at + SMTP_PLAIN_BLOCK;
        if (!s->in_line && in.at[at] == '.') {
            buf_add(out, bytes_mid(in, from, at - from));
            buf_add_byte(out, '.');
            from = at;
        }
        s->in_line = true;
        const char *lf = memchr(in.at + at, '\n', in.len - at);
        size_t end = lf ? (size_t)(lf - in.at) : in.len;
        const char *cr = memchr(in.at + at, '\r', end - at);
        if (lf && cr && cr == lf - 1) {
            at = end + 1;
            s->in_line = false;
        } else if (!lf && !cr) {
            at = in.len;
        } else {
            size_t stray = cr ? (size_t)(cr - in.at) : end;
            buf_add(out, bytes_mid(in, from, stray - from));
            from = at = mend_line_end(s, in, stray, out);
        }
    }
    buf_add(out, bytes_mid(in, from, at - from));
}

void smtp_stuffer_end(struct smtp_stuffer *s, struct buf *out)
{
    if (s->in_line)
        buf_add_cstr(out, "\r\n");
    buf_add_cstr(out, ".\r\n");
    *s = (struct smtp_stuffer){0};
}
