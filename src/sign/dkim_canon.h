// SPDX-License-Identifier: MIT
//
// dkim_canon - a message in the form that is hashed (RFC 6376 section 3.4): streaming body, header
// field by field
//
// Only CRLF ends a line; in a body a CR or LF alone is a character as any other, a header has none
// (mail_header.h). The result is the same however the body is cut.
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

enum dkim_canon { DKIM_SIMPLE, DKIM_RELAXED };

// A body on its way: fed in pieces, pushed out in pieces.
struct dkim_canon_body {
    enum dkim_canon canon;
    void (*emit)(void *ctx, struct bytes piece); // the slice is valid until it returns
    void *ctx;
    // its own affairs
    uint64_t line_ends; // held back: at the end of the body they do not count
    bool has_space;     // relaxed: white space held back
    bool has_cr;        // a CR held back: is it a CRLF?
    bool is_empty;      // nothing has been pushed out
    uint32_t used;
    char out[1024];
};

void dkim_canon_body_init(struct dkim_canon_body *b, enum dkim_canon canon,
                          void (*emit)(void *ctx, struct bytes piece), void *ctx);
void dkim_canon_body_feed(struct dkim_canon_body *b, struct bytes piece);
// The body ended: a last line without CRLF gets one; an empty body is CRLF (simple) or nothing.
void dkim_canon_body_finish(struct dkim_canon_body *b);

// One whole header field (mail_header.h: its `raw`, with the last CRLF, or without one).
void dkim_canon_field(enum dkim_canon canon, struct bytes raw, struct buf *out);
// The DKIM-Signature field itself as it is hashed: its b= empty, without the last CRLF (3.7).
void dkim_canon_signature(enum dkim_canon canon, struct bytes raw, struct buf *out);
