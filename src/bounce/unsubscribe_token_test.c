// SPDX-License-Identifier: MIT
#include "base/test_base.h"

#include "bounce/unsubscribe_token.h"

static const struct return_key KEY = {{7, 7, 7}}, OTHER = {{7, 7, 8}};

static const struct unsubscribe_token SAMPLE = {.id = {0x123456789abcdef0, 0xfedcba987},
                                                .recipient = 3,
                                                .account = 77,
                                                .tag = {"news", 4},
                                                .sender = {"shop.example", 12},
                                                .address = {"reader@example.org", 18}};

static void test_round_trip(void **state)
{
    (void)state;
    static const struct {
        const char *tag, *address;
    } ROWS[] = {
        {"news", "reader@example.org"},
        {"", "a@b"},
        {"", "j\xc3\xbcrgen@b\xc3\xbc"
             "cher.example"},
        {"0123456789012345678901234567890123456789012345678901234567890123",
         "0123456789012345678901234567890123456789012345678901234567890123@"
         "012345678901234567890123456789012345678901234567890123456789.example.org"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct arena arena = {0};
        struct unsubscribe_token t = SAMPLE, back;
        struct buf text = {0}, again = {0};
        t.tag = bytes_cstr(ROWS[i].tag);
        t.address = bytes_cstr(ROWS[i].address);
        unsubscribe_token_format(&KEY, &t, &text);
        unsubscribe_token_format(&KEY, &t, &again);
        assert_bytes("the same each time", buf_bytes(&text), buf_bytes(&again));
        assert_number(ROWS[i].address,
                      unsubscribe_token_parse(&KEY, buf_bytes(&text), &arena, &back), OK);
        assert_bytes("tag", back.tag, t.tag);
        assert_bytes("sender", back.sender, t.sender);
        assert_bytes("address", back.address, t.address);
        assert_number("account", back.account, 77);
        assert_number("recipient", back.recipient, 3);
        assert_true(message_id_eq(back.id, t.id));
        for (size_t k = 0; k < text.len; k++)
            assert_true(ascii_is_alnum(text.at[k]) || text.at[k] == '-' || text.at[k] == '_');
        buf_done(&text);
        buf_done(&again);
        arena_done(&arena);
    }
}

static void test_any_change_is_seen(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct unsubscribe_token back;
    struct buf text = {0};
    unsubscribe_token_format(&KEY, &SAMPLE, &text);
    assert_number("key", unsubscribe_token_parse(&OTHER, buf_bytes(&text), &arena, &back),
                  E_SYNTAX);
    for (size_t i = 0; i < text.len; i++) {
        char kept = text.at[i];
        text.at[i] = kept == 'A' ? 'B' : 'A';
        // The last character may hold bits that belong to no byte: strictness there is the decoder's.
        assert_number("changed", unsubscribe_token_parse(&KEY, buf_bytes(&text), &arena, &back),
                      E_SYNTAX);
        text.at[i] = kept;
    }
    for (size_t len = 0; len < text.len; len++)
        assert_number(
            "cut", unsubscribe_token_parse(&KEY, bytes_first(buf_bytes(&text), len), &arena, &back),
            E_SYNTAX);
    buf_done(&text);
    arena_done(&arena);
}

static void test_not_a_token(void **state)
{
    (void)state;
    static const char *const ROWS[] = {
        "",
        "A",
        "AAAA",
        "!!!!",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
        "AAAA/AAA",
        "AAAA+AAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    struct arena arena = {0};
    struct unsubscribe_token back;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        assert_number(ROWS[i], unsubscribe_token_parse(&KEY, bytes_cstr(ROWS[i]), &arena, &back),
                      E_SYNTAX);
    arena_done(&arena);
}

static const struct CMUnitTest TESTS[] = {
    cmocka_unit_test(test_round_trip),
    cmocka_unit_test(test_any_change_is_seen),
    cmocka_unit_test(test_not_a_token),
};
RUN_TESTS(TESTS)
