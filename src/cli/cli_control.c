// SPDX-License-Identifier: MIT
#include "cli/cli_control.h"
#include "cli/cli_store.h"

#include <json-c/json.h>
#include <unistd.h>

#include "cli/cli_progress.h"
#include "cli/control_client.h"

// What could not even be asked.
static int fail_transport(int err, struct buf *error)
{
    int exit = err == E_CLOSED ? CLI_NOT_RUNNING : err == E_DENIED ? CLI_PERMISSION : CLI_TEMPORARY;
    return cli_fail(exit, "%s", error->len ? buf_cstr(error) : err_text(err));
}

static int fail_reply(const struct control_reply *reply)
{
    struct buf error = {0};
    control_reply_error(reply, &error);
    int exit = control_reply_exit(reply);
    cli_fail(exit, "%s", buf_cstr(&error));
    buf_done(&error);
    return exit;
}

// *out is the answer, or the reason is told.
static int take_answer(int err, const struct control_reply *reply, struct buf *error,
                       struct json_object **out)
{
    int exit = CLI_OK;
    if (err) {
        exit = fail_transport(err, error);
        buf_done(error);
        return exit;
    }
    buf_done(error);
    if (reply->status != 200)
        exit = fail_reply(reply);
    else if (!reply->body)
        exit = cli_fail(CLI_TEMPORARY, "posthaste answered what is no JSON");
    else
        *out = json_object_get(reply->body);
    json_object_put(reply->body);
    return exit;
}

int cli_ask(struct cli *cli, const char *path, struct json_object *body, struct json_object **out)
{
    const struct conf *conf = cli_conf(cli);
    struct control_reply reply;
    struct buf error = {0};
    *out = NULL;
    if (!conf)
        return CLI_CONFIG;
    return take_answer(control_request(conf->control, path, body, &reply, &error), &reply, &error,
                       out);
}

int cli_ask_long(struct cli *cli, const char *path, struct json_object *body,
                 struct json_object **out)
{
    const struct conf *conf = cli_conf(cli);
    struct control_reply reply;
    struct buf error = {0};
    *out = NULL;
    if (!conf)
        return CLI_CONFIG;
    int err = control_request_long(conf->control, path, body, NULL, NULL, &reply, &error);
    return take_answer(err, &reply, &error, out);
}

// ---- work --------------------------------------------------------------------------------------------

#define WORK_LOOK_S 0.5
#define WORK_STOP_LOOKS 300 // a tenth of a second apart

struct work {
    struct cli *cli;
    struct cli_progress progress;
    double looked;
    bool there; // at the last look
    uint64_t done, of;
};

// Our work among all that the service does: known by our process id.
static void look_at_work(struct work *w)
{
    struct control_reply reply = {0};
    struct buf error = {0};
    w->there = false;
    if (control_request(cli_conf(w->cli)->control, "/v1/work", NULL, &reply, &error) == OK) {
        struct json_object *list = cli_json_field(reply.body, "work");
        size_t count = cli_json_count(list);
        for (size_t i = 0; i < count; i++) {
            struct json_object *one = json_object_array_get_idx(list, i);
            if (cli_json_number(one, "pid") != (uint64_t)getpid())
                continue;
            const char *unit = json_object_get_string(cli_json_field(one, "unit"));
            w->progress.unit = unit ? arena_dup(&w->cli->arena, bytes_cstr(unit)).at : "";
            w->done = cli_json_number(one, "done");
            w->of = cli_json_number(one, "of");
            w->there = true;
        }
        json_object_put(reply.body);
    }
    buf_done(&error);
}

static bool on_tick(void *ctx)
{
    struct work *w = ctx;
    double now = cli_progress_seconds(&w->progress);
    if (cli_interrupted())
        return false;
    if ((!w->progress.terminal && !w->progress.lines) || now - w->looked < WORK_LOOK_S)
        return true;
    look_at_work(w);
    w->looked = cli_progress_seconds(&w->progress);
    if (w->there)
        cli_progress_show(&w->progress, w->done, w->of);
    return true;
}

// What the audit log says of it, once it has an end.
static void tell_what_was_done(struct work *w)
{
    struct json_object *request = json_object_new_object(), *args = json_object_new_object();
    struct control_reply reply = {0};
    struct buf error = {0};
    json_object_object_add(request, "op", json_object_new_string("audit.list"));
    json_object_object_add(args, "max", json_object_new_int(100));
    json_object_object_add(request, "args", args);
    const char *detail = NULL;
    if (control_request(cli_conf(w->cli)->control, "/v1/store", request, &reply, &error) == OK) {
        struct json_object *list = cli_json_field(reply.body, "entries");
        size_t count = cli_json_count(list);
        for (size_t i = 0; i < count && !detail; i++) {
            struct json_object *one = json_object_array_get_idx(list, i);
            if (cli_json_number(one, "pid") == (uint64_t)getpid())
                detail = json_object_get_string(cli_json_field(one, "detail"));
        }
    }
    cli_fail(CLI_INTERRUPTED, "interrupted: %s; the rest is as it was",
             detail ? detail : "`posthaste audit` has what was done");
    json_object_put(reply.body);
    json_object_put(request);
    buf_done(&error);
}

int cli_ask_work(struct cli *cli, const char *path, struct json_object *body,
                 struct json_object **out)
{
    const struct conf *conf = cli_conf(cli);
    struct control_reply reply;
    struct buf error = {0};
    struct work w = {.cli = cli};
    *out = NULL;
    if (!conf)
        return CLI_CONFIG;
    cli_interrupt_catch();
    cli_progress_begin(cli, &w.progress, "");
    int err = control_request_long(conf->control, path, body, on_tick, &w, &reply, &error);
    cli_progress_end(&w.progress, w.done, w.of);
    if (err != E_AGAIN)
        return take_answer(err, &reply, &error, out);
    buf_done(&error);
    w.there = true;
    for (int i = 0; w.there && i < WORK_STOP_LOOKS; i++) {
        if (i)
            usleep(100000);
        look_at_work(&w);
    }
    tell_what_was_done(&w);
    return CLI_INTERRUPTED;
}

// ---- lists -------------------------------------------------------------------------------------------

struct lines {
    bool (*on_object)(void *ctx, struct json_object *object);
    void *ctx;
    bool bad;
};

static bool on_line(void *ctx, struct bytes line)
{
    struct lines *l = ctx;
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *object = json_tokener_parse_ex(tokener, line.at, (int)line.len);
    json_tokener_free(tokener);
    l->bad = !object;
    bool more = object && l->on_object(l->ctx, object);
    json_object_put(object);
    return more;
}

int cli_ask_lines(struct cli *cli, const char *path,
                  bool (*on_object)(void *ctx, struct json_object *object), void *ctx)
{
    const struct conf *conf = cli_conf(cli);
    struct lines lines = {on_object, ctx, false};
    struct control_reply reply;
    struct buf error = {0};
    if (!conf)
        return CLI_CONFIG;
    int err = control_stream(conf->control, path, on_line, &lines, &reply, &error);
    int exit = err ? fail_transport(err, &error) : CLI_OK;
    buf_done(&error);
    if (err)
        return exit;
    if (reply.status != 200)
        exit = fail_reply(&reply);
    else if (lines.bad)
        exit = cli_fail(CLI_TEMPORARY, "posthaste answered what is no JSON");
    json_object_put(reply.body);
    return exit;
}

void cli_add_query(struct buf *path, const char *name, struct bytes value)
{
    if (!value.len)
        return;
    buf_printf(path, "%c%s=", bytes_find(buf_bytes(path), '?') < 0 ? '?' : '&', name);
    control_add_encoded(path, value);
}

// ---- fields ------------------------------------------------------------------------------------------

struct json_object *cli_json_field(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    json_object_object_get_ex(object, key, &value);
    return value;
}

uint64_t cli_json_number(struct json_object *object, const char *key)
{
    return json_object_get_uint64(cli_json_field(object, key));
}

struct bytes cli_json_cell(struct json_object *object, const char *key, struct arena *arena)
{
    struct json_object *value = cli_json_field(object, key);
    const char *text = value ? json_object_get_string(value) : "";
    return *text ? arena_dup(arena, bytes_cstr(text)) : BYTES("-");
}
