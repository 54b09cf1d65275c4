// SPDX-License-Identifier: MIT
#include "base/list.h"

#include "base/test_base.h"

struct item {
    int number;
    struct list link;
};

static void assert_numbers(const char *name, struct list *head, const char *want)
{
    char got[32] = "";
    size_t n = 0;
    list_each(link, head) got[n++] = (char)('0' + list_get(link, struct item, link)->number);
    assert_bytes(name, bytes_of(got, n), bytes_cstr(want));
}

static void keeps_order(void **state)
{
    struct list head;
    struct item items[5] = {{0}};
    list_init(&head);
    assert_true(list_is_empty(&head));
    assert_null(list_first(&head));
    assert_null(list_pop_front(&head));
    for (int i = 0; i < 5; i++)
        items[i].number = i;
    list_push_back(&head, &items[1].link);
    list_push_back(&head, &items[2].link);
    list_push_front(&head, &items[0].link);
    list_insert_before(&items[2].link, &items[4].link);
    assert_numbers("pushed", &head, "0142");
    list_remove(&items[1].link);
    list_remove(&items[1].link); // in no list: nothing happens
    assert_false(list_is_linked(&items[1].link));
    assert_numbers("removed", &head, "042");
    assert_ptr_equal(list_pop_front(&head), &items[0].link);
    list_push_back(&head, &items[0].link);
    assert_numbers("again", &head, "420");
}

static void removing_while_iterating(void **state)
{
    struct list head;
    struct item items[6] = {{0}};
    list_init(&head);
    for (int i = 0; i < 6; i++) {
        items[i].number = i;
        list_push_back(&head, &items[i].link);
    }
    list_each(link, &head)
    {
        if (list_get(link, struct item, link)->number % 2)
            list_remove(link);
    }
    assert_numbers("even", &head, "024");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(keeps_order),
    cmocka_unit_test(removing_while_iterating),
};
RUN_TESTS(tests)
