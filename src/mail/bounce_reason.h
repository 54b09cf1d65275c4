// SPDX-License-Identifier: MIT
//
// bounce_reason - why mail was refused, came back, or was complained about: one word for everybody
//
// Spool, history, suppression and delivery all speak of it; how one is found out stands in
// bounce/bounce_class.h, what each means in docs/BOUNCES.md. Values stand in the journal: never
// reuse or reorder.
#pragma once

#include "base/bytes.h"

enum bounce_reason {
    BOUNCE_NONE = 0, // not classified; no word for it
    BOUNCE_USER_UNKNOWN = 1,
    BOUNCE_MAILBOX_FULL = 2,
    BOUNCE_MAILBOX_DISABLED = 3,
    BOUNCE_HOST_UNKNOWN = 4,
    BOUNCE_MESSAGE_TOO_LARGE = 5,
    BOUNCE_SPAM = 6,
    BOUNCE_POLICY = 7,
    BOUNCE_AUTHENTICATION = 8,
    BOUNCE_REPUTATION = 9,
    BOUNCE_RATE_LIMITED = 10,
    BOUNCE_RELAYING_DENIED = 11,
    BOUNCE_CONTENT = 12,
    BOUNCE_NETWORK = 13,
    BOUNCE_TLS = 14,
    BOUNCE_PROTOCOL = 15,
    BOUNCE_EXPIRED = 16,
    BOUNCE_SYSTEM = 17,
    BOUNCE_SUSPENDED = 18,
    BOUNCE_MOVED = 19,
    BOUNCE_COMPLAINT = 20,
    BOUNCE_VACATION = 21,
    BOUNCE_DELIVERED = 22,
    BOUNCE_OTHER = 23, // looked at, and none of the above
};
#define BOUNCE_REASONS 24

// What a reply or report was taken for. `hard`: the address itself is bad for good, nothing should
// be sent to it again; never set for what is about us, the message or the moment.
struct bounce_class {
    enum bounce_reason reason;
    bool hard;
};

// "user-unknown", ...; "" for BOUNCE_NONE and for a value of a newer version.
const char *bounce_reason_name(enum bounce_reason reason);
// Exact words only. E_SYNTAX.
int bounce_reason_parse(struct bytes text, enum bounce_reason *out) MUST_USE;
// Does this reason, where it is said for good, mean that the address is bad? (user-unknown,
// mailbox-disabled, host-unknown, moved)
bool bounce_reason_is_about_address(enum bounce_reason reason);
