// SPDX-License-Identifier: MIT
//
// store_dkim - what is to be done about DKIM's keys
//
// The operations on keys are store.h's; this looks for their occasions.
#pragma once

#include "store/store.h"

enum store_dkim_what {
    STORE_DKIM_MAKE, // a domain has no key of that algorithm, or its key is too old, and none is on its way
    STORE_DKIM_CHECK,  // a new key: is its record in the DNS?
    STORE_DKIM_REMOVE, // an old key whose grace time is over
};

struct store_dkim_due {
    enum store_dkim_what what;
    struct bytes account, domain;  // account empty: the service's own
    bool ed25519;                  // MAKE
    int64_t number;                // CHECK, REMOVE: rises from one to the next
    struct bytes selector, record; // CHECK
};

struct store_dkim_query {
    bool rsa, ed25519;           // the algorithms that domains are to have keys of
    struct bytes service_domain; // is to have keys, too; empty: none
    struct wall made_before;     // keys that sign since before then are too old
    struct wall old_before;      // keys that are old since before then have had their grace time
    bool pairs;                  // names are fixed: the next key waits until the old one is removed
    int64_t checked;             // CHECK begins behind this number and goes round
    size_t each_max, makes_max;  // of CHECK and REMOVE; of MAKE, of one algorithm
};

// Calls each(ctx, due) for each that is due, up to so many of a kind: none keeps another out; slices are borrowed for the call. As store_apply() in all else. E_IO, E_DAMAGED.
int store_dkim_look(struct store *store, const struct store_dkim_query *query,
                    void (*each)(void *ctx, const struct store_dkim_due *due), void *ctx) MUST_USE;
