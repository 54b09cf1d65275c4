// SPDX-License-Identifier: MIT
//
// What one worker does with a message, from the queue to the outcome: resolving, Maildir and discard routes,
// connections that can't be made or may not be used. The world is the simulator's, but for the Maildir.
#include "deliver/deliver.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "base/map.h"
#include "base/test_base.h"
#include "dns/dns_mx.h"
#include "dns/dns_rdata.h"
#include "intake/snapshot_test.h"
#include "mail/mail_address.h"
#include "sim.h"
#include "sim_disk.h"
#include "sim_dns.h"
#include "sim_site.h"

#define PATIENCE_MS 600000

static struct sim_host *host;
static struct sys_loop *workers[2], *dns_loop;
static struct spool *spool;
static struct dns *dns;
static struct dns_cache *cache;
static struct deliver *delivers[2];
static uint32_t workers_count = 1;
static struct intake_port port;
static struct deliver_counters counters;
static struct conf_snapshot *snapshot, *older; // older: NULL until a reload
static struct sys_addr self;
static struct deliver_selves selves;
static struct sim_site *site;     // NULL: none
static char root[64], told[8192]; // what the log says of recipients and lanes
static uint64_t stored_bytes_max = 1 << 20;

static void keep_lines(void *ctx, struct bytes line)
{
    (void)ctx;
    size_t used = strlen(told);
    if (bytes_search(line, BYTES(" recipient ")) >= 0 ||
        bytes_search(line, BYTES("no connection")) >= 0)
        snprintf(told + used, sizeof told - used, "%.*s\n", BYTES_FMT(line));
}

static void kick(void *ctx, uint64_t which)
{
    (void)ctx;
    for (uint32_t i = 0; i < workers_count; i++)
        if (which & 1u << i && delivers[i])
            deliver_kick(delivers[i]);
}

// "/one" has "one" in it.
static int read_password(void *ctx, const char *path, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "%s\n", path + 1);
    return OK;
}

// Two tenants of one smarthost whose logins look alike. The second table has them the other way round.
#define TENANTS "smtps:198.51.100.30:465"
static const char *const TENANT_ROUTES[] = {
    "  - {match: {recipient: \"*.one.test\"}, via: \"smtps://198.51.100.30:465\", login: apikey,"
    " password_file: /one}\n",
    "  - {match: {recipient: \"*.two.test\"}, via: \"smtps://198.51.100.30:465\", login: apikey,"
    " password_file: /two}\n"};

static struct conf_snapshot *make_snapshot(uint32_t generation)
{
    struct route_files files = {.read = read_password};
    struct buf text = {0};
    buf_printf(
        &text,
        "hostname: relay.example\nspool: /spool\nstate: /state\n"
        "retry: {first: 1m, factor: 2, max: 5m, lifetime: 1d}\n"
        "routes:\n"
        "  - {match: {recipient: box.test}, via: \"maildir:%s/%%d/%%u\"}\n"
        "  - {match: {recipient: void.test}, via: discard}\n"
        "  - {match: {recipient: smart.test}, via: \"smtp://gone.test:25\"}\n"
        "  - {match: {recipient: round.test}, via: \"smtp://me.test:25\"}\n"
        "  - {match: {recipient: round-ip.test}, via: \"smtp://192.0.2.10:25\"}\n"
        "  - {match: {recipient: socket.test}, via: \"lmtp:/nowhere/lmtp\"}\n"
        "  - {match: {recipient: strict.test}, via: mx, tls: verify}\n"
        "  - {match: {recipient: shut.test}, via: \"smtp://198.51.100.20:25\", tls: encrypt}\n"
        "  - {match: {recipient: open.test}, via: \"smtp://198.51.100.20:25\"}\n"
        "  - {match: {recipient: login.test}, via: \"smtp://127.0.0.20:25\", login: apikey,"
        " password_file: /one}\n"
        "  - {match: {recipient: shut-mx.test}, via: mx, tls: encrypt}\n"
        "%s%s"
        "  - {match: {}, via: mx}\n",
        root, TENANT_ROUTES[generation - 1], TENANT_ROUTES[2 - generation]);
    struct conf_snapshot *made =
        test_snapshot_parse(buf_bytes(&text), &files, generation, store_directory_empty());
    buf_done(&text);
    return made;
}

// As many MX hosts as are kept, with names as long as names can be: what a stranger may have in his zone.
static void fill_long_zone(const struct sys_addr *address)
{
    static char names[DNS_MX_HOSTS_MAX][DNS_NAME_MAX + 1];
    for (int i = 0; i < DNS_MX_HOSTS_MAX; i++) {
        memset(names[i], 'a', DNS_NAME_MAX);
        memcpy(names[i], (char[]){'m', (char)('a' + i)}, 2);
        for (int dot = 60; dot < DNS_NAME_MAX - 5; dot += 60)
            names[i][dot] = '.';
        memcpy(names[i] + DNS_NAME_MAX - 5, ".test", 6);
        sim_dns_add_mx("long.test", (uint16_t)i, names[i]);
        sim_dns_add_address(names[i], address);
    }
}

static void fill_dns(void)
{
    struct sys_addr nobody, near, near6, site_address;
    CHECK(sys_addr_parse(BYTES("198.51.100.9:25"), &nobody) == OK);
    CHECK(sys_addr_parse(BYTES("192.0.2.10:25"), &self) == OK);
    selves = (struct deliver_selves){{self}, 1};
    sim_dns_start();
    sim_dns_add_mx("null.test", 0, "");
    sim_dns_add_mx("lost.test", 10, "no-address.test");
    sim_dns_add_mx("loop.test", 10, "me.test");
    sim_dns_add_mx("backup.test", 10, "mx.down.test"); // and we are its backup
    sim_dns_add_mx("backup.test", 20, "me.test");
    sim_dns_add_mx("first.test", 10, "mx.sick.test"); // its better host can't be looked up just now
    sim_dns_add_mx("first.test", 20, "me.test");
    CHECK(sys_addr_parse(BYTES("127.8.9.10:25"), &near) == OK); // no listener of ours
    CHECK(sys_addr_parse(BYTES("[::1]:25"), &near6) == OK);
    sim_dns_add_address("near.test", &near);
    sim_dns_add_mx("near6.test", 10, "mx.near6.test");
    sim_dns_add_address("mx.near6.test", &near6);
    sim_dns_add_mx("last.test", 10, "me.test"); // no use: it is worse than ourselves
    sim_dns_add_mx("last.test", 20, "mx.sick.test");
    sim_dns_add_mx("half.test", 10, "mx.down.test");
    sim_dns_add_mx("half.test", 10, "mx.sick.test");
    sim_dns_mood("mx.sick.test", SIM_DNS_SERVFAIL);
    sim_dns_add_mx("down.test", 10, "mx.down.test");
    sim_dns_add_mx("strict.test", 10, "mx.down.test");
    sim_dns_add_address("me.test", &self);
    sim_dns_add_address("mx.down.test", &nobody);
    sim_dns_add_mx("shut-mx.test", 10, "site.test");
    sim_dns_add_mx("open-mx.test", 10, "site.test");
    CHECK(sys_addr_parse(BYTES("198.51.100.20:25"), &site_address) == OK);
    sim_dns_add_address("site.test", &site_address);
    sim_dns_add_mx("ranked.test", 10, "mx.down.test");
    sim_dns_add_mx("ranked.test", 20, "site.test");
    sim_dns_add_mx("turned.test", 10, "site.test");
    sim_dns_add_mx("turned.test", 20, "mx.down.test");
    fill_long_zone(&nobody);
    sim_dns_mood("sick.test", SIM_DNS_SERVFAIL);
    sim_dns_mood("bogus.test", SIM_DNS_BOGUS);
    sim_dns_mood("silent.test", SIM_DNS_SILENT);
}

static void make_deliver(struct sys_task *task)
{
    uint32_t number = workers[0] == sys_loop_self() ? 0 : 1;
    struct deliver_options options = {
        .worker = number, .port = &port, .dns = cache, .counters = &counters, .selves = &selves};
    (void)task;
    delivers[number] = deliver_new(&options, snapshot);
}

static void start_in_host(void *ctx)
{
    static struct sys_task tasks[2];
    struct spool_options options = {
        .directory = "/spool", .segment_bytes = 1 << 20, .free_bytes_min = 65536};
    *(int *)ctx = spool_open(&options, NULL, &spool);
    dns_loop = sys_loop_start("dns");
    CHECK(dns_open(&(struct dns_conf){0}, dns_loop, &dns) == OK);
    cache = dns_cache_new(dns, dns_loop, NULL);
    spool_start(spool);
    port.spool = spool;
    for (uint32_t i = 0; i < workers_count; i++) {
        workers[i] = sys_loop_start(i ? "worker 1" : "worker 0");
        tasks[i].run = make_deliver;
        sys_post(workers[i], &tasks[i]);
    }
}

static int setup(void **state)
{
    (void)state;
    int err = -1;
    told[0] = '\0';
    memset(&counters, 0, sizeof counters);
    log_capture(keep_lines, NULL);
    log_setup(LOG_INFO, LOG_TEXT);
    snprintf(root, sizeof root, "/tmp/deliver_test.XXXXXX");
    if (!mkdtemp(root))
        return -1;
    sim_start(7);
    fill_dns();
    snapshot = make_snapshot(1);
    struct queue_options options = {.workers = workers_count,
                                    .stored_bytes_max = stored_bytes_max,
                                    .seed = 1,
                                    .conf = snapshot->conf};
    port = (struct intake_port){.queue = queue_new(&options), .kick = kick};
    host = sim_host_new("relay", &self);
    bool ok = sim_host_call(host, start_in_host, &err);
    sim_run_ms(100);
    return ok && !err && delivers[workers_count - 1] ? 0 : -1;
}

static struct deliver **own(void)
{
    return &delivers[sys_loop_self() == workers[0] ? 0 : 1];
}

static void stop_deliver(struct sys_task *task)
{
    (void)task;
    deliver_stop(*own());
}

static void free_deliver(struct sys_task *task)
{
    (void)task;
    deliver_free(*own());
    *own() = NULL;
}

static bool are_idle(void *ctx)
{
    (void)ctx;
    for (uint32_t i = 0; i < workers_count; i++)
        if (!deliver_is_idle(delivers[i]))
            return false;
    return true;
}

static bool are_free(void *ctx)
{
    (void)ctx;
    return !delivers[0] && !delivers[1];
}

static void stop_in_host(void *ctx)
{
    (void)ctx;
    for (uint32_t i = 0; i < workers_count; i++)
        sys_loop_stop(workers[i]);
    spool_stop(spool);
    spool_close(spool);
    sys_loop_stop(dns_loop);
    dns_cache_free(cache);
    dns_close(dns);
}

static int teardown(void **state)
{
    (void)state;
    char command[96];
    struct sys_task stop[] = {{.run = stop_deliver}, {.run = stop_deliver}};
    struct sys_task end[] = {{.run = free_deliver}, {.run = free_deliver}};
    for (uint32_t i = 0; i < workers_count; i++)
        sys_post(workers[i], &stop[i]);
    bool ok = sim_run_until(are_idle, NULL, PATIENCE_MS);
    for (uint32_t i = 0; i < workers_count; i++)
        sys_post(workers[i], &end[i]);
    ok = ok && sim_run_until(are_free, NULL, PATIENCE_MS);
    sim_run_ms(1000); // the site sees the connections close
    ok = ok && sim_host_call(host, stop_in_host, NULL);
    queue_free(port.queue);
    conf_snapshot_release(snapshot);
    if (older)
        conf_snapshot_release(older);
    older = NULL;
    sim_stop();
    sim_dns_stop();
    sim_site_stop(site);
    site = NULL;
    snprintf(command, sizeof command, "rm -r %s", root);
    return ok && system(command) == 0 ? 0 : -1; // NOLINT(cert-env33-c): a folder of our own making
}

// ---- one message ---------------------------------------------------------------------------------------------

struct mail {
    struct sys_task task;
    const char *to;      // several are of one domain: "a@site.test b@site.test"
    int64_t lifetime_ms; // 0: a day
    struct message_id id;
    bool accepted;
};

static void on_accepted(void *ctx, int err)
{
    struct mail *mail = ctx;
    CHECK(err == OK);
    mail->accepted = true;
}

#define RECIPIENTS_MAX 4 // of one message

// Returns the key of their route.
static uint32_t add_recipients(struct stored_message *m, struct bytes to)
{
    struct envelope *e = m->envelope;
    struct mail_address address;
    struct buf domain = {0};
    struct bytes one;
    struct route_question question = {0};
    e->recipients = arena_new(&m->arena, RECIPIENTS_MAX * sizeof *e->recipients);
    while (to.len && bytes_cut(&to, ' ', &one)) {
        CHECK(e->recipients_count < RECIPIENTS_MAX);
        buf_clear(&domain);
        CHECK(mail_address_parse(one, &address) == OK &&
              mail_domain_route(address.domain, &domain) == OK);
        question.recipient = one;
        question.domain = arena_dup(&m->arena, buf_bytes(&domain));
        e->recipients[e->recipients_count] = (struct recipient){
            .number = e->recipients_count + 1, .address = one, .domain = question.domain};
        e->recipients_count++;
    }
    buf_done(&domain);
    return route_key(snapshot->routes, route_pick(snapshot->routes, &question));
}

static void begin(struct sys_task *task)
{
    struct mail *mail = container_of(task, struct mail, task);
    struct stored_message *m = stored_message_new();
    struct envelope *e = m->envelope; // from the null sender: nobody is to be told
    e->id = mail->id = spool_next_id(spool, sys_wall());
    e->accepted_at = sys_wall();
    e->expires_at = wall_add_ms(sys_wall(), mail->lifetime_ms ? mail->lifetime_ms : 86400000);
    uint32_t key = add_recipients(m, bytes_cstr(mail->to)), keys[RECIPIENTS_MAX];
    for (uint32_t i = 0; i < RECIPIENTS_MAX; i++)
        keys[i] = key;
    m->header = arena_dup(&m->arena, BYTES("Subject: x\r\n\r\n"));
    chain_add(&m->body, BYTES("body\r\n"));
    e->header_bytes = m->header.len;
    e->body_bytes = m->body.len;
    struct spool_frame *frame = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_message(frame, m);
    acceptance_commit(&port, frame, m, keys, on_accepted, mail);
}

static void send(struct mail *mail)
{
    mail->task.run = begin;
    sys_post(workers[0], &mail->task);
}

static struct queue_now now(void)
{
    return (struct queue_now){{sim_now_us()}, sim_wall()};
}

static bool is_gone(void *ctx)
{
    struct mail *mail = ctx;
    struct queue_place place;
    return mail->accepted && queue_find(port.queue, mail->id, 1, now(), &place) == E_NOT_FOUND;
}

static void assert_told(const char *name, const char *want)
{
    if (!strstr(told, want))
        fail_msg("%s: no '%s' in:\n%s", name, want, told);
}

// ---- tests ---------------------------------------------------------------------------------------------------

static void fails_what_can_never_arrive(void **state)
{
    static const struct {
        const char *to, *want;
    } ROWS[] = {
        {"a@null.test", "code=556 answer=\"the domain accepts no mail\""},
        {"a@nowhere.test", "code=550 answer=\"the domain does not exist\""},
        {"a@loop.test",
         "code=554 answer=\"mail for this domain would come back to this server (routing loop)\""},
        {"a@last.test",
         "code=554 answer=\"mail for this domain would come back to this server (routing loop)\""},
        {"a@near.test",
         "code=554 answer=\"mail for this domain would come back to this server (routing loop)\""},
        {"a@near6.test",
         "code=554 answer=\"mail for this domain would come back to this server (routing loop)\""},
        {"a@lost.test", "outcome=bounced"},
        {"\"..\"@box.test",
         "code=550 answer=\"this address can't be the name of a mailbox folder\""},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        assert_int_equal(i ? setup(state) : 0, 0);
        struct mail mail = {.to = ROWS[i].to};
        send(&mail);
        if (!sim_run_until(is_gone, &mail, PATIENCE_MS))
            fail_msg("%s is still queued", ROWS[i].to);
        assert_told(ROWS[i].to, "outcome=bounced");
        assert_told(ROWS[i].to, ROWS[i].want);
        if (i + 1 < COUNT_OF(ROWS))
            assert_int_equal(teardown(state), 0);
    }
}

static void waits_for_what_may_come_back(void **state)
{
    static const struct {
        const char *to;
        enum queue_limit limit;
        const char *text;
    } ROWS[] = {
        {"a@sick.test", QUEUE_LIMIT_DNS, ""},
        {"a@bogus.test", QUEUE_LIMIT_DNS, ""},
        {"a@silent.test", QUEUE_LIMIT_DNS, ""},
        {"a@first.test", QUEUE_LIMIT_DNS, "addresses of mx.sick.test"},
        {"a@smart.test", QUEUE_LIMIT_DNS,
         "the domain does not exist"}, // our own smarthost: a mistake that can be mended
        {"a@round.test", QUEUE_LIMIT_DNS, "the route leads back to this server"},
        {"a@round-ip.test", QUEUE_LIMIT_DNS, "the route leads back to this server"},
        {"a@down.test", QUEUE_LIMIT_BACKOFF, ""},
        {"a@backup.test", QUEUE_LIMIT_BACKOFF, ""}, // never to ourselves
        {"a@strict.test", QUEUE_LIMIT_BACKOFF, ""},
        {"a@socket.test", QUEUE_LIMIT_BACKOFF, ""},
        {"a@long.test", QUEUE_LIMIT_BACKOFF, ""},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        assert_int_equal(i ? setup(state) : 0, 0);
        struct mail mail = {.to = ROWS[i].to};
        struct queue_reason reason;
        send(&mail);
        sim_run_ms(1000);
        for (int n = 0; n < 100; n++) { // seen in between two tries, whatever they take
            sim_run_ms(1000);
            assert_int_equal(queue_why(port.queue, mail.id, 1, now(), &reason), OK);
            if (reason.limit == ROWS[i].limit && reason.until.us)
                break;
        }
        if (reason.limit != ROWS[i].limit || !strstr(reason.text, ROWS[i].text))
            fail_msg("%s: %s: %s", ROWS[i].to, queue_limit_name(reason.limit), reason.text);
        assert_int_equal(sim_attempts_to(&self), 0);
        if (i + 1 < COUNT_OF(ROWS))
            assert_int_equal(teardown(state), 0);
    }
}

static int files_in(const char *folder)
{
    int count = 0;
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, folder);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        count += e->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

static void delivers_into_mailboxes(void **state)
{
    (void)state;
    struct mail mail[20];
    for (int i = 0; i < 20; i++) {
        mail[i] = (struct mail){.to = i % 2 ? "Bob@box.test" : "eve@box.test"};
        send(&mail[i]);
    }
    for (int i = 0; i < 20; i++)
        assert_true(sim_run_until(is_gone, &mail[i], PATIENCE_MS));
    assert_told("box", "outcome=delivered");
    assert_int_equal(files_in("box.test/bob/new"), 10);
    assert_int_equal(files_in("box.test/eve/new"), 10);
    assert_int_equal(files_in("box.test/eve/tmp"), 0);
    assert_int_equal(atomic_load(&counters.recipients[VERDICT_FAILED]), 0);
}

static void discards(void **state)
{
    (void)state;
    struct mail mail = {.to = "a@void.test"};
    send(&mail);
    assert_true(sim_run_until(is_gone, &mail, PATIENCE_MS));
    assert_told("void", "answer=\"discarded by the route\"");
}

static bool has_lane(const char *name)
{
    struct queue_lane_row rows[16];
    uint64_t cursor = 0;
    size_t count = queue_lanes(port.queue, &cursor, now(), rows, COUNT_OF(rows));
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0)
            return true;
    return false;
}

// A host whose addresses can't be looked up just now belongs to its site: the same limits hold with and without it.
static void a_site_keeps_its_name(void **state)
{
    (void)state;
    struct mail mail = {.to = "a@half.test"};
    send(&mail);
    sim_run_ms(PATIENCE_MS);
    assert_true(has_lane("default->mx.down.test,mx.sick.test"));
}

// Whoever names another domain's hosts in another order has a lane of his own: in which order they are tried is that
// domain's to say (RFC 5321 5.1).
static void a_stranger_does_not_turn_the_order(void **state)
{
    (void)state;
    static const struct {
        const char *to;
        uint64_t attempts; // at mx.down.test, so far
    } ROWS[] = {
        {"a@turned.test", 0}, {"b@ranked.test", 1}, {"c@turned.test", 1}, {"d@ranked.test", 2}};
    struct sys_addr down;
    assert_int_equal(sys_addr_parse(BYTES("198.51.100.9:25"), &down), OK);
    site = sim_site_start(&(struct sim_site_options){.address = "198.51.100.20:25"});
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct mail mail = {.to = ROWS[i].to};
        send(&mail);
        if (!sim_run_until(is_gone, &mail, 50000))
            fail_msg("%s waits", mail.to);
        assert_number(mail.to, sim_attempts_to(&down), ROWS[i].attempts);
        sim_run_ms(10000); // connections that stand idle are closed
    }
    assert_true(has_lane("default->mx.down.test>site.test"));
    assert_true(has_lane("default->site.test>mx.down.test"));
}

// Two routes to one server without STARTTLS: what requires it waits, and keeps nobody.
static void keeps_what_requires_tls_apart(void **state)
{
    static const struct {
        const char *shut, *open, *shut_lane, *open_lane;
    } ROWS[] = {
        {"a@shut.test", "b@open.test", "default->smtp:198.51.100.20:25 encrypted",
         "default->smtp:198.51.100.20:25"},
        {"a@shut-mx.test", "b@open-mx.test", "default->site.test encrypted", "default->site.test"},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        assert_int_equal(i ? setup(state) : 0, 0);
        site = sim_site_start(&(struct sim_site_options){.address = "198.51.100.20:25"});
        struct mail shut = {.to = ROWS[i].shut}, open = {.to = ROWS[i].open};
        struct queue_reason reason;
        send(&shut);
        send(&open);
        if (!sim_run_until(is_gone, &open, 30000)) // the first interval of retry is a minute
            fail_msg("%s waits", ROWS[i].open);
        assert_told(ROWS[i].open, "outcome=delivered");
        assert_int_equal(queue_why(port.queue, shut.id, 1, now(), &reason), OK);
        if (reason.limit != QUEUE_LIMIT_BACKOFF || !strstr(reason.text, "STARTTLS"))
            fail_msg("%s: %s: %s", ROWS[i].shut, queue_limit_name(reason.limit), reason.text);
        assert_true(has_lane(ROWS[i].shut_lane) && has_lane(ROWS[i].open_lane));
        assert_null(strstr(sim_site_log(site), ROWS[i].shut));
        if (i + 1 < COUNT_OF(ROWS))
            assert_int_equal(teardown(state), 0);
    }
}

// ---- STARTTLS that does not work -------------------------------------------------------------------------------

#define MINUTE_MS 60000 // also the first interval of retry
#define HOUR_MS 3600000

static void start_site(enum sim_starttls starttls)
{
    site = sim_site_start(
        &(struct sim_site_options){.address = "198.51.100.20:25", .starttls = starttls});
}

static void assert_gone(struct mail *mail, int64_t within_ms, const char *logged)
{
    if (!sim_run_until(is_gone, mail, within_ms))
        fail_msg("%s is still queued:\n%s", mail->to, told);
    assert_told(mail->to, "outcome=delivered");
    if (!strstr(sim_site_log(site), logged))
        fail_msg("no '%s' in:\n%s", logged, sim_site_log(site));
}

static void assert_kept(struct mail *mail, int64_t for_ms)
{
    if (sim_run_until(is_gone, mail, for_ms))
        fail_msg("%s is gone:\n%s", mail->to, told);
    if (strstr(sim_site_log(site), mail->to))
        fail_msg("%s was sent:\n%s", mail->to, sim_site_log(site));
}

// The first failure is no reason to go without TLS, another a minute later is, for an hour. What hangs takes a minute.
static void goes_without_tls_that_keeps_failing(void **state)
{
    static const struct {
        enum sim_starttls starttls;
        int64_t takes_ms;
    } ROWS[] = {
        {SIM_STARTTLS_REFUSED, 0}, {SIM_STARTTLS_CLOSED, 0}, {SIM_STARTTLS_SILENT, MINUTE_MS}};
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        int64_t takes_ms = ROWS[i].takes_ms;
        assert_int_equal(i ? setup(state) : 0, 0);
        start_site(ROWS[i].starttls);
        struct mail first = {.to = "a@open.test"}, second = {.to = "b@open.test"},
                    third = {.to = "c@open.test"}, fourth = {.to = "d@open.test"},
                    fifth = {.to = "e@open.test"};
        send(&first);
        assert_kept(&first, takes_ms + 50000);
        assert_gone(&first, takes_ms + MINUTE_MS, "- > a@open.test\n");
        assert_number("asked for", sim_site_starttls(site), 2);
        sim_run_ms(HOUR_MS - 5 * MINUTE_MS);
        send(&second);
        assert_gone(&second, 5000, "- > b@open.test\n");
        assert_number("asked for", sim_site_starttls(site), 2);
        sim_run_ms(5 * MINUTE_MS);
        send(&third);
        assert_gone(&third, takes_ms + 5000, "- > c@open.test\n");
        assert_number("asked for", sim_site_starttls(site), 3);
        sim_run_ms(HOUR_MS);
        sim_site_set_starttls(site, SIM_STARTTLS_WORKS);
        send(&fourth);
        assert_gone(&fourth, 5000, "- >> d@open.test\n");
        sim_run_ms(HOUR_MS); // all is forgotten
        sim_site_set_starttls(site, ROWS[i].starttls);
        send(&fifth);
        assert_kept(&fifth, takes_ms + 50000);
        sim_site_set_starttls(site, SIM_STARTTLS_WORKS);
        assert_gone(&fifth, 5 * MINUTE_MS, "- >> e@open.test\n");
        if (i + 1 < COUNT_OF(ROWS))
            assert_int_equal(teardown(state), 0);
    }
}

// Nor does a session that wants a login get one in the clear, or hear of the mail.
static void never_goes_without_tls_to_log_in(void **state)
{
    (void)state;
    site = sim_site_start(&(struct sim_site_options){
        .address = "127.0.0.20:25", .starttls = SIM_STARTTLS_CLOSED, .wants_login = true});
    struct mail mail = {.to = "a@login.test"};
    send(&mail);
    assert_kept(&mail, 2 * HOUR_MS);
    assert_in_range(sim_site_starttls(site), 10, sim_site_sessions(site));
    sim_site_set_starttls(site, SIM_STARTTLS_WORKS);
    assert_gone(&mail, 10 * MINUTE_MS, "apikey:one >> a@login.test\n");
}

static bool is_refused(void *ctx)
{
    (void)ctx;
    return strstr(told, "code=530") != NULL;
}

// A server that wants TLS, and whose TLS has failed for a while.
static void tries_tls_again_where_it_is_asked_for(void **state)
{
    (void)state;
    site = sim_site_start(&(struct sim_site_options){
        .address = "198.51.100.20:25", .starttls = SIM_STARTTLS_CLOSED, .wants_tls = true});
    struct mail first = {.to = "a@open.test"}, second = {.to = "b@open.test"};
    send(&first);
    assert_true(sim_run_until(is_refused, NULL, 10 * MINUTE_MS));
    assert_told("530", "outcome=deferred");
    sim_site_set_starttls(site, SIM_STARTTLS_WORKS);
    send(&second);
    assert_gone(&second, 5000, "- >> b@open.test\n");
    assert_gone(&first, 10 * MINUTE_MS, "- >> a@open.test\n");
}

// A server that leaves after a few unknown recipients has served: its lane does not rest.
static void a_refusal_is_service(void **state)
{
    (void)state;
    site = sim_site_start(&(struct sim_site_options){.address = "198.51.100.20:25", .strikes = 2});
    struct mail mixed = {.to = "no1@open.test no2@open.test no3@open.test"},
                good = {.to = "b@open.test"};
    send(&mixed);
    sim_run_ms(5000);
    assert_number("refused", atomic_load(&counters.recipients[VERDICT_FAILED]), 2);
    assert_number("deferred", atomic_load(&counters.recipients[VERDICT_DEFERRED]), 1);
    send(&good);
    assert_gone(&good, 5000, "- > b@open.test\n");
    assert_true(sim_run_until(is_gone, &mixed, 2 * MINUTE_MS));
    sim_run_ms(2 * MINUTE_MS);
    assert_number("refused alone", atomic_load(&counters.recipients[VERDICT_FAILED]), 3);
}

// ---- logins ----------------------------------------------------------------------------------------------------

static void set_snapshot(struct sys_task *task)
{
    (void)task;
    deliver_set_snapshot(*own(), snapshot);
}

static void make_newer(void)
{
    older = snapshot;
    snapshot = make_snapshot(2);
}

static void reload(uint32_t worker)
{
    static struct sys_task tasks[2];
    tasks[worker] = (struct sys_task){.run = set_snapshot};
    sys_post(workers[worker], &tasks[worker]);
}

static void assert_sent(const char *who, const char *to)
{
    char line[128];
    snprintf(line, sizeof line, "%s > %s\n", who, to);
    if (!strstr(sim_site_log(site), line))
        fail_msg("no '%s' in:\n%s", line, sim_site_log(site));
}

static struct sys_addr tenants_address;

static void start_tenants_site(void)
{
    assert_int_equal(sys_addr_parse(BYTES("198.51.100.30:465"), &tenants_address), OK);
    site = sim_site_start(&(struct sim_site_options){
        .address = "198.51.100.30:465", .tls = true, .wants_login = true});
}

// What is asked again and again is that nobody's mail goes over a session that another has logged in for.
static void keeps_logins_apart(void **state)
{
    (void)state;
    static const struct {
        const char *to, *who;
    } ROWS[] = {
        {"a@a.one.test", "apikey:one"}, {"b@b.two.test", "apikey:two"},
        {"c@a.one.test", "apikey:one"}, {"d@b.two.test", "apikey:two"},
        {"e@c.one.test", "apikey:one"}, {"f@b.two.test", "apikey:two"},
    };
    struct mail mail[COUNT_OF(ROWS)];
    start_tenants_site();
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        mail[i] = (struct mail){.to = ROWS[i].to};
        if (i == 4) { // their sessions stand idle, and now the names mean the other
            make_newer();
            reload(0);
            sim_run_ms(10);
        }
        send(&mail[i]);
        assert_true(sim_run_until(is_gone, &mail[i], 30000));
        assert_sent(ROWS[i].who, ROWS[i].to);
    }
    assert_number("sessions", sim_site_sessions(site), 4); // two before, two after
    assert_true(has_lane("default->" TENANTS " as apikey"));
    assert_true(has_lane("default->" TENANTS " login 2 as apikey"));
}

static int setup_two_workers(void **state)
{
    workers_count = 2;
    return setup(state);
}

static int teardown_two_workers(void **state)
{
    int result = teardown(state);
    workers_count = 1;
    return result;
}

// An address in a domain that belongs to the worker.
static const char *address_at(uint32_t worker, const char *zone, char out[64])
{
    for (int i = 0;; i++) {
        snprintf(out, 64, "a@d%d.%s", i, zone);
        if (map_hash(bytes_cstr(out + 2)) % workers_count == worker)
            return out;
    }
}

static bool waits_for_site(void *ctx)
{
    struct mail *mail = ctx;
    struct queue_reason reason;
    return mail->accepted && queue_why(port.queue, mail->id, 1, now(), &reason) == OK &&
           reason.limit == QUEUE_LIMIT_BACKOFF;
}

// Mail of the first tenant that waits for its site, which can't be reached. The lane's worker is told of the newer
// table then, and the domain's is not.
static void begin_reload(struct mail *first, uint32_t of_lane)
{
    start_tenants_site();
    sim_path_set(&tenants_address, &(struct sim_path){.refused = true});
    send(first);
    assert_true(sim_run_until(waits_for_site, first, 30000));
    make_newer();
    reload(of_lane);
    sim_run_ms(10);
    sim_path_set(&tenants_address, &(struct sim_path){0});
}

static uint32_t worker_of_lane(void)
{
    return map_hash(BYTES("default->" TENANTS " as apikey")) % workers_count;
}

// The lane's hosts are of a table that its worker has no more, and so is the login: nothing is opened without.
static void opens_no_session_without_its_login(void **state)
{
    (void)state;
    char one[64];
    uint32_t of_lane = worker_of_lane();
    struct mail first = {.to = address_at(1 - of_lane, "one.test", one)};
    begin_reload(&first, of_lane);
    uint64_t attempts = sim_attempts_to(&tenants_address);
    sim_run_ms(90000); // the first interval of retry and more
    uint64_t turns = sim_turns();
    sim_run_ms(10000);
    assert_true(sim_turns() - turns < 200); // nor does it ask all the time
    assert_number("attempts", sim_attempts_to(&tenants_address), attempts);
    reload(1 - of_lane);
    assert_true(sim_run_until(is_gone, &first, 30000));
    assert_sent("apikey:one", one);
    assert_told(one, "outcome=delivered");
}

// The lane's worker has a session by the new table, and the domain's mail is in that lane by the old one.
static void keeps_logins_apart_within_a_reload(void **state)
{
    (void)state;
    char one[64], two[64];
    uint32_t of_lane = worker_of_lane();
    struct mail first = {.to = address_at(1 - of_lane, "one.test", one)};
    struct mail second = {.to = address_at(of_lane, "two.test", two)};
    begin_reload(&first, of_lane);
    send(&second);
    assert_true(sim_run_until(is_gone, &second, 120000));
    sim_run_ms(20);
    assert_sent("apikey:two", two);
    reload(1 - of_lane);
    assert_true(sim_run_until(is_gone, &first, 120000));
    assert_sent("apikey:one", one);
}

// ---- much at once ------------------------------------------------------------------------------------------------

static int setup_keeping_some(void **state)
{
    stored_bytes_max = 4 << 20; // of all that is sent below a fifth
    return setup(state);
}

static int teardown_keeping_some(void **state)
{
    stored_bytes_max = 1 << 20;
    return teardown(state);
}

static bool are_gone(void *ctx)
{
    struct mail *mail = ctx;
    for (; mail->to; mail++)
        if (!is_gone(mail))
            return false;
    return true;
}

// The lifetime of all mail for a dead site ends at once, and each message has to be read from a slow disk. Mail of
// many other domains leaves as quickly as ever.
static void a_flood_of_expiries_delays_no_other_mail(void **state)
{
    (void)state;
    static struct mail dead[1001], fresh[101];
    static char to[100][32];
    for (int i = 0; i < 1000; i++) {
        dead[i] = (struct mail){.to = "a@down.test", .lifetime_ms = HOUR_MS};
        send(&dead[i]);
    }
    sim_run_ms(HOUR_MS - 1000);
    sim_disk_read_us(sim_disk_find("/spool"), 100000);
    start_tenants_site();
    sim_run_ms(2000);
    for (int i = 0; i < 100; i++) {
        snprintf(to[i], sizeof to[i], "b@d%d.one.test", i);
        fresh[i] = (struct mail){.to = to[i]};
        send(&fresh[i]);
    }
    bool gone = sim_run_until(are_gone, fresh, 1000);
    uint64_t expired = atomic_load(&counters.recipients[VERDICT_EXPIRED]);
    if (!gone || expired > 500)
        fail_msg("%s, %llu of the others have expired", gone ? "gone" : "some wait",
                 (unsigned long long)expired);
    sim_disk_read_us(sim_disk_find("/spool"), 0);
    assert_true(sim_run_until(are_gone, dead, PATIENCE_MS));
    assert_number("expired", atomic_load(&counters.recipients[VERDICT_EXPIRED]), 1000);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(fails_what_can_never_arrive, setup, teardown),
    cmocka_unit_test_setup_teardown(waits_for_what_may_come_back, setup, teardown),
    cmocka_unit_test_setup_teardown(delivers_into_mailboxes, setup, teardown),
    cmocka_unit_test_setup_teardown(discards, setup, teardown),
    cmocka_unit_test_setup_teardown(a_site_keeps_its_name, setup, teardown),
    cmocka_unit_test_setup_teardown(a_stranger_does_not_turn_the_order, setup, teardown),
    cmocka_unit_test_setup_teardown(keeps_what_requires_tls_apart, setup, teardown),
    cmocka_unit_test_setup_teardown(goes_without_tls_that_keeps_failing, setup, teardown),
    cmocka_unit_test_setup_teardown(never_goes_without_tls_to_log_in, setup, teardown),
    cmocka_unit_test_setup_teardown(tries_tls_again_where_it_is_asked_for, setup, teardown),
    cmocka_unit_test_setup_teardown(a_refusal_is_service, setup, teardown),
    cmocka_unit_test_setup_teardown(keeps_logins_apart, setup, teardown),
    cmocka_unit_test_setup_teardown(opens_no_session_without_its_login, setup_two_workers,
                                    teardown_two_workers),
    cmocka_unit_test_setup_teardown(keeps_logins_apart_within_a_reload, setup_two_workers,
                                    teardown_two_workers),
    cmocka_unit_test_setup_teardown(a_flood_of_expiries_delays_no_other_mail, setup_keeping_some,
                                    teardown_keeping_some),
};

RUN_TESTS(tests)
