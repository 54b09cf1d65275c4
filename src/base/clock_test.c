// SPDX-License-Identifier: MIT
#include "base/clock.h"

#include <time.h>

#include "base/test_base.h"

static void formats(void **state)
{
    static const struct {
        int64_t us;
        const char *want;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1795327020123999, "2026-11-22T05:57:00.123Z"},
        {951782400000000, "2000-02-29T00:00:00.000Z"},
        {4107542399999999, "2100-02-28T23:59:59.999Z"},
        {253402300799999999, "9999-12-31T23:59:59.999Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        wall_format((struct wall){rows[i].us}, &b);
        assert_string_equal(buf_cstr(&b), rows[i].want);
        buf_done(&b);
    }
}

// A clock that is ahead is followed step by step, one that is behind leaves nothing behind.
static void trusts_step_by_step(void **state)
{
    static const struct {
        int64_t now, want;
    } rows[] = {{1000, 1000}, {99000, 2000}, {99000, 3000}, {500, 500},
                {0, 0},       {3000, 3000},  {3500, 3500},  {9000, 4500}};
    struct wall trusted = {1000};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_number("trusted", wall_trust(&trusted, (struct wall){rows[i].now}, 1).us,
                      rows[i].want);
}

static void parses(void **state)
{
    static const struct {
        struct bytes in;
        int want;
        int64_t us;
    } rows[] = {
        {BYTES("1970-01-01T00:00:00Z"), OK, 0},
        {BYTES("2026-11-22T05:57:00.123Z"), OK, 1795327020123000},
        {BYTES("2026-11-22t05:57:00.1234567z"), OK, 1795327020123456},
        {BYTES("2026-11-22 05:57:00Z"), OK, 1795327020000000},
        {BYTES("2026-11-22T06:57:00+01:00"), OK, 1795327020000000},
        {BYTES("2026-11-21T18:27:00-11:30"), OK, 1795327020000000},
        {BYTES("2016-12-31T23:59:60Z"), OK, 1483228799000000},
        {BYTES("1970-01-01T00:00:00+00:01"), E_LIMIT, 0},
        {BYTES("1969-12-31T23:59:59Z"), E_LIMIT, 0},
        {BYTES("9999-12-31T23:59:59-00:01"), E_LIMIT, 0},
        {BYTES("2026-02-29T00:00:00Z"), E_SYNTAX, 0},
        {BYTES("2026-13-01T00:00:00Z"), E_SYNTAX, 0},
        {BYTES("2026-00-01T00:00:00Z"), E_SYNTAX, 0},
        {BYTES("2026-01-00T00:00:00Z"), E_SYNTAX, 0},
        {BYTES("2026-01-01T24:00:00Z"), E_SYNTAX, 0},
        {BYTES("2026-01-01T00:60:00Z"), E_SYNTAX, 0},
        {BYTES("2026-01-01T00:00:61Z"), E_SYNTAX, 0},
        {BYTES("2026-01-01T00:00:00"), E_SYNTAX, 0},
        {BYTES("2026-01-01T00:00:00.Z"), E_SYNTAX, 0},
        {BYTES("2026-01-01T00:00:00+0100"), E_SYNTAX, 0},
        {BYTES("2026-01-01T00:00:00+24:00"), E_SYNTAX, 0},
        {BYTES("2026-01-01T00:00:00Zx"), E_SYNTAX, 0},
        {BYTES("2026-1-01T00:00:00Z"), E_SYNTAX, 0},
        {BYTES("2026-01-01T00:00Z"), E_SYNTAX, 0},
        {BYTES("2026-01-01\00000:00:00Z"), E_SYNTAX, 0},
        {BYTES("+026-01-01T00:00:00Z"), E_SYNTAX, 0},
        {BYTES(""), E_SYNTAX, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct wall t = {0};
        assert_number(rows[i].in.at, wall_parse(rows[i].in, &t), rows[i].want);
        assert_number(rows[i].in.at, t.us, rows[i].us);
    }
}

static void splits_as_libc_does(void **state)
{
    struct test_random random = {3};
    for (int i = 0; i < 20000; i++) {
        time_t s =
            (time_t)test_random_below(&random, UINT32_MAX) * 59 - (i % 2 ? 0 : 60000000000LL);
        struct civil c;
        struct tm tm;
        struct wall back;
        gmtime_r(&s, &tm);
        wall_split((struct wall){s * 1000000LL}, &c);
        assert_int_equal(c.year, tm.tm_year + 1900);
        assert_int_equal(c.month, tm.tm_mon + 1);
        assert_int_equal(c.day, tm.tm_mday);
        assert_int_equal(c.hour, tm.tm_hour);
        assert_int_equal(c.minute, tm.tm_min);
        assert_int_equal(c.second, tm.tm_sec);
        assert_int_equal(c.weekday, tm.tm_wday);
        if (s >= 0 && c.year <= 9999) {
            assert_int_equal(wall_join(&c, 0, &back), OK);
            assert_true(back.us == s * 1000000LL);
        }
    }
}

static void additions_saturate(void **state)
{
    assert_true(mono_add_ms((struct mono){5}, 2).us == 2005);
    assert_true(mono_add_ms((struct mono){5}, -2).us == -1995);
    assert_true(mono_add_ms(MONO_NEVER, -1).us == INT64_MAX);
    assert_true(mono_add_ms((struct mono){1}, INT64_MAX).us == INT64_MAX);
    assert_true(wall_add_ms((struct wall){INT64_MAX - 5}, 1).us == INT64_MAX);
    assert_true(wall_add_ms((struct wall){0}, INT64_MIN).us == INT64_MIN);
    assert_true(mono_reached((struct mono){5}, (struct mono){5}));
    assert_false(mono_reached(MONO_NEVER, (struct mono){5}));
    assert_true(mono_min((struct mono){5}, (struct mono){4}).us == 4);
    assert_int_equal(wall_ms_between((struct wall){1000}, (struct wall){5999}), 4);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(formats),
    cmocka_unit_test(parses),
    cmocka_unit_test(trusts_step_by_step),
    cmocka_unit_test(splits_as_libc_does),
    cmocka_unit_test(additions_saturate),
};
RUN_TESTS(tests)
