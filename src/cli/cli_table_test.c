// SPDX-License-Identifier: MIT
#include "cli/cli_table.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/check.h"

static const char *const headings[] = {"NAME", "STATE", "TEXT", NULL};

static void check(const char *const *cells, uint32_t width, const char *want)
{
    struct cli_table t;
    struct buf out = {0};
    cli_table_init(&t, headings);
    for (; *cells; cells++)
        cli_table_add(&t, bytes_cstr(*cells));
    cli_table_format(&t, width, &out);
    assert_string_equal(buf_cstr(&out), want);
    cli_table_done(&t);
    buf_done(&out);
}

static void test_columns(void **state)
{
    static const char *const cells[] = {"acme", "ok", "all is well", "b", "suspended", "", NULL};
    check(cells, 0,
          "NAME  STATE      TEXT\n"
          "acme  ok         all is well\n"
          "b     suspended\n");
}

static void test_no_rows(void **state)
{
    static const char *const cells[] = {NULL};
    check(cells, 80, "");
}

static void test_fits_the_terminal(void **state)
{
    static const char *const cells[] = {"a", "ok", "a text that is far too long for this", NULL};
    check(cells, 30,
          "NAME  STATE  TEXT\n"
          "a     ok     a text that is f~\n");
    check(cells, 49, "NAME  STATE  TEXT\na     ok     a text that is far too long for this\n");
}

static void test_never_below_the_least(void **state)
{
    static const char *const cells[] = {"abcdefghijkl", "abcdefghijkl", "abcdefghijkl", NULL};
    check(cells, 10,
          "NAME      STATE     TEXT\n"
          "abcdefg~  abcdefg~  abcdefg~\n");
}

// Where the others can give enough.
static void test_ids_are_whole(void **state)
{
    static const char *const headings_id[] = {"AT", "ID", "TEXT", NULL};
    static const char *const cells[] = {"2026-11-22T22:48:50", "1JMW5W1480000080000A",
                                        "451 come back later"};
    struct cli_table t;
    struct buf out = {0};
    cli_table_init(&t, headings_id);
    for (size_t i = 0; i < COUNT_OF(cells); i++)
        cli_table_add(&t, bytes_cstr(cells[i]));
    cli_table_format(&t, 46, &out);
    assert_string_equal(buf_cstr(&out), "AT           ID                    TEXT\n"
                                        "2026-11-22~  1JMW5W1480000080000A  451 come b~\n");
    buf_clear(&out);
    cli_table_format(&t, 36, &out);
    assert_string_equal(buf_cstr(&out), "AT        ID                TEXT\n"
                                        "2026-11~  1JMW5W148000008~  451 com~\n");
    cli_table_done(&t);
    buf_done(&out);
}

static void test_hostile_cells(void **state)
{
    static const char *const cells[] = {"\x1b[31m", "a\nb",
                                        "b\xc3\xbc"
                                        "cher \xff",
                                        NULL};
    check(cells, 0,
          "NAME      STATE  TEXT\n"
          "\\x1b[31m  a\\nb   b\xc3\xbc"
          "cher \\xff\n");
}

static void test_characters_not_bytes(void **state)
{
    static const char *const cells[] = {"\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc", "x", "y", NULL};
    check(cells, 0,
          "NAME   STATE  TEXT\n"
          "\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc  x      y\n");
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_fits_the_terminal),
        cmocka_unit_test(test_never_below_the_least),
        cmocka_unit_test(test_ids_are_whole),
        cmocka_unit_test(test_hostile_cells),
        cmocka_unit_test(test_characters_not_bytes),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
