// SPDX-License-Identifier: MIT
//
// mail_header - the header block of a message (RFC 5322 sections 2.2, 3.6): streamed in, then
// looked up
//
// The reader is fed the message from its first byte and keeps the header block; everything behind
// it is left to the caller. A header block is the fields with their CRLFs, without the empty line
// that ends it; all functions below the reader take such a block.
//
//     field = 1*ftext *WSP ":" text CRLF *( WSP text CRLF )          ftext = %d33-57 / %d59-126
//
// Only CRLF ends a line. A line that is neither a field nor a continuation ends the header without
// a separator: it is the first of the body (RFC 5322 leaves no other reading; sendmail and Postfix
// do so too).
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/bytes.h"

#define MAIL_HEADER_BYTES_MAX 262144 // of the header block
#define MAIL_HEADER_FIELDS_MAX 1000
#define MAIL_LINE_MAX 998 // octets of a line without CRLF, RFC 5322 section 2.1.1

struct mail_header_limits { // 0: the default above
    size_t bytes_max, fields_max, line_max;
};

enum mail_header_state {
    MAIL_HEADER_MORE,        // feed on
    MAIL_HEADER_DONE,        // the block is whole
    MAIL_HEADER_TOO_LARGE,   // beyond bytes_max
    MAIL_HEADER_TOO_MANY,    // beyond fields_max
    MAIL_HEADER_LINE_LONG,   // beyond line_max
    MAIL_HEADER_BARE_NEWLINE // a CR or LF alone, or a NUL
};

struct mail_header_reader {
    struct buf block;   // when DONE: the header block
    struct buf rest;    // when DONE: bytes fed that belong to the body (only without a separator)
    bool has_separator; // when DONE: an empty line ended the header
    size_t fields;
    enum mail_header_state state;
    // its own affairs
    struct mail_header_limits limits;
    size_t line_start; // offset in block of the current line
    unsigned char phase;
};

void mail_header_reader_init(struct mail_header_reader *r, const struct mail_header_limits *limits);
void mail_header_reader_done(struct mail_header_reader *r);
// Takes header bytes from the start of `data`. *out_used: how many; what follows them is body (all
// is used unless the result is DONE). After DONE or a failure it takes nothing more.
enum mail_header_state mail_header_reader_feed(struct mail_header_reader *r, struct bytes data,
                                               size_t *out_used);
// The message ended. DONE, unless it failed before; a last line without CRLF gets none added.
enum mail_header_state mail_header_reader_finish(struct mail_header_reader *r);

struct mail_field {
    struct bytes raw;   // the whole field with its CRLFs
    struct bytes name;  // as written
    struct bytes value; // raw: behind the colon, with its folding, without the last CRLF
};

// Cuts the first field off *block; false at the end (or at something that is no field).
bool mail_header_next(struct bytes *block, struct mail_field *out);
// The first field of that name (any case).
bool mail_header_find(struct bytes block, struct bytes name, struct mail_field *out);
size_t mail_header_count(struct bytes block, struct bytes name);
// Removes every field of that name; returns how many.
size_t mail_header_remove(struct buf *block, struct bytes name);
// The value on one line: CRLFs removed, white space at both ends trimmed.
void mail_header_unfold(struct bytes value, struct buf *out);
