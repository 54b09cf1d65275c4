// SPDX-License-Identifier: MIT
//
// dkim_keeper - sees to DKIM's keys: made where they are missing or too old, used once they are published, removed
//
// It goes round every dkim.check_every, and when asked to: looks into the store, has keys made by the signer, one after
// the other, asks the DNS for the records of new keys, and applies what came out as operations of the store, audited
// like anybody's. A key that is `new` becomes `active` when its record is seen; the one before it is `old` for
// dkim.grace.
//
// Owner:    the relay, one. Thread: the main loop, which needs a line to the signer (daemon/signer.h).
// Limits:   KEEPER_KIND_MAX records to look for and keys to remove in a round; the next one asks the DNS about the keys
//           behind those asked about before: keys that nobody ever publishes keep no other waiting. KEEPER_MAKES_MAX
//           keys to make of each algorithm, as they take long; where there are more the next round follows at once.
#pragma once

#include "conf/conf_snapshot.h"
#include "dns/dns.h"
#include "store/store.h"

#define KEEPER_KIND_MAX 500
#define KEEPER_MAKES_MAX 50
#define KEEPER_ROUND_MAX (2 * KEEPER_KIND_MAX + 2 * KEEPER_MAKES_MAX)
#define KEEPER_DNS_MS 15000

struct dkim_keeper_options {
    struct store *store;
    struct dns *dns;
    void (*changed)(void *ctx); // the store has changed; on an offload thread
    void *ctx;
};

struct dkim_keeper;
struct dkim_keeper *dkim_keeper_new(const struct dkim_keeper_options *options,
                                    struct conf_snapshot *snapshot);
// A reload. Holds its own reference.
void dkim_keeper_set_snapshot(struct dkim_keeper *k, struct conf_snapshot *snapshot);
// Goes round now, or once more after the round that is under way. `ask_dns`: looks for new keys' records, too.
// done(ctx) follows, once (NULL: nobody waits).
void dkim_keeper_run(struct dkim_keeper *k, bool ask_dns, void (*done)(void *ctx), void *ctx);
// No more rounds; what is under way is cut short. done(ctx) once it is at its end, maybe at once.
void dkim_keeper_stop(struct dkim_keeper *k, void (*done)(void *ctx), void *ctx);
