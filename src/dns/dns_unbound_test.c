// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "dns/dns_cache.h"
#include "dns/dns_test_server.h"
#include "dns/dns_unbound.h"
#include "sys/sys_test_loop.h"

static struct dns_test_server *server;
static struct sys_loop *loop, *asker;
static struct dns *dns;

static int setup(void **state)
{
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1@%u", dns_test_server_port(server));
    struct bytes servers[] = {bytes_cstr(text)};
    struct dns_conf conf = {.servers = servers, .server_count = 1};
    loop = sys_loop_start("dns");
    asker = sys_loop_start("asker");
    return dns_open(&conf, loop, &dns);
}

static int teardown(void **state)
{
    sys_loop_stop(loop);
    sys_loop_stop(asker);
    dns_close(dns);
    return 0;
}

struct question {
    struct dns_query query;
    const char *name;
    enum dns_type type;
    int64_t wait_ms;
    struct mono began;
    int64_t took_ms;
    struct dns_answer answer; // records are gone
    char first[300];          // name or text of the first record, or its address in hex
    sem_t done;
};

static void show_record(const struct dns_record *record, char out[300])
{
    if (record->type == DNS_A || record->type == DNS_AAAA)
        for (int i = 0; i < (record->type == DNS_A ? 4 : 16); i++)
            snprintf(out + 2 * i, 3, "%02x", record->ip[i]);
    else if (record->type == DNS_MX)
        snprintf(out, 300, "%u %.*s", record->preference, BYTES_FMT(record->name));
    else
        snprintf(out, 300, "%.*s", BYTES_FMT(record->text));
}

static void on_done(struct dns_query *query, const struct dns_answer *answer)
{
    struct question *q = container_of(query, struct question, query);
    q->answer = *answer;
    q->took_ms = mono_ms_between(q->began, sys_mono());
    if (answer->count > 0)
        show_record(&answer->records[0], q->first);
    sem_post(&q->done);
}

static void begin(void *ctx)
{
    struct question *q = ctx;
    q->query.done = on_done;
    q->began = sys_mono();
    dns_ask(dns, &q->query, bytes_cstr(q->name), q->type, mono_add_ms(sys_mono(), q->wait_ms));
}

static void start_question(struct question *q, const char *name, enum dns_type type,
                           int64_t wait_ms)
{
    *q = (struct question){.name = name, .type = type, .wait_ms = wait_ms};
    sem_init(&q->done, 0, 0);
    test_on_loop(asker, begin, q);
}

struct row {
    const char *name;
    enum dns_type type;
    enum dns_code code;
    size_t count;
    const char *first;
};

static void h_answers(void **state)
{
    static const struct row rows[] = {
        {"ok.test", DNS_MX, DNS_OK, 1, "10 mx.ok.test"},
        {"OK.test.", DNS_MX, DNS_OK, 1, "10 mx.ok.test"},
        {"ok.test", DNS_A, DNS_OK, 1, "c0000201"},
        {"ok.test", DNS_AAAA, DNS_OK, 1, "20010db8000000000000000000000001"},
        {"ok.test", DNS_TXT, DNS_OK, 1, "helloworld"},
        {"nodata.test", DNS_MX, DNS_NODATA, 0, ""},
        {"nx.test", DNS_MX, DNS_NXDOMAIN, 0, ""},
        {"servfail.test", DNS_MX, DNS_SERVFAIL, 0, ""},
        {"refused.test", DNS_MX, DNS_SERVFAIL, 0, ""},
        {"cname.test", DNS_MX, DNS_OK, 1, "10 mx.ok.test"},
        {"loop.test", DNS_MX, DNS_SERVFAIL, 0, ""},
        {"chain025.test", DNS_MX, DNS_OK, 1, "10 mx.ok.test"},
        {"chain000.test", DNS_MX, DNS_SERVFAIL, 0, ""}, // too long: may pass, so it is waited for
        {"null.test", DNS_MX, DNS_OK, 1, "0 "},
        {"big.test", DNS_MX, DNS_OK, DNS_RECORDS_MAX,
         NULL}, // truncated over UDP: asked again over TCP
        {"a..test", DNS_MX, DNS_NXDOMAIN, 0, ""},
        {"sp ace.test", DNS_MX, DNS_NXDOMAIN, 0, ""},
        {"", DNS_MX, DNS_NXDOMAIN, 0, ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct question q;
        start_question(&q, rows[i].name, rows[i].type, 15000);
        assert_true(test_wait(&q.done));
        if (q.answer.code != rows[i].code || q.answer.count != rows[i].count ||
            (rows[i].first && strcmp(q.first, rows[i].first) != 0))
            fail_msg("%s: %s, %zu records, '%s' (%s)", rows[i].name, dns_code_text(q.answer.code),
                     q.answer.count, q.first, q.answer.why);
        assert_false(q.answer.is_secure);
        if (q.answer.code == DNS_OK)
            assert_in_range(q.answer.ttl_s, 1, 120);
    }
}

// Whether libunbound or we refuse them: no record comes out of them, and a good one beside them
// may.
static void h_malformed_records(void **state)
{
    struct question q;
    start_question(&q, "short.test", DNS_MX, 15000);
    assert_true(test_wait(&q.done));
    assert_true(q.answer.code == DNS_SERVFAIL || q.answer.code == DNS_TIMEOUT ||
                q.answer.code == DNS_NODATA);
    assert_int_equal(q.answer.count, 0);
    start_question(&q, "mixed.test", DNS_MX, 15000);
    assert_true(test_wait(&q.done));
    if (q.answer.code == DNS_OK)
        assert_string_equal(q.first, "10 mx.ok.test");
    else
        assert_int_equal(q.answer.count, 0);
}

// Silence, junk and replies to another question delay nobody else, and end at the deadline.
static void h_hostile_servers(void **state)
{
    static const char *const names[] = {"silent.test", "junk.test", "wrongid.test"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct question slow, good;
        start_question(&slow, names[i], DNS_MX, 700);
        start_question(&good, i == 0 ? "x1.test" : i == 1 ? "x2.test" : "x3.test", DNS_A, 15000);
        assert_true(test_wait(&slow.done));
        assert_true(slow.answer.code == DNS_TIMEOUT || slow.answer.code == DNS_SERVFAIL);
        assert_in_range(slow.took_ms, 0, 10000); // libunbound itself would try for longer
        assert_true(test_wait(&good.done));
        assert_int_equal(good.answer.code, DNS_OK);
    }
}

static void cancel(void *ctx)
{
    dns_cancel(&((struct question *)ctx)->query);
    dns_cancel(&((struct question *)ctx)->query);
}

static void cancelled(void **state)
{
    struct question q, next;
    start_question(&q, "ok.test", DNS_MX, 15000);
    test_on_loop(asker, cancel, &q);
    start_question(&next, "ok.test", DNS_MX, 15000);
    assert_true(test_wait(&next.done));
    int value;
    sem_getvalue(&q.done, &value);
    assert_true(value == 0 || q.answer.code == DNS_OK); // 1 only if it was answered before
}

static void ignore_line(void *ctx, struct bytes line)
{
}

static void nothing(void *ctx)
{
}

static void rebuild(void *ctx)
{
    dns_unbound_rebuild(dns);
}

// After the watchdog's cure questions under way are answered, and new ones work.
static void recovers(void **state)
{
    struct question q, next;
    start_question(&q, "silent.test", DNS_MX, 15000);
    test_on_loop(asker, nothing, NULL); // the turn that asked is over, and what it posted is there
    test_on_loop(loop, rebuild, NULL);
    assert_true(test_wait(&q.done));
    assert_int_equal(q.answer.code, DNS_SERVFAIL);
    assert_in_range(q.took_ms, 0, 14000);
    start_question(&next, "ok.test", DNS_MX, 15000);
    assert_true(test_wait(&next.done));
    assert_int_equal(next.answer.code, DNS_OK);
}

// A process without descriptors goes on, as libevent would not; afterwards all is as before.
static void no_descriptors(void **state)
{
    struct question q, next;
    struct rlimit limit, none;
    int taken[256], count = 0;
    test_on_loop(loop, nothing, NULL); // the thread has been made
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){COUNT_OF(taken), limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    while ((taken[count] = dup(0)) != -1)
        count++;
    start_question(&q, "ok.test", DNS_MX, 1000);
    assert_true(test_wait(&q.done));
    assert_int_not_equal(q.answer.code, DNS_OK);
    for (int few = 0; few < 16; few++) { // enough for a context, but not for its thread
        test_on_loop(loop, rebuild, NULL);
        close(taken[--count]);
    }
    while (count > 0)
        close(taken[--count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    start_question(&next, "ok.test", DNS_TXT, 15000); // the other failure is kept for some seconds
    assert_true(test_wait(&next.done));
    assert_int_equal(next.answer.code, DNS_OK);
}

static struct dns_cache *cache;
struct mx_ask {
    struct dns_ask ask;
    struct dns_mx *mx;
    sem_t done;
};

static void on_mx(struct dns_ask *ask, struct dns_mx *mx)
{
    struct mx_ask *a = container_of(ask, struct mx_ask, ask);
    a->mx = mx;
    sem_post(&a->done);
}

static void ask_mx(void *ctx)
{
    struct mx_ask *a = ctx;
    a->ask.done = on_mx;
    dns_cache_ask(cache, &a->ask, BYTES("ok.test"), DNS_BY_MX,
                  mono_add_ms(sys_mono(), DNS_VERDICT_BUDGET_MS));
}

static void whole_chain(void **state)
{
    cache = dns_cache_new(dns, loop, NULL);
    struct mx_ask a = {0};
    sem_init(&a.done, 0, 0);
    test_on_loop(asker, ask_mx, &a);
    assert_true(test_wait(&a.done));
    assert_int_equal(dns_verdict_of(a.mx), DNS_EXISTS);
    assert_int_equal(a.mx->host_count, 1);
    assert_int_equal(a.mx->hosts[0].address_count, 2);
    assert_true(bytes_eq(a.mx->hosts[0].name, BYTES("mx.ok.test")));
    dns_mx_free(a.mx);
    teardown(NULL); // the cache outlives its loop
    dns_cache_free(cache);
    assert_int_equal(setup(NULL), OK);
}

// An anchor for "test.", which our server can't live up to: its answers are forgeries.
static void h_forged_answers(void **state)
{
    teardown(NULL);
    char path[] = "/tmp/dns_unbound_test.XXXXXX", text[64];
    int fd = mkstemp(path);
    dprintf(fd, "test. IN DS 12345 8 2 "
                "49AAC11D7B6F6446702E54A1607371607A1A41855200FD2CE1CDDE32F24E8FB5\n");
    close(fd);
    snprintf(text, sizeof text, "127.0.0.1@%u", dns_test_server_port(server));
    struct bytes servers[] = {bytes_cstr(text)};
    struct dns_conf conf = {.servers = servers, .server_count = 1, .trust_anchor = path};
    loop = sys_loop_start("dns");
    asker = sys_loop_start("asker");
    assert_int_equal(dns_open(&conf, loop, &dns), OK);
    struct question q;
    start_question(&q, "ok.test", DNS_MX, 15000);
    assert_true(test_wait(&q.done));
    assert_int_equal(q.answer.code, DNS_BOGUS);
    assert_true(q.answer.why[0] != '\0' && q.answer.count == 0);
    unlink(path);
}

#define FLOOD 3000
static void many_at_once(void **state)
{
    static struct question questions[FLOOD];
    static char names[FLOOD][24];
    for (int i = 0; i < FLOOD; i++) {
        snprintf(names[i], sizeof names[i], "h%d.test", i);
        start_question(&questions[i], names[i], DNS_A, 20000);
    }
    for (int i = 0; i < FLOOD; i++) {
        assert_true(test_wait(&questions[i].done));
        assert_int_equal(questions[i].answer.code, DNS_OK);
    }
}

// More silent names than may be asked for at once: the next one need not wait until their time is over.
static void silent_flood(void **state)
{
    static struct question silent[FLOOD / 2];
    static char names[FLOOD / 2][24];
    for (int i = 0; i < FLOOD / 2; i++) {
        snprintf(names[i], sizeof names[i], "silent.s%d.test", i);
        start_question(&silent[i], names[i], DNS_A, 60000);
    }
    struct question good;
    start_question(&good, "good.test", DNS_A, 15000);
    assert_true(test_wait(&good.done));
    assert_int_equal(good.answer.code, DNS_OK);
    for (int i = 0; i < FLOOD / 2; i++)
        test_on_loop(asker, cancel, &silent[i]);
}

static void bad_configuration(void **state)
{
    static const struct {
        struct bytes server;
        const char *anchor;
        int err;
    } rows[] = {
        {BYTES("nonsense"), NULL, E_SYNTAX},
        {BYTES("127.0.0.1@99999"), NULL, E_SYNTAX},
        {BYTES("unix:/x"), NULL, E_SYNTAX},
        {BYTES("127.0.0.1"), "/nonexistent/anchor", E_NOT_FOUND},
        {BYTES("127.0.0.1"), "/proc/self/status", E_SYNTAX},
        {BYTES("127.0.0.1"), NULL, OK},
        {BYTES("[::1]:5353"), NULL, OK},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dns_conf conf = {
            .servers = &rows[i].server, .server_count = 1, .trust_anchor = rows[i].anchor};
        struct sys_loop *own = sys_loop_start("dns");
        struct dns *other;
        assert_int_equal(dns_open(&conf, own, &other), rows[i].err);
        sys_loop_stop(own);
        if (rows[i].err == OK)
            dns_close(other);
    }
}

static int start_server(void **state)
{
    log_capture(ignore_line, NULL);
    server = dns_test_server_start();
    return 0;
}

static int stop_server(void **state)
{
    dns_test_server_stop(server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(h_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(h_malformed_records, setup, teardown),
        cmocka_unit_test_setup_teardown(h_hostile_servers, setup, teardown),
        cmocka_unit_test_setup_teardown(cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(recovers, setup, teardown),
        cmocka_unit_test_setup_teardown(no_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(whole_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(h_forged_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(many_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_flood, setup, teardown),
        cmocka_unit_test(bad_configuration),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
