// SPDX-License-Identifier: MIT
#include "store/store_audit.h"

#include <string.h>

#include "base/check.h"
#include "store/store_ops.h"

#define PAGE_MAX 1000

// ---- writing -----------------------------------------------------------------------------------------

// Verifiers would let whoever reads the log try passwords at home; sealed keys are long and say nothing.
static bool is_secret(struct bytes key)
{
    return bytes_eq(key, BYTES("verifier")) || bytes_eq(key, BYTES("scram")) ||
           bytes_eq(key, BYTES("sealed")) || bytes_eq(key, BYTES("password"));
}

static void add_value(struct json_object *value, struct buf *out)
{
    if (json_object_is_type(value, json_type_array)) {
        buf_printf(out, "%zu", json_object_array_length(value)); // how many
    } else if (json_object_is_type(value, json_type_string)) {
        buf_add_byte(out, '"');
        buf_add_json(out, bytes_first(json_text(value), STORE_AUDIT_TEXT_MAX));
        buf_add_byte(out, '"');
    } else if (json_object_is_type(value, json_type_object)) {
        buf_printf(out, "%d", json_object_object_length(value));
    } else {
        buf_add_cstr(out, json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    }
}

static void add_args(struct json_object *args, struct buf *out)
{
    struct buf one = {0};
    buf_add_byte(out, '{');
    if (json_object_is_type(args, json_type_object)) {
        struct json_object_iterator it = json_object_iter_begin(args);
        struct json_object_iterator end = json_object_iter_end(args);
        for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
            struct bytes key = bytes_cstr(json_object_iter_peek_name(&it));
            if (is_secret(key))
                continue;
            buf_clear(&one);
            buf_add_cstr(&one, out->len > 1 ? ",\"" : "\"");
            buf_add_json(&one, bytes_first(key, STORE_AUDIT_TEXT_MAX));
            buf_add_cstr(&one, "\":");
            add_value(json_object_iter_peek_value(&it), &one);
            if (out->len + one.len < STORE_AUDIT_ARGS_MAX)
                buf_add(out, buf_bytes(&one));
        }
    }
    buf_add_byte(out, '}');
    buf_done(&one);
}

// Under the store's lock. outcome NULL: not yet.
static int insert(struct store *store, const struct store_op *op, const char *outcome,
                  struct bytes detail)
{
    struct buf args = {0};
    const struct store_who *who = op->who;
    add_args(op->args, &args);
    // Numbers start at 1, so that root's is not NULL.
    int err = store_db_run(
        store,
        "INSERT INTO audit (at, actor, op, args, via, uid, gid, pid, outcome, detail, ended_at) "
        "VALUES (?, ?, ?, ?, ?, ? - 1, ? - 1, ?, ?, ?, ?)",
        "itttTIIITTI", op->time.us, op->actor, bytes_cstr(op->name), buf_bytes(&args),
        who ? bytes_cstr(who->via) : BYTES_NONE, who && who->pid ? who->uid + 1 : (int64_t)0,
        who && who->pid ? who->gid + 1 : (int64_t)0, who ? who->pid : (int64_t)0,
        outcome ? bytes_cstr(outcome) : BYTES_NONE, bytes_first(detail, STORE_AUDIT_TEXT_MAX),
        outcome ? op->time.us : (int64_t)0);
    buf_done(&args);
    return err;
}

int store_audit_change(struct store_call *call)
{
    return insert(call->store, call->op, STORE_AUDIT_DONE, BYTES_NONE);
}

int store_audit_add(struct store *store, const struct store_op *op, const char *outcome,
                    struct bytes detail)
{
    store_db_lock(store);
    int err = insert(store, op, outcome, detail);
    store_db_unlock(store);
    return err;
}

int store_audit_begin(struct store *store, const struct store_op *op, int64_t *out_number)
{
    store_db_lock(store);
    int err = insert(store, op, NULL, BYTES_NONE);
    *out_number = err ? 0 : sqlite3_last_insert_rowid(store->db);
    store_db_unlock(store);
    return err;
}

int store_audit_end(struct store *store, int64_t number, struct wall at, const char *outcome,
                    struct bytes detail)
{
    store_db_lock(store);
    int err = store_db_run(
        store, "UPDATE audit SET outcome = ?, detail = ?, ended_at = ? WHERE sequence = ?", "tTii",
        bytes_cstr(outcome), bytes_first(detail, STORE_AUDIT_TEXT_MAX), at.us, number);
    store_db_unlock(store);
    return err;
}

int store_audit_trim(struct store *store, struct wall before)
{
    store_db_lock(store);
    int err = store_db_run(store,
                           "DELETE FROM audit WHERE sequence IN "
                           "(SELECT sequence FROM audit WHERE at < ? ORDER BY at LIMIT ?)",
                           "ii", before.us, (int64_t)STORE_AUDIT_TRIM_MAX);
    store_db_unlock(store);
    return err;
}

// ---- reading -----------------------------------------------------------------------------------------

static void add_text(struct json_object *o, const char *key, sqlite3_stmt *stmt, int column)
{
    if (sqlite3_column_type(stmt, column) == SQLITE_NULL)
        json_object_object_add(o, key, NULL);
    else
        json_add_text(o, key, store_db_text(stmt, column));
}

static void add_number(struct json_object *o, const char *key, sqlite3_stmt *stmt, int column)
{
    bool none = sqlite3_column_type(stmt, column) == SQLITE_NULL;
    json_object_object_add(o, key,
                           none ? NULL : json_object_new_int64(sqlite3_column_int64(stmt, column)));
}

#define COLUMNS "sequence, at, ended_at, actor, uid, gid, pid, via, op, args, outcome, detail"

static struct json_object *row_json(sqlite3_stmt *stmt)
{
    struct json_object *o = json_object_new_object();
    add_number(o, "number", stmt, 0);
    json_add_time(o, "at", (struct wall){sqlite3_column_int64(stmt, 1)});
    json_add_time(o, "ended_at", (struct wall){sqlite3_column_int64(stmt, 2)});
    add_text(o, "actor", stmt, 3);
    add_number(o, "uid", stmt, 4);
    add_number(o, "gid", stmt, 5);
    add_number(o, "pid", stmt, 6);
    add_text(o, "via", stmt, 7);
    add_text(o, "action", stmt, 8);
    const char *args = (const char *)sqlite3_column_text(stmt, 9);
    json_object_object_add(o, "args", json_tokener_parse(args ? args : "{}"));
    add_text(o, "outcome", stmt, 10);
    add_text(o, "detail", stmt, 11);
    return o;
}

static int take_time(struct store_call *call, const char *key, int64_t otherwise, int64_t *out)
{
    struct bytes text = store_call_text(call, key);
    struct wall at = {otherwise};
    if (text.len && wall_parse(text, &at) != OK)
        return store_call_refuse(call, E_SYNTAX,
                                 "%s must be a time like 2026-11-22T05:57:00Z, not '%.*s'", key,
                                 BYTES_FMT(bytes_first(text, 40)));
    *out = at.us;
    return OK;
}

static int64_t take_number(struct store_call *call, const char *key, int64_t otherwise)
{
    struct json_object *value = NULL;
    if (!call->op->args || !json_object_object_get_ex(call->op->args, key, &value) ||
        !json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 1)
        return otherwise;
    return json_object_get_int64(value);
}

int store_op_audit_list(struct store_call *call)
{
    int64_t since = 0, until = 0, max = take_number(call, "max", PAGE_MAX);
    sqlite3_stmt *stmt;
    int err = take_time(call, "since", INT64_MIN, &since);
    if (!err)
        err = take_time(call, "until", INT64_MAX, &until);
    if (max > PAGE_MAX)
        max = PAGE_MAX;
    // A user is an actor as it is told, or without what it came by ("root" of "cli:root"), or a number; an action is
    // one, or all of a kind ("queue").
    if (!err)
        err = store_db_start(
            call->store, &stmt,
            "SELECT " COLUMNS " FROM audit WHERE sequence < ?1 AND at >= ?2 AND at < ?3 "
            "AND (?4 = '' OR actor = ?4 OR substr(actor, instr(actor, ':') + 1) = ?4 "
            "     OR CAST(uid AS TEXT) = ?4) "
            "AND (?5 = '' OR op = ?5 OR substr(op, 1, length(?5) + 1) = ?5 || '.') "
            "ORDER BY sequence DESC LIMIT ?6",
            "iiitti", take_number(call, "before", INT64_MAX), since, until,
            store_call_text(call, "user"), store_call_text(call, "action"), max);
    if (err)
        return err;
    struct json_object *list = json_object_new_array(), *next = NULL, *last = NULL;
    while ((err = store_db_step(stmt)) == 1)
        json_object_array_add(list, row_json(stmt));
    sqlite3_finalize(stmt);
    size_t count = json_object_array_length(list);
    if (count == (size_t)max) {
        json_object_object_get_ex(json_object_array_get_idx(list, count - 1), "number", &last);
        next = json_object_get(last);
    }
    call->out->result = json_object_new_object();
    json_object_object_add(call->out->result, "entries", list);
    json_object_object_add(call->out->result, "next", next);
    return err;
}
