// SPDX-License-Identifier: MIT
#include "store/store_password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/check.h"
#include "sys/sys_test_loop.h"

static const uint8_t salt[SASL_SCRAM_SALT_BYTES] = {9, 8, 7, 6, 5, 4, 3, 2, 1};

static void test_generate(void **state)
{
    static const struct {
        uint8_t random[STORE_PASSWORD_RANDOM];
        const char *want;
    } cases[] = {
        {{0}, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
        {{255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
          255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
         "77777777777777777777777777777777"},
    };
    char out[STORE_PASSWORD_CHARS + 1];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        store_password_generate(cases[i].random, out);
        assert_string_equal(out, cases[i].want);
    }
    // RFC 4648 section 10, "foobar", as far as it is aligned
    store_password_generate((const uint8_t *)"foobarfoobarfoobarfo", out);
    assert_true(bytes_starts(bytes_cstr(out), BYTES("mzxw6ytbojtg633c")));
}

static struct store_account account = {.number = 7, .state = STORE_ACTIVE};

// Credentials as the directory has them.
static struct store_credential chosen(struct bytes password, struct buf *verifier)
{
    assert_int_equal(store_password_verifier_chosen(password, salt, verifier), 0);
    return (struct store_credential){.account = &account, .crypt = buf_bytes(verifier)};
}

static void test_chosen(void **state)
{
    struct buf verifier = {0};
    struct store_credential c = chosen(BYTES("correct horse"), &verifier);
    assert_true(bytes_starts(buf_bytes(&verifier), BYTES("$y$j9T$")));
    assert_true(store_password_is_right(&c, BYTES("correct horse")));
    assert_false(store_password_is_right(&c, BYTES("correct horsf")));
    assert_false(store_password_is_right(&c, BYTES("correct hors")));
    assert_false(store_password_is_right(&c, BYTES("")));
    assert_false(store_password_is_right(NULL, BYTES("correct horse")));
    buf_done(&verifier);
}

static void test_chosen_limits(void **state)
{
    static const struct {
        struct bytes password;
        int want;
    } cases[] = {
        {{"1234567", 7}, E_LIMIT},
        {{"12345678", 8}, 0},
        {{"with\nnewline", 12}, E_SYNTAX},
        {{"with\0zero....", 12}, E_SYNTAX},
        {{"\xff\xff\xff\xff\xff\xff\xff\xff", 8}, E_SYNTAX},
        {{"p\xc3\xa4ssw\xc3\xb6rt", 10}, 0},
    };
    struct buf verifier = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(store_password_verifier_chosen(cases[i].password, salt, &verifier),
                         cases[i].want);
    static char huge[2000];
    memset(huge, 'x', sizeof huge);
    assert_int_equal(store_password_verifier_chosen(bytes_of(huge, sizeof huge), salt, &verifier),
                     E_LIMIT);
    assert_false(store_password_is_right(NULL, bytes_of(huge, sizeof huge)));
    buf_done(&verifier);
}

static double cpu_ms(const struct store_credential *credential)
{
    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    assert_false(store_password_is_right(credential, BYTES("wrong")));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    return (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
}

static bool alike(double a, double b)
{
    return a < 2 * b && b < 2 * a;
}

// What fails costs alike: a person's password, no such login, a generated one. Each is measured in turn until the
// least of each agree: what runs beside only adds, and what really differs never agrees.
static void test_failures_cost_alike(void **state)
{
    struct buf verifier = {0};
    struct store_credential person = chosen(BYTES("correct horse"), &verifier);
    struct store_credential generated = {.account = &account, .sha256 = {1}};
    const struct store_credential *const who[] = {&person, NULL, &generated};
    double least[COUNT_OF(who)] = {1e9, 1e9, 1e9};
    bool all_alike = false;
    for (int i = 0; i < 100 && !all_alike; i++) {
        for (size_t k = 0; k < COUNT_OF(who); k++) {
            double ms = cpu_ms(who[k]);
            least[k] = ms < least[k] ? ms : least[k];
        }
        all_alike = i >= 4 && alike(least[0], least[1]) && alike(least[0], least[2]);
    }
    print_message("# person %.1f ms, unknown %.1f ms, generated %.1f ms\n", least[0], least[1],
                  least[2]);
    assert_true(least[0] > 1 && all_alike);
    buf_done(&verifier);
}

// ---- on a loop ---------------------------------------------------------------------------------------

struct run {
    struct store_checker checker;
    struct store_directory *dir;
    int started, refused, done, right;
    sem_t over;
};

static void on_done(void *ctx, const struct store_check_result *result)
{
    struct run *run = ctx;
    run->right += result->right;
    if (++run->done == run->started)
        sem_post(&run->over);
}

static void start_many(void *ctx)
{
    struct run *run = ctx;
    struct store_check *check;
    for (int i = 0; i < STORE_CHECKS_MAX + 2; i++) {
        int err = store_check_start(&run->checker, run->dir, BYTES("nobody"), BYTES("secret"),
                                    on_done, run, &check);
        assert_true(err == 0 || err == E_FULL);
        run->refused += err != 0;
        if (i >= 2 && !err) { // two are waited for, the others' askers hang up
            store_check_cancel(check);
            run->started = 2;
        }
    }
}

static void test_checker(void **state)
{
    struct run run = {.dir = store_directory_empty()};
    struct sys_loop *loop = sys_loop_start("test");
    sem_init(&run.over, 0, 0);
    test_on_loop(loop, start_many, &run);
    store_directory_free(run.dir); // the checks have what they need
    assert_true(test_wait(&run.over));
    sys_loop_stop(loop); // waits for the cancelled ones
    assert_int_equal(run.refused, 2);
    assert_int_equal(run.done, 2);
    assert_int_equal(run.right, 0);
    assert_int_equal(run.checker.running, 0);
    sem_destroy(&run.over);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_generate),      cmocka_unit_test(test_chosen),
        cmocka_unit_test(test_chosen_limits), cmocka_unit_test(test_failures_cost_alike),
        cmocka_unit_test(test_checker),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
