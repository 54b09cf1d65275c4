// SPDX-License-Identifier: MIT
#include "deliver/batch_load.h"

#include <stdlib.h>

static void settle_all(struct batch_load *load, enum queue_outcome outcome)
{
    uint64_t kicks = 0;
    struct queue_result result = {.outcome = outcome,
                                  .next_attempt_at = queue_retry_at(load->batch, sys_wall())};
    struct intake_port *port = load->port;
    queue_settle_all(port->queue, load->batch, result, acceptance_now(), &kicks);
    port->kick(port->kick_ctx, kicks);
}

static void on_removed(void *ctx, int err)
{
    struct batch_load *copy = ctx;
    if (err)
        log_warn("outcome not recorded", LOG_ERR(err));
    settle_all(copy, QUEUE_DONE);
    free(copy);
}

// The record was damaged on the disk; it has been set aside and reported. What is left is to say so.
static void remove_damaged(struct batch_load *load)
{
    struct spool_frame *frame = spool_frame_new(SPOOL_OUTCOME);
    for (uint32_t i = 0; i < load->batch->count; i++) {
        if (i > 0 && i % SPOOL_FRAME_RECORDS ==
                         0) { // frames are flushed in order: the last one speaks for all
            spool_commit(load->port->spool, frame, NULL, NULL);
            frame = spool_frame_new(SPOOL_OUTCOME);
        }
        struct spool_outcome outcome = {
            .id = load->batch->id,
            .recipient = load->batch->recipients[i].number,
            .state = RECIPIENT_REMOVED,
            .event = SPOOL_EVENT_REMOVED,
            .attempts = load->batch->recipients[i].attempts,
            .at = sys_wall(),
            .actor = BYTES("posthaste"),
            .reason = BYTES(
                "its record was damaged on the disk and is set aside in the spool's damaged/"),
        };
        spool_frame_add_outcome(frame, &outcome);
    }
    struct batch_load *copy = mem_new(sizeof *copy);
    copy->port = load->port;
    copy->batch = load->batch;
    spool_commit(load->port->spool, frame, on_removed, copy);
}

static void on_read(struct spool_read *read)
{
    struct batch_load *load = container_of(read, struct batch_load, read);
    load->pending = false;
    if (read->err == E_DAMAGED)
        remove_damaged(load);
    else if (read->err == E_NOT_FOUND)
        settle_all(load, QUEUE_DONE); // settled already
    else if (read->err)
        settle_all(load, QUEUE_DEFERRED); // the disk: later
    load->done(load, read->err ? NULL : read->message);
}

void batch_load_start(struct batch_load *load)
{
    if (load->batch->stored) {
        load->done(load, stored_message_ref(load->batch->stored));
        return;
    }
    load->pending = true;
    load->read = (struct spool_read){.id = load->batch->id, .done = on_read};
    spool_read(load->port->spool, &load->read);
}
