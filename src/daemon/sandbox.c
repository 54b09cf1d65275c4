// SPDX-License-Identifier: MIT
#include "daemon/sandbox.h"

#include <errno.h>
#include <seccomp.h>
#include <stddef.h>

#include "base/check.h"

static const char *const FORBIDDEN[] = {
    "execve",
    "execveat",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "unshare",
    "setns",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "bpf",
    "perf_event_open",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "reboot",
    "swapon",
    "swapoff",
    "personality",
    "add_key",
    "keyctl",
    "request_key",
    "userfaultfd",
    "acct",
    "settimeofday",
    "clock_settime",
    "adjtimex",
    "iopl",
    "ioperm",
    "quotactl",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsmount",
    "name_to_handle_at",
    "open_by_handle_at",
};

int sandbox_enter(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        return E_IO;
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; i < COUNT_OF(FORBIDDEN) && rc == 0; i++) {
        int call = seccomp_syscall_resolve_name(FORBIDDEN[i]);
        if (call != __NR_SCMP_ERROR)
            rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0);
    }
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc == 0 ? OK : E_IO;
}
