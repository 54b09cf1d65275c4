// SPDX-License-Identifier: MIT
//
// acceptance - makes a message durable and puts it into the queue; the only way in for mail of any origin
//
// The frame may hold more than the message (a failure's outcome and the notification about it): all of it
// becomes durable together, then the message is queued, then done() is told.
//
// Thread: any loop; done() runs there.
#pragma once

#include "intake/wall_jumps.h"

// What intake and deliver share of the running relay; one for all workers, outlives them.
struct intake_port {
    struct spool *spool;
    struct queue *queue;
    void (*kick)(void *ctx,
                 uint64_t workers); // have these workers (bits) ask queue_next(); any thread
    void *kick_ctx;
    struct wall_jumps jumps;
    struct suppress *suppress;          // NULL: no list
    bool (*memory_is_short)(void *ctx); // any thread; NULL: never
    void *memory_ctx;
};

// False: MAIL is answered 452 4.3.1, as the spool takes nothing or memory is short. Any thread.
static inline bool intake_port_accepts(const struct intake_port *port)
{
    return spool_accepting(port->spool) &&
           !(port->memory_is_short && port->memory_is_short(port->memory_ctx));
}

// Both clocks of this turn.
struct queue_now acceptance_now(void);

// Takes over one reference to m and the frame (which has m already). routes[i] is the queue's route key of
// recipient i (copied). done(ctx, err): OK after the flush; otherwise as spool_commit(). The envelope's
// wall_jumped_ms is wall_jumps_now() of when it was accepted.
void acceptance_commit(struct intake_port *port, struct spool_frame *frame,
                       struct stored_message *m, const uint32_t *routes,
                       void (*done)(void *ctx, int err), void *ctx);
// Puts a message found by recovery into the queue; route_of gives a recipient's route key. The spool's notes have
// been told before: its lifetime is not charged for jumps of the wall clock, and no attempt is farther away than
// retry_max_ms. Past its lifetime, it gets time for an attempt (queue.h, `spared`), unless its sender wants it back in
// time. ORs into *kicks the workers that have something new to do.
void acceptance_recover(struct intake_port *port, const struct spool_summary *summary,
                        struct queue_now now, int64_t retry_max_ms,
                        uint32_t (*route_of)(void *ctx, const struct spool_summary *summary,
                                             const struct spool_summary_recipient *recipient),
                        void *ctx, uint64_t *kicks);
