// SPDX-License-Identifier: MIT
//
// dns_request - a question on its way to the resolver's loop and back; for implementations of
// dns.h
//
// The asker's side (dns_ask, dns_cancel, deadlines) is the same for all implementations and
// stands in dns_request.c. An implementation makes a struct with a struct dns at its head.
//
// Owner:    the resolver, from dns->start() until dns_request_answer().
#pragma once

#include <stdatomic.h>

#include "dns/dns.h"

// The head of every implementation's own struct.
struct dns {
    struct sys_loop *loop;
    // On `loop`: finds the answer and calls dns_request_answer(), now or later.
    void (*start)(struct dns_request *r);
    void (*close)(struct dns *dns); // behind dns_close()
    atomic_uint outstanding;
    _Atomic uint64_t answered, failed; // questions
};

struct dns_request {
    struct sys_task task; // there, then back
    struct sys_loop *home;
    struct dns *dns;
    struct dns_query *query; // touched at home only; NULL: nobody waits any more
    enum dns_type type;
    struct mono deadline;
    char name[DNS_NAME_MAX + 2];
    struct dns_answer answer;
    struct arena arena; // what the answer's records point to
    // The implementation's own:
    struct list link;
    struct mono began;
    bool slow;
    int async_id;
};

// On dns->loop: hands the request back with what stands in r->answer.
void dns_request_answer(struct dns_request *r);
// The same with a code and no records.
void dns_request_fail(struct dns_request *r, enum dns_code code, const char *why);
// Adds a record in wire form to r->answer: malformed ones are left out and noted.
void dns_request_add(struct dns_request *r, struct bytes rdata);
