// SPDX-License-Identifier: MIT
#include "event/history_sql.h"

#include "spool/record.h"

int history_sql_error(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW:
        return OK;
    case SQLITE_FULL:
        return E_FULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: // a table is missing, or is another
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return E_DAMAGED;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        return E_DENIED;
    case SQLITE_CANTOPEN:
        return E_NOT_FOUND;
    default:
        return E_IO;
    }
}

int history_sql_run(sqlite3 *db, const char *sql)
{
    return history_sql_error(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static int prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out)
{
    return history_sql_error(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL));
}

int history_sql_prepare(sqlite3 *db, const struct history_statement *all, size_t count)
{
    int err = OK;
    for (size_t i = 0; i < count && !err; i++)
        err = prepare(db, all[i].sql, all[i].at);
    return err;
}

int history_sql_step(sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    return history_sql_error(rc);
}

uint64_t history_sql_number(sqlite3 *db, const char *key)
{
    sqlite3_stmt *st;
    if (prepare(db, "SELECT value FROM meta WHERE key = ?", &st) != OK)
        return 0;
    sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
    uint64_t number = sqlite3_step(st) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return number;
}

int history_sql_version(sqlite3 *db, int *out)
{
    sqlite3_stmt *st;
    int err = prepare(db, "PRAGMA user_version", &st);
    if (err)
        return err;
    int rc = sqlite3_step(st);
    *out = rc == SQLITE_ROW ? sqlite3_column_int(st, 0) : 0;
    sqlite3_finalize(st);
    return history_sql_error(rc);
}

struct bytes history_sql_blob(sqlite3_stmt *st, int column)
{
    const void *data = sqlite3_column_blob(st, column);
    return bytes_of(data, data ? (size_t)sqlite3_column_bytes(st, column) : 0);
}

int64_t history_sql_sum(int64_t at, struct bytes data)
{
    return (int64_t)(record_hash(data) ^ (uint64_t)at * UINT64_C(0x9E3779B97F4A7C15));
}
