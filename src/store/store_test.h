// SPDX-License-Identifier: MIT
//
// store_test - for tests: operations that must succeed, written without a backslash before each quote
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "base/buf.h"
#include "store/store.h"

// Applies `op` as of `at`; args is JSON that may have ' for ". Any error fails the test.
static inline void test_store_apply(struct store *store, struct wall at, const char *op,
                                    const char *args)
{
    char text[4096];
    size_t len = strlen(args);
    assert_true(len < sizeof text);
    for (size_t i = 0; i <= len; i++)
        text[i] = args[i] == '\'' ? '"' : args[i];
    struct json_object *parsed = json_tokener_parse(text);
    struct store_op operation = {op, parsed, BYTES("test"), at, NULL};
    struct store_answer answer;
    struct buf error = {0};
    assert_non_null(parsed);
    if (store_apply(store, &operation, &answer, &error) != OK)
        fail_msg("%s %s: %s", op, text, buf_cstr(&error));
    json_object_put(answer.result);
    json_object_put(parsed);
}
