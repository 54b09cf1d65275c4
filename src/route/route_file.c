// SPDX-License-Identifier: MIT
#include "route/route_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP_BYTES 16384

int route_file_read_fd(int fd, struct buf *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return E_IO;
    char piece[STEP_BYTES];
    int err = OK;
    off_t at = 0;
    for (ssize_t n = 1; n > 0 && !err;) {
        n = pread(fd, piece, sizeof(piece), at);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n < 0)
            err = err_from_errno(errno);
        else
            buf_add(out, bytes_of(piece, (size_t)n));
        at += n;
        err = err ? err : out->err;
    }
    explicit_bzero(piece, sizeof(piece)); // it may be a password
    return err;
}

int route_file_read(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_from_errno(errno);
    int err = route_file_read_fd(fd, out);
    close(fd);
    return err;
}
