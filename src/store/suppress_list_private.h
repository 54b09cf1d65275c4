// SPDX-License-Identifier: MIT
//
// suppress_list_private - what the list (suppress_list.c) and its operations (suppress_ops.c) share: statements
#pragma once

#include "store/store_db.h"
#include "store/suppress_list.h"

enum suppress_statement {
    SUPPRESS_BEGIN,
    SUPPRESS_COMMIT,
    SUPPRESS_ROLLBACK,
    SUPPRESS_INSERT,
    SUPPRESS_EXTEND,
    SUPPRESS_SELECT_ADDRESS,
    SUPPRESS_SELECT_SCOPE,
    SUPPRESS_DELETE,
    SUPPRESS_SELECT_EXPIRED,
    SUPPRESS_SELECT_REMOVAL,
    SUPPRESS_SELECT_PAGE,
    SUPPRESS_SELECT_KEYS,
    SUPPRESS_INSERT_CHANGE,
    SUPPRESS_SELECT_CHANGES,
    SUPPRESS_SELECT_LAST_CHANGE,
    SUPPRESS_GET_NUMBER,
    SUPPRESS_SET_NUMBER,
    SUPPRESS_STATEMENTS
};

struct suppress_list {
    sqlite3 *db;
    sqlite3_stmt *statements[SUPPRESS_STATEMENTS];
    struct suppress_table *table; // NULL: none
    struct buf leaving;           // hashes that leave the table with the commit
    struct buf load_address, load_stream;
    int64_t load_account, load_reason; // where the load has come to
    struct suppress_list_counts counts, begun;
};

// A row of the table suppression; texts are valid until the statement is reset.
struct suppress_row {
    struct bytes address, stream, actor, note;
    int64_t account, since, expires, added; // expires 0: never
    enum suppress_reason reason;
};
// The columns of SUPPRESS_SELECT_ADDRESS and _PAGE.
struct suppress_row suppress_row_of(sqlite3_stmt *stmt);

// The statement with its parameters bound as by store_db_start(); NULL with *err set. Reset it when done.
sqlite3_stmt *suppress_list_bind(struct suppress_list *l, enum suppress_statement which, int *err,
                                 const char *types, ...);
// Binds, steps to the end and resets a statement without rows.
int suppress_list_run(struct suppress_list *l, enum suppress_statement which, const char *types,
                      ...) MUST_USE;
// A line in the log of changes.
int suppress_list_log(struct suppress_list *l, struct wall now, struct bytes actor, const char *op,
                      const struct suppress_row *row, struct bytes detail) MUST_USE;

// An entry's account as it stands in the database.
static inline int64_t suppress_account_of(const struct suppress_entry *entry)
{
    return entry->scope == SUPPRESS_SERVICE ? SUPPRESS_NOBODY : (int64_t)entry->account;
}
static inline struct bytes suppress_stream_of(const struct suppress_entry *entry)
{
    return entry->scope == SUPPRESS_STREAM ? bytes_first(entry->stream, SUPPRESS_STREAM_MAX)
                                           : BYTES_NONE;
}
static inline enum suppress_scope suppress_scope_of(const struct suppress_row *row)
{
    return row->account == SUPPRESS_NOBODY ? SUPPRESS_SERVICE
           : row->stream.len               ? SUPPRESS_STREAM
                                           : SUPPRESS_ACCOUNT;
}
