// SPDX-License-Identifier: MIT
#include "deliver/deliver.h"

#include <stdlib.h>

#include "deliver/deliver_private.h"
#include "route/route.h"

#define BLOCKED_LOOK_MS 200

// ---- work ------------------------------------------------------------------------------------------------

static void on_note_saved(void *ctx, int err);

struct note_save {
    struct deliver *deliver;
    struct queue_note note;
};

static void save_note(struct deliver *d, const struct queue_note *note)
{
    struct note_save *save = mem_new(sizeof *save);
    save->deliver = d;
    save->note = *note;
    d->reporter.open++;
    struct spool_frame *frame = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_note(frame, bytes_cstr(note->name), bytes_of(note->value, note->value_len));
    spool_commit(d->options.port->spool, frame, on_note_saved, save);
}

static void on_note_saved(void *ctx, int err)
{
    struct note_save *save = ctx;
    struct deliver *d = save->deliver;
    uint64_t kicks = 0;
    if (!err)
        queue_saved(d->options.port->queue, &save->note, acceptance_now(), &kicks);
    d->options.port->kick(d->options.port->kick_ctx, kicks);
    d->reporter.open--;
    free(save);
}

// The hosts are of an older table, and so is the login that goes with them: the lane gets others as soon as a domain
// of it is resolved again. (Or of a newer one, when another worker was told of it first.)
static void put_off(struct deliver *d, const struct queue_work *work)
{
    struct queue_connection slot = work->connection;
    uint64_t kicks = 0;
    queue_connect_later(d->options.port->queue, &slot, acceptance_now(), &kicks);
    d->options.port->kick(d->options.port->kick_ctx, kicks);
}

static void connect_lane(struct deliver *d, const struct queue_work *work)
{
    struct arena arena = {0};
    struct target target;
    CHECK(target_parse(bytes_of(work->hosts, work->hosts_len), &arena, &target) == OK);
    const struct route *route = route_get(d->snapshot->routes, target.route);
    if (!route)
        put_off(d, work);
    else if (target.kind == TARGET_MAILDIR || target.kind == TARGET_DISCARD)
        mailbox_start(d, work, &target, route);
    else
        connection_start(d, work, &target, route);
    arena_done(&arena);
}

static void do_work(struct deliver *d, const struct queue_work *work)
{
    switch (work->kind) {
    case QUEUE_RESOLVE:
        resolve_start(d, work);
        break;
    case QUEUE_CONNECT:
        connect_lane(d, work);
        break;
    case QUEUE_WAKE:
        connection_wake(d, work->lane, work->proof);
        break;
    case QUEUE_EXPIRE:
    case QUEUE_WARN:
    case QUEUE_FAIL:
    case QUEUE_REROUTE:
        batch_job_start(d, work);
        break;
    case QUEUE_SAVE:
        save_note(d, &work->note);
        break;
    case QUEUE_IDLE:
        break;
    }
}

static void look(struct deliver *d)
{
    if (d->stopping)
        return;
    if (spool_outcomes_blocked(d->options.port->spool)) {
        sys_timer_set(&d->timer, mono_add_ms(sys_mono(), BLOCKED_LOOK_MS));
        return;
    }
    struct queue_work *work = mem_new(sizeof *work);
    for (int i = 0; i < DELIVER_TURN_WORK; i++) {
        uint64_t kicks = 0;
        bool judges = d->judging < DELIVER_JUDGING_MAX; // else a job that ends kicks
        queue_next(d->options.port->queue, d->options.worker, judges, acceptance_now(), work,
                   &kicks);
        d->options.port->kick(d->options.port->kick_ctx, kicks);
        if (work->kind == QUEUE_IDLE) {
            if (work->until.us != MONO_NEVER.us)
                sys_timer_set(&d->timer, work->until);
            else
                sys_timer_stop(&d->timer);
            free(work);
            return;
        }
        do_work(d, work);
    }
    free(work);
    deliver_kick(d); // more to do, after others had their turn
}

static void on_kick(struct sys_task *task)
{
    struct deliver *d = container_of(task, struct deliver, kick);
    atomic_store(&d->kicked, false);
    look(d);
}

static void on_timer(struct sys_timer *timer)
{
    look(container_of(timer, struct deliver, timer));
}

void deliver_kick(struct deliver *d)
{
    if (!atomic_exchange(&d->kicked, true))
        sys_post(d->loop, &d->kick);
}

// ---- life ------------------------------------------------------------------------------------------------

struct deliver *deliver_new(const struct deliver_options *options, struct conf_snapshot *snapshot)
{
    struct deliver *d = mem_new(sizeof *d);
    d->options = *options;
    d->snapshot = conf_snapshot_hold(snapshot);
    d->reporter = (struct reporter){
        .port = options->port, .counters = &options->counters->reasons, .snapshot = snapshot};
    d->tls = net_tls_client_new(options->authorities);
    list_init(&d->connections);
    list_init(&d->jobs);
    d->loop = sys_loop_self();
    d->kick.run = on_kick;
    d->timer.fire = on_timer;
    return d;
}

void deliver_free(struct deliver *d)
{
    tls_fallback_done(&d->tls_fallback);
    map_done(&d->idle);
    sys_timer_stop(&d->timer);
    net_tls_client_free(d->tls);
    conf_snapshot_release(d->snapshot);
    free(d);
}

void deliver_set_snapshot(struct deliver *d, struct conf_snapshot *snapshot)
{
    struct conf_snapshot *old = d->snapshot;
    d->snapshot = conf_snapshot_hold(snapshot);
    d->reporter.snapshot = snapshot;
    // Only now: asked for before, a domain would be resolved by the old routes once more.
    if (route_table_generation(snapshot->routes) != route_table_generation(old->routes)) {
        uint64_t kicks = 0;
        queue_resolve_again(d->options.port->queue, d->options.worker, acceptance_now(), &kicks);
        d->options.port->kick(d->options.port->kick_ctx, kicks);
    }
    conf_snapshot_release(old);
    deliver_kick(d);
}

void deliver_stop(struct deliver *d)
{
    d->stopping = true;
    sys_timer_stop(&d->timer);
    list_each(link, &d->jobs)
    {
        struct deliver_item *item = list_get(link, struct deliver_item, link);
        item->stop(item);
    }
    list_each(link, &d->connections)
    {
        struct deliver_item *item = list_get(link, struct deliver_item, link);
        item->stop(item);
    }
}

void deliver_set_authorities(struct deliver *d, struct net_tls_authorities *authorities)
{
    if (d->options.authorities == authorities)
        return;
    d->options.authorities = authorities;
    net_tls_client_free(d->tls); // sessions keep what they need of it
    d->tls = net_tls_client_new(authorities);
}

bool deliver_is_idle(const struct deliver *d)
{
    return list_is_empty(&d->connections) && list_is_empty(&d->jobs) && d->reporter.open == 0 &&
           !atomic_load(&d->kicked); // a kick on its way is to find it alive
}

void deliver_abort(struct deliver *d)
{
    list_each(link, &d->connections)
    {
        struct deliver_item *item = list_get(link, struct deliver_item, link);
        item->abort(item);
    }
}
