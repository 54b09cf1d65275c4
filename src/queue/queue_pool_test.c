// SPDX-License-Identifier: MIT
#include "queue/queue_pool.h"

#include "base/check.h"
#include "base/test_base.h"
#include "queue/queue_ids.h"

struct item {
    struct queue_hash_node hash;
    uint64_t key;
};

static uint64_t item_hash(const struct queue_hash_node *node)
{
    return queue_hash_mix(container_of(node, struct item, hash)->key);
}

static struct item *find(const struct queue_hash *h, uint64_t key)
{
    for (struct queue_hash_node *n = queue_hash_chain(h, queue_hash_mix(key)); n; n = n->next)
        if (container_of(n, struct item, hash)->key == key)
            return container_of(n, struct item, hash);
    return NULL;
}

static void pool_keeps_places(void **state)
{
    (void)state;
    struct queue_pool p;
    queue_pool_init(&p, sizeof(struct item));
    for (uint64_t i = 0; i < 10000; i++)
        ((struct item *)queue_pool_new(&p))->key = i + 1;
    for (uint32_t i = 0; i < 10000; i++)
        assert_number("item", ((struct item *)queue_pool_at(&p, i))->key, i + 1);
    queue_pool_free(&p, queue_pool_at(&p, 77));
    assert_number("a free item shows", ((struct item *)queue_pool_at(&p, 77))->key, 0);
    assert_number("used", p.used, 9999);
    struct item *again = queue_pool_new(&p);
    assert_ptr_equal(again, queue_pool_at(&p, 77));
    assert_null(again->hash.next); // the link to the next free one is wiped
    assert_number("made", p.made, 10000);
    queue_pool_done(&p);
}

static void hash_grows_and_shrinks(void **state)
{
    (void)state;
    enum { N = 50000 };
    struct queue_pool p;
    struct queue_hash h;
    queue_pool_init(&p, sizeof(struct item));
    queue_hash_init(&h, item_hash);
    assert_null(find(&h, 1));
    for (uint64_t i = 1; i <= N; i++) {
        struct item *item = queue_pool_new(&p);
        item->key = i;
        queue_hash_add(&h, &item->hash);
        assert_non_null(find(&h, i));
        assert_non_null(find(&h, (i + 1) / 2)); // also while buckets are being split
    }
    for (uint64_t i = 2; i <= N; i += 2)
        queue_hash_remove(&h, &find(&h, i)->hash);
    for (uint64_t i = 1; i <= N; i++)
        assert_number("found", find(&h, i) != NULL, i % 2);
    assert_number("count", h.count, N / 2);
    queue_hash_done(&h);
    queue_pool_done(&p);
}

// The ids of items in use, against a plain array; some hashes are equal.
static void ids_are_found(void **state)
{
    (void)state;
    enum { N = 60000 };
    struct queue_ids x;
    static bool present[N];
    uint64_t count = 0;
    queue_ids_init(&x);
    for (uint64_t step = 0; step < 4 * N; step++) {
        uint32_t item = (uint32_t)(queue_hash_mix(step) % N);
        uint64_t hash = queue_hash_mix(item / 2);
        if (present[item])
            queue_ids_remove(&x, hash, item);
        else
            queue_ids_add(&x, hash, item);
        present[item] = !present[item];
        count = present[item] ? count + 1 : count - 1;
    }
    for (uint32_t item = 0; item < N; item++) {
        uint32_t found, times = 0;
        for (uint32_t probe = 0; queue_ids_next(&x, queue_hash_mix(item / 2), &probe, &found);)
            times += found == item;
        assert_number("found", times, present[item]);
    }
    assert_in_range(queue_ids_bytes(&x) - QUEUE_IDS_SHARDS * sizeof(*x.shards), count * 6,
                    count * 14);
    queue_ids_done(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_keeps_places),
        cmocka_unit_test(ids_are_found),
        cmocka_unit_test(hash_grows_and_shrinks),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
