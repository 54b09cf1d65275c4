// SPDX-License-Identifier: MIT
//
// smtp_reply_parser - reads one reply of a server that is not to be trusted (RFC 5321 4.2)
//
//   Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
//   Reply-code = %x32-35 %x30-35 %x30-39
//
// A bare LF is taken for CRLF (old servers); a code that changes between lines is BAD.
// Limits:   SMTP_REPLY_LINES_MAX lines, SMTP_REPLY_LINE_BYTES_MAX a line (BAD beyond); of the text
//           SMTP_REPLY_TEXT_MAX bytes are kept, more are dropped.
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

#define SMTP_REPLY_LINES_MAX 100
#define SMTP_REPLY_LINE_BYTES_MAX 2048
#define SMTP_REPLY_TEXT_MAX 8192

// RFC 3463; class 0: none (absent, malformed or of another class than the code).
struct smtp_enhanced {
    uint8_t class;
    uint16_t subject, detail;
};

struct smtp_reply {
    uint16_t code;
    struct smtp_enhanced enhanced;
    struct bytes text; // without codes, lines joined by LF; other controls and NUL became '?'
};

enum smtp_parse { SMTP_PARSE_DONE, SMTP_PARSE_MORE, SMTP_PARSE_BAD };

struct smtp_reply_parser {
    struct buf text, line; // memory is held only while a reply is read, and until its release
    struct smtp_reply reply;
    uint32_t lines;
    bool done;
};

void smtp_reply_parser_init(struct smtp_reply_parser *p);
void smtp_reply_parser_done(struct smtp_reply_parser *p);
// Takes bytes up to the end of one reply; *out_used says how many. DONE: p->reply is valid until
// the next feed, which begins a new reply. BAD: the stream can't be understood; close it.
enum smtp_parse smtp_reply_parser_feed(struct smtp_reply_parser *p, struct bytes in,
                                       size_t *out_used) MUST_USE;
// Frees the memory that the last reply holds (its text is gone); a reply that is being read is
// kept.
void smtp_reply_parser_release(struct smtp_reply_parser *p);

// Reads "5.7.1" off the front of text (RFC 3463 section 2). True if it is one of class `class`.
bool smtp_enhanced_parse(struct bytes text, uint8_t class, struct smtp_enhanced *out,
                         size_t *out_used);
