// SPDX-License-Identifier: MIT
#include "sys/sys_watch.h"

#include <stdlib.h>

#include "sys/sys_uv.h"

struct sys_watch {
    struct list link; // loop->watches
    uv_poll_t poll;
    void (*on_readable)(void *ctx);
    void *ctx;
};

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct sys_watch *w = poll->data;
    w->on_readable(w->ctx);
}

struct sys_watch *sys_watch_open(int fd, void (*on_readable)(void *ctx), void *ctx)
{
    struct sys_watch *w = mem_new(sizeof *w);
    w->on_readable = on_readable;
    w->ctx = ctx;
    list_push_back(&sys_loop_self()->watches, &w->link);
    CHECK(uv_poll_init(&sys_loop_self()->uv, &w->poll, fd) == 0);
    w->poll.data = w;
    uv_poll_start(&w->poll, UV_READABLE, on_poll);
    return w;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void sys_watch_close(struct sys_watch *w)
{
    list_remove(&w->link);
    uv_close((uv_handle_t *)&w->poll, on_closed);
}

void sys_uv_abandon_watches(struct sys_loop *loop)
{
    list_each(link, &loop->watches) sys_watch_close(list_get(link, struct sys_watch, link));
}
