// SPDX-License-Identifier: MIT
//
// outcome - what happened to one recipient: the one record that queue, history and reports share
// (law 8)
#pragma once

#include "base/clock.h"
#include "mail/bounce_reason.h"
#include "mail/message_id.h"

// Law 2: after the 250 a recipient is for ever exactly one of these. Values stand in the journal.
enum recipient_state {
    RECIPIENT_QUEUED = 0,
    RECIPIENT_HELD = 1,
    RECIPIENT_DELIVERED = 2, // accepted by the receiver of its mailbox
    RECIPIENT_RELAYED = 3,   // accepted by a server that passes it on
    RECIPIENT_FAILED = 4,
    RECIPIENT_EXPIRED = 5,
    RECIPIENT_REMOVED = 6,
};
#define RECIPIENT_STATES 7

// Still ours to deliver.
static inline bool recipient_state_is_live(enum recipient_state state)
{
    return state == RECIPIENT_QUEUED || state == RECIPIENT_HELD;
}
// "queued", "held", "delivered", "relayed", "failed", "expired", "removed".
const char *recipient_state_name(enum recipient_state state);

// The type of an event. Values stand in the journal.
enum spool_event {
    SPOOL_EVENT_ACCEPTED = 0,
    SPOOL_EVENT_ATTEMPTED = 1,
    SPOOL_EVENT_DEFERRED = 2,
    SPOOL_EVENT_DELIVERED = 3,
    SPOOL_EVENT_BOUNCED = 4,
    SPOOL_EVENT_EXPIRED = 5,
    SPOOL_EVENT_HELD = 6,
    SPOOL_EVENT_RELEASED = 7,
    SPOOL_EVENT_REMOVED = 8,
    SPOOL_EVENT_DSN = 9,
    SPOOL_EVENT_FEEDBACK = 10, // spool/feedback.h: never of an outcome
};
#define SPOOL_EVENTS 11
// "accepted", "attempted", ...: the words of `posthaste events`.
const char *spool_event_name(enum spool_event event);

// Longest reply text kept; what is longer is cut.
#define OUTCOME_TEXT_MAX 1024
// Longest of the other strings kept.
#define OUTCOME_WORD_MAX 255
// An address: local part, "@", domain.
#define OUTCOME_ADDRESS_MAX 320

// Slices are borrowed: spool_frame_add_outcome() copies what it needs.
struct spool_outcome {
    struct message_id id;
    uint32_t recipient;         // number, from 1
    enum recipient_state state; // after this event
    enum spool_event event;
    uint32_t attempts; // so far, this one included
    bool warned; // a delayed DSN has been sent; said once it stays true, whatever later ones say
    // Released by itself from the standing holds that cover it; said once it stays true until it is held again.
    bool exempt;
    struct wall at;
    struct wall next_attempt_at; // while queued or held (then: once released); 0: at once
    struct bytes mx;             // host name tried, or empty
    struct bytes ip;             // "192.0.2.1:25", or empty
    struct bytes tls;            // "TLSv1.3 TLS_AES_256_GCM_SHA384 verified", or empty
    struct bytes lane;
    uint16_t code; // the remote's reply code, 0 if none
    struct bytes enhanced;
    struct bytes text;         // the remote's words, or ours
    struct bounce_class class; // what they mean; BOUNCE_NONE: nobody looked
    // Of a failure whose class says that the address is bad, and of mail that has waited for long: whose it was, and
    // to whom; else empty. So what follows from it (suppression) needs nothing but this record.
    uint32_t account; // number; 0: none
    struct bytes address;
    struct bytes actor;        // operator actions: by whom
    struct bytes reason;       // operator actions: why
    struct message_id related; // SPOOL_EVENT_DSN: the notification's id; else zero
};
