// SPDX-License-Identifier: MIT
#include "cli/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"

static void test_records(void **state)
{
    static const struct {
        const char *line;
        int err;
        const char *want; // fields with | between them
    } rows[] = {
        {"", OK, ""},
        {"a@example.com", OK, "a@example.com"},
        {"a,b,,c", OK, "a|b||c"},
        {" a , b\t,", OK, "a|b|"},
        {"\"a,b\",\"c \"\"d\"\"\"", OK, "a,b|c \"d\""},
        {"\"two\nlines\",x", OK, "two\nlines|x"},
        {"\"\" ,x", OK, "|x"},
        {"a\"b,c", OK, "a\"b|c"},
        {"\"open", E_AGAIN, ""},
        {"x,\"open\"\"", E_AGAIN, ""},
        {"\"a\"b,c", E_SYNTAX, ""},
        {",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,", E_LIMIT, ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena arena = {0};
        struct csv_record r;
        struct buf got = {0};
        int err = csv_parse(bytes_cstr(rows[i].line), &arena, &r);
        for (size_t f = 0; !err && f < r.count; f++)
            buf_add_all(&got, f ? BYTES("|") : BYTES_NONE, r.fields[f]);
        if (err != rows[i].err || !bytes_eq(buf_bytes(&got), bytes_cstr(rows[i].want)))
            fail_msg("'%s': %d, '%s'", rows[i].line, err, buf_cstr(&got));
        buf_done(&got);
        arena_done(&arena);
    }
}

// What is written is read back.
static void test_fields_come_back(void **state)
{
    static const char letters[] = "a\",\n\r \t@";
    uint32_t random = 3;
    for (int n = 0; n < 20000; n++) {
        char text[12];
        struct arena arena = {0};
        struct csv_record r;
        struct buf line = {0};
        size_t len = (size_t)n % sizeof text;
        for (size_t i = 0; i < len; i++) {
            random = random * 1664525 + 1013904223;
            text[i] = letters[(random >> 16) % (sizeof letters - 1)];
        }
        csv_add(&line, bytes_of(text, len));
        buf_add(&line, BYTES(",end"));
        assert_int_equal(csv_parse(buf_bytes(&line), &arena, &r), OK);
        assert_int_equal(r.count, 2);
        assert_true(bytes_eq(r.fields[0], bytes_of(text, len)));
        assert_true(bytes_eq(r.fields[1], BYTES("end")));
        buf_done(&line);
        arena_done(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_fields_come_back),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
