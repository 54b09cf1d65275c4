// SPDX-License-Identifier: MIT
//
// smtp_reply - the table of replies, its formatting and its printed form
//
// Rows stand in the order of enum smtp_reply_id (a test checks it). A text says what is wrong and,
// where there is one, what would be right.

#include "smtp/smtp_reply.h"

#include "base/check.h"

#define SESSION SMTP_BY_SESSION
#define DECISION SMTP_BY_DECISION
#define ROW(id, code, enhanced, text, by, where)                                                   \
    [SMTP_REPLY_##id] = {SMTP_REPLY_##id, #id, code, enhanced, text, by, where}

// clang-format off
static const struct smtp_reply_row rows[SMTP_REPLY_COUNT] = {
    ROW(GREETING, 220, NULL, "%s", SESSION, "connection opened"),
    ROW(HELO, 250, NULL, "%s", SESSION, "HELO; EHLO answers with one line for each extension"),
    ROW(HELP, 214, "2.0.0", "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS AUTH HELP QUIT", SESSION, "HELP"),
    ROW(NOOP, 250, "2.0.0", "Ok", SESSION, "NOOP"),
    ROW(RSET, 250, "2.0.0", "Ok: nothing is open", SESSION, "RSET"),
    ROW(VRFY, 252, "2.0.0", "Addresses are not verified here; send RCPT TO to find out", SESSION, "VRFY"),
    ROW(QUIT, 221, "2.0.0", "Bye", SESSION, "QUIT"),
    ROW(STARTTLS, 220, "2.0.0", "Ready to start TLS", SESSION, "STARTTLS"),
    ROW(START_MAIL, 354, NULL, "Send the message; end it with a line that has only a dot", SESSION, "DATA"),
    ROW(CHUNK, 250, "2.0.0", "Ok: %s octets received", SESSION, "BDAT"),
    ROW(AUTH_CHALLENGE, 334, NULL, "%s", SESSION, "AUTH exchange"),
    ROW(UNKNOWN_COMMAND, 500, "5.5.1", "Unknown command; HELP lists those known here", SESSION, "any command"),
    ROW(LINE_SYNTAX, 500, "5.5.2", "A command line is printable text ended by CRLF; this one has a control character or a bare CR or LF", SESSION, "any command"),
    ROW(LINE_TOO_LONG, 500, "5.5.2", "Command line too long", SESSION, "any command"),
    ROW(ARGUMENTS, 501, "5.5.4", "Wrong or missing arguments; the form is: %s", SESSION, "any command"),
    ROW(HELLO_NAME, 501, "5.5.4", "Give your host name or an address in brackets: letters, digits, dots, hyphens", SESSION, "EHLO, HELO"),
    ROW(NOT_IMPLEMENTED, 502, "5.5.1", "This command is not implemented", SESSION, "EXPN, TURN, ETRN, SEND, SOML, SAML"),
    ROW(SEQUENCE, 503, "5.5.1", "Not now; send %s first", SESSION, "a command before what it needs"),
    ROW(NESTED_MAIL, 503, "5.5.1", "A message is open already; finish it or send RSET", SESSION, "MAIL in a transaction"),
    ROW(NO_RECIPIENTS, 554, "5.5.1", "No valid recipients", SESSION, "DATA or BDAT when every RCPT was refused"),
    ROW(BDAT_MIXED, 503, "5.5.1", "A message in chunks is open; finish it with BDAT SIZE LAST, or send RSET", SESSION, "DATA or RCPT after BDAT"),
    ROW(BINARY_BY_BDAT, 503, "5.5.1", "A message with BODY=BINARYMIME comes by BDAT, not by DATA", SESSION, "DATA after BODY=BINARYMIME"),
    ROW(PATH_SENDER, 501, "5.1.7", "Sender address not valid; the form is MAIL FROM:<name@example.com> or MAIL FROM:<>", SESSION, "MAIL"),
    ROW(PATH_RECIPIENT, 501, "5.1.3", "Recipient address not valid; the form is RCPT TO:<name@example.com>", SESSION, "RCPT"),
    ROW(ADDRESS_UTF8, 553, "5.6.7", "An address beyond ASCII needs the SMTPUTF8 parameter on MAIL FROM", SESSION, "MAIL, RCPT"),
    ROW(PARAM_UNKNOWN, 555, "5.5.4", "Parameter not known or not offered here: %s", SESSION, "MAIL, RCPT"),
    ROW(PARAM_VALUE, 501, "5.5.4", "Value not valid for parameter %s", SESSION, "MAIL, RCPT"),
    ROW(PARAM_TWICE, 501, "5.5.4", "Parameter given twice: %s", SESSION, "MAIL, RCPT"),
    ROW(HOLD_TOO_LONG, 501, "5.5.4", "Messages are held at most %s seconds here", SESSION, "MAIL (HOLDFOR=, HOLDUNTIL=)"),
    ROW(BY_TOO_SHORT, 555, "5.5.4", "BY=...;R needs at least %s seconds here", SESSION, "MAIL (BY=)"),
    ROW(BY_BEFORE_RELEASE, 501, "5.5.4", "The time of BY= is over before the message is released, in %s seconds", SESSION, "MAIL (BY= with HOLDFOR= or HOLDUNTIL=)"),
    ROW(CHUNK_SIZE, 501, "5.5.4", "Chunk size not valid; the form is: BDAT SIZE [LAST]. Closing, as what follows can't be told from commands", SESSION, "BDAT"),
    ROW(TLS_ACTIVE, 503, "5.5.1", "TLS is active already", SESSION, "STARTTLS under TLS"),
    ROW(TLS_IN_TRANSACTION, 503, "5.5.1", "STARTTLS can not come within a message; send RSET first", SESSION, "STARTTLS in a transaction"),
    ROW(AUTH_TLS_FIRST, 530, "5.7.0", "Logging in needs encryption; send STARTTLS first", SESSION, "AUTH without TLS"),
    ROW(AUTH_MECHANISM, 504, "5.5.4", "Mechanism not supported; use one of those that EHLO names", SESSION, "AUTH"),
    ROW(AUTH_TWICE, 503, "5.5.1", "Already logged in", SESSION, "AUTH after AUTH"),
    ROW(AUTH_IN_TRANSACTION, 503, "5.5.1", "AUTH can not come within a message; send RSET first", SESSION, "AUTH in a transaction"),
    ROW(AUTH_CANCELLED, 501, "5.7.0", "Login cancelled", SESSION, "AUTH exchange: *"),
    ROW(AUTH_SYNTAX, 501, "5.5.2", "Not valid base64, or not a valid message of this mechanism", SESSION, "AUTH exchange"),
    ROW(AUTH_TOO_LONG, 500, "5.5.6", "Login line too long", SESSION, "AUTH exchange"),
    ROW(AUTH_UNBOUND, 535, "5.7.8", "The login is bound to another TLS connection or another offer than this one has; something between us changed it", SESSION, "AUTH exchange, SCRAM: channel binding"),
    ROW(AUTH_NOT_OFFERED, 503, "5.5.1", "This listener has no logins", SESSION, "AUTH where auth is none"),
    ROW(AUTH_REQUIRED, 530, "5.7.0", "Log in first: send AUTH (and STARTTLS before it, if TLS is not active)", SESSION, "MAIL where auth is required"),
    ROW(XCLIENT_DENIED, 550, "5.7.0", "XCLIENT, or its LOGIN, is not for you: the listener's configuration names who may use it", SESSION, "XCLIENT"),
    ROW(XCLIENT_IN_TRANSACTION, 503, "5.5.1", "XCLIENT can not come within a message; send RSET first", SESSION, "XCLIENT in a transaction"),
    ROW(XCLIENT_ATTRIBUTE, 501, "5.5.4", "XCLIENT has no attribute %s here", SESSION, "XCLIENT"),
    ROW(XCLIENT_VALUE, 501, "5.5.4", "Value not valid for XCLIENT's %s", SESSION, "XCLIENT"),
    ROW(TOO_MANY_ERRORS, 421, "4.7.0", "Too many errors; closing", SESSION, "any command"),
    ROW(TOO_MANY_JUNK, 421, "4.7.0", "Too many commands without a message; closing", SESSION, "any command"),
    ROW(TIMEOUT, 421, "4.4.2", "Nothing complete came in time; closing", SESSION, "time-out"),
    ROW(TOO_SLOW, 421, "4.4.2", "The message comes too slowly; closing", SESSION, "time-out in content"),
    ROW(NOT_SMTP, 554, "5.5.0", "This is an SMTP server; closing", SESSION, "HTTP spoken to the SMTP port"),
    ROW(TLS_ON_PLAIN_PORT, 554, "5.5.0", "This port starts without TLS; use STARTTLS, or the port for implicit TLS", SESSION, "TLS spoken to a port without it"),
    ROW(SHUTDOWN, 421, "4.3.2", "The server is stopping; try again in a moment", SESSION, "any command"),
    ROW(TOO_LARGE, 552, "5.3.4", "Message too large; at most %s octets are taken here", SESSION, "MAIL (SIZE=), end of content"),
    ROW(TOO_LARGE_CLOSE, 552, "5.3.4", "Message far too large; at most %s octets are taken here; closing", SESSION, "content far beyond the limit"),
    ROW(TOO_MANY_RECIPIENTS, 452, "4.5.3", "Too many recipients; at most %s for one message, send the rest in another", SESSION, "RCPT"),
    ROW(TOO_MANY_MAILS, 421, "4.7.0", "Too many messages in one session, at most %s; closing, send the rest in another", SESSION, "MAIL"),
    ROW(BARE_LF, 550, "5.6.0", "Message has a bare LF; lines must end in CRLF", SESSION, "end of content"),
    ROW(BARE_CR, 550, "5.6.0", "Message has a bare CR; lines must end in CRLF", SESSION, "end of content"),
    ROW(NUL_IN_HEADER, 550, "5.6.0", "Message has a NUL character in its header", SESSION, "end of content"),
    ROW(TEXT_LINE_TOO_LONG, 550, "5.6.0", "Message has a line of more than %s octets; wrap it, or encode the part as quoted-printable or base64", SESSION, "end of content"),

    ROW(AUTH_OK, 235, "2.7.0", "Logged in", DECISION, "AUTH"),
    ROW(AUTH_BAD, 535, "5.7.8", "Login or password wrong", DECISION, "AUTH"),
    ROW(AUTH_TOO_MANY, 454, "4.7.0", "Too many failed logins from your address; try again later", DECISION, "AUTH"),
    ROW(AUTH_UNAVAILABLE, 454, "4.7.0", "Logins can't be checked at the moment; try again later", DECISION, "AUTH"),
    ROW(XCLIENT_LOGIN, 550, "5.7.8", "XCLIENT names a login that no active account has: %s", DECISION, "XCLIENT"),
    ROW(MAIL_OK, 250, "2.1.0", "Ok", DECISION, "MAIL"),
    ROW(PRIORITY_LOWERED, 250, "2.3.6", "Ok, with priority %s: more than your account may ask for", DECISION, "MAIL (MT-PRIORITY=)"),
    ROW(RCPT_OK, 250, "2.1.5", "Ok", DECISION, "RCPT"),
    ROW(ACCEPTED, 250, "2.0.0", "Ok: queued as %s", DECISION, "end of content"),
    ROW(NOTED, 250, "2.0.0", "Ok: noted", DECISION, "end of content, of a report to a listener for bounces"),
    ROW(TOO_MANY_CONNECTIONS, 421, "4.7.0", "Too many connections from your address; try again later", DECISION, "connection opened"),
    ROW(TOO_MANY_REPORTS, 450, "4.7.0", "Too many reports from your address; try again later", DECISION, "MAIL, at a listener for bounces"),
    ROW(BUSY, 421, "4.3.2", "Too busy for another connection; try again later", DECISION, "connection opened; RCPT at a listener for bounces"),
    ROW(DISK_FULL, 452, "4.3.1", "No room for mail at the moment; try again later", DECISION, "MAIL, end of content"),
    ROW(LOCAL_ERROR, 451, "4.3.0", "Local error; the message was not taken, try again later", DECISION, "MAIL, RCPT, end of content"),
    ROW(ACCOUNT_SUSPENDED, 550, "5.7.1", "This account is suspended; ask the operator", DECISION, "AUTH, MAIL"),
    ROW(USER_WITHOUT_ACCOUNT, 550, "5.7.1", "No account is set for %s, the user of this host that you are; ask the operator (sendmail.accounts)", DECISION, "MAIL at sendmail.socket"),
    ROW(SENDER_NOT_OWNED, 550, "5.7.1", "Your account may not send as %s; use one of its domains, or have this one added (posthaste domain add) and verified", DECISION, "MAIL"),
    ROW(SENDER_UNVERIFIED, 550, "5.7.1", "Domain %s is not verified yet; publish its TXT record and run posthaste domain verify", DECISION, "MAIL"),
    ROW(FROM_NOT_OWNED, 550, "5.7.1", "The From or Sender field names %s, which your account may not send as; use one of its domains, or have this one added (posthaste domain add) and verified", DECISION, "end of content"),
    ROW(FROM_UNVERIFIED, 550, "5.7.1", "The From or Sender field names %s, which is not verified yet; publish its TXT record and run posthaste domain verify", DECISION, "end of content"),
    ROW(RELAY_DENIED, 550, "5.7.1", "Relaying to %s needs a login", DECISION, "RCPT"),
    ROW(UNKNOWN_USER, 550, "5.1.1", "No such recipient here: %s", DECISION, "RCPT"),
    ROW(UNKNOWN_DOMAIN, 550, "5.1.2", "Domain does not exist: %s", DECISION, "RCPT"),
    ROW(NULL_MX, 556, "5.1.10", "Domain takes no mail (null MX): %s", DECISION, "RCPT"),
    ROW(ADDRESS_LITERAL, 550, "5.1.2", "Mail to an address in brackets is not relayed; use a domain name", DECISION, "RCPT"),
    ROW(SUPPRESSED, 550, "5.7.1", "This recipient is suppressed: %s; posthaste suppress remove lifts it", DECISION, "RCPT"),
    ROW(SUPPRESSED_ALL, 550, "5.7.1", "Every recipient is suppressed, the first: %s; posthaste suppress remove lifts it", DECISION, "end of content"),
    ROW(NO_FROM, 550, "5.6.0", "Message has no From field; add one with the author's address", DECISION, "end of content"),
    ROW(SEVERAL_FROM, 550, "5.6.0", "Message has several From fields; put all authors in one", DECISION, "end of content"),
    ROW(SENDER_MISSING, 550, "5.6.0", "Message has several authors and no Sender field; add one with the one who sends it", DECISION, "end of content"),
    ROW(FIELD_TWICE, 550, "5.6.0", "Message has the field %s more than once", DECISION, "end of content"),
    ROW(BAD_ADDRESS, 550, "5.6.0", "Message has an address that is not valid in the field %s", DECISION, "end of content"),
    ROW(BAD_HEADER, 550, "5.6.0", "Message has a header line that is not a field (Name: value): %s", DECISION, "end of content"),
    ROW(HEADER_UTF8, 550, "5.6.7", "Message has characters beyond ASCII in the field %s; encode them, or send with SMTPUTF8", DECISION, "end of content"),
    ROW(NO_DATE, 550, "5.6.0", "Message has no Date field, which this listener does not add", DECISION, "end of content"),
    ROW(NO_MESSAGE_ID, 550, "5.6.0", "Message has no Message-ID field, which this listener does not add", DECISION, "end of content"),
    ROW(NO_DESTINATION, 550, "5.6.0", "Message has no To, Cc or Bcc field, which this listener does not add", DECISION, "end of content"),
    ROW(HEADER_TOO_LARGE, 552, "5.3.4", "Message header too large; at most %s octets are taken here", DECISION, "end of content"),
    ROW(TOO_MANY_HOPS, 554, "5.4.6", "Message has more than %s Received fields; it seems to run in a loop", DECISION, "end of content"),
    ROW(BAD_SEND_AT, 550, "5.6.0", "X-Posthaste-Send-At is not a time within reach like 2026-11-22T09:00:00Z: %s", DECISION, "end of content"),
    ROW(BAD_CLASS, 550, "5.6.0", "X-Posthaste-Class is not transactional, personal or bulk: %s", DECISION, "end of content"),
    ROW(BAD_TAG, 550, "5.6.0", "X-Posthaste-Tag is too long or has control characters", DECISION, "end of content"),
    ROW(PREFLIGHT_POLICY, 550, "5.7.1", "Receivers would refuse this message: %s; see posthaste message check", DECISION, "end of content"),
    ROW(PREFLIGHT_CONTENT, 550, "5.6.0", "Receivers would refuse what is in this message: %s; see posthaste message check", DECISION, "end of content"),
    ROW(ENVELOPE_TOO_LARGE, 554, "5.5.3", "Too many recipients for one message that has to be kept, or held, at once; send it to fewer", DECISION, "end of content"),
};
// clang-format on

const struct smtp_reply_row *smtp_reply_row(enum smtp_reply_id id)
{
    CHECK(id > SMTP_REPLY_NONE && id < SMTP_REPLY_COUNT);
    return &rows[id];
}

// The slot, escaped; never so long that the line passes SMTP_REPLY_LINE_MAX.
static void add_slot(struct buf *out, const struct smtp_reply_row *row, struct bytes slot)
{
    if (row->id == SMTP_REPLY_AUTH_CHALLENGE) { // RFC 4954 section 4: up to 12288 octets
        buf_add(out, slot);
        return;
    }
    struct buf shown;
    buf_init(&shown, (size_t)SMTP_REPLY_SLOT_MAX * 4 + 16);
    buf_add_escaped(&shown, slot, SMTP_REPLY_SLOT_MAX);
    struct bytes text = buf_bytes(&shown);
    if (text.len > SMTP_REPLY_SLOT_MAX) { // each escaped byte takes four
        buf_add(out, bytes_first(text, SMTP_REPLY_SLOT_MAX));
        buf_add_cstr(out, "...");
    } else {
        buf_add(out, text);
    }
    buf_done(&shown);
}

void smtp_reply_format(struct buf *out, enum smtp_reply_id id, struct bytes slot)
{
    const struct smtp_reply_row *row = smtp_reply_row(id);
    buf_add_u64(out, row->code);
    buf_add_byte(out, ' ');
    if (row->enhanced) {
        buf_add_cstr(out, row->enhanced);
        buf_add_byte(out, ' ');
    }
    struct bytes text = bytes_cstr(row->text);
    ptrdiff_t at = bytes_search(text, BYTES("%s"));
    if (at < 0) {
        buf_add(out, text);
    } else {
        buf_add(out, bytes_first(text, (size_t)at));
        add_slot(out, row, slot);
        buf_add(out, bytes_skip(text, (size_t)at + 2));
    }
    buf_add_cstr(out, "\r\n");
}

static void document_group(struct buf *out, enum smtp_reply_by by)
{
    buf_add_cstr(out, "| reply | answers | row |\n|---|---|---|\n");
    for (int id = SMTP_REPLY_NONE + 1; id < SMTP_REPLY_COUNT; id++) {
        const struct smtp_reply_row *row = &rows[id];
        if (row->by != by)
            continue;
        buf_printf(out, "| `%u %s%s%s` | %s | %s |\n", row->code,
                   row->enhanced ? row->enhanced : "", row->enhanced ? " " : "", row->text,
                   row->where, row->name);
    }
}

void smtp_reply_document(struct buf *out)
{
    buf_add_cstr(
        out,
        "# Replies\n\n"
        "Every reply that posthaste gives over SMTP. Printed from the table in\n"
        "`src/smtp/smtp_reply.c` by `build/src/smtp/gen-replies`; do not edit. `%s` is a detail: a "
        "domain, a limit,\nan id; bytes from outside are escaped and cut at 200 "
        "characters. Enhanced codes: RFC 3463, 5248.\n\n"
        "## Given by the session\n\n");
    document_group(out, SMTP_BY_SESSION);
    buf_add_cstr(out, "\n## Given by a decision (login, sender, recipient, message)\n\n");
    document_group(out, SMTP_BY_DECISION);
}
