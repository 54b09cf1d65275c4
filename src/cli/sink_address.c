// SPDX-License-Identifier: MIT
#include "cli/sink_address.h"

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "sys/sys_sockaddr.h"

#define BACKLOG 4096

static int resolve(struct bytes host, struct bytes port, struct sys_addr *out)
{
    struct buf name = {0}, service = {0};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC}, *found = NULL;
    buf_add(&name, host);
    buf_add(&service, port);
    int rc = getaddrinfo(buf_cstr(&name), buf_cstr(&service), &hints, &found);
    if (rc == 0) {
        struct sockaddr_storage address = {0};
        memcpy(&address, found->ai_addr, found->ai_addrlen);
        sys_addr_from_sockaddr(&address, found->ai_addrlen, out);
        freeaddrinfo(found);
    }
    buf_done(&name);
    buf_done(&service);
    return rc == 0 ? OK : E_NOT_FOUND;
}

int sink_address_parse(const char *text, struct sys_addr *out)
{
    struct bytes s = bytes_cstr(text);
    if (sys_addr_parse(s, out) == OK)
        return OK;
    ptrdiff_t colon = bytes_find_last(s, ':');
    uint64_t port;
    if (colon <= 0 || bytes_to_u64(bytes_skip(s, (size_t)colon + 1), 65535, &port))
        return E_SYNTAX;
    return resolve(bytes_first(s, (size_t)colon), bytes_skip(s, (size_t)colon + 1), out);
}

static int listen_on(int fd, const struct sockaddr_storage *address, socklen_t len)
{
    int on = 1;
    if (address->ss_family != AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)address, len) || listen(fd, BACKLOG))
        return errno == EADDRINUSE ? E_BUSY : err_from_errno(errno);
    return OK;
}

int sink_address_listen(struct sys_addr *address, int *out_fd)
{
    struct sockaddr_storage raw;
    socklen_t len = sys_addr_to_sockaddr(address, &raw);
    int fd = socket(raw.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_from_errno(errno);
    int err = listen_on(fd, &raw, len);
    len = sizeof raw;
    if (!err && getsockname(fd, (struct sockaddr *)&raw, &len))
        err = err_from_errno(errno);
    if (err) {
        close(fd);
        return err;
    }
    sys_addr_from_sockaddr(&raw, len, address);
    *out_fd = fd;
    return OK;
}
