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
    // Requests that go in one datagram, at the end of the turn at the latest.
    struct sys_turn_end turn_end;
    char batch[SIGN_WIRE_REQUESTS_MAX];
    size_t batch_len;
    unsigned batch_count;
};

// ---- what is asked -------------------------------------------------------------------------------------

// False: the line is full, and has answers under way.
static bool flush(struct signer *s)
{
    if (s->batch_len &&
        send(s->fd, s->batch, s->batch_len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)s->batch_len)
        s->batch_len = s->batch_count = 0;
    return s->batch_len == 0;
}

static void on_turn_end(struct sys_turn_end *end)
{
    struct signer *s = container_of(end, struct signer, turn_end);
    if (s->fd != -1)
        flush(s);
}

static bool goes_alone(enum sign_kind kind)
{
    return kind != SIGN_ED25519 && kind != SIGN_ECDSA;
}

static bool send_request(void *ctx, const struct sign_request *r, bool with_key)
{
    struct signer *s = ctx;
    struct bytes sealed = with_key ? r->sealed : BYTES_NONE;
    struct sign_wire_request head;
    if (s->fd == -1 || r->input.len > SIGN_INPUT_MAX || sealed.len > SIGN_SEALED_MAX)
        return false;
    size_t size = SIGN_WIRE_REQUEST_HEAD + r->input.len + sealed.len;
    if ((goes_alone(r->kind) || s->batch_count == SIGN_WIRE_BATCH ||
         size > sizeof s->batch - s->batch_len) &&
        !flush(s))
        return false;
    head.id = r->id;
    head.key = r->key;
    head.kind = (uint16_t)r->kind;
    head.len = (uint16_t)r->input.len;
    head.sealed_len = (uint16_t)sealed.len;
    char *at = s->batch + s->batch_len;
    memcpy(at, &head, SIGN_WIRE_REQUEST_HEAD);
    if (r->input.len)
        memcpy(at + SIGN_WIRE_REQUEST_HEAD, r->input.at, r->input.len);
    if (sealed.len)
        memcpy(at + SIGN_WIRE_REQUEST_HEAD + r->input.len, sealed.at, sealed.len);
    s->batch_len += size;
    s->batch_count++;
    if (!goes_alone(r->kind) || !flush(s))
        sys_at_turn_end(&s->turn_end);
    return true;
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
    s->batch_len = s->batch_count = 0; // the port asks again
}

static void refuse_if_long_lost(const struct signer *s)
{
    if (mono_ms_between(s->lost_at, sys_mono()) > SIGNER_PATIENCE_MS)
        sign_port_use(NULL);
}

// The signer, or before it the guard, has closed it.
static void on_line_gone(struct signer *s)
{
    close_line(s);
    if (!s->lost) {
        s->lost = true;
        s->lost_at = sys_mono();
        sign_port_lost();
    }
    refuse_if_long_lost(s);
    sys_timer_set(&s->again, mono_add_ms(sys_mono(), AGAIN_MS));
}

// Whether a signer has the new line shows when it is still open a moment later.
static void on_again(struct sys_timer *timer)
{
    struct signer *s = container_of(timer, struct signer, again);
    if (s->fd == -1) {
        if (open_line(s))
            refuse_if_long_lost(s); // out of descriptors, perhaps
    } else if (s->lost) {
        s->lost = false;
        sign_port_use(&s->port);
        sign_port_found();
        return;
    }
    sys_timer_set(&s->again, mono_add_ms(sys_mono(), AGAIN_MS));
}

static void take_answers(struct bytes datagram)
{
    struct sign_wire_answer head;
    while (datagram.len >= SIGN_WIRE_ANSWER_HEAD) {
        memcpy(&head, datagram.at, SIGN_WIRE_ANSWER_HEAD);
        datagram = bytes_skip(datagram, SIGN_WIRE_ANSWER_HEAD);
        if (head.len > datagram.len)
            return;
        sign_port_answer(head.id, (enum sign_state)head.state, bytes_first(datagram, head.len));
        datagram = bytes_skip(datagram, head.len);
    }
}

static void on_readable(void *ctx)
{
    struct signer *s = ctx;
    char in[SIGN_WIRE_ANSWERS_MAX];
    sys_at_turn_end(&s->turn_end); // if the line was full, it is no more
    for (;;) {
        ssize_t n = recv(s->fd, in, sizeof in, MSG_DONTWAIT);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == 0 || (n == -1 && errno != EAGAIN))
            on_line_gone(s);
        if (n <= 0)
            return;
        take_answers(bytes_of(in, (size_t)n));
    }
}

int signer_open(int channel)
{
    struct signer *s = mem_new(sizeof *s);
    s->channel = channel;
    s->port = (struct sign_port){send_request, s};
    s->again.fire = on_again;
    s->turn_end.fn = on_turn_end;
    int err = open_line(s);
    if (err) {
        free(s);
        return err;
    }
    sign_port_use(&s->port);
    return OK;
}
