// SPDX-License-Identifier: MIT
//
// What MAIL may ask of the queue: FUTURERELEASE, DELIVERBY, MT-PRIORITY. Who is offered it stands in smtp_server_test.c.
#include "smtp/smtp_testkit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"

static void start(struct testkit *t)
{
    testkit_init(t);
    t->config.scheduling = true;
    testkit_start(t, false, true);
}

// clang-format off
static const char *const params[] = {
    "HOLDFOR", "HOLDFOR=", "HOLDFOR=0", "HOLDFOR=01", "HOLDFOR=-1", "HOLDFOR=+1",
    "HOLDFOR=1000000000", "HOLDFOR=1.5", "HOLDFOR=x", "HOLDUNTIL", "HOLDUNTIL=",
    "HOLDUNTIL=2027-01-15", "HOLDUNTIL=2027-02-30T08:00:00Z", "HOLDUNTIL=2027-01-15T08:00:00",
    "HOLDUNTIL=10", "BY", "BY=", "BY=10", "BY=10;", "BY=;R", "BY=10;X", "BY=10;RX", "BY=10;RTT",
    "BY=10;T", "BY=0;R", "BY=-1;R", "BY=+;N", "BY=-;N", "BY=1000000000;N", "BY=0000000001;N",
    "BY=--1;N", "BY=1 ;N", "MT-PRIORITY", "MT-PRIORITY=", "MT-PRIORITY=10", "MT-PRIORITY=-10",
    "MT-PRIORITY=-0", "MT-PRIORITY=+1", "MT-PRIORITY=01", "MT-PRIORITY=-", "MT-PRIORITY=x",
    "HOLDFOR=1 HOLDUNTIL=2027-01-15T08:00:00Z", "HOLDUNTIL=2027-01-15T08:00:00Z HOLDFOR=1",
};
// clang-format on

// Each value is no value of its parameter.
static void test_bad_schedules(void **state)
{
    for (size_t i = 0; i < COUNT_OF(params); i++) {
        struct testkit t;
        struct buf line = {0};
        start(&t);
        buf_printf(&line,
                   "EHLO c\r\n"
                   "MAIL FROM:<a@b.c> %s\r\n",
                   params[i]);
        testkit_feed(&t, buf_bytes(&line), 0);
        if (t.transaction ||
            bytes_search(buf_bytes(&t.transcript), BYTES("\r\n501 5.5.4 Value not valid for")) < 0)
            fail_msg("%s: %s", params[i], buf_cstr(&t.transcript));
        buf_done(&line);
        testkit_done(&t);
    }
}

static void test_schedules(void **state)
{
    struct testkit t;
    start(&t);
    testkit_feed(&t,
                 BYTES("EHLO c\r\n"
                       "MAIL FROM:<> holdfor=60 by=120;rt mt-priority=-4\r\nRSET\r\n"
                       "MAIL FROM:<> HOLDUNTIL=2027-01-15T08:00:01.500Z BY=+5;N MT-PRIORITY=9\r\n"
                       "RSET\r\nMAIL FROM:<> BY=-5;NT MT-PRIORITY=0\r\nQUIT\r\n"),
                 1);
    const char *want = "mail <> size=0 body=0 ret=0 envid= auth= utf8=0\n"
                       "hold=60 until=1800000060 by=120;2T priority=-4\nreset 0\n"
                       "mail <> size=0 body=0 ret=0 envid= auth= utf8=0\n"
                       "hold=2027-01-15T08:00:01.500Z until=1800000001 by=5;1 priority=9\nreset 0\n"
                       "mail <> size=0 body=0 ret=0 envid= auth= utf8=0\n"
                       "hold= until=0 by=-5;1T priority=0\nreset 3\n";
    assert_string_equal(buf_cstr(&t.log), want);
    testkit_done(&t);
}

// RFC 4865 5.2.2: by then it has to be released.
static void test_by_before_release(void **state)
{
    static const struct {
        const char *params;
        bool good;
    } rows[] = {{"HOLDFOR=60 BY=59;R", false},
                {"BY=0;N HOLDFOR=1", false},
                {"HOLDUNTIL=2027-01-15T08:01:00Z BY=59;N", false},
                {"HOLDFOR=60 BY=60;R", true},
                {"HOLDUNTIL=1999-01-01T00:00:00Z BY=-9;N", true}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct testkit t;
        struct buf line = {0};
        start(&t);
        buf_printf(&line, "EHLO c\r\nMAIL FROM:<a@b.c> %s\r\n", rows[i].params);
        testkit_feed(&t, buf_bytes(&line), 0);
        bool refused = bytes_search(buf_bytes(&t.transcript),
                                    BYTES("\r\n501 5.5.4 The time of BY= is over before")) >= 0;
        if (t.transaction != rows[i].good || refused == rows[i].good)
            fail_msg("%s: %s", rows[i].params, buf_cstr(&t.transcript));
        buf_done(&line);
        testkit_done(&t);
    }
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_schedules),
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_by_before_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
