// SPDX-License-Identifier: MIT
//
// acceptance - makes a message durable and puts it into the queue; the only way in for mail of any origin
//
// The frame may hold more than the message (a failure's outcome and the notification about it): all of it
// becomes durable together, then the message is queued, then done() is told.
//
// Thread: any loop; done() runs there.
#pragma once

#include "queue/queue.h"
#include "spool/spool.h"

// What intake and deliver share of the running relay; one for all workers, outlives them.
struct intake_port {
    struct spool *spool;
    struct queue *queue;
    void (*kick)(void *ctx,
                 uint64_t workers); // have these workers (bits) ask queue_next(); any thread
    void *kick_ctx;
};

// Both clocks of this turn.
struct queue_now acceptance_now(void);

// Takes over one reference to m and the frame (which has m already). routes[i] is the queue's route key of
// recipient i (copied). done(ctx, err): OK after the flush; otherwise as spool_commit().
void acceptance_commit(struct intake_port *port, struct spool_frame *frame,
                       struct stored_message *m, const uint32_t *routes,
                       void (*done)(void *ctx, int err), void *ctx);
// Puts a message found by recovery into the queue; route_of gives a recipient's route key.
void acceptance_recover(struct intake_port *port, const struct spool_summary *summary,
                        struct queue_now now,
                        uint32_t (*route_of)(void *ctx, const struct spool_summary *summary,
                                             const struct spool_summary_recipient *recipient),
                        void *ctx);
