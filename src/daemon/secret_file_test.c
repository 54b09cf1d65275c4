// SPDX-License-Identifier: MIT
#include "base/test_base.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/secret_file.h"

static void test_made_once(void **state)
{
    (void)state;
    char folder[] = "/tmp/secret_file_test.XXXXXX", path[64];
    uint8_t first[32] = {0}, again[32] = {0}, other[32] = {0}, none[32] = {0};
    struct stat st;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(secret_file_load(bytes_cstr(folder), "key", first, 32), OK);
    assert_int_equal(secret_file_load(bytes_cstr(folder), "key", again, 32), OK);
    assert_int_equal(secret_file_load(bytes_cstr(folder), "other", other, 32), OK);
    assert_memory_equal(first, again, 32);
    assert_memory_not_equal(first, other, 32);
    assert_memory_not_equal(first, none, 32);
    snprintf(path, sizeof path, "%s/key", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    // Of another length it is not ours to replace: what it has sealed would be lost.
    assert_int_equal(secret_file_load(bytes_cstr(folder), "key", again, 16), E_DAMAGED);
    assert_int_equal(truncate(path, 31), 0);
    assert_int_equal(secret_file_load(bytes_cstr(folder), "key", again, 32), E_DAMAGED);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 31);
    assert_true(secret_file_load(BYTES("/tmp/secret_file_test.none"), "key", again, 32) != OK);
    unlink(path);
    snprintf(path, sizeof path, "%s/other", folder);
    unlink(path);
    rmdir(folder);
}

static const struct CMUnitTest TESTS[] = {cmocka_unit_test(test_made_once)};
RUN_TESTS(TESTS)
