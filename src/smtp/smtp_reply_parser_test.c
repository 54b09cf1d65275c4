// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "smtp/smtp_reply_parser.h"

static const struct {
    struct bytes input;
    enum smtp_parse result;
    unsigned code;
    const char *enhanced, *text;
} rows[] = {
    {BYTES("250 ok\r\n"), SMTP_PARSE_DONE, 250, "", "ok"},
    {BYTES("250\r\n"), SMTP_PARSE_DONE, 250, "", ""},
    {BYTES("250 \r\n"), SMTP_PARSE_DONE, 250, "", ""},
    {BYTES("250 ok\n"), SMTP_PARSE_DONE, 250, "", "ok"},
    {BYTES("250-a\r\n250-\r\n250 b\r\n"), SMTP_PARSE_DONE, 250, "", "a\n\nb"},
    {BYTES("550 5.1.1 gone\r\n"), SMTP_PARSE_DONE, 550, "5.1.1", "gone"},
    {BYTES("550-5.1.1 gone\r\n550-5.1.1 for\r\n550 good\r\n"), SMTP_PARSE_DONE, 550, "5.1.1",
     "gone\nfor\ngood"},
    {BYTES("550 5.1.1\r\n"), SMTP_PARSE_DONE, 550, "5.1.1", ""},
    {BYTES("550 5.123.456 x\r\n"), SMTP_PARSE_DONE, 550, "5.123.456", "x"},
    {BYTES("550 4.1.1 x\r\n"), SMTP_PARSE_DONE, 550, "", "4.1.1 x"},
    {BYTES("550 2.1.1 x\r\n"), SMTP_PARSE_DONE, 550, "", "2.1.1 x"},
    {BYTES("550 5.1234.1 x\r\n"), SMTP_PARSE_DONE, 550, "", "5.1234.1 x"},
    {BYTES("550 5.1.1x\r\n"), SMTP_PARSE_DONE, 550, "", "5.1.1x"},
    {BYTES("550 5..1 x\r\n"), SMTP_PARSE_DONE, 550, "", "5..1 x"},
    {BYTES("550-later lines\r\n550 5.1.1 do not count\r\n"), SMTP_PARSE_DONE, 550, "",
     "later lines\n5.1.1 do not count"},
    {BYTES("354 3.0.0 go\r\n"), SMTP_PARSE_DONE, 354, "", "3.0.0 go"},
    {BYTES("250 a\0b\rc\x1b[31m\x7f\t.\r\n"), SMTP_PARSE_DONE, 250, "", "a?b?c?[31m? ."},
    {BYTES("250 ok\r\n250 more"), SMTP_PARSE_DONE, 250, "", "ok"},
    {BYTES("250-a\r\n"), SMTP_PARSE_MORE, 0, "", ""},
    {BYTES("250 ok\r"), SMTP_PARSE_MORE, 0, "", ""},
    {BYTES("250-a\r\n251 b\r\n"), SMTP_PARSE_BAD, 0, "", ""},
    {BYTES("\r\n"), SMTP_PARSE_BAD, 0, "", ""},
    {BYTES("hello\r\n"), SMTP_PARSE_BAD, 0, "", ""},
    {BYTES("25 ok\r\n"), SMTP_PARSE_BAD, 0, "", ""},
    {BYTES("2500 ok\r\n"), SMTP_PARSE_BAD, 0, "", ""},
    {BYTES("250:ok\r\n"), SMTP_PARSE_BAD, 0, "", ""},
    {BYTES("150 ok\r\n"), SMTP_PARSE_BAD, 0, "", ""},
    {BYTES("650 ok\r\n"), SMTP_PARSE_BAD, 0, "", ""},
    {BYTES("-50 ok\r\n"), SMTP_PARSE_BAD, 0, "", ""},
};

static enum smtp_parse feed(struct smtp_reply_parser *p, struct bytes in, unsigned cuts)
{
    enum smtp_parse result = SMTP_PARSE_MORE;
    unsigned seed = cuts;
    while (in.len > 0 && result == SMTP_PARSE_MORE) {
        size_t used, n = cuts == 0 ? in.len : cuts == 1 ? 1 : 1 + (size_t)rand_r(&seed) % 7;
        result = smtp_reply_parser_feed(p, bytes_first(in, n), &used);
        in = bytes_skip(in, result == SMTP_PARSE_MORE ? bytes_first(in, n).len : used);
    }
    return result;
}

static void test_rows(void **state)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (unsigned cuts = 0; cuts < 6; cuts++) {
            struct smtp_reply_parser p;
            char enhanced[32] = "";
            smtp_reply_parser_init(&p);
            // A reply before it must leave nothing behind (stale enhanced codes).
            assert_int_equal(feed(&p, BYTES("451-4.3.2 before\r\n451 4.3.2 x\r\n"), cuts),
                             SMTP_PARSE_DONE);
            if (feed(&p, rows[i].input, cuts) != rows[i].result)
                fail_msg("row %zu, cuts %u", i, cuts);
            if (rows[i].result == SMTP_PARSE_DONE) {
                assert_int_equal(p.reply.code, rows[i].code);
                struct smtp_enhanced e = p.reply.enhanced;
                if (e.class)
                    snprintf(enhanced, sizeof enhanced, "%u.%u.%u", e.class, e.subject, e.detail);
                assert_string_equal(enhanced, rows[i].enhanced);
                assert_int_equal(p.reply.text.len, strlen(rows[i].text));
                assert_memory_equal(p.reply.text.at ? p.reply.text.at : "", rows[i].text,
                                    p.reply.text.len);
            }
            smtp_reply_parser_done(&p);
        }
    }
}

static void fill(struct buf *b, const char *line, int times)
{
    for (int i = 0; i < times; i++)
        buf_add_cstr(b, line);
}

static void test_g_limits(void **state)
{
    static const struct {
        const char *line;
        int times;
        const char *last;
        enum smtp_parse result;
    } cases[] = {
        {"250-x\r\n", 99, "250 x\r\n", SMTP_PARSE_DONE},
        {"250-x\r\n", 100, "250 x\r\n", SMTP_PARSE_BAD},
        {"250-x\r\n", 1000000, "", SMTP_PARSE_BAD}, // a reply without end
        {"250 xxxxxxxxxx", 146, "\r\n", SMTP_PARSE_DONE},
        {"250 xxxxxxxxxx", 147, "\r\n", SMTP_PARSE_BAD},
        {"250 xxxxxxxxxx", 100000, "", SMTP_PARSE_BAD}, // a line without end
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct smtp_reply_parser p;
        struct buf in = {0};
        smtp_reply_parser_init(&p);
        fill(&in, cases[i].line, cases[i].times);
        buf_add_cstr(&in, cases[i].last);
        assert_int_equal(feed(&p, buf_bytes(&in), 0), cases[i].result);
        assert_true(p.text.len <= SMTP_REPLY_TEXT_MAX && p.line.cap <= 8192);
        buf_done(&in);
        smtp_reply_parser_done(&p);
    }
}

// Of a long reply the first SMTP_REPLY_TEXT_MAX bytes are kept.
static void test_text_is_cut(void **state)
{
    struct smtp_reply_parser p;
    struct buf in = {0};
    char line[1024];
    snprintf(line, sizeof line, "550-%01000d\r\n", 0);
    smtp_reply_parser_init(&p);
    fill(&in, line, 20);
    buf_add_cstr(&in, "550 end\r\n");
    assert_int_equal(feed(&p, buf_bytes(&in), 3), SMTP_PARSE_DONE);
    assert_int_equal(p.reply.text.len, SMTP_REPLY_TEXT_MAX);
    smtp_reply_parser_release(&p);
    assert_int_equal(p.text.cap + p.line.cap, 0);
    buf_done(&in);
    smtp_reply_parser_done(&p);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_g_limits),
        cmocka_unit_test(test_text_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
