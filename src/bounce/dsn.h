// SPDX-License-Identifier: MIT
//
// dsn - writes delivery status notifications: to people first, to programs in the standard's form
//
// multipart/report with a plain explanation, message/delivery-status and the returned message or its header
// (RFC 3461 to 3464, RFC 6522); in the internationalised forms of RFC 6533 where an address needs them.
// Pure: values in, bytes out. The remote's words are bounded, and escaped so that they cannot forge fields.
#pragma once

#include "base/buf.h"
#include "mail/envelope.h"

enum dsn_action { DSN_FAILED, DSN_DELAYED, DSN_DELIVERED, DSN_RELAYED, DSN_EXPANDED };

#define DSN_TEXT_MAX 1000         // bytes shown of one remote reply
#define DSN_RETURN_BODY_MAX 65536 // larger bodies are returned as their header only
#define DSN_BODY_MAX                                                                               \
    ((size_t)256 << 10)         // bytes of a notification's body; what is returned is cut to it
#define DSN_RECIPIENTS_MAX 1000 // recipients in one notification

struct dsn_recipient {
    const struct recipient *recipient;
    enum dsn_action action;
    bool by_operator; // FAILED, as `diagnostic`, our own words, says: "returned by an operator ..."
    bool by_time;     // RELAYED, told because a time was asked for (RFC 2852)
    struct bytes status;       // "5.1.1"
    struct bytes remote_mta;   // host that answered, or empty
    struct bytes diagnostic;   // its reply "550 5.1.1 no such user", or our own words
    bool diagnostic_is_remote; // false: our own words, no "smtp;" Diagnostic-Code
    struct wall last_attempt;  // 0: none
};

struct dsn_request {
    const struct envelope *envelope; // of the message reported on
    struct bytes header;             // as stored, its empty line included
    struct bytes body;               // empty when it is not to be returned (dsn_returns_body)
    struct bytes hostname;           // Reporting-MTA
    struct bytes postmaster;         // From address of the notification
    struct message_id id;            // of the notification
    struct wall now;
    const struct dsn_recipient *recipients;
    uint32_t count;
};

struct dsn {
    struct buf header, body;  // header with its empty line
    bool eight_bit, smtputf8; // what the notification's own envelope must declare
};

// Does the sender want to hear of this? RFC 3461 section 4.1 and 5.2: never to the null sender, never about a
// notification; failures unless NOTIFY excludes them; delays unless excluded; successes only when asked.
bool dsn_is_wanted(const struct envelope *envelope, const struct recipient *recipient,
                   enum dsn_action action);
// May its sender be told anything at all of this recipient: not the null sender, not NOTIFY=NEVER.
bool dsn_is_due(const struct envelope *envelope, const struct recipient *recipient);
// RET=FULL, something failed, the message is not binary, and the body is at most DSN_RETURN_BODY_MAX: then pass the body.
bool dsn_returns_body(const struct envelope *envelope, const struct dsn_recipient *recipients,
                      uint32_t count);
// Builds header and body, CRLF lines. Where there is no room for all that is to be returned, the body is left out,
// and then the header's last lines. E_LIMIT: over DSN_RECIPIENTS_MAX, or no room for what there is to say. dsn_done() frees.
int dsn_build(const struct dsn_request *request, struct dsn *out) MUST_USE;
void dsn_done(struct dsn *dsn);
