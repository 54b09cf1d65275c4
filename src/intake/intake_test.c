// SPDX-License-Identifier: MIT
//
// A client at the door: what it is told about a message that is decided late, and that nothing is left of it. The world
// is the simulator's; the address sanitizer sees what a session is used for after its end.
#include "intake/intake.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "base/test_base.h"
#include "dns/dns.h"
#include "intake/snapshot_test.h"
#include "sim.h"
#include "sim_disk.h"
#include "sim_dns.h"
#include "store/store.h"
#include "store/store_test.h"

#define PATIENCE_MS 60000

static struct sim_host *host, *elsewhere;
static struct sys_loop *worker, *dns_loop, *clients;
static struct spool *spool;
static struct dns *dns;
static struct dns_cache *cache;
static struct net_limits *limits;
static struct intake *intake;
static struct intake_port port;
static struct intake_counters counters;
static struct conf_snapshot *snapshot;
static struct sys_addr address;
static char folder[64];

static void swallow(void *ctx, struct bytes line)
{
    (void)ctx;
    (void)line;
}

static void no_kick(void *ctx, uint64_t workers)
{
    (void)ctx;
    (void)workers;
}

// ---- the world -----------------------------------------------------------------------------------------------

// An account whose mail is refused where preflight finds reason.
static struct store_directory *make_accounts(void)
{
    static const char *const OPS[][2] = {
        {"account.add", "{'account':'acme','any_sender':true}"},
        {"account.set", "{'account':'acme','option':'preflight','value':'refuse'}"}};
    struct store *store;
    struct store_directory *accounts;
    struct buf error = {0};
    assert_int_equal(store_open(bytes_cstr(folder), &store, &error), OK);
    for (size_t i = 0; i < COUNT_OF(OPS); i++)
        test_store_apply(store, (struct wall){1790000000000000}, OPS[i][0], OPS[i][1]);
    assert_int_equal(store_directory_load(store, &accounts), OK);
    store_close(store);
    return accounts;
}

static struct conf_snapshot *make_snapshot(void)
{
    static const char TEXT[] =
        "hostname: relay.example\nspool: /spool\nstate: /state\n"
        "listeners:\n"
        "  - {name: in, address: \"192.0.2.10:25\", tls: none, auth: optional,\n"
        "     trusted: [10.0.0.0/8], account: acme}\n"
        "routes:\n  - {match: {recipient: '*.silent.test'}, via: mx}\n"
        "  - {match: {}, via: discard}\n";
    return test_snapshot_parse(bytes_cstr(TEXT), NULL, 1, make_accounts());
}

static void open_door(struct sys_task *task)
{
    (void)task;
    struct intake_options options = {
        .port = &port, .dns = cache, .limits = limits, .workers = 1, .counters = &counters};
    intake = intake_new(&options, snapshot);
    intake_open_gate(intake, &snapshot->conf->listeners[0], sim_listen(&address), NULL, NULL);
}

static void start_in_host(void *ctx)
{
    static struct sys_task task = {.run = open_door};
    struct spool_options options = {
        .directory = "/spool", .segment_bytes = 1 << 20, .free_bytes_min = 65536};
    *(int *)ctx = spool_open(&options, NULL, &spool);
    worker = sys_loop_start("worker");
    dns_loop = sys_loop_start("dns");
    CHECK(dns_open(&(struct dns_conf){0}, dns_loop, &dns) == OK);
    cache = dns_cache_new(dns, dns_loop, NULL);
    limits = net_limits_new(10, 10);
    spool_start(spool);
    port.spool = spool;
    sys_post(worker, &task);
}

static void start_clients(void *ctx)
{
    (void)ctx;
    clients = sys_loop_start("clients");
}

static int setup(void **state)
{
    (void)state;
    int err = -1;
    log_capture(swallow, NULL);
    memset(&counters, 0, sizeof counters);
    snprintf(folder, sizeof folder, "/tmp/intake_test.XXXXXX");
    if (!mkdtemp(folder) || sys_addr_parse(BYTES("192.0.2.10:25"), &address) != OK)
        return -1;
    sim_start(11);
    sim_dns_start();
    sim_dns_mood("slow.test", SIM_DNS_SILENT); // an answer only when the patience is over
    sim_dns_add_address("any.test", &address);
    snapshot = make_snapshot();
    struct queue_options options = {
        .workers = 1, .stored_bytes_max = 1 << 20, .seed = 1, .conf = snapshot->conf};
    port = (struct intake_port){.queue = queue_new(&options), .kick = no_kick};
    host = sim_host_new("relay", &address);
    elsewhere = sim_host_new("client", NULL);
    bool ok =
        sim_host_call(host, start_in_host, &err) && sim_host_call(elsewhere, start_clients, NULL);
    sim_run_ms(100);
    return ok && !err && intake ? 0 : -1;
}

static void stop(struct sys_task *task)
{
    (void)task;
    intake_stop(intake);
}

static void abort_all(struct sys_task *task)
{
    (void)task;
    intake_abort(intake);
}

static bool is_idle(void *ctx)
{
    (void)ctx;
    return intake_is_idle(intake);
}

static void close_door(struct sys_task *task)
{
    (void)task;
    intake_free(intake);
    intake = NULL;
}

static bool is_closed(void *ctx)
{
    (void)ctx;
    return !intake;
}

static void stop_in_host(void *ctx)
{
    (void)ctx;
    sys_loop_stop(dns_loop); // which may still have an answer for the worker
    sys_loop_stop(worker);
    spool_stop(spool);
    spool_close(spool);
    dns_cache_free(cache);
    dns_close(dns);
    net_limits_free(limits);
}

static void stop_clients(void *ctx)
{
    (void)ctx;
    sys_loop_stop(clients);
}

static int teardown(void **state)
{
    (void)state;
    char command[96];
    struct sys_task last = {.run = stop}, end = {.run = close_door};
    sys_post(worker, &last);
    bool ok = sim_run_until(is_idle, NULL, PATIENCE_MS);
    sys_post(worker, &end);
    ok = ok && sim_run_until(is_closed, NULL, PATIENCE_MS) &&
         sim_host_call(host, stop_in_host, NULL) && sim_host_call(elsewhere, stop_clients, NULL);
    queue_free(port.queue);
    conf_snapshot_release(snapshot);
    sim_stop();
    sim_dns_stop();
    snprintf(command, sizeof command, "rm -r %s", folder);
    return ok && system(command) == 0 ? 0 : -1; // NOLINT(cert-env33-c): a folder of our own making
}

// ---- a client ------------------------------------------------------------------------------------------------

struct client {
    struct sys_task task;
    const char *says; // all at once, when it is greeted
    struct sys_stream *stream;
    struct buf heard;
    const char *awaits;
    bool ended;
};

static void on_connected(void *ctx)
{
    struct client *c = ctx;
    sys_stream_write(c->stream, bytes_cstr(c->says));
}

static void on_data(void *ctx, struct bytes data)
{
    struct client *c = ctx;
    buf_add(&c->heard, data);
}

static void on_end(void *ctx, int err)
{
    struct client *c = ctx;
    (void)err;
    c->ended = true;
    sys_stream_close(c->stream, false);
}

static void come(struct sys_task *task)
{
    static const struct sys_stream_events EVENTS = {on_connected, on_data, NULL, on_end};
    struct client *c = container_of(task, struct client, task);
    c->stream = sys_stream_connect(&address, NULL, &EVENTS, c);
}

static bool hears(void *ctx)
{
    struct client *c = ctx;
    return bytes_search(buf_bytes(&c->heard), bytes_cstr(c->awaits)) >= 0;
}

static bool has_ended(void *ctx)
{
    return ((struct client *)ctx)->ended;
}

static void assert_hears(struct client *c, const char *what)
{
    c->awaits = what;
    if (!sim_run_until(hears, c, PATIENCE_MS))
        fail_msg("no '%s' in:\n%s", what, buf_cstr(&c->heard));
}

// A program that claims to be a picture, from a domain about which DNS is silent.
#define MESSAGE                                                                                    \
    "EHLO client.test\r\nMAIL FROM:<a@slow.test>\r\nRCPT TO:<b@any.test>\r\nDATA\r\n"              \
    "From: a@slow.test\r\nSubject: x\r\nMIME-Version: 1.0\r\n"                                     \
    "Content-Type: application/octet-stream; name=\"picture.exe\"\r\n\r\nx\r\n.\r\n"

#define GOOD_MESSAGE                                                                               \
    "MAIL FROM:<c@any.test>\r\nRCPT TO:<d@any.test>\r\nDATA\r\n"                                   \
    "From: c@any.test\r\nSubject: x\r\n\r\nx\r\n.\r\n"

// ---- tests ---------------------------------------------------------------------------------------------------

// The stop comes while the message waits for its decision: the refusal ends the session.
static void refuses_while_it_stops(void **state)
{
    (void)state;
    struct client c = {.task.run = come, .says = MESSAGE};
    struct sys_task last = {.run = stop};
    sys_post(clients, &c.task);
    assert_hears(&c, "\r\n354 ");
    sim_run_ms(500);
    assert_int_equal(atomic_load(&counters.messages_refused), 0);
    sys_post(worker, &last);
    assert_hears(&c, "\r\n550 5.6.0 ");
    assert_hears(&c, "\r\n421 4.3.2 ");
    assert_true(sim_run_until(has_ended, &c, PATIENCE_MS));
    assert_true(sim_run_until(is_idle, NULL, PATIENCE_MS));
    assert_int_equal(atomic_load(&counters.messages_refused), 1);
    buf_done(&c.heard);
}

// The grace time of a stop is over while the message is being flushed: told 421, the client would send it again.
static void is_told_what_is_kept(void **state)
{
    (void)state;
    struct client c = {.task.run = come,
                       .says = "EHLO client.test\r\n" GOOD_MESSAGE "MAIL FROM:<c@any.test>\r\n"};
    struct client idle = {.task.run = come, .says = "EHLO client.test\r\n"};
    struct sys_task last = {.run = stop}, end = {.run = abort_all};
    sim_disk_sync_us(sim_disk_find("/spool"), 5000000, 5000000);
    sys_post(clients, &c.task);
    sys_post(clients, &idle.task);
    assert_hears(&c, "\r\n354 ");
    sim_run_ms(500);
    sys_post(worker, &last);
    sys_post(worker, &end);
    assert_hears(&idle, "\r\n421 4.3.2 ");
    assert_true(bytes_search(buf_bytes(&c.heard), BYTES("421")) < 0);
    assert_int_equal(atomic_load(&counters.messages_accepted), 0);
    assert_hears(&c, "\r\n250 2.0.0 ");
    assert_hears(&c, "\r\n421 4.3.2 ");
    assert_true(sim_run_until(has_ended, &c, PATIENCE_MS));
    assert_int_equal(atomic_load(&counters.messages_accepted), 1);
    buf_done(&c.heard);
    buf_done(&idle.heard);
}

// A message to many domains about which DNS is silent: the first few are waited for, or it would take two seconds each.
static void waits_for_few_silent_domains(void **state)
{
    (void)state;
    struct buf says = {0};
    sim_dns_mood_all(SIM_DNS_SILENT);
    buf_add_cstr(&says, "EHLO client.test\r\nMAIL FROM:<a@any.test>\r\n");
    for (int i = 0; i < 90; i++)
        buf_printf(&says, "RCPT TO:<x@d%d.silent.test>\r\n", i);
    buf_add_cstr(&says, "DATA\r\nFrom: a@any.test\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n");
    struct client c = {.task.run = come, .says = buf_cstr(&says), .awaits = "\r\n354 "};
    sys_post(clients, &c.task);
    if (!sim_run_until(hears, &c, 15000))
        fail_msg("still asking after:\n%s", buf_cstr(&c.heard));
    assert_true(sim_run_until(has_ended, &c, PATIENCE_MS));
    buf_done(&c.heard);
    buf_done(&says);
}

// What the client sent behind it (RFC 2920) is another message.
static void a_refused_message_takes_no_other_along(void **state)
{
    (void)state;
    struct client c = {.task.run = come, .says = MESSAGE GOOD_MESSAGE "QUIT\r\n"};
    sys_post(clients, &c.task);
    assert_hears(&c, "\r\n550 5.6.0 ");
    assert_hears(&c, "\r\n250 2.0.0 ");
    assert_hears(&c, "\r\n221 ");
    assert_true(sim_run_until(has_ended, &c, PATIENCE_MS));
    assert_int_equal(atomic_load(&counters.messages_refused), 1);
    assert_int_equal(atomic_load(&counters.messages_accepted), 1);
    buf_done(&c.heard);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(refuses_while_it_stops, setup, teardown),
    cmocka_unit_test_setup_teardown(waits_for_few_silent_domains, setup, teardown),
    cmocka_unit_test_setup_teardown(is_told_what_is_kept, setup, teardown),
    cmocka_unit_test_setup_teardown(a_refused_message_takes_no_other_along, setup, teardown),
};

RUN_TESTS(tests)
