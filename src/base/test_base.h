// SPDX-License-Identifier: MIT
//
// test_base - what every unit test includes: cmocka, a main, slices compared with their contents
// shown
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "base/bytes.h"

// Fails the test, naming the row, unless the slices are equal.
#define assert_bytes(name, got, want)                                                              \
    do {                                                                                           \
        struct bytes got_ = (got), want_ = (want);                                                 \
        if (!bytes_eq(got_, want_))                                                                \
            fail_msg("%s: got \"%.*s\", want \"%.*s\"", (name), BYTES_FMT(got_),                   \
                     BYTES_FMT(want_));                                                            \
    } while (0)

// Fails the test, naming the row, unless the numbers are equal.
#define assert_number(name, got, want)                                                             \
    do {                                                                                           \
        long long got_ = (long long)(got), want_ = (long long)(want);                              \
        if (got_ != want_)                                                                         \
            fail_msg("%s: got %lld, want %lld", (name), got_, want_);                              \
    } while (0)

#define RUN_TESTS(tests)                                                                           \
    int main(void)                                                                                 \
    {                                                                                              \
        cmocka_set_message_output(CM_OUTPUT_TAP);                                                  \
        return cmocka_run_group_tests(tests, NULL, NULL);                                          \
    }

// A small generator with a fixed start, so that a failing cut comes back.
struct test_random {
    uint64_t state;
};
static inline uint32_t test_random_below(struct test_random *r, uint32_t n)
{
    r->state = r->state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((r->state >> 33) % n);
}

// Eight times as many take about eight times as long, not 64 times: time_of() tells the CPU time of so many. One of five
// looks has to come out right.
static inline void test_is_linear(clock_t (*time_of)(uint32_t count), uint32_t few)
{
    double ratio = 100;
    for (int i = 0; i < 5 && ratio > 24; i++) {
        clock_t least = time_of(few), most = time_of(8 * few);
        ratio = (double)most / (double)(least + 1);
    }
    if (ratio > 24)
        fail_msg("%.1f times as long", ratio);
}
