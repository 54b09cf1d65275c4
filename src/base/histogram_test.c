// SPDX-License-Identifier: MIT
#include "base/histogram.h"

#include "base/check.h"
#include "base/test_base.h"

static void test_classes(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        int want; // the class
    } rows[] = {
        {-5, 0},
        {0, 0},
        {1000, 0},
        {1001, 1},
        {2500, 1},
        {2501, 2},
        {1000000, 9},
        {1000001, 10},
        {432000000000, HISTOGRAM_BOUNDS - 1},
        {432000000001, HISTOGRAM_BOUNDS},
        {INT64_MAX, HISTOGRAM_BOUNDS},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct histogram h = {0};
        histogram_add(&h, rows[i].us);
        for (int k = 0; k <= HISTOGRAM_BOUNDS; k++)
            assert_int_equal(atomic_load(&h.counts[k]), k == rows[i].want);
        assert_int_equal(atomic_load(&h.sum_us), rows[i].us > 0 ? rows[i].us : 0);
    }
}

static void test_bounds_rise(void **state)
{
    (void)state;
    for (int i = 1; i < HISTOGRAM_BOUNDS; i++)
        assert_true(histogram_bounds_us[i] > histogram_bounds_us[i - 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_bounds_rise),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
