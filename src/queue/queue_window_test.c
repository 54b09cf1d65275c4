// SPDX-License-Identifier: MIT
#include "queue/queue_window.h"

#include "base/test_base.h"

#define SECONDS(n) ((struct mono){(int64_t)(n)*1000000})

static void counts_up_to_the_limit(void **state)
{
    (void)state;
    struct queue_window w;
    queue_window_init(&w, 60 * 1000000LL, 6); // a minute in slots of ten seconds
    assert_number("empty", queue_window_when(&w, SECONDS(5), 1).us, SECONDS(5).us);
    queue_window_add(&w, SECONDS(5), 2);
    assert_number("used", queue_window_used(&w, SECONDS(59)), 2);
    assert_number("room", queue_window_when(&w, SECONDS(59), 3).us, SECONDS(59).us);
    assert_number("full", queue_window_when(&w, SECONDS(59), 2).us, SECONDS(70).us);
    assert_number("still", queue_window_used(&w, SECONDS(69)), 2);
    assert_number("gone", queue_window_used(&w, SECONDS(70)), 0);
}

static void leaves_slot_by_slot(void **state)
{
    (void)state;
    struct queue_window w;
    queue_window_init(&w, 60 * 1000000LL, 6);
    for (int s = 0; s < 60; s += 10)
        queue_window_add(&w, SECONDS(s), 1);
    assert_number("all", queue_window_used(&w, SECONDS(69)), 6);
    assert_number("below 6", queue_window_when(&w, SECONDS(69), 6).us, SECONDS(70).us);
    assert_number("below 3", queue_window_when(&w, SECONDS(69), 3).us, SECONDS(100).us);
    assert_number("one left", queue_window_used(&w, SECONDS(119)), 1);
    assert_number("long after", queue_window_used(&w, SECONDS(100000)), 0);
}

// Whatever the times: greedy use never puts more than the limit into any stretch of the length.
static void never_exceeds(void **state)
{
    (void)state;
    enum { N = 4000, LIMIT = 7 };
    struct test_random r = {1};
    static int64_t at[N];
    struct queue_window w;
    queue_window_init(&w, 1000000, 20);
    struct mono now = {123456789};
    for (int i = 0; i < N; i++) {
        now = queue_window_when(&w, now, LIMIT);
        queue_window_add(&w, now, 1);
        at[i] = now.us;
        if (i >= LIMIT)
            assert_true(at[i] - at[i - LIMIT] >= 1000000);
        if (test_random_below(&r, 3) == 0)
            now.us += test_random_below(&r, 200000);
    }
    // ... and it is no less than 90 % of it when always used
    struct queue_window full;
    queue_window_init(&full, 1000000, 20);
    struct mono t = {0};
    int sent = 0;
    for (; t.us < 60000000; sent++) {
        t = queue_window_when(&full, t, LIMIT);
        queue_window_add(&full, t, 1);
    }
    assert_true(sent > 60 * LIMIT * 9 / 10);
}

// A window that was saved and restored forgets nothing too early.
static void survives_a_restart(void **state)
{
    (void)state;
    struct test_random r = {7};
    for (int round = 0; round < 500; round++) {
        struct queue_window w, again;
        queue_window_init(&w, 3600 * 1000000LL, 60);
        queue_window_init(&again, 3600 * 1000000LL, 60);
        int64_t at[20];
        struct mono now = SECONDS(1000 + test_random_below(&r, 100));
        for (int i = 0; i < 20; i++) {
            now.us += (int64_t)test_random_below(&r, 400000) * 1000;
            at[i] = now.us;
            queue_window_add(&w, now, 1);
        }
        struct buf text = {0};
        queue_window_format(&w, now, &text);
        int64_t elapsed = (int64_t)test_random_below(&r, 1000000) * 1000;
        int64_t other = (int64_t)test_random_below(&r, 1000000) * 1000; // mono starts anew
        assert_int_equal(
            queue_window_restore(&again, buf_bytes(&text), elapsed, (struct mono){other}), OK);
        for (int64_t later = 0; later < 4000; later += 97) {
            uint64_t real = 0;
            for (int i = 0; i < 20; i++) // those within the last hour
                real += now.us + elapsed + later * 1000000 - at[i] < 3600 * 1000000LL;
            assert_true(queue_window_used(&again, (struct mono){other + later * 1000000}) >= real);
        }
        buf_done(&text);
    }
}

static void refuses_damage(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "1", "1:", ":1", "a:1", "1:1,x", "1:99999999999", "99999999999999999999:1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct queue_window w;
        queue_window_init(&w, 3600 * 1000000LL, 60);
        if (queue_window_restore(&w, bytes_cstr(bad[i]), 0, SECONDS(1)) != E_SYNTAX)
            fail_msg("took \"%s\"", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_up_to_the_limit), cmocka_unit_test(leaves_slot_by_slot),
        cmocka_unit_test(never_exceeds),          cmocka_unit_test(survives_a_restart),
        cmocka_unit_test(refuses_damage),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
