// SPDX-License-Identifier: MIT
//
// dns_cache - the MX results of domains, kept for their time to live, looked up once for all who
// ask
//
// One cache serves all loops and lives on the resolver's own: a domain is then looked up once for
// all workers and kept once in memory. Asking costs two posts, for each domain that falls due and
// not for each recipient.
//
// Owner:    the asker owns its struct dns_ask until done() or dns_cache_cancel().
// Limits:   DNS_CACHE_ENTRIES_MAX domains, the least recently asked go first;
//           DNS_CACHE_LOOKUPS_MAX lookups that began just now, the others wait for their turn, and
//           DNS_CACHE_SLOW_MAX slow ones beside them. Results are kept for their TTL, at least 1
//           min and at most 1 day; permanent failures at most 5 min, temporary ones 5 s.
// Never:    calls done() from inside dns_cache_ask().
#pragma once

#include "dns/dns_mx.h"

#define DNS_CACHE_ENTRIES_MAX 50000 // some 400 bytes each
#define DNS_CACHE_LOOKUPS_MAX 500
#define DNS_CACHE_SLOW_MS                                                                          \
    2000 // then a lookup goes on as a slow one and gives its place to the next
#define DNS_CACHE_SLOW_MAX 1000   // then the oldest of them ends before its time
#define DNS_CACHE_LOOKUP_MS 30000 // how long one lookup may take in all
#define DNS_CACHE_TTL_MIN_S 60
#define DNS_CACHE_TTL_MAX_S 86400
#define DNS_CACHE_TTL_PERMANENT_S 300
#define DNS_CACHE_TTL_TEMPORARY_S 5

struct dns_cache;
struct dns_cache_request;

struct dns_ask {
    // Owns mx (dns_mx_free); its ttl_s is what is left of the time that the cache gave it, within the limits above.
    void (*done)(struct dns_ask *ask, struct dns_mx *mx);
    struct dns_cache_request *request; // used by dns_cache; NULL: nothing is under way
    struct sys_timer deadline;         // used by dns_cache
};

struct dns_cache_limits {
    size_t entries, lookups, slow;
    int64_t slow_ms;
};

// `loop` is the resolver's; limits NULL: those above.
struct dns_cache *dns_cache_new(struct dns *dns, struct sys_loop *loop,
                                const struct dns_cache_limits *limits);
// After its loop has stopped; before dns_close().
void dns_cache_free(struct dns_cache *cache);

// On any loop, answered on it; ask->done is set by the caller. At the deadline DNS_MX_TEMPORARY
// is told; the lookup goes on for those who ask next.
void dns_cache_ask(struct dns_cache *cache, struct dns_ask *ask, struct bytes domain,
                   enum dns_mx_kind kind, struct mono deadline);
// done() will not be called. Nothing happens if nothing is under way.
void dns_cache_cancel(struct dns_ask *ask);

// ---- at RCPT ----------------------------------------------------------------------------------

// Does this domain take mail, as far as can be known within the budget?
enum dns_verdict {
    DNS_EXISTS,
    DNS_NO_DOMAIN, // 550 5.1.2
    DNS_NULL_MX,   // 556 5.1.10
    DNS_UNKNOWN,   // no answer in time: accept, and find out later
};
#define DNS_VERDICT_BUDGET_MS 2000
// From a result of dns_cache_ask() with a deadline of that budget.
enum dns_verdict dns_verdict_of(const struct dns_mx *mx);
