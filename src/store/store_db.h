// SPDX-License-Identifier: MIT
//
// store_db - the SQLite connection behind the store: opening, schema, statements; private to
// src/store
#pragma once

#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>

#include "store/store.h"

struct store {
    sqlite3 *db;
    int lock_fd;
    pthread_mutex_t
        mutex; // for the length of an operation: threads of the API and of the pool come here
    uint64_t changes; // operations that changed something
};

// Around what is to be one operation.
void store_db_lock(struct store *store);
void store_db_unlock(struct store *store);

// A store from FOLDER/accounts.db under its lock, schema made or checked. As store_open().
int store_db_open(struct bytes folder, struct store **out, struct buf *error) MUST_USE;
void store_db_close(struct store *store);

// What SQLite's result code means to us.
int store_db_err(int sqlite_code);

// Opens or makes a file in a folder, by its descriptor, readable by its owner only: a descriptor, or negative.
// Made by root it is given to the folder's owner, so that a command run before the first start leaves nothing the
// relay can't use.
int store_db_open_file(int folder, const char *name) MUST_USE;

// Binds parameters as store_db_start(); returns SQLite's code.
int store_db_bind(sqlite3_stmt *stmt, const char *types, va_list args) MUST_USE;
// Prepares sql and binds its parameters: 't' a struct bytes (text), 'T' the same, NULL where empty,
// 'i' an int64_t, 'I' the same, NULL where 0.
int store_db_start(struct store *store, sqlite3_stmt **out, const char *sql, const char *types,
                   ...) MUST_USE;
// 1: a row; 0: no more; negative: failed.
int store_db_step(sqlite3_stmt *stmt) MUST_USE;
// Start, step to the end, finish: for statements without rows.
int store_db_run(struct store *store, const char *sql, const char *types, ...) MUST_USE;
// Column of the current row; valid until the next step.
struct bytes store_db_text(sqlite3_stmt *stmt, int column);
