// SPDX-License-Identifier: MIT
#include "base/check.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/log.h"

// Arrays of this size and more are asked for in huge pages: a look-up at a random place of a table of
// a million entries is else mostly the processor's walk to its page.
#define HUGE_ARRAY ((unsigned long)8 << 20)
#define HUGE_PAGE ((uintptr_t)2 << 20)

_Noreturn void check_failed(const char *condition, const char *file, int line, const char *function)
{
    log_error("a law of the program does not hold", LOG_CSTR("condition", condition),
              LOG_CSTR("file", file), LOG_INT("line", line), LOG_CSTR("function", function));
    abort();
}

void *mem_new(unsigned long bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    CHECK(p != NULL && "memory");
    if (bytes >= HUGE_ARRAY) {
        char *first = (char *)p + (-(uintptr_t)p & (HUGE_PAGE - 1));
        unsigned long whole = (bytes - (unsigned long)(first - (char *)p)) & ~(HUGE_PAGE - 1);
        (void)!madvise(first, whole,
                       MADV_HUGEPAGE); // a wish; what is not touched yet costs nothing
    }
    return p;
}

void *mem_resize(void *old, unsigned long bytes)
{
    void *p = realloc(old, bytes ? bytes : 1);
    CHECK(p != NULL && "memory");
    return p;
}

// The allocator's own, where it is linked.
void mi_collect(bool force) __attribute__((weak));

void mem_give_back(void)
{
    if (mi_collect)
        mi_collect(true);
}
