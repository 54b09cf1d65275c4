// SPDX-License-Identifier: MIT
#include "cli/sink_server.h"

#include <stdlib.h>

#include "base/check.h"
#include "net/net_conn.h"

#define LISTENERS_MAX 64

struct sink_conn {
    struct list link; // server->conns
    struct sink_server *server;
    struct net_conn *net;
    struct sink_smtp *smtp;
    struct sys_timer wake; // a rule's delay
    bool closed;
};

struct sink_server {
    struct sink_server_config config;
    struct sys_listener *listeners[LISTENERS_MAX];
    uint32_t listener_count, conn_count;
    struct list conns;
    void (*finished)(void *ctx); // set: sessions end as soon as they can
    void *finished_ctx;
};

static void tell_finished(struct sink_server *server)
{
    if (server->finished && server->conn_count == 0)
        server->finished(server->finished_ctx);
}

static void conn_free(struct sink_conn *c, bool abort)
{
    c->closed = true;
    net_conn_close(c->net, abort);
    sys_timer_stop(&c->wake);
    sink_smtp_free(c->smtp);
    list_remove(&c->link);
    struct sink_server *server = c->server;
    server->conn_count--;
    free(c);
    tell_finished(server);
}

static void send_output(struct sink_conn *c)
{
    struct buf *out = sink_smtp_output(c->smtp);
    if (out->len)
        net_conn_write(c->net, buf_bytes(out));
    buf_clear(out);
}

// Does what the session wants. False: the connection is gone.
static bool act(struct sink_conn *c)
{
    enum sink_wants wants = sink_smtp_wants(c->smtp);
    if (wants != SINK_WANTS_DROP)
        send_output(c);
    if (c->server->finished && wants != SINK_WANTS_TIME && wants != SINK_WANTS_DROP)
        wants = SINK_WANTS_CLOSE;
    switch (wants) {
    case SINK_WANTS_CLOSE:
    case SINK_WANTS_DROP:
        conn_free(c, wants == SINK_WANTS_DROP);
        return false;
    case SINK_WANTS_TIME:
        net_conn_read(c->net, false);
        sys_timer_set(&c->wake, sink_smtp_wake_at(c->smtp));
        break;
    case SINK_WANTS_TLS:
        net_conn_start_tls_server(c->net, c->server->config.tls);
        break;
    case SINK_WANTS_INPUT:
    case SINK_WANTS_DRAIN:
        net_conn_deadline(c->net, mono_add_ms(sys_mono(), SINK_IDLE_MS));
        break;
    }
    return true;
}

static size_t on_data(void *ctx, struct bytes data)
{
    struct sink_conn *c = ctx;
    if (net_conn_is_full(c->net))
        return 0;
    size_t used = 0, n;
    do {
        n = sink_smtp_feed(c->smtp, bytes_skip(data, used), sys_mono());
        used += n;
        if (!act(c))
            return data.len;
    } while (n && used < data.len && sink_smtp_wants(c->smtp) == SINK_WANTS_INPUT);
    return used;
}

static void on_drained(void *ctx)
{
    struct sink_conn *c = ctx;
    net_conn_read(c->net, true); // offers what was left
}

static void on_wake(struct sys_timer *timer)
{
    struct sink_conn *c = container_of(timer, struct sink_conn, wake);
    sink_smtp_tick(c->smtp, sys_mono());
    if (act(c) && sink_smtp_wants(c->smtp) == SINK_WANTS_INPUT)
        net_conn_read(c->net, true);
}

static void on_tls_done(void *ctx, const struct net_tls_result *result)
{
    struct sink_conn *c = ctx;
    if (result->err)
        conn_free(c, false);
    else
        sink_smtp_tls_started(c->smtp);
}

static void on_deadline(void *ctx)
{
    struct sink_conn *c = ctx;
    if (!sys_timer_is_set(&c->wake))
        conn_free(c, true);
}

static void on_end(void *ctx, int err)
{
    conn_free(ctx, false);
}

static const struct net_conn_events events = {.on_data = on_data,
                                              .on_drained = on_drained,
                                              .on_tls_done = on_tls_done,
                                              .on_deadline = on_deadline,
                                              .on_end = on_end};

static void on_accept(void *ctx, struct sys_stream *s)
{
    struct sink_server *server = ctx;
    struct sink_conn *c = mem_new(sizeof *c);
    c->server = server;
    c->wake.fire = on_wake;
    c->net = net_conn_accept(s, &events, c);
    c->smtp = sink_smtp_new(&server->config.smtp, sys_mono());
    list_push_back(&server->conns, &c->link);
    server->conn_count++;
    act(c);
}

struct sink_server *sink_server_new(const struct sink_server_config *config)
{
    struct sink_server *server = mem_new(sizeof *server);
    server->config = *config;
    server->config.smtp.starttls = config->tls != NULL;
    list_init(&server->conns);
    return server;
}

void sink_server_listen(struct sink_server *server, int fd)
{
    CHECK(server->listener_count < LISTENERS_MAX);
    server->listeners[server->listener_count++] = sys_listener_open(fd, on_accept, server);
}

static void stop_listening(struct sink_server *server)
{
    for (uint32_t i = 0; i < server->listener_count; i++)
        sys_listener_close(server->listeners[i]);
    server->listener_count = 0;
}

void sink_server_finish(struct sink_server *server, void (*done)(void *ctx), void *ctx)
{
    stop_listening(server);
    list_each(link, &server->conns)
    {
        struct sink_conn *c = list_get(link, struct sink_conn, link);
        if (!sys_timer_is_set(&c->wake))
            conn_free(c, false);
    }
    server->finished = done;
    server->finished_ctx = ctx;
    tell_finished(server);
}

void sink_server_close(struct sink_server *server)
{
    server->finished = NULL;
    stop_listening(server);
    list_each(link, &server->conns) conn_free(list_get(link, struct sink_conn, link), true);
    free(server);
}

void sink_server_set_rules(struct sink_server *server, struct sink_rules *rules)
{
    server->config.smtp.rules = rules;
}

uint32_t sink_server_connections(const struct sink_server *server)
{
    return server->conn_count;
}
