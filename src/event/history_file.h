// SPDX-License-Identifier: MIT
//
// history_file - one day's records in one SQLite file, as it is written (read: history_view.h)
//
// Records are kept as they stand in the journal (spool_record.meta), many to a row: a block. Beside them stands what
// they are found by: the message's id, which names blocks, and words (history_index.h), which name records: first on the
// notes of each block; once there are many, notes are replaced by a sheet, in the same transaction as the last of them.
// Blocks, notes, sheets and leaves have checksums. An index that does not hold is never believed, but made again.
//
// Fails: E_IO, E_DENIED, E_DAMAGED, E_VERSION; a full disk is E_FULL.
#pragma once

#include <sqlite3.h>

#include "event/history.h"
#include "event/history_view.h"

struct history_file {
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *add_block, *add_part, *find_block, *set_number;
    sqlite3_stmt *add_notes, *all_notes, *drop_notes, *add_sheet, *add_leaf;
    uint64_t sequence; // as stored when it was opened or rolled back: up to there all is here
    // the block being filled
    uint64_t first, last;       // sequence numbers
    struct wall oldest, newest; // times
    struct buf block, ids, notes;
    size_t notes_bytes, notes_rows; // in the file: not on a sheet yet
};

// Makes the schema where there is none.
int history_file_open(const char *path, struct history_file *out) MUST_USE;
void history_file_close(struct history_file *f);
int history_file_begin(struct history_file *f) MUST_USE;
// A message or an outcome; one that is there already stays as it is. Between two calls no record of the journal may
// have been left out, but for those of other types: commit first.
struct history_row {
    const struct spool_record *record;
    struct wall at;
    const uint64_t *words; // it is found by these
    size_t words_count;
};
int history_file_add(struct history_file *f, const struct history_row *row) MUST_USE;
// Stores it, and ends the transaction.
int history_file_commit(struct history_file *f, struct history_progress progress) MUST_USE;
void history_file_rollback(struct history_file *f);
// True when all of it is in the file and flushed; a reader may prevent that for a while.
bool history_file_checkpoint(struct history_file *f);
// Flushes what is committed, come what may: afterwards a power cut takes nothing of it away.
int history_file_flush(struct history_file *f) MUST_USE;

// ---- the index ---------------------------------------------------------------------------------------------

// Each outside of a transaction. For a day that is over: puts all notes on a sheet, and leaves a file that is opened
// without a log beside it, which makes that cheap.
int history_file_seal(struct history_file *f) MUST_USE;
// Has it been, and was it not opened for writing since? False where it can't be read.
bool history_file_is_sealed(const char *path);
// Makes the index of all blocks anew; words() tells those of a record (spool_record_decode() takes the rest of it).
struct history_indexer {
    void *ctx;
    void (*words)(void *ctx, struct spool_record *record, struct buf *out_words); // of uint64_t
};
int history_file_reindex(struct history_file *f, const struct history_indexer *indexer) MUST_USE;
