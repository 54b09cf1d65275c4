// SPDX-License-Identifier: MIT
//
// A key's whole life under the keeper, on the simulator's clock: made, seen, followed by another, removed; and rounds
// without a signer, without answers, and cut short. The test is the signer; the store is a real one.
#include "daemon/dkim_keeper.h"

#include <json-c/json.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/test_base.h"
#include "intake/snapshot_test.h"
#include "net/sign_port.h"
#include "sign/dkim_key.h"
#include "sim.h"
#include "sim_dns.h"
#include "store/store_test.h"

// A keeper lives as long as the process, and a world of the simulator leaves things behind: leaks mean nothing here.
int __lsan_is_turned_off(void); // NOLINT(bugprone-reserved-identifier): its name is the sanitizer's
int __lsan_is_turned_off(void)  // NOLINT(bugprone-reserved-identifier)
{
    return 1;
}

#define MINUTE_MS 60000
#define SEALED_BYTES 64
#define ASKED_MAX 16

static struct sim_host *host;
static struct sys_loop *loop, *dns_loop;
static struct dns *dns;
static struct store *store;
static struct dkim_keeper *keeper;
static struct conf_snapshot *snapshot;
static char folder[64];
static struct buf records[2]; // RSA, Ed25519
static int changes, rounds_done, stops_done;

// ---- the signer ----------------------------------------------------------------------------------------

static enum { MAKES, REFUSES, SILENT, ABSENT } signer;
static const struct sign_request *asked[ASKED_MAX];
static size_t asked_count, asked_most, made;
static struct sys_task answering;

static void answer_all(struct sys_task *task)
{
    (void)task;
    const struct sign_request *under_way[ASKED_MAX];
    size_t count = asked_count;
    memcpy(under_way, asked, sizeof under_way);
    asked_count = 0; // an answer may ask for more
    for (size_t i = 0; i < count; i++) {
        struct buf answer = {0};
        char sealed[SEALED_BYTES];
        const struct buf *record = &records[under_way[i]->kind == SIGN_MAKE_ED25519];
        uint16_t len = (uint16_t)record->len;
        memset(sealed, (int)++made, sizeof sealed);
        buf_add_all(&answer, bytes_of(&len, sizeof len), buf_bytes(record),
                    bytes_of(sealed, sizeof sealed));
        sign_port_answer(under_way[i]->id, signer == MAKES ? SIGN_DONE : SIGN_REFUSED,
                         signer == MAKES ? buf_bytes(&answer) : BYTES_NONE);
        buf_done(&answer);
    }
}

static bool send_request(void *ctx, const struct sign_request *r, bool with_key)
{
    (void)ctx;
    CHECK(!with_key && asked_count < ASKED_MAX);
    asked[asked_count++] = r;
    asked_most = asked_count > asked_most ? asked_count : asked_most;
    answering.run = answer_all;
    if (signer != SILENT && asked_count == 1)
        sys_post(loop, &answering);
    return true;
}
static const struct sign_port port = {send_request, NULL};

// ---- the world -----------------------------------------------------------------------------------------

static void apply(const char *op, const char *args)
{
    test_store_apply(store, sim_wall(), op, args);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

// "ph1e:new ph1r:active ", by name
static void expect_of(const char *domain, const char *want)
{
    struct json_object *keys, *args = json_tokener_parse("{\"account\":\"acme\"}");
    json_object_object_add(args, "domain", json_object_new_string(domain));
    struct store_op operation = {"dkim.list", args, BYTES("test"), sim_wall(), NULL};
    struct store_answer answer;
    struct buf error = {0}, got = {0};
    char lines[ASKED_MAX][64];
    CHECK(store_apply(store, &operation, &answer, &error) == OK);
    CHECK(json_object_object_get_ex(answer.result, "keys", &keys));
    size_t count = json_object_array_length(keys);
    CHECK(count <= ASKED_MAX);
    for (size_t i = 0; i < count; i++) {
        struct json_object *key = json_object_array_get_idx(keys, i), *selector, *state;
        CHECK(json_object_object_get_ex(key, "selector", &selector) &&
              json_object_object_get_ex(key, "state", &state));
        snprintf(lines[i], sizeof lines[i], "%s:%s ", json_object_get_string(selector),
                 json_object_get_string(state));
    }
    qsort(lines, count, sizeof lines[0], by_name);
    for (size_t i = 0; i < count; i++)
        buf_add_cstr(&got, lines[i]);
    assert_string_equal(buf_cstr(&got), want);
    json_object_put(answer.result);
    json_object_put(args);
    buf_done(&got);
}

static void expect(const char *want)
{
    expect_of("a.test", want);
}

static void publish(const char *selector, const char *record)
{
    static char names[ASKED_MAX][64]; // borrowed by the world
    static size_t used;
    char *name = names[used++ % ASKED_MAX];
    snprintf(name, sizeof names[0], "%s._domainkey.a.test", selector);
    sim_dns_add_text(name, record);
}

static void on_changed(void *ctx)
{
    CHECK(ctx == &changes);
    changes++;
}

static void on_round(void *ctx)
{
    (void)ctx;
    rounds_done++;
}

static void on_stopped(void *ctx)
{
    (void)ctx;
    stops_done++;
}

static void start_keeper(struct sys_task *task)
{
    (void)task;
    struct dkim_keeper_options options = {store, dns, on_changed, &changes};
    sign_port_use(signer == ABSENT ? NULL : &port);
    keeper = dkim_keeper_new(&options, snapshot);
}

static void run_round(struct sys_task *task)
{
    (void)task;
    dkim_keeper_run(keeper, true, on_round, NULL);
}

static void run_two(struct sys_task *task)
{
    run_round(task);
    run_round(task);
}

static void stop_keeper(struct sys_task *task)
{
    (void)task;
    dkim_keeper_stop(keeper, on_stopped, NULL);
}

static void use_port(struct sys_task *task)
{
    (void)task;
    sign_port_use(&port);
}

static void in_a_turn(void (*run)(struct sys_task *task), int64_t then_ms)
{
    static struct sys_task task;
    task.run = run;
    sys_post(loop, &task);
    sim_run_ms(then_ms);
}

static void boot(void *ctx)
{
    (void)ctx;
    loop = sys_loop_start("main");
    dns_loop = sys_loop_start("dns");
    CHECK(dns_open(&(struct dns_conf){0}, dns_loop, &dns) == OK);
}

static void swallow(void *ctx, struct bytes line)
{
    (void)ctx;
    (void)line;
}

static int begin(void **state)
{
    (void)state;
    struct buf error = {0};
    struct conf *conf;
    log_capture(swallow, NULL);
    signer = MAKES;
    changes = rounds_done = stops_done = 0;
    asked_count = asked_most = made = 0;
    sim_start(3);
    sim_dns_start();
    snprintf(folder, sizeof folder, "/tmp/posthaste-keeper-XXXXXX");
    CHECK(mkdtemp(folder) && store_open(bytes_cstr(folder), &store, &error) == OK);
    CHECK(conf_load_text(BYTES("hostname: relay.test\nspool: /s\nstate: /t\n"
                               "dkim: {check_every: 10m, grace: 3d}\n"),
                         "test", "/", &conf, &error) == OK);
    snapshot = test_snapshot(conf, NULL, NULL, NULL);
    apply("account.add", "{'account':'acme'}");
    apply("domain.add",
          "{'account':'acme','domain':'a.test','token':'abcdefghijklmnop','trust':true}");
    host = sim_host_new("relay", NULL);
    return sim_host_call(host, boot, NULL) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"accounts.db", "accounts.db-wal", "accounts.db-shm",
                                        "lock"};
    char path[128];
    int stopped = stops_done;
    if (!stopped)
        in_a_turn(stop_keeper, MINUTE_MS);
    assert_int_equal(stops_done, 1);
    sim_stop();
    sim_dns_stop();
    conf_snapshot_release(snapshot);
    store_close(store);
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, NAMES[i]);
        unlink(path);
    }
    return rmdir(folder);
}

// ---- tests ---------------------------------------------------------------------------------------------

static void test_life(void **state)
{
    (void)state;
    const char *rsa = buf_cstr(&records[0]), *ed25519 = buf_cstr(&records[1]);
    in_a_turn(start_keeper, MINUTE_MS);
    expect("ph1e:new ph1r:new ");
    assert_int_equal(changes, 1);
    publish("ph1r", "v=DKIM1; k=rsa; p=");
    publish("ph1r", ed25519); // another key's
    publish("ph1e", "v=spf1 -all");
    publish("ph1e", ed25519);
    in_a_turn(run_round, MINUTE_MS); // one has the right record among others
    expect("ph1e:active ph1r:new ");
    publish("ph1r", rsa);
    expect("ph1e:active ph1r:new ");
    sim_run_ms((int64_t)11 * MINUTE_MS); // by itself
    expect("ph1e:active ph1r:active ");
    int before = changes;
    sim_run_ms((int64_t)60 * MINUTE_MS);
    assert_int_equal(changes, before); // nothing to do, nothing done
    apply("dkim.rotate", "{'account':'acme','domain':'a.test'}");
    in_a_turn(run_round, MINUTE_MS);
    expect("ph1e:active ph1r:active ph2e:new ph2r:new ");
    publish("ph2r", rsa);
    in_a_turn(run_round, MINUTE_MS);
    expect("ph1e:active ph1r:old ph2e:new ph2r:active ");
    sim_run_ms((int64_t)2 * 24 * 60 * MINUTE_MS);
    expect("ph1e:active ph1r:old ph2e:new ph2r:active ");
    sim_run_ms((int64_t)2 * 24 * 60 * MINUTE_MS); // its grace is over
    expect("ph1e:active ph2e:new ph2r:active ");
    assert_int_equal(rounds_done, 3);
}

// Without a signer, or one that makes nothing, nothing is kept, and the next round tries again.
static void test_no_keys_made(void **state)
{
    (void)state;
    signer = ABSENT;
    in_a_turn(start_keeper, MINUTE_MS);
    in_a_turn(run_round, MINUTE_MS);
    expect("");
    assert_int_equal(rounds_done, 1);
    signer = REFUSES;
    in_a_turn(use_port, 1000);
    in_a_turn(run_round, MINUTE_MS);
    expect("");
    assert_true(rounds_done == 2 && changes == 0);
    signer = MAKES;
    sim_run_ms((int64_t)11 * MINUTE_MS);
    expect("ph1e:new ph1r:new ");
}

// A DNS that fails or says nothing leaves keys as they are; each who waits is told once.
static void test_dns_fails(void **state)
{
    (void)state;
    static const enum sim_dns_mood MOODS[] = {SIM_DNS_GONE, SIM_DNS_SERVFAIL, SIM_DNS_BOGUS,
                                              SIM_DNS_SILENT};
    in_a_turn(start_keeper, MINUTE_MS);
    publish("ph1e", buf_cstr(&records[1]));
    publish("ph1r", buf_cstr(&records[0]));
    for (size_t i = 0; i < COUNT_OF(MOODS); i++) {
        sim_dns_mood_all(MOODS[i]);
        in_a_turn(run_two, MINUTE_MS);
        expect("ph1e:new ph1r:new ");
        assert_int_equal(rounds_done, 2 * (i + 1));
    }
    sim_dns_mood_all(SIM_DNS_FINE);
    in_a_turn(run_round, MINUTE_MS);
    expect("ph1e:active ph1r:active ");
}

// Many keys are due at once: the signer, for whom handshakes wait, is asked for one after the other.
static void test_one_key_at_a_time(void **state)
{
    (void)state;
    char args[128];
    for (int i = 0; i < 4; i++) {
        snprintf(args, sizeof args,
                 "{'account':'acme','domain':'d%d.test','token':'abcdefghijklmnop','trust':true}",
                 i);
        apply("domain.add", args);
    }
    in_a_turn(start_keeper, MINUTE_MS);
    expect_of("a.test", "ph1e:new ph1r:new ");
    expect_of("d3.test", "ph1e:new ph1r:new ");
    assert_int_equal(asked_most, 1);
    assert_int_equal(changes, 1); // all in one round
}

// More than a round makes: the next ones follow by themselves, but not where none could be made.
static void test_more_than_a_round_makes(void **state)
{
    (void)state;
    char args[128], last[32];
    enum { DOMAINS = 2 * KEEPER_MAKES_MAX + 1 };
    for (int i = 0; i < DOMAINS; i++) {
        snprintf(args, sizeof args,
                 "{'account':'acme','domain':'d%d.test','token':'abcdefghijklmnop','trust':true}",
                 i);
        apply("domain.add", args);
    }
    signer = REFUSES;
    in_a_turn(start_keeper, MINUTE_MS);
    assert_int_equal(made, 2 * KEEPER_MAKES_MAX);
    signer = MAKES;
    sim_run_ms((int64_t)10 * MINUTE_MS);
    snprintf(last, sizeof last, "d%d.test", DOMAINS - 1);
    expect_of("a.test", "ph1e:new ph1r:new ");
    expect_of(last, "ph1e:new ph1r:new ");
    assert_int_equal(changes, 3);
}

// More keys than a round looks for, and none of them ever published: the one that is has its turn.
static void test_unpublished(void **state)
{
    (void)state;
    char args[512];
    for (int i = 0; i < KEEPER_KIND_MAX; i++) {
        snprintf(args, sizeof args,
                 "{'account':'acme','domain':'d%d.test','token':'abcdefghijklmnop','trust':true}",
                 i);
        apply("domain.add", args);
        for (int k = 0; k < 2; k++) {
            snprintf(args, sizeof args,
                     "{'account':'acme','domain':'d%d.test','algorithm':'%s','record':"
                     "'v=DKIM1; p=1','sealed':'00'}",
                     i, k ? "ed25519" : "rsa");
            apply("dkim.add", args);
        }
    }
    in_a_turn(start_keeper, MINUTE_MS);
    publish("ph1e", buf_cstr(&records[1]));
    publish("ph1r", buf_cstr(&records[0]));
    for (int i = 0; i < 3; i++)
        in_a_turn(run_round, MINUTE_MS);
    expect_of("a.test", "ph1e:active ph1r:active ");
}

// Stopped while it waits for the signer or the DNS: at its end soon, and nobody waits for ever.
static void test_stop(void **state)
{
    (void)state;
    signer = SILENT;
    in_a_turn(start_keeper, 1000);
    assert_int_equal(asked_count, 1); // of two
    in_a_turn(run_round, 1000);       // for the next round, which will not be
    assert_int_equal(rounds_done, 0);
    in_a_turn(stop_keeper, 1000);
    assert_true(stops_done == 1 && rounds_done == 1);
    in_a_turn(run_round, 1000);
    assert_int_equal(rounds_done, 2);
    expect("");
}

static void test_stop_at_the_dns(void **state)
{
    (void)state;
    in_a_turn(start_keeper, MINUTE_MS);
    sim_dns_mood_all(SIM_DNS_SILENT);
    in_a_turn(run_round, 1000);
    in_a_turn(stop_keeper, 1000);
    assert_true(stops_done == 1 && rounds_done == 1);
    expect("ph1e:new ph1r:new ");
}

static int setup(void **state)
{
    (void)state;
    EVP_PKEY *keys[] = {EVP_RSA_gen(2048), EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        CHECK(dkim_key_format(keys[i], &records[i]) == OK);
        EVP_PKEY_free(keys[i]);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_done(&records[0]);
    buf_done(&records[1]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, begin, end),
        cmocka_unit_test_setup_teardown(test_no_keys_made, begin, end),
        cmocka_unit_test_setup_teardown(test_dns_fails, begin, end),
        cmocka_unit_test_setup_teardown(test_one_key_at_a_time, begin, end),
        cmocka_unit_test_setup_teardown(test_more_than_a_round_makes, begin, end),
        cmocka_unit_test_setup_teardown(test_unpublished, begin, end),
        cmocka_unit_test_setup_teardown(test_stop, begin, end),
        cmocka_unit_test_setup_teardown(test_stop_at_the_dns, begin, end),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
