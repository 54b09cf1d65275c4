// SPDX-License-Identifier: MIT
#include "conf/conf_value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/check.h"

struct number_case {
    const char *input;
    int want_err;
    uint64_t want;
};

static void check_number(const struct number_case *c, int err, uint64_t got)
{
    if (err != c->want_err || (!err && got != c->want))
        fail_msg("'%s': got %d, %llu", c->input, err, (unsigned long long)got);
}

static void test_duration(void **state)
{
    static const struct number_case cases[] = {
        {"1s", 0, 1000},
        {"90s", 0, 90000},
        {"1h30m", 0, 5400000},
        {"5d", 0, 432000000},
        {"1w2d", 0, 777600000},
        {"0s", 0, 0},
        {"", E_SYNTAX},
        {"5", E_SYNTAX},
        {"s", E_SYNTAX},
        {"5parsec", E_SYNTAX},
        {"30m1h", E_SYNTAX},
        {"1h1h", E_SYNTAX},
        {"1.5h", E_SYNTAX},
        {"-1s", E_SYNTAX},
        {"1 s", E_SYNTAX},
        {"5D", E_SYNTAX},
        {"999999999999999999d", E_LIMIT},
        {"99999999999999999999999999s", E_LIMIT},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t ms = 0;
        int err = conf_value_duration(bytes_cstr(cases[i].input), &ms);
        check_number(&cases[i], err, (uint64_t)ms);
    }
}

static void test_size(void **state)
{
    static const struct number_case cases[] = {
        {"0", 0, 0},
        {"4096", 0, 4096},
        {"25MiB", 0, 26214400},
        {"200MB", 0, 200000000},
        {"200mb", 0, 200000000},
        {"1.5GiB", 0, 1610612736},
        {"1KB", 0, 1000},
        {"7B", 0, 7},
        {"1TiB", 0, 1099511627776},
        {"0.001KB", 0, 1},
        {"", E_SYNTAX},
        {"MB", E_SYNTAX},
        {"1.MB", E_SYNTAX},
        {"1.2345MB", E_SYNTAX},
        {"1 MB", E_SYNTAX},
        {"1PB", E_SYNTAX},
        {"-1", E_SYNTAX},
        {"99999999999TB", E_LIMIT},
        {"9223372036854775808", E_LIMIT},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t got = 0;
        int err = conf_value_size(bytes_cstr(cases[i].input), &got);
        check_number(&cases[i], err, got);
    }
}

static void test_count_and_decimal(void **state)
{
    static const struct number_case counts[] = {
        {"0", 0, 0},
        {"1_000", 0, 1000},
        {"007", 0, 7},
        {"", E_SYNTAX},
        {"_1", E_SYNTAX},
        {"1_", E_SYNTAX},
        {"1__0", E_SYNTAX},
        {"1.0", E_SYNTAX},
        {"0x10", E_SYNTAX},
        {"1e3", E_SYNTAX},
        {"+1", E_SYNTAX},
        {"9223372036854775807", 0, INT64_MAX},
        {"9223372036854775808", E_LIMIT},
        {"11111111111111111111111111111111111111", E_LIMIT},
    };
    static const struct number_case decimals[] = {
        {"2", 0, 2000},    {"0.5", 0, 500},
        {"1.75", 0, 1750}, {"0.001", 0, 1},
        {".5", E_SYNTAX},  {"1.", E_SYNTAX},
        {"1,5", E_SYNTAX}, {"1.0000", E_SYNTAX},
        {"nan", E_SYNTAX}, {"99999999999999999999", E_LIMIT},
    };
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        uint64_t got = 0;
        int err = conf_value_count(bytes_cstr(counts[i].input), &got);
        check_number(&counts[i], err, got);
    }
    for (size_t i = 0; i < COUNT_OF(decimals); i++) {
        uint64_t got = 0;
        int err = conf_value_decimal(bytes_cstr(decimals[i].input), &got);
        check_number(&decimals[i], err, got);
    }
}

// ---- text to text ------------------------------------------------------------------------------------

struct text_case {
    const char *input, *want; // NULL: refused
};

static void check_texts(const struct text_case *cases, size_t count,
                        int (*parse)(struct bytes, struct arena *, struct bytes *))
{
    struct arena arena = {0};
    for (size_t i = 0; i < count; i++) {
        struct bytes got = BYTES_NONE;
        int err = parse(bytes_cstr(cases[i].input), &arena, &got);
        if (err ? cases[i].want != NULL
                : !cases[i].want || !bytes_eq(got, bytes_cstr(cases[i].want)))
            fail_msg("'%s': got %d, '%.*s'", cases[i].input, err, BYTES_FMT(got));
    }
    arena_done(&arena);
}

static int parse_endpoint(struct bytes text, struct arena *arena, struct bytes *out)
{
    struct conf_endpoint endpoint;
    int err = conf_value_endpoint(text, arena, &endpoint);
    *out = err ? BYTES_NONE : endpoint.text;
    return err;
}

static void test_endpoint(void **state)
{
    static const struct text_case cases[] = {
        {"127.0.0.1:25", "127.0.0.1:25"},
        {"[::1]:0", "[::1]:0"},
        {"*:587", "[::]:587"},
        {"[2001:DB8:0::1]:465", "[2001:db8::1]:465"},
        {"0.0.0.0:65535", "0.0.0.0:65535"},
        {"127.0.0.1", NULL},
        {"127.0.0.1:", NULL},
        {":25", NULL},
        {"::1:25", NULL},
        {"127.0.0.1:65536", NULL},
        {"127.0.0.1:-1", NULL},
        {"localhost:25", NULL},
        {"[127.0.0.1]:25", NULL},
        {"[::1:25", NULL},
        {"127.0.0.1:25 ", NULL},
        {"", NULL},
        {"127.0.0.1:000025", NULL},
        {"1.2.3:25", NULL},
    };
    check_texts(cases, COUNT_OF(cases), parse_endpoint);
}

static void test_server(void **state)
{
    static const struct text_case cases[] = {
        {"192.0.2.53", "192.0.2.53@53"},
        {"127.0.0.1@5301", "127.0.0.1@5301"},
        {"2001:db8::1@53", "2001:db8::1@53"},
        {"127.0.0.1@0", NULL},
        {"@53", NULL},
        {"dns.example.org", NULL},
        {"127.0.0.1:53", NULL},
    };
    check_texts(cases, COUNT_OF(cases), conf_value_server);
}

static void test_hostname(void **state)
{
    static const struct text_case cases[] = {
        {"mail.example.org", "mail.example.org"},
        {"MAIL.Example.ORG.", "mail.example.org"},
        {"localhost", "localhost"},
        {"xn--bcher-kva.example", "xn--bcher-kva.example"},
        {"a1.2b", "a1.2b"},
        {"", NULL},
        {".", NULL},
        {"a..b", NULL},
        {".a", NULL},
        {"-a.b", NULL},
        {"a-.b", NULL},
        {"192.0.2.1", NULL},
        {"a b", NULL},
        {"a/b", NULL},
        {"b\xc3\xbc"
         "cher.example",
         NULL},
        {"a12345678901234567890123456789012345678901234567890123456789012345.b", NULL},
    };
    check_texts(cases, COUNT_OF(cases), conf_value_hostname);
}

static void test_pattern(void **state)
{
    static const struct text_case cases[] = {
        {"*", "*"},
        {"Example.org", "example.org"},
        {"*.example.org", "*.example.org"},
        {"User@Example.org", "user@example.org"},
        {"[192.0.2.1]", "[192.0.2.1]"},
        {"b\xc3\xbc"
         "cher.example",
         "xn--bcher-kva.example"},
        {"*.B\xc3\xbc"
         "cher.example",
         "*.xn--bcher-kva.example"},
        {"a@b\xc3\xbc"
         "cher.example",
         "a@xn--bcher-kva.example"},
        {"", NULL},
        {"*.", NULL},
        {"**.example.org", NULL},
        {"exa*mple.org", NULL},
        {"*@example.org", NULL},
        {"@example.org", NULL},
        {"a@", NULL},
        {"a@*.b", NULL},
        {"a b@c.d", NULL},
        {"[300.0.0.1]", NULL},
        {"\xff.example", NULL},
    };
    check_texts(cases, COUNT_OF(cases), conf_value_pattern);
}

static void test_name(void **state)
{
    static const struct text_case cases[] = {
        {"acme", "acme"},
        {"ACME-2.x_y", "acme-2.x_y"},
        {"0", "0"},
        {"", NULL},
        {"-a", NULL},
        {".a", NULL},
        {"a b", NULL},
        {"a/b", NULL},
        {"\xc3\xbc", NULL},
        {"a2345678901234567890123456789012345678901234567890123456789012345", NULL},
    };
    check_texts(cases, COUNT_OF(cases), conf_value_name);
}

// ---- networks, via -----------------------------------------------------------------------------------

static void test_cidr(void **state)
{
    static const struct {
        const char *network, *address;
        int want_err;
        bool want;
    } cases[] = {
        {"192.0.2.0/24", "192.0.2.255", 0, true},
        {"192.0.2.0/24", "192.0.3.0", 0, false},
        {"192.0.2.128/25", "192.0.2.127", 0, false},
        {"192.0.2.7", "192.0.2.7", 0, true},
        {"192.0.2.7", "192.0.2.6", 0, false},
        {"10.0.0.0/8", "::ffff:10.1.2.3", 0, true},
        {"0.0.0.0/0", "203.0.113.9", 0, true},
        {"0.0.0.0/0", "2001:db8::1", 0, false},
        {"2001:db8::/33", "2001:db8:7fff::1", 0, true},
        {"2001:db8::/33", "2001:db8:8000::1", 0, false},
        {"::1", "::1", 0, true},
        {"192.0.2.1/24", NULL, E_LIMIT},
        {"2001:db8::1/64", NULL, E_LIMIT},
        {"192.0.2.0/33", NULL, E_SYNTAX},
        {"192.0.2.0/", NULL, E_SYNTAX},
        {"192.0.2.0/+8", NULL, E_SYNTAX},
        {"192.0.2/24", NULL, E_SYNTAX},
        {"example.org", NULL, E_SYNTAX},
        {"", NULL, E_SYNTAX},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct conf_cidr cidr;
        uint8_t ip[16];
        bool ip6;
        int err = conf_value_cidr(bytes_cstr(cases[i].network), &cidr);
        assert_int_equal(err, cases[i].want_err);
        if (err)
            continue;
        assert_int_equal(conf_value_ip(bytes_cstr(cases[i].address), ip, &ip6), 0);
        if (conf_cidr_has(&cidr, 1, ip, ip6) != cases[i].want)
            fail_msg("%s in %s", cases[i].address, cases[i].network);
    }
}

static void test_via(void **state)
{
    static const struct {
        const char *input;
        int kind; // -1: refused
        const char *host;
        uint16_t port;
        const char *path;
    } cases[] = {
        {"mx", CONF_VIA_MX, "", 25, ""},
        {"mx:2525", CONF_VIA_MX, "", 2525, ""},
        {"smtp://Relay.example.org:587", CONF_VIA_SMTP, "relay.example.org", 587, ""},
        {"smtp://127.0.0.1:25", CONF_VIA_SMTP, "127.0.0.1", 25, ""},
        {"smtp://[::1]:25", CONF_VIA_SMTP, "::1", 25, ""},
        {"smtps://Relay.example.org:465", CONF_VIA_SMTPS, "relay.example.org", 465, ""},
        {"lmtp:127.0.0.1:24", CONF_VIA_LMTP, "127.0.0.1", 24, ""},
        {"lmtp:/run/dovecot/lmtp", CONF_VIA_LMTP_UNIX, "", 25, "/run/dovecot/lmtp"},
        {"maildir:/var/mail/%d/%u", CONF_VIA_MAILDIR, "", 25, "/var/mail/%d/%u"},
        {"maildir:/m/100%%/%u", CONF_VIA_MAILDIR, "", 25, "/m/100%%/%u"},
        {"discard", CONF_VIA_DISCARD, "", 25, ""},
        {"", -1},
        {"mx:", -1},
        {"mx:0", -1},
        {"mx:65536", -1},
        {"MX", -1},
        {"smtp://relay.example.org", -1},
        {"smtp://:25", -1},
        {"smtp://relay:0", -1},
        {"smtp://a b:25", -1},
        {"smtp://::1:25", -1},
        {"smtp:relay:25", -1},
        {"lmtp:", -1},
        {"lmtp:relative", -1},
        {"maildir:relative/%u", -1},
        {"maildir:/m/%x", -1},
        {"maildir:/m/%", -1},
        {"discard:", -1},
        {"http://x:1", -1},
    };
    struct arena arena = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct conf_via via;
        int err = conf_value_via(bytes_cstr(cases[i].input), &arena, &via);
        if (err != (cases[i].kind < 0 ? E_SYNTAX : 0))
            fail_msg("'%s': got %d", cases[i].input, err);
        if (err)
            continue;
        assert_int_equal(via.kind, cases[i].kind);
        assert_int_equal(via.port, cases[i].port);
        assert_true(bytes_eq(via.host, bytes_cstr(cases[i].host)));
        assert_true(bytes_eq(via.path, bytes_cstr(cases[i].path)));
    }
    arena_done(&arena);
}

static void test_format(void **state)
{
    struct buf out = {0};
    conf_format_duration(5400000, &out);
    buf_add_byte(&out, ' ');
    conf_format_duration(432000000, &out);
    buf_add_byte(&out, ' ');
    conf_format_size(26214400, &out);
    buf_add_byte(&out, ' ');
    conf_format_size(1000, &out);
    buf_add_byte(&out, ' ');
    conf_format_decimal(1750, &out);
    buf_add_byte(&out, ' ');
    conf_format_decimal(2000, &out);
    assert_string_equal(buf_cstr(&out), "1h30m 5d 25MiB 1000 1.75 2");
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_duration),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_count_and_decimal),
        cmocka_unit_test(test_endpoint),
        cmocka_unit_test(test_server),
        cmocka_unit_test(test_hostname),
        cmocka_unit_test(test_pattern),
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_cidr),
        cmocka_unit_test(test_via),
        cmocka_unit_test(test_format),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
