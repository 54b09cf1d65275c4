// SPDX-License-Identifier: MIT
//
// bounce_parts - a mail that came back, taken apart: its header, its text for people, its reports,
// and the header of the mail that it is about
//
// Lenient, because what comes back was made by anybody: LF ends lines as CRLF does, an mbox line may
// stand first, and what cannot be read ends the reading, not the result.
#pragma once

#include "base/arena.h"
#include "mail/mail_header.h"

#define BOUNCE_PARTS_MAX 32
#define BOUNCE_TEXT_BYTES_MAX 65536 // of the text for people

// A report for programs: message/delivery-status and the like, decoded, with CRLF lines.
struct bounce_part {
    struct bytes type; // "message/delivery-status", lower case
    struct bytes body;
};

struct bounce_parts {
    struct bytes header; // of the mail, with CRLF lines
    struct bytes type;   // its Content-Type, lower case, without parameters; empty: none
    struct bytes report; // its report-type parameter, or empty
    struct bytes text; // what people are to read: text/plain, else text/html without its tags; CRLF
    struct bytes original; // the header of the (first) mail inside, or what is given of it
    struct bounce_part parts[BOUNCE_PARTS_MAX]; // reports, in order
    uint32_t count;
};

// All slices live in the arena. Parts behind the first mail inside are that mail's: not looked at.
void bounce_parts_read(struct bytes mail, struct arena *arena, struct bounce_parts *out);
// The report of that type, or NULL.
const struct bounce_part *bounce_parts_find(const struct bounce_parts *parts, const char *type);
// A field's value on one line, encoded-words decoded; empty if there is none.
struct bytes bounce_parts_field(struct bytes header, const char *name, struct arena *arena);
