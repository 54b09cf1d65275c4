// SPDX-License-Identifier: MIT
//
// Each row is one attempt at a second; '+' and '-' tell how it would end if it is let through.
#include "store/auth_guard.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/check.h"

#define GO AUTH_GUARD_GO
#define BLOCKED AUTH_GUARD_ADDRESS_BLOCKED
#define LOCKED AUTH_GUARD_LOGIN_LOCKED

static const struct auth_guard_limits limits = {3, 600000, 900000};

static struct mono at(double seconds)
{
    return (struct mono){1000000000 + (int64_t)(seconds * 1e6)};
}

static struct auth_guard_who who(const char *ip, const char *login)
{
    struct auth_guard_who w = {.login = bytes_cstr(login)};
    w.ip6 = bytes_find(bytes_cstr(ip), ':') >= 0;
    assert_int_equal(inet_pton(w.ip6 ? AF_INET6 : AF_INET, ip, w.ip), 1);
    return w;
}

struct attempt {
    double second;
    const char *ip, *login;
    char ends; // '+' right password, '-' wrong
    enum auth_guard_verdict want;
};

static void play(const char *name, const struct attempt *attempts, size_t count)
{
    struct auth_guard *guard = auth_guard_new(limits);
    for (size_t i = 0; i < count; i++) {
        const struct attempt *a = &attempts[i];
        struct auth_guard_who w = who(a->ip, a->login);
        enum auth_guard_verdict got = auth_guard_ask(guard, &w, at(a->second), NULL);
        if (got != a->want)
            fail_msg("%s, row %zu: got %d", name, i, got);
        assert_int_equal(auth_guard_is_blocked(guard, w.ip, w.ip6, at(a->second)), got == BLOCKED);
        if (got == GO)
            auth_guard_tell(guard, &w, a->ends == '+', at(a->second));
    }
    auth_guard_free(guard);
}
#define PLAY(...)                                                                                  \
    do {                                                                                           \
        static const struct attempt attempts[] = {__VA_ARGS__};                                    \
        play(__func__, attempts, COUNT_OF(attempts));                                              \
    } while (0)

static void test_e_address_is_blocked_and_let_go(void **state)
{
    PLAY({0, "192.0.2.1", "a", '-', GO}, {1, "192.0.2.1", "b", '-', GO},
         {2, "192.0.2.1", "c", '-', GO}, {3, "192.0.2.1", "d", '+', BLOCKED},
         {3, "192.0.2.2", "d", '+', GO}, // the neighbour is not
         {901, "192.0.2.1", "d", '+', BLOCKED}, {902, "192.0.2.1", "d", '+', GO},
         {903, "192.0.2.1", "a", '-', GO}, {904, "192.0.2.1", "a", '-', GO}); // counts afresh
}

static void test_e_window_slides(void **state)
{
    PLAY({0, "192.0.2.1", "a", '-', GO}, {300, "192.0.2.1", "b", '-', GO},
         {661, "192.0.2.1", "c", '-', GO}, // the first is out of the window
         {662, "192.0.2.1", "d", '+', GO}, {663, "192.0.2.1", "e", '-', GO},
         {664, "192.0.2.1", "f", '+', BLOCKED});
}

static void test_e_success_does_not_wash_the_address(void **state)
{
    PLAY({0, "192.0.2.1", "victim1", '-', GO}, {1, "192.0.2.1", "own", '+', GO},
         {2, "192.0.2.1", "victim2", '-', GO}, {3, "192.0.2.1", "own", '+', GO},
         {4, "192.0.2.1", "victim3", '-', GO}, {5, "192.0.2.1", "own", '+', BLOCKED});
}

static void test_e_ipv6_counts_by_64(void **state)
{
    PLAY({0, "2001:db8::1", "a", '-', GO}, {1, "2001:db8::2:0:0:1", "b", '-', GO},
         {2, "2001:db8::ffff:0:0:1", "c", '-', GO}, {3, "2001:db8::9", "d", '+', BLOCKED},
         {3, "2001:db8:0:1::9", "d", '+', GO});
}

static void test_e_mapped_ipv4_is_ipv4(void **state)
{
    PLAY({0, "::ffff:192.0.2.1", "a", '-', GO}, {1, "192.0.2.1", "b", '-', GO},
         {2, "::ffff:192.0.2.1", "c", '-', GO}, {3, "192.0.2.1", "d", '+', BLOCKED},
         {3, "::ffff:192.0.2.9", "d", '+', GO});
}

static void test_e_owner_is_not_locked_out(void **state)
{
    PLAY({0, "192.0.2.1", "joe", '+', GO}, // the owner, from home
         {1, "198.51.100.1", "joe", '-', GO}, {2, "198.51.100.2", "joe", '-', GO},
         {3, "198.51.100.3", "joe", '-', GO}, // a guesser with many addresses
         {4, "198.51.100.4", "joe", '-', LOCKED}, {5, "192.0.2.1", "joe", '+', GO},
         {6, "198.51.100.4", "ann", '+', GO}, // other logins go on
         {902, "198.51.100.5", "joe", '-', LOCKED}, {904, "198.51.100.6", "joe", '-', GO});
}

static void test_e_unknown_logins_are_counted_alike(void **state)
{
    PLAY({0, "198.51.100.1", "no such", '-', GO}, {1, "198.51.100.2", "no such", '-', GO},
         {2, "198.51.100.3", "no such", '-', GO}, {3, "198.51.100.4", "no such", '-', LOCKED},
         {3, "198.51.100.4", "", '-', GO});
}

static void test_e_until(void **state)
{
    struct auth_guard *guard = auth_guard_new(limits);
    struct auth_guard_who w = who("192.0.2.1", "a");
    struct mono until;
    for (int i = 0; i < 3; i++)
        auth_guard_tell(guard, &w, false, at(i));
    assert_int_equal(auth_guard_ask(guard, &w, at(10), &until), BLOCKED);
    assert_int_equal(until.us, at(902).us);
    auth_guard_free(guard);
}

// However many try, memory is bounded, and who is being guessed at right now is not forgotten.
static void test_e_bounded(void **state)
{
    struct auth_guard *guard = auth_guard_new(limits);
    struct auth_guard_who target = who("192.0.2.1", "joe");
    auth_guard_tell(guard, &target, false, at(0));
    auth_guard_tell(guard, &target, false, at(0));
    for (uint32_t i = 0; i < 2 * AUTH_GUARD_ENTRIES; i++) {
        char login[32];
        struct auth_guard_who w = {
            .login = bytes_of(login, (size_t)snprintf(login, sizeof login, "l%u", i))};
        uint32_t ip = htonl(0x0a000000 + i);
        memcpy(w.ip, &ip, 4);
        auth_guard_tell(guard, &w, false, at(1));
        if (i % 1000 == 0)
            assert_int_equal(auth_guard_ask(guard, &target, at(1), NULL), GO);
    }
    auth_guard_tell(guard, &target, false, at(2));
    assert_int_equal(auth_guard_ask(guard, &target, at(2), NULL), BLOCKED);
    auth_guard_free(guard);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_e_address_is_blocked_and_let_go),
        cmocka_unit_test(test_e_window_slides),
        cmocka_unit_test(test_e_success_does_not_wash_the_address),
        cmocka_unit_test(test_e_ipv6_counts_by_64),
        cmocka_unit_test(test_e_mapped_ipv4_is_ipv4),
        cmocka_unit_test(test_e_owner_is_not_locked_out),
        cmocka_unit_test(test_e_unknown_logins_are_counted_alike),
        cmocka_unit_test(test_e_until),
        cmocka_unit_test(test_e_bounded),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
