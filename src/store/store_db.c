// SPDX-License-Identifier: MIT
#include "store/store_db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "sys/safe_folder.h"

#define APPLICATION_ID 0x70686173 // "phas", in the file's header

// What makes version 1 of nothing. Times are microseconds since 1970, UTC. verified_at NULL: not verified.
static const char version_1[] =
    "CREATE TABLE account("
    "  number INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  name TEXT NOT NULL UNIQUE,"
    "  class TEXT NOT NULL CHECK (class IN ('transactional', 'personal', 'bulk')),"
    "  any_sender INTEGER NOT NULL CHECK (any_sender IN (0, 1)),"
    "  state TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'closed')),"
    "  created_at INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE credential("
    "  login TEXT NOT NULL PRIMARY KEY,"
    "  account INTEGER NOT NULL REFERENCES account(number),"
    "  verifier TEXT NOT NULL,"
    "  scram TEXT,"
    "  created_at INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX credential_account ON credential(account);"
    "CREATE TABLE domain("
    "  account INTEGER NOT NULL REFERENCES account(number),"
    "  name TEXT NOT NULL,"
    "  token TEXT NOT NULL,"
    "  verified_at INTEGER,"
    "  trusted INTEGER NOT NULL CHECK (trusted IN (0, 1)),"
    "  created_at INTEGER NOT NULL,"
    "  PRIMARY KEY (account, name)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX domain_name ON domain(name);"
    "CREATE TABLE audit("
    "  sequence INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  at INTEGER NOT NULL,"
    "  actor TEXT NOT NULL,"
    "  op TEXT NOT NULL,"
    "  args TEXT NOT NULL"
    ") STRICT;";

// Version 2 of version 1. account_options: what stands in store_options.h; no row: the default.
// domain.return_path_at: when the domain's return path was last seen in the DNS; NULL: it is not.
// dkim_key: account NULL is the service's own; sealed is the private key, encrypted (daemon/key_seal.h), in hex.
static const char version_2[] = "ALTER TABLE domain ADD COLUMN return_path_at INTEGER;"
                                "CREATE TABLE account_options("
                                "  account INTEGER NOT NULL REFERENCES account(number),"
                                "  name TEXT NOT NULL,"
                                "  value TEXT NOT NULL,"
                                "  PRIMARY KEY (account, name)"
                                ") STRICT, WITHOUT ROWID;"
                                "CREATE TABLE dkim_key("
                                "  number INTEGER PRIMARY KEY AUTOINCREMENT,"
                                "  account INTEGER REFERENCES account(number),"
                                "  domain TEXT NOT NULL,"
                                "  selector TEXT NOT NULL,"
                                "  algorithm TEXT NOT NULL CHECK (algorithm IN ('rsa', 'ed25519')),"
                                "  state TEXT NOT NULL CHECK (state IN ('new', 'active', 'old')),"
                                "  record TEXT NOT NULL,"
                                "  sealed TEXT NOT NULL,"
                                "  created_at INTEGER NOT NULL,"
                                "  active_at INTEGER,"
                                "  rotate_at INTEGER,"
                                "  old_at INTEGER,"
                                "  UNIQUE (domain, selector)"
                                ") STRICT;"
                                "CREATE INDEX dkim_key_account ON dkim_key(account);";

// Version 3 has no other tables, but credentials without a password (store_proof.h), which version 2 does not know.
static const char version_3[] = "";

// Version 4: who is behind an actor, and what became of it. Rows from before were written with the change itself.
// outcome NULL: not yet, or never known. What has one stays as it is.
static const char version_4[] =
    "ALTER TABLE audit ADD COLUMN via TEXT;"
    "ALTER TABLE audit ADD COLUMN uid INTEGER;"
    "ALTER TABLE audit ADD COLUMN gid INTEGER;"
    "ALTER TABLE audit ADD COLUMN pid INTEGER;"
    "ALTER TABLE audit ADD COLUMN outcome TEXT;"
    "ALTER TABLE audit ADD COLUMN detail TEXT;"
    "ALTER TABLE audit ADD COLUMN ended_at INTEGER;"
    "UPDATE audit SET outcome = 'done', ended_at = at;"
    "CREATE INDEX audit_at ON audit(at);"
    "CREATE TRIGGER audit_stays BEFORE UPDATE ON audit WHEN old.outcome IS NOT NULL "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;";

// steps[i] leads from version i to i + 1, in one transaction.
static const char *const steps[] = {version_1, version_2, version_3, version_4};
_Static_assert(COUNT_OF(steps) == STORE_VERSION, "a step for each version");

int store_db_err(int sqlite_code)
{
    switch (sqlite_code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return E_FULL;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return E_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: // a table is missing or not ours
        return E_DAMAGED;
    case SQLITE_CONSTRAINT:
        return E_EXISTS;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
    case SQLITE_AUTH:
        return E_DENIED;
    default:
        return E_IO;
    }
}

void store_db_lock(struct store *store)
{
    pthread_mutex_lock(&store->mutex);
}

void store_db_unlock(struct store *store)
{
    pthread_mutex_unlock(&store->mutex);
}

// ---- statements --------------------------------------------------------------------------------------

static int bind_text(sqlite3_stmt *stmt, int index, struct bytes text)
{
    return sqlite3_bind_text64(stmt, index, text.at ? text.at : "", text.len, SQLITE_TRANSIENT,
                               SQLITE_UTF8);
}

int store_db_bind(sqlite3_stmt *stmt, const char *types, va_list args)
{
    int code = SQLITE_OK;
    for (int i = 1; types[i - 1] && code == SQLITE_OK; i++) {
        bool text = types[i - 1] == 't' || types[i - 1] == 'T';
        struct bytes t = text ? va_arg(args, struct bytes) : BYTES_NONE;
        int64_t n = text ? 0 : va_arg(args, int64_t);
        if (types[i - 1] == 'T' ? !t.len : types[i - 1] == 'I' && !n)
            code = sqlite3_bind_null(stmt, i);
        else
            code = text ? bind_text(stmt, i, t) : sqlite3_bind_int64(stmt, i, n);
    }
    return code;
}

static int start(struct store *store, sqlite3_stmt **out, const char *sql, const char *types,
                 va_list args)
{
    *out = NULL;
    int code = sqlite3_prepare_v2(store->db, sql, -1, out, NULL);
    if (code == SQLITE_OK)
        code = store_db_bind(*out, types, args);
    CHECK(code != SQLITE_RANGE); // our own SQL is wrong
    if (code != SQLITE_OK) {
        sqlite3_finalize(*out);
        *out = NULL;
    }
    return store_db_err(code);
}

int store_db_start(struct store *store, sqlite3_stmt **out, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    int err = start(store, out, sql, types, args);
    va_end(args);
    return err;
}

int store_db_step(sqlite3_stmt *stmt)
{
    int code = sqlite3_step(stmt);
    return code == SQLITE_ROW ? 1 : store_db_err(code);
}

int store_db_run(struct store *store, const char *sql, const char *types, ...)
{
    sqlite3_stmt *stmt;
    va_list args;
    va_start(args, types);
    int err = start(store, &stmt, sql, types, args);
    va_end(args);
    while (!err && (err = store_db_step(stmt)) == 1)
        err = 0;
    sqlite3_finalize(stmt);
    return err;
}

struct bytes store_db_text(sqlite3_stmt *stmt, int column)
{
    const char *at = (const char *)sqlite3_column_text(stmt, column);
    return bytes_of(at, at ? (size_t)sqlite3_column_bytes(stmt, column) : 0);
}

// ---- opening -----------------------------------------------------------------------------------------

int store_db_open_file(int folder, const char *name)
{
    struct stat st;
    int fd = openat(folder, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_from_errno(errno);
    if (geteuid() == 0 &&
        (fstat(folder, &st) != 0 || (st.st_uid != 0 && fchown(fd, st.st_uid, st.st_gid) != 0))) {
        int err = err_from_errno(errno);
        close(fd);
        return err;
    }
    return fd;
}

static int take_lock(struct store *store, int folder)
{
    store->lock_fd = store_db_open_file(folder, "lock");
    if (store->lock_fd < 0)
        return store->lock_fd;
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? E_BUSY : err_from_errno(errno);
    return 0;
}

static int read_version(struct store *store, int64_t *out)
{
    sqlite3_stmt *stmt;
    int err = store_db_start(store, &stmt, "PRAGMA user_version", "");
    if (err)
        return err;
    err = store_db_step(stmt);
    *out = err == 1 ? sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_finalize(stmt);
    return err < 0 ? err : 0;
}

// Each step is whole or not at all, so a kill in between leaves an older store, which the next start takes further.
static int upgrade(struct store *store, int64_t version)
{
    int err = 0;
    for (; version < STORE_VERSION && !err; version++) {
        struct buf sql = {0};
        buf_printf(&sql,
                   "BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; "
                   "COMMIT;",
                   steps[version], APPLICATION_ID, (int)version + 1);
        err = store_db_err(sqlite3_exec(store->db, buf_cstr(&sql), NULL, NULL, NULL));
        buf_done(&sql);
    }
    return err;
}

static int open_db(struct store *store, const char *path, int folder)
{
    int fd = store_db_open_file(folder, "accounts.db");
    if (fd < 0)
        return fd;
    close(fd);
    int code =
        sqlite3_open_v2(path, &store->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(store->db,
                            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                            "PRAGMA temp_store = MEMORY;"
                            "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;"
                            "PRAGMA cell_size_check = ON;",
                            NULL, NULL, NULL);
    if (code != SQLITE_OK)
        return store_db_err(code);
    int64_t version;
    int err = read_version(store, &version);
    if (err)
        return err;
    if (version < 0 || version > STORE_VERSION)
        return E_VERSION;
    return upgrade(store, version);
}

void store_explain(struct bytes folder, int err, struct buf *error)
{
    if (err == E_BUSY)
        buf_printf(error, "the store in %.*s is in use by another process", BYTES_FMT(folder));
    else if (err == E_VERSION)
        buf_printf(error,
                   "the store %.*s/accounts.db was made by a newer release of posthaste; this one "
                   "knows version %d",
                   BYTES_FMT(folder), STORE_VERSION);
    else if (err == E_DAMAGED)
        buf_printf(error, "the store %.*s/accounts.db is damaged; restore a backup",
                   BYTES_FMT(folder));
    else
        buf_printf(error, "cannot open the store in %.*s: %s", BYTES_FMT(folder), err_text(err));
}

static int open_in(struct store *store, const char *root, int folder, struct buf *error)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/accounts.db", root) >= (int)sizeof path)
        return E_LIMIT;
    if (faccessat(folder, STORE_RESTORE_MARK, F_OK, 0) == 0) {
        buf_printf(error, "a restore into %s was cut short: run `posthaste restore` again", root);
        return E_DAMAGED;
    }
    int err = take_lock(store, folder);
    return err ? err : open_db(store, path, folder);
}

int store_db_open(struct bytes folder, struct store **out, struct buf *error)
{
    char root[PATH_MAX];
    struct store *store = mem_new(sizeof *store);
    store->lock_fd = -1;
    pthread_mutex_init(&store->mutex, NULL);
    *out = NULL;
    snprintf(root, sizeof root, "%.*s", BYTES_FMT(folder));
    int fd = safe_folder_open(root), e = fd < 0 ? errno : 0;
    int err = e ? safe_folder_err(e) : open_in(store, root, fd, error);
    if (e)
        buf_printf(error, "cannot open the store in %s: %s", root, safe_folder_why(e));
    else
        close(fd);
    if (err) {
        if (!error->len)
            store_explain(folder, err, error);
        store_db_close(store);
        return err;
    }
    *out = store;
    return 0;
}

void store_db_close(struct store *store)
{
    if (!store)
        return;
    CHECK(sqlite3_close(store->db) == SQLITE_OK); // else a statement was not finished
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}
