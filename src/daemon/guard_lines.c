// SPDX-License-Identifier: MIT
#include "daemon/guard_lines.h"

#include <sys/socket.h>
#include <unistd.h>

void guard_lines_add(struct guard_lines *lines, int fd)
{
    if (lines->count < GUARD_LINES_MAX)
        lines->fds[lines->count++] = fd;
    else
        close(fd);
}

void guard_lines_done(struct guard_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        close(lines->fds[i]);
    lines->count = 0;
}

size_t guard_lines_poll(const struct guard_lines *lines, struct pollfd out[GUARD_LINES_MAX])
{
    for (size_t i = 0; i < lines->count; i++)
        out[i] = (struct pollfd){.fd = lines->fds[i], .events = POLLIN};
    return lines->count;
}

// False at the end of the line.
static bool serve(int fd, struct guard_keys *keys)
{
    struct sign_wire_request request;
    struct sign_wire_answer answer;
    for (int i = 0; i < GUARD_LINES_BATCH; i++) {
        ssize_t n = recv(fd, &request, sizeof request, MSG_DONTWAIT | MSG_TRUNC);
        if (n <= 0)
            return n != 0;
        size_t size = guard_keys_answer(keys, bytes_of(&request, (size_t)n), &answer);
        if (size)
            (void)!send(fd, &answer, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return true;
}

void guard_lines_serve(struct guard_lines *lines, struct guard_keys *keys,
                       const struct pollfd *polled)
{
    size_t kept = 0, count = lines->count;
    for (size_t i = 0; i < count; i++) {
        bool goes_on = !polled[i].revents || serve(lines->fds[i], keys);
        if (goes_on)
            lines->fds[kept++] = lines->fds[i];
        else
            close(lines->fds[i]);
    }
    lines->count = kept;
}
