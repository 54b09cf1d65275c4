// SPDX-License-Identifier: MIT
//
// sandbox - takes from the relay process what it will never need
//
// No new programs, no tracing, no mounts, no change of identity, no kernel modules: a system call of that list
// fails with EPERM. Holds for all threads; can't be undone.
#pragma once

#include "base/err.h"

// After all files and threads are set up. E_IO when the kernel has no seccomp.
int sandbox_enter(void) MUST_USE;
