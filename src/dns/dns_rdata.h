// SPDX-License-Identifier: MIT
//
// dns_rdata - one resource record, from its wire form
//
// Names in rdata come uncompressed (as libunbound gives them). Every length is checked against what
// is there: RDLENGTH 0 and short records are refused (E_SYNTAX), never read past.
#pragma once

#include "base/arena.h"
#include "base/bytes.h"

#define DNS_NAME_MAX 253  // characters, without the final dot
#define DNS_TEXT_MAX 4096 // of one TXT record, joined

enum dns_type {
    DNS_A = 1,
    DNS_CNAME = 5,
    DNS_PTR = 12,
    DNS_MX = 15,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_TLSA = 52,
};

struct dns_record {
    enum dns_type type;
    uint8_t ip[16];      // A (4 bytes), AAAA
    uint16_t preference; // MX
    struct bytes name;   // MX, CNAME, PTR: lower case, no final dot; the root is empty
    struct bytes text;   // TXT: its strings joined (RFC 7208 3.3); TLSA: the association data
    uint8_t usage, selector, matching; // TLSA
};

// Parses one record; what it points to lives in `arena`. E_SYNTAX, E_LIMIT.
int dns_rdata_parse(enum dns_type type, struct bytes rdata, struct arena *arena,
                    struct dns_record *out) MUST_USE;
// A wire-format name at the start of *rdata, moved behind it. Labels may hold letters, digits, '-',
// '_' only: what else stands there can be no mail host, and must not reach a log or a command.
// E_SYNTAX.
int dns_name_parse(struct bytes *rdata, struct arena *arena, struct bytes *out) MUST_USE;
// A name that may be asked for: 1..253 characters, labels 1..63 of letters, digits, '-', '_'; one
// final dot allowed.
bool dns_name_is_valid(struct bytes name);

// The name whose PTR records tell an address's names: "1.2.0.192.in-addr.arpa". `ip` is 4 or 16 bytes, network order;
// lives in `arena`.
struct bytes dns_reverse_name(const uint8_t *ip, bool ip6, struct arena *arena);
