// SPDX-License-Identifier: MIT
//
// An outcome whose flush failed counts for those who run, and is not on the disk: what it has made empty may not be
// freed before it is. A full disk takes back the outcome of all messages in the oldest segment, whose follower has read
// it; then it has room again, and the power goes, at each operation in turn.
#include "spool/spool_world_test.h"

#include "base/log.h"
#include "spool/spool_reader.h"

// What a crashed world held is lost on purpose, as it is when a process is killed: leaks mean nothing here.
int __lsan_is_turned_off(void); // NOLINT(bugprone-reserved-identifier): its name is the sanitizer's
int __lsan_is_turned_off(void)  // NOLINT(bugprone-reserved-identifier)
{
    return 1;
}

#define FIRST 3 // these two have one recipient each
#define SECOND 6
#define LARGE 15000 // two of them fill a segment
#define SEEDS 10    // what a power cut leaves is the seed's choice
#define MANY 50     // outcomes, of several blocks: a power cut may tear them

// How a disk can refuse the outcome, the other segment that it is tried in, and all of one attempt more, behind which the
// oldest segment would go. `more` refusals of the first kind meet the next attempt.
static const struct way {
    const char *name;
    struct {
        enum sim_disk_op op;
        uint64_t n, times;
    } faults[3];
    uint64_t more;
} WAYS[] = {
    {"no other segment can be begun", {{SIM_DISK_SYNC, 1, 6}}, 0},
    {"no other segment can be begun, nor at the next attempt", {{SIM_DISK_SYNC, 1, 6}}, 1},
    {"the last segment fails, too",
     {{SIM_DISK_OPEN, 1, 4}, {SIM_DISK_WRITE, 1, 1}, {SIM_DISK_SYNC, 2, 1}},
     0},
    {"the last segment fails, too, and no other can be made",
     {{SIM_DISK_OPEN, 1, 4}, {SIM_DISK_WRITE, 1, 1}, {SIM_DISK_SYNC, 2, 1}},
     1},
};

// ---- the world ----------------------------------------------------------------------------------

static bool is_told[SECOND + 1];

static void on_two(void *ctx, const struct spool_summary *s)
{
    is_told[s->account] = true;
}

static void open_and_start(void *ctx)
{
    static const struct spool_recovery two = {NULL, on_two, NULL};
    memset(is_told, 0, sizeof is_told);
    assert_int_equal(spool_open(&options, &two, &spool), OK);
    client = sys_loop_start("client");
    spool_start(spool);
}

static void start_followed(uint64_t seed)
{
    begin(seed);
    stop_spool();
    options.followers = 1;
    options.reserve_segments = 2;
    assert_true(sim_host_call(host, open_and_start, NULL));
}

// `count` outcomes of nobody's messages.
static struct spool_frame *fill_frame(uint32_t count)
{
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    for (uint32_t i = 0; i < count; i++) {
        struct spool_outcome o = test_outcome(1000 + i, 1, RECIPIENT_DELIVERED);
        spool_frame_add_outcome(f, &o);
    }
    return f;
}

// Both messages stand alone in the oldest segment, which is sealed; one is open, one free, and the disk has no room for
// more.
static void fill_disk(void)
{
    struct sim_disk *d = sim_disk_find(ROOT);
    sim_run_ms(1000); // segments are made ahead
    sim_disk_capacity(d, sim_disk_used_bytes(d) + SEGMENT, 100000);
    sim_run_ms(1000);
    assert_int_equal(commit(accept_frame(FIRST, LARGE)), OK);
    assert_int_equal(commit(accept_frame(SECOND, LARGE)), OK);
    assert_int_equal(commit(fill_frame(MANY)), OK);
    assert_int_equal(spool->journal->free_count, 1);
    assert_int_equal(spool->journal->live_count, 2);
    assert_false(spool->journal->can_create);
}

// ---- what is there after all ----------------------------------------------------------------------

// The follower's view, who has read all before.
struct follower {
    uint64_t read_to; // sequence
    bool sees[SECOND + 1];
};

static void follow(void *ctx)
{
    struct follower *f = ctx;
    struct spool_reader *reader = spool_reader_open(spool, f->read_to);
    struct spool_record record;
    int err;
    while ((err = spool_reader_next(reader, &record)) == OK)
        for (uint32_t n = FIRST; n <= SECOND; n += SECOND - FIRST)
            f->sees[n] |=
                record.type == SPOOL_RECORD_OUTCOME && message_id_eq(record.outcome.id, test_id(n));
    assert_int_equal(err, E_AGAIN);
    spool_reader_close(reader);
}

static void assert_nothing_is_lost(struct follower *f, const struct way *way, uint64_t cut)
{
    assert_true(sim_host_call(host, open_and_start, NULL));
    assert_true(sim_host_call(host, follow, f));
    for (uint32_t n = FIRST; n <= SECOND; n += SECOND - FIRST)
        if (!is_told[n] && !f->sees[n])
            fail_msg("%s, seed %llu, cut %llu: %u is gone, and no outcome says why", way->name,
                     (unsigned long long)sim_seed(), (unsigned long long)cut, n);
}

// ---- the cut ------------------------------------------------------------------------------------

static void fail_disk(const struct way *way)
{
    uint64_t more = way->more;
    for (size_t i = 0; i < COUNT_OF(way->faults) && way->faults[i].n; i++, more = 0)
        sim_disk_fail(sim_disk_find(ROOT), way->faults[i].op, way->faults[i].n,
                      way->faults[i].times + more, E_FULL);
}

static bool is_done_or_down(void *ctx)
{
    return ((struct commit *)ctx)->done || sim_host_is_down(host);
}

// False: all was over before the cut-th operation.
static bool one_cut(const struct way *way, uint64_t seed, uint64_t cut)
{
    struct commit c = {.frame = fill_frame(MANY)};
    struct follower f = {0};
    start_followed(seed);
    fill_disk();
    f.read_to = spool->stats.sequence;
    for (uint32_t n = FIRST; n <= SECOND; n += SECOND - FIRST) {
        struct spool_outcome o = test_outcome(n, 1, RECIPIENT_DELIVERED);
        spool_frame_add_outcome(c.frame, &o);
    }
    fail_disk(way);
    on_client(do_commit, &c);
    sim_run_ms(SPOOL_RETRY_MS_MIN / 2);
    spool_copied(spool, SPOOL_HISTORY, f.read_to);
    sim_run_ms(SPOOL_RETRY_MS_MIN);
    assert_false(c.done);
    sim_host_crash_at(host, SIM_POWER, cut);
    assert_true(sim_run_until(is_done_or_down, &c, PATIENCE_MS)); // the last segment is for it, too
    sim_run_ms(500);                                              // what is empty goes
    bool down = sim_host_is_down(host);
    if (!down) {
        assert_int_equal(c.err, OK);
        assert_true(spool->journal->tail > 1);
        sim_host_crash(host, SIM_POWER);
    }
    sim_host_boot(host);
    assert_nothing_is_lost(&f, way, cut);
    end();
    return down;
}

static void test_nothing_is_freed_before_its_outcome_is_flushed(void **state)
{
    log_capture(swallow, NULL);
    for (size_t i = 0; i < COUNT_OF(WAYS); i++) {
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            uint64_t cut = 1;
            while (one_cut(&WAYS[i], seed, cut))
                assert_true(++cut < 100);
            assert_true(cut > 3); // or this has tested nothing
        }
    }
    log_capture(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_freed_before_its_outcome_is_flushed),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
