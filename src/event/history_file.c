// SPDX-License-Identifier: MIT
#include "event/history_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "event/history_sql.h"
#include "spool/tlv.h"

// A block is ended when it is this large.
#define BLOCK_BYTES 65536
// Notes that are put on one sheet: of some hundred thousand records, or of those of an hour or two where few come at
// once. A search reads all notes, and a leaf of each sheet.
#define NOTES_BYTES_MAX ((size_t)8 << 20)
#define NOTES_ROWS_MAX 16384
#define ENTRIES_BYTES_MAX ((size_t)1 << 30)

static const char SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT "
    "ROWID;"
    "CREATE TABLE IF NOT EXISTS block(first INTEGER PRIMARY KEY, last INTEGER NOT NULL, oldest "
    "INTEGER NOT NULL, newest INTEGER NOT NULL, sum INTEGER NOT NULL, data BLOB NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS part(high INTEGER, low INTEGER, first INTEGER, PRIMARY KEY(high, "
    "low, first)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS notes(first INTEGER PRIMARY KEY, sum INTEGER NOT NULL, data BLOB "
    "NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS sheet(id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER "
    "NOT NULL, oldest INTEGER NOT NULL, newest INTEGER NOT NULL, bits INTEGER NOT NULL, sum "
    "INTEGER NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS leaf(at INTEGER PRIMARY KEY, sum INTEGER NOT NULL, data BLOB NOT "
    "NULL) STRICT;";

// ---- writing ---------------------------------------------------------------------------------------------

static int prepare_writing(struct history_file *f)
{
    const struct history_statement all[] = {
        {&f->begin, "BEGIN"},
        {&f->commit, "COMMIT"},
        {&f->add_block, "INSERT INTO block VALUES(?,?,?,?,?,?)"},
        {&f->add_part, "INSERT INTO part VALUES(?,?,?)"},
        {&f->find_block, "SELECT last FROM block WHERE first <= ? ORDER BY first DESC LIMIT 1"},
        {&f->set_number, "INSERT OR REPLACE INTO meta VALUES(?,?)"},
        {&f->add_notes, "INSERT OR REPLACE INTO notes VALUES(?,?,?)"},
        {&f->all_notes,
         "SELECT n.first, n.sum, n.data, b.last, b.oldest, b.newest FROM notes n JOIN "
         "block b ON b.first = n.first ORDER BY n.first"},
        {&f->drop_notes, "DELETE FROM notes WHERE first = ?"},
        {&f->add_sheet, "INSERT INTO sheet VALUES(?,?,?,?,?,?,?)"},
        {&f->add_leaf, "INSERT OR REPLACE INTO leaf VALUES(?,?,?)"},
    };
    return history_sql_prepare(f->db, all, COUNT_OF(all));
}

// What a version before the first release has left is not read: the file begins anew.
static int make_schema(sqlite3 *db)
{
    int version, err = history_sql_version(db, &version);
    if (err || version == HISTORY_FILE_VERSION)
        return err;
    if (version > HISTORY_FILE_VERSION)
        return E_VERSION;
    err = history_sql_run(
        db, "DROP TABLE IF EXISTS meta; DROP TABLE IF EXISTS block; DROP TABLE IF EXISTS part; "
            "DROP TABLE IF EXISTS word");
    if (!err)
        err = history_sql_run(db, SCHEMA);
    return err ? err : history_sql_run(db, "PRAGMA user_version=4");
}

// What a search would read one by one.
static int count_notes(struct history_file *f)
{
    sqlite3_stmt *st = NULL;
    const struct history_statement count = {
        &st, "SELECT count(*), coalesce(sum(length(data)), 0) FROM notes"};
    int err = history_sql_prepare(f->db, &count, 1);
    if (!err && sqlite3_step(st) == SQLITE_ROW) {
        f->notes_rows = (size_t)sqlite3_column_int64(st, 0);
        f->notes_bytes = (size_t)sqlite3_column_int64(st, 1);
    }
    int rc = sqlite3_finalize(st);
    return err ? err : history_sql_error(rc);
}

int history_file_open(const char *path, struct history_file *out)
{
    *out = (struct history_file){0};
    int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    int err = history_sql_error(sqlite3_open_v2(path, &out->db, flags, NULL));
    // NORMAL: what is committed is flushed by a checkpoint, or by history_file_flush().
    if (!err)
        err = history_sql_run(out->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA "
                                       "busy_timeout=5000; PRAGMA wal_autocheckpoint=0; PRAGMA "
                                       "temp_store=MEMORY; PRAGMA "
                                       "cache_size=-16000");
    if (!err)
        err = make_schema(out->db);
    if (!err)
        err = prepare_writing(out);
    if (!err)
        err = count_notes(out);
    if (!err)
        out->sequence = history_sql_number(out->db, "sequence");
    if (err)
        history_file_close(out);
    return err;
}

void history_file_close(struct history_file *f)
{
    sqlite3_stmt *const all[] = {f->begin,      f->commit,     f->add_block, f->add_part,
                                 f->find_block, f->set_number, f->add_notes, f->all_notes,
                                 f->drop_notes, f->add_sheet,  f->add_leaf};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        sqlite3_finalize(all[i]);
    sqlite3_close(f->db);
    buf_done(&f->block);
    buf_done(&f->ids);
    buf_done(&f->notes);
    *f = (struct history_file){0};
}

int history_file_begin(struct history_file *f)
{
    return history_sql_step(f->begin);
}

static int by_ids(const void *a, const void *b)
{
    const struct message_id *x = a, *y = b;
    return message_id_cmp(*x, *y);
}

// In order, and each once: what is close in the tree is written in a row.
static int write_parts(struct history_file *f)
{
    struct message_id *ids = (struct message_id *)(void *)f->ids.at;
    size_t count = f->ids.len / sizeof *ids;
    int err = OK;
    qsort(ids, count, sizeof *ids, by_ids);
    for (size_t i = 0; i < count && !err; i++) {
        if (i > 0 && message_id_eq(ids[i], ids[i - 1]))
            continue;
        sqlite3_bind_int64(f->add_part, 1, (int64_t)ids[i].high);
        sqlite3_bind_int64(f->add_part, 2, (int64_t)ids[i].low);
        sqlite3_bind_int64(f->add_part, 3, (int64_t)f->first);
        err = history_sql_step(f->add_part);
    }
    return err;
}

static void drop_block(struct history_file *f)
{
    buf_clear(&f->block);
    buf_clear(&f->ids);
    buf_clear(&f->notes);
}

static int write_notes(struct history_file *f, int64_t first, struct bytes notes)
{
    sqlite3_bind_int64(f->add_notes, 1, first);
    sqlite3_bind_int64(f->add_notes, 2, history_sql_sum(first, notes));
    sqlite3_bind_blob64(f->add_notes, 3, notes.at ? notes.at : "", notes.len, SQLITE_STATIC);
    int err = history_sql_step(f->add_notes);
    sqlite3_clear_bindings(f->add_notes);
    f->notes_bytes += notes.len;
    f->notes_rows++;
    return err;
}

static int seal(struct history_file *f);

static int seal_if_many(struct history_file *f)
{
    return f->notes_bytes < NOTES_BYTES_MAX && f->notes_rows < NOTES_ROWS_MAX ? OK : seal(f);
}

static int write_block(struct history_file *f)
{
    if (!f->block.len)
        return OK;
    int64_t first = (int64_t)f->first;
    int err = f->block.err || f->ids.err || f->notes.err ? E_LIMIT : OK;
    sqlite3_bind_int64(f->add_block, 1, first);
    sqlite3_bind_int64(f->add_block, 2, (int64_t)f->last);
    sqlite3_bind_int64(f->add_block, 3, f->oldest.us);
    sqlite3_bind_int64(f->add_block, 4, f->newest.us);
    sqlite3_bind_int64(f->add_block, 5, history_sql_sum(first, buf_bytes(&f->block)));
    sqlite3_bind_blob64(f->add_block, 6, f->block.at, f->block.len, SQLITE_STATIC);
    if (!err)
        err = history_sql_step(f->add_block);
    sqlite3_clear_bindings(f->add_block);
    if (!err)
        err = write_parts(f);
    if (!err)
        err = write_notes(f, first, buf_bytes(&f->notes));
    drop_block(f);
    return err ? err : seal_if_many(f);
}

static void add_entry(struct history_file *f, const struct history_row *row)
{
    const struct spool_record *r = row->record;
    char head[HISTORY_ENTRY_BYTES];
    le64_put(head, r->sequence);
    le64_put(head + 8, r->id.high);
    le64_put(head + 16, r->id.low);
    le32_put(head + 24, (uint32_t)r->type);
    le32_put(head + 28, (uint32_t)r->meta.len);
    if (!f->block.len) {
        f->first = r->sequence;
        f->oldest = f->newest = row->at;
    }
    f->last = r->sequence;
    f->oldest = row->at.us < f->oldest.us ? row->at : f->oldest;
    f->newest = row->at.us > f->newest.us ? row->at : f->newest;
    buf_add(&f->block, bytes_of(head, sizeof head));
    buf_add(&f->block, r->meta);
    buf_add(&f->ids, bytes_of(&r->id, sizeof r->id));
    history_notes_add(&f->notes, r->sequence, row->words, row->words_count);
}

// Blocks do not overlap, and a block has all of the journal between its ends.
static bool has(struct history_file *f, uint64_t sequence)
{
    sqlite3_bind_int64(f->find_block, 1, (int64_t)sequence);
    bool found = sqlite3_step(f->find_block) == SQLITE_ROW &&
                 (uint64_t)sqlite3_column_int64(f->find_block, 0) >= sequence;
    sqlite3_reset(f->find_block);
    return found;
}

// A copy is a block of its own: its number is one of long ago.
static int add_copy(struct history_file *f, const struct history_row *row)
{
    int err = write_block(f);
    if (err || has(f, row->record->sequence))
        return err;
    add_entry(f, row);
    return write_block(f);
}

int history_file_add(struct history_file *f, const struct history_row *row)
{
    if (row->record->copy)
        return add_copy(f, row);
    if (row->record->sequence <= f->sequence)
        return OK;
    add_entry(f, row);
    return f->block.len < BLOCK_BYTES ? OK : write_block(f);
}

static int set_number(struct history_file *f, const char *key, uint64_t value)
{
    sqlite3_bind_text(f->set_number, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(f->set_number, 2, (int64_t)value);
    return history_sql_step(f->set_number);
}

int history_file_commit(struct history_file *f, struct history_progress progress)
{
    int err = write_block(f);
    if (!err)
        err = set_number(f, "sequence", progress.sequence);
    if (!err)
        err = set_number(f, "since", progress.since);
    return err ? err : history_sql_step(f->commit);
}

void history_file_rollback(struct history_file *f)
{
    drop_block(f);
    (void)!history_sql_run(f->db, "ROLLBACK");
    (void)!count_notes(f);
    f->sequence =
        history_sql_number(f->db, "sequence"); // a commit that failed may have come through
}

bool history_file_checkpoint(struct history_file *f)
{
    int in_log = 0, done = 0;
    int rc = sqlite3_wal_checkpoint_v2(f->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_log, &done);
    return rc == SQLITE_OK && in_log == done;
}

// A commit at FULL flushes the log, and with it all that was committed before.
int history_file_flush(struct history_file *f)
{
    if (history_file_checkpoint(f))
        return OK;
    int err = history_sql_run(f->db, "PRAGMA synchronous=FULL; BEGIN; INSERT OR REPLACE INTO meta "
                                     "VALUES('flushed', 1); COMMIT");
    if (err)
        history_file_rollback(f);
    int back = history_sql_run(f->db, "PRAGMA synchronous=NORMAL");
    return err ? err : back;
}

// ---- the index -------------------------------------------------------------------------------------------

struct sealing {
    struct history_file *file;
    struct buf entries, done; // history_entry; the notes' rows
    int64_t first, last, oldest, newest;
    size_t rows;
};

static int64_t min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int take_notes(struct sealing *s, sqlite3_stmt *st)
{
    int64_t first = sqlite3_column_int64(st, 0);
    struct bytes notes = history_sql_blob(st, 2);
    if (history_sql_sum(first, notes) != sqlite3_column_int64(st, 1))
        return OK; // they stay as they are: a search reads the block instead
    int err = history_entries_add(&s->entries, notes);
    bool one = s->rows++ == 0;
    int64_t last = sqlite3_column_int64(st, 3), oldest = sqlite3_column_int64(st, 4),
            newest = sqlite3_column_int64(st, 5);
    s->first = one ? first : s->first;
    s->last = one ? last : max(s->last, last);
    s->oldest = one ? oldest : min(s->oldest, oldest);
    s->newest = one ? newest : max(s->newest, newest);
    buf_add(&s->done, bytes_of(&first, sizeof first));
    return err ? err : s->done.err;
}

static int take_all_notes(struct sealing *s)
{
    sqlite3_stmt *st = s->file->all_notes;
    int rc = SQLITE_DONE, err = OK;
    while (!err && (rc = sqlite3_step(st)) == SQLITE_ROW)
        err = take_notes(s, st);
    sqlite3_reset(st);
    return err ? err : history_sql_error(rc);
}

static int write_leaf(struct sealing *s, int64_t at, struct bytes data)
{
    sqlite3_stmt *st = s->file->add_leaf;
    sqlite3_bind_int64(st, 1, at);
    sqlite3_bind_int64(st, 2, history_sql_sum(at, data));
    sqlite3_bind_blob64(st, 3, data.at ? data.at : "", data.len, SQLITE_STATIC);
    int err = history_sql_step(st);
    sqlite3_clear_bindings(st);
    return err;
}

static int write_leaves(struct sealing *s, int64_t sheet, unsigned bits)
{
    struct history_entry *entries = (struct history_entry *)(void *)s->entries.at;
    size_t left = s->entries.len / sizeof *entries;
    struct buf leaf = {0};
    int err = OK;
    history_entries_sort(entries, left);
    for (uint32_t i = 0; i < 1u << bits && !err;
         i++) { // empty ones too: one that is missing is damage
        bool mine = left && history_leaf_of(entries->word, bits) == i;
        buf_clear(&leaf);
        size_t taken =
            mine ? history_leaf_write(entries, left, bits, (uint64_t)s->first, &leaf) : 0;
        err = leaf.err ? leaf.err
                       : write_leaf(s, sheet << HISTORY_LEAF_BITS_MAX | i, buf_bytes(&leaf));
        entries += taken;
        left -= taken;
    }
    buf_done(&leaf);
    return err;
}

static int write_sheet(struct sealing *s)
{
    sqlite3 *db = s->file->db;
    sqlite3_stmt *st = s->file->add_sheet;
    unsigned bits = history_leaf_bits(s->entries.len / sizeof(struct history_entry));
    struct history_sheet sheet = {.id = (int64_t)history_sql_number(db, "sheets") + 1,
                                  .first = (uint64_t)s->first,
                                  .last = (uint64_t)s->last,
                                  .oldest = {s->oldest},
                                  .newest = {s->newest},
                                  .bits = bits};
    sqlite3_bind_int64(st, 1, sheet.id);
    sqlite3_bind_int64(st, 2, s->first);
    sqlite3_bind_int64(st, 3, s->last);
    sqlite3_bind_int64(st, 4, s->oldest);
    sqlite3_bind_int64(st, 5, s->newest);
    sqlite3_bind_int64(st, 6, bits);
    sqlite3_bind_int64(st, 7, history_sheet_sum(&sheet));
    int err = history_sql_step(st);
    if (!err)
        err = set_number(s->file, "sheets", (uint64_t)sheet.id);
    return err ? err : write_leaves(s, sheet.id, bits);
}

static int drop_notes(struct sealing *s)
{
    const int64_t *rows = (const int64_t *)(const void *)s->done.at;
    int err = OK;
    for (size_t i = 0; i < s->rows && !err; i++) {
        sqlite3_bind_int64(s->file->drop_notes, 1, rows[i]);
        err = history_sql_step(s->file->drop_notes);
    }
    return err;
}

// All notes become a sheet, within a transaction.
static int seal(struct history_file *f)
{
    struct sealing s = {.file = f, .entries = {.max = ENTRIES_BYTES_MAX}};
    int err = take_all_notes(&s);
    if (!err && s.rows)
        err = write_sheet(&s);
    if (!err)
        err = drop_notes(&s);
    f->notes_rows = f->notes_bytes = 0;
    buf_done(&s.entries);
    buf_done(&s.done);
    return err;
}

static int end(struct history_file *f, int err)
{
    if (!err)
        err = history_sql_step(f->commit);
    if (err)
        history_file_rollback(f);
    return err;
}

int history_file_seal(struct history_file *f)
{
    int err = f->notes_rows ? history_file_begin(f) : OK;
    if (!err && f->notes_rows)
        err = end(f, seal(f));
    if (!err) // not while somebody reads it: the next time, then
        (void)!history_sql_run(f->db, "PRAGMA journal_mode=DELETE");
    return err;
}

// Byte 18 of a database is 2 where it has a log beside it (SQLite's file format, 1.3), as all have that are written.
bool history_file_is_sealed(const char *path)
{
    char version = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool read = fd >= 0 && pread(fd, &version, 1, 18) == 1;
    if (fd >= 0)
        close(fd);
    return read && version == 1;
}

// The notes of one block, made again.
static int note_block(struct history_file *f, const struct history_indexer *indexer, int64_t first,
                      struct bytes block)
{
    struct buf notes = {0}, words = {0};
    struct spool_record record;
    while (history_block_next(&block, &record)) {
        buf_clear(&words);
        uint64_t sequence = record.sequence;
        indexer->words(indexer->ctx, &record, &words);
        history_notes_add(&notes, sequence, (const uint64_t *)(const void *)words.at,
                          words.len / sizeof(uint64_t));
    }
    int err = notes.err ? notes.err : write_notes(f, first, buf_bytes(&notes));
    buf_done(&notes);
    buf_done(&words);
    return err ? err : seal_if_many(f);
}

static int note_blocks(struct history_file *f, const struct history_indexer *indexer)
{
    sqlite3_stmt *st = NULL;
    const struct history_statement blocks = {&st, "SELECT first, data FROM block ORDER BY first"};
    int rc = SQLITE_DONE, err = history_sql_prepare(f->db, &blocks, 1);
    while (!err && (rc = sqlite3_step(st)) == SQLITE_ROW)
        err = note_block(f, indexer, sqlite3_column_int64(st, 0), history_sql_blob(st, 1));
    sqlite3_finalize(st);
    return err ? err : history_sql_error(rc);
}

int history_file_reindex(struct history_file *f, const struct history_indexer *indexer)
{
    int err = history_file_begin(f);
    if (err)
        return err;
    err = history_sql_run(f->db, "DELETE FROM sheet; DELETE FROM leaf; DELETE FROM notes");
    f->notes_rows = f->notes_bytes = 0;
    if (!err)
        err = note_blocks(f, indexer);
    return end(f, err ? err : seal(f));
}
