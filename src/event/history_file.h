// SPDX-License-Identifier: MIT
//
// history_file - one day's events in one SQLite file: its schema, rows in, rows out
//
// Fails: E_IO, E_DENIED, E_DAMAGED, E_VERSION; a full disk is E_FULL.
#pragma once

#include <sqlite3.h>

#include "event/history.h"
#include "spool/spool_reader.h"

#define HISTORY_FILE_VERSION 1

struct history_file {
    sqlite3 *db;
    sqlite3_stmt *add_message, *add_recipient, *add_event, *set_sequence;
};

// To write: makes the schema where there is none.
int history_file_open(const char *path, struct history_file *out) MUST_USE;
void history_file_close(struct history_file *f);
int history_file_begin(struct history_file *f) MUST_USE;
int history_file_add(struct history_file *f, const struct spool_record *record) MUST_USE;
// Stores how far the journal has been read, and ends the transaction.
int history_file_commit(struct history_file *f, uint64_t sequence) MUST_USE;
void history_file_rollback(struct history_file *f);
// True when all of it is in the file and flushed.
bool history_file_checkpoint(struct history_file *f);

// To read. E_NOT_FOUND: no such file.
int history_file_open_reader(const char *path, sqlite3 **out) MUST_USE;
// The sequence number stored; 0: none.
uint64_t history_file_sequence(sqlite3 *db);
int history_file_find_message(sqlite3 *db, struct message_id id,
                              const struct history_reader *reader) MUST_USE;
int history_file_events_of(sqlite3 *db, struct message_id id,
                           const struct history_reader *reader) MUST_USE;
int history_file_find(sqlite3 *db, const struct history_filter *filter, size_t max,
                      void (*found)(void *ctx, struct message_id id), void *ctx,
                      size_t *out_found) MUST_USE;
// The smallest sequence number above `after` that an event here has; 0: none.
uint64_t history_file_next(sqlite3 *db, uint64_t after);
// Events above `after` and not above `upto`; addresses of recipients whose message lies in another file are
// left empty.
int history_file_events_after(sqlite3 *db, uint64_t after, uint64_t upto, size_t max,
                              void (*on_event)(void *ctx, const struct history_event *event),
                              void *ctx, size_t *out_count, uint64_t *out_last) MUST_USE;
// The address of a recipient. E_NOT_FOUND.
int history_file_address(sqlite3 *db, struct message_id id, uint32_t number,
                         struct buf *out) MUST_USE;
