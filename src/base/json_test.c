// SPDX-License-Identifier: MIT
#include "base/json.h"

#include <json-c/json.h>

#include "base/test_base.h"

static void texts_are_found(void **state)
{
    (void)state;
    struct json_object *object =
        json_tokener_parse("{\"text\": \"a\\u0000b\", \"number\": 7, \"nothing\": null}");
    assert_bytes("text", json_find_text(object, "text"), bytes_of("a\0b", 3));
    assert_bytes("number", json_find_text(object, "number"), BYTES_NONE);
    assert_bytes("null", json_find_text(object, "nothing"), BYTES_NONE);
    assert_bytes("absent", json_find_text(object, "absent"), BYTES_NONE);
    assert_bytes("no object", json_find_text(NULL, "text"), BYTES_NONE);
    assert_bytes("no value", json_text(NULL), BYTES_NONE);
    json_object_put(object);
}

static void texts_and_times_are_added(void **state)
{
    (void)state;
    struct json_object *object = json_object_new_object();
    json_add_text(object, "a", bytes_of("x\0y", 3));
    json_add_text(object, "b", BYTES_NONE);
    json_add_time(object, "c", (struct wall){1790000000000000});
    json_add_time(object, "d", (struct wall){0});
    assert_string_equal(
        json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN),
        "{\"a\":\"x\\u0000y\",\"b\":\"\",\"c\":\"2026-09-21T14:13:20.000Z\",\"d\":null}");
    json_object_put(object);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(texts_are_found),
    cmocka_unit_test(texts_and_times_are_added),
};
RUN_TESTS(tests)
