// SPDX-License-Identifier: MIT
#include "daemon/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"

struct wire {
    uint32_t kind;
    char text[CHANNEL_TEXT_MAX];
};

int channel_pair(int out_fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, out_fds) == -1 ? E_IO : OK;
}

int channel_send(int channel, enum channel_kind kind, struct bytes text, int fd)
{
    struct wire wire = {.kind = kind};
    struct bytes cut = bytes_first(text, CHANNEL_TEXT_MAX - 1);
    if (cut.len)
        memcpy(wire.text, cut.at, cut.len);

    struct iovec iov = {&wire, offsetof(struct wire, text) + cut.len + 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd != -1) {
        msg.msg_control = control.space;
        msg.msg_controllen = sizeof control.space;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t n;
    do
        n = sendmsg(channel, &msg, MSG_NOSIGNAL);
    while (n == -1 && errno == EINTR);
    if (n == -1)
        return errno == EPIPE || errno == ECONNRESET ? E_CLOSED : E_IO;
    return OK;
}

int channel_send_contents(int channel, enum channel_kind kind, struct bytes text,
                          struct bytes contents)
{
    int fd = memfd_create("posthaste", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd == -1)
        return E_IO;
    int err = OK;
    for (size_t done = 0; done < contents.len && !err;) {
        ssize_t n = write(fd, contents.at + done, contents.len - done);
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            err = E_IO;
    }
    if (!err && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == -1)
        err = E_IO;
    if (!err)
        err = channel_send(channel, kind, text, fd);
    close(fd);
    return err;
}

// One descriptor is kept, or -1. The kernel puts as many into the process as there is room for, asked for or not.
static int take_descriptor(struct msghdr *msg, bool *out_cut)
{
    int fd = -1, count = 0;
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < count; i++) {
        memcpy(&fd, CMSG_DATA(c) + (size_t)i * sizeof fd, sizeof fd);
        if (count > 1)
            close(fd);
    }
    *out_cut = count > 1 || msg->msg_flags & MSG_CTRUNC;
    return count == 1 ? fd : -1;
}

int channel_receive(int channel, struct channel_message *out)
{
    struct wire wire;
    struct iovec iov = {&wire, sizeof wire};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    ssize_t n;
    do
        n = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC);
    while (n == -1 && errno == EINTR);
    if (n == -1)
        return errno == ECONNRESET ? E_CLOSED : E_IO;
    out->fd = take_descriptor(&msg, &out->cut);
    if (n <= (ssize_t)offsetof(struct wire, text)) {
        if (out->fd != -1)
            close(out->fd);
        return n == 0 ? E_CLOSED : E_IO; // an empty one can't be told from the end
    }
    out->kind = (enum channel_kind)wire.kind;
    size_t text_len = (size_t)n - offsetof(struct wire, text);
    memcpy(out->text, wire.text, text_len);
    out->text[text_len - 1] = '\0';
    return OK;
}

int channel_read_contents(int fd, size_t max, struct buf *out)
{
    struct stat st;
    buf_init(out, 0);
    int err = fstat(fd, &st) == -1 ? E_IO : (uint64_t)st.st_size > max ? E_LIMIT : OK;
    size_t size = err ? 0 : (size_t)st.st_size;
    char *room = buf_reserve(out, size);
    while (!err && out->len < size) {
        ssize_t n = pread(fd, room + out->len, size - out->len, (off_t)out->len);
        if (n > 0)
            buf_commit(out, (size_t)n);
        else if (n == 0 || errno != EINTR)
            err = E_IO;
    }
    close(fd);
    if (err)
        buf_done(out);
    return err;
}
