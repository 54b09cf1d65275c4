// SPDX-License-Identifier: MIT
#include "daemon/predecessor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"

#define FLAG_EXITING 0x4u      // of /proc/PID/stat (PF_EXITING)
#define PENDING_KILL (1u << 8) // SIGKILL in a mask of /proc/PID/status

// The process at the other end of the socket; 0: nobody listens there.
static pid_t ask_socket(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    if (strlen(path) >= sizeof addr.sun_path)
        return 0;
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return 0;
    bool there = connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0 &&
                 getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0;
    close(fd);
    return there ? peer.pid : 0;
}

// A file of /proc/PID, at most size - 1 bytes of it; empty when the process is gone.
static void read_proc(pid_t pid, const char *name, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(out, 1, size - 1, f) : 0;
    out[n] = '\0';
    if (f)
        fclose(f);
}

static bool has_pending_kill(const char *status, const char *mask)
{
    const char *at = strstr(status, mask);
    return at && strtoull(at + strlen(mask), NULL, 16) & PENDING_KILL;
}

// The field of /proc/PID/stat with that number (proc(5)), from 3 on, which is behind the name.
static struct bytes stat_field(struct bytes behind_name, int number)
{
    struct bytes field = BYTES_NONE;
    for (int i = 3; i <= number; i++)
        bytes_cut(&behind_name, ' ', &field);
    return field;
}

// Lives, as far as one look can tell. *out_parent: who started it.
static bool lives(pid_t pid, pid_t *out_parent)
{
    char text[4096];
    uint64_t parent, flags;
    read_proc(pid, "stat", text, sizeof text);
    const char *name_end = strrchr(text, ')'); // "PID (NAME) STATE PPID ..."
    struct bytes rest = bytes_skip(bytes_cstr(name_end ? name_end : ""), 2),
                 state = stat_field(rest, 3);
    if (bytes_to_u64(stat_field(rest, 4), INT32_MAX, &parent) != OK ||
        bytes_to_u64(stat_field(rest, 9), UINT32_MAX, &flags) != OK)
        return false;
    *out_parent = (pid_t)parent;
    if (bytes_eq(state, BYTES("Z")) || bytes_eq(state, BYTES("X")) || flags & FLAG_EXITING)
        return false;
    read_proc(pid, "status", text, sizeof text);
    return !has_pending_kill(text, "\nSigPnd:") && !has_pending_kill(text, "\nShdPnd:");
}

int predecessor_wait(const char *control, pid_t *out_pid)
{
    bool lived = false;
    for (int waited_ms = 0; waited_ms < PREDECESSOR_WAIT_MS; waited_ms += PREDECESSOR_LOOK_MS) {
        pid_t pid = ask_socket(control);
        if (!pid)
            return OK;
        bool lives_now = lives(pid, out_pid);
        if (lives_now && lived)
            return E_BUSY; // at two looks: no signal was on its way
        if (!lives_now && waited_ms == 0)
            log_info("waiting for the service that is just dying", LOG_INT("pid", pid));
        lived = lives_now;
        usleep(PREDECESSOR_LOOK_MS * 1000);
    }
    return OK; // whatever is held will be seen
}
