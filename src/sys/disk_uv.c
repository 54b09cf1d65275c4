// SPDX-License-Identifier: MIT
//
// disk_uv - the disk is the kernel's
//
// How it works. The root is an open directory; every name is walked from it part by part, and no
// part may be a symbolic link, so that nobody who can write elsewhere leads us out of it. Files are
// made 0600, directories 0700, all descriptors close on exec.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "sys/disk.h"

#define IOV_A_CALL 64

struct disk {
    int root;
    int lock; // -1 until taken
};

struct disk_file {
    int fd;
};

static int err_of_errno(void)
{
    switch (errno) {
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
        return E_FULL;
    case ENOENT:
    case ENOTDIR:
        return E_NOT_FOUND;
    case EEXIST:
        return E_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP: // a symbolic link where none may be
        return E_DENIED;
    default:
        return E_IO;
    }
}

// ---- names ------------------------------------------------------------------------------------

// Takes the next part of *name; false at its end. A part "", "." or ".." is our bug.
static bool next_part(const char **name, char out[NAME_MAX + 1])
{
    if (**name == '\0')
        return false;
    size_t len = strcspn(*name, "/");
    CHECK(len > 0 && len <= NAME_MAX);
    memcpy(out, *name, len);
    out[len] = '\0';
    CHECK(strcmp(out, ".") != 0 && strcmp(out, "..") != 0);
    *name += len + ((*name)[len] == '/');
    return true;
}

// Opens the directory that holds the last part of `name`, which is copied to out_last ("" for the
// root).
static int open_parent(struct disk *d, const char *name, char out_last[NAME_MAX + 1], int *out_fd)
{
    int at = d->root;
    out_last[0] = '\0';
    char part[NAME_MAX + 1];
    while (next_part(&name, part)) {
        if (out_last[0] != '\0') {
            int next = openat(at, out_last, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            int e = errno;
            if (at != d->root)
                close(at);
            errno = e;
            if (next < 0)
                return err_of_errno();
            at = next;
        }
        memcpy(out_last, part, sizeof part);
    }
    *out_fd = at;
    return OK;
}

static void close_parent(struct disk *d, int fd)
{
    int e = errno;
    if (fd != d->root)
        close(fd);
    errno = e;
}

static int open_name(struct disk *d, const char *name, int flags, int *out_fd)
{
    char last[NAME_MAX + 1];
    int parent, err = open_parent(d, name, last, &parent);
    if (err != OK)
        return err;
    do
        *out_fd = openat(parent, last[0] ? last : ".", flags | O_NOFOLLOW | O_CLOEXEC, 0600);
    while (*out_fd < 0 && errno == EINTR);
    close_parent(d, parent);
    return *out_fd < 0 ? err_of_errno() : OK;
}

// ---- the tree ---------------------------------------------------------------------------------

static int make_parents(const char *root)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s", root) >= (int)sizeof path)
        return E_LIMIT;
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return err_of_errno();
        *slash = '/';
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST ? OK : err_of_errno();
}

int disk_open(const char *root, struct disk **out)
{
    *out = NULL;
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        int err = make_parents(root);
        if (err != OK)
            return err;
        fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd < 0)
        return errno == ENOTDIR ? E_IO : err_of_errno();
    struct disk *d = mem_new(sizeof *d);
    *d = (struct disk){.root = fd, .lock = -1};
    *out = d;
    return OK;
}

void disk_close(struct disk *d)
{
    if (!d)
        return;
    if (d->lock >= 0)
        close(d->lock);
    close(d->root);
    free(d);
}

int disk_lock(struct disk *d)
{
    CHECK(d->lock < 0);
    int fd, err = open_name(d, "lock", O_RDWR | O_CREAT, &fd);
    if (err != OK)
        return err;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        err = errno == EWOULDBLOCK ? E_BUSY : err_of_errno();
        close(fd);
        return err;
    }
    d->lock = fd;
    return OK;
}

int disk_mkdir(struct disk *d, const char *name)
{
    char last[NAME_MAX + 1];
    int parent, err = open_parent(d, name, last, &parent);
    if (err != OK)
        return err;
    err = mkdirat(parent, last, 0700) == 0 || errno == EEXIST ? OK : err_of_errno();
    close_parent(d, parent);
    return err;
}

int disk_list(struct disk *d, const char *dir, void (*fn)(void *ctx, const char *name), void *ctx)
{
    int fd, err = open_name(d, dir, O_RDONLY | O_DIRECTORY, &fd);
    if (err != OK)
        return err;
    DIR *open_dir = fdopendir(fd);
    if (!open_dir) {
        close(fd);
        return E_IO;
    }
    errno = 0;
    for (struct dirent *entry; (entry = readdir(open_dir)) != NULL; errno = 0)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(ctx, entry->d_name);
    err = errno != 0 ? err_of_errno() : OK;
    closedir(open_dir);
    return err;
}

int disk_rename(struct disk *d, const char *from, const char *to)
{
    char from_last[NAME_MAX + 1], to_last[NAME_MAX + 1];
    int from_parent, to_parent;
    int err = open_parent(d, from, from_last, &from_parent);
    if (err != OK)
        return err;
    err = open_parent(d, to, to_last, &to_parent);
    if (err == OK) {
        err = renameat(from_parent, from_last, to_parent, to_last) == 0 ? OK : err_of_errno();
        close_parent(d, to_parent);
    }
    close_parent(d, from_parent);
    return err;
}

int disk_unlink(struct disk *d, const char *name)
{
    char last[NAME_MAX + 1];
    int parent, err = open_parent(d, name, last, &parent);
    if (err != OK)
        return err;
    err = unlinkat(parent, last, 0) == 0 ? OK : err_of_errno();
    close_parent(d, parent);
    return err;
}

int disk_sync_dir(struct disk *d, const char *dir)
{
    int fd, err = open_name(d, dir, O_RDONLY | O_DIRECTORY, &fd);
    if (err != OK)
        return err;
    err = fsync(fd) == 0 ? OK : err_of_errno();
    close(fd);
    return err;
}

int disk_free(struct disk *d, uint64_t *out_bytes, uint64_t *out_inodes)
{
    struct statvfs vfs;
    if (fstatvfs(d->root, &vfs) != 0)
        return err_of_errno();
    *out_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    *out_inodes = vfs.f_files == 0 ? UINT64_MAX : vfs.f_favail; // 0: made on demand (btrfs)
    return OK;
}

// ---- files ------------------------------------------------------------------------------------

int disk_file_open(struct disk *d, const char *name, int flags, struct disk_file **out)
{
    *out = NULL;
    int mode = (flags & DISK_WRITE) == 0 ? O_RDONLY : (flags & DISK_READ) ? O_RDWR : O_WRONLY;
    mode |= (flags & DISK_CREATE ? O_CREAT : 0) | (flags & DISK_EXCLUSIVE ? O_EXCL : 0) |
            (flags & DISK_TRUNCATE ? O_TRUNC : 0);
    int fd, err = open_name(d, name, mode, &fd);
    if (err != OK)
        return err;
    struct disk_file *f = mem_new(sizeof *f);
    f->fd = fd;
    *out = f;
    return OK;
}

void disk_file_close(struct disk_file *f)
{
    if (!f)
        return;
    close(f->fd);
    free(f);
}

// Drops the first n bytes of iov[*first..count).
static void skip_iov(struct iovec *iov, int count, int *first, size_t n)
{
    while (*first < count && n >= iov[*first].iov_len)
        n -= iov[(*first)++].iov_len;
    if (n > 0) {
        iov[*first].iov_base = (char *)iov[*first].iov_base + n;
        iov[*first].iov_len -= n;
    }
}

static int write_some(int fd, struct iovec *iov, int count, uint64_t *offset)
{
    for (int first = 0; first < count;) {
        ssize_t n = pwritev(fd, iov + first, count - first, (off_t)*offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_of_errno();
        skip_iov(iov, count, &first, (size_t)n);
        *offset += (uint64_t)n;
        if (n == 0 && first < count)
            return E_IO; // no progress and no reason
    }
    return OK;
}

int disk_pwritev(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset)
{
    struct iovec part[IOV_A_CALL];
    for (int done = 0; done < count;) {
        int n = count - done < IOV_A_CALL ? count - done : IOV_A_CALL;
        memcpy(part, iov + done, (size_t)n * sizeof *part);
        int err = write_some(f->fd, part, n, &offset);
        if (err != OK)
            return err;
        done += n;
    }
    return OK;
}

static int read_all(struct disk_file *f, void *out, size_t n, uint64_t offset, int flags,
                    size_t *out_n)
{
    *out_n = 0;
    while (*out_n < n) {
        struct iovec iov = {(char *)out + *out_n, n - *out_n};
        ssize_t got = preadv2(f->fd, &iov, 1, (off_t)(offset + *out_n), flags);
        if (got == 0)
            break;
        if (got > 0)
            *out_n += (size_t)got;
        else if (flags &&
                 (errno == EAGAIN || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
            return E_AGAIN; // not in the page cache, or a file system that can't tell
        else if (errno != EINTR)
            return err_of_errno();
    }
    return OK;
}

int disk_pread(struct disk_file *f, void *out, size_t n, uint64_t offset, size_t *out_n)
{
    return read_all(f, out, n, offset, 0, out_n);
}

int disk_pread_nowait(struct disk_file *f, void *out, size_t n, uint64_t offset, size_t *out_n)
{
    return read_all(f, out, n, offset, RWF_NOWAIT, out_n);
}

// Never asked twice after a failure: the kernel may have dropped the pages it could not write.
int disk_sync(struct disk_file *f)
{
    return fdatasync(f->fd) == 0 ? OK : err_of_errno();
}

int disk_truncate(struct disk_file *f, uint64_t size)
{
    return ftruncate(f->fd, (off_t)size) == 0 ? OK : err_of_errno();
}

int disk_size(struct disk_file *f, uint64_t *out)
{
    struct stat st;
    if (fstat(f->fd, &st) != 0)
        return err_of_errno();
    *out = (uint64_t)st.st_size;
    return OK;
}
