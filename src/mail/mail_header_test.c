// SPDX-License-Identifier: MIT
#include "mail/mail_header.h"

#include <stdlib.h>

#include "base/test_base.h"

// How a message is cut: whole, byte by byte, or at random.
enum cut { CUT_WHOLE, CUT_BYTES, CUT_RANDOM, CUTS };

// Feeds the message; what the reader leaves is added to `rest`.
static void read_header(struct mail_header_reader *r, struct bytes message, enum cut cut,
                        uint64_t seed, struct buf *rest)
{
    struct test_random random = {seed};
    while (message.len && r->state == MAIL_HEADER_MORE) {
        size_t n = cut == CUT_WHOLE   ? message.len
                   : cut == CUT_BYTES ? 1
                                      : 1 + test_random_below(&random, 7);
        size_t used;
        mail_header_reader_feed(r, bytes_first(message, n), &used);
        message = bytes_skip(message, used);
    }
    mail_header_reader_finish(r);
    buf_add(rest, buf_bytes(&r->rest));
    buf_add(rest, message);
}

static const struct {
    const char *name;
    struct bytes message;
    enum mail_header_state state;
    struct bytes block, body;
    bool has_separator;
    size_t fields;
} reader_rows[] = {
    {"plain", BYTES("A: 1\r\nB: 2\r\n\r\nbody\r\n"), MAIL_HEADER_DONE, BYTES("A: 1\r\nB: 2\r\n"),
     BYTES("body\r\n"), true, 2},
    {"folded", BYTES("A: 1\r\n\t2\r\n 3\r\n\r\n"), MAIL_HEADER_DONE, BYTES("A: 1\r\n\t2\r\n 3\r\n"),
     BYTES(""), true, 1},
    {"no header", BYTES("\r\nbody"), MAIL_HEADER_DONE, BYTES(""), BYTES("body"), true, 0},
    {"empty", BYTES(""), MAIL_HEADER_DONE, BYTES(""), BYTES(""), false, 0},
    {"only header", BYTES("A: 1\r\n"), MAIL_HEADER_DONE, BYTES("A: 1\r\n"), BYTES(""), false, 1},
    {"no last line end", BYTES("A: 1"), MAIL_HEADER_DONE, BYTES("A: 1"), BYTES(""), false, 1},
    {"no separator", BYTES("A: 1\r\nHello world: x\r\n\r\n"), MAIL_HEADER_DONE, BYTES("A: 1\r\n"),
     BYTES("Hello world: x\r\n\r\n"), false, 1},
    {"no colon", BYTES("A: 1\r\nHello\r\n"), MAIL_HEADER_DONE, BYTES("A: 1\r\n"),
     BYTES("Hello\r\n"), false, 1},
    {"no colon at the end", BYTES("A: 1\r\nHello"), MAIL_HEADER_DONE, BYTES("A: 1\r\n"),
     BYTES("Hello"), false, 1},
    {"empty name", BYTES("A: 1\r\n: x\r\n"), MAIL_HEADER_DONE, BYTES("A: 1\r\n"), BYTES(": x\r\n"),
     false, 1},
    {"8-bit name", BYTES("A: 1\r\n\xc3\xbc: x\r\n"), MAIL_HEADER_DONE, BYTES("A: 1\r\n"),
     BYTES("\xc3\xbc: x\r\n"), false, 1},
    {"mbox line", BYTES("From me Mon 12:00\r\nA: 1\r\n"), MAIL_HEADER_DONE, BYTES(""),
     BYTES("From me Mon 12:00\r\nA: 1\r\n"), false, 0},
    {"continuation first", BYTES(" x\r\nA: 1\r\n\r\n"), MAIL_HEADER_DONE, BYTES(""),
     BYTES(" x\r\nA: 1\r\n\r\n"), false, 0},
    {"space before colon", BYTES("A \t: 1\r\n\r\n"), MAIL_HEADER_DONE, BYTES("A \t: 1\r\n"),
     BYTES(""), true, 1},
    {"CR alone after a line", BYTES("A: 1\r\n\rx"), MAIL_HEADER_DONE, BYTES("A: 1\r\n"),
     BYTES("\rx"), false, 1},
    {"bare LF", BYTES("A: 1\nB: 2\r\n\r\n"), MAIL_HEADER_BARE_NEWLINE, BYTES_NONE, BYTES_NONE,
     false, 1},
    {"bare CR", BYTES("A: 1\rB: 2\r\n\r\n"), MAIL_HEADER_BARE_NEWLINE, BYTES_NONE, BYTES_NONE,
     false, 1},
    {"CR at the end", BYTES("A: 1\r"), MAIL_HEADER_BARE_NEWLINE, BYTES_NONE, BYTES_NONE, false, 1},
    {"NUL", BYTES("A: 1\0\r\n\r\n"), MAIL_HEADER_BARE_NEWLINE, BYTES_NONE, BYTES_NONE, false, 1},
    // limits of this test: 40 bytes, 3 fields, lines of 20
    {"block of 40", BYTES("A: 45678901234567890\r\nB: 4567890123456\r\n\r\nx"), MAIL_HEADER_DONE,
     BYTES("A: 45678901234567890\r\nB: 4567890123456\r\n"), BYTES("x"), true, 2},
    {"block of 41", BYTES("A: 45678901234567890\r\nB: 45678901234567\r\n\r\nx"),
     MAIL_HEADER_TOO_LARGE, BYTES_NONE, BYTES_NONE, false, 2},
    {"3 fields", BYTES("A: 1\r\nB: 2\r\nC: 3\r\n\r\n"), MAIL_HEADER_DONE,
     BYTES("A: 1\r\nB: 2\r\nC: 3\r\n"), BYTES(""), true, 3},
    {"4 fields", BYTES("A: 1\r\nB: 2\r\nC: 3\r\nD:\r\n\r\n"), MAIL_HEADER_TOO_MANY, BYTES_NONE,
     BYTES_NONE, false, 4},
    {"line of 20", BYTES("A: 45678901234567890\r\n\r\n"), MAIL_HEADER_DONE,
     BYTES("A: 45678901234567890\r\n"), BYTES(""), true, 1},
    {"line of 21", BYTES("A: 456789012345678901\r\n\r\n"), MAIL_HEADER_LINE_LONG, BYTES_NONE,
     BYTES_NONE, false, 1},
    {"continuation of 21", BYTES("A:\r\n 23456789012345678901\r\n\r\n"), MAIL_HEADER_LINE_LONG,
     BYTES_NONE, BYTES_NONE, false, 1},
};

static void reader_takes_the_header_at_every_cut(void **state)
{
    static const struct mail_header_limits limits = {40, 3, 20};
    for (size_t i = 0; i < sizeof(reader_rows) / sizeof(reader_rows[0]); i++) {
        for (int round = 0; round < 22; round++) {
            enum cut cut = round < 2 ? (enum cut)round : CUT_RANDOM;
            struct mail_header_reader r;
            struct buf body = {0};
            mail_header_reader_init(&r, &limits);
            read_header(&r, reader_rows[i].message, cut, (uint64_t)round, &body);
            const char *name = reader_rows[i].name;
            assert_number(name, r.state, reader_rows[i].state);
            assert_number(name, r.fields, reader_rows[i].fields);
            if (r.state == MAIL_HEADER_DONE) {
                assert_bytes(name, buf_bytes(&r.block), reader_rows[i].block);
                assert_bytes(name, buf_bytes(&body), reader_rows[i].body);
                assert_number(name, r.has_separator, reader_rows[i].has_separator);
            }
            mail_header_reader_done(&r);
            buf_done(&body);
        }
    }
}

static void the_largest_block_passes(void **state)
{
    static const struct mail_header_limits limits = {.bytes_max = 10};
    static const struct {
        struct bytes in;
        enum mail_header_state want;
    } rows[] = {{BYTES("A: 45678\r\n\r\n"), MAIL_HEADER_DONE},
                {BYTES("A: 456789\r\n\r\n"), MAIL_HEADER_TOO_LARGE}};
    for (size_t i = 0; i < 2; i++) {
        struct mail_header_reader r;
        struct buf body = {0};
        mail_header_reader_init(&r, &limits);
        read_header(&r, rows[i].in, CUT_BYTES, 0, &body);
        assert_int_equal(r.state, rows[i].want);
        mail_header_reader_done(&r);
        buf_done(&body);
    }
}

static void fields_are_found(void **state)
{
    struct bytes block = BYTES("From: a\r\nto : b,\r\n c\r\nFrom:\r\nX:  \r\n");
    static const struct bytes want[][2] = {{{"From", 4}, {" a", 2}},
                                           {{"to", 2}, {" b,\r\n c", 7}},
                                           {{"From", 4}, {"", 0}},
                                           {{"X", 1}, {"  ", 2}}};
    struct mail_field field;
    struct bytes rest = block;
    for (size_t i = 0; i < 4; i++) {
        assert_true(mail_header_next(&rest, &field));
        assert_bytes("name", field.name, want[i][0]);
        assert_bytes("value", field.value, want[i][1]);
    }
    assert_false(mail_header_next(&rest, &field));
    assert_int_equal(mail_header_count(block, BYTES("FROM")), 2);
    assert_int_equal(mail_header_count(block, BYTES("Fro")), 0);
    assert_true(mail_header_find(block, BYTES("TO"), &field));
    assert_bytes("raw", field.raw, BYTES("to : b,\r\n c\r\n"));
    assert_false(mail_header_find(block, BYTES("Subject"), &field));
    assert_false(mail_header_find(BYTES_NONE, BYTES("Subject"), &field));
}

static void fields_are_removed(void **state)
{
    static const struct {
        const char *name;
        struct bytes block, remove, want;
        size_t count;
    } rows[] = {
        {"first and last", BYTES("Bcc: x\r\nA: 1\r\nbcc: y,\r\n z\r\n"), BYTES("BCC"),
         BYTES("A: 1\r\n"), 2},
        {"none", BYTES("A: 1\r\n"), BYTES("B"), BYTES("A: 1\r\n"), 0},
        {"all", BYTES("A: 1\r\nA: 2"), BYTES("A"), BYTES(""), 2},
        {"a prefix stays", BYTES("Bccx: 1\r\n"), BYTES("Bcc"), BYTES("Bccx: 1\r\n"), 0},
        {"empty", BYTES(""), BYTES("A"), BYTES(""), 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        buf_add(&b, rows[i].block);
        assert_number(rows[i].name, mail_header_remove(&b, rows[i].remove), rows[i].count);
        assert_bytes(rows[i].name, buf_bytes(&b), rows[i].want);
        buf_done(&b);
    }
}

static void values_are_unfolded(void **state)
{
    struct buf b = {0};
    mail_header_unfold(BYTES(" a\r\n b\r\n\t c \r\n "), &b);
    assert_bytes("unfold", buf_bytes(&b), BYTES("a b\t c"));
    buf_clear(&b);
    mail_header_unfold(BYTES(" \r\n "), &b);
    assert_int_equal(b.len, 0);
    buf_done(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(reader_takes_the_header_at_every_cut),
    cmocka_unit_test(the_largest_block_passes),
    cmocka_unit_test(fields_are_found),
    cmocka_unit_test(fields_are_removed),
    cmocka_unit_test(values_are_unfolded),
};
RUN_TESTS(tests)
