// SPDX-License-Identifier: MIT
//
// The history over a real spool and real files: days that alternate, pages, restarts, finding, forgetting.
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/test_base.h"
#include "event/history.h"
#include "spool/frame.h"
#include "spool/spool.h"
#include "sys/sys_test_loop.h"

#define KEEP_MS ((int64_t)30 * 86400 * 1000)
#define EVENTS_MAX 4096
#define SECOND ((int64_t)1000000)

static char top[64], spool_path[80], state_path[80];
static struct spool *spool;
static struct history *history;
static struct sys_loop *client;
static struct wall midnight; // between two days of the past

// ---- the world ---------------------------------------------------------------------------------------------

static void ignore_summary(void *ctx, const struct spool_summary *s)
{
    (void)ctx;
    (void)s;
}

static void open_all(void)
{
    struct spool_options options = {.directory = spool_path, .copied = true};
    struct spool_recovery recovery = {NULL, ignore_summary, NULL};
    assert_int_equal(spool_open(&options, &recovery, &spool), OK);
    spool_start(spool);
    assert_int_equal(history_start(bytes_cstr(state_path), spool, KEEP_MS, &history), OK);
    client = sys_loop_start("client");
}

static void close_all(void)
{
    sys_loop_stop(client);
    spool_stop(spool);
    history_stop(history);
    spool_close(spool);
}

static int setup(void **state)
{
    (void)state;
    snprintf(top, sizeof top, "/tmp/history_test.XXXXXX");
    if (!mkdtemp(top))
        return -1;
    snprintf(spool_path, sizeof spool_path, "%s/spool", top);
    snprintf(state_path, sizeof state_path, "%s/state", top);
    mkdir(spool_path, 0700);
    mkdir(state_path, 0700);
    midnight.us = (time(NULL) / 86400 - 1) * 86400 * SECOND;
    open_all();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_all();
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", top);
    return system(command);
}

struct commit {
    struct spool_frame *frame;
    sem_t done;
    int err;
};

static void on_committed(void *ctx, int err)
{
    struct commit *c = ctx;
    c->err = err;
    sem_post(&c->done);
}

static void start_commit(void *ctx)
{
    struct commit *c = ctx;
    spool_commit(spool, c->frame, on_committed, c);
}

static void commit(struct spool_frame *frame)
{
    struct commit c = {.frame = frame};
    sem_init(&c.done, 0, 0);
    test_on_loop(client, start_commit, &c);
    assert_true(test_wait(&c.done));
    assert_int_equal(c.err, OK);
}

static struct message_id id_of(uint32_t n, struct wall at)
{
    return message_id_make(at, 1, 1, n);
}

static struct message_id accept(uint32_t n, struct wall at, uint32_t recipients)
{
    struct stored_message *m = stored_message_new();
    struct envelope *e = m->envelope;
    e->id = id_of(n, at);
    e->accepted_at = at;
    e->expires_at = wall_add_ms(at, KEEP_MS);
    e->reverse_path = arena_printf(&m->arena, "Sender%u@example.org", n);
    e->message_id = arena_printf(&m->arena, "<%u@example.org>", n);
    e->envid = n % 2 ? arena_printf(&m->arena, "env%u", n) : BYTES_NONE;
    e->tag = n % 3 ? arena_printf(&m->arena, "tag%u", n % 3) : BYTES_NONE;
    e->recipients_count = recipients;
    e->recipients = arena_new(&m->arena, recipients * sizeof *e->recipients);
    for (uint32_t i = 0; i < recipients; i++) {
        e->recipients[i].number = i + 1;
        e->recipients[i].address = arena_printf(&m->arena, "r%u.%u@example.net", n, i + 1);
        e->recipients[i].domain = BYTES("example.net");
    }
    m->header = arena_dup(&m->arena, BYTES("Subject: x\r\n\r\n"));
    e->header_bytes = m->header.len;
    struct message_id id = e->id;
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_message(f, m);
    commit(f);
    stored_message_unref(m);
    return id;
}

static void happen(struct message_id id, uint32_t recipient, struct wall at,
                   enum recipient_state state, enum spool_event event)
{
    struct spool_outcome o = {.id = id,
                              .recipient = recipient,
                              .state = state,
                              .event = event,
                              .attempts = 1,
                              .at = at,
                              .code = 250,
                              .enhanced = BYTES("2.0.0"),
                              .mx = BYTES("mx.example.net"),
                              .text = BYTES("it's \"here\"")};
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_outcome(f, &o);
    commit(f);
}

// ---- what the history tells --------------------------------------------------------------------------------

struct told {
    uint64_t cursor;
    enum spool_event type;
    struct message_id id;
    uint32_t recipient;
    char address[64];
};

struct telling {
    struct told at[EVENTS_MAX];
    size_t count;
    struct message_id ids[64];
    size_t ids_count, messages;
};

static void on_event(void *ctx, const struct history_event *e)
{
    struct telling *t = ctx;
    assert_true(t->count < EVENTS_MAX);
    struct told *told = &t->at[t->count++];
    *told = (struct told){e->cursor, e->type, e->id, e->recipient, ""};
    snprintf(told->address, sizeof told->address, "%.*s", BYTES_FMT(e->address));
}

static void on_message(void *ctx, const struct history_message *m)
{
    struct telling *t = ctx;
    (void)m;
    t->messages++;
}

static void on_found(void *ctx, struct message_id id)
{
    struct telling *t = ctx;
    t->ids[t->ids_count++] = id;
}

// All events, in pages of about `page`; a page never ends within a cursor.
static void read_all(size_t page, struct telling *out)
{
    uint64_t after = 0, last;
    out->count = 0;
    history_wait(history);
    for (;;) {
        size_t before = out->count;
        assert_int_equal(history_events(history, after, page, on_event, out, &last), OK);
        if (out->count == before) {
            assert_number("cursor of an empty page", last, after);
            return;
        }
        assert_number("cursor of a page", last, out->at[out->count - 1].cursor);
        if (before)
            assert_true(out->at[before].cursor > out->at[before - 1].cursor);
        assert_true(out->count - before < page + 5); // one acceptance's recipients beyond it
        after = last;
    }
}

// ---- tests -------------------------------------------------------------------------------------------------

static void test_show(void **state)
{
    (void)state;
    struct message_id id = accept(1, midnight, 3);
    happen(id, 2, wall_add_ms(midnight, 1000), RECIPIENT_QUEUED, SPOOL_EVENT_DEFERRED);
    happen(id, 2, wall_add_ms(midnight, 86400000), RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    history_wait(history);
    struct telling *t = mem_new(sizeof *t);
    struct history_reader reader = {t, on_message, on_event};
    assert_int_equal(history_show(history, id, &reader), OK);
    static const struct {
        enum spool_event type;
        uint32_t recipient;
        const char *address;
    } WANT[] = {{SPOOL_EVENT_ACCEPTED, 1, "r1.1@example.net"},
                {SPOOL_EVENT_ACCEPTED, 2, "r1.2@example.net"},
                {SPOOL_EVENT_ACCEPTED, 3, "r1.3@example.net"},
                {SPOOL_EVENT_DEFERRED, 2, "r1.2@example.net"},
                {SPOOL_EVENT_DELIVERED, 2, "r1.2@example.net"}}; // told on the next day
    assert_number("messages", t->messages, 1);
    assert_number("events", t->count, COUNT_OF(WANT));
    for (size_t i = 0; i < COUNT_OF(WANT); i++) {
        assert_number("type", t->at[i].type, WANT[i].type);
        assert_number("recipient", t->at[i].recipient, WANT[i].recipient);
        assert_string_equal(t->at[i].address, WANT[i].address);
    }
    assert_int_equal(history_show(history, id_of(99, midnight), &reader), E_NOT_FOUND);
    free(t);
}

// Around midnight the records of two days alternate in the journal: none is passed over by a cursor.
static void test_midnight(void **state)
{
    (void)state;
    static const size_t PAGES[] = {1, 2, 3, 7, 10000};
    struct wall before = wall_add_ms(midnight, -10), after = wall_add_ms(midnight, 10);
    struct message_id first = accept(1, before, 2);
    happen(first, 1, after, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    struct message_id second = accept(2, before, 5);
    happen(first, 2, after, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    happen(second, 1, before, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    struct message_id third = accept(3, after, 1);
    happen(second, 2, before, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    happen(third, 1, before, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    const struct message_id want[] = {first,  first, first,  second, second, second, second,
                                      second, first, second, third,  second, third};
    struct telling *t = mem_new(sizeof *t);
    for (size_t p = 0; p < COUNT_OF(PAGES); p++) {
        read_all(PAGES[p], t);
        assert_number("events", t->count, COUNT_OF(want));
        for (size_t i = 0; i < t->count; i++) {
            assert_true(message_id_eq(t->at[i].id, want[i]));
            assert_true(t->at[i].address[0] != '\0');
            assert_true(i == 0 || t->at[i].cursor >= t->at[i - 1].cursor);
        }
    }
    free(t);
}

// What was copied before a stop is not copied again, what was not is.
static void test_restart(void **state)
{
    (void)state;
    struct telling *t = mem_new(sizeof *t);
    uint64_t last = 0;
    for (uint32_t n = 1; n <= 5; n++) {
        struct message_id id = accept(n, wall_add_ms(midnight, n), 2);
        close_all();
        open_all();
        happen(id, 1, wall_add_ms(midnight, n * 100000), RECIPIENT_DELIVERED,
               SPOOL_EVENT_DELIVERED);
        read_all(4, t);
        assert_number("events", t->count, n * 3);
        assert_true(history_sequence(history) > last);
        last = history_sequence(history);
    }
    free(t);
}

static void test_find(void **state)
{
    (void)state;
    struct message_id ids[7];
    for (uint32_t n = 1; n <= 6; n++)
        ids[n] = accept(n, wall_add_ms(midnight, n <= 3 ? (int64_t)n - 1000 : n), 2);
    history_wait(history);
    struct {
        const char *name;
        struct history_filter filter;
        size_t max;
        uint32_t want[7]; // in this order, to the first 0
    } rows[] = {
        {"all", {.since = {0}}, 100, {6, 5, 4, 3, 2, 1}},
        {"the newest", {.since = {0}}, 2, {6, 5}},
        {"across days", {.since = {0}}, 4, {6, 5, 4, 3}},
        {"none wanted", {.since = {0}}, 0, {0}},
        {"since", {.since = midnight}, 100, {6, 5, 4}},
        {"recipient", {.recipient = BYTES("r2.1@example.net")}, 100, {2}},
        {"recipient, second", {.recipient = BYTES("r2.2@example.net")}, 100, {2}},
        {"recipient, case", {.recipient = BYTES("R2.1@EXAMPLE.net")}, 100, {2}},
        {"recipient, unknown", {.recipient = BYTES("r2.3@example.net")}, 100, {0}},
        {"recipient, prefix", {.recipient = BYTES("r2")}, 100, {0}},
        {"sender", {.sender = BYTES("sender4@example.org")}, 100, {4}},
        {"message id", {.message_id = BYTES("<5@example.org>")}, 100, {5}},
        {"envid", {.envid = BYTES("env3")}, 100, {3}},
        {"tag", {.tag = BYTES("tag1")}, 100, {4, 1}},
        {"two", {.tag = BYTES("tag1"), .sender = BYTES("Sender1@example.org")}, 100, {1}},
        {"two that differ", {.tag = BYTES("tag1"), .envid = BYTES("env3")}, 100, {0}},
        {"quotes", {.sender = BYTES("' OR 1=1 --")}, 100, {0}},
    };
    struct telling *t = mem_new(sizeof *t);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        size_t want = 0;
        t->ids_count = 0;
        assert_int_equal(history_find(history, &rows[i].filter, rows[i].max, on_found, t), OK);
        while (rows[i].want[want])
            want++;
        assert_number(rows[i].name, t->ids_count, want);
        for (size_t k = 0; k < want; k++)
            assert_number(rows[i].name, message_id_eq(t->ids[k], ids[rows[i].want[k]]), true);
    }
    free(t);
}

static void touch(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/events/%s", state_path, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fclose(f);
}

static bool is_there(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/events/%s", state_path, name);
    return access(path, F_OK) == 0;
}

static void test_forgetting(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool kept;
    } ROWS[] = {{"20200131.db", false},    {"20200131.db-wal", false}, {"20200131.db-shm", false},
                {"notes.db", true},        {"2020013.db", true},       {"20200131.db.bak", true},
                {"99991231.db-wal", true}, {"x0200131.db", true}};
    accept(1, midnight, 1);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        touch(ROWS[i].name);
    close_all();
    open_all();
    history_wait(history);
    struct telling *t = mem_new(sizeof *t);
    accept(2, midnight, 1); // the writer has started, so it has looked
    read_all(10, t);
    assert_number("events", t->count, 2);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        assert_number(ROWS[i].name, is_there(ROWS[i].name), ROWS[i].kept);
    free(t);
}

// A day's file that is none is passed over, not taken for an empty day that hides others.
static void test_damaged_day(void **state)
{
    (void)state;
    struct telling *t = mem_new(sizeof *t);
    accept(1, midnight, 1);
    char day[16], path[160];
    time_t yesterday = (time_t)(midnight.us / SECOND) - 86400 * 3;
    strftime(day, sizeof day, "%Y%m%d.db", gmtime(&yesterday));
    snprintf(path, sizeof path, "%s/events/%s", state_path, day);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs("this is not a database, but it is long enough to be looked at as if it were one", f);
    fclose(f);
    read_all(10, t);
    assert_number("events", t->count, 1);
    free(t);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_show, setup, teardown),
    cmocka_unit_test_setup_teardown(test_midnight, setup, teardown),
    cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
    cmocka_unit_test_setup_teardown(test_find, setup, teardown),
    cmocka_unit_test_setup_teardown(test_forgetting, setup, teardown),
    cmocka_unit_test_setup_teardown(test_damaged_day, setup, teardown),
};

RUN_TESTS(tests)
