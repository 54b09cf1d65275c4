// SPDX-License-Identifier: MIT
#include "daemon/guard_hook.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

void guard_hook_add(struct guard_hook *h, struct bytes alert)
{
    if (h->count == GUARD_HOOK_MAX) {
        log_error("alert not told: too many wait for alerts.command", LOG_STR("alert", alert));
        return;
    }
    char *copy = mem_new(alert.len + 1);
    memcpy(copy, alert.at, alert.len);
    h->waiting[h->count++] = bytes_of(copy, alert.len);
}

// A file in memory with the line, to be read from its beginning. -1: errno says why.
static int as_input(struct bytes alert)
{
    int fd = memfd_create("alert", MFD_CLOEXEC);
    if (fd == -1)
        return -1;
    if (write(fd, alert.at, alert.len) != (ssize_t)alert.len || write(fd, "\n", 1) != 1 ||
        lseek(fd, 0, SEEK_SET) == -1) {
        close(fd);
        return -1;
    }
    return fd;
}

static _Noreturn void become_command(const char *command, int input, void (*prepare)(void *ctx),
                                     void *ctx)
{
    char *const environment[] = {
        (char[]){"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        (char[]){"LC_ALL=C.UTF-8"}, NULL};
    char *copy = strdup(command);
    setpgid(0, 0); // killed with all that it starts
    prepare(ctx);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    if (copy && dup2(input, STDIN_FILENO) != -1 && dup2(STDERR_FILENO, STDOUT_FILENO) != -1)
        execve("/bin/sh", (char *[]){(char[]){"sh"}, (char[]){"-c"}, copy, NULL}, environment);
    _exit(127);
}

void guard_hook_next(struct guard_hook *h, const struct conf *conf, void (*prepare)(void *ctx),
                     void *ctx, int64_t now_ms)
{
    if (h->pid || !h->count)
        return;
    struct bytes alert = h->waiting[0];
    memmove(h->waiting, h->waiting + 1, --h->count * sizeof *h->waiting);
    int input = conf->alerts.command.len ? as_input(alert) : -1;
    free((char *)(uintptr_t)alert.at);
    if (!conf->alerts.command.len)
        return; // a reload has taken it away
    pid_t pid = input == -1 ? -1 : fork();
    if (pid == 0)
        become_command(conf->alerts.command.at, input, prepare, ctx);
    if (pid == -1)
        log_error("alerts.command not started", LOG_CSTR("error", strerror(errno)));
    if (input != -1)
        close(input);
    h->pid = pid == -1 ? 0 : pid;
    h->kill_at_ms = now_ms + GUARD_HOOK_MS;
}

void guard_hook_gone(struct guard_hook *h, int status)
{
    h->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    log_error("alerts.command failed",
              LOG_INT("exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
              LOG_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0));
}

void guard_hook_look(struct guard_hook *h, int64_t now_ms)
{
    if (!h->pid || now_ms < h->kill_at_ms)
        return;
    log_error("alerts.command takes too long, it is killed");
    kill(-h->pid, SIGKILL);
    kill(h->pid, SIGKILL);
    h->kill_at_ms = now_ms + GUARD_HOOK_MS;
}

void guard_hook_done(struct guard_hook *h)
{
    if (h->pid) {
        kill(-h->pid, SIGKILL);
        kill(h->pid, SIGKILL);
    }
    for (uint32_t i = 0; i < h->count; i++)
        free((char *)(uintptr_t)h->waiting[i].at);
    *h = (struct guard_hook){0};
}
