// SPDX-License-Identifier: MIT
//
// Those who follow the journal, on a disk that does not give all, and after a crash: they are shown what recovery has.
#include "spool/spool_world_test.h"

#include "base/log.h"
#include "spool/spool_reader.h"

// What a crashed world held is lost on purpose, as it is when a process is killed: leaks mean nothing here.
int __lsan_is_turned_off(void); // NOLINT(bugprone-reserved-identifier): its name is the sanitizer's
int __lsan_is_turned_off(void)  // NOLINT(bugprone-reserved-identifier)
{
    return 1;
}

// Messages that a reader opened anew sees until there are no more; failures of the disk are counted in *errors.
struct shown {
    bool message[64];
    uint32_t messages, errors;
};

static void read_on_all(struct spool_reader *r, struct shown *s)
{
    struct spool_record record;
    for (int err = OK; err != E_AGAIN && s->errors < 1000;) {
        err = spool_reader_next(r, &record);
        s->errors += err == E_IO;
        assert_true(err == OK || err == E_AGAIN || err == E_IO);
        if (err || record.type != SPOOL_RECORD_MESSAGE)
            continue;
        assert_false(s->message[record.envelope->account]);
        s->message[record.envelope->account] = true;
        s->messages++;
    }
}

static void read_all(void *ctx)
{
    struct spool_reader *r = spool_reader_open(spool, 0);
    read_on_all(r, ctx);
    spool_reader_close(r);
}

// The disk gives the headers and nothing else, now and an hour later.
static void read_unreadable(void *ctx)
{
    static struct spool_reader *r;
    struct shown *s = ctx;
    struct spool_record record;
    if (!r) {
        r = spool_reader_open(spool, 0);
        assert_int_equal(spool_reader_next(r, &record), OK);
    }
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, 1, UINT64_MAX, E_IO);
    read_on_all(r, s);
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, UINT64_MAX, 1, E_IO);
    if (s->errors > 0)
        return;
    spool_reader_close(r);
    r = NULL;
}

// A block that the disk does not give is asked for again, and nothing is passed over; one that stays unreadable for
// an hour is.
static void test_reader_waits_for_the_disk(void **state)
{
    enum { MESSAGES_KEPT = 10 };
    uint32_t errors = 0;
    log_capture(swallow, NULL);
    begin(21);
    for (uint32_t n = 1; n <= MESSAGES_KEPT; n++)
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
    for (uint64_t from = 1; from <= 12; from++)
        for (uint64_t times = 1; times <= 30; times += 7) {
            struct shown s = {0};
            sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, from, times, E_IO);
            on_client(read_all, &s);
            sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, UINT64_MAX, 1, E_IO);
            assert_int_equal(s.messages, MESSAGES_KEPT);
            errors += s.errors;
        }
    assert_true(errors > 0); // or this has tested nothing
    struct shown s = {.errors = 1};
    uint32_t hours = 0;
    for (; s.errors > 0 && hours < 5; hours++) { // one for each place
        s = (struct shown){0};
        on_client(read_unreadable, &s);
        assert_true(s.messages < MESSAGES_KEPT - 1);
        sim_run_ms(SPOOL_UNREAD_PATIENCE_MS);
    }
    assert_in_range(hours, 2, 4);
    end();
    log_capture(NULL, NULL);
}

struct polled {
    struct spool_reader *readers[SPOOL_FOLLOWERS];
    uint32_t at_end;
};

static void open_two(void *ctx)
{
    struct polled *p = ctx;
    struct spool_record record;
    for (uint32_t who = 0; who < SPOOL_FOLLOWERS; who++) {
        p->readers[who] = spool_reader_open(spool, 0);
        spool_reader_set_follower(p->readers[who], who);
        assert_int_equal(spool_reader_next(p->readers[who], &record), OK);
    }
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, 1, UINT64_MAX, E_IO);
}

static void poll_two(void *ctx)
{
    struct polled *p = ctx;
    struct spool_record record;
    p->at_end = 0;
    for (uint32_t who = 0; who < SPOOL_FOLLOWERS; who++) {
        int err = OK;
        while (err == OK)
            err = spool_reader_next(p->readers[who], &record);
        assert_true(err == E_AGAIN || err == E_IO);
        p->at_end += err == E_AGAIN;
    }
}

static void close_two(void *ctx)
{
    struct polled *p = ctx;
    for (uint32_t who = 0; who < SPOOL_FOLLOWERS; who++)
        spool_reader_close(p->readers[who]);
}

// Two who read the same journal come to the same places, not at the same moment: each passes over them in his time.
static void test_readers_wait_each_for_himself(void **state)
{
    struct polled p = {0};
    log_capture(swallow, NULL);
    begin(21);
    for (uint32_t n = 1; n <= 40; n++)
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
    on_client(open_two, &p);
    uint64_t places = spool->journal->live_count, minutes = 0;
    assert_true(places >= 3);
    for (; p.at_end < SPOOL_FOLLOWERS && minutes < 60 * (places + 1); minutes++) {
        on_client(poll_two, &p);
        sim_run_ms(60000);
    }
    assert_int_equal(p.at_end, SPOOL_FOLLOWERS);
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, UINT64_MAX, 1, E_IO);
    on_client(close_two, &p);
    end();
    log_capture(NULL, NULL);
}

// After a kill in the midst of a batch, followers are shown what recovery has, and nothing else.
static void test_reader_shows_what_recovery_has(void **state)
{
    uint32_t dropped = 0, kept = 0;
    log_capture(swallow, NULL);
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct stored_message *m = NULL;
        struct commit c = {0};
        begin(seed);
        assert_int_equal(commit(accept_frame(1, 100)), OK);
        c.frame = accept_frame(2, 10000);
        sim_host_crash_at(host, SIM_KILL, 1 + seed % 6);
        struct call call = {.task.run = run_call, .fn = do_commit, .ctx = &c};
        sys_post(client, &call.task);
        sim_run_ms(200);
        if (!sim_host_is_down(host)) {
            sim_host_crash_at(host, SIM_KILL, 0);
            sim_host_crash(host, SIM_KILL);
        }
        sim_host_boot(host);
        start_spool();
        bool there = read_message(2, &m) == OK;
        stored_message_unref(m);
        for (uint32_t i = 0; i < 2; i++) { // before and behind the first new segment
            struct shown s = {0};
            on_client(read_all, &s);
            assert_true(s.message[1]);
            if (s.message[2] != there)
                fail_msg("seed %llu: shown %d, there %d", (unsigned long long)seed, s.message[2],
                         there);
            assert_int_equal(commit(accept_frame(3 + i, 100)), OK);
        }
        dropped += !there;
        kept += there;
        end();
    }
    log_capture(NULL, NULL);
    assert_true(dropped > 10 && kept > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_waits_for_the_disk),
        cmocka_unit_test(test_readers_wait_each_for_himself),
        cmocka_unit_test(test_reader_shows_what_recovery_has),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
