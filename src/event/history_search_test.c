// SPDX-License-Identifier: MIT
//
// Searches against a model: thousands of random records in files of three days, random questions in pages of any size;
// then again with each part of the index damaged, which must change no answer.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/test_base.h"
#include "event/history_private.h"
#include "event/history_sql.h"
#include "spool/envelope_codec.h"
#include "spool/outcome_codec.h"
#include "spool/tlv.h"

#define MESSAGES 400
#define RECORDS_MAX (3 * MESSAGES)
#define DAY_US ((int64_t)86400 * 1000000)
#define FIRST_DAY ((int64_t)20000 * DAY_US)
#define SPAN_US (5 * DAY_US / 2) // of three days

// ---- the model -----------------------------------------------------------------------------------------------

struct record {
    uint64_t sequence;
    uint32_t message, recipient; // recipient 0: an acceptance, told once for each of three
    struct wall at;
    enum spool_event type;
};

static struct record records[RECORDS_MAX];
static size_t records_count;
static uint32_t seed;

static uint32_t random_below(uint32_t n)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % n;
}

static struct wall time_of(uint32_t message)
{
    return (struct wall){FIRST_DAY + (int64_t)message * (SPAN_US / MESSAGES)};
}

static struct message_id id_of(uint32_t message)
{
    return message_id_make(time_of(message), 1, 1, message);
}

static struct bytes text(struct arena *a, const char *before, uint32_t n, const char *after)
{
    return arena_printf(a, "%s%u%s", before, n, after);
}

static struct bytes address_of(struct arena *a, uint32_t message, uint32_t recipient)
{
    uint32_t n = (message * 7 + recipient) % 40;
    return arena_printf(a, "User%u@d%u.example.net", n, n % 5);
}

static struct stored_message *message_of(uint32_t n)
{
    struct stored_message *m = stored_message_new();
    struct envelope *e = m->envelope;
    struct arena *a = &m->arena;
    e->id = id_of(n);
    e->accepted_at = time_of(n);
    e->reverse_path = n % 4 ? text(a, "Sender", n % 4, "@example.org") : BYTES_NONE;
    e->message_id = text(a, "<Id.", n, "@example.org>");
    e->tag = n % 3 ? text(a, "tag", n % 3, "") : BYTES_NONE;
    e->envid = text(a, "env", n / 2, "");
    e->account = n % 2;
    e->account_name = n % 2 ? BYTES("shop") : BYTES_NONE;
    e->recipients_count = 3;
    e->recipients = arena_new(a, 3 * sizeof *e->recipients);
    for (uint32_t i = 0; i < 3; i++) {
        e->recipients[i].number = i + 1;
        e->recipients[i].address = address_of(a, n, i + 1);
        e->recipients[i].domain = bytes_skip(e->recipients[i].address,
                                             (size_t)bytes_find(e->recipients[i].address, '@') + 1);
    }
    return m;
}

// ---- files ---------------------------------------------------------------------------------------------------

static struct history *history;

static struct bytes meta_of(struct buf *meta, struct buf *summary, struct buf *rest)
{
    char head[8];
    le32_put(head, 0);
    le32_put(head + 4, (uint32_t)summary->len);
    buf_add_all(meta, bytes_of(head, sizeof head), buf_bytes(summary), buf_bytes(rest));
    buf_done(summary);
    buf_done(rest);
    return buf_bytes(meta);
}

static void write_row(struct history_file *file, struct spool_record *record, struct wall at)
{
    struct buf words = {0};
    history_words_add(&history->words, record, &words);
    struct history_row row = {record, at, (const uint64_t *)(const void *)words.at,
                              words.len / sizeof(uint64_t)};
    assert_int_equal(history_file_add(file, &row), OK);
    buf_done(&words);
}

static void write_record(struct history_file *file, const struct record *r)
{
    struct buf meta = {0}, summary = {0}, rest = {0};
    struct stored_message *m = message_of(r->message);
    struct spool_record record = {.sequence = r->sequence, .id = id_of(r->message)};
    if (r->recipient) {
        record.type = SPOOL_RECORD_OUTCOME;
        record.outcome = (struct spool_outcome){
            .id = record.id, .recipient = r->recipient, .event = r->type, .at = r->at};
        outcome_encode(&record.outcome, &summary, &rest);
    } else {
        record.type = SPOOL_RECORD_MESSAGE;
        record.envelope = m->envelope;
        assert_int_equal(envelope_encode(m, &summary, &rest), OK);
    }
    record.meta = meta_of(&meta, &summary, &rest);
    write_row(file, &record, r->at);
    buf_done(&meta);
    stored_message_unref(m);
}

static const struct envelope *find_past(void *ctx, struct message_id id)
{
    (void)ctx;
    (void)id;
    fail(); // all of them are remembered
    return NULL;
}

static void open_day(const char *day, struct history_file *out)
{
    char path[HISTORY_PATH_BYTES];
    history_path_of(history, day, path);
    assert_int_equal(history_file_open(path, out), OK);
}

static void make_records(void)
{
    static const enum spool_event TYPES[] = {SPOOL_EVENT_DELIVERED, SPOOL_EVENT_DEFERRED,
                                             SPOOL_EVENT_BOUNCED};
    records_count = 0;
    for (uint32_t n = 0; n < MESSAGES; n++) {
        records[records_count++] = (struct record){0, n, 0, time_of(n), SPOOL_EVENT_ACCEPTED};
        if (n >= 10)
            records[records_count++] = (struct record){0, n - random_below(10), 1 + random_below(3),
                                                       time_of(n), TYPES[random_below(3)]};
    }
    for (size_t i = 0; i < records_count; i++)
        records[i].sequence = 100 + 3 * i; // as where notes lie between
}

// Each day has sheets and, but for the first, notes that are on none.
static void write_files(void)
{
    char day[HISTORY_DAY_BYTES], last[HISTORY_DAY_BYTES] = "";
    struct history_file file = {0};
    int commits = 0;
    for (size_t i = 0; i < records_count; i++) {
        history_day_of(records[i].at, day);
        if (strcmp(day, last) != 0) {
            if (last[0])
                history_file_close(&file);
            open_day(day, &file);
            memcpy(last, day, sizeof day);
            commits = 0;
        }
        assert_int_equal(history_file_begin(&file), OK);
        write_record(&file, &records[i]);
        if (random_below(3))
            for (size_t more = random_below(40); more && i + 1 < records_count; more--) {
                char next[HISTORY_DAY_BYTES];
                history_day_of(records[i + 1].at, next);
                if (strcmp(next, last) == 0)
                    write_record(&file, &records[++i]);
            }
        assert_int_equal(
            history_file_commit(&file, (struct history_progress){records[i].sequence, 1}), OK);
        if (random_below(40) == 0 || ++commits == 5) {
            assert_int_equal(history_file_seal(&file), OK);
            history_file_close(&file);
            open_day(last, &file);
        }
    }
    history_file_close(&file);
}

static int setup(void **state)
{
    (void)state;
    history = mem_new(sizeof *history);
    snprintf(history->folder, sizeof history->folder, "/tmp/history_search.XXXXXX");
    if (!mkdtemp(history->folder))
        return -1;
    history->words.find = find_past;
    atomic_store(&history->damage_told, true); // nobody listens here
    seed = 4711;
    make_records();
    write_files();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[HISTORY_PATH_BYTES];
    snprintf(command, sizeof command, "rm -rf %.100s*", history->folder);
    history_words_done(&history->words);
    free(history);
    return system(command);
}

// ---- questions -----------------------------------------------------------------------------------------------

struct told {
    uint64_t sequence;
    uint32_t recipient;
};
struct telling {
    struct told at[3 * RECORDS_MAX];
    size_t count;
    char cursor[HISTORY_CURSOR_BYTES];
};

static bool some_lost; // acceptances

static void on_event(void *ctx, const struct history_event *e)
{
    struct telling *t = ctx;
    assert_true(t->count < COUNT_OF(t->at));
    t->at[t->count++] = (struct told){e->cursor, e->recipient};
    history_cursor_format(e, t->cursor);
    assert_true((e->message && e->address.len) || some_lost);
}

static void search(const struct history_filter *filter, size_t page, struct telling *out)
{
    out->count = 0;
    out->cursor[0] = '\0';
    for (size_t before = 1; before != out->count;) {
        before = out->count;
        char cursor[HISTORY_CURSOR_BYTES];
        memcpy(cursor, out->cursor, sizeof cursor);
        assert_int_equal(history_search(history, filter, bytes_cstr(cursor), page, on_event, out),
                         OK);
        assert_true(out->count - before < page + 3);
        if (!before && !out->count)
            return;
    }
}

static bool is_wanted(const struct history_filter *f, const struct record *r,
                      const struct envelope *e, uint32_t recipient)
{
    const struct recipient *to = &e->recipients[recipient - 1];
    struct bytes sender = e->reverse_path.len ? e->reverse_path : BYTES("<>");
    return (!f->typed || f->type == r->type) && r->at.us >= f->since.us &&
           (!f->until.us || r->at.us < f->until.us) &&
           (!f->sender.len || bytes_eq_nocase(f->sender, sender)) &&
           (!f->message_id.len || bytes_eq(f->message_id, e->message_id)) &&
           (!f->envid.len || bytes_eq(f->envid, e->envid)) &&
           (!f->tag.len || bytes_eq(f->tag, e->tag)) &&
           (!f->account.len || bytes_eq(f->account, e->account_name)) &&
           (!f->recipient.len || bytes_eq_nocase(f->recipient, to->address) ||
            bytes_eq_nocase(f->recipient,
                            bytes_skip(to->address, (size_t)bytes_find(to->address, '@'))));
}

static void expect(const struct history_filter *filter, struct telling *out)
{
    out->count = 0;
    for (size_t i = records_count; i > 0; i--) {
        const struct record *r = &records[i - 1];
        struct stored_message *m = message_of(r->message);
        for (uint32_t k = 1; k <= 3; k++)
            if ((!r->recipient || r->recipient == k) && is_wanted(filter, r, m->envelope, k))
                out->at[out->count++] = (struct told){r->sequence, k};
        stored_message_unref(m);
    }
}

static bool chance(uint32_t of)
{
    return random_below(of) == 0;
}

static void make_question(struct history_filter *f, struct arena *a)
{
    static const enum spool_event TYPES[] = {SPOOL_EVENT_ACCEPTED, SPOOL_EVENT_DELIVERED,
                                             SPOOL_EVENT_DEFERRED, SPOOL_EVENT_BOUNCED,
                                             SPOOL_EVENT_EXPIRED};
    *f = (struct history_filter){.since = {0}};
    if (chance(3))
        f->recipient = chance(3) ? text(a, "@D", random_below(6), ".example.net")
                                 : address_of(a, random_below(60), random_below(3));
    if (chance(4))
        f->sender = chance(4) ? BYTES("<>") : text(a, "sender", random_below(5), "@Example.org");
    if (chance(6))
        f->message_id = text(a, "<Id.", random_below(MESSAGES + 100), "@example.org>");
    if (chance(6))
        f->envid = text(a, "env", random_below(MESSAGES / 2), "");
    if (chance(4))
        f->tag = text(a, "tag", random_below(4), "");
    if (chance(4))
        f->account = chance(5) ? BYTES("other") : BYTES("shop");
    if (chance(4))
        f->since.us = FIRST_DAY + (int64_t)random_below(1000) * (SPAN_US / 1000);
    if (chance(4))
        f->until.us = FIRST_DAY + (int64_t)random_below(1000) * (SPAN_US / 1000);
    f->typed = chance(3);
    f->type = TYPES[random_below(COUNT_OF(TYPES))];
}

static void ask_many(int questions)
{
    struct telling *got = mem_new(sizeof *got), *want = mem_new(sizeof *want);
    size_t found = 0;
    for (int i = 0; i < questions; i++) {
        struct arena arena = {0};
        struct history_filter filter;
        make_question(&filter, &arena);
        search(&filter, chance(4) ? 1 + random_below(30) : 10000, got);
        expect(&filter, want);
        assert_number("found", got->count, want->count);
        assert_memory_equal(got->at, want->at, want->count * sizeof *want->at);
        found += got->count > 0;
        arena_done(&arena);
    }
    assert_true(found > (size_t)questions / 4);
    free(got);
    free(want);
}

static void test_against_a_model(void **state)
{
    (void)state;
    ask_many(120);
}

static void run_sql(const char *day, const char *sql)
{
    char path[HISTORY_PATH_BYTES];
    sqlite3 *db;
    history_path_of(history, day, path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_true(sqlite3_changes(db) > 0);
    sqlite3_close(db);
}

static void ignore_line(void *ctx, struct bytes line)
{
    (void)ctx;
    (void)line;
}

// A bit that has changed is noticed, and the records are asked instead.
static void test_damaged_index(void **state)
{
    (void)state;
    static const char *const ROWS[] = {
        "UPDATE leaf SET data = CAST(substr(data, 1, 3) || x'ff' || substr(data, 5) AS BLOB)",
        "UPDATE leaf SET data = x''",
        "UPDATE leaf SET at = at + 1 WHERE at = (SELECT max(at) FROM leaf)",
        "UPDATE notes SET data = CAST(substr(data, 1, 12) || x'ff' || substr(data, 14) AS BLOB)",
        "UPDATE notes SET data = substr(data, 1, length(data) - 8)",
        "UPDATE sheet SET last = last - 1",
        "UPDATE sheet SET newest = newest - 3600000000",
        "UPDATE sheet SET bits = bits + 1"};
    struct history_days days = history_list_days(history);
    char folder[64];
    assert_number("days", days.count, 3);
    snprintf(folder, sizeof folder, "%.60s", history->folder);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        char command[256];
        snprintf(command, sizeof command, "rm -rf %s.damaged && cp -r %s %s.damaged", folder,
                 folder, folder);
        assert_int_equal(system(command), 0);
        snprintf(history->folder, sizeof history->folder, "%s.damaged", folder);
        run_sql(days.at[2], ROWS[i]);
        ask_many(20);
    }
    snprintf(history->folder, sizeof history->folder, "%s", folder);
    free(days.at);
}

// What a damaged block held is lost, and nothing else.
static void test_damaged_block(void **state)
{
    (void)state;
    struct history_filter all = {.since = {0}};
    struct telling *before = mem_new(sizeof *before), *after = mem_new(sizeof *after);
    struct history_days days = history_list_days(history);
    search(&all, 10000, before);
    run_sql(days.at[1],
            "UPDATE block SET data = CAST(substr(data, 1, 40) || x'ff' || substr(data, 42) "
            "AS BLOB) WHERE first = (SELECT first FROM block LIMIT 1 OFFSET 3)");
    free(days.at);
    log_capture(ignore_line, NULL);
    some_lost = true;
    search(&all, 10000, after);
    some_lost = false;
    log_capture(NULL, NULL);
    assert_true(after->count < before->count && after->count > before->count - 200);
    for (size_t i = 0, k = 0; i < after->count; i++, k++) {
        while (k < before->count && before->at[k].sequence != after->at[i].sequence)
            k++;
        assert_true(k < before->count);
    }
    free(before);
    free(after);
}

static void index_words(void *ctx, struct spool_record *record, struct buf *out_words)
{
    (void)ctx;
    struct stored_message *m = stored_message_new();
    assert_int_equal(spool_record_decode(record, m), OK);
    history_words_add(&history->words, record, out_words);
    stored_message_unref(m);
}

static int64_t count_of(const char *day, const char *sql)
{
    char path[HISTORY_PATH_BYTES];
    struct history_view view;
    sqlite3_stmt *st = NULL;
    const struct history_statement one = {&st, sql};
    history_path_of(history, day, path);
    assert_int_equal(history_view_open(path, &view), OK);
    assert_int_equal(history_sql_prepare(view.db, &one, 1), OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int64_t count = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    history_view_close(&view);
    return count;
}

// The index is made anew from the records, on one sheet of each day.
static void test_index_made_again(void **state)
{
    (void)state;
    struct history_indexer indexer = {NULL, index_words};
    struct history_days days = history_list_days(history);
    for (size_t i = 0; i < days.count; i++) {
        struct history_file file;
        run_sql(days.at[i], "DELETE FROM leaf");
        open_day(days.at[i], &file);
        assert_int_equal(history_file_reindex(&file, &indexer), OK);
        history_file_close(&file);
        assert_number("sheets", count_of(days.at[i], "SELECT count(*) FROM sheet"), 1);
        assert_number("notes", count_of(days.at[i], "SELECT count(*) FROM notes"), 0);
    }
    free(days.at);
    ask_many(40);
}

// A day that is over is opened without a log, until something more is written.
static void test_sealed(void **state)
{
    (void)state;
    struct history_days days = history_list_days(history);
    struct history_file file;
    char path[HISTORY_PATH_BYTES];
    history_path_of(history, days.at[2], path);
    open_day(days.at[2], &file);
    assert_false(history_file_is_sealed(path));
    assert_int_equal(history_file_seal(&file), OK);
    history_file_close(&file);
    assert_true(history_file_is_sealed(path));
    assert_number("notes", count_of(days.at[2], "SELECT count(*) FROM notes"), 0);
    ask_many(10);
    assert_true(history_file_is_sealed(path));
    open_day(days.at[2], &file);
    history_file_close(&file);
    assert_false(history_file_is_sealed(path));
    assert_false(history_file_is_sealed("/nonexistent"));
    free(days.at);
}

static void test_cursors(void **state)
{
    (void)state;
    static const char *const WRONG[] = {"x",         "20261122",   "2026112-5",
                                        "20261122-", "20261122-x", "20261122-99999999999999999999",
                                        "2026x122-1"};
    struct history_filter all = {.since = {0}};
    struct telling *t = mem_new(sizeof *t);
    for (size_t i = 0; i < COUNT_OF(WRONG); i++)
        assert_int_equal(history_search(history, &all, bytes_cstr(WRONG[i]), 10, on_event, t),
                         E_SYNTAX);
    assert_int_equal(history_search(history, &all, BYTES("19990101-5"), 10, on_event, t), OK);
    assert_number("before all", t->count, 0);
    free(t);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_against_a_model, setup, teardown),
    cmocka_unit_test_setup_teardown(test_damaged_index, setup, teardown),
    cmocka_unit_test_setup_teardown(test_damaged_block, setup, teardown),
    cmocka_unit_test_setup_teardown(test_index_made_again, setup, teardown),
    cmocka_unit_test_setup_teardown(test_sealed, setup, teardown),
    cmocka_unit_test_setup_teardown(test_cursors, setup, teardown),
};

RUN_TESTS(tests)
