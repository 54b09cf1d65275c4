// SPDX-License-Identifier: MIT
//
// slow_flush - a slower disk, for bench/run: preloaded, each flush takes SLOW_FLUSH_MS longer
//
// Nothing else of the process changes: no system call is traced, no other one delayed.
#include <dlfcn.h>
#include <poll.h>
#include <stddef.h>

#define SLOW_FLUSH_MS 10

static int slowly(const char *name, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int code = real(fd);
    poll(NULL, 0, SLOW_FLUSH_MS);
    return code;
}

int fsync(int fd);
int fsync(int fd)
{
    return slowly("fsync", fd);
}

int fdatasync(int fd);
int fdatasync(int fd)
{
    return slowly("fdatasync", fd);
}
