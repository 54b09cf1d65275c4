// SPDX-License-Identifier: MIT
//
// verdict - what a delivery attempt decided about one recipient
//
// A value; texts are copied and bounded. Who made it (the remote server or ourselves) is kept, because
// notifications and history say so.
#pragma once

#include "base/bytes.h"
#include "bounce/bounce_rules.h"
#include "smtp/smtp_client.h"
#include "spool/outcome.h"

#define VERDICT_TEXT_MAX 512
#define VERDICT_NOT_IN_TIME "the message could not be delivered in the time that its sender gave"

enum verdict_kind {
    VERDICT_DELIVERED, // the final server has it, and we confirm that
    VERDICT_RELAYED,   // the next server has it and will not confirm (no DSN offered)
    VERDICT_PASSED,    // the server, final or not, has it and the duty to confirm (DSN)
    VERDICT_FAILED,    // for good
    VERDICT_DEFERRED,  // tried in vain, again later
    VERDICT_UNTRIED,   // not tried after all
    VERDICT_EXPIRED,   // its lifetime is over
    VERDICT_WARNED,    // still queued; its sender is told of the delay
    VERDICT_RETURNED,  // for good, by an operator: no attempt, and no server's doing
    VERDICTS,
};

struct verdict {
    enum verdict_kind kind;
    uint16_t code;             // 550; 0: none
    char enhanced[16];         // "5.1.1"
    bool remote;               // the remote server's words
    bool tells;                // its sender hears of the relaying (RFC 2852), unless NOTIFY=NEVER
    bool too_many;             // deferred: the server takes fewer recipients in one transaction
    bool bare;                 // it came without an enhanced code; that is made up
    struct bounce_class class; // of a failure or deferral, once classified
    char text[VERDICT_TEXT_MAX + 1];
};

// Ours: code, enhanced code and text.
struct verdict verdict_make(enum verdict_kind kind, uint16_t code, const char *enhanced,
                            struct bytes text);
// An operator returned it; `reason`, one line, is what he says of it, or empty.
struct verdict verdict_of_return(struct bytes reason);
// A rendering that ended with `err`: for good if the message has no such form or was damaged on the disk.
struct verdict verdict_of_render_failure(int err);
// What an outcome of the client session means. `dsn_offered`, `final`: what a 2xx makes of the recipient.
// `fresh`: the session had not carried a message before, so a break is the server's doing, not a connection
// that had gone stale or has served enough: of such a one the recipient is UNTRIED until MAIL is taken.
struct verdict verdict_of_outcome(const struct smtp_outcome *outcome, bool final, bool dsn_offered,
                                  bool fresh);

// Does the server refuse because the session goes without TLS (RFC 3207 section 4: 530)?
bool verdict_is_for_want_of_tls(const struct smtp_reply *reply);
// A failure becomes a deferral, in the server's own words; others are left alone.
void verdict_defer(struct verdict *v);

// Puts a failure or a deferral into its class: by the server's words (all of them: `text`), or of our own
// verdicts by their enhanced code. A refusal for good that by its class is one for now (a limit, greylisting)
// becomes a deferral. Others are left alone. rules may be NULL: nothing is done.
void verdict_classify(struct verdict *v, const struct bounce_rules *rules, struct bytes text);
// May a reply at this step say of a recipient that his address is bad? `alone`: the transaction has no other;
// `lmtp`: each has a reply of his own to the content (RFC 2033 section 4.2).
bool verdict_is_about_address(enum smtp_step step, bool alone, bool lmtp);
