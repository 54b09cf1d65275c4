// SPDX-License-Identifier: MIT
//
// api - HTTP for people's tools: the control socket, and metrics and health over TCP
//
// Two libmicrohttpd daemons with a thread each. The control socket is a Unix socket (who asks is known by
// SO_PEERCRED: api_access.h); what it does to queue and spool happens on the main loop,
// the request waiting suspended meanwhile. The TCP listener answers /metrics, /healthz and /readyz only.
//
// Control requests (docs/INTERFACE.md has the objects):
//     POST /v1/store {op, args}             GET /v1/message?id=         GET /v1/messages?recipient=...
//     GET  /v1/why?id=&recipient=           GET /v1/queue?...           GET /v1/lanes
//     POST /v1/queue {action, id|domain|account|recipient|all, dry_run}
//     GET  /v1/history?recipient=...
//     GET  /v1/events?after=&max=           POST /v1/backup {to}        GET /metrics /healthz /readyz
//     GET  /v1/service                      POST /v1/upgrade              POST /v1/suppress {op, args}
//     GET  /v1/domain-check?domain=&account=  GET /v1/mailq?cursor=
//     POST /v1/dkim                         GET /v1/alerts
//
// Owner: the daemon. Thread: start and stop outside the loops; api_set_snapshot() on the main loop.
#pragma once

#include "api/alert.h"
#include "api/api_access.h"
#include "api/domain_check.h"
#include "api/unsubscribe.h"
#include "conf/conf_snapshot.h"
#include "deliver/deliver.h"
#include "event/history.h"
#include "intake/intake.h"
#include "intake/pickup.h"
#include "store/store.h"
#include "sys/sys_process.h"

struct api;

struct api_options {
    int http_fd;          // bound and listening, taken over; -1: none
    struct bytes control; // path of the Unix socket; made anew
    struct store *store;
    struct intake_port *port;
    struct history *history;
    struct trace *trace; // the dialogues of last attempts (deliver/trace.h)
    struct sys_loop *main;
    struct net_limits *limits;
    const struct intake_counters *intake_counters;
    const struct deliver_counters *deliver_counters;
    const struct unsubscribe_counters *unsubscribe_counters;
    const struct pickup_counters *pickup_counters;
    const struct alerts *alerts; // changed on the main loop
    struct sys_process *process; // memory and descriptors
    struct api_policy policy;
    int landlock; // the version that shuts the process in; 0: none does
    // The store has changed; on the control thread. The receiver owns the directory. done() is called once, on any
    // thread, when every session goes by it.
    void (*accounts_changed)(void *ctx, struct store_directory *directory,
                             void (*done)(void *done_ctx), void *done_ctx);
    // What our listeners show; on the main loop.
    void (*certificate)(void *ctx, struct domain_certificate *out);
    // Asks for the installed program to take over; on the main loop. decided() is called there, at once or later:
    // OK when this relay is about to end for it, else why not.
    void (*upgrade)(void *ctx, void (*decided)(void *decided_ctx, int err, struct bytes why),
                    void *decided_ctx);
    // Has the configuration read again; on the main loop. decided() as above; OK: why names what needs a restart.
    void (*reload)(void *ctx, void (*decided)(void *decided_ctx, int err, struct bytes why),
                   void *decided_ctx);
    // Looks after the DKIM keys now (daemon/dkim_keeper.h); on the main loop. done() follows.
    void (*look_after_keys)(void *ctx, void (*done)(void *done_ctx), void *done_ctx);
    void *ctx;
};

// E_BUSY (another process serves the control socket), E_DENIED, E_IO.
int api_start(const struct api_options *options, struct conf_snapshot *snapshot,
              struct api **out) MUST_USE;
// From now on requests see this snapshot. On the main loop.
void api_set_snapshot(struct api *api, struct conf_snapshot *snapshot);
// Who may do what, from now on. On the main loop.
void api_set_policy(struct api *api, const struct api_policy *policy);
// Answers what is under way, then ends. The main loop must still run. False: a request did not come to an end in
// time; the API still runs, and nothing that it uses may be freed.
bool api_stop(struct api *api);
