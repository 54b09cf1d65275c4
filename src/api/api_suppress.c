// SPDX-License-Identifier: MIT
//
// api_suppress - operations of the suppression list: the main loop gives the names of the accounts, the list's loop
// does the work
#include <stdlib.h>

#include "api/api_private.h"
#include "store/suppress.h"

struct operation {
    struct api_request *request;
    struct conf_snapshot *snapshot; // held: names of accounts
};

static void on_done(void *ctx, int err, struct json_object *result, struct bytes error)
{
    struct operation *o = ctx;
    struct api_request *r = o->request;
    if (err)
        api_reply_error(r, err, "%.*s", BYTES_FMT(error));
    else
        api_reply(r, result);
    conf_snapshot_release(o->snapshot);
    free(o);
    api_resume(r);
}

static void on_main(struct sys_task *task)
{
    struct api_request *r = container_of(task, struct api_request, task);
    struct operation *o = mem_new(sizeof *o);
    struct json_object *name = NULL, *args = NULL;
    json_object_object_get_ex(r->args, "op", &name);
    json_object_object_get_ex(r->args, "args", &args);
    o->request = r;
    o->snapshot = conf_snapshot_hold(r->api->snapshot);
    suppress_command(r->api->options.port->suppress, json_object_get_string(name), args,
                     o->snapshot->accounts, r->actor, on_done, o);
}

void api_suppress_post(struct api_request *r)
{
    struct json_object *args = NULL;
    if (json_object_object_get_ex(r->args, "args", &args) && args &&
        !json_object_is_type(args, json_type_object))
        api_reply_error(r, E_SYNTAX, "\"args\" must be an object");
    else
        api_to_main(r, on_main);
}
