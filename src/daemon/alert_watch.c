// SPDX-License-Identifier: MIT
#include "daemon/alert_watch.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "api/alert.h"
#include "base/json.h"
#include "daemon/relay_inside.h"

#define LANES_MAX 512 // looked at in one look
#define DISK_UNKNOWN 100

struct alert_watch {
    struct relay *relay;
    struct alerts alerts;
    struct sys_timer timer;
    struct queue_lane_row rows[LANES_MAX];
    struct alert_lane lanes[LANES_MAX];
};

// ---- telling -----------------------------------------------------------------------------------------

static void tell_guard(struct alert_watch *w, enum alert_id id, bool raised, const char *text)
{
    struct json_object *o = json_object_new_object();
    struct buf at = {0};
    wall_format(sys_wall(), &at);
    json_add_text(o, "at", buf_bytes(&at));
    json_add_text(o, "hostname", w->relay->snapshot->conf->hostname);
    json_add_text(o, "alert", bytes_cstr(alert_name(id)));
    json_add_text(o, "state", raised ? BYTES("raised") : BYTES("over"));
    json_add_text(o, "text", bytes_cstr(text));
    relay_tell_guard(w->relay, CHANNEL_ALERT,
                     bytes_cstr(json_object_to_json_string_ext(
                         o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)));
    json_object_put(o);
    buf_done(&at);
}

static void on_change(void *ctx, enum alert_id id, bool raised, const char *text)
{
    struct alert_watch *w = ctx;
    if (raised)
        log_error("alert", LOG_CSTR("alert", alert_name(id)), LOG_CSTR("detail", text));
    else
        log_info("alert is over", LOG_CSTR("alert", alert_name(id)), LOG_CSTR("detail", text));
    if (w->relay->snapshot->conf->alerts.command.len)
        tell_guard(w, id, raised, text);
}

// ---- looking -----------------------------------------------------------------------------------------

static uint32_t free_percent(const char *path)
{
    struct statvfs vfs;
    if (statvfs(path, &vfs) == -1 || !vfs.f_blocks)
        return DISK_UNKNOWN;
    return (uint32_t)((uint64_t)vfs.f_bavail * 100 / vfs.f_blocks);
}

static void look_at_disks(const struct conf *conf, struct alert_facts *f)
{
    uint32_t spool = free_percent(conf->spool.at), state = free_percent(conf->state.at);
    f->disk = state < spool ? conf->state : conf->spool;
    f->disk_percent = state < spool ? state : spool;
}

// Lanes with mail that no connection could be made for.
static void look_at_lanes(struct alert_watch *w, struct alert_facts *f)
{
    struct queue_now now = acceptance_now();
    uint64_t cursor = 0;
    size_t n = 0, got;
    do {
        got = queue_lanes(w->relay->queue, &cursor, now, w->rows + n, LANES_MAX - n);
        size_t end = n + got;
        for (size_t i = n; i < end; i++) {
            const struct queue_lane_row *row = &w->rows[i];
            // Not while the next attempt lasts either, perhaps for longer than a look is away.
            bool tries = row->text[0] && row->connecting == row->connections;
            if (!row->ready || !(row->backoff_until.us || tries))
                continue;
            w->rows[n] = *row;
            w->lanes[n] = (struct alert_lane){bytes_cstr(w->rows[n].name),
                                              bytes_cstr(w->rows[n].text), row->ready};
            n++;
        }
    } while (got > 0 && n < LANES_MAX);
    f->lanes = w->lanes;
    f->lanes_count = n;
}

static uint64_t count(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)counter, memory_order_relaxed);
}

static void look_at_counters(struct alert_watch *w, struct alert_facts *f)
{
    const struct deliver_counters *c = &w->relay->shared.deliver_counters;
    dns_get_counts(w->relay->dns, &f->dns_answered, &f->dns_failed);
    f->delivered = count(&c->recipients[VERDICT_DELIVERED]) +
                   count(&c->recipients[VERDICT_RELAYED]) + count(&c->recipients[VERDICT_PASSED]);
    f->deferred = count(&c->recipients[VERDICT_DEFERRED]);
    f->failed = count(&c->recipients[VERDICT_FAILED]);
}

static void look_at_certificate(struct alert_watch *w, struct alert_facts *f)
{
    const struct net_tls_server *tls = w->relay->tls_server;
    f->has_certificate = tls && !w->relay->snapshot->conf->tls.self_signed;
    if (f->has_certificate)
        f->certificate_left_ms = net_tls_server_not_after(tls) * 1000 - sys_wall().us / 1000;
}

static void on_look(struct sys_timer *timer)
{
    struct alert_watch *w = container_of(timer, struct alert_watch, timer);
    const struct conf *conf = w->relay->snapshot->conf;
    struct alert_limits limits = {conf->alerts.certificate_ms, conf->alerts.stuck_ms};
    struct alert_facts facts = {.accepting = spool_accepting(w->relay->spool),
                                .memory_is_short = memory_watch_is_short(w->relay->memory)};
    look_at_certificate(w, &facts);
    look_at_disks(conf, &facts);
    look_at_counters(w, &facts);
    look_at_lanes(w, &facts);
    alerts_look(&w->alerts, &facts, &limits, sys_mono(), sys_wall(), on_change, w);
    sys_timer_set(&w->timer, mono_add_ms(sys_mono(), conf->alerts.look_every_ms));
}

struct alert_watch *alert_watch_new(struct relay *relay)
{
    struct alert_watch *w = mem_new(sizeof *w);
    w->relay = relay;
    w->timer.fire = on_look;
    return w;
}

void alert_watch_begin(struct alert_watch *watch)
{
    sys_timer_set(&watch->timer, sys_mono());
}

const struct alerts *alert_watch_alerts(const struct alert_watch *watch)
{
    return &watch->alerts;
}
