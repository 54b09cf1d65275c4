// SPDX-License-Identifier: MIT
#include "deliver/batch_load.h"

#include <stdlib.h>

#include "base/log.h"
#include "deliver/report.h"
#include "store/suppress.h"

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

// ---- the suppression list --------------------------------------------------------------------------------

struct removal {
    struct batch_load *load;
    bool found[]; // of the batch's recipients
};

static void finish(struct batch_load *load, struct stored_message *message)
{
    struct stored_message *loaded = load->message;
    load->pending = false;
    load->message = NULL;
    if (!message)
        stored_message_unref(loaded);
    load->done(load, message);
}

static void on_suppressed_removed(void *ctx, int err)
{
    struct removal *r = ctx;
    struct batch_load *load = r->load;
    struct queue_batch *batch = load->batch;
    struct intake_port *port = load->port;
    struct queue_result *results = mem_new(batch->count * sizeof *results);
    uint64_t kicks = 0;
    if (err) // only while stopping: the next start looks again
        log_warn("outcome not recorded", LOG_ERR(err));
    for (uint32_t i = 0; i < batch->count; i++)
        results[i].outcome = r->found[i] ? QUEUE_DONE : QUEUE_UNTRIED;
    queue_settle(port->queue, batch, results, acceptance_now(), &kicks);
    port->kick(port->kick_ctx, kicks);
    free(results);
    free(r);
    finish(load, NULL);
}

static void record_removal(const struct batch_load *load, uint32_t i,
                           const struct suppress_hit *hit, struct spool_frame *frame)
{
    const struct envelope *e = load->message->envelope;
    const struct recipient *to = report_recipient(e, load->batch->recipients[i].number);
    char id[MESSAGE_ID_CHARS + 1];
    struct buf reason = {0};
    buf_add_cstr(&reason, "suppressed: ");
    suppress_hit_format(hit, e->account_name, &reason);
    struct spool_outcome outcome = {.id = load->batch->id,
                                    .recipient = load->batch->recipients[i].number,
                                    .state = RECIPIENT_REMOVED,
                                    .event = SPOOL_EVENT_REMOVED,
                                    .attempts = load->batch->recipients[i].attempts,
                                    .at = sys_wall(),
                                    .actor = BYTES("posthaste"),
                                    .text = buf_bytes(&reason),
                                    .reason = BYTES("suppressed")};
    spool_frame_add_outcome(frame, &outcome);
    message_id_format(e->id, id);
    log_info("recipient", LOG_CSTR("id", id), LOG_STR("to", to ? to->address : BYTES_NONE),
             LOG_CSTR("outcome", "removed"), LOG_STR("because", buf_bytes(&reason)));
    buf_done(&reason);
}

static void remove_suppressed(struct batch_load *load, const struct suppress_hit *hits)
{
    struct queue_batch *batch = load->batch;
    struct spool_frame *frame = spool_frame_new(SPOOL_OUTCOME);
    struct removal *r = mem_new(sizeof *r + batch->count * sizeof r->found[0]);
    uint32_t records = 0;
    r->load = load;
    for (uint32_t i = 0; i < batch->count; i++) {
        r->found[i] = hits[i].found;
        if (!hits[i].found)
            continue;
        if (records && records % SPOOL_FRAME_RECORDS == 0) { // the last frame speaks for all
            spool_commit(load->port->spool, frame, NULL, NULL);
            frame = spool_frame_new(SPOOL_OUTCOME);
        }
        record_removal(load, i, &hits[i], frame);
        records++;
    }
    suppress_count_removed(load->port->suppress, records);
    spool_commit(load->port->spool, frame, on_suppressed_removed, r);
}

static void on_looked_up(void *ctx, int err, const struct suppress_hit *hits)
{
    struct batch_load *load = ctx;
    bool any = false;
    for (uint32_t i = 0; i < load->batch->count && !err; i++)
        any = any || hits[i].found;
    if (any) {
        remove_suppressed(load, hits);
    } else if (err) { // nothing goes out while it is not known who must not get it
        settle_all(load, QUEUE_DEFERRED);
        finish(load, NULL);
    } else {
        finish(load, load->message);
    }
}

static struct bytes address_of(const struct batch_load *load, uint32_t i)
{
    const struct recipient *r =
        report_recipient(load->message->envelope, load->batch->recipients[i].number);
    return r ? r->address : BYTES_NONE;
}

static bool may_be_suppressed(const struct batch_load *load)
{
    const struct envelope *e = load->message->envelope;
    for (uint32_t i = 0; i < load->batch->count; i++)
        if (suppress_may_hit(load->port->suppress, e->account, e->tag, address_of(load, i)))
            return true;
    return false;
}

// The message is there; may it go to all of them?
static void on_message(struct batch_load *load, struct stored_message *message)
{
    load->message = message;
    if (!message || !load->delivers || !load->port->suppress || !may_be_suppressed(load)) {
        finish(load, message);
        return;
    }
    const struct envelope *e = message->envelope;
    struct bytes *addresses = mem_new(load->batch->count * sizeof *addresses);
    for (uint32_t i = 0; i < load->batch->count; i++)
        addresses[i] = address_of(load, i);
    load->pending = true;
    suppress_ask(load->port->suppress, e->account, e->tag, addresses, load->batch->count,
                 on_looked_up, load);
    free(addresses);
}

// ---- loading ---------------------------------------------------------------------------------------------

// The disk does not give it: later. What an operator does is no attempt, and what he holds stays held.
static void settle_unread(struct batch_load *load)
{
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(load->batch->id, id);
    log_warn("message not read", LOG_CSTR("id", id), LOG_ERR(load->read.err));
    settle_all(load, load->claimed ? QUEUE_KEPT : QUEUE_DEFERRED);
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
        settle_unread(load);
    on_message(load, read->err ? NULL : read->message);
}

void batch_load_start(struct batch_load *load)
{
    if (load->batch->stored) {
        on_message(load, stored_message_ref(load->batch->stored));
        return;
    }
    load->pending = true;
    load->read = (struct spool_read){.id = load->batch->id, .done = on_read};
    spool_read(load->port->spool, &load->read);
}
