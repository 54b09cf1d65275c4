// SPDX-License-Identifier: MIT
//
// The suppression list behind a journal that loses its power, is killed and has a failing disk, many times over. What
// was said to be kept (a bounce, a complaint, an unsubscribe: answered once its record is flushed) is on the list
// after whatever restart, once; what never was flushed makes no entry; and soon after the flush no mail of that account
// would get through; nor does a stop lose any of it whose last reading fails. The journal is the simulator's, the list's
// database a real one. SUPPRESS_CRASH_SEEDS: how many worlds (default 12).
#include <json-c/json.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/test_base.h"
#include "sim_disk.h"
#include "spool/spool.h"
#include "store/store_directory.h"
#include "store/suppress_private.h"

// What a crashed world held is lost on purpose, as it is when a process is killed: leaks mean nothing here.
int __lsan_is_turned_off(void); // NOLINT(bugprone-reserved-identifier): its name is the sanitizer's
int __lsan_is_turned_off(void)  // NOLINT(bugprone-reserved-identifier)
{
    return 1;
}

#define ROOT "/spool"
#define SEGMENT ((uint64_t)64 << 10)
#define EVENTS_MAX 2000
#define LIVES 5
#define EVENTS_A_LIFE 80
#define FOLLOWED_MS 2000 // within this the list knows what was flushed
#define PATIENCE_MS 600000

// An event: feedback about an address of its own.
enum fate { NOT_ASKED, ASKED, KEPT, REFUSED };
static struct event {
    struct sys_task task;
    enum fate fate;
    int64_t kept_us;
    bool two; // the same record comes a second time
} events[EVENTS_MAX];

static struct sim_host *host;
static struct spool *spool;
static struct suppress *list;
static struct sys_loop *client;
static char folder[64];
static uint32_t used;
static int64_t bounce_keep_ms; // 0: for ever
static int64_t started_us;

static uint32_t number_of(const struct event *e)
{
    return (uint32_t)(e - events);
}

static struct bytes address_of(uint32_t n, char out[64])
{
    snprintf(out, 64, "u%u@%s.test", n, n % 2 ? "a" : "b");
    return bytes_cstr(out);
}

// ---- the host ------------------------------------------------------------------------------------------

static void open_in_host(void *ctx)
{
    const struct spool_options options = {.directory = ROOT,
                                          .segment_bytes = SEGMENT,
                                          .free_bytes_min = SEGMENT,
                                          .followers = SPOOL_FOLLOWERS,
                                          .reserve_segments = 2};
    struct buf error = {0};
    if (spool_open(&options, NULL, &spool))
        return; // a disk that fails just now
    spool_start(spool);
    spool_copied(spool, SPOOL_HISTORY, UINT64_MAX); // there is none here
    CHECK(suppress_open(bytes_cstr(folder), &list, &error) == OK);
    struct suppress_policy policy = {.hard_bounces = true, .bounce_keep_ms = bounce_keep_ms};
    CHECK(suppress_start(list, spool, &policy) == OK);
    client = sys_loop_start("client");
    *(bool *)ctx = true;
}

// The process is gone, and with it its locks on the database; what it had not committed is rolled back.
static void forget_list(void)
{
    if (list)
        suppress_list_close(list->list);
    list = NULL;
}

static void start(bool calm)
{
    bool opened = false;
    for (int tries = 0; !opened; tries++) {
        CHECK(tries < 50);
        forget_list();
        if (sim_host_is_down(host))
            sim_host_boot(host);
        if (!calm && sim_chance(DICE_TEST, 1, 3)) // cut the restart short, too
            sim_host_crash_at(host, SIM_POWER, 1 + sim_roll(DICE_TEST, 60));
        sim_host_call(host, open_in_host, &opened);
        opened = opened && !sim_host_is_down(host);
        if (!opened && !sim_host_is_down(host))
            sim_host_crash(host, SIM_KILL);
    }
    sim_host_crash_at(host, SIM_POWER, 0);
    started_us = sim_now_us();
}

// ---- events --------------------------------------------------------------------------------------------

static void on_kept(void *ctx, int err)
{
    struct event *e = ctx;
    e->fate = err ? REFUSED : KEPT;
    e->kept_us = sim_now_us();
}

static void commit(struct sys_task *task)
{
    static const enum feedback_kind KINDS[] = {FEEDBACK_BOUNCE, FEEDBACK_COMPLAINT,
                                               FEEDBACK_UNSUBSCRIBE};
    struct event *e = container_of(task, struct event, task);
    char address[64];
    uint32_t n = number_of(e);
    struct spool_frame *frame = spool_frame_new(SPOOL_INTAKE);
    struct spool_feedback feedback = {.id = message_id_make((struct wall){1}, 1, 1, n),
                                      .recipient = 1,
                                      .kind = KINDS[n % 3],
                                      .class = {BOUNCE_USER_UNKNOWN, true},
                                      .at = sys_wall(),
                                      .account = 7,
                                      .address = address_of(n, address)};
    for (int i = 0; i <= e->two; i++)
        spool_frame_add_feedback(frame, &feedback);
    e->fate = ASKED;
    spool_commit(spool, frame, on_kept, e);
}

static void post_event(void *ctx)
{
    sys_post(client, ctx);
}

static void add_event(void)
{
    struct event *e = &events[used++];
    e->task.run = commit;
    e->two = sim_chance(DICE_TEST, 1, 5);
    if (!sim_host_is_down(host))
        sim_host_call(host, post_event, &e->task);
}

// ---- the laws ------------------------------------------------------------------------------------------

static bool may_pass(uint32_t n)
{
    char address[64];
    return !suppress_may_hit(list, 7, BYTES_NONE, address_of(n, address));
}

// No mail passes soon after the flush, or after the start that followed it.
static void check_suppressed(void)
{
    for (uint32_t n = 0; n < used && !sim_host_is_down(host); n++)
        if (events[n].fate == KEPT && sim_now_us() - events[n].kept_us > FOLLOWED_MS * 1000 &&
            sim_now_us() - started_us > FOLLOWED_MS * 1000 && may_pass(n))
            fail_msg("seed %llu: %u was kept at %lld us, and is not suppressed",
                     (unsigned long long)sim_seed(), n, (long long)events[n].kept_us);
}

// How many lines the log of changes has about the address, or -1: no entry.
static int changes_of(uint32_t n)
{
    char address[64];
    struct buf error = {0};
    struct json_object *result = NULL, *entries, *changes, *args = json_object_new_object();
    struct store_directory *none = store_directory_empty();
    address_of(n, address);
    json_object_object_add(args, "address", json_object_new_string(address));
    struct suppress_op op = {
        .name = "suppress.check", .args = args, .now = sim_wall(), .directory = none};
    int err = suppress_list_apply(list->list, &op, &result, &error);
    if (err)
        fail_msg("%s: %s", address, buf_cstr(&error));
    CHECK(json_object_object_get_ex(result, "entries", &entries) &&
          json_object_object_get_ex(result, "changes", &changes));
    size_t count = json_object_array_length(entries);
    int logged = (int)json_object_array_length(changes);
    assert_true(count <= 1);
    json_object_put(args);
    json_object_put(result);
    store_directory_free(none);
    buf_done(&error);
    return count ? logged : -1;
}

static void check_end(void)
{
    for (uint32_t n = 0; n < used; n++) {
        int changes = changes_of(n);
        if (events[n].fate == KEPT && changes == -1)
            fail_msg("seed %llu: LOST %u", (unsigned long long)sim_seed(), n);
        if ((events[n].fate == REFUSED || events[n].fate == NOT_ASKED) && changes != -1)
            fail_msg("seed %llu: GHOST %u", (unsigned long long)sim_seed(), n);
        if (changes != -1 && changes != 1)
            fail_msg("seed %llu: DUP %u, %d changes", (unsigned long long)sim_seed(), n, changes);
    }
}

static void live(void)
{
    sim_host_crash_at(host, sim_chance(DICE_TEST, 1, 2) ? SIM_POWER : SIM_KILL,
                      1 + sim_roll(DICE_TEST, 400));
    if (sim_chance(DICE_TEST, 1, 3))
        sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_SYNC, 1 + sim_roll(DICE_TEST, 20), 1, E_IO);
    for (int i = 0; i < EVENTS_A_LIFE && !sim_host_is_down(host); i++) {
        add_event();
        sim_run_ms((int64_t)sim_roll(DICE_TEST, 200));
        if (!sim_host_is_down(host))
            check_suppressed();
    }
    if (!sim_host_is_down(host))
        sim_host_crash(host, SIM_POWER);
}

static void remove_files(void)
{
    static const char *const NAMES[] = {"suppressions.db", "suppressions.db-wal",
                                        "suppressions.db-shm"};
    char path[128];
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, NAMES[i]);
        unlink(path);
    }
}

static void run_world(uint64_t seed)
{
    used = 0;
    memset(events, 0, sizeof events);
    sim_start(seed);
    host = sim_host_new("relay", NULL);
    start(true);
    for (int i = 0; i < LIVES; i++) {
        live();
        start(false);
    }
    sim_run_ms(60000);
    check_suppressed();
    check_end();
    sim_host_crash(host, SIM_KILL);
    forget_list();
    sim_stop();
    remove_files();
}

static void swallow(void *ctx, struct bytes line)
{
    (void)ctx;
    (void)line;
}

static void test_crashes(void **state)
{
    (void)state;
    const char *seeds = getenv("SUPPRESS_CRASH_SEEDS");
    log_capture(swallow, NULL);
    for (uint64_t seed = 1; seed <= (seeds ? strtoull(seeds, NULL, 10) : 12); seed++)
        run_world(seed);
}

// ---- a stop --------------------------------------------------------------------------------------------

#define DENIED 2 // the number of the event whose entry the database does not take

static void run_sql(const char *sql)
{
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/suppressions.db", folder);
    CHECK(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK);
    CHECK(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    CHECK(sqlite3_close(db) == SQLITE_OK);
}

static void stop_in_host(void *ctx)
{
    spool_stop(spool);
    suppress_stop(list);
    sys_loop_stop(client);
    suppress_close(list);
    spool_close(spool);
    list = NULL;
}

static bool is_kept(void *ctx)
{
    return events[used - 1].fate == KEPT;
}

static void keep_event(void)
{
    add_event();
    assert_true(sim_run_until(is_kept, NULL, PATIENCE_MS));
}

// The list is stopped `after_ms` the last event was kept.
static const struct stop {
    const char *name;
    bool denies;
    int64_t after_ms;
} STOPS[] = {
    {"before it has looked", false, 0},
    {"before it has looked, and the database fails", true, 0},
    {"while the database fails, again and again", true, 5000},
};

// What was flushed is on the list after the stop; what the database did not take then, and what went back with it,
// after the next start.
static void stop_and_start(const struct stop *stop)
{
    struct buf error = {0};
    used = 0;
    memset(events, 0, sizeof events);
    sim_start(1);
    host = sim_host_new("relay", NULL);
    start(true);
    keep_event();
    sim_run_ms(10000); // it is read, and noted
    if (stop->denies)
        run_sql("CREATE TRIGGER deny BEFORE INSERT ON suppression WHEN new.address LIKE 'u2@%' "
                "BEGIN SELECT RAISE(ABORT, 'denied'); END");
    while (used <= DENIED)
        keep_event();
    sim_run_ms(stop->after_ms);
    assert_true(sim_host_call(host, stop_in_host, NULL));
    assert_int_equal(suppress_open(bytes_cstr(folder), &list, &error), OK);
    for (uint32_t n = 0; n < used; n++) {
        bool listed = changes_of(n) != -1;
        if (listed != (n == 0 || !stop->denies))
            fail_msg("%s: %u is %son the list", stop->name, n, listed ? "" : "not ");
    }
    suppress_close(list);
    list = NULL;
    if (stop->denies)
        run_sql("DROP TRIGGER deny");
    start(true);
    sim_run_ms(10000);
    check_end();
    assert_true(sim_host_call(host, stop_in_host, NULL));
    sim_stop();
    remove_files();
}

static void test_a_stop_forgets_nothing(void **state)
{
    (void)state;
    log_capture(swallow, NULL);
    for (size_t i = 0; i < COUNT_OF(STOPS); i++)
        stop_and_start(&STOPS[i]);
}

// ---- a clock that is wrong -----------------------------------------------------------------------------

#define DAY_MS ((int64_t)86400 * 1000)
#define KEEP_DAYS 90

static void start_again(int64_t clock_ms)
{
    assert_true(sim_host_call(host, stop_in_host, NULL));
    sim_wall_jump_ms(clock_ms);
    start(true);
}

// A start whose clock is ahead by a year, for minutes, removes no entry that is over by it; one that is over in truth
// goes, if only in a day or two where the service had been stopped for so long.
static void test_a_clock_ahead_removes_nothing(void **state)
{
    (void)state;
    log_capture(swallow, NULL);
    used = 0;
    memset(events, 0, sizeof events);
    sim_start(1);
    host = sim_host_new("relay", NULL);
    bounce_keep_ms = KEEP_DAYS * DAY_MS;
    start(true);
    keep_event(); // a bounce, of which the entry ends
    sim_run_ms(10000);
    assert_false(may_pass(0));
    start_again(365 * DAY_MS);
    sim_run_ms(600000);
    sim_wall_jump_ms(-365 * DAY_MS);
    sim_run_ms(600000);
    assert_int_equal(changes_of(0), 1);
    assert_false(may_pass(0));
    sim_run_ms((KEEP_DAYS - 1) * DAY_MS);
    assert_int_equal(changes_of(0), 1);
    start_again(2 * DAY_MS);
    sim_run_ms(DAY_MS / 8);
    assert_int_equal(changes_of(0), 1);
    sim_run_ms(2 * DAY_MS);
    assert_int_equal(changes_of(0), -1);
    assert_true(may_pass(0));
    bounce_keep_ms = 0;
    assert_true(sim_host_call(host, stop_in_host, NULL));
    sim_stop();
    remove_files();
}

static int setup(void **state)
{
    (void)state;
    // In memory where it can be: the process that dies here takes no page of the database with it.
    snprintf(folder, sizeof folder, "/dev/shm/posthaste-suppress-XXXXXX");
    if (mkdtemp(folder))
        return 0;
    snprintf(folder, sizeof folder, "/tmp/posthaste-suppress-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    remove_files();
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crashes),
        cmocka_unit_test(test_a_stop_forgets_nothing),
        cmocka_unit_test(test_a_clock_ahead_removes_nothing),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
