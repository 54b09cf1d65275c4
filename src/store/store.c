// SPDX-License-Identifier: MIT
#include "store/store.h"

#include <unistd.h>

#include "base/check.h"
#include "store/store_ops.h"

#define AUDIT_ARGS_MAX 4096

int store_open(struct bytes folder, struct store **out, struct buf *error)
{
    return store_db_open(folder, out, error);
}

void store_close(struct store *store)
{
    store_db_close(store);
}

// Verifiers would let whoever reads the log try passwords at home; sealed keys are long and say nothing.
static void add_audit_args(const struct store_op *op, struct buf *out)
{
    bool any = false;
    buf_add_byte(out, '{');
    struct json_object_iterator it = json_object_iter_begin(op->args);
    struct json_object_iterator end = json_object_iter_end(op->args);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        const char *key = json_object_iter_peek_name(&it);
        if (bytes_eq(bytes_cstr(key), BYTES("verifier")) ||
            bytes_eq(bytes_cstr(key), BYTES("scram")) || bytes_eq(bytes_cstr(key), BYTES("sealed")))
            continue;
        buf_printf(out, "%s\"", any ? "," : "");
        buf_add_json(out, bytes_cstr(key));
        buf_printf(out, "\":%s",
                   json_object_to_json_string_ext(json_object_iter_peek_value(&it),
                                                  JSON_C_TO_STRING_PLAIN));
        any = true;
    }
    buf_add_byte(out, '}');
}

static int write_audit(struct store_call *call)
{
    const struct store_op *op = call->op;
    struct buf args;
    buf_init(&args, AUDIT_ARGS_MAX);
    if (op->args)
        add_audit_args(op, &args);
    else
        buf_add_cstr(&args, "{}");
    int err = args.err;
    if (!err)
        err =
            store_db_run(call->store, "INSERT INTO audit (at, actor, op, args) VALUES (?, ?, ?, ?)",
                         "ittt", op->time.us, op->actor, bytes_cstr(op->name), buf_bytes(&args));
    buf_done(&args);
    return err;
}

static int run_in_transaction(struct store_call *call, const struct store_op_row *row)
{
    int err = store_db_run(call->store, row->writes ? "BEGIN IMMEDIATE" : "BEGIN", "");
    if (err)
        return err;
    err = row->run(call);
    if (!err && call->out->changed)
        err = write_audit(call);
    if (!err)
        err = store_db_run(call->store, "COMMIT", "");
    if (err && !sqlite3_get_autocommit(call->store->db)) {
        int undone = store_db_run(call->store, "ROLLBACK", "");
        if (undone && !sqlite3_get_autocommit(call->store->db))
            return undone;
    }
    return err;
}

int store_apply(struct store *store, const struct store_op *op, struct store_answer *out,
                struct buf *error)
{
    struct store_call call = {.store = store, .op = op, .out = out, .error = error};
    *out = (struct store_answer){0};
    const struct store_op_row *row = store_op_find(op->name);
    if (!row) {
        buf_printf(error, "there is no operation '%s'", op->name);
        return E_SYNTAX;
    }
    if (op->args && !json_object_is_type(op->args, json_type_object)) {
        buf_add_cstr(error, "the arguments must be an object");
        return E_SYNTAX;
    }
    store_db_lock(store);
    int err = run_in_transaction(&call, row);
    store->changes += !err && out->changed;
    store_db_unlock(store);
    if (err) {
        if (!error->len)
            buf_printf(error, "%s: %s", op->name, err_text(err));
        json_object_put(out->result);
        *out = (struct store_answer){0};
    }
    arena_done(&call.arena);
    return err;
}

int store_copy(struct store *store, const char *path)
{
    if (access(path, F_OK) == 0)
        return E_EXISTS;
    store_db_lock(store);
    int err = store_db_run(store, "VACUUM INTO ?", "t", bytes_cstr(path));
    store_db_unlock(store);
    return err;
}
