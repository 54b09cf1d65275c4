// SPDX-License-Identifier: MIT
//
// How it works: a backup is a folder with `spool` (one consistent cut, marked as on hold),
// `suppressions.db` and `accounts.db`. The service writes it, in STATE, because it can write nowhere else; the command
// moves each part to where it is wanted, or copies it. A restore is made while the service is stopped: each part is copied beside its place, under
// a name of its own, and renamed there once it is whole and flushed; the spool last, so that there
// is no spool before all is there.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <json-c/json.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/control_client.h"

#define PIECE_BYTES ((size_t)1 << 20)
#define TREE_DEPTH_MAX 4 // folders of a spool in each other

static const struct passwd *service_user(const struct conf *conf)
{
    return geteuid() == 0 && conf->user.len ? getpwnam(conf->user.at) : NULL;
}

static int give(const char *path, const struct passwd *user)
{
    return user && chown(path, user->pw_uid, user->pw_gid) != 0 ? errno : 0;
}

// Makes a folder, or takes an empty one. 0 or an errno value.
static int make_empty(const char *path, const struct passwd *user)
{
    struct dirent *entry;
    bool empty = true;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return errno;
    DIR *dir = opendir(path);
    if (!dir)
        return errno;
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            empty = false;
    closedir(dir);
    return empty ? give(path, user) : ENOTEMPTY;
}

static int fail_errno(int e, const char *what, const char *path)
{
    int exit = e == ENOTEMPTY || e == EEXIST || e == ENOTDIR ? CLI_DATA
               : e == ENOENT                                 ? CLI_NOT_FOUND
               : e == EACCES || e == EPERM || e == EROFS     ? CLI_PERMISSION
                                                             : CLI_TEMPORARY;
    return cli_fail(exit, "%s %s: %s", what, path, strerror(e));
}

// ---- copying -----------------------------------------------------------------------------------------

struct copy {
    const struct passwd *user;
    char *piece;
    const char *failed; // the path, when something fails
    uint64_t files, bytes;
};

static bool is_zero(const char *at, size_t len)
{
    return at[0] == 0 && memcmp(at, at + 1, len - 1) == 0;
}

// Holes stay holes.
static int copy_bytes(struct copy *r, int from, int to)
{
    off_t at = 0;
    for (;;) {
        ssize_t n = read(from, r->piece, PIECE_BYTES);
        if (n <= 0)
            return n < 0 ? errno : ftruncate(to, at) != 0 || fsync(to) != 0 ? errno : 0;
        ssize_t written = 0;
        while (!is_zero(r->piece, (size_t)n) && written < n) {
            ssize_t m = pwrite(to, r->piece + written, (size_t)(n - written), at + written);
            if (m < 0)
                return errno;
            written += m;
        }
        at += n;
        r->bytes += (uint64_t)n;
    }
}

static int copy_file(struct copy *r, const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int e = out < 0 ? errno : copy_bytes(r, in, out);
    if (out >= 0)
        close(out);
    if (in >= 0)
        close(in);
    if (!e)
        e = give(to, r->user);
    r->files++;
    return e;
}

static int sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return e;
}

static int copy_tree(struct copy *r, const char *from, const char *to, int depth);

static int copy_entry(struct copy *r, const char *from, const char *to, const char *name, int depth)
{
    struct arena arena = {0};
    struct stat st;
    const char *source = arena_printf(&arena, "%s/%s", from, name).at;
    const char *target = arena_printf(&arena, "%s/%s", to, name).at;
    int e = lstat(source, &st) != 0 ? errno : 0;
    if (!e && S_ISDIR(st.st_mode))
        e = depth == TREE_DEPTH_MAX ? ELOOP : copy_tree(r, source, target, depth + 1);
    else if (!e && S_ISREG(st.st_mode))
        e = copy_file(r, source, target);
    else if (!e)
        e = EINVAL; // a backup has no such thing
    arena_done(&arena);
    return e;
}

static int copy_tree(struct copy *r, const char *from, const char *to, int depth)
{
    struct dirent *entry;
    int e = 0;
    DIR *dir = opendir(from);
    if (!dir || mkdir(to, 0700) != 0)
        e = errno;
    while (!e && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, "lock") != 0)
            e = copy_entry(r, from, to, entry->d_name, depth);
    if (dir)
        closedir(dir);
    if (!e)
        e = give(to, r->user);
    return e ? e : sync_folder(to);
}

// Copies one part beside its place and moves it there; an empty folder may be there.
static int copy_part(struct copy *r, struct cli *cli, const char *from, const char *to, bool tree)
{
    const char *beside = arena_printf(&cli->arena, "%s.copying", to).at;
    const char *folder =
        arena_dup(&cli->arena, bytes_first(bytes_cstr(to), (size_t)(strrchr(to, '/') - to))).at;
    r->failed = beside;
    int e = tree ? copy_tree(r, from, beside, 0) : copy_file(r, from, beside);
    if (!e) {
        r->failed = to;
        e = tree && rmdir(to) != 0 && errno != ENOENT ? errno : 0;
    }
    if (!e)
        e = rename(beside, to) != 0 ? errno : 0;
    return e ? e : sync_folder(folder);
}

static bool exists(struct cli *cli, const char *folder, const char *name)
{
    return access(arena_printf(&cli->arena, "%s/%s", folder, name).at, F_OK) == 0;
}

// ---- backup ------------------------------------------------------------------------------------------

static bool ignore_object(void *ctx, struct json_object *object)
{
    (void)ctx;
    (void)object;
    return true;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

// Made by the service where it may; the folder is new.
static int write_backup(struct cli *cli, const char *made, const struct passwd *user)
{
    struct json_object *answer = NULL, *request = json_object_new_object();
    int e = make_empty(made, user);
    if (!e)
        e = make_empty(arena_printf(&cli->arena, "%s/spool", made).at, user);
    cli_json_add(request, "to", bytes_cstr(made));
    int exit = e ? fail_errno(e, "cannot write in", made)
                 : cli_ask_long(cli, "/v1/backup", request, &answer);
    json_object_put(request);
    json_object_put(answer);
    return exit;
}

static int move_part(struct copy *r, struct cli *cli, const char *made, const char *to,
                     const char *name, bool tree)
{
    const char *source = arena_printf(&cli->arena, "%s/%s", made, name).at;
    const char *target = arena_printf(&cli->arena, "%s/%s", to, name).at;
    r->failed = target;
    if (rename(source, target) == 0)
        return sync_folder(to);
    return errno == EXDEV ? copy_part(r, cli, source, target, tree) : errno;
}

static int move_backup(struct cli *cli, const char *made, const char *to, const struct passwd *user)
{
    struct copy r = {.user = user, .piece = mem_new(PIECE_BYTES)};
    int e = move_part(&r, cli, made, to, "spool", true);
    if (!e)
        e = move_part(&r, cli, made, to, "suppressions.db", false);
    if (!e)
        e = move_part(&r, cli, made, to, "accounts.db", false);
    free(r.piece);
    return e ? fail_errno(e, "cannot write", r.failed) : CLI_OK;
}

// Secrets that were made at the first start and never change: with others, what is out with a token would not be known
// again. What is not there yet is not missed.
static int copy_secrets(struct copy *r, struct cli *cli, const char *from, const char *to)
{
    static const char *const names[] = {"return-key", "scram-secret"};
    int e = 0;
    for (size_t i = 0; i < COUNT_OF(names) && !e; i++)
        if (exists(cli, from, names[i]))
            e = copy_part(r, cli, arena_printf(&cli->arena, "%s/%s", from, names[i]).at,
                          arena_printf(&cli->arena, "%s/%s", to, names[i]).at, false);
    return e;
}

static int run_backup(struct cli *cli)
{
    const struct conf *conf = cli_conf(cli);
    const char *to = cli->arguments[0];
    if (!conf)
        return CLI_CONFIG;
    if (to[0] != '/') {
        char *here = getcwd(NULL, 0);
        if (!here)
            return fail_errno(errno, "cannot find", ".");
        to = arena_printf(&cli->arena, "%s/%s", here, to).at;
        free(here);
    }
    int exit =
        cli_ask_lines(cli, "/v1/lanes", ignore_object, NULL); // before a folder is made for nothing
    if (exit)
        return exit;
    const struct passwd *user = service_user(conf);
    int e = make_empty(to, user);
    if (e)
        return fail_errno(e, "cannot back up to", to);
    const char *made = arena_printf(&cli->arena, "%s/backup.%d", conf->state.at, getpid()).at;
    exit = write_backup(cli, made, user);
    if (!exit)
        exit = move_backup(cli, made, to, user);
    struct copy r = {.user = user, .piece = mem_new(PIECE_BYTES)};
    e = exit ? 0 : copy_secrets(&r, cli, conf->state.at, to);
    if (e)
        exit = fail_errno(e, "cannot write", r.failed);
    free(r.piece);
    (void)nftw(made, remove_one, TREE_DEPTH_MAX + 2, FTW_DEPTH | FTW_PHYS);
    if (exit)
        return exit;
    if (cli->json) {
        struct json_object *o = json_object_new_object();
        cli_json_add(o, "backup", bytes_cstr(to));
        cli_print_json(o);
        json_object_put(o);
    } else {
        printf("backup of spool, accounts and suppression list: %s\n", to);
    }
    return CLI_OK;
}

const struct cli_command cli_backup = {
    .name = "backup",
    .arguments = "DIR",
    .help = "copy spool, accounts and suppression list, as of one moment, into a new folder",
    .more =
        "The service goes on meanwhile. It writes the copy in STATE, which must have room for it;\n"
        "from there it is moved to DIR. The history (STATE/events) is not copied.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_backup,
};

// ---- restore -----------------------------------------------------------------------------------------

static bool is_running(const struct conf *conf)
{
    struct control_reply reply;
    struct buf error = {0};
    int err = control_request(conf->control, "/healthz", NULL, &reply, &error);
    buf_done(&error);
    if (!err)
        json_object_put(reply.body);
    return err != E_CLOSED;
}

// Nothing that is there is ever overwritten.
static int check_targets(struct cli *cli, const struct conf *conf, const char *from)
{
    struct stat st;
    if (stat(from, &st) != 0)
        return cli_fail(CLI_NOT_FOUND, "there is no backup %s: %s", from, strerror(errno));
    if (!exists(cli, from, "spool/hold") || !exists(cli, from, "accounts.db"))
        return cli_fail(CLI_DATA, "%s is no complete backup: it lacks %s", from,
                        exists(cli, from, "accounts.db") ? "spool/hold" : "accounts.db");
    if (is_running(conf))
        return cli_fail(CLI_TEMPORARY, "posthaste is running: stop it first");
    if (exists(cli, conf->state.at, "accounts.db") || exists(cli, conf->state.at, "events") ||
        exists(cli, conf->state.at, "suppressions.db"))
        return cli_fail(
            CLI_DATA, "%s has accounts, a suppression list or a history: restore needs a new state",
            conf->state.at);
    return CLI_OK;
}

static int restore(struct cli *cli, const struct conf *conf, const char *from, struct copy *r)
{
    const char *accounts = arena_printf(&cli->arena, "%s/accounts.db", from).at;
    const char *spool = arena_printf(&cli->arena, "%s/spool", from).at;
    const char *to = arena_printf(&cli->arena, "%s/accounts.db", conf->state.at).at;
    r->failed = conf->state.at;
    int e = mkdir(conf->state.at, 0700) != 0 && errno != EEXIST ? errno : 0;
    if (!e)
        e = give(conf->state.at, r->user);
    if (!e)
        e = copy_secrets(r, cli, from, conf->state.at);
    if (!e)
        e = copy_part(r, cli, accounts, to, false);
    if (!e && exists(cli, from, "suppressions.db")) // older backups have none
        e = copy_part(r, cli, arena_printf(&cli->arena, "%s/suppressions.db", from).at,
                      arena_printf(&cli->arena, "%s/suppressions.db", conf->state.at).at, false);
    return e ? e : copy_part(r, cli, spool, conf->spool.at, true);
}

static int run_restore(struct cli *cli)
{
    const struct conf *conf = cli_conf(cli);
    const char *from = cli->arguments[0];
    int exit = conf ? check_targets(cli, conf, from) : CLI_CONFIG;
    if (exit)
        return exit;
    struct copy r = {.user = service_user(conf), .piece = mem_new(PIECE_BYTES)};
    int e = restore(cli, conf, from, &r);
    free(r.piece);
    if (e)
        return fail_errno(e, "cannot restore", r.failed);
    if (cli->json) {
        struct json_object *o = json_object_new_object();
        cli_json_add(o, "restored", bytes_cstr(from));
        json_object_object_add(o, "files", json_object_new_uint64(r.files));
        json_object_object_add(o, "bytes", json_object_new_uint64(r.bytes));
        cli_print_json(o);
        json_object_put(o);
    } else {
        printf("restored from %s: %llu files, %llu bytes; all mail is held until `posthaste queue "
               "release --all`\n",
               from, (unsigned long long)r.files, (unsigned long long)r.bytes);
    }
    return CLI_OK;
}

const struct cli_command cli_restore = {
    .name = "restore",
    .arguments = "DIR",
    .help = "bring a backup back, while the service is stopped",
    .more =
        "There must be no spool, accounts and suppression list where the configuration wants "
        "them.\n"
        "The service then starts with all mail held, as some may have been delivered since the\n"
        "backup: look at it, and `posthaste queue release --all`.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_restore,
};
