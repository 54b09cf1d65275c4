// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "sys/sys_process.h"

struct sys_process {
    pthread_mutex_t mutex; // of the folder's position
    int statm;
    uint64_t memory_max;
    DIR *descriptors;
};

// ---- the memory there is -----------------------------------------------------------------------------------

#define CGROUPS "/sys/fs/cgroup"

static void take_limit(struct sys_process *p, const char *path)
{
    char text[64];
    FILE *f = fopen(path, "re");
    uint64_t bytes = 0;
    if (f && fgets(text, sizeof text, f))
        bytes = strtoull(text, NULL, 10); // "max": 0
    if (f)
        fclose(f);
    if (bytes && (!p->memory_max || bytes < p->memory_max))
        p->memory_max = bytes;
}

// Of the group and of all above it. `group` is cut.
static void take_limits(struct sys_process *p, const char *root, char *group, const char *file)
{
    char path[PATH_MAX];
    for (;;) {
        snprintf(path, sizeof path, "%s%s/%s", root, strcmp(group, "/") ? group : "", file);
        take_limit(p, path);
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

// "4:memory:/a/b" of version 1, "0::/a/b" of version 2 (cgroups(7)); a path that is not to be seen from here is passed over.
static void look_for_limits(struct sys_process *p)
{
    char line[PATH_MAX];
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        char *kind = strchr(line, ':'), *group = kind ? strchr(kind + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (strcmp(kind, ":") == 0)
            take_limits(p, CGROUPS, group, "memory.max");
        else if (strcmp(kind, ":memory") == 0)
            take_limits(p, CGROUPS "/memory", group, "memory.limit_in_bytes");
    }
    if (f)
        fclose(f);
}

struct sys_process *sys_process_open(void)
{
    struct sys_process *p = mem_new(sizeof *p);
    CHECK(pthread_mutex_init(&p->mutex, NULL) == 0);
    p->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    p->descriptors = opendir("/proc/self/fd");
    long pages = sysconf(_SC_PHYS_PAGES);
    p->memory_max = pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
    look_for_limits(p);
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

// Pages: all of them, then those that are resident, then those of the latter that a file stands behind.
static bool read_statm(const struct sys_process *p, uint64_t *out_resident, uint64_t *out_file)
{
    char text[200], *end;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    ssize_t n = p->statm == -1 ? -1 : pread(p->statm, text, sizeof text - 1, 0);
    *out_resident = *out_file = 0;
    if (n <= 0)
        return false;
    text[n] = '\0';
    strtoull(text, &end, 10);
    *out_resident = strtoull(end, &end, 10) * page;
    *out_file = strtoull(end, NULL, 10) * page;
    return true;
}

uint64_t sys_process_memory(const struct sys_process *p)
{
    uint64_t resident, file;
    return read_statm(p, &resident, &file) && resident > file ? resident - file : 0;
}

uint64_t sys_process_memory_max(const struct sys_process *p)
{
    return p->memory_max;
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
    uint64_t resident, file;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        limit.rlim_cur = 0;
    (void)read_statm(p, &resident, &file);
    *out = (struct sys_process_use){.resident_bytes = resident,
                                    .descriptors = count_descriptors(p),
                                    .descriptors_max = limit.rlim_cur};
}
