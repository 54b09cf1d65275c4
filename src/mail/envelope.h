// SPDX-License-Identifier: MIT
//
// envelope - everything the relay knows of a message beside its bytes: one for the message, one row
// a recipient
//
// Built by intake, written once to the journal (spool/envelope_codec.h), read again by whoever
// needs it.
//
// Owner: an envelope owns nothing; all slices live in the arena it was made in.
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "mail/message_id.h"

enum mail_class { MAIL_TRANSACTIONAL, MAIL_PERSONAL, MAIL_BULK, MAIL_CLASSES };
enum mail_origin { ORIGIN_SMTP, ORIGIN_HTTP, ORIGIN_BOUNCE, ORIGIN_SENDMAIL };
enum mail_body { BODY_7BIT, BODY_8BITMIME, BODY_BINARYMIME };
enum dsn_ret { RET_UNSET, RET_FULL, RET_HDRS };

// RFC 2852: what is asked for where a message is not delivered in time.
enum by_mode { BY_NONE, BY_NOTIFY, BY_RETURN };

// RFC 3461 section 4.1. Zero: the parameter was not given.
#define NOTIFY_NEVER 1u
#define NOTIFY_SUCCESS 2u
#define NOTIFY_FAILURE 4u
#define NOTIFY_DELAY 8u

struct metadata {
    struct bytes name, value;
};

struct recipient {
    uint32_t number;      // from 1, the n of ID.n
    struct bytes address; // as received, without <>
    struct bytes
        domain; // routing domain: lower-case A-labels, or "[192.0.2.1]"; what the queue sorts by
    uint32_t notify;    // NOTIFY_ bits
    struct bytes orcpt; // "rfc822;xtext" as received, or of the alias it came by; or empty
    struct bytes token; // reverse-path token, or empty
};

struct envelope {
    struct message_id id;
    struct wall accepted_at;
    struct wall not_before;    // 0: at once (X-Posthaste-Send-At, RFC 4865)
    struct wall expires_at;    // fixed at acceptance; not after deliver_by where that is BY_RETURN
    struct wall deliver_by;    // RFC 2852; before accepted_at: its time was up when it came
    int64_t wall_jumped_ms;    // how far the wall clock had jumped by then (intake/wall_jumps.h)
    struct bytes reverse_path; // without <>; empty is the null sender
    uint32_t account;          // store's account number; 0: none (trusted network, our own DSNs)
    struct bytes account_name;
    struct bytes credential; // the login used
    struct bytes tag;
    struct bytes listener;
    struct bytes client; // "192.0.2.1:4711" or "unix"
    struct bytes helo;   // what the client called itself
    struct bytes envid;  // RFC 3461, xtext as received
    struct bytes
        release; // what MAIL asked for, "for; 3600" or "until; TIME" (RFC 4865); else empty
    struct bytes message_id; // the Message-ID field's value, for searching
    struct metadata *metadata;
    uint32_t metadata_count;
    enum mail_class class;
    enum mail_origin origin;
    enum mail_body body;
    enum dsn_ret ret;
    enum by_mode by_mode;
    bool smtputf8, requiretls, tls;
    bool return_path; // sent with a reverse-path of ours, where we have a domain for it
    bool unsubscribe; // each recipient gets a link to unsubscribe
    bool singly;      // each recipient in a transaction of its own
    bool by_trace;    // RFC 2852: relaying is reported
    int8_t priority;  // RFC 6710: -9 to 9
    uint64_t header_bytes, body_bytes; // as stored; their sum is the message's size
    bool has_body_hash;                // else no key of the account's could sign when it came
    uint8_t body_hash[32];             // of the stored body, for DKIM: SHA-256 of its relaxed form
    struct recipient *recipients;
    uint32_t recipients_count;
    struct bytes unknown; // attributes of a newer version, kept as they were
};

// What the sender called the recipient (RFC 3461 section 4.2): its type, and, appended to out, the decoded address, of
// type utf-8 (RFC 6533 section 3) in UTF-8. False: it is not known, or nonsense.
bool recipient_original(const struct recipient *r, struct bytes *out_type, struct buf *out);

// "transactional", "personal", "bulk".
const char *mail_class_name(enum mail_class class);
// Case-insensitive. E_SYNTAX.
int mail_class_parse(struct bytes text, enum mail_class *out) MUST_USE;

// A deep copy in `arena`.
struct envelope *envelope_copy(const struct envelope *from, struct arena *arena);
