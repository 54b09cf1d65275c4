// SPDX-License-Identifier: MIT
#include "cli/cli_suppress.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "store/store.h"
#include "store/store_audit.h"
#include "store/store_directory.h"
#include "store/suppress_list.h"

struct cli_suppress {
    struct cli *cli;
    struct store *store; // NULL: the service does it
    struct store_directory *directory;
    struct suppress_list *list;
};

int cli_suppress_open(struct cli *cli, struct cli_suppress **out)
{
    struct cli_suppress *s = mem_new(sizeof *s);
    struct buf error = {0};
    s->cli = cli;
    *out = NULL;
    int exit = cli_store_open(cli, &s->store);
    int err = OK;
    if (!exit && s->store) {
        err = store_directory_load(s->store, &s->directory);
        if (err)
            store_explain(cli->conf->state, err, &error);
        else
            err = suppress_list_open(cli->conf->state, NULL, &s->list, &error);
    }
    if (err)
        exit = cli_fail(cli_exit_of(err), "%s", error.len ? buf_cstr(&error) : err_text(err));
    buf_done(&error);
    if (exit)
        cli_suppress_close(s);
    else
        *out = s;
    return exit;
}

void cli_suppress_close(struct cli_suppress *s)
{
    if (!s)
        return;
    suppress_list_close(s->list);
    store_directory_free(s->directory);
    store_close(s->store);
    free(s);
}

static bool op_writes(const char *op)
{
    bool writes = true;
    const char *name;
    for (size_t i = 0; (name = suppress_list_op(i, &writes)); i++)
        if (bytes_eq(bytes_cstr(name), bytes_cstr(op)))
            return writes;
    return true;
}

// As the service does it: a row in the audit log before, and its end.
static int apply_recorded(struct cli_suppress *s, const struct suppress_op *op,
                          struct json_object **out, struct buf *error)
{
    const struct store_who who = {"files", geteuid(), getegid(), getpid()};
    const struct store_op audited = {op->name, op->args, op->actor, op->now, &who};
    int64_t row = 0;
    if (!op_writes(op->name))
        return suppress_list_apply(s->list, op, out, error);
    int err = store_audit_begin(s->store, &audited, &row);
    if (err) {
        buf_printf(error, "not done: the audit log cannot be written (%s)", err_text(err));
        return err;
    }
    err = suppress_list_apply(s->list, op, out, error);
    return store_audit_end(s->store, row, cli_store_now(),
                           err ? STORE_AUDIT_FAILED : STORE_AUDIT_DONE, buf_bytes(error))
               ? E_IO
               : err;
}

static int apply_here(struct cli_suppress *s, const char *op, struct json_object *args,
                      struct json_object **out)
{
    struct buf error = {0};
    struct suppress_op operation = {.name = op,
                                    .args = args,
                                    .actor = cli_store_actor(&s->cli->arena),
                                    .now = cli_store_now(),
                                    .directory = s->directory};
    int err = apply_recorded(s, &operation, out, &error);
    int exit = err ? cli_fail(cli_exit_of(err), "%s", buf_cstr(&error)) : CLI_OK;
    buf_done(&error);
    return exit;
}

int cli_suppress_apply(struct cli_suppress *s, const char *op, struct json_object *args,
                       struct json_object **out)
{
    if (s->list)
        return apply_here(s, op, args, out);
    struct json_object *request = json_object_new_object();
    json_object_object_add(request, "op", json_object_new_string(op));
    if (args)
        json_object_object_add(request, "args", json_object_get(args));
    int exit = cli_ask_long(s->cli, "/v1/suppress", request, out);
    json_object_put(request);
    return exit;
}

int cli_suppress_once(struct cli *cli, const char *op, struct json_object *args,
                      struct json_object **out)
{
    struct cli_suppress *s;
    *out = NULL;
    int exit = cli_suppress_open(cli, &s);
    if (exit)
        return exit;
    exit = cli_suppress_apply(s, op, args, out);
    cli_suppress_close(s);
    return exit;
}
