// SPDX-License-Identifier: MIT
#include "mail/mail_rfc2047.h"

#include "base/test_base.h"

#define ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))
#define UE "\xc3\xbc"

static void encodes_what_must_be(void **state)
{
    static const struct {
        const char *name;
        struct bytes in, want;
    } rows[] = {
        {"empty", BYTES(""), BYTES("")},
        {"plain", BYTES("Hello (you) = there?"), BYTES("Hello (you) = there?")},
        {"one word", BYTES("Gr" UE "n is nice"), BYTES("=?utf-8?Q?Gr=C3=BCn?= is nice")},
        {"words side by side", BYTES("a " UE " " UE " b"), BYTES("a =?utf-8?B?w7wgw7w=?= b")},
        {"looks like one", BYTES("=?utf-8?q?x?="), BYTES("=?utf-8?Q?=3D=3Futf-8=3Fq=3Fx=3F=3D?=")},
        {"control", BYTES("a\r\nBcc: x"), BYTES("=?utf-8?Q?a=0D=0ABcc=3A?= x")},
        {"two spaces", BYTES("a  b"), BYTES("=?utf-8?Q?a__b?=")},
        {"invalid", BYTES("\xff"), BYTES("=?utf-8?B?77+9?=")},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct buf b = {0};
        mail_rfc2047_encode(rows[i].in, 9, &b);
        assert_bytes(rows[i].name, buf_bytes(&b), rows[i].want);
        buf_done(&b);
    }
}

// Whatever goes in comes back, in lines of at most 76 ASCII characters.
static void comes_back_from_random_text(void **state)
{
    static const char some[] = "abc " UE " \xe2\x82\xac\xf0\x9f\x98\x80 =?x  yz word";
    struct test_random random = {4};
    for (int i = 0; i < 3000; i++) {
        struct buf text = {0}, in = {0}, b = {0}, back = {0};
        size_t n = test_random_below(&random, 400);
        while (in.len < n)
            buf_add(&in, bytes_mid(bytes_of(some, sizeof(some) - 1),
                                   test_random_below(&random, sizeof(some) - 1),
                                   1 + test_random_below(&random, 8)));
        mail_rfc2047_encode(buf_bytes(&in), 9, &b);
        struct bytes rest = buf_bytes(&b), line;
        for (size_t column = 9; bytes_cut(&rest, '\n', &line); column = 0)
            assert_true(line.len + column <= 77); // with the CR
        assert_true(bytes_is_ascii(buf_bytes(&b)));
        mail_rfc2047_decode(buf_bytes(&b), &back);
        mail_rfc2047_decode(BYTES(""), &text);
        for (struct bytes s = buf_bytes(&in); s.len;) { // invalid bytes became U+FFFD
            size_t k = bytes_utf8_len(s);
            buf_add(&text, k ? bytes_first(s, k) : BYTES("\xef\xbf\xbd"));
            s = bytes_skip(s, k ? k : 1);
        }
        assert_bytes("back", buf_bytes(&back), buf_bytes(&text));
        buf_done(&in);
        buf_done(&text);
        buf_done(&b);
        buf_done(&back);
    }
}

static void decodes(void **state)
{
    static const struct {
        const char *name;
        struct bytes in, want;
    } rows[] = {
        {"plain", BYTES(" a\r\n b "), BYTES("a b")},
        {"Q", BYTES("=?utf-8?q?Gr=c3=BCn_x?="), BYTES("Gr" UE "n x")},
        {"B", BYTES("=?UTF-8?B?R3LDvG4=?="), BYTES("Gr" UE "n")},
        {"latin-1", BYTES("=?iso-8859-1?Q?Gr=FCn?="), BYTES("Gr" UE "n")},
        {"windows", BYTES("=?windows-1252?Q?=80=81?="), BYTES("\xe2\x82\xac\xef\xbf\xbd")},
        {"language", BYTES("=?utf-8*de?Q?x?="), BYTES("x")},
        {"space between words goes", BYTES("=?utf-8?q?a?= \r\n =?utf-8?q?b?="), BYTES("ab")},
        {"other space stays", BYTES("x =?utf-8?q?a?= y"), BYTES("x a y")},
        {"cut in a character", BYTES("=?utf-8?q?=C3?= =?utf-8?q?=BC?="), BYTES(UE)},
        {"unknown charset", BYTES("=?x-foo?q?a?="), BYTES("=?x-foo?q?a?=")},
        {"inside a word", BYTES("x=?utf-8?q?a?="), BYTES("x=?utf-8?q?a?=")},
        {"broken Q", BYTES("=?utf-8?q?=4?="), BYTES("=?utf-8?q?=4?=")},
        {"broken B", BYTES("=?utf-8?b?a?="), BYTES("=?utf-8?b?a?=")},
        {"unknown encoding", BYTES("=?utf-8?x?a?="), BYTES("=?utf-8?x?a?=")},
        {"too many marks", BYTES("=?utf-8?q?a?b?="), BYTES("=?utf-8?q?a?b?=")},
        {"only marks", BYTES("=?\?="), BYTES("=?\?=")},
        {"8-bit", BYTES("Gr" UE "n \xff"), BYTES("Gr" UE "n \xef\xbf\xbd")},
        {"invalid inside", BYTES("=?utf-8?q?=FF?="), BYTES("\xef\xbf\xbd")},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct buf b = {0};
        mail_rfc2047_decode(rows[i].in, &b);
        assert_bytes(rows[i].name, buf_bytes(&b), rows[i].want);
        buf_done(&b);
    }
}

static void single_words(void **state)
{
    static const struct {
        struct bytes in;
        int want;
    } rows[] = {{BYTES("=?utf-8?q?a?="), OK},          {BYTES("=?utf-8?q?\?="), OK},
                {BYTES("=?x-foo?q?a?="), E_NOT_FOUND}, {BYTES(" =?utf-8?q?a?="), E_SYNTAX},
                {BYTES("=?utf-8?q?a b?="), E_SYNTAX},  {BYTES("=?utf-8?q?a"), E_SYNTAX},
                {BYTES("=?utf-8?="), E_SYNTAX},        {BYTES(""), E_SYNTAX}};
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct buf b = {0};
        assert_number(rows[i].in.at, mail_rfc2047_decode_word(rows[i].in, &b), rows[i].want);
        buf_done(&b);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(encodes_what_must_be),
    cmocka_unit_test(comes_back_from_random_text),
    cmocka_unit_test(decodes),
    cmocka_unit_test(single_words),
};
RUN_TESTS(tests)
