// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sys/sys_sockaddr.h"

struct row {
    const char *input;
    int err;
    const char *want;
};

static const struct row full[] = {
    {"192.0.2.1:25", OK, "192.0.2.1:25"},
    {"192.0.2.1@5353", OK, "192.0.2.1:5353"},
    {"0.0.0.0:0", OK, "0.0.0.0:0"},
    {"[2001:DB8::1]:587", OK, "[2001:db8::1]:587"},
    {"2001:db8::1@53", OK, "[2001:db8::1]:53"},
    {"[::]:65535", OK, "[::]:65535"},
    {"[::ffff:192.0.2.7]:25", OK, "192.0.2.7:25"},
    {"unix:/run/x", OK, "unix:/run/x"},
    {"/run/x", OK, "unix:/run/x"},
    {"", E_SYNTAX, NULL},
    {"192.0.2.1", E_SYNTAX, NULL},
    {"192.0.2.1:", E_SYNTAX, NULL},
    {"192.0.2.1:65536", E_SYNTAX, NULL},
    {"192.0.2.1:-1", E_SYNTAX, NULL},
    {"192.0.2.1:000025", E_SYNTAX, NULL},
    {"2001:db8::1:25", E_SYNTAX, NULL},
    {"[2001:db8::1:25", E_SYNTAX, NULL},
    {"[]:25", E_SYNTAX, NULL},
    {"[fe80::1%eth0]:25", E_SYNTAX, NULL},
    {"192.0.2.01.5:25", E_SYNTAX, NULL},
    {"1.2.3:25", E_SYNTAX, NULL},
    {"host:25", E_SYNTAX, NULL},
    {"unix:", E_SYNTAX, NULL},
    {"unix:relative", E_SYNTAX, NULL},
    {"/", E_SYNTAX, NULL},
};

static void parses(void **state)
{
    for (size_t i = 0; i < COUNT_OF(full); i++) {
        struct sys_addr addr;
        char text[SYS_ADDR_TEXT];
        assert_int_equal(sys_addr_parse(bytes_cstr(full[i].input), &addr), full[i].err);
        if (full[i].err == OK)
            assert_string_equal(sys_addr_format(&addr, text), full[i].want);
    }
}

static const struct row alone[] = {
    {"192.0.2.1", OK, "192.0.2.1"},
    {"[192.0.2.1]", OK, "192.0.2.1"},
    {"[IPv6:2001:db8::1]", OK, "2001:db8::1"},
    {"ipv6:::1", OK, "::1"},
    {"[IPv6:::ffff:127.0.0.1]", OK, "127.0.0.1"},
    {"[IPv6:192.0.2.1]", E_SYNTAX, NULL},
    {"[192.0.2.1", E_SYNTAX, NULL},
    {"[", E_SYNTAX, NULL},
    {"192.0.2.1 ", E_SYNTAX, NULL},
    {"", E_SYNTAX, NULL},
};

static void parses_alone(void **state)
{
    for (size_t i = 0; i < COUNT_OF(alone); i++) {
        struct sys_addr addr;
        char text[SYS_ADDR_TEXT];
        assert_int_equal(sys_addr_parse_ip(bytes_cstr(alone[i].input), 25, &addr), alone[i].err);
        if (alone[i].err == OK) {
            assert_string_equal(sys_addr_format_ip(&addr, text), alone[i].want);
            assert_int_equal(addr.port, 25);
        }
    }
    struct sys_addr addr;
    assert_int_equal(sys_addr_parse_ip(bytes_of("1.2.3.4\0x", 9), 25, &addr), E_SYNTAX);
    char path[200];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    assert_int_equal(sys_addr_parse(bytes_of(path, 107), &addr), OK);
    assert_int_equal(sys_addr_parse(bytes_of(path, 108), &addr), E_LIMIT);
}

static void sockaddr_round_trip(void **state)
{
    static const char *const texts[] = {"192.0.2.1:25", "[2001:db8::1]:25", "unix:/run/some.sock"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct sys_addr addr, back;
        struct sockaddr_storage sockaddr;
        assert_int_equal(sys_addr_parse(bytes_cstr(texts[i]), &addr), OK);
        socklen_t len = sys_addr_to_sockaddr(&addr, &sockaddr);
        assert_true(len > 0);
        sys_addr_from_sockaddr(&sockaddr, len, &back);
        assert_true(sys_addr_eq(&addr, &back));
    }
}

static void compares(void **state)
{
    struct sys_addr a, b;
    assert_int_equal(sys_addr_parse(BYTES("192.0.2.1:25"), &a), OK);
    assert_int_equal(sys_addr_parse(BYTES("192.0.2.1:26"), &b), OK);
    assert_false(sys_addr_eq(&a, &b));
    assert_int_equal(sys_addr_parse(BYTES("[::ffff:192.0.2.1]:25"), &b), OK);
    assert_true(sys_addr_eq(&a, &b));
}

// Only what a random_below() of our own can get wrong: the range, and that all of it is reached.
static uint64_t next_random;
void sys_random(void *out, size_t bytes)
{
    next_random = next_random * 6364136223846793005u + 1442695040888963407u;
    memcpy(out, &next_random, bytes);
}

struct sys_loop *sys_loop_self(void)
{
    return NULL;
}

struct sys_core *sys_core_of(struct sys_loop *loop);
struct sys_core *sys_core_of(struct sys_loop *loop)
{
    return NULL;
}

static void random_below(void **state)
{
    unsigned seen[7] = {0};
    for (int i = 0; i < 7000; i++)
        seen[sys_random_below(7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 700, 1300);
    assert_int_equal(sys_random_below(1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(parses_alone),
        cmocka_unit_test(sockaddr_round_trip),
        cmocka_unit_test(compares),
        cmocka_unit_test(random_below),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
