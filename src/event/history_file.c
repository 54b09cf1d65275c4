// SPDX-License-Identifier: MIT
#include "event/history_file.h"

#include <stdlib.h>

#include "spool/record.h"
#include "spool/tlv.h"

// Sequence numbers of a slot: some ten thousand messages, whose words fit into a few hundred pages.
#define SLOT_BITS 16
// A block is ended when it is this large.
#define BLOCK_BYTES 65536
// Of a record in a block: sequence, message id, type, bytes that follow.
#define ENTRY_HEAD_BYTES 32

static const char SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT "
    "ROWID;"
    "CREATE TABLE IF NOT EXISTS block(first INTEGER PRIMARY KEY, last INTEGER NOT NULL, data BLOB "
    "NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS part(high INTEGER, low INTEGER, first INTEGER, PRIMARY KEY(high, "
    "low, first)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS word(slot INTEGER, hash INTEGER, first INTEGER, PRIMARY KEY(slot, "
    "hash, first)) STRICT, WITHOUT ROWID;";

static int of_sqlite(int rc)
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

static int run_sql(sqlite3 *db, const char *sql)
{
    return of_sqlite(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static int prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out)
{
    return of_sqlite(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL));
}

struct statement {
    sqlite3_stmt **at;
    const char *sql;
};

static int prepare_all(sqlite3 *db, const struct statement *all, size_t count)
{
    int err = OK;
    for (size_t i = 0; i < count && !err; i++)
        err = prepare(db, all[i].sql, all[i].at);
    return err;
}

static int step_once(sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    return of_sqlite(rc);
}

static int get_version(sqlite3 *db, int *out)
{
    sqlite3_stmt *st;
    int err = prepare(db, "PRAGMA user_version", &st);
    if (err)
        return err;
    int rc = sqlite3_step(st);
    *out = rc == SQLITE_ROW ? sqlite3_column_int(st, 0) : 0;
    sqlite3_finalize(st);
    return of_sqlite(rc);
}

// What people type in one case or the other is found in both.
static uint64_t hash_word(enum history_word kind, struct bytes word, struct buf *space)
{
    buf_clear(space);
    char *at = buf_reserve(space, word.len + 1);
    if (!at)
        return 0;
    at[0] = (char)kind;
    for (size_t i = 0; i < word.len; i++)
        at[i + 1] = ascii_lower(word.at[i]);
    return record_hash(bytes_of(at, word.len + 1));
}

// ---- writing ---------------------------------------------------------------------------------------------

static int prepare_writing(struct history_file *f)
{
    const struct statement all[] = {
        {&f->begin, "BEGIN"},
        {&f->commit, "COMMIT"},
        {&f->add_block, "INSERT INTO block VALUES(?,?,?)"},
        {&f->add_part, "INSERT INTO part VALUES(?,?,?)"},
        {&f->add_word, "INSERT INTO word VALUES(?,?,?)"},
        {&f->find_block, "SELECT last FROM block WHERE first <= ? ORDER BY first DESC LIMIT 1"},
        {&f->set_number, "INSERT OR REPLACE INTO meta VALUES(?,?)"},
    };
    return prepare_all(f->db, all, COUNT_OF(all));
}

// What a version before the first release has left is not read: the file begins anew.
static int make_schema(sqlite3 *db)
{
    int version, err = get_version(db, &version);
    if (err || version == HISTORY_FILE_VERSION)
        return err;
    if (version > HISTORY_FILE_VERSION)
        return E_VERSION;
    err = run_sql(db, "DROP TABLE IF EXISTS meta; DROP TABLE IF EXISTS part; DROP TABLE IF EXISTS "
                      "word");
    if (!err)
        err = run_sql(db, SCHEMA);
    return err ? err : run_sql(db, "PRAGMA user_version=3");
}

static uint64_t number_of(sqlite3 *db, const char *key)
{
    sqlite3_stmt *st;
    if (prepare(db, "SELECT value FROM meta WHERE key = ?", &st) != OK)
        return 0;
    sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
    uint64_t number = sqlite3_step(st) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return number;
}

int history_file_open(const char *path, struct history_file *out)
{
    *out = (struct history_file){0};
    int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    int err = of_sqlite(sqlite3_open_v2(path, &out->db, flags, NULL));
    // NORMAL: what is committed is flushed by a checkpoint, or by history_file_flush().
    if (!err)
        err = run_sql(out->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA "
                               "busy_timeout=5000; PRAGMA wal_autocheckpoint=0; PRAGMA "
                               "temp_store=MEMORY; PRAGMA "
                               "cache_size=-16000");
    if (!err)
        err = make_schema(out->db);
    if (!err)
        err = prepare_writing(out);
    if (!err)
        out->sequence = number_of(out->db, "sequence");
    if (err)
        history_file_close(out);
    return err;
}

void history_file_close(struct history_file *f)
{
    sqlite3_stmt *const all[] = {f->begin,    f->commit,     f->add_block, f->add_part,
                                 f->add_word, f->find_block, f->set_number};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        sqlite3_finalize(all[i]);
    sqlite3_close(f->db);
    buf_done(&f->block);
    buf_done(&f->ids);
    buf_done(&f->words);
    buf_done(&f->word);
    *f = (struct history_file){0};
}

int history_file_begin(struct history_file *f)
{
    return step_once(f->begin);
}

static int by_words(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
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
        err = step_once(f->add_part);
    }
    return err;
}

static int write_words(struct history_file *f)
{
    uint64_t *words = (uint64_t *)(void *)f->words.at;
    size_t count = f->words.len / sizeof *words;
    int err = OK;
    if (count)
        qsort(words, count, sizeof *words, by_words);
    for (size_t i = 0; i < count && !err; i++) {
        if (i > 0 && words[i] == words[i - 1])
            continue;
        sqlite3_bind_int64(f->add_word, 1, (int64_t)(f->first >> SLOT_BITS));
        sqlite3_bind_int64(f->add_word, 2, (int64_t)words[i]);
        sqlite3_bind_int64(f->add_word, 3, (int64_t)f->first);
        err = step_once(f->add_word);
    }
    return err;
}

static void drop_block(struct history_file *f)
{
    buf_clear(&f->block);
    buf_clear(&f->ids);
    buf_clear(&f->words);
}

static int write_block(struct history_file *f)
{
    if (!f->block.len)
        return OK;
    int err = f->block.err || f->ids.err || f->words.err ? E_LIMIT : OK;
    sqlite3_bind_int64(f->add_block, 1, (int64_t)f->first);
    sqlite3_bind_int64(f->add_block, 2, (int64_t)f->last);
    sqlite3_bind_blob64(f->add_block, 3, f->block.at, f->block.len, SQLITE_STATIC);
    if (!err)
        err = step_once(f->add_block);
    sqlite3_clear_bindings(f->add_block);
    if (!err)
        err = write_parts(f);
    if (!err)
        err = write_words(f);
    drop_block(f);
    return err;
}

static void add_word(struct history_file *f, enum history_word kind, struct bytes word)
{
    uint64_t hash = hash_word(kind, word, &f->word);
    if (word.len)
        buf_add(&f->words, bytes_of(&hash, sizeof hash));
}

static void add_words(struct history_file *f, const struct envelope *e)
{
    add_word(f, HISTORY_SENDER, e->reverse_path);
    add_word(f, HISTORY_MESSAGE_ID, e->message_id);
    add_word(f, HISTORY_ENVID, e->envid);
    add_word(f, HISTORY_TAG, e->tag);
    for (uint32_t i = 0; i < e->recipients_count; i++)
        add_word(f, HISTORY_RECIPIENT, e->recipients[i].address);
}

static void add_entry(struct history_file *f, const struct spool_record *r)
{
    char head[ENTRY_HEAD_BYTES];
    le64_put(head, r->sequence);
    le64_put(head + 8, r->id.high);
    le64_put(head + 16, r->id.low);
    le32_put(head + 24, (uint32_t)r->type);
    le32_put(head + 28, (uint32_t)r->meta.len);
    if (!f->block.len)
        f->first = r->sequence;
    f->last = r->sequence;
    buf_add(&f->block, bytes_of(head, sizeof head));
    buf_add(&f->block, r->meta);
    buf_add(&f->ids, bytes_of(&r->id, sizeof r->id));
    if (r->type == SPOOL_RECORD_MESSAGE)
        add_words(f, r->envelope);
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
static int add_copy(struct history_file *f, const struct spool_record *record)
{
    int err = write_block(f);
    if (err || has(f, record->sequence))
        return err;
    add_entry(f, record);
    return write_block(f);
}

int history_file_add(struct history_file *f, const struct spool_record *record)
{
    if (record->copy)
        return add_copy(f, record);
    if (record->sequence <= f->sequence)
        return OK;
    add_entry(f, record);
    return f->block.len < BLOCK_BYTES ? OK : write_block(f);
}

static int set_number(struct history_file *f, const char *key, uint64_t value)
{
    sqlite3_bind_text(f->set_number, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(f->set_number, 2, (int64_t)value);
    return step_once(f->set_number);
}

int history_file_commit(struct history_file *f, struct history_progress progress)
{
    int err = write_block(f);
    if (!err)
        err = set_number(f, "sequence", progress.sequence);
    if (!err)
        err = set_number(f, "since", progress.since);
    return err ? err : step_once(f->commit);
}

void history_file_rollback(struct history_file *f)
{
    drop_block(f);
    (void)run_sql(f->db, "ROLLBACK");
    f->sequence = number_of(f->db, "sequence"); // a commit that failed may have come through
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
    int err = run_sql(f->db, "PRAGMA synchronous=FULL; BEGIN; INSERT OR REPLACE INTO meta "
                             "VALUES('flushed', 1); COMMIT");
    if (err)
        history_file_rollback(f);
    int back = run_sql(f->db, "PRAGMA synchronous=NORMAL");
    return err ? err : back;
}

// ---- reading ---------------------------------------------------------------------------------------------

static int prepare_reading(struct history_view *v)
{
    const struct statement all[] = {
        {&v->of_message, "SELECT b.data FROM part p JOIN block b ON b.first = p.first WHERE p.high "
                         "= ? AND p.low = ? ORDER BY p.first"},
        {&v->after, "SELECT data FROM block WHERE first >= coalesce((SELECT first FROM block WHERE "
                    "first <= ?1 ORDER BY first DESC LIMIT 1), 0) AND first <= ?2 ORDER BY first"},
    };
    return prepare_all(v->db, all, COUNT_OF(all));
}

int history_view_open(const char *path, struct history_view *out)
{
    int version = 0, flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    *out = (struct history_view){0};
    int err = of_sqlite(sqlite3_open_v2(path, &out->db, flags, NULL));
    if (!err)
        err = run_sql(out->db, "PRAGMA busy_timeout=5000; PRAGMA temp_store=MEMORY");
    if (!err)
        err = get_version(out->db, &version);
    if (!err && version != HISTORY_FILE_VERSION)
        err = E_VERSION;
    if (!err)
        err = prepare_reading(out);
    if (err)
        history_view_close(out);
    return err;
}

void history_view_close(struct history_view *v)
{
    sqlite3_finalize(v->of_message);
    sqlite3_finalize(v->after);
    sqlite3_close(v->db);
    *v = (struct history_view){0};
}

struct history_progress history_view_progress(struct history_view *v)
{
    return (struct history_progress){number_of(v->db, "sequence"), number_of(v->db, "since")};
}

static bool take_entry(struct bytes *in, struct spool_record *out)
{
    if (in->len < ENTRY_HEAD_BYTES)
        return false;
    *out = (struct spool_record){
        .sequence = le64_get(in->at),
        .id = {le64_get(in->at + 8), le64_get(in->at + 16)},
        .type = (enum spool_record_type)le32_get(in->at + 24),
        .meta = bytes_mid(*in, ENTRY_HEAD_BYTES, le32_get(in->at + 28)),
    };
    bool whole = out->meta.len == le32_get(in->at + 28);
    *in = bytes_skip(*in, ENTRY_HEAD_BYTES + out->meta.len);
    return whole;
}

// Which records of a block are meant.
struct sieve {
    const struct message_id *id; // NULL: of all messages
    uint64_t after, upto;
};

static bool passes(const struct sieve *sieve, const struct spool_record *r)
{
    return sieve->id ? message_id_eq(r->id, *sieve->id)
                     : r->sequence > sieve->after && r->sequence <= sieve->upto;
}

static struct bytes column_block(sqlite3_stmt *st)
{
    const void *data = sqlite3_column_blob(st, 0);
    return bytes_of(data, data ? (size_t)sqlite3_column_bytes(st, 0) : 0);
}

static int show_blocks(sqlite3_stmt *st, const struct sieve *sieve, const struct history_rows *rows)
{
    int rc;
    bool more = true;
    while (more && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct bytes in = column_block(st);
        struct spool_record record;
        while (more && take_entry(&in, &record))
            more = !passes(sieve, &record) || rows->row(rows->ctx, &record);
    }
    sqlite3_reset(st);
    return more ? of_sqlite(rc) : OK;
}

int history_view_of(struct history_view *v, struct message_id id, const struct history_rows *rows)
{
    struct sieve sieve = {.id = &id};
    sqlite3_bind_int64(v->of_message, 1, (int64_t)id.high);
    sqlite3_bind_int64(v->of_message, 2, (int64_t)id.low);
    return show_blocks(v->of_message, &sieve, rows);
}

int history_view_after(struct history_view *v, uint64_t after, uint64_t upto,
                       const struct history_rows *rows)
{
    struct sieve sieve = {.after = after, .upto = upto};
    sqlite3_bind_int64(v->after, 1, (int64_t)after);
    sqlite3_bind_int64(v->after, 2, (int64_t)upto);
    return show_blocks(v->after, &sieve, rows);
}

static bool take_sequence(void *ctx, struct spool_record *record)
{
    *(uint64_t *)ctx = record->sequence;
    return false;
}

int history_view_next(struct history_view *v, uint64_t after, uint64_t *out)
{
    struct history_rows rows = {take_sequence, out};
    *out = 0;
    return history_view_after(v, after, INT64_MAX, &rows);
}

// The acceptances of a block, the last first. False: no more are wanted.
static bool show_acceptances(struct bytes block, const struct history_rows *rows)
{
    struct buf places = {0};
    struct spool_record record;
    struct bytes in = block;
    for (const char *at = in.at; take_entry(&in, &record); at = in.at)
        if (record.type == SPOOL_RECORD_MESSAGE)
            buf_add(&places, bytes_of(&at, sizeof at));
    bool more = true;
    for (size_t i = places.len / sizeof(const char *); i > 0 && more; i--) {
        const char *at;
        memcpy(&at, places.at + (i - 1) * sizeof at, sizeof at);
        in = bytes_skip(block, (size_t)(at - block.at));
        more = !take_entry(&in, &record) || rows->row(rows->ctx, &record);
    }
    buf_done(&places);
    return more;
}

static int show_back(sqlite3_stmt *st, const struct history_rows *rows, bool *out_more)
{
    int rc = SQLITE_DONE;
    *out_more = true;
    while (*out_more && (rc = sqlite3_step(st)) == SQLITE_ROW)
        *out_more = show_acceptances(column_block(st), rows);
    sqlite3_reset(st);
    return *out_more ? of_sqlite(rc) : OK;
}

int history_view_all(struct history_view *v, const struct history_rows *rows)
{
    sqlite3_stmt *st;
    bool more;
    int err = prepare(v->db, "SELECT data FROM block ORDER BY first DESC", &st);
    if (!err)
        err = show_back(st, rows, &more);
    sqlite3_finalize(st);
    return err;
}

// The last slot below; false: there is none.
static bool slot_below(sqlite3_stmt *st, int64_t *slot)
{
    sqlite3_bind_int64(st, 1, *slot);
    bool found = sqlite3_step(st) == SQLITE_ROW;
    *slot = found ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return found;
}

int history_view_find(struct history_view *v, enum history_word kind, struct bytes word,
                      const struct history_rows *rows)
{
    struct buf space = {0};
    sqlite3_stmt *slots = NULL, *blocks = NULL;
    bool more = true;
    int64_t slot = INT64_MAX, hash = (int64_t)hash_word(kind, word, &space);
    buf_done(&space);
    int err =
        prepare(v->db, "SELECT slot FROM word WHERE slot < ? ORDER BY slot DESC LIMIT 1", &slots);
    if (!err)
        err = prepare(v->db,
                      "SELECT b.data FROM word w JOIN block b ON b.first = w.first WHERE w.slot = "
                      "? AND w.hash = ? ORDER BY w.first DESC",
                      &blocks);
    while (!err && more && slot_below(slots, &slot)) {
        sqlite3_bind_int64(blocks, 1, slot);
        sqlite3_bind_int64(blocks, 2, hash);
        err = show_back(blocks, rows, &more);
    }
    sqlite3_finalize(slots);
    sqlite3_finalize(blocks);
    return err;
}
