// SPDX-License-Identifier: MIT
#include "daemon/guard_upgrade.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define SOCKETS_VARIABLE "POSTHASTE_SOCKETS"
#define LOOK_EVERY_MS 5

void guard_upgrade_init(struct guard_upgrade *u, const char *config, const char *ready_file)
{
    *u = (struct guard_upgrade){.config = config, .ready_file = ready_file};
    ssize_t n = readlink("/proc/self/exe", u->program, sizeof u->program - 1);
    u->program[n > 0 ? n : 0] = '\0';
}

// Waits for a child of ours; false if it fails or takes longer.
static bool ends_well(pid_t pid)
{
    const struct timespec pause = {0, LOOK_EVERY_MS * 1000000L};
    int status;
    pid_t ended = 0;
    for (int ms = 0; ms < GUARD_UPGRADE_CHECK_MS && ended == 0; ms += LOOK_EVERY_MS) {
        nanosleep(&pause, NULL);
        ended = waitpid(pid, &status, WNOHANG);
    }
    if (ended == 0) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return false;
    }
    return ended == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool guard_upgrade_agrees(const struct guard_upgrade *u)
{
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        dup2(STDERR_FILENO, STDOUT_FILENO);
        if (u->config)
            execl(u->program, u->program, "check-config", "--config", u->config, NULL);
        else
            execl(u->program, u->program, "version", NULL);
        _exit(EX_UNAVAILABLE);
    }
    return pid != -1 && ends_well(pid);
}

void guard_upgrade_become(const struct guard_upgrade *u, const struct guard_sockets *sockets)
{
    struct buf left = {0};
    const char *arguments[7] = {u->program, "serve"}; // and NULL
    int n = 2;
    if (u->config) {
        arguments[n++] = "--config";
        arguments[n++] = u->config;
    }
    if (u->ready_file) {
        arguments[n++] = "--ready-file";
        arguments[n++] = u->ready_file;
    }
    if (guard_sockets_leave(sockets, &left) == OK &&
        setenv(SOCKETS_VARIABLE, buf_cstr(&left), 1) == 0)
        execv(u->program, (char *const *)(uintptr_t)arguments);
    log_error("cannot start the installed program, this one goes on",
              LOG_CSTR("program", u->program), LOG_CSTR("error", strerror(errno)));
    unsetenv(SOCKETS_VARIABLE);
    guard_sockets_keep(sockets);
    buf_done(&left);
}

void guard_upgrade_take(struct guard_sockets *sockets)
{
    const char *text = getenv(SOCKETS_VARIABLE);
    if (text)
        guard_sockets_take(sockets, bytes_cstr(text));
    unsetenv(SOCKETS_VARIABLE);
}
