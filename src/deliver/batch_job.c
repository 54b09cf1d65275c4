// SPDX-License-Identifier: MIT
//
// How it works: what the queue decides by itself (lifetime over, delay to be told, domain undeliverable, route
// gone) needs the message's envelope for its record and its notification; so it is loaded, then judged.
#include <stdio.h>
#include <stdlib.h>

#include "deliver/deliver_private.h"
#include "deliver/last_answers.h"
#include "route/route.h"

// ---- judging -------------------------------------------------------------------------------------------

struct batch_job {
    struct deliver_item item;
    struct sys_job ask; // the history, on the pool
    struct stored_message *message;
    struct last_answers *last; // NULL: not asked
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
        results[i] = (struct queue_result){
            .outcome = QUEUE_REROUTED, .route = route_key(routes, route_pick(routes, &question))};
    }
    uint64_t kicks = 0;
    struct intake_port *port = d->options.port;
    queue_settle(port->queue, batch, results, acceptance_now(), &kicks);
    port->kick(port->kick_ctx, kicks);
    free(results);
}

// "WHAT; the last attempt: ANSWER": the server's answer to this recipient, or why its site can't be reached.
static struct verdict with_last_answer(const struct batch_job *job, uint32_t i,
                                       enum verdict_kind kind, const char *enhanced,
                                       const char *what)
{
    const char *answer = last_answers_text(job->last, i), *last = answer[0] ? answer : job->text;
    char text[VERDICT_TEXT_MAX + 1];
    snprintf(text, sizeof text, "%s%s%.400s", what, last[0] ? "; the last attempt: " : "", last);
    return verdict_make(kind, 0, enhanced, bytes_cstr(text));
}

static struct verdict verdict_of(const struct batch_job *job, uint32_t i)
{
    const struct envelope *e = job->message->envelope;
    bool by_time = e->by_mode == BY_RETURN && e->expires_at.us == e->deliver_by.us;
    switch (job->kind) {
    case QUEUE_EXPIRE: // RFC 2852 section 4: the same status
        return with_last_answer(job, i, VERDICT_EXPIRED, "5.4.7",
                                by_time ? VERDICT_NOT_IN_TIME
                                        : "the message could not be delivered within its lifetime");
    case QUEUE_WARN:
        return with_last_answer(job, i, VERDICT_WARNED, "4.4.7",
                                "the message could not be delivered yet");
    default:
        return verdict_make(VERDICT_FAILED, job->code, job->enhanced, bytes_cstr(job->text));
    }
}

static void judge(struct batch_job *job, struct stored_message *message)
{
    struct queue_batch *batch = job->load.batch;
    struct verdict *verdicts = mem_new(batch->count * sizeof *verdicts);
    for (uint32_t i = 0; i < batch->count; i++) {
        verdicts[i] = verdict_of(job, i);
        deliver_count(&job->deliver->options.counters->recipients[verdicts[i].kind], 1);
    }
    report_batch(&job->deliver->reporter, batch, message, verdicts, &(struct report_facts){0});
    free(verdicts);
}

static void job_finish(struct batch_job *job)
{
    struct deliver *d = job->deliver;
    stored_message_unref(job->message);
    list_remove(&job->item.link);
    if (d->judging-- == DELIVER_JUDGING_MAX)
        deliver_later(d); // it had stopped asking for these
    last_answers_free(job->last);
    free(job);
}

// ---- the last answers, from the history ------------------------------------------------------------------

static void on_history_message(void *ctx, const struct history_message *message)
{
    (void)ctx;
    (void)message;
}

static void on_history_event(void *ctx, const struct history_event *event)
{
    struct batch_job *job = ctx;
    last_answers_note(job->last, event);
}

// Only a last answer that is a moment old is waited for. What is not found is not told.
static void ask_history(struct sys_job *ask)
{
    struct batch_job *job = container_of(ask, struct batch_job, ask);
    struct history *h = job->deliver->options.history;
    struct history_reader reader = {job, on_history_message, on_history_event};
    (void)!history_show(h, job->load.batch->id, &reader);
    if (!last_answers_has_all(job->last) && history_wait(h) == OK)
        (void)!history_show(h, job->load.batch->id, &reader);
}

static void on_history_asked(struct sys_job *ask)
{
    struct batch_job *job = container_of(ask, struct batch_job, ask);
    judge(job, job->message);
    job_finish(job);
}

static bool wants_last_answer(const struct batch_job *job)
{
    return job->deliver->options.history && (job->kind == QUEUE_EXPIRE || job->kind == QUEUE_WARN);
}

static void on_loaded(struct batch_load *load, struct stored_message *message)
{
    struct batch_job *job = container_of(load, struct batch_job, load);
    job->message = message;
    if (message && wants_last_answer(job)) {
        job->last = last_answers_new(load->batch);
        job->ask.kind = SYS_JOB_DISK;
        job->ask.run = ask_history;
        job->ask.done = on_history_asked;
        sys_offload(&job->ask);
        return;
    }
    if (message && job->kind == QUEUE_REROUTE)
        reroute(job, message);
    else if (message)
        judge(job, message);
    job_finish(job);
}

static void on_stop(struct deliver_item *item)
{
    (void)item; // it ends by itself
}

static struct batch_job *job_new(struct deliver *d, enum queue_work_kind kind,
                                 struct queue_batch *batch)
{
    struct batch_job *job = mem_new(sizeof *job);
    job->item = (struct deliver_item){.stop = on_stop, .abort = on_stop};
    job->deliver = d;
    job->kind = kind;
    job->load = (struct batch_load){.port = d->options.port, .batch = batch, .done = on_loaded};
    list_push_back(&d->jobs, &job->item.link);
    d->judging++;
    return job;
}

void batch_job_start(struct deliver *d, const struct queue_work *work)
{
    struct batch_job *job = job_new(d, work->kind, work->batch);
    job->code = work->code;
    snprintf(job->enhanced, sizeof job->enhanced, "%s", work->enhanced);
    snprintf(job->text, sizeof job->text, "%s", work->text);
    batch_load_start(&job->load);
}

void batch_job_reroute(struct deliver *d, struct queue_batch *batch)
{
    batch_load_start(&job_new(d, QUEUE_REROUTE, batch)->load);
}
