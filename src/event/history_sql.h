// SPDX-License-Identifier: MIT
//
// history_sql - what writing and reading a day's file share: SQLite's errors as ours, statements, checksums
#pragma once

#include <sqlite3.h>

#include "base/bytes.h"

#define HISTORY_FILE_VERSION 4

// A result code as one of ours; OK for rows and the end of them.
int history_sql_error(int rc);
int history_sql_run(sqlite3 *db, const char *sql) MUST_USE;

struct history_statement {
    sqlite3_stmt **at;
    const char *sql;
};
int history_sql_prepare(sqlite3 *db, const struct history_statement *all, size_t count) MUST_USE;
// One step, then ready for the next time.
int history_sql_step(sqlite3_stmt *st) MUST_USE;
// The value of a row of `meta`; 0: there is none.
uint64_t history_sql_number(sqlite3 *db, const char *key);
// PRAGMA user_version.
int history_sql_version(sqlite3 *db, int *out) MUST_USE;
// The blob in a column, borrowed until the next step.
struct bytes history_sql_blob(sqlite3_stmt *st, int column);
// Of what stands in the row `at` of its table: SQLite would not notice a bit that has changed.
int64_t history_sql_sum(int64_t at, struct bytes data);
