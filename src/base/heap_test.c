// SPDX-License-Identifier: MIT
#include "base/heap.h"

#include "base/test_base.h"

#define NODES 500

struct item {
    struct heap_node node;
    int64_t key;
    unsigned added; // when it was added or moved last
};

// The item that must leave first: smallest key, then earliest added.
static struct item *expected(struct item *items)
{
    struct item *best = NULL;
    for (size_t i = 0; i < NODES; i++) {
        struct item *it = &items[i];
        if (heap_has(&it->node) &&
            (!best || it->key < best->key || (it->key == best->key && it->added < best->added)))
            best = it;
    }
    return best;
}

static void agrees_with_a_plain_search(void **state)
{
    static struct item items[NODES];
    struct heap h = {.next_order = UINT32_MAX - 1000}; // the sequence wraps on the way
    struct test_random random = {1};
    assert_null(heap_first(&h));
    for (unsigned step = 0; step < 5000; step++) {
        struct item *it = &items[test_random_below(&random, NODES)];
        unsigned what = test_random_below(&random, 4);
        if (what == 0) {
            heap_remove(&h, &it->node);
            assert_false(heap_has(&it->node));
        } else {
            it->key = test_random_below(&random, 50);
            it->added = step;
            heap_move(&h, &it->node, it->key);
        }
        struct item *want = expected(items);
        assert_ptr_equal(heap_first(&h), want ? &want->node : NULL);
    }
    for (struct item *want; (want = expected(items));) {
        assert_ptr_equal(heap_first(&h), &want->node);
        heap_remove(&h, &want->node);
    }
    assert_null(heap_first(&h));
    heap_done(&h);
}

static void equal_keys_keep_their_order(void **state)
{
    struct heap h = {0};
    struct heap_node nodes[20] = {{0}};
    for (int i = 0; i < 20; i++)
        heap_add(&h, &nodes[i], i % 2 ? 5 : INT64_MIN);
    for (int i = 0; i < 20; i++) {
        int want = i < 10 ? i * 2 : (i - 10) * 2 + 1;
        assert_ptr_equal(heap_first(&h), &nodes[want]);
        heap_remove(&h, heap_first(&h));
    }
    heap_remove(&h, &nodes[0]); // in no heap: nothing happens
    heap_add(&h, &nodes[0], 1);
    heap_done(&h);
    assert_false(heap_has(&nodes[0]));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(agrees_with_a_plain_search),
    cmocka_unit_test(equal_keys_keep_their_order),
};
RUN_TESTS(tests)
