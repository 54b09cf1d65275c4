// SPDX-License-Identifier: MIT
#include "store/store.h"

#include <unistd.h>

#include "store/store_ops.h"

int store_open(struct bytes folder, struct store **out, struct buf *error)
{
    return store_db_open(folder, out, error);
}

void store_close(struct store *store)
{
    store_db_close(store);
}

static int run_in_transaction(struct store_call *call, const struct store_op_row *row)
{
    int err = store_db_run(call->store, row->writes ? "BEGIN IMMEDIATE" : "BEGIN", "");
    if (err)
        return err;
    err = row->run(call);
    if (!err && call->out->changed)
        err = store_audit_change(call);
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
