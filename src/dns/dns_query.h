// SPDX-License-Identifier: MIT
//
// dns_query - questions of any type from a thread that may wait for the answers
//
// For commands and HTTP threads. A loop asks with dns_ask() (dns/dns.h), which takes every type and
// never waits; there a struct dns of a zone file serves as well as one of servers.
//
//     struct dns_resolver resolver;
//     dns_resolver_open(&conf, zone_file_or_NULL, &resolver, &error);
//     struct dns_question q[] = {{.name = a, .type = DNS_TXT}, {.name = b, .type = DNS_MX}};
//     dns_query_wait(resolver.dns, q, COUNT_OF(q), 10000, &arena);
//     ... q[0].answer.code, q[0].answer.records ...
//
// Never: called on the resolver's own loop (it would wait for itself), nor on one that others wait for.
#pragma once

#include "base/buf.h"
#include "dns/dns.h"

struct dns_question {
    struct bytes name; // A-labels; a final dot is allowed
    enum dns_type type;
    struct dns_answer answer; // then: its records live in the arena
};

// Asks all questions at once and waits until each is answered, for at most timeout_ms (then
// DNS_TIMEOUT).
void dns_query_wait(struct dns *dns, struct dns_question *questions, size_t count, int timeout_ms,
                    struct arena *arena);

// ---- for commands: a resolver with a loop of its own ------------------------------------------

struct dns_resolver {
    struct dns *dns;
    struct sys_loop *loop;
};
// Answers come from the servers of *conf, or from the zone file (dns/dns_zone.h) if there is one;
// *conf is not looked at then and may be NULL. As dns_open() or dns_zone_read() fails; `error` gets
// a sentence.
int dns_resolver_open(const struct dns_conf *conf, const char *zone_file, struct dns_resolver *out,
                      struct buf *error) MUST_USE;
void dns_resolver_close(struct dns_resolver *resolver);
