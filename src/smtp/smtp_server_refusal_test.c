// SPDX-License-Identifier: MIT
//
// Refused commands of a transaction, as the owner is told of them: each once, whoever refused it and however late.
#include "smtp/smtp_testkit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"

#define HELLO "EHLO c\r\n"
#define OPEN HELLO "MAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\n"

static const struct row {
    const char *name, *input, *want;
} ROWS[] = {
    {"nothing refused",
     OPEN
     "DATA\r\nx\r\n.\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\nBDAT 2\r\nx\rBDAT 1 LAST\r\n\n",
     ""},
    {"other commands", HELLO "FOO\r\nEXPN x\r\nAUTH X\r\nNOOP\r\n", ""},
    {"MAIL by the owner", HELLO "MAIL FROM:<refused@b.c> SIZE=5\r\nMAIL FROM:<busy@b.c>\r\n",
     "MAIL FROM:<refused@b.c> SIZE=5 SENDER_NOT_OWNED example.com\n"
     "MAIL FROM:<busy@b.c> LOCAL_ERROR \n"},
    {"MAIL by the session",
     HELLO "MAIL FROM:nobody\r\nMAIL FROM:<a@b.c> SIZE=99999999999\r\nmail from:<a@b.c> X=1\r\n",
     "MAIL FROM:nobody PATH_SENDER \n"
     "MAIL FROM:<a@b.c> SIZE=99999999999 TOO_LARGE 52428800\n"
     "MAIL from:<a@b.c> X=1 PARAM_UNKNOWN X\n"},
    {"RCPT by the owner", OPEN "RCPT TO:<unknown@y.z>\r\nRCPT TO:<greylist@y.z> NOTIFY=NEVER\r\n",
     "RCPT TO:<unknown@y.z> UNKNOWN_USER unknown@example.com in\n"
     "RCPT TO:<greylist@y.z> NOTIFY=NEVER LOCAL_ERROR  in\n"},
    {"RCPT by the session", OPEN "RCPT TO:<>\r\nRCPT x\r\n",
     "RCPT TO:<> PATH_RECIPIENT  in\n"
     "RCPT x ARGUMENTS RCPT TO:<address> [parameters] in\n"},
    {"out of place",
     "MAIL FROM:<a@b.c>\r\n" HELLO
     "RCPT TO:<x@y.z>\r\nDATA\r\nBDAT 3\r\nabcMAIL FROM:<a@b.c>\r\nMAIL FROM:<d@b.c>\r\n",
     "MAIL FROM:<a@b.c> SEQUENCE EHLO\n"
     "RCPT TO:<x@y.z> SEQUENCE MAIL FROM\n"
     "DATA  SEQUENCE MAIL FROM\n"
     "BDAT 3 SEQUENCE MAIL FROM\n"
     "MAIL FROM:<d@b.c> NESTED_MAIL  in\n"},
    {"content", OPEN "DATA\r\nx\ny\r\n.\r\n", "DATA  BARE_LF  in\n"},
    {"an end that the owner refuses", OPEN "DATA\r\n\r\nREFUSE-ME\r\n.\r\n", ""},
    {"too many", HELLO "RCPT a\r\nRCPT b\r\nRCPT c\r\nRCPT d\r\n",
     "RCPT a SEQUENCE MAIL FROM\nRCPT b SEQUENCE MAIL FROM\nRCPT c SEQUENCE MAIL FROM\n"},
};

static void check(const struct row *row, unsigned cuts, bool later)
{
    struct testkit t;
    testkit_init(&t);
    t.later = later;
    t.config.errors_max = strcmp(row->name, "too many") == 0 ? 3 : 20;
    testkit_start(&t, false, false);
    testkit_feed(&t, bytes_cstr(row->input), cuts);
    buf_add_byte(&t.refusals, '\0');
    if (strcmp(t.refusals.at, row->want) != 0)
        fail_msg("%s, cut %u, %s: told\n%s", row->name, cuts, later ? "later" : "at once",
                 t.refusals.at);
    testkit_done(&t);
}

static void test_each_is_told_once(void **state)
{
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        for (unsigned cuts = 0; cuts < 5; cuts++) {
            check(&ROWS[i], cuts, false);
            check(&ROWS[i], cuts, true);
        }
}

// As content comes: what is wrong is told while its sender is still known.
static void test_content(void **state)
{
    struct testkit t;
    testkit_init(&t);
    t.refuse_data = true;
    testkit_start(&t, false, false);
    testkit_feed(
        &t, BYTES(OPEN "DATA\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\nBDAT 3 LAST\r\nabc"), 0);
    t.refuse_data = false;
    testkit_feed(&t, BYTES("MAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\nBDAT 4\r\nA:\0\r"), 0);
    testkit_feed(&t, BYTES("MAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\nDATA\r\nA:"), 0);
    t.now = smtp_server_deadline(t.server);
    smtp_server_tick(t.server, t.now);
    buf_add_byte(&t.refusals, '\0');
    assert_string_equal(t.refusals.at, "DATA  DISK_FULL  in\n"
                                       "BDAT 3 LAST DISK_FULL  in\n"
                                       "BDAT 4 NUL_IN_HEADER  in\n"
                                       "DATA  TOO_SLOW  in\n");
    testkit_done(&t);
}

// RFC 5321 4.5.3.1.10: nothing that ends the session.
static void test_rest_of_recipients_is_no_error(void **state)
{
    struct testkit t;
    testkit_init(&t);
    t.config.errors_max = 3;
    testkit_start(&t, false, false);
    testkit_feed(&t, BYTES(HELLO "MAIL FROM:<a@b.c>\r\n"), 0);
    for (int i = 0; i < 10; i++)
        testkit_feed(&t, BYTES("RCPT TO:<many@y.z>\r\n"), 0);
    testkit_feed(&t, BYTES("RCPT TO:<x@y.z>\r\n"), 0);
    assert_int_equal(t.rcpts, 1);
    testkit_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_told_once),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_rest_of_recipients_is_no_error),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
