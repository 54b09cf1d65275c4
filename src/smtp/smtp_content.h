// SPDX-License-Identifier: MIT
//
// smtp_content - decodes the content of a message as it comes: finds its end, removes dot-stuffing
//
//   content = *( line CRLF ) "." CRLF        RFC 5321 4.1.1.4, 4.5.2
//
// Only CRLF "." CRLF ends it, at every split of the bytes (law 5). A bare CR or LF, and a NUL in
// the header, is a fault: the rest is still read to the true end, but given to nobody. In chunks
// (RFC 3030) dots mean nothing and the caller says where the end is.
#pragma once

#include "base/bytes.h"

// In order of rank: of several, the highest is reported, of bare CR and LF the first. So the report
// does not depend on how the bytes were cut.
enum smtp_content_fault {
    SMTP_CONTENT_GOOD,
    SMTP_CONTENT_LINE_TOO_LONG,
    SMTP_CONTENT_NUL_IN_HEADER,
    SMTP_CONTENT_TOO_LARGE,
    SMTP_CONTENT_BARE_LF,
    SMTP_CONTENT_BARE_CR,
};

struct smtp_content {
    uint64_t size, size_max; // octets of content so far; more than size_max is a fault
    uint64_t line_bytes;
    uint32_t line_max; // octets without CRLF, 0: any
    enum { CONTENT_LINE_START, CONTENT_TEXT, CONTENT_CR, CONTENT_DOT, CONTENT_DOT_CR } state;
    enum smtp_content_fault fault;
    bool dots; // DATA, not BDAT
    bool
        binary; // BODY=BINARYMIME: the body may be any octets, its header may not; set after init, never with dots
    bool in_header, ends_in_crlf, has_8bit, has_nul;
    void (*emit)(void *ctx, struct bytes piece);
    void *ctx;
};

void smtp_content_init(struct smtp_content *c, bool dots, uint64_t size_max, uint32_t line_max,
                       void (*emit)(void *ctx, struct bytes piece), void *ctx);
// Takes bytes, emitting pieces that point into `in`; stops behind the end. Returns how many were
// used; *out_end says whether the end was seen (only with dots).
size_t smtp_content_feed(struct smtp_content *c, struct bytes in, bool *out_end) MUST_USE;
// The last chunk was fed: what is still open is settled (a final CR is a bare one).
void smtp_content_end(struct smtp_content *c);
