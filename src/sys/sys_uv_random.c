// SPDX-License-Identifier: MIT
#include <errno.h>
#include <sys/random.h>

#include "sys/sys.h"

void sys_random(void *out, size_t bytes)
{
    for (char *at = out; bytes > 0;) {
        ssize_t n = getrandom(at, bytes, 0);
        CHECK(n > 0 || errno == EINTR);
        if (n > 0) {
            at += n;
            bytes -= (size_t)n;
        }
    }
}
