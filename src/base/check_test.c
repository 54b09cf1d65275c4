// SPDX-License-Identifier: MIT
#include "base/check.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/test_base.h"

// What a child that breaks a law writes to standard error; *out_status: how it ended.
static size_t run_child(int value, char *out, size_t max, int *out_status)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        CHECK(value == 1);
        _exit(7);
    }
    close(ends[1]);
    size_t len = 0;
    ssize_t n;
    while (len < max && (n = read(ends[0], out + len, max - len)) > 0)
        len += (size_t)n;
    close(ends[0]);
    assert_int_equal(waitpid(child, out_status, 0), child);
    return len;
}

static void a_broken_law_says_where_and_aborts(void **state)
{
    char text[2000];
    int status;
    struct bytes line = bytes_of(text, run_child(2, text, sizeof(text), &status));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_true(bytes_search(line, BYTES("value == 1")) > 0);
    assert_true(bytes_search(line, BYTES("check_test.c")) > 0);
    assert_true(bytes_search(line, BYTES(" error ")) > 0);
    run_child(1, text, sizeof(text), &status);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void memory_is_there(void **state)
{
    char *p = mem_new(100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    p[99] = 5;
    p = mem_resize(p, 100000);
    assert_int_equal(p[99], 5);
    free(p);
    p = mem_new(0);
    assert_non_null(p);
    free(p);
}

struct outer {
    int before, inner;
};

static void finds_the_container(void **state)
{
    struct outer o;
    assert_ptr_equal(container_of(&o.inner, struct outer, inner), &o);
    int row[7];
    assert_int_equal(COUNT_OF(row), 7);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_broken_law_says_where_and_aborts),
    cmocka_unit_test(memory_is_there),
    cmocka_unit_test(finds_the_container),
};
RUN_TESTS(tests)
