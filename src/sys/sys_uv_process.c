// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "sys/sys_process.h"

struct sys_process {
    pthread_mutex_t mutex; // of the folder's position
    int statm;
    DIR *descriptors;
};

struct sys_process *sys_process_open(void)
{
    struct sys_process *p = mem_new(sizeof *p);
    CHECK(pthread_mutex_init(&p->mutex, NULL) == 0);
    p->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    p->descriptors = opendir("/proc/self/fd");
    return p;
}

void sys_process_close(struct sys_process *p)
{
    if (!p)
        return;
    if (p->statm != -1)
        close(p->statm);
    if (p->descriptors)
        closedir(p->descriptors);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

// Pages: all of them, then those that are resident.
static uint64_t resident_bytes(const struct sys_process *p)
{
    char text[200], *end;
    ssize_t n = p->statm == -1 ? -1 : pread(p->statm, text, sizeof text - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    strtoull(text, &end, 10);
    return strtoull(end, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t count_descriptors(struct sys_process *p)
{
    uint64_t n = 0;
    if (!p->descriptors)
        return 0;
    pthread_mutex_lock(&p->mutex);
    rewinddir(p->descriptors);
    for (const struct dirent *e; (e = readdir(p->descriptors));)
        n += e->d_name[0] != '.';
    pthread_mutex_unlock(&p->mutex);
    return n;
}

void sys_process_look(struct sys_process *p, struct sys_process_use *out)
{
    struct rlimit limit = {0};
    if (getrlimit(RLIMIT_NOFILE, &limit))
        limit.rlim_cur = 0;
    *out = (struct sys_process_use){.resident_bytes = resident_bytes(p),
                                    .descriptors = count_descriptors(p),
                                    .descriptors_max = limit.rlim_cur};
}
