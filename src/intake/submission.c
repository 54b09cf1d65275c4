// SPDX-License-Identifier: MIT
#include "intake/submission.h"

#include "mail/mail_address.h"
#include "mail/mail_address_list.h"
#include "mail/mail_date.h"
#include "mail/mail_header.h"
#include "spool/spool.h"

// What there may be only one of (RFC 5322 section 3.6), and which hold addresses.
struct field_rule {
    struct bytes name;
    bool single, addresses, identity; // identity: who the message is from
};
enum {
    FIELD_FROM,
    FIELD_SENDER,
    FIELD_REPLY_TO,
    FIELD_TO,
    FIELD_CC,
    FIELD_BCC,
    FIELD_DATE,
    FIELD_MESSAGE_ID,
    FIELD_SUBJECT,
    FIELD_RECEIVED,
    FIELD_CLASS,
    FIELD_TAG,
    FIELD_SEND_AT,
    FIELD_LIST_UNSUBSCRIBE,
    FIELDS
};
static const struct field_rule RULES[FIELDS] = {
    [FIELD_FROM] = {{"From", 4}, true, true, true},
    [FIELD_SENDER] = {{"Sender", 6}, true, true, true},
    [FIELD_REPLY_TO] = {{"Reply-To", 8}, true, true, false},
    [FIELD_TO] = {{"To", 2}, true, true, false},
    [FIELD_CC] = {{"Cc", 2}, true, true, false},
    [FIELD_BCC] = {{"Bcc", 3}, false, false, false},
    [FIELD_DATE] = {{"Date", 4}, true, false, false},
    [FIELD_MESSAGE_ID] = {{"Message-ID", 10}, true, false, false},
    [FIELD_SUBJECT] = {{"Subject", 7}, true, false, false},
    [FIELD_RECEIVED] = {{"Received", 8}, false, false, false},
    [FIELD_CLASS] = {{"X-Posthaste-Class", 17}, true, false, false},
    [FIELD_TAG] = {{"X-Posthaste-Tag", 15}, true, false, false},
    [FIELD_SEND_AT] = {{"X-Posthaste-Send-At", 19}, true, false, false},
    [FIELD_LIST_UNSUBSCRIBE] = {{"List-Unsubscribe", 16}, false, false, false},
};

struct check {
    struct submission *s;
    struct arena *arena;
    uint32_t seen[FIELDS];
    size_t from_addresses;
    bool drop_bcc, drop_instructions;
};

static bool refuse(struct check *c, enum smtp_reply_id reply, struct bytes slot)
{
    c->s->refusal = reply;
    c->s->slot = arena_dup(c->arena, slot);
    return false;
}

static bool refuse_number(struct check *c, enum smtp_reply_id reply, uint64_t number)
{
    c->s->refusal = reply;
    c->s->slot = arena_printf(c->arena, "%llu", (unsigned long long)number);
    return false;
}

static int rule_of(struct bytes name)
{
    for (int i = 0; i < FIELDS; i++)
        if (bytes_eq_nocase(name, RULES[i].name))
            return i;
    return -1;
}

// ---- addresses -------------------------------------------------------------------------------------------

static bool check_owner(struct check *c, const struct mail_address *address)
{
    struct submission *s = c->s;
    if (!s->owns)
        return true;
    struct buf domain = {0};
    int err = mail_domain_route(address->domain, &domain);
    enum submission_ownership owned =
        err ? SUBMISSION_NOT_OWNED : s->owns(s->owns_ctx, buf_bytes(&domain));
    bool ok = owned == SUBMISSION_OWNED ||
              refuse(c,
                     owned == SUBMISSION_UNVERIFIED ? SMTP_REPLY_FROM_UNVERIFIED
                                                    : SMTP_REPLY_FROM_NOT_OWNED,
                     err ? address->domain : buf_bytes(&domain));
    buf_done(&domain);
    return ok;
}

static bool check_addresses(struct check *c, const struct mail_field *field, int rule)
{
    bool identity = RULES[rule].identity;
    if (c->s->mode == CONF_SUBMISSION_OFF && !(identity && c->s->owns))
        return true;
    struct mail_address_list list;
    if (mail_address_list_parse(field->value, c->arena, &list) != OK)
        return refuse(c, SMTP_REPLY_BAD_ADDRESS, field->name);
    if (rule == FIELD_SENDER && list.count != 1)
        return refuse(c, SMTP_REPLY_BAD_ADDRESS, field->name); // sender = mailbox, exactly one
    if (rule == FIELD_FROM)
        c->from_addresses += list.count;
    for (size_t i = 0; identity && i < list.count; i++)
        if (!check_owner(c, &list.mailboxes[i].address))
            return false;
    return true;
}

// ---- instructions ----------------------------------------------------------------------------------------

static struct bytes unfolded(struct check *c, struct bytes value)
{
    struct buf text = {0};
    mail_header_unfold(value, &text);
    struct bytes kept = arena_dup(c->arena, buf_bytes(&text));
    buf_done(&text);
    return kept;
}

static bool take_class(struct check *c, struct bytes value)
{
    if (mail_class_parse(value, &c->s->class) != OK)
        return refuse(c, SMTP_REPLY_BAD_CLASS, value);
    c->s->has_class = true;
    return true;
}

static bool take_tag(struct check *c, struct bytes value)
{
    if (value.len == 0 || value.len > SUBMISSION_TAG_MAX || bytes_has_control(value, NULL) ||
        !bytes_is_utf8(value))
        return refuse(c, SMTP_REPLY_BAD_TAG, value);
    c->s->tag = value;
    return true;
}

static bool take_send_at(struct check *c, struct bytes value)
{
    struct submission *s = c->s;
    if (wall_parse(value, &s->send_at) != OK ||
        wall_ms_between(s->now, s->send_at) > SUBMISSION_SEND_AT_MAX_MS)
        return refuse(c, SMTP_REPLY_BAD_SEND_AT, value);
    return true;
}

static bool take_instruction(struct check *c, const struct mail_field *field, int rule)
{
    if (!c->s->authenticated)
        return true;
    struct bytes value = unfolded(c, field->value);
    return rule == FIELD_CLASS ? take_class(c, value)
           : rule == FIELD_TAG ? take_tag(c, value)
                               : take_send_at(c, value);
}

// ---- fields ----------------------------------------------------------------------------------------------

// RFC 5322 3.6.8, with the obsolete white space before the colon. What some take for a field and others don't
// ("From x: y", a folded first line) could hide an author.
static bool is_named(const struct mail_field *field)
{
    struct bytes name = field->name;
    for (size_t i = 0; i < name.len; i++)
        if (name.at[i] < 33 || name.at[i] > 126)
            return false;
    return name.len && field->raw.at[0] == name.at[0];
}

static bool refuse_line(struct check *c, struct bytes block)
{
    struct bytes line;
    bytes_cut(&block, '\r', &line);
    return refuse(c, SMTP_REPLY_BAD_HEADER, line);
}

static bool check_field(struct check *c, const struct mail_field *field)
{
    struct submission *s = c->s;
    if (!s->smtputf8 && s->mode != CONF_SUBMISSION_OFF && !bytes_is_ascii(field->raw))
        return refuse(c, SMTP_REPLY_HEADER_UTF8, field->name);
    if (!is_named(field) && (s->mode != CONF_SUBMISSION_OFF || s->owns))
        return refuse_line(c, field->raw);
    int rule = rule_of(field->name);
    if (rule == -1)
        return true;
    c->seen[rule]++;
    bool lenient = s->mode == CONF_SUBMISSION_OFF;
    if (RULES[rule].single && c->seen[rule] > 1 && !lenient)
        return rule == FIELD_FROM ? refuse(c, SMTP_REPLY_SEVERAL_FROM, BYTES_NONE)
                                  : refuse(c, SMTP_REPLY_FIELD_TWICE, RULES[rule].name);
    if (RULES[rule].addresses)
        return check_addresses(c, field, rule);
    switch (rule) {
    case FIELD_RECEIVED: // RFC 5321 6.3
        return c->seen[rule] <= s->received_max ||
               refuse_number(c, SMTP_REPLY_TOO_MANY_HOPS, s->received_max);
    case FIELD_MESSAGE_ID:
        s->message_id = unfolded(c, field->value);
        return true;
    case FIELD_LIST_UNSUBSCRIBE:
        s->list_unsubscribe = true;
        return true;
    case FIELD_CLASS:
    case FIELD_TAG:
    case FIELD_SEND_AT:
        return take_instruction(c, field, rule);
    default:
        return true;
    }
}

static bool check_fields(struct check *c)
{
    struct bytes block = c->s->header;
    struct mail_field field;
    size_t count = 0;
    while (mail_header_next(&block, &field)) {
        if (++count > MAIL_HEADER_FIELDS_MAX)
            return refuse_number(c, SMTP_REPLY_HEADER_TOO_LARGE, c->s->header_bytes_max);
        if (!check_field(c, &field))
            return false;
    }
    return block.len == 0 || refuse_line(c, block);
}

static bool check_presence(struct check *c)
{
    const uint32_t *seen = c->seen;
    if (c->s->mode == CONF_SUBMISSION_OFF)
        return true;
    if (seen[FIELD_FROM] == 0 || c->from_addresses == 0)
        return refuse(c, SMTP_REPLY_NO_FROM, BYTES_NONE);
    // RFC 5322 3.6.2: several authors need one Sender.
    if (c->from_addresses > 1 && seen[FIELD_SENDER] == 0)
        return refuse(c, SMTP_REPLY_SENDER_MISSING, BYTES_NONE);
    if (c->s->mode == CONF_SUBMISSION_FIX)
        return true;
    if (seen[FIELD_DATE] == 0)
        return refuse(c, SMTP_REPLY_NO_DATE, BYTES_NONE);
    if (seen[FIELD_MESSAGE_ID] == 0)
        return refuse(c, SMTP_REPLY_NO_MESSAGE_ID, BYTES_NONE);
    if (seen[FIELD_TO] + seen[FIELD_CC] + seen[FIELD_BCC] == 0)
        return refuse(c, SMTP_REPLY_NO_DESTINATION, BYTES_NONE);
    return true;
}

// ---- the completed header --------------------------------------------------------------------------------

// RFC 5321 4.4: from, by, with, id, for; date-time.
static void add_received(struct submission *s)
{
    struct buf *out = &s->out;
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(s->id, id);
    buf_add_cstr(out, "Received: ");
    if (s->client_ip.len) {
        bool ip6 = bytes_find(s->client_ip, ':') != -1;
        buf_add_all(out, BYTES("from "), s->helo, ip6 ? BYTES(" ([IPv6:") : BYTES(" (["),
                    s->client_ip, BYTES("])\r\n\t"));
    }
    buf_add_all(out, BYTES("by "), s->hostname, BYTES(" (posthaste"));
    if (s->is_local)
        buf_printf(out, ", from userid %u", s->uid);
    buf_add_all(out, BYTES(") with "), s->protocol, BYTES(" id "), bytes_cstr(id));
    if (s->tls.len)
        buf_add_all(out, BYTES("\r\n\t("), s->tls, BYTES(")"));
    if (s->single_recipient.len)
        buf_add_all(out, BYTES("\r\n\tfor <"), s->single_recipient, BYTES(">"));
    if (s->priority)
        buf_printf(out, "\r\n\tPRIORITY %d", s->priority);
    buf_add_cstr(out, ";\r\n\t");
    mail_date_format(s->now, out);
    buf_add_cstr(out, "\r\n");
}

static bool is_dropped(const struct check *c, struct bytes name)
{
    switch (rule_of(name)) {
    case FIELD_BCC:
        return c->s->mode != CONF_SUBMISSION_OFF;
    case FIELD_CLASS:
    case FIELD_TAG:
    case FIELD_SEND_AT:
        return c->s->authenticated;
    default:
        return false;
    }
}

static void add_missing(struct check *c)
{
    struct submission *s = c->s;
    if (s->mode != CONF_SUBMISSION_FIX)
        return;
    if (c->seen[FIELD_DATE] == 0) {
        buf_add_cstr(&s->out, "Date: ");
        mail_date_format(s->now, &s->out);
        buf_add_cstr(&s->out, "\r\n");
    }
    if (c->seen[FIELD_MESSAGE_ID] == 0) {
        char id[MESSAGE_ID_CHARS + 1];
        message_id_format(s->id, id);
        s->message_id = arena_printf(c->arena, "<%s@%.*s>", id, BYTES_FMT(s->hostname));
        buf_printf(&s->out, "Message-ID: %.*s\r\n", BYTES_FMT(s->message_id));
    }
    if (c->seen[FIELD_TO] + c->seen[FIELD_CC] == 0)
        buf_add_cstr(&s->out, "To: undisclosed-recipients:;\r\n");
}

static bool write_header(struct check *c)
{
    struct submission *s = c->s;
    add_received(s);
    struct bytes block = s->header;
    struct mail_field field;
    while (mail_header_next(&block, &field)) {
        if (is_dropped(c, field.name))
            continue;
        buf_add(&s->out, field.raw);
        if (!bytes_ends(field.raw, BYTES("\r\n"))) // a header cut off by the end of the message
            buf_add_cstr(&s->out, "\r\n");
    }
    add_missing(c);
    buf_add_cstr(&s->out, "\r\n");
    return s->out.err == OK || refuse_number(c, SMTP_REPLY_HEADER_TOO_LARGE, s->header_bytes_max);
}

bool submission_check(struct submission *s, struct arena *arena)
{
    struct check c = {.s = s, .arena = arena};
    s->refusal = SMTP_REPLY_NONE;
    buf_init(&s->out, SPOOL_HEADER_MAX);
    return check_fields(&c) && check_presence(&c) && write_header(&c);
}
