// SPDX-License-Identifier: MIT
//
// How it works: the route says what to look up (the domain's MX hosts, a smarthost's addresses, or nothing); what
// is found becomes a target, and the target's hosts name the lane.
#include <stdlib.h>

#include "base/log.h"
#include "deliver/deliver_private.h"
#include "dns/dns_rdata.h"
#include "route/route.h"
#include "route/route_site.h"

#define RESOLVE_MS 60000
#define SOURCE BYTES("default")
#define STATIC_TTL_MS 300000                             // of targets that need no DNS
#define SITE_MAX (sizeof("smtps::65535") + DNS_NAME_MAX) // the longest there are
_Static_assert(ROUTE_SITE_MAX <= SITE_MAX, "by MX or path");
_Static_assert(sizeof("default->") + SITE_MAX + ROUTE_TERMS_MAX <= QUEUE_LANE_MAX, "names fit");
_Static_assert(TARGET_TEXT_MAX <= QUEUE_HOSTS_MAX, "the queue keeps the whole target");

struct resolution {
    struct deliver_item item;
    struct deliver *deliver;
    struct queue_domain *domain;
    uint32_t route_key;
    struct dns_ask ask;
    bool asking;
    char name[QUEUE_NAME_MAX + 1];
};

// ---- answers to the queue --------------------------------------------------------------------------------

static void tell(struct deliver *d, struct queue_domain *domain, enum queue_unresolved how,
                 uint16_t code, const char *enhanced, struct bytes text)
{
    struct queue_failure failure = {code, bytes_cstr(enhanced), text};
    uint64_t kicks = 0;
    queue_unresolved(d->options.port->queue, domain, how, &failure, acceptance_now(), &kicks);
    d->options.port->kick(d->options.port->kick_ctx, kicks);
}

// How to speak with the hosts that stand behind a name or an address.
static enum target_kind target_kind_of(enum conf_via_kind kind)
{
    static const enum target_kind MAP[] = {
        [CONF_VIA_MX] = TARGET_SMTP,        [CONF_VIA_SMTP] = TARGET_SMTP,
        [CONF_VIA_SMTPS] = TARGET_SMTPS,    [CONF_VIA_LMTP] = TARGET_LMTP,
        [CONF_VIA_LMTP_UNIX] = TARGET_LMTP, [CONF_VIA_MAILDIR] = TARGET_MAILDIR,
        [CONF_VIA_DISCARD] = TARGET_DISCARD};
    return MAP[kind];
}

static enum target_tls target_tls_of(const struct conf_route *route)
{
    static const enum target_tls MAP[] = {[CONF_ROUTE_TLS_MAY] = TARGET_TLS_MAY,
                                          [CONF_ROUTE_TLS_NONE] = TARGET_TLS_NONE,
                                          [CONF_ROUTE_TLS_VERIFY] = TARGET_TLS_VERIFY,
                                          [CONF_ROUTE_TLS_ENCRYPT] = TARGET_TLS_ENCRYPT};
    bool always = route->via.kind == CONF_VIA_SMTPS && route->tls == CONF_ROUTE_TLS_MAY;
    return always ? TARGET_TLS_ENCRYPT : MAP[route->tls];
}

static enum queue_proof proof_of(enum target_tls tls)
{
    return tls == TARGET_TLS_VERIFY    ? QUEUE_PROOF_VERIFIED
           : tls == TARGET_TLS_ENCRYPT ? QUEUE_PROOF_ENCRYPTED
                                       : QUEUE_PROOF_NONE;
}

static void tell_target(struct deliver *d, struct queue_domain *domain, const struct route *route,
                        struct target *target, struct buf *site, struct bytes match_names,
                        int64_t ttl_ms)
{
    target->tls = target_tls_of(route->conf);
    target->route = route_key(d->snapshot->routes, route);
    route_site_add_terms(route, site);
    struct buf lane = {0}, hosts = {0};
    route_lane_name(SOURCE, buf_bytes(site), &lane);
    uint32_t kept = target_format(target, &hosts);
    if (kept < target->count)
        log_debug("the site has more hosts than are kept", LOG_STR("lane", buf_bytes(&lane)),
                  LOG_INT("addresses", target->count), LOG_INT("kept", kept));
    struct queue_resolution r = {.lane = buf_bytes(&lane),
                                 .hosts = buf_bytes(&hosts),
                                 .match_names = match_names,
                                 .proof = proof_of(target->tls),
                                 .ttl_ms = ttl_ms};
    uint64_t kicks = 0;
    queue_resolved(d->options.port->queue, domain, &r, acceptance_now(), &kicks);
    d->options.port->kick(d->options.port->kick_ctx, kicks);
    buf_done(&lane);
    buf_done(&hosts);
}

// ---- by DNS ----------------------------------------------------------------------------------------------

static bool is_self(const struct deliver *d, const struct sys_addr *addr)
{
    const struct deliver_selves *selves = d->options.selves;
    for (uint32_t i = 0; selves && i < selves->count; i++)
        if (sys_addr_eq(&selves->at[i], addr))
            return true;
    return false;
}

static bool is_loopback(const struct sys_addr *addr)
{
    static const uint8_t one[16] = {[15] = 1};
    return addr->kind == SYS_ADDR_IP4 ? addr->ip[0] == 127 : memcmp(addr->ip, one, 16) == 0;
}

// This host, by whatever name a domain has for it: servers that listen at loopback only trust who comes from there, and
// nobody's MX record shall reach them through us.
static bool is_this_host(const struct deliver *d, const struct sys_addr *addr, bool by_mx)
{
    bool is_own = by_mx && !d->snapshot->conf->dns.loopback && is_loopback(addr);
    return is_own || is_self(d, addr);
}

// RFC 5321 5.1: hosts from our own preference on are no way forward. Returns how many hosts may be used.
static size_t hosts_before_ourselves(const struct deliver *d, const struct route *route,
                                     const struct dns_mx *mx)
{
    const struct conf_via *via = &route->conf->via;
    for (size_t i = 0; i < mx->host_count; i++)
        for (size_t k = 0; k < mx->hosts[i].address_count; k++) {
            struct sys_addr addr = dns_ip_addr(&mx->hosts[i].addresses[k], via->port);
            if (!is_this_host(d, &addr, via->kind == CONF_VIA_MX))
                continue;
            size_t usable = i;
            while (usable > 0 && mx->hosts[usable - 1].preference == mx->hosts[i].preference)
                usable--;
            return usable;
        }
    return mx->host_count;
}

static void add_hosts(struct target *target, const struct dns_mx *mx, size_t hosts, uint16_t port)
{
    for (size_t i = 0; i < hosts; i++)
        for (size_t k = 0; k < mx->hosts[i].address_count && target->count < TARGET_ADDRESSES_MAX;
             k++) {
            struct target_address *a = &target->addresses[target->count++];
            a->host = mx->hosts[i].name;
            a->addr = dns_ip_addr(&mx->hosts[i].addresses[k], port);
        }
}

// A mistake of whoever wrote the route or the name's zone; it can be mended while the mail waits.
static void tell_route_loop(struct deliver *d, struct queue_domain *domain)
{
    tell(d, domain, QUEUE_UNRESOLVED_DEFER, 451, "4.3.5",
         BYTES("the route leads back to this server (routing loop)"));
}

// We are among the best of the hosts that were found. A better one may only be missing for now: we are its backup.
static void tell_ourselves(struct resolution *r, const struct route *route, const struct dns_mx *mx)
{
    if (route->conf->via.kind != CONF_VIA_MX)
        tell_route_loop(r->deliver, r->domain);
    else if (mx->missing_count && mx->missing[0].preference < mx->hosts[0].preference)
        tell(r->deliver, r->domain, QUEUE_UNRESOLVED_DEFER, 451, "4.4.3", bytes_cstr(mx->why));
    else
        tell(r->deliver, r->domain, QUEUE_UNRESOLVED_FAIL, 554, "5.4.6",
             BYTES("mail for this domain would come back to this server (routing loop)"));
}

static int by_name(const void *left, const void *right)
{
    const struct route_site_host *a = left, *b = right;
    return bytes_cmp(a->name, b->name);
}

static struct route_site_host site_host(const struct dns_mx_host *host)
{
    return (struct route_site_host){host->name, host->preference};
}

// A domain's hosts by name: those that may be used, and those that may be once their addresses are known again. Returns
// how many.
static size_t hosts_of_site(const struct dns_mx *mx, size_t usable,
                            struct route_site_host hosts[DNS_MX_HOSTS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < usable; i++)
        hosts[count++] = site_host(&mx->hosts[i]);
    for (size_t i = 0; i < mx->missing_count; i++)
        if (usable == mx->host_count || mx->missing[i].preference < mx->hosts[usable].preference)
            hosts[count++] = site_host(&mx->missing[i]);
    qsort(hosts, count, sizeof *hosts, by_name); // equal preferences come shuffled
    return count;
}

static void tell_found(struct resolution *r, const struct route *route, const struct dns_mx *mx)
{
    struct deliver *d = r->deliver;
    uint16_t port = route->conf->via.port;
    size_t hosts = hosts_before_ourselves(d, route, mx);
    if (hosts == 0) {
        tell_ourselves(r, route, mx);
        return;
    }
    struct target target = {.kind = target_kind_of(route->conf->via.kind)};
    add_hosts(&target, mx, hosts, port);
    struct buf site = {0}, names = {0};
    struct route_site_host of_site[DNS_MX_HOSTS_MAX];
    size_t count = hosts_of_site(mx, hosts, of_site);
    for (size_t i = 0; i < count; i++)
        buf_printf(&names, "%s%.*s", i ? " " : "", BYTES_FMT(of_site[i].name));
    if (route->conf->via.kind == CONF_VIA_MX)
        route_site_of_hosts(of_site, count, port, &site);
    else
        route_site_of_via(&route->conf->via, &site);
    tell_target(d, r->domain, route, &target, &site, buf_bytes(&names), (int64_t)mx->ttl_s * 1000);
    buf_done(&site);
    buf_done(&names);
}

// Whose fault a missing name is: the recipient's domain fails for good, a smarthost of ours is looked for again.
static void tell_missing(struct resolution *r, const struct route *route, const struct dns_mx *mx)
{
    struct deliver *d = r->deliver;
    struct bytes why = bytes_cstr(mx->why);
    bool ours = route->conf->via.kind != CONF_VIA_MX;
    if (ours || mx->outcome == DNS_MX_TEMPORARY)
        tell(d, r->domain, QUEUE_UNRESOLVED_DEFER, 451, ours ? "4.3.5" : "4.4.3",
             why.len ? why : BYTES("the domain name service does not answer"));
    else if (mx->outcome == DNS_MX_NULL)
        tell(d, r->domain, QUEUE_UNRESOLVED_FAIL, 556, "5.1.10",
             BYTES("the domain accepts no mail"));
    else if (mx->outcome == DNS_MX_NO_DOMAIN)
        tell(d, r->domain, QUEUE_UNRESOLVED_FAIL, 550, "5.1.2", BYTES("the domain does not exist"));
    else
        tell(d, r->domain, QUEUE_UNRESOLVED_FAIL, 550, "5.4.4",
             BYTES("the domain has no server that takes mail"));
}

static void resolution_free(struct resolution *r)
{
    list_remove(&r->item.link);
    free(r);
}

static void on_answer(struct dns_ask *ask, struct dns_mx *mx)
{
    struct resolution *r = container_of(ask, struct resolution, ask);
    r->asking = false;
    struct deliver *d = r->deliver;
    // The table may have been replaced meanwhile.
    const struct route *route = route_get(d->snapshot->routes, r->route_key);
    if (!route)
        tell(d, r->domain, QUEUE_UNRESOLVED_REROUTE, 0, "", BYTES_NONE);
    else if (mx->outcome == DNS_MX_FOUND)
        tell_found(r, route, mx);
    else
        tell_missing(r, route, mx);
    dns_mx_free(mx);
    resolution_free(r);
    deliver_later(d);
}

static void on_abort(struct deliver_item *item)
{
    struct resolution *r = container_of(item, struct resolution, item);
    if (r->asking)
        dns_cache_cancel(&r->ask);
    resolution_free(r);
}

static void on_stop(struct deliver_item *item)
{
    on_abort(item);
}

static void ask_dns(struct deliver *d, const struct queue_work *work, const struct route *route)
{
    struct resolution *r = mem_new(sizeof *r);
    r->item = (struct deliver_item){.stop = on_stop, .abort = on_abort};
    r->deliver = d;
    r->domain = work->domain;
    r->route_key = work->route;
    r->ask.done = on_answer;
    r->asking = true;
    list_push_back(&d->jobs, &r->item.link);
    struct mono deadline = mono_add_ms(sys_mono(), RESOLVE_MS);
    if (route->conf->via.kind == CONF_VIA_MX)
        dns_cache_ask(d->options.dns, &r->ask, bytes_cstr(work->name), DNS_BY_MX, deadline);
    else
        dns_cache_ask(d->options.dns, &r->ask, route->conf->via.host, DNS_BY_HOST, deadline);
}

// ---- without DNS -----------------------------------------------------------------------------------------

// Does the route name a host, a smarthost or an LMTP server?
static bool names_host(const struct conf_via *via)
{
    return via->kind == CONF_VIA_SMTP || via->kind == CONF_VIA_SMTPS || via->kind == CONF_VIA_LMTP;
}

// By its address?
static bool has_address(const struct conf_via *via, struct sys_addr *out)
{
    return names_host(via) && sys_addr_parse_ip(via->host, via->port, out) == OK;
}

static void tell_static(struct deliver *d, const struct queue_work *work, const struct route *route)
{
    const struct conf_via *via = &route->conf->via;
    struct target target = {.kind = target_kind_of(via->kind)};
    if (has_address(via, &target.addresses[0].addr)) {
        if (is_self(d, &target.addresses[0].addr)) {
            tell_route_loop(d, work->domain);
            return;
        }
        target.count = 1;
        target.addresses[0].host = via->host;
    }
    if (via->kind == CONF_VIA_LMTP_UNIX) {
        target.count = 1;
        target.addresses[0].host = BYTES("localhost");
        if (sys_addr_parse(via->path, &target.addresses[0].addr) != OK) {
            tell(d, work->domain, QUEUE_UNRESOLVED_DEFER, 451, "4.3.5",
                 BYTES("the path of the LMTP socket is too long"));
            return;
        }
    }
    struct buf site = {0};
    route_site_of_via(via, &site);
    tell_target(d, work->domain, route, &target, &site, BYTES_NONE, STATIC_TTL_MS);
    buf_done(&site);
}

void resolve_start(struct deliver *d, const struct queue_work *work)
{
    const struct route *route = route_get(d->snapshot->routes, work->route);
    if (!route) {
        tell(d, work->domain, QUEUE_UNRESOLVED_REROUTE, 0, "", BYTES_NONE);
        return;
    }
    const struct conf_via *via = &route->conf->via;
    struct sys_addr address;
    if (via->kind == CONF_VIA_MX || (names_host(via) && !has_address(via, &address)))
        ask_dns(d, work, route);
    else
        tell_static(d, work, route);
}
