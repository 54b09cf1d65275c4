// SPDX-License-Identifier: MIT
#include "mail/mail_date.h"

#include "base/test_base.h"

#define NOV_22 1795327020000000 // Sun, 22 Nov 2026 05:57:00 +0000

static void formats(void **state)
{
    struct buf b = {0};
    mail_date_format((struct wall){NOV_22 + 999999}, &b);
    buf_add_byte(&b, '|');
    mail_date_format((struct wall){0}, &b);
    assert_string_equal(buf_cstr(&b),
                        "Sun, 22 Nov 2026 05:57:00 +0000|Thu, 01 Jan 1970 00:00:00 +0000");
    buf_done(&b);
}

static void parses(void **state)
{
    static const struct {
        struct bytes in;
        int want;
        int64_t us;
    } rows[] = {
        {BYTES("Sun, 22 Nov 2026 05:57:00 +0000"), OK, NOV_22},
        {BYTES("22 Nov 2026 05:57 +0000"), OK, NOV_22},
        {BYTES(" sun , 22\tnov 2026 06:57:00 +0100 "), OK, NOV_22},
        {BYTES("Sat, 21 Nov 2026 21:57:00 -0800"), OK, NOV_22}, // the day of the zone
        {BYTES("22 Nov 2026 05:57:00 GMT"), OK, NOV_22},
        {BYTES("22 Nov 2026 00:57:00 EST"), OK, NOV_22},
        {BYTES("21 Nov 2026 22:57:00 pdt"), OK, NOV_22},
        {BYTES("22 Nov 2026 05:57:00 K"), OK, NOV_22}, // military: says nothing
        {BYTES("22 Nov 26 05:57:00 UT"), OK, NOV_22},
        {BYTES("22 Nov 126 05:57:00 UT"), OK, NOV_22},
        {BYTES("1 Jan 70 00:00:01 UT"), OK, 1000000},
        {BYTES("Sun (a (nested) \\) day),\r\n 22 Nov 2026 05:57:00 +0000 (UTC)"), OK, NOV_22},
        {BYTES("31 Dec 2016 23:59:60 +0000"), OK, 1483228799000000},
        {BYTES("Mon, 22 Nov 2026 05:57:00 +0000"), E_SYNTAX, 0},
        {BYTES("Sun 22 Nov 2026 05:57:00 +0000"), E_SYNTAX, 0},
        {BYTES("31 Nov 2026 05:57:00 +0000"), E_SYNTAX, 0},
        {BYTES("0 Nov 2026 05:57:00 +0000"), E_SYNTAX, 0},
        {BYTES("22 Now 2026 05:57:00 +0000"), E_SYNTAX, 0},
        {BYTES("22 11 2026 05:57:00 +0000"), E_SYNTAX, 0},
        {BYTES("22 Nov 2026 5:57:00 +0000"), E_SYNTAX, 0},
        {BYTES("22 Nov 2026 25:57:00 +0000"), E_SYNTAX, 0},
        {BYTES("22 Nov 2026 05:57:00"), E_SYNTAX, 0},
        {BYTES("22 Nov 2026 05:57:00 +00"), E_SYNTAX, 0},
        {BYTES("22 Nov 2026 05:57:00 +0060"), E_SYNTAX, 0},
        {BYTES("22 Nov 2026 05:57:00 +0000 x"), E_SYNTAX, 0},
        {BYTES("22 Nov 2026 05:57:00 +0000 (open"), E_SYNTAX, 0},
        {BYTES("22 Nov 2026 05:57:00 +0000\0"), E_SYNTAX, 0},
        {BYTES("31 Dec 1969 23:59:59 +0000"), E_LIMIT, 0},
        {BYTES("22 Nov 12026 05:57:00 +0000"), E_LIMIT, 0},
        {BYTES(""), E_SYNTAX, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct wall t = {0};
        int err = mail_date_parse(rows[i].in, &t);
        assert_number(rows[i].in.at, err, rows[i].want);
        if (err == OK)
            assert_number(rows[i].in.at, t.us, rows[i].us);
    }
}

static void what_is_written_is_read(void **state)
{
    struct test_random random = {9};
    for (int i = 0; i < 5000; i++) {
        struct wall back, t = {(int64_t)test_random_below(&random, UINT32_MAX) * 50 * 1000000};
        struct buf b = {0};
        mail_date_format(t, &b);
        assert_int_equal(mail_date_parse(buf_bytes(&b), &back), OK);
        assert_true(t.us == back.us);
        buf_done(&b);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(formats),
    cmocka_unit_test(parses),
    cmocka_unit_test(what_is_written_is_read),
};
RUN_TESTS(tests)
