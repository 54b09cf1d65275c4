// SPDX-License-Identifier: MIT
//
// The mark of a spool without mail, over restarts and power cuts.
#include "spool/spool_world_test.h"

#include "base/log.h"

// What a crashed world held is lost on purpose, as it is when a process is killed: leaks mean nothing here.
int __lsan_is_turned_off(void); // NOLINT(bugprone-reserved-identifier): its name is the sanitizer's
int __lsan_is_turned_off(void)  // NOLINT(bugprone-reserved-identifier)
{
    return 1;
}

static void look_for_mark(void *ctx)
{
    struct disk *disk;
    struct disk_file *file;
    assert_int_equal(disk_open(ROOT, &disk), OK);
    *(bool *)ctx = disk_file_open(disk, SPOOL_EMPTY_FILE, DISK_READ, &file) == OK;
    if (*(bool *)ctx)
        disk_file_close(file);
    disk_close(disk);
}

static bool is_marked_empty(void)
{
    bool marked;
    assert_true(sim_host_call(host, look_for_mark, &marked));
    return marked;
}

// The mark stands only while nobody has the spool open and no mail is in it, also after a crash.
static void mark_and_power_cut(uint64_t seed)
{
    begin(seed);
    assert_false(is_marked_empty());
    stop_spool();
    assert_true(is_marked_empty());
    start_spool();
    assert_false(is_marked_empty());
    assert_int_equal(commit(accept_frame(1, 100)), OK);
    stop_spool();
    assert_false(is_marked_empty());
    start_spool();
    assert_int_equal(commit(settle_frame(1)), OK);
    stop_spool();
    assert_true(is_marked_empty());
    start_spool();
    assert_int_equal(commit(accept_frame(2, 100)), OK);
    sim_host_crash(host, SIM_POWER);
    sim_host_boot(host);
    assert_false(is_marked_empty());
    start_spool();
    assert_int_equal(told_messages, 1);
    end();
}

static void test_mark_of_an_empty_spool(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) // what a power cut leaves is the seed's choice
        mark_and_power_cut(seed);
}

// Nor does it stand where the last message was settled by an outcome that the disk did not take.
static void test_no_mark_over_an_outcome_that_is_not_written(void **state)
{
    log_capture(swallow, NULL);
    begin(1);
    assert_int_equal(commit(accept_frame(3, 100)), OK);
    sim_run_ms(1000); // segments are made ahead
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_SYNC, 1, UINT64_MAX, E_IO);
    struct commit c = {.frame = settle_frame(3)};
    on_client(do_commit, &c);
    sim_run_ms(10);
    assert_false(c.done);
    assert_int_equal(spool->journal->retrying, 1); // or this tests nothing
    stop_spool();
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_SYNC, UINT64_MAX, 1, E_IO);
    assert_false(is_marked_empty());
    start_spool();
    assert_int_equal(told_messages, 1);
    end();
    log_capture(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mark_of_an_empty_spool),
        cmocka_unit_test(test_no_mark_over_an_outcome_that_is_not_written),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
