// SPDX-License-Identifier: MIT
//
// doctor_dns - the resolver, and what the world's DNS says about this host
//
// The questions go to the configured servers, as the relay's do. Where nothing answers the rest is not asked: one
// finding, not ten.
#include <stdio.h>

#include "cli/doctor.h"
#include "route/local_recipients.h"
#include "route/route.h"

#define ANCHOR_LINE_MAX 4096

static bool answers(const struct dns_answer *answer)
{
    return answer->code == DNS_OK || answer->code == DNS_NODATA || answer->code == DNS_NXDOMAIN;
}

static struct bytes servers_text(struct doctor *d)
{
    struct buf text = {0};
    for (uint32_t i = 0; i < d->conf->dns.servers_count; i++)
        buf_printf(&text, "%s%.*s", i ? ", " : "", BYTES_FMT(d->conf->dns.servers[i]));
    if (!text.len)
        buf_add_cstr(&text, "the resolver of our own");
    struct bytes kept = arena_dup(&d->arena, buf_bytes(&text));
    buf_done(&text);
    return kept;
}

// ---- the resolver ------------------------------------------------------------------------------------

static void check_resolver(struct doctor *d)
{
    const struct dns_answer *answer = doctor_ask(d, d->conf->hostname, DNS_A);
    if (!answers(answer)) // maybe that zone alone is broken
        answer = doctor_ask(d, BYTES("in-addr.arpa"), DNS_TXT);
    d->has_dns = answers(answer) || answer->code == DNS_BOGUS;
    if (d->has_dns) {
        doctor_ok(d, "dns", BYTES_NONE, "%.*s answers", BYTES_FMT(servers_text(d)));
        return;
    }
    doctor_fail(d, "dns", BYTES_NONE, "no answer from %.*s: %s", BYTES_FMT(servers_text(d)),
                dns_code_text(answer->code));
    doctor_fix(d, "%s",
               d->conf->dns.servers_count
                   ? "see whether dns.servers are reachable and serve this host"
                   : "let UDP and TCP port 53 out, or name a resolver in dns.servers");
}

// The first zone that the anchor file is about: "" the root; false: there is none.
static bool anchored_zone(struct doctor *d, struct bytes *out)
{
    char line[ANCHOR_LINE_MAX];
    FILE *file = fopen(d->conf->dns.trust_anchor.at, "re");
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        struct bytes rest = bytes_trim(bytes_cstr(line)), word;
        if (!rest.len || rest.at[0] == ';' || rest.at[0] == '$')
            continue;
        for (size_t i = 0; i < rest.len; i++)
            if (rest.at[i] == '\t')
                line[rest.at - line + (ptrdiff_t)i] = ' ';
        bytes_cut(&rest, ' ', &word);
        if (bytes_ends(word, BYTES(".")))
            word.len--;
        *out = arena_dup(&d->arena, word);
        found = true;
    }
    if (file)
        fclose(file);
    return found;
}

static void check_dnssec(struct doctor *d)
{
    struct bytes zone, path = d->conf->dns.trust_anchor;
    if (!path.len) {
        doctor_warn(d, "dnssec", BYTES_NONE, "DNS answers are not validated");
        doctor_fix(
            d,
            "set dns.trust_anchor, on Debian to /usr/share/dns/root.key (package dns-root-data)");
        return;
    }
    if (!anchored_zone(d, &zone)) {
        doctor_fail(d, "dnssec", path, "the trust anchor can't be read, or has no key");
        doctor_fix(d, "point dns.trust_anchor to a file with the root's DNSKEY or DS");
        return;
    }
    // Of the root itself no record can be asked for; arpa is signed, and there for ever.
    struct bytes name = zone.len ? zone : BYTES("arpa");
    const struct dns_answer *answer = doctor_ask(d, name, DNS_TXT);
    if (answers(answer) && answer->is_secure) {
        doctor_ok(d, "dnssec", name, "answers are validated");
    } else if (answer->code == DNS_BOGUS) {
        doctor_fail(d, "dnssec", name, "answers do not validate: %s", answer->why);
        doctor_fix(d, "see whether the clock is right and the anchor is current; while this lasts "
                      "mail waits");
    } else if (answers(answer)) {
        doctor_fail(d, "dnssec", name, "answers come without signatures");
        doctor_fix(
            d, "ask resolvers that pass on DNSSEC (dns.servers), or set dns.trust_anchor: none");
    } else {
        doctor_fail(d, "dnssec", name, "no answer: %s", dns_code_text(answer->code));
        doctor_fix(d, "see whether the resolvers can reach it");
    }
}

// ---- this host ---------------------------------------------------------------------------------------

static bool is_private_name(struct bytes name)
{
    static const char *const ends[] = {".local",    ".localdomain", ".lan",
                                       ".internal", ".home",        ".invalid"};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (bytes_ends(name, bytes_cstr(ends[i])))
            return true;
    return bytes_find(name, '.') < 0;
}

static void check_name(struct doctor *d)
{
    struct bytes name = d->conf->hostname;
    if (is_private_name(name)) {
        doctor_fail(d, "hostname", name, "not a name that the world can look up");
        doctor_fix(d, "set hostname to a name in a domain of yours, such as mail.example.org");
        return;
    }
    const struct dns_answer *a = doctor_ask(d, name, DNS_A), *aaaa = doctor_ask(d, name, DNS_AAAA);
    const struct dns_answer *has = a->code == DNS_OK ? a : aaaa;
    if (has->code == DNS_OK) {
        doctor_ok(d, "hostname", name, "has the address %.*s",
                  BYTES_FMT(doctor_ip_text(d, has->records[0].ip, has == aaaa)));
    } else if (answers(a) && answers(aaaa)) {
        doctor_fail(d, "hostname", name,
                    "has no address in the DNS; receivers distrust such an EHLO");
        doctor_fix(d, "publish an A or AAAA record for it, or set hostname to a name that has one");
    } else {
        doctor_fail(d, "hostname", name, "the DNS gives no answer about it: %s",
                    dns_code_text(answers(a) ? aaaa->code : a->code));
        doctor_fix(d, "see to the servers of that zone");
    }
}

// ---- the addresses that mail leaves from -------------------------------------------------------------

static bool is_private_address(const uint8_t *ip, bool ip6)
{
    if (ip6)
        return (ip[0] & 0xfe) == 0xfc || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80) ||
               (ip[0] == 0 && memcmp(ip, (const uint8_t[16]){[15] = 1}, 16) == 0);
    return ip[0] == 10 || ip[0] == 127 || (ip[0] == 172 && (ip[1] & 0xf0) == 16) ||
           (ip[0] == 192 && ip[1] == 168) || (ip[0] == 169 && ip[1] == 254) ||
           (ip[0] == 100 && (ip[1] & 0xc0) == 64);
}

// Does the name lead back to the address?
static bool leads_back(struct doctor *d, struct bytes name, const uint8_t *ip, bool ip6)
{
    const struct dns_answer *answer = doctor_ask(d, name, ip6 ? DNS_AAAA : DNS_A);
    for (size_t i = 0; answer->code == DNS_OK && i < answer->count; i++)
        if (memcmp(answer->records[i].ip, ip, ip6 ? 16 : 4) == 0)
            return true;
    return false;
}

// FCrDNS: one of the address's names has the address.
static void check_back(struct doctor *d, struct bytes text, const struct dns_answer *ptr,
                       const uint8_t *ip, bool ip6)
{
    struct bytes confirmed = {0}, hostname = d->conf->hostname;
    for (size_t i = 0; i < ptr->count && !bytes_eq(confirmed, hostname); i++)
        if (leads_back(d, ptr->records[i].name, ip, ip6))
            confirmed = ptr->records[i].name;
    if (!confirmed.len) {
        doctor_fail(d, "source_fcrdns", text, "its name %.*s does not lead back to it",
                    BYTES_FMT(ptr->records[0].name));
        doctor_fix(d, "publish %s %.*s for %.*s, or correct the PTR record", ip6 ? "AAAA" : "A",
                   BYTES_FMT(text), BYTES_FMT(ptr->records[0].name));
    } else if (!bytes_eq_nocase(confirmed, hostname)) {
        doctor_warn(d, "source_fcrdns", text, "its name is %.*s, but EHLO says %.*s",
                    BYTES_FMT(confirmed), BYTES_FMT(hostname));
        doctor_fix(d, "have the PTR record name %.*s, or set hostname to %.*s", BYTES_FMT(hostname),
                   BYTES_FMT(confirmed));
    } else {
        doctor_ok(d, "source_fcrdns", text, "%.*s and the address name each other",
                  BYTES_FMT(hostname));
    }
}

static void check_source(struct doctor *d, const uint8_t *ip, bool ip6)
{
    struct bytes text = doctor_ip_text(d, ip, ip6);
    if (is_private_address(ip, ip6)) {
        doctor_warn(d, "source_ptr", text, "receivers never see this address");
        doctor_fix(d, "list the addresses that mail leaves from, as receivers see them, in "
                      "domains.addresses");
        return;
    }
    const struct dns_answer *ptr = doctor_ask(d, dns_reverse_name(ip, ip6, &d->arena), DNS_PTR);
    if (ptr->code == DNS_OK) {
        doctor_ok(d, "source_ptr", text, "its name is %.*s", BYTES_FMT(ptr->records[0].name));
        check_back(d, text, ptr, ip, ip6);
    } else if (answers(ptr)) {
        doctor_fail(d, "source_ptr", text, "has no name; large providers refuse mail from it");
        doctor_fix(d, "have whoever gave you the address publish PTR %.*s",
                   BYTES_FMT(d->conf->hostname));
    } else {
        doctor_warn(d, "source_ptr", text, "the DNS gives no answer about it: %s",
                    dns_code_text(ptr->code));
        doctor_fix(d,
                   "try again; if it stays so, whoever gave you the address must see to its zone");
    }
}

static void check_sources(struct doctor *d)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA};
    const struct conf *conf = d->conf;
    for (uint32_t i = 0; i < conf->domains.addresses_count; i++)
        check_source(d, conf->domains.addresses[i].ip, conf->domains.addresses[i].ip6);
    for (size_t t = 0; !conf->domains.addresses_count && t < COUNT_OF(types); t++) {
        const struct dns_answer *answer = doctor_ask(d, conf->hostname, types[t]);
        for (size_t i = 0; answer->code == DNS_OK && i < answer->count; i++)
            check_source(d, answer->records[i].ip, types[t] == DNS_AAAA);
    }
}

// ---- postmaster --------------------------------------------------------------------------------------

static bool is_listed(const struct route *route, struct bytes address, struct arena *arena)
{
    struct bytes *targets;
    size_t count;
    return !route->locals ||
           local_recipients_find(route->locals, address, arena, &targets, &count) != LOCAL_UNKNOWN;
}

// RFC 5321 section 4.5.1: every host that sends mail has one.
static void check_postmaster(struct doctor *d)
{
    struct bytes host = d->conf->hostname;
    struct bytes address = arena_printf(&d->arena, "postmaster@%.*s", BYTES_FMT(host));
    struct route_question question = {.recipient = address, .domain = host};
    struct route_table *routes;
    struct buf errors = {0};
    int err = route_table_new(d->conf, NULL, 1, &routes, &errors);
    buf_done(&errors);
    if (err) {
        doctor_fail(d, "routes", BYTES_NONE, "the files of the routes can't be used");
        doctor_fix(d, "posthaste check-config says what is wrong with them");
        return;
    }
    const struct route *route = route_pick(routes, &question);
    if (route->conf->via.kind == CONF_VIA_DISCARD) {
        doctor_warn(d, "postmaster", address, "mail to it is thrown away");
        doctor_fix(d, "put a route to a mailbox that is read before the one that discards");
    } else if (!is_listed(route, address, &d->arena)) {
        doctor_warn(d, "postmaster", address, "there is no such recipient");
        doctor_fix(
            d, "add it to the recipient table of the route, as an alias of somebody who reads it");
    } else if (!route_is_local(route) && route->conf->via.kind == CONF_VIA_MX &&
               doctor_ask(d, host, DNS_MX)->code != DNS_OK) {
        doctor_warn(d, "postmaster", address, "no MX record says who takes its mail");
        doctor_fix(
            d, "publish an MX record for %.*s that leads to a mailbox that is read, or route it",
            BYTES_FMT(host));
    } else {
        doctor_ok(d, "postmaster", address, "its mail has a way to go");
    }
    route_table_free(routes);
}

void doctor_check_dns(struct doctor *d)
{
    if (!d->resolver.dns)
        return;
    check_resolver(d);
    check_dnssec(d);
    if (!d->has_dns)
        return;
    check_name(d);
    check_sources(d);
    check_postmaster(d);
}
