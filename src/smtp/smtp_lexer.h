// SPDX-License-Identifier: MIT
//
// smtp_lexer - cuts one command line off the input (RFC 5321 2.3.8, 4.5.3.1.4)
//
//   line = *( %x20-7E / %x80-FF ) CRLF
//
// Nothing is stored: an incomplete line stays with the caller. A line of a too great length is
// skipped as it comes and reported once, at its end.
#pragma once

#include "base/bytes.h"

enum smtp_lex {
    SMTP_LEX_MORE,     // no complete line yet (bytes of a skipped one may have been used)
    SMTP_LEX_DONE,     // a line
    SMTP_LEX_BAD,      // a line with a control character, NUL, a bare CR, or ended by a bare LF
    SMTP_LEX_TOO_LONG, // a line beyond the limit
};

struct smtp_lexer {
    size_t scanned; // bytes of the incomplete line that have no LF
    bool skipping;
};

// line_max counts the CRLF. The same bytes must stand at the front of the next call, less those
// used.
enum smtp_lex smtp_lexer_feed(struct smtp_lexer *l, struct bytes in, size_t line_max,
                              struct bytes *out_line, size_t *out_used) MUST_USE;
