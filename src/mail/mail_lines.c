// SPDX-License-Identifier: MIT
#include "mail/mail_lines.h"

#define MBOX BYTES("From ")

static void put(struct mail_lines *m, char c, struct buf *out);

// The start of the message, while it may be mbox's. True: c is kept or skipped.
static bool take_first(struct mail_lines *m, char c, struct buf *out)
{
    m->first[m->first_len++] = c;
    struct bytes first = bytes_of(m->first, m->first_len);
    if (first.at[0] == '>')
        first = bytes_skip(first, 1);
    if (bytes_starts(MBOX, first)) {
        if (first.len == MBOX.len) {
            m->skipping = true;
            m->first_len = 0;
        }
        return true;
    }
    uint8_t n = m->first_len;
    m->started = true;
    m->first_len = 0;
    for (uint8_t i = 0; i < n; i++)
        put(m, m->first[i], out);
    return true;
}

static void put(struct mail_lines *m, char c, struct buf *out)
{
    if (m->skipping)
        return;
    if (!m->started) {
        take_first(m, c, out);
        return;
    }
    if (!m->in_line && c == '.' && m->dot_ends) {
        m->in_line = m->held_dot = true;
        return;
    }
    if (m->held_dot)
        buf_add_byte(out, '.');
    m->held_dot = false;
    m->in_line = true;
    buf_add_byte(out, c);
}

static void end_line(struct mail_lines *m, struct buf *out)
{
    if (m->skipping) {
        m->skipping = false;
        return;
    }
    if (!m->started) { // a short first line
        uint8_t n = m->first_len;
        m->started = true;
        m->first_len = 0;
        for (uint8_t i = 0; i < n; i++)
            put(m, m->first[i], out);
    }
    if (m->held_dot) {
        m->ended = true;
        return;
    }
    buf_add_cstr(out, "\r\n");
    m->in_line = false;
}

void mail_lines_feed(struct mail_lines *m, struct bytes piece, struct buf *out)
{
    for (size_t i = 0; i < piece.len && !m->ended; i++) {
        char c = piece.at[i];
        if (m->held_cr && c != '\n')
            put(m, ' ', out);
        m->held_cr = c == '\r';
        if (c == '\n')
            end_line(m, out);
        else if (c != '\r')
            put(m, c, out);
    }
}

void mail_lines_finish(struct mail_lines *m, struct buf *out)
{
    if (!m->ended && (m->in_line || m->first_len || m->skipping))
        end_line(m, out);
}
