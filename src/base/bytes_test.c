// SPDX-License-Identifier: MIT
#include "base/bytes.h"

#include "base/test_base.h"

static void slices_are_clamped(void **state)
{
    struct bytes s = BYTES("abcdef");
    assert_bytes("skip", bytes_skip(s, 2), BYTES("cdef"));
    assert_bytes("skip all", bytes_skip(s, 99), BYTES(""));
    assert_bytes("first", bytes_first(s, 2), BYTES("ab"));
    assert_bytes("first all", bytes_first(s, 99), s);
    assert_bytes("mid", bytes_mid(s, 2, 2), BYTES("cd"));
    assert_bytes("mid beyond", bytes_mid(s, 5, 9), BYTES("f"));
    assert_bytes("mid outside", bytes_mid(s, 9, 9), BYTES(""));
    assert_int_equal(bytes_skip(BYTES_NONE, 3).len, 0);
    assert_int_equal(bytes_cstr(NULL).len, 0);
}

static void comparisons(void **state)
{
    assert_true(bytes_eq(BYTES_NONE, BYTES("")));
    assert_false(bytes_eq(BYTES("a"), BYTES("A")));
    assert_true(bytes_eq_nocase(BYTES("aZ[1"), BYTES("Az[1")));
    assert_false(bytes_eq_nocase(BYTES("["), BYTES("{"))); // 0x5b and 0x7b differ by the case bit
    assert_false(bytes_eq_nocase(BYTES("a"), BYTES("ab")));
    assert_true(bytes_starts(BYTES("abc"), BYTES("ab")));
    assert_false(bytes_starts(BYTES("a"), BYTES("ab")));
    assert_true(bytes_starts(BYTES_NONE, BYTES("")));
    assert_true(bytes_starts_nocase(BYTES("ABc"), BYTES("ab")));
    assert_true(bytes_ends(BYTES("abc"), BYTES("bc")));
    assert_false(bytes_ends(BYTES("c"), BYTES("bc")));
    assert_true(bytes_ends_nocase(BYTES("aBC"), BYTES("bc")));
    assert_true(bytes_cmp(BYTES("a"), BYTES("b")) < 0);
    assert_true(bytes_cmp(BYTES("a"), BYTES("aa")) < 0);
    assert_true(bytes_cmp(BYTES("\xff"), BYTES("a")) > 0); // unsigned
    assert_int_equal(bytes_cmp(BYTES_NONE, BYTES("")), 0);
    assert_true(bytes_eq_secret(BYTES("secret"), BYTES("secret")));
    assert_false(bytes_eq_secret(BYTES("secret"), BYTES("secreT")));
    assert_false(bytes_eq_secret(BYTES("secret"), BYTES("secre")));
}

static void searches(void **state)
{
    assert_int_equal(bytes_find(BYTES("abca"), 'a'), 0);
    assert_int_equal(bytes_find(BYTES("abca"), 'x'), -1);
    assert_int_equal(bytes_find(BYTES_NONE, 0), -1);
    assert_int_equal(bytes_find_last(BYTES("abca"), 'a'), 3);
    assert_int_equal(bytes_search(BYTES("aab"), BYTES("ab")), 1);
    assert_int_equal(bytes_search(BYTES("aab"), BYTES("ac")), -1);
    assert_int_equal(bytes_search(BYTES("a"), BYTES("")), 0);
    assert_int_equal(bytes_search(BYTES_NONE, BYTES("a")), -1);
}

static void cuts_every_part(void **state)
{
    static const struct {
        const char *name;
        struct bytes in;
        int count;
        const char *joined;
    } rows[] = {
        {"nothing", BYTES_NONE, 0, ""},        {"one empty", BYTES(""), 1, "|"},
        {"one", BYTES("a"), 1, "a|"},          {"two", BYTES("a,b"), 2, "a|b|"},
        {"empty last", BYTES("a,"), 2, "a||"}, {"only commas", BYTES(",,"), 3, "|||"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bytes s = rows[i].in, part;
        char joined[64] = "";
        int count = 0;
        while (bytes_cut(&s, ',', &part)) {
            count++;
            strncat(joined, part.at, part.len);
            strncat(joined, "|", 2);
        }
        assert_number(rows[i].name, count, rows[i].count);
        assert_string_equal(joined, rows[i].joined);
    }
}

static void numbers(void **state)
{
    static const struct {
        struct bytes in;
        uint64_t max;
        int want;
        uint64_t value;
    } rows[] = {
        {BYTES("0"), 9, OK, 0},
        {BYTES("007"), 9, OK, 7},
        {BYTES("10"), 9, E_LIMIT, 0},
        {BYTES("18446744073709551615"), UINT64_MAX, OK, UINT64_MAX},
        {BYTES("18446744073709551616"), UINT64_MAX, E_LIMIT, 0},
        {BYTES("99999999999999999999"), UINT64_MAX, E_LIMIT, 0},
        {BYTES("000000000000000000001"), UINT64_MAX, E_SYNTAX, 0}, // 21 digits
        {BYTES("99999999999999999x"), 9, E_SYNTAX, 0},
        {BYTES(""), 9, E_SYNTAX, 0},
        {BYTES("+1"), 9, E_SYNTAX, 0},
        {BYTES("-1"), 9, E_SYNTAX, 0},
        {BYTES(" 1"), 9, E_SYNTAX, 0},
        {BYTES("1\0"), 9, E_SYNTAX, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value = 0;
        assert_number(rows[i].in.at, bytes_to_u64(rows[i].in, rows[i].max, &value), rows[i].want);
        assert_true(value == rows[i].value);
    }
}

static void utf8(void **state)
{
    static const struct {
        struct bytes in;
        size_t want; // length of the first character
    } rows[] = {
        {BYTES("a"), 1},
        {BYTES("\0"), 1},
        {BYTES("\xc2\x80"), 2},
        {BYTES("\xdf\xbf"), 2},
        {BYTES("\xe0\xa0\x80"), 3},
        {BYTES("\xed\x9f\xbf"), 3},
        {BYTES("\xef\xbf\xbf"), 3},
        {BYTES("\xf0\x90\x80\x80"), 4},
        {BYTES("\xf4\x8f\xbf\xbf"), 4},
        {BYTES(""), 0},
        {BYTES("\x80"), 0},
        {BYTES("\xc0\x80"), 0},         // overlong
        {BYTES("\xc1\xbf"), 0},         // overlong
        {BYTES("\xe0\x9f\xbf"), 0},     // overlong
        {BYTES("\xed\xa0\x80"), 0},     // surrogate
        {BYTES("\xf0\x8f\xbf\xbf"), 0}, // overlong
        {BYTES("\xf4\x90\x80\x80"), 0}, // beyond U+10FFFF
        {BYTES("\xf5\x80\x80\x80"), 0},
        {BYTES("\xe2\x82"), 0}, // cut
        {BYTES("\xe2\x82\x41"), 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_number("row", bytes_utf8_len(rows[i].in), rows[i].want);
    assert_true(bytes_is_utf8(BYTES("a\xc3\xbc\xf0\x9f\x98\x80z")));
    assert_true(bytes_is_utf8(BYTES_NONE));
    assert_false(bytes_is_utf8(BYTES("a\xc3")));
    assert_true(bytes_is_ascii(BYTES("a\x7f\0")));
    assert_false(bytes_is_ascii(BYTES("a\x80")));
}

static void controls_and_space(void **state)
{
    assert_bytes("trim", bytes_trim(BYTES(" \t\r\na b\n ")), BYTES("a b"));
    assert_int_equal(bytes_trim(BYTES(" \n")).len, 0);
    assert_false(bytes_has_control(BYTES("a b\xff"), NULL));
    assert_true(bytes_has_control(BYTES("a\tb"), NULL));
    assert_false(bytes_has_control(BYTES("a\tb"), "\t"));
    assert_true(bytes_has_control(BYTES("a\0b"), "\t")); // NUL is never allowed
    assert_true(bytes_has_control(BYTES("\x7f"), NULL));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(slices_are_clamped), cmocka_unit_test(comparisons), cmocka_unit_test(searches),
    cmocka_unit_test(cuts_every_part),    cmocka_unit_test(numbers),     cmocka_unit_test(utf8),
    cmocka_unit_test(controls_and_space),
};
RUN_TESTS(tests)
