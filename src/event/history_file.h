// SPDX-License-Identifier: MIT
//
// history_file - one day's records in one SQLite file: its schema, rows in, rows out
//
// Records are kept as they stand in the journal (spool_record.meta), many to a row: a block. Nothing is taken apart but
// what is searched for: the message's id, and words: the addresses, Message-ID, ENVID and tag of an acceptance, hashed.
// Both name blocks; whoever searches looks through these. Words stand beside those of about the same time (a slot), so
// that writing touches few pages however large the day is; a search asks one slot after the other.
//
// Fails: E_IO, E_DENIED, E_DAMAGED, E_VERSION; a full disk is E_FULL.
#pragma once

#include <sqlite3.h>

#include "event/history.h"
#include "spool/spool_reader.h"

#define HISTORY_FILE_VERSION 3

// What an acceptance is found by.
enum history_word {
    HISTORY_RECIPIENT = 'r',
    HISTORY_SENDER = 's',
    HISTORY_MESSAGE_ID = 'm',
    HISTORY_ENVID = 'e',
    HISTORY_TAG = 't',
};

// ---- to write --------------------------------------------------------------------------------------------

struct history_file {
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *add_block, *add_part, *add_word, *find_block, *set_number;
    uint64_t sequence; // as stored when it was opened or rolled back: up to there all is here
    // the block being filled
    uint64_t first, last; // sequence numbers
    struct buf block, ids, words, word;
};

// Makes the schema where there is none.
int history_file_open(const char *path, struct history_file *out) MUST_USE;
void history_file_close(struct history_file *f);
int history_file_begin(struct history_file *f) MUST_USE;
// A message or an outcome; one that is there already stays as it is. Between two calls no record of the journal may
// have been left out, but for those of other types: commit first.
int history_file_add(struct history_file *f, const struct spool_record *record) MUST_USE;
// How far the journal has been read, and from where on without a gap.
struct history_progress {
    uint64_t sequence, since;
};
// Stores it, and ends the transaction.
int history_file_commit(struct history_file *f, struct history_progress progress) MUST_USE;
void history_file_rollback(struct history_file *f);
// True when all of it is in the file and flushed; a reader may prevent that for a while.
bool history_file_checkpoint(struct history_file *f);
// Flushes what is committed, come what may: afterwards a power cut takes nothing of it away.
int history_file_flush(struct history_file *f) MUST_USE;

// ---- to read ---------------------------------------------------------------------------------------------

struct history_view {
    sqlite3 *db;
    sqlite3_stmt *of_message, *after;
};

// E_NOT_FOUND: no such file. E_VERSION.
int history_view_open(const char *path, struct history_view *out) MUST_USE;
void history_view_close(struct history_view *v);
// As stored last; zeros: nothing yet.
struct history_progress history_view_progress(struct history_view *v);

// Shows sequence, type, id and meta of a record; all is borrowed. False: no more are wanted.
struct history_rows {
    bool (*row)(void *ctx, struct spool_record *record);
    void *ctx;
};
// The records of one message, in order.
int history_view_of(struct history_view *v, struct message_id id,
                    const struct history_rows *rows) MUST_USE;
// Those with a sequence number above `after` and not above `upto`, in order.
int history_view_after(struct history_view *v, uint64_t after, uint64_t upto,
                       const struct history_rows *rows) MUST_USE;
// The smallest sequence number above `after`; 0: none.
int history_view_next(struct history_view *v, uint64_t after, uint64_t *out) MUST_USE;
// Acceptances, the newest first: all of them, or those that have this word, and perhaps a few others.
int history_view_all(struct history_view *v, const struct history_rows *rows) MUST_USE;
int history_view_find(struct history_view *v, enum history_word kind, struct bytes word,
                      const struct history_rows *rows) MUST_USE;
