// SPDX-License-Identifier: MIT
#include "base/check.h"

#include <stdlib.h>

#include "base/log.h"

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
    return p;
}

void *mem_resize(void *old, unsigned long bytes)
{
    void *p = realloc(old, bytes ? bytes : 1);
    CHECK(p != NULL && "memory");
    return p;
}
