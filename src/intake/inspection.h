// SPDX-License-Identifier: MIT
//
// inspection - preflight of a message while it comes in (mail/preflight.h)
//
// Made at DATA for accounts that want it, fed what is received, asked at the end. Whether the From field's domain takes
// mail is looked up while the body comes; each worker remembers some answers.
//
// Owner: the transaction. Thread: the worker's.
#pragma once

#include "dns/dns_cache.h"
#include "mail/preflight.h"
#include "store/store_directory.h"

#define INSPECTION_MEMORY_SLOTS 64
#define INSPECTION_MEMORY_MS 300000
#define INSPECTION_UNKNOWN_MS 30000 // a silent DNS is not waited for again so soon
// A finding that only warns is not worth more of the client's time.
#define INSPECTION_WARN_PATIENCE_MS 200

// What a worker remembers of domains.
struct inspection_memory {
    struct {
        char domain[MAIL_NAME_MAX];
        uint8_t len;
        bool takes_no_mail;
        struct mono until;
    } slots[INSPECTION_MEMORY_SLOTS];
};

struct inspection;

// The directory and its account, the memory and the cache outlive it. has_links: one-click unsubscribe is configured.
// NULL: the account wants none, or is none.
struct inspection *inspection_begin(const struct store_directory *directory, bool has_links,
                                    const struct store_account *account, struct dns_cache *dns,
                                    struct inspection_memory *memory);
void inspection_free(struct inspection *i); // NULL is fine
void inspection_feed(struct inspection *i, struct bytes piece);
// The content has ended. True: the DNS has not answered yet, done() comes within DNS_VERDICT_BUDGET_MS, or
// INSPECTION_WARN_PATIENCE_MS where findings only warn.
bool inspection_waits(struct inspection *i, void (*done)(void *ctx), void *ctx);
// Then, once: what was found of a message of that class, with this reverse-path.
void inspection_finish(struct inspection *i, enum mail_class class, struct bytes reverse_path,
                       struct preflight_result *out);

// What becomes of a message with such a verdict: PREFLIGHT_REFUSE is held or refused where the account says so.
bool inspection_is_refused(const struct inspection *i, const struct preflight_result *result);
bool inspection_is_held(const struct inspection *i, const struct preflight_result *result);
