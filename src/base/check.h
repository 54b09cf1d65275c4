// SPDX-License-Identifier: MIT
//
// check - CHECK(condition) states a law of our own code; always on
//
// A CHECK that fails is our bug: it logs where and what, and aborts. A restart recovers from the spool.
#pragma once

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            check_failed(#condition, __FILE__, __LINE__, __func__);                                \
    } while (0)

// What CHECK calls: logs where and what, then aborts.
_Noreturn void check_failed(const char *condition, const char *file, int line,
                            const char *function);

// Allocation that never returns NULL: running out of memory aborts like a failed CHECK.
// mem_new() returns zeroed memory. Freed with free().
void *mem_new(unsigned long bytes) __attribute__((malloc, returns_nonnull));
void *mem_resize(void *old, unsigned long bytes) __attribute__((returns_nonnull));
// What this thread's heap has and does not use goes back to the kernel, as far as the allocator can (mimalloc).
void mem_give_back(void);

#define container_of(pointer, type, member)                                                        \
    ((type *)((char *)(pointer) - __builtin_offsetof(type, member)))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
