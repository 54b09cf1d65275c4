// SPDX-License-Identifier: MIT
#include "daemon/guard_notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define TEXT_MAX 512

// "/path" or "@name" of the abstract names; 0: neither, or too long.
static socklen_t address_of(const char *name, struct sockaddr_un *out)
{
    size_t len = strlen(name);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof out->sun_path)
        return 0;
    memcpy(out->sun_path, name, len);
    if (name[0] == '@')
        out->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

static void send_text(const char *text)
{
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address;
    if (!name || !*name)
        return;
    socklen_t len = address_of(name, &address);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (!len || fd == -1 ||
        sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, len) == -1)
        log_warn("cannot tell the service manager", LOG_CSTR("socket", name));
    if (fd != -1)
        close(fd);
}

void guard_notify_ready(const char *status)
{
    char text[TEXT_MAX];
    snprintf(text, sizeof text, "READY=1\nMAINPID=%d\nSTATUS=%s", getpid(), status);
    send_text(text);
}

void guard_notify_reloading(void)
{
    char text[TEXT_MAX];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    send_text(text);
}

void guard_notify_stopping(int64_t at_most_ms)
{
    char text[TEXT_MAX];
    snprintf(text, sizeof text, "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=%lld",
             (long long)at_most_ms * 1000);
    send_text(text);
}

int guard_notify_sockets(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    uint64_t for_whom, sockets = 0;
    if (!pid || !count || bytes_to_u64(bytes_cstr(pid), INT32_MAX, &for_whom) != OK ||
        for_whom != (uint64_t)getpid() || bytes_to_u64(bytes_cstr(count), 1000, &sockets) != OK)
        sockets = 0;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return (int)sockets;
}
