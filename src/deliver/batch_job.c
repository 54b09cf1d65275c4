// SPDX-License-Identifier: MIT
//
// How it works: what the queue decides by itself (lifetime over, delay to be told, domain undeliverable, route
// gone) needs the message's envelope for its record and its notification; so it is loaded, then judged.
#include <stdio.h>
#include <stdlib.h>

#include "deliver/deliver_private.h"
#include "route/route.h"

// ---- loading -------------------------------------------------------------------------------------------

static void settle_all(struct batch_load *load, enum queue_outcome outcome)
{
    uint64_t kicks = 0;
    struct queue_result result = {.outcome = outcome,
                                  .next_attempt_at = queue_retry_at(load->batch, sys_wall())};
    struct intake_port *port = load->deliver->options.port;
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
    for (uint32_t i = 0; i < load->batch->count && i < SPOOL_FRAME_RECORDS; i++) {
        struct spool_outcome outcome = {
            .id = load->batch->id,
            .recipient = load->batch->recipients[i].number,
            .state = RECIPIENT_REMOVED,
            .event = SPOOL_EVENT_REMOVED,
            .attempts = load->batch->recipients[i].attempts,
            .at = sys_wall(),
            .actor = BYTES("posthaste"),
            .reason = BYTES("its record was damaged on the disk and is set aside in the spool's damaged/"),
        };
        spool_frame_add_outcome(frame, &outcome);
    }
    struct batch_load *copy = mem_new(sizeof *copy);
    copy->deliver = load->deliver;
    copy->batch = load->batch;
    spool_commit(load->deliver->options.port->spool, frame, on_removed, copy);
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
    spool_read(load->deliver->options.port->spool, &load->read);
}

// ---- judging -------------------------------------------------------------------------------------------

struct batch_job {
    struct deliver_item item;
    struct deliver *deliver;
    struct batch_load load;
    enum queue_work_kind kind;
    uint16_t code;
    char enhanced[16];
    char text[QUEUE_TEXT_MAX + 1];
};

static void reroute(struct batch_job *job, struct stored_message *message)
{
    struct deliver *d = job->deliver;
    struct queue_batch *batch = job->load.batch;
    const struct route_table *routes = d->snapshot->routes;
    const struct envelope *e = message->envelope;
    struct queue_result *results = mem_new(batch->count * sizeof *results);
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct recipient *r = report_recipient(e, batch->recipients[i].number);
        struct route_question question = {.recipient = r ? r->address : BYTES_NONE,
                                          .domain = r ? r->domain : BYTES_NONE,
                                          .sender = e->reverse_path,
                                          .account = e->account_name,
                                          .listener = e->listener};
        results[i] = (struct queue_result){.outcome = QUEUE_REROUTED,
                                           .route = route_key(routes, route_pick(routes, &question))};
    }
    uint64_t kicks = 0;
    struct intake_port *port = d->options.port;
    queue_settle(port->queue, batch, results, acceptance_now(), &kicks);
    port->kick(port->kick_ctx, kicks);
    free(results);
}

static struct verdict verdict_of(const struct batch_job *job)
{
    switch (job->kind) {
    case QUEUE_EXPIRE:
        return verdict_make(VERDICT_EXPIRED, 0, "5.4.7",
                            BYTES("the message could not be delivered within its lifetime"));
    case QUEUE_WARN:
        return verdict_make(VERDICT_WARNED, 0, "4.4.7", bytes_cstr(job->text));
    default:
        return verdict_make(VERDICT_FAILED, job->code, job->enhanced, bytes_cstr(job->text));
    }
}

static void judge(struct batch_job *job, struct stored_message *message)
{
    struct queue_batch *batch = job->load.batch;
    struct verdict *verdicts = mem_new(batch->count * sizeof *verdicts);
    for (uint32_t i = 0; i < batch->count; i++) {
        verdicts[i] = verdict_of(job);
        atomic_fetch_add_explicit(&job->deliver->options.counters->recipients[verdicts[i].kind], 1,
                                  memory_order_relaxed);
    }
    report_batch(&job->deliver->reporter, batch, message, verdicts, &(struct report_facts){0});
    free(verdicts);
}

static void on_loaded(struct batch_load *load, struct stored_message *message)
{
    struct batch_job *job = container_of(load, struct batch_job, load);
    if (message && job->kind == QUEUE_REROUTE)
        reroute(job, message);
    else if (message)
        judge(job, message);
    stored_message_unref(message);
    list_remove(&job->item.link);
    free(job);
}

static void on_stop(struct deliver_item *item)
{
    (void)item; // it ends by itself
}

void batch_job_start(struct deliver *d, const struct queue_work *work)
{
    struct batch_job *job = mem_new(sizeof *job);
    job->item = (struct deliver_item){.stop = on_stop, .abort = on_stop};
    job->deliver = d;
    job->kind = work->kind;
    job->code = work->code;
    snprintf(job->enhanced, sizeof job->enhanced, "%s", work->enhanced);
    snprintf(job->text, sizeof job->text, "%s", work->text);
    job->load = (struct batch_load){.deliver = d, .batch = work->batch, .done = on_loaded};
    list_push_back(&d->jobs, &job->item.link);
    batch_load_start(&job->load);
}
