// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "cli/load_report.h"

// Percentiles of 1..n microseconds are within a bucket's width.
static void percentiles_are_close(void **state)
{
    static struct load_report r;
    static const double percents[] = {1, 50, 90, 99, 99.9};
    const uint64_t n = 200000;
    memset(&r, 0, sizeof r);
    for (uint64_t us = 1; us <= n; us++)
        load_report_latency(&r, us);
    for (size_t i = 0; i < COUNT_OF(percents); i++) {
        double want = (double)n * percents[i] / 100,
               got = (double)load_report_percentile(&r, percents[i]);
        if (got < want || got > want * (1 + 1.0 / 32) + 1)
            fail_msg("p%g: %g, want %g", percents[i], got, want);
    }
    assert_int_equal(load_report_percentile(&r, 100), n);
}

static void the_extremes_fit(void **state)
{
    static struct load_report r;
    memset(&r, 0, sizeof r);
    assert_int_equal(load_report_percentile(&r, 50), 0);
    load_report_latency(&r, 0);
    assert_int_equal(load_report_percentile(&r, 50), 0);
    load_report_latency(&r, UINT64_MAX >> 1);
    assert_int_equal(r.latency_us_max, UINT64_MAX >> 1);
    assert_true(load_report_percentile(&r, 99) > 1000000);
}

static void the_json_is_one_line(void **state)
{
    static struct load_report r;
    memset(&r, 0, sizeof r);
    r.messages = r.accepted = 2;
    r.replies[250] = 2;
    r.replies[451] = 1;
    r.errors[-E_REFUSED] = 3;
    r.first.us = 1000000;
    r.last.us = 3000000;
    load_report_latency(&r, 1500);
    struct buf out = {0};
    load_report_json(&r, &out);
    const char *text = buf_cstr(&out);
    assert_non_null(strstr(text, "\"messages\":2,\"accepted\":2,"));
    assert_non_null(strstr(text, "\"seconds\":2.000,\"messages_per_second\":1.0"));
    assert_non_null(strstr(text, "\"p50\":1.500"));
    assert_non_null(
        strstr(text, "\"replies\":{\"250\":2,\"451\":1},\"errors\":{\"connection refused\":3}}\n"));
    assert_int_equal(bytes_find(buf_bytes(&out), '\n'), out.len - 1);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_close),
        cmocka_unit_test(the_extremes_fit),
        cmocka_unit_test(the_json_is_one_line),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
