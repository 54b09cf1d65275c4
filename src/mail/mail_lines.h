// SPDX-License-Identifier: MIT
//
// mail_lines - a message as programs of this host write it, made lines that end in CRLF
//
// Fed in pieces cut anywhere. LF and CRLF both end a line; a CR alone becomes a space, as progress bars leave them in
// the output of jobs and no receiver may read an end of line into them. Lines "From " and ">From " before the first
// of the header (mbox) are dropped. What has no last line end gets one.
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

struct mail_lines {
    bool dot_ends; // given: a line of one dot is the end of the message
    bool ended;    // by that line: what follows is not the message's
    // its own affairs
    bool started, held_cr, held_dot, in_line, skipping;
    uint8_t first_len;
    char first[6]; // of the first line: is it mbox's?
};

// A zeroed struct with dot_ends set is ready. Appends to `out`.
void mail_lines_feed(struct mail_lines *m, struct bytes piece, struct buf *out);
// No more comes.
void mail_lines_finish(struct mail_lines *m, struct buf *out);
