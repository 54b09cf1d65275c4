// SPDX-License-Identifier: MIT
//
// worker - one loop with its sessions (intake) and its outgoing connections (deliver)
//
// Everything here is asked from the main loop and happens on the worker's; what is handed over (snapshots,
// descriptors) is the worker's from then on.
#pragma once

#include "deliver/deliver.h"
#include "intake/intake.h"

#define WORKERS_MAX QUEUE_WORKERS_MAX

// What all workers share; outlives them.
struct worker_shared {
    struct intake_port port;
    struct auth *auth;
    struct dns_cache *dns;
    struct net_limits *limits;
    uint32_t workers; // how many
    // Opens a worker's line to the private keys, on its loop; NULL: none (the simulator has no TLS).
    int (*open_signer)(int channel);
    int channel; // to the guard
    struct net_tls_authorities *authorities;
    struct history *history;
    struct trace *trace;
    struct intake_counters intake_counters;
    struct deliver_counters deliver_counters;
    struct rate_groups returns_rates, refusal_rates;
    struct return_key return_key;
    uint8_t scram_secret[32];
    bool cut; // the grace time ended before the workers were idle: they are left as they are
};

struct worker;

// A listening socket as the guard passed it.
struct worker_listener {
    char name[64];
    int fd;
};

// Starts the loop of worker `number`; it does nothing until the first worker_apply().
struct worker *worker_start(struct worker_shared *shared, uint32_t number);
// Dups of the descriptors, for one worker, and where they can be reached. NULL: the process has no descriptors left.
struct worker_listeners;
struct worker_listeners *worker_listeners_new(const struct worker_listener *from, size_t count,
                                              const struct deliver_selves *selves);
void worker_listeners_free(struct worker_listeners *l);
// Takes over configuration and listeners: all gates are opened anew. `tls` may be NULL; tls_part keeps it alive.
// References are taken, and the listeners.
void worker_apply(struct worker *w, struct conf_snapshot *snapshot, struct net_tls_server *tls,
                  struct conf_part *tls_part, struct worker_listeners *listeners);
// Only the accounts changed. done(ctx) runs on the worker's loop once it goes by them.
void worker_set_accounts(struct worker *w, struct conf_snapshot *snapshot, void (*done)(void *ctx),
                         void *ctx);
// The queue has work for it. Any thread.
void worker_kick(struct worker *w);
// Memory is short: has it give back what its heap does not use. Any thread.
void worker_give_back(struct worker *w);
// Drains: done(ctx) is posted to the main loop once nothing is under way.
void worker_drain(struct worker *w, struct sys_loop *main_loop, void (*done)(void *ctx), void *ctx);
// The grace time is over: what is under way is dropped, then done() follows.
void worker_abort(struct worker *w);
// After done(): ends the loop and frees the worker, unless shared->cut. Not on a loop.
void worker_free(struct worker *w);
