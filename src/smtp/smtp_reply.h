// SPDX-License-Identifier: MIT
//
// smtp_reply - every reply that posthaste gives over SMTP: one table of code, enhanced code and
// text
//
// The sessions, intake and the listeners name a row; nothing else holds reply text. Every 2xx, 4xx
// and 5xx row but the greeting and HELO/EHLO carries an enhanced code of its own class (RFC 2034,
// 3463, 5248). docs/REPLIES.md is printed from this table (tools/gen-replies.c).
//
// Limits:   SMTP_REPLY_SLOT_MAX bytes of the slot are shown, escaped; a reply is one line of at
// most 512
//           octets (RFC 5321 4.5.3.1.5).
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

#define SMTP_REPLY_SLOT_MAX 200
#define SMTP_REPLY_LINE_MAX 512

enum smtp_reply_id {
    SMTP_REPLY_NONE, // no reply; not a row

    // Session and commands: given by smtp_server itself.
    SMTP_REPLY_GREETING, // slot: host name and greeting
    SMTP_REPLY_HELO,     // slot: host name
    SMTP_REPLY_HELP,
    SMTP_REPLY_NOOP,
    SMTP_REPLY_RSET,
    SMTP_REPLY_VRFY,
    SMTP_REPLY_QUIT,
    SMTP_REPLY_STARTTLS,
    SMTP_REPLY_START_MAIL,     // 354; the answer to on_data that lets the content come
    SMTP_REPLY_CHUNK,          // slot: octets
    SMTP_REPLY_AUTH_CHALLENGE, // 334; slot: base64 (not bounded by the slot limit)
    SMTP_REPLY_UNKNOWN_COMMAND,
    SMTP_REPLY_LINE_SYNTAX,
    SMTP_REPLY_LINE_TOO_LONG,
    SMTP_REPLY_ARGUMENTS, // slot: the right form
    SMTP_REPLY_HELLO_NAME,
    SMTP_REPLY_NOT_IMPLEMENTED,
    SMTP_REPLY_SEQUENCE, // slot: what to send first
    SMTP_REPLY_NESTED_MAIL,
    SMTP_REPLY_NO_RECIPIENTS,
    SMTP_REPLY_BDAT_MIXED,
    SMTP_REPLY_BINARY_BY_BDAT,
    SMTP_REPLY_PATH_SENDER,
    SMTP_REPLY_PATH_RECIPIENT,
    SMTP_REPLY_ADDRESS_UTF8,
    SMTP_REPLY_PARAM_UNKNOWN,     // slot: the parameter
    SMTP_REPLY_PARAM_VALUE,       // slot: the parameter
    SMTP_REPLY_PARAM_TWICE,       // slot: the parameter
    SMTP_REPLY_HOLD_TOO_LONG,     // slot: the limit in seconds
    SMTP_REPLY_BY_TOO_SHORT,      // slot: the least in seconds
    SMTP_REPLY_BY_BEFORE_RELEASE, // slot: the hold in seconds
    SMTP_REPLY_CHUNK_SIZE,
    SMTP_REPLY_TLS_ACTIVE,
    SMTP_REPLY_TLS_IN_TRANSACTION,
    SMTP_REPLY_AUTH_TLS_FIRST,
    SMTP_REPLY_AUTH_MECHANISM,
    SMTP_REPLY_AUTH_TWICE,
    SMTP_REPLY_AUTH_IN_TRANSACTION,
    SMTP_REPLY_AUTH_CANCELLED,
    SMTP_REPLY_AUTH_SYNTAX,
    SMTP_REPLY_AUTH_TOO_LONG,
    SMTP_REPLY_AUTH_UNBOUND,
    SMTP_REPLY_AUTH_NOT_OFFERED,
    SMTP_REPLY_AUTH_REQUIRED,
    SMTP_REPLY_XCLIENT_DENIED,
    SMTP_REPLY_XCLIENT_IN_TRANSACTION,
    SMTP_REPLY_XCLIENT_ATTRIBUTE, // slot: the attribute
    SMTP_REPLY_XCLIENT_VALUE,     // slot: the attribute
    SMTP_REPLY_TOO_MANY_ERRORS,
    SMTP_REPLY_TOO_MANY_JUNK,
    SMTP_REPLY_TIMEOUT,
    SMTP_REPLY_TOO_SLOW,
    SMTP_REPLY_NOT_SMTP,
    SMTP_REPLY_TLS_ON_PLAIN_PORT,
    SMTP_REPLY_SHUTDOWN,
    SMTP_REPLY_TOO_LARGE,           // slot: the limit in octets
    SMTP_REPLY_TOO_LARGE_CLOSE,     // slot: the limit in octets
    SMTP_REPLY_TOO_MANY_RECIPIENTS, // slot: the limit
    SMTP_REPLY_TOO_MANY_MAILS,      // slot: the limit
    SMTP_REPLY_BARE_LF,
    SMTP_REPLY_BARE_CR,
    SMTP_REPLY_NUL_IN_HEADER,
    SMTP_REPLY_TEXT_LINE_TOO_LONG, // slot: the limit

    // Decisions: chosen by whoever answers the session's handlers.
    SMTP_REPLY_AUTH_OK,
    SMTP_REPLY_AUTH_BAD,
    SMTP_REPLY_AUTH_TOO_MANY,
    SMTP_REPLY_AUTH_UNAVAILABLE,
    SMTP_REPLY_XCLIENT_LOGIN, // slot: the login
    SMTP_REPLY_MAIL_OK,
    SMTP_REPLY_PRIORITY_LOWERED, // slot: the priority that it has now; the transaction is open
    SMTP_REPLY_RCPT_OK,
    SMTP_REPLY_ACCEPTED, // slot: the message id
    SMTP_REPLY_NOTED,
    SMTP_REPLY_TOO_MANY_CONNECTIONS,
    SMTP_REPLY_TOO_MANY_REPORTS,
    SMTP_REPLY_BUSY,
    SMTP_REPLY_DISK_FULL,
    SMTP_REPLY_LOCAL_ERROR,
    SMTP_REPLY_ACCOUNT_SUSPENDED,
    SMTP_REPLY_USER_WITHOUT_ACCOUNT, // slot: the user, "uid:33"
    SMTP_REPLY_SENDER_NOT_OWNED,     // slot: the domain
    SMTP_REPLY_SENDER_UNVERIFIED,    // slot: the domain
    SMTP_REPLY_FROM_NOT_OWNED,       // slot: the domain
    SMTP_REPLY_FROM_UNVERIFIED,      // slot: the domain
    SMTP_REPLY_RELAY_DENIED,         // slot: the domain
    SMTP_REPLY_UNKNOWN_USER,         // slot: the address
    SMTP_REPLY_UNKNOWN_DOMAIN,       // slot: the domain
    SMTP_REPLY_NULL_MX,              // slot: the domain
    SMTP_REPLY_ADDRESS_LITERAL,
    SMTP_REPLY_SUPPRESSED,     // slot: why, since when and for whom
    SMTP_REPLY_SUPPRESSED_ALL, // the same, of the first recipient
    SMTP_REPLY_NO_FROM,
    SMTP_REPLY_SEVERAL_FROM,
    SMTP_REPLY_SENDER_MISSING,
    SMTP_REPLY_FIELD_TWICE, // slot: the field's name
    SMTP_REPLY_BAD_ADDRESS, // slot: the field's name
    SMTP_REPLY_BAD_HEADER,  // slot: the line
    SMTP_REPLY_HEADER_UTF8, // slot: the field's name
    SMTP_REPLY_NO_DATE,
    SMTP_REPLY_NO_MESSAGE_ID,
    SMTP_REPLY_NO_DESTINATION,
    SMTP_REPLY_HEADER_TOO_LARGE, // slot: the limit in octets
    SMTP_REPLY_TOO_MANY_HOPS,    // slot: the limit
    SMTP_REPLY_BAD_SEND_AT,      // slot: the value
    SMTP_REPLY_BAD_CLASS,        // slot: the value
    SMTP_REPLY_BAD_TAG,
    SMTP_REPLY_PREFLIGHT_POLICY,  // slot: which finding, where
    SMTP_REPLY_PREFLIGHT_CONTENT, // the same
    SMTP_REPLY_ENVELOPE_TOO_LARGE,

    SMTP_REPLY_COUNT
};

// Who gives a reply; SMTP_BY_SESSION rows are reached by smtp_server's own tests.
enum smtp_reply_by { SMTP_BY_SESSION, SMTP_BY_DECISION };

struct smtp_reply_row {
    enum smtp_reply_id id;
    const char *name;     // "SENDER_NOT_OWNED"
    uint16_t code;        // 550
    const char *enhanced; // "5.7.1", or NULL
    const char *text;     // at most one "%s": the slot
    enum smtp_reply_by by;
    const char *where; // which command or event it answers, for docs/REPLIES.md
};

// The row of an id (CHECKs that it is one).
const struct smtp_reply_row *smtp_reply_row(enum smtp_reply_id id);
static inline bool smtp_reply_is_ok(enum smtp_reply_id id)
{
    return smtp_reply_row(id)->code < 400;
}
// Appends the reply line with CRLF; slot fills the row's %s, escaped and bounded (ignored if there
// is none).
void smtp_reply_format(struct buf *out, enum smtp_reply_id id, struct bytes slot);
// Appends docs/REPLIES.md.
void smtp_reply_document(struct buf *out);
