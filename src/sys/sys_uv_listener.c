// SPDX-License-Identifier: MIT
//
// sys_uv_listener - accepting connections
//
// How it works. libuv only watches the descriptor (uv_poll); accept4() is ours, because libuv
// answers a lack of descriptors by accepting and closing at once, where a short pause lets clients
// wait in the backlog.
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "sys/sys_sockaddr.h"
#include "sys/sys_uv.h"

#define ACCEPTS_A_TURN 4 // then other loops on the same socket have their turn
#define PAUSE_MS 100
#define YIELD_MS 1

struct sys_listener {
    struct list link; // loop->listeners
    struct sys_loop *loop;
    uv_poll_t poll;
    int fd;
    void (*on_accept)(void *ctx, struct sys_stream *s);
    void *ctx;
    struct sys_timer pause;
    bool warned; // of the present lack of descriptors
    bool closing, yields;
};

static void on_readable(uv_poll_t *poll, int status, int events);

static void resume(struct sys_timer *timer)
{
    struct sys_listener *l = container_of(timer, struct sys_listener, pause);
    l->yields = false;
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
}

static void pause_accepting(struct sys_listener *l, int errno_value)
{
    if (!l->warned)
        log_warn("accepting paused", LOG_INT("listener_fd", l->fd),
                 LOG_CSTR("errno", strerror(errno_value)));
    l->warned = true;
    uv_poll_stop(&l->poll);
    sys_timer_set(&l->pause, mono_add_ms(sys_mono(), PAUSE_MS));
}

// The peer went away while in the backlog, or a pending network error of its own: try the next one.
static bool is_of_one_peer(int e)
{
    return e == EINTR || e == ECONNABORTED || e == EPROTO || e == ENETDOWN || e == ENOPROTOOPT ||
           e == EHOSTDOWN || e == ENONET || e == EHOSTUNREACH || e == EOPNOTSUPP ||
           e == ENETUNREACH || e == EPERM;
}

// False when there is no more to accept for now.
static bool accept_one(struct sys_listener *l)
{
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    int fd = accept4(l->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        int e = errno;
        if (e != EAGAIN && !is_of_one_peer(e))
            pause_accepting(l, e);
        return is_of_one_peer(e);
    }
    l->warned = false;
    struct sys_addr peer;
    sys_addr_from_sockaddr(&from, len, &peer);
    struct sys_stream *s = sys_uv_stream_accepted(fd, &peer);
    if (s)
        l->on_accept(l->ctx, s);
    return true;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct sys_listener *l = poll->data;
    for (int i = 0; i < ACCEPTS_A_TURN && !l->closing && !l->yields && accept_one(l); i++)
        ;
}

struct sys_listener *sys_listener_open(int fd, void (*on_accept)(void *ctx, struct sys_stream *s),
                                       void *ctx)
{
    struct sys_listener *l = mem_new(sizeof *l);
    l->loop = sys_loop_self();
    l->fd = fd;
    l->on_accept = on_accept;
    l->ctx = ctx;
    l->pause.fire = resume;
    list_push_back(&l->loop->listeners, &l->link);
    int one =
        1; // both are inherited by what is accepted; refused by Unix sockets, which need neither
    (void)!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)!setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    CHECK(uv_poll_init(&l->loop->uv, &l->poll, fd) == 0);
    l->poll.data = l;
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
    return l;
}

void sys_listener_yield(struct sys_listener *l)
{
    if (l->closing || l->yields)
        return;
    l->yields = true;
    uv_poll_stop(&l->poll);
    sys_timer_set(&l->pause, mono_add_ms(sys_mono(), YIELD_MS));
}

static void on_closed(uv_handle_t *handle)
{
    struct sys_listener *l = handle->data;
    close(l->fd);
    free(l);
}

void sys_listener_close(struct sys_listener *l)
{
    CHECK(!l->closing);
    l->closing = true;
    list_remove(&l->link);
    sys_timer_stop(&l->pause);
    uv_close((uv_handle_t *)&l->poll, on_closed);
}

void sys_uv_abandon_listeners(struct sys_loop *loop)
{
    list_each(link, &loop->listeners) sys_listener_close(list_get(link, struct sys_listener, link));
}
