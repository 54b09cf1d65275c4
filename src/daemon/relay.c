// SPDX-License-Identifier: MIT
//
// How it works: the process's first thread receives the first configuration, opens spool, store and queue, and
// starts the loops; from then on the main loop listens to the guard, and the first thread waits for it to end.
// Each configuration arrives as parts and is applied by COMMIT, whole or not at all.
#include "daemon/relay.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "api/unsubscribe.h"
#include "base/map.h"
#include "bounce/bounce_rules.h"
#include "daemon/channel.h"
#include "daemon/dkim_keeper.h"
#include "daemon/guard_files.h"
#include "daemon/holds.h"
#include "daemon/predecessor.h"
#include "daemon/relay_files.h"
#include "daemon/secret_file.h"
#include "daemon/signer.h"
#include "daemon/worker.h"
#include "event/history.h"
#include "route/route.h"
#include "store/store.h"
#include "store/suppress.h"
#include "sys/sys_watch.h"

#define CLOCK_JUMP_TOLD_MS 3600000 // beyond this someone must know
#define NOTES_A_FRAME 50
#define AUTHORITIES_MAX ((size_t)16 << 20)

// What the guard has sent since the last COMMIT.
struct parts {
    struct buf config, certificate;
    uint32_t key; // the number of the certificate's
    struct relay_files files;
    char name[CHANNEL_TEXT_MAX];
    struct worker_listener listeners[256];
    size_t count;
    int http, unsubscribe;
};

// What is told by the spool: before the loops run, then on its loop.
struct recovery {
    struct conf_snapshot *snapshot; // held
    struct queue_now now;
    struct mono began;
    uint64_t messages;
    uint64_t kicks;              // of this slice
    struct sys_task task;        // on the main loop
    _Atomic uint64_t kicks_main; // for it; 0: it is not on its way
    _Atomic bool all;
};

struct relay {
    int channel;
    struct parts parts;
    struct relay_folders folders;
    struct sys_loop *main, *dns_loop;
    struct conf_part *conf, *routes, *accounts, *bounces, *tls;
    struct net_tls_server *tls_server;
    struct conf_snapshot *snapshot;
    uint64_t generation; // of snapshots
    struct store *store;
    struct spool *spool;
    struct queue *queue;
    struct dns *dns;
    struct worker_shared shared;
    struct worker *workers[WORKERS_MAX];
    uint32_t workers_count;
    struct history *history;
    struct suppress *suppress;
    struct api *api;
    struct unsubscribe *unsubscribe; // NULL: nobody asked for it
    struct unsubscribe_counters unsubscribe_counters;
    // main loop
    struct dkim_keeper *keeper;
    struct sys_watch *watch;
    struct sys_timer grace, clock;
    void (*upgrade_decided)(void *ctx, int err, struct bytes why); // NULL: nobody waits
    void *upgrade_ctx;
    struct sys_task start;
    struct recovery recovery;
    uint32_t drained;
    bool stopping, patient; // patient: a lock that is held is tried again
    int finished[2];        // a pipe: the first thread waits at its end
};

int relay_parse_config(struct bytes text, const char *path, struct conf **out, struct buf *errors)
{
    char folder[4096];
    if (!getcwd(folder, sizeof folder))
        return E_IO;
    struct buf full = {0};
    if (path && path[0] != '/')
        buf_printf(&full, "%s/", folder);
    buf_add_cstr(&full, path ? path : "/default");
    ptrdiff_t slash = bytes_find_last(buf_bytes(&full), '/');
    if (path)
        buf_truncate(&full, slash > 0 ? (size_t)slash : 1);
    int err =
        conf_load_text(text, path ? path : "default", path ? buf_cstr(&full) : folder, out, errors);
    buf_done(&full);
    return err;
}

// ---- parts -----------------------------------------------------------------------------------------------

static void parts_clear(struct parts *p)
{
    buf_done(&p->config);
    buf_done(&p->certificate);
    relay_files_done(&p->files);
    for (size_t i = 0; i < p->count; i++)
        close(p->listeners[i].fd);
    if (p->http != -1)
        close(p->http);
    if (p->unsubscribe != -1)
        close(p->unsubscribe);
    *p = (struct parts){.http = -1, .unsubscribe = -1};
}

static void take_contents(struct channel_message *m, size_t max, struct buf *out)
{
    buf_done(out);
    if (channel_read_contents(m->fd, max, out) != OK)
        log_error("part of the configuration not readable");
    m->fd = -1;
}

static void take_http(int *at, int fd)
{
    if (*at != -1)
        close(*at);
    *at = fd;
}

// Keeps a part; true at COMMIT.
static bool parts_take(struct parts *p, struct channel_message *m)
{
    switch (m->kind) {
    case CHANNEL_CONFIG:
        take_contents(m, CONF_FILE_MAX, &p->config);
        snprintf(p->name, sizeof p->name, "%s", m->text);
        break;
    case CHANNEL_CERTIFICATE:
        take_contents(m, CONF_FILE_MAX, &p->certificate);
        p->key = (uint32_t)strtoul(m->text, NULL, 10);
        break;
    case CHANNEL_LISTENER:
        if (p->count < COUNT_OF(p->listeners)) {
            struct worker_listener *l = &p->listeners[p->count++];
            snprintf(l->name, sizeof l->name, "%.63s", m->text);
            l->fd = m->fd;
            m->fd = -1;
        }
        break;
    case CHANNEL_HTTP:
        take_http(m->text[0] ? &p->unsubscribe : &p->http, m->fd);
        m->fd = -1;
        break;
    case CHANNEL_FILE:
        relay_files_take(&p->files, m);
        break;
    case CHANNEL_COMMIT:
        return true;
    default:
        break;
    }
    if (m->fd != -1)
        close(m->fd);
    return false;
}

// ---- applying a configuration ----------------------------------------------------------------------------

static void free_conf(void *value)
{
    conf_free(value);
}
static void free_routes(void *value)
{
    route_table_free(value);
}
static void free_directory(void *value)
{
    store_directory_free(value);
}
static void free_bounces(void *value)
{
    bounce_rules_free(value);
}
static void free_tls(void *value)
{
    net_tls_server_free(value);
}

// What a configuration becomes, before anything is replaced.
struct prepared {
    struct conf *conf;
    struct route_table *routes;
    struct bounce_rules *bounces;
    struct net_tls_server *tls;
};

static void prepared_free(struct prepared *p)
{
    net_tls_server_free(p->tls);
    bounce_rules_free(p->bounces);
    route_table_free(p->routes);
    conf_free(p->conf);
}

static int prepare_routes(struct relay *r, struct prepared *p, struct buf *errors)
{
    const struct route_table *old = r->snapshot ? r->snapshot->routes : NULL;
    uint32_t generation = old ? route_table_generation(old) + 1 : 1;
    struct route_files files = relay_files_reader(&r->parts.files);
    int err = route_table_new(p->conf, &files, generation, &p->routes, errors);
    if (err || !old || !route_table_same(old, p->routes))
        return err;
    // Nothing that queued mail could notice has changed.
    route_table_free(p->routes);
    return route_table_new(p->conf, &files, route_table_generation(old), &p->routes, errors);
}

static int prepare_bounces(struct relay *r, struct prepared *p, struct buf *errors)
{
    struct route_files files = relay_files_reader(&r->parts.files);
    const char *path = p->conf->bounce.rules.at;
    struct buf text;
    buf_init(&text, BOUNCE_RULES_FILE_MAX);
    int err = p->conf->bounce.rules.len ? files.read(files.ctx, path, &text) : OK;
    if (err)
        buf_printf(errors, "%s: error: bounce.rules: %s\n", path, err_text(err));
    else
        err = bounce_rules_load(buf_bytes(&text), path, &p->bounces, errors);
    buf_done(&text);
    return err;
}

static int prepare(struct relay *r, struct prepared *p, struct buf *errors)
{
    struct parts *parts = &r->parts;
    char reason[NET_TLS_REASON];
    *p = (struct prepared){0};
    int err = relay_parse_config(buf_bytes(&parts->config), parts->name[0] ? parts->name : NULL,
                                 &p->conf, errors);
    if (!err && r->snapshot)
        err = relay_folders_check(&r->folders, p->conf, errors);
    if (!err)
        err = prepare_routes(r, p, errors);
    if (!err)
        err = prepare_bounces(r, p, errors);
    if (!err && parts->certificate.len) {
        err =
            net_tls_server_new_remote(buf_bytes(&parts->certificate), parts->key, &p->tls, reason);
        if (err)
            buf_printf(errors, "error: tls.certificate or tls.key: %s\n", reason);
    }
    if (err)
        prepared_free(p);
    return err;
}

static void replace(struct conf_part **part, struct conf_part *by)
{
    conf_part_release(*part);
    *part = by;
}

static void make_snapshot(struct relay *r)
{
    struct conf_snapshot *old = r->snapshot;
    r->snapshot = conf_snapshot_new(r->conf, r->routes, r->accounts, r->bounces, ++r->generation);
    conf_snapshot_release(old);
}

static void adopt(struct relay *r, struct prepared *p)
{
    struct conf_part *old_conf = r->conf;
    r->conf = conf_part_new(p->conf, free_conf);
    replace(&r->routes, conf_part_new(p->routes, free_routes));
    replace(&r->bounces, conf_part_new(p->bounces, free_bounces));
    replace(&r->tls, conf_part_new(p->tls, free_tls));
    r->tls_server = p->tls;
    make_snapshot(r);
    if (r->queue)
        queue_configure(r->queue, p->conf, p->conf->limits.connections);
    conf_part_release(old_conf); // the queue has let go of it
}

// Reading a system's authorities takes longer than all else at a start: only for whom a route verifies, and once.
static void load_authorities(struct relay *r)
{
    const char *path = guard_files_authorities(r->snapshot->conf);
    if (r->shared.authorities || !path)
        return;
    struct buf pem = {0};
    char reason[NET_TLS_REASON] = "the file cannot be read";
    struct route_files files = relay_files_reader(&r->parts.files);
    buf_init(&pem, AUTHORITIES_MAX);
    if (files.read(files.ctx, path, &pem) != OK ||
        net_tls_authorities_new(buf_bytes(&pem), &r->shared.authorities, reason) != OK)
        log_warn("no certificate authorities: routes with tls: verify will not deliver",
                 LOG_CSTR("file", path), LOG_CSTR("because", reason));
    buf_done(&pem);
}

static void apply_to_workers(struct relay *r)
{
    for (uint32_t i = 0; i < r->workers_count; i++)
        worker_apply(r->workers[i], r->snapshot, r->tls_server, r->tls, r->parts.listeners,
                     r->parts.count);
}

static void tell_guard(struct relay *r, enum channel_kind kind, struct bytes text)
{
    if (channel_send(r->channel, kind, text, -1) != OK)
        log_error("the guard does not listen");
}

static struct auth_guard_limits guard_limits(const struct conf *conf)
{
    return (struct auth_guard_limits){conf->limits.auth_failures, conf->limits.auth_window_ms,
                                      conf->limits.auth_block_ms};
}

static struct suppress_policy suppress_policy(const struct conf *conf)
{
    return (struct suppress_policy){conf->suppress.hard_bounces, conf->suppress.bounce_keep_ms};
}

static void reload(struct relay *r)
{
    struct prepared p;
    struct buf errors = {0};
    if (prepare(r, &p, &errors) == OK) {
        adopt(r, &p);
        const struct conf *conf = r->snapshot->conf;
        auth_set_limits(r->shared.auth, guard_limits(conf));
        net_limits_set(r->shared.limits, conf->limits.sessions, conf->limits.sessions_per_address);
        log_setup(conf->log.level, conf->log.format);
        struct suppress_policy policy = suppress_policy(conf);
        suppress_set_policy(r->suppress, &policy);
        load_authorities(r);
        apply_to_workers(r);
        api_set_snapshot(r->api, r->snapshot);
        dkim_keeper_set_snapshot(r->keeper, r->snapshot);
        tell_guard(r, CHANNEL_APPLIED, conf->control);
    } else {
        tell_guard(r, CHANNEL_REFUSED, buf_bytes(&errors));
    }
    buf_done(&errors);
    parts_clear(&r->parts);
}

// ---- accounts changed ------------------------------------------------------------------------------------

struct accounts_changed {
    struct sys_task task;
    struct relay *relay;
    struct store_directory *directory;
    atomic_uint waiting; // workers that do not go by it yet, and the main loop
    void (*done)(void *ctx);
    void *ctx;
};

static void one_has_changed(void *ctx)
{
    struct accounts_changed *c = ctx;
    if (atomic_fetch_sub(&c->waiting, 1) != 1)
        return;
    c->done(c->ctx);
    free(c);
}

static void on_accounts_changed(struct sys_task *task)
{
    struct accounts_changed *c = container_of(task, struct accounts_changed, task);
    struct relay *r = c->relay;
    if (store_directory_version(c->directory) < store_directory_version(r->snapshot->accounts)) {
        store_directory_free(c->directory); // a later one was faster, and knows of this change
    } else {
        holds_change(&r->shared.port, r->snapshot->accounts, c->directory);
        replace(&r->accounts, conf_part_new(c->directory, free_directory));
        make_snapshot(r);
    }
    atomic_store(&c->waiting, r->workers_count + 1);
    for (uint32_t i = 0; i < r->workers_count; i++)
        worker_set_accounts(r->workers[i], r->snapshot, one_has_changed, c);
    api_set_snapshot(r->api, r->snapshot);
    if (r->keeper)
        dkim_keeper_set_snapshot(r->keeper, r->snapshot);
    one_has_changed(c);
}

// From the API's thread or one of the pool, after an operation has changed the store.
static void accounts_changed(void *ctx, struct store_directory *directory,
                             void (*done)(void *done_ctx), void *done_ctx)
{
    struct accounts_changed *c = mem_new(sizeof *c);
    c->relay = ctx;
    c->directory = directory;
    c->done = done;
    c->ctx = done_ctx;
    c->task.run = on_accounts_changed;
    sys_post(c->relay->main, &c->task);
}

static void nobody_waits(void *ctx)
{
    (void)ctx;
}

static void keys_changed(void *ctx)
{
    struct relay *r = ctx;
    struct store_directory *directory;
    int err = store_directory_load(r->store, &directory);
    if (err)
        log_error("accounts not read again: the old ones hold", LOG_ERR(err));
    else
        accounts_changed(r, directory, nobody_waits, NULL);
}

static void look_after_keys(void *ctx, void (*done)(void *ctx), void *done_ctx)
{
    struct relay *r = ctx;
    if (r->keeper)
        dkim_keeper_run(r->keeper, false, done, done_ctx);
    else // not serving yet
        done(done_ctx);
}

static void start_keeper(struct relay *r)
{
    const struct dkim_keeper_options options = {r->store, r->dns, keys_changed, r};
    if (signer_open(r->channel) != OK)
        log_error("no line to the signer: no DKIM keys can be made");
    r->keeper = dkim_keeper_new(&options, r->snapshot);
}

// ---- stopping --------------------------------------------------------------------------------------------

static void on_notes_saved(void *ctx, int err)
{
    struct relay *r = ctx;
    if (err)
        log_warn("counts of lanes not saved", LOG_ERR(err));
    if (write(r->finished[1], "", 1) != 1)
        _exit(EX_SOFTWARE);
}

// The exact counts of the lanes, so that the next start need not take the ones counted ahead for sent.
static void save_notes(void *ctx)
{
    struct relay *r = ctx;
    struct spool_frame *frame = spool_frame_new(SPOOL_OUTCOME);
    struct queue_note *note = mem_new(sizeof *note);
    uint64_t cursor = 0;
    for (int n = 1; queue_save_next(r->queue, &cursor, acceptance_now(), note); n++) {
        spool_frame_add_note(frame, bytes_cstr(note->name), bytes_of(note->value, note->value_len));
        if (n % NOTES_A_FRAME == 0) {
            spool_commit(r->spool, frame, NULL, NULL);
            frame = spool_frame_new(SPOOL_OUTCOME);
        }
    }
    free(note);
    spool_commit(r->spool, frame, on_notes_saved, r);
}

static void on_worker_drained(void *ctx)
{
    struct relay *r = ctx;
    if (++r->drained < r->workers_count)
        return;
    sys_timer_stop(&r->grace);
    dkim_keeper_stop(r->keeper, save_notes, r);
}

static void on_grace_over(struct sys_timer *timer)
{
    struct relay *r = container_of(timer, struct relay, grace);
    log_warn("transactions still running at the end of shutdown_grace are cut");
    r->shared.cut = true;
    for (uint32_t i = 0; i < r->workers_count; i++)
        worker_abort(r->workers[i]);
}

static void upgrade_decided(struct relay *r, int err, struct bytes why)
{
    void (*decided)(void *ctx, int err, struct bytes why) = r->upgrade_decided;
    r->upgrade_decided = NULL;
    if (decided)
        decided(r->upgrade_ctx, err, why);
}

// From the API, on the main loop; the guard decides.
static void ask_for_upgrade(void *ctx, void (*decided)(void *ctx, int err, struct bytes why),
                            void *decided_ctx)
{
    struct relay *r = ctx;
    if (r->stopping || r->upgrade_decided) {
        decided(decided_ctx, E_BUSY, BYTES("the service is stopping or being upgraded already"));
        return;
    }
    r->upgrade_decided = decided;
    r->upgrade_ctx = decided_ctx;
    tell_guard(r, CHANNEL_UPGRADE, BYTES_NONE);
}

// `grace` in milliseconds; empty: as configured.
static void drain(struct relay *r, struct bytes grace)
{
    uint64_t grace_ms = (uint64_t)r->snapshot->conf->shutdown_grace_ms;
    if (r->stopping)
        return;
    r->stopping = true;
    if (grace.len && bytes_to_u64(grace, INT32_MAX, &grace_ms) != OK)
        log_error("the guard sent no grace time");
    upgrade_decided(r, OK, BYTES_NONE);
    r->grace.fire = on_grace_over;
    sys_timer_set(&r->grace, mono_add_ms(sys_mono(), (int64_t)grace_ms));
    for (uint32_t i = 0; i < r->workers_count; i++)
        worker_drain(r->workers[i], r->main, on_worker_drained, r);
}

// ---- main loop -------------------------------------------------------------------------------------------

static void on_channel(void *ctx)
{
    struct relay *r = ctx;
    struct channel_message message;
    if (channel_receive(r->channel, &message) != OK)
        _exit(EX_TEMPFAIL); // no guard, no relay: what is in the spool stays there
    if (message.kind == CHANNEL_STOP)
        drain(r, bytes_cstr(message.text));
    else if (message.kind == CHANNEL_UPGRADE_REFUSED)
        upgrade_decided(r, E_SYNTAX, bytes_cstr(message.text));
    else if (parts_take(&r->parts, &message))
        reload(r);
}

// A wall clock that moved while the monotonic one did not: told, and charged to nobody's lifetime.
static void on_clock(struct sys_timer *timer)
{
    struct relay *r = container_of(timer, struct relay, clock);
    struct queue_now now = acceptance_now();
    uint64_t kicks = 0;
    int64_t delta_ms = wall_jumps_look(&r->shared.port.jumps, r->spool, r->queue, now, &kicks);
    if (delta_ms > CLOCK_JUMP_TOLD_MS || delta_ms < -CLOCK_JUMP_TOLD_MS)
        log_error("the wall clock jumped", LOG_INT("by_ms", delta_ms));
    else if (delta_ms)
        log_info("the wall clock was set", LOG_INT("by_ms", delta_ms));
    r->shared.port.kick(r, kicks);
    sys_timer_set(&r->clock, mono_add_ms(now.mono, WALL_JUMPS_LOOK_MS));
}

static void on_main_start(struct sys_task *task)
{
    struct relay *r = container_of(task, struct relay, start);
    r->watch = sys_watch_open(r->channel, on_channel, r);
    r->clock.fire = on_clock;
    sys_timer_set(&r->clock, mono_add_ms(sys_mono(), WALL_JUMPS_LOOK_MS));
    apply_to_workers(r);
    start_keeper(r);
    parts_clear(&r->parts);
    tell_guard(r, CHANNEL_READY, r->snapshot->conf->control);
    spool_tell_rest(r->spool); // the workers take it as it comes
}

// ---- starting --------------------------------------------------------------------------------------------

static void kick_workers(void *ctx, uint64_t workers)
{
    struct relay *r = ctx;
    for (; workers; workers &= workers - 1) {
        uint32_t n = (uint32_t)__builtin_ctzll(workers);
        if (n < r->workers_count)
            worker_kick(r->workers[n]);
    }
}

static uint32_t recovered_route(void *ctx, const struct spool_summary *summary,
                                const struct spool_summary_recipient *recipient)
{
    (void)summary;
    struct relay *r = ctx;
    const struct route_table *routes = r->recovery.snapshot->routes;
    const struct route *route = route_pick_domain(routes, recipient->domain);
    // Where more than the domain decides, it is looked up from the message when it is due.
    return route ? route_key(routes, route) : ROUTE_KEY_UNKNOWN;
}

static void on_recovered(void *ctx, const struct spool_summary *summary)
{
    struct relay *r = ctx;
    r->recovery.messages++;
    acceptance_recover(&r->shared.port, summary, r->recovery.now,
                       r->recovery.snapshot->conf->retry.max_ms, recovered_route, r,
                       &r->recovery.kicks);
}

static void on_recovered_note(void *ctx, struct bytes key, struct bytes value)
{
    struct relay *r = ctx;
    if (!wall_jumps_restore(&r->shared.port.jumps, key, value) &&
        queue_restore(r->queue, key, value, r->recovery.now) != OK)
        log_warn("note not understood", LOG_STR("key", key));
}

#define KICKS_NONE ((uint64_t)1 << 63) // on its way all the same

// On the main loop, which is gone before the workers are.
static void on_recovered_main(struct sys_task *task)
{
    struct recovery *rec = container_of(task, struct recovery, task);
    struct relay *r = container_of(rec, struct relay, recovery);
    kick_workers(r, atomic_exchange(&rec->kicks_main, 0) & ~KICKS_NONE);
    if (!atomic_load(&rec->all) || !rec->snapshot)
        return;
    log_info("queue loaded", LOG_INT("messages", rec->messages),
             LOG_INT("ms", mono_ms_between(rec->began, sys_mono())));
    conf_snapshot_release(rec->snapshot);
    rec->snapshot = NULL;
}

static void on_recovered_slice(void *ctx, bool all)
{
    struct relay *r = ctx;
    struct recovery *rec = &r->recovery;
    uint64_t kicks = rec->kicks;
    rec->kicks = 0;
    rec->now = acceptance_now();
    if (all)
        atomic_store(&rec->all, true);
    if (atomic_fetch_or(&rec->kicks_main, kicks | KICKS_NONE) == 0)
        sys_post(r->main, &rec->task);
}

static void read_clocks(struct queue_now *out)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    out->mono.us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    clock_gettime(CLOCK_REALTIME, &t);
    out->wall.us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int open_spool(struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    struct recovery *rec = &r->recovery;
    read_clocks(&rec->now);
    rec->began = rec->now.mono;
    rec->snapshot = conf_snapshot_hold(r->snapshot);
    rec->task.run = on_recovered_main;
    struct spool_options options = {.directory = conf->spool.at,
                                    .segment_bytes = conf->limits.spool_segment & ~UINT64_C(4095),
                                    .followers = SPOOL_FOLLOWERS};
    struct spool_recovery recovery = {.ctx = r,
                                      .on_message = on_recovered,
                                      .on_note = on_recovered_note,
                                      .on_slice = on_recovered_slice};
    int err = spool_open(&options, &recovery, &r->spool);
    if (err && !(err == E_BUSY && r->patient))
        log_error("cannot open the spool", LOG_STR("folder", conf->spool), LOG_ERR(err));
    if (err) {
        conf_snapshot_release(rec->snapshot);
        return err;
    }
    struct spool_stats stats;
    spool_get_stats(r->spool, &stats);
    log_info("spool open", LOG_INT("messages", stats.live_messages));
    r->shared.port.spool = r->spool;
    wall_jumps_start(&r->shared.port.jumps, rec->now);
    if (spool_is_on_hold(r->spool)) {
        log_warn("a restored backup: all mail is held until `posthaste queue release --all`");
        holds_all(r->queue, rec->now); // and what is told later
    }
    return OK;
}

static void make_queue(struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t wanted = conf->workers ? conf->workers : cores > 0 ? (uint32_t)cores : 1;
    r->workers_count = wanted < WORKERS_MAX ? wanted : WORKERS_MAX;
    r->shared.workers = r->workers_count;
    struct queue_options options = {.workers = r->workers_count,
                                    .connections_max = conf->limits.connections,
                                    .stored_bytes_max = (uint64_t)64 << 20,
                                    .conf = conf};
    sys_random(&options.seed, sizeof options.seed);
    r->queue = queue_new(&options);
    r->shared.port.queue = r->queue;
}

static int open_store(struct relay *r)
{
    struct buf error = {0};
    struct store_directory *directory;
    int err = store_open(r->snapshot->conf->state, &r->store, &error);
    if (!err)
        err = store_directory_load(r->store, &directory);
    if (!err)
        err = suppress_open(r->snapshot->conf->state, &r->suppress, &error);
    r->shared.port.suppress = r->suppress;
    if (err == E_BUSY && r->patient)
        log_debug("the store is in use");
    else if (err)
        log_error("cannot open the store", LOG_STR("because", buf_bytes(&error)), LOG_ERR(err));
    else {
        replace(&r->accounts, conf_part_new(directory, free_directory));
        make_snapshot(r);
    }
    buf_done(&error);
    return err;
}

// The same for as long as the state folder lives: an unknown login's salt never changes, and what went out with a
// token is known again.
static int load_secrets(struct relay *r)
{
    struct worker_shared *s = &r->shared;
    struct bytes state = r->snapshot->conf->state;
    int err = secret_file_load(state, "scram-secret", s->scram_secret, sizeof s->scram_secret);
    if (err)
        log_warn("cannot keep the secret for made-up logins", LOG_ERR(err));
    err = secret_file_load(state, "return-key", s->return_key.bytes, sizeof s->return_key.bytes);
    if (err)
        log_error("cannot use the key of return paths and unsubscribe links",
                  LOG_CSTR("file", "return-key"), LOG_STR("folder", state), LOG_ERR(err));
    return err;
}

// All addresses under which a listener of ours can be reached: mail must not be sent there.
static void add_self(struct worker_shared *s, const struct sockaddr *sa, uint16_t port)
{
    if (!sa || s->selves_count == DELIVER_SELVES_MAX)
        return;
    struct sys_addr *self = &s->selves[s->selves_count];
    *self = (struct sys_addr){.port = port};
    if (sa->sa_family == AF_INET) {
        self->kind = SYS_ADDR_IP4;
        memcpy(self->ip, &((const struct sockaddr_in *)sa)->sin_addr, 4);
    } else if (sa->sa_family == AF_INET6) {
        self->kind = SYS_ADDR_IP6;
        memcpy(self->ip, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
    } else {
        return;
    }
    s->selves_count++;
}

static bool is_wildcard(const struct sockaddr_storage *sa)
{
    static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
    return sa->ss_family == AF_INET
               ? ((const struct sockaddr_in *)sa)->sin_addr.s_addr == INADDR_ANY
               : memcmp(&((const struct sockaddr_in6 *)sa)->sin6_addr, &any6, sizeof any6) == 0;
}

static void find_selves(struct relay *r)
{
    struct ifaddrs *interfaces = NULL;
    (void)!getifaddrs(&interfaces);
    for (size_t i = 0; i < r->parts.count; i++) {
        struct sockaddr_storage sa;
        socklen_t len = sizeof sa;
        if (getsockname(r->parts.listeners[i].fd, (struct sockaddr *)&sa, &len) == -1)
            continue;
        uint16_t port = ntohs(sa.ss_family == AF_INET ? ((struct sockaddr_in *)&sa)->sin_port
                                                      : ((struct sockaddr_in6 *)&sa)->sin6_port);
        if (!is_wildcard(&sa)) {
            add_self(&r->shared, (struct sockaddr *)&sa, port);
            continue;
        }
        for (struct ifaddrs *a = interfaces; a; a = a->ifa_next)
            add_self(&r->shared, a->ifa_addr, port);
    }
    freeifaddrs(interfaces);
}

static int open_dns(struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    struct dns_conf options = {.servers = conf->dns.servers,
                               .server_count = conf->dns.servers_count,
                               .trust_anchor =
                                   conf->dns.trust_anchor.len ? conf->dns.trust_anchor.at : NULL};
    r->dns_loop = sys_loop_start("dns");
    int err = dns_open(&options, r->dns_loop, &r->dns);
    if (err)
        log_error("cannot start the resolver", LOG_ERR(err));
    else
        r->shared.dns = dns_cache_new(r->dns, r->dns_loop, 0);
    return err;
}

static void tell_certificate(void *ctx, struct domain_certificate *out)
{
    struct relay *r = ctx;
    const struct net_tls_server *tls = r->tls_server;
    *out = (struct domain_certificate){0};
    if (tls)
        *out = (struct domain_certificate){
            .is_there = true,
            .is_for_us = net_tls_server_is_for(tls, r->snapshot->conf->hostname),
            .is_self_signed = net_tls_server_is_self_signed(tls),
            .not_after = {net_tls_server_not_after(tls) * 1000000},
        };
}

// The links that bulk mail carries.
static int answer_unsubscribe(struct relay *r)
{
    if (r->parts.unsubscribe == -1)
        return OK;
    struct unsubscribe_options options = {.fd = r->parts.unsubscribe,
                                          .key = &r->shared.return_key,
                                          .port = &r->shared.port,
                                          .main = r->main,
                                          .counters = &r->unsubscribe_counters};
    r->parts.unsubscribe = -1;
    int err = unsubscribe_start(&options, &r->unsubscribe);
    if (err)
        log_error("cannot answer unsubscribe links", LOG_ERR(err));
    return err;
}

static int start_services(struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    r->main = sys_loop_start("main");
    r->shared.auth = auth_new(r->main, guard_limits(conf));
    r->shared.limits = net_limits_new(conf->limits.sessions, conf->limits.sessions_per_address);
    spool_start(r->spool);
    int err = history_start(conf->state, r->spool, conf->events.keep_ms, &r->history);
    if (err) {
        log_error("cannot open the history", LOG_ERR(err));
        return err;
    }
    r->shared.history = r->history;
    struct suppress_policy policy = suppress_policy(conf);
    err = suppress_start(r->suppress, r->spool, &policy);
    if (err) {
        log_error("cannot use the suppression list", LOG_ERR(err));
        return err;
    }
    for (uint32_t i = 0; i < r->workers_count; i++)
        r->workers[i] = worker_start(&r->shared, i);
    struct api_options options = {.http_fd = r->parts.http,
                                  .control = conf->control,
                                  .store = r->store,
                                  .port = &r->shared.port,
                                  .history = r->history,
                                  .main = r->main,
                                  .limits = r->shared.limits,
                                  .intake_counters = &r->shared.intake_counters,
                                  .deliver_counters = &r->shared.deliver_counters,
                                  .unsubscribe_counters = &r->unsubscribe_counters,
                                  .accounts_changed = accounts_changed,
                                  .upgrade = ask_for_upgrade,
                                  .certificate = tell_certificate,
                                  .look_after_keys = look_after_keys,
                                  .ctx = r};
    r->parts.http = -1; // the API's now
    err = api_start(&options, r->snapshot, &r->api);
    if (err)
        log_error("cannot open the control socket", LOG_STR("path", conf->control), LOG_ERR(err));
    return err ? err : answer_unsubscribe(r);
}

static int exit_code_for(int err)
{
    return err == E_VERSION || err == E_SYNTAX || err == E_NOT_FOUND ? EX_CONFIG
           : err == E_DENIED                                         ? EX_NOPERM
                                                                     : EX_TEMPFAIL;
}

static int receive_first(struct relay *r)
{
    struct channel_message message;
    do {
        int err = channel_receive(r->channel, &message);
        if (err)
            return err;
        if (message.kind == CHANNEL_STOP)
            return E_CLOSED;
    } while (!parts_take(&r->parts, &message));
    struct prepared p;
    struct buf errors = {0};
    int err = prepare(r, &p, &errors);
    if (!err)
        adopt(r, &p);
    else
        fprintf(stderr, "%.*s", BYTES_FMT(buf_bytes(&errors)));
    buf_done(&errors);
    return err ? E_SYNTAX : OK; // the configuration or a file that it names must change
}

// Messages come and go all the time: what is freed is kept for the next ones, not given back to the kernel.
static void set_up_malloc(void)
{
    mallopt(M_TOP_PAD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 4 << 20);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

// A lock may still be held by a command that is at work, or by what was killed a moment ago.
static int open_when_free(struct relay *r, int (*open)(struct relay *r), const char *what)
{
    int err = E_BUSY;
    for (int waited_ms = 0; err == E_BUSY && waited_ms <= PREDECESSOR_WAIT_MS;
         waited_ms += PREDECESSOR_LOOK_MS) {
        if (waited_ms > 0)
            usleep(PREDECESSOR_LOOK_MS * 1000);
        r->patient = waited_ms + PREDECESSOR_LOOK_MS <= PREDECESSOR_WAIT_MS;
        err = open(r);
        if (err == E_BUSY && waited_ms == 0)
            log_info("waiting for a lock that another process holds", LOG_CSTR("of", what));
    }
    return err;
}

static int start(struct relay *r)
{
    uint64_t seed;
    set_up_malloc();
    sys_random(&seed, sizeof seed);
    map_seed(seed);
    r->accounts = conf_part_new(store_directory_empty(), free_directory);
    int err = receive_first(r);
    if (err)
        return err;
    log_setup(r->snapshot->conf->log.level, r->snapshot->conf->log.format);
    find_selves(r);
    if (relay_folders_shut_in(&r->folders, r->snapshot->conf) != OK)
        log_warn("the sandbox could not be set up");
    err = open_when_free(r, open_store, "store");
    if (err)
        return err;
    err = load_secrets(r);
    if (err)
        return err;
    load_authorities(r);
    r->shared.channel = r->channel;
    r->shared.open_signer = signer_open;
    r->shared.port.kick = kick_workers;
    r->shared.port.kick_ctx = r;
    make_queue(r);
    holds_begin(r->queue, r->snapshot->accounts);
    err = open_when_free(r, open_spool, "spool");
    if (!err)
        err = open_dns(r);
    if (!err)
        err = start_services(r);
    return err;
}

static void stop(struct relay *r)
{
    if (!unsubscribe_stop(r->unsubscribe) || !api_stop(r->api))
        r->shared.cut = true;
    sys_loop_stop(r->main); // from here on nobody kicks a worker
    for (uint32_t i = 0; i < r->workers_count; i++)
        worker_free(r->workers[i]);
    spool_stop(r->spool);
    history_stop(r->history);
    suppress_stop(r->suppress);
    // With its index the open segment needs no scan at the next start. What was cut may still hold on to it.
    if (!r->shared.cut)
        spool_close(r->spool);
    log_info("stopped");
}

int relay_main(int channel)
{
    struct relay *r = mem_new(sizeof *r);
    r->channel = channel;
    r->parts.http = r->parts.unsubscribe = -1;
    int err = pipe2(r->finished, O_CLOEXEC) == -1 ? E_IO : start(r);
    if (err)
        return exit_code_for(err);
    r->start.run = on_main_start;
    sys_post(r->main, &r->start);
    char byte;
    while (read(r->finished[0], &byte, 1) != 1)
        ;
    stop(r);
    return EX_OK; // the process ends: what it still holds goes with it
}
