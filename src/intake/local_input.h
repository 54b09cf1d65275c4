// SPDX-License-Identifier: MIT
//
// local_input - a message as a program of this host wrote it, read from a descriptor: its header, then its body
//
// Both come as lines that end in CRLF (mail/mail_lines.h); the body piece by piece.
//
// Thread: any that may block.
// Limits: mail_header.h's for the header, but for the length of its lines; `bytes_max` for the whole.
// Fails:  E_LIMIT (too large), E_SYNTAX (a NUL in the header), E_IO.
#pragma once

#include "mail/mail_header.h"
#include "mail/mail_lines.h"

struct local_input {
    int fd;             // given; stays the caller's
    uint64_t bytes_max; // given
    // its own affairs
    uint64_t bytes;
    struct mail_lines lines;
    struct mail_header_reader reader;
    struct buf piece;
    bool has_header, at_end;
};

// `dot_ends`: a line of one dot ends the message, whatever follows it.
void local_input_init(struct local_input *in, int fd, bool dot_ends, uint64_t bytes_max);
void local_input_done(struct local_input *in);
// Reads up to the body. The block is valid until done().
int local_input_header(struct local_input *in, struct bytes *out_block) MUST_USE;
// The next piece of the body, valid until the next call; empty at the end.
int local_input_next(struct local_input *in, struct bytes *out) MUST_USE;
