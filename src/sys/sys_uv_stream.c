// SPDX-License-Identifier: MIT
//
// sys_uv_stream - TCP and Unix connections over libuv
//
// How it works. A write goes to the kernel at once if nothing waits before it; the rest is copied
// into `out` and leaves as one uv_write at a time (`flight`). A connection at rest owns no buffer:
// the read buffer is the loop's.
//
// When a write fails, the peer may have said why just before (a 421, then a reset): if we read, the
// end is told by the read that follows, after those bytes; a timer makes sure that it is told.
//
// Closing in order flushes, sends FIN, then reads and drops until the peer closes too: a socket
// closed with unread input would be reset, and the reset would destroy our last reply on its way.
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/chain.h"
#include "sys/sys_sockaddr.h"
#include "sys/sys_uv.h"

#define FLIGHT_CHUNKS 64        // at most 1 MiB under way in one uv_write
#define LINGER_MS 5000          // for flush and FIN of a stream closed in order
#define END_AFTER_WRITE_MS 1000 // how long the read after a failed write may take to tell the end
#define KEEPALIVE_S 60

struct flight {
    uv_write_t request;
    struct chain bytes;
};

struct sys_stream {
    struct list link; // loop->streams
    struct sys_loop *loop;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    const struct sys_stream_events *events;
    void *ctx;
    struct chain out;
    struct flight *flight;  // owned by libuv while under way
    struct sys_timer timer; // closing: the linger; else: tells `late_err`
    int late_err;
    struct sys_addr peer, local;
    bool connected;
    bool want_read;
    bool shutdown_asked, shutdown_sent;
    bool peer_ended; // nothing more to read
    bool broken;     // reset, or a write failed: what is queued can't arrive
    bool ended;      // on_end was called
    bool closing;    // by the owner: no callbacks any more
    bool destroyed;
};

_Static_assert(sizeof(struct sys_stream) <= 1024, "an idle connection is small");

static struct sys_stream *stream_of(void *handle)
{
    return ((uv_handle_t *)handle)->data;
}

// ---- the end ----------------------------------------------------------------------------------

static void on_closed(uv_handle_t *handle)
{
    struct sys_stream *s = stream_of(handle);
    chain_done(&s->out);
    free(s);
}

static void destroy(struct sys_stream *s, bool abort)
{
    if (s->destroyed)
        return;
    s->destroyed = true;
    s->closing = true;
    sys_timer_stop(&s->timer);
    list_remove(&s->link);
    chain_done(&s->out);
    bool tcp = s->uv.handle.type == UV_TCP;
    if (!abort || !tcp || !s->connected || uv_tcp_close_reset(&s->uv.tcp, on_closed) != 0)
        uv_close(&s->uv.handle, on_closed);
}

static void tell_end(struct sys_stream *s, int err)
{
    if (s->ended || s->closing)
        return;
    s->ended = true;
    sys_timer_stop(&s->timer);
    uv_read_stop(&s->uv.stream);
    if (s->events)
        s->events->on_end(s->ctx, err);
}

static void on_stream_timer(struct sys_timer *timer)
{
    struct sys_stream *s = container_of(timer, struct sys_stream, timer);
    if (s->closing)
        destroy(s, true);
    else
        tell_end(s, s->late_err);
}

// For what is found out inside a call of the owner's: told in a later turn.
static void tell_end_later(struct sys_stream *s, int err, int64_t wait_ms)
{
    s->late_err = err;
    sys_timer_set(&s->timer, mono_add_ms(sys_mono(), wait_ms));
}

// ---- writing ----------------------------------------------------------------------------------

static void fail_write(struct sys_stream *s, int uv_error)
{
    s->broken = true;
    chain_done(&s->out);
    if (s->closing)
        destroy(s, false);
    else if (!s->ended)
        tell_end_later(s, sys_uv_err(uv_error), s->want_read ? END_AFTER_WRITE_MS : 0);
}

static void on_shutdown_sent(uv_shutdown_t *request, int status)
{
    free(request);
}

static void send_fin(struct sys_stream *s)
{
    if (s->shutdown_sent)
        return;
    s->shutdown_sent = true;
    uv_shutdown_t *request = mem_new(sizeof *request);
    if (uv_shutdown(request, &s->uv.stream, on_shutdown_sent) != 0)
        free(request);
}

// Everything queued is with the kernel.
static void on_empty(struct sys_stream *s)
{
    if (s->shutdown_asked || s->closing)
        send_fin(s);
    if (s->closing && s->peer_ended)
        destroy(s, false);
    else if (!s->closing && !s->ended && s->events && s->events->on_drained)
        s->events->on_drained(s->ctx);
}

static void start_flight(struct sys_stream *s);

static void on_written(uv_write_t *request, int status)
{
    struct sys_stream *s = stream_of(request->handle);
    chain_done(&s->flight->bytes);
    free(s->flight);
    s->flight = NULL;
    if (s->destroyed)
        return;
    if (status < 0)
        fail_write(s, status);
    else if (s->out.len > 0)
        start_flight(s);
    else
        on_empty(s);
}

static void move_chunk(struct chain *to, struct chain *from)
{
    struct chunk *chunk = from->first;
    struct chain one = {.first = chunk, .last = chunk, .len = chunk->len};
    from->first = chunk->next;
    if (!from->first)
        from->last = NULL;
    from->len -= chunk->len;
    chunk->next = NULL;
    chain_move(to, &one);
}

static void start_flight(struct sys_stream *s)
{
    if (s->flight || !s->connected || s->out.len == 0)
        return;
    s->flight = mem_new(sizeof *s->flight);
    uv_buf_t buffers[FLIGHT_CHUNKS];
    unsigned count = 0;
    while (s->out.len > 0 && count < FLIGHT_CHUNKS) {
        buffers[count++] = uv_buf_init(s->out.first->data, s->out.first->len);
        move_chunk(&s->flight->bytes, &s->out);
    }
    int rc = uv_write(&s->flight->request, &s->uv.stream, buffers, count, on_written);
    if (rc == 0)
        return;
    chain_done(&s->flight->bytes);
    free(s->flight);
    s->flight = NULL;
    fail_write(s, rc);
}

// What the kernel takes at once of `buffers`, if nothing waits before them; false if the write
// failed.
static bool try_write(struct sys_stream *s, const uv_buf_t *buffers, unsigned count, size_t *out_n)
{
    *out_n = 0;
    if (!s->connected || s->flight || s->out.len > 0)
        return true;
    int n = uv_try_write(&s->uv.stream, buffers, count);
    if (n < 0 && n != UV_EAGAIN) {
        fail_write(s, n);
        return false;
    }
    *out_n = n > 0 ? (size_t)n : 0;
    return true;
}

void sys_stream_write(struct sys_stream *s, struct bytes data)
{
    CHECK(!s->closing && !s->shutdown_asked);
    if (data.len == 0 || s->ended || s->broken)
        return;
    uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)data.at, (unsigned)data.len);
    size_t n;
    if (try_write(s, &buffer, 1, &n) && n < data.len) {
        chain_add(&s->out, bytes_skip(data, n));
        start_flight(s);
    }
}

static void drop_chunk(struct chain *chain)
{
    struct chain one = {0};
    move_chunk(&one, chain);
    chain_done(&one);
}

static void drop_first(struct chain *chain, size_t n)
{
    while (n > 0 && n >= chain->first->len) {
        n -= chain->first->len;
        drop_chunk(chain);
    }
    if (n == 0)
        return;
    struct chunk *first = chain->first;
    memmove(first->data, first->data + n, first->len - n);
    first->len -= (uint32_t)n;
    chain->len -= n;
}

// A turn's output has chunks of its own: one each for some tens of octets would add up while nobody reads them.
static void gather(struct chain *to, struct chain *from)
{
    if (!to->last || from->len > CHUNK_BYTES - to->last->len) {
        chain_move(to, from);
        return;
    }
    for (const struct chunk *chunk = from->first; chunk; chunk = chunk->next)
        chain_add(to, bytes_of(chunk->data, chunk->len));
    chain_done(from);
}

void sys_stream_write_chain(struct sys_stream *s, struct chain *from)
{
    CHECK(!s->closing && !s->shutdown_asked);
    uv_buf_t buffers[FLIGHT_CHUNKS];
    unsigned count = 0;
    for (struct chunk *chunk = from->first; chunk && count < FLIGHT_CHUNKS; chunk = chunk->next)
        buffers[count++] = uv_buf_init(chunk->data, chunk->len);
    size_t n = 0;
    if (from->len == 0 || s->ended || s->broken || !try_write(s, buffers, count, &n)) {
        chain_done(from);
        return;
    }
    drop_first(from, n);
    gather(&s->out, from); // no chunk of `out` is in flight
    start_flight(s);
}

size_t sys_stream_pending(const struct sys_stream *s)
{
    return s->out.len + (s->flight ? s->flight->bytes.len : 0);
}

void sys_stream_shutdown(struct sys_stream *s)
{
    CHECK(!s->closing);
    s->shutdown_asked = true;
    if (s->connected && !s->ended && sys_stream_pending(s) == 0)
        send_fin(s);
}

// ---- reading ----------------------------------------------------------------------------------

static void lend_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct sys_loop *loop = stream_of(handle)->loop;
    *buffer = uv_buf_init(loop->read_buffer, SYS_READ_BYTES);
}

static void on_peer_end(struct sys_stream *s, int uv_error)
{
    s->peer_ended = true;
    int err = s->broken ? s->late_err : sys_uv_err(uv_error);
    s->broken = s->broken || uv_error != UV_EOF;
    if (!s->closing)
        tell_end(s, err);
    else if (uv_error != UV_EOF || sys_stream_pending(s) == 0)
        destroy(s, false);
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buffer)
{
    struct sys_stream *s = stream_of(handle);
    if (n < 0)
        on_peer_end(s, (int)n);
    else if (n > 0 && !s->closing && !s->ended)
        s->events->on_data(s->ctx, bytes_of(buffer->base, (size_t)n));
}

void sys_stream_read(struct sys_stream *s, bool on)
{
    CHECK(!s->closing);
    s->want_read = on;
    if (!s->connected || s->ended)
        return;
    if (on)
        uv_read_start(&s->uv.stream, lend_buffer, on_read);
    else
        uv_read_stop(&s->uv.stream);
}

void sys_stream_set_events(struct sys_stream *s, const struct sys_stream_events *events, void *ctx)
{
    s->events = events;
    s->ctx = ctx;
    sys_stream_read(s, true);
}

// ---- opening and closing ----------------------------------------------------------------------

static struct sys_stream *new_stream(const struct sys_addr *peer)
{
    struct sys_stream *s = mem_new(sizeof *s);
    s->loop = sys_loop_self();
    s->peer = *peer;
    s->timer.fire = on_stream_timer;
    list_push_back(&s->loop->streams, &s->link);
    return s;
}

static void init_handle(struct sys_stream *s, unsigned family, int *out_rc)
{
    *out_rc = 0;
    if (family == AF_UNIX)
        CHECK(uv_pipe_init(&s->loop->uv, &s->uv.pipe, 0) == 0);
    else if (family == AF_UNSPEC ||
             (*out_rc = uv_tcp_init_ex(&s->loop->uv, &s->uv.tcp, family)) != 0)
        CHECK(uv_tcp_init(&s->loop->uv, &s->uv.tcp) == 0); // still to be closed like any other
    s->uv.handle.data = s;
}

static void on_connected(struct sys_stream *s, int status)
{
    if (s->destroyed)
        return;
    if (status != 0) {
        tell_end(s, sys_uv_err(status));
        return;
    }
    s->connected = true;
    sys_stream_read(s, s->want_read);
    start_flight(s);
    if (s->shutdown_asked && sys_stream_pending(s) == 0)
        send_fin(s);
    if (s->events && s->events->on_connected)
        s->events->on_connected(s->ctx);
}

// A connect() to a port of this host where nobody listens may get that same port as its source, and TCP then
// connects the socket to itself (RFC 9293 3.5, simultaneous open): it would wait for its own greeting.
static bool is_connected_to_itself(const struct sys_stream *s)
{
    const struct sys_addr *local = sys_stream_local(s);
    return local->kind != SYS_ADDR_NONE && sys_addr_eq(local, &s->peer);
}

static void on_uv_connected(uv_connect_t *request, int status)
{
    struct sys_stream *s = stream_of(request->handle);
    free(request);
    if (status == 0 && !s->destroyed && is_connected_to_itself(s))
        status = UV_ECONNREFUSED;
    on_connected(s, status);
}

// The port of the source is chosen at connect(), so that one address serves many destinations.
static int bind_source(struct sys_stream *s, const struct sys_addr *from)
{
    int fd, one = 1;
    if (uv_fileno(&s->uv.handle, &fd) == 0 && from->port == 0)
        (void)!setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_storage sockaddr;
    sys_addr_to_sockaddr(from, &sockaddr);
    return uv_tcp_bind(&s->uv.tcp, (struct sockaddr *)&sockaddr, 0);
}

static int connect_tcp(struct sys_stream *s, const struct sys_addr *from)
{
    struct sockaddr_storage to;
    if (sys_addr_to_sockaddr(&s->peer, &to) == 0)
        return UV_EAFNOSUPPORT;
    int rc;
    init_handle(s, to.ss_family, &rc);
    if (rc == 0 && from && from->kind != SYS_ADDR_NONE)
        rc = from->kind == s->peer.kind ? bind_source(s, from) : UV_EAFNOSUPPORT;
    if (rc != 0)
        return rc;
    uv_tcp_nodelay(&s->uv.tcp, 1);
    uv_tcp_keepalive(&s->uv.tcp, 1, KEEPALIVE_S);
    uv_connect_t *request = mem_new(sizeof *request);
    rc = uv_tcp_connect(request, &s->uv.tcp, (struct sockaddr *)&to, on_uv_connected);
    if (rc != 0)
        free(request);
    return rc;
}

static void connect_unix(struct sys_stream *s)
{
    int rc;
    init_handle(s, AF_UNIX, &rc);
    uv_connect_t *request = mem_new(sizeof *request);
    uv_pipe_connect(request, &s->uv.pipe, s->peer.path, on_uv_connected);
}

struct sys_stream *sys_stream_connect(const struct sys_addr *to, const struct sys_addr *from,
                                      const struct sys_stream_events *events, void *ctx)
{
    struct sys_stream *s = new_stream(to);
    s->events = events;
    s->ctx = ctx;
    s->want_read = true;
    int rc = 0;
    if (to->kind == SYS_ADDR_UNIX)
        connect_unix(s);
    else
        rc = connect_tcp(s, from);
    if (rc == UV_EAFNOSUPPORT && s->uv.handle.data == NULL)
        init_handle(s, AF_UNSPEC, &(int){0});
    if (rc != 0)
        tell_end_later(s, sys_uv_err(rc), 0);
    return s;
}

struct sys_stream *sys_uv_stream_accepted(int fd, const struct sys_addr *peer)
{
    struct sys_stream *s = new_stream(peer);
    bool is_unix = peer->kind == SYS_ADDR_UNIX;
    int rc;
    init_handle(s, is_unix ? AF_UNIX : AF_UNSPEC, &rc);
    rc = is_unix ? uv_pipe_open(&s->uv.pipe, fd) : uv_tcp_open(&s->uv.tcp, fd);
    if (rc == 0) {
        s->connected = true;
        return s;
    }
    close(fd);
    destroy(s, false);
    return NULL;
}

void sys_stream_close(struct sys_stream *s, bool abort)
{
    CHECK(!s->closing);
    s->closing = true;
    s->events = NULL;
    bool nothing_to_send = s->peer_ended && sys_stream_pending(s) == 0;
    if (abort || !s->connected || s->broken || nothing_to_send) {
        destroy(s, abort);
        return;
    }
    sys_timer_set(&s->timer, mono_add_ms(sys_mono(), LINGER_MS));
    if (!s->peer_ended)
        uv_read_start(&s->uv.stream, lend_buffer, on_read);
    if (sys_stream_pending(s) == 0)
        send_fin(s);
}

const struct sys_addr *sys_stream_peer(const struct sys_stream *s)
{
    return &s->peer;
}

// Asked of the kernel once, by the first who wants to know.
const struct sys_addr *sys_stream_local(const struct sys_stream *s)
{
    struct sys_stream *own = (struct sys_stream *)(uintptr_t)s;
    struct sockaddr_storage sockaddr;
    socklen_t len = sizeof sockaddr;
    uv_os_fd_t fd;
    if (s->local.kind == SYS_ADDR_NONE && uv_fileno(&s->uv.handle, &fd) == 0 &&
        getsockname(fd, (struct sockaddr *)&sockaddr, &len) == 0)
        sys_addr_from_sockaddr(&sockaddr, len, &own->local);
    return &s->local;
}

bool sys_stream_peer_user(const struct sys_stream *s, uint32_t *out_uid, bool *out_is_self)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    uv_os_fd_t fd;
    if (s->peer.kind != SYS_ADDR_UNIX || uv_fileno(&s->uv.handle, &fd) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
        return false;
    *out_uid = peer.uid;
    *out_is_self = peer.pid == getpid();
    return true;
}

void sys_uv_abandon_streams(struct sys_loop *loop)
{
    list_each(link, &loop->streams) destroy(list_get(link, struct sys_stream, link), false);
}
