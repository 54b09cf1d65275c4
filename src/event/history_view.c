// SPDX-License-Identifier: MIT
#include "event/history_view.h"

#include "event/history_sql.h"
#include "spool/tlv.h"

enum statement { OF_MESSAGE, AFTER, SHEETS, LEAF, NOTES, BLOCK, BLOCK_DATA };

static const char *const STATEMENTS[HISTORY_VIEW_STATEMENTS] = {
    [OF_MESSAGE] = "SELECT b.data, b.sum, b.first FROM part p JOIN block b ON b.first = p.first "
                   "WHERE p.high = ? AND p.low = ? ORDER BY p.first",
    [AFTER] = "SELECT data, sum, first FROM block WHERE first >= coalesce((SELECT first FROM block "
              "WHERE first <= ?1 ORDER BY first DESC LIMIT 1), 0) AND first <= ?2 ORDER BY first",
    [SHEETS] = "SELECT id, first, last, oldest, newest, bits, sum FROM sheet UNION ALL SELECT 0, "
               "min(n.first), max(b.last), min(b.oldest), max(b.newest), 0, 0 FROM notes n JOIN "
               "block b ON b.first = n.first HAVING count(*) > 0 ORDER BY 3 DESC",
    [LEAF] = "SELECT data, sum FROM leaf WHERE at = ?",
    [NOTES] = "SELECT data, sum, first FROM notes ORDER BY first",
    [BLOCK] = "SELECT first, last, oldest, newest FROM block WHERE first <= ? ORDER BY first DESC "
              "LIMIT 1",
    [BLOCK_DATA] = "SELECT data, sum, first FROM block WHERE first = ?",
};

// Most questions need few of them, of each day: they are made when they are.
static int get(struct history_view *v, enum statement which, sqlite3_stmt **out)
{
    const struct history_statement one = {&v->statements[which], STATEMENTS[which]};
    int err = v->statements[which] ? OK : history_sql_prepare(v->db, &one, 1);
    *out = v->statements[which];
    return err;
}

int history_view_open(const char *path, struct history_view *out)
{
    int version = 0, flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    *out = (struct history_view){0};
    int err = history_sql_error(sqlite3_open_v2(path, &out->db, flags, NULL));
    if (!err)
        err = history_sql_run(out->db, "PRAGMA busy_timeout=5000; PRAGMA temp_store=MEMORY");
    if (!err)
        err = history_sql_version(out->db, &version);
    if (!err && version != HISTORY_FILE_VERSION)
        err = E_VERSION;
    if (err)
        history_view_close(out);
    return err;
}

void history_view_close(struct history_view *v)
{
    for (size_t i = 0; i < COUNT_OF(v->statements); i++)
        sqlite3_finalize(v->statements[i]);
    sqlite3_close(v->db);
    *v = (struct history_view){0};
}

struct history_progress history_view_progress(struct history_view *v)
{
    return (struct history_progress){history_sql_number(v->db, "sequence"),
                                     history_sql_number(v->db, "since")};
}

// ---- blocks ------------------------------------------------------------------------------------------------

bool history_block_next(struct bytes *in, struct spool_record *out)
{
    if (in->len < HISTORY_ENTRY_BYTES)
        return false;
    *out = (struct spool_record){
        .sequence = le64_get(in->at),
        .id = {le64_get(in->at + 8), le64_get(in->at + 16)},
        .type = (enum spool_record_type)le32_get(in->at + 24),
        .meta = bytes_mid(*in, HISTORY_ENTRY_BYTES, le32_get(in->at + 28)),
    };
    bool whole = out->meta.len == le32_get(in->at + 28);
    *in = bytes_skip(*in, HISTORY_ENTRY_BYTES + out->meta.len);
    return whole;
}

// ---- records, in order -------------------------------------------------------------------------------------

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

// Of a row (data, sum, first): empty where it is damaged.
static struct bytes column_block(struct history_view *v, sqlite3_stmt *st)
{
    struct bytes data = history_sql_blob(st, 0);
    if (history_sql_sum(sqlite3_column_int64(st, 2), data) == sqlite3_column_int64(st, 1))
        return data;
    v->damaged++;
    return BYTES_NONE;
}

static int show_blocks(struct history_view *v, sqlite3_stmt *st, const struct sieve *sieve,
                       const struct history_rows *rows)
{
    int rc;
    bool more = true;
    while (more && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct bytes in = column_block(v, st);
        struct spool_record record;
        while (more && history_block_next(&in, &record))
            more = !passes(sieve, &record) || rows->row(rows->ctx, &record);
    }
    sqlite3_reset(st);
    return more ? history_sql_error(rc) : OK;
}

int history_view_of(struct history_view *v, struct message_id id, const struct history_rows *rows)
{
    struct sieve sieve = {.id = &id};
    sqlite3_stmt *st;
    int err = get(v, OF_MESSAGE, &st);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)id.high);
    sqlite3_bind_int64(st, 2, (int64_t)id.low);
    return show_blocks(v, st, &sieve, rows);
}

int history_view_after(struct history_view *v, uint64_t after, uint64_t upto,
                       const struct history_rows *rows)
{
    struct sieve sieve = {.after = after, .upto = upto};
    sqlite3_stmt *st;
    int err = get(v, AFTER, &st);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)after);
    sqlite3_bind_int64(st, 2, (int64_t)upto);
    return show_blocks(v, st, &sieve, rows);
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

// ---- the index ---------------------------------------------------------------------------------------------

int history_view_begin(struct history_view *v)
{
    return history_sql_run(v->db, "BEGIN");
}

void history_view_end(struct history_view *v)
{
    (void)!history_sql_run(v->db, "ROLLBACK");
}

static int take_sheet(sqlite3_stmt *st, struct buf *out)
{
    struct history_sheet sheet = {.id = sqlite3_column_int64(st, 0),
                                  .first = (uint64_t)sqlite3_column_int64(st, 1),
                                  .last = (uint64_t)sqlite3_column_int64(st, 2),
                                  .oldest = {sqlite3_column_int64(st, 3)},
                                  .newest = {sqlite3_column_int64(st, 4)},
                                  .bits = (unsigned)sqlite3_column_int(st, 5)};
    if (sheet.id && history_sheet_sum(&sheet) != sqlite3_column_int64(st, 6))
        return E_DAMAGED;
    buf_add(out, bytes_of(&sheet, sizeof sheet));
    return out->err;
}

int history_view_sheets(struct history_view *v, struct buf *out)
{
    sqlite3_stmt *st;
    int rc = SQLITE_DONE, err = get(v, SHEETS, &st);
    while (!err && (rc = sqlite3_step(st)) == SQLITE_ROW)
        err = take_sheet(st, out);
    sqlite3_reset(st);
    return err ? err : history_sql_error(rc);
}

static int find_one(struct history_view *v, const struct history_sheet *sheet, uint64_t word,
                    struct buf *out)
{
    int64_t at = sheet->id << HISTORY_LEAF_BITS_MAX | history_leaf_of(word, sheet->bits);
    sqlite3_stmt *st;
    int err = get(v, LEAF, &st);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, at);
    int rc = sqlite3_step(st);
    err = rc == SQLITE_DONE ? E_DAMAGED : history_sql_error(rc);
    if (rc == SQLITE_ROW) {
        struct bytes leaf = history_sql_blob(st, 0);
        err = history_sql_sum(at, leaf) == sqlite3_column_int64(st, 1)
                  ? history_leaf_find(leaf, word, sheet->first, out)
                  : E_DAMAGED;
    }
    sqlite3_reset(st);
    return err;
}

// Those of `a` that are in `b`; both rise.
static size_t intersect(uint64_t *a, size_t a_count, const uint64_t *b, size_t b_count)
{
    size_t kept = 0, j = 0;
    for (size_t i = 0; i < a_count; i++) {
        while (j < b_count && b[j] < a[i])
            j++;
        if (j < b_count && b[j] == a[i])
            a[kept++] = a[i];
    }
    return kept;
}

static int find_on_sheet(struct history_view *v, const struct history_sheet *sheet,
                         const uint64_t *words, size_t count, struct buf *out)
{
    struct buf next = {0};
    size_t from = out->len;
    int err = OK;
    for (size_t i = 0; i < count && !err && (i == 0 || out->len > from); i++) {
        buf_clear(&next);
        err = find_one(v, sheet, words[i], i ? &next : out);
        if (i && !err)
            buf_truncate(out, from + sizeof(uint64_t) *
                                         intersect((uint64_t *)(void *)(out->at + from),
                                                   (out->len - from) / sizeof(uint64_t),
                                                   (const uint64_t *)(const void *)next.at,
                                                   next.len / sizeof(uint64_t)));
    }
    buf_done(&next);
    if (err)
        buf_truncate(out, from);
    return err;
}

static int read_notes(struct bytes notes, const uint64_t *words, size_t count, struct buf *out)
{
    struct history_note note;
    while (history_notes_next(&notes, &note))
        if (history_note_has(&note, words, count))
            buf_add(out, bytes_of(&note.sequence, sizeof note.sequence));
    return notes.len ? E_DAMAGED : out->err;
}

static int find_on_notes(struct history_view *v, const uint64_t *words, size_t count,
                         struct buf *out)
{
    size_t from = out->len;
    sqlite3_stmt *st;
    int rc = SQLITE_DONE, err = get(v, NOTES, &st);
    while (!err && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct bytes notes = history_sql_blob(st, 0);
        err = history_sql_sum(sqlite3_column_int64(st, 2), notes) == sqlite3_column_int64(st, 1)
                  ? read_notes(notes, words, count, out)
                  : E_DAMAGED;
    }
    sqlite3_reset(st);
    if (err)
        buf_truncate(out, from);
    return err ? err : history_sql_error(rc);
}

int history_view_find(struct history_view *v, const struct history_sheet *sheet,
                      const uint64_t *words, size_t count, struct buf *out)
{
    return sheet->id ? find_on_sheet(v, sheet, words, count, out)
                     : find_on_notes(v, words, count, out);
}

int history_view_block(struct history_view *v, uint64_t sequence, struct history_block *out)
{
    sqlite3_stmt *st;
    int err = get(v, BLOCK, &st);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)sequence);
    int rc = sqlite3_step(st);
    err = history_sql_error(rc);
    if (rc == SQLITE_ROW)
        *out = (struct history_block){(uint64_t)sqlite3_column_int64(st, 0),
                                      (uint64_t)sqlite3_column_int64(st, 1),
                                      {sqlite3_column_int64(st, 2)},
                                      {sqlite3_column_int64(st, 3)}};
    else if (!err)
        err = E_NOT_FOUND;
    sqlite3_reset(st);
    return err;
}

int history_view_load(struct history_view *v, const struct history_block *block, struct buf *out)
{
    sqlite3_stmt *st;
    int err = get(v, BLOCK_DATA, &st);
    buf_clear(out);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)block->first);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        buf_add(out, column_block(v, st));
    sqlite3_reset(st);
    return out->err ? out->err : history_sql_error(rc);
}
