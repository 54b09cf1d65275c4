// SPDX-License-Identifier: MIT
//
// dns_mx - where the mail of a domain goes: its mail exchangers and their addresses (RFC 5321
// section 5.1)
//
// Pure logic on the port dns.h. MX hosts by preference, equal ones in random order; without MX
// records the domain itself; A and AAAA of each.
//
// Owner:    a struct dns_mx is one block of memory, owned by who got it: dns_mx_free().
// Limits:   DNS_MX_HOSTS_MAX hosts, DNS_MX_ADDRESSES_MAX addresses in all: the least preferred
//           go, of equal ones the last by name: always the same.
#pragma once

#include "dns/dns.h"

#define DNS_MX_HOSTS_MAX 20
#define DNS_MX_ADDRESSES_MAX 40
#define DNS_MX_ADDRESSES_A_HOST_MAX 16

// What is looked up: a domain's mail exchangers, or the addresses of a named host (a smarthost).
enum dns_mx_kind { DNS_BY_MX, DNS_BY_HOST };

enum dns_mx_outcome {
    DNS_MX_FOUND,
    DNS_MX_NO_DOMAIN,  // permanent: NXDOMAIN, or a name that can't exist (5.1.2)
    DNS_MX_NULL,       // permanent: takes no mail, RFC 7505 (5.1.10)
    DNS_MX_NO_ADDRESS, // permanent: neither MX nor address, or no MX host has any (5.4.4)
    DNS_MX_TEMPORARY,  // some answer is missing: try later (4.4.3)
};

struct dns_ip {
    bool ip6;
    uint8_t ip[16]; // 4 or 16 bytes, network order
};

struct dns_mx_host {
    struct bytes name; // A-label, lower case, no final dot; for an address literal the address
    uint16_t preference;
    bool is_incomplete;       // A or AAAA did not answer
    struct dns_ip *addresses; // families take turns, IPv6 first; random order within a family
    size_t address_count;
};

struct dns_mx {
    enum dns_mx_outcome outcome;
    bool is_implicit; // no MX record: the domain itself
    bool is_literal;  // the domain was an address literal
    bool is_secure;   // every answer used was validated
    uint32_t ttl_s;
    struct dns_mx_host *hosts;   // best first; each has an address
    struct dns_mx_host *missing; // best first: those without an answer, or without room
    size_t host_count, missing_count;
    const char *why; // what is missing, for people: printable ASCII, never NULL, may be empty
};

struct dns_mx_lookup;
typedef void dns_mx_done(void *ctx, struct dns_mx *mx); // the receiver owns mx

// Looks `domain` up: A-labels, or an address literal "[192.0.2.1]", "[IPv6:2001:db8::1]". done()
// once, in a later turn, at the deadline at the latest. Never NULL.
struct dns_mx_lookup *dns_mx_lookup(struct dns *dns, struct bytes domain, enum dns_mx_kind kind,
                                    struct mono deadline, dns_mx_done *done, void *ctx);
// done() will not be called. Not after it was.
void dns_mx_lookup_cancel(struct dns_mx_lookup *lookup);

void dns_mx_free(struct dns_mx *mx); // NULL allowed
// A copy, with hosts of equal preference and addresses of one family in a new random order.
struct dns_mx *dns_mx_copy(const struct dns_mx *mx);
// An outcome without hosts.
struct dns_mx *dns_mx_new_failure(enum dns_mx_outcome outcome, uint32_t ttl_s, const char *why);
// The address with a port, for sys_stream_connect().
struct sys_addr dns_ip_addr(const struct dns_ip *ip, uint16_t port);
