// SPDX-License-Identifier: MIT
//
// How it works: four blocks are appended (explanation, delivery-status, returned content, and last the header, which
// tells of their form); whatever came from outside passes through add_clean(), which lets no control byte through.
#include "bounce/dsn.h"

#include <stdio.h>

#include "base/check.h"
#include "mail/mail_date.h"
#include "mail/mail_encode.h"

#define LINE_MAX_SHOWN 900 // bytes of one field's value, so that lines stay below 998
#define RETURNED_EXTRA 256 // bytes around what is returned: two boundaries, two fields

struct writer {
    const struct dsn_request *request;
    struct buf *out;
    bool utf8; // RFC 6533 forms
    char boundary[64];
    struct bytes header, body; // what of the request's is returned
};

// ---- who wants to hear of it -------------------------------------------------------------------------

bool dsn_is_due(const struct envelope *envelope, const struct recipient *recipient)
{
    if (envelope->reverse_path.len == 0 || envelope->origin == ORIGIN_BOUNCE)
        return false; // RFC 3461 6.1: no notification about a notification
    return !(recipient->notify & NOTIFY_NEVER);
}

bool dsn_is_wanted(const struct envelope *envelope, const struct recipient *recipient,
                   enum dsn_action action)
{
    unsigned notify = recipient->notify;
    if (!dsn_is_due(envelope, recipient))
        return false;
    switch (action) {
    case DSN_FAILED:
        return notify == 0 || (notify & NOTIFY_FAILURE);
    case DSN_DELAYED:
        return notify == 0 || (notify & NOTIFY_DELAY);
    case DSN_DELIVERED:
    case DSN_RELAYED:
    case DSN_EXPANDED:
        return (notify & NOTIFY_SUCCESS) != 0;
    }
    return false;
}

static bool any_failed(const struct dsn_recipient *recipients, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (recipients[i].action == DSN_FAILED)
            return true;
    return false;
}

bool dsn_returns_body(const struct envelope *envelope, const struct dsn_recipient *recipients,
                      uint32_t count)
{
    if (envelope->body ==
        BODY_BINARYMIME) // a report is lines; what would be converted is not what was sent
        return false;
    // RFC 3461 4.3: RET speaks of failures only; other notifications return the header.
    return envelope->ret == RET_FULL && envelope->body_bytes <= DSN_RETURN_BODY_MAX &&
           any_failed(recipients, count);
}

// ---- words -------------------------------------------------------------------------------------------

struct meaning {
    const char *status; // prefix of the enhanced status code
    const char *text;
};

// The longest matching prefix explains the code to a person. RFC 3463.
static const struct meaning MEANINGS[] = {
    {"5.1.1", "The address does not exist. Please check it for typing errors."},
    {"5.1.2",
     "The part after the @ does not exist as a mail domain. Please check it for typing errors."},
    {"5.1.3", "The address is not written in a valid form."},
    {"5.1.6", "The mailbox has moved and left no new address."},
    {"5.1.10", "The domain says that it accepts no mail at all."},
    {"5.1", "The receiving server does not accept this address."},
    {"5.2.1", "The mailbox is disabled and accepts no messages."},
    {"5.2.2", "The mailbox is full."},
    {"5.2.3", "The message is larger than this mailbox accepts."},
    {"5.2", "There is a problem with the mailbox."},
    {"5.3.4", "The message is larger than the receiving server accepts."},
    {"5.3", "The receiving server's mail system has a problem that will not go away by itself."},
    {"5.4.6", "The message goes in circles: two servers keep passing it to each other."},
    {"5.4.7",
     "The receiving server could not be reached, or kept postponing the message, for too long."},
    {"5.4.4", "No server could be found that takes mail for this domain."},
    {"5.4", "The receiving server could not be reached."},
    {"5.6.7", "The address has letters that one of the servers on the way does not support."},
    {"5.6", "The receiving server does not accept the form of the message."},
    {"5.7", "The receiving server refuses the message, for reasons of its policy."},
    {"5", "The receiving server refuses the message for good."},
    {"4.2.2", "The mailbox is full at the moment."},
    {"4.4.7", "The receiving server could not be reached, or postponed the message, so far."},
    {"4.4", "The receiving server cannot be reached at the moment."},
    {"4.7", "The receiving server postpones the message, for reasons of its policy."},
    {"4", "The receiving server postpones the message."},
};

static const char *meaning_of(struct bytes status)
{
    const char *best = "";
    size_t best_len = 0;
    for (size_t i = 0; i < COUNT_OF(MEANINGS); i++) {
        struct bytes prefix = bytes_cstr(MEANINGS[i].status);
        bool whole = bytes_starts(status, prefix) &&
                     (status.len == prefix.len || status.at[prefix.len] == '.');
        if (whole && prefix.len > best_len) {
            best = MEANINGS[i].text;
            best_len = prefix.len;
        }
    }
    return best;
}

static const char *action_name(enum dsn_action action)
{
    static const char *const NAMES[] = {[DSN_FAILED] = "failed",
                                        [DSN_DELAYED] = "delayed",
                                        [DSN_DELIVERED] = "delivered",
                                        [DSN_RELAYED] = "relayed",
                                        [DSN_EXPANDED] = "expanded"};
    return NAMES[action];
}

// ---- building blocks ---------------------------------------------------------------------------------

// Appends at most max bytes of s with everything that is not printable made '?': what others wrote may not
// end a line, forge a field or move a terminal's cursor.
static void add_clean(struct writer *w, struct bytes s, size_t max)
{
    bool utf8 = w->utf8 && bytes_is_utf8(s);
    size_t len = s.len < max ? s.len : max;
    while (utf8 && len < s.len && ((unsigned char)s.at[len] & 0xc0) == 0x80)
        len--; // never cut a character in two
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        bool shown = (c >= 0x20 && c < 0x7f) || (c >= 0x80 && utf8);
        // Replies of several lines come with LF between them (smtp_reply_parser.h).
        buf_add_byte(w->out, shown ? (char)c : c == '\n' ? ' ' : '?');
    }
    if (len < s.len)
        buf_add_cstr(w->out, "...");
}

static void add_field(struct writer *w, const char *name, struct bytes value)
{
    buf_add_cstr(w->out, name);
    buf_add_cstr(w->out, ": ");
    add_clean(w, value, LINE_MAX_SHOWN);
    buf_add_cstr(w->out, "\r\n");
}

static void add_date_field(struct writer *w, const char *name, struct wall t)
{
    buf_printf(w->out, "%s: ", name);
    mail_date_format(t, w->out);
    buf_add_cstr(w->out, "\r\n");
}

static void add_part(struct writer *w, const char *type, bool eight_bit)
{
    buf_printf(w->out, "--%s\r\nContent-Type: %s\r\n", w->boundary, type);
    if (eight_bit)
        buf_add_cstr(w->out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_add_cstr(w->out, "\r\n");
}

// ---- the explanation ---------------------------------------------------------------------------------

static const char *opening(const struct dsn_request *r)
{
    bool failed = any_failed(r->recipients, r->count);
    if (failed)
        return "Your message could not be delivered to everyone it was meant for.\r\n"
               "It will not be tried again for the addresses below.\r\n";
    if (r->recipients[0].action == DSN_DELAYED)
        return "Your message has not been delivered yet. THIS IS ONLY A WARNING:\r\n"
               "you need not send it again, delivery is still being tried.\r\n";
    return r->recipients[0].by_time ? "Your message was handed on.\r\n"
                                    : "Your message was handed on, as you asked to be told.\r\n";
}

static void add_person_recipient(struct writer *w, const struct dsn_recipient *r)
{
    buf_add_cstr(w->out, "\r\n  ");
    add_clean(w, r->recipient->address, 320);
    buf_add_cstr(w->out, "\r\n");
    switch (r->action) {
    case DSN_DELIVERED:
        buf_add_cstr(w->out, "    was put into the mailbox.\r\n");
        return;
    case DSN_RELAYED:
        buf_add_cstr(w->out, "    was passed to ");
        add_clean(w, r->remote_mta, 255);
        if (r->by_time) {
            buf_add_cstr(w->out,
                         ",\r\n    which you hear because a time was given for its delivery.\r\n");
            return;
        }
        buf_add_cstr(
            w->out,
            ", which gives no\r\n    confirmations of its own. You may hear no more of it.\r\n");
        return;
    case DSN_EXPANDED:
        buf_add_cstr(w->out, "    was passed on to the addresses this one stands for.\r\n");
        return;
    case DSN_FAILED:
    case DSN_DELAYED:
        break;
    }
    if (r->by_operator) {
        buf_add_cstr(w->out, "    was ");
        add_clean(w, r->diagnostic, LINE_MAX_SHOWN);
        buf_add_cstr(w->out, bytes_ends(r->diagnostic, BYTES(".")) ? "\r\n" : ".\r\n");
        return;
    }
    buf_printf(w->out, "    %s\r\n", meaning_of(r->status));
    if (r->diagnostic.len == 0)
        return;
    if (r->diagnostic_is_remote && r->remote_mta.len) {
        buf_add_cstr(w->out, "    The server ");
        add_clean(w, r->remote_mta, 255);
        buf_add_cstr(w->out, " said:\r\n    ");
    } else {
        buf_add_cstr(w->out, "    The reason: ");
    }
    add_clean(w, r->diagnostic, LINE_MAX_SHOWN);
    buf_add_cstr(w->out, "\r\n");
}

static void add_explanation(struct writer *w)
{
    const struct dsn_request *r = w->request;
    add_part(w, w->utf8 ? "text/plain; charset=utf-8" : "text/plain; charset=us-ascii", w->utf8);
    buf_printf(w->out, "This is the mail system at %.*s.\r\n\r\n", BYTES_FMT(r->hostname));
    buf_add_cstr(w->out, opening(r));
    for (uint32_t i = 0; i < r->count; i++)
        add_person_recipient(w, &r->recipients[i]);
    if (r->recipients[0].action == DSN_DELAYED && r->envelope->expires_at.us) {
        buf_add_cstr(w->out, "\r\nDelivery will be tried until ");
        mail_date_format(r->envelope->expires_at, w->out);
        buf_add_cstr(w->out, ".\r\n");
    }
    buf_add_cstr(w->out, "\r\nThe number of your message here was ");
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(r->envelope->id, id);
    buf_printf(w->out, "%s.\r\n\r\n", id);
}

// ---- message/delivery-status (RFC 3464) ----------------------------------------------------------------

// RFC 3461 6.3: the value stands there decoded; where it may only be ASCII, one in UTF-8 as utf-8-addr-xtext (RFC 6533
// section 3).
static void add_original_recipient(struct writer *w, const struct recipient *r)
{
    struct bytes type;
    struct buf decoded = {0}, ascii = {0};
    if (recipient_original(r, &type, &decoded)) {
        if (!w->utf8 && bytes_eq_nocase(type, BYTES("utf-8")))
            mail_utf8_addr_xtext_encode(buf_bytes(&decoded), &ascii);
        buf_add_cstr(w->out, "Original-Recipient: ");
        add_clean(w, type, 64);
        buf_add_cstr(w->out, "; ");
        add_clean(w, ascii.len ? buf_bytes(&ascii) : buf_bytes(&decoded), 500);
        buf_add_cstr(w->out, "\r\n");
    }
    buf_done(&decoded);
    buf_done(&ascii);
}

static void add_status_recipient(struct writer *w, const struct dsn_recipient *r)
{
    buf_add_cstr(w->out, "\r\n");
    add_original_recipient(w, r->recipient);
    bool utf8 = w->utf8 && !bytes_is_ascii(r->recipient->address);
    buf_printf(w->out, "Final-Recipient: %s; ", utf8 ? "utf-8" : "rfc822");
    add_clean(w, r->recipient->address, 320);
    buf_printf(w->out, "\r\nAction: %s\r\n", action_name(r->action));
    add_field(w, "Status", r->status);
    if (r->remote_mta.len) {
        buf_add_cstr(w->out, "Remote-MTA: dns; ");
        add_clean(w, r->remote_mta, 255);
        buf_add_cstr(w->out, "\r\n");
    }
    if (r->diagnostic.len) {
        // RFC 3464 2.3.6: "smtp" is for what an SMTP server said; our own words carry our own type.
        buf_printf(w->out, "Diagnostic-Code: %s; ",
                   r->diagnostic_is_remote ? "smtp" : "x-posthaste");
        add_clean(w, r->diagnostic, LINE_MAX_SHOWN);
        buf_add_cstr(w->out, "\r\n");
    }
    if (r->last_attempt.us)
        add_date_field(w, "Last-Attempt-Date", r->last_attempt);
    if (r->action == DSN_DELAYED && w->request->envelope->expires_at.us)
        add_date_field(w, "Will-Retry-Until", w->request->envelope->expires_at);
}

static void add_status(struct writer *w)
{
    const struct dsn_request *r = w->request;
    add_part(w, w->utf8 ? "message/global-delivery-status" : "message/delivery-status", w->utf8);
    buf_add_cstr(w->out, "Reporting-MTA: dns; ");
    add_clean(w, r->hostname, 255);
    buf_add_cstr(w->out, "\r\n");
    struct buf envid = {0};
    if (r->envelope->envid.len && mail_xtext_decode(r->envelope->envid, &envid) == OK)
        add_field(w, "Original-Envelope-Id", buf_bytes(&envid));
    buf_done(&envid);
    add_date_field(w, "Arrival-Date", r->envelope->accepted_at);
    if (r->envelope->by_mode != BY_NONE) // RFC 2852 section 5
        add_date_field(w, "Deliver-By-Date", r->envelope->deliver_by);
    if (r->envelope->release.len) // RFC 4865 section 5
        add_field(w, "Future-Release-Request", r->envelope->release);
    for (uint32_t i = 0; i < r->count; i++)
        add_status_recipient(w, &r->recipients[i]);
    buf_add_cstr(w->out, "\r\n");
}

// ---- the returned message or header --------------------------------------------------------------------

// Raw 8-bit text that is no UTF-8, as old programs write it, makes no internationalised message of it.
static bool is_utf8_header(struct bytes header)
{
    return !bytes_is_ascii(header) && bytes_is_utf8(header);
}

// What there is room for behind what is written: without the body, then without the header's last lines.
static void choose_returned(struct writer *w)
{
    const struct dsn_request *r = w->request;
    size_t used = w->out->len + RETURNED_EXTRA;
    size_t room = used < DSN_BODY_MAX ? DSN_BODY_MAX - used : 0;
    w->header = r->header;
    if (bytes_find(r->body, '\0') == -1 && r->header.len + r->body.len <= room)
        w->body = r->body;
    if (r->header.len > room)
        w->header = bytes_first(r->header,
                                (size_t)(bytes_find_last(bytes_first(r->header, room), '\n') + 1));
}

static void add_returned(struct writer *w)
{
    bool header_utf8 = is_utf8_header(w->header);
    bool whole = w->body.len > 0;
    bool eight_bit = !bytes_is_ascii(w->header) || !bytes_is_ascii(w->body);
    const char *type = whole ? (header_utf8 ? "message/global" : "message/rfc822")
                             : (header_utf8 ? "message/global-headers" : "text/rfc822-headers");
    add_part(w, type, eight_bit);
    buf_add(w->out, w->header);
    if (w->header.len < w->request->header.len) // its empty line is cut off
        buf_add_cstr(w->out, "\r\n");
    buf_add(w->out, w->body);
    if (whole && !bytes_ends(w->body, BYTES("\r\n")))
        buf_add_cstr(w->out, "\r\n");
    buf_printf(w->out, "\r\n--%s--\r\n", w->boundary);
}

// ---- header --------------------------------------------------------------------------------------------

static const char *subject(const struct dsn_request *r)
{
    if (any_failed(r->recipients, r->count))
        return "Undelivered mail: your message could not be delivered";
    if (r->recipients[0].action == DSN_DELAYED)
        return "Delayed mail: your message has not been delivered yet";
    return "Delivery report for your message";
}

static void add_header(struct writer *w)
{
    const struct dsn_request *r = w->request;
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(r->id, id);
    buf_printf(w->out, "From: \"Mail Delivery System\" <%.*s>\r\nTo: <", BYTES_FMT(r->postmaster));
    add_clean(w, r->envelope->reverse_path, 320);
    buf_add_cstr(w->out, ">\r\n");
    add_date_field(w, "Date", r->now);
    buf_printf(w->out, "Message-ID: <%s@%.*s>\r\nSubject: %s\r\n", id, BYTES_FMT(r->hostname),
               subject(r));
    if (r->envelope->message_id.len && bytes_is_ascii(r->envelope->message_id)) {
        add_field(w, "In-Reply-To", r->envelope->message_id);
        add_field(w, "References", r->envelope->message_id);
    }
    buf_printf(w->out,
               "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n" // RFC 3834 5
               "Content-Type: multipart/report; report-type=%s;\r\n\tboundary=\"%s\"\r\n",
               w->utf8 ? "global-delivery-status" : "delivery-status", w->boundary);
    if (w->utf8 || !bytes_is_ascii(w->header) || !bytes_is_ascii(w->body))
        buf_add_cstr(w->out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_add_cstr(w->out, "\r\n");
}

static bool needs_utf8(const struct dsn_request *r)
{
    if (!bytes_is_ascii(r->envelope->reverse_path) || is_utf8_header(r->header))
        return true;
    for (uint32_t i = 0; i < r->count; i++)
        if (!bytes_is_ascii(r->recipients[i].recipient->address))
            return true;
    return false;
}

// A boundary that stands nowhere in what is returned.
static void choose_boundary(struct writer *w)
{
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(w->request->id, id);
    for (unsigned n = 0;; n++) {
        snprintf(w->boundary, sizeof w->boundary, "=_%s_%u", id, n);
        struct bytes boundary = bytes_cstr(w->boundary);
        if (bytes_search(w->request->body, boundary) == -1 &&
            bytes_search(w->request->header, boundary) == -1)
            return;
    }
}

int dsn_build(const struct dsn_request *request, struct dsn *out)
{
    CHECK(request->count > 0);
    *out = (struct dsn){0};
    if (request->count > DSN_RECIPIENTS_MAX)
        return E_LIMIT;
    struct writer w = {.request = request, .utf8 = needs_utf8(request)};
    buf_init(&out->body, DSN_BODY_MAX);
    choose_boundary(&w);
    w.out = &out->body;
    buf_add_cstr(w.out, "This is a report in MIME format.\r\n\r\n");
    add_explanation(&w);
    add_status(&w);
    choose_returned(&w);
    add_returned(&w);
    w.out = &out->header;
    add_header(&w);
    // What the parts hold is content (RFC 6533 3); only the address it goes to asks for more of the servers.
    out->smtputf8 = !bytes_is_ascii(request->envelope->reverse_path) ||
                    !bytes_is_ascii(buf_bytes(&out->header));
    out->eight_bit =
        !bytes_is_ascii(buf_bytes(&out->body)) || !bytes_is_ascii(buf_bytes(&out->header));
    int err = out->header.err ? out->header.err : out->body.err;
    if (err)
        dsn_done(out);
    return err;
}

void dsn_done(struct dsn *dsn)
{
    buf_done(&dsn->header);
    buf_done(&dsn->body);
}
