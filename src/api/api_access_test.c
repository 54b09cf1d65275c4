// SPDX-License-Identifier: MIT
#include "api/api_access.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/test_base.h"
#include "store/store.h"
#include "store/suppress_list.h"

// ---- the table -------------------------------------------------------------------------------------------

// Each says what it needs; who may only read changes nothing, and what changes something is recorded.
static void test_every_request_says_what_it_needs(void **state)
{
    for (size_t i = 0; i < api_rows_count; i++) {
        const struct api_row *row = &api_rows[i];
        if (row->needs == API_ANYBODY && strcmp(row->path, "/v1/mailq") == 0)
            continue; // each sees the own
        if (row->needs != API_READER && row->needs != API_OPERATOR)
            fail_msg("%s %s %s: needs nothing", row->method, row->path, row->op ? row->op : "");
        if ((row->needs == API_OPERATOR) != (row->action != NULL))
            fail_msg("%s %s %s: who acts is recorded, who reads is not", row->method, row->path,
                     row->op ? row->op : "");
        if (strcmp(row->method, "GET") == 0 && row->needs != API_READER)
            fail_msg("GET %s changes something", row->path);
        for (size_t k = 0; k < i; k++)
            if (strcmp(row->method, api_rows[k].method) == 0 &&
                strcmp(row->path, api_rows[k].path) == 0 &&
                (!row->op || !api_rows[k].op || strcmp(row->op, api_rows[k].op) == 0))
                fail_msg("%s %s stands there twice", row->method, row->path);
    }
}

static const struct api_row *row_of(const char *path, const char *op)
{
    struct json_object *args = json_object_new_object();
    bool known;
    json_object_object_add(args, "op", json_object_new_string(op));
    const struct api_row *row = api_row_find("POST", path, args, &known);
    json_object_put(args);
    return row;
}

// All operations of store and list are there, as what they are: those that write are for operators.
static void test_every_operation_is_there(void **state)
{
    bool writes;
    const char *op;
    for (size_t i = 0; (op = store_op_name(i, &writes)); i++) {
        const struct api_row *row = row_of("/v1/store", op);
        if (!row || (row->needs == API_OPERATOR) != writes)
            fail_msg("%s", op);
    }
    for (size_t i = 0; (op = suppress_list_op(i, &writes)); i++) {
        const struct api_row *row = row_of("/v1/suppress", op);
        if (!row || (row->needs == API_OPERATOR) != writes)
            fail_msg("%s", op);
    }
}

static void test_finding(void **state)
{
    static const struct {
        const char *method, *path, *body;
        enum api_role needs; // NOBODY: there is no such request
        bool known;
    } rows[] = {
        {"GET", "/v1/lanes", NULL, API_READER, false},
        {"POST", "/v1/lanes", NULL, API_NOBODY, false},
        {"POST", "/v1/queue", "{\"action\":\"delete\",\"all\":true}", API_OPERATOR, false},
        {"POST", "/v1/queue", "{\"action\":\"delete\",\"all\":true,\"dry_run\":true}", API_READER,
         false},
        {"POST", "/v1/queue", "{\"action\":\"dry-run\",\"all\":true}", API_READER, false},
        {"POST", "/v1/queue", "{\"action\":\"delete\",\"dry_run\":false}", API_OPERATOR, false},
        {"POST", "/v1/queue", "{\"action\":\"delete\",\"dry_run\":1}", API_READER, false},
        {"POST", "/v1/queue", "{\"action\":\"explode\"}", API_NOBODY, true},
        {"POST", "/v1/queue", "{\"action\":7}", API_NOBODY, true},
        {"POST", "/v1/queue", NULL, API_NOBODY, true},
        {"GET", "/v1/queue", NULL, API_READER, true},
        {"POST", "/v1/store", "{\"op\":\"account.list\"}", API_READER, false},
        {"POST", "/v1/store", "{\"op\":\"account.close\"}", API_OPERATOR, false},
        {"POST", "/v1/store", "{\"op\":\"suppress.add\"}", API_NOBODY, true},
        {"POST", "/v1/upgrade", "{\"op\":\"x\"}", API_OPERATOR, false},
        {"GET", "/v1/store", NULL, API_NOBODY, false},
        {"GET", "/", NULL, API_NOBODY, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct json_object *body = rows[i].body ? json_tokener_parse(rows[i].body) : NULL;
        bool known;
        const struct api_row *row = api_row_find(rows[i].method, rows[i].path, body, &known);
        if ((row ? row->needs : API_NOBODY) != rows[i].needs || (!row && known != rows[i].known))
            fail_msg("%zu: %s %s %s", i, rows[i].method, rows[i].path, rows[i].body);
        json_object_put(body);
    }
}

// ---- who asks ----------------------------------------------------------------------------------------------

static void test_role(void **state)
{
    int fds[2];
    struct api_caller caller;
    struct api_policy policy = {.operators = -1, .readers = -1};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_true(api_caller_find(fds[0], &policy, &caller));
    assert_int_equal(caller.role, API_OPERATOR); // the same user
    assert_int_equal(caller.uid, getuid());
    assert_int_equal(caller.gid, getgid());
    assert_int_equal(caller.pid, getpid());
    assert_memory_equal(caller.actor, "cli:", 4);
    close(fds[0]);
    close(fds[1]);
    assert_false(api_caller_find(-1, &policy, &caller));
    assert_int_equal(caller.role, API_NOBODY);
}

static void test_who_may(void **state)
{
    struct api_policy policy = {
        .operators = 5, .readers = -1, .operators_name = "ops", .readers_name = "look"};
    struct buf text = {0};
    api_policy_describe(&policy, API_OPERATOR, &text);
    assert_string_equal(buf_cstr(&text),
                        "root, the user that the service runs as and members of the group ops");
    buf_clear(&text);
    policy.readers = 6;
    api_policy_describe(&policy, API_READER, &text);
    assert_string_equal(buf_cstr(&text), "root, the user that the service runs as, members of the "
                                         "group ops and members of the group look");
    buf_clear(&text);
    policy.operators = -1;
    api_policy_describe(&policy, API_OPERATOR, &text);
    assert_string_equal(buf_cstr(&text), "root and the user that the service runs as");
    buf_done(&text);
}

// ---- refused attempts ----------------------------------------------------------------------------------------

static uint32_t attempts(struct api_refusals *r, uid_t uid, int64_t s, int count, uint64_t *passed)
{
    uint32_t taken = 0;
    for (int i = 0; i < count; i++)
        taken += api_refusals_take(r, uid, (struct mono){1 + s * 1000000}, passed);
    return taken;
}

static void test_refusals_are_bounded(void **state)
{
    struct api_refusals r = {0};
    uint64_t passed;
    assert_int_equal(attempts(&r, 1000, 0, 100000, &passed), API_REFUSALS_BURST);
    assert_int_equal(attempts(&r, 1001, 0, 3, &passed), 3); // another user hides nobody
    assert_int_equal(passed, 0);
    assert_int_equal(attempts(&r, 1000, 59, 5, &passed), 0);
    assert_int_equal(attempts(&r, 1000, 61, 1, &passed), 1);
    assert_int_equal(passed, 100000 - API_REFUSALS_BURST + 5); // it tells of the others
    assert_int_equal(attempts(&r, 1000, 62, 9, &passed), 0);
    assert_int_equal(attempts(&r, 1000, 86400, 1000, &passed), API_REFUSALS_BURST);
    uint32_t day = 0;
    for (int s = 100000; s < 186400; s += 10)
        day += attempts(&r, 1000, s, 10, &passed);
    assert_in_range(day, 1440, 1440 + API_REFUSALS_BURST);
    for (uid_t uid = 1; uid <= 10 * API_REFUSALS_USERS; uid++) // the table stays as it is
        assert_int_equal(attempts(&r, uid, 200000, 2, &passed), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_request_says_what_it_needs),
        cmocka_unit_test(test_every_operation_is_there),
        cmocka_unit_test(test_finding),
        cmocka_unit_test(test_role),
        cmocka_unit_test(test_who_may),
        cmocka_unit_test(test_refusals_are_bounded),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
