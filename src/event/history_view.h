// SPDX-License-Identifier: MIT
//
// history_view - one day's file, read: records by message, by sequence number, by words
//
// A view sees what was committed when it looks; between begin and end, one state of it. Damaged blocks are passed over
// and counted.
//
// Fails: E_IO, E_DENIED, E_DAMAGED, E_VERSION.
#pragma once

#include <sqlite3.h>

#include "event/history_index.h"
#include "spool/spool_reader.h"

// A block is a row of records, each with a head: sequence, message id, type, bytes that follow.
#define HISTORY_ENTRY_BYTES 32
// Takes the next, whole one: sequence, type, id and meta.
bool history_block_next(struct bytes *in, struct spool_record *out);

#define HISTORY_VIEW_STATEMENTS 7
struct history_view {
    sqlite3 *db;
    sqlite3_stmt *statements[HISTORY_VIEW_STATEMENTS]; // those needed so far
    uint32_t damaged;                                  // blocks so far
};

// E_NOT_FOUND: no such file. E_VERSION.
int history_view_open(const char *path, struct history_view *out) MUST_USE;
void history_view_close(struct history_view *v);
// How far the journal has been read, and from where on without a gap; zeros: nothing yet.
struct history_progress {
    uint64_t sequence, since;
};
struct history_progress history_view_progress(struct history_view *v);

// ---- records, in order -------------------------------------------------------------------------------------

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

// ---- the index ---------------------------------------------------------------------------------------------

int history_view_begin(struct history_view *v) MUST_USE;
void history_view_end(struct history_view *v);
// Appends a struct history_sheet for each, the one with the last records first; notes count as one with the id 0.
// E_DAMAGED: one has a wrong checksum.
int history_view_sheets(struct history_view *v, struct buf *out) MUST_USE;
// Appends the sequence numbers (uint64_t, rising) of the records on a sheet that have all the words. E_DAMAGED.
int history_view_find(struct history_view *v, const struct history_sheet *sheet,
                      const uint64_t *words, size_t count, struct buf *out) MUST_USE;

struct history_block {
    uint64_t first, last;
    struct wall oldest, newest;
};
// The last block that begins at or before this. E_NOT_FOUND.
int history_view_block(struct history_view *v, uint64_t sequence,
                       struct history_block *out) MUST_USE;
// Its records (history_block_next()) into `out`; nothing, where the block is damaged.
int history_view_load(struct history_view *v, const struct history_block *block,
                      struct buf *out) MUST_USE;
