// SPDX-License-Identifier: MIT
#include "cli/cli_control.h"

#include <json-c/json.h>

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

typedef int request_function(struct bytes socket, const char *path, struct json_object *body,
                             struct control_reply *out, struct buf *error);

static int ask(struct cli *cli, request_function *request, const char *path,
               struct json_object *body, struct json_object **out)
{
    const struct conf *conf = cli_conf(cli);
    struct control_reply reply;
    struct buf error = {0};
    *out = NULL;
    if (!conf)
        return CLI_CONFIG;
    int err = request(conf->control, path, body, &reply, &error);
    int exit = err ? fail_transport(err, &error) : CLI_OK;
    buf_done(&error);
    if (err)
        return exit;
    if (reply.status != 200)
        exit = fail_reply(&reply);
    else if (!reply.body)
        exit = cli_fail(CLI_TEMPORARY, "posthaste answered what is no JSON");
    else
        *out = json_object_get(reply.body);
    json_object_put(reply.body);
    return exit;
}

int cli_ask(struct cli *cli, const char *path, struct json_object *body, struct json_object **out)
{
    return ask(cli, control_request, path, body, out);
}

int cli_ask_long(struct cli *cli, const char *path, struct json_object *body,
                 struct json_object **out)
{
    return ask(cli, control_request_long, path, body, out);
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
