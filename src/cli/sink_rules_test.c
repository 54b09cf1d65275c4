// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "cli/sink_rules.h"

static void errors_name_their_line(void **state)
{
    static const struct {
        const char *line, *wrong;
    } cases[] = {
        {"* rcpt", "the action is"},
        {"* lunch accept", "the step is"},
        {"a.test connect accept", "write * for who"},
        {"* rcpt 101% accept", "a percentage"},
        {"* rcpt first x accept", "want a number"},
        {"* rcpt refuse 451 no", "from 500 to 599"},
        {"* rcpt defer 550 no", "from 400 to 499"},
        {"* rcpt delay soon", "delay wants"},
        {"* rcpt delay 86400001", "delay wants"},
        {"* content drop x", "drop wants"},
        {"* rcpt accept this", "the action is"},
        {"* rcpt lose", "at step final only"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf text = {0}, errors = {0};
        struct sink_rules *rules = NULL;
        buf_printf(&text, "# comment\n\n%s\n* rcpt accept\n", cases[i].line);
        assert_int_equal(sink_rules_parse(buf_bytes(&text), "FILE", &rules, &errors), E_SYNTAX);
        assert_null(rules);
        if (!bytes_starts(buf_bytes(&errors), BYTES("FILE:3: error: ")) ||
            bytes_search(buf_bytes(&errors), bytes_cstr(cases[i].wrong)) < 0)
            fail_msg("%s: %s", cases[i].line, buf_cstr(&errors));
        buf_done(&text);
        buf_done(&errors);
    }
}

static struct sink_rules *parse(const char *text)
{
    struct buf errors = {0};
    struct sink_rules *rules;
    assert_int_equal(sink_rules_parse(bytes_cstr(text), "FILE", &rules, &errors), OK);
    return rules;
}

static struct sink_verdict ask(struct sink_rules *rules, const char *address, int64_t ms)
{
    struct bytes who = bytes_cstr(address);
    return sink_rules_ask(rules, SINK_RCPT, &who, 1, (struct mono){ms * 1000});
}

static void the_first_rule_that_holds_decides(void **state)
{
    struct sink_rules *rules = parse("me@A.test rcpt accept\n"
                                     "a.test RCPT refuse 553 5.1.1 nobody\\nreally\n"
                                     "* rcpt delay 20\n"
                                     "* rcpt delay 30\n"
                                     "c.test rcpt drop\n"
                                     "* mail refuse\n");
    assert_int_equal(ask(rules, "ME@a.test", 0).kind, SINK_ACCEPT);
    assert_int_equal(ask(rules, "you@a.TEST", 0).code, 553);
    assert_true(bytes_eq(ask(rules, "you@a.test", 0).text, BYTES("5.1.1 nobody\nreally")));
    assert_int_equal(ask(rules, "x@sub.a.test", 0).kind, SINK_ACCEPT);
    assert_int_equal(ask(rules, "x@sub.a.test", 0).delay_ms, 50);
    assert_int_equal(ask(rules, "x@c.test", 0).kind, SINK_DROP);
    sink_rules_free(rules);
    assert_int_equal(sink_rules_ask(NULL, SINK_DATA, NULL, 0, (struct mono){0}).kind, SINK_ACCEPT);
}

static void first_and_after_count_each_address(void **state)
{
    struct sink_rules *rules = parse("* rcpt first 2 defer\n* rcpt after 1 refuse\n");
    static const uint16_t want[] = {451, 451, 0, 550, 550};
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        assert_int_equal(ask(rules, "a@x.test", 0).code, want[i]);
        assert_int_equal(ask(rules, "b@x.test", 0).code, want[i]);
    }
    sink_rules_free(rules);
}

static void rate_is_of_each_second(void **state)
{
    struct sink_rules *rules = parse("* rcpt rate 3 defer 450 4.7.0 slow down\n");
    for (int second = 1; second < 4; second++)
        for (int i = 0; i < 5; i++)
            assert_int_equal(ask(rules, "a@x.test", second * 1000 + i).code, i < 3 ? 0 : 450);
    sink_rules_free(rules);
}

static void percentages_are_chances(void **state)
{
    struct sink_rules *rules = parse("* rcpt 30% refuse\n");
    int refused = 0;
    for (int i = 0; i < 10000; i++)
        refused += ask(rules, "a@x.test", 0).kind == SINK_REPLY;
    assert_true(refused > 2600 && refused < 3400);
    sink_rules_free(rules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_name_their_line),
        cmocka_unit_test(the_first_rule_that_holds_decides),
        cmocka_unit_test(first_and_after_count_each_address),
        cmocka_unit_test(rate_is_of_each_second),
        cmocka_unit_test(percentages_are_chances),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
