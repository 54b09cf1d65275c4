// SPDX-License-Identifier: MIT
//
// Content that waits for its owner, and content that takes its time.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "smtp/smtp_testkit.h"

#define GO "354 Send the message; end it with a line that has only a dot\r\n"
#define BARE_LF "550 5.6.0 Message has a bare LF; lines must end in CRLF\r\n"
#define BARE_CR "550 5.6.0 Message has a bare CR; lines must end in CRLF\r\n"
#define TIMEOUT "421 4.4.2 Nothing complete came in time; closing\r\n[close]"

// Up to an accepted recipient.
static void start(struct testkit *t)
{
    testkit_init(t);
    testkit_start(t, false, false);
    testkit_feed(t,
                 BYTES("EHLO c.example\r\nMAIL FROM:<a@example.com>\r\n"
                       "RCPT TO:<b@example.net>\r\n"),
                 0);
    buf_clear(&t->transcript);
}

static void expect_end(struct testkit *t, const char *want)
{
    if (!bytes_ends(buf_bytes(&t->transcript), bytes_cstr(want)))
        fail_msg("want at the end: %s\ngot: %s", want, buf_cstr(&t->transcript));
    testkit_done(t);
}

// Who paused at the last bytes of a content, or at those with a fault in them, never resumes: it has what it wants.
static void test_pause_ends_with_its_message(void **state)
{
    static const struct {
        struct bytes content;
        const char *want;
    } rows[] = {
        {BYTES("DATA\r\nx\r\n.\r\n"), GO "250 2.0.0 Ok: queued as M1\r\n"},
        {BYTES("BDAT 3 LAST\r\nx\r\n"), "250 2.0.0 Ok: queued as M1\r\n"},
        {BYTES("DATA\r\nREFUSE-ME\r\n.\r\n"),
         GO "451 4.3.0 Local error; the message was not taken, try again later\r\n"},
        {BYTES("DATA\r\nx\r\n..\r\ny\nz\r\n.\r\n"), GO BARE_LF},
        {BYTES("BDAT 2 LAST\r\nx\r"), BARE_CR},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (int later = 0; later < 2; later++) {
            struct testkit t;
            start(&t);
            t.pauses = true;
            t.later = later;
            testkit_feed(&t, rows[i].content, 0);
            assert_string_equal(buf_cstr(&t.transcript), rows[i].want);
            assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_INPUT);
            assert_int_equal(mono_ms_between(t.now, smtp_server_deadline(t.server)), 300000);
            testkit_feed(&t, BYTES("QUIT\r\n"), 0);
            expect_end(&t, "221 2.0.0 Bye\r\n[close]");
        }
}

// Each minute the same; how many minutes until the session is over, at most `max`.
static int64_t minutes_of(struct testkit *t, struct bytes input, int64_t max)
{
    int64_t n = 0;
    while (n < max && smtp_server_wants(t->server) == SMTP_SERVER_INPUT) {
        testkit_feed(t, input, 0);
        buf_clear(&t->transcript);
        t->now = mono_add_ms(t->now, 60000);
        smtp_server_tick(t->server, t->now);
        n++;
    }
    testkit_feed(t, BYTES_NONE, 0);
    return n;
}

// An upload in chunks may take as long as one in one piece, if only it is as fast; what goes no further may not.
static void test_long_upload_in_chunks(void **state)
{
    struct testkit t;
    struct buf chunk = {0};
    buf_printf(&chunk, "BDAT 60000\r\n");
    for (int i = 0; i < 1000; i++)
        buf_add_cstr(&chunk, "0123456789012345678901234567890123456789012345678901234567\r\n");
    start(&t);
    assert_int_equal(minutes_of(&t, buf_bytes(&chunk), 120), 120);
    testkit_feed(&t, BYTES("BDAT 0 LAST\r\n"), 0);
    expect_end(&t, "250 2.0.0 Ok: queued as M1\r\n");

    start(&t); // and may be given up
    assert_int_equal(minutes_of(&t, buf_bytes(&chunk), 120), 120);
    testkit_feed(&t, BYTES("RSET\r\n"), 0);
    smtp_server_tick(t.server, t.now);
    testkit_feed(&t, BYTES("NOOP\r\n"), 0);
    expect_end(&t, "250 2.0.0 Ok\r\n");

    start(&t);
    assert_int_equal(minutes_of(&t, BYTES("BDAT 0\r\n"), 120), 20);
    expect_end(&t, TIMEOUT);

    start(&t); // an octet a minute is progress until the content is too slow, after five
    assert_int_equal(minutes_of(&t, BYTES("BDAT 1\r\nx"), 120), 25);
    expect_end(&t, TIMEOUT);
    buf_done(&chunk);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pause_ends_with_its_message),
        cmocka_unit_test(test_long_upload_in_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
