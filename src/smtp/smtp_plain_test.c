// SPDX-License-Identifier: MIT
//
// Many bytes at a time must see what one byte at a time sees.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "smtp/smtp_plain.h"

#define LENGTH_MAX 200

// smtp_plain.h's words, taken one byte after the other.
static struct smtp_plain reference(char previous, const char *text, size_t n)
{
    struct smtp_plain r = {0};
    for (size_t i = 0; i < n; i++) {
        char before = i ? text[i - 1] : previous;
        r.is_bare =
            r.is_bare || (before == '\r' && text[i] != '\n') || (before != '\r' && text[i] == '\n');
        r.has_dot = r.has_dot || (before == '\n' && text[i] == '.');
        r.has_nul = r.has_nul || text[i] == 0;
        r.has_8bit = r.has_8bit || (unsigned char)text[i] >= 0x80;
    }
    return r;
}

// The text stands where its last byte is the last of a block of memory, so that a look behind it is found.
static void check_same(char previous, const char *text, size_t n)
{
    char *exact = mem_new(n);
    memcpy(exact, text, n);
    struct smtp_plain want = reference(previous, exact, n);
    struct smtp_plain got = smtp_plain_look(previous, bytes_of(exact, n));
    free(exact);
    if (got.is_bare != want.is_bare || got.has_dot != want.has_dot || got.has_nul != want.has_nul ||
        got.has_8bit != want.has_8bit)
        fail_msg("%zu bytes: bare %d for %d, dot %d for %d, NUL %d for %d, 8bit %d for %d", n,
                 got.is_bare, want.is_bare, got.has_dot, want.has_dot, got.has_nul, want.has_nul,
                 got.has_8bit, want.has_8bit);
}

// Each kind of bytes at each place of texts of each length.
static void test_each_place(void **state)
{
    static const struct {
        char text[4];
        size_t len;
    } plants[] = {{"\r\n", 2}, {"\r\n.", 3}, {"\n", 1},     {"\r", 1},
                  {"", 1},     {"\x80", 1},  {"\r\n\r", 3}, {"\n.", 2}};
    static const char before[] = {'x', '\r', '\n'};
    char text[LENGTH_MAX];
    for (size_t n = 1; n <= LENGTH_MAX; n++)
        for (size_t p = 0; p < COUNT_OF(plants); p++)
            for (size_t at = 0; at + plants[p].len <= n; at++) {
                memset(text, '.', n);
                memcpy(text + at, plants[p].text, plants[p].len);
                check_same(before[(n + at) % COUNT_OF(before)], text, n);
            }
}

static void test_stretch(void **state)
{
    struct smtp_plain found;
    char text[2 * SMTP_PLAIN_BLOCK];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "0123456789abcdefghijklmnopqrstuvwxyz\r\n"[i % 38];
    struct bytes all = bytes_of(text, sizeof text);
    size_t n = smtp_plain_stretch('\n', all, &found);
    assert_true(n > SMTP_PLAIN_BLOCK - 2 && n <= SMTP_PLAIN_BLOCK && text[n - 1] != '\r');
    assert_int_equal(smtp_plain_stretch('\n', bytes_first(all, 38 * 3 - 1), &found),
                     38 * 3 - 2); // no CR at the end
    assert_int_equal(smtp_plain_stretch('\n', bytes_first(all, SMTP_PLAIN_MIN - 1), &found), 0);
    text[38 * 20] = '.';
    assert_int_equal(smtp_plain_stretch('\n', all, &found), 0);
    assert_true(found.has_dot && !found.is_bare);
    text[38 * 20] = '\n';
    assert_int_equal(smtp_plain_stretch('\n', all, &found), 0);
    assert_true(found.is_bare);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_place),
                                       cmocka_unit_test(test_stretch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
