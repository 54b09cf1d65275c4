// SPDX-License-Identifier: MIT
//
// How it works: completing an address is done on the bytes of the field, so that all else in it stays as written; the
// addresses are then read from the result by mail_address_list, like everybody else's.
#include "mail/mail_local.h"

#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_address_list.h"
#include "mail/mail_header.h"
#include "mail/mail_rfc2047.h"
#include "mail/mail_text.h"

enum kind { PLAIN, ADDRESSES, RECIPIENTS, RESENT, DROPPED, DROPPED_RECIPIENTS, DROPPED_RESENT };

static const struct field_row {
    const char *name;
    enum kind kind;
} ROWS[] = {
    {"From", ADDRESSES},        {"Sender", ADDRESSES},        {"Reply-To", ADDRESSES},
    {"Resent-From", ADDRESSES}, {"Resent-Sender", ADDRESSES}, {"Resent-Reply-To", ADDRESSES},
    {"To", RECIPIENTS},         {"Cc", RECIPIENTS},           {"Bcc", DROPPED_RECIPIENTS},
    {"Resent-To", RESENT},      {"Resent-Cc", RESENT},        {"Resent-Bcc", DROPPED_RESENT},
    {"Return-Path", DROPPED},   {"Content-Length", DROPPED},
};

static enum kind kind_of(struct bytes name)
{
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        if (bytes_eq_nocase(name, bytes_cstr(ROWS[i].name)))
            return ROWS[i].kind;
    return PLAIN;
}

// ---- completing --------------------------------------------------------------------------------------------

// One address in the making: where its last word ended, and whether it is whole.
struct completion {
    struct bytes domain;
    struct buf *out;
    size_t word_end; // in out; 0: no word yet
    unsigned words;
    bool has_at, gap, after_dot, in_angle, has_angle;
};

static void insert(struct buf *out, size_t at, struct bytes domain)
{
    struct buf tail = {0};
    buf_add(&tail, bytes_skip(buf_bytes(out), at));
    buf_truncate(out, at);
    buf_add_all(out, BYTES("@"), domain, buf_bytes(&tail));
    buf_done(&tail);
}

// An address is over: "root" alone, or what stands in brackets.
static void end_address(struct completion *c)
{
    if (c->word_end && c->words == 1 && !c->has_at && (c->in_angle || !c->has_angle))
        insert(c->out, c->word_end, c->domain);
    c->word_end = 0;
    c->words = 0;
    c->has_at = false;
    c->gap = true;
}

static void begin_next(struct completion *c)
{
    end_address(c);
    c->has_angle = c->in_angle = false;
}

// What a quoted string or a comment has, with its ends; all that is left where it does not end.
static size_t enclosed_len(struct bytes s, char open, char close)
{
    size_t depth = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '\\')
            i++;
        else if (s.at[i] == close && (open == close ? i > 0 : --depth == 0))
            return i + 1;
        else if (s.at[i] == open && open != close)
            depth++;
    }
    return s.len;
}

static void add_word(struct completion *c, struct bytes word)
{
    bool is_dot = bytes_eq(word, BYTES(".")), joined = !c->gap || is_dot || c->after_dot;
    if (!joined || !c->words)
        c->words++;
    c->gap = false;
    c->after_dot = is_dot;
    buf_add(c->out, word);
    c->word_end = c->out->len;
}

static void open_angle(struct completion *c)
{
    c->has_angle = true;
    c->in_angle = true;
    c->word_end = 0;
    c->words = 0;
    c->has_at = false;
    c->gap = true;
}

// A byte that stands alone; false: it is part of a word.
static bool take_special(struct completion *c, char byte)
{
    switch (byte) {
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        c->gap = true;
        break;
    case '<':
        open_angle(c);
        break;
    case '>':
        end_address(c);
        c->in_angle = false;
        break;
    case ',':
    case ';':
        if (!c->in_angle)
            begin_next(c);
        break;
    case ':': // behind a group's name, or a route
        c->word_end = 0;
        c->words = 0;
        c->gap = true;
        break;
    case '@':
        c->has_at = true;
        c->gap = false;
        break;
    default:
        return false;
    }
    buf_add_byte(c->out, byte);
    return true;
}

void mail_local_complete(struct bytes value, struct bytes domain, struct buf *out)
{
    struct completion c = {.domain = domain, .out = out, .gap = true};
    if (!domain.len) {
        buf_add(out, value);
        return;
    }
    while (value.len) {
        size_t n = 1;
        if (value.at[0] == '(') {
            n = enclosed_len(value, '(', ')');
            buf_add(out, bytes_first(value, n));
        } else if (value.at[0] == '"') {
            n = enclosed_len(value, '"', '"');
            add_word(&c, bytes_first(value, n));
        } else if (value.at[0] == '[') {
            n = enclosed_len(value, '[', ']');
            add_word(&c, bytes_first(value, n));
        } else if (!take_special(&c, value.at[0])) {
            add_word(&c, bytes_first(value, 1));
        }
        value = bytes_skip(value, n);
    }
    begin_next(&c);
}

// ---- recipients --------------------------------------------------------------------------------------------

static int fail(struct mail_local *m, int err, struct bytes why)
{
    m->why = why;
    return err;
}

static int add_recipient(struct mail_local *m, struct bytes path, struct arena *arena)
{
    if (m->count == MAIL_LOCAL_RECIPIENTS_MAX)
        return fail(
            m, E_LIMIT,
            arena_printf(arena, "there are more than %d recipients", MAIL_LOCAL_RECIPIENTS_MAX));
    if (m->count == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 8;
        struct bytes *more = arena_new(arena, m->cap * sizeof *more);
        if (m->count)
            memcpy(more, m->recipients, m->count * sizeof *more);
        m->recipients = more;
    }
    m->recipients[m->count++] = path;
    m->is_utf8 = m->is_utf8 || !bytes_is_ascii(path);
    return OK;
}

static int read_list(struct mail_local *m, struct bytes text, struct arena *arena,
                     struct mail_address_list *out)
{
    struct buf completed = {0};
    mail_local_complete(text, m->domain, &completed);
    int err = mail_address_list_parse(arena_dup(arena, buf_bytes(&completed)), arena, out);
    buf_done(&completed);
    if (err)
        m->why = arena_printf(arena, "this is no list of addresses: %.*s",
                              BYTES_FMT(bytes_first(bytes_trim(text), 200)));
    return err;
}

int mail_local_add_recipients(struct mail_local *m, struct bytes text, struct arena *arena)
{
    struct mail_address_list list;
    int err = read_list(m, text, arena, &list);
    for (size_t i = 0; i < list.count && !err; i++)
        err = add_recipient(
            m, arena_printf(arena, "<%.*s>", BYTES_FMT(list.mailboxes[i].address.text)), arena);
    return err;
}

int mail_local_one_address(struct mail_local *m, struct bytes text, struct arena *arena,
                           struct bytes *out)
{
    struct mail_address_list list;
    *out = BYTES_NONE;
    text = bytes_trim(text);
    if (!text.len || bytes_eq(text, BYTES("<>")))
        return OK;
    int err = read_list(m, text, arena, &list);
    if (!err && list.count != 1)
        return fail(m, E_SYNTAX,
                    arena_printf(arena, "this is not one address: %.*s",
                                 BYTES_FMT(bytes_first(text, 200))));
    if (!err)
        *out = arena_dup(arena, list.mailboxes[0].address.text);
    return err;
}

// ---- the envelope in front -----------------------------------------------------------------------------------

// "a@b", "<a@b>" or "<a@b> PARAMETERS" of a field's value.
static struct bytes path_of(struct bytes value, struct bytes domain, struct arena *arena)
{
    struct buf text = {0}, whole = {0};
    mail_header_unfold(value, &text);
    struct bytes path = bytes_trim(buf_bytes(&text)), rest = BYTES_NONE;
    if (bytes_starts(path, BYTES("<"))) {
        ptrdiff_t end = bytes_find(path, '>');
        rest = end == -1 ? BYTES_NONE : bytes_skip(path, (size_t)end + 1);
        mail_local_complete(bytes_first(path, path.len - rest.len), domain, &whole);
    } else {
        buf_add_byte(&whole, '<');
        mail_local_complete(path, domain, &whole);
        buf_add_byte(&whole, '>');
    }
    path = arena_printf(arena, "%.*s%.*s", BYTES_FMT(buf_bytes(&whole)), BYTES_FMT(rest));
    buf_done(&text);
    buf_done(&whole);
    return path;
}

static int take_envelope_field(struct mail_local *m, const struct mail_field *field, bool *out_is,
                               bool *out_last, struct arena *arena)
{
    *out_is = true;
    *out_last = bytes_eq_nocase(field->name, BYTES("X-Dropped"));
    if (*out_last)
        return OK;
    struct bytes path = path_of(field->value, m->domain, arena);
    if (bytes_has_control(path, NULL))
        return fail(m, E_SYNTAX, BYTES("a control character in the envelope's fields"));
    if (bytes_eq_nocase(field->name, BYTES("X-Receiver")))
        return add_recipient(m, path, arena);
    *out_is = bytes_eq_nocase(field->name, BYTES("X-Sender")) && !m->has_sender;
    if (*out_is) {
        m->has_sender = true;
        m->sender = path;
        m->is_utf8 = m->is_utf8 || !bytes_is_ascii(path);
    }
    return OK;
}

static int take_envelope(struct mail_local *m, struct bytes *block, struct arena *arena)
{
    bool is = true, last = false;
    struct bytes rest = *block;
    struct mail_field field;
    while (is && !last && mail_header_next(&rest, &field)) {
        int err = take_envelope_field(m, &field, &is, &last, arena);
        if (err)
            return err;
        if (is)
            *block = rest;
    }
    return OK;
}

// ---- the header --------------------------------------------------------------------------------------------

struct reading {
    struct mail_local *m;
    struct arena *arena;
    bool is_resent, has_from, wants_recipients;
};

// RFC 2047 for what programs write in 8 bits.
static void add_encoded(struct mail_local *m, const struct mail_field *field)
{
    struct buf value = {0}, utf8 = {0};
    mail_header_unfold(field->value, &value);
    for (size_t i = 0; !bytes_is_utf8(buf_bytes(&value)) && i < value.len; i++)
        mail_utf8_put((unsigned char)value.at[i], &utf8);
    buf_add_all(&m->out, field->name, BYTES(": "));
    mail_rfc2047_encode(utf8.len ? buf_bytes(&utf8) : buf_bytes(&value), field->name.len + 2,
                        &m->out);
    buf_add_cstr(&m->out, "\r\n");
    buf_done(&value);
    buf_done(&utf8);
}

static int note_addresses(struct reading *r, const struct mail_field *field, struct bytes value,
                          enum kind kind)
{
    struct mail_local *m = r->m;
    bool resent = kind == RESENT || kind == DROPPED_RESENT;
    bool is_sender = bytes_eq_nocase(field->name, BYTES("Sender"));
    bool is_from = bytes_eq_nocase(field->name, BYTES("From"));
    struct mail_address_list list = {0};
    if (kind == ADDRESSES ? !is_sender && !is_from : !r->wants_recipients || resent != r->is_resent)
        return OK;
    int err = mail_address_list_parse(value, r->arena, &list);
    if (err && kind != ADDRESSES)
        return fail(m, err,
                    arena_printf(r->arena, "the field %.*s is no list of addresses",
                                 BYTES_FMT(field->name)));
    if (!err && kind == ADDRESSES && list.count && (is_sender || !m->header_sender.len))
        m->header_sender = arena_dup(r->arena, list.mailboxes[0].address.text);
    err = OK; // of who it is from the relay judges
    for (size_t i = 0; kind != ADDRESSES && i < list.count && !err; i++)
        err = add_recipient(
            m, arena_printf(r->arena, "<%.*s>", BYTES_FMT(list.mailboxes[i].address.text)),
            r->arena);
    return err;
}

static int take_addresses(struct reading *r, const struct mail_field *field, enum kind kind)
{
    struct mail_local *m = r->m;
    struct buf completed = {0};
    mail_local_complete(field->value, m->domain, &completed);
    struct bytes value = arena_dup(r->arena, buf_bytes(&completed));
    buf_done(&completed);
    r->has_from = r->has_from || bytes_eq_nocase(field->name, BYTES("From"));
    int err = note_addresses(r, field, value, kind);
    if (err || kind == DROPPED_RECIPIENTS || kind == DROPPED_RESENT)
        return err;
    if (!bytes_trim(value).len && kind != ADDRESSES) // "Cc:" with nothing behind it says nothing
        return OK;
    m->is_utf8 = m->is_utf8 || !bytes_is_ascii(value);
    buf_add_all(&m->out, field->name, BYTES(":"), value, BYTES("\r\n"));
    return OK;
}

static int take_field(struct reading *r, const struct mail_field *field)
{
    enum kind kind = kind_of(field->name);
    if (kind == DROPPED)
        return OK;
    if (kind != PLAIN)
        return take_addresses(r, field, kind);
    if (!bytes_is_ascii(field->value)) {
        add_encoded(r->m, field);
        return OK;
    }
    buf_add(&r->m->out, field->raw);
    if (!bytes_ends(field->raw, BYTES("\r\n")))
        buf_add_cstr(&r->m->out, "\r\n");
    return OK;
}

static bool is_plain_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!mail_is_atext(name.at[i]) && name.at[i] != ' ')
            return false;
    return name.len > 0;
}

// What stands in the brackets of "<a@b> PARAMETERS".
static struct bytes address_of(struct bytes path)
{
    ptrdiff_t end = bytes_find(path, '>');
    return end < 1 ? BYTES_NONE : bytes_mid(path, 1, (size_t)end - 1);
}

// RFC 5322 3.6.2. A name is quoted where it must be.
static void add_from(struct mail_local *m)
{
    struct bytes address = m->from.len ? m->from : address_of(m->sender);
    if (!address.len)
        return;
    buf_add_cstr(&m->out, "From: ");
    if (is_plain_name(m->from_name)) {
        buf_add_all(&m->out, m->from_name, BYTES(" "));
    } else if (m->from_name.len && bytes_is_ascii(m->from_name) &&
               !bytes_has_control(m->from_name, NULL)) {
        buf_add_byte(&m->out, '"');
        for (size_t i = 0; i < m->from_name.len; i++) {
            if (m->from_name.at[i] == '"' || m->from_name.at[i] == '\\')
                buf_add_byte(&m->out, '\\');
            buf_add_byte(&m->out, m->from_name.at[i]);
        }
        buf_add_cstr(&m->out, "\" ");
    } else if (m->from_name.len) {
        mail_rfc2047_encode(m->from_name, 6, &m->out);
        buf_add_byte(&m->out, ' ');
    }
    buf_add_all(&m->out, BYTES("<"), address, BYTES(">\r\n"));
}

static bool is_resent(struct bytes block)
{
    struct mail_field field;
    while (mail_header_next(&block, &field))
        if (bytes_starts_nocase(field.name, BYTES("Resent-")))
            return true;
    return false;
}

int mail_local_read(struct mail_local *m, struct arena *arena)
{
    struct bytes block = m->header;
    buf_init(&m->out, 2 * MAIL_HEADER_BYTES_MAX);
    int err = m->has_envelope ? take_envelope(m, &block, arena) : OK;
    struct reading r = {.m = m, .arena = arena, .is_resent = is_resent(block)};
    r.wants_recipients = m->take_recipients || (m->has_envelope && !m->count);
    struct mail_field field;
    while (!err && mail_header_next(&block, &field))
        err = take_field(&r, &field);
    if (!err && block.len)
        err = fail(m, E_SYNTAX, BYTES("the header has a line that is no field"));
    if (!err && !r.has_from)
        add_from(m);
    buf_add_cstr(&m->out, "\r\n");
    if (!err && m->out.err)
        err = fail(m, E_LIMIT, BYTES("the header is too large"));
    return err;
}
