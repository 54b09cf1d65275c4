// SPDX-License-Identifier: MIT
#include "base/test_base.h"

#include "base/buf.h"
#include "bounce/return_token.h"

static const struct return_key KEY = {{1, 2, 3, 4, 5, 6, 7, 8}}, OTHER = {{1, 2, 3, 4, 5, 6, 7, 9}};

static struct return_token sample(enum return_kind kind, uint32_t recipient)
{
    return (struct return_token){
        kind, message_id_make((struct wall){1795000000000000}, 7, 99, 123456), recipient, false};
}

static void test_round_trip(void **state)
{
    (void)state;
    static const uint32_t NUMBERS[] = {0, 1, 31, 32, 1000, 50000, RETURN_RECIPIENT_MAX};
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        for (int form = 0; form < 4; form++) {
            struct return_token t = sample(form & 1 ? RETURN_COMPLAINT : RETURN_BOUNCE, NUMBERS[i]),
                                back;
            t.several = form & 2 && NUMBERS[i];
            char text[RETURN_LOCAL_CHARS + 1];
            return_token_format(&KEY, &t, text);
            assert_number("length", strlen(text), RETURN_LOCAL_CHARS);
            assert_true(strlen(text) <= 64); // RFC 5321 4.5.3.1.1
            assert_number(text, return_token_parse(&KEY, bytes_cstr(text), &back), RETURN_GOOD);
            assert_true(message_id_eq(back.id, t.id));
            assert_number(text, back.recipient, t.recipient);
            assert_number(text, back.several, t.several);
            assert_number(text, back.kind, t.kind);
        }
    }
}

// Tokens are in mail under way: their form stays.
static void test_form(void **state)
{
    (void)state;
    static const struct {
        uint32_t recipient;
        bool several;
        const char *want;
    } ROWS[] = {
        {0, false, "0000"},
        {3, false, "0003"},
        {3, true, "g003"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct return_token t = sample(RETURN_BOUNCE, ROWS[i].recipient);
        char text[RETURN_LOCAL_CHARS + 1];
        t.several = ROWS[i].several;
        return_token_format(&KEY, &t, text);
        assert_bytes("number", bytes_of(text + 2 + MESSAGE_ID_CHARS, 4), bytes_cstr(ROWS[i].want));
    }
}

static void test_case_does_not_matter(void **state)
{
    (void)state;
    struct return_token t = sample(RETURN_BOUNCE, 3), back;
    char text[RETURN_LOCAL_CHARS + 1];
    return_token_format(&KEY, &t, text);
    for (char *c = text; *c; c++)
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
    assert_number(text, return_token_parse(&KEY, bytes_cstr(text), &back), RETURN_GOOD);
}

// Whatever character is changed: never good again.
static void test_any_change_is_seen(void **state)
{
    (void)state;
    struct return_token t = sample(RETURN_BOUNCE, 3), back;
    char good[RETURN_LOCAL_CHARS + 1], text[RETURN_LOCAL_CHARS + 1];
    return_token_format(&KEY, &t, good);
    for (size_t i = 0; i < RETURN_LOCAL_CHARS; i++) {
        for (const char *c = "0123456789abcdefghjkmnpqrstvwxyz-iu@"; *c; c++) {
            memcpy(text, good, sizeof text);
            text[i] = *c;
            bool same = good[i] == *c;
            assert_number(text, return_token_parse(&KEY, bytes_cstr(text), &back) == RETURN_GOOD,
                          same);
        }
    }
    assert_number("key", return_token_parse(&OTHER, bytes_cstr(good), &back), RETURN_FORGED);
}

static void test_foreign_and_forged(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum return_verdict want;
    } ROWS[] = {
        {"", RETURN_FOREIGN},
        {"b-", RETURN_FOREIGN},
        {"postmaster", RETURN_FOREIGN},
        {"b-0000000000000000000000000000000000000000", RETURN_FORGED},
        {"c-zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", RETURN_FORGED},
        {"d-0000000000000000000000000000000000000000", RETURN_FOREIGN},
        {"b-000000000000000000000000000000000000000", RETURN_FOREIGN},
        {"b-00000000000000000000000000000000000000000", RETURN_FOREIGN},
        {"b-00000000000000000000000000000000000000i0", RETURN_FOREIGN},
        {"b-0000000000000000000000000000000000000000 ", RETURN_FOREIGN},
        {"b+0000000000000000000000000000000000000000", RETURN_FOREIGN},
    };
    struct return_token out;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        assert_number(ROWS[i].text, return_token_parse(&KEY, bytes_cstr(ROWS[i].text), &out),
                      ROWS[i].want);
}

static void test_search(void **state)
{
    (void)state;
    struct return_token t = sample(RETURN_COMPLAINT, 9), back;
    char local[RETURN_LOCAL_CHARS + 1];
    struct buf text = {0};
    return_token_format(&KEY, &t, local);
    buf_printf(&text,
               "Return-Path: <b-0000000000000000000000000000000000000000@x.example>\r\n"
               "X-a: b-c-d----\r\nCFBL-Address: %s@x.example; report=arf\r\n",
               local);
    assert_true(return_token_search(&KEY, buf_bytes(&text), &back));
    assert_number("number", back.recipient, 9);
    assert_false(return_token_search(&OTHER, buf_bytes(&text), &back));
    assert_true(return_token_search(&KEY, bytes_cstr(local), &back));
    assert_false(return_token_search(&KEY, bytes_first(bytes_cstr(local), 41), &back));
    assert_false(return_token_search(&KEY, BYTES_NONE, &back));
    buf_done(&text);
}

static const struct CMUnitTest TESTS[] = {
    cmocka_unit_test(test_round_trip),           cmocka_unit_test(test_form),
    cmocka_unit_test(test_case_does_not_matter), cmocka_unit_test(test_any_change_is_seen),
    cmocka_unit_test(test_foreign_and_forged),   cmocka_unit_test(test_search),
};
RUN_TESTS(TESTS)
