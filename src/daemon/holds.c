// SPDX-License-Identifier: MIT
#include "daemon/holds.h"

#include <stdlib.h>

#define CLAIMS_A_TURN 500

void holds_begin(struct queue *queue, const struct store_directory *accounts)
{
    const struct store_account *a;
    for (uint32_t i = 0; (a = store_directory_account_at(accounts, i)); i++)
        if (!store_account_is_active(a))
            queue_suspend_account(queue, a->number, true, NULL);
}

void holds_all(struct queue *queue, struct queue_now now)
{
    struct queue_filter filter = {.by = QUEUE_SELECT_ALL, .unheld_only = true};
    uint64_t cursor = 0, kicks = 0;
    struct queue_batch *batch = NULL;
    queue_hold_restored(queue);
    while (queue_claim(queue, &filter, &cursor, now, &batch)) {
        if (batch)
            queue_settle_all(queue, batch, (struct queue_result){.outcome = QUEUE_KEPT}, now,
                             &kicks); // covered now, so it comes back held
        batch = NULL;
    }
}

// One account's mail, on its way to held or released.
struct walk {
    struct sys_task task;
    struct sys_loop *loop;
    struct intake_port *port;
    struct queue_filter filter;
    uint64_t cursor;
    enum queue_outcome outcome;
};

static void on_step(struct sys_task *task)
{
    struct walk *w = container_of(task, struct walk, task);
    uint64_t kicks = 0;
    bool more = true;
    for (int i = 0; i < CLAIMS_A_TURN && more; i++) {
        struct queue_batch *batch = NULL;
        more = queue_claim(w->port->queue, &w->filter, &w->cursor, acceptance_now(), &batch);
        if (batch)
            queue_settle_all(w->port->queue, batch, (struct queue_result){.outcome = w->outcome},
                             acceptance_now(), &kicks);
    }
    w->port->kick(w->port->kick_ctx, kicks);
    if (more)
        sys_post(w->loop, &w->task);
    else
        free(w);
}

static void walk_account(struct intake_port *port, uint32_t account, bool suspend)
{
    uint64_t kicks = 0;
    queue_suspend_account(port->queue, account, suspend, &kicks);
    port->kick(port->kick_ctx, kicks);
    struct walk *w = mem_new(sizeof *w);
    *w = (struct walk){.task.run = on_step,
                       .loop = sys_loop_self(),
                       .port = port,
                       .filter = {.by = QUEUE_SELECT_ACCOUNT,
                                  .account = account,
                                  .suspended_only = !suspend,
                                  .unheld_only = suspend},
                       .outcome = suspend ? QUEUE_SUSPENDED : QUEUE_RELEASED};
    on_step(&w->task);
}

void holds_change(struct intake_port *port, const struct store_directory *before,
                  const struct store_directory *after)
{
    const struct store_account *a;
    for (uint32_t i = 0; (a = store_directory_account_at(after, i)); i++) {
        const struct store_account *old = store_directory_account_number(before, a->number);
        bool was = !old || store_account_is_active(old), is = store_account_is_active(a);
        if (was != is)
            walk_account(port, a->number, !is);
    }
}
