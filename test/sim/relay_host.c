// SPDX-License-Identifier: MIT
#include "relay_host.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "daemon/worker.h"
#include "intake/snapshot_test.h"

// All that a crash takes away.
struct relay {
    struct sys_loop *main, *dns_loop;
    struct conf_snapshot *snapshot;
    struct spool *spool;
    struct queue *queue;
    struct dns *dns;
    struct worker_shared shared;
    struct worker *workers[RELAY_WORKERS];
    struct worker_listener listener;
    struct sys_timer clock;
    struct sys_task start, drain, recovered;
    uint64_t recovered_kicks; // of this slice, then of those that `recovered` is on its way for
    bool recovered_posted;
    uint32_t drained;
    bool up;
};

static struct {
    struct relay_setup setup;
    struct sim_host *host;
    struct sys_addr address;
    struct relay *relay; // NULL: down
    int start_err;
} machine;

// ---- recovery ------------------------------------------------------------------------------------

static struct queue_now now_of_world(void)
{
    return (struct queue_now){{sim_now_us()}, sim_wall()};
}

static uint32_t recovered_route(void *ctx, const struct spool_summary *summary,
                                const struct spool_summary_recipient *recipient)
{
    struct relay *r = ctx;
    struct route_question question = {.recipient = recipient->domain, .domain = recipient->domain};
    return route_key(r->snapshot->routes, route_pick(r->snapshot->routes, &question));
}

static void on_message(void *ctx, const struct spool_summary *summary)
{
    struct relay *r = ctx;
    acceptance_recover(&r->shared.port, summary, now_of_world(), r->snapshot->conf->retry.max_ms,
                       recovered_route, r, &r->recovered_kicks);
}

static void on_recovered(struct sys_task *task)
{
    struct relay *r = container_of(task, struct relay, recovered);
    uint64_t kicks = r->recovered_kicks;
    r->recovered_kicks = 0;
    r->recovered_posted = false;
    r->shared.port.kick(r, kicks);
}

static void on_slice(void *ctx, bool all)
{
    (void)all;
    struct relay *r = ctx;
    if (r->recovered_posted)
        return;
    r->recovered_posted = true;
    r->recovered.run = on_recovered;
    sys_post(r->main, &r->recovered);
}

static void on_note(void *ctx, struct bytes key, struct bytes value)
{
    struct relay *r = ctx;
    if (!wall_jumps_restore(&r->shared.port.jumps, key, value) &&
        queue_restore(r->queue, key, value, now_of_world()))
        log_warn("note not understood", LOG_STR("key", key));
}

// ---- start ---------------------------------------------------------------------------------------

static void on_clock(struct sys_timer *timer)
{
    struct relay *r = container_of(timer, struct relay, clock);
    struct queue_now now = acceptance_now();
    uint64_t kicks = 0;
    (void)wall_jumps_look(&r->shared.port.jumps, r->spool, r->queue, now, &kicks);
    r->shared.port.kick(r, kicks);
    sys_timer_set(&r->clock, mono_add_ms(now.mono, WALL_JUMPS_LOOK_MS));
}

static void on_main_start(struct sys_task *task)
{
    struct relay *r = container_of(task, struct relay, start);
    r->clock.fire = on_clock;
    sys_timer_set(&r->clock, mono_add_ms(sys_mono(), WALL_JUMPS_LOOK_MS));
    const struct deliver_selves selves = {{machine.address}, 1};
    for (uint32_t i = 0; i < RELAY_WORKERS; i++)
        worker_apply(r->workers[i], r->snapshot, NULL, NULL,
                     worker_listeners_new(&r->listener, 1, &selves));
    spool_tell_rest(r->spool);
    r->up = true;
}

static void kick_workers(void *ctx, uint64_t workers)
{
    struct relay *r = ctx;
    for (uint32_t i = 0; i < RELAY_WORKERS; i++)
        if (workers & (UINT64_C(1) << i) && r->workers[i])
            worker_kick(r->workers[i]);
}

static void make_queue(struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    struct queue_options options = {.workers = RELAY_WORKERS,
                                    .connections_max = conf->limits.connections,
                                    .stored_bytes_max = (uint64_t)1 << 20,
                                    .seed = sim_roll(DICE_RELAY, UINT64_MAX),
                                    .conf = conf};
    r->queue = queue_new(&options);
    r->shared.port = (struct intake_port){.queue = r->queue, .kick = kick_workers, .kick_ctx = r};
}

static int open_spool(struct relay *r)
{
    struct spool_options options = {.directory = RELAY_SPOOL,
                                    .segment_bytes = machine.setup.segment_bytes};
    // Nearly all is told later, so that mail comes in and goes out meanwhile.
    struct spool_recovery recovery = {r, on_message, on_note, on_slice, 1};
    int err = spool_open(&options, &recovery, &r->spool);
    r->shared.port.spool = r->spool;
    wall_jumps_start(&r->shared.port.jumps, now_of_world());
    return err;
}

static void start_services(struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    r->main = sys_loop_start("main");
    r->dns_loop = sys_loop_start("dns");
    CHECK(dns_open(&(struct dns_conf){0}, r->dns_loop, &r->dns) == OK);
    r->shared.dns = dns_cache_new(r->dns, r->dns_loop, NULL);
    r->shared.auth = auth_new(r->main, (struct auth_guard_limits){conf->limits.auth_failures,
                                                                  conf->limits.auth_window_ms,
                                                                  conf->limits.auth_block_ms});
    r->shared.limits = net_limits_new(conf->limits.sessions, conf->limits.sessions_per_address);
    spool_start(r->spool);
    for (uint32_t i = 0; i < RELAY_WORKERS; i++)
        r->workers[i] = worker_start(&r->shared, i);
    r->start.run = on_main_start;
    sys_post(r->main, &r->start);
}

static void boot(void *ctx)
{
    struct relay *r = ctx;
    r->snapshot =
        test_snapshot_parse(bytes_cstr(machine.setup.config), NULL, 1, store_directory_empty());
    make_queue(r);
    machine.start_err = open_spool(r);
    if (machine.start_err)
        return;
    snprintf(r->listener.name, sizeof r->listener.name, "in");
    r->listener.fd = sim_listen(&machine.address);
    start_services(r);
}

struct sim_host *relay_host_new(const struct relay_setup *setup)
{
    machine.setup = *setup;
    machine.relay = NULL;
    CHECK(sys_addr_parse(BYTES("192.0.2.10:25"), &machine.address) == OK);
    machine.host = sim_host_new("relay", &machine.address);
    return machine.host;
}

const struct sys_addr *relay_host_address(void)
{
    return &machine.address;
}

bool relay_host_start(void)
{
    if (sim_host_is_down(machine.host))
        sim_host_boot(machine.host);
    for (;;) {
        struct relay *r = mem_new(sizeof *r);
        machine.relay = r;
        machine.start_err = OK;
        if (!sim_host_call(machine.host, boot, r)) {
            machine.relay = NULL;
            return false;
        }
        if (!machine.start_err)
            return true;
        log_warn("the relay does not start", LOG_ERR(machine.start_err));
        sim_host_crash(machine.host, SIM_KILL); // its process ends
        sim_host_boot(machine.host);
        sim_run_ms(1000);
    }
}

bool relay_host_is_up(void)
{
    if (sim_host_is_down(machine.host))
        machine.relay = NULL;
    return machine.relay != NULL;
}

struct queue *relay_host_queue(void)
{
    return relay_host_is_up() ? machine.relay->queue : NULL;
}

bool relay_host_clock_is_kept(void)
{
    const struct wall_jumps *jumps = relay_host_is_up() ? &machine.relay->shared.port.jumps : NULL;
    return jumps && wall_jumps_is_kept(jumps) &&
           wall_jumps_known(jumps) == wall_jumps_now(jumps, now_of_world());
}

struct spool *relay_host_spool(void)
{
    return relay_host_is_up() ? machine.relay->spool : NULL;
}

// ---- stop ----------------------------------------------------------------------------------------

static void on_drained(void *ctx)
{
    struct relay *r = ctx;
    r->drained++;
}

static void on_drain(struct sys_task *task)
{
    struct relay *r = container_of(task, struct relay, drain);
    for (uint32_t i = 0; i < RELAY_WORKERS; i++)
        worker_drain(r->workers[i], r->main, on_drained, r);
}

static void drain(void *ctx)
{
    struct relay *r = ctx;
    r->drain.run = on_drain;
    sys_post(r->main, &r->drain); // as the guard's word would arrive
}

static void take_down(void *ctx)
{
    struct relay *r = ctx;
    for (uint32_t i = 0; i < RELAY_WORKERS; i++)
        worker_free(r->workers[i]);
    spool_stop(r->spool);
    spool_close(r->spool);
}

static bool is_drained(void *ctx)
{
    return !relay_host_is_up() || machine.relay->drained == RELAY_WORKERS;
}

static bool is_started(void *ctx)
{
    return !relay_host_is_up() || machine.relay->up;
}

bool relay_host_stop(int64_t max_ms)
{
    if (!sim_run_until(is_started, NULL, max_ms) || !relay_host_is_up())
        return false;
    struct relay *r = machine.relay;
    if (!sim_host_call(machine.host, drain, r) || !sim_run_until(is_drained, NULL, max_ms) ||
        !relay_host_is_up() || !sim_host_call(machine.host, take_down, r))
        return false;
    machine.relay = NULL;
    sim_host_crash(machine.host, SIM_KILL); // the process ends
    return true;
}
