// SPDX-License-Identifier: MIT
#include "event/history_file.h"

#include "spool/record.h"

// Sequence numbers of a slot: some ten thousand messages, whose words fit into a few hundred pages.
#define SLOT_BITS 16

static const char SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT "
    "ROWID;"
    "CREATE TABLE IF NOT EXISTS record(seq INTEGER PRIMARY KEY, type INTEGER NOT NULL, high "
    "INTEGER NOT NULL, low INTEGER NOT NULL, meta BLOB NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS part(high INTEGER, low INTEGER, seq INTEGER, PRIMARY KEY(high, "
    "low, seq)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS word(slot INTEGER, hash INTEGER, seq INTEGER, PRIMARY KEY(slot, "
    "hash, seq)) STRICT, WITHOUT ROWID;";

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
        {&f->add_record, "INSERT OR IGNORE INTO record VALUES(?,?,?,?,?)"},
        {&f->add_part, "INSERT OR IGNORE INTO part VALUES(?,?,?)"},
        {&f->add_word, "INSERT OR IGNORE INTO word VALUES(?,?,?)"},
        {&f->set_number, "INSERT OR REPLACE INTO meta VALUES(?,?)"},
    };
    return prepare_all(f->db, all, COUNT_OF(all));
}

// A file of the version before keeps its tables, but what they hold is not read any more.
static int make_schema(sqlite3 *db)
{
    int version, err = get_version(db, &version);
    if (err || version == HISTORY_FILE_VERSION)
        return err;
    if (version > HISTORY_FILE_VERSION)
        return E_VERSION;
    err = run_sql(db, version ? "DELETE FROM meta" : "");
    if (!err)
        err = run_sql(db, SCHEMA);
    return err ? err : run_sql(db, "PRAGMA user_version=2");
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
                               "cache_size=-16000");
    if (!err)
        err = make_schema(out->db);
    if (!err)
        err = prepare_writing(out);
    if (err)
        history_file_close(out);
    return err;
}

void history_file_close(struct history_file *f)
{
    sqlite3_stmt *const all[] = {f->begin,    f->commit,   f->add_record,
                                 f->add_part, f->add_word, f->set_number};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        sqlite3_finalize(all[i]);
    sqlite3_close(f->db);
    buf_done(&f->word);
    *f = (struct history_file){0};
}

int history_file_begin(struct history_file *f)
{
    return step_once(f->begin);
}

static int add_word(struct history_file *f, uint64_t sequence, enum history_word kind,
                    struct bytes word)
{
    if (!word.len)
        return OK;
    sqlite3_bind_int64(f->add_word, 1, (int64_t)(sequence >> SLOT_BITS));
    sqlite3_bind_int64(f->add_word, 2, (int64_t)hash_word(kind, word, &f->word));
    sqlite3_bind_int64(f->add_word, 3, (int64_t)sequence);
    return step_once(f->add_word);
}

static int add_words(struct history_file *f, uint64_t sequence, const struct envelope *e)
{
    int err = add_word(f, sequence, HISTORY_SENDER, e->reverse_path);
    if (!err)
        err = add_word(f, sequence, HISTORY_MESSAGE_ID, e->message_id);
    if (!err)
        err = add_word(f, sequence, HISTORY_ENVID, e->envid);
    if (!err)
        err = add_word(f, sequence, HISTORY_TAG, e->tag);
    for (uint32_t i = 0; i < e->recipients_count && !err; i++)
        err = add_word(f, sequence, HISTORY_RECIPIENT, e->recipients[i].address);
    return err;
}

static int add_row(struct history_file *f, const struct spool_record *r)
{
    sqlite3_bind_int64(f->add_record, 1, (int64_t)r->sequence);
    sqlite3_bind_int(f->add_record, 2, (int)r->type);
    sqlite3_bind_int64(f->add_record, 3, (int64_t)r->id.high);
    sqlite3_bind_int64(f->add_record, 4, (int64_t)r->id.low);
    sqlite3_bind_blob64(f->add_record, 5, r->meta.at, r->meta.len, SQLITE_STATIC);
    int err = step_once(f->add_record);
    sqlite3_clear_bindings(f->add_record);
    return err;
}

static int add_part(struct history_file *f, const struct spool_record *r)
{
    sqlite3_bind_int64(f->add_part, 1, (int64_t)r->id.high);
    sqlite3_bind_int64(f->add_part, 2, (int64_t)r->id.low);
    sqlite3_bind_int64(f->add_part, 3, (int64_t)r->sequence);
    return step_once(f->add_part);
}

int history_file_add(struct history_file *f, const struct spool_record *record)
{
    int err = add_row(f, record);
    if (!err)
        err = add_part(f, record);
    if (!err && record->type == SPOOL_RECORD_MESSAGE)
        err = add_words(f, record->sequence, record->envelope);
    return err;
}

static int set_number(struct history_file *f, const char *key, uint64_t value)
{
    sqlite3_bind_text(f->set_number, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(f->set_number, 2, (int64_t)value);
    return step_once(f->set_number);
}

int history_file_commit(struct history_file *f, struct history_progress progress)
{
    int err = set_number(f, "sequence", progress.sequence);
    if (!err)
        err = set_number(f, "since", progress.since);
    return err ? err : step_once(f->commit);
}

void history_file_rollback(struct history_file *f)
{
    (void)run_sql(f->db, "ROLLBACK");
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

#define COLUMNS "SELECT r.seq, r.type, r.high, r.low, r.meta FROM "

static int prepare_reading(struct history_view *v)
{
    const struct statement all[] = {
        {&v->of_message, COLUMNS
         "part p JOIN record r ON r.seq = p.seq WHERE p.high = ? AND p.low = ? ORDER BY p.seq"},
        {&v->after, COLUMNS "record r WHERE r.seq > ? AND r.seq <= ? ORDER BY r.seq"},
        {&v->next, "SELECT seq FROM record WHERE seq > ? ORDER BY seq LIMIT 1"},
    };
    return prepare_all(v->db, all, COUNT_OF(all));
}

int history_view_open(const char *path, struct history_view *out)
{
    int version = 0, flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    *out = (struct history_view){0};
    int err = of_sqlite(sqlite3_open_v2(path, &out->db, flags, NULL));
    if (!err)
        sqlite3_busy_timeout(out->db, 5000);
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
    sqlite3_finalize(v->next);
    sqlite3_close(v->db);
    *v = (struct history_view){0};
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

struct history_progress history_view_progress(struct history_view *v)
{
    return (struct history_progress){number_of(v->db, "sequence"), number_of(v->db, "since")};
}

static bool show_row(sqlite3_stmt *st, const struct history_rows *rows)
{
    const void *meta = sqlite3_column_blob(st, 4);
    struct spool_record record = {
        .sequence = (uint64_t)sqlite3_column_int64(st, 0),
        .type = (enum spool_record_type)sqlite3_column_int(st, 1),
        .id = {(uint64_t)sqlite3_column_int64(st, 2), (uint64_t)sqlite3_column_int64(st, 3)},
        .meta = bytes_of(meta, meta ? (size_t)sqlite3_column_bytes(st, 4) : 0),
    };
    return rows->row(rows->ctx, &record);
}

// *out_more: false when no more are wanted.
static int show_rows(sqlite3_stmt *st, const struct history_rows *rows, bool *out_more)
{
    int rc;
    *out_more = true;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && *out_more)
        *out_more = show_row(st, rows);
    sqlite3_reset(st);
    return of_sqlite(rc);
}

int history_view_of(struct history_view *v, struct message_id id, const struct history_rows *rows)
{
    bool more;
    sqlite3_bind_int64(v->of_message, 1, (int64_t)id.high);
    sqlite3_bind_int64(v->of_message, 2, (int64_t)id.low);
    return show_rows(v->of_message, rows, &more);
}

int history_view_after(struct history_view *v, uint64_t after, uint64_t upto,
                       const struct history_rows *rows)
{
    bool more;
    sqlite3_bind_int64(v->after, 1, (int64_t)after);
    sqlite3_bind_int64(v->after, 2, (int64_t)upto);
    return show_rows(v->after, rows, &more);
}

uint64_t history_view_next(struct history_view *v, uint64_t after)
{
    sqlite3_bind_int64(v->next, 1, (int64_t)after);
    uint64_t next =
        sqlite3_step(v->next) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(v->next, 0) : 0;
    sqlite3_reset(v->next);
    return next;
}

int history_view_all(struct history_view *v, const struct history_rows *rows)
{
    sqlite3_stmt *st;
    bool more;
    int err = prepare(v->db, COLUMNS "record r WHERE r.type = 1 ORDER BY r.seq DESC", &st);
    if (!err)
        err = show_rows(st, rows, &more);
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
    sqlite3_stmt *slots = NULL, *rows_of = NULL;
    bool more = true;
    int64_t slot = INT64_MAX;
    int err =
        prepare(v->db, "SELECT slot FROM word WHERE slot < ? ORDER BY slot DESC LIMIT 1", &slots);
    if (!err)
        err = prepare(v->db,
                      COLUMNS "word w JOIN record r ON r.seq = w.seq WHERE w.slot = ? AND "
                              "w.hash = ? ORDER BY w.seq DESC",
                      &rows_of);
    while (!err && more && slot_below(slots, &slot)) {
        sqlite3_bind_int64(rows_of, 1, slot);
        sqlite3_bind_int64(rows_of, 2, (int64_t)hash_word(kind, word, &space));
        err = show_rows(rows_of, rows, &more);
    }
    sqlite3_finalize(slots);
    sqlite3_finalize(rows_of);
    buf_done(&space);
    return err;
}
