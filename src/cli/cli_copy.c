// SPDX-License-Identifier: MIT
#include "cli/cli_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "sys/safe_folder.h"

#define PIECE_BYTES ((size_t)1 << 20)
#define TREE_DEPTH_MAX 4 // folders of a spool in each other

const struct passwd *cli_copy_user(const struct conf *conf)
{
    char path[PATH_MAX];
    struct stat st;
    if (geteuid() != 0)
        return NULL;
    if (conf->user.len)
        return getpwnam(conf->user.at);
    snprintf(path, sizeof path, "%.*s", BYTES_FMT(conf->state));
    for (char *slash; stat(path, &st) != 0; *slash = '\0')
        if (!(slash = strrchr(path, '/')) || slash == path)
            return NULL;
    return st.st_uid != 0 ? getpwuid(st.st_uid) : NULL;
}

static int give(int fd, const struct passwd *user)
{
    return user && fchownat(fd, "", user->pw_uid, user->pw_gid, AT_EMPTY_PATH) != 0 ? errno : 0;
}

int cli_copy_give(const char *path, const struct passwd *user)
{
    int fd = user ? safe_folder_open(path) : -1;
    int e = user && fd < 0 ? errno : give(fd, user);
    if (fd >= 0)
        close(fd);
    return e;
}

static bool is_itself(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int open_folder(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

// Takes over `fd`.
static int check_empty(int fd)
{
    struct dirent *entry;
    bool empty = true;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return errno;
    while ((entry = readdir(dir)))
        if (!is_itself(entry->d_name))
            empty = false;
    closedir(dir);
    return empty ? 0 : ENOTEMPTY;
}

int cli_copy_make_empty(const char *path, const struct passwd *user, bool *out_made)
{
    *out_made = mkdir(path, 0700) == 0;
    if (!*out_made && errno != EEXIST)
        return errno;
    int fd = safe_folder_open(path);
    if (fd < 0)
        return errno;
    int e = check_empty(open_folder(fd, "."));
    if (!e)
        e = give(fd, user);
    close(fd);
    return e;
}

int cli_copy_make_new(const char *path, const char *below, const struct passwd *user)
{
    if (mkdir(path, 0700) != 0)
        return errno;
    int fd = safe_folder_open(path);
    int inner = fd >= 0 && mkdirat(fd, below, 0700) == 0 ? open_folder(fd, below) : -1;
    int e = inner < 0 ? errno : give(inner, user);
    if (!e)
        e = give(fd, user);
    if (inner >= 0)
        close(inner);
    if (fd >= 0)
        close(fd);
    else
        (void)rmdir(path); // cli_copy_remove() can't open what is above it, either
    return e;
}

int cli_copy_fail(int e, const char *what, const char *path)
{
    int exit = e == ENOTEMPTY || e == EEXIST || e == ENOTDIR            ? CLI_DATA
               : e == ENOENT                                            ? CLI_NOT_FOUND
               : e == EACCES || e == EPERM || e == EROFS || e == EMLINK ? CLI_PERMISSION
               : e == EINTR                                             ? CLI_INTERRUPTED
                                                                        : CLI_TEMPORARY;
    return cli_fail(exit, "%s %s: %s", what, path, e == EINTR ? "interrupted" : safe_folder_why(e));
}

int cli_copy_sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return e;
}

static void remove_at(int at, const char *name, int depth)
{
    if (unlinkat(at, name, 0) == 0 || depth > TREE_DEPTH_MAX)
        return;
    struct dirent *entry;
    int fd = open_folder(at, name);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    while (dir && (entry = readdir(dir)))
        if (!is_itself(entry->d_name))
            remove_at(fd, entry->d_name, depth + 1);
    if (dir)
        closedir(dir);
    (void)unlinkat(at, name, AT_REMOVEDIR);
}

void cli_copy_remove(const char *path)
{
    const char *name;
    int fd = safe_folder_open_above(path, &name);
    if (fd < 0)
        return;
    remove_at(fd, name, 0);
    close(fd);
}

static uint64_t sized;

static int size_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)path;
    (void)where;
    sized += type == FTW_F ? (uint64_t)st->st_size : 0;
    return 0;
}

uint64_t cli_copy_size(const char *path)
{
    sized = 0;
    (void)nftw(path, size_one, TREE_DEPTH_MAX + 2, FTW_PHYS);
    return sized;
}

// ---- a file, a tree ------------------------------------------------------------------------------------

static bool is_zero(const char *at, size_t len)
{
    return at[0] == 0 && memcmp(at, at + 1, len - 1) == 0;
}

static int write_piece(const char *piece, size_t len, int to, off_t at)
{
    size_t written = 0;
    while (written < len && !is_zero(piece, len)) { // holes stay holes
        ssize_t m = pwrite(to, piece + written, len - written, at + (off_t)written);
        if (m < 0 && errno != EINTR)
            return errno;
        written += m > 0 ? (size_t)m : 0;
    }
    return 0;
}

static int copy_bytes(struct cli_copy *c, int from, int to)
{
    off_t at = 0;
    int e = 0;
    while (!e) {
        ssize_t n = read(from, c->piece, PIECE_BYTES);
        if (n == 0)
            return ftruncate(to, at) != 0 || fsync(to) != 0 ? errno : 0;
        if (cli_interrupted())
            return EINTR;
        if (n < 0) {
            e = errno == EINTR ? 0 : errno;
            continue;
        }
        e = write_piece(c->piece, (size_t)n, to, at);
        at += n;
        c->bytes += (uint64_t)n;
        cli_progress_show(&c->progress, c->bytes, c->of);
    }
    return e;
}

// Where something is, or is to be.
struct place {
    int at; // the folder
    const char *name;
};

static int copy_file(struct cli_copy *c, struct place from, struct place to)
{
    struct stat st;
    int in = openat(from.at, from.name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (in < 0)
        return errno;
    int e = fstat(in, &st) != 0 ? errno : S_ISREG(st.st_mode) ? 0 : EINVAL;
    int out = e ? -1 : openat(to.at, to.name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (!e)
        e = out < 0 ? errno : copy_bytes(c, in, out);
    if (!e)
        e = give(out, c->user);
    if (out >= 0 && close(out) != 0 && !e)
        e = errno;
    close(in);
    c->files++;
    return e;
}

static int copy_tree(struct cli_copy *c, struct place from, struct place to, int depth);

static int copy_one(struct cli_copy *c, struct place from, struct place to, int depth)
{
    struct stat st;
    if (fstatat(from.at, from.name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno;
    if (!S_ISDIR(st.st_mode))
        return S_ISREG(st.st_mode) ? copy_file(c, from, to) : EINVAL; // a backup has no such thing
    return depth > TREE_DEPTH_MAX ? ELOOP : copy_tree(c, from, to, depth);
}

// Takes over `in`.
static int copy_entries(struct cli_copy *c, int in, int out, int depth)
{
    struct dirent *entry;
    int e = 0;
    DIR *dir = fdopendir(in);
    if (!dir)
        return errno;
    while (!e && (entry = readdir(dir)))
        if (!is_itself(entry->d_name) && strcmp(entry->d_name, "lock") != 0)
            e = copy_one(c, (struct place){in, entry->d_name}, (struct place){out, entry->d_name},
                         depth + 1);
    closedir(dir);
    return e;
}

static int copy_tree(struct cli_copy *c, struct place from, struct place to, int depth)
{
    int out = mkdirat(to.at, to.name, 0700) != 0 ? -1 : open_folder(to.at, to.name);
    if (out < 0)
        return errno;
    int in = open_folder(from.at, from.name);
    int e = in < 0 ? errno : copy_entries(c, in, out, depth);
    if (!e)
        e = give(out, c->user);
    if (!e)
        e = fsync(out) != 0 ? errno : 0;
    close(out);
    return e;
}

void cli_copy_begin(struct cli *cli, struct cli_copy *c, const struct passwd *user)
{
    *c = (struct cli_copy){.user = user, .piece = mem_new(PIECE_BYTES)};
    cli_progress_begin(cli, &c->progress, "bytes");
}

void cli_copy_end(struct cli_copy *c)
{
    cli_progress_end(&c->progress, c->bytes, c->of);
    free(c->piece);
}

int cli_copy_part(struct cli_copy *c, const char *from, const char *to)
{
    struct place source, target = {.at = -1};
    c->failed = from;
    source.at = safe_folder_open_above(from, &source.name);
    if (source.at >= 0) {
        c->failed = to;
        target.at = safe_folder_open_above(to, &target.name);
    }
    int e = target.at < 0 ? errno : copy_one(c, source, target, 0);
    if (target.at >= 0)
        close(target.at);
    if (source.at >= 0)
        close(source.at);
    return e;
}
