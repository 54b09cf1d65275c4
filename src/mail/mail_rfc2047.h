// SPDX-License-Identifier: MIT
//
// mail_rfc2047 - encoded-words: words of any script in header fields (RFC 2047)
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

// An unstructured header value in ASCII (RFC 2047): runs of words with 8-bit or control bytes
// become
// =?utf-8?B?...?= or ?Q?, no encoded-word longer than 75, none splitting a character; folded with
// CRLF SP so that lines have at most 76 characters, given that `column` stand before. Invalid UTF-8
// becomes U+FFFD.
void mail_rfc2047_encode(struct bytes utf8, size_t column, struct buf *out);
// The value of an unstructured field or a phrase as UTF-8: unfolded, encoded-words decoded, white
// space between two of them dropped. Charsets: utf-8, us-ascii, iso-8859-1, windows-1252; words in
// others, and broken ones, stay as they are. Invalid UTF-8 becomes U+FFFD. Never fails but for the
// cap. Linear time.
void mail_rfc2047_decode(struct bytes value, struct buf *out);
// If text is exactly one encoded-word (RFC 2047 section 2): appends what it means in UTF-8.
// E_SYNTAX: it is none; E_NOT_FOUND: an unknown charset.
int mail_rfc2047_decode_word(struct bytes text, struct buf *out) MUST_USE;
