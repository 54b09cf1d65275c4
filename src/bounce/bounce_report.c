// SPDX-License-Identifier: MIT
#include "base/check.h"
#include "bounce/bounce_mail.h"

// Cuts the next block of fields (up to an empty line) off *text; false at the end.
static bool cut_block(struct bytes *text, struct bytes *out)
{
    while (bytes_starts(*text, BYTES("\r\n")))
        *text = bytes_skip(*text, 2);
    if (!text->len)
        return false;
    ptrdiff_t end = bytes_search(*text, BYTES("\r\n\r\n"));
    *out = end < 0 ? *text : bytes_first(*text, (size_t)end + 2);
    *text = bytes_skip(*text, end < 0 ? text->len : (size_t)end + 4);
    return true;
}

static bool is_named(const struct mail_field *field, const char *name)
{
    return bytes_eq_nocase(field->name, bytes_cstr(name));
}

// ---- delivery status (RFC 3464, 6533) -----------------------------------------------------------------------

// What one recipient's fields say.
struct fields {
    struct bytes original, final, action, status, diagnostic, actual;
};

static bool parse_action(struct bytes text, enum dsn_action *out)
{
    static const struct {
        const char *word;
        enum dsn_action action;
    } ROWS[] = {{"fail", DSN_FAILED},         {"delayed", DSN_DELAYED},
                {"delivered", DSN_DELIVERED}, {"relayed", DSN_RELAYED},
                {"expanded", DSN_EXPANDED},   {"deliverable", DSN_DELIVERED},
                {"transient", DSN_DELAYED}};
    text = bytes_trim(text);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        if (bytes_starts_nocase(text, bytes_cstr(ROWS[i].word))) {
            *out = ROWS[i].action;
            return true;
        }
    return false;
}

static enum dsn_action action_of(const struct fields *f)
{
    enum dsn_action action = DSN_FAILED;
    struct bytes status = bytes_trim(f->status);
    if (!parse_action(f->action, &action) && status.len)
        action = status.at[0] == '4'   ? DSN_DELAYED
                 : status.at[0] == '2' ? DSN_DELIVERED
                                       : DSN_FAILED;
    return action;
}

// "5.1.1 (bad mailbox)": the code alone.
static struct bytes status_of(struct bytes text)
{
    size_t n = 0;
    text = bytes_trim(text);
    while (n < text.len && n < 11 && (ascii_is_digit(text.at[n]) || text.at[n] == '.'))
        n++;
    struct bytes status = bytes_first(text, n);
    bool good = n >= 5 && status.at[1] == '.' && bytes_find(bytes_skip(status, 2), '.') > 0;
    return good ? status : BYTES_NONE;
}

static void add_record(struct bounce_reading *r, const struct fields *f)
{
    struct bounce_record *record = bounce_mail_add(r);
    if (!record)
        return;
    struct bytes original = bounce_mail_address(r, f->original);
    record->final = bounce_mail_address(r, f->final);
    if (!record->final.len)
        record->final = bounce_mail_address(r, f->actual);
    record->recipient = original.len ? original : record->final;
    record->action = action_of(f);
    record->status = arena_dup(r->arena, status_of(f->status));
    record->diagnostic = bounce_mail_line(r, bounce_class_without_type(bytes_trim(f->diagnostic)));
    bounce_mail_classify(r, record, r->parts.text);
}

static bool is_empty(const struct fields *f)
{
    return !f->original.len && !f->final.len && !f->action.len && !f->actual.len;
}

static void take_field(struct bounce_reading *r, struct fields *f, const struct mail_field *field)
{
    if (is_named(field, "Final-Recipient") && f->final.len) { // no empty line between two
        add_record(r, f);
        *f = (struct fields){0};
    }
    struct {
        const char *name;
        struct bytes *to;
    } rows[] = {{"Original-Recipient", &f->original},
                {"Final-Recipient", &f->final},
                {"Action", &f->action},
                {"Status", &f->status},
                {"Diagnostic-Code", &f->diagnostic},
                {"X-Actual-Recipient", &f->actual}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (is_named(field, rows[i].name) && !rows[i].to->len)
            *rows[i].to = field->value;
    if (is_named(field, "Original-Envelope-Id"))
        r->out->envid = bounce_mail_line(r, field->value);
}

static void read_block(struct bounce_reading *r, struct bytes block)
{
    struct fields f = {0};
    struct mail_field field;
    while (mail_header_next(&block, &field))
        take_field(r, &f, &field);
    if (!is_empty(&f))
        add_record(r, &f);
}

// A report that names nobody: the one recipient of the mail it is about, if there is only one.
static void add_nobody(struct bounce_reading *r)
{
    struct bounce_record *record = bounce_mail_add(r);
    CHECK(record);
    record->recipient = arena_dup(r->arena, bounce_mail_sent_to(r));
    bounce_mail_classify(r, record, r->parts.text);
}

bool bounce_read_status(struct bounce_reading *r)
{
    const struct bounce_part *part = bounce_parts_find(&r->parts, "message/delivery-status");
    if (!part)
        part = bounce_parts_find(&r->parts, "message/global-delivery-status");
    if (!part)
        return false;
    struct bytes rest = part->body, block;
    while (cut_block(&rest, &block))
        read_block(r, block);
    if (!r->out->count && !bounce_read_text(r))
        add_nobody(r);
    return true;
}

// ---- complaints (RFC 5965, 9477) -----------------------------------------------------------------------------

static void add_complaint(struct bounce_reading *r, struct bytes recipient)
{
    struct bounce_record *record = bounce_mail_add(r);
    if (!record)
        return;
    record->recipient = bounce_mail_address(r, recipient);
    record->action = DSN_DELIVERED;
    record->class = (struct bounce_class){BOUNCE_COMPLAINT, false};
    record->diagnostic = bounce_mail_line(r, r->out->feedback_type);
}

// RFC 6430: what is no spam after all; RFC 6591: about signatures. Neither is a complaint.
static bool is_complaint(struct bytes type)
{
    return !bytes_eq_nocase(type, BYTES("not-spam")) &&
           !bytes_eq_nocase(type, BYTES("auth-failure")) && !bytes_eq_nocase(type, BYTES("dmarc"));
}

// Whom the mail complained of went to: the report need not say.
static void add_recipient_of_original(struct bounce_reading *r)
{
    static const char *const FIELDS[] = {"X-HmXmrOriginalRecipient", "X-Original-To",
                                         "Delivered-To", "Envelope-To"};
    struct bytes to = BYTES_NONE, rest;
    for (size_t i = 0; i < COUNT_OF(FIELDS) && !to.len; i++) {
        struct bytes value = bounce_parts_field(r->parts.original, FIELDS[i], r->arena);
        to = bounce_mail_find_address(value, &rest);
    }
    add_complaint(r, to.len ? to : bounce_mail_sent_to(r));
}

bool bounce_read_feedback(struct bounce_reading *r)
{
    const struct bounce_part *part = bounce_parts_find(&r->parts, "message/feedback-report");
    struct bytes hotmail =
        bounce_parts_field(r->parts.original, "X-HmXmrOriginalRecipient", r->arena);
    bool is_hotmail = hotmail.len && bytes_starts(r->from, BYTES("staff@"));
    if (!part && !is_hotmail && !bytes_eq(r->parts.report, BYTES("feedback-report")))
        return false;
    struct bounce_mail *out = r->out;
    out->feedback_type = BYTES("abuse");
    out->feedback_id = bounce_parts_field(r->parts.original, "CFBL-Feedback-ID", r->arena);
    struct bytes rest = part ? part->body : BYTES_NONE;
    struct mail_field field;
    struct bytes recipients[16];
    size_t count = 0;
    while (bytes_starts(rest, BYTES("\r\n")))
        rest = bytes_skip(rest, 2);
    while (mail_header_next(&rest, &field)) {
        if (is_named(&field, "Feedback-Type"))
            out->feedback_type = bounce_mail_line(r, field.value);
        else if (is_named(&field, "Original-Envelope-Id"))
            out->envid = bounce_mail_line(r, field.value);
        else if ((is_named(&field, "Original-Rcpt-To") || is_named(&field, "Removal-Recipient")) &&
                 count < COUNT_OF(recipients))
            recipients[count++] = field.value;
    }
    if (!is_complaint(out->feedback_type))
        return true;
    for (size_t i = 0; i < count; i++)
        add_complaint(r, recipients[i]);
    if (!count)
        add_recipient_of_original(r);
    return true;
}

// ---- receipts (RFC 8098) ---------------------------------------------------------------------------------------

bool bounce_read_receipt(struct bounce_reading *r)
{
    const struct bounce_part *part =
        bounce_parts_find(&r->parts, "message/disposition-notification");
    struct mail_field field;
    if (!part)
        return false;
    struct bounce_record *record = bounce_mail_add(r);
    CHECK(record);
    record->action = DSN_DELIVERED;
    record->class = (struct bounce_class){BOUNCE_OTHER, false};
    struct bytes body = part->body;
    while (mail_header_next(&body, &field)) {
        if (is_named(&field, "Final-Recipient"))
            record->recipient = bounce_mail_address(r, field.value);
        else if (is_named(&field, "Disposition"))
            record->diagnostic = bounce_mail_line(r, field.value);
    }
    return true;
}
