// SPDX-License-Identifier: MIT
#include "mail/message_id.h"

#include "base/test_base.h"

static void parts_stand_where_they_belong(void **state)
{
    static const struct {
        const char *name;
        int64_t ms; // since 2020
        uint32_t node, epoch, counter;
        const char *want;
    } rows[] = {
        {"zero", 0, 0, 0, 0, "00000000000000000000"},
        {"counter", 0, 0, 0, 1, "00000000000000000001"},
        {"counter's end", 0, 0, 0, (1u << 28) - 1, "000000000000007ZZZZZ"},
        {"epoch", 0, 0, 1, 0, "00000000000000800000"},
        {"epoch's end", 0, 0, (1u << 20) - 1, 0, "00000000007ZZZR00000"},
        {"node", 0, 1, 0, 0, "00000000008000000000"},
        {"all ones", (1LL << 42) - 1, 1023, (1u << 20) - 1, (1u << 28) - 1, "ZZZZZZZZZZZZZZZZZZZZ"},
        {"too large is cut", 1LL << 42, 1024, 1u << 20, 1u << 28, "00000000000000000000"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct wall now = {(rows[i].ms + 1577836800000LL) * 1000 + 999};
        struct message_id back,
            id = message_id_make(now, rows[i].node, rows[i].epoch, rows[i].counter);
        char text[MESSAGE_ID_CHARS + 1];
        message_id_format(id, text);
        assert_bytes(rows[i].name, bytes_cstr(text), bytes_cstr(rows[i].want));
        assert_int_equal(message_id_parse(bytes_cstr(text), &back), OK);
        assert_true(message_id_eq(id, back));
    }
}

static void text_order_is_id_order(void **state)
{
    struct test_random random = {5};
    struct message_id last = {0, 0};
    char last_text[MESSAGE_ID_CHARS + 1], text[MESSAGE_ID_CHARS + 1];
    message_id_format(last, last_text);
    for (int i = 0; i < 20000; i++) {
        struct wall now = {1577836800000000LL +
                           (int64_t)test_random_below(&random, 1000) * 1000000};
        struct message_id back, id = message_id_make(now, test_random_below(&random, 3),
                                                     test_random_below(&random, 600),
                                                     test_random_below(&random, 1u << 28));
        message_id_format(id, text);
        int by_text = strcmp(text, last_text), by_id = message_id_cmp(id, last);
        assert_true((by_text > 0) - (by_text < 0) == (by_id > 0) - (by_id < 0));
        assert_true(message_id_time(id).us == now.us);
        assert_int_equal(message_id_parse(bytes_cstr(text), &back), OK);
        assert_true(message_id_eq(id, back));
        last = id;
        memcpy(last_text, text, sizeof(text));
    }
}

static void order_of_making_is_known_whatever_the_clock_does(void **state)
{
    enum { ROUND = 1u << 28, DAY_S = 86400, NOW_S = 1800000000 };
    static const struct {
        const char *name;
        int64_t id_s;
        uint32_t id_epoch, id_counter;
        int64_t mark_s;
        uint32_t mark_epoch, mark_counter;
        bool before;
    } rows[] = {
        {"itself", NOW_S, 1, 7, NOW_S, 1, 7, false},
        {"the one before", NOW_S, 1, 6, NOW_S, 1, 7, true},
        {"the one after", NOW_S, 1, 8, NOW_S, 1, 7, false},
        {"before, clock set back", NOW_S, 1, 6, NOW_S - 1000 * DAY_S, 1, 7, true},
        {"after, clock set back a little", NOW_S - 3500, 1, 8, NOW_S, 1, 7, false},
        {"long before", NOW_S - DAY_S, 1, 0, NOW_S, 1, ROUND - 1, true},
        {"before the counter's end", NOW_S, 1, ROUND - 1, NOW_S, 1, ROUND, true},
        {"after the counter's end", NOW_S, 1, ROUND, NOW_S, 1, ROUND - 1, false},
        {"half a round before", NOW_S - DAY_S, 1, ROUND / 2, NOW_S, 1, ROUND, true},
        {"most of a round before", NOW_S - DAY_S, 1, 1000, NOW_S, 1, ROUND, true},
        {"a round before", NOW_S - DAY_S, 1, 7, NOW_S, 1, ROUND + 7, true},
        {"rounds before", NOW_S - 5 * DAY_S, 1, 1000, NOW_S, 1, 3 * ROUND, true},
        {"a start before", NOW_S, 1, ROUND - 1, NOW_S, 2, 0, true},
        {"a start after", NOW_S, 2, 0, NOW_S, 1, 7, false},
        {"starts before, clock set back", NOW_S, 255, 7, NOW_S - DAY_S, 256, 0, true},
        {"the last start", NOW_S, 1, 0, NOW_S, (1u << 20) - 1, 0, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct message_id id = message_id_make((struct wall){rows[i].id_s * 1000000}, 5,
                                               rows[i].id_epoch, rows[i].id_counter);
        struct message_id mark = message_id_make((struct wall){rows[i].mark_s * 1000000}, 5,
                                                 rows[i].mark_epoch, rows[i].mark_counter);
        assert_number(rows[i].name, message_id_is_before(id, mark), rows[i].before);
    }
}

static void refuses_what_is_no_id(void **state)
{
    static const struct {
        struct bytes in;
        int want;
    } rows[] = {
        {BYTES("0123456789ABCDEFGHJK"), OK},
        {BYTES("0123456789abcdefghjk"), OK},
        {BYTES("0123456789ABCDEFGHJ"), E_SYNTAX},
        {BYTES("0123456789ABCDEFGHJKM"), E_SYNTAX},
        {BYTES("0123456789ABCDEFGHJI"), E_SYNTAX},
        {BYTES("0123456789ABCDEFGHJL"), E_SYNTAX},
        {BYTES("0123456789ABCDEFGHJO"), E_SYNTAX},
        {BYTES("0123456789ABCDEFGHJU"), E_SYNTAX},
        {BYTES("0123456789ABCDEFGHJ\0"), E_SYNTAX},
        {BYTES("0123456789ABCDEFGHJ."), E_SYNTAX},
        {BYTES(""), E_SYNTAX},
    };
    struct message_id id;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_number(rows[i].in.at, message_id_parse(rows[i].in, &id), rows[i].want);
    struct message_id lower;
    assert_int_equal(message_id_parse(rows[0].in, &id), OK);
    assert_int_equal(message_id_parse(rows[1].in, &lower), OK);
    assert_true(message_id_eq(id, lower));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(parts_stand_where_they_belong),
    cmocka_unit_test(text_order_is_id_order),
    cmocka_unit_test(order_of_making_is_known_whatever_the_clock_does),
    cmocka_unit_test(refuses_what_is_no_id),
};
RUN_TESTS(tests)
