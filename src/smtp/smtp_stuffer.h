// SPDX-License-Identifier: MIT
//
// smtp_stuffer - encodes content for DATA: dots are stuffed, and only its end is CRLF.CRLF (RFC
// 5321 4.5.2)
//
// Content of whole lines ended by CRLF arrives byte for byte. A bare CR or LF goes out as CRLF and
// a missing last CRLF is added, so that no reader, however lax, sees another end (law 5).
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

struct smtp_stuffer {
    bool in_line; // not at the start of a line
    bool skip_lf; // the CRLF of a CR at the end of the last piece is written already
};

void smtp_stuffer_feed(struct smtp_stuffer *s, struct bytes piece, struct buf *out);
// The end of the content: the last CRLF if it is missing, then "." CRLF.
void smtp_stuffer_end(struct smtp_stuffer *s, struct buf *out);
