// SPDX-License-Identifier: MIT
#include "bounce/bounce_mail.h"

#include "base/check.h"
#include "mail/mail_address_list.h"
#include "mail/mail_encode.h"
#include "mail/mail_text.h"

struct bounce_record *bounce_mail_add(struct bounce_reading *r)
{
    struct bounce_mail *out = r->out;
    if (out->count == BOUNCE_RECORDS_MAX)
        return NULL;
    if (out->count == r->cap) { // the arena keeps the old ones until its end: at most as much again
        r->cap = r->cap ? r->cap * 2 : 4;
        struct bounce_record *more = arena_new(r->arena, r->cap * sizeof *more);
        if (out->count)
            memcpy(more, out->records, out->count * sizeof *more);
        out->records = more;
    }
    struct bounce_record *record = &out->records[out->count++];
    *record = (struct bounce_record){.action = DSN_FAILED};
    return record;
}

struct bytes bounce_mail_line(struct bounce_reading *r, struct bytes text)
{
    struct buf line = {0}, clean = {0};
    bool blank = false;
    text = bytes_trim(text);
    for (size_t i = 0; i < text.len && line.len < BOUNCE_DIAGNOSTIC_MAX; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c <= ' ' || c == 0x7f) {
            blank = true;
            continue;
        }
        if (blank)
            buf_add_byte(&line, ' ');
        blank = false;
        buf_add_byte(&line, (char)c);
    }
    size_t cut = line.len; // not inside a character
    while (cut > 0 && cut > line.len - 4 && cut < line.len + 1 && line.at &&
           line.len >= BOUNCE_DIAGNOSTIC_MAX && ((unsigned char)line.at[cut - 1] & 0xc0) == 0x80)
        cut--;
    if (cut > 0 && line.len >= BOUNCE_DIAGNOSTIC_MAX && (unsigned char)line.at[cut - 1] >= 0xc0)
        cut--;
    mail_utf8_repair(bytes_first(buf_bytes(&line), cut), &clean);
    struct bytes out = arena_dup(r->arena, bytes_first(buf_bytes(&clean), clean.len));
    buf_done(&line);
    buf_done(&clean);
    return out;
}

// ---- addresses -------------------------------------------------------------------------------------------

static bool ends_address(char c)
{
    return (unsigned char)c <= ' ' || c == '<' || c == '>' || c == '(' || c == ')' || c == ',' ||
           c == ';' || c == ':' || c == '"' || c == '\'' || c == '[' || c == ']' || c == '`' ||
           c == '|' || c == '{' || c == '}' || c == '\\';
}

struct bytes bounce_mail_find_address(struct bytes text, struct bytes *out_rest)
{
    size_t start = 0;
    for (size_t i = 0; i <= text.len; i++) {
        if (i < text.len && !ends_address(text.at[i]))
            continue;
        struct bytes word = bytes_mid(text, start, i - start);
        while (word.len && (word.at[word.len - 1] == '.' || word.at[word.len - 1] == '!'))
            word.len--;
        struct mail_address address;
        ptrdiff_t at = bytes_find(word, '@');
        if (at > 0 && bytes_find(bytes_skip(word, (size_t)at), '.') > 0 &&
            mail_address_parse(word, &address) == OK && address.domain.len) {
            *out_rest = bytes_skip(text, start + word.len);
            return word;
        }
        start = i + 1;
    }
    *out_rest = BYTES_NONE;
    return BYTES_NONE;
}

struct bytes bounce_mail_only_address(struct bytes text)
{
    struct bytes other, address = bounce_mail_find_address(text, &text);
    do {
        other = bounce_mail_find_address(text, &text);
        if (other.len && !bytes_eq_nocase(other, address)) // "a@b" <a@b> is one
            return BYTES_NONE;
    } while (other.len);
    return address;
}

struct bytes bounce_mail_sent_to(struct bounce_reading *r)
{
    struct bytes header = r->parts.original;
    if (mail_header_count(header, BYTES("To")) != 1 || mail_header_count(header, BYTES("Cc")))
        return BYTES_NONE;
    return bounce_mail_only_address(bounce_parts_field(header, "To", r->arena));
}

struct bytes bounce_mail_address(struct bounce_reading *r, struct bytes text)
{
    struct bytes rest;
    struct mail_address address;
    text = bytes_trim(text);
    ptrdiff_t semicolon = bytes_find(bytes_first(text, 16), ';');
    bool is_utf8 = bytes_starts_nocase(text, BYTES("utf-8"));
    if (semicolon > 0 && bytes_find(bytes_first(text, (size_t)semicolon), '@') < 0)
        text = bytes_trim(bytes_skip(text, (size_t)semicolon + 1));
    struct buf decoded = {0};
    if (is_utf8 && mail_utf8_addr_decode(text, &decoded) == OK) // RFC 6533 section 3
        text = arena_dup(r->arena, buf_bytes(&decoded));
    buf_done(&decoded);
    if (bytes_starts(text, BYTES("<")) && bytes_ends(text, BYTES(">")))
        text = bytes_mid(text, 1, text.len - 2);
    if (mail_address_parse(text, &address) == OK && address.domain.len)
        return arena_dup(r->arena, text);
    return arena_dup(r->arena, bounce_mail_find_address(text, &rest));
}

// ---- phrases ---------------------------------------------------------------------------------------------

static bool has_at(struct bytes text, const char *phrase)
{
    return bytes_starts_nocase(text, bytes_cstr(phrase));
}

bool bounce_mail_has(struct bytes text, const char *const *phrases)
{
    for (size_t i = 0; i < text.len; i++)
        for (const char *const *p = phrases; *p; p++)
            if (ascii_lower(text.at[i]) == **p && has_at(bytes_skip(text, i), *p))
                return true;
    return false;
}

bool bounce_mail_starts(struct bytes text, const char *const *phrases)
{
    for (const char *const *p = phrases; *p; p++)
        if (has_at(text, *p))
            return true;
    return false;
}

// ---- classes ---------------------------------------------------------------------------------------------

// "5.0.0", "4.3", "": says no more than the class.
static bool is_vague(struct bytes status)
{
    return status.len < 5 || bytes_ends(status, BYTES(".0.0"));
}

static void classify_failure(struct bounce_reading *r, struct bounce_record *record,
                             struct bytes more)
{
    struct bounce_reply reply;
    struct bounce_verdict v = bounce_classify_text(r->rules, record->diagnostic, &reply);
    bool same_class =
        !record->status.len || !reply.enhanced.len || record->status.at[0] == reply.enhanced.at[0];
    record->reply_code = reply.code >= 400 ? reply.code : 0;
    if (is_vague(record->status) && reply.enhanced.len && same_class)
        record->status = arena_dup(r->arena, reply.enhanced);
    if (!reply.enhanced.len || !same_class) { // the report's own status is what there is
        reply.enhanced = record->status;
        if (reply.code && record->status.len && record->status.at[0] - '0' != reply.code / 100)
            reply.code = 0;
        struct bounce_reply asked = {reply.code, reply.enhanced, record->diagnostic};
        v = bounce_rules_match(r->rules, &asked);
    }
    if (v.class.reason == BOUNCE_OTHER && more.len) {
        struct bounce_reply asked = {reply.code, record->status, more};
        v = bounce_rules_match(r->rules, &asked);
    }
    record->class = v.class;
    record->rule = v.rule;
    // A report that gives no code at all: it says "failed", so for good.
    if (record->action == DSN_FAILED && !record->status.len && !reply.code)
        record->class.hard = bounce_reason_is_about_address(v.class.reason);
}

void bounce_mail_classify(struct bounce_reading *r, struct bounce_record *record, struct bytes more)
{
    struct bounce_reply reply;
    switch (record->action) {
    case DSN_DELIVERED:
    case DSN_RELAYED:
    case DSN_EXPANDED:
        record->class = (struct bounce_class){BOUNCE_DELIVERED, false};
        bounce_classify_text(r->rules, record->diagnostic, &reply);
        record->reply_code = reply.code / 100 == 2 ? reply.code : 0;
        return;
    case DSN_FAILED:
    case DSN_DELAYED:
        break;
    }
    classify_failure(r, record, more);
    if (record->action == DSN_DELAYED)
        record->class.hard = false;
}

// ---- the whole mail ---------------------------------------------------------------------------------------

static struct bytes from_address(struct bounce_reading *r)
{
    struct bytes rest;
    struct bytes value = bounce_parts_field(r->parts.header, "From", r->arena);
    ptrdiff_t bracket = bytes_find_last(value, '<');
    struct bytes found =
        bounce_mail_find_address(bytes_skip(value, bracket < 0 ? 0 : (size_t)bracket), &rest);
    return arena_lower(r->arena, found.len ? found : value);
}

static void kind_of_records(struct bounce_mail *out)
{
    bool delayed = false;
    out->kind = BOUNCE_KIND_SUCCESS;
    for (uint32_t i = 0; i < out->count; i++) {
        if (out->records[i].action == DSN_FAILED) {
            out->kind = BOUNCE_KIND_BOUNCE;
            return;
        }
        delayed = delayed || out->records[i].action == DSN_DELAYED;
    }
    if (delayed)
        out->kind = BOUNCE_KIND_DELAY;
}

void bounce_classify_mail(const struct bounce_rules *rules, struct bytes mail, struct arena *arena,
                          struct bounce_mail *out)
{
    struct bounce_reading r = {.rules = rules, .arena = arena, .out = out};
    *out = (struct bounce_mail){.kind = BOUNCE_KIND_OTHER};
    bounce_parts_read(mail, arena, &r.parts);
    r.from = from_address(&r);
    r.subject = bounce_parts_field(r.parts.header, "Subject", arena);
    out->message_id = bounce_parts_field(r.parts.original, "Message-ID", arena);
    if (bounce_read_feedback(&r))
        out->kind = out->count ? BOUNCE_KIND_COMPLAINT : BOUNCE_KIND_OTHER;
    else if (bounce_read_status(&r) || bounce_read_text(&r))
        kind_of_records(out);
    else if (bounce_read_receipt(&r) || bounce_read_auto(&r))
        out->kind = BOUNCE_KIND_AUTO_REPLY;
}
