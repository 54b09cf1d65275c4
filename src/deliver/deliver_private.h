// SPDX-License-Identifier: MIT
//
// deliver_private - what the files of deliver/ share of one worker's state
#pragma once

#include <stdatomic.h>

#include "base/map.h"
#include "deliver/batch_load.h"
#include "deliver/deliver.h"
#include "deliver/target.h"
#include "deliver/tls_fallback.h"

struct route;

struct deliver {
    struct deliver_options options;
    struct conf_snapshot *snapshot;
    struct reporter reporter;
    struct net_tls_client *tls;
    struct list connections; // struct connection, mailbox connections
    struct list jobs;        // struct batch_job, struct resolution
    struct map idle;         // lane pointer -> struct idle_lane
    struct tls_fallback tls_fallback;
    struct sys_loop *loop;
    struct sys_task kick;
    atomic_bool kicked;
    struct sys_timer timer;
    uint32_t judging; // batch jobs under way
    bool stopping;
};

// Makes the worker look at the queue again in a later turn.
static inline void deliver_later(struct deliver *d)
{
    deliver_kick(d);
}

static inline void deliver_count(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

// connection.c: an outgoing SMTP or LMTP connection for a lane. `route` is the target's, for its login.
void connection_start(struct deliver *d, const struct queue_work *work, const struct target *target,
                      const struct route *route);
// An idle one of this lane takes work; false: there is none.
bool connection_wake(struct deliver *d, struct queue_lane *lane, enum queue_proof proof);
// mailbox.c: the same for Maildir and discard routes.
void mailbox_start(struct deliver *d, const struct queue_work *work, const struct target *target,
                   const struct route *route);
// resolve.c
void resolve_start(struct deliver *d, const struct queue_work *work);
// batch_job.c: expiry, warning, failure, rerouting of a batch.
void batch_job_start(struct deliver *d, const struct queue_work *work);
// Looks up anew where the batch belongs, by the table that holds now; takes it over.
void batch_job_reroute(struct deliver *d, struct queue_batch *batch);

// Every kind of thing in the two lists begins with this, so that they can be dropped at the end.
struct deliver_item {
    struct list link;
    void (*stop)(struct deliver_item *item);  // no new work; end when the current is done
    void (*abort)(struct deliver_item *item); // end now, in this call
};
