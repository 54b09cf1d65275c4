// SPDX-License-Identifier: MIT
#include "daemon/relay_files.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "daemon/sandbox.h"
#include "net/net_tls.h"

// ---- files ---------------------------------------------------------------------------------------------

struct relay_file {
    int fd; // -1: the guard may not read it
};

static void free_file(struct relay_file *file)
{
    if (file && file->fd != -1)
        close(file->fd);
    free(file);
}

void relay_files_take(struct relay_files *files, struct channel_message *message)
{
    struct relay_file *file = mem_new(sizeof *file);
    file->fd = message->fd;
    message->fd = -1;
    free_file(map_set(&files->by_path, bytes_cstr(message->text), file));
}

void relay_files_done(struct relay_files *files)
{
    struct bytes path;
    void *file;
    for (size_t cursor = 0; map_next(&files->by_path, &cursor, &path, &file);)
        free_file(file);
    map_done(&files->by_path);
    *files = (struct relay_files){0};
}

static int read_file(void *ctx, const char *path, struct buf *out)
{
    struct relay_files *files = ctx;
    const struct relay_file *file = map_find(&files->by_path, bytes_cstr(path));
    if (!file)
        return E_NOT_FOUND;
    return file->fd == -1 ? E_DENIED : route_file_read_fd(file->fd, out);
}

struct route_files relay_files_reader(struct relay_files *files)
{
    return (struct route_files){read_file, files};
}

// ---- folders -------------------------------------------------------------------------------------------

// The folder that all Maildirs of a route lie in: what comes before the first %, up to its last slash.
static struct bytes maildir_root(const struct conf_route *route)
{
    if (route->via.kind != CONF_VIA_MAILDIR)
        return BYTES_NONE;
    struct bytes path = route->via.path;
    ptrdiff_t percent = bytes_find(path, '%');
    if (percent == -1)
        return path;
    ptrdiff_t slash = bytes_find_last(bytes_first(path, (size_t)percent), '/');
    return bytes_first(path, slash > 0 ? (size_t)slash : 1);
}

// The folder, or as it is not there yet the next one above that is. What is made in its place later is below it.
static void climb_to_folder(char *path)
{
    struct stat st;
    while (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            return;
        *slash = '\0';
    }
}

static void find_maildirs(struct relay_folders *folders, const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        struct bytes root = maildir_root(&conf->routes[i]);
        if (!root.len)
            continue;
        if (folders->maildirs.len)
            buf_add_byte(&folders->maildirs, '\n');
        buf_add(&folders->maildirs, root);
    }
}

int relay_folders_shut_in(struct relay_folders *folders, const struct conf *conf)
{
    net_tls_prepare();
    find_maildirs(folders, conf);
    size_t count = 0, cap = conf->routes_count + 9;
    struct sandbox_path *paths = mem_new(cap * sizeof *paths);
    struct arena arena = {0};
    struct bytes rest = buf_bytes(&folders->maildirs), root;
    while (bytes_cut(&rest, '\n', &root)) {
        char *path = (char *)(uintptr_t)arena_dup(&arena, root).at;
        climb_to_folder(path);
        paths[count++] = (struct sandbox_path){path, SANDBOX_WRITE};
    }
    paths[count++] = (struct sandbox_path){conf->spool.at, SANDBOX_WRITE};
    paths[count++] = (struct sandbox_path){conf->state.at, SANDBOX_WRITE};
    if (conf->sendmail.pickup.len)
        paths[count++] = (struct sandbox_path){conf->sendmail.pickup.at, SANDBOX_PICKUP};
    ptrdiff_t slash = bytes_find_last(conf->control, '/');
    struct bytes control = bytes_first(conf->control, slash > 0 ? (size_t)slash : 1);
    paths[count++] = (struct sandbox_path){arena_dup(&arena, control).at, SANDBOX_SOCKETS};
    if (conf->dns.trust_anchor.len)
        paths[count++] = (struct sandbox_path){conf->dns.trust_anchor.at, SANDBOX_READ};
    // How many CPUs there are; the names of those who ask at the control socket.
    paths[count++] = (struct sandbox_path){"/sys/devices/system/cpu", SANDBOX_READ};
    paths[count++] = (struct sandbox_path){"/etc/nsswitch.conf", SANDBOX_READ};
    paths[count++] = (struct sandbox_path){"/etc/passwd", SANDBOX_READ};
    CHECK(count <= cap && folders->maildirs.err == OK);
    int err = sandbox_enter(paths, count, &folders->landlock);
    arena_done(&arena);
    free(paths);
    return err;
}

static bool covers(const struct relay_folders *folders, struct bytes root)
{
    struct bytes rest = buf_bytes(&folders->maildirs), known;
    while (bytes_cut(&rest, '\n', &known))
        if (bytes_starts(root, known) && (root.len == known.len || root.at[known.len] == '/'))
            return true;
    return false;
}

int relay_folders_check(const struct relay_folders *folders, const struct conf *conf,
                        struct buf *errors)
{
    int err = OK;
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        struct bytes root = maildir_root(&conf->routes[i]);
        if (!root.len || covers(folders, root))
            continue;
        buf_printf(errors,
                   "%s: error: routes[%u].via: %.*s is a new folder: restart to write in it\n",
                   conf->file.at, i, BYTES_FMT(root));
        err = E_DENIED;
    }
    return err;
}
