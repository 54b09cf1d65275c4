// SPDX-License-Identifier: MIT
//
// How it works: the process's first thread receives the first configuration, opens spool, store and queue, and
// starts the loops; from then on the main loop listens to the guard, and the first thread waits for it to end.
// What a configuration becomes is relay_apply.c's.
#include "daemon/relay_inside.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/map.h"
#include "daemon/holds.h"
#include "daemon/predecessor.h"
#include "daemon/secret_file.h"
#include "daemon/signer.h"
#include "deliver/trace.h"
#include "event/history.h"
#include "route/route.h"

#define CLOCK_JUMP_TOLD_MS 3600000 // beyond this someone must know
#define NOTES_A_FRAME 50

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
    relay_tell_guard(r, CHANNEL_UPGRADE, BYTES_NONE);
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
    if (r->reload_decided)
        relay_reloaded(r, BYTES("asked\nfailed\nthe service is stopping"));
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
    else if (message.kind == CHANNEL_RELOADED)
        relay_reloaded(r, bytes_cstr(message.text));
    else if (relay_parts_take(&r->parts, &message) && !r->stopping)
        relay_reload(r);
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

// Mail that programs leave in a folder.
static void start_pickup(struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    struct pickup_options options = {.directory = conf->sendmail.pickup,
                                     .socket = conf->sendmail.socket,
                                     .message_size_max = conf->limits.message_size,
                                     .counters = &r->pickup_counters};
    if (options.directory.len && options.socket.len)
        r->pickup = pickup_start(&options);
}

static void on_main_start(struct sys_task *task)
{
    struct relay *r = container_of(task, struct relay, start);
    r->watch = sys_watch_open(r->channel, on_channel, r);
    r->clock.fire = on_clock;
    sys_timer_set(&r->clock, mono_add_ms(sys_mono(), WALL_JUMPS_LOOK_MS));
    struct worker_listeners *listeners[WORKERS_MAX];
    if (relay_make_listeners(r, listeners) != OK) {
        log_error("no descriptors left for the listeners: see ulimit -n");
        _exit(EX_TEMPFAIL);
    }
    relay_apply_to_workers(r, listeners);
    relay_warn_of_accounts(r);
    relay_start_keeper(r);
    alert_watch_begin(r->alerts);
    relay_parts_clear(&r->parts);
    relay_tell_guard(r, CHANNEL_READY, r->snapshot->conf->control);
    start_pickup(r);
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

static uint64_t free_of_queue(void *ctx)
{
    struct queue_counts counts;
    queue_count(((struct relay *)ctx)->queue, &counts);
    return counts.free_bytes;
}

static void on_short_memory(void *ctx)
{
    struct relay *r = ctx;
    for (uint32_t i = 0; i < r->workers_count; i++)
        worker_give_back(r->workers[i]);
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
    if (!err && (err = store_directory_load(r->store, &directory)) != OK)
        store_explain(r->snapshot->conf->state, err, &error);
    if (!err)
        err = suppress_open(r->snapshot->conf->state, &r->suppress, &error);
    r->shared.port.suppress = r->suppress;
    if (err == E_BUSY && r->patient)
        log_debug("the store is in use");
    else if (err)
        log_error("cannot open the store", LOG_STR("because", buf_bytes(&error)), LOG_ERR(err));
    else {
        relay_set_accounts(r, directory);
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
        r->shared.dns = dns_cache_new(r->dns, r->dns_loop, NULL);
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

static void make_trace(struct relay *r, const struct conf *conf)
{
    struct buf path = {0};
    buf_add_all(&path, conf->state, BYTES("/traces"));
    r->shared.trace = trace_new(conf->limits.trace_memory);
    trace_keep_watches(r->shared.trace, buf_bytes(&path));
    buf_done(&path);
}

static int start_services(struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    r->main = sys_loop_start("main");
    r->shared.auth = auth_new(r->main, relay_guard_limits(conf));
    r->shared.limits = net_limits_new(conf->limits.sessions, conf->limits.sessions_per_address);
    spool_start(r->spool);
    int err = history_start(conf->state, r->spool, conf->events.keep_ms, conf->events.size_bytes,
                            &r->history);
    if (err) {
        log_error("cannot open the history", LOG_ERR(err));
        return err;
    }
    r->shared.history = r->history;
    make_trace(r, conf);
    struct suppress_policy policy = relay_suppress_policy(conf);
    err = suppress_start(r->suppress, r->spool, &policy);
    if (err) {
        log_error("cannot use the suppression list", LOG_ERR(err));
        return err;
    }
    for (uint32_t i = 0; i < r->workers_count; i++)
        r->workers[i] = worker_start(&r->shared, i);
    r->alerts = alert_watch_new(r);
    struct api_options options = {.http_fd = r->parts.http,
                                  .alerts = alert_watch_alerts(r->alerts),
                                  .control = conf->control,
                                  .store = r->store,
                                  .policy = relay_policy(r),
                                  .port = &r->shared.port,
                                  .history = r->history,
                                  .trace = r->shared.trace,
                                  .main = r->main,
                                  .limits = r->shared.limits,
                                  .intake_counters = &r->shared.intake_counters,
                                  .deliver_counters = &r->shared.deliver_counters,
                                  .unsubscribe_counters = &r->unsubscribe_counters,
                                  .pickup_counters = &r->pickup_counters,
                                  .process = r->process,
                                  .landlock = r->folders.landlock,
                                  .accounts_changed = relay_accounts_changed,
                                  .upgrade = ask_for_upgrade,
                                  .reload = relay_ask_for_reload,
                                  .certificate = tell_certificate,
                                  .look_after_keys = relay_look_after_keys,
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
    } while (!relay_parts_take(&r->parts, &message));
    struct buf errors = {0};
    int err = relay_apply_first(r, &errors);
    if (err)
        fprintf(stderr, "%.*s", BYTES_FMT(buf_bytes(&errors)));
    buf_done(&errors);
    if (r->parts.incomplete)
        return E_IO;
    return err ? E_SYNTAX : OK; // the configuration or a file that it names must change
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
    sys_random(&seed, sizeof seed);
    map_seed(seed);
    int err = receive_first(r);
    if (err)
        return err;
    log_setup(r->snapshot->conf->log.level, r->snapshot->conf->log.format);
    (void)!getifaddrs(&r->interfaces);
    r->process = sys_process_open();
    r->memory = memory_watch_new(r->process, r->snapshot->conf->limits.memory);
    if (relay_folders_shut_in(&r->folders, r->snapshot->conf) != OK)
        log_warn("the sandbox could not be set up");
    err = open_when_free(r, open_store, "store");
    if (err)
        return err;
    err = load_secrets(r);
    if (err)
        return err;
    relay_load_authorities(r);
    r->shared.channel = r->channel;
    r->shared.open_signer = signer_open;
    r->shared.port.kick = kick_workers;
    r->shared.port.kick_ctx = r;
    r->shared.port.memory_is_short = memory_watch_is_short;
    r->shared.port.memory_ctx = r->memory;
    make_queue(r);
    memory_watch_set_free(r->memory, free_of_queue, r);
    memory_watch_on_short(r->memory, on_short_memory, r);
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
    pickup_stop(r->pickup); // its sessions have been told to end
    sys_loop_stop(r->main); // from here on nobody kicks a worker
    for (uint32_t i = 0; i < r->workers_count; i++)
        worker_free(r->workers[i]);
    spool_stop(r->spool);
    history_stop(r->history);
    suppress_stop(r->suppress);
    if (!r->shared.cut) { // else what was cut may still hold on to them
        history_free(r->history);
        trace_free(r->shared.trace);
        spool_close(r->spool); // with its index the open segment needs no scan at the next start
    }
    log_info("stopped");
}

int relay_main(int channel)
{
    struct relay *r = mem_new(sizeof *r);
    r->channel = channel;
    r->parts.http = r->parts.unsubscribe = -1;
    r->parts.roles = (struct roles){-1, -1};
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
