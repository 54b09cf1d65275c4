// SPDX-License-Identifier: MIT
//
// dns - the port `resolve`: ask for the records of a name, be answered later
//
// Behind it stands libunbound (dns_unbound.c) or the simulator's twin; dns_mx and dns_cache are
// built on it.
//
// Thread:   dns_ask() on any loop, answered on that loop.
// Owner:    the asker owns its struct dns_query and keeps it until done() or dns_cancel().
// Limits:   DNS_NAME_MAX; DNS_RECORDS_MAX records of an answer, the rest is dropped;
//           DNS_OUTSTANDING_MAX questions at once, further ones are answered DNS_SERVFAIL.
// Never:    calls done() from inside dns_ask(); keeps the asker waiting beyond its deadline.
#pragma once

#include "dns/dns_rdata.h"
#include "sys/sys.h"

#define DNS_RECORDS_MAX 512
#define DNS_OUTSTANDING_MAX 20000
#define DNS_WHY_MAX 200

enum dns_code {
    DNS_OK,       // there are records
    DNS_NODATA,   // the name exists, records of this type do not
    DNS_NXDOMAIN, // the name does not exist
    DNS_SERVFAIL, // a server failed, refused or sent junk, or we are overloaded: try later
    DNS_BOGUS,    // DNSSEC validation failed: try later
    DNS_TIMEOUT,  // no answer within the deadline: try later
};

struct dns_answer {
    enum dns_code code;
    bool is_secure; // validated by DNSSEC (the denial too)
    uint32_t ttl_s;
    size_t count;
    const struct dns_record *records; // borrowed for done(); malformed ones have been left out
    bool had_malformed;               // some were left out
    char why[DNS_WHY_MAX];            // for people; may be empty
};

struct dns;
struct dns_request;

struct dns_query {
    void (*done)(struct dns_query *query, const struct dns_answer *answer);
    struct dns_request *request; // used by dns; NULL when nothing is under way
    struct sys_timer deadline;   // used by dns
};

struct dns_conf {
    const struct bytes *servers; // "IP@PORT" or "IP"; none: from the root ourselves
    size_t server_count;
    const char *trust_anchor; // a file (RFC 5011 state or zone format); NULL: no validation
};

// E_SYNTAX (a server or the anchor's contents), E_NOT_FOUND (the anchor), E_IO. `loop` is where the
// resolver's answers are handled. From outside the loops.
int dns_open(const struct dns_conf *conf, struct sys_loop *loop, struct dns **out) MUST_USE;
// After its loop has stopped.
void dns_close(struct dns *dns);

// Asks for `name` (A-labels, no final dot needed); query->done is set by the caller. A name that
// can't be asked for (empty label, label over 63, too long) is answered DNS_NXDOMAIN.
void dns_ask(struct dns *dns, struct dns_query *query, struct bytes name, enum dns_type type,
             struct mono deadline);
// done() will not be called. Nothing happens if nothing is under way.
void dns_cancel(struct dns_query *query);
// How many questions were answered so far, and how many failed (SERVFAIL, TIMEOUT). Any thread.
void dns_get_counts(const struct dns *dns, uint64_t *out_answered, uint64_t *out_failed);

// "NXDOMAIN" and the like.
const char *dns_code_text(enum dns_code code);
