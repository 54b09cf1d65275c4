// SPDX-License-Identifier: MIT
//
// Each attempt is made by a child process that has entered the very sandbox of the relay: it tells by its exit
// code what the kernel said.
#include "daemon/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/test_base.h"

static char folder[] = "/tmp/sandbox-test.XXXXXX", spool[64], named[64], other[64], sockets[64];

static int outcome(long rc)
{
    return rc == -1 ? errno : 0;
}

static int open_path(const char *path, int flags)
{
    return outcome(open(path, flags | O_CLOEXEC, 0600));
}

// ---- what must fail ------------------------------------------------------------------------------------

static int opens_shadow(void)
{
    return open_path("/etc/shadow", O_RDONLY);
}
static int opens_tmp(void)
{
    return open_path(other, O_RDONLY);
}
static int writes_outside(void)
{
    return open_path("/tmp/sandbox-escaped", O_WRONLY | O_CREAT);
}
static int writes_what_it_may_read(void)
{
    return open_path(named, O_WRONLY);
}
static int leaves_by_dots(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/../other", spool);
    return open_path(path, O_RDONLY);
}
static int leaves_by_link(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/link", spool); // to /etc/shadow, made before
    return open_path(path, O_RDONLY);
}
static int lists_root(void)
{
    return open_path("/", O_RDONLY | O_DIRECTORY);
}
static int writes_beside_sockets(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/file", sockets);
    return open_path(path, O_WRONLY | O_CREAT);
}
static int runs_a_shell(void)
{
    char name[] = "sh", *const argv[] = {name, NULL}, *const env[] = {NULL};
    return outcome(execve("/bin/sh", argv, env));
}
static int runs_by_descriptor(void)
{
    char name[] = "x", *const argv[] = {name, NULL}, *const env[] = {NULL};
    return outcome(syscall(SYS_execveat, 0, "", argv, env, 0x1000));
}
static int forks(void)
{
    long pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(0);
    return outcome(pid);
}
static int clones3(void)
{
    return outcome(syscall(SYS_clone3, NULL, 0));
}
static int traces(void)
{
    return outcome(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}
static int mounts(void)
{
    return outcome(mount("none", "/mnt", "tmpfs", 0, NULL));
}
static int leaves_root(void)
{
    return outcome(chroot("/"));
}
static int unshares(void)
{
    return outcome(unshare(CLONE_NEWUSER));
}
static int becomes_root(void)
{
    return outcome(setuid(0));
}
static int makes_code(void)
{
    void *at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? errno : 0;
}
static int turns_data_into_code(void)
{
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? 0 : outcome(mprotect(at, 4096, PROT_READ | PROT_EXEC));
}
static int opens_netlink(void)
{
    return outcome(socket(AF_NETLINK, SOCK_RAW, 0));
}
static int opens_packet(void)
{
    return outcome(socket(AF_PACKET, SOCK_RAW, 0));
}
static int signals_parent(void)
{
    return outcome(kill(getppid(), 0));
}
static int reads_other_memory(void)
{
    return outcome(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
}
static int uses_io_uring(void)
{
    return outcome(syscall(SYS_io_uring_setup, 8, NULL));
}
static int adds_keys(void)
{
    return outcome(syscall(SYS_add_key, "user", "x", "y", 1, -1));
}
static int sets_the_clock(void)
{
    struct timespec t = {1, 0};
    return outcome(clock_settime(CLOCK_REALTIME, &t));
}
static int listens_on_a_port(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(2525), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return outcome(bind(fd, (struct sockaddr *)&a, sizeof a));
}

// ---- what must work ------------------------------------------------------------------------------------

static int works_in_spool(void)
{
    char path[128], renamed[160], sub[128], line[4] = "abc";
    snprintf(path, sizeof path, "%s/file", spool);
    snprintf(sub, sizeof sub, "%s/sub", spool);
    snprintf(renamed, sizeof renamed, "%s/renamed", sub);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool ok = fd != -1 && write(fd, line, 3) == 3 && fdatasync(fd) == 0 && ftruncate(fd, 1) == 0 &&
              mkdir(sub, 0700) == 0 && rename(path, renamed) == 0 && unlink(renamed) == 0 &&
              rmdir(sub) == 0;
    return ok ? 0 : errno;
}
static int reads_what_is_named(void)
{
    return open_path(named, O_RDONLY);
}
static int makes_a_socket(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%.60s/control.sock", sockets);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) == -1)
        return errno;
    return outcome(unlink(a.sun_path));
}
static void *idle(void *arg)
{
    return arg;
}
static int starts_threads(void)
{
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, idle, NULL);
    return rc ? rc : pthread_join(thread, NULL);
}
static int asks_for_short_turns(void)
{
    uint64_t attr[6] = {sizeof attr};
    long rc = syscall(SYS_sched_getattr, 0, attr, sizeof attr, 0);
    return outcome((int)(rc ? rc : syscall(SYS_sched_setattr, 0, attr, 0)));
}
static int binds_a_source(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return outcome(bind(fd, (struct sockaddr *)&a, sizeof a));
}
enum landlock { ANYHOW, SINCE_2 = 2, SINCE_4 = 4 };

struct attempt {
    const char *name;
    int (*make)(void);
    bool must_work;
    enum landlock needs;
};

static const struct attempt attempts[] = {
    {"opens_shadow", opens_shadow, false, SINCE_2},
    {"opens_tmp", opens_tmp, false, SINCE_2},
    {"writes_outside", writes_outside, false, SINCE_2},
    {"writes_what_it_may_read", writes_what_it_may_read, false, SINCE_2},
    {"leaves_by_dots", leaves_by_dots, false, SINCE_2},
    {"leaves_by_link", leaves_by_link, false, SINCE_2},
    {"lists_root", lists_root, false, SINCE_2},
    {"writes_beside_sockets", writes_beside_sockets, false, SINCE_2},
    {"listens_on_a_port", listens_on_a_port, false, SINCE_4},
    {"runs_a_shell", runs_a_shell, false, ANYHOW},
    {"runs_by_descriptor", runs_by_descriptor, false, ANYHOW},
    {"forks", forks, false, ANYHOW},
    {"clones3", clones3, false, ANYHOW},
    {"traces", traces, false, ANYHOW},
    {"mounts", mounts, false, ANYHOW},
    {"leaves_root", leaves_root, false, ANYHOW},
    {"unshares", unshares, false, ANYHOW},
    {"becomes_root", becomes_root, false, ANYHOW},
    {"makes_code", makes_code, false, ANYHOW},
    {"turns_data_into_code", turns_data_into_code, false, ANYHOW},
    {"opens_netlink", opens_netlink, false, ANYHOW},
    {"opens_packet", opens_packet, false, ANYHOW},
    {"signals_parent", signals_parent, false, ANYHOW},
    {"reads_other_memory", reads_other_memory, false, ANYHOW},
    {"uses_io_uring", uses_io_uring, false, ANYHOW},
    {"adds_keys", adds_keys, false, ANYHOW},
    {"sets_the_clock", sets_the_clock, false, ANYHOW},
    {"works_in_spool", works_in_spool, true, ANYHOW},
    {"reads_what_is_named", reads_what_is_named, true, ANYHOW},
    {"makes_a_socket", makes_a_socket, true, ANYHOW},
    {"starts_threads", starts_threads, true, ANYHOW},
    {"asks_for_short_turns", asks_for_short_turns, true, ANYHOW},
    {"binds_a_source", binds_a_source, true, ANYHOW},
};

static int run_inside(const struct attempt *a)
{
    pid_t pid = fork();
    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        const struct sandbox_path paths[] = {{spool, SANDBOX_WRITE},
                                             {named, SANDBOX_READ},
                                             {sockets, SANDBOX_SOCKETS},
                                             {"/no/such/path", SANDBOX_READ}};
        if (sandbox_enter(paths, COUNT_OF(paths), &(int){0}) != OK)
            _exit(255);
        _exit(a->make());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_m_attempts(void **state)
{
    (void)state;
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    for (size_t i = 0; i < COUNT_OF(attempts); i++) {
        const struct attempt *a = &attempts[i];
        int got = run_inside(a);
        if (got == 255)
            fail_msg("%s: no sandbox", a->name);
        if (a->needs > version)
            print_message("# %s needs Landlock version %d, this kernel has %ld\n", a->name,
                          (int)a->needs, version);
        else if (a->must_work ? got != 0 : got == 0)
            fail_msg("%s: %s", a->name, got ? strerror(got) : "worked");
        else if (a->needs && got != EACCES)
            fail_msg("%s: %s, not by Landlock", a->name, strerror(got));
    }
}

// What the kernel says of a process inside, as `posthaste` could be looked at.
static void test_status(void **state)
{
    (void)state;
    int told[2], wait[2];
    assert_int_equal(pipe2(told, O_CLOEXEC) | pipe2(wait, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte = 0;
        close(wait[1]);
        if (sandbox_enter(NULL, 0, &(int){0}) != OK || write(told[1], &byte, 1) != 1)
            _exit(255);
        _exit(read(wait[0], &byte, 1) == 0 ? 0 : 1);
    }
    char path[64], line[256], byte;
    close(told[1]);
    assert_int_equal(read(told[0], &byte, 1), 1);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    static const char *const wanted[] = {"CapInh:\t0000000000000000",
                                         "CapPrm:\t0000000000000000",
                                         "CapEff:\t0000000000000000",
                                         "CapAmb:\t0000000000000000",
                                         "NoNewPrivs:\t1",
                                         "Seccomp:\t2"};
    size_t found = 0;
    while (fgets(line, sizeof line, f))
        for (size_t i = 0; i < COUNT_OF(wanted); i++)
            found += strncmp(line, wanted[i], strlen(wanted[i])) == 0;
    fclose(f);
    assert_int_equal(found, COUNT_OF(wanted));
    close(wait[1]);
    close(wait[0]);
    close(told[0]);
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

static void make_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd != -1);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    char link[80];
    assert_non_null(mkdtemp(folder));
    snprintf(spool, sizeof spool, "%s/spool", folder);
    snprintf(sockets, sizeof sockets, "%s/sockets", folder);
    snprintf(named, sizeof named, "%s/named", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(link, sizeof link, "%s/link", spool);
    make_file(named);
    make_file(other);
    return mkdir(spool, 0700) | mkdir(sockets, 0700) | symlink("/etc/shadow", link);
}

static int teardown(void **state)
{
    (void)state;
    char link[80];
    snprintf(link, sizeof link, "%s/link", spool);
    unlink(link);
    unlink(named);
    unlink(other);
    rmdir(spool);
    rmdir(sockets);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_m_attempts),
        cmocka_unit_test(test_status),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
