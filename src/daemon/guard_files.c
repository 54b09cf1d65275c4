// SPDX-License-Identifier: MIT
#include "daemon/guard_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "daemon/channel.h"
#include "net/net_tls.h"
#include "route/route_file.h"

static const char *system_bundle(void)
{
    const char *path = net_tls_system_bundle();
    return path ? path : "";
}

const char *guard_files_authorities(const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->routes_count; i++)
        if (conf->routes[i].tls == CONF_ROUTE_TLS_VERIFY)
            return conf->tls.authorities.len ? conf->tls.authorities.at : system_bundle();
    return NULL;
}

struct guard_file {
    struct buf contents; // where fd is -1 and it is readable
    int fd;              // what can't be copied, for the relay to say what is wrong with it
    bool readable;
};

// It may be a password.
static void wipe(struct buf *contents)
{
    if (contents->at)
        explicit_bzero(contents->at, contents->cap);
    buf_done(contents);
}

static void free_file(struct guard_file *file)
{
    wipe(&file->contents);
    if (file->fd != -1)
        close(file->fd);
    free(file);
}

// No regular file, larger than GUARD_FILE_MAX, or a disk that fails: it stays open as it is.
static void copy_contents(struct guard_file *file)
{
    struct stat st;
    buf_init(&file->contents, GUARD_FILE_MAX);
    if (fstat(file->fd, &st) == 0 && S_ISREG(st.st_mode))
        buf_reserve(&file->contents, (size_t)st.st_size); // in one piece, as it is wiped
    if (route_file_read_fd(file->fd, &file->contents) == OK) {
        close(file->fd);
        file->fd = -1;
    } else {
        wipe(&file->contents);
    }
}

// A file that is not there is not kept; one that may not be read is.
static void read_file(struct guard_files *files, struct bytes path)
{
    if (!path.len || map_find(&files->by_path, path))
        return;
    int fd = open(path.at, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not hang us
    if (fd == -1 && errno != EACCES && errno != EPERM)
        return;
    struct guard_file *file = mem_new(sizeof *file);
    file->fd = fd;
    file->readable = fd != -1;
    if (file->readable)
        copy_contents(file);
    map_set(&files->by_path, path, file);
}

void guard_files_read(struct guard_files *files, const struct conf *conf)
{
    read_file(files, bytes_cstr(guard_files_authorities(conf)));
    read_file(files, conf->tls.client_authorities);
    read_file(files, conf->bounce.rules);
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        read_file(files, conf->routes[i].recipients);
        read_file(files, conf->routes[i].password_file);
    }
}

int guard_files_send(int channel, const struct guard_files *files)
{
    struct bytes path;
    void *value;
    int err = OK;
    for (size_t cursor = 0; !err && map_next(&files->by_path, &cursor, &path, &value);) {
        const struct guard_file *file = value;
        if (file->readable && file->fd == -1)
            err = channel_send_contents(channel, CHANNEL_FILE, path, buf_bytes(&file->contents));
        else
            err = channel_send(channel, CHANNEL_FILE, path, file->fd);
    }
    return err;
}

void guard_files_done(struct guard_files *files)
{
    struct bytes path;
    void *file;
    for (size_t cursor = 0; map_next(&files->by_path, &cursor, &path, &file);)
        free_file(file);
    map_done(&files->by_path);
    *files = (struct guard_files){0};
}
