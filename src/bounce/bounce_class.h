// SPDX-License-Identifier: MIT
//
// bounce_class - what a reply, a report or an answer to our mail means
//
// Replies of receiving servers and mails that come back are put into the same classes (`enum
// bounce_reason`), by the same rules (bounce_rules.h). Understood are delivery status notifications
// (RFC 3464, 6533), the free-form reports of common servers, automatic answers (RFC 3834), abuse
// reports (RFC 5965) and CFBL's headers (RFC 9477). Nothing in a mail is proof of who sent it: that
// is for whoever checks the return path's token.
//
// Pure: bytes in, values out; time is linear in the bytes, whatever they are.
// Owner:  all slices of a result live in the arena (or the mail itself).
// Limits: those below; beyond them a mail is read as far as they go.
#pragma once

#include "base/arena.h"
#include "bounce/bounce_rules.h"
#include "bounce/dsn.h"

#define BOUNCE_MAIL_MAX ((size_t)1 << 20) // bytes of a mail that are looked at
#define BOUNCE_RECORDS_MAX 1000           // recipients of one mail
#define BOUNCE_DIAGNOSTIC_MAX 1024        // bytes of one diagnostic
#define BOUNCE_TEXT_MAX 8192              // bytes of a reply

enum bounce_kind {
    BOUNCE_KIND_OTHER,      // none of those below: a person's mail
    BOUNCE_KIND_BOUNCE,     // some recipient failed
    BOUNCE_KIND_DELAY,      // none failed, some are delayed
    BOUNCE_KIND_COMPLAINT,  // a recipient called it spam, or a provider did for them
    BOUNCE_KIND_AUTO_REPLY, // vacation and other automatic answers
    BOUNCE_KIND_SUCCESS,    // delivered, relayed or expanded
};
#define BOUNCE_KINDS 6
// "other", "bounce", "delay", "complaint", "auto-reply", "success".
const char *bounce_kind_name(enum bounce_kind kind);

// About one recipient. Absent things are empty or 0.
struct bounce_record {
    struct bytes
        recipient; // the address that was sent to, as far as the mail tells (Original- before Final-Recipient)
    struct bytes final; // the address that it had become (Final-Recipient); of notifications only
    enum dsn_action action;
    struct bytes status; // "5.1.1"
    uint16_t reply_code; // 550
    struct bounce_class class;
    struct bytes diagnostic; // the words of the server that refused, on one line
    struct bytes rule;       // of bounce_rules, or empty
};

struct bounce_mail {
    enum bounce_kind kind;
    struct bounce_record *records; // one at least, unless kind is OTHER
    uint32_t count;
    // Of the mail that it is about, where it tells.
    struct bytes message_id;    // with its <>
    struct bytes envid;         // Original-Envelope-Id
    struct bytes feedback_type; // a complaint's: "abuse", "fraud", "not-spam", "opt-out", ...
    struct bytes feedback_id;   // a complaint's CFBL-Feedback-ID
};

// A reply of a receiving server. The same as bounce_rules_match().
struct bounce_verdict bounce_classify_reply(const struct bounce_rules *rules,
                                            const struct bounce_reply *reply);
// The same from one text, as logs and people write it: "550 5.1.1 no such user", "550-5.7.1 ...",
// "smtp; 550 5.1.1 ...", or without either code. The parts are told in *out_reply, borrowed; its
// text begins with the code.
struct bounce_verdict bounce_classify_text(const struct bounce_rules *rules, struct bytes text,
                                           struct bounce_reply *out_reply);
// "smtp; 550 ..." (RFC 3464 section 2.3.6) without its type, trimmed.
struct bytes bounce_class_without_type(struct bytes text);
// A whole mail, header first; lines end in CRLF or LF. Never fails: what is not understood is
// BOUNCE_KIND_OTHER without records.
void bounce_classify_mail(const struct bounce_rules *rules, struct bytes mail, struct arena *arena,
                          struct bounce_mail *out);
