// SPDX-License-Identifier: MIT
//
// How it works: every event (bytes, deadline, handshake, message loaded, piece ready) ends in pump(), the one
// place that writes output, looks at what the session came to, and decides what is next. Handlers of the session
// only note what happened; so nothing is freed inside its own callback.
//
// CONNECTING is until there is an SMTP session: with TLS from the first byte, until the handshake is over.
// BUSY is with a batch (deliver/delivery.h).
//
//     CONNECTING -> OPENING -> FREE <-> BUSY ... FREE -> QUITTING
//         ^  next address  |     `-> IDLE -> (woken) FREE
//         `----------------'
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "deliver/attempt.h"
#include "deliver/deliver_private.h"
#include "deliver/delivery.h"
#include "net/net_conn.h"
#include "route/route.h"

// No delivery starts just now: outcomes can't be recorded, or too much is rerouted.
#define BLOCKED_RETRY_MS 200

enum state { CONNECTING, OPENING, FREE, IDLE, BUSY, QUITTING, OVER };

struct connection {
    struct deliver_item item;
    struct list idle_link; // in its lane's list while IDLE
    struct deliver *deliver;
    struct queue_connection slot;
    bool has_slot;
    enum state state;
    struct arena arena;
    struct target target;
    uint32_t next; // address to try after the current
    const struct target_address *address;
    struct bytes lane;
    bool tls_started, stopping, blocked, went_through;
    bool opened_final;  // for a route that is local
    bool without_tls;   // may go with, but STARTTLS keeps failing there (deliver/tls_fallback.h)
    bool asked_for_tls; // then the server wanted it after all: this session is of no more use

    struct net_conn *conn;
    struct smtp_client *client;
    struct smtp_client_config config;
    char trouble[VERDICT_TEXT_MAX + 1]; // the last thing that went wrong
    struct dialogue dialogue;
    bool ready, done, reusable, failed; // noted by handlers
    bool in_pump, pump_again;

    struct delivery delivery; // while BUSY
};

static void pump(struct connection *c);
static void open_next(struct connection *c);
static void start_tls(struct connection *c);

// ---- small things ----------------------------------------------------------------------------------------

static void note_trouble(struct connection *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void note_trouble(struct connection *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->trouble, sizeof c->trouble, format, args);
    va_end(args);
}

static void note(struct connection *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void note(struct connection *c, const char *format, ...)
{
    char text[DIALOGUE_LINE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dialogue_add(&c->dialogue, sys_mono(), DIALOGUE_NOTE, bytes_cstr(text));
}

static struct queue *queue_of(struct connection *c)
{
    return c->deliver->options.port->queue;
}

static void kick(struct connection *c, uint64_t kicks)
{
    struct intake_port *port = c->deliver->options.port;
    port->kick(port->kick_ctx, kicks);
}

static void leave_idle(struct connection *c)
{
    if (!list_is_linked(&c->idle_link))
        return;
    struct list *head = c->idle_link.next;
    list_remove(&c->idle_link);
    // The last of a lane takes its list along.
    if (head->next == head) {
        struct map *idle = &c->deliver->idle;
        free(map_remove(idle, bytes_of(&c->slot.lane, sizeof c->slot.lane)));
    }
}

static void enter_idle(struct connection *c)
{
    struct map *idle = &c->deliver->idle;
    struct bytes key = bytes_of(&c->slot.lane, sizeof c->slot.lane);
    struct list *head = map_find(idle, key);
    if (!head) {
        head = mem_new(sizeof *head);
        list_init(head);
        map_set(idle, key, head);
    }
    list_push_back(head, &c->idle_link);
    c->state = IDLE;
}

static enum queue_proof proof_of(const struct connection *c)
{
    switch (net_conn_proof(c->conn)) {
    case NET_TLS_VERIFIED:
        return QUEUE_PROOF_VERIFIED;
    case NET_TLS_ENCRYPTED:
        return QUEUE_PROOF_ENCRYPTED;
    default:
        return QUEUE_PROOF_NONE;
    }
}

// ---- the end ---------------------------------------------------------------------------------------------

static void drop_session(struct connection *c)
{
    if (c->client)
        smtp_client_free(c->client);
    if (c->conn)
        net_conn_close(c->conn, false);
    c->client = NULL;
    c->conn = NULL;
    c->tls_started = c->ready = c->failed = c->done = false;
}

static void give_slot_back(struct connection *c, bool failed)
{
    if (!c->has_slot)
        return;
    c->has_slot = false;
    uint64_t kicks = 0;
    queue_disconnected(queue_of(c), &c->slot, failed, bytes_cstr(failed ? c->trouble : ""),
                       acceptance_now(), &kicks);
    kick(c, kicks);
}

// The slot goes back when the connection is closed: until then the receiver counts it (law 7).
static void start_quit(struct connection *c)
{
    uint64_t kicks = 0;
    queue_leaving(queue_of(c), &c->slot, &kicks);
    kick(c, kicks);
    c->state = QUITTING;
    smtp_client_quit(c->client, sys_mono());
}

static void connection_free(struct connection *c)
{
    CHECK(!c->delivery.batch && !c->has_slot);
    leave_idle(c);
    drop_session(c);
    list_remove(&c->item.link);
    arena_done(&c->arena);
    delivery_done(&c->delivery);
    dialogue_done(&c->dialogue);
    free(c);
}

// No address could be used: the lane backs off, unless it is we who have no more time.
static void give_up_connecting(struct connection *c)
{
    if (c->stopping) {
        give_slot_back(c, false);
        c->state = OVER;
        return;
    }
    uint64_t kicks = 0;
    deliver_count(&c->deliver->options.counters->connections_failed, 1);
    log_info("no connection", LOG_STR("lane", c->lane), LOG_CSTR("because", c->trouble));
    c->has_slot = false;
    queue_connect_failed(queue_of(c), &c->slot, bytes_cstr(c->trouble), acceptance_now(), &kicks);
    kick(c, kicks);
    c->state = OVER;
}

// ---- handlers of the session: note, nothing else -----------------------------------------------------------

static void on_ready(void *ctx, const struct smtp_caps *caps)
{
    (void)caps;
    ((struct connection *)ctx)->ready = true;
}

static void on_outcome(void *ctx, uint32_t rcpt, const struct smtp_outcome *outcome)
{
    struct connection *c = ctx;
    delivery_outcome(&c->delivery, rcpt, outcome, c->slot.messages <= 1);
    if (c->without_tls && outcome->reply && verdict_is_for_want_of_tls(outcome->reply)) {
        verdict_defer(&c->delivery.verdicts[rcpt]);
        tls_fallback_forget(&c->deliver->tls_fallback, c->address->host);
        c->asked_for_tls = true;
    }
}

static void on_done(void *ctx, bool reusable)
{
    struct connection *c = ctx;
    c->done = true;
    c->reusable = reusable;
}

// Where TLS is merely wished for. Whoever logs in never goes without.
static bool may_fall_back(const struct connection *c)
{
    return c->target.tls == TARGET_TLS_MAY && !c->config.login.len;
}

static void starttls_failed(struct connection *c)
{
    int64_t patience_ms = c->deliver->snapshot->conf->retry.first_ms;
    if (may_fall_back(c) &&
        tls_fallback_failed(&c->deliver->tls_fallback, c->address->host, patience_ms, sys_mono()))
        c->next--; // the same address again
}

static void on_failed(void *ctx, const struct smtp_outcome *why)
{
    struct connection *c = ctx;
    c->failed = true;
    const char *host = arena_cstr(&c->arena, c->address->host);
    if (why->reply)
        note_trouble(c, "%.100s answered to %s: %u %.*s", host, smtp_step_name(why->step),
                     why->reply->code,
                     (int)(why->reply->text.len < 300 ? why->reply->text.len : 300),
                     why->reply->text.at ? why->reply->text.at : "");
    else if (why->err != E_TLS || !c->trouble[0])
        note_trouble(c, "%.100s at %s: %s", host, smtp_step_name(why->step), err_text(why->err));
    note(c, "%s", c->trouble);
    // Refused, hung up on, answered with nonsense or silence: as broken as a handshake that fails. 421 is about more.
    if ((why->step == SMTP_STEP_STARTTLS || why->step == SMTP_STEP_TLS) &&
        !(why->reply && why->reply->code == 421))
        starttls_failed(c);
}

static void on_bindings(void *ctx, struct sasl_bindings *out)
{
    net_conn_bindings(((struct connection *)ctx)->conn, out);
}

static void on_line(void *ctx, enum smtp_client_line kind, uint64_t number, struct bytes text)
{
    dialogue_add_line(&((struct connection *)ctx)->dialogue, sys_mono(), kind, number, text);
}

static const struct smtp_client_handlers CLIENT_HANDLERS = {on_ready,  on_outcome,  on_done,
                                                            on_failed, on_bindings, on_line};

// ---- events of the connection ------------------------------------------------------------------------------

static void random_bytes(void *ctx, void *out, size_t n)
{
    (void)ctx;
    sys_random(out, n);
}

static enum smtp_client_tls tls_wish(const struct connection *c)
{
    if (c->target.kind == TARGET_SMTPS)
        return SMTP_CLIENT_TLS_ACTIVE;
    switch (c->target.tls) {
    case TARGET_TLS_ENCRYPT:
    case TARGET_TLS_VERIFY:
        return SMTP_CLIENT_TLS_REQUIRED;
    case TARGET_TLS_NONE:
        return SMTP_CLIENT_TLS_NEVER;
    case TARGET_TLS_MAY:
        break;
    }
    if (c->without_tls || c->address->addr.kind == SYS_ADDR_UNIX)
        return SMTP_CLIENT_TLS_NEVER;
    return c->config.login.len ? SMTP_CLIENT_TLS_REQUIRED : SMTP_CLIENT_TLS_IF_OFFERED;
}

static void open_session(struct connection *c)
{
    c->state = OPENING;
    c->config.tls = tls_wish(c);
    c->client = smtp_client_new(&c->config, &CLIENT_HANDLERS, c, sys_mono());
}

static void on_connected(void *ctx)
{
    struct connection *c = ctx;
    char addr[SYS_ADDR_TEXT];
    note(c, "connected to %.*s, %s", BYTES_FMT(c->address->host),
         sys_addr_format(&c->address->addr, addr));
    if (c->target.kind == TARGET_SMTPS)
        start_tls(c);
    else
        open_session(c);
    pump(c);
}

static size_t on_data(void *ctx, struct bytes data)
{
    struct connection *c = ctx;
    if (c->client)
        smtp_client_feed(c->client, data, sys_mono());
    pump(c);
    return data.len;
}

static void on_drained(void *ctx)
{
    pump(ctx);
}

static void on_tls_done(void *ctx, const struct net_tls_result *result)
{
    struct connection *c = ctx;
    if (result->err == OK)
        note(c, "TLS: %s %s %s", result->protocol, result->cipher,
             result->proof == NET_TLS_VERIFIED ? "verified" : "unverified");
    else
        note_trouble(c, "TLS with %.*s failed: %s", BYTES_FMT(c->address->host), result->reason);
    if (!c->client && result->err == OK)
        open_session(c);
    else if (!c->client)
        open_next(c);
    else if (result->err == OK)
        smtp_client_tls_started(c->client, sys_mono());
    else
        smtp_client_tls_failed(c->client);
    pump(c);
}

static void on_deadline(void *ctx)
{
    struct connection *c = ctx;
    if (c->state == CONNECTING) {
        note_trouble(c, "%.*s does not answer", BYTES_FMT(c->address->host));
        open_next(c);
    } else if (c->state == IDLE) {
        leave_idle(c);
        if (c->blocked)
            c->state = FREE;
        else
            start_quit(c);
    } else if (c->client) {
        smtp_client_tick(c->client, sys_mono());
    }
    pump(c);
}

static void on_end(void *ctx, int err)
{
    struct connection *c = ctx;
    if (c->state == CONNECTING) {
        char addr[SYS_ADDR_TEXT];
        note_trouble(c, "%.*s (%s): %s", BYTES_FMT(c->address->host),
                     sys_addr_format(&c->address->addr, addr), err_text(err));
        open_next(c);
    } else if (c->client) {
        if (!c->trouble[0])
            note_trouble(c, "%.*s closed the connection", BYTES_FMT(c->address->host));
        smtp_client_hangup(c->client, err);
    }
    pump(c);
}

static const struct net_conn_events CONN_EVENTS = {on_connected, on_data,     on_drained,
                                                   on_tls_done,  on_deadline, on_end};

// ---- opening -----------------------------------------------------------------------------------------------

static void open_next(struct connection *c)
{
    drop_session(c);
    if (c->next >= c->target.count || c->stopping) {
        give_up_connecting(c);
        return;
    }
    c->address = &c->target.addresses[c->next++];
    c->without_tls = may_fall_back(c) &&
                     tls_fallback_holds(&c->deliver->tls_fallback, c->address->host, sys_mono());
    c->state = CONNECTING;
    dialogue_begin(&c->dialogue, sys_mono());
    c->conn = net_conn_connect(&c->address->addr, NULL, &CONN_EVENTS, c);
    net_conn_deadline(c->conn, mono_add_ms(sys_mono(), DELIVER_CONNECT_MS));
}

static void start_tls(struct connection *c)
{
    c->tls_started = true;
    struct buf session_key = {0};
    buf_printf(&session_key, "%.*s %d", BYTES_FMT(c->address->host), c->target.tls);
    struct net_tls_client_params params = {
        .server_name = c->address->host,
        .names = &c->address->host,
        .name_count = 1,
        .must_verify = c->target.tls == TARGET_TLS_VERIFY,
        .session_key = buf_bytes(&session_key),
    };
    net_conn_start_tls_client(c->conn, c->deliver->tls, &params);
    buf_done(&session_key);
}

static void take_over(struct connection *c)
{
    struct deliver_counters *counters = c->deliver->options.counters;
    deliver_count(&counters->connections_opened, 1);
    deliver_count(&counters->connections_tls, proof_of(c) != QUEUE_PROOF_NONE);
    if (proof_of(c) != QUEUE_PROOF_NONE)
        tls_fallback_forget(&c->deliver->tls_fallback, c->address->host);
    uint64_t kicks = 0;
    queue_connected(queue_of(c), &c->slot, proof_of(c), acceptance_now(), &kicks);
    const struct smtp_caps *caps = smtp_client_caps(c->client);
    queue_limit_connection(
        queue_of(c), &c->slot,
        &(struct queue_remote){caps->mails_max, caps->rcpts_max, caps->rcpt_domains_max});
    kick(c, kicks);
    c->trouble[0] = '\0';
    c->state = FREE;
}

// ---- transactions ------------------------------------------------------------------------------------------

static void tls_text(const struct connection *c, struct buf *out)
{
    struct net_tls_result tls;
    net_conn_tls_result(c->conn, &tls);
    if (tls.proof == NET_TLS_NONE)
        return;
    buf_printf(out, "%s %s %s", tls.protocol, tls.cipher,
               tls.proof == NET_TLS_VERIFIED ? "verified" : "unverified");
}

static void report(struct connection *c)
{
    struct delivery *d = &c->delivery;
    struct buf tls = {0};
    char ip[SYS_ADDR_TEXT];
    tls_text(c, &tls);
    struct report_facts facts = {.mx = c->address->host,
                                 .ip = bytes_cstr(sys_addr_format(&c->address->addr, ip)),
                                 .tls = buf_bytes(&tls),
                                 .lane = c->lane};
    struct deliver_counters *counters = c->deliver->options.counters;
    deliver_count(&counters->transactions, 1);
    for (uint32_t i = 0; i < d->batch->count; i++)
        deliver_count(&counters->recipients[d->verdicts[i].kind], 1);
    attempt_keep(c->deliver->options.trace, &c->dialogue,
                 &(struct attempt){d->batch, d->verdicts, &facts, c->trouble});
    report_batch(&c->deliver->reporter, d->batch, d->message, d->verdicts, &facts);
    buf_done(&tls);
    delivery_drop(d);
}

static void on_delivery_changed(struct delivery *delivery)
{
    pump(container_of(delivery, struct connection, delivery));
}

// A lane's name stands for one login within one table only (route/route_site.h): after a reload neither the session
// goes on, nor does mail of another table go over it. Without a login the name says it all.
static bool is_of_another_table(const struct connection *c, uint32_t route)
{
    return c->config.login.len && !route_get(c->deliver->snapshot->routes, route);
}

// Does the other side hold the mailboxes? Routes for one host, with recipients of ours or without, share a lane. A
// route of an older table is taken for the one that the connection was opened for.
static bool is_final(const struct connection *c, const struct queue_batch *batch)
{
    const struct route *route = route_get(c->deliver->snapshot->routes, batch->route);
    return route ? route_is_local(route) : c->opened_final;
}

static void reroute(struct connection *c, struct queue_batch *batch)
{
    batch_job_reroute(c->deliver, batch);
    c->blocked = c->deliver->judging >= DELIVER_JUDGING_MAX;
    if (c->blocked)
        enter_idle(c);
}

// The session is free: what next?
static void take_next(struct connection *c)
{
    if (c->stopping || c->asked_for_tls || is_of_another_table(c, c->target.route)) {
        start_quit(c);
        return;
    }
    c->blocked = spool_outcomes_blocked(c->deliver->options.port->spool);
    if (c->blocked) {
        enter_idle(c);
        return;
    }
    uint64_t kicks = 0;
    struct queue_batch *batch;
    enum queue_take taken = queue_take(queue_of(c), &c->slot, acceptance_now(), &batch, &kicks);
    kick(c, kicks);
    switch (taken) {
    case QUEUE_TAKE_BATCH:
        if (is_of_another_table(c, batch->route)) {
            reroute(c, batch);
            break;
        }
        c->state = BUSY;
        c->delivery.final = is_final(c, batch);
        delivery_start(&c->delivery, c->client, batch);
        break;
    case QUEUE_TAKE_IDLE:
        enter_idle(c);
        break;
    case QUEUE_TAKE_CLOSE:
        start_quit(c);
        break;
    }
}

// ---- pump --------------------------------------------------------------------------------------------------

static void write_output(struct connection *c)
{
    struct buf *out = smtp_client_output(c->client);
    while (out->len && !net_conn_is_full(c->conn)) {
        net_conn_write(c->conn, buf_bytes(out));
        buf_clear(out);
        smtp_client_more(c->client, sys_mono());
    }
}

// The transaction is over: the session says so, and the verdicts are there.
static void finish_transaction(struct connection *c)
{
    struct delivery *d = &c->delivery;
    c->done = false;
    delivery_sent(d);
    if (d->too_many)
        queue_limit_recipients(queue_of(c), &c->slot, d->accepted);
    // A refusal in good order is service too, and so is that of an address, though the session ends with it (some do after
    // a few of them); the server can't help what we fail to read.
    c->went_through = c->went_through || c->reusable || d->refused || d->render_failed;
    for (uint32_t i = 0; i < d->batch->count; i++)
        c->went_through = c->went_through || d->verdicts[i].kind <= VERDICT_PASSED;
}

// The batch has been decided, or was settled before it could be sent.
static void end_delivery(struct connection *c)
{
    if (c->delivery.phase == DELIVERY_DECIDED)
        report(c);
    c->state = FREE;
}

// The session is at its end: next address if it never opened, else the slot goes back.
static void end_session(struct connection *c)
{
    if (c->state == BUSY && c->delivery.phase == DELIVERY_LOADING)
        return; // it notices, and comes back here
    if (c->state == OPENING) {
        open_next(c);
        return;
    }
    leave_idle(c);
    // A server may close what is idle, or end a connection that has served: the lane is not to blame.
    give_slot_back(c, c->state != QUITTING && c->state != IDLE && !c->went_through);
    c->state = OVER;
}

static bool is_delivered(const struct delivery *d)
{
    return d->phase == DELIVERY_DECIDED || d->phase == DELIVERY_NONE;
}

static bool step(struct connection *c)
{
    if (!c->client)
        return false;
    write_output(c);
    if (c->done)
        finish_transaction(c);
    if (c->state == BUSY && is_delivered(&c->delivery)) {
        end_delivery(c);
        return true;
    }
    if (c->failed || smtp_client_wants(c->client) == SMTP_CLIENT_CLOSE) {
        enum state before = c->state;
        end_session(c);
        return c->state != before;
    }
    if (smtp_client_wants(c->client) == SMTP_CLIENT_TLS && !c->tls_started) {
        start_tls(c);
        return false;
    }
    if (c->ready && c->state == OPENING) {
        take_over(c);
        return true;
    }
    if (c->state == FREE) {
        take_next(c);
        return true;
    }
    return false;
}

static void set_deadline(struct connection *c)
{
    if (c->state == CONNECTING || !c->conn || !c->client)
        return;
    if (c->state == IDLE) {
        int64_t wait = c->blocked ? BLOCKED_RETRY_MS : DELIVER_IDLE_MS;
        net_conn_deadline(c->conn, mono_add_ms(sys_mono(), wait));
    } else {
        net_conn_deadline(c->conn, smtp_client_deadline(c->client));
    }
}

static void pump(struct connection *c)
{
    if (c->in_pump) {
        c->pump_again = true; // an answer came inside the call that asked
        return;
    }
    c->in_pump = true;
    do {
        c->pump_again = false;
        while (c->state != OVER && step(c))
            ;
    } while (c->pump_again && c->state != OVER);
    c->in_pump = false;
    if (c->state == OVER) {
        struct deliver *d = c->deliver;
        connection_free(c);
        deliver_later(d);
        return;
    }
    set_deadline(c);
}

// ---- for the worker ----------------------------------------------------------------------------------------

static void on_stop(struct deliver_item *item)
{
    struct connection *c = container_of(item, struct connection, item);
    c->stopping = true;
    if (c->state == IDLE) {
        leave_idle(c);
        start_quit(c);
    } else if (c->state == CONNECTING || c->state == OPENING) {
        give_up_connecting(c); // nothing is under way that is worth the wait
    }
    pump(c);
}

static void on_abort(struct deliver_item *item)
{
    struct connection *c = container_of(item, struct connection, item);
    if (delivery_is_pending(&c->delivery))
        return; // its reader or signature still points here; the process ends anyway
    c->stopping = true;
    if (c->delivery.batch)
        queue_batch_free(queue_of(c), c->delivery.batch);
    delivery_drop(&c->delivery);
    c->has_slot = false;
    connection_free(c);
}

bool connection_wake(struct deliver *d, struct queue_lane *lane, enum queue_proof proof)
{
    struct list *head = map_find(&d->idle, bytes_of(&lane, sizeof lane));
    if (!head)
        return false;
    list_each(link, head)
    {
        struct connection *c = list_get(link, struct connection, idle_link);
        if (c->blocked || proof_of(c) != proof)
            continue; // what is blocked looks by itself, and may not be what the queue has for idle
        leave_idle(c);
        c->state = FREE;
        pump(c);
        return true;
    }
    return false;
}

void connection_start(struct deliver *d, const struct queue_work *work, const struct target *target,
                      const struct route *route)
{
    struct connection *c = mem_new(sizeof *c);
    c->item = (struct deliver_item){.stop = on_stop, .abort = on_abort};
    c->deliver = d;
    c->slot = work->connection;
    c->has_slot = true;
    c->target = *target;
    for (uint32_t i = 0; i < target->count; i++)
        c->target.addresses[i].host = arena_dup(&c->arena, target->addresses[i].host);
    c->lane = arena_dup(&c->arena, bytes_cstr(work->name));
    c->config = (struct smtp_client_config){
        .helo_name = arena_dup(&c->arena, d->snapshot->conf->hostname),
        .login = arena_dup(&c->arena, route->login),
        .password = arena_dup(&c->arena, route->password),
        .lmtp = target->kind == TARGET_LMTP,
        .random = random_bytes,
    };
    c->opened_final = route_is_local(route);
    c->delivery = (struct delivery){.deliver = d,
                                    .dialogue = &c->dialogue,
                                    .lmtp = c->config.lmtp,
                                    .changed = on_delivery_changed};
    list_push_back(&d->connections, &c->item.link);
    open_next(c);
    pump(c);
}
