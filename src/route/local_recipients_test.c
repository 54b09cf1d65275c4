// SPDX-License-Identifier: MIT
#include "route/local_recipients.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/test_base.h"

static const char TABLE[] =
    "# our people\n"
    "option subaddress +\n"
    "anna@example.org\r\n"
    "  bert@example.org   # his own\n"
    "o'hara#1@example.org\n"
    "postmaster@example.org: anna@example.org, ops@example.net\n"
    "all@example.org: staff@example.org, carl@elsewhere.example\n"
    "staff@example.org: anna@example.org, Bert@Example.ORG, all@example.org\n"
    "carl@example.org: carl@example.org, carl@elsewhere.example\n"
    "\"odd, one\"@example.org: anna@example.org\n"
    "list+owner@example.org: bert@example.org\n"
    "tag@example.org: anna+x@example.org\n"
    "Case@example.org: Case@Example.org, Carl.Smith@Elsewhere.EXAMPLE, "
    "carl.smith@elsewhere.example,"
    " \"Odd One\"@M\xc3\xbcller.test, Anna@Example.Org\n"
    "crew@example.org: carl@example.org, bert@example.org, carl@example.org\n"
    "dave@example.org: band@example.org, dave@example.org, Dave@example.org\n"
    "band@example.org: dave@example.org, bert@example.org\n"
    "@catch.example\n"
    "@one.example: anna@example.org\n"
    "bert@one.example\n"
    "m\xc3\xbc@example.org\n"
    "u@m\xc3\xbcller.example\n";

static struct local_recipients *parse(const char *text)
{
    struct local_recipients *t;
    struct buf errors = {0};
    if (local_recipients_parse(bytes_cstr(text), "users", &t, &errors) != OK)
        fail_msg("%s", buf_cstr(&errors));
    buf_done(&errors);
    return t;
}

static void answers(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        enum local_answer want;
        const char *targets; // sorted as they come
    } rows[] = {
        {"anna@example.org", LOCAL_MAILBOX, "anna@example.org"},
        {"ANNA@EXAMPLE.ORG", LOCAL_MAILBOX, "anna@example.org"},
        {"anna+shop@example.org", LOCAL_MAILBOX, "anna@example.org"},
        {"bert@example.org", LOCAL_MAILBOX, "bert@example.org"},
        {"o'hara#1@example.org", LOCAL_MAILBOX, "o'hara#1@example.org"},
        {"dora@example.org", LOCAL_UNKNOWN, ""},
        {"dora+anna@example.org", LOCAL_UNKNOWN, ""},
        {"+anna@example.org", LOCAL_UNKNOWN, ""},
        {"anna@other.example", LOCAL_UNKNOWN, ""},
        {"not an address", LOCAL_UNKNOWN, ""},
        {"", LOCAL_UNKNOWN, ""},
        {"@example.org", LOCAL_UNKNOWN, ""},
        {"postmaster@example.org", LOCAL_ALIAS, "anna@example.org ops@example.net"},
        {"postmaster+x@example.org", LOCAL_ALIAS, "anna@example.org ops@example.net"},
        {"all@example.org", LOCAL_ALIAS,
         "anna@example.org bert@example.org carl@elsewhere.example"},
        {"staff@example.org", LOCAL_ALIAS,
         "anna@example.org bert@example.org carl@elsewhere.example"},
        {"carl@example.org", LOCAL_ALIAS, "carl@example.org carl@elsewhere.example"},
        {"\"odd, one\"@example.org", LOCAL_ALIAS, "anna@example.org"},
        {"list+owner@example.org", LOCAL_ALIAS, "bert@example.org"},
        {"tag@example.org", LOCAL_ALIAS, "anna@example.org"},
        {"CASE@example.org", LOCAL_ALIAS,
         "case@example.org Carl.Smith@elsewhere.example \"Odd One\"@xn--mller-kva.test "
         "anna@example.org"},
        {"crew@example.org", LOCAL_ALIAS,
         "carl@example.org carl@elsewhere.example bert@example.org"},
        {"dave@example.org", LOCAL_ALIAS, "dave@example.org bert@example.org"},
        {"band@example.org", LOCAL_ALIAS, "bert@example.org dave@example.org"},
        {"whoever@catch.example", LOCAL_MAILBOX, "whoever@catch.example"},
        {"whoever@one.example", LOCAL_ALIAS, "anna@example.org"},
        {"bert@one.example", LOCAL_MAILBOX, "bert@one.example"},
        {"m\xc3\xbc@example.org", LOCAL_MAILBOX, "m\xc3\xbc@example.org"},
        {"u@xn--mller-kva.example", LOCAL_MAILBOX, "u@xn--mller-kva.example"},
        {"u@m\xc3\xbcller.example", LOCAL_MAILBOX, "u@xn--mller-kva.example"},
    };
    struct local_recipients *t = parse(TABLE);
    assert_number("entries", local_recipients_count(t), 19);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena arena = {0};
        struct bytes *targets;
        size_t count;
        struct buf all = {0};
        assert_number(
            rows[i].address,
            local_recipients_find(t, bytes_cstr(rows[i].address), &arena, &targets, &count),
            rows[i].want);
        for (size_t k = 0; k < count; k++)
            buf_printf(&all, "%s%.*s", k ? " " : "", BYTES_FMT(targets[k]));
        assert_bytes(rows[i].address, buf_bytes(&all), bytes_cstr(rows[i].targets));
        buf_done(&all);
        arena_done(&arena);
    }
    local_recipients_free(t);
}

static void without_the_option_a_plus_is_a_letter(void **state)
{
    (void)state;
    struct local_recipients *t = parse("anna@example.org\n");
    struct arena arena = {0};
    struct bytes *targets;
    size_t count;
    assert_int_equal(
        local_recipients_find(t, BYTES("anna+x@example.org"), &arena, &targets, &count),
        LOCAL_UNKNOWN);
    arena_done(&arena);
    local_recipients_free(t);
}

static void tells_errors_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"anna@example.org\nbert\n", "users:2: error: 'bert' is not an address"},
        {"a@example.org: \n", "users:1: error: an address is missing in the list"},
        {"a@example.org: b@example.net,,c@example.net\n", "users:1: error: an address is missing"},
        {"a@example.org: @example.net\n", "users:1: error: '@example.net' is not an address"},
        {"a@example.org\n\nA@EXAMPLE.org\n",
         "users:3: error: A@EXAMPLE.org is listed twice; it was first in line 1"},
        {"a@example.org: b@example.org\n", "a@example.org names b@example.org, who is not listed"},
        {"a@example.org: b@example.org\nb@example.org: a@example.org\n",
         "leads to nobody but itself"},
        {"option fast\n", "users:1: error: unknown option 'fast'"},
        {"option subaddress ++\n", "option subaddress wants one of"},
        {"a\x01@example.org\n", "users:1: error: the line is not UTF-8 text"},
        {"\xff@example.org\n", "users:1: error: the line is not UTF-8 text"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct local_recipients *t;
        struct buf errors = {0};
        assert_int_equal(local_recipients_parse(bytes_cstr(rows[i].text), "users", &t, &errors),
                         E_SYNTAX);
        assert_null(t);
        if (!strstr(buf_cstr(&errors), rows[i].want))
            fail_msg("\"%s\" is not in \"%s\"", rows[i].want, buf_cstr(&errors));
        buf_done(&errors);
    }
}

static void has_limits(void **state)
{
    (void)state;
    struct buf chain = {0}, wide = {0}, line = {0}, many = {0}, errors = {0};
    for (int i = 0; i < LOCAL_DEPTH_MAX + 1; i++)
        buf_printf(&chain, "a%d@x.example: a%d@x.example\n", i, i + 1);
    buf_printf(&chain, "a%d@x.example\n", LOCAL_DEPTH_MAX + 1);
    for (int i = 0; i <= LOCAL_TARGETS_MAX; i++)
        buf_printf(&wide, "a%d@x.example: b%d@y.example\n", i, i);
    for (int i = 0; i <= LOCAL_TARGETS_MAX; i += 100) {
        buf_printf(&wide, "list%d@x.example: ", i / 100);
        for (int k = i; k < i + 100 && k <= LOCAL_TARGETS_MAX; k++)
            buf_printf(&wide, "%sa%d@x.example", k > i ? "," : "", k);
        buf_printf(&wide, "\n");
    }
    buf_printf(&wide, "every@x.example: list0@x.example");
    for (int i = 1; i <= LOCAL_TARGETS_MAX / 100; i++)
        buf_printf(&wide, ",list%d@x.example", i);
    for (int i = 0; i < LOCAL_LINE_MAX; i++)
        buf_add_byte(&line, 'a');
    buf_printf(&line, "@x.example\n");
    for (int i = 0; i < 60; i++)
        buf_printf(&many, "nobody\n");
    struct {
        struct buf *text;
        const char *want;
    } rows[] = {{&chain, "too many aliases in a row"},
                {&wide, "expands to too many addresses"},
                {&line, "the line is longer than 8192 bytes"},
                {&many, "users: error: 10 more errors"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct local_recipients *t;
        buf_clear(&errors);
        assert_int_equal(local_recipients_parse(buf_bytes(rows[i].text), "users", &t, &errors),
                         E_SYNTAX);
        if (!strstr(buf_cstr(&errors), rows[i].want))
            fail_msg("\"%s\" is not in \"%s\"", rows[i].want, buf_cstr(&errors));
        buf_done(rows[i].text);
    }
    buf_done(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(without_the_option_a_plus_is_a_letter),
        cmocka_unit_test(tells_errors_with_their_line),
        cmocka_unit_test(has_limits),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
