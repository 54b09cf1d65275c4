// SPDX-License-Identifier: MIT
#include "api/alert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"

#define LOOK_MS 10000
#define DAY_MS 86400000ll

static struct alerts *alerts;
static struct alert_facts facts;
static struct alert_limits limits = {7 * DAY_MS, 3600000};
static struct mono now;
static char told[8192]; // "+disk " raised, "-disk " over

static void on_change(void *ctx, enum alert_id id, bool raised, const char *text)
{
    size_t len = strlen(told);
    assert_true(text[0] != '\0');
    snprintf(told + len, sizeof told - len, "%c%s ", raised ? '+' : '-', alert_name(id));
}

static void look(int times)
{
    for (; times > 0; times--) {
        now = mono_add_ms(now, LOOK_MS);
        alerts_look(alerts, &facts, &limits, now, (struct wall){now.us}, on_change, NULL);
    }
}

static int set_up(void **state)
{
    alerts = calloc(1, sizeof *alerts);
    facts = (struct alert_facts){.disk = BYTES("/spool"), .disk_percent = 50, .accepting = true};
    now = (struct mono){1000000};
    told[0] = '\0';
    look(3);
    assert_string_equal(told, "");
    return alerts == NULL;
}

static int tear_down(void **state)
{
    free(alerts);
    return 0;
}

static void test_raised_once_and_over_once(void **state)
{
    facts.disk_percent = 4;
    look(1);
    assert_string_equal(told, ""); // once is no alert
    look(100);
    assert_string_equal(told, "+disk ");
    assert_true(alert_is_raised(alerts, ALERT_DISK));
    facts.disk_percent = 6; // between: as it was
    look(100);
    assert_string_equal(told, "+disk ");
    facts.disk_percent = 8;
    look(2);
    assert_string_equal(told, "+disk ");
    look(1);
    assert_string_equal(told, "+disk -disk ");
    assert_false(alert_is_raised(alerts, ALERT_DISK));
}

static void test_no_storm(void **state)
{
    for (int i = 0; i < 100; i++) { // in and out again, for 5000 s
        facts.accepting = i % 2;
        look(5);
    }
    size_t raised = 0;
    for (const char *at = told; (at = strchr(at, '+')) != NULL; at++)
        raised++;
    assert_in_range(raised, 2, 9); // at most one in ten minutes
    facts.accepting = true;
    look(200);
    assert_true(told[strlen(told) - strlen("-spool ")] == '-');
}

static void test_certificate(void **state)
{
    facts.has_certificate = true;
    facts.certificate_left_ms = 8 * DAY_MS;
    look(5);
    assert_string_equal(told, "");
    facts.certificate_left_ms = 6 * DAY_MS;
    look(5);
    assert_string_equal(told, "+certificate ");
    facts.certificate_left_ms = 90 * DAY_MS;
    look(3);
    assert_string_equal(told, "+certificate -certificate ");
}

static void test_resolver(void **state)
{
    facts.dns_answered = 100;
    look(2);
    facts.dns_failed = 4;
    look(10);
    assert_string_equal(told, ""); // a few
    facts.dns_failed = 6;
    look(2);
    assert_string_equal(told, "+resolver ");
    look(50);
    facts.dns_answered++;
    look(1);
    facts.dns_answered++;
    look(1);
    assert_string_equal(told, "+resolver ");
    facts.dns_answered++;
    look(1);
    assert_string_equal(told, "+resolver -resolver ");
    for (int i = 0; i < 300; i++) { // much fails, but some is answered
        facts.dns_failed += 50;
        facts.dns_answered++;
        look(1);
    }
    assert_string_equal(told, "+resolver -resolver ");
}

static void test_deferrals(void **state)
{
    facts.deferred = 30;
    look(10);
    assert_string_equal(told, ""); // too few to say
    facts.deferred = 60;
    look(2);
    assert_string_equal(told, "+deferrals ");
    facts.delivered = 100; // 60 of 160 in ten minutes
    look(10);
    assert_string_equal(told, "+deferrals ");
    facts.delivered = 1000;
    look(3);
    assert_string_equal(told, "+deferrals -deferrals ");
}

static void test_old_deferrals_leave_the_window(void **state)
{
    facts.deferred = 500;
    look(2);
    assert_string_equal(told, "+deferrals ");
    look(ALERT_WINDOW + ALERT_CLEAR_LOOKS);
    assert_string_equal(told, "+deferrals -deferrals ");
}

static void test_lane(void **state)
{
    struct alert_lane lanes[] = {{BYTES("default->a.example"), BYTES("refused"), 5},
                                 {BYTES("default->b.example"), BYTES("421 \x1b[31m"), 50}};
    facts.lanes = lanes;
    facts.lanes_count = 1;
    look(300);
    facts.lanes_count = 2;
    look(59);
    assert_string_equal(told, "");
    look(3);
    assert_string_equal(told, "+lane ");
    assert_non_null(strstr(alerts->at[ALERT_LANE].text, "a.example"));
    look(310);
    assert_non_null(strstr(alerts->at[ALERT_LANE].text, "b.example")); // more wait for it
    assert_null(strchr(alerts->at[ALERT_LANE].text, '\x1b'));
    facts.lanes_count = 0; // it moves: the hour begins anew
    look(1);
    facts.lanes_count = 2;
    look(5);
    assert_string_equal(told, "+lane -lane ");
}

static void test_many_lanes(void **state)
{
    static char names[2 * ALERT_LANES][16];
    static struct alert_lane lanes[2 * ALERT_LANES];
    for (size_t i = 0; i < COUNT_OF(lanes); i++) {
        snprintf(names[i], sizeof names[i], "lane%zu", i);
        lanes[i] = (struct alert_lane){bytes_cstr(names[i]), BYTES("refused"), i};
    }
    facts.lanes = lanes;
    facts.lanes_count = COUNT_OF(lanes);
    look(400);
    assert_string_equal(told, "+lane ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_raised_once_and_over_once),
        TEST(test_no_storm),
        TEST(test_certificate),
        TEST(test_resolver),
        TEST(test_deferrals),
        TEST(test_old_deferrals_leave_the_window),
        TEST(test_lane),
        TEST(test_many_lanes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
