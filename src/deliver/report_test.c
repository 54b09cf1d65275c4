// SPDX-License-Identifier: MIT
//
// What a batch came to, on the simulator: the journal's records, the notifications, what stays queued.
#include "deliver/report.h"

#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/log.h"
#include "base/test_base.h"
#include "route/route.h"
#include "sim_disk.h"
#include "sim_spool.h"
#include "spool/spool_reader.h"

#define PATIENCE_MS 60000
#define RECORDS_MAX 2000
#define MANY 130
#define ACCOUNT 7
#define ADDRESS "r%u@d%u.example"

static const char CONFIG[] = "hostname: relay.example\nspool: /x/spool\nstate: /x/state\n"
                             "retry: {first: 1m, factor: 2, max: 1h, lifetime: 1d}\n";

static struct sim_spool world;
static struct conf *conf;
static struct route_table *routes;
static struct intake_port port;
static struct reporter reporter;
static struct conf_snapshot snapshot;

static void no_kick(void *ctx, uint64_t workers)
{
    (void)ctx;
    (void)workers;
}

static int setup_with(uint64_t segment_bytes)
{
    struct buf errors = {0};
    if (!sim_spool_start(&world, 11, segment_bytes) ||
        conf_load_text(bytes_cstr(CONFIG), "test", "/", &conf, &errors) != OK ||
        route_table_new(conf, NULL, 1, &routes, &errors) != OK)
        return -1;
    struct queue_options options = {
        .workers = 1, .stored_bytes_max = 1 << 20, .seed = 1, .conf = conf};
    port =
        (struct intake_port){.spool = world.spool, .queue = queue_new(&options), .kick = no_kick};
    snapshot = (struct conf_snapshot){.conf = conf, .routes = routes};
    reporter = (struct reporter){.port = &port, .snapshot = &snapshot};
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_with(1 << 20);
}

static int teardown(void **state)
{
    (void)state;
    queue_free(port.queue);
    bool ok = sim_spool_stop(&world);
    route_table_free(routes);
    conf_free(conf);
    return ok ? 0 : -1;
}

// ---- one message, reported on --------------------------------------------------------------------------------

struct row {
    const char *name;
    uint32_t recipients;
    enum verdict_kind kind, other; // `other`: of every second recipient
    uint32_t notify;
    bool null_sender, bounce;
    uint32_t notifications; // wanted
    uint32_t queued;        // recipients of the message that stay
    enum recipient_state state;
    size_t header_bytes; // 0: few; else with long answers
    int64_t age_ms;      // since it was accepted
};

struct seen {
    enum spool_record_type type;
    enum spool_event event;
    enum recipient_state state;
    uint32_t attempts;
    bool original; // of the message reported on
    bool named;    // says whose mail it was, and to whom
};

struct trial {
    struct sys_task task;
    const struct row *row;
    struct stored_message *message;
    bool full; // it comes when there is no room any more
    bool reported, done;
    clock_t took; // of the processor, by report_batch()
    struct seen seen[RECORDS_MAX];
    size_t count;
};

static struct bytes long_header(struct arena *arena, size_t len)
{
    char *at = arena_new(arena, len);
    memset(at, 'x', len);
    for (size_t i = 0; i + 100 < len; i += 100)
        memcpy(at + i, "\r\nX: ", 5);
    memcpy(at, "X-X: ", 5);
    memcpy(at + len - 4, "\r\n\r\n", 4);
    return bytes_of(at, len);
}

static struct stored_message *make(const struct row *row)
{
    struct stored_message *m = stored_message_new();
    struct envelope *e = m->envelope;
    e->id = spool_next_id(world.spool, sys_wall());
    e->account = ACCOUNT;
    e->accepted_at = wall_add_ms(sys_wall(), -row->age_ms);
    e->expires_at = wall_add_ms(sys_wall(), 86400000);
    e->reverse_path = row->null_sender ? BYTES_NONE : BYTES("sender@origin.example");
    e->origin = row->bounce ? ORIGIN_BOUNCE : ORIGIN_SMTP;
    e->recipients_count = row->recipients;
    e->recipients = arena_new(&m->arena, row->recipients * sizeof *e->recipients);
    for (uint32_t i = 0; i < row->recipients; i++)
        e->recipients[i] =
            (struct recipient){.number = i + 1,
                               .address = arena_printf(&m->arena, ADDRESS, i + 1, i % 3),
                               .domain = arena_printf(&m->arena, "d%u.example", i % 3),
                               .notify = row->notify};
    m->header = row->header_bytes ? long_header(&m->arena, row->header_bytes)
                                  : arena_dup(&m->arena, BYTES("Subject: x\r\n\r\n"));
    chain_add(&m->body, BYTES("body\r\n"));
    e->header_bytes = m->header.len;
    e->body_bytes = m->body.len;
    return m;
}

static void report_all(struct trial *t)
{
    struct queue_filter filter = {.by = QUEUE_SELECT_ID, .id = t->message->envelope->id};
    struct report_facts facts = {BYTES("mx.example"), BYTES("192.0.2.1:25"), BYTES_NONE,
                                 BYTES("default->mx.example")};
    struct queue_batch *batch = NULL;
    uint64_t cursor = 0;
    CHECK(queue_claim(port.queue, &filter, &cursor, acceptance_now(), &batch) && batch);
    CHECK(batch->count == t->row->recipients);
    struct verdict *verdicts = mem_new(batch->count * sizeof *verdicts);
    char answer[VERDICT_TEXT_MAX];
    memset(answer, 'x', sizeof answer);
    for (uint32_t i = 0; i < batch->count; i++)
        verdicts[i] = verdict_make(i % 2 ? t->row->other : t->row->kind, 550, "5.1.1",
                                   t->row->header_bytes ? bytes_of(answer, sizeof answer)
                                                        : BYTES("no such user"));
    clock_t began = clock();
    report_batch(&reporter, batch, t->message, verdicts, &facts);
    t->took = clock() - began;
    free(verdicts);
    t->reported = true;
}

// ---- a full disk -----------------------------------------------------------------------------------------------

static const struct row LARGE = {.recipients = 1, .header_bytes = 60000}, SMALL = {.recipients = 1};
static uint32_t fillers_refused; // of the last in a row: what compaction frees is filled, too
static bool full_for_intake;

// Mail, and then reports about nobody's, until there is no room even for these.
static void on_filler(void *ctx, int err)
{
    struct trial *t = ctx;
    fillers_refused = err == E_FULL ? fillers_refused + 1 : 0;
    full_for_intake |= err == E_FULL;
    if (fillers_refused > 100) {
        report_all(t);
        return;
    }
    struct spool_frame *frame = spool_frame_new(full_for_intake ? SPOOL_REPORT : SPOOL_INTAKE);
    struct stored_message *m = make(full_for_intake ? &SMALL : &LARGE);
    spool_frame_add_message(frame, m);
    stored_message_unref(m);
    spool_commit(world.spool, frame, on_filler, t);
}

static void on_accepted(void *ctx, int err)
{
    struct trial *t = ctx;
    CHECK(err == OK);
    if (t->full)
        on_filler(t, OK);
    else
        report_all(t);
}

static void begin(struct sys_task *task)
{
    struct trial *t = container_of(task, struct trial, task);
    t->message = make(t->row);
    uint32_t *keys = mem_new(t->row->recipients * sizeof *keys);
    struct spool_frame *frame = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_message(frame, t->message);
    acceptance_commit(&port, frame, stored_message_ref(t->message), keys, on_accepted, t);
    free(keys);
}

static bool is_address(struct bytes address, uint32_t recipient)
{
    char want[64];
    snprintf(want, sizeof want, ADDRESS, recipient, (recipient - 1) % 3);
    return bytes_eq(address, bytes_cstr(want));
}

// All that the journal says by now.
static void read_journal(struct sys_task *task)
{
    struct trial *t = container_of(task, struct trial, task);
    struct spool_reader *reader = spool_reader_open(world.spool, 0);
    struct spool_record r;
    while (spool_reader_next(reader, &r) == OK) {
        CHECK(t->count < RECORDS_MAX);
        if (r.type == SPOOL_RECORD_NOTE)
            continue;
        bool outcome = r.type == SPOOL_RECORD_OUTCOME;
        struct message_id id = outcome ? r.outcome.id : r.envelope->id;
        t->seen[t->count++] =
            (struct seen){.type = r.type,
                          .event = outcome ? r.outcome.event : SPOOL_EVENT_ACCEPTED,
                          .state = outcome ? r.outcome.state : RECIPIENT_QUEUED,
                          .attempts = outcome ? r.outcome.attempts : 0,
                          .named = outcome && r.outcome.account == ACCOUNT &&
                                   is_address(r.outcome.address, r.outcome.recipient),
                          .original = message_id_eq(id, t->message->envelope->id)};
    }
    spool_reader_close(reader);
    stored_message_unref(t->message);
    t->done = true;
}

static bool is_reported(void *ctx)
{
    struct trial *t = ctx;
    return t->reported && reporter.open == 0;
}

static bool is_done(void *ctx)
{
    return ((struct trial *)ctx)->done;
}

static uint64_t queued(struct message_id id)
{
    struct queue_filter filter = {.by = QUEUE_SELECT_ID, .id = id};
    uint64_t cursor = 0, count = 0;
    while (queue_match(port.queue, &filter, &cursor, &count))
        ;
    return count;
}

// Of its recipients, with the same history each; what was not tried counts as no attempt.
static uint32_t attempts_of(struct message_id id)
{
    struct queue_filter filter = {.by = QUEUE_SELECT_ID, .id = id};
    struct queue_row row = {0};
    struct queue_now now = {{0}, {0}};
    for (uint64_t cursor = 0; cursor != UINT64_MAX && !row.recipients;)
        queue_list(port.queue, &filter, &cursor, now, &row, 1);
    assert_true(row.recipients > 0);
    return row.attempts;
}

static size_t count_seen(const struct trial *t, enum spool_event event, bool original)
{
    size_t n = 0;
    for (size_t i = 0; i < t->count; i++)
        n += t->seen[i].event == event && t->seen[i].original == original;
    return n;
}

static const struct row ROWS[] = {
    {"delivered", 3, VERDICT_DELIVERED, VERDICT_DELIVERED, 0, false, false, 0, 0,
     RECIPIENT_DELIVERED},
    {"relayed", 3, VERDICT_RELAYED, VERDICT_PASSED, 0, false, false, 0, 0, RECIPIENT_RELAYED},
    {"relayed, told", 2, VERDICT_RELAYED, VERDICT_RELAYED, NOTIFY_SUCCESS, false, false, 1, 0,
     RECIPIENT_RELAYED},
    {"passed on with the duty to tell", 2, VERDICT_PASSED, VERDICT_PASSED, NOTIFY_SUCCESS, false,
     false, 0, 0, RECIPIENT_RELAYED},
    {"failed", 3, VERDICT_FAILED, VERDICT_FAILED, 0, false, false, 1, 0, RECIPIENT_FAILED},
    {"failed, one told", 2, VERDICT_FAILED, VERDICT_DELIVERED, NOTIFY_FAILURE, false, false, 1, 0,
     RECIPIENT_FAILED},
    {"failed, NEVER", 3, VERDICT_FAILED, VERDICT_FAILED, NOTIFY_NEVER, false, false, 0, 0,
     RECIPIENT_FAILED},
    {"failed, null sender", 3, VERDICT_FAILED, VERDICT_FAILED, 0, true, false, 0, 0,
     RECIPIENT_FAILED},
    {"failed notification", 1, VERDICT_FAILED, VERDICT_FAILED, 0, false, true, 0, 0,
     RECIPIENT_FAILED},
    {"deferred", 3, VERDICT_DEFERRED, VERDICT_DEFERRED, 0, false, false, 0, 3, RECIPIENT_QUEUED},
    {"expired", 3, VERDICT_EXPIRED, VERDICT_EXPIRED, 0, false, false, 1, 0, RECIPIENT_EXPIRED},
    {"returned", 3, VERDICT_RETURNED, VERDICT_RETURNED, 0, false, false, 1, 0, RECIPIENT_FAILED},
    {"warned", 3, VERDICT_WARNED, VERDICT_WARNED, 0, false, false, 1, 3, RECIPIENT_QUEUED},
    {"a frame's worth", REPORT_FRAME_RECIPIENTS, VERDICT_FAILED, VERDICT_FAILED, 0, false, false, 1,
     0, RECIPIENT_FAILED},
    {"one more", REPORT_FRAME_RECIPIENTS + 1, VERDICT_FAILED, VERDICT_FAILED, 0, false, false, 2, 0,
     RECIPIENT_FAILED},
    {"many", MANY, VERDICT_FAILED, VERDICT_FAILED, 0, false, false, 3, 0, RECIPIENT_FAILED},
    {"many, half of them tried again", MANY, VERDICT_FAILED, VERDICT_DEFERRED, 0, false, false, 3,
     MANY / 2, RECIPIENT_FAILED},
    {"a header of which not all can be returned", REPORT_FRAME_RECIPIENTS, VERDICT_FAILED,
     VERDICT_DELIVERED, 0, false, false, 1, 0, RECIPIENT_FAILED, STORED_INLINE_MAX},
    {"untried", 3, VERDICT_UNTRIED, VERDICT_UNTRIED, 0, false, false, 0, 3, RECIPIENT_QUEUED},
    {"delivered within the hour", 3, VERDICT_DELIVERED, VERDICT_DELIVERED, 0, false, false, 0, 0,
     RECIPIENT_DELIVERED, 0, REPORT_NAMED_AFTER_MS / 2},
    {"delivered later", 3, VERDICT_DELIVERED, VERDICT_RELAYED, 0, false, false, 0, 0,
     RECIPIENT_DELIVERED, 0, 2 * REPORT_NAMED_AFTER_MS},
};

// Each recipient has its outcome, and each notification stands right behind what it tells of.
static void check_journal(const struct row *row, const struct trial *t)
{
    bool untried = row->kind == VERDICT_UNTRIED, warned = row->kind == VERDICT_WARNED;
    size_t outcomes = 0, notices = 0;
    for (size_t i = 0; i < t->count; i++) {
        const struct seen *s = &t->seen[i];
        if (s->type == SPOOL_RECORD_MESSAGE && !s->original) {
            notices++;
            assert_true(i > 0 && t->seen[i - 1].event == SPOOL_EVENT_DSN &&
                        t->seen[i - 1].original);
        } else if (s->original && s->type == SPOOL_RECORD_OUTCOME &&
                   (warned || s->event != SPOOL_EVENT_DSN)) {
            bool first = outcomes++ % 2 == 0 && row->kind != row->other;
            assert_number(row->name, s->named, row->age_ms > REPORT_NAMED_AFTER_MS);
            if (row->kind == row->other || first)
                assert_number(row->name, s->state, row->state);
        } else if (s->original && s->event == SPOOL_EVENT_DSN) {
            assert_number(row->name, s->state, row->state);
        }
    }
    assert_number(row->name, outcomes, untried ? 0 : row->recipients);
    assert_number(row->name, notices, row->notifications);
    if (row->notifications && !warned && row->kind == row->other)
        assert_number(row->name, count_seen(t, SPOOL_EVENT_DSN, true), row->recipients);
}

static size_t told; // lines about a recipient

static void on_line(void *ctx, struct bytes line)
{
    (void)ctx;
    size_t texts = 0;
    ptrdiff_t at;
    told += bytes_search(line, BYTES("\"text\":\"recipient\"")) >= 0 &&
            bytes_search(line, BYTES(",\"answer\":\"")) >= 0;
    for (; (at = bytes_search(line, BYTES("\"text\":"))) >= 0; texts++)
        line = bytes_skip(line, (size_t)at + 1);
    assert_int_equal(texts, 1);
}

// A JSON line has the name of its event, and beside it what the server said.
static void test_log(void **state)
{
    assert_int_equal(setup(state), 0);
    struct trial *t = mem_new(sizeof *t);
    t->row = &ROWS[0];
    t->task.run = begin;
    told = 0;
    log_setup(LOG_INFO, LOG_JSON);
    log_capture(on_line, NULL);
    sys_post(world.client, &t->task);
    assert_true(sim_run_until(is_reported, t, PATIENCE_MS));
    assert_int_equal(told, ROWS[0].recipients);
    log_capture(NULL, NULL);
    log_setup(LOG_INFO, LOG_TEXT);
    sim_run_ms(1000);
    stored_message_unref(t->message);
    free(t);
    assert_int_equal(teardown(state), 0);
}

static struct trial *trial_run(const struct row *row)
{
    struct trial *t = mem_new(sizeof *t);
    t->row = row;
    t->task.run = begin;
    sys_post(world.client, &t->task);
    assert_true(sim_run_until(is_reported, t, PATIENCE_MS));
    return t;
}

static void check_row(const struct row *row)
{
    struct trial *t = trial_run(row);
    sim_run_ms(1000);
    assert_number(row->name, queued(t->message->envelope->id), row->queued);
    uint64_t all = 0, cursor = 0;
    while (queue_match(port.queue, &(struct queue_filter){.by = QUEUE_SELECT_ALL}, &cursor, &all))
        ;
    assert_number(row->name, all, row->queued + row->notifications);
    t->task.run = read_journal;
    sys_post(world.client, &t->task);
    assert_true(sim_run_until(is_done, t, PATIENCE_MS));
    check_journal(row, t);
    free(t);
}

static void test_report(void **state)
{
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        assert_int_equal(setup(state), 0);
        check_row(&ROWS[i]);
        assert_int_equal(teardown(state), 0);
    }
}

// A notification that the spool does not take: what became of the recipients is recorded all the same.
static void test_refused_notification(void **state)
{
    static const struct row row = {.name = "refused",
                                   .recipients = REPORT_FRAME_RECIPIENTS,
                                   .kind = VERDICT_FAILED,
                                   .other = VERDICT_DELIVERED,
                                   .state = RECIPIENT_FAILED,
                                   .header_bytes = 90000};
    assert_int_equal(setup_with(SPOOL_SEGMENT_BYTES_MIN), 0);
    check_row(&row);
    assert_int_equal(teardown(state), 0);
}

static struct trial *trial_on_full_disk(const struct row *row)
{
    struct sim_disk *d = sim_disk_find(SIM_SPOOL_DIRECTORY);
    struct trial *t = mem_new(sizeof *t);
    sim_run_ms(2000); // segments are made ahead
    sim_disk_capacity(d, sim_disk_used_bytes(d) + 65536, 100000);
    t->row = row;
    t->full = true;
    t->task.run = begin;
    fillers_refused = 0;
    full_for_intake = false;
    sys_post(world.client, &t->task);
    assert_true(sim_run_until(is_reported, t, 10 * PATIENCE_MS));
    return t;
}

// No room for a notification: nothing is recorded of what it would tell of, and those recipients stay queued. What was
// delivered is recorded. A warning that can't be given delays nobody further.
static void test_no_room_for_a_notification(void **state)
{
    static const struct row rows[] = {
        {"expired", 3, VERDICT_EXPIRED, VERDICT_EXPIRED, .queued = 3},
        {"warned", 3, VERDICT_WARNED, VERDICT_WARNED, .queued = 3},
        {"returned", 3, VERDICT_RETURNED, VERDICT_RETURNED, .queued = 3},
        {"failed", 3, VERDICT_FAILED, VERDICT_DEFERRED, .queued = 3},
        {"failed, NEVER", 3, VERDICT_FAILED, VERDICT_FAILED, NOTIFY_NEVER},
        {"one was delivered", 2, VERDICT_FAILED, VERDICT_DELIVERED, .notifications = 1},
        {"delivered", 3, VERDICT_DELIVERED, VERDICT_DELIVERED},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct row *row = &rows[i];
        assert_int_equal(setup_with(SPOOL_SEGMENT_BYTES_MIN), 0);
        struct trial *t = trial_on_full_disk(row);
        assert_number(row->name, queued(t->message->envelope->id), row->queued);
        assert_number(row->name, reporter.put_off, row->queued);
        if (row->kind == VERDICT_WARNED)
            assert_number("attempts", attempts_of(t->message->envelope->id), 0);
        t->task.run = read_journal;
        sys_post(world.client, &t->task);
        assert_true(sim_run_until(is_done, t, PATIENCE_MS));
        size_t outcomes = 0;
        for (size_t n = 0; n < t->count; n++)
            outcomes += t->seen[n].original && t->seen[n].type == SPOOL_RECORD_OUTCOME &&
                        t->seen[n].event != SPOOL_EVENT_DSN;
        assert_number(row->name, outcomes, row->queued ? 0 : row->recipients);
        free(t);
        assert_int_equal(teardown(state), 0);
    }
}

static clock_t time_of(uint32_t recipients)
{
    struct row row = {
        .name = "long", .recipients = recipients, .kind = VERDICT_FAILED, .other = VERDICT_FAILED};
    assert_int_equal(setup_with(64 << 20), 0);
    struct trial *t = trial_run(&row);
    clock_t took = t->took;
    stored_message_unref(t->message);
    free(t);
    assert_int_equal(teardown(NULL), 0);
    return took;
}

static void test_linear(void **state)
{
    (void)state;
    test_is_linear(time_of, 5000);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_report),
    cmocka_unit_test(test_refused_notification),
    cmocka_unit_test(test_no_room_for_a_notification),
    cmocka_unit_test(test_log),
    cmocka_unit_test(test_linear),
};

RUN_TESTS(tests)
