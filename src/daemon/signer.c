// SPDX-License-Identifier: MIT
#include "daemon/signer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "daemon/channel.h"
#include "daemon/sign_wire.h"
#include "sys/sys_watch.h"

struct signer {
    int fd;
    struct sys_watch *watch;
    struct net_sign_port port;
};

static bool ask(void *ctx, const struct net_sign_request *request)
{
    const struct signer *s = ctx;
    struct sign_wire_request wire = {.id = request->id,
                                     .key = request->key,
                                     .kind = (uint16_t)request->kind,
                                     .len = (uint16_t)request->input.len};
    if (request->input.len > sizeof wire.input)
        return false;
    memcpy(wire.input, request->input.at, request->input.len);
    size_t size = offsetof(struct sign_wire_request, input) + request->input.len;
    return send(s->fd, &wire, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

static void on_readable(void *ctx)
{
    struct signer *s = ctx;
    struct sign_wire_answer wire;
    const ssize_t head = offsetof(struct sign_wire_answer, signature);
    for (;;) {
        ssize_t n = recv(s->fd, &wire, sizeof wire, MSG_DONTWAIT);
        if (n == -1 && errno == EINTR)
            continue;
        if (n < head) {
            if (n == 0) { // the guard is gone, and this process about to
                sys_watch_close(s->watch);
                net_sign_use(NULL);
            }
            return;
        }
        size_t len = (size_t)(n - head);
        net_sign_answer(wire.id, bytes_of(wire.signature, wire.len == len ? len : 0));
    }
}

int signer_open(int channel)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == -1)
        return E_IO;
    int err = channel_send(channel, CHANNEL_SIGN, BYTES_NONE, ends[1]);
    close(ends[1]);
    if (err) {
        close(ends[0]);
        return err;
    }
    struct signer *s = mem_new(sizeof *s);
    s->fd = ends[0];
    s->watch = sys_watch_open(s->fd, on_readable, s);
    s->port = (struct net_sign_port){ask, s};
    net_sign_use(&s->port);
    return OK;
}
