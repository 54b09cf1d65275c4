// SPDX-License-Identifier: MIT
//
// How it works: a report without a part for programs is known by its sender or subject. Its text is
// read line by line up to where the returned mail begins. A line that begins with an address, or has
// one behind words such as "failed to deliver to", names a recipient; the lines up to the next one
// are what was said of it. What stands in a transcript or under "technical details" counts for all.
#include "base/check.h"
#include "bounce/bounce_mail.h"

#define SAID_MAX 4096 // bytes kept of what was said of one recipient
#define LINES_MAX 5000

// ---- is it one? -------------------------------------------------------------------------------------------

// Local-parts of programs that return mail.
// clang-format off
static const char *const SENDERS[] = {
    "mailer-daemon", "mailerdaemon", "mailer_daemon", "mail-daemon", "maildaemon", "mdaemon",
    "postmaster", "post_master", "mail.daemon", "mailsystem", "mail-system", "mail delivery",
    "bounce", "bounces", "microsoftexchange", "nondelivery", "no-reply-bounce", "delivery",
    "system administrator", "administrator@", NULL};
// clang-format on

// How subjects of failures begin.
// clang-format off
static const char *const SUBJECTS[] = {
    "undelivered", "undeliverable", "undeliverd", "non-deliver", "nondeliver",
    "delivery status notification", "delivery failure", "delivery failed", "delivery error",
    "delivery problem", "delivery report", "delivery notification", "delivery has failed",
    "delivery delayed", "delivery incomplete", "returned mail", "returned to sender",
    "returned message", "mail delivery", "mail system error", "mail returned", "mail failure",
    "mail could not be delivered", "message delivery", "message undeliverable",
    "message could not be delivered", "message delayed", "message status - undeliverable",
    "message you sent blocked", "failure notice", "failure delivery", "failed mail",
    "failed delivery", "failed:", "unable to deliver", "could not send message",
    "warning: could not send", "warning: message", "warning - delayed mail",
    "permanent delivery failure", "permanent error", "notification d'\xc3\xa9tat", "unzustellbar",
    "nicht zustellbar", "zustellung fehlgeschlagen", "fehlgeschlagene zustellung", "non remis",
    "non remis:", "\303\251chec de la remise", "no se puede entregar", "no entregado",
    "mancata consegna", "impossibile recapitare", "onbestelbaar", "error sending", "rejected:",
    "rejected mail", "nachricht nicht zugestellt",
    "\xe7\xb3\xbb\xe7\xbb\x9f\xe9\x80\x80\xe4\xbf\xa1", "\xe9\x80\x80\xe4\xbf\xa1", NULL};
// clang-format on

// What only a failed or delayed mail is said of.
// clang-format off
static const char *const FAILURES[] = {
    "could not be delivered", "couldn't be delivered", "cannot be delivered",
    "can't be delivered", "wasn't delivered", "was not delivered", "not been delivered",
    "undeliverable", "undelivered", "unable to deliver", "wasn't able to deliver",
    "not able to deliver", "failed to deliver", "failed permanently", "delivery failed",
    "delivery failure", "has failed", "permanent error", "permanent fatal error", "fatal error",
    "permanent failure", "delivery errors", "did not reach", "could not be reached",
    "not be sent", "could not be sent", "couldn't be sent", "returned to sender",
    "message was rejected", "mail was rejected", "was blocked", "has been blocked", "was refused",
    "delivery problems", "unrecoverable error", "user unknown", "unknown user", "no such user",
    "over quota", "mailbox", "said: 5", "transcript of session", "session transcript",
    "has been rejected", "not yet been delivered", "delayed", "still trying",
    "could not send message", "nicht zugestellt", "nicht ausgeliefert", "n'a pas pu",
    "no se ha podido", "non \xc3\xa8 stato", "kon niet", "is returned", "delivery to",
    "\xe6\x97\xa0\xe6\xb3\x95", "\xe9\x80\x80\xe5\x9b\x9e", NULL};
// clang-format on

// clang-format off
static const char *const DELAYS[] = {
    "(delay)", "delayed", "delivery delay", "warning message only", "still trying",
    "will be retried", "will retry", "will continue to", "not yet been delivered",
    "has not been delivered yet", "could not send message for past", "warning: could not send",
    "warning: message", "keep trying", "still being retried", "temporary problem delivering",
    "no action is required", NULL};
// clang-format on

// These words also stand in what gave up after all.
// clang-format off
static const char *const FINAL[] = {
    "has failed", "failed permanently", "permanent", "gave up", "giving up",
    "will not be retried", "not going to try", "returned", NULL};
// clang-format on

static bool has_bounce_sender(const struct bounce_reading *r)
{
    return bounce_mail_starts(r->from, SENDERS);
}

static bool is_bounce(const struct bounce_reading *r)
{
    if (mail_header_count(r->parts.header, BYTES("X-Failed-Recipients")))
        return true;
    bool subject = bounce_mail_starts(r->subject, SUBJECTS);
    bool sender = has_bounce_sender(r);
    if (!subject && !sender)
        return false;
    if (subject && sender)
        return true;
    // A person may write about a failure, and a postmaster about other things.
    bool answer = mail_header_count(r->parts.header, BYTES("In-Reply-To")) && !sender;
    return !answer && bounce_mail_has(bytes_first(r->parts.text, SAID_MAX * 2), FAILURES);
}

// ---- lines ------------------------------------------------------------------------------------------------

// Where the returned mail begins.
// clang-format off
static const char *const ENDS[] = {
    "--- below this line is a copy of the message", "--- below the next line is a copy",
    "------ this is a copy of", "--- this is a copy of", "----- original message",
    "-----original message", "--- original message", "---------- original message",
    "----- message header follows", "----- unsent message follows", "----- message body follows",
    "----- original mail", "------- original mail info", "-------original mail info",
    "--- undelivered message follows", "--- the unsent message follows", "--- returned message",
    "--- the header of the original message", "-- the header of the original message",
    "--- the body of the original message", "original message headers",
    "original message follows", "your original message", "the original message",
    "message header:", "return-path:", "received:",
    "|------------------------- message text follows", "| message text follows",
    "--- message follows", "------- returned message", "possibly truncated original",
    "message headers follow", "-- the header and top", "--- end transcript", "please reply to",
    "----- header of", "---- start of returned message", "---begin of original",
    "--- original text", NULL};
// clang-format on

// Lines that give an address which is not a recipient.
// clang-format off
static const char *const OTHERS[] = {
    "to:", "an:", "from:", "reply-to:", "sender:", "cc:", "message-id:", "date:", "for further",
    "contact", "please contact", "x-", NULL};
// clang-format on

// Words with which a line leads to a recipient's address.
// clang-format off
static const char *const LEADS[] = {
    "failed address", "failed recipient", "recipient address:", "recipient:", "recipient(s):",
    "recipients:", "final-recipient", "original-recipient", "failed to deliver to",
    "not be delivered to", "n't be delivered to", "n't delivered to", "not delivered to",
    "undeliverable to", "delivery to", "deliver to", "rcpt to", "message to", "mail to",
    "email to", "sent to", "addressed to", "for recipient", "mailbox exceeds allowed size",
    "unknown user:", "user unknown:", "address:", "to the following", "empf\xc3\xa4nger",
    "destinataire", "reason for the", "failed:", "for <", NULL};
// clang-format on

struct line {
    struct bytes text;      // trimmed
    struct bytes recipient; // the address it names as a recipient, or empty
    struct bytes rest;      // behind it
    bool leads;             // what stands before it counts, too
};

static bool is_bullet(char c)
{
    return c == '*' || c == '-' || c == '>' || c == '|' || c == '"' || c == '\'' || c == '<' ||
           c == ' ' || c == '\t' || c == '`' || c == '[' || c == '(';
}

static void read_line(struct bytes text, struct line *out)
{
    struct bytes rest, start = text;
    *out = (struct line){.text = text};
    if (bounce_mail_starts(text, OTHERS))
        return;
    while (start.len && is_bullet(start.at[0]))
        start = bytes_skip(start, 1);
    bool is_reply = start.len > 4 && ascii_is_digit(start.at[0]) && ascii_is_digit(start.at[1]) &&
                    ascii_is_digit(start.at[2]) && (start.at[3] == ' ' || start.at[3] == '-');
    if (is_reply) // "550 <a@b>... User unknown"
        start = bytes_skip(start, 4);
    while (start.len && is_bullet(start.at[0]))
        start = bytes_skip(start, 1);
    struct bytes address = bounce_mail_find_address(text, &rest);
    if (!address.len)
        return;
    bool first = address.at == start.at;
    if (!first && !bounce_mail_has(bytes_of(text.at, (size_t)(address.at - text.at)), LEADS))
        return;
    *out = (struct line){text, address, rest, !first || is_reply};
}

// ---- recipients ----------------------------------------------------------------------------------------------

// What has been read of the text.
struct notes {
    struct bounce_reading *r;
    uint32_t first;   // of the records that are ours
    struct buf *said; // of each of them
    uint32_t said_count;
    struct buf common;    // said of nobody in particular
    int current;          // index in said, or -1
    struct bytes to;      // whom the report came to
    struct bytes sent_to; // whom the returned mail went to, by a line "To:"
    bool copied;          // to others, too, by a line "Cc:"
};

static int find_said(const struct notes *n, struct bytes recipient)
{
    for (uint32_t i = 0; i < n->said_count && i < 64; i++)
        if (bytes_eq_nocase(n->r->out->records[n->first + i].recipient, recipient))
            return (int)i;
    return -1;
}

// Programs' own addresses, and the one to which the report came, are no recipients.
static bool is_nobody(const struct notes *n, struct bytes address)
{
    static const char *const WORDS[] = {"postmaster@", "mailer-daemon@", "abuse@",   "delist@",
                                        "support@",    "helpdesk@",      "noreply@", NULL};
    if (bounce_mail_starts(address, WORDS) || bytes_eq_nocase(address, n->r->from))
        return true;
    return bytes_eq_nocase(n->to, address);
}

static void start_recipient(struct notes *n, const struct line *line)
{
    n->current = find_said(n, line->recipient);
    if (n->current < 0 && n->said_count < 64) {
        struct bounce_record *record = bounce_mail_add(n->r);
        if (!record)
            return;
        record->recipient = arena_dup(n->r->arena, line->recipient);
        n->current = (int)n->said_count++;
        n->said[n->current] = (struct buf){0};
    }
}

static void say(struct notes *n, struct bytes words)
{
    struct buf *to = n->current >= 0 ? &n->said[n->current] : &n->common;
    if (!words.len || to->len + words.len + 1 > SAID_MAX)
        return;
    if (to->len)
        buf_add_byte(to, ' ');
    buf_add(to, words);
}

static bool is_heading(struct bytes text)
{
    return bytes_starts(text, BYTES("-----")) || bytes_starts(text, BYTES("====")) ||
           bytes_starts_nocase(text, BYTES("technical details")) ||
           bytes_starts_nocase(text, BYTES("diagnostic information")) ||
           bytes_starts_nocase(text, BYTES("because:"));
}

static struct bytes without_signs(struct bytes text)
{
    while (text.len &&
           (text.at[0] == '>' || text.at[0] == ':' || text.at[0] == ')' || text.at[0] == ']' ||
            text.at[0] == '"' || text.at[0] == '\'' || text.at[0] == '.' || text.at[0] == ' '))
        text = bytes_skip(text, 1);
    return text;
}

static void take_line(struct notes *n, struct bytes text)
{
    struct line line;
    text = bytes_trim(text);
    if (!text.len)
        return;
    read_line(text, &line);
    if (!n->sent_to.len && bytes_starts_nocase(text, BYTES("To:")))
        n->sent_to = bytes_skip(text, 3);
    n->copied = n->copied || bytes_starts_nocase(text, BYTES("Cc:"));
    if (line.recipient.len && !is_nobody(n, line.recipient)) {
        start_recipient(n, &line);
        say(n, line.leads ? text : without_signs(line.rest));
        return;
    }
    if (is_heading(text)) { // what follows is said of all, unless there is only one
        if (n->said_count != 1)
            n->current = -1;
        return;
    }
    if (bytes_starts(text, BYTES(">>> "))) // our own words in a transcript
        return;
    say(n, text);
}

static void read_lines(struct notes *n, struct bytes text)
{
    struct bytes line;
    bool any = false;
    for (unsigned i = 0; i < LINES_MAX && bytes_cut(&text, '\n', &line); i++) {
        struct bytes trimmed = bytes_trim(line);
        if (any && bounce_mail_starts(trimmed, ENDS))
            return;
        any = any || trimmed.len > 0;
        take_line(n, line);
    }
}

// ---- records ---------------------------------------------------------------------------------------------------

// The reply within what was said, if there is one; else all of it.
static struct bytes reply_in(const struct bounce_reading *r, struct bytes said)
{
    struct bounce_reply reply;
    struct bounce_verdict v = bounce_classify_text(r->rules, said, &reply);
    (void)v;
    return reply.code ? reply.text : said;
}

static void finish_record(struct notes *n, uint32_t i, enum dsn_action action)
{
    struct bounce_record *record = &n->r->out->records[n->first + i];
    struct buf *said = &n->said[i];
    struct bytes words = buf_bytes(said), common = buf_bytes(&n->common);
    struct bytes all = arena_printf(n->r->arena, "%.*s %.*s", BYTES_FMT(words), BYTES_FMT(common));
    struct bytes tries[] = {words, common, all};
    record->action = action;
    for (size_t k = 0; k < COUNT_OF(tries); k++) {
        if (!tries[k].len)
            continue;
        record->diagnostic = bounce_mail_line(n->r, tries[k]);
        bounce_mail_classify(n->r, record, BYTES_NONE);
        if (record->class.reason != BOUNCE_OTHER)
            break;
    }
    struct bytes reply = reply_in(n->r, record->diagnostic);
    record->diagnostic = bounce_mail_line(n->r, reply);
}

// Nobody is named in the text: the header may name them.
static void add_from_headers(struct notes *n)
{
    struct bytes rest = bounce_parts_field(n->r->parts.header, "X-Failed-Recipients", n->r->arena);
    struct line line = {0};
    if (!rest.len)
        rest = bounce_mail_sent_to(n->r);
    if (!rest.len && !n->copied && !mail_header_count(n->r->parts.original, BYTES("To")))
        rest = bounce_mail_only_address(n->sent_to);
    while (n->said_count < 64) {
        line.recipient = bounce_mail_find_address(rest, &rest);
        if (!line.recipient.len)
            break;
        start_recipient(n, &line);
    }
    if (n->said_count)
        return;
    struct bounce_record *record = bounce_mail_add(n->r);
    if (record)
        n->said[n->said_count++] = (struct buf){0};
}

static enum dsn_action action_of(const struct bounce_reading *r)
{
    struct bytes text = bytes_first(r->parts.text, SAID_MAX);
    bool delay = bounce_mail_has(r->subject, DELAYS) || bounce_mail_has(text, DELAYS);
    return delay && !bounce_mail_has(text, FINAL) ? DSN_DELAYED : DSN_FAILED;
}

bool bounce_read_text(struct bounce_reading *r)
{
    struct buf said[64];
    if (!is_bounce(r))
        return false;
    struct bytes rest, to = bounce_parts_field(r->parts.header, "To", r->arena);
    struct notes n = {.r = r, .first = r->out->count, .said = said, .current = -1};
    n.to = bounce_mail_find_address(to, &rest);
    read_lines(&n, r->parts.text);
    if (!n.said_count)
        add_from_headers(&n);
    enum dsn_action action = action_of(r);
    for (uint32_t i = 0; i < n.said_count; i++) {
        finish_record(&n, i, action);
        buf_done(&said[i]);
    }
    buf_done(&n.common);
    return n.said_count > 0;
}
