// SPDX-License-Identifier: MIT
#include "daemon/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "sys/sys.h"

static int read_secret(const char *path, void *out, size_t bytes)
{
    char spare;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd == -1)
        return errno == ENOENT ? E_NOT_FOUND : err_from_errno(errno);
    ssize_t n = read(fd, out, bytes);
    int err = n < 0 ? E_IO : (size_t)n != bytes || read(fd, &spare, 1) != 0 ? E_DAMAGED : OK;
    close(fd);
    return err;
}

static int sync_folder(struct bytes folder)
{
    struct buf path = {0};
    buf_add(&path, folder);
    int fd = open(buf_cstr(&path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    buf_done(&path);
    int err = fd == -1 || fsync(fd) == -1 ? err_from_errno(errno) : OK;
    if (fd != -1)
        close(fd);
    return err;
}

// Beside its place first, so that a half-written one is never taken for it.
static int write_secret(struct bytes folder, const char *path, const void *secret, size_t bytes)
{
    struct buf beside = {0};
    buf_printf(&beside, "%s.new", path);
    const char *made = buf_cstr(&beside);
    int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int err = fd == -1 || write(fd, secret, bytes) != (ssize_t)bytes || fsync(fd) == -1
                  ? err_from_errno(errno)
                  : OK;
    if (fd != -1)
        close(fd);
    if (!err && rename(made, path) == -1)
        err = err_from_errno(errno);
    buf_done(&beside);
    return err ? err : sync_folder(folder);
}

int secret_file_load(struct bytes folder, const char *name, void *out, size_t bytes)
{
    struct buf path = {0};
    buf_printf(&path, "%.*s/%s", BYTES_FMT(folder), name);
    int err = read_secret(buf_cstr(&path), out, bytes);
    if (err == E_NOT_FOUND) {
        sys_random(out, bytes);
        err = write_secret(folder, buf_cstr(&path), out, bytes);
    }
    buf_done(&path);
    return err;
}
