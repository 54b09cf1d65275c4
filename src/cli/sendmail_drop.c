// SPDX-License-Identifier: MIT
//
// How it works: the file is written under a name that begins with a dot, which the pickup leaves alone, flushed, and
// renamed. The folder need not be readable to who writes in it, so its own flush may be the file system's.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/sendmail.h"
#include "mail/mail_date.h"

#define NAME_RANDOM_BYTES 16

static bool write_all(int fd, struct bytes text)
{
    while (text.len) {
        ssize_t n = write(fd, text.at, text.len);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1)
            return false;
        text = bytes_skip(text, (size_t)n);
    }
    return true;
}

static void format_envelope(const struct local_message *m, struct buf *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    buf_add_all(out, BYTES("X-Sender: "), m->sender, BYTES("\r\n"));
    for (size_t i = 0; i < m->count; i++)
        buf_add_all(out, BYTES("X-Receiver: "), m->recipients[i], BYTES("\r\n"));
    buf_add_cstr(out, "X-Dropped: ");
    mail_date_format((struct wall){(int64_t)t.tv_sec * 1000000}, out);
    buf_add_cstr(out, "\r\n");
}

static bool write_message(int fd, const struct local_message *m)
{
    struct buf envelope = {0};
    struct bytes piece = m->header;
    format_envelope(m, &envelope);
    bool ok = !envelope.err && write_all(fd, buf_bytes(&envelope));
    buf_done(&envelope);
    while (ok && piece.len) {
        ok = write_all(fd, piece) && m->next(m->ctx, &piece) == OK;
    }
    return ok;
}

// Readable to the folder's group, which is the relay's where the folder has its set-group-id bit; else to whoever knows
// the name, which nobody can list.
static bool open_to_relay(int fd, const struct stat *folder)
{
    struct stat st;
    return fstat(fd, &st) == 0 && fchmod(fd, st.st_gid == folder->st_gid ? 0640 : 0644) == 0;
}

static bool flush_folder(int folder, int fd)
{
    int own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = own != -1 ? fsync(own) == 0 : syncfs(fd) == 0;
    if (own != -1)
        close(own);
    return ok;
}

static bool make_name(char hidden[2 * NAME_RANDOM_BYTES + 2])
{
    unsigned char random[NAME_RANDOM_BYTES];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return false;
    hidden[0] = '.';
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(hidden + 1 + 2 * i, 3, "%02x", random[i]);
    return true;
}

static bool write_file(int folder, const struct stat *st, const struct local_message *m)
{
    char hidden[2 * NAME_RANDOM_BYTES + 2];
    if (!make_name(hidden))
        return false;
    int fd = openat(folder, hidden, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd == -1)
        return false;
    bool ok = write_message(fd, m) && open_to_relay(fd, st) && fsync(fd) == 0 &&
              renameat(folder, hidden, folder, hidden + 1) == 0;
    int saved = errno;
    if (!ok)
        (void)unlinkat(folder, hidden, 0);
    else if (!flush_folder(
                 folder,
                 fd)) // it is there, and may not be after a power cut: so it is not promised
        ok = unlinkat(folder, hidden + 1, 0) == -1;
    close(fd);
    errno = saved;
    return ok;
}

int sendmail_drop(struct bytes pickup, const struct local_message *m, struct buf *why)
{
    struct stat st;
    char path[4096];
    snprintf(path, sizeof path, "%.*s", BYTES_FMT(pickup));
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool ok = folder != -1 && fstat(folder, &st) == 0 && write_file(folder, &st, m);
    int saved = errno;
    if (folder != -1)
        close(folder);
    if (ok)
        return OK;
    buf_printf(why, "cannot leave the message in %s: %s", path, strerror(saved));
    return saved == 0 ? E_IO : err_from_errno(saved);
}
