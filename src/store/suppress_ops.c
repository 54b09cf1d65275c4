// SPDX-License-Identifier: MIT
//
// How it works: an operation reads its arguments into an entry, does its part and makes its answer; around it stands
// one transaction. What a row of an import does not say it takes from the operation.
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/check.h"
#include "store/store_directory.h"
#include "store/store_ops.h"
#include "store/suppress_list_private.h"

#define ERRORS_SHOWN 1000 // of one import
#define NO_ACCOUNT "-"    // mail without an account

struct call {
    struct suppress_list *list;
    const struct suppress_op *op;
    struct arena arena;
    struct json_object *out;
    struct buf *error;
};

// ---- arguments -------------------------------------------------------------------------------------------

static int refuse(struct call *c, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int refuse(struct call *c, int err, const char *format, ...)
{
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_clear(c->error);
    buf_add_visible(c->error, bytes_cstr(text), sizeof text);
    return err;
}

static bool flag_of(struct json_object *args, const char *key)
{
    struct json_object *value = NULL;
    return args && json_object_object_get_ex(args, key, &value) && json_object_get_boolean(value);
}

static uint64_t number_of(struct json_object *args, const char *key)
{
    struct json_object *value = NULL;
    return args && json_object_object_get_ex(args, key, &value) ? json_object_get_uint64(value) : 0;
}

static int take_account(struct call *c, struct bytes name, uint32_t *out)
{
    *out = 0;
    if (bytes_eq(name, BYTES(NO_ACCOUNT)))
        return OK;
    const struct store_account *account = store_directory_account(c->op->directory, name);
    if (!account)
        return refuse(c, E_NOT_FOUND, "there is no account '%.*s'",
                      BYTES_FMT(bytes_first(name, 80)));
    *out = account->number;
    return OK;
}

// Who it is for: as `args` says, else as *out has it.
static int take_scope(struct call *c, struct json_object *args, struct suppress_entry *out)
{
    struct bytes account = json_find_text(args, "account"), stream = json_find_text(args, "stream");
    int err = OK;
    if (account.len) {
        out->scope = SUPPRESS_ACCOUNT;
        err = take_account(c, account, &out->account);
    } else if (flag_of(args, "service")) {
        out->scope = SUPPRESS_SERVICE;
    }
    if (err || !stream.len)
        return err;
    if (out->scope == SUPPRESS_SERVICE)
        return refuse(c, E_SYNTAX, "a stream is one of an account: name the account, too");
    if (stream.len > SUPPRESS_STREAM_MAX)
        return refuse(c, E_SYNTAX, "a stream's name has at most %d bytes", SUPPRESS_STREAM_MAX);
    out->scope = SUPPRESS_STREAM;
    out->stream = stream;
    return OK;
}

static int take_reason(struct call *c, struct json_object *args, enum suppress_reason *out)
{
    struct bytes reason = json_find_text(args, "reason");
    if (!reason.len || suppress_reason_parse(reason, out) == OK)
        return OK;
    return refuse(c, E_SYNTAX, "'%.*s' is no reason: hard-bounce, complaint, unsubscribe or manual",
                  BYTES_FMT(bytes_first(reason, 80)));
}

static int take_time(struct call *c, struct json_object *args, const char *key, struct wall *out)
{
    struct bytes text = json_find_text(args, key);
    if (!text.len || wall_parse(text, out) == OK)
        return OK;
    return refuse(c, E_SYNTAX, "'%.*s' is no time (2026-01-31T12:00:00Z), as \"%s\" wants",
                  BYTES_FMT(bytes_first(text, 80)), key);
}

static int take_address(struct call *c, struct json_object *args, struct suppress_address *space,
                        struct bytes *out)
{
    struct bytes address = json_find_text(args, "address");
    if (suppress_address_parse(address, space) == OK) {
        *out = suppress_address_text(space);
        return OK;
    }
    return refuse(c, E_SYNTAX, "'%.*s' is no address", BYTES_FMT(bytes_first(address, 320)));
}

// Everything an entry has; what is not said stays as *out has it.
static int take_entry(struct call *c, struct json_object *args, struct suppress_address *space,
                      struct suppress_entry *out)
{
    int err = take_address(c, args, space, &out->address);
    if (!err)
        err = take_scope(c, args, out);
    if (!err)
        err = take_reason(c, args, &out->reason);
    if (!err)
        err = take_time(c, args, "since", &out->since);
    if (!err)
        err = take_time(c, args, "expires", &out->expires);
    if (json_find_text(args, "note").len)
        out->note = json_find_text(args, "note");
    return err;
}

// ---- answers ---------------------------------------------------------------------------------------------

static void add_text(struct json_object *object, const char *key, struct bytes text)
{
    struct buf shown = {0};
    if (!bytes_is_utf8(text)) {
        buf_add_escaped(&shown, text, 4 * SUPPRESS_NOTE_MAX);
        text = buf_bytes(&shown);
    }
    json_add_text(object, key, text);
    buf_done(&shown);
}

static void add_account(const struct call *c, struct json_object *object, int64_t number)
{
    const struct store_account *account =
        number > 0 ? store_directory_account_number(c->op->directory, (uint32_t)number) : NULL;
    if (account)
        add_text(object, "account", account->name);
    else
        json_object_object_add(object, "account",
                               number == SUPPRESS_NOBODY ? NULL
                                                         : json_object_new_string(NO_ACCOUNT));
}

static void add_whom(const struct call *c, struct json_object *object,
                     const struct suppress_row *row)
{
    json_add_text(object, "scope", bytes_cstr(suppress_scope_name(suppress_scope_of(row))));
    add_account(c, object, row->account);
    if (row->stream.len)
        add_text(object, "stream", row->stream);
    else
        json_object_object_add(object, "stream", NULL);
    json_add_text(object, "reason", bytes_cstr(suppress_reason_name(row->reason)));
}

static struct json_object *entry_json(const struct call *c, const struct suppress_row *row)
{
    struct json_object *object = json_object_new_object();
    add_text(object, "address", row->address);
    add_whom(c, object, row);
    json_add_time(object, "since", (struct wall){row->since});
    json_add_time(object, "expires", (struct wall){row->expires});
    json_add_time(object, "added_at", (struct wall){row->added});
    add_text(object, "actor", row->actor);
    add_text(object, "note", row->note);
    return object;
}

// ---- add, remove -----------------------------------------------------------------------------------------

static int run_add(struct call *c)
{
    struct suppress_address space;
    struct suppress_entry entry = {.reason = SUPPRESS_MANUAL};
    bool changed;
    int err = take_entry(c, c->op->args, &space, &entry);
    if (!err)
        err = suppress_list_add(c->list, &entry, c->op->actor, c->op->now, &changed);
    if (err)
        return err;
    sqlite3_stmt *stmt =
        suppress_list_bind(c->list, SUPPRESS_SELECT_ADDRESS, &err, "t", entry.address);
    while (!err && !c->out && (err = store_db_step(stmt)) == 1) {
        struct suppress_row row = suppress_row_of(stmt);
        err = OK;
        if (row.account == suppress_account_of(&entry) && row.reason == entry.reason &&
            bytes_eq(row.stream, suppress_stream_of(&entry)))
            c->out = entry_json(c, &row);
    }
    sqlite3_reset(stmt);
    if (c->out)
        json_object_object_add(c->out, "changed", json_object_new_boolean(changed));
    return err < 0 ? err : OK;
}

static int run_remove(struct call *c)
{
    struct suppress_address space;
    struct suppress_entry entry = {0};
    uint32_t removed = 0;
    int err = take_entry(c, c->op->args, &space, &entry);
    if (!err)
        err = suppress_list_remove(c->list, &entry, c->op->actor, c->op->now, &removed);
    if (err)
        return err;
    c->out = json_object_new_object();
    add_text(c->out, "address", entry.address);
    json_object_object_add(c->out, "removed", json_object_new_int64(removed));
    return OK;
}

// ---- check -----------------------------------------------------------------------------------------------

// Is the row one of those asked about: all, or what concerns one account (and the whole service).
static bool is_asked(const struct suppress_entry *asked, const struct suppress_row *row)
{
    if (asked->scope == SUPPRESS_SERVICE || row->account == SUPPRESS_NOBODY)
        return true;
    return row->account == asked->account &&
           (asked->scope == SUPPRESS_ACCOUNT || !row->stream.len ||
            bytes_eq(row->stream, asked->stream));
}

static int add_entries(struct call *c, const struct suppress_entry *asked,
                       struct json_object *entries, bool *out_suppressed)
{
    int err;
    sqlite3_stmt *stmt =
        suppress_list_bind(c->list, SUPPRESS_SELECT_ADDRESS, &err, "t", asked->address);
    while (!err && (err = store_db_step(stmt)) == 1) {
        struct suppress_row row = suppress_row_of(stmt);
        err = OK;
        if (!is_asked(asked, &row))
            continue;
        json_object_array_add(entries, entry_json(c, &row));
        if (!row.expires || row.expires > c->op->now.us)
            *out_suppressed = true;
    }
    sqlite3_reset(stmt);
    return err;
}

static int add_changes(struct call *c, const struct suppress_entry *asked,
                       struct json_object *changes)
{
    int err;
    sqlite3_stmt *stmt = suppress_list_bind(c->list, SUPPRESS_SELECT_CHANGES, &err, "ti",
                                            asked->address, (int64_t)SUPPRESS_CHANGES_SHOWN);
    while (!err && (err = store_db_step(stmt)) == 1) {
        struct suppress_row row = {.account = sqlite3_column_int64(stmt, 3),
                                   .stream = store_db_text(stmt, 4),
                                   .reason = (enum suppress_reason)sqlite3_column_int(stmt, 5)};
        err = OK;
        if (!is_asked(asked, &row))
            continue;
        struct json_object *object = json_object_new_object();
        json_add_time(object, "at", (struct wall){sqlite3_column_int64(stmt, 0)});
        add_text(object, "actor", store_db_text(stmt, 1));
        add_text(object, "op", store_db_text(stmt, 2));
        add_whom(c, object, &row);
        add_text(object, "detail", store_db_text(stmt, 6));
        json_object_array_add(changes, object);
    }
    sqlite3_reset(stmt);
    return err;
}

static int run_check(struct call *c)
{
    struct suppress_address space;
    struct suppress_entry asked = {0};
    bool suppressed = false;
    int err = take_entry(c, c->op->args, &space, &asked);
    if (err)
        return err;
    struct json_object *entries = json_object_new_array(), *changes = json_object_new_array();
    c->out = json_object_new_object();
    add_text(c->out, "address", asked.address);
    err = add_entries(c, &asked, entries, &suppressed);
    if (!err)
        err = add_changes(c, &asked, changes);
    json_object_object_add(c->out, "suppressed", json_object_new_boolean(suppressed));
    json_object_object_add(c->out, "entries", entries);
    json_object_object_add(c->out, "changes", changes);
    return err;
}

// ---- list ------------------------------------------------------------------------------------------------

// A cursor names the entry looked at last.
struct place {
    struct bytes address, stream;
    int64_t account, reason;
};

static struct json_object *place_json(const struct suppress_row *row)
{
    struct json_object *object = json_object_new_object();
    json_add_text(object, "address", row->address);
    json_add_text(object, "stream", row->stream);
    json_object_object_add(object, "account", json_object_new_int64(row->account));
    json_object_object_add(object, "reason", json_object_new_int64(row->reason));
    return object;
}

static struct place take_place(struct json_object *args)
{
    struct json_object *cursor = NULL, *account = NULL;
    if (!args || !json_object_object_get_ex(args, "cursor", &cursor) ||
        !json_object_object_get_ex(cursor, "account", &account))
        return (struct place){.account = INT64_MIN};
    return (struct place){json_find_text(cursor, "address"), json_find_text(cursor, "stream"),
                          json_object_get_int64(account), (int64_t)number_of(cursor, "reason")};
}

struct filter {
    struct suppress_entry asked;
    bool service, account; // one of them, or all
};

static bool passes(const struct filter *f, const struct suppress_row *row)
{
    if (f->service && row->account != SUPPRESS_NOBODY)
        return false;
    if (f->account && row->account != f->asked.account)
        return false;
    if (f->asked.stream.len && !bytes_eq(row->stream, f->asked.stream))
        return false;
    return !f->asked.reason || row->reason == f->asked.reason;
}

static int take_filter(struct call *c, struct filter *out)
{
    int err = take_scope(c, c->op->args, &out->asked);
    if (!err)
        err = take_reason(c, c->op->args, &out->asked.reason);
    out->service = flag_of(c->op->args, "service");
    out->account = out->asked.scope != SUPPRESS_SERVICE;
    return err;
}

static int run_list(struct call *c)
{
    struct filter filter = {0};
    struct place from = take_place(c->op->args);
    uint64_t max = number_of(c->op->args, "max"), found = 0, looked = 0;
    int err = take_filter(c, &filter);
    if (err)
        return err;
    max = max && max < SUPPRESS_PAGE_MAX ? max : SUPPRESS_PAGE_MAX;
    struct json_object *entries = json_object_new_array(), *next = NULL;
    c->out = json_object_new_object();
    sqlite3_stmt *stmt =
        suppress_list_bind(c->list, SUPPRESS_SELECT_PAGE, &err, "titii", from.address, from.account,
                           from.stream, from.reason, (int64_t)SUPPRESS_LOOKED_MAX);
    while (!err && !next && (err = store_db_step(stmt)) == 1) {
        struct suppress_row row = suppress_row_of(stmt);
        err = OK;
        if (passes(&filter, &row)) {
            json_object_array_add(entries, entry_json(c, &row));
            found++;
        }
        if (++looked == SUPPRESS_LOOKED_MAX || found == max)
            next = place_json(&row);
    }
    sqlite3_reset(stmt);
    json_object_object_add(c->out, "entries", entries);
    json_object_object_add(c->out, "next", next);
    return err;
}

// ---- import ----------------------------------------------------------------------------------------------

struct import {
    struct json_object *errors;
    struct suppress_entry like; // what a row does not say
    uint64_t added, unchanged, first, last;
};

static void add_row_error(struct call *c, struct import *im, uint64_t line)
{
    if (json_object_array_length(im->errors) < ERRORS_SHOWN) {
        struct json_object *object = json_object_new_object();
        json_object_object_add(object, "line", json_object_new_uint64(line));
        add_text(object, "error", buf_bytes(c->error));
        json_object_array_add(im->errors, object);
    }
    buf_clear(c->error);
}

static int import_row(struct call *c, struct import *im, struct json_object *row)
{
    struct suppress_address space;
    struct suppress_entry entry = im->like;
    bool changed;
    uint64_t line = number_of(row, "line");
    im->first = im->first ? im->first : line;
    im->last = line;
    int err = take_entry(c, row, &space, &entry);
    if (err == E_SYNTAX || err == E_NOT_FOUND) {
        add_row_error(c, im, line);
        return OK;
    }
    if (!err)
        err = suppress_list_import(c->list, &entry, c->op->actor, c->op->now, &changed);
    if (!err && changed)
        im->added++;
    else if (!err)
        im->unchanged++;
    return err;
}

static int log_import(struct call *c, const struct import *im)
{
    struct suppress_row row = {.account = suppress_account_of(&im->like),
                               .stream = suppress_stream_of(&im->like),
                               .reason = im->like.reason};
    struct bytes detail = arena_printf(
        &c->arena, "%.*s lines %llu to %llu: %llu added",
        BYTES_FMT(bytes_first(json_find_text(c->op->args, "source"), 400)),
        (unsigned long long)im->first, (unsigned long long)im->last, (unsigned long long)im->added);
    return suppress_list_log(c->list, c->op->now, c->op->actor, "import", &row, detail);
}

static int run_import(struct call *c)
{
    struct import im = {.like = {.reason = SUPPRESS_MANUAL}};
    struct json_object *rows = NULL;
    int err = take_scope(c, c->op->args, &im.like);
    if (!err)
        err = take_reason(c, c->op->args, &im.like.reason);
    if (err)
        return err;
    if (!c->op->args || !json_object_object_get_ex(c->op->args, "rows", &rows) ||
        !json_object_is_type(rows, json_type_array))
        return refuse(c, E_SYNTAX, "\"rows\" must be an array");
    im.errors = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(rows) && !err; i++)
        err = import_row(c, &im, json_object_array_get_idx(rows, i));
    if (!err && im.added)
        err = log_import(c, &im);
    c->out = json_object_new_object();
    json_object_object_add(c->out, "added", json_object_new_uint64(im.added));
    json_object_object_add(c->out, "unchanged", json_object_new_uint64(im.unchanged));
    json_object_object_add(c->out, "errors", im.errors);
    return err;
}

// ---- the table of operations -----------------------------------------------------------------------------

static const struct row {
    const char *name;
    int (*run)(struct call *c);
    bool writes;
} ROWS[] = {
    {"suppress.add", run_add, true},       {"suppress.remove", run_remove, true},
    {"suppress.check", run_check, false},  {"suppress.list", run_list, false},
    {"suppress.import", run_import, true},
};

const char *suppress_list_op(size_t n, bool *out_writes)
{
    if (n >= COUNT_OF(ROWS))
        return NULL;
    *out_writes = ROWS[n].writes;
    return ROWS[n].name;
}

static const struct row *find_row(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        if (strcmp(ROWS[i].name, name) == 0)
            return &ROWS[i];
    return NULL;
}

int suppress_list_apply(struct suppress_list *l, const struct suppress_op *op,
                        struct json_object **out, struct buf *error)
{
    struct call call = {.list = l, .op = op, .error = error};
    const struct row *row = find_row(op->name);
    *out = NULL;
    if (!row)
        return refuse(&call, E_SYNTAX, "there is no operation '%.60s'", op->name);
    int err = row->writes ? suppress_list_begin(l) : OK;
    if (!err)
        err = row->run(&call);
    if (!err && row->writes)
        err = suppress_list_commit(l);
    else if (row->writes)
        suppress_list_rollback(l);
    if (err) {
        if (!error->len)
            buf_printf(error, "%s: %s", op->name, err_text(err));
        json_object_put(call.out);
        call.out = NULL;
    }
    *out = call.out;
    arena_done(&call.arena);
    return err;
}
