// SPDX-License-Identifier: MIT
//
// posthaste backup
//
// How it works: a backup is a folder with `spool` (one consistent cut, marked as on hold), `suppressions.db`, two
// secrets and, last, `accounts.db`: what lacks that is not whole. The service writes it, in STATE, because it can
// write nowhere else; the command moves each part to where it is wanted, or copies it. Interrupted or failed it
// leaves nothing behind; what a command that was killed left in STATE goes with the next backup.
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
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
#include "sys/sys.h"

// In the order in which they are put there.
static const char *const PARTS[] = {"return-key", "scram-secret", "spool", "suppressions.db",
                                    "accounts.db"};
#define SECRETS 2 // of the parts: copied from STATE; what is not there yet is not missed
#define COPYING ".copying"

static bool ignore_object(void *ctx, struct json_object *object)
{
    (void)ctx;
    (void)object;
    return true;
}

static const char *in_folder(struct cli *cli, const char *folder, const char *name)
{
    return arena_printf(&cli->arena, "%s/%s", folder, name).at;
}

// What commands that are no more left in STATE.
static void remove_remains(struct cli *cli, const char *state)
{
    struct dirent *entry;
    DIR *dir = opendir(state);
    while (dir && (entry = readdir(dir))) {
        uint64_t pid;
        struct bytes rest = bytes_cstr(entry->d_name), word;
        if (bytes_cut(&rest, '.', &word) && bytes_eq(word, BYTES("backup")) &&
            bytes_cut(&rest, '.', &word) && bytes_to_u64(word, INT32_MAX, &pid) == OK && pid > 0 &&
            kill((pid_t)pid, 0) != 0 && errno == ESRCH)
            cli_copy_remove(in_folder(cli, state, entry->d_name));
    }
    if (dir)
        closedir(dir);
}

// Made by the service where it may; the folder is new.
static int write_backup(struct cli *cli, const char *made, const struct passwd *user)
{
    struct json_object *answer = NULL, *request = json_object_new_object();
    int e = cli_copy_make_new(made, "spool", user);
    json_add_text(request, "to", bytes_cstr(made));
    int exit = e ? cli_copy_fail(e, "cannot write in", made)
                 : cli_ask_work(cli, "/v1/backup", request, &answer);
    json_object_put(request);
    json_object_put(answer);
    return exit;
}

// Moves it, or copies it beside its place and moves it there.
static int put_part(struct cli *cli, struct cli_copy *copy, const char *source, const char *to,
                    const char *name, bool keep)
{
    const char *target = in_folder(cli, to, name);
    copy->failed = target;
    if (!keep && rename(source, target) == 0)
        return cli_copy_sync_folder(to);
    if (!keep && errno != EXDEV)
        return errno;
    const char *beside = arena_printf(&cli->arena, "%s" COPYING, target).at;
    int e = cli_copy_part(copy, source, beside);
    if (copy->failed == beside)
        copy->failed = target;
    if (!e)
        e = rename(beside, target) != 0 ? errno : 0;
    return e ? e : cli_copy_sync_folder(to);
}

static int put_parts(struct cli *cli, const char *made, const char *to, const struct passwd *user)
{
    struct cli_copy copy;
    int e = 0;
    cli_copy_begin(cli, &copy, user);
    copy.of = cli_copy_size(made);
    for (size_t i = 0; i < COUNT_OF(PARTS) && !e; i++) {
        bool secret = i < SECRETS;
        const char *source = in_folder(cli, secret ? cli->conf->state.at : made, PARTS[i]);
        if (!secret || access(source, F_OK) == 0)
            e = put_part(cli, &copy, source, to, PARTS[i], secret);
    }
    cli_copy_end(&copy);
    return e ? cli_copy_fail(e, "cannot write", copy.failed) : CLI_OK;
}

// All that this command may have put there.
static void remove_parts(struct cli *cli, const char *to, bool is_new)
{
    for (size_t i = 0; i < COUNT_OF(PARTS); i++) {
        const char *target = in_folder(cli, to, PARTS[i]);
        cli_copy_remove(target);
        cli_copy_remove(arena_printf(&cli->arena, "%s" COPYING, target).at);
    }
    if (is_new)
        (void)rmdir(to);
}

static int report(struct cli *cli, const char *to)
{
    if (cli->json) {
        struct json_object *o = json_object_new_object();
        json_add_text(o, "backup", bytes_cstr(to));
        cli_print_json(o);
        json_object_put(o);
    } else {
        printf("backup of spool, accounts and suppression list: %s\n", to);
    }
    return CLI_OK;
}

static const char *absolute(struct cli *cli, const char *path)
{
    char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
    if (here)
        path = arena_printf(&cli->arena, "%s/%s", here, path).at;
    free(here);
    return path;
}

static int run_backup(struct cli *cli)
{
    const struct conf *conf = cli_conf(cli);
    const char *to = absolute(cli, cli->arguments[0]);
    bool is_new;
    if (!conf)
        return CLI_CONFIG;
    int exit =
        cli_ask_lines(cli, "/v1/lanes", ignore_object, NULL); // before a folder is made for nothing
    if (exit)
        return exit;
    const struct passwd *user = cli_copy_user(conf);
    int e = cli_copy_make_empty(to, user, &is_new);
    if (!e && is_new)
        e = cli_copy_sync_folder(in_folder(cli, to, ".."));
    if (e)
        return cli_copy_fail(e, "cannot back up to", to);
    remove_remains(cli, conf->state.at);
    // A name that nobody has taken before.
    uint64_t random;
    sys_random(&random, sizeof random);
    const char *made =
        arena_printf(&cli->arena, "%s/backup.%d.%016" PRIx64, conf->state.at, getpid(), random).at;
    cli_interrupt_catch();
    exit = write_backup(cli, made, user);
    if (!exit)
        exit = put_parts(cli, made, to, user);
    cli_copy_remove(made);
    if (exit)
        remove_parts(cli, to, is_new);
    if (exit == CLI_INTERRUPTED)
        return cli_fail(exit, "there is no backup in %s: nothing of it is left", to);
    return exit ? exit : report(cli, to);
}

static const struct cli_option options[] = {
    {"progress", NULL, "say each second how far it is, also when that is no terminal"},
    {NULL},
};

const struct cli_command cli_backup = {
    .name = "backup",
    .arguments = "DIR",
    .help = "copy spool, accounts and suppression list, as of one moment, into a new folder",
    .more =
        "The service goes on meanwhile. It writes the copy in STATE, which must have room for it;\n"
        "from there it is moved to DIR. The history (STATE/events) is not copied. Interrupted, it\n"
        "leaves nothing behind.\n",
    .options = options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_backup,
};
