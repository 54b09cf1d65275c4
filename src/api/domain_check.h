// SPDX-License-Identifier: MIT
//
// domain_check - is everything in place for a sender domain's mail to be recognised?
//
// Pure: the DNS stands behind ask(), which answers from what it has been told before, or notes the question and
// returns NULL. domain_check_run() then returns false, having asked for all it could; the caller finds the answers and
// runs it again. So all questions of a round are under way together, and no thread waits for one after the other.
//
//   id           what is looked at
//   ownership    the TXT record with the domain's token
//   spf          every address that our mail leaves from passes SPF for the domain (RFC 7208)
//   dkim         every key is published, as TXT record or as CNAME into our zone, and is the right one
//   dmarc        there is one valid record, at the domain or above it (RFC 7489)
//   return_path  bounces.DOMAIN is a CNAME of our bounce host, and that takes mail
//   mx           the domain takes mail: answers to what it sends
//   ptr          every address has a name that leads back to it
//   tls          our certificate is for our host name and valid; delivery does not do without TLS
//
// A state is "unknown" where the DNS gave no answer, or where nobody has said what our addresses are.
#pragma once

#include "dns/dns.h"
#include "sign/domain_records.h"

enum domain_check_id {
    DOMAIN_CHECK_OWNERSHIP,
    DOMAIN_CHECK_SPF,
    DOMAIN_CHECK_DKIM,
    DOMAIN_CHECK_DMARC,
    DOMAIN_CHECK_RETURN_PATH,
    DOMAIN_CHECK_MX,
    DOMAIN_CHECK_PTR,
    DOMAIN_CHECK_TLS,
};
#define DOMAIN_CHECKS 8
#define DOMAIN_ADDRESSES_MAX 32 // of ours

enum domain_state { DOMAIN_OK, DOMAIN_MISSING, DOMAIN_WRONG, DOMAIN_UNKNOWN };

struct domain_finding {
    enum domain_state state;
    struct bytes want, found; // for people, of several keys a line each; empty: nothing
    struct bytes fix;         // likewise; empty where it is ok
};

struct domain_certificate {
    bool is_there, is_for_us, is_self_signed;
    struct wall not_after;
};

struct domain_check {
    // given
    struct domain_setup setup;
    struct domain_certificate certificate;
    struct wall now;
    const struct dns_answer *(*ask)(void *ctx, struct bytes name, enum dns_type type);
    void *ask_ctx;
    // found; what is in it lives in the arena
    struct domain_finding findings[DOMAIN_CHECKS];
    // its own
    struct arena *arena;
    bool waits;
    struct {
        uint8_t ip[16];
        bool ip6;
    } addresses[DOMAIN_ADDRESSES_MAX];
    size_t addresses_count;
};

// False: answers are missing, call again once ask() has them.
bool domain_check_run(struct domain_check *c, struct arena *arena);

const char *domain_check_name(enum domain_check_id id); // "return_path"
const char *domain_state_name(enum domain_state state); // "missing"
