// SPDX-License-Identifier: MIT
#include "cli/cli_store.h"

#include <errno.h>
#include <json-c/json.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_copy.h"
#include "cli/control_client.h"
#include "store/store.h"
#include "sys/safe_folder.h"

#define BUSY_WAIT_MS 5000 // another command holds the lock, or the service starts or stops
#define BUSY_PAUSE_MS 50

size_t cli_json_count(struct json_object *list)
{
    return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

// ---- here --------------------------------------------------------------------------------------------

struct bytes cli_store_actor(struct arena *arena)
{
    const struct passwd *user = getpwuid(geteuid());
    return user ? arena_printf(arena, "cli:%s", user->pw_name)
                : arena_printf(arena, "cli:%u", (unsigned)geteuid());
}

struct wall cli_store_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (struct wall){(int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000};
}

// The state folder and those above it, for a command that comes before the first start. The folder
// itself belongs to the user that the service will run as: `user`, or to whom the folder above belongs. 0 or an errno
// value.
static int make_folder(const struct conf *conf, struct arena *arena)
{
    struct bytes path = conf->state;
    const struct passwd *user = cli_copy_user(conf);
    for (size_t i = 1; i <= path.len; i++) {
        bool is_last = i == path.len;
        if (!is_last && path.at[i] != '/')
            continue;
        int e = safe_folder_make(arena_cstr(arena, bytes_first(path, i)), is_last ? 0700 : 0755,
                                 is_last ? user : NULL);
        if (e && e != EEXIST)
            return e;
    }
    return 0;
}

static int open_here(const struct conf *conf, struct arena *arena, struct store **out,
                     struct buf *error)
{
    int e = access(conf->state.at, F_OK) != 0 ? make_folder(conf, arena) : 0;
    if (!e)
        return store_open(conf->state, out, error);
    buf_printf(error, "cannot make the folder %s: %s", conf->state.at, safe_folder_why(e));
    *out = NULL;
    return safe_folder_err(e);
}

// ---- there -------------------------------------------------------------------------------------------

static int take_reply(const struct control_reply *reply, struct json_object **out_result)
{
    if (reply->status == 200 && json_object_is_type(reply->body, json_type_object)) {
        *out_result = json_object_get(reply->body);
        return CLI_OK;
    }
    struct buf error = {0};
    control_reply_error(reply, &error);
    int exit = control_reply_exit(reply);
    cli_fail(exit, "%s", buf_cstr(&error));
    buf_done(&error);
    return exit ? exit : CLI_TEMPORARY;
}

// 0 with an answer in *out_exit; E_CLOSED: the service does not run (yet, any more).
static int ask_service(const struct conf *conf, const char *op, struct json_object *args,
                       struct json_object **out_result, int *out_exit, struct buf *error)
{
    struct json_object *request = json_object_new_object();
    struct control_reply reply;
    json_object_object_add(request, "op", json_object_new_string(op));
    if (args)
        json_object_object_add(request, "args", json_object_get(args));
    int err = control_request(conf->control, "/v1/store", request, &reply, error);
    if (!err) {
        *out_exit = take_reply(&reply, out_result);
        json_object_put(reply.body);
    }
    json_object_put(request);
    return err;
}

static int apply_here(struct store *store, struct arena *arena, const char *op,
                      struct json_object *args, struct json_object **out_result)
{
    const struct store_who who = {"files", geteuid(), getegid(), getpid()};
    struct store_op operation = {op, args, cli_store_actor(arena), cli_store_now(), &who};
    struct store_answer answer;
    struct buf error = {0};
    int err = store_apply(store, &operation, &answer, &error);
    int exit = err == E_DENIED ? CLI_DATA : cli_exit_of(err); // the account's state, not our rights
    if (err)
        cli_fail(exit, "%s", buf_cstr(&error));
    else
        *out_result = answer.result;
    buf_done(&error);
    return exit;
}

static int apply(struct cli *cli, const char *op, struct json_object *args,
                 struct json_object **out_result)
{
    const struct conf *conf = cli_conf(cli);
    struct buf error = {0};
    struct store *store = NULL;
    int exit = CLI_CONFIG, err = 0;
    *out_result = NULL;
    if (!conf)
        return CLI_CONFIG;
    for (int waited = 0; waited <= BUSY_WAIT_MS; waited += BUSY_PAUSE_MS) {
        err = open_here(conf, &cli->arena, &store, &error);
        if (err == E_BUSY || err == E_DENIED) { // the service has it, or may do what we may not
            struct buf theirs = {0};
            int asked = ask_service(conf, op, args, out_result, &exit, &theirs);
            if (asked != E_CLOSED) {
                buf_done(&error);
                error = theirs;
                err = asked;
                break;
            }
            buf_done(&theirs);
        }
        if (err != E_BUSY)
            break;
        buf_clear(&error);
        usleep(BUSY_PAUSE_MS * 1000);
    }
    if (store)
        exit = apply_here(store, &cli->arena, op, args, out_result);
    else if (err == E_BUSY)
        exit = cli_fail(CLI_TEMPORARY, "the store in %s is in use, and nobody answers at %s",
                        conf->state.at, conf->control.at);
    else if (err)
        exit = cli_fail(cli_exit_of(err), "%s", buf_cstr(&error));
    store_close(store);
    buf_done(&error);
    return exit;
}

int cli_store_apply(struct cli *cli, const char *op, struct json_object *args,
                    struct json_object **out_result)
{
    int exit = apply(cli, op, args, out_result);
    json_object_put(args);
    return exit;
}

int cli_store_open(struct cli *cli, struct store **out)
{
    const struct conf *conf = cli_conf(cli);
    struct buf error = {0};
    int err = E_BUSY, exit = CLI_OK;
    *out = NULL;
    if (!conf)
        return CLI_CONFIG;
    for (int waited = 0; err == E_BUSY && waited <= BUSY_WAIT_MS; waited += BUSY_PAUSE_MS) {
        if (waited)
            usleep(BUSY_PAUSE_MS * 1000);
        buf_clear(&error);
        err = open_here(conf, &cli->arena, out, &error);
        if ((err == E_BUSY || err == E_DENIED) && control_ping(conf->control) == OK)
            err = OK; // the service has it
    }
    if (err)
        exit = cli_fail(err == E_BUSY ? CLI_TEMPORARY : cli_exit_of(err), "%s", buf_cstr(&error));
    buf_done(&error);
    return exit;
}
