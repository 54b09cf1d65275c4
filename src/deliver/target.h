// SPDX-License-Identifier: MIT
//
// target - the places one lane's connections may be made to, in the order to try them
//
// What resolving a domain found, as the text that the queue keeps for the lane and hands back with
// QUEUE_CONNECT. One line a host: name, then its addresses; a first line says how to speak there.
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "sys/sys.h"

#define TARGET_HOSTS_MAX 20
#define TARGET_ADDRESSES_MAX 40
#define TARGET_TEXT_MAX 4096 // bytes that target_format() writes

// SMTPS: TLS from the first byte; its tls is ENCRYPT or VERIFY.
enum target_kind { TARGET_SMTP, TARGET_SMTPS, TARGET_LMTP, TARGET_MAILDIR, TARGET_DISCARD };
enum target_tls { TARGET_TLS_MAY, TARGET_TLS_NONE, TARGET_TLS_ENCRYPT, TARGET_TLS_VERIFY };

struct target_address {
    struct bytes host; // name to greet, verify and show
    struct sys_addr addr;
};

struct target {
    enum target_kind kind;
    enum target_tls tls;
    uint32_t route; // route key, for login, password and pattern
    struct target_address addresses[TARGET_ADDRESSES_MAX];
    uint32_t count;
};

// Returns how many addresses it wrote: what would pass TARGET_TEXT_MAX is left out from there on, the least preferred
// ones; the first always fits. Host names are at most DNS_NAME_MAX bytes.
uint32_t target_format(const struct target *target, struct buf *out);
// Slices are made in `arena`. E_SYNTAX (our own text: the caller CHECKs).
int target_parse(struct bytes text, struct arena *arena, struct target *out) MUST_USE;
