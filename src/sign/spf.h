// SPDX-License-Identifier: MIT
//
// spf - may this address send as this domain? (RFC 7208, check_host)
//
// Pure: the DNS stands behind a port. A port that has to ask first says SPF_DNS_LATER; then so does spf_check(), and
// the caller asks, and calls again with the answers at hand: the same question takes the same way.
//
// Beside what the standard leaves to the receiver: `ptr` is counted as a lookup and never matches (receivers ignore
// it, section 5.5), `%{p}` is "unknown", `exp` is not fetched.
//
// Limits: SPF_LOOKUPS_MAX mechanisms that ask, SPF_VOID_MAX of the questions without an answer, SPF_HOSTS_MAX hosts
//         of one mx (sections 4.6.4): beyond them SPF_PERMERROR.
#pragma once

#include "base/buf.h"

#define SPF_LOOKUPS_MAX 10
#define SPF_VOID_MAX 2
#define SPF_HOSTS_MAX 10
#define SPF_WHY_MAX 200

enum spf_result {
    SPF_NONE, // no record
    SPF_NEUTRAL,
    SPF_PASS,
    SPF_FAIL,
    SPF_SOFTFAIL,
    SPF_TEMPERROR, // the DNS did not answer: unknown
    SPF_PERMERROR, // the record can't be read, or asks for too much
    SPF_LATER,     // the port has to ask first
};

enum spf_dns {
    SPF_DNS_OK,
    SPF_DNS_NONE, // no such name, or nothing of this type
    SPF_DNS_FAILED,
    SPF_DNS_LATER,
};
enum spf_type { SPF_TXT, SPF_A, SPF_AAAA, SPF_MX };

struct spf_record {
    struct bytes text; // TXT: its strings joined; MX: the host
    uint8_t ip[16];    // A (4 bytes), AAAA
};

struct spf_port {
    void *ctx;
    // The records live until spf_check() returns. Never SPF_DNS_OK with none.
    enum spf_dns (*ask)(void *ctx, struct bytes name, enum spf_type type,
                        const struct spf_record **out, size_t *out_count);
};

struct spf_question {
    uint8_t ip[16]; // 4 or 16 bytes, network order
    bool ip6;
    struct bytes domain; // of MAIL FROM, lower-case A-labels
    struct bytes local;  // its local part; empty: "postmaster"
    struct bytes helo;
};

struct spf_verdict {
    enum spf_result result;
    unsigned lookups;
    char why[SPF_WHY_MAX]; // the mechanism that decided, or what is wrong with which record
};

void spf_check(const struct spf_port *port, const struct spf_question *question,
               struct spf_verdict *out);
// "pass", "permerror" and so on, as the standard calls them; "later".
const char *spf_result_name(enum spf_result result);
// Is this TXT record one of SPF, right or wrong? (section 4.5)
bool spf_is_record(struct bytes text);
