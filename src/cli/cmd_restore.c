// SPDX-License-Identifier: MIT
//
// posthaste restore
//
// How it works: all is or nothing. Each part is copied beside its place, under a name of its own, which can be
// interrupted; when all are there and flushed they are renamed to their places. From before the first copy until
// after the last rename STATE has a mark, with which the service does not start: who finds it there begins again.
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_copy.h"
#include "cli/cli_store.h"
#include "cli/control_client.h"
#include "store/store.h"
#include "store/store_audit.h"

#define COPYING ".restoring"

enum part { RETURN_KEY, SCRAM_SECRET, ACCOUNTS, SUPPRESSIONS, SPOOL, PARTS };
static const char *const NAMES[PARTS] = {"return-key", "scram-secret", "accounts.db",
                                         "suppressions.db", "spool"};

struct restore {
    struct cli *cli;
    const struct conf *conf;
    const char *from, *mark;
    const char *source[PARTS], *beside[PARTS], *target[PARTS];
    bool there[PARTS], state_is_new;
    struct cli_copy copy;
};

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static const char *in_folder(struct cli *cli, const char *folder, const char *name)
{
    return arena_printf(&cli->arena, "%s/%s", folder, name).at;
}

static void find_parts(struct restore *r)
{
    for (int i = 0; i < PARTS; i++) {
        r->source[i] = in_folder(r->cli, r->from, NAMES[i]);
        r->target[i] =
            i == SPOOL ? r->conf->spool.at : in_folder(r->cli, r->conf->state.at, NAMES[i]);
        r->beside[i] = arena_printf(&r->cli->arena, "%s" COPYING, r->target[i]).at;
        r->there[i] = exists(r->source[i]); // older backups lack some
    }
    r->mark = in_folder(r->cli, r->conf->state.at, STORE_RESTORE_MARK);
}

// What a restore left that was killed.
static void remove_remains(struct restore *r)
{
    for (int i = 0; i < PARTS; i++) {
        cli_copy_remove(r->beside[i]);
        if (exists(r->mark))
            cli_copy_remove(r->target[i]);
    }
}

static const char *folder_of(struct restore *r, const char *path)
{
    return arena_dup(&r->cli->arena,
                     bytes_first(bytes_cstr(path), (size_t)(strrchr(path, '/') - path)))
        .at;
}

static bool is_mount(struct restore *r, const char *path)
{
    struct stat st, above;
    const char *folder = folder_of(r, path);
    return stat(path, &st) == 0 && stat(*folder ? folder : "/", &above) == 0 &&
           st.st_dev != above.st_dev;
}

static bool is_link(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

// What a new folder can't take the place of.
static int check_spool(struct restore *r, const char *path)
{
    if (is_link(path))
        return cli_fail(CLI_DATA,
                        "%s is a symbolic link, and restore puts a new folder in its place: "
                        "set spool to the folder that it leads to",
                        path);
    if (is_mount(r, path))
        return cli_fail(
            CLI_DATA,
            "%s is where a disk is mounted, and restore puts a new folder in its place: "
            "set spool to a folder below it",
            path);
    return CLI_OK;
}

// Nothing that is there is ever overwritten, but what an earlier restore did not end.
static int check_targets(struct restore *r)
{
    struct stat st;
    const char *events = in_folder(r->cli, r->conf->state.at, "events");
    if (stat(r->from, &st) != 0)
        return cli_fail(errno == EACCES ? CLI_PERMISSION : CLI_NOT_FOUND,
                        "there is no backup %s: %s", r->from, strerror(errno));
    if (!exists(in_folder(r->cli, r->from, "spool/hold")) || !r->there[ACCOUNTS])
        return cli_fail(CLI_DATA, "%s is no complete backup: it lacks %s", r->from,
                        r->there[ACCOUNTS] ? "spool/hold" : "accounts.db");
    if (control_ping(r->conf->control) != E_CLOSED)
        return cli_fail(CLI_TEMPORARY, "posthaste is running: stop it first");
    int exit = check_spool(r, r->target[SPOOL]);
    if (exit)
        return exit;
    remove_remains(r);
    if (exists(r->target[ACCOUNTS]) || exists(events) || exists(r->target[SUPPRESSIONS]))
        return cli_fail(
            CLI_DATA, "%s has accounts, a suppression list or a history: restore needs a new state",
            r->conf->state.at);
    bool ignored;
    int e = exists(r->target[SPOOL]) ? cli_copy_make_empty(r->target[SPOOL], NULL, &ignored) : 0;
    return e ? cli_copy_fail(e, "cannot restore to", r->target[SPOOL]) : CLI_OK;
}

static int make_mark(struct restore *r)
{
    const char *state = r->conf->state.at;
    r->copy.failed = state;
    r->state_is_new = mkdir(state, 0700) == 0;
    if (!r->state_is_new && errno != EEXIST)
        return errno;
    int e = r->state_is_new ? cli_copy_sync_folder(in_folder(r->cli, state, "..")) : 0;
    if (!e)
        e = cli_copy_give(state, r->copy.user);
    if (e)
        return e;
    r->copy.failed = r->mark;
    int fd = open(r->mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    close(fd);
    return cli_copy_sync_folder(state);
}

static int copy_all(struct restore *r)
{
    int e = 0;
    for (int i = 0; i < PARTS; i++)
        r->copy.of += r->there[i] ? cli_copy_size(r->source[i]) : 0;
    for (int i = 0; i < PARTS && !e; i++)
        if (r->there[i])
            e = cli_copy_part(&r->copy, r->source[i], r->beside[i]);
    return e;
}

// The one moment in which it happens; not to be interrupted.
static int move_all(struct restore *r)
{
    int e = 0;
    for (int i = 0; i < PARTS && !e; i++) {
        r->copy.failed = r->target[i];
        if (i == SPOOL && rmdir(r->target[i]) != 0 && errno != ENOENT)
            e = errno;
        if (!e && r->there[i])
            e = rename(r->beside[i], r->target[i]) != 0 ? errno : 0;
    }
    if (!e)
        e = cli_copy_sync_folder(in_folder(r->cli, r->target[SPOOL], ".."));
    if (!e)
        e = cli_copy_sync_folder(r->conf->state.at);
    if (!e)
        e = unlink(r->mark) != 0 ? errno : 0;
    return e ? e : cli_copy_sync_folder(r->conf->state.at);
}

// As if it had never been.
static void undo(struct restore *r)
{
    for (int i = 0; i < PARTS; i++)
        cli_copy_remove(r->beside[i]);
    (void)unlink(r->mark);
    if (r->state_is_new)
        (void)rmdir(r->conf->state.at);
}

static int restore(struct restore *r)
{
    cli_copy_begin(r->cli, &r->copy, cli_copy_user(r->conf));
    int e = make_mark(r);
    if (!e)
        e = copy_all(r);
    cli_copy_end(&r->copy);
    if (!e && cli_interrupted())
        e = EINTR;
    if (e) {
        undo(r);
        int exit = cli_copy_fail(e, "cannot restore", r->copy.failed);
        return e == EINTR ? cli_fail(exit, "nothing is restored; the same command begins again")
                          : exit;
    }
    sigset_t none;
    sigfillset(&none);
    sigprocmask(SIG_BLOCK, &none, NULL);
    e = move_all(r);
    return e ? cli_copy_fail(e, "restored in part; run it again: cannot write", r->copy.failed)
             : CLI_OK;
}

// In the log that came with the backup.
static void record(struct restore *r)
{
    const struct store_who who = {"files", geteuid(), getegid(), getpid()};
    struct json_object *args = json_object_new_object();
    struct store *store;
    struct buf error = {0};
    json_add_text(args, "from", bytes_cstr(r->from));
    struct store_op op = {"restore", args, cli_store_actor(&r->cli->arena), cli_store_now(), &who};
    if (store_open(r->conf->state, &store, &error) != OK)
        (void)cli_fail(CLI_OK, "not in the audit log: %s", buf_cstr(&error));
    else if (store_audit_add(store, &op, STORE_AUDIT_DONE, BYTES_NONE) != OK)
        (void)cli_fail(CLI_OK, "not in the audit log");
    store_close(store);
    json_object_put(args);
    buf_done(&error);
}

static void report(struct restore *r)
{
    if (r->cli->json) {
        struct json_object *o = json_object_new_object();
        json_add_text(o, "restored", bytes_cstr(r->from));
        json_object_object_add(o, "files", json_object_new_uint64(r->copy.files));
        json_object_object_add(o, "bytes", json_object_new_uint64(r->copy.bytes));
        cli_print_json(o);
        json_object_put(o);
    } else {
        printf("restored from %s: %llu files, %llu bytes; all mail is held until `posthaste queue "
               "release --all`\n",
               r->from, (unsigned long long)r->copy.files, (unsigned long long)r->copy.bytes);
    }
}

static int run_restore(struct cli *cli)
{
    struct restore r = {.cli = cli, .conf = cli_conf(cli), .from = cli->arguments[0]};
    if (!r.conf)
        return CLI_CONFIG;
    find_parts(&r);
    int exit = check_targets(&r);
    if (exit)
        return exit;
    cli_interrupt_catch();
    exit = restore(&r);
    if (exit)
        return exit;
    record(&r);
    report(&r);
    return CLI_OK;
}

static const struct cli_option options[] = {
    {"progress", NULL, "say each second how far it is, also when that is no terminal"},
    {NULL},
};

const struct cli_command cli_restore = {
    .name = "restore",
    .arguments = "DIR",
    .help = "bring a backup back, while the service is stopped",
    .more = "There must be no spool, accounts and suppression list where the configuration wants "
            "them.\n"
            "All is restored or nothing: interrupted, it leaves nothing behind; killed, the same "
            "command\n"
            "begins again, and the service does not start before. The service then starts with all "
            "mail "
            "held,\n"
            "as some may have been delivered since the backup: look at it, and\n"
            "`posthaste queue release --all`.\n",
    .options = options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_restore,
};
