// SPDX-License-Identifier: MIT
#include "conf/conf_snapshot.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void count_free(void *value)
{
    ++*(int *)value;
}

static void test_last_release_frees(void **state)
{
    int conf = 0, old_accounts = 0, new_accounts = 0;
    struct conf_part *conf_part = conf_part_new(&conf, count_free);
    struct conf_part *old_part = conf_part_new(&old_accounts, count_free);
    struct conf_part *new_part = conf_part_new(&new_accounts, count_free);
    struct conf_snapshot *first = conf_snapshot_new(conf_part, NULL, old_part, NULL, 1);
    struct conf_snapshot *session = conf_snapshot_hold(first);
    struct conf_snapshot *second = conf_snapshot_new(conf_part, NULL, new_part, NULL, 2);
    conf_part_release(conf_part);
    conf_part_release(old_part);
    conf_part_release(new_part);

    assert_ptr_equal(session->conf, &conf);
    assert_ptr_equal(second->accounts, &new_accounts);
    conf_snapshot_release(first);
    assert_int_equal(old_accounts, 0); // the session still holds it
    conf_snapshot_release(session);
    assert_int_equal(old_accounts, 1);
    assert_int_equal(conf, 0); // shared with the second
    conf_snapshot_release(second);
    assert_int_equal(conf, 1);
    assert_int_equal(new_accounts, 1);
}

int main(void)
{
    const struct CMUnitTest all[] = {cmocka_unit_test(test_last_release_frees)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
