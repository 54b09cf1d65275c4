// SPDX-License-Identifier: MIT
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

// ---- capabilities --------------------------------------------------------------------------------------

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    for (unsigned long cap = 0; cap < 64; cap++)
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); // only who has some may, and needs to
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    CHECK(syscall(SYS_capset, &header, none) == 0);
}

// ---- Landlock ------------------------------------------------------------------------------------------

// Of Landlock's versions: 1 has no rename between folders, which Maildirs need; what 3 to 6 add is asked for
// where it is known. Spelled out, because older headers lack it.
#define VERSION_MIN 2
#define FS_TRUNCATE (UINT64_C(1) << 14)  // from version 3
#define NET_BIND_TCP (UINT64_C(1) << 0)  // from version 4
#define FS_IOCTL_DEV (UINT64_C(1) << 15) // from version 5
#define SCOPES UINT64_C(3)               // abstract Unix sockets and signals, from version 6
#define RULE_NET_PORT 2

struct ruleset {
    uint64_t fs, net, scoped;
};
struct port_rule {
    uint64_t allowed, port;
};

#define READS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE)
#define WRITES                                                                                     \
    (READS | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                       \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |  \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REFER | FS_TRUNCATE)
#define PICKUP (WRITES | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_FIFO)
#define SOCKETS (LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define ALL                                                                                        \
    (WRITES | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |                          \
     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |  \
     FS_IOCTL_DEV)

static const uint64_t RIGHTS[] = {[SANDBOX_READ] = READS,
                                  [SANDBOX_WRITE] = WRITES,
                                  [SANDBOX_PICKUP] = PICKUP,
                                  [SANDBOX_SOCKETS] = SOCKETS};

static int allow_path(int ruleset, uint64_t handled, const struct sandbox_path *p)
{
    int fd = open(p->path, O_PATH | O_CLOEXEC);
    if (fd == -1)
        return OK;
    struct stat st;
    bool is_file = fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode);
    struct landlock_path_beneath_attr rule = {
        .allowed_access = handled & RIGHTS[p->right] & (is_file ? OF_FILES : ALL), .parent_fd = fd};
    long rc = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(fd);
    return rc == 0 ? OK : E_IO;
}

static int restrict_to(const struct sandbox_path *paths, size_t count, long version)
{
    struct ruleset r = {.fs = ALL};
    if (version < 3)
        r.fs &= ~FS_TRUNCATE;
    if (version < 5)
        r.fs &= ~FS_IOCTL_DEV;
    r.net = version >= 4 ? NET_BIND_TCP : 0;
    r.scoped = version >= 6 ? SCOPES : 0;
    // What an older kernel does not know must be zero, then the size does not matter to it.
    int fd = (int)syscall(SYS_landlock_create_ruleset, &r, sizeof r, 0);
    if (fd == -1)
        return E_IO;
    int err = OK;
    for (size_t i = 0; i < count && !err; i++)
        err = allow_path(fd, r.fs, &paths[i]);
    // A source address is bound without a port.
    struct port_rule any = {NET_BIND_TCP, 0};
    if (!err && r.net && syscall(SYS_landlock_add_rule, fd, RULE_NET_PORT, &any, 0) != 0)
        err = E_IO;
    if (!err && syscall(SYS_landlock_restrict_self, fd, 0) != 0)
        err = E_IO;
    close(fd);
    return err;
}

// The version that holds from now on; 0: none.
static int enter_landlock(const struct sandbox_path *paths, size_t count)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < VERSION_MIN)
        log_warn(
            "this kernel has no Landlock (Linux 5.19 and its boot parameter lsm=): this process "
            "can open whatever its user may",
            LOG_INT("version", version));
    else if (restrict_to(paths, count, version) != OK)
        log_warn("Landlock refused: this process can open whatever its user may",
                 LOG_CSTR("error", strerror(errno)));
    else
        return (int)version;
    return 0;
}

// ---- seccomp -------------------------------------------------------------------------------------------

// Everything that the relay and its libraries do after the start, on all architectures; a name that this one has
// not is passed over.
static const char *const ALLOWED[] = {
    // files
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "preadv2",
    "pwritev2",
    "lseek",
    "_llseek",
    "open",
    "openat",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "fcntl64",
    "flock",
    "truncate",
    "ftruncate",
    "ftruncate64",
    "fallocate",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "fadvise64",
    "stat",
    "fstat",
    "lstat",
    "newfstatat",
    "fstatat64",
    "statx",
    "statfs",
    "fstatfs",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getdents",
    "getdents64",
    "getcwd",
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "utimensat",
    "umask",
    "sendfile",
    "copy_file_range",
    "inotify_init1",
    "inotify_add_watch",
    // memory
    "munmap",
    "mremap",
    "brk",
    "madvise",
    "mincore",
    "msync",
    "membarrier",
    // sockets
    "socketpair",
    "bind",
    "listen",
    "accept",
    "accept4",
    "connect",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    "recvmmsg",
    "shutdown",
    // waiting
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "eventfd",
    "eventfd2",
    "pipe",
    "pipe2",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "nanosleep",
    "clock_nanosleep",
    "clock_gettime",
    "clock_getres",
    "gettimeofday",
    "time",
    // threads
    "futex",
    "futex_waitv",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "set_tid_address",
    "arch_prctl",
    "sched_yield",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_get_priority_min",
    "sched_get_priority_max",
    "getcpu",
    "exit",
    "exit_group",
    // signals
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigpending",
    "rt_sigtimedwait",
    "sigaltstack",
    "restart_syscall",
    // about itself
    "getpid",
    "gettid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
    "getrusage",
    "times",
    "getrlimit",
    "ugetrlimit",
    "sysinfo",
    "uname",
    "getrandom",
};

// What the signer does: it waits, takes and sends datagrams, and computes.
static const char *const ALLOWED_SIGNER[] = {
    "read",
    "write",
    "pread64",
    "lseek",
    "close",
    "dup",
    "fstat",
    "newfstatat",
    "munmap",
    "mremap",
    "brk",
    "madvise",
    "recvfrom",
    "recvmsg",
    "sendto",
    "sendmsg",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "futex",
    "set_robust_list",
    "rseq",
    "sched_yield",
    "sched_getaffinity",
    "clock_gettime",
    "gettimeofday",
    "time",
    "clock_nanosleep",
    "getrandom",
    "getpid",
    "gettid",
    "exit",
    "exit_group",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "restart_syscall",
};

// A call that is allowed with arguments of one kind.
struct conditional {
    const char *name;
    struct scmp_arg_cmp only;
};

static int allow_named(scmp_filter_ctx filter, const char *const *names, size_t count)
{
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        int call = seccomp_syscall_resolve_name(names[i]);
        if (call != __NR_SCMP_ERROR)
            rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0);
    }
    return rc;
}

static int allow_rows(scmp_filter_ctx filter, const struct conditional *rows, size_t count)
{
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        int call = seccomp_syscall_resolve_name(rows[i].name);
        if (call != __NR_SCMP_ERROR)
            rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &rows[i].only);
    }
    return rc;
}

static int allow_relay(scmp_filter_ctx filter)
{
    const scmp_datum_t self = (scmp_datum_t)getpid();
    const struct conditional rows[] = {
        {"clone", SCMP_A0_64(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)}, // threads only
        {"mmap", SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
        {"mmap2", SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
        {"mprotect", SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
        {"socket", SCMP_A0_32(SCMP_CMP_EQ, AF_INET)},
        {"socket", SCMP_A0_32(SCMP_CMP_EQ, AF_INET6)},
        {"socket", SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX)},
        {"ioctl", SCMP_A1_32(SCMP_CMP_EQ, FIONBIO)},
        {"ioctl", SCMP_A1_32(SCMP_CMP_EQ, FIONREAD)},
        {"ioctl", SCMP_A1_32(SCMP_CMP_EQ, FIOCLEX)},
        {"ioctl", SCMP_A1_32(SCMP_CMP_EQ, TCGETS)}, // isatty()
        {"prctl", SCMP_A0_32(SCMP_CMP_EQ, PR_SET_NAME)},
        {"prctl", SCMP_A0_32(SCMP_CMP_EQ, PR_GET_NAME)},
        {"prlimit64", SCMP_A0_32(SCMP_CMP_EQ, 0)},
        {"sched_getattr", SCMP_A0_32(SCMP_CMP_EQ, 0)},
        {"sched_setattr", SCMP_A0_32(SCMP_CMP_EQ, 0)},
        {"tgkill", SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)self)}, // abort()
    };
    int rc = allow_named(filter, ALLOWED, COUNT_OF(ALLOWED));
    return rc ? rc : allow_rows(filter, rows, COUNT_OF(rows));
}

static int allow_signer(scmp_filter_ctx filter)
{
    const scmp_datum_t self = (scmp_datum_t)getpid();
    const struct conditional rows[] = {
        {"clone", SCMP_A0_64(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)}, // threads only
        {"mmap", SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
        {"mprotect", SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
        {"tgkill", SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)self)}, // abort()
    };
    int rc = allow_named(filter, ALLOWED_SIGNER, COUNT_OF(ALLOWED_SIGNER));
    return rc ? rc : allow_rows(filter, rows, COUNT_OF(rows));
}

// What does not exist for the relay is ENOSYS, so that libraries fall back to what does (clone3 to clone).
static int enter_seccomp(int (*allow)(scmp_filter_ctx filter))
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (!filter)
        return E_IO;
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0)
        rc = allow(filter);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc == 0 ? OK : E_IO;
}

int sandbox_enter(const struct sandbox_path *paths, size_t count, int *out_landlock)
{
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    drop_capabilities();
    *out_landlock = enter_landlock(paths, count);
    return enter_seccomp(allow_relay);
}

int sandbox_enter_signer(void)
{
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    drop_capabilities();
    enter_landlock(NULL, 0);
    return enter_seccomp(allow_signer);
}
