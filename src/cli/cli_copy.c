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

int cli_copy_give(const char *path, const struct passwd *user)
{
    return user && chown(path, user->pw_uid, user->pw_gid) != 0 ? errno : 0;
}

int cli_copy_make_empty(const char *path, const struct passwd *user, bool *out_made)
{
    struct dirent *entry;
    bool empty = true;
    *out_made = mkdir(path, 0700) == 0;
    if (!*out_made && errno != EEXIST)
        return errno;
    DIR *dir = opendir(path);
    if (!dir)
        return errno;
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            empty = false;
    closedir(dir);
    return empty ? cli_copy_give(path, user) : ENOTEMPTY;
}

int cli_copy_fail(int e, const char *what, const char *path)
{
    int exit = e == ENOTEMPTY || e == EEXIST || e == ENOTDIR ? CLI_DATA
               : e == ENOENT                                 ? CLI_NOT_FOUND
               : e == EACCES || e == EPERM || e == EROFS     ? CLI_PERMISSION
               : e == EINTR                                  ? CLI_INTERRUPTED
                                                             : CLI_TEMPORARY;
    return cli_fail(exit, "%s %s: %s", what, path, e == EINTR ? "interrupted" : strerror(e));
}

int cli_copy_sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return e;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

void cli_copy_remove(const char *path)
{
    (void)nftw(path, remove_one, TREE_DEPTH_MAX + 2, FTW_DEPTH | FTW_PHYS);
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

static int copy_file(struct cli_copy *c, const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int e = out < 0 ? errno : copy_bytes(c, in, out);
    if (out >= 0 && close(out) != 0 && !e)
        e = errno;
    if (in >= 0)
        close(in);
    if (!e)
        e = cli_copy_give(to, c->user);
    c->files++;
    return e;
}

static int copy_tree(struct cli_copy *c, const char *from, const char *to, int depth);

static int copy_entry(struct cli_copy *c, const char *from, const char *to, const char *name,
                      int depth)
{
    struct arena arena = {0};
    struct stat st;
    const char *source = arena_printf(&arena, "%s/%s", from, name).at;
    const char *target = arena_printf(&arena, "%s/%s", to, name).at;
    int e = lstat(source, &st) != 0 ? errno : 0;
    if (!e && S_ISDIR(st.st_mode))
        e = depth == TREE_DEPTH_MAX ? ELOOP : copy_tree(c, source, target, depth + 1);
    else if (!e && S_ISREG(st.st_mode))
        e = copy_file(c, source, target);
    else if (!e)
        e = EINVAL; // a backup has no such thing
    arena_done(&arena);
    return e;
}

static int copy_tree(struct cli_copy *c, const char *from, const char *to, int depth)
{
    struct dirent *entry;
    int e = 0;
    DIR *dir = opendir(from);
    if (!dir || mkdir(to, 0700) != 0)
        e = errno;
    while (!e && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, "lock") != 0)
            e = copy_entry(c, from, to, entry->d_name, depth);
    if (dir)
        closedir(dir);
    if (!e)
        e = cli_copy_give(to, c->user);
    return e ? e : cli_copy_sync_folder(to);
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
    struct stat st;
    c->failed = to;
    if (lstat(from, &st) != 0)
        return errno;
    return S_ISDIR(st.st_mode) ? copy_tree(c, from, to, 0) : copy_file(c, from, to);
}
