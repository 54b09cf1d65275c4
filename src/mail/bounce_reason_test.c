// SPDX-License-Identifier: MIT
#include "mail/bounce_reason.h"

#include "base/check.h"
#include "base/test_base.h"

// The words scripts and journals rely on, in their order.
static const char *const WORDS[] = {
    "",
    "user-unknown",
    "mailbox-full",
    "mailbox-disabled",
    "host-unknown",
    "message-too-large",
    "spam",
    "policy",
    "authentication",
    "reputation",
    "rate-limited",
    "relaying-denied",
    "content",
    "network",
    "tls",
    "protocol",
    "expired",
    "system",
    "suspended",
    "moved",
    "complaint",
    "vacation",
    "delivered",
    "other",
};

static void names_go_there_and_back(void **state)
{
    (void)state;
    enum bounce_reason back;
    assert_int_equal(COUNT_OF(WORDS), BOUNCE_REASONS);
    for (unsigned i = 0; i < BOUNCE_REASONS; i++)
        assert_bytes(WORDS[i], bytes_cstr(bounce_reason_name((enum bounce_reason)i)),
                     bytes_cstr(WORDS[i]));
    for (unsigned i = 1; i < BOUNCE_REASONS; i++) {
        assert_int_equal(bounce_reason_parse(bytes_cstr(WORDS[i]), &back), OK);
        assert_number(WORDS[i], back, i);
    }
}

static void others_are_no_reasons(void **state)
{
    (void)state;
    static const char *const ROWS[] = {"", "none", "User-Unknown", "user-unknown ", "user"};
    enum bounce_reason back;
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        assert_number(ROWS[i], bounce_reason_parse(bytes_cstr(ROWS[i]), &back), E_SYNTAX);
    assert_string_equal(bounce_reason_name((enum bounce_reason)BOUNCE_REASONS), "");
}

static void few_are_about_the_address(void **state)
{
    (void)state;
    unsigned about = 0;
    for (unsigned i = 0; i < BOUNCE_REASONS; i++)
        about += bounce_reason_is_about_address((enum bounce_reason)i);
    assert_int_equal(about, 4);
    assert_false(bounce_reason_is_about_address(BOUNCE_SUSPENDED));
    assert_false(bounce_reason_is_about_address(BOUNCE_REPUTATION));
    assert_false(bounce_reason_is_about_address(BOUNCE_MAILBOX_FULL));
    assert_true(bounce_reason_is_about_address(BOUNCE_USER_UNKNOWN));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(names_go_there_and_back),
    cmocka_unit_test(others_are_no_reasons),
    cmocka_unit_test(few_are_about_the_address),
};
RUN_TESTS(tests)
