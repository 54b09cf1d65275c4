// SPDX-License-Identifier: MIT
#include "intake/rate_groups.h"

#include "base/test_base.h"

static void test_by_the_minute(void **state)
{
    (void)state;
    static struct rate_groups g;
    struct mono now = {5 * 60000000LL + 1};
    for (uint32_t i = 0; i < 20; i++)
        assert_number("taken", rate_groups_take(&g, BYTES("a"), 10, now), i < 10);
    assert_true(rate_groups_take(&g, BYTES("b"), 10, now)); // another group
    now.us += 59000000;
    assert_false(rate_groups_take(&g, BYTES("a"), 10, now));
    now.us += 1000000;
    assert_true(rate_groups_take(&g, BYTES("a"), 10, now));
}

static const struct CMUnitTest TESTS[] = {cmocka_unit_test(test_by_the_minute)};
RUN_TESTS(TESTS)
