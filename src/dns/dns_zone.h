// SPDX-License-Identifier: MIT
//
// dns_zone - the port `resolve` answered from a JSON file instead of by servers
//
// For trials and tests (--zone FILE): what is published is read from the file, and nothing is asked
// anywhere.
//
//     {"example.com": {"TXT": ["v=spf1 -all", ["joined ", "strings"]], "A": ["192.0.2.1"],
//                      "AAAA": [], "MX": [[10, "mx.example.com"]], "PTR": ["host.example.com"],
//                      "CNAME": "", "TLSA": ["3 1 1 c0ffee"],
//                      "RCODE": "NOERROR|NXDOMAIN|SERVFAIL|TIMEOUT"}}
//
// Names are compared without case and without a final dot. All keys are optional (or null), others are
// ignored. A name that is absent does not exist (DNS_NXDOMAIN); one that has no records of the type
// has no data (DNS_NODATA). A CNAME is followed unless it is asked for, at most DNS_ZONE_CNAMES_MAX
// times (then DNS_SERVFAIL). RCODE stands for every question about the name; a TIMEOUT is told at
// once. Answers count as validated, with a TTL of DNS_ZONE_TTL_S.
//
// Limits: DNS_ZONE_BYTES_MAX of the file; a TXT record DNS_TEXT_MAX.
#pragma once

#include "base/buf.h"
#include "dns/dns.h"

#define DNS_ZONE_BYTES_MAX (16 << 20)
#define DNS_ZONE_CNAMES_MAX 8
#define DNS_ZONE_TTL_S 300

struct dns_zone;
// E_SYNTAX, E_LIMIT; `error` gets a sentence for people.
int dns_zone_parse(struct bytes json, struct dns_zone **out, struct buf *error) MUST_USE;
// The same from a file; further E_NOT_FOUND, E_DENIED, E_IO.
int dns_zone_read(const char *path, struct dns_zone **out, struct buf *error) MUST_USE;
void dns_zone_free(struct dns_zone *zone); // NULL allowed

// What the zone says, at once. The records point into the zone; their row lives in `arena`.
void dns_zone_answer(const struct dns_zone *zone, struct bytes name, enum dns_type type,
                     struct arena *arena, struct dns_answer *out);

// A resolver that answers from the zone, which it takes over: for dns_ask(), then dns_close().
struct dns *dns_zone_open(struct dns_zone *zone, struct sys_loop *loop);
