// SPDX-License-Identifier: MIT
#include "base/err.h"

#include <errno.h>
#include <string.h>

#include "base/test_base.h"

static void every_error_has_its_own_words(void **state)
{
    for (int a = E_AGAIN; a <= OK; a++) {
        assert_string_not_equal(err_text(a), "unknown error");
        for (int b = E_AGAIN; b < a; b++)
            assert_string_not_equal(err_text(a), err_text(b));
    }
    assert_string_equal(err_text(1), "unknown error");
    assert_string_equal(err_text(-1000), "unknown error");
}

static void errno_values(void **state)
{
    static const struct {
        int in, want;
    } rows[] = {{0, OK},
                {ENOSPC, E_FULL},
                {EDQUOT, E_FULL},
                {EMFILE, E_FULL},
                {EIO, E_IO},
                {ENOENT, E_NOT_FOUND},
                {EEXIST, E_EXISTS},
                {EPIPE, E_CLOSED},
                {ECONNRESET, E_CLOSED},
                {ETIMEDOUT, E_TIMEOUT},
                {EADDRINUSE, E_BUSY},
                {EACCES, E_DENIED},
                {EROFS, E_DENIED},
                {ECONNREFUSED, E_REFUSED},
                {EHOSTUNREACH, E_UNREACHABLE},
                {EAGAIN, E_AGAIN},
                {EFBIG, E_LIMIT},
                {ENOTTY, E_IO}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_number(strerror(rows[i].in), err_from_errno(rows[i].in), rows[i].want);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_error_has_its_own_words),
    cmocka_unit_test(errno_values),
};
RUN_TESTS(tests)
