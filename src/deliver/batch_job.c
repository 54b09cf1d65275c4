// SPDX-License-Identifier: MIT
//
// How it works: what the queue decides by itself (lifetime over, delay to be told, domain undeliverable, route
// gone) needs the message's envelope for its record and its notification; so it is loaded, then judged.
#include <stdio.h>
#include <stdlib.h>

#include "deliver/deliver_private.h"
#include "route/route.h"

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
    job->load = (struct batch_load){.port = d->options.port, .batch = work->batch, .done = on_loaded};
    list_push_back(&d->jobs, &job->item.link);
    batch_load_start(&job->load);
}
