// SPDX-License-Identifier: MIT
#include "base/arena.h"

#include "base/test_base.h"

static void memory_is_zeroed_aligned_and_apart(void **state)
{
    struct arena a = {0};
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 1024, 5000, 70000, 3, 200000, 8};
    char *at[200];
    size_t sum = 0;
    for (size_t i = 0; i < 200; i++) {
        size_t n = sizes[i % 12];
        at[i] = arena_new(&a, n);
        assert_int_equal((uintptr_t)at[i] % 16, 0);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(at[i][k], 0);
        memset(at[i], (int)(i + 1), n);
        sum += n;
    }
    assert_int_equal(a.used_bytes, sum);
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < sizes[i % 12]; k++)
            assert_int_equal((unsigned char)at[i][k], (unsigned char)(i + 1));
    arena_done(&a);
    assert_int_equal(a.used_bytes, 0);
    assert_non_null(arena_new(&a, 8));
    arena_done(&a);
}

static void copies_end_in_nul(void **state)
{
    struct arena a = {0};
    struct bytes copy = arena_dup(&a, bytes_first(BYTES("abcdef"), 3));
    assert_bytes("dup", copy, BYTES("abc"));
    assert_int_equal(copy.at[3], 0);
    assert_null(arena_dup(&a, BYTES("")).at);
    assert_string_equal(arena_cstr(&a, BYTES("x\n")), "x\n");
    assert_string_equal(arena_cstr(&a, BYTES_NONE), "");
    copy = arena_lower(&a, bytes_first(BYTES("aB-Z@[\xc3\x84q"), 9));
    assert_bytes("lower", copy, BYTES("ab-z@[\xc3\x84q"));
    assert_int_equal(copy.at[9], 0);
    assert_bytes("printf", arena_printf(&a, "%s-%d", "n", 7), BYTES("n-7"));
    arena_done(&a);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
    cmocka_unit_test(copies_end_in_nul),
};
RUN_TESTS(tests)
