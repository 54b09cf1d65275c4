// SPDX-License-Identifier: MIT
//
// sandbox - shuts the relay and the signer in: what they will never need, they can never do again
//
// No capability and no way to get one; no file beyond the paths named (Landlock); no system call beyond a list
// (seccomp): no other program, no other process, no memory that becomes code, no sockets but IP and Unix, no
// TCP port of its own. What is open already stays open. Can't be undone, and holds for what the process starts.
//
// Thread:   the process has one yet: Landlock holds for it and for those it starts.
// Fails:    afterwards, what is not on the list fails with ENOSYS, a path not named with EACCES.
#pragma once

#include <stddef.h>

#include "base/err.h"

enum sandbox_right {
    SANDBOX_READ,  // the file, or all files below the folder
    SANDBOX_WRITE, // files and folders below it: read, written, made, removed, renamed, sockets too
    SANDBOX_PICKUP,  // as WRITE; links and pipes may be moved, too
    SANDBOX_SOCKETS, // sockets in the folder made, and names removed
};

struct sandbox_path {
    const char *path; // what does not exist is left out
    enum sandbox_right right;
};

// Logs what this kernel lacks. E_IO when it is without seccomp; all else holds then as far as it could.
// out_landlock: the version of Landlock that holds, 0 for none.
int sandbox_enter(const struct sandbox_path *paths, size_t count, int *out_landlock) MUST_USE;
// The signer process: threads, and no file at all, no socket beyond those it has and is handed.
int sandbox_enter_signer(void) MUST_USE;
