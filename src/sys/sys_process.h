// SPDX-License-Identifier: MIT
//
// sys_process - what this process takes of memory and descriptors
//
// Only in sys_uv. Opened before the process shuts itself in: afterwards it may open nothing in /proc, but read on.
//
// Thread: any, one at a time inside (a mutex).
#pragma once

#include <stdint.h>

struct sys_process;

struct sys_process_use {
    uint64_t resident_bytes;               // 0: not known
    uint64_t descriptors, descriptors_max; // 0: not known
};

// Never NULL; where /proc is missing, what is asked of it is not known.
struct sys_process *sys_process_open(void);
void sys_process_close(struct sys_process *p); // NULL is fine
void sys_process_look(struct sys_process *p, struct sys_process_use *out);
// Resident bytes that no file stands behind; 0: not known. Any thread, any number at once.
uint64_t sys_process_memory(const struct sys_process *p);
// What there was to have when it was opened: of the machine, or of the control group (v1 or v2) that leaves least.
// 0: not known.
uint64_t sys_process_memory_max(const struct sys_process *p);
