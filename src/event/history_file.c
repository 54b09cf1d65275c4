// SPDX-License-Identifier: MIT
#include "event/history_file.h"

static const char SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT "
    "ROWID;"
    "CREATE TABLE IF NOT EXISTS message(id BLOB PRIMARY KEY, seq INTEGER, accepted_at INTEGER, "
    "account TEXT,"
    " class TEXT, tag TEXT, sender TEXT, message_id TEXT, envid TEXT, size INTEGER, listener TEXT, "
    "client TEXT,"
    " credential TEXT) STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS recipient(id BLOB, n INTEGER, address TEXT COLLATE NOCASE, PRIMARY "
    "KEY(id, n))"
    " STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS event(seq INTEGER PRIMARY KEY, at INTEGER, type INTEGER, id BLOB, "
    "n INTEGER,"
    " state INTEGER, attempts INTEGER, next_at INTEGER, code INTEGER, enhanced TEXT, text TEXT, mx "
    "TEXT, ip TEXT,"
    " tls TEXT, lane TEXT, actor TEXT, reason TEXT, related BLOB) STRICT;"
    "CREATE INDEX IF NOT EXISTS event_id ON event(id);"
    "CREATE INDEX IF NOT EXISTS recipient_address ON recipient(address);"
    "CREATE INDEX IF NOT EXISTS message_sender ON message(sender);"
    "CREATE INDEX IF NOT EXISTS message_message_id ON message(message_id);"
    "CREATE INDEX IF NOT EXISTS message_envid ON message(envid) WHERE envid <> '';"
    "CREATE INDEX IF NOT EXISTS message_tag ON message(tag) WHERE tag <> '';";

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

// ---- values ----------------------------------------------------------------------------------------------

static void bind_text(sqlite3_stmt *st, int at, struct bytes s)
{
    sqlite3_bind_text64(st, at, s.at ? s.at : "", s.len, SQLITE_TRANSIENT, SQLITE_UTF8);
}

static void id_to_blob(struct message_id id, unsigned char out[16])
{
    for (int i = 0; i < 8; i++) {
        out[i] = (unsigned char)(id.high >> (56 - 8 * i));
        out[8 + i] = (unsigned char)(id.low >> (56 - 8 * i));
    }
}

static void bind_id(sqlite3_stmt *st, int at, struct message_id id)
{
    unsigned char blob[16];
    id_to_blob(id, blob);
    sqlite3_bind_blob(st, at, blob, sizeof blob, SQLITE_TRANSIENT);
}

static struct message_id column_id(sqlite3_stmt *st, int at)
{
    struct message_id id = {0};
    const unsigned char *blob = sqlite3_column_blob(st, at);
    if (!blob || sqlite3_column_bytes(st, at) != 16)
        return id;
    for (int i = 0; i < 8; i++) {
        id.high = id.high << 8 | blob[i];
        id.low = id.low << 8 | blob[8 + i];
    }
    return id;
}

static struct bytes column_text(sqlite3_stmt *st, int at)
{
    const unsigned char *text = sqlite3_column_text(st, at);
    return bytes_of(text, text ? (size_t)sqlite3_column_bytes(st, at) : 0);
}

static struct wall column_wall(sqlite3_stmt *st, int at)
{
    return (struct wall){sqlite3_column_int64(st, at)};
}

static int step_once(sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    return of_sqlite(rc);
}

// ---- writing ---------------------------------------------------------------------------------------------

static int check_version(sqlite3 *db)
{
    sqlite3_stmt *st;
    int err = prepare(db, "PRAGMA user_version", &st);
    if (err)
        return err;
    int version = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int(st, 0) : 0;
    sqlite3_finalize(st);
    return version > HISTORY_FILE_VERSION ? E_VERSION : OK;
}

static int prepare_all(struct history_file *f)
{
    int err = prepare(f->db, "INSERT OR IGNORE INTO message VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",
                      &f->add_message);
    if (!err)
        err = prepare(f->db, "INSERT OR IGNORE INTO recipient VALUES(?,?,?)", &f->add_recipient);
    if (!err)
        err = prepare(f->db,
                      "INSERT OR IGNORE INTO event VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                      &f->add_event);
    if (!err)
        err = prepare(f->db, "INSERT OR REPLACE INTO meta VALUES('sequence', ?)", &f->set_sequence);
    return err;
}

int history_file_open(const char *path, struct history_file *out)
{
    *out = (struct history_file){0};
    int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    int err = of_sqlite(sqlite3_open_v2(path, &out->db, flags, NULL));
    if (!err)
        err = check_version(out->db);
    if (!err)
        err = run_sql(
            out->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000;"
                     "PRAGMA wal_autocheckpoint=0; PRAGMA user_version=1");
    if (!err)
        err = run_sql(out->db, SCHEMA);
    if (!err)
        err = prepare_all(out);
    if (err)
        history_file_close(out);
    return err;
}

void history_file_close(struct history_file *f)
{
    sqlite3_finalize(f->add_message);
    sqlite3_finalize(f->add_recipient);
    sqlite3_finalize(f->add_event);
    sqlite3_finalize(f->set_sequence);
    sqlite3_close(f->db);
    *f = (struct history_file){0};
}

int history_file_begin(struct history_file *f)
{
    return run_sql(f->db, "BEGIN");
}

static int add_event_row(struct history_file *f, uint64_t sequence, const struct spool_outcome *o)
{
    sqlite3_stmt *st = f->add_event;
    sqlite3_bind_int64(st, 1, (int64_t)sequence);
    sqlite3_bind_int64(st, 2, o->at.us);
    sqlite3_bind_int(st, 3, (int)o->event);
    bind_id(st, 4, o->id);
    sqlite3_bind_int64(st, 5, o->recipient);
    sqlite3_bind_int(st, 6, (int)o->state);
    sqlite3_bind_int64(st, 7, o->attempts);
    sqlite3_bind_int64(st, 8, o->next_attempt_at.us);
    sqlite3_bind_int(st, 9, o->code);
    const struct bytes texts[] = {o->enhanced, o->text, o->mx,    o->ip,
                                  o->tls,      o->lane, o->actor, o->reason};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        bind_text(st, 10 + (int)i, texts[i]);
    if (o->related.high)
        bind_id(st, 18, o->related);
    else
        sqlite3_bind_null(st, 18);
    return step_once(st);
}

static int add_message(struct history_file *f, uint64_t sequence, const struct envelope *e)
{
    sqlite3_stmt *st = f->add_message;
    bind_id(st, 1, e->id);
    sqlite3_bind_int64(st, 2, (int64_t)sequence);
    sqlite3_bind_int64(st, 3, e->accepted_at.us);
    bind_text(st, 4, e->account_name);
    bind_text(st, 5, bytes_cstr(mail_class_name(e->class)));
    bind_text(st, 6, e->tag);
    bind_text(st, 7, e->reverse_path);
    bind_text(st, 8, e->message_id);
    bind_text(st, 9, e->envid);
    sqlite3_bind_int64(st, 10, (int64_t)(e->header_bytes + e->body_bytes));
    bind_text(st, 11, e->listener);
    bind_text(st, 12, e->client);
    bind_text(st, 13, e->credential);
    int err = step_once(st);
    for (uint32_t i = 0; i < e->recipients_count && !err; i++) {
        bind_id(f->add_recipient, 1, e->id);
        sqlite3_bind_int64(f->add_recipient, 2, e->recipients[i].number);
        bind_text(f->add_recipient, 3, e->recipients[i].address);
        err = step_once(f->add_recipient);
    }
    struct spool_outcome accepted = {
        .id = e->id, .event = SPOOL_EVENT_ACCEPTED, .at = e->accepted_at};
    return err ? err : add_event_row(f, sequence, &accepted);
}

int history_file_add(struct history_file *f, const struct spool_record *record)
{
    switch (record->type) {
    case SPOOL_RECORD_MESSAGE:
        return add_message(f, record->sequence, record->envelope);
    case SPOOL_RECORD_OUTCOME:
        return add_event_row(f, record->sequence, &record->outcome);
    case SPOOL_RECORD_NOTE:
        break;
    }
    return OK;
}

int history_file_commit(struct history_file *f, uint64_t sequence)
{
    sqlite3_bind_int64(f->set_sequence, 1, (int64_t)sequence);
    int err = step_once(f->set_sequence);
    return err ? err : run_sql(f->db, "COMMIT");
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

// ---- reading ---------------------------------------------------------------------------------------------

int history_file_open_reader(const char *path, sqlite3 **out)
{
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    int err = of_sqlite(sqlite3_open_v2(path, out, flags, NULL));
    if (!err)
        sqlite3_busy_timeout(*out, 5000);
    if (err) {
        sqlite3_close(*out);
        *out = NULL;
    }
    return err;
}

uint64_t history_file_sequence(sqlite3 *db)
{
    sqlite3_stmt *st;
    if (prepare(db, "SELECT value FROM meta WHERE key = 'sequence'", &st) != OK)
        return 0;
    uint64_t sequence = sqlite3_step(st) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return sequence;
}

int history_file_find_message(sqlite3 *db, struct message_id id,
                              const struct history_reader *reader)
{
    sqlite3_stmt *st;
    int err = prepare(
        db,
        "SELECT account, class, tag, sender, message_id, envid, listener, client, credential,"
        " size, accepted_at FROM message WHERE id = ?",
        &st);
    if (err)
        return err;
    bind_id(st, 1, id);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        struct history_message m = {.id = id,
                                    .account = column_text(st, 0),
                                    .class = column_text(st, 1),
                                    .tag = column_text(st, 2),
                                    .sender = column_text(st, 3),
                                    .message_id = column_text(st, 4),
                                    .envid = column_text(st, 5),
                                    .listener = column_text(st, 6),
                                    .client = column_text(st, 7),
                                    .credential = column_text(st, 8),
                                    .size = (uint64_t)sqlite3_column_int64(st, 9),
                                    .accepted_at = column_wall(st, 10)};
        reader->on_message(reader->ctx, &m);
    }
    sqlite3_finalize(st);
    return rc == SQLITE_ROW ? OK : rc == SQLITE_DONE ? E_NOT_FOUND : of_sqlite(rc);
}

// An acceptance is one row; it is told once for each recipient.
#define EVENT_COLUMNS                                                                              \
    "SELECT e.seq, e.at, e.type, e.id, coalesce(nullif(e.n, 0), r.n), r.address, e.state, "        \
    "e.attempts, e.next_at,"                                                                       \
    " e.code, e.enhanced, e.text, e.mx, e.ip, e.tls, e.lane, e.actor, e.reason, e.related FROM "   \
    "event e"                                                                                      \
    " LEFT JOIN recipient r ON r.id = e.id AND (r.n = e.n OR e.n = 0) "

static void read_event(sqlite3_stmt *st, struct history_event *e)
{
    *e = (struct history_event){.cursor = (uint64_t)sqlite3_column_int64(st, 0),
                                .at = column_wall(st, 1),
                                .type = (enum spool_event)sqlite3_column_int(st, 2),
                                .id = column_id(st, 3),
                                .recipient = (uint32_t)sqlite3_column_int64(st, 4),
                                .address = column_text(st, 5),
                                .state = (enum recipient_state)sqlite3_column_int(st, 6),
                                .attempts = (uint32_t)sqlite3_column_int64(st, 7),
                                .next_attempt_at = column_wall(st, 8),
                                .code = (uint16_t)sqlite3_column_int(st, 9),
                                .enhanced = column_text(st, 10),
                                .text = column_text(st, 11),
                                .mx = column_text(st, 12),
                                .ip = column_text(st, 13),
                                .tls = column_text(st, 14),
                                .lane = column_text(st, 15),
                                .actor = column_text(st, 16),
                                .reason = column_text(st, 17),
                                .related = column_id(st, 18)};
}

int history_file_events_of(sqlite3 *db, struct message_id id, const struct history_reader *reader)
{
    sqlite3_stmt *st;
    int rc, err = prepare(db, EVENT_COLUMNS "WHERE e.id = ? ORDER BY e.seq, r.n", &st);
    if (err)
        return err;
    bind_id(st, 1, id);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct history_event e;
        read_event(st, &e);
        reader->on_event(reader->ctx, &e);
    }
    sqlite3_finalize(st);
    return of_sqlite(rc);
}

uint64_t history_file_next(sqlite3 *db, uint64_t after)
{
    sqlite3_stmt *st;
    if (prepare(db, "SELECT seq FROM event WHERE seq > ? ORDER BY seq LIMIT 1", &st) != OK)
        return 0;
    sqlite3_bind_int64(st, 1, (int64_t)after);
    uint64_t next = sqlite3_step(st) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return next;
}

int history_file_events_after(sqlite3 *db, uint64_t after, uint64_t upto, size_t max,
                              void (*on_event)(void *ctx, const struct history_event *event),
                              void *ctx, size_t *out_count, uint64_t *out_last)
{
    sqlite3_stmt *st;
    int rc,
        err = prepare(db, EVENT_COLUMNS "WHERE e.seq > ? AND e.seq <= ? ORDER BY e.seq, r.n", &st);
    *out_count = 0;
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)after);
    sqlite3_bind_int64(st, 2, (int64_t)upto);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct history_event e;
        read_event(st, &e);
        if (*out_count >= max && e.cursor != *out_last)
            break; // a page ends between two cursors, never within one
        on_event(ctx, &e);
        *out_last = e.cursor;
        ++*out_count;
    }
    sqlite3_finalize(st);
    return of_sqlite(rc);
}

int history_file_address(sqlite3 *db, struct message_id id, uint32_t number, struct buf *out)
{
    sqlite3_stmt *st;
    int err = prepare(db, "SELECT address FROM recipient WHERE id = ? AND n = ?", &st);
    if (err)
        return err;
    bind_id(st, 1, id);
    sqlite3_bind_int64(st, 2, number);
    err = sqlite3_step(st) == SQLITE_ROW ? OK : E_NOT_FOUND;
    if (!err)
        buf_add(out, column_text(st, 0));
    sqlite3_finalize(st);
    return err;
}

int history_file_find(sqlite3 *db, const struct history_filter *filter, size_t max,
                      void (*found)(void *ctx, struct message_id id), void *ctx, size_t *out_found)
{
    struct buf sql = {0};
    const struct {
        struct bytes value;
        const char *condition;
    } conditions[] = {
        {filter->recipient, " AND id IN (SELECT id FROM recipient WHERE address = ?)"},
        {filter->sender, " AND sender = ? COLLATE NOCASE"},
        {filter->message_id, " AND message_id = ?"},
        {filter->envid, " AND envid = ?"},
        {filter->tag, " AND tag = ?"},
    };
    buf_add_cstr(&sql, "SELECT id FROM message WHERE accepted_at >= ?");
    for (size_t i = 0; i < COUNT_OF(conditions); i++)
        if (conditions[i].value.len)
            buf_add_cstr(&sql, conditions[i].condition);
    buf_add_cstr(&sql, " ORDER BY id DESC LIMIT ?");
    sqlite3_stmt *st;
    int rc, err = prepare(db, buf_cstr(&sql), &st);
    buf_done(&sql);
    *out_found = 0;
    if (err)
        return err;
    int at = 1;
    sqlite3_bind_int64(st, at++, filter->since.us);
    for (size_t i = 0; i < COUNT_OF(conditions); i++)
        if (conditions[i].value.len)
            bind_text(st, at++, conditions[i].value);
    sqlite3_bind_int64(st, at, (int64_t)max);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        found(ctx, column_id(st, 0));
        ++*out_found;
    }
    sqlite3_finalize(st);
    return of_sqlite(rc);
}
