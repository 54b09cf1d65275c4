// SPDX-License-Identifier: MIT
//
// dns_mx - the mail exchangers of a domain
//
// How it works. One question for the MX records, then A and AAAA for each host, all at once.
// While a lookup runs, the hosts stand in arrays of fixed size; the result is packed into one
// block at the end.
#include "dns/dns_mx.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

#define TTL_INCOMPLETE_S 60 // an address is missing that may be there again soon
#define TTL_LITERAL_S 86400

struct candidate {
    struct dns_mx_lookup *lookup;
    struct dns_query a, aaaa;
    char name[DNS_NAME_MAX + 1];
    uint16_t preference;
    enum dns_code a_code, aaaa_code;
    struct dns_ip ips[DNS_MX_ADDRESSES_A_HOST_MAX];
    size_t ip_count;
};

struct dns_mx_lookup {
    struct dns *dns;
    struct mono deadline;
    dns_mx_done *done;
    void *ctx;
    struct dns_query mx;
    struct sys_timer later; // for what is known at once
    struct dns_mx *known;
    struct candidate *candidates; // up to DNS_MX_HOSTS_MAX, best first
    size_t count, waiting;
    bool is_implicit, is_secure;
    uint32_t ttl_s;
    char domain[DNS_NAME_MAX + 2];
    char why[DNS_WHY_MAX];
};

// ---- results ----------------------------------------------------------------------------------

static size_t packed_bytes(const struct dns_mx *mx)
{
    size_t hosts = mx->host_count + mx->missing_count;
    size_t bytes = sizeof *mx + strlen(mx->why) + 1 + hosts * sizeof *mx->hosts;
    for (size_t i = 0; i < mx->host_count; i++)
        bytes += mx->hosts[i].name.len + mx->hosts[i].address_count * sizeof(struct dns_ip);
    for (size_t i = 0; i < mx->missing_count; i++)
        bytes += mx->missing[i].name.len;
    return bytes;
}

static char *pack_name(char *at, struct bytes *name)
{
    memcpy(at, name->at, name->len);
    name->at = at;
    return at + name->len;
}

// A copy in one block: the struct, its hosts, then addresses, names and text, which need no
// alignment.
static struct dns_mx *pack(const struct dns_mx *from)
{
    struct dns_mx *mx = mem_new(packed_bytes(from));
    *mx = *from;
    mx->hosts = (struct dns_mx_host *)(mx + 1);
    mx->missing = mx->hosts + mx->host_count;
    char *at = (char *)(mx->missing + mx->missing_count);
    for (size_t i = 0; i < mx->host_count; i++) {
        struct dns_mx_host *host = &mx->hosts[i];
        *host = from->hosts[i];
        size_t bytes = host->address_count * sizeof(struct dns_ip);
        memcpy(at, from->hosts[i].addresses, bytes);
        host->addresses = (struct dns_ip *)at;
        at = pack_name(at + bytes, &host->name);
    }
    for (size_t i = 0; i < mx->missing_count; i++) {
        mx->missing[i] = from->missing[i];
        at = pack_name(at, &mx->missing[i].name);
    }
    mx->why = memcpy(at, from->why, strlen(from->why) + 1);
    return mx;
}

static void swap_hosts(struct dns_mx_host *a, struct dns_mx_host *b)
{
    struct dns_mx_host was = *a;
    *a = *b;
    *b = was;
}

// Equal preferences in random order: a MUST of section 5.1.
static void shuffle_equal(struct dns_mx *mx)
{
    size_t end;
    for (size_t start = 0; start < mx->host_count; start = end) {
        for (end = start;
             end < mx->host_count && mx->hosts[end].preference == mx->hosts[start].preference;
             end++)
            ;
        for (size_t left = end - start; left > 1; left--)
            swap_hosts(&mx->hosts[start + left - 1], &mx->hosts[start + sys_random_below(left)]);
    }
}

static size_t take_family(const struct dns_mx_host *host, bool ip6, struct dns_ip *out)
{
    size_t n = 0;
    for (size_t i = 0; i < host->address_count; i++) {
        if (host->addresses[i].ip6 != ip6)
            continue;
        size_t at = sys_random_below(n + 1); // shuffled while it is filled
        out[n] = out[at];
        out[at] = host->addresses[i];
        n++;
    }
    return n;
}

// RFC 5321 section 5.1 leaves the order to us: a broken family must not hide the other behind
// many addresses.
static void order_addresses(struct dns_mx_host *host)
{
    struct dns_ip six[DNS_MX_ADDRESSES_A_HOST_MAX], four[DNS_MX_ADDRESSES_A_HOST_MAX];
    size_t sixes = take_family(host, true, six), fours = take_family(host, false, four), n = 0;
    for (size_t i = 0; i < sixes || i < fours; i++) {
        if (i < sixes)
            host->addresses[n++] = six[i];
        if (i < fours)
            host->addresses[n++] = four[i];
    }
}

struct dns_mx *dns_mx_copy(const struct dns_mx *from)
{
    struct dns_mx *mx = pack(from);
    shuffle_equal(mx);
    for (size_t i = 0; i < mx->host_count; i++)
        order_addresses(&mx->hosts[i]);
    return mx;
}

void dns_mx_free(struct dns_mx *mx)
{
    free(mx);
}

struct dns_mx *dns_mx_new_failure(enum dns_mx_outcome outcome, uint32_t ttl_s, const char *why)
{
    return pack(&(struct dns_mx){.outcome = outcome, .ttl_s = ttl_s, .why = why});
}

struct sys_addr dns_ip_addr(const struct dns_ip *ip, uint16_t port)
{
    struct sys_addr addr = {.kind = ip->ip6 ? SYS_ADDR_IP6 : SYS_ADDR_IP4, .port = port};
    memcpy(addr.ip, ip->ip, ip->ip6 ? 16 : 4);
    return addr;
}

// ---- the end of a lookup ----------------------------------------------------------------------

static void free_lookup(struct dns_mx_lookup *l)
{
    dns_cancel(&l->mx);
    for (size_t i = 0; i < l->count; i++) {
        dns_cancel(&l->candidates[i].a);
        dns_cancel(&l->candidates[i].aaaa);
    }
    sys_timer_stop(&l->later);
    dns_mx_free(l->known);
    free(l->candidates);
    free(l);
}

void dns_mx_lookup_cancel(struct dns_mx_lookup *l)
{
    free_lookup(l);
}

static void finish(struct dns_mx_lookup *l, struct dns_mx *mx)
{
    dns_mx_done *done = l->done;
    void *ctx = l->ctx;
    free_lookup(l);
    done(ctx, mx);
}

static void finish_without(struct dns_mx_lookup *l, enum dns_mx_outcome outcome)
{
    finish(l, dns_mx_new_failure(outcome, l->ttl_s, l->why));
}

static void note_answer(struct dns_mx_lookup *l, const struct dns_answer *answer)
{
    if (answer->ttl_s < l->ttl_s)
        l->ttl_s = answer->ttl_s;
    l->is_secure = l->is_secure && answer->is_secure;
}

static bool is_final(enum dns_code code)
{
    return code == DNS_OK || code == DNS_NODATA || code == DNS_NXDOMAIN;
}

// ---- addresses --------------------------------------------------------------------------------

static struct dns_mx_host host_of(const struct candidate *c, size_t addresses_left)
{
    return (struct dns_mx_host){
        .name = bytes_cstr(c->name),
        .preference = c->preference,
        .is_incomplete = !is_final(c->a_code) || !is_final(c->aaaa_code),
        .addresses = (struct dns_ip *)(uintptr_t)c->ips,
        .address_count = c->ip_count < addresses_left ? c->ip_count : addresses_left,
    };
}

static void fail_without_address(struct dns_mx_lookup *l, bool is_incomplete)
{
    const struct candidate *first = &l->candidates[0];
    if (is_incomplete) {
        finish_without(l, DNS_MX_TEMPORARY);
        return;
    }
    bool gone = l->is_implicit && first->a_code == DNS_NXDOMAIN && first->aaaa_code == DNS_NXDOMAIN;
    snprintf(l->why, sizeof l->why, "%s",
             gone             ? "the domain does not exist"
             : l->is_implicit ? "the domain has neither an MX record nor an address"
                              : "no MX host of the domain has an address");
    finish_without(l, gone ? DNS_MX_NO_DOMAIN : DNS_MX_NO_ADDRESS);
}

static void finish_addresses(struct dns_mx_lookup *l)
{
    struct dns_mx_host hosts[DNS_MX_HOSTS_MAX], missing[DNS_MX_HOSTS_MAX];
    struct dns_mx mx = {.outcome = DNS_MX_FOUND,
                        .is_implicit = l->is_implicit,
                        .is_secure = l->is_secure,
                        .hosts = hosts,
                        .missing = missing,
                        .why = l->why};
    size_t left = DNS_MX_ADDRESSES_MAX;
    bool is_incomplete = false;
    for (size_t i = 0; i < l->count; i++) {
        struct dns_mx_host host = host_of(&l->candidates[i], left);
        is_incomplete = is_incomplete || host.is_incomplete;
        if (host.address_count == 0) {
            if (host.is_incomplete || l->candidates[i].ip_count > 0) // no answer, or no room
                missing[mx.missing_count++] = host;
            continue;
        }
        order_addresses(&host);
        left -= host.address_count;
        hosts[mx.host_count++] = host;
    }
    if (mx.host_count == 0) {
        fail_without_address(l, is_incomplete);
        return;
    }
    if (is_incomplete && l->ttl_s > TTL_INCOMPLETE_S)
        l->ttl_s = TTL_INCOMPLETE_S;
    mx.ttl_s = l->ttl_s;
    shuffle_equal(&mx);
    finish(l, pack(&mx));
}

// 0.0.0.0/8, :: and multicast are nobody's address; the first would reach ourselves.
static bool is_usable(const struct dns_ip *ip)
{
    static const uint8_t zero[16], mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!ip->ip6)
        return ip->ip[0] != 0 && ip->ip[0] < 224;
    return memcmp(ip->ip, zero, 16) != 0 && ip->ip[0] != 0xff && memcmp(ip->ip, mapped, 12) != 0;
}

static void add_addresses(struct candidate *c, const struct dns_answer *answer, bool ip6)
{
    // Half of the room for each family, so that many A records leave some for AAAA.
    size_t end = c->ip_count + DNS_MX_ADDRESSES_A_HOST_MAX / 2;
    for (size_t i = 0; i < answer->count && c->ip_count < end; i++) {
        struct dns_ip ip = {.ip6 = ip6};
        memcpy(ip.ip, answer->records[i].ip, ip6 ? 16 : 4);
        if (is_usable(&ip))
            c->ips[c->ip_count++] = ip;
    }
}

static void take_addresses(struct candidate *c, const struct dns_answer *answer, bool ip6,
                           enum dns_code *out_code)
{
    struct dns_mx_lookup *l = c->lookup;
    *out_code = answer->code;
    if (answer->code == DNS_OK)
        add_addresses(c, answer, ip6);
    if (is_final(answer->code))
        note_answer(l, answer);
    else if (l->why[0] == '\0')
        snprintf(l->why, sizeof l->why, "addresses of %.80s: %s %.80s", c->name,
                 dns_code_text(answer->code), answer->why);
    if (--l->waiting == 0)
        finish_addresses(l);
}

static void on_a(struct dns_query *query, const struct dns_answer *answer)
{
    struct candidate *c = container_of(query, struct candidate, a);
    take_addresses(c, answer, false, &c->a_code);
}

static void on_aaaa(struct dns_query *query, const struct dns_answer *answer)
{
    struct candidate *c = container_of(query, struct candidate, aaaa);
    take_addresses(c, answer, true, &c->aaaa_code);
}

static void ask_addresses(struct dns_mx_lookup *l)
{
    l->waiting = 2 * l->count;
    for (size_t i = 0; i < l->count; i++) {
        struct candidate *c = &l->candidates[i];
        c->a.done = on_a;
        c->aaaa.done = on_aaaa;
        dns_ask(l->dns, &c->aaaa, bytes_cstr(c->name), DNS_AAAA, l->deadline);
        dns_ask(l->dns, &c->a, bytes_cstr(c->name), DNS_A, l->deadline);
    }
}

// ---- MX records -------------------------------------------------------------------------------

static struct candidate *new_candidate(struct dns_mx_lookup *l, size_t at, struct bytes name,
                                       uint16_t preference)
{
    struct candidate *c = &l->candidates[at];
    *c = (struct candidate){.lookup = l, .preference = preference};
    memcpy(c->name, name.at, name.len);
    return c;
}

static int compare_records(const void *a, const void *b)
{
    const struct dns_record *x = *(const struct dns_record *const *)a,
                            *y = *(const struct dns_record *const *)b;
    if (x->preference != y->preference)
        return x->preference < y->preference ? -1 : 1;
    return bytes_cmp(x->name, y->name);
}

static bool is_chosen(const struct dns_mx_lookup *l, struct bytes name)
{
    for (size_t i = 0; i < l->count; i++)
        if (bytes_eq(bytes_cstr(l->candidates[i].name), name))
            return true;
    return false;
}

// Best first; each name once. Of more than there is room for always the same are chosen, since a domain's hosts are its
// site, for which limits hold; those that are found are then shuffled.
static void choose_hosts(struct dns_mx_lookup *l, const struct dns_answer *answer)
{
    const struct dns_record *records[DNS_RECORDS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < answer->count; i++)
        if (answer->records[i].name.len > 0) // "." among others is no host
            records[count++] = &answer->records[i];
    qsort(records, count, sizeof *records, compare_records);
    size_t room = count < DNS_MX_HOSTS_MAX ? count : DNS_MX_HOSTS_MAX;
    l->candidates = room ? mem_new(room * sizeof *l->candidates) : NULL;
    for (size_t i = 0; i < count && l->count < DNS_MX_HOSTS_MAX; i++)
        if (!is_chosen(l, records[i]->name)) {
            new_candidate(l, l->count, records[i]->name, records[i]->preference);
            l->count++;
        }
}

static void take_mx(struct dns_mx_lookup *l, const struct dns_answer *answer)
{
    choose_hosts(l, answer);
    if (l->count > 0) {
        ask_addresses(l);
        return;
    }
    if (answer->count == 0) {
        snprintf(l->why, sizeof l->why, "MX of the domain: no record could be read");
        finish_without(l, DNS_MX_TEMPORARY);
        return;
    }
    snprintf(l->why, sizeof l->why, "the domain takes no mail (null MX)"); // RFC 7505 section 3
    finish_without(l, DNS_MX_NULL);
}

static void ask_domain_itself(struct dns_mx_lookup *l)
{
    l->is_implicit = true;
    l->candidates = mem_new(sizeof *l->candidates);
    l->count = 1;
    new_candidate(l, 0, bytes_cstr(l->domain), 0);
    ask_addresses(l);
}

static void on_mx(struct dns_query *query, const struct dns_answer *answer)
{
    struct dns_mx_lookup *l = container_of(query, struct dns_mx_lookup, mx);
    if (is_final(answer->code))
        note_answer(l, answer);
    switch (answer->code) {
    case DNS_OK:
        take_mx(l, answer);
        break;
    case DNS_NODATA: // RFC 5321 section 5.1: the implicit MX
        ask_domain_itself(l);
        break;
    case DNS_NXDOMAIN:
        snprintf(l->why, sizeof l->why, "the domain does not exist");
        finish_without(l, DNS_MX_NO_DOMAIN);
        break;
    default:
        snprintf(l->why, sizeof l->why, "MX of the domain: %s %.120s", dns_code_text(answer->code),
                 answer->why);
        finish_without(l, DNS_MX_TEMPORARY);
        break;
    }
}

// ---- starting ---------------------------------------------------------------------------------

static void on_later(struct sys_timer *timer)
{
    struct dns_mx_lookup *l = container_of(timer, struct dns_mx_lookup, later);
    struct dns_mx *known = l->known;
    l->known = NULL;
    finish(l, known);
}

static void tell_later(struct dns_mx_lookup *l, struct dns_mx *known)
{
    l->known = known;
    l->later.fire = on_later;
    sys_timer_set(&l->later, sys_mono());
}

// "[192.0.2.1]" as a domain; a smarthost may be written without brackets too.
static bool is_literal(struct bytes domain, enum dns_mx_kind kind)
{
    struct sys_addr addr;
    return bytes_starts(domain, BYTES("[")) ||
           (kind == DNS_BY_HOST && sys_addr_parse_ip(domain, 0, &addr) == OK);
}

static struct dns_mx *read_literal(struct bytes domain)
{
    struct sys_addr addr;
    if (sys_addr_parse_ip(domain, 0, &addr) != OK)
        return dns_mx_new_failure(DNS_MX_NO_DOMAIN, TTL_LITERAL_S, "not an address literal");
    struct dns_ip ip = {.ip6 = addr.kind == SYS_ADDR_IP6};
    memcpy(ip.ip, addr.ip, sizeof ip.ip);
    if (!is_usable(&ip))
        return dns_mx_new_failure(DNS_MX_NO_ADDRESS, TTL_LITERAL_S, "nobody can have this address");
    char text[SYS_ADDR_TEXT];
    struct dns_mx_host host = {
        .name = bytes_cstr(sys_addr_format_ip(&addr, text)), .addresses = &ip, .address_count = 1};
    return pack(&(struct dns_mx){.outcome = DNS_MX_FOUND,
                                 .is_implicit = true,
                                 .is_literal = true,
                                 .ttl_s = TTL_LITERAL_S,
                                 .hosts = &host,
                                 .host_count = 1,
                                 .why = ""});
}

// Lower case, without the final dot.
static void copy_domain(struct dns_mx_lookup *l, struct bytes domain)
{
    if (domain.at[domain.len - 1] == '.')
        domain.len--;
    for (size_t i = 0; i < domain.len; i++)
        l->domain[i] = ascii_lower(domain.at[i]);
}

struct dns_mx_lookup *dns_mx_lookup(struct dns *dns, struct bytes domain, enum dns_mx_kind kind,
                                    struct mono deadline, dns_mx_done *done, void *ctx)
{
    struct dns_mx_lookup *l = mem_new(sizeof *l);
    l->dns = dns;
    l->deadline = deadline;
    l->done = done;
    l->ctx = ctx;
    l->ttl_s = UINT32_MAX;
    l->is_secure = true;
    if (is_literal(domain, kind)) {
        tell_later(l, read_literal(domain));
    } else if (!dns_name_is_valid(domain)) {
        tell_later(l, dns_mx_new_failure(DNS_MX_NO_DOMAIN, TTL_LITERAL_S, "not a possible domain"));
    } else {
        copy_domain(l, domain);
        if (kind == DNS_BY_HOST) {
            ask_domain_itself(l);
        } else {
            l->mx.done = on_mx;
            dns_ask(dns, &l->mx, bytes_cstr(l->domain), DNS_MX, deadline);
        }
    }
    return l;
}
