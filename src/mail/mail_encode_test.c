// SPDX-License-Identifier: MIT
#include "mail/mail_encode.h"

#include "base/test_base.h"

#define ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))

// The next piece of `rest`: all of it in round 0, one byte in round 1, a random few later.
static struct bytes cut(struct bytes *rest, int round, struct test_random *random)
{
    size_t n = round == 0 ? rest->len : round == 1 ? 1 : 1 + test_random_below(random, 9);
    struct bytes piece = bytes_first(*rest, n);
    *rest = bytes_skip(*rest, piece.len);
    return piece;
}

static void base64_text(void **state)
{
    static const struct {
        struct bytes plain, text;
    } rows[] = {{BYTES(""), BYTES("")},
                {BYTES("f"), BYTES("Zg==")},
                {BYTES("fo"), BYTES("Zm8=")},
                {BYTES("foo"), BYTES("Zm9v")},
                {BYTES("foob"), BYTES("Zm9vYg==")},
                {BYTES("\0\xff\xfe\xfb"), BYTES("AP/++w==")}};
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct buf b = {0};
        mail_base64_encode(rows[i].plain, &b);
        assert_bytes("encode", buf_bytes(&b), rows[i].text);
        buf_clear(&b);
        assert_int_equal(mail_base64_decode(rows[i].text, &b), OK);
        assert_bytes("decode", buf_bytes(&b), rows[i].plain);
        buf_done(&b);
    }
}

static void base64_is_strict(void **state)
{
    static const struct bytes rows[] = {
        {"Z", 1},        {"Zg", 2},    {"Zg=", 3},      {"Zg===", 5}, {"Zm9v=", 5},
        {"=", 1},        {"====", 4},  {"Z===", 4},     {"Zh==", 4}, // spare bits
        {"Zm9=", 4},                                                 // spare bits
        {"Zm9v\r\n", 6}, {" Zm9v", 5}, {"Zg==Zg==", 8}, {"Zg=a", 4},  {"Zm-v", 4},
        {"Zm_v", 4},     {"Zm9\0", 4}, {"*", 1}};
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct buf b = {0};
        buf_add(&b, BYTES("kept"));
        assert_number(rows[i].at, mail_base64_decode(rows[i], &b), E_SYNTAX);
        assert_bytes(rows[i].at, buf_bytes(&b), BYTES("kept"));
        buf_done(&b);
    }
    struct buf small;
    buf_init(&small, 2);
    assert_int_equal(mail_base64_decode(BYTES("Zm9v"), &small), E_LIMIT);
    buf_done(&small);
}

static void base64_body(void **state)
{
    char data[1000];
    for (size_t n = 0; n < sizeof(data); n += n < 130 ? 1 : 97) {
        struct buf whole = {0};
        for (size_t i = 0; i < n; i++)
            data[i] = (char)(i * 7 + n);
        for (int round = 0; round < 4; round++) {
            struct test_random random = {n};
            struct mail_base64_encoder e = {0};
            struct mail_base64_decoder d = {0};
            struct buf text = {0}, back = {0};
            for (struct bytes rest = bytes_of(data, n); rest.len;)
                mail_base64_encoder_feed(&e, cut(&rest, round, &random), &text);
            mail_base64_encoder_finish(&e, &text);
            if (round == 0)
                buf_add(&whole, buf_bytes(&text));
            assert_bytes("cuts", buf_bytes(&text), buf_bytes(&whole));
            for (struct bytes rest = buf_bytes(&text), line; rest.len;) {
                assert_true(bytes_cut(&rest, '\n', &line));
                assert_true(line.len <= MAIL_ENCODED_LINE_MAX + 1 && line.at[line.len - 1] == '\r');
            }
            for (struct bytes rest = buf_bytes(&text); rest.len;)
                assert_int_equal(mail_base64_decoder_feed(&d, cut(&rest, round, &random), &back),
                                 OK);
            assert_int_equal(mail_base64_decoder_finish(&d), OK);
            assert_bytes("back", buf_bytes(&back), bytes_of(data, n));
            buf_done(&text);
            buf_done(&back);
        }
        buf_done(&whole);
    }
}

static void base64_body_is_strict(void **state)
{
    static const struct {
        struct bytes text;
        int feed, finish;
    } rows[] = {{BYTES("Zm\r\n 9v\t"), OK, OK},   {BYTES("Zg==\r\n"), OK, OK},
                {BYTES("Zg"), OK, E_SYNTAX},      {BYTES("Zg="), OK, E_SYNTAX},
                {BYTES("Zg==Zg=="), E_SYNTAX, 0}, {BYTES("Zg==="), E_SYNTAX, 0},
                {BYTES("Z!"), E_SYNTAX, 0},       {BYTES("--b"), E_SYNTAX, 0}};
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct mail_base64_decoder d = {0};
        struct buf b = {0};
        assert_number(rows[i].text.at, mail_base64_decoder_feed(&d, rows[i].text, &b),
                      rows[i].feed);
        if (rows[i].feed == OK)
            assert_number(rows[i].text.at, mail_base64_decoder_finish(&d), rows[i].finish);
        buf_done(&b);
    }
}

static void qp_encode(struct bytes in, int round, uint64_t seed, struct buf *out)
{
    struct test_random random = {seed};
    struct mail_qp_encoder e = {0};
    while (in.len)
        mail_qp_encoder_feed(&e, cut(&in, round, &random), out);
    mail_qp_encoder_finish(&e, out);
}

static int qp_decode(struct bytes in, int round, uint64_t seed, struct buf *out)
{
    struct test_random random = {seed};
    struct mail_qp_decoder d = {0};
    int err = OK;
    while (in.len && err == OK)
        err = mail_qp_decoder_feed(&d, cut(&in, round, &random), out);
    return err ? err : mail_qp_decoder_finish(&d);
}

#define A25 "aaaaaaaaaaaaaaaaaaaaaaaaa"

static void qp_text(void **state)
{
    static const struct {
        const char *name;
        struct bytes plain, text;
    } rows[] = {
        {"empty", BYTES(""), BYTES("")},
        {"plain", BYTES("a b\tc\r\n"), BYTES("a b\tc\r\n")},
        {"8-bit", BYTES("m\xc3\xbc"), BYTES("m=C3=BC")},
        {"equals", BYTES("a=b"), BYTES("a=3Db")},
        {"space at line end", BYTES("a \r\nb\t\r\n \r\n"), BYTES("a=20\r\nb=09\r\n=20\r\n")},
        {"spaces at line end", BYTES("a  \r\n"), BYTES("a =20\r\n")},
        {"space at the end", BYTES("a "), BYTES("a=20")},
        {"bare CR", BYTES("a\rb"), BYTES("a=0Db")},
        {"bare LF", BYTES("a\nb"), BYTES("a=0Ab")},
        {"CR CR LF", BYTES("a\r\r\n"), BYTES("a=0D\r\n")},
        {"space CR", BYTES("a \rb"), BYTES("a =0Db")},
        {"CR at the end", BYTES("a\r"), BYTES("a=0D")},
        {"NUL", BYTES("\0"), BYTES("=00")},
        {"DEL", BYTES("\x7f"), BYTES("=7F")},
        {"dot", BYTES(".\r\n..\r\na.\r\n"), BYTES("=2E\r\n=2E.\r\na.\r\n")},
        {"From", BYTES("From me\r\nFrom\r\nFro\r\n From \r\nF"),
         BYTES("=46rom me\r\nFrom\r\nFro\r\n From=20\r\nF")},
        {"From and no more", BYTES("From \r\n"), BYTES("=46rom=20\r\n")},
        {"FFrom", BYTES("FFrom \r\nFrFrom x"), BYTES("FFrom=20\r\nFrFrom x")},
        {"76 characters", BYTES(A25 A25 A25 "b\r\n"), BYTES(A25 A25 A25 "=\r\nb\r\n")},
        {"75 characters", BYTES(A25 A25 A25 "\r\n"), BYTES(A25 A25 A25 "\r\n")},
        {"escape is not cut", BYTES(A25 A25 "aaaaaaaaaaaaaaaaaaaaaaa\xff"),
         BYTES(A25 A25 "aaaaaaaaaaaaaaaaaaaaaaa=\r\n=FF")},
        {"no dot starts a line", BYTES(A25 A25 A25 ".x"), BYTES(A25 A25 A25 "=\r\n=2Ex")},
        {"no boundary starts a line", BYTES(A25 A25 A25 "--b\r\n--"),
         BYTES(A25 A25 A25 "=\r\n=2D-b\r\n=2D-")},
        {"no F starts a line", BYTES(A25 A25 A25 "From x"), BYTES(A25 A25 A25 "=\r\n=46rom x")},
        {"space before a cut", BYTES(A25 A25 A25 " x"), BYTES(A25 A25 A25 "=\r\n x")},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        for (int round = 0; round < 6; round++) {
            struct buf text = {0}, back = {0};
            qp_encode(rows[i].plain, round, i, &text);
            assert_bytes(rows[i].name, buf_bytes(&text), rows[i].text);
            assert_number(rows[i].name, qp_decode(buf_bytes(&text), round, i, &back), OK);
            assert_bytes(rows[i].name, buf_bytes(&back), rows[i].plain);
            buf_done(&text);
            buf_done(&back);
        }
    }
}

// What law 5 and mbox ask of every line that we make.
static void check_lines(struct bytes text)
{
    struct bytes line;
    while (text.len && bytes_cut(&text, '\n', &line)) {
        if (line.len && line.at[line.len - 1] == '\r')
            line.len--;
        assert_true(line.len <= MAIL_ENCODED_LINE_MAX);
        assert_false(bytes_has_control(line, "\t"));
        assert_true(bytes_is_ascii(line));
        assert_false(bytes_starts(line, BYTES(".")));
        assert_false(bytes_starts(line, BYTES("From ")));
        assert_false(bytes_starts(line, BYTES("--")));
        assert_false(bytes_ends(line, BYTES(" ")) || bytes_ends(line, BYTES("\t")));
    }
}

static void qp_of_random_text(void **state)
{
    static const char some[] = " \t\r\n.=F--.From a\xc3\xbcz\r\n From \r\n";
    struct test_random random = {11};
    for (int i = 0; i < 3000; i++) {
        struct buf plain = {0}, text = {0}, again = {0}, back = {0};
        size_t n = test_random_below(&random, 300);
        while (plain.len < n) {
            size_t at = test_random_below(&random, sizeof(some) - 1);
            size_t len = 1 + test_random_below(&random, 6);
            buf_add(&plain, bytes_mid(bytes_of(some, sizeof(some) - 1), at, len));
        }
        qp_encode(buf_bytes(&plain), 0, 0, &text);
        qp_encode(buf_bytes(&plain), 2, (uint64_t)i, &again);
        assert_bytes("cuts", buf_bytes(&again), buf_bytes(&text));
        check_lines(buf_bytes(&text));
        assert_int_equal(qp_decode(buf_bytes(&text), 2, (uint64_t)i, &back), OK);
        assert_bytes("back", buf_bytes(&back), buf_bytes(&plain));
        buf_done(&plain);
        buf_done(&text);
        buf_done(&again);
        buf_done(&back);
    }
}

static void qp_decoder_is_strict(void **state)
{
    static const struct {
        struct bytes text;
        int want;
        struct bytes plain;
    } rows[] = {
        {BYTES("a=3d=3D"), OK, BYTES("a==")},
        {BYTES("a= \t\r\nb"), OK, BYTES("ab")},
        {BYTES("a \t\r\nb \r\n"), OK, BYTES("a\r\nb\r\n")}, // white space at line ends goes
        {BYTES("a \tb"), OK, BYTES("a \tb")},
        {BYTES("a="), E_SYNTAX},
        {BYTES("a=3"), E_SYNTAX},
        {BYTES("a=3x"), E_SYNTAX},
        {BYTES("a=x3"), E_SYNTAX},
        {BYTES("a=\n"), E_SYNTAX},
        {BYTES("a=\r"), E_SYNTAX},
        {BYTES("a=\rb"), E_SYNTAX},
        {BYTES("a\nb"), E_SYNTAX},
        {BYTES("a\rb"), E_SYNTAX},
        {BYTES("a\r"), E_SYNTAX},
        {BYTES("\xff"), E_SYNTAX},
        {BYTES("\0"), E_SYNTAX},
        {BYTES("a = 3"), E_SYNTAX},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        for (int round = 0; round < 3; round++) {
            struct buf b = {0};
            assert_number(rows[i].text.at, qp_decode(rows[i].text, round, i, &b), rows[i].want);
            if (rows[i].want == OK)
                assert_bytes(rows[i].text.at, buf_bytes(&b), rows[i].plain);
            buf_done(&b);
        }
    }
}

static void xtext(void **state)
{
    static const struct {
        struct bytes plain, text;
    } rows[] = {
        {BYTES("a@b.c"), BYTES("a@b.c")},
        {BYTES("a+b=c"), BYTES("a+2Bb+3Dc")},
        {BYTES("a b\r\n\0\xff\x7f"), BYTES("a+20b+0D+0A+00+FF+7F")},
        {BYTES(""), BYTES("")},
    };
    static const struct bytes bad[] = {{"+", 1},   {"+2", 2},   {"+2b", 3}, {"+g0", 3}, {"a b", 3},
                                       {"a=b", 3}, {"\xff", 1}, {"a\0", 2}, {"++2B", 4}};
    struct buf b = {0};
    for (size_t i = 0; i < ROWS(rows); i++) {
        buf_clear(&b);
        mail_xtext_encode(rows[i].plain, &b);
        assert_bytes("encode", buf_bytes(&b), rows[i].text);
        buf_clear(&b);
        assert_int_equal(mail_xtext_decode(rows[i].text, &b), OK);
        assert_bytes("decode", buf_bytes(&b), rows[i].plain);
    }
    for (size_t i = 0; i < ROWS(bad); i++) {
        buf_clear(&b);
        assert_number(bad[i].at, mail_xtext_decode(bad[i], &b), E_SYNTAX);
        assert_int_equal(b.len, 0);
    }
    buf_done(&b);
}

static void utf8_addresses(void **state)
{
    static const struct {
        struct bytes plain, xtext, unitext;
    } rows[] = {
        {BYTES("a@b.c"), BYTES("a@b.c"), BYTES("a@b.c")},
        {BYTES("j\xc3\xb6@b"), BYTES("j\\x{F6}@b"), BYTES("j\xc3\xb6@b")},
        {BYTES("\xf0\x9f\x98\x80@b"), BYTES("\\x{1F600}@b"), BYTES("\xf0\x9f\x98\x80@b")},
        {BYTES("a+b=c\\d e"), BYTES("a\\x{2B}b\\x{3D}c\\x{5C}d\\x{20}e"),
         BYTES("a\\x{2B}b\\x{3D}c\\x{5C}d\\x{20}e")},
    };
    static const char *const bad[] = {
        "\\x{}",   "\\x{F6", "\\xF6",   "\\x{D800}", "\\x{110000}",  "\\x{0F6}", "\\x{f6}",
        "\\x{0A}", "\\x{D}", "\\x{41}", "\\x{85}",   "\\x{1234567}", "\\",       "a b",
        "a=b",     "a+20",   "\xff",    "a\r\n",     "\\x{0}",       "\\x{00}"};
    struct buf b = {0};
    for (size_t i = 0; i < ROWS(rows); i++) {
        buf_clear(&b);
        mail_utf8_addr_xtext_encode(rows[i].plain, &b);
        assert_bytes("xtext", buf_bytes(&b), rows[i].xtext);
        buf_clear(&b);
        mail_utf8_addr_unitext_encode(rows[i].plain, &b);
        assert_bytes("unitext", buf_bytes(&b), rows[i].unitext);
        buf_clear(&b);
        assert_int_equal(mail_utf8_addr_decode(rows[i].xtext, &b), OK);
        assert_bytes("back", buf_bytes(&b), rows[i].plain);
        buf_clear(&b);
        assert_int_equal(mail_utf8_addr_decode(rows[i].unitext, &b), OK);
        assert_bytes("back", buf_bytes(&b), rows[i].plain);
    }
    for (size_t i = 0; i < ROWS(bad); i++) {
        buf_clear(&b);
        assert_number(bad[i], mail_utf8_addr_decode(bytes_cstr(bad[i]), &b), E_SYNTAX);
    }
    buf_done(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(base64_text),
    cmocka_unit_test(base64_is_strict),
    cmocka_unit_test(base64_body),
    cmocka_unit_test(base64_body_is_strict),
    cmocka_unit_test(qp_text),
    cmocka_unit_test(qp_of_random_text),
    cmocka_unit_test(qp_decoder_is_strict),
    cmocka_unit_test(xtext),
    cmocka_unit_test(utf8_addresses),
};
RUN_TESTS(tests)
