// SPDX-License-Identifier: MIT
//
// How it works: the kernel is never asked to follow a link; the text of one that may be followed takes its place in the
// way that is still to go.
#include "sys/safe_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#define LINKS_MAX 40 // as the kernel has it: path_resolution(7)

struct walk {
    int at; // the folder that it has come to
    int links;
    char way[PATH_MAX]; // from there
};

static int open_folder(int at, const char *name)
{
    return openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

// Takes over `fd`, which may be -1.
static int move_to(struct walk *w, int fd)
{
    if (fd == -1)
        return errno;
    if (w->at != -1)
        close(w->at);
    w->at = fd;
    return 0;
}

static int set_way(struct walk *w, const char *way)
{
    size_t len = strlen(way);
    if (len >= sizeof w->way)
        return ENAMETOOLONG;
    memmove(w->way, way, len + 1);
    return w->way[0] == '/' ? move_to(w, open_folder(AT_FDCWD, "/")) : 0;
}

static bool is_roots_alone(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

static int check_link(struct walk *w, int link)
{
    struct stat st;
    if (fstat(link, &st) == -1)
        return errno;
    if (!S_ISLNK(st.st_mode))
        return ENOTDIR;
    if ((st.st_uid != 0 || st.st_nlink != 1) && !is_roots_alone(w->at))
        return EMLINK;
    return ++w->links > LINKS_MAX ? ELOOP : 0;
}

// The new way: the link's text, then what is behind the link.
static int read_link(struct walk *w, int link, const char *behind)
{
    char text[PATH_MAX];
    int e = check_link(w, link);
    ssize_t len = e ? 0 : readlinkat(link, "", text, sizeof text);
    if (len == -1)
        return errno;
    if (e || (size_t)len + 1 + strlen(behind) >= sizeof text)
        return e ? e : ENAMETOOLONG;
    snprintf(text + len, sizeof text - (size_t)len, "/%s", behind);
    return set_way(w, text);
}

static int take_link(struct walk *w, const char *name, const char *behind)
{
    int link = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int e = link == -1 ? errno : read_link(w, link, behind);
    if (link != -1)
        close(link);
    return e;
}

static int step(struct walk *w)
{
    char *name = w->way + strspn(w->way, "/"), *behind = name + strcspn(name, "/");
    if (*behind)
        *behind++ = '\0';
    if (!*name)
        return set_way(w, behind);
    int e = move_to(w, open_folder(w->at, name));
    return !e             ? set_way(w, behind + strspn(behind, "/"))
           : e == ENOTDIR ? take_link(w, name, behind)
                          : e;
}

int safe_folder_open(const char *path)
{
    struct walk w = {.at = -1};
    if (geteuid() != 0)
        return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int e = *path ? set_way(&w, path) : ENOENT;
    if (!e && w.at == -1)
        e = move_to(&w, open_folder(AT_FDCWD, "."));
    while (!e && w.way[0])
        e = step(&w);
    if (!e)
        return w.at;
    if (w.at != -1)
        close(w.at);
    errno = e;
    return -1;
}

int safe_folder_open_above(const char *path, const char **out_name)
{
    char above[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    *out_name = slash ? slash + 1 : path;
    if (len >= sizeof above) {
        errno = ENAMETOOLONG;
        return -1;
    }
    snprintf(above, sizeof above, "%.*s", (int)len, path);
    return safe_folder_open(len ? above : ".");
}

static int give(int at, const char *name, const struct passwd *owner)
{
    int fd = open_folder(at, name);
    if (fd == -1)
        return errno == ENOTDIR ? EMLINK : errno; // it has been a folder
    int e = fchownat(fd, "", owner->pw_uid, owner->pw_gid, AT_EMPTY_PATH) == -1 ? errno : 0;
    close(fd);
    return e;
}

int safe_folder_make(const char *path, mode_t mode, const struct passwd *owner)
{
    const char *name;
    int at = safe_folder_open_above(path, &name);
    if (at == -1)
        return errno;
    int e = mkdirat(at, name, mode) == -1 ? errno : 0;
    if (!e && owner && (e = give(at, name, owner)))
        (void)unlinkat(at, name, AT_REMOVEDIR);
    close(at);
    return e;
}

const char *safe_folder_why(int errno_value)
{
    return errno_value == EMLINK
               ? "a symbolic link on the way is not root's, and stands where others than root may "
                 "write: use the path that it leads to"
               : strerror(errno_value);
}

int safe_folder_err(int errno_value)
{
    return errno_value == EMLINK ? E_DENIED : err_from_errno(errno_value);
}
