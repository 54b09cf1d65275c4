// SPDX-License-Identifier: MIT
//
// How it works: a Maildir or discard route is a lane like any other, so that limits, turns and "why" hold for it
// too; its connection is one message at a time into the folders of its recipients.
#include <stdlib.h>

#include "deliver/deliver_private.h"
#include "deliver/maildir.h"
#include "route/route.h"

struct mailbox {
    struct deliver_item item;
    struct deliver *deliver;
    struct queue_connection slot;
    enum target_kind kind;
    struct arena arena;
    struct bytes lane, pattern;
    struct queue_batch *batch;
    struct batch_load load;
    struct stored_message *message;
    struct verdict *verdicts;
    uint32_t current;
    struct maildir_delivery delivery;
    bool stopping, busy;
    struct sys_task next; // the next message in another turn, so that a large queue starves nobody
    bool posted;
};

static void take_next(struct mailbox *m);

static void mailbox_free(struct mailbox *m)
{
    uint64_t kicks = 0;
    struct intake_port *port = m->deliver->options.port;
    queue_disconnected(port->queue, &m->slot, false, BYTES_NONE, acceptance_now(), &kicks);
    port->kick(port->kick_ctx, kicks);
    list_remove(&m->item.link);
    arena_done(&m->arena);
    deliver_later(m->deliver);
    free(m);
}

static void on_next(struct sys_task *task)
{
    struct mailbox *m = container_of(task, struct mailbox, next);
    m->posted = false;
    take_next(m);
}

static void finish_batch(struct mailbox *m)
{
    struct report_facts facts = {.mx = m->deliver->snapshot->conf->hostname, .lane = m->lane};
    for (uint32_t i = 0; i < m->batch->count; i++)
        deliver_count(&m->deliver->options.counters->recipients[m->verdicts[i].kind], 1);
    report_batch(&m->deliver->reporter, m->batch, m->message, m->verdicts, &facts);
    stored_message_unref(m->message);
    free(m->verdicts);
    m->message = NULL;
    m->verdicts = NULL;
    m->batch = NULL;
    m->posted = true;
    sys_post(m->deliver->loop, &m->next);
}

static void deliver_current(struct mailbox *m);

static void on_delivered(void *ctx, const struct verdict *verdict)
{
    struct mailbox *m = ctx;
    m->verdicts[m->current++] = *verdict;
    deliver_current(m);
}

// Recipients one after the other: each has a file of its own.
static void deliver_current(struct mailbox *m)
{
    if (m->current == m->batch->count) {
        finish_batch(m);
        return;
    }
    const struct recipient *r =
        report_recipient(m->message->envelope, m->batch->recipients[m->current].number);
    if (!r) {
        struct verdict v = verdict_make(VERDICT_FAILED, 554, "5.3.0",
                                        BYTES("the stored message does not list this recipient"));
        on_delivered(m, &v);
        return;
    }
    m->delivery = (struct maildir_delivery){.spool = m->deliver->options.port->spool,
                                            .message = m->message,
                                            .recipient = r,
                                            .pattern = m->pattern,
                                            .done = on_delivered,
                                            .ctx = m};
    maildir_start(&m->delivery);
}

static void on_loaded(struct batch_load *load, struct stored_message *message)
{
    struct mailbox *m = container_of(load, struct mailbox, load);
    m->message = message;
    if (!message) {
        m->batch = NULL;
        m->posted = true;
        sys_post(m->deliver->loop, &m->next);
        return;
    }
    m->verdicts = mem_new(m->batch->count * sizeof *m->verdicts);
    m->current = 0;
    if (m->kind == TARGET_MAILDIR) {
        deliver_current(m);
        return;
    }
    for (uint32_t i = 0; i < m->batch->count; i++)
        m->verdicts[i] =
            verdict_make(VERDICT_DELIVERED, 250, "2.0.0", BYTES("discarded by the route"));
    finish_batch(m);
}

static void take_next(struct mailbox *m)
{
    struct intake_port *port = m->deliver->options.port;
    uint64_t kicks = 0;
    bool taken =
        !m->stopping && !spool_outcomes_blocked(port->spool) &&
        queue_take(port->queue, &m->slot, acceptance_now(), &m->batch, &kicks) == QUEUE_TAKE_BATCH;
    port->kick(port->kick_ctx, kicks);
    if (!taken) {
        mailbox_free(m);
        return;
    }
    m->load.port = port;
    m->load.batch = m->batch;
    m->load.done = on_loaded;
    m->load.delivers = true;
    batch_load_start(&m->load);
}

static void on_stop(struct deliver_item *item)
{
    container_of(item, struct mailbox, item)->stopping = true;
}

// What is with the pool or the reader comes back in its own time; the process ends before or after.
static void on_abort(struct deliver_item *item)
{
    on_stop(item);
}

void mailbox_start(struct deliver *d, const struct queue_work *work, const struct target *target,
                   const struct route *route)
{
    struct mailbox *m = mem_new(sizeof *m);
    m->item = (struct deliver_item){.stop = on_stop, .abort = on_abort};
    m->deliver = d;
    m->slot = work->connection;
    m->kind = target->kind;
    m->lane = arena_dup(&m->arena, bytes_cstr(work->name));
    m->next.run = on_next;
    m->pattern = arena_dup(&m->arena, route->conf->via.path);
    list_push_back(&d->connections, &m->item.link);
    uint64_t kicks = 0;
    queue_connected(d->options.port->queue, &m->slot, QUEUE_PROOF_DANE, acceptance_now(), &kicks);
    d->options.port->kick(d->options.port->kick_ctx, kicks);
    take_next(m);
}
