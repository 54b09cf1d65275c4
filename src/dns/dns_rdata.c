// SPDX-License-Identifier: MIT
#include "dns/dns_rdata.h"

#include "base/buf.h"
#include "base/check.h"

static bool is_host_char(char c)
{
    return ascii_is_alnum(c) || c == '-' || c == '_';
}

bool dns_name_is_valid(struct bytes name)
{
    if (name.len > 0 && name.at[name.len - 1] == '.')
        name.len--;
    if (name.len == 0 || name.len > DNS_NAME_MAX)
        return false;
    size_t label = 0;
    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if (!is_host_char(name.at[i]) || ++label > 63) {
            return false;
        }
    }
    return label > 0;
}

int dns_name_parse(struct bytes *rdata, struct arena *arena, struct bytes *out)
{
    char text[DNS_NAME_MAX + 1];
    size_t len = 0;
    for (;;) {
        if (rdata->len == 0)
            return E_SYNTAX;
        size_t label = (unsigned char)rdata->at[0];
        if (label > 63 || label + 1 > rdata->len) // no pointers: there is nothing to point into
            return E_SYNTAX;
        struct bytes part = bytes_mid(*rdata, 1, label);
        *rdata = bytes_skip(*rdata, label + 1);
        if (label == 0)
            break;
        if (len + (len > 0) + label > DNS_NAME_MAX)
            return E_SYNTAX;
        if (len > 0)
            text[len++] = '.';
        for (size_t i = 0; i < label; i++) {
            if (!is_host_char(part.at[i]))
                return E_SYNTAX;
            text[len++] = ascii_lower(part.at[i]);
        }
    }
    *out = arena_dup(arena, bytes_of(text, len));
    return OK;
}

// The rest must be one name and nothing else.
static int parse_only_name(struct bytes rdata, struct arena *arena, struct bytes *out)
{
    int err = dns_name_parse(&rdata, arena, out);
    return err == OK && rdata.len > 0 ? E_SYNTAX : err;
}

static int parse_ip(struct bytes rdata, size_t want, struct dns_record *out)
{
    if (rdata.len != want)
        return E_SYNTAX;
    memcpy(out->ip, rdata.at, want);
    return OK;
}

static int parse_mx(struct bytes rdata, struct arena *arena, struct dns_record *out)
{
    if (rdata.len < 3)
        return E_SYNTAX;
    const unsigned char *at = (const unsigned char *)rdata.at;
    out->preference = (uint16_t)(at[0] << 8 | at[1]);
    return parse_only_name(bytes_skip(rdata, 2), arena, &out->name);
}

// One or more strings of up to 255 bytes, joined without anything between them.
static int parse_txt(struct bytes rdata, struct arena *arena, struct dns_record *out)
{
    if (rdata.len == 0)
        return E_SYNTAX;
    char text[DNS_TEXT_MAX];
    size_t len = 0;
    while (rdata.len > 0) {
        size_t n = (unsigned char)rdata.at[0];
        if (n + 1 > rdata.len)
            return E_SYNTAX;
        if (len + n > sizeof text)
            return E_LIMIT;
        memcpy(text + len, rdata.at + 1, n);
        len += n;
        rdata = bytes_skip(rdata, n + 1);
    }
    out->text = arena_dup(arena, bytes_of(text, len));
    return OK;
}

// RFC 6698 section 2.1
static int parse_tlsa(struct bytes rdata, struct arena *arena, struct dns_record *out)
{
    if (rdata.len < 4)
        return E_SYNTAX;
    if (rdata.len > DNS_TEXT_MAX)
        return E_LIMIT;
    out->usage = (uint8_t)rdata.at[0];
    out->selector = (uint8_t)rdata.at[1];
    out->matching = (uint8_t)rdata.at[2];
    out->text = arena_dup(arena, bytes_skip(rdata, 3));
    return OK;
}

int dns_rdata_parse(enum dns_type type, struct bytes rdata, struct arena *arena,
                    struct dns_record *out)
{
    *out = (struct dns_record){.type = type};
    switch (type) {
    case DNS_A:
        return parse_ip(rdata, 4, out);
    case DNS_AAAA:
        return parse_ip(rdata, 16, out);
    case DNS_MX:
        return parse_mx(rdata, arena, out);
    case DNS_CNAME:
    case DNS_PTR:
        return parse_only_name(rdata, arena, &out->name);
    case DNS_TXT:
        return parse_txt(rdata, arena, out);
    case DNS_TLSA:
        return parse_tlsa(rdata, arena, out);
    }
    return E_SYNTAX;
}

struct bytes dns_reverse_name(const uint8_t *ip, bool ip6, struct arena *arena)
{
    if (!ip6)
        return arena_printf(arena, "%u.%u.%u.%u.in-addr.arpa", ip[3], ip[2], ip[1], ip[0]);
    struct buf name = {0};
    for (int k = 15; k >= 0; k--)
        buf_printf(&name, "%x.%x.", ip[k] & 15, ip[k] >> 4);
    buf_add_cstr(&name, "ip6.arpa");
    struct bytes kept = arena_dup(arena, buf_bytes(&name));
    buf_done(&name);
    return kept;
}
