// SPDX-License-Identifier: MIT
#include "deliver/target.h"

#include "base/check.h"
#include "base/test_base.h"
#include "dns/dns_rdata.h"

static void test_round_trip(void **state)
{
    (void)state;
    static const struct {
        enum target_kind kind;
        enum target_tls tls;
        const char *hosts[3], *addresses[3];
    } ROWS[] = {
        {TARGET_SMTP, TARGET_TLS_MAY, {"mx1.example"}, {"192.0.2.1:25"}},
        {TARGET_SMTP,
         TARGET_TLS_VERIFY,
         {"a.example", "a.example", "b.example"},
         {"192.0.2.1:2525", "[2001:db8::1]:25", "192.0.2.255:65535"}},
        {TARGET_LMTP, TARGET_TLS_NONE, {"localhost"}, {"unix:/run/dovecot/lmtp"}},
        {TARGET_LMTP, TARGET_TLS_NONE, {"localhost"}, {"unix:/run/a folder/lmtp"}},
        {TARGET_MAILDIR, TARGET_TLS_MAY, {NULL}, {NULL}},
        {TARGET_DISCARD, TARGET_TLS_ENCRYPT, {NULL}, {NULL}},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct target target = {.kind = ROWS[i].kind, .tls = ROWS[i].tls, .route = UINT32_MAX},
                      back;
        for (size_t k = 0; k < 3 && ROWS[i].hosts[k]; k++) {
            struct target_address *a = &target.addresses[target.count++];
            a->host = bytes_cstr(ROWS[i].hosts[k]);
            assert_int_equal(sys_addr_parse(bytes_cstr(ROWS[i].addresses[k]), &a->addr), OK);
        }
        struct buf text = {0};
        struct arena arena = {0};
        target_format(&target, &text);
        assert_int_equal(target_parse(buf_bytes(&text), &arena, &back), OK);
        assert_number("kind", back.kind, target.kind);
        assert_number("tls", back.tls, target.tls);
        assert_number("route", back.route, target.route);
        assert_number("count", back.count, target.count);
        for (uint32_t k = 0; k < back.count; k++) {
            char addr[SYS_ADDR_TEXT];
            assert_bytes("host", back.addresses[k].host, target.addresses[k].host);
            assert_string_equal(sys_addr_format(&back.addresses[k].addr, addr),
                                ROWS[i].addresses[k]);
        }
        arena_done(&arena);
        buf_done(&text);
    }
}

static void test_broken(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {"",
                                        "\n",

                                        "0 0\n",
                                        "x 0 0\n",
                                        "0 0 -1\n",
                                        "0 0 4294967296\n",
                                        "0 0 1\nhost\n",
                                        "0 0 1\nhost 192.0.2.1:99999\n",
                                        "0 0 1\nhost nowhere\n"};
    for (size_t i = 0; i < COUNT_OF(TEXTS); i++) {
        struct arena arena = {0};
        struct target target;
        assert_true(target_parse(bytes_cstr(TEXTS[i]), &arena, &target) != OK);
        arena_done(&arena);
    }
}

// One address more than there is room for.
static void test_too_many(void **state)
{
    (void)state;
    struct buf text = {0};
    struct arena arena = {0};
    struct target target;
    buf_add_cstr(&text, "0 0 1\n");
    for (int i = 0; i < TARGET_ADDRESSES_MAX; i++)
        buf_add_cstr(&text, "mx.example 192.0.2.1:25\n");
    assert_int_equal(target_parse(buf_bytes(&text), &arena, &target), OK);
    assert_number("count", target.count, TARGET_ADDRESSES_MAX);
    buf_add_cstr(&text, "mx.example 192.0.2.1:25\n");
    assert_true(target_parse(buf_bytes(&text), &arena, &target) != OK);
    arena_done(&arena);
    buf_done(&text);
}

// Long names: whole lines are left out from the end, and what is left is as it was.
static void test_long_names(void **state)
{
    (void)state;
    static char name[DNS_NAME_MAX];
    static const struct {
        size_t name;
        uint32_t count;
    } ROWS[] = {{5, TARGET_ADDRESSES_MAX}, {DNS_NAME_MAX, 1},  {DNS_NAME_MAX, 13},
                {DNS_NAME_MAX, 14},        {DNS_NAME_MAX, 15}, {DNS_NAME_MAX, TARGET_ADDRESSES_MAX},
                {51, TARGET_ADDRESSES_MAX}};
    memset(name, 'a', sizeof name);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct target target = {.route = UINT32_MAX, .count = ROWS[i].count}, back;
        for (uint32_t k = 0; k < target.count; k++) {
            struct target_address *a = &target.addresses[k];
            *a = (struct target_address){.host = bytes_of(name, ROWS[i].name),
                                         .addr = {.kind = SYS_ADDR_IP6, .port = 60000}};
            a->addr.port = (uint16_t)(a->addr.port + k);
            memset(a->addr.ip, 0xff, sizeof a->addr.ip);
        }
        struct buf text = {0};
        struct arena arena = {0};
        buf_add_cstr(&text, "what stood there");
        size_t before = text.len;
        uint32_t kept = target_format(&target, &text);
        struct bytes made = bytes_skip(buf_bytes(&text), before);
        assert_true(kept >= 1 && made.len <= TARGET_TEXT_MAX);
        // No more than need be.
        size_t line = (made.len - strlen("0 0 4294967295\n")) / kept;
        assert_true(kept == target.count || made.len + line > TARGET_TEXT_MAX);
        assert_int_equal(target_parse(made, &arena, &back), OK);
        assert_number("count", back.count, kept);
        for (uint32_t k = 0; k < kept; k++) {
            assert_bytes("host", back.addresses[k].host, target.addresses[k].host);
            assert_true(sys_addr_eq(&back.addresses[k].addr, &target.addresses[k].addr));
        }
        arena_done(&arena);
        buf_done(&text);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_round_trip),
    cmocka_unit_test(test_broken),
    cmocka_unit_test(test_too_many),
    cmocka_unit_test(test_long_names),
};

RUN_TESTS(tests)
