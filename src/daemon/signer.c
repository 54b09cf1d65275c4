// SPDX-License-Identifier: MIT
#include "daemon/signer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "daemon/channel.h"
#include "daemon/sign_wire.h"
#include "sys/sys_watch.h"

#define AGAIN_MS 50

struct signer {
    int channel, fd; // fd -1: no line
    struct sys_watch *watch;
    struct sign_port port;
    struct sys_timer again;
    struct mono lost_at;
    bool lost; // since lost_at: the line broke, and another has not answered yet
};

static bool send_request(void *ctx, const struct sign_request *r, bool with_key)
{
    const struct signer *s = ctx;
    struct bytes sealed = with_key ? r->sealed : BYTES_NONE;
    struct sign_wire_request wire;
    if (s->fd == -1 || r->input.len > SIGN_INPUT_MAX || sealed.len > SIGN_SEALED_MAX)
        return false;
    wire.id = r->id;
    wire.key = r->key;
    wire.kind = (uint16_t)r->kind;
    wire.len = (uint16_t)r->input.len;
    wire.sealed_len = (uint16_t)sealed.len;
    if (r->input.len)
        memcpy(wire.parts, r->input.at, r->input.len);
    if (sealed.len)
        memcpy(wire.parts + r->input.len, sealed.at, sealed.len);
    size_t size = SIGN_WIRE_REQUEST_HEAD + r->input.len + sealed.len;
    return send(s->fd, &wire, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

// ---- the line ------------------------------------------------------------------------------------------

static void on_readable(void *ctx);

static int open_line(struct signer *s)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == -1)
        return E_IO;
    int err = channel_send(s->channel, CHANNEL_SIGN, BYTES_NONE, ends[1]);
    close(ends[1]);
    if (err) {
        close(ends[0]);
        return err;
    }
    s->fd = ends[0];
    s->watch = sys_watch_open(s->fd, on_readable, s);
    return OK;
}

static void close_line(struct signer *s)
{
    sys_watch_close(s->watch);
    close(s->fd);
    s->fd = -1;
}

// The signer, or before it the guard, has closed it.
static void on_line_gone(struct signer *s)
{
    close_line(s);
    if (!s->lost) {
        s->lost = true;
        s->lost_at = sys_mono();
        sign_port_lost();
    } else if (mono_ms_between(s->lost_at, sys_mono()) > SIGNER_PATIENCE_MS) {
        sign_port_use(NULL);
    }
    sys_timer_set(&s->again, mono_add_ms(sys_mono(), AGAIN_MS));
}

// Whether a signer has the new line shows when it is still open a moment later.
static void on_again(struct sys_timer *timer)
{
    struct signer *s = container_of(timer, struct signer, again);
    if (s->fd == -1) {
        (void)!open_line(s);
    } else if (s->lost) {
        s->lost = false;
        sign_port_use(&s->port);
        sign_port_found();
        return;
    }
    sys_timer_set(&s->again, mono_add_ms(sys_mono(), AGAIN_MS));
}

static void on_readable(void *ctx)
{
    struct signer *s = ctx;
    struct sign_wire_answer wire;
    for (;;) {
        ssize_t n = recv(s->fd, &wire, sizeof wire, MSG_DONTWAIT);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == 0 || (n == -1 && errno != EAGAIN))
            on_line_gone(s);
        if (n < (ssize_t)SIGN_WIRE_ANSWER_HEAD)
            return;
        size_t len = (size_t)n - SIGN_WIRE_ANSWER_HEAD;
        sign_port_answer(wire.id, (enum sign_state)wire.state,
                         bytes_of(wire.bytes, wire.len == len ? len : 0));
    }
}

int signer_open(int channel)
{
    struct signer *s = mem_new(sizeof *s);
    s->channel = channel;
    s->port = (struct sign_port){send_request, s};
    s->again.fire = on_again;
    int err = open_line(s);
    if (err) {
        free(s);
        return err;
    }
    sign_port_use(&s->port);
    return OK;
}
