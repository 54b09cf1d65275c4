// SPDX-License-Identifier: MIT
#include "mail/mail_address.h"

#include <arpa/inet.h>
#include <idn2.h>
#include <stdlib.h>

#include "mail/mail_text.h"

// ---- local-part

// Octets of the Dot-string (RFC 5321 section 4.1.2) that s starts with; 0 if there is none.
static size_t scan_dot_string(struct bytes s)
{
    size_t at = 0;
    bool in_atom = false;
    while (at < s.len) {
        size_t n = mail_is_atext(s.at[at]) ? 1 : mail_utf8_non_ascii(bytes_skip(s, at));
        if (n) {
            in_atom = true;
            at += n;
        } else if (s.at[at] == '.' && in_atom) {
            in_atom = false;
            at++;
        } else
            break;
    }
    return in_atom ? at : 0; // neither empty nor ending in a dot
}

// Octets of the Quoted-string that s starts with, quotes included; 0 if there is none.
static size_t scan_quoted(struct bytes s)
{
    size_t at = 1;
    if (s.len < 2 || s.at[0] != '"')
        return 0;
    while (at < s.len) {
        char c = s.at[at];
        if (c == '"')
            return at + 1;
        if (c == '\\') {
            if (at + 1 >= s.len || s.at[at + 1] < 32 || s.at[at + 1] > 126)
                return 0; // quoted-pairSMTP
            at += 2;
        } else if (c >= 32 && c <= 126)
            at++;
        else {
            size_t n = mail_utf8_non_ascii(bytes_skip(s, at));
            if (n == 0)
                return 0;
            at += n;
        }
    }
    return 0;
}

void mail_address_local(const struct mail_address *a, struct buf *out)
{
    struct bytes s = a->local;
    if (s.len < 2 || s.at[0] != '"') {
        buf_add(out, s);
        return;
    }
    s = bytes_mid(s, 1, s.len - 2);
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '\\' && i + 1 < s.len)
            i++;
        buf_add_byte(out, s.at[i]);
    }
}

void mail_local_format(struct bytes value, struct buf *out)
{
    if (value.len && scan_dot_string(value) == value.len) {
        buf_add(out, value);
        return;
    }
    buf_add_byte(out, '"');
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] == '"' || value.at[i] == '\\')
            buf_add_byte(out, '\\');
        buf_add_byte(out, value.at[i]);
    }
    buf_add_byte(out, '"');
}

// ---- domain

// The lower-case letter of a code point, for the scripts with two cases that domain names are
// written in: Latin-1, Latin Extended-A, Greek, Cyrillic, Armenian. Anything else is IDNA2008's to
// judge.
static uint32_t lower_of(uint32_t c)
{
    if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3a9 && c != 0x3a2) ||
        (c >= 0x410 && c <= 0x42f))
        return c + 32;
    if ((c >= 0x100 && c <= 0x137 && c != 0x130) || (c >= 0x14a && c <= 0x177))
        return c | 1;
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e))
        return c & 1 ? c + 1 : c;
    if (c >= 0x400 && c <= 0x40f)
        return c + 80;
    if (c >= 0x531 && c <= 0x556)
        return c + 48;
    return c == 0x178 ? 0xff : c;
}

static bool lower_label(struct bytes label, struct buf *out)
{
    while (label.len) {
        size_t n = bytes_utf8_len(label);
        if (n == 0)
            return false;
        if (n == 2) {
            uint32_t c = lower_of(mail_utf8_get(label));
            mail_utf8_put(c, out);
        } else if (n == 1)
            buf_add_byte(out, ascii_lower(label.at[0]));
        else
            buf_add(out, bytes_first(label, n));
        label = bytes_skip(label, n);
    }
    return out->err == OK;
}

// A U-label to an A-label.
static int route_u_label(struct bytes label, struct buf *out)
{
    struct buf lower;
    uint8_t *name = NULL;
    buf_init(&lower, MAIL_DOMAIN_MAX);
    int err = E_SYNTAX;
    if (lower_label(label, &lower)) {
        int rc =
            idn2_lookup_u8((const uint8_t *)buf_cstr(&lower), &name, IDN2_NFC_INPUT | IDN2_NO_TR46);
        err = rc == IDN2_OK                                           ? OK
              : rc == IDN2_TOO_BIG_LABEL || rc == IDN2_TOO_BIG_DOMAIN ? E_LIMIT
                                                                      : E_SYNTAX;
    }
    if (err == OK) {
        struct bytes a_label = bytes_cstr((const char *)name);
        if (a_label.len > MAIL_LABEL_MAX)
            err = E_LIMIT;
        else
            buf_add(out, a_label);
    }
    idn2_free(name);
    buf_done(&lower);
    return err;
}

// An LDH label (RFC 5890 section 2.3.1) in lower case.
static int route_ldh_label(struct bytes label, struct buf *out)
{
    if (label.at[0] == '-' || label.at[label.len - 1] == '-')
        return E_SYNTAX;
    for (size_t i = 0; i < label.len; i++) {
        if (!ascii_is_alnum(label.at[i]) && label.at[i] != '-')
            return E_SYNTAX;
        buf_add_byte(out, ascii_lower(label.at[i]));
    }
    return label.len > MAIL_LABEL_MAX ? E_LIMIT : OK;
}

int mail_literal_route(struct bytes text, struct buf *out)
{
    unsigned char address[16];
    char shown[INET6_ADDRSTRLEN + 1] = {0};
    bool is_v6 = bytes_starts_nocase(text, BYTES("IPv6:"));
    struct bytes number = is_v6 ? bytes_skip(text, 5) : text;
    if (number.len >= sizeof(shown) || bytes_find(number, '\0') >= 0)
        return E_SYNTAX;
    if (number.len)
        memcpy(shown, number.at, number.len);
    int family = is_v6 ? AF_INET6 : AF_INET;
    if (inet_pton(family, shown, address) != 1)
        return E_SYNTAX; // RFC 5321 section 4.1.3; no other tag is registered
    inet_ntop(family, address, shown, sizeof(shown));
    buf_printf(out, is_v6 ? "[IPv6:%s]" : "[%s]", shown);
    return out->err;
}

static int route_labels(struct bytes domain, struct buf *out)
{
    size_t start = out->len;
    struct bytes label;
    if (bytes_ends(domain, BYTES(".")))
        domain.len--;
    if (domain.len == 0)
        return E_SYNTAX;
    while (bytes_cut(&domain, '.', &label)) {
        if (label.len == 0)
            return E_SYNTAX;
        if (out->len > start)
            buf_add_byte(out, '.');
        int err = bytes_is_ascii(label) ? route_ldh_label(label, out) : route_u_label(label, out);
        if (err)
            return err;
    }
    if (out->len - start > MAIL_NAME_MAX)
        return E_LIMIT;
    return out->err;
}

int mail_domain_route(struct bytes domain, struct buf *out)
{
    size_t start = out->len;
    int err;
    if (domain.len > MAIL_DOMAIN_MAX)
        err = E_LIMIT;
    else if (domain.len >= 2 && domain.at[0] == '[' && domain.at[domain.len - 1] == ']')
        err = mail_literal_route(bytes_mid(domain, 1, domain.len - 2), out);
    else
        err = route_labels(domain, out);
    if (err)
        buf_truncate(out, start);
    return err;
}

void mail_domain_show(struct bytes domain, struct buf *out)
{
    struct bytes label;
    bool is_first = true;
    while (bytes_cut(&domain, '.', &label)) {
        char name[MAIL_LABEL_MAX + 1] = {0};
        char *unicode = NULL;
        if (!is_first)
            buf_add_byte(out, '.');
        is_first = false;
        if (label.len <= MAIL_LABEL_MAX && bytes_starts_nocase(label, BYTES("xn--"))) {
            memcpy(name, label.at, label.len);
            if (idn2_to_unicode_8z8z(name, &unicode, 0) != IDN2_OK)
                unicode = NULL;
        }
        buf_add(out, unicode ? bytes_cstr(unicode) : label);
        idn2_free(unicode);
    }
}

bool mail_domain_is_within(struct bytes domain, struct bytes zone)
{
    if (zone.len == 0 || domain.len < zone.len || !bytes_ends(domain, zone))
        return false;
    return domain.len == zone.len || domain.at[domain.len - zone.len - 1] == '.';
}

// ---- mailbox and path

// Octets of what could be a Domain or address-literal at the start of s; what it is worth is
// mail_domain_route()'s to say.
static size_t scan_domain(struct bytes s)
{
    size_t at = 0;
    if (s.len && s.at[0] == '[') {
        ptrdiff_t end = bytes_find(bytes_first(s, MAIL_DOMAIN_MAX + 1), ']');
        return end < 0 ? 0 : (size_t)end + 1;
    }
    while (at < s.len) {
        char c = s.at[at];
        size_t n =
            ascii_is_alnum(c) || c == '-' || c == '.' ? 1 : mail_utf8_non_ascii(bytes_skip(s, at));
        if (n == 0)
            break;
        at += n;
    }
    return at;
}

// Octets of the routing form, which must be one, in *out_len.
static int check_domain(struct bytes domain, size_t *out_len)
{
    struct buf route;
    buf_init(&route, 4 * MAIL_DOMAIN_MAX);
    int err = mail_domain_route(domain, &route);
    *out_len = route.len;
    buf_done(&route);
    return err;
}

// The mailbox at the start of s; *out_used says where it ends.
static int parse_mailbox(struct bytes s, struct mail_address *out, size_t *out_used)
{
    bool is_quoted = s.len && s.at[0] == '"';
    size_t local = is_quoted ? scan_quoted(s) : scan_dot_string(s);
    if (local == 0 || local >= s.len || s.at[local] != '@')
        return E_SYNTAX;
    size_t domain = scan_domain(bytes_skip(s, local + 1));
    if (domain == 0)
        return E_SYNTAX;
    *out_used = local + 1 + domain;
    *out = (struct mail_address){.text = bytes_first(s, *out_used),
                                 .local = bytes_first(s, local),
                                 .domain = bytes_mid(s, local + 1, domain)};
    out->is_literal = out->domain.at[0] == '[';
    out->is_utf8 = !bytes_is_ascii(out->text);
    if (local > MAIL_LOCAL_MAX) // RFC 5321 section 4.5.3.1.1
        return E_LIMIT;
    if (domain > MAIL_DOMAIN_MAX || out->text.len + 2 > MAIL_PATH_MAX) // 4.5.3.1.2, 4.5.3.1.3
        return E_LIMIT;
    size_t route;
    int err = check_domain(out->domain, &route);
    if (err == OK && local + 1 + route + 2 > MAIL_PATH_MAX)
        err = E_LIMIT; // it could not be written with A-labels
    return err;
}

int mail_address_parse(struct bytes text, struct mail_address *out)
{
    size_t used = 0;
    int err = parse_mailbox(text, out, &used);
    return err == OK && used != text.len ? E_SYNTAX : err;
}

// A-d-l = At-domain *( "," At-domain ), then ":". Octets of it at the start of s; 0 if there is
// none.
static int scan_route(struct bytes s, size_t *out_used)
{
    size_t at = 0, route;
    *out_used = 0;
    if (s.len == 0 || s.at[0] != '@')
        return OK;
    for (;;) {
        size_t n = at < s.len && s.at[at] == '@' ? scan_domain(bytes_skip(s, at + 1)) : 0;
        if (n == 0 || check_domain(bytes_mid(s, at + 1, n), &route) != OK)
            return E_SYNTAX;
        at += 1 + n;
        if (at >= s.len || (s.at[at] != ',' && s.at[at] != ':'))
            return E_SYNTAX;
        if (at > MAIL_ROUTE_MAX)
            return E_LIMIT;
        if (s.at[at++] == ':')
            break;
    }
    *out_used = at;
    return OK;
}

int mail_path_parse(struct bytes text, unsigned allowed, struct mail_address *out, size_t *out_used)
{
    static const size_t postmaster_len = sizeof("postmaster") - 1;
    size_t route, used;
    *out = (struct mail_address){0};
    if (text.len < 2 || text.at[0] != '<')
        return E_SYNTAX;
    struct bytes inner = bytes_skip(text, 1);
    if (inner.at[0] == '>' && (allowed & MAIL_PATH_NULL)) {
        *out_used = 2;
        return OK;
    }
    if ((allowed & MAIL_PATH_POSTMASTER) &&
        bytes_starts_nocase(inner, BYTES("postmaster>"))) { // RFC 5321 section 4.1.1.3
        out->text = out->local = bytes_first(inner, postmaster_len);
        *out_used = postmaster_len + 2;
        return OK;
    }
    int err = scan_route(inner, &route);
    if (err)
        return err;
    inner = bytes_skip(inner, route);
    err = parse_mailbox(inner, out, &used);
    if (err)
        return err;
    if (used >= inner.len || inner.at[used] != '>' || inner.at[used - 1] == '.')
        return E_SYNTAX; // a domain of the envelope has no dot at its end: RFC 5321 section 4.1.2
    *out_used = 1 + route + used + 1;
    return OK;
}

int mail_address_canonical(const struct mail_address *a, struct buf *out)
{
    size_t start = out->len;
    struct buf local;
    if (a->text.len == 0)
        return OK;
    if (a->domain.len == 0) { // only the postmaster has none
        buf_add(out, BYTES("postmaster"));
        return out->err;
    }
    buf_init(&local, MAIL_PATH_MAX);
    mail_address_local(a, &local);
    mail_local_format(buf_bytes(&local), out);
    buf_done(&local);
    buf_add_byte(out, '@');
    int err = mail_domain_route(a->domain, out);
    if (err && start <= out->len)
        buf_truncate(out, start);
    return err ? err : out->err;
}
