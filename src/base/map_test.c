// SPDX-License-Identifier: MIT
#include "base/map.h"

#include "base/test_base.h"

#define KEYS 3000

static struct bytes key_of(unsigned i, char *out)
{
    return bytes_of(out, (size_t)snprintf(out, 16, "key %u", i));
}

static void agrees_with_an_array(void **state)
{
    static int values[KEYS][2];
    static void *model[KEYS];
    struct map m = {0};
    struct test_random random = {7};
    char text[16];
    unsigned count = 0;
    memset(model, 0, sizeof(model));
    for (unsigned step = 0; step < 60000; step++) {
        unsigned i = test_random_below(&random, KEYS);
        struct bytes key = key_of(i, text);
        if (test_random_below(&random, 5) < 2) {
            assert_ptr_equal(map_remove(&m, key), model[i]);
            count -= model[i] != NULL;
            model[i] = NULL;
        } else {
            void *value = &values[i][test_random_below(&random, 2)];
            assert_ptr_equal(map_set(&m, key, value), model[i]);
            count += model[i] == NULL;
            model[i] = value;
        }
        assert_int_equal(m.count, count);
    }
    for (unsigned i = 0; i < KEYS; i++)
        assert_ptr_equal(map_find(&m, key_of(i, text)), model[i]);
    assert_true(m.entries_cap <= 4 * KEYS); // removed entries are given back
    map_done(&m);
    assert_null(map_find(&m, BYTES("key 1")));
}

static void iterates_in_order_of_insertion(void **state)
{
    struct map m = {0};
    char text[16];
    int value;
    for (unsigned i = 0; i < 100; i++)
        map_set(&m, key_of(i, text), &value);
    for (unsigned i = 0; i < 100; i += 3)
        map_remove(&m, key_of(i, text));
    map_set(&m, key_of(0, text), &value); // comes back as the last
    size_t cursor = 0;
    struct bytes key;
    void *got;
    for (unsigned i = 0; i < 100; i++) {
        if (i % 3 == 0)
            continue;
        assert_true(map_next(&m, &cursor, &key, &got));
        assert_bytes("order", key, key_of(i, text));
        assert_ptr_equal(got, &value);
    }
    assert_true(map_next(&m, &cursor, &key, &got));
    assert_bytes("last", key, BYTES("key 0"));
    assert_false(map_next(&m, &cursor, &key, &got));
    map_done(&m);
}

static void removing_while_iterating(void **state)
{
    struct map m = {0};
    char text[16];
    int value;
    size_t cursor = 0, seen = 0;
    struct bytes key;
    for (unsigned i = 0; i < 50; i++)
        map_set(&m, key_of(i, text), &value);
    while (map_next(&m, &cursor, &key, NULL)) {
        seen++;
        assert_ptr_equal(map_remove(&m, key), &value);
    }
    assert_int_equal(seen, 50);
    assert_int_equal(m.count, 0);
    map_done(&m);
}

static void keys_are_bytes(void **state)
{
    struct map m = {0};
    int a, b, c;
    map_set(&m, BYTES("x\0y"), &a);
    map_set(&m, BYTES("x"), &b);
    map_set(&m, BYTES_NONE, &c);
    assert_ptr_equal(map_find(&m, BYTES("x\0y")), &a);
    assert_ptr_equal(map_find(&m, BYTES("x")), &b);
    assert_ptr_equal(map_find(&m, BYTES("")), &c);
    assert_null(map_find(&m, BYTES("x\0")));
    assert_null(map_remove(&m, BYTES("X")));
    assert_ptr_equal(map_remove(&m, BYTES_NONE), &c);
    assert_null(map_set(&m, BYTES_NONE, &a));
    assert_int_equal(m.count, 3);
    assert_ptr_equal(map_find(&m, BYTES_NONE), &a);
    map_done(&m);
}

static void the_hash_is_keyed(void **state)
{
    uint64_t plain = map_hash(BYTES("a"));
    map_seed(12345);
    assert_true(map_hash(BYTES("a")) != plain);
    map_seed(0);
    assert_true(map_hash(BYTES("a")) == plain);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(agrees_with_an_array),     cmocka_unit_test(iterates_in_order_of_insertion),
    cmocka_unit_test(removing_while_iterating), cmocka_unit_test(keys_are_bytes),
    cmocka_unit_test(the_hash_is_keyed),
};
RUN_TESTS(tests)
