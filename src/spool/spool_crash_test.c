// SPDX-License-Identifier: MIT
//
// Power cuts, kills and failing disks under a spool at work, many times over, each followed by a
// restart (which may itself be cut short). Laws 1 and 2 are checked against a model of what the
// client was told: acknowledged messages are there, whole, until settled; refused ones never are;
// what was in flight is decided once, and atomically. SPOOL_CRASH_SEEDS sets how many worlds
// (default 40).
#include "spool/spool_test.h"

#include "base/log.h"
#include "sim_disk.h"
#include "spool/spool_internal.h"

// What a crashed world held is lost on purpose, as it is when a process is killed: leaks mean nothing here.
int __lsan_is_turned_off(void); // NOLINT(bugprone-reserved-identifier): its name is the sanitizer's
int __lsan_is_turned_off(void)  // NOLINT(bugprone-reserved-identifier)
{
    return 1;
}

#define ROOT "/spool"
#define SEGMENT ((uint64_t)64 << 10)
#define MESSAGES_MAX 6000
#define CRASHES 5
#define OPERATIONS 120 // between crashes
#define WINDOW 12

enum fate { UNKNOWN, ACCEPTING, LIVE, SETTLING, GONE };

static struct sim_host *host;
static struct spool *spool;
static struct sys_loop *client;
static enum fate fates[MESSAGES_MAX];
static uint32_t pair_of[MESSAGES_MAX]; // settled in the frame that accepts this one; 0: none
static bool told[MESSAGES_MAX];
static uint32_t used, outstanding;

// ---- what recovery tells ------------------------------------------------------------------------

static void on_message(void *ctx, const struct spool_summary *s)
{
    uint32_t n = s->account;
    assert_in_range(n, 1, used);
    assert_false(told[n]); // once
    told[n] = true;
    assert_int_equal(s->recipients_count, 1 + n % 3); // all of them: a frame settles all or none
}

static const struct spool_recovery recovery = {NULL, on_message, NULL};

static void open_in_host(void *ctx)
{
    const struct spool_options options = {.directory = ROOT,
                                          .segment_bytes = SEGMENT,
                                          .free_bytes_min = SEGMENT,
                                          .reserve_segments = 2};
    memset(told, 0, sizeof(told));
    if (spool_open(&options, &recovery, &spool))
        return; // a disk that fails just now
    client = sys_loop_start("client");
    spool_start(spool);
    *(bool *)ctx = true;
}

// Compares with the model, and decides what was in flight.
static void check_told(void)
{
    for (uint32_t n = 1; n <= used; n++) {
        uint32_t pair = pair_of[n];
        if (fates[n] == LIVE && !told[n])
            fail_msg("seed %llu: LOST %u", (unsigned long long)sim_seed(), n);
        if (fates[n] == GONE && told[n])
            fail_msg("seed %llu: GHOST %u", (unsigned long long)sim_seed(), n);
        if (fates[n] == ACCEPTING && pair)
            assert_true(told[n] != told[pair]); // one frame
    }
    for (uint32_t n = 1; n <= used; n++)
        fates[n] = told[n] ? LIVE : GONE;
}

static void start_spool(void)
{
    bool opened = false;
    for (int tries = 0; !opened; tries++) {
        assert_true(tries < 50);
        if (sim_host_is_down(host))
            sim_host_boot(host);
        if (sim_chance(DICE_TEST, 1, 3)) // cut the restart short too
            sim_host_crash_at(host, SIM_POWER, 1 + sim_roll(DICE_TEST, 60));
        sim_host_call(host, open_in_host, &opened);
        if (opened && sim_host_is_down(host))
            opened = false;
    }
    sim_host_crash_at(host, SIM_POWER, 0);
    check_told();
    outstanding = 0;
}

// ---- the client ---------------------------------------------------------------------------------

struct operation {
    struct sys_task task;
    uint32_t accept, settle; // message numbers, 0: none
    struct spool_frame *frame;
};

static void on_done(void *ctx, int err)
{
    struct operation *op = ctx;
    outstanding--;
    if (op->accept)
        fates[op->accept] = err ? GONE : LIVE;
    if (op->settle && !err)
        fates[op->settle] = GONE;
    else if (op->settle)
        fates[op->settle] = LIVE;
    assert_true(err == OK || (!op->settle && (err == E_IO || err == E_FULL)));
    free(op);
}

static void run_operation(struct sys_task *task)
{
    struct operation *op = container_of(task, struct operation, task);
    spool_commit(spool, op->frame, on_done, op);
}

static uint32_t pick_live(void)
{
    for (int tries = 0; tries < 20; tries++) {
        uint32_t n = 1 + (uint32_t)sim_roll(DICE_TEST, used ? used : 1);
        if (fates[n] == LIVE)
            return n;
    }
    return 0;
}

static void add_settle(struct operation *op)
{
    for (uint32_t r = 1; r <= 1 + op->settle % 3; r++) {
        struct spool_outcome o = test_outcome(op->settle, r, RECIPIENT_DELIVERED);
        spool_frame_add_outcome(op->frame, &o);
    }
    fates[op->settle] = SETTLING;
}

static size_t body_of(uint32_t n)
{
    return n * 37 % 6000;
}

static void add_accept(struct operation *op)
{
    struct stored_message *m = test_message(op->accept, body_of(op->accept));
    spool_frame_add_message(op->frame, m);
    stored_message_unref(m);
    fates[op->accept] = ACCEPTING;
    pair_of[op->accept] = op->settle;
}

static void operate(void)
{
    struct operation *op = mem_new(sizeof(*op));
    uint64_t roll = sim_roll(DICE_TEST, 10);
    if (roll >= 5)
        op->settle = pick_live();
    if ((roll < 6 || !op->settle) && used + 1 < MESSAGES_MAX)
        op->accept = ++used;
    op->frame = spool_frame_new(op->settle ? SPOOL_OUTCOME : SPOOL_INTAKE);
    if (op->settle)
        add_settle(op);
    if (op->accept)
        add_accept(op);
    outstanding++;
    op->task.run = run_operation;
    sys_post(client, &op->task);
}

static bool may_go_on(void *ctx)
{
    return outstanding < *(uint32_t *)ctx || sim_host_is_down(host);
}

static void drain_to(uint32_t below)
{
    assert_true(sim_run_until(may_go_on, &below, 120000));
}

static void disturb(void)
{
    static const enum sim_disk_op ops[] = {SIM_DISK_SYNC, SIM_DISK_WRITE, SIM_DISK_SYNC_DIR,
                                           SIM_DISK_OPEN};
    if (!sim_chance(DICE_TEST, 1, 60))
        return;
    enum sim_disk_op op = ops[sim_roll(DICE_TEST, COUNT_OF(ops))];
    sim_disk_fail(sim_disk_find(ROOT), op, 1 + sim_roll(DICE_TEST, 3), 1 + sim_roll(DICE_TEST, 4),
                  sim_chance(DICE_TEST, 1, 2) ? E_IO : E_FULL);
}

static void work_until_crash(void)
{
    for (uint32_t i = 0; i < OPERATIONS && !sim_host_is_down(host); i++) {
        disturb();
        operate();
        drain_to(1 + (uint32_t)sim_roll(DICE_TEST, WINDOW));
        if (sim_chance(DICE_TEST, 1, 20))
            sim_run_ms((int64_t)sim_roll(DICE_TEST, 1500));
    }
    if (!sim_host_is_down(host))
        sim_host_crash(host, sim_chance(DICE_TEST, 1, 2) ? SIM_POWER : SIM_KILL);
}

// ---- reading back -------------------------------------------------------------------------------

struct reading {
    struct sys_task task;
    struct spool_read read;
    bool done;
};

static void on_read(struct spool_read *read)
{
    container_of(read, struct reading, read)->done = true;
}

static void run_read(struct sys_task *task)
{
    spool_read(spool, &container_of(task, struct reading, task)->read);
}

static bool is_true(void *ctx)
{
    return *(bool *)ctx;
}

static void check_contents(void)
{
    for (uint32_t n = 1; n <= used; n++) {
        struct reading r = {.task.run = run_read, .read = {.id = test_id(n), .done = on_read}};
        if (fates[n] != LIVE)
            continue;
        sys_post(client, &r.task);
        assert_true(sim_run_until(is_true, &r.done, 10000));
        assert_int_equal(r.read.err, OK);
        struct stored_message *want = test_message(n, body_of(n));
        assert_true(test_same_message(want, r.read.message));
        stored_message_unref(want);
        stored_message_unref(r.read.message);
    }
}

static void stop_in_host(void *ctx)
{
    spool_stop(spool);
    sys_loop_stop(client);
    spool_close(spool);
}

static void new_world(uint64_t seed)
{
    sim_start(seed);
    host = sim_host_new("relay", NULL);
    memset(fates, 0, sizeof(fates));
    memset(pair_of, 0, sizeof(pair_of));
    used = 0;
}

static void one_world(uint64_t seed)
{
    new_world(seed);
    start_spool();
    for (int i = 0; i < CRASHES; i++) {
        sim_host_crash_at(host, SIM_POWER,
                          sim_roll(DICE_TEST, 2) ? 1 + sim_roll(DICE_TEST, 800) : 0);
        work_until_crash();
        start_spool();
    }
    check_contents();
    assert_true(sim_host_call(host, stop_in_host, NULL));
    sim_stop();
}

// So many that none has to be made, which would flush all names.
static void make_segments(void *ctx)
{
    struct disk *disk;
    struct disk_file *file;
    char name[SEGMENT_NAME_BYTES];
    assert_int_equal(disk_open(ROOT, &disk), OK);
    assert_int_equal(disk_mkdir(disk, SEGMENT_DIRECTORY), OK);
    assert_int_equal(disk_sync_dir(disk, ""), OK);
    for (uint32_t slot = 0; slot < 8; slot++) {
        assert_int_equal(disk_file_open(disk, segment_name(slot, name),
                                        DISK_READ | DISK_WRITE | DISK_CREATE, &file),
                         OK);
        assert_int_equal(disk_truncate(file, SEGMENT), OK);
        assert_int_equal(disk_sync(file), OK);
    }
}

// A segment's file that a kill left before its name was flushed is used by the next run: mail in it must not go with
// its name in a power cut.
static void test_names_that_a_kill_left(void **state)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        new_world(seed);
        assert_true(sim_host_call(host, make_segments, NULL));
        sim_host_crash(host, SIM_KILL);
        start_spool();
        operate();
        drain_to(1);
        sim_host_crash(host, SIM_POWER);
        start_spool();
        check_contents();
        assert_true(sim_host_call(host, stop_in_host, NULL));
        sim_stop();
    }
}

static void swallow(void *ctx, struct bytes line)
{
}

static void test_crashes(void **state)
{
    const char *wanted = getenv("SPOOL_CRASH_SEEDS"), *only = getenv("SPOOL_CRASH_SEED");
    uint64_t seeds = wanted ? strtoull(wanted, NULL, 10) : 40;
    if (!only)
        log_capture(swallow, NULL);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t use = only ? strtoull(only, NULL, 10) : seed;
        one_world(use);
        if (only)
            break;
    }
    log_capture(NULL, NULL);
}

// A crash leaves the heap of the old world behind.
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_that_a_kill_left),
        cmocka_unit_test(test_crashes),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
