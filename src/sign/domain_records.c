// SPDX-License-Identifier: MIT
#include "sign/domain_records.h"

#include <arpa/inet.h>

#include "base/check.h"

#define TXT_STRING_MAX 255

struct bytes domain_ownership_name(struct bytes domain, struct arena *arena)
{
    return arena_printf(arena, "_posthaste.%.*s", BYTES_FMT(domain));
}

struct bytes domain_ownership_value(struct bytes token, struct arena *arena)
{
    return arena_printf(arena, "posthaste-verification=%.*s", BYTES_FMT(token));
}

struct bytes domain_return_path_name(struct bytes domain, struct arena *arena)
{
    return arena_printf(arena, "bounces.%.*s", BYTES_FMT(domain));
}

struct bytes domain_key_target(const struct conf *conf, struct bytes domain, struct bytes selector,
                               struct arena *arena)
{
    return arena_printf(arena, "%.*s.%.*s.%.*s", BYTES_FMT(selector), BYTES_FMT(domain),
                        BYTES_FMT(conf->domains.dkim_zone));
}

static void add_addresses(const struct conf *conf, struct buf *out)
{
    for (uint32_t i = 0; i < conf->domains.addresses_count; i++) {
        const struct conf_cidr *address = &conf->domains.addresses[i];
        char text[INET6_ADDRSTRLEN];
        CHECK(inet_ntop(address->ip6 ? AF_INET6 : AF_INET, address->ip, text, sizeof text));
        buf_printf(out, "%s%s:%s", i ? " " : "", address->ip6 ? "ip6" : "ip4", text);
    }
}

struct bytes domain_spf_term(const struct conf *conf, struct arena *arena)
{
    if (conf->domains.spf_include.len)
        return arena_printf(arena, "include:%.*s", BYTES_FMT(conf->domains.spf_include));
    if (!conf->domains.addresses_count)
        return arena_printf(arena, "a:%.*s", BYTES_FMT(conf->hostname));
    struct buf text = {0};
    add_addresses(conf, &text);
    struct bytes term = arena_dup(arena, buf_bytes(&text));
    buf_done(&text);
    return term;
}

struct bytes domain_dmarc_value(const struct conf *conf, struct arena *arena)
{
    return conf->domains.dmarc_reports.len
               ? arena_printf(arena, "v=DMARC1; p=none; rua=mailto:%.*s",
                              BYTES_FMT(conf->domains.dmarc_reports))
               : BYTES("v=DMARC1; p=none");
}

static void add(struct domain_records *out, const char *purpose, const char *type,
                struct bytes name, struct bytes value)
{
    CHECK(out->count < DOMAIN_RECORDS_MAX);
    out->records[out->count++] = (struct domain_record){purpose, type, name, value};
}

static void note(struct domain_records *out, const char *text)
{
    CHECK(out->notes_count < DOMAIN_NOTES_MAX);
    out->notes[out->notes_count++] = text;
}

static void add_keys(const struct domain_setup *s, struct arena *arena, struct domain_records *out)
{
    bool cname = s->conf->domains.dkim == CONF_DKIM_CNAME;
    if (!s->keys_count)
        note(out, "there is no DKIM key for this domain yet: the service makes it while it runs; "
                  "show the records again then");
    for (size_t i = 0; i < s->keys_count; i++) {
        struct bytes selector = s->keys[i].selector;
        struct bytes name =
            arena_printf(arena, "%.*s._domainkey.%.*s", BYTES_FMT(selector), BYTES_FMT(s->domain));
        if (cname)
            add(out, "dkim", "CNAME", name, domain_key_target(s->conf, s->domain, selector, arena));
        else
            add(out, "dkim", "TXT", name, s->keys[i].record);
    }
}

void domain_records_make(const struct domain_setup *s, struct arena *arena,
                         struct domain_records *out)
{
    *out = (struct domain_records){0};
    CHECK(s->keys_count <= DOMAIN_KEYS_MAX);
    add(out, "verification", "TXT", domain_ownership_name(s->domain, arena),
        domain_ownership_value(s->token, arena));
    add(out, "spf", "TXT", s->domain,
        arena_printf(arena, "v=spf1 %.*s ~all", BYTES_FMT(domain_spf_term(s->conf, arena))));
    if (!s->conf->domains.spf_include.len && !s->conf->domains.addresses_count)
        note(out, "the operator has configured neither domains.spf_include nor domains.addresses: "
                  "the SPF record names the service's host name, and is right only if mail leaves "
                  "from its addresses");
    add_keys(s, arena, out);
    add(out, "dmarc", "TXT", arena_printf(arena, "_dmarc.%.*s", BYTES_FMT(s->domain)),
        domain_dmarc_value(s->conf, arena));
    if (s->conf->domains.bounce_host.len)
        add(out, "return_path", "CNAME", domain_return_path_name(s->domain, arena),
            s->conf->domains.bounce_host);
    else
        note(out, "the operator has not configured domains.bounce_host: bounces of this domain's "
                  "mail go to its senders");
}

void domain_format_txt(struct bytes text, struct buf *out)
{
    do {
        struct bytes part = bytes_first(text, TXT_STRING_MAX);
        buf_add_byte(out, '"');
        for (size_t i = 0; i < part.len; i++) {
            unsigned char c = (unsigned char)part.at[i];
            if (c < 0x20 || c > 0x7e) {
                buf_add_byte(out, '\\');
                buf_add_padded(out, c, 3);
                continue;
            }
            if (c == '"' || c == '\\')
                buf_add_byte(out, '\\');
            buf_add_byte(out, (char)c);
        }
        buf_add_byte(out, '"');
        text = bytes_skip(text, part.len);
        if (text.len)
            buf_add_byte(out, ' ');
    } while (text.len);
}
