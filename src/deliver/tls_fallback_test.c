// SPDX-License-Identifier: MIT
#include "deliver/tls_fallback.h"

#include <stdio.h>

#include "base/check.h"
#include "base/log.h"
#include "base/test_base.h"

#define MINUTE 60000
#define PATIENCE_MS (5 * MINUTE)

static struct mono at(int64_t minutes)
{
    return mono_add_ms((struct mono){1000}, minutes * MINUTE);
}

// What happens at one host, a letter each: f a failure that means the next attempt, F one after which the host is
// spoken to without TLS, t that TLS is tried, p that it is not, o that it is forgotten.
static const struct {
    const char *name;
    struct {
        int minute;
        char what;
    } events[12];
} ROWS[] = {
    {"unknown", {{0, 't'}}},
    {"one failure", {{0, 'f'}, {0, 't'}, {4, 't'}, {10, 't'}, {6000, 't'}}},
    {"many at once", {{0, 'f'}, {0, 'f'}, {1, 'f'}, {4, 'f'}, {4, 't'}}},
    {"patience is over", {{0, 'f'}, {5, 'F'}, {5, 'p'}, {64, 'p'}, {65, 't'}}},
    {"an hour later still broken",
     {{0, 'f'}, {5, 'F'}, {65, 'F'}, {65, 'p'}, {124, 'p'}, {125, 't'}}},
    {"it works between", {{0, 'f'}, {1, 'o'}, {5, 'f'}, {9, 'f'}, {9, 't'}, {10, 'F'}}},
    {"TLS is asked for", {{0, 'f'}, {5, 'F'}, {6, 'p'}, {6, 'o'}, {6, 't'}, {7, 'f'}, {12, 'F'}}},
    {"a day between", {{0, 'f'}, {1440, 'f'}, {1441, 'f'}, {1445, 'F'}}},
    {"less than a day between", {{0, 'f'}, {1439, 'F'}}},
};

static void decides(void **state)
{
    (void)state;
    struct bytes host = BYTES("mx.example");
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct tls_fallback f = {0};
        for (size_t k = 0; k < COUNT_OF(ROWS[i].events) && ROWS[i].events[k].what; k++) {
            struct mono now = at(ROWS[i].events[k].minute);
            char want = ROWS[i].events[k].what, got = want;
            if (want == 'o')
                tls_fallback_forget(&f, host);
            else if (want == 't' || want == 'p')
                got = tls_fallback_holds(&f, host, now) ? 'p' : 't';
            else
                got = tls_fallback_failed(&f, host, PATIENCE_MS, now) ? 'F' : 'f';
            if (got != want)
                fail_msg("%s: minute %d: %c, not %c", ROWS[i].name, ROWS[i].events[k].minute, got,
                         want);
            assert_false(tls_fallback_holds(&f, BYTES("mx2.example"), now));
        }
        tls_fallback_done(&f);
    }
}

static struct bytes numbered(int n, char out[32])
{
    snprintf(out, 32, "mx%d.example", n);
    return bytes_cstr(out);
}

static void is_bounded(void **state)
{
    (void)state;
    struct tls_fallback f = {0};
    char name[32];
    for (int i = 0; i < TLS_FALLBACK_HOSTS_MAX; i++)
        assert_false(tls_fallback_failed(&f, numbered(i, name), PATIENCE_MS, at(0)));
    assert_true(tls_fallback_failed(&f, numbered(0, name), PATIENCE_MS, at(5)));
    for (int i = 0; i < 3; i++) // another is remembered, too, in the place of the oldest
        tls_fallback_failed(&f, numbered(100000 + i, name), PATIENCE_MS, at(6));
    assert_int_equal(f.hosts.count, TLS_FALLBACK_HOSTS_MAX);
    assert_true(tls_fallback_holds(&f, numbered(0, name), at(7)));
    assert_true(tls_fallback_failed(&f, numbered(100002, name), PATIENCE_MS, at(11)));
    tls_fallback_done(&f);
}

// Also by failures of others, long before it is full.
static void is_swept(void **state)
{
    (void)state;
    struct tls_fallback f = {0};
    char name[32];
    for (int i = 0; i < 100; i++)
        tls_fallback_failed(&f, numbered(i, name), PATIENCE_MS, at(0));
    tls_fallback_failed(&f, numbered(1, name), PATIENCE_MS, at(600));
    tls_fallback_failed(&f, BYTES("late.example"), PATIENCE_MS, at(1440));
    assert_int_equal(f.hosts.count, 2);
    assert_true(tls_fallback_failed(&f, numbered(1, name), PATIENCE_MS, at(1441)));
    tls_fallback_done(&f);
}

static void drop_line(void *ctx, struct bytes line)
{
    (void)ctx;
    (void)line;
}

static int setup(void **state)
{
    (void)state;
    log_capture(drop_line, NULL);
    return 0;
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup(decides, setup),
    cmocka_unit_test(is_bounded),
    cmocka_unit_test(is_swept),
};

RUN_TESTS(tests)
