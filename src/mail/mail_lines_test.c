// SPDX-License-Identifier: MIT
#include "mail/mail_lines.h"

#include "base/check.h"
#include "base/test_base.h"

static const struct {
    const char *name;
    bool dot_ends;
    struct bytes in, want;
    bool ended;
} rows[] = {
    {"LF", false, BYTES("a\nb\n"), BYTES("a\r\nb\r\n"), false},
    {"CRLF", false, BYTES("a\r\nb\r\n"), BYTES("a\r\nb\r\n"), false},
    {"both", false, BYTES("a\r\nb\nc"), BYTES("a\r\nb\r\nc\r\n"), false},
    {"no last line end", false, BYTES("a"), BYTES("a\r\n"), false},
    {"nothing", false, BYTES(""), BYTES(""), false},
    {"an empty line", false, BYTES("\n"), BYTES("\r\n"), false},
    {"a progress bar", false, BYTES("10%\r20%\r\r\n"), BYTES("10% 20% \r\n"), false},
    {"a CR at the end", false, BYTES("a\r"), BYTES("a\r\n"), false},
    {"a dot ends", true, BYTES("a\n.\nb\n"), BYTES("a\r\n"), true},
    {"a dot with CRLF ends", true, BYTES("a\r\n.\r\nb"), BYTES("a\r\n"), true},
    {"a dot at the end of input", true, BYTES("a\n."), BYTES("a\r\n"), true},
    {"a dot in the first line", true, BYTES(".\na"), BYTES(""), true},
    {"a dot is text with -i", false, BYTES("a\n.\nb\n"), BYTES("a\r\n.\r\nb\r\n"), false},
    {"dots that are none", true, BYTES("..\n.a\na.\n . \n"), BYTES("..\r\n.a\r\na.\r\n . \r\n"),
     false},
    {"a dot and a CR alone", true, BYTES(".\rx\n"), BYTES(". x\r\n"), false},
    {"mbox", false, BYTES("From me Thu Jan 1\nSubject: x\n\nFrom here\n"),
     BYTES("Subject: x\r\n\r\nFrom here\r\n"), false},
    {"mbox twice", false, BYTES("From me\r\n>From you\nA: b\n"), BYTES("A: b\r\n"), false},
    {"mbox and no more", false, BYTES("From me"), BYTES(""), false},
    {"a From field", false, BYTES("From: me\n"), BYTES("From: me\r\n"), false},
    {"a short line like it", false, BYTES("Fro\nm\n"), BYTES("Fro\r\nm\r\n"), false},
    {"quoted, not mbox", false, BYTES(">Fr\n"), BYTES(">Fr\r\n"), false},
    {"NUL and 8 bits are kept", false, BYTES("\0\xff\n"), BYTES("\0\xff\r\n"), false},
};

static void feed_in_pieces(size_t row, size_t piece, struct test_random *random)
{
    struct mail_lines m = {.dot_ends = rows[row].dot_ends};
    struct buf out = {0};
    struct bytes in = rows[row].in;
    while (in.len) {
        size_t n = piece ? piece : 1 + test_random_below(random, 5);
        mail_lines_feed(&m, bytes_first(in, n), &out);
        in = bytes_skip(in, n);
    }
    mail_lines_finish(&m, &out);
    assert_bytes(rows[row].name, buf_bytes(&out), rows[row].want);
    assert_number(rows[row].name, m.ended, rows[row].ended);
    buf_done(&out);
}

static void lines_end_in_crlf_at_every_cut(void **state)
{
    (void)state;
    struct test_random random = {7};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        feed_in_pieces(i, 1000, &random);
        feed_in_pieces(i, 1, &random);
        for (int n = 0; n < 20; n++)
            feed_in_pieces(i, 0, &random);
    }
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(lines_end_in_crlf_at_every_cut)};
RUN_TESTS(tests)
