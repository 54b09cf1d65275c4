// SPDX-License-Identifier: MIT
#include "base/buf.h"

#include <stdlib.h>

#include "base/test_base.h"

static void appends_in_order(void **state)
{
    struct buf b = {0};
    buf_add(&b, BYTES("a"));
    buf_add(&b, BYTES_NONE);
    buf_add_cstr(&b, "bc");
    buf_add_byte(&b, 0);
    buf_add_u64(&b, 0);
    buf_add_u64(&b, UINT64_MAX);
    buf_printf(&b, "<%s>", "x");
    assert_bytes("all", buf_bytes(&b),
                 BYTES("abc\0"
                       "018446744073709551615<x>"));
    assert_int_equal(buf_cstr(&b)[b.len], 0);
    buf_consume(&b, 4);
    assert_bytes("consumed", buf_bytes(&b), BYTES("018446744073709551615<x>"));
    buf_truncate(&b, 1);
    assert_string_equal(buf_cstr(&b), "0");
    char *room = buf_reserve(&b, 10);
    memcpy(room, "xy", 2);
    buf_commit(&b, 2);
    assert_string_equal(buf_cstr(&b), "0xy");
    char *taken = buf_take(&b);
    assert_string_equal(taken, "0xy");
    assert_int_equal(b.len, 0);
    free(taken);
    taken = buf_take(&b);
    assert_string_equal(taken, "");
    free(taken);
    buf_done(&b);
}

static void the_cap_holds_and_sticks(void **state)
{
    struct buf b;
    buf_init(&b, 5);
    buf_add(&b, BYTES("12345"));
    assert_int_equal(b.err, OK);
    buf_add(&b, BYTES("6"));
    assert_int_equal(b.err, E_LIMIT);
    assert_bytes("kept", buf_bytes(&b), BYTES("12345"));
    buf_clear(&b);
    buf_add(&b, BYTES("1234"));
    buf_add(&b, BYTES("56")); // would pass the cap: nothing of it is added
    buf_add(&b, BYTES("7"));  // would fit, but the error sticks
    assert_bytes("stuck", buf_bytes(&b), BYTES("1234"));
    assert_string_equal(buf_cstr(&b), "");
    assert_null(buf_take(&b));
    assert_null(buf_reserve(&b, 1));
    buf_clear(&b);
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_int_equal(b.err, E_LIMIT);
    buf_done(&b);
    buf_add(&b, BYTES("123456"));
    assert_int_equal(b.err, E_LIMIT); // done keeps the cap
    buf_done(&b);
}

static void an_empty_buffer_is_an_empty_string(void **state)
{
    struct buf b = {0};
    assert_string_equal(buf_cstr(&b), "");
    buf_consume(&b, 0);
    buf_done(&b);
}

static void escapes_what_could_mislead(void **state)
{
    static const struct {
        const char *name;
        struct bytes in, want;
    } rows[] = {
        {"plain", BYTES("a b=c"), BYTES("a b=c")},
        {"line ends", BYTES("a\r\n\tb"), BYTES("a\\r\\n\\tb")},
        {"quotes", BYTES("\"\\"), BYTES("\\\"\\\\")},
        {"controls", BYTES("\0\x1b\x7f"), BYTES("\\x00\\x1b\\x7f")},
        {"utf-8", BYTES("m\xc3\xbc"), BYTES("m\xc3\xbc")},
        {"invalid", BYTES("\xff\xc3"), BYTES("\\xff\\xc3")},
        {"C1 control", BYTES("\xc2\x85"), BYTES("\\xc2\\x85")},
        {"exactly max", BYTES("1234567890"), BYTES("1234567890")},
        {"beyond max", BYTES("12345678901"), BYTES("1234567890...")},
        {"no half character", BYTES("123456789\xc3\xbc"), BYTES("123456789...")},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        buf_add_escaped(&b, rows[i].in, 10);
        assert_bytes(rows[i].name, buf_bytes(&b), rows[i].want);
        buf_done(&b);
    }
}

static void shows_people_what_there_is(void **state)
{
    (void)state;
    struct bytes in = BYTES("TXT \"v=spf1\" \\ \n\x1b[1m\xff\xc2\x85");
    struct buf b = {0};
    buf_add_visible(&b, in, in.len);
    assert_bytes("visible", buf_bytes(&b), BYTES("TXT \"v=spf1\" \\ \\n\\x1b[1m\\xff\\xc2\\x85"));
    buf_clear(&b);
    buf_add_visible(&b, in, 5);
    assert_bytes("cut", buf_bytes(&b), BYTES("TXT \"..."));
    buf_done(&b);
}

static void json_strings(void **state)
{
    static const struct {
        const char *name;
        struct bytes in, want;
    } rows[] = {
        {"empty", BYTES_NONE, BYTES_NONE},
        {"plain", BYTES("a/b c"), BYTES("a/b c")},
        {"escapes", BYTES("\"\\\n\r\t"), BYTES("\\\"\\\\\\n\\r\\t")},
        {"controls", BYTES("\0\x1f\x7f"), BYTES("\\u0000\\u001f\\u007f")},
        {"utf-8", BYTES("\xf0\x9f\x98\x80"), BYTES("\xf0\x9f\x98\x80")},
        {"surrogate", BYTES("\xed\xa0\x80"), BYTES("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")},
        {"cut character", BYTES("a\xc3"), BYTES("a\xef\xbf\xbd")},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        buf_add_json(&b, rows[i].in);
        assert_bytes(rows[i].name, buf_bytes(&b), rows[i].want);
        buf_done(&b);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(appends_in_order),
    cmocka_unit_test(the_cap_holds_and_sticks),
    cmocka_unit_test(an_empty_buffer_is_an_empty_string),
    cmocka_unit_test(escapes_what_could_mislead),
    cmocka_unit_test(shows_people_what_there_is),
    cmocka_unit_test(json_strings),
};
RUN_TESTS(tests)
