// SPDX-License-Identifier: MIT
//
// What the guard takes from a relay that may have been taken over: any datagrams, with any number of descriptors. Laws:
// one that has a kind and a text is a message, whose text ends; of descriptors one comes or none; what is malformed is
// refused; no descriptor stays open. The contents of a descriptor are all that it holds, or refused as too large.
//
// The input is cut into datagrams: a byte says how many descriptors go with it, two its length.
#include "daemon/channel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FDS_MAX 3
#define HEAD sizeof(uint32_t)
#define ROOM (HEAD + CHANNEL_TEXT_MAX) // of one datagram; what is longer is cut

static int lowest_free(void)
{
    int fd = dup(STDERR_FILENO);
    close(fd);
    return fd;
}

// A file of these contents, as a relay would offer it.
static int make_file(struct bytes contents)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd != -1 && write(fd, contents.at, contents.len) == (ssize_t)contents.len);
    return fd;
}

static void send_with(int to, struct bytes datagram, int file, size_t fds)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)datagram.at, datagram.len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fds) {
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fds * sizeof(int));
        for (size_t i = 0; i < fds; i++)
            memcpy(CMSG_DATA(c) + i * sizeof file, &file, sizeof file);
    }
    CHECK(sendmsg(to, &msg, MSG_DONTWAIT) == (ssize_t)datagram.len);
}

static void check_message(const struct channel_message *m, struct bytes datagram, size_t fds)
{
    uint32_t kind;
    memcpy(&kind, datagram.at, HEAD);
    struct bytes text = bytes_first(bytes_skip(datagram, HEAD), CHANNEL_TEXT_MAX);
    text.len--; // its last byte is taken for the end
    ptrdiff_t nul = bytes_find(text, '\0');
    CHECK((uint32_t)m->kind == kind && (m->fd != -1) == (fds == 1) && m->cut == (fds > 1));
    CHECK(bytes_eq(bytes_cstr(m->text), nul < 0 ? text : bytes_first(text, (size_t)nul)));
}

static void check_contents(int fd, struct bytes contents, size_t max)
{
    struct buf got;
    int err = channel_read_contents(fd, max, &got); // closes it
    CHECK(err == (contents.len > max ? E_LIMIT : OK));
    if (!err)
        CHECK(bytes_eq(buf_bytes(&got), contents));
    buf_done(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int ends[2] = {-1, -1};
    if (ends[0] == -1)
        CHECK(channel_pair(ends) == OK);
    int before = lowest_free();
    struct bytes rest = bytes_of(data, size);
    while (rest.len >= 3) {
        size_t fds = (unsigned char)rest.at[0] % (FDS_MAX + 1u);
        size_t len = (size_t)(unsigned char)rest.at[1] << 8 | (unsigned char)rest.at[2];
        struct bytes datagram = bytes_first(bytes_skip(rest, 3), len % (2 * ROOM));
        rest = bytes_skip(rest, 3 + datagram.len);
        int file = make_file(datagram);
        send_with(ends[0], datagram, file, fds);
        close(file);

        struct channel_message m;
        int err = channel_receive(ends[1], &m);
        CHECK(err == (datagram.len == 0 ? E_CLOSED : datagram.len <= HEAD ? E_IO : OK));
        if (!err)
            check_message(&m, datagram, fds);
        if (!err && m.fd != -1)
            check_contents(m.fd, datagram, data[0] * 16u);
        CHECK(lowest_free() == before);
    }
    return 0;
}
