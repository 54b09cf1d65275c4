// SPDX-License-Identifier: MIT
//
// deliver - the one door out: does what the queue says is next for one worker
//
// One per worker. It resolves domains, opens connections for lanes, hands them batches, and reports what became
// of each recipient. Work comes from queue_next(); whoever makes work for this worker calls deliver_kick().
//
// Owner:  the worker; deliver_free() once deliver_is_idle() after deliver_stop().
// Thread: the worker's, but deliver_kick(): any.
#pragma once

#include "bounce/return_token.h"
#include "conf/conf_snapshot.h"
#include "deliver/report.h"
#include "deliver/signature.h"
#include "dns/dns_cache.h"
#include "net/net_tls.h"

#define DELIVER_TURN_WORK 128    // pieces of work between two looks at the sockets
#define DELIVER_JUDGING_MAX 64   // batches that expire, fail or are warned of at a time
#define DELIVER_CONNECT_MS 30000 // one address
#define DELIVER_IDLE_MS 5000     // an open connection without work is kept this long
#define DELIVER_SELVES_MAX 256

// What workers count for the metrics; read with relaxed atomics from any thread.
struct deliver_counters {
    _Atomic uint64_t connections_opened, connections_tls, connections_failed, transactions,
        recipients[VERDICTS]; // by verdict_kind
    _Atomic uint64_t bytes_sent;
    struct report_counters reasons;
    struct signature_counters signatures;
};

struct history; // event/history.h
struct trace;   // deliver/trace.h

// Addresses and ports that are ours: mail must not be sent there (5.4.6).
struct deliver_selves {
    struct sys_addr at[DELIVER_SELVES_MAX];
    uint32_t count;
};

struct deliver_options {
    struct intake_port *port;
    uint32_t worker; // its number in the queue
    struct dns_cache *dns;
    struct net_tls_authorities *authorities; // NULL: nothing can be verified
    const struct return_key *return_key;     // of return paths and unsubscribe links
    struct history *history;                 // asked for the last answers; NULL: nobody to ask
    struct trace *trace;                     // keeps the dialogues; NULL: nobody
    struct deliver_counters *counters;
    const struct deliver_selves *selves; // borrowed; may change between turns. NULL: none
};

struct deliver;

// On the worker's loop. Holds its own reference to the snapshot.
struct deliver *deliver_new(const struct deliver_options *options, struct conf_snapshot *snapshot);
void deliver_free(struct deliver *d);
// A reload: routes and policies of the new snapshot hold from the next attempt on.
void deliver_set_snapshot(struct deliver *d, struct conf_snapshot *snapshot);
// Authorities to verify against, when there were none so far: for connections made from now on.
void deliver_set_authorities(struct deliver *d, struct net_tls_authorities *authorities);
// There is work: looks at the queue in one of the worker's next turns. Any thread; cheap when repeated.
void deliver_kick(struct deliver *d);
// Starts no more work; transactions under way go on, idle connections quit.
void deliver_stop(struct deliver *d);
// After deliver_stop(): nothing is under way and all outcomes are flushed.
bool deliver_is_idle(const struct deliver *d);
// Drops what is still under way (the end of the grace time): its recipients stay queued.
void deliver_abort(struct deliver *d);
