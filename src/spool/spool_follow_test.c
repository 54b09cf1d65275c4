// SPDX-License-Identifier: MIT
//
// A database that follows the journal, and often fails: it gets each record once, and the journal forgets none that it
// does not have.
#include "spool/spool_world_test.h"

#include "base/log.h"
#include "base/test_base.h"
#include "spool/spool_follow.h"

#define GATHER_MS 300
#define CHECKPOINT_MS 5000
#define RETRY_MS 1000
#define MESSAGES_MAX 400

// Has the numbers of messages. What is taken is in `numbers` behind `count` until it is committed.
static struct database {
    struct spool_follow follow;
    uint32_t numbers[MESSAGES_MAX], count, taken;
    uint64_t sequence;
    uint64_t owed; // the first record that was taken and rolled back, until it is taken again
    uint64_t taken_from;
    bool writing;
    struct test_random dice;
    uint32_t one_in; // so many calls fails; 0: none
    uint32_t failures, lost;
} db;

static bool fails(void)
{
    return db.one_in && test_random_below(&db.dice, db.one_in) == 0;
}

static void on_open(struct spool_follow *f)
{
    f->reader = spool_reader_open(f->spool, db.sequence);
}

static int on_take(struct spool_follow *f, const struct spool_record *record)
{
    if (record->type != SPOOL_RECORD_MESSAGE || record->envelope->account % 3 == 0)
        return OK; // nothing to commit
    if (!db.writing)
        db.taken_from = record->sequence;
    db.writing = true;
    db.numbers[db.count + db.taken++] = record->envelope->account;
    return fails() ? E_IO : OK;
}

static int on_lost(struct spool_follow *f)
{
    db.lost++;
    return OK;
}

static int on_end(struct spool_follow *f, int err)
{
    if (db.writing && !err && fails())
        err = E_DAMAGED;
    if (db.writing && !err) {
        db.count += db.taken;
        db.sequence = spool_reader_sequence(f->reader);
        db.owed = db.sequence >= db.owed ? 0 : db.owed;
    } else if (db.writing) {
        db.owed = db.owed ? db.owed : db.taken_from;
    }
    db.taken = 0;
    db.writing = false;
    return err;
}

static void on_failed(struct spool_follow *f, int err)
{
    assert_true(err == E_IO || err == E_DAMAGED);
    db.failures++;
}

static uint64_t on_checkpoint(struct spool_follow *f)
{
    assert_false(db.writing);
    assert_true(db.owed == 0 || f->passed < db.owed);
    if (f->passed > db.sequence && !fails())
        db.sequence = f->passed;
    return db.sequence;
}

static const struct spool_follow_owner OWNER = {
    .who = SPOOL_HISTORY,
    .gather_ms = GATHER_MS,
    .records_a_turn = 7,
    .open = on_open,
    .take = on_take,
    .lost = on_lost,
    .end = on_end,
    .failed = on_failed,
    .checkpoint = on_checkpoint,
};

// ---- the world ------------------------------------------------------------------------------------------

static void do_start(void *ctx)
{
    db.follow = (struct spool_follow){.owner = &OWNER, .spool = spool};
    spool_follow_start(&db.follow);
}

static void do_stop(struct sys_task *task)
{
    (void)task;
    spool_follow_stop(&db.follow);
}

// The spool first, as in the relay: it may hold the follower's watch until then.
static void stop_both(void *ctx)
{
    struct sys_task stop = {.run = do_stop};
    spool_stop(spool);
    sys_post(client, &stop);
    sys_loop_stop(client);
    *(uint64_t *)ctx = atomic_load(&spool->copied[SPOOL_HISTORY]);
    spool_close(spool);
}

static void stop_followed(void)
{
    uint64_t copied;
    assert_true(sim_host_call(host, stop_both, &copied));
    assert_int_equal(copied, db.sequence);
}

static void do_now(void *ctx)
{
    spool_follow_now(&db.follow);
}

static void end_followed(void)
{
    stop_followed();
    sim_stop();
}

static void begin_followed(uint64_t seed, uint32_t lag_segments)
{
    db = (struct database){.dice = {seed}};
    begin(seed);
    stop_spool();
    options.followers = 1;
    options.copied_lag_segments = lag_segments;
    start_spool();
}

static uint64_t copied(void)
{
    return atomic_load(&spool->copied[SPOOL_HISTORY]);
}

static void accept(uint32_t from, uint32_t to)
{
    for (uint32_t n = from; n <= to; n++)
        assert_int_equal(commit(accept_frame(n, 100)), OK);
}

// Those up to this message, each once.
static void assert_has_all(uint32_t messages)
{
    uint32_t i = 0;
    for (uint32_t n = 1; n <= messages; n++)
        if (n % 3)
            assert_int_equal(db.numbers[i++], n);
    assert_int_equal(db.count, i);
}

// ---- tests ----------------------------------------------------------------------------------------------

// Failures anywhere, the stop's own reading included: nothing is left out, nothing is there twice.
static void test_each_record_once(void **state)
{
    uint32_t failures = 0, failed_at_stop = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint32_t n = 0;
        begin_followed(seed, 1000);
        for (int lives = 0; lives < 6; lives++, start_spool()) {
            db.one_in = 4 + test_random_below(&db.dice, 40);
            on_client(do_start, NULL);
            for (uint32_t burst = 0; burst < 4; burst++) {
                uint32_t more = 1 + test_random_below(&db.dice, 14);
                accept(n + 1, n + more);
                n += more;
                sim_run_ms(test_random_below(&db.dice, 2 * RETRY_MS));
            }
            stop_followed();
            failed_at_stop += db.owed != 0;
        }
        db.one_in = 0;
        on_client(do_start, NULL);
        sim_run_ms(1000);
        assert_has_all(n);
        failures += db.failures;
        end_followed();
    }
    assert_true(failures > 100 && failed_at_stop > 10); // or this has tested nothing
}

static void test_gathers(void **state)
{
    begin_followed(1, 1000);
    on_client(do_start, NULL);
    sim_run_ms(GATHER_MS);
    accept(1, 1);
    sim_run_ms(GATHER_MS - 50);
    assert_int_equal(db.count, 0);
    sim_run_ms(100);
    assert_has_all(1);
    accept(2, 2);
    on_client(do_now, NULL);
    assert_has_all(2);
    db.one_in = 1;
    accept(4, 4);
    on_client(do_now, NULL);
    assert_int_equal(db.failures, 1);
    db.one_in = 0;
    on_client(do_now, NULL); // what has failed waits for its time
    sim_run_ms(RETRY_MS - 100);
    assert_int_equal(db.count, 2);
    sim_run_ms(200);
    assert_int_equal(db.count, 3);
    accept(5, 5);
    sim_run_ms(GATHER_MS + 100);
    assert_int_equal(db.count, 4);
    end_followed();
}

// What waits since the last run is told as soon as it is read, the rest from time to time.
static void test_tells_the_journal(void **state)
{
    struct spool_stats stats;
    begin_followed(2, 1000);
    accept(1, 50);
    on_client(do_start, NULL);
    sim_run_ms(100);
    spool_get_stats(spool, &stats);
    assert_has_all(50);
    uint64_t first = copied();
    assert_in_range(first, 50, stats.sequence);
    accept(51, 51); // nothing to commit, and passed all the same
    sim_run_ms(CHECKPOINT_MS - 200);
    assert_int_equal(copied(), first);
    sim_run_ms(1000);
    assert_true(copied() > first);
    end_followed();
}

static void test_is_told_of_a_loss(void **state)
{
    log_capture(swallow, NULL);
    begin_followed(3, 12);
    for (uint32_t n = 1; n <= 150; n++) {
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
        assert_int_equal(commit(settle_frame(n)), OK);
    }
    sim_run_ms(2000);
    db.sequence = 1;
    on_client(do_start, NULL);
    sim_run_ms(100);
    assert_int_equal(db.lost, 1);
    assert_true(db.count > 10 && db.numbers[db.count - 1] == 149);
    end_followed();
    log_capture(NULL, NULL);
}

// The block that message n stands in can't be read any more.
static void spoil(uint32_t n)
{
    char name[SEGMENT_NAME_BYTES];
    struct table_entry *e = table_find(&spool->journal->table, test_id(n));
    assert_non_null(e);
    assert_int_equal(sim_disk_spoil(sim_disk_find(ROOT), segment_name(e->slot, name),
                                    (uint64_t)e->offset16 * RECORD_ALIGN),
                     OK);
}

// What is behind two places that the disk does not give comes an hour later for each, though the reader, opened anew
// when it stood at the second, meets the first one again.
static void test_passes_two_bad_places(void **state)
{
    log_capture(swallow, NULL);
    begin_followed(4, 1000);
    for (uint32_t n = 1; n <= 8; n++) // in several segments, and read in two turns
        assert_int_equal(commit(accept_frame(n, 12000)), OK);
    spoil(2);
    spoil(5);
    on_client(do_start, NULL);
    sim_run_ms(SPOOL_UNREAD_PATIENCE_MS / 2);
    assert_true(db.failures > 100);
    sim_run_ms(2 * SPOOL_UNREAD_PATIENCE_MS);
    assert_int_equal(db.count, 4); // 1, 4, 7, 8
    assert_int_equal(db.numbers[3], 8);
    end_followed();
    log_capture(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_record_once),      cmocka_unit_test(test_gathers),
        cmocka_unit_test(test_tells_the_journal),     cmocka_unit_test(test_is_told_of_a_loss),
        cmocka_unit_test(test_passes_two_bad_places),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
