// SPDX-License-Identifier: MIT
//
// net_conn - one connection
//
// How it works. Input: stream -> (net_tls) -> on_data; what the owner leaves is kept in `in`.
// Output: `out` collects what is written in a turn; at its end it is encrypted and handed to the
// stream in one piece. Everything that must not happen inside an owner's call (offering kept input,
// starting a handshake, freeing) is a flag that the turn-end hook acts on.
#include "net/net_conn.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/check.h"

#define READ_BYTES 16384 // of plaintext at once: one full TLS record
// Reading stops at NET_CONN_IN_HIGH; what one read brings may still come on top.
#define IN_MAX (NET_CONN_IN_HIGH + 65536)

struct ends {
    struct sys_addr peer, local;
};

struct net_conn {
    struct sys_stream *stream;
    struct ends *told; // by a proxy; NULL: the stream's
    struct net_tls *tls;
    const struct net_conn_events *events;
    void *ctx;
    struct buf in;    // plaintext that the owner did not consume
    struct chain out; // plaintext not encrypted or not with the stream
    struct sys_turn_end turn_end;
    struct sys_timer timer;
    struct mono deadline;
    bool connected;
    bool reading;        // the owner's wish
    bool stream_reading; // what we told the stream
    bool in_on_data;
    bool awaits_proxy; // `in` has what came of its header so far
    bool offer;        // at turn end: offer kept input again
    bool step_tls;     // at turn end: begin the handshake
    bool shaking;      // TLS was started, and is not established
    bool injected;     // there was plaintext where TLS had to begin
    bool owes_drained;
    bool over; // on_end or a failed on_tls_done was told
    bool closing, abort;
};

_Static_assert(sizeof(struct net_conn) <= 512, "an idle connection is small");

static void at_turn_end(struct net_conn *c)
{
    sys_at_turn_end(&c->turn_end);
}

// ---- the end ----------------------------------------------------------------------------------

// Does the peer read nothing of what TLS answers it, or far too little?
static bool is_deaf(const struct net_conn *c)
{
    return c->tls &&
           net_tls_output(c->tls)->len + sys_stream_pending(c->stream) >= NET_CONN_DEAF_HIGH;
}

static bool has_room(const struct net_conn *c)
{
    return c->in.len < NET_CONN_IN_HIGH && !is_deaf(c) &&
           !(c->shaking && net_tls_unread(c->tls) >= NET_CONN_IN_HIGH);
}

static void update_reading(struct net_conn *c)
{
    bool want = c->reading && !c->over && !c->closing && has_room(c);
    if (want == c->stream_reading || !c->connected)
        return;
    c->stream_reading = want;
    sys_stream_read(c->stream, want);
}

static void fail_tls(struct net_conn *c, int err, const char *reason)
{
    if (c->over || c->closing)
        return;
    struct net_tls_result result;
    net_tls_get_result(c->tls, &result);
    if (reason) {
        result = (struct net_tls_result){.err = err, .protocol = "", .cipher = ""};
        snprintf(result.reason, sizeof result.reason, "%s", reason);
    }
    c->over = true;
    at_turn_end(c); // the alert is still to be sent
    update_reading(c);
    c->events->on_tls_done(c->ctx, &result);
}

static void tell_end(struct net_conn *c, int err)
{
    if (c->over || c->closing)
        return;
    if (c->shaking) {
        fail_tls(c, err, err == E_CLOSED ? "closed during the handshake" : err_text(err));
        return;
    }
    c->over = true;
    update_reading(c);
    c->events->on_end(c->ctx, err);
}

// ---- input ------------------------------------------------------------------------------------

static bool may_give(const struct net_conn *c)
{
    return c->reading && !c->over && !c->closing && c->in.len < NET_CONN_IN_HIGH;
}

static size_t call_on_data(struct net_conn *c, struct bytes data)
{
    struct net_tls *tls_before = c->tls;
    c->in_on_data = true;
    size_t n = c->events->on_data(c->ctx, data);
    c->in_on_data = false;
    CHECK(n <= data.len);
    if (c->tls != tls_before && n < data.len)
        c->injected = true;
    return n;
}

// Offers what was kept with `data` behind it, and keeps what is not consumed.
static void give(struct net_conn *c, struct bytes data)
{
    bool may_call = c->reading && !c->over && !c->closing;
    if (c->in.len == 0) {
        size_t n = may_call && data.len > 0 ? call_on_data(c, data) : 0;
        buf_add(&c->in, bytes_skip(data, n));
    } else {
        buf_add(&c->in, data);
        if (may_call)
            buf_consume(&c->in, call_on_data(c, buf_bytes(&c->in)));
    }
    CHECK(c->in.err == OK);
    if (c->in.len == 0)
        buf_done(&c->in);
}

static void decrypt(struct net_conn *c)
{
    char plain[READ_BYTES];
    while (may_give(c)) {
        size_t n;
        int err = net_tls_read(c->tls, plain, sizeof plain, &n);
        if (err == OK)
            give(c, bytes_of(plain, n));
        else if (err != E_AGAIN)
            tell_end(c, err);
        if (err != OK)
            break;
    }
    if (net_tls_output(c->tls)->len > 0)
        at_turn_end(c); // an alert, a key update
}

static void shake_hands(struct net_conn *c)
{
    if (c->injected) {
        fail_tls(c, E_SYNTAX, "plaintext where the TLS handshake had to begin");
        return;
    }
    int err = net_tls_handshake(c->tls);
    at_turn_end(c);
    if (err == E_AGAIN)
        return;
    if (err != OK) {
        fail_tls(c, err, NULL);
        return;
    }
    c->shaking = false;
    struct net_tls_result result;
    net_tls_get_result(c->tls, &result);
    c->events->on_tls_done(c->ctx, &result);
}

static void advance_tls(struct net_conn *c)
{
    if (c->shaking)
        shake_hands(c);
    if (!c->shaking && !c->closing)
        decrypt(c);
}

// The header's part of the data is taken off; what is left is as if it had come alone.
static struct bytes take_proxy(struct net_conn *c, struct bytes data)
{
    struct net_proxy_header header;
    size_t before = c->in.len, used;
    buf_add(&c->in, data);
    CHECK(c->in.err == OK);
    enum net_proxy_step step = net_proxy_parse(buf_bytes(&c->in), &header, &used);
    if (step == NET_PROXY_MORE)
        return BYTES_NONE;
    buf_done(&c->in);
    c->awaits_proxy = false;
    c->over = step == NET_PROXY_BAD;
    if (step == NET_PROXY_DONE && header.whose == NET_PROXY_CLIENT)
        net_conn_tell_ends(c, &header.source, &header.destination);
    c->events->on_proxied(c->ctx, &header);
    return c->over ? BYTES_NONE : bytes_skip(data, used - before);
}

static void on_stream_data(void *ctx, struct bytes data)
{
    struct net_conn *c = ctx;
    if (c->closing || c->over)
        return;
    if (c->awaits_proxy)
        data = take_proxy(c, data);
    if (c->closing || data.len == 0)
        return;
    if (c->tls) {
        net_tls_feed(c->tls, data);
        advance_tls(c);
    } else {
        give(c, data);
    }
    if (!c->closing)
        update_reading(c);
}

void net_conn_read(struct net_conn *c, bool on)
{
    c->reading = on;
    if (!on) {
        update_reading(c);
        return;
    }
    c->offer = true; // and with it the reading starts again, if there is room
    at_turn_end(c);
}

static void offer_input(struct net_conn *c)
{
    c->offer = false;
    if (!c->awaits_proxy)
        give(c, BYTES_NONE);
    if (c->tls && !c->shaking && !c->closing)
        decrypt(c);
    if (!c->closing)
        update_reading(c);
}

// ---- output -----------------------------------------------------------------------------------

static void encrypt(struct net_conn *c)
{
    int err = OK;
    for (const struct chunk *chunk = c->out.first; chunk && err == OK; chunk = chunk->next)
        err = net_tls_write(c->tls, bytes_of(chunk->data, chunk->len));
    chain_done(&c->out);
    if (err != OK)
        tell_end(c, err);
}

static void flush(struct net_conn *c)
{
    if (!c->connected)
        return;
    if (c->tls && !c->shaking)
        encrypt(c);
    if (c->tls)
        sys_stream_write_chain(c->stream, net_tls_output(c->tls));
    else
        sys_stream_write_chain(c->stream, &c->out);
    // Encryption adds to what was not full when it was written.
    c->owes_drained = c->owes_drained || net_conn_is_full(c);
}

static void tell_drained(struct net_conn *c)
{
    if (!c->owes_drained || c->over || c->closing || net_conn_pending(c) > 0)
        return;
    c->owes_drained = false;
    if (c->events->on_drained)
        c->events->on_drained(c->ctx);
}

static void on_stream_drained(void *ctx)
{
    struct net_conn *c = ctx;
    update_reading(c);
    tell_drained(c);
}

static void wrote(struct net_conn *c)
{
    c->owes_drained = c->owes_drained || net_conn_is_full(c);
    at_turn_end(c);
}

void net_conn_write(struct net_conn *c, struct bytes data)
{
    CHECK(!c->closing);
    if (c->over || data.len == 0)
        return;
    chain_add(&c->out, data);
    wrote(c);
}

void net_conn_write_chain(struct net_conn *c, struct chain *from)
{
    CHECK(!c->closing);
    if (c->over) {
        chain_done(from);
        return;
    }
    chain_move(&c->out, from);
    wrote(c);
}

size_t net_conn_pending(const struct net_conn *c)
{
    return c->out.len + (c->tls ? net_tls_output(c->tls)->len : 0) + sys_stream_pending(c->stream);
}

// ---- TLS --------------------------------------------------------------------------------------

static void on_signature(void *ctx)
{
    struct net_conn *c = ctx;
    c->step_tls = true;
    at_turn_end(c);
}

static void start_tls(struct net_conn *c, struct net_tls *tls)
{
    CHECK(!c->tls && !c->closing && !c->awaits_proxy);
    flush(c); // what was written before is in the clear
    c->tls = tls;
    net_tls_set_wake(tls, on_signature, c);
    c->shaking = true;
    c->step_tls = true;
    c->injected = !c->in_on_data && c->in.len > 0;
    at_turn_end(c);
}

void net_conn_start_tls_server(struct net_conn *c, struct net_tls_server *server)
{
    CHECK(c->connected);
    start_tls(c, net_tls_new_server(server));
}

void net_conn_start_tls_server_asking(struct net_conn *c, struct net_tls_server *server)
{
    CHECK(c->connected);
    start_tls(c, net_tls_new_server(server));
    net_tls_ask_certificate(c->tls, server);
}

void net_conn_start_tls_client(struct net_conn *c, struct net_tls_client *client,
                               const struct net_tls_client_params *params)
{
    CHECK(c->connected || c->out.len == 0);
    start_tls(c, net_tls_new_client(client, params));
}

enum net_tls_proof net_conn_proof(const struct net_conn *c)
{
    if (!c->tls || c->shaking)
        return NET_TLS_NONE;
    struct net_tls_result result;
    net_tls_get_result(c->tls, &result);
    return result.proof;
}

void net_conn_tls_result(const struct net_conn *c, struct net_tls_result *out)
{
    *out = (struct net_tls_result){.protocol = "", .cipher = ""};
    if (c->tls)
        net_tls_get_result(c->tls, out);
}

void net_conn_bindings(const struct net_conn *c, struct sasl_bindings *out)
{
    *out = (struct sasl_bindings){0};
    if (c->tls)
        net_tls_bindings(c->tls, out);
}

void net_conn_certificate(const struct net_conn *c, struct net_tls_peer *out, struct buf *names)
{
    *out = (struct net_tls_peer){0};
    if (c->tls)
        net_tls_get_peer(c->tls, out);
    if (names && out->given)
        net_tls_peer_names(c->tls, names);
}

// ---- the deadline -----------------------------------------------------------------------------

// The timer is only ever moved forward in time; when it fires too early, it is set again.
static void arm(struct net_conn *c)
{
    const int64_t step_us = NET_CONN_DEADLINE_MS * 1000;
    if (c->deadline.us > MONO_NEVER.us - step_us)
        return;
    struct mono at = {(c->deadline.us / step_us + 1) * step_us};
    if (!sys_timer_is_set(&c->timer) || c->timer.node.key > at.us)
        sys_timer_set(&c->timer, at);
}

static void on_timer(struct sys_timer *timer)
{
    struct net_conn *c = container_of(timer, struct net_conn, timer);
    if (!mono_reached(c->deadline, sys_mono())) {
        arm(c);
        return;
    }
    c->deadline = MONO_NEVER;
    if (!c->over && c->events->on_deadline)
        c->events->on_deadline(c->ctx);
}

void net_conn_deadline(struct net_conn *c, struct mono at)
{
    c->deadline = at;
    arm(c);
}

// ---- opening and closing ----------------------------------------------------------------------

static void finish(struct net_conn *c)
{
    bool in_order = !c->abort && c->connected;
    if (in_order) {
        flush(c);
        if (c->tls && !c->shaking)
            net_tls_shutdown(c->tls);
        flush(c);
    }
    sys_stream_close(c->stream, c->abort);
    net_tls_free(c->tls);
    chain_done(&c->out);
    buf_done(&c->in);
    free(c->told);
    free(c);
}

static void on_turn_end(struct sys_turn_end *end)
{
    struct net_conn *c = container_of(end, struct net_conn, turn_end);
    if (!c->closing && c->step_tls && c->connected) {
        c->step_tls = false;
        advance_tls(c);
        if (!c->closing)
            update_reading(c);
    }
    if (!c->closing && c->offer)
        offer_input(c);
    if (c->closing) {
        list_remove(&c->turn_end.link); // asked for again by one of the above
        finish(c);
        return;
    }
    flush(c);
    update_reading(c); // the kernel may have taken all at once
    tell_drained(c);
}

static void on_stream_connected(void *ctx)
{
    struct net_conn *c = ctx;
    c->connected = true;
    c->stream_reading = true;
    update_reading(c);
    at_turn_end(c);
    if (!c->closing && c->events->on_connected)
        c->events->on_connected(c->ctx);
}

static void on_stream_end(void *ctx, int err)
{
    tell_end(ctx, err);
}

static const struct sys_stream_events stream_events = {on_stream_connected, on_stream_data,
                                                       on_stream_drained, on_stream_end};

static struct net_conn *new_conn(const struct net_conn_events *events, void *ctx)
{
    struct net_conn *c = mem_new(sizeof *c);
    c->events = events;
    c->ctx = ctx;
    c->turn_end.fn = on_turn_end;
    c->timer.fire = on_timer;
    c->deadline = MONO_NEVER;
    c->reading = true;
    buf_init(&c->in, IN_MAX);
    return c;
}

struct net_conn *net_conn_accept(struct sys_stream *s, const struct net_conn_events *events,
                                 void *ctx)
{
    struct net_conn *c = new_conn(events, ctx);
    c->stream = s;
    c->connected = c->stream_reading = true;
    sys_stream_set_events(s, &stream_events, c);
    return c;
}

void net_conn_await_proxy(struct net_conn *c)
{
    CHECK(!c->tls && c->in.len == 0 && c->events->on_proxied);
    c->awaits_proxy = true;
}

struct net_conn *net_conn_connect(const struct sys_addr *to, const struct sys_addr *from,
                                  const struct net_conn_events *events, void *ctx)
{
    struct net_conn *c = new_conn(events, ctx);
    c->stream = sys_stream_connect(to, from, &stream_events, c);
    return c;
}

void net_conn_set_owner(struct net_conn *c, const struct net_conn_events *events, void *ctx)
{
    c->events = events;
    c->ctx = ctx;
    net_conn_read(c, true);
}

void net_conn_close(struct net_conn *c, bool abort)
{
    CHECK(!c->closing);
    c->closing = true;
    c->abort = abort;
    sys_timer_stop(&c->timer);
    at_turn_end(c);
}

const struct sys_addr *net_conn_peer(const struct net_conn *c)
{
    return c->told ? &c->told->peer : sys_stream_peer(c->stream);
}

const struct sys_addr *net_conn_local(const struct net_conn *c)
{
    return c->told ? &c->told->local : sys_stream_local(c->stream);
}

void net_conn_tell_ends(struct net_conn *c, const struct sys_addr *peer,
                        const struct sys_addr *local)
{
    struct ends *told = mem_new(sizeof *told);
    *told = (struct ends){*(peer ? peer : net_conn_peer(c)), *(local ? local : net_conn_local(c))};
    free(c->told);
    c->told = told;
}
