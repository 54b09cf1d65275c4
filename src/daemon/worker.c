// SPDX-License-Identifier: MIT
#include "daemon/worker.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define DRAIN_LOOK_MS 20

struct worker {
    struct worker_shared *shared;
    uint32_t number;
    struct sys_loop *loop;
    struct intake *intake;
    struct deliver_selves selves;    // of the listeners that hold
    struct deliver *_Atomic deliver; // set once, then read from any thread
    struct sys_timer drain_timer;
    struct sys_task drain, abort, drained, give_back;
    atomic_bool gives_back; // its task is on its way
    struct sys_loop *main_loop;
    void (*done)(void *ctx);
    void *ctx;
    bool draining, aborted, is_drained;
};

static const char *const NAMES[] = {"worker0", "worker1", "worker2", "worker3",
                                    "worker4", "worker5", "worker6", "worker7"};

struct worker *worker_start(struct worker_shared *shared, uint32_t number)
{
    struct worker *w = mem_new(sizeof *w);
    w->shared = shared;
    w->number = number;
    w->loop = sys_loop_start(number < COUNT_OF(NAMES) ? NAMES[number] : "worker");
    return w;
}

// ---- configuration ---------------------------------------------------------------------------------------

struct worker_listeners {
    struct deliver_selves selves;
    size_t count;
    struct worker_listener at[];
};

struct worker_listeners *worker_listeners_new(const struct worker_listener *from, size_t count,
                                              const struct deliver_selves *selves)
{
    struct worker_listeners *l = mem_new(sizeof *l + count * sizeof l->at[0]);
    l->selves = *selves;
    for (; l->count < count; l->count++) {
        l->at[l->count] = from[l->count];
        l->at[l->count].fd = fcntl(from[l->count].fd, F_DUPFD_CLOEXEC, 3);
        if (l->at[l->count].fd != -1)
            continue;
        worker_listeners_free(l);
        return NULL;
    }
    return l;
}

void worker_listeners_free(struct worker_listeners *l)
{
    for (size_t i = 0; i < l->count; i++)
        close(l->at[i].fd);
    free(l);
}

struct update {
    struct sys_task task;
    struct worker *worker;
    struct conf_snapshot *snapshot;
    bool accounts_only;
    void (*done)(void *ctx); // when it holds; accounts only
    void *ctx;
    struct net_tls_server *tls;
    struct conf_part *tls_part;
    struct worker_listeners *listeners; // NULL: accounts only
};

static void begin(struct worker *w, struct conf_snapshot *snapshot)
{
    struct worker_shared *s = w->shared;
    if (s->open_signer && s->open_signer(s->channel) != OK)
        log_error("no line to the private keys: no TLS session can be accepted");
    struct intake_options in = {.port = &s->port,
                                .auth = s->auth,
                                .dns = s->dns,
                                .limits = s->limits,
                                .worker = w->number,
                                .workers = s->workers,
                                .counters = &s->intake_counters,
                                .return_key = &s->return_key,
                                .returns_rates = &s->returns_rates,
                                .refusal_rates = &s->refusal_rates,
                                .history = s->history};
    memcpy(in.scram_secret, s->scram_secret, sizeof in.scram_secret);
    w->intake = intake_new(&in, snapshot);
    struct deliver_options out = {.port = &s->port,
                                  .worker = w->number,
                                  .dns = s->dns,
                                  .authorities = s->authorities,
                                  .return_key = &s->return_key,
                                  .history = s->history,
                                  .trace = s->trace,
                                  .counters = &s->deliver_counters,
                                  .selves = &w->selves};
    atomic_store(&w->deliver, deliver_new(&out, snapshot));
    deliver_kick(w->deliver);
}

static const struct conf_listener *find_listener(const struct conf *conf, const char *name)
{
    for (uint32_t i = 0; i < conf->listeners_count; i++)
        if (bytes_eq(conf->listeners[i].name, bytes_cstr(name)))
            return &conf->listeners[i];
    if (conf->sendmail.socket.len && bytes_eq(conf->sendmail.listener.name, bytes_cstr(name)))
        return &conf->sendmail.listener;
    return NULL;
}

static void open_gates(struct worker *w, struct update *u)
{
    for (size_t i = 0; i < u->listeners->count; i++) {
        const struct worker_listener *one = &u->listeners->at[i];
        const struct conf_listener *l = find_listener(u->snapshot->conf, one->name);
        if (l)
            intake_open_gate(w->intake, l, one->fd, l->tls == CONF_TLS_NONE ? NULL : u->tls,
                             u->tls_part);
        else
            close(one->fd);
    }
    u->listeners->count = 0; // they are the gates' now
}

static void on_update(struct sys_task *task)
{
    struct update *u = container_of(task, struct update, task);
    struct worker *w = u->worker;
    if (u->listeners)
        w->selves = u->listeners->selves;
    if (!w->intake)
        begin(w, u->snapshot);
    if (u->accounts_only) {
        intake_set_accounts(w->intake, u->snapshot);
        deliver_set_snapshot(w->deliver, u->snapshot);
        u->done(u->ctx);
    } else {
        intake_set_snapshot(w->intake, u->snapshot);
        deliver_set_authorities(w->deliver, w->shared->authorities);
        deliver_set_snapshot(w->deliver, u->snapshot);
        if (!w->draining)
            open_gates(w, u);
    }
    conf_snapshot_release(u->snapshot);
    conf_part_release(u->tls_part);
    if (u->listeners)
        worker_listeners_free(u->listeners);
    free(u);
}

static struct update *update_new(struct worker *w, struct conf_snapshot *snapshot)
{
    struct update *u = mem_new(sizeof *u);
    u->task.run = on_update;
    u->worker = w;
    u->snapshot = conf_snapshot_hold(snapshot);
    return u;
}

void worker_apply(struct worker *w, struct conf_snapshot *snapshot, struct net_tls_server *tls,
                  struct conf_part *tls_part, struct worker_listeners *listeners)
{
    struct update *u = update_new(w, snapshot);
    u->tls = tls;
    u->tls_part = tls_part ? conf_part_hold(tls_part) : NULL;
    u->listeners = listeners;
    sys_post(w->loop, &u->task);
}

void worker_set_accounts(struct worker *w, struct conf_snapshot *snapshot, void (*done)(void *ctx),
                         void *ctx)
{
    struct update *u = update_new(w, snapshot);
    u->accounts_only = true;
    u->done = done;
    u->ctx = ctx;
    sys_post(w->loop, &u->task);
}

void worker_kick(struct worker *w)
{
    struct deliver *d = atomic_load(&w->deliver);
    if (d)
        deliver_kick(d);
}

static void on_give_back(struct sys_task *task)
{
    struct worker *w = container_of(task, struct worker, give_back);
    atomic_store(&w->gives_back, false);
    mem_give_back();
}

void worker_give_back(struct worker *w)
{
    if (atomic_exchange(&w->gives_back, true))
        return;
    w->give_back.run = on_give_back;
    sys_post(w->loop, &w->give_back);
}

// ---- the end ---------------------------------------------------------------------------------------------

static void on_drained(struct sys_task *task)
{
    struct worker *w = container_of(task, struct worker, drained);
    w->done(w->ctx);
}

static void look_whether_drained(struct sys_timer *timer)
{
    struct worker *w = container_of(timer, struct worker, drain_timer);
    bool idle = intake_is_idle(w->intake) && (w->aborted || deliver_is_idle(w->deliver));
    if (!idle) {
        sys_timer_set(&w->drain_timer, mono_add_ms(sys_mono(), DRAIN_LOOK_MS));
        return;
    }
    w->is_drained = true;
    w->drained.run = on_drained;
    sys_post(w->main_loop, &w->drained);
}

static void on_drain(struct sys_task *task)
{
    struct worker *w = container_of(task, struct worker, drain);
    w->draining = true;
    intake_stop(w->intake);
    deliver_stop(w->deliver);
    w->drain_timer.fire = look_whether_drained;
    look_whether_drained(&w->drain_timer);
}

void worker_drain(struct worker *w, struct sys_loop *main_loop, void (*done)(void *ctx), void *ctx)
{
    w->main_loop = main_loop;
    w->done = done;
    w->ctx = ctx;
    w->drain.run = on_drain;
    sys_post(w->loop, &w->drain);
}

static void on_abort(struct sys_task *task)
{
    struct worker *w = container_of(task, struct worker, abort);
    if (w->is_drained)
        return;
    w->aborted = true;
    intake_abort(w->intake);
    deliver_abort(w->deliver);
}

void worker_abort(struct worker *w)
{
    w->abort.run = on_abort;
    sys_post(w->loop, &w->abort);
}

struct farewell {
    struct sys_task task;
    struct worker *worker;
};

static void on_farewell(struct sys_task *task)
{
    struct worker *w = container_of(task, struct farewell, task)->worker;
    sys_timer_stop(&w->drain_timer);
    if (w->shared->cut)
        return; // pieces of it are still with the spool and with other workers; the process ends now
    intake_free(w->intake);
    deliver_free(w->deliver);
}

void worker_free(struct worker *w)
{
    struct farewell farewell = {.task.run = on_farewell, .worker = w};
    sys_post(w->loop, &farewell.task);
    sys_loop_stop(w->loop); // runs what was posted, then joins
    if (!w->shared->cut)
        free(w);
}
