// SPDX-License-Identifier: MIT
//
// relay_inside - what the files of the relay's first thread and main loop share
#pragma once

#include <stdatomic.h>

#include "api/api.h"
#include "api/unsubscribe.h"
#include "daemon/alert_watch.h"
#include "daemon/channel.h"
#include "daemon/dkim_keeper.h"
#include "daemon/memory_watch.h"
#include "daemon/relay.h"
#include "daemon/relay_files.h"
#include "daemon/roles.h"
#include "daemon/worker.h"
#include "intake/pickup.h"
#include "store/store.h"
#include "store/suppress.h"
#include "sys/sys_process.h"
#include "sys/sys_watch.h"

// What the guard has sent since the last COMMIT.
struct parts {
    struct buf config, certificate;
    struct buf started; // the text of the start of the service, for a relay that is not its first
    bool has_started;
    uint32_t key; // the number of the certificate's
    struct conf_host host;
    struct relay_files files;
    struct roles roles;
    struct buf users; // lines for guard_users_take()
    char name[CHANNEL_TEXT_MAX];
    struct worker_listener listeners[256];
    size_t count;
    int http, unsubscribe;
    bool incomplete; // something was lost on the way
};

// What is told by the spool: before the loops run, then on its loop.
struct recovery {
    struct conf_snapshot *snapshot; // held
    struct queue_now now;
    struct mono began;
    uint64_t messages;
    uint64_t kicks;              // of this slice
    struct sys_task task;        // on the main loop
    _Atomic uint64_t kicks_main; // for it; 0: it is not on its way
    _Atomic bool all;
};

struct relay {
    int channel;
    struct parts parts;
    struct relay_folders folders;
    struct ifaddrs *interfaces; // of the start: once shut in, it can't ask for them
    struct sys_loop *main, *dns_loop;
    struct conf_part *conf, *routes, *accounts, *bounces, *tls;
    struct net_tls_server *tls_server;
    struct conf_snapshot *snapshot;
    uint64_t generation; // of snapshots
    struct store *store;
    struct spool *spool;
    struct queue *queue;
    struct dns *dns;
    struct worker_shared shared;
    struct worker *workers[WORKERS_MAX];
    uint32_t workers_count;
    struct history *history;
    struct suppress *suppress;
    struct api *api;
    struct unsubscribe *unsubscribe; // NULL: nobody asked for it
    struct unsubscribe_counters unsubscribe_counters;
    struct pickup *pickup; // NULL: none
    struct pickup_counters pickup_counters;
    // main loop
    struct dkim_keeper *keeper;
    struct sys_watch *watch;
    struct sys_process *process; // opened before the relay is shut in
    struct memory_watch *memory;
    struct alert_watch *alerts;
    struct sys_timer grace, clock;
    void (*upgrade_decided)(void *ctx, int err, struct bytes why); // NULL: nobody waits
    void *upgrade_ctx;
    void (*reload_decided)(void *ctx, int err, struct bytes why); // NULL: nobody waits
    void *reload_ctx;
    struct sys_task start;
    struct recovery recovery;
    uint32_t drained;
    bool stopping, patient; // patient: a lock that is held is tried again
    int finished[2];        // a pipe: the first thread waits at its end
};

// ---- relay_apply.c: configurations and accounts, as they come; all on the main loop once that runs ----------

// Keeps a part, which it takes over; true at COMMIT.
bool relay_parts_take(struct parts *p, struct channel_message *m);
void relay_parts_clear(struct parts *p);
// What has come becomes the first configuration, with no accounts yet. As relay_parse_config() fails, and
// route_table_new(); `errors` says where.
int relay_apply_first(struct relay *r, struct buf *errors) MUST_USE;
// What has come replaces the configuration, whole or not at all; the guard is told which.
void relay_reload(struct relay *r);
// Takes over the directory; whoever holds an older snapshot keeps that.
void relay_set_accounts(struct relay *r, struct store_directory *directory);
// The API's hook after an operation that changed the store (api.h). Any thread.
void relay_accounts_changed(void *relay, struct store_directory *directory,
                            void (*done)(void *done_ctx), void *done_ctx);
void relay_load_authorities(struct relay *r);
// What the workers need of the listening sockets that have come: where they can be reached, too. E_IO: there are too few descriptors.
int relay_make_listeners(struct relay *r, struct worker_listeners *out[WORKERS_MAX]) MUST_USE;
// Takes them over.
void relay_apply_to_workers(struct relay *r, struct worker_listeners *made[WORKERS_MAX]);
// Accounts that the configuration names, and that are not there: they may still come, so it is no error.
void relay_warn_of_accounts(const struct relay *r);
void relay_tell_guard(struct relay *r, enum channel_kind kind, struct bytes text);
struct api_policy relay_policy(const struct relay *r);
struct auth_guard_limits relay_guard_limits(const struct conf *conf);
struct suppress_policy relay_suppress_policy(const struct conf *conf);
// ---- relay_reload.c: on the main loop -------------------------------------------------------------------------

// The API's hook (api.h).
void relay_ask_for_reload(void *relay, void (*decided)(void *ctx, int err, struct bytes why),
                          void *decided_ctx);
// The guard tells how a reload has ended.
void relay_reloaded(struct relay *r, struct bytes text);

// Looks after the DKIM keys from now on; and at once, when somebody asks (api.h).
void relay_start_keeper(struct relay *r);
void relay_look_after_keys(void *relay, void (*done)(void *ctx), void *done_ctx);
