// SPDX-License-Identifier: MIT
//
// How it works: entries are ordered by address first, so that one look finds all that concerns one, whatever the
// scope. The log of changes holds what was added, removed and expired one by one; of an import it holds one line a
// batch, for the entries themselves say who added them and when.
#include "store/suppress_list.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "store/suppress_list_private.h"
#include "sys/safe_folder.h"

#define APPLICATION_ID 0x70687375 // "phsu", in the file's header

// Version 1. Times are microseconds since 1970, UTC. account -1: the service, 0: mail without an account.
static const char SCHEMA[] =
    "CREATE TABLE suppression("
    "  address TEXT NOT NULL,"
    "  account INTEGER NOT NULL,"
    "  stream TEXT NOT NULL,"
    "  reason INTEGER NOT NULL CHECK (reason BETWEEN 1 AND 4),"
    "  since INTEGER NOT NULL,"
    "  expires INTEGER,"
    "  added_at INTEGER NOT NULL,"
    "  actor TEXT NOT NULL,"
    "  note TEXT,"
    "  PRIMARY KEY (address, account, stream, reason)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX suppression_expires ON suppression(expires) WHERE expires IS NOT NULL;"
    "CREATE TABLE change("
    "  sequence INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  at INTEGER NOT NULL,"
    "  actor TEXT NOT NULL,"
    "  op TEXT NOT NULL,"
    "  address TEXT NOT NULL,"
    "  account INTEGER NOT NULL,"
    "  stream TEXT NOT NULL,"
    "  reason INTEGER NOT NULL,"
    "  detail TEXT"
    ") STRICT;"
    "CREATE INDEX change_address ON change(address);"
    "CREATE TABLE number(name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT "
    "ROWID;";

#define COLUMNS "address, account, stream, reason, since, expires, added_at, actor, note"

static const char *const SQL[SUPPRESS_STATEMENTS] = {
    [SUPPRESS_BEGIN] = "BEGIN IMMEDIATE",
    [SUPPRESS_COMMIT] = "COMMIT",
    [SUPPRESS_ROLLBACK] = "ROLLBACK",
    [SUPPRESS_INSERT] = "INSERT INTO suppression (" COLUMNS ") VALUES (?,?,?,?,?,?,?,?,?) "
                        "ON CONFLICT DO NOTHING",
    [SUPPRESS_EXTEND] =
        "UPDATE suppression SET expires = ?5 WHERE address = ?1 AND account = ?2 AND stream = ?3 "
        "AND reason = ?4 AND expires IS NOT NULL AND (?5 IS NULL OR expires < ?5)",
    [SUPPRESS_SELECT_ADDRESS] = "SELECT " COLUMNS " FROM suppression WHERE address = ? "
                                "ORDER BY account, stream, reason",
    [SUPPRESS_SELECT_SCOPE] =
        "SELECT 1 FROM suppression WHERE address = ? AND account = ? AND stream = ? LIMIT 1",
    [SUPPRESS_DELETE] = "DELETE FROM suppression WHERE address = ? AND account = ? AND stream = ? "
                        "AND reason = ?",
    [SUPPRESS_SELECT_EXPIRED] =
        "SELECT " COLUMNS
        " FROM suppression WHERE expires IS NOT NULL AND expires <= ? ORDER BY expires LIMIT 1",
    [SUPPRESS_SELECT_REMOVAL] =
        "SELECT 1 FROM change WHERE address = ? AND op = 'remove' AND account = ? AND stream = ? "
        "AND reason = ? AND at >= ? LIMIT 1",
    [SUPPRESS_SELECT_PAGE] =
        "SELECT " COLUMNS " FROM suppression WHERE (address, account, stream, reason) > (?,?,?,?) "
        "ORDER BY address, account, stream, reason LIMIT ?",
    [SUPPRESS_SELECT_KEYS] = "SELECT address, account, stream, reason FROM suppression "
                             "WHERE (address, account, stream, reason) > (?,?,?,?) "
                             "ORDER BY address, account, stream, reason LIMIT ?",
    [SUPPRESS_INSERT_CHANGE] =
        "INSERT INTO change (at, actor, op, address, account, stream, reason, detail) "
        "VALUES (?,?,?,?,?,?,?,?)",
    [SUPPRESS_SELECT_CHANGES] =
        "SELECT at, actor, op, account, stream, reason, detail FROM change WHERE address = ? "
        "ORDER BY sequence DESC LIMIT ?",
    [SUPPRESS_SELECT_LAST_CHANGE] = "SELECT at FROM change ORDER BY sequence DESC LIMIT 1",
    [SUPPRESS_GET_NUMBER] = "SELECT value FROM number WHERE name = ?",
    [SUPPRESS_SET_NUMBER] = "INSERT OR REPLACE INTO number (name, value) VALUES (?, ?)",
};

// ---- statements ------------------------------------------------------------------------------------------

static sqlite3_stmt *bind(struct suppress_list *l, enum suppress_statement which, int *err,
                          const char *types, va_list args)
{
    sqlite3_stmt **stmt = &l->statements[which];
    int code = SQLITE_OK;
    if (!*stmt)
        code = sqlite3_prepare_v3(l->db, SQL[which], -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL);
    if (code == SQLITE_OK)
        code = store_db_bind(*stmt, types, args);
    CHECK(code != SQLITE_RANGE); // our own SQL is wrong
    *err = store_db_err(code);
    return *err ? NULL : *stmt;
}

sqlite3_stmt *suppress_list_bind(struct suppress_list *l, enum suppress_statement which, int *err,
                                 const char *types, ...)
{
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = bind(l, which, err, types, args);
    va_end(args);
    return stmt;
}

int suppress_list_run(struct suppress_list *l, enum suppress_statement which, const char *types,
                      ...)
{
    int err;
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = bind(l, which, &err, types, args);
    va_end(args);
    while (!err && (err = store_db_step(stmt)) == 1)
        err = OK;
    sqlite3_reset(stmt);
    return err;
}

struct suppress_row suppress_row_of(sqlite3_stmt *stmt)
{
    return (struct suppress_row){
        .address = store_db_text(stmt, 0),
        .account = sqlite3_column_int64(stmt, 1),
        .stream = store_db_text(stmt, 2),
        .reason = (enum suppress_reason)sqlite3_column_int(stmt, 3),
        .since = sqlite3_column_int64(stmt, 4),
        .expires = sqlite3_column_int64(stmt, 5),
        .added = sqlite3_column_int64(stmt, 6),
        .actor = store_db_text(stmt, 7),
        .note = store_db_text(stmt, 8),
    };
}

// ---- opening ---------------------------------------------------------------------------------------------

static int set_up(struct suppress_list *l)
{
    static const char PRAGMAS[] =
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;"
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA cache_size = -65536;"
        "PRAGMA wal_autocheckpoint = 16384;"; // pages: an import writes many of them again and again
    char sql[sizeof SCHEMA + 160];
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_exec(l->db, PRAGMAS, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2(l->db, "PRAGMA user_version", -1, &stmt, NULL);
    if (code != SQLITE_OK)
        return store_db_err(code);
    int err = store_db_step(stmt);
    int version = err == 1 ? sqlite3_column_int(stmt, 0) : 0;
    sqlite3_finalize(stmt);
    if (err < 0)
        return err;
    if (version)
        return version > SUPPRESS_VERSION ? E_VERSION : OK;
    snprintf(sql, sizeof sql,
             "BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT;",
             SCHEMA, APPLICATION_ID, SUPPRESS_VERSION);
    return store_db_err(sqlite3_exec(l->db, sql, NULL, NULL, NULL));
}

static int open_db(struct suppress_list *l, struct bytes folder)
{
    char root[PATH_MAX], path[PATH_MAX];
    snprintf(root, sizeof root, "%.*s", BYTES_FMT(folder));
    if (snprintf(path, sizeof path, "%s/suppressions.db", root) >= (int)sizeof path)
        return E_LIMIT;
    int at = safe_folder_open(root);
    if (at < 0)
        return safe_folder_err(errno);
    int fd = store_db_open_file(at, "suppressions.db");
    close(at);
    if (fd < 0)
        return fd;
    close(fd);
    int code = sqlite3_open_v2(
        path, &l->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    return code == SQLITE_OK ? set_up(l) : store_db_err(code);
}

int suppress_list_open(struct bytes folder, struct suppress_table *table,
                       struct suppress_list **out, struct buf *error)
{
    struct suppress_list *l = mem_new(sizeof *l);
    l->table = table;
    l->load_account = INT64_MIN;
    *out = NULL;
    int err = open_db(l, folder);
    if (!err) {
        *out = l;
        return OK;
    }
    if (err == E_VERSION)
        buf_printf(error,
                   "%.*s/suppressions.db was made by a newer release of posthaste; this one knows "
                   "version %d",
                   BYTES_FMT(folder), SUPPRESS_VERSION);
    else
        buf_printf(error, "cannot open %.*s/suppressions.db: %s", BYTES_FMT(folder),
                   err == E_DAMAGED ? "it is damaged; restore a backup of it" : err_text(err));
    suppress_list_close(l);
    return err;
}

void suppress_list_close(struct suppress_list *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < SUPPRESS_STATEMENTS; i++)
        sqlite3_finalize(l->statements[i]);
    CHECK(sqlite3_close(l->db) == SQLITE_OK); // else a statement was not finished
    buf_done(&l->leaving);
    buf_done(&l->load_address);
    buf_done(&l->load_stream);
    free(l);
}

// ---- transactions ----------------------------------------------------------------------------------------

int suppress_list_begin(struct suppress_list *l)
{
    l->begun = l->counts;
    buf_clear(&l->leaving);
    return suppress_list_run(l, SUPPRESS_BEGIN, "");
}

void suppress_list_rollback(struct suppress_list *l)
{
    l->counts = l->begun;
    buf_clear(&l->leaving);
    if (!sqlite3_get_autocommit(l->db))
        (void)!suppress_list_run(l, SUPPRESS_ROLLBACK, "");
}

// On a full disk the log of the database can't grow; written from its beginning again it need not. Where it can't be, the
// next commit fails as this one did.
static void use_log_again(struct suppress_list *l)
{
    (void)sqlite3_wal_checkpoint_v2(l->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
}

int suppress_list_commit(struct suppress_list *l)
{
    int err = l->leaving.err ? l->leaving.err : suppress_list_run(l, SUPPRESS_COMMIT, "");
    if (err) {
        suppress_list_rollback(l);
        if (err == E_FULL)
            use_log_again(l);
        return err;
    }
    for (size_t i = 0; i + sizeof(uint64_t) <= l->leaving.len; i += sizeof(uint64_t)) {
        uint64_t hash;
        memcpy(&hash, l->leaving.at + i, sizeof hash);
        if (hash)
            suppress_table_remove(l->table, hash);
    }
    buf_clear(&l->leaving);
    return OK;
}

struct suppress_list_counts suppress_list_counts(const struct suppress_list *l)
{
    return l->counts;
}

// ---- changes ---------------------------------------------------------------------------------------------

int suppress_list_log(struct suppress_list *l, struct wall now, struct bytes actor, const char *op,
                      const struct suppress_row *row, struct bytes detail)
{
    return suppress_list_run(l, SUPPRESS_INSERT_CHANGE, "itttitiT", now.us, actor, bytes_cstr(op),
                             row->address, row->account, row->stream, (int64_t)row->reason, detail);
}

// What comes from outside may have any bytes.
static struct bytes clean_note(struct bytes note, struct buf *out)
{
    note = bytes_first(note, SUPPRESS_NOTE_MAX);
    if (bytes_is_utf8(note) && !bytes_has_control(note, NULL))
        return note;
    buf_add_escaped(out, note, SUPPRESS_NOTE_MAX);
    return buf_bytes(out);
}

static int insert(struct suppress_list *l, const struct suppress_row *row, bool *out_changed)
{
    int err = suppress_list_run(l, SUPPRESS_INSERT, "titiiIitT", row->address, row->account,
                                row->stream, (int64_t)row->reason, row->since, row->expires,
                                row->added, row->actor, row->note);
    *out_changed = !err && sqlite3_changes(l->db) > 0;
    if (err || *out_changed)
        return err;
    err = suppress_list_run(l, SUPPRESS_EXTEND, "titiI", row->address, row->account, row->stream,
                            (int64_t)row->reason, row->expires);
    *out_changed = !err && sqlite3_changes(l->db) > 0;
    return err;
}

// Before it is committed, as whoever then finds it in vain only asks in vain.
static void enter_table(struct suppress_list *l, const struct suppress_row *row)
{
    if (!l->table)
        return;
    uint64_t hash = suppress_key_hash(l->table, row->account, row->stream, row->address), other;
    suppress_table_add(l->table, hash);
    for (size_t i = 0; i + sizeof other <= l->leaving.len; i += sizeof other) {
        memcpy(&other, l->leaving.at + i, sizeof other);
        if (other == hash) // removed and added again in one transaction
            memset(l->leaving.at + i, 0, sizeof other);
    }
}

static int put(struct suppress_list *l, const struct suppress_entry *entry, struct bytes actor,
               struct wall now, bool log, bool *out_changed)
{
    struct suppress_address address;
    *out_changed = false;
    int err = suppress_address_parse(entry->address, &address);
    if (err)
        return E_SYNTAX;
    struct buf note = {0};
    struct suppress_row row = {.address = suppress_address_text(&address),
                               .account = suppress_account_of(entry),
                               .stream = suppress_stream_of(entry),
                               .reason = entry->reason,
                               .since = entry->since.us ? entry->since.us : now.us,
                               .expires = entry->expires.us,
                               .added = now.us,
                               .actor = actor,
                               .note = clean_note(entry->note, &note)};
    enter_table(l, &row);
    err = insert(l, &row, out_changed);
    if (!err && *out_changed && log)
        err = suppress_list_log(l, now, actor, "add", &row, row.note);
    buf_done(&note);
    l->counts.added += *out_changed;
    return err;
}

int suppress_list_add(struct suppress_list *l, const struct suppress_entry *entry,
                      struct bytes actor, struct wall now, bool *out_changed)
{
    return put(l, entry, actor, now, true, out_changed);
}

int suppress_list_import(struct suppress_list *l, const struct suppress_entry *entry,
                         struct bytes actor, struct wall now, bool *out_changed)
{
    return put(l, entry, actor, now, false, out_changed);
}

// The last of its scope leaves the table, too.
static int leave_table(struct suppress_list *l, const struct suppress_row *row)
{
    int err;
    if (!l->table)
        return OK;
    sqlite3_stmt *stmt = suppress_list_bind(l, SUPPRESS_SELECT_SCOPE, &err, "tit", row->address,
                                            row->account, row->stream);
    if (!err)
        err = store_db_step(stmt);
    sqlite3_reset(stmt);
    if (err)
        return err < 0 ? err : OK;
    uint64_t hash = suppress_key_hash(l->table, row->account, row->stream, row->address);
    buf_add(&l->leaving, bytes_of(&hash, sizeof hash));
    return OK;
}

static int remove_row(struct suppress_list *l, const struct suppress_row *row, struct bytes actor,
                      const char *op, struct wall now, uint32_t *out_removed)
{
    int err = suppress_list_run(l, SUPPRESS_DELETE, "titi", row->address, row->account, row->stream,
                                (int64_t)row->reason);
    if (err || sqlite3_changes(l->db) == 0)
        return err;
    (*out_removed)++;
    err = suppress_list_log(l, now, actor, op, row, BYTES_NONE);
    return err ? err : leave_table(l, row);
}

int suppress_list_remove(struct suppress_list *l, const struct suppress_entry *entry,
                         struct bytes actor, struct wall now, uint32_t *out_removed)
{
    struct suppress_address address;
    *out_removed = 0;
    int err = suppress_address_parse(entry->address, &address);
    if (err)
        return E_SYNTAX;
    struct suppress_row row = {.address = suppress_address_text(&address),
                               .account = suppress_account_of(entry),
                               .stream = suppress_stream_of(entry)};
    for (int reason = 1; reason < SUPPRESS_REASONS && !err; reason++) {
        row.reason = (enum suppress_reason)reason;
        if (!entry->reason || entry->reason == row.reason)
            err = remove_row(l, &row, actor, "remove", now, out_removed);
    }
    l->counts.removed += *out_removed;
    return err;
}

static int expire_one(struct suppress_list *l, struct wall now, uint32_t *out_removed)
{
    int err;
    struct suppress_address address;
    char stream[SUPPRESS_STREAM_MAX];
    sqlite3_stmt *stmt = suppress_list_bind(l, SUPPRESS_SELECT_EXPIRED, &err, "i", now.us);
    if (!err)
        err = store_db_step(stmt);
    if (err != 1) {
        sqlite3_reset(stmt);
        return err ? err : E_NOT_FOUND;
    }
    struct suppress_row row = suppress_row_of(stmt);
    address.len = row.address.len < sizeof address.text ? row.address.len : sizeof address.text;
    memcpy(address.text, row.address.at, address.len);
    row.address = suppress_address_text(&address);
    row.stream = bytes_first(row.stream, sizeof stream);
    if (row.stream.len)
        memcpy(stream, row.stream.at, row.stream.len);
    row.stream.at = stream;
    sqlite3_reset(stmt);
    return remove_row(l, &row, BYTES("posthaste"), "expire", now, out_removed);
}

int suppress_list_expire(struct suppress_list *l, struct wall now, uint32_t max,
                         uint32_t *out_removed)
{
    int err = OK;
    *out_removed = 0;
    for (uint32_t i = 0; i < max && !err; i++)
        err = expire_one(l, now, out_removed);
    l->counts.expired += *out_removed;
    return err == E_NOT_FOUND ? OK : err;
}

int suppress_list_last_change(struct suppress_list *l, struct wall *out)
{
    int err;
    sqlite3_stmt *stmt = suppress_list_bind(l, SUPPRESS_SELECT_LAST_CHANGE, &err, "");
    if (!err)
        err = store_db_step(stmt);
    *out = err == 1 ? (struct wall){sqlite3_column_int64(stmt, 0)} : WALL_NEVER;
    sqlite3_reset(stmt);
    return err == 1 ? OK : err;
}

// ---- questions -------------------------------------------------------------------------------------------

int suppress_list_was_removed(struct suppress_list *l, const struct suppress_entry *entry,
                              struct wall since, bool *out)
{
    struct suppress_address address;
    *out = false;
    int err = suppress_address_parse(entry->address, &address);
    if (err)
        return E_SYNTAX;
    sqlite3_stmt *stmt = suppress_list_bind(
        l, SUPPRESS_SELECT_REMOVAL, &err, "titii", suppress_address_text(&address),
        suppress_account_of(entry), suppress_stream_of(entry), (int64_t)entry->reason, since.us);
    if (!err)
        err = store_db_step(stmt);
    sqlite3_reset(stmt);
    *out = err == 1;
    return err < 0 ? err : OK;
}

static bool concerns(const struct suppress_row *row, uint32_t account, struct bytes stream,
                     struct wall now)
{
    if (row->expires && row->expires <= now.us)
        return false;
    if (row->account == SUPPRESS_NOBODY)
        return true;
    return row->account == account && (!row->stream.len || bytes_eq(row->stream, stream));
}

int suppress_list_find(struct suppress_list *l, uint32_t account, struct bytes stream,
                       struct bytes address, struct wall now, struct suppress_hit *out)
{
    struct suppress_address canonical;
    *out = (struct suppress_hit){0};
    int err;
    if (suppress_address_parse(address, &canonical))
        return OK; // never on the list
    sqlite3_stmt *stmt = suppress_list_bind(l, SUPPRESS_SELECT_ADDRESS, &err, "t",
                                            suppress_address_text(&canonical));
    while (!err && !out->found && (err = store_db_step(stmt)) == 1) {
        struct suppress_row row = suppress_row_of(stmt);
        err = OK;
        if (concerns(&row, account, stream, now))
            *out = (struct suppress_hit){
                true, suppress_scope_of(&row), row.reason, {row.since}, {row.expires}};
    }
    sqlite3_reset(stmt);
    return err;
}

// ---- the journal -----------------------------------------------------------------------------------------

int suppress_list_get_sequence(struct suppress_list *l, uint64_t *out)
{
    int err;
    sqlite3_stmt *stmt = suppress_list_bind(l, SUPPRESS_GET_NUMBER, &err, "t", BYTES("sequence"));
    if (!err)
        err = store_db_step(stmt);
    *out = err == 1 ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_reset(stmt);
    return err == 1 ? OK : err ? err : E_NOT_FOUND;
}

int suppress_list_set_sequence(struct suppress_list *l, uint64_t sequence)
{
    return suppress_list_run(l, SUPPRESS_SET_NUMBER, "ti", BYTES("sequence"), (int64_t)sequence);
}

// ---- the table -------------------------------------------------------------------------------------------

int suppress_list_load(struct suppress_list *l, uint32_t max, bool *out_all)
{
    int err;
    uint32_t count = 0;
    sqlite3_stmt *stmt = suppress_list_bind(
        l, SUPPRESS_SELECT_KEYS, &err, "titii", buf_bytes(&l->load_address), l->load_account,
        buf_bytes(&l->load_stream), l->load_reason, (int64_t)max);
    while (!err && (err = store_db_step(stmt)) == 1) {
        struct bytes address = store_db_text(stmt, 0), stream = store_db_text(stmt, 2);
        int64_t account = sqlite3_column_int64(stmt, 1);
        err = OK;
        suppress_table_add(l->table, suppress_key_hash(l->table, account, stream, address));
        if (++count < max)
            continue;
        buf_clear(&l->load_address);
        buf_add(&l->load_address, address);
        buf_clear(&l->load_stream);
        buf_add(&l->load_stream, stream);
        l->load_account = account;
        l->load_reason = sqlite3_column_int64(stmt, 3);
    }
    sqlite3_reset(stmt);
    *out_all = !err && count < max;
    return err;
}

// ---- copies ----------------------------------------------------------------------------------------------

struct suppress_copy {
    sqlite3 *to;
    sqlite3_backup *backup;
};

int suppress_copy_begin(struct suppress_list *l, const char *path, struct suppress_copy **out)
{
    *out = NULL;
    if (access(path, F_OK) == 0)
        return E_EXISTS;
    struct suppress_copy *c = mem_new(sizeof *c);
    int code = sqlite3_open_v2(path, &c->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (code == SQLITE_OK) {
        c->backup = sqlite3_backup_init(c->to, "main", l->db, "main");
        code = c->backup ? SQLITE_OK : sqlite3_errcode(c->to);
    }
    if (code == SQLITE_OK) {
        *out = c;
        return OK;
    }
    suppress_copy_end(c);
    return store_db_err(code);
}

int suppress_copy_step(struct suppress_copy *c, int pages)
{
    int code = sqlite3_backup_step(c->backup, pages);
    if (code == SQLITE_DONE)
        return OK;
    return code == SQLITE_OK ? E_AGAIN : store_db_err(code);
}

void suppress_copy_end(struct suppress_copy *c)
{
    if (!c)
        return;
    sqlite3_backup_finish(c->backup);
    sqlite3_close(c->to);
    free(c);
}
