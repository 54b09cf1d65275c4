// SPDX-License-Identifier: MIT
//
// smtp_plain - how much of a piece of content is nothing but text and CRLF, many bytes at a time
//
// Content is nearly all lines that need nothing: no dot at a line's start to stuff or unstuff, no CR or LF alone. Who
// reads it takes those stretches whole and goes line by line only through the rest.
#pragma once

#include "base/bytes.h"

// Looked at as a whole, and shorter than this not worth it.
#define SMTP_PLAIN_BLOCK 4096
#define SMTP_PLAIN_MIN 64

struct smtp_plain {
    bool is_bare; // a CR or LF without the other
    bool has_dot; // at a line's start
    bool has_nul, has_8bit;
};

// Looks at all of s, before which stood `previous`. A CR at the very end is not judged: what follows is not known.
struct smtp_plain smtp_plain_look(char previous, struct bytes s);

// The length of the stretch in front, at most SMTP_PLAIN_BLOCK, that is whole lines and parts of lines without
// such dots and does not end in a CR; 0: there is one to look at, or it is too short. *out is as above.
size_t smtp_plain_stretch(char previous, struct bytes s, struct smtp_plain *out);
