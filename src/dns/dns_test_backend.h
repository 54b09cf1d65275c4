// SPDX-License-Identifier: MIT
//
// dns_test_backend - for tests: the port `resolve` answered from a table
#pragma once

#include "dns/dns.h"

#define DNS_TEST_RECORDS 4
#define DNS_TEST_SILENT (-1)

struct dns_test_rule {
    const char *name;
    enum dns_type type;
    enum dns_code code;
    const char *records[DNS_TEST_RECORDS]; // "10 mx.example", "192.0.2.1", "2001:db8::1"
    uint32_t ttl_s;
    int delay_ms; // DNS_TEST_SILENT: no answer ever
};

// A name that is in no rule does not exist; one with a rule of another type has no data. `rules`
// is borrowed.
struct dns *dns_test_new(struct sys_loop *loop, const struct dns_test_rule *rules, size_t count);
void dns_test_free(struct dns *dns); // after its loop has stopped
// How many questions there were. Not while any is under way.
unsigned dns_test_asked(const struct dns *dns);
// For answers made on the spot: one MX record for each of `count` names mN.many.example. NULL
// rules needed.
#define DNS_TEST_MANY "many.example"
#define DNS_TEST_MANY_COUNT 1000
// Below this name nothing is ever answered.
#define DNS_TEST_MUTE "mute.example"
