// SPDX-License-Identifier: MIT
//
// mail_text - characters of mail: atext, UTF-8 code points, comments; shared by the parsers of this folder
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

// RFC 5322 section 3.2.3, ASCII only.
bool mail_is_atext(char c);
// Length of the UTF-8 character beyond ASCII that s starts with (RFC 6532 section 3.1), less C1
// controls and the two separators U+2028 and U+2029, which some programs take for a line end; 0 if
// there is none.
size_t mail_utf8_non_ascii(struct bytes s);
// The code point that s starts with; s must start with valid UTF-8.
uint32_t mail_utf8_get(struct bytes s);
// Appends a code point (up to U+10FFFF, no surrogate).
void mail_utf8_put(uint32_t code_point, struct buf *out);
// Appends s with every byte that is not part of valid UTF-8 as U+FFFD.
void mail_utf8_repair(struct bytes s, struct buf *out);
// Moves behind white space, line ends and comments (RFC 5322 section 3.2.2). False: a comment does not end, and has taken
// all that was left.
bool mail_skip_cfws(struct bytes *s);
// The value of a hexadecimal digit, either case; -1 for anything else.
int mail_hex_value(char c);
