// SPDX-License-Identifier: MIT
#include "route/route_site.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"

static int by_rank(const void *left, const void *right)
{
    const struct route_site_host *a = left, *b = right;
    if (a->preference != b->preference)
        return a->preference < b->preference ? -1 : 1;
    return bytes_cmp(a->name, b->name);
}

static struct bytes lower(struct bytes name, char out[256])
{
    name = bytes_first(name, 255);
    for (size_t i = 0; i < name.len; i++)
        out[i] = ascii_lower(name.at[i]);
    if (name.len && out[name.len - 1] == '.') // the root's dot
        name.len--;
    return bytes_of(out, name.len);
}

// FNV-1a: the name lasts (lane notes), so it does not depend on the process's hash key.
static uint64_t hash_more(uint64_t hash, struct bytes s, char separator)
{
    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ (uint8_t)s.at[i]) * 0x100000001b3u;
    return (hash ^ (uint8_t)separator) * 0x100000001b3u;
}

// What stands between the host and the one before.
static char separator(const struct route_site_host *hosts, size_t i)
{
    return i && hosts[i].preference != hosts[i - 1].preference ? '>' : ',';
}

// The names that fit, then "..." and the hash of all.
static void add_names(const struct route_site_host *hosts, size_t count, struct buf *out)
{
    size_t total = 0, room = ROUTE_SITE_MAX - 32; // for a hash and a port
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++) {
        total += hosts[i].name.len + 1;
        hash = hash_more(hash, hosts[i].name, separator(hosts, i));
    }
    bool fits = total <= room + 1;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (!fits && used + hosts[i].name.len + 1 > room)
            break;
        if (i)
            buf_add_byte(out, (uint8_t)separator(hosts, i));
        buf_add(out, hosts[i].name);
        used += hosts[i].name.len + 1;
    }
    if (!fits)
        buf_printf(out, "...%016llx", (unsigned long long)hash);
}

static bool has_name(const struct route_site_host *hosts, size_t count, struct bytes name)
{
    for (size_t i = 0; i < count; i++)
        if (bytes_eq(hosts[i].name, name))
            return true;
    return false;
}

void route_site_of_hosts(const struct route_site_host *hosts, size_t count, uint16_t port,
                         struct buf *out)
{
    CHECK(count > 0);
    struct route_site_host *ranked = mem_new(count * sizeof(*ranked));
    char(*text)[256] = mem_new(count * sizeof(*text));
    for (size_t i = 0; i < count; i++)
        ranked[i] = (struct route_site_host){lower(hosts[i].name, text[i]), hosts[i].preference};
    qsort(ranked, count, sizeof(*ranked), by_rank);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!has_name(ranked, kept, ranked[i].name)) // it counts where it is best
            ranked[kept++] = ranked[i];
    add_names(ranked, kept, out);
    if (port != 25)
        buf_printf(out, ":%u", port);
    free(text);
    free(ranked);
}

static void add_host(const char *kind, const struct conf_via *via, struct buf *out)
{
    buf_printf(out, "%s:%.*s:%u", kind, BYTES_FMT(via->host), via->port);
}

static void add_path(const char *kind, const struct conf_via *via, struct buf *out)
{
    if (via->path.len <= ROUTE_SITE_MAX - 32) {
        buf_printf(out, "%s:%.*s", kind, BYTES_FMT(via->path));
        return;
    }
    uint64_t hash = hash_more(0xcbf29ce484222325u, via->path, ',');
    buf_printf(out, "%s:%.*s...%016llx", kind, ROUTE_SITE_MAX - 64, via->path.at,
               (unsigned long long)hash);
}

void route_site_of_via(const struct conf_via *via, struct buf *out)
{
    switch (via->kind) {
    case CONF_VIA_MX:
        CHECK(!"a site by MX is named after its hosts");
        break;
    case CONF_VIA_SMTP:
        add_host("smtp", via, out);
        break;
    case CONF_VIA_SMTPS:
        add_host("smtps", via, out);
        break;
    case CONF_VIA_LMTP:
        add_host("lmtp", via, out);
        break;
    case CONF_VIA_LMTP_UNIX:
        add_path("lmtp", via, out);
        break;
    case CONF_VIA_MAILDIR:
        add_path("maildir", via, out);
        break;
    case CONF_VIA_DISCARD:
        buf_add_cstr(out, "discard");
        break;
    }
}

static const char *tls_term(const struct conf_route *conf)
{
    switch (conf->tls) {
    case CONF_ROUTE_TLS_NONE:
        return " without TLS";
    case CONF_ROUTE_TLS_ENCRYPT:
        return conf->via.kind == CONF_VIA_SMTPS ? "" : " encrypted";
    case CONF_ROUTE_TLS_VERIFY:
        return " verified";
    case CONF_ROUTE_TLS_MAY:
        break;
    }
    return "";
}

// The login is last: it may have any words in it.
void route_site_add_terms(const struct route *route, struct buf *out)
{
    buf_add_cstr(out, tls_term(route->conf));
    if (route->login_number > 1)
        buf_printf(out, " login %u", route->login_number);
    if (route->login.len)
        buf_printf(out, " as %.*s", BYTES_FMT(bytes_first(route->login, ROUTE_LOGIN_SHOWN)));
}

void route_lane_name(struct bytes source, struct bytes site, struct buf *out)
{
    buf_add(out, source);
    buf_add_cstr(out, "->");
    buf_add(out, site);
}
