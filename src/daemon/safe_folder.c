// SPDX-License-Identifier: MIT
#include "daemon/safe_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_BYTES_MAX 255

static bool is_roots_alone(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

// Takes over `at`.
static int enter(int at, const char *name, int flags)
{
    bool follow = geteuid() != 0 || is_roots_alone(at);
    int fd = openat(at, name, flags | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
    int saved = errno;
    close(at);
    errno = saved;
    return fd;
}

int safe_folder_open(const char *path)
{
    char name[NAME_BYTES_MAX + 1];
    int fd = open(*path == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (path += strspn(path, "/"); *path && fd != -1; path += strspn(path, "/")) {
        size_t len = strcspn(path, "/");
        if (len >= sizeof name) {
            close(fd);
            errno = ENAMETOOLONG;
            return -1;
        }
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        fd = enter(fd, name, O_PATH);
        path += len;
    }
    return fd == -1 ? -1 : enter(fd, ".", O_RDONLY);
}
