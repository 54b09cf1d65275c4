// SPDX-License-Identifier: MIT
//
// feedback - what came back about a recipient after the mail had gone: a bounce, a complaint, an unsubscribe
//
// One record of the journal, read by history and suppression alike (law 8). It decides nothing about the recipient's
// state in the queue. It stands on its own: the message's acceptance may be long forgotten.
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "mail/bounce_reason.h"
#include "mail/message_id.h"

// Values stand in the journal. The first six are those of a mail that came back (bounce/bounce_class.h).
enum feedback_kind {
    FEEDBACK_OTHER = 0,
    FEEDBACK_BOUNCE = 1,
    FEEDBACK_DELAY = 2,
    FEEDBACK_COMPLAINT = 3,
    FEEDBACK_AUTO_REPLY = 4,
    FEEDBACK_SUCCESS = 5,
    FEEDBACK_UNSUBSCRIBE = 6,
};
#define FEEDBACK_KINDS 7
// "other", "bounce", "delay", "complaint", "auto-reply", "success", "unsubscribe"; "other" for one of a newer version.
const char *feedback_kind_name(enum feedback_kind kind);

#define FEEDBACK_TEXT_MAX 1024 // bytes kept of a diagnostic; other words: 320

// Slices are borrowed: spool_frame_add_feedback() copies what it needs.
struct spool_feedback {
    struct message_id id;
    uint32_t recipient; // its number
    enum feedback_kind kind;
    struct bounce_class class;
    struct wall at;
    uint32_t account;     // number; 0: none
    struct bytes address; // of the recipient, as it stood in the envelope
    struct bytes tag;     // the message's stream, or empty
    bool stream_only;     // UNSUBSCRIBE: from this stream, not from all of the account's mail
    uint16_t code;        // the remote server's reply, as the report tells; 0: none
    struct bytes status;  // "5.1.1"
    struct bytes diagnostic;
    struct bytes from;   // who handed it over: "192.0.2.1:4711"
    struct bytes detail; // a complaint's type ("abuse"); empty: none
};

// As it stands in the journal; strings are cut to the limits.
void feedback_encode(const struct spool_feedback *f, struct buf *out);
// Slices borrow from `in`. E_DAMAGED.
int feedback_decode(struct message_id id, struct bytes in, struct spool_feedback *out) MUST_USE;
