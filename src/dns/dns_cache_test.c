// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "dns/dns_cache.h"
#include "dns/dns_test_backend.h"
#include "sys/sys_test_loop.h"

static const struct dns_test_rule zone[] = {
    {"a.example", DNS_MX, DNS_OK, {"10 mx.example"}, 3600, 20},
    {"b.example", DNS_MX, DNS_OK, {"10 mx.example"}, 1, 0},
    {"never.example", DNS_MX, DNS_OK, {"10 mx.example"}, 0, 0},
    {"mx.example", DNS_A, DNS_OK, {"192.0.2.1"}, 3600, 0},
    {"null.example", DNS_MX, DNS_OK, {"0 ."}, 3600, 0},
    {"bare.example", DNS_TXT, DNS_OK, {NULL}, 3600, 0},
    {"fail.example", DNS_MX, DNS_SERVFAIL, {NULL}, 0, 0},
    {"slow.example", DNS_MX, DNS_OK, {"10 mx.example"}, 3600, 300},
    {"silent.example", DNS_MX, DNS_OK, {NULL}, 0, DNS_TEST_SILENT},
};

static struct sys_loop *loop, *workers[2];
static struct dns *dns;
static struct dns_cache *cache;

struct asker {
    struct dns_ask ask;
    const char *domain;
    enum dns_mx_kind kind;
    int64_t wait_ms;
    struct dns_mx *mx;
    sem_t done;
};

static void on_done(struct dns_ask *ask, struct dns_mx *mx)
{
    struct asker *a = container_of(ask, struct asker, ask);
    CHECK(!a->mx && !ask->request);
    a->mx = mx;
    sem_post(&a->done);
}

static void begin(void *ctx)
{
    struct asker *a = ctx;
    a->ask.done = on_done;
    dns_cache_ask(cache, &a->ask, bytes_cstr(a->domain), a->kind,
                  mono_add_ms(sys_mono(), a->wait_ms));
    CHECK(!a->mx);
}

static void start_ask(struct asker *a, int worker, const char *domain, int64_t wait_ms)
{
    *a = (struct asker){.domain = domain, .wait_ms = wait_ms};
    sem_init(&a->done, 0, 0);
    test_on_loop(workers[worker], begin, a);
}

static enum dns_mx_outcome finish_ask(struct asker *a)
{
    assert_true(test_wait(&a->done));
    enum dns_mx_outcome outcome = a->mx->outcome;
    dns_mx_free(a->mx);
    return outcome;
}

static enum dns_mx_outcome ask_for(const char *domain, int64_t wait_ms)
{
    struct asker a;
    start_ask(&a, 0, domain, wait_ms);
    return finish_ask(&a);
}

static uint32_t ttl_of(const char *domain)
{
    struct asker a;
    start_ask(&a, 0, domain, 5000);
    assert_true(test_wait(&a.done));
    uint32_t ttl_s = a.mx->ttl_s;
    dns_mx_free(a.mx);
    return ttl_s;
}

static void nothing(void *ctx)
{
}

static unsigned asked(void)
{
    test_on_loop(loop, nothing, NULL); // what the resolver's loop did before is seen
    return dns_test_asked(dns);
}

static void start_all(const struct dns_cache_limits *limits)
{
    loop = sys_loop_start("dns");
    workers[0] = sys_loop_start("worker-0");
    workers[1] = sys_loop_start("worker-1");
    dns = dns_test_new(loop, zone, COUNT_OF(zone));
    cache = dns_cache_new(dns, loop, limits);
}

static int setup(void **state)
{
    start_all(NULL);
    return 0;
}

static int setup_small(void **state)
{
    start_all(&(struct dns_cache_limits){3, 500, 500, 2000});
    return 0;
}

static int setup_few_lookups(void **state)
{
    start_all(&(struct dns_cache_limits){500, 4, 8, 200});
    return 0;
}

static int teardown(void **state)
{
    sys_loop_stop(loop);
    sys_loop_stop(workers[0]);
    sys_loop_stop(workers[1]);
    dns_cache_free(cache);
    dns_test_free(dns);
    return 0;
}

#define CROWD 100

static void one_lookup_for_a_crowd(void **state)
{
    static struct asker crowd[CROWD];
    for (int i = 0; i < CROWD; i++)
        start_ask(&crowd[i], i % 2, i % 3 ? "a.example" : "A.Example.", 5000);
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(finish_ask(&crowd[i]), DNS_MX_FOUND);
    assert_int_equal(asked(), 3); // MX, A, AAAA
    assert_int_equal(ask_for("a.example", 5000), DNS_MX_FOUND);
    assert_int_equal(asked(), 3);
}

static void remembers_each_outcome(void **state)
{
    static const struct {
        const char *domain;
        enum dns_mx_outcome outcome;
        enum dns_verdict verdict;
    } rows[] = {
        {"b.example", DNS_MX_FOUND, DNS_EXISTS}, // its TTL of 1 s is less than the least
        {"null.example", DNS_MX_NULL, DNS_NULL_MX},
        {"bare.example", DNS_MX_NO_ADDRESS, DNS_EXISTS},
        {"gone.example", DNS_MX_NO_DOMAIN, DNS_NO_DOMAIN},
        {"fail.example", DNS_MX_TEMPORARY, DNS_UNKNOWN},
        {"[192.0.2.1]", DNS_MX_FOUND, DNS_EXISTS},
        {"not..possible", DNS_MX_NO_DOMAIN, DNS_NO_DOMAIN},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(ask_for(rows[i].domain, 5000), rows[i].outcome);
        assert_int_equal(dns_verdict_of(&(struct dns_mx){.outcome = rows[i].outcome}),
                         rows[i].verdict);
        unsigned before = asked();
        assert_int_equal(ask_for(rows[i].domain, 5000), rows[i].outcome);
        assert_int_equal(asked(), before);
    }
    struct asker by_host = {.domain = "null.example", .kind = DNS_BY_HOST, .wait_ms = 5000};
    sem_init(&by_host.done, 0, 0);
    test_on_loop(workers[0], begin, &by_host);
    assert_int_equal(finish_ask(&by_host), DNS_MX_NO_ADDRESS); // another question, another entry
    char too_long[400];
    memset(too_long, 'a', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    assert_int_equal(ask_for(too_long, 5000), DNS_MX_NO_DOMAIN);
}

// What has been kept for a while is told with the rest of its time; no time at all is the least time.
static void tells_the_rest_of_the_time(void **state)
{
    assert_int_equal(ttl_of("null.example"), 3600);
    assert_int_equal(ttl_of("b.example"), DNS_CACHE_TTL_MIN_S);
    assert_int_equal(ttl_of("never.example"), DNS_CACHE_TTL_MIN_S);
    sleep(2);
    assert_in_range(ttl_of("null.example"), 3500, 3598);
    assert_in_range(ttl_of("b.example"), 1, DNS_CACHE_TTL_MIN_S - 2);
}

// Who can't wait is told in time; the lookup goes on for the next who asks.
static void deadline_is_the_asker_s(void **state)
{
    assert_int_equal(ask_for("slow.example", 50), DNS_MX_TEMPORARY);
    assert_int_equal(ask_for("slow.example", 5000), DNS_MX_FOUND);
    assert_int_equal(asked(), 3);
    assert_int_equal(ask_for("silent.example", 50), DNS_MX_TEMPORARY);
    assert_int_equal(ask_for("silent.example", 50), DNS_MX_TEMPORARY);
    assert_int_equal(asked(), 4); // still the first one
}

static void cancel(void *ctx)
{
    dns_cache_cancel(&((struct asker *)ctx)->ask);
    dns_cache_cancel(&((struct asker *)ctx)->ask);
}

static void cancelled(void **state)
{
    struct asker a;
    start_ask(&a, 0, "slow.example", 100);
    test_on_loop(workers[0], cancel, &a);
    assert_int_equal(ask_for("slow.example", 5000), DNS_MX_FOUND);
    test_on_loop(workers[0], nothing, NULL);
    assert_null(a.mx);
}

// Three entries at most: the one not asked for longest goes.
static void bounded(void **state)
{
    ask_for("b.example", 5000);
    ask_for("null.example", 5000);
    ask_for("bare.example", 5000);
    ask_for("b.example", 5000);
    ask_for("gone.example", 5000); // null.example goes
    unsigned before = asked();
    ask_for("b.example", 5000);
    ask_for("bare.example", 5000);
    ask_for("gone.example", 5000);
    assert_int_equal(asked(), before);
    ask_for("null.example", 5000);
    assert_int_equal(asked(), before + 1);
    struct asker busy[4];
    static const char *const silent[] = {"silent.example", "slow.example", "a.example",
                                         "fail.example"};
    for (int i = 0; i < 4; i++)
        start_ask(&busy[i], i % 2, silent[i], 1000);
    assert_int_equal(finish_ask(&busy[1]), DNS_MX_FOUND);
    assert_int_equal(finish_ask(&busy[2]), DNS_MX_FOUND);
    assert_int_equal(finish_ask(&busy[3]), DNS_MX_TEMPORARY); // refused or failed, never stuck
    assert_int_equal(finish_ask(&busy[0]), DNS_MX_TEMPORARY);
}

// More domains than may be looked up at once: they wait for their turn, none is refused.
#define FLOOD 1500
static void a_flood_waits(void **state)
{
    static struct asker askers[FLOOD];
    static char names[FLOOD][24];
    for (int i = 0; i < FLOOD; i++) {
        snprintf(names[i], sizeof names[i], "m%d.many.example", i);
        start_ask(&askers[i], i % 2, names[i], 20000);
    }
    for (int i = 0; i < FLOOD; i++)
        assert_int_equal(finish_ask(&askers[i]), DNS_MX_FOUND);
}

// Far more silent domains than places.
#define SILENT 80
static struct asker silent[SILENT];

static void start_silent(void)
{
    static char names[SILENT][24];
    for (int i = 0; i < SILENT; i++) {
        snprintf(names[i], sizeof names[i], "s%d.mute.example", i);
        start_ask(&silent[i], 0, names[i], 60000);
    }
}

static void cancel_silent(int first)
{
    for (int i = first; i < SILENT; i++) {
        test_on_loop(workers[0], cancel, &silent[i]);
        dns_mx_free(silent[i].mx); // it may have its answer
    }
}

// All but the last, which may take their time.
static void finish_silent(void)
{
    for (int i = 0; i < SILENT - 12; i++)
        assert_int_equal(finish_ask(&silent[i]), DNS_MX_TEMPORARY);
    cancel_silent(SILENT - 12);
}

// They give their places up, and so the others are found.
static void silent_domains_delay_themselves(void **state)
{
    start_silent();
    assert_int_equal(ask_for("a.example", 15000), DNS_MX_FOUND);
    finish_silent();
}

// What was silent last time leaves half of the places to the others, which need not wait then.
static void known_silent_domains_wait(void **state)
{
    start_silent();
    finish_silent();
    sleep(DNS_CACHE_TTL_TEMPORARY_S);
    start_silent();
    assert_int_equal(ask_for("a.example", 1500), DNS_MX_FOUND);
    cancel_silent(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_lookup_for_a_crowd, setup, teardown),
        cmocka_unit_test_setup_teardown(remembers_each_outcome, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_the_rest_of_the_time, setup, teardown),
        cmocka_unit_test_setup_teardown(deadline_is_the_asker_s, setup, teardown),
        cmocka_unit_test_setup_teardown(cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(bounded, setup_small, teardown),
        cmocka_unit_test_setup_teardown(a_flood_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_domains_delay_themselves, setup_few_lookups,
                                        teardown),
        cmocka_unit_test_setup_teardown(known_silent_domains_wait, setup_few_lookups, teardown),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
