// SPDX-License-Identifier: MIT
//
// intake - the one door in: SMTP sessions of one worker and the messages they hand over
//
// One per worker. A *gate* is a listener with the configuration it was opened under; a reload opens new gates and
// retires the old ones, whose sessions end under the rules they began with.
//
// Owner:  the worker; intake_free() once intake_is_idle() after intake_stop().
// Thread: the worker's.
#pragma once

#include "base/histogram.h"
#include "bounce/return_token.h"
#include "conf/conf_snapshot.h"
#include "dns/dns_cache.h"
#include "intake/acceptance.h"
#include "intake/auth.h"
#include "intake/rate_groups.h"
#include "net/net_listener.h"
#include "net/net_tls.h"

// What workers count for the metrics; read with relaxed atomics from any thread.
struct intake_counters {
    _Atomic uint64_t sessions, sessions_refused, tls_sessions;
    _Atomic uint64_t messages_accepted, recipients_accepted, bytes_accepted;
    struct histogram acceptance; // from the end of the content to the 250
    _Atomic uint64_t messages_refused, recipients_refused, recipients_suppressed;
    _Atomic uint64_t logins, logins_failed;
    _Atomic uint64_t not_kept; // messages that the spool refused since that began; 0: all is well
    _Atomic int64_t not_kept_last_us;
    _Atomic int64_t sessions_open;
    _Atomic uint64_t returns[FEEDBACK_KINDS]; // records of what came back
    _Atomic uint64_t returns_forged, returns_unmatched, returns_too_many;
};

struct history; // event/history.h

#define INTAKE_REFUSALS_LOGGED                                                                     \
    60 // lines a minute about refused commands of one address (IPv6: of its /64)

struct intake_options {
    struct intake_port *port;
    struct auth *auth;
    struct dns_cache *dns;
    struct net_limits *limits;
    uint32_t worker, workers; // its number among how many
    struct intake_counters *counters;
    struct rate_groups
        *refusal_rates; // of lines about refused commands, by address; NULL: no limit
    // for listeners with role: bounces
    const struct return_key *return_key;
    struct rate_groups *returns_rates; // by address
    struct history *history;           // asked whom a token names; NULL: nobody to ask
    uint8_t scram_secret[32];          // makes up keys for unknown logins, the same on every start
};

struct intake;

// On the worker's loop. Holds its own reference to the snapshot.
struct intake *intake_new(const struct intake_options *options, struct conf_snapshot *snapshot);
void intake_free(struct intake *in);
// A reload, first step: what follows is under this snapshot; all gates so far stop accepting.
void intake_set_snapshot(struct intake *in, struct conf_snapshot *snapshot);
// Only the accounts changed: gates stay, sessions look accounts up in the new ones.
void intake_set_accounts(struct intake *in, struct conf_snapshot *snapshot);
// Opens a gate for a listener of the current snapshot's configuration over `fd` (taken over). `tls` may be NULL
// when the listener has none; the gate holds a reference to `tls_part`, which keeps it alive.
void intake_open_gate(struct intake *in, const struct conf_listener *listener, int fd,
                      struct net_tls_server *tls, struct conf_part *tls_part);
// Stops accepting; sessions without a transaction get 421, others after theirs.
void intake_stop(struct intake *in);
bool intake_is_idle(const struct intake *in);
// Ends all sessions now (the end of the grace time), but for those that wait for the flush of a message: they end with
// its answer.
void intake_abort(struct intake *in);
