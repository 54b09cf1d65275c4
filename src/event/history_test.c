// SPDX-License-Identifier: MIT
//
// The history over a real spool and real files: days that alternate, pages, restarts, finding, forgetting; a history
// that was lost, a power cut.
#include <dirent.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/test_base.h"
#include "event/history.h"
#include "spool/frame.h"
#include "spool/spool.h"
#include "spool/spool_reader.h"
#include "sys/sys_test_loop.h"

#define KEEP_MS ((int64_t)30 * 86400 * 1000)
#define EVENTS_MAX 4096
#define DAY_MS ((int64_t)86400 * 1000)
#define SECOND ((int64_t)1000000)

static char top[64], spool_path[80], state_path[80];
static struct spool *spool;
static struct history *history;
static struct sys_loop *client;
static struct wall midnight; // between two days of the past
static uint64_t size_max;    // events.size

// ---- the world ---------------------------------------------------------------------------------------------

static void ignore_summary(void *ctx, const struct spool_summary *s)
{
    (void)ctx;
    (void)s;
}

static void open_all(void)
{
    struct spool_options options = {.directory = spool_path, .followers = 1};
    struct spool_recovery recovery = {NULL, ignore_summary, NULL};
    assert_int_equal(spool_open(&options, &recovery, &spool), OK);
    spool_start(spool);
    assert_int_equal(history_start(bytes_cstr(state_path), spool, KEEP_MS, size_max, &history), OK);
    client = sys_loop_start("client");
}

static void close_all(void)
{
    sys_loop_stop(client);
    spool_stop(spool);
    history_stop(history);
    history_free(history);
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

static int64_t set_back_ms; // the clock, between a message's number and its acceptance

static struct message_id accept_sized(uint32_t n, struct wall at, uint32_t recipients,
                                      size_t header)
{
    struct stored_message *m = stored_message_new();
    struct envelope *e = m->envelope;
    e->id = id_of(n, at);
    e->accepted_at = wall_add_ms(at, -set_back_ms);
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
    char *text = arena_new(&m->arena, header);
    memset(text, 'x', header);
    m->header = bytes_of(text, header);
    e->header_bytes = m->header.len;
    struct message_id id = e->id;
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_message(f, m);
    commit(f);
    stored_message_unref(m);
    return id;
}

static struct message_id accept(uint32_t n, struct wall at, uint32_t recipients)
{
    return accept_sized(n, at, recipients, 14);
}

static char long_text[OUTCOME_TEXT_MAX];

static void happen_with(struct message_id id, uint32_t recipient, struct wall at,
                        enum recipient_state state, enum spool_event event, struct bytes text)
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
                              .text = text};
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_outcome(f, &o);
    commit(f);
}

static void happen(struct message_id id, uint32_t recipient, struct wall at,
                   enum recipient_state state, enum spool_event event)
{
    happen_with(id, recipient, at, state, event, BYTES("it's \"here\""));
}

// ---- what the history tells --------------------------------------------------------------------------------

struct told {
    uint64_t cursor;
    enum spool_event type;
    struct message_id id;
    uint32_t recipient;
    enum recipient_state state;
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
    *told = (struct told){e->cursor, e->type, e->id, e->recipient, e->state, ""};
    snprintf(told->address, sizeof told->address, "%.*s", BYTES_FMT(e->address));
}

static void on_envelope(void *ctx, const struct envelope *e)
{
    *(uint32_t *)ctx = e->recipients_count;
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

// A busy machine may need more than one wait's patience; what is never told never comes.
static void wait_for_all(void)
{
    int err = history_wait(history);
    for (int i = 0; err && i < 2000; i++) {
        usleep(10000);
        err = history_wait(history);
    }
    assert_int_equal(err, OK);
}

static void swallow(void *ctx, struct bytes line)
{
    (void)ctx;
    (void)line;
}

// All events, in pages of about `page`; a page never ends within a cursor.
static void read_all(size_t page, struct telling *out)
{
    uint64_t after = 0, last;
    out->count = 0;
    wait_for_all();
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
    wait_for_all();
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
    uint32_t recipients = 0;
    assert_int_equal(history_envelope(history, id, on_envelope, &recipients), OK);
    assert_number("recipients", recipients, 3);
    assert_int_equal(history_envelope(history, id_of(99, midnight), on_envelope, &recipients),
                     E_NOT_FOUND);
    free(t);
}

// What comes back is told beside the message, however long that is settled, and changes no state.
static void test_feedback(void **state)
{
    (void)state;
    struct message_id id = accept(1, midnight, 2);
    happen(id, 2, wall_add_ms(midnight, 1000), RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    happen(id, 1, wall_add_ms(midnight, 1000), RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    close_all();
    open_all();
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_feedback(f, &(struct spool_feedback){.id = id,
                                                         .recipient = 2,
                                                         .kind = FEEDBACK_BOUNCE,
                                                         .class = {BOUNCE_USER_UNKNOWN, true},
                                                         .at = wall_add_ms(midnight, 86400000),
                                                         .address = BYTES("r1.2@example.net"),
                                                         .diagnostic = BYTES("550 gone")});
    commit(f);
    close_all(); // a restart passes over it
    open_all();
    wait_for_all();
    struct telling *t = mem_new(sizeof *t);
    struct history_reader reader = {t, on_message, on_event};
    assert_int_equal(history_show(history, id, &reader), OK);
    assert_number("events", t->count, 5);
    assert_number("type", t->at[4].type, SPOOL_EVENT_FEEDBACK);
    assert_number("recipient", t->at[4].recipient, 2);
    assert_string_equal(t->at[4].address, "r1.2@example.net");
    read_all(100, t);
    assert_number("all", t->count, 5);
    assert_number("last", t->at[4].type, SPOOL_EVENT_FEEDBACK);
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

// A clock that is set back over midnight while a message comes: it was accepted the day before its number was given.
static void test_clock_set_back_over_midnight(void **state)
{
    (void)state;
    struct wall late = wall_add_ms(midnight, 10);
    struct telling *t = mem_new(sizeof *t);
    struct history_reader reader = {t, on_message, on_event};
    struct history_filter filter = {.recipient = BYTES("r1.2@example.net")};
    uint32_t recipients = 0;
    set_back_ms = 20;
    struct message_id id = accept(1, late, 2);
    set_back_ms = 0;
    accept(2, late, 1);
    happen(id, 1, wall_add_ms(late, -20), RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    wait_for_all();
    assert_int_equal(history_find(history, &filter, 10, on_found, t), OK);
    assert_number("found", t->ids_count, 1);
    assert_int_equal(history_show(history, id, &reader), OK);
    assert_number("events", t->count, 3);
    assert_string_equal(t->at[2].address, "r1.1@example.net");
    assert_int_equal(history_envelope(history, id, on_envelope, &recipients), OK);
    assert_number("recipients", recipients, 2);
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

// Who asks waits for what is flushed and can be told, not for the last number of the journal: here those of a
// tail and a note, which are no events, and after a start those of before.
static void test_waiting_ends(void **state)
{
    (void)state;
    accept(1, midnight, 1);
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    frame_add_tail(f, 1);
    commit(f);
    wait_for_all();
    f = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_note(f, BYTES("k"), BYTES("v"));
    commit(f);
    wait_for_all();
    close_all();
    open_all();
    wait_for_all();
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#define DAY_PATH 160

// The file of the day of `at`, or a neighbour of it.
static void path_of_day(struct wall at, const char *ending, char out[DAY_PATH])
{
    char day[16];
    time_t seconds = (time_t)(at.us / SECOND);
    strftime(day, sizeof day, "%Y%m%d", gmtime(&seconds));
    snprintf(out, DAY_PATH, "%s/events/%s%s", state_path, day, ending);
}

// Somebody else keeps this day's file for himself.
static sqlite3 *lock_day(struct wall at)
{
    char path[DAY_PATH];
    sqlite3 *db;
    path_of_day(at, ".db", path);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

static void assert_nobody_waits(void)
{
    for (int i = 0; i < 10; i++) {
        int64_t before = now_ms();
        assert_int_equal(history_wait(history), E_TIMEOUT);
        assert_true(now_ms() - before < HISTORY_WAIT_MS / 2);
    }
}

// One wait is in vain; from then on nobody waits until what that one waited for is copied.
static void test_nobody_waits_for_one_that_lags(void **state)
{
    (void)state;
    struct message_id id = accept(1, midnight, 1);
    uint32_t recipients = 0;
    wait_for_all();
    sqlite3 *lock = lock_day(midnight);
    accept(2, midnight, 1);
    assert_int_equal(history_wait(history), E_TIMEOUT);
    accept(3, midnight, 1);
    assert_nobody_waits();
    assert_int_equal(history_envelope(history, id, on_envelope, &recipients), OK);
    sqlite3_close(lock);
    wait_for_all();
    assert_int_equal(history_envelope(history, id_of(3, midnight), on_envelope, &recipients), OK);
}

// One that fails is not waited for at all.
static void test_nobody_waits_for_one_that_fails(void **state)
{
    (void)state;
    char from[100], to[100];
    snprintf(from, sizeof from, "%s/events", state_path);
    snprintf(to, sizeof to, "%s/away", state_path);
    accept(1, wall_add_ms(midnight, -10), 1);
    wait_for_all();
    assert_int_equal(rename(from, to), 0);
    log_capture(swallow, NULL);
    accept(2, midnight, 1);
    usleep(500000); // by itself, or asked, it has tried
    assert_nobody_waits();
    assert_int_equal(rename(to, from), 0);
    wait_for_all();
    log_capture(NULL, NULL);
}

// Not to be read now is not the same as not there.
static void test_a_day_that_can_not_be_read(void **state)
{
    (void)state;
    char path[DAY_PATH], away[100];
    uint32_t recipients = 0;
    struct wall before = wall_add_ms(midnight, -10);
    struct message_id id = accept(1, before, 1), other = accept(2, midnight, 1);
    wait_for_all();
    path_of_day(before, ".db", path);
    snprintf(away, sizeof away, "%s/away", state_path);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(history_envelope(history, id, on_envelope, &recipients), E_AGAIN);
    assert_int_equal(history_envelope(history, other, on_envelope, &recipients), OK);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(away, path), 0);
    assert_int_equal(history_envelope(history, id, on_envelope, &recipients), OK);
}

// A request that was cut at the end of the service may still ask.
static void test_asked_after_the_stop(void **state)
{
    (void)state;
    uint32_t recipients = 0;
    struct message_id id = accept(1, midnight, 1);
    spool_stop(spool);
    history_stop(history);
    assert_int_equal(history_wait(history), OK);
    assert_int_equal(history_envelope(history, id, on_envelope, &recipients), OK);
    assert_number("recipients", recipients, 1);
    sys_loop_stop(client);
    history_free(history);
    spool_close(spool);
    open_all();
}

static void lose_history(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s/events", state_path);
    assert_int_equal(system(command), 0);
}

// A lost history begins anew with what the journal holds; the first question waits for it.
static void test_lost(void **state)
{
    (void)state;
    struct telling *t = mem_new(sizeof *t);
    struct history_reader reader = {t, on_message, on_event};
    struct message_id id = accept(1, midnight, 1);
    close_all();
    lose_history();
    open_all();
    wait_for_all();
    assert_int_equal(history_show(history, id, &reader), OK);
    assert_number("events", t->count, 1);
    free(t);
}

static void run_command(const char *words)
{
    char command[512];
    snprintf(command, sizeof command, "cd %s && %s", top, words);
    assert_int_equal(system(command), 0);
}

// Another spool than the one that the history has followed, whose numbers do not come up to where that one was: what
// is accepted then is told too, and what was told before still is.
static void test_other_spool(void **state)
{
    (void)state;
    static const char *const OTHERS[] = {"rm -rf spool/*", "rm -rf spool && mv old spool"};
    struct telling *t = mem_new(sizeof *t);
    uint32_t n = 1;
    accept(n++, midnight, 1);
    close_all();
    run_command("cp -r spool old");
    log_capture(swallow, NULL);
    open_all();
    for (size_t i = 0; i < COUNT_OF(OTHERS); i++) {
        for (int starts = 0; starts < 3; starts++) {
            accept(n++, midnight, 1);
            wait_for_all();
            close_all();
            open_all();
        }
        close_all();
        run_command(OTHERS[i]);
        for (int starts = 0; starts < 2; starts++) {
            open_all();
            struct message_id id = accept(n++, midnight, 1);
            happen(id, 1, midnight, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
            wait_for_all();
            struct history_reader reader = {t, on_message, on_event};
            t->count = 0;
            assert_int_equal(history_show(history, id, &reader), OK);
            assert_number("events", t->count, 2);
            close_all();
        }
        open_all();
        read_all(100, t);
        assert_number("all", t->count, n - 1 + 2 * (i + 1)); // and the deliveries
    }
    log_capture(NULL, NULL);
    free(t);
}

// Sequence number of the oldest record in the journal.
static uint64_t find_oldest(void)
{
    struct spool_record record = {0};
    struct spool_reader *r = spool_reader_open(spool, 0);
    int err = spool_reader_next(r, &record);
    spool_reader_close(r);
    return err ? 0 : record.sequence;
}

// Where compaction has copied a message and its original is gone, as in most restored backups, the copy tells of it.
static void test_lost_and_compacted(void **state)
{
    (void)state;
    struct telling *t = mem_new(sizeof *t);
    struct history_reader reader = {t, on_message, on_event};
    struct history_filter filter = {.recipient = BYTES("r1.2@example.net")};
    close_all();
    struct spool_options options = {.directory = spool_path,
                                    .segment_bytes = SPOOL_SEGMENT_BYTES_MIN};
    assert_int_equal(spool_open(&options, NULL, &spool), OK);
    spool_start(spool);
    client = sys_loop_start("client");
    struct message_id id = accept(1, midnight, 3);
    uint64_t first = find_oldest();
    happen(id, 1, midnight, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    happen(id, 2, midnight, RECIPIENT_QUEUED, SPOOL_EVENT_DEFERRED);
    for (uint32_t n = 2; n < 500 && find_oldest() <= first; n++)
        happen(accept_sized(n, midnight, 1, 100000), 1, midnight, RECIPIENT_DELIVERED,
               SPOOL_EVENT_DELIVERED);
    assert_true(find_oldest() > first + 2); // what happened to it is gone, too
    sys_loop_stop(client);
    spool_stop(spool);
    spool_close(spool);
    lose_history();
    for (int i = 0; i < 2; i++) { // it is told once, however often it is met
        open_all();
        wait_for_all();
        t->count = t->messages = t->ids_count = 0;
        assert_int_equal(history_show(history, id, &reader), OK);
        assert_number("messages", t->messages, 1);
        assert_number("events", t->count, 3);
        assert_number("state", t->at[0].state, RECIPIENT_DELIVERED);
        assert_number("state", t->at[1].state, RECIPIENT_QUEUED);
        assert_number("state", t->at[2].state, RECIPIENT_QUEUED);
        assert_int_equal(history_find(history, &filter, 10, on_found, t), OK);
        assert_number("found", t->ids_count, 1);
        read_all(3, t);
        assert_true(message_id_eq(t->at[0].id, id));
        assert_true(t->at[0].cursor == first && t->at[3].cursor > first);
        close_all();
    }
    open_all();
    free(t);
}

// ---- a power cut -------------------------------------------------------------------------------------------

// The log of the first day's file, as it was flushed last.
static char synced_path[160], synced[1 << 20];
static ssize_t synced_bytes;

static void note_flush(int fd)
{
    char link[32], path[160];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    if (strcmp(path, synced_path) == 0)
        synced_bytes = pread(fd, synced, sizeof synced, 0);
}

// The next flush of a day's file (not of its log) takes until somebody says so.
static atomic_bool hang;
static sem_t hanging, go_on;

static void hang_flush(int fd)
{
    char link[32], path[160];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    if (n < 3 || strcmp(path + n - 3, ".db") != 0 || !atomic_exchange(&hang, false))
        return;
    sem_post(&hanging);
    test_wait(&go_on);
}

// In place of the C library's, for SQLite too.
int fdatasync(int fd)
{
    note_flush(fd);
    hang_flush(fd);
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    note_flush(fd);
    hang_flush(fd);
    return (int)syscall(SYS_fsync, fd);
}

// A reader that has come when all was in the file needs that file as it is.
static sqlite3 *block_checkpoints(const char *day_file)
{
    char path[160];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/events/%s", state_path, day_file);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "PRAGMA wal_checkpoint; BEGIN; SELECT * FROM meta", NULL, NULL, NULL),
        SQLITE_OK);
    return db;
}

static void copy_state(const char *name)
{
    char command[512];
    snprintf(command, sizeof command, "cp -r %s %s/%s && rm -f %s/%s/events/*-shm", state_path, top,
             name, top, name);
    assert_int_equal(system(command), 0);
}

// What is written is there, but of the first day's log only what was flushed.
static void cut_power(const char *day)
{
    char path[160];
    copy_state("cut");
    snprintf(path, sizeof path, "%s/cut/events/%s-wal", top, day);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(synced, 1, (size_t)synced_bytes, f), synced_bytes);
    fclose(f);
    snprintf(state_path, sizeof state_path, "%s/cut", top);
}

// Somebody reads the old day's file for so long that it is not checkpointed when the next day begins. The new file
// says how far all is copied: so the old one's log must be flushed by then, or the power takes its end away unnoticed.
static void test_power_cut_at_a_day_change(void **state)
{
    (void)state;
    char day[16];
    struct wall before = wall_add_ms(midnight, -10);
    time_t seconds = (time_t)(before.us / SECOND);
    struct telling *t = mem_new(sizeof *t);
    strftime(day, sizeof day, "%Y%m%d.db", gmtime(&seconds));
    close_all(); // its loops look at the path
    snprintf(synced_path, sizeof synced_path, "%s/events/%s-wal", state_path, day);
    open_all();
    accept(1, before, 1);
    wait_for_all();
    sqlite3 *reader = block_checkpoints(day);
    accept(2, before, 1);
    wait_for_all();
    accept(3, midnight, 1);
    wait_for_all();
    close_all();
    cut_power(day);
    sqlite3_close(reader);
    open_all();
    read_all(10, t);
    assert_number("events", t->count, 3);
    free(t);
}

// A process that is killed leaves a log that is not flushed. The next one begins another day before it has written to
// that file: a power cut then must not take the log's end away, which the new file says is copied. (The days are to
// come: those that are over are sealed at the start, which flushes them.)
static void test_power_cut_after_a_kill_and_midnight(void **state)
{
    (void)state;
    char day[16];
    midnight = wall_add_ms(midnight, 4 * DAY_MS);
    struct wall before = wall_add_ms(midnight, -10);
    time_t seconds = (time_t)(before.us / SECOND);
    struct telling *t = mem_new(sizeof *t);
    strftime(day, sizeof day, "%Y%m%d.db", gmtime(&seconds));
    accept(1, before, 1);
    wait_for_all();
    accept(2, before, 1);
    wait_for_all();
    copy_state("killed");
    close_all();
    snprintf(state_path, sizeof state_path, "%s/killed", top);
    snprintf(synced_path, sizeof synced_path, "%s/events/%s-wal", state_path, day);
    synced_bytes = 0; // a day's commits flush nothing
    open_all();
    accept(3, midnight, 1);
    wait_for_all();
    close_all();
    cut_power(day);
    open_all();
    read_all(10, t);
    assert_number("events", t->count, 3);
    free(t);
}

// As soon as it has caught up, the history flushes what it has copied, which may take long. Nobody's commit waits.
static void test_a_slow_flush_holds_up_no_commit(void **state)
{
    (void)state;
    struct wall now = {time(NULL) * SECOND};
    sem_init(&hanging, 0, 0);
    sem_init(&go_on, 0, 0);
    accept(1, now, 1);
    wait_for_all();
    close_all();
    struct spool_options options = {.directory = spool_path, .followers = 1};
    assert_int_equal(spool_open(&options, NULL, &spool), OK);
    spool_start(spool);
    client = sys_loop_start("client");
    accept(2, now, 1);
    atomic_store(&hang, true);
    assert_int_equal(history_start(bytes_cstr(state_path), spool, KEEP_MS, 0, &history), OK);
    assert_true(test_wait(&hanging));
    int64_t before = now_ms();
    struct commit c = {.frame = spool_frame_new(SPOOL_OUTCOME)};
    spool_frame_add_note(c.frame, BYTES("k"), BYTES("v"));
    sem_init(&c.done, 0, 0);
    test_on_loop(client, start_commit, &c);
    while (sem_trywait(&c.done) != 0 && now_ms() - before < 5000)
        usleep(1000);
    bool late = now_ms() - before >= 5000;
    sem_post(&go_on);
    assert_true(!late || test_wait(&c.done));
    assert_false(late);
}

static void test_find(void **state)
{
    (void)state;
    struct message_id ids[7];
    for (uint32_t n = 1; n <= 6; n++)
        ids[n] = accept(n, wall_add_ms(midnight, n <= 3 ? (int64_t)n - 1000 : n), 2);
    wait_for_all();
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

// What happens after a restart is found by what its message is found by, however long ago that was accepted.
static void test_search_after_a_restart(void **state)
{
    (void)state;
    struct message_id id = accept(4, wall_add_ms(midnight, -10), 2);
    struct telling *t = mem_new(sizeof *t);
    struct history_filter filters[] = {{.recipient = BYTES("r4.2@example.net")},
                                       {.recipient = BYTES("@example.net")},
                                       {.sender = BYTES("sender4@example.org")},
                                       {.tag = BYTES("tag1")},
                                       {.message_id = BYTES("<4@example.org>")}};
    wait_for_all();
    close_all();
    open_all();
    happen(id, 2, wall_add_ms(midnight, 86400000), RECIPIENT_QUEUED, SPOOL_EVENT_DEFERRED);
    wait_for_all();
    for (size_t i = 0; i < COUNT_OF(filters); i++) {
        t->count = 0;
        filters[i].typed = true;
        filters[i].type = SPOOL_EVENT_DEFERRED;
        assert_int_equal(history_search(history, &filters[i], BYTES_NONE, 10, on_event, t), OK);
        assert_number("found", t->count, 1);
        assert_true(message_id_eq(t->at[0].id, id));
    }
    free(t);
}

// More than a block's worth: nothing is lost or told twice at their seams, and what is found comes newest first.
static void test_blocks(void **state)
{
    (void)state;
    enum { MESSAGES = 100 };
    struct message_id ids[MESSAGES + 1];
    struct history_filter newest = {.tag = BYTES("tag1")};
    struct telling *t = mem_new(sizeof *t);
    memset(long_text, 't', sizeof long_text);
    for (uint32_t n = 1; n <= MESSAGES; n++) {
        ids[n] = accept(n, wall_add_ms(midnight, n), 2);
        happen_with(ids[n], 2, midnight, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED,
                    bytes_of(long_text, sizeof long_text));
    }
    for (size_t page = 1; page <= 1000; page *= 10) {
        read_all(page, t);
        assert_number("events", t->count, 3 * MESSAGES);
        for (size_t i = 0; i < t->count; i++) {
            assert_true(message_id_eq(t->at[i].id, ids[i / 3 + 1]));
            assert_number("recipient", t->at[i].recipient, i % 3 == 0 ? 1 : 2);
            assert_true(t->at[i].address[0] != '\0');
        }
    }
    for (uint32_t n = 1; n <= MESSAGES; n++) {
        char address[64];
        struct history_filter filter = {.since = {0}};
        struct history_reader reader = {t, on_message, on_event};
        snprintf(address, sizeof address, "r%u.2@example.net", n);
        filter.recipient = bytes_cstr(address);
        t->ids_count = t->count = 0;
        assert_int_equal(history_find(history, &filter, 10, on_found, t), OK);
        assert_number("found", t->ids_count, 1);
        assert_true(message_id_eq(t->ids[0], ids[n]));
        assert_int_equal(history_show(history, ids[n], &reader), OK);
        assert_number("events", t->count, 3);
    }
    t->ids_count = 0;
    assert_int_equal(history_find(history, &newest, 30, on_found, t), OK);
    assert_number("found", t->ids_count, 30);
    for (uint32_t i = 0; i < 30; i++)
        assert_true(message_id_eq(t->ids[i], ids[MESSAGES - 3 * i]));
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
    wait_for_all();
    struct telling *t = mem_new(sizeof *t);
    accept(2, midnight, 1); // the writer has started, so it has looked
    read_all(10, t);
    assert_number("events", t->count, 2);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        assert_number(ROWS[i].name, is_there(ROWS[i].name), ROWS[i].kept);
    free(t);
}

// A start whose clock is ahead by a year takes one more day from the history at most, not all of it: here it is the
// records that are of a year ago.
static void test_a_clock_ahead_forgets_little(void **state)
{
    (void)state;
    enum { DAYS = 3 };
    char path[DAYS][DAY_PATH], older[DAY_PATH], name[16];
    struct wall past = wall_add_ms(midnight, -365 * DAY_MS);
    for (int i = 0; i < DAYS; i++) {
        struct wall at = wall_add_ms(past, i * DAY_MS);
        path_of_day(at, ".db", path[i]);
        accept((uint32_t)i + 1, at, 1);
        wait_for_all();
    }
    path_of_day(wall_add_ms(past, -KEEP_MS), ".db", older);
    snprintf(name, sizeof name, "%s", strrchr(older, '/') + 1);
    touch(name);
    close_all();
    open_all();
    happen(id_of(DAYS, wall_add_ms(past, 2 * DAY_MS)), 1, wall_add_ms(past, 2 * DAY_MS),
           RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED); // the writer has started, so it has looked
    wait_for_all();
    for (int i = 0; i < DAYS; i++)
        assert_number("kept", access(path[i], F_OK), 0);
    assert_number("too old all the same", is_there(name), false);
}

struct named {
    uint32_t account, count;
    char text[256];
};

static void on_named(void *ctx, const struct envelope *e)
{
    struct named *n = ctx;
    *n = (struct named){.account = e->account, .count = e->recipients_count};
    for (uint32_t i = 0; i < e->recipients_count; i++) {
        const struct recipient *r = &e->recipients[i];
        size_t used = strlen(n->text);
        snprintf(n->text + used, sizeof n->text - used, "%u %.*s %.*s;", r->number,
                 BYTES_FMT(r->address), BYTES_FMT(r->domain));
    }
}

static void happen_by_name(struct message_id id, uint32_t recipient, enum recipient_state state,
                           struct bytes address)
{
    struct spool_outcome o = {.id = id,
                              .recipient = recipient,
                              .state = state,
                              .event = state == RECIPIENT_DELIVERED ? SPOOL_EVENT_DELIVERED
                                                                    : SPOOL_EVENT_DEFERRED,
                              .at = {time(NULL) * SECOND},
                              .account = 7,
                              .address = address};
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_outcome(f, &o);
    commit(f);
}

// Mail that waits for longer than the history is kept outlives its acceptance there. What became of it says whom it went
// to, so that what comes back is known; it never says that nobody else got it.
static void test_outlived_acceptance(void **state)
{
    (void)state;
    struct wall long_ago = wall_add_ms(midnight, -KEEP_MS - 3 * DAY_MS);
    struct message_id id = accept(1, long_ago, 3), other = accept(2, long_ago, 2);
    struct named named;
    char path[DAY_PATH];
    path_of_day(long_ago, ".db", path);
    accept(4, midnight, 1);
    wait_for_all();
    close_all();
    open_all();
    accept(3, midnight, 1); // the writer has started, so it has looked
    wait_for_all();
    assert_int_equal(access(path, F_OK), -1);
    happen(other, 1, midnight, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    happen_by_name(id, 2, RECIPIENT_QUEUED, BYTES("two@Example.NET"));
    happen_by_name(id, 1, RECIPIENT_DELIVERED, BYTES("one@example.net"));
    happen_by_name(id, 2, RECIPIENT_DELIVERED, BYTES("two@Example.NET"));
    wait_for_all();
    assert_int_equal(history_envelope(history, id, on_named, &named), OK);
    assert_number("account", named.account, 7);
    assert_number("recipients", named.count, 3);
    assert_string_equal(named.text,
                        "1 one@example.net example.net;2 two@Example.NET example.net;0  ;");
    assert_int_equal(history_envelope(history, other, on_named, &named), E_NOT_FOUND);
    struct telling *t = mem_new(sizeof *t);
    read_all(100, t);
    assert_string_equal(t->at[t->count - 1].address, "two@Example.NET");
    free(t);
}

static void test_forgetting_by_size(void **state)
{
    (void)state;
    static const struct {
        uint64_t max;
        bool kept;
    } ROWS[] = {{1 << 30, true}, {2000000, false}, {1, false}};
    char path[200], name[16], today[16];
    time_t yesterday = (time_t)(midnight.us / SECOND) - 86400;
    strftime(today, sizeof today, "%Y%m%d.db", gmtime(&(time_t){midnight.us / SECOND}));
    strftime(name, sizeof name, "%Y%m%d.db", gmtime(&yesterday));
    snprintf(path, sizeof path, "%s/events/%s", state_path, name);
    accept(1, midnight, 1);
    touch(name);
    assert_int_equal(truncate(path, 3000000), 0);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        close_all();
        size_max = ROWS[i].max;
        open_all();
        accept(2 + (uint32_t)i, midnight, 1);
        wait_for_all(); // the writer has started, so it has looked
        assert_number("yesterday", is_there(name), ROWS[i].kept);
        assert_true(is_there(today)); // never the last
    }
    size_max = 0;
}

// A day's file that is none is passed over, not taken for an empty day that hides others.
static void test_damaged_day(void **state)
{
    (void)state;
    struct telling *t = mem_new(sizeof *t);
    accept(1, midnight, 1);
    char path[DAY_PATH];
    path_of_day(wall_add_ms(midnight, -3 * DAY_MS), ".db", path);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs("this is not a database, but it is long enough to be looked at as if it were one", f);
    fclose(f);
    read_all(10, t);
    assert_number("events", t->count, 1);
    free(t);
}

// One that records go to is moved out of the way; what the journal holds is copied again.
static void test_damaged_today(void **state)
{
    (void)state;
    struct telling *t = mem_new(sizeof *t);
    struct history_reader reader = {t, on_message, on_event};
    struct message_id id = accept(1, midnight, 1);
    wait_for_all();
    close_all();
    char path[DAY_PATH];
    path_of_day(midnight, ".db", path);
    FILE *f = fopen(path, "r+e");
    assert_non_null(f);
    fputs("no database", f);
    fclose(f);
    log_capture(swallow, NULL);
    open_all();
    accept(2, midnight, 1);
    wait_for_all();
    assert_int_equal(history_show(history, id, &reader), OK);
    assert_number("events", t->count, 1);
    path_of_day(midnight, ".damaged1", path);
    assert_int_equal(access(path, F_OK), 0);
    log_capture(NULL, NULL);
    free(t);
}

static void open_small(void)
{
    struct spool_options options = {
        .directory = spool_path, .segment_bytes = SPOOL_SEGMENT_BYTES_MIN, .followers = 1};
    assert_int_equal(spool_open(&options, NULL, &spool), OK);
    spool_start(spool);
    assert_int_equal(history_start(bytes_cstr(state_path), spool, KEEP_MS, 0, &history), OK);
    client = sys_loop_start("client");
}

// One that is over is moved out of the way when a question finds it damaged; what is still live is in the history again
// once it has been copied on, over restarts too, and once only. That of other days is told once, as before.
static void test_damaged_past_day(void **state)
{
    (void)state;
    struct telling *t = mem_new(sizeof *t);
    struct history_reader reader = {t, on_message, on_event};
    struct wall before = wall_add_ms(midnight, -10);
    char path[DAY_PATH];
    close_all();
    open_small();
    struct message_id id = accept(1, before, 2), other = accept(2, midnight, 2);
    uint64_t first = find_oldest();
    happen(id, 1, midnight, RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED);
    wait_for_all();
    path_of_day(before, ".db", path);
    FILE *f = fopen(path, "r+e");
    assert_non_null(f);
    fputs("no database", f);
    fclose(f);
    log_capture(swallow, NULL);
    assert_int_equal(history_show(history, id, &reader), E_NOT_FOUND);
    path_of_day(before, ".damaged1", path);
    for (int i = 0; i < 10000 && access(path, F_OK) != 0; i++)
        usleep(1000);
    assert_int_equal(access(path, F_OK), 0);
    uint32_t n = 3;
    for (int round = 0; round < 20 && find_oldest() <= first; round++) {
        wait_for_all();
        close_all();
        open_small();
        wait_for_all();
        for (int i = 0; i < 30; i++, n++)
            happen(accept_sized(n, midnight, 1, 100000), 1, midnight, RECIPIENT_DELIVERED,
                   SPOOL_EVENT_DELIVERED);
    }
    assert_true(find_oldest() > first);
    wait_for_all();
    log_capture(NULL, NULL);
    const struct message_id ids[] = {id, other};
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        t->count = t->messages = 0;
        assert_int_equal(history_show(history, ids[i], &reader), OK);
        assert_number("messages", t->messages, 1);
        assert_number("events", t->count, i == 0 ? 3 : 2);
    }
    assert_number("state", t->at[0].state, RECIPIENT_QUEUED);
    free(t);
}

static int64_t number_of(const char *path, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    int64_t number = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    sqlite3_finalize(st);
    sqlite3_close(db);
    return number;
}

// An index that does not hold is no reason to tell less, and the writer makes it again.
static void test_damaged_index(void **state)
{
    (void)state;
    char path[DAY_PATH];
    struct telling *t = mem_new(sizeof *t);
    struct history_filter filter = {.recipient = BYTES("r1.1@example.net")};
    path_of_day(midnight, ".db", path);
    accept(1, midnight, 1);
    wait_for_all();
    assert_number("left", number_of(path, "UPDATE notes SET data = x'' RETURNING 7"), 7);
    log_capture(swallow, NULL);
    assert_int_equal(history_search(history, &filter, BYTES_NONE, 10, on_event, t), OK);
    assert_number("found", t->count, 1);
    int64_t sheets = 0;
    for (int i = 0; i < 3000 && !sheets; i++) {
        usleep(10000);
        sheets = number_of(path, "SELECT count(*) FROM sheet");
    }
    log_capture(NULL, NULL);
    assert_number("sheets", sheets, 1);
    accept(2, midnight, 1);
    wait_for_all();
    t->count = 0;
    filter.recipient = BYTES("@example.net");
    assert_int_equal(history_search(history, &filter, BYTES_NONE, 10, on_event, t), OK);
    assert_number("found", t->count, 2);
    free(t);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_show, setup, teardown),
    cmocka_unit_test_setup_teardown(test_feedback, setup, teardown),
    cmocka_unit_test_setup_teardown(test_midnight, setup, teardown),
    cmocka_unit_test_setup_teardown(test_clock_set_back_over_midnight, setup, teardown),
    cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
    cmocka_unit_test_setup_teardown(test_waiting_ends, setup, teardown),
    cmocka_unit_test_setup_teardown(test_nobody_waits_for_one_that_lags, setup, teardown),
    cmocka_unit_test_setup_teardown(test_nobody_waits_for_one_that_fails, setup, teardown),
    cmocka_unit_test_setup_teardown(test_a_day_that_can_not_be_read, setup, teardown),
    cmocka_unit_test_setup_teardown(test_asked_after_the_stop, setup, teardown),
    cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
    cmocka_unit_test_setup_teardown(test_other_spool, setup, teardown),
    cmocka_unit_test_setup_teardown(test_lost_and_compacted, setup, teardown),
    cmocka_unit_test_setup_teardown(test_power_cut_at_a_day_change, setup, teardown),
    cmocka_unit_test_setup_teardown(test_power_cut_after_a_kill_and_midnight, setup, teardown),
    cmocka_unit_test_setup_teardown(test_a_slow_flush_holds_up_no_commit, setup, teardown),
    cmocka_unit_test_setup_teardown(test_find, setup, teardown),
    cmocka_unit_test_setup_teardown(test_search_after_a_restart, setup, teardown),
    cmocka_unit_test_setup_teardown(test_blocks, setup, teardown),
    cmocka_unit_test_setup_teardown(test_forgetting, setup, teardown),
    cmocka_unit_test_setup_teardown(test_a_clock_ahead_forgets_little, setup, teardown),
    cmocka_unit_test_setup_teardown(test_outlived_acceptance, setup, teardown),
    cmocka_unit_test_setup_teardown(test_forgetting_by_size, setup, teardown),
    cmocka_unit_test_setup_teardown(test_damaged_day, setup, teardown),
    cmocka_unit_test_setup_teardown(test_damaged_today, setup, teardown),
    cmocka_unit_test_setup_teardown(test_damaged_past_day, setup, teardown),
    cmocka_unit_test_setup_teardown(test_damaged_index, setup, teardown),
};

RUN_TESTS(tests)
