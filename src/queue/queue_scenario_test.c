// SPDX-License-Identifier: MIT
//
// The promises of the queue, each as a story in virtual time. The world (queue_world.c) checks the
// limits of every lane at every message; what is checked here is that they are also reached.
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/test_base.h"
#include "queue/queue_inside.h" // how many slots there are
#include "queue/queue_world.h"

#define SECOND_MS 1000
#define MINUTE_MS 60000
#define HOUR_MS 3600000LL
#define DAY_MS (24 * HOUR_MS)

static struct world_site *start(struct world *w, const char *conf)
{
    world_init(w, &(struct world_options){.conf = conf, .workers = 3, .seed = 42});
    w->keep_sent = true;
    w->save_ms = 3;
    struct world_site *site = world_site(w, "site");
    site->connect_ms = 20;
    site->transaction_ms = 100;
    return site;
}

static void add(struct world *w, int n, uint32_t account, enum mail_class class)
{
    for (int i = 0; i < n; i++)
        world_add(w, &(struct world_mail){.domain = "d.site",
                                          .account = account,
                                          .class = class,
                                          .recipients = 1,
                                          .size = 4000});
}

static size_t sent_between(const struct world *w, int64_t from_us, int64_t to_us)
{
    size_t n = 0;
    for (size_t i = 0; i < w->sent_count; i++)
        n += w->sent[i].at_us >= from_us && w->sent[i].at_us < to_us;
    return n;
}

// 10,000 messages for a site that refuses connections: one connection a retry interval, nothing
// recorded.
static void refusing_site_costs_one_connection_an_interval(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site =
        start(&w, "retry: {first: 5m, factor: 2, max: 4h, lifetime: 5d, warn_after: none}\n");
    site->refuses = true;
    for (int i = 0; i < 10000; i++) {
        char domain[32]; // one provider's many domains
        snprintf(domain, sizeof(domain), "d%d.site", i % 500);
        world_add(&w, &(struct world_mail){.domain = domain,
                                           .account = (uint32_t)i % 7,
                                           .class = (enum mail_class)(i % 3),
                                           .recipients = 1});
        if (i % 100 == 0)
            world_run(&w, SECOND_MS);
    }
    world_run(&w, HOUR_MS - 100 * SECOND_MS);
    assert_number("in the first hour: at 0, 5, 15, 35 minutes", site->connects, 4);
    assert_number("batches", w.sent_count, 0);
    world_run(&w, DAY_MS);
    assert_true(site->connects <= 4 + 3 + 24 / 4 && site->connects >= 9);
    site->refuses = false;
    world_run(&w, 5 * HOUR_MS);
    assert_number("all went in the end", w.done, 10000);
    world_done(&w);
}

// One that takes connections and breaks them over each message is left alone as one that takes none.
static void backs_off_from_broken_sessions(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, "retry: {first: 5m, factor: 2, max: 4h}\n");
    site->reply = WORLD_BREAK;
    add(&w, 1000, 1, MAIL_BULK);
    world_run(&w, MINUTE_MS);
    uint64_t burst = site->connects; // before the first failure was known
    world_run(&w, 6 * HOUR_MS);
    assert_true(burst <= 18 && site->connects >= burst + 4 && site->connects <= burst + 8);
    world_done(&w);
}

// The first connection after a failure stays alone until the site has taken something.
static void comes_back_with_one_probe(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, "retry: {first: 1m, factor: 1, max: 1m}\n");
    site->reply = WORLD_BREAK;
    add(&w, 1000, 1, MAIL_BULK);
    world_run(&w, HOUR_MS);
    uint64_t burst = site->connections_most; // before the first failure was known
    assert_true(burst <= 18 && site->connects <= burst + 60);
    site->connections_most = 0;
    world_run(&w, HOUR_MS);
    assert_number("one at a time", site->connections_most, 1);
    site->reply = WORLD_DELIVER;
    world_run(&w, 10 * MINUTE_MS);
    assert_number("done", w.done, 1000);
    assert_number("then it opens up", site->connections_most,
                  18); // 20 less the transactional share
    world_done(&w);
}

static struct world_site *start_seeded(struct world *w, uint64_t seed)
{
    world_init(w, &(struct world_options){.conf = "retry: {first: 5m, factor: 2, max: 4h}\n",
                                          .seed = seed});
    struct world_site *site = world_site(w, "site");
    site->transaction_ms = 100;
    return site;
}

// One message over which the site breaks each session keeps others waiting for no longer than a first interval or two,
// however long it has been doing so, and whatever its class.
static void a_message_that_breaks_sessions_stops_no_others(void **state)
{
    (void)state;
    static const int64_t alone_ms[] = {MINUTE_MS, 2 * HOUR_MS, DAY_MS};
    for (uint64_t i = 0; i < 10 * COUNT_OF(alone_ms); i++) {
        struct world w;
        struct world_site *site = start_seeded(&w, i);
        site->breaks[0] =
            world_add(&w, &(struct world_mail){.domain = "d.site", .spread = 2, .recipients = 2});
        world_run(&w, alone_ms[i / 10]);
        add(&w, 100, 1, MAIL_BULK);
        world_run(&w, 11 * MINUTE_MS);
        assert_number("bulk", w.done, 100);
        world_done(&w);
    }
}

// Two of them take turns at the front: a try begins with another class then.
static void two_of_them_stop_no_other_class(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 20; i++) {
        struct world w;
        struct world_site *site = start_seeded(&w, i);
        for (int k = 0; k < 2; k++)
            site->breaks[k] =
                world_add(&w, &(struct world_mail){.domain = "d.site", .recipients = 1});
        world_run(&w, MINUTE_MS);
        add(&w, 100, 1, MAIL_BULK);
        world_run(&w, 40 * MINUTE_MS);
        assert_number("bulk", w.done, 100);
        world_done(&w);
    }
}

// A site that lets five connections stand gets five, over which the mail goes on, and is seldom asked for more.
static void a_sites_limit_is_no_reason_to_rest(void **state)
{
    (void)state;
    enum { STAND = 5 };
    struct world w;
    struct world_site *site = start(&w, "retry: {first: 5m, factor: 2, max: 4h}\n");
    site->stand_max = STAND;
    site->transaction_ms = SECOND_MS;
    add(&w, 10000, 1, MAIL_BULK);
    world_run(&w, SECOND_MS);
    for (int minute = 0; w.done < 10000; minute++) {
        uint64_t sent = site->messages;
        world_run(&w, MINUTE_MS);
        if (w.done < 10000 && site->messages - sent < 60 * (STAND - 1) * 9 / 10)
            fail_msg("%llu in minute %d", (unsigned long long)(site->messages - sent), minute);
        if (site->refused > (uint64_t)(STAND + 3) * (minute / 5 + 1))
            fail_msg("%llu refused by minute %d", (unsigned long long)site->refused, minute);
    }
    world_done(&w);
}

// ... and gets more once it takes them.
static void a_ceiling_is_lifted(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, "retry: {first: 5m, factor: 2, max: 4h}\n");
    site->stand_max = 3;
    site->transaction_ms = SECOND_MS;
    for (int i = 0; i < 5000; i++)
        world_add(&w, &(struct world_mail){.domain = "d.site", .recipients = 1});
    world_run(&w, MINUTE_MS);
    assert_number("its limit", site->stand, 3);
    for (enum mail_class class = MAIL_TRANSACTIONAL; class <= MAIL_BULK; class ++) {
        struct message_id last = world_add(
            &w, &(struct world_mail){.domain = "d.site", .class = class, .recipients = 1});
        world_turn(&w);
        struct queue_reason reason;
        assert_int_equal(queue_why(w.queue, last, 0, w.now, &reason), OK);
        assert_int_equal(reason.limit, QUEUE_LIMIT_LANE_CONNECTIONS);
        assert_non_null(strstr(reason.text, "no more than 3 connections"));
        assert_in_range(wall_ms_between(w.now.wall, reason.until), 1, 5 * MINUTE_MS);
    }
    site->stand_max = 0;
    world_run(&w, 4 * MINUTE_MS + SECOND_MS);
    assert_number("ours", site->stand, 20);
    world_done(&w);
}

// 100,000 due messages of account A do not keep B's one waiting.
static void accounts_take_turns(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, "lanes: [{match: \"*\", connections: 5}]\n");
    w.dns_ms = 10;
    add(&w, 1, 2, MAIL_BULK); // B alone: the idle latency
    int64_t begin = w.now.mono.us;
    world_run(&w, MINUTE_MS);
    int64_t idle_us = w.sent[0].at_us - begin;
    assert_true(idle_us <= 31000);
    add(&w, 100000, 1, MAIL_BULK);
    world_run(&w, MINUTE_MS);
    for (int round = 0; round < 20; round++) {
        begin = w.now.mono.us;
        size_t before = w.sent_count;
        add(&w, 1, 2, MAIL_BULK);
        world_run(&w, SECOND_MS);
        size_t i = before;
        while (i < w.sent_count && w.sent[i].account != 2)
            i++;
        assert_true(i < w.sent_count);
        assert_true(w.sent[i].at_us - begin <= 2 * idle_us + site->transaction_ms * 1000);
        world_run(&w, 137);
    }
    world_done(&w);
}

static void many_accounts_share_evenly(void **state)
{
    (void)state;
    struct world w;
    start(&w, "lanes: [{match: \"*\", connections: 3}]\n");
    for (uint32_t account = 1; account <= 10; account++)
        add(&w, account == 1 ? 5000 : 100, account, MAIL_PERSONAL);
    world_run(&w, MINUTE_MS);
    size_t count[11] = {0};
    for (size_t i = 0; i < 1000; i++)
        count[w.sent[i].account]++;
    for (uint32_t account = 1; account <= 10; account++)
        assert_number("turns", count[account], 100);
    world_done(&w);
}

// A password reset passes a newsletter whose transactions hold all of their connections for long.
static void transactional_never_waits_behind_bulk(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, "lanes: [{match: \"*\", connections: 4}]\n");
    site->transaction_ms = 10 * MINUTE_MS;
    add(&w, 1000, 1, MAIL_BULK);
    add(&w, 1000, 1, MAIL_PERSONAL);
    world_run(&w, MINUTE_MS);
    assert_number("three of four connections", w.sent_count, 3);
    int64_t begin = w.now.mono.us;
    add(&w, 1, 1, MAIL_TRANSACTIONAL);
    world_run(&w, SECOND_MS);
    assert_number("it went", w.sent_count, 4);
    assert_int_equal(w.sent[3].class, MAIL_TRANSACTIONAL);
    assert_true(w.sent[3].at_us - begin <= 30000);
    world_done(&w);
}

static void classes_go_in_order(void **state)
{
    (void)state;
    struct world w;
    start(&w, "lanes: [{match: \"*\", connections: 1}]\n");
    add(&w, 50, 1, MAIL_BULK);
    add(&w, 50, 1, MAIL_PERSONAL);
    add(&w, 50, 1, MAIL_TRANSACTIONAL);
    world_run(&w, MINUTE_MS);
    assert_number("sent", w.sent_count, 150);
    for (size_t i = 1; i < 150; i++)
        assert_true(w.sent[i - 1].class <= w.sent[i].class);
    world_done(&w);
}

// Each limit is reached, to the message; the world checks that it is never passed.
static void limits_are_reached_and_not_passed(void **state)
{
    (void)state;
    static const struct {
        const char *name, *limit;
        enum mail_class class;
        int64_t window_ms;
        size_t least, most; // sent in the first window
    } rows[] = {
        {"paced", "messages_per_second: 5", MAIL_TRANSACTIONAL, SECOND_MS * 10, 49, 50},
        {"slow", "messages_per_second: 0.5", MAIL_TRANSACTIONAL, SECOND_MS * 100, 49, 50},
        {"counted", "messages_per_second: 50", MAIL_TRANSACTIONAL, SECOND_MS, 50, 50},
        {"counted, bulk", "messages_per_second: 50", MAIL_BULK, SECOND_MS, 45, 45},
        {"hour", "messages_per_hour: 7", MAIL_TRANSACTIONAL, HOUR_MS, 7, 7},
        {"hour of one", "messages_per_hour: 1", MAIL_BULK, HOUR_MS, 1, 1},
        {"hour, bulk", "messages_per_hour: 100", MAIL_BULK, HOUR_MS, 90, 90},
        {"day", "messages_per_day: 200", MAIL_TRANSACTIONAL, DAY_MS, 200, 200},
        {"day, bulk", "messages_per_day: 200", MAIL_BULK, DAY_MS, 180, 180},
        {"both", "messages_per_hour: 20, messages_per_day: 50", MAIL_TRANSACTIONAL, DAY_MS, 50, 50},
        {"bytes", "bytes_per_second: 8000", MAIL_TRANSACTIONAL, SECOND_MS * 100, 199, 200},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char conf[200];
        snprintf(conf, sizeof(conf), "lanes: [{match: \"*\", connections: 20, %s}]\n",
                 rows[i].limit);
        struct world w;
        struct world_site *site = start(&w, conf);
        site->connect_ms = site->transaction_ms = w.save_ms = 0;
        world_run(&w, 2 * SECOND_MS); // rates rest for a second after a start
        add(&w, 400, 1, rows[i].class);
        int64_t begin = w.now.mono.us;
        world_run(&w, 3 * rows[i].window_ms);
        size_t n = sent_between(&w, begin, begin + rows[i].window_ms * 1000);
        if (n < rows[i].least || n > rows[i].most)
            fail_msg("%s: %zu in the first window, want %zu to %zu", rows[i].name, n, rows[i].least,
                     rows[i].most);
        size_t more = w.sent_count < 400 ? w.sent_count : 400;
        if (more * 100 < n * 250 && more < 400) // three windows: nearly three times as much
            fail_msg("%s: only %zu in three windows", rows[i].name, more);
        world_done(&w);
    }
}

static void connection_limits_are_reached(void **state)
{
    (void)state;
    static const struct {
        uint32_t limit;
        enum mail_class class;
        uint64_t want;
    } rows[] = {{1, MAIL_TRANSACTIONAL, 1}, {1, MAIL_BULK, 1},
                {2, MAIL_TRANSACTIONAL, 2}, {2, MAIL_BULK, 1},
                {10, MAIL_BULK, 9},         {10, MAIL_TRANSACTIONAL, 10},
                {100, MAIL_BULK, 90},       {33, MAIL_TRANSACTIONAL, 33}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char conf[200];
        snprintf(conf, sizeof(conf), "lanes: [{match: \"*\", connections: %u}]\n", rows[i].limit);
        struct world w;
        struct world_site *site = start(&w, conf);
        site->transaction_ms = SECOND_MS;
        add(&w, 1000, 1, rows[i].class);
        world_run(&w, 20 * SECOND_MS);
        assert_number(conf, site->connections_most, rows[i].want);
        world_done(&w);
    }
}

static void all_lanes_together_have_a_limit(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, &(struct world_options){.workers = 2, .seed = 1, .connections_max = 7});
    static const char *const sites[] = {"s1", "s2", "s3", "s4", "s5"};
    for (size_t i = 0; i < COUNT_OF(sites); i++) {
        world_site(&w, sites[i])->transaction_ms = 50;
        for (int n = 0; n < 100; n++)
            world_add(&w, &(struct world_mail){.domain = sites[i], .recipients = 1});
    }
    uint64_t most = 0;
    for (int i = 0; i < 1000; i++) {
        world_run(&w, 10);
        struct queue_counts c;
        queue_count(w.queue, &c);
        most = c.connections > most ? c.connections : most;
        assert_true(c.connections <= 7);
    }
    assert_number("reached", most, 7);
    world_done(&w);
}

// A world with so many connections in all, and sites that take their time.
static void start_short_of_connections(struct world *w, uint32_t connections)
{
    static const char *const sites[] = {"s0", "s1", "s2", "s3", "s4", "s5"};
    world_init(w, &(struct world_options){.workers = 3, .seed = 1, .connections_max = connections});
    for (size_t i = 0; i < COUNT_OF(sites); i++) {
        world_site(w, sites[i])->transaction_ms = 200;
        world_site(w, sites[i])->connect_ms = 50;
    }
}

// By 1 KiB a second 100 s worth.
static void add_large(struct world *w, int n, enum mail_class class)
{
    for (int i = 0; i < n; i++)
        world_add(w, &(struct world_mail){
                         .domain = "d.site", .class = class, .recipients = 1, .size = 100 * 1024});
}

static void add_to(struct world *w, const char *site, int n, enum mail_class class)
{
    for (int i = 0; i < n; i++)
        world_add(w, &(struct world_mail){.domain = site, .recipients = 1, .class = class});
}

// A password reset to one site does not wait behind newsletters to others that have all connections.
static void transactional_gets_a_connection_of_other_lanes(void **state)
{
    (void)state;
    for (uint32_t lanes = 1; lanes <= 4; lanes++) {
        struct world w;
        start_short_of_connections(&w, 4);
        for (uint32_t i = 0; i < lanes; i++)
            add_to(&w, w.sites[i].name, 20000, MAIL_BULK);
        world_run(&w, MINUTE_MS);
        for (int round = 0; round < 5; round++) {
            uint64_t sent = w.sites[5].messages;
            add_to(&w, "s4", 20, MAIL_BULK); // came before
            add_to(&w, "s5", 1, MAIL_TRANSACTIONAL);
            world_run(&w, 300);
            assert_number("sent", w.sites[5].messages, sent + 1);
            world_run(&w, MINUTE_MS);
        }
        world_done(&w);
    }
}

// Nor does mail of any class wait behind transactional mail of another site that has all connections, and wants more.
static void a_lane_without_connections_comes_first(void **state)
{
    (void)state;
    for (enum mail_class class = MAIL_TRANSACTIONAL; class <= MAIL_BULK; class ++) {
        struct world w;
        start_short_of_connections(&w, 4);
        w.sites[0].transaction_ms = 10000; // a tarpit
        add_to(&w, "s0", 2000, MAIL_TRANSACTIONAL);
        world_run(&w, MINUTE_MS);
        add_to(&w, "s1", 2000, MAIL_TRANSACTIONAL);
        add_to(&w, "s5", 1, class);
        world_run(&w, 12000);
        assert_number("sent", w.sites[5].messages, 1);
        assert_true(w.sites[1].messages > 0);
        world_done(&w);
    }
}

// A password reset waits neither behind newsletters to its own site, which holds them up, nor behind those to others.
static void a_connection_with_bulk_is_none_for_transactional(void **state)
{
    (void)state;
    struct world w;
    start_short_of_connections(&w, 2);
    w.keep_sent = true;
    w.sites[0].transaction_ms = 5 * MINUTE_MS;
    add_to(&w, "s0", 1, MAIL_BULK);
    world_run(&w, SECOND_MS);
    for (size_t i = 1; i < 6; i++)
        add_to(&w, w.sites[i].name, 40, MAIL_BULK); // 8 s each
    world_run(&w, SECOND_MS);
    add_to(&w, "s0", 1, MAIL_TRANSACTIONAL);
    size_t before = w.sent_count, sent = 0;
    world_run(&w, 3000);
    for (size_t i = before; i < w.sent_count; i++)
        sent += w.sent[i].class == MAIL_TRANSACTIONAL;
    assert_number("sent", sent, 1);
    assert_number("connections", w.sites[0].connects, 2);
    world_run(&w, 6 * MINUTE_MS);
    for (size_t i = 1; i < 6; i++)
        assert_number("all the others", w.sites[i].messages, 40);
    world_done(&w);
}

// ... but where its site is quick it has a connection soon, and few are closed for it.
static void transactional_costs_few_connections(void **state)
{
    (void)state;
    struct world w;
    start_short_of_connections(&w, 8);
    for (size_t i = 0; i < 3; i++)
        add_to(&w, w.sites[i].name, 20000, MAIL_BULK);
    world_run(&w, MINUTE_MS);
    uint64_t connects = 0, messages = 0;
    for (size_t i = 0; i < 3; i++)
        connects -= w.sites[i].connects, messages -= w.sites[i].messages;
    for (size_t i = 0; i < 1500; i++) {
        add_to(&w, w.sites[i % 3].name, 1, MAIL_TRANSACTIONAL);
        world_run(&w, 200);
    }
    for (size_t i = 0; i < 3; i++)
        connects += w.sites[i].connects, messages += w.sites[i].messages;
    if (connects >= messages / 10)
        fail_msg("%llu connections for %llu messages", (unsigned long long)connects,
                 (unsigned long long)messages);
    world_done(&w);
}

// Nobody closes a connection to be the one that opens it again: a lane with transactional mail stands before one with bulk
// that has fewer.
static void nobody_gives_way_to_itself(void **state)
{
    (void)state;
    struct world w;
    start_short_of_connections(&w, 4);
    add_to(&w, "s0", 20000, MAIL_TRANSACTIONAL);
    world_run(&w, MINUTE_MS);
    add_to(&w, "s1", 20000, MAIL_BULK);
    uint64_t connects = w.sites[0].connects, messages = w.sites[0].messages;
    world_run(&w, 5 * MINUTE_MS);
    connects = w.sites[0].connects - connects, messages = w.sites[0].messages - messages;
    if (connects >= messages / 10)
        fail_msg("%llu connections for %llu messages", (unsigned long long)connects,
                 (unsigned long long)messages);
    assert_true(messages > 4000 && w.sites[1].messages > 1000);
    world_done(&w);
}

// A site that takes its time keeps no more connections than another one with as much mail of the same class.
static void a_slow_site_keeps_no_more_than_others(void **state)
{
    (void)state;
    for (enum mail_class class = MAIL_TRANSACTIONAL; class <= MAIL_BULK; class ++) {
        struct world w;
        start_short_of_connections(&w, 12);
        w.sites[0].transaction_ms = 10000;
        add_to(&w, "s0", 2000, class);
        world_run(&w, MINUTE_MS);
        add_to(&w, "s1", 40000, class);
        world_run(&w, 5 * MINUTE_MS);
        uint64_t connects = w.sites[0].connects, sent = w.sites[1].messages;
        world_run(&w, 5 * MINUTE_MS);
        connects = w.sites[0].connects - connects, sent = w.sites[1].messages - sent;
        if (sent < 7500 || connects > sent / 50) // 1,500 over one connection
            fail_msg("%llu sent, %llu connections of the slow one", (unsigned long long)sent,
                     (unsigned long long)connects);
        world_done(&w);
    }
}

// More lanes than connections: all have their turn, and what there is is used.
static void lanes_take_turns_for_connections(void **state)
{
    (void)state;
    struct world w;
    start_short_of_connections(&w, 2);
    for (size_t i = 0; i < 6; i++)
        add_to(&w, w.sites[i].name, i == 0 ? 20000 : 2000, MAIL_BULK);
    world_run(&w, 10 * MINUTE_MS);
    uint64_t all = 0;
    for (size_t i = 0; i < 6; i++) { // 6,000 transactions fit into the time
        all += w.sites[i].messages;
        if (w.sites[i].messages < 800)
            fail_msg("%s: %llu sent", w.sites[i].name, (unsigned long long)w.sites[i].messages);
        assert_true(w.sites[i].connects < 30);
    }
    assert_true(all > 5800);
    world_done(&w);
}

// Lanes with enough for many connections come to the same number of them, and stay there.
static void lanes_share_connections_evenly(void **state)
{
    (void)state;
    struct world w;
    start_short_of_connections(&w, 12);
    add_to(&w, "s0", 30000, MAIL_BULK);
    world_run(&w, MINUTE_MS);
    assert_number("all for one", w.sites[0].connections_most, 12);
    for (size_t i = 1; i < 4; i++)
        add_to(&w, w.sites[i].name, 30000, i % 2 ? MAIL_BULK : MAIL_TRANSACTIONAL);
    world_run(&w, MINUTE_MS);
    uint64_t before[4], connects = 0;
    for (size_t i = 0; i < 4; i++)
        before[i] = w.sites[i].messages, connects += w.sites[i].connects;
    world_run(&w, 5 * MINUTE_MS);
    for (size_t i = 0; i < 4; i++) {
        uint64_t sent = w.sites[i].messages - before[i]; // 1,500 over one connection
        if (sent < 2700 || sent > 6300)                  // one less or more
            fail_msg("%s: %llu sent", w.sites[i].name, (unsigned long long)sent);
        connects -= w.sites[i].connects;
    }
    assert_true(-connects <= 18000 / 100 * 2); // 100 messages over each
    world_done(&w);
}

// Connections that only stand ready are closed when others need them.
static void idle_connections_make_room(void **state)
{
    (void)state;
    struct world w;
    start_short_of_connections(&w, 3);
    for (size_t i = 0; i < 3; i++)
        add_to(&w, w.sites[i].name, 1, MAIL_PERSONAL);
    world_run(&w, MINUTE_MS);
    add_to(&w, "s3", 1, MAIL_BULK);
    add_to(&w, "s4", 1, MAIL_BULK);
    world_run(&w, 300);
    assert_number("sent", w.sites[3].messages + w.sites[4].messages, 2);
    struct queue_counts counts;
    queue_count(w.queue, &counts);
    assert_number("one is left alone", counts.connections, 3);
    world_done(&w);
}

// Hour and day limits hold across crashes (the world's watch does not forget), and a clean stop
// costs nothing.
static void windows_survive_restarts(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool clean;
        size_t least; // in a day with a restart every 20 minutes
    } rows[] = {{"clean stops", true, 24 * 100 * 9 / 10}, {"crashes", false, 24 * 40}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct world w;
        struct world_site *site =
            start(&w, "lanes: [{match: \"*\", messages_per_hour: 100, messages_per_day: 10000}]\n");
        site->transaction_ms = 0;
        add(&w, 5000, 1, MAIL_TRANSACTIONAL);
        int64_t begin = w.now.mono.us;
        while (w.now.mono.us - begin < DAY_MS * 1000) {
            world_run(&w, 19 * MINUTE_MS);
            world_crash(&w, MINUTE_MS, rows[i].clean);
        }
        if (w.sent_count < rows[i].least || w.sent_count > 25 * 100)
            fail_msg("%s: %zu sent", rows[i].name, w.sent_count);
        world_done(&w);
    }
}

// One slot more than the window has: the one that is leaving counts, too.
static void add_full_window(struct buf *out, const char *key, int64_t window_ms, int slots,
                            uint32_t count)
{
    buf_printf(out, " %s=", key);
    for (int i = 0; i <= slots; i++) {
        int64_t age_us = i * (window_ms / slots) * 1000;
        buf_printf(out, "%s%lld:%u", i ? "," : "", (long long)age_us, count);
    }
}

// What a window of a note counts.
static uint64_t count_of(struct bytes note, const char *key)
{
    struct bytes text, slot, age;
    uint64_t sum = 0, n;
    ptrdiff_t at = bytes_search(note, bytes_cstr(key));
    CHECK(at >= 0);
    note = bytes_skip(note, (size_t)at + strlen(key));
    CHECK(bytes_cut(&note, ' ', &text));
    while (text.len && bytes_cut(&text, ',', &slot) && bytes_cut(&slot, ':', &age)) {
        CHECK(bytes_to_u64(slot, UINT32_MAX, &n) == OK);
        sum += n;
    }
    return sum;
}

// The note that a queue keeps of a lane after this one was restored in it.
static void save_again(struct bytes value, struct queue_note *out)
{
    const struct queue_now now = {{100030000000}, {1800000000000000}};
    struct conf *conf;
    struct buf errors = {0};
    uint64_t cursor = 0;
    CHECK(conf_load_text(BYTES("hostname: test.example\n"), "test", "/", &conf, &errors) == OK);
    struct queue *q = queue_new(&(struct queue_options){.workers = 1, .conf = conf});
    assert_int_equal(queue_restore(q, BYTES("lane/site"), value, now), OK);
    assert_true(queue_save_next(q, &cursor, now, out));
    queue_free(q);
    conf_free(conf);
}

// A lane that sends as much as can be counted, with limits for the hour and the day, is as long as a note gets.
static void notes_have_room_for_full_windows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t an_hour_slot, a_day_slot;
        size_t least; // bytes
    } rows[] = {{"34,000 a minute", 34000, DAY_MS / QUEUE_DAY_SLOTS / MINUTE_MS * 34000, 2049},
                {"all that a slot can count", UINT32_MAX, UINT32_MAX, 2400}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf text = {0};
        struct queue_note note, again;
        buf_add_cstr(&text, " failures=1000000 backoff=9000000000000 debt=9000000000000");
        add_full_window(&text, "hour", HOUR_MS, QUEUE_HOUR_SLOTS, rows[i].an_hour_slot);
        add_full_window(&text, "day", DAY_MS, QUEUE_DAY_SLOTS, rows[i].a_day_slot);
        buf_add_cstr(&text, " at=1800000000000000");
        save_again(buf_bytes(&text), &note);
        struct bytes value = bytes_of(note.value, note.value_len);
        if (value.len < rows[i].least || value.len > QUEUE_NOTE_MAX)
            fail_msg("%s: %zu bytes", rows[i].name, value.len);
        assert_number(rows[i].name, count_of(value, " hour="),
                      (QUEUE_HOUR_SLOTS + 1ULL) * rows[i].an_hour_slot);
        assert_number(rows[i].name, count_of(value, " day="),
                      (QUEUE_DAY_SLOTS + 1ULL) * rows[i].a_day_slot);
        save_again(value, &again);
        buf_done(&text);
    }
}

// A lane that sends less than once a second keeps its distance across a restart, though its rule is not known before its
// domain has been resolved again. (The world's watch does not forget.)
static void slow_lanes_keep_their_distance(void **state)
{
    (void)state;
    static const struct {
        const char *limit;
        bool clean, twice; // twice: the second one before anything is resolved
    } rows[] = {{"messages_per_second: 0.01", true, false},
                {"messages_per_second: 0.01", true, true},
                {"messages_per_second: 0.01", false, false},
                {"messages_per_second: 0.01", false, true},
                {"bytes_per_second: 1KiB", true, true}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char conf[200];
        snprintf(conf, sizeof(conf), "lanes: [{match: site, %s}, {match: \"*\"}]\n", rows[i].limit);
        struct world w;
        start(&w, conf);
        w.dns_ms = 5 * SECOND_MS;
        add_large(&w, 3, MAIL_TRANSACTIONAL);
        world_run(&w, 15 * SECOND_MS);
        assert_number("sent", w.sent_count, 1);
        world_crash(&w, 2 * SECOND_MS, rows[i].clean);
        if (rows[i].twice) {
            world_run(&w, SECOND_MS);
            world_crash(&w, 2 * SECOND_MS, true);
        }
        world_run(&w, 60 * SECOND_MS);
        assert_number("waits", w.sent_count, 1);
        world_run(&w, 65 * SECOND_MS);
        assert_number("sent", w.sent_count, 2);
        world_done(&w);
    }
}

// What a lane that nobody needs has to remember is not noted again and again until it may be forgotten.
static void notes_of_lanes_at_rest_are_few(void **state)
{
    (void)state;
    static const struct {
        const char *limit;
        int64_t rested_ms; // after the message
        bool restart;
    } rows[] = {{"messages_per_second: 0.02", 50 * SECOND_MS * 10 / 9, false},
                {"messages_per_second: 0.02", 50 * SECOND_MS * 10 / 9, true},
                {"messages_per_second: 0.001", 1000 * SECOND_MS * 10 / 9, false},
                {"bytes_per_second: 1KiB", 100 * SECOND_MS * 10 / 9, false},
                {"bytes_per_second: 1KiB", 100 * SECOND_MS * 10 / 9, true},
                {"messages_per_hour: 100", HOUR_MS, true}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char conf[200];
        snprintf(conf, sizeof(conf), "lanes: [{match: site, %s}, {match: \"*\"}]\n", rows[i].limit);
        struct world w;
        start(&w, conf);
        add_large(&w, 1, MAIL_BULK);
        world_run(&w, 10 * SECOND_MS);
        assert_number("sent", w.sent_count, 1);
        world_hang_up_idle(&w);
        if (rows[i].restart)
            world_crash(&w, SECOND_MS, true);
        uint64_t saves = w.saves;
        world_run(&w, rows[i].rested_ms - 20 * SECOND_MS);
        struct queue_counts counts;
        queue_count(w.queue, &counts);
        assert_number("remembered", counts.lanes, 1);
        world_run(&w, 3 * rows[i].rested_ms + 700 * SECOND_MS);
        queue_count(w.queue, &counts);
        assert_number("forgotten", counts.lanes, 0);
        if (w.saves - saves > 2)
            fail_msg("%s: %llu notes", rows[i].limit, (unsigned long long)(w.saves - saves));
        world_done(&w);
    }
}

static void backoff_survives_a_restart(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, "retry: {first: 1h, factor: 1, max: 1h}\n");
    site->refuses = true;
    add(&w, 100, 1, MAIL_BULK);
    for (int i = 0; i < 20; i++) {
        world_run(&w, 9 * MINUTE_MS);
        world_crash(&w, MINUTE_MS, i % 2);
    }
    assert_true(site->connects <= 4); // in 200 minutes
    world_done(&w);
}

// While a lane backs off its mail is told to wait for just that, and why: also after a restart.
static void backoff_is_told(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, "retry: {first: 1h, factor: 1, max: 1h}\n");
    struct queue_place place;
    struct queue_row row;
    struct queue_lane_row lane;
    struct queue_reason why, after;
    site->refuses = true;
    struct message_id id = world_add(&w, &(struct world_mail){.domain = "d.site", .recipients = 2});
    world_run(&w, MINUTE_MS);
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &why), OK);
    assert_int_equal(why.limit, QUEUE_LIMIT_BACKOFF);
    assert_int_equal(why.number, 1);
    for (int i = 0; i < 2; i++) {
        uint64_t cursor = 0;
        assert_int_equal(queue_why(w.queue, id, 2, w.now, &after), OK);
        assert_string_equal(after.text, why.text);
        assert_int_equal(after.number, 2);
        assert_int_equal(queue_find(w.queue, id, 2, w.now, &place), OK);
        assert_true(place.next_attempt_at.us == after.until.us && after.until.us > w.now.wall.us);
        assert_int_equal(queue_list(w.queue, &(struct queue_filter){0}, &cursor, w.now, &row, 1),
                         1);
        assert_true(row.next_attempt_at.us == after.until.us);
        assert_int_equal(queue_lanes(w.queue, &(uint64_t){0}, w.now, &lane, 1), 1);
        assert_non_null(strstr(why.text, lane.text));
        assert_string_equal(lane.text, WORLD_REFUSED);
        world_crash(&w, MINUTE_MS, i);
        world_run(&w, MINUTE_MS);
    }
    world_done(&w);
}

// Whoever asks gets the binding limit and the setting.
static void why_names_the_limit_of_all_lanes(void **state)
{
    (void)state;
    struct world w;
    struct queue_reason why;
    start_short_of_connections(&w, 1);
    w.sites[0].transaction_ms = MINUTE_MS;
    add_to(&w, "s0", 1, MAIL_BULK);
    world_run(&w, SECOND_MS);
    struct message_id id = world_add(&w, &(struct world_mail){.domain = "s1", .recipients = 1});
    world_run(&w, SECOND_MS);
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &why), OK);
    assert_string_equal(queue_limit_name(why.limit), "connections");
    assert_string_equal(why.setting, "limits.connections");
    world_done(&w);
}

static void why_names_the_limit(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, "lanes: [{match: \"other\"}, {match: \"*\", connections: 2,"
                                        " messages_per_hour: 50}]\n");
    site->transaction_ms = MINUTE_MS;
    struct queue_reason why;
    add(&w, 20, 1, MAIL_BULK);
    struct message_id id =
        world_add(&w, &(struct world_mail){
                          .domain = "d.site", .account = 1, .class = MAIL_BULK, .recipients = 1});
    world_run(&w, SECOND_MS);
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &why), OK);
    assert_string_equal(queue_limit_name(why.limit), "lane_connections");
    assert_string_equal(why.setting, "lanes[1].connections");
    add(&w, 5, 2, MAIL_BULK);
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &why), OK);
    world_run(&w, SECOND_MS);
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &why), OK);
    assert_string_equal(queue_limit_name(why.limit), "account_turn");
    add(&w, 5, 2, MAIL_PERSONAL);
    world_run(&w, SECOND_MS);
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &why), OK);
    assert_string_equal(queue_limit_name(why.limit), "class");
    site->transaction_ms = 0;
    world_run(&w, 10 * MINUTE_MS);
    add(&w, 100, 1, MAIL_BULK);
    id = world_add(&w, &(struct world_mail){
                           .domain = "d.site", .account = 1, .class = MAIL_BULK, .recipients = 1});
    world_run(&w, MINUTE_MS);
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &why), OK);
    assert_string_equal(queue_limit_name(why.limit), "lane_rate");
    assert_string_equal(why.setting, "lanes[1].messages_per_hour");
    assert_true(why.until.us > w.now.wall.us && why.until.us < w.now.wall.us + 3700000000);
    world_done(&w);
}

// A reload changes what a lane may do from the next decision on.
static void reload_changes_limits(void **state)
{
    (void)state;
    struct world w, other;
    struct world_site *site = start(&w, "lanes: [{match: \"*\", connections: 1}]\n");
    world_init(&other, &(struct world_options){.conf = "lanes: [{match: site, connections: 9},"
                                                       " {match: \"*\"}]\n"});
    add(&w, 1000, 1, MAIL_TRANSACTIONAL);
    world_run(&w, SECOND_MS);
    assert_number("before", site->connections_most, 1);
    struct conf *old = w.conf;
    w.conf = other.conf;
    queue_configure(w.queue, w.conf, 0);
    world_run(&w, 5 * SECOND_MS);
    assert_number("after", site->connections_most, 9);
    w.conf = old;
    queue_configure(w.queue, old, 0);
    uint64_t connects = site->connects;
    world_run(&w, 5 * SECOND_MS);
    assert_number("no new ones", site->connects, connects);
    world_done(&w);
    world_done(&other);
}

static uint32_t connections(struct world *w)
{
    struct queue_counts counts;
    queue_count(w->queue, &counts);
    return (uint32_t)counts.connections;
}

// A limit that is lowered holds for the connections that stand, too: those beyond it end after their transaction.
static void lower_limits_close_connections(void **state)
{
    (void)state;
    static const struct {
        const char *name, *domain; // of the mail that is there when it is lowered
        uint32_t reload, want;     // limits.connections then
        bool idle;
    } rows[] = {{"lane, busy", "d.site", 0, 1, false},
                {"lane, idle", "d.site", 0, 1, true},
                {"all lanes, busy", "d.other", 3, 3, false},
                {"all lanes, idle", "d.other", 3, 3, true}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct world w, lower;
        start(&w, "lanes: [{match: \"*\", connections: 9}]\n");
        world_site(&w, "other")->transaction_ms = w.sites[0].transaction_ms = SECOND_MS;
        world_init(&lower, &(struct world_options){.conf = "lanes: [{match: site, connections: 1}, "
                                                           "{match: \"*\", connections: 9}]\n"});
        for (int n = 0; n < (rows[i].idle ? 150 : 2000); n++)
            world_add(&w, &(struct world_mail){.domain = rows[i].domain,
                                               .recipients = 1,
                                               .class = MAIL_TRANSACTIONAL});
        world_run(&w, rows[i].idle ? 60 * SECOND_MS : 20 * SECOND_MS);
        assert_number(rows[i].name, connections(&w), 9);
        struct conf *old = w.conf;
        w.conf = lower.conf;
        queue_configure(w.queue, w.conf, rows[i].reload);
        world_run(&w, 1100);
        assert_number(rows[i].name, connections(&w), rows[i].want);
        size_t sent = w.sent_count;
        world_run(&w, 60 * SECOND_MS);
        assert_number("later", connections(&w), rows[i].want);
        assert_true(rows[i].idle || w.sent_count - sent >= 59 * rows[i].want);
        w.conf = old;
        queue_configure(w.queue, old, 0);
        world_done(&w);
        world_done(&lower);
    }
}

// The same when a domain joins the lane that has a rule of its own.
static void a_domains_rule_closes_connections(void **state)
{
    (void)state;
    struct world w;
    start(&w, "lanes: [{match: slow.site, connections: 2}, {match: \"*\", connections: 9}]\n")
        ->transaction_ms = SECOND_MS;
    add(&w, 5000, 1, MAIL_TRANSACTIONAL);
    world_run(&w, 20 * SECOND_MS);
    assert_number("before", connections(&w), 9);
    world_add(&w, &(struct world_mail){.domain = "slow.site", .recipients = 1});
    world_run(&w, 1100);
    assert_number("with it", connections(&w), 2);
    world_done(&w);
}

// Resolves what asks; each domain's lane, names and time by to[0] and to[1] in turns.
static void resolve_all(struct queue *q, const struct queue_resolution to[2], struct queue_now now)
{
    static struct queue_work work;
    uint64_t kicks = 0;
    for (size_t n = 0;;) {
        queue_next(q, 0, true, now, &work, &kicks);
        if (work.kind == QUEUE_RESOLVE)
            queue_resolved(q, work.domain, &to[n++ % 2], now, &kicks);
        else if (work.kind == QUEUE_IDLE && work.until.us > now.mono.us)
            return;
    }
}

static void add_one(struct queue *q, uint64_t n, const char *domain, struct queue_now now)
{
    uint64_t kicks = 0;
    struct queue_recipient r = {.number = 1, .domain = bytes_cstr(domain)};
    struct queue_message_new m = {.id = {1, n},
                                  .accepted_at = now.wall,
                                  .expires_at = wall_add_ms(now.wall, DAY_MS),
                                  .recipients = &r,
                                  .recipients_count = 1};
    CHECK(queue_add(q, &m, now, &kicks) == OK);
}

static struct queue *queue_of(const char *yaml, struct conf **out_conf)
{
    struct buf errors = {0};
    assert_int_equal(conf_load_text(bytes_cstr(yaml), "test", "/", out_conf, &errors), OK);
    return queue_new(&(struct queue_options){.workers = 1, .conf = *out_conf});
}

static int64_t thread_us(void)
{
    struct timespec t;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

// What it takes to resolve this many domains of one provider.
static int64_t resolving_us(const char *yaml, const char *names, const char *other_names)
{
    enum { DOMAINS = 2000 };
    struct conf *conf;
    struct queue *q = queue_of(yaml, &conf);
    struct queue_now now = {{1000000000}, {1800000000000000}};
    for (uint64_t i = 0; i < DOMAINS; i++) {
        char domain[40];
        snprintf(domain, sizeof(domain), "customer%llu.example", (unsigned long long)i);
        add_one(q, i, domain, now);
    }
    struct queue_resolution to[2] = {
        {.lane = BYTES("lane"), .match_names = bytes_cstr(names)},
        {.lane = BYTES("lane"), .match_names = bytes_cstr(other_names)}};
    to[0].ttl_ms = to[1].ttl_ms = 60000;
    int64_t begin = thread_us();
    resolve_all(q, to, now);
    int64_t took = thread_us() - begin;
    queue_free(q);
    conf_free(conf);
    return took;
}

// A provider's names that are told in another order do not cost a look at all of its domains.
static void a_resolution_costs_no_look_at_the_others(void **state)
{
    (void)state;
    char yaml[2000] = "hostname: test.example\nlanes:\n";
    for (int i = 0; i < 20; i++) {
        size_t n = strlen(yaml);
        snprintf(yaml + n, sizeof(yaml) - n, "  - {match: [p%d.test, \"*.p%d.test\"]}\n", i, i);
    }
    size_t n = strlen(yaml);
    snprintf(yaml + n, sizeof(yaml) - n, "  - {match: \"*\"}\n");
    int64_t same = resolving_us(yaml, "mx1.test mx2.test", "mx1.test mx2.test");
    int64_t other = resolving_us(yaml, "mx1.test mx2.test", "mx2.test mx1.test");
    if (other > 20 * same)
        fail_msg("%lld us, and %lld with the names in another order", (long long)same,
                 (long long)other);
}

// The rules of the names and of the domains that are on the lane just now; the first holds.
static void a_lane_follows_its_domains(void **state)
{
    (void)state;
    static const struct {
        const char *lanes[2], *names[2]; // of first.example and second.example
        uint32_t want;                   // of "a"
    } steps[] = {{{"a", "a"}, {"mx.test", "mx.test"}, 1}, {{"a", "b"}, {"mx.test", "mx.test"}, 2},
                 {{"b", "a"}, {"mx.test", "mx.test"}, 1}, {{"b", "b"}, {"mx.test", "mx.test"}, 3},
                 {{"a", "a"}, {"mx.test", "mx.test"}, 1}, {{"b", "a"}, {"top.test", "top.test"}, 0},
                 {{"b", "a"}, {"mx.test", "mx.test"}, 1}};
    struct conf *conf;
    struct queue *q = queue_of("hostname: test.example\nlanes: [{match: top.test}, "
                               "{match: second.example}, {match: first.example}, {match: \"*\"}]\n",
                               &conf);
    struct queue_now now = {{1000000000}, {1800000000000000}};
    add_one(q, 1, "first.example", now);
    add_one(q, 2, "second.example", now);
    add_one(q, 3, "third.example", now); // stays, as third: on "a"
    uint64_t kicks = 0;
    static struct queue_work work;
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        for (;;) {
            queue_next(q, 0, true, now, &work, &kicks);
            if (work.kind == QUEUE_IDLE && work.until.us > now.mono.us)
                break;
            if (work.kind != QUEUE_RESOLVE)
                continue;
            size_t which = strcmp(work.name, "first.example") == 0    ? 0
                           : strcmp(work.name, "second.example") == 0 ? 1
                                                                      : 2;
            struct queue_resolution to = {
                .lane = bytes_cstr(which < 2 ? steps[i].lanes[which] : "a"),
                .match_names = bytes_cstr(steps[i].names[which < 2 ? which : 0]),
                .ttl_ms = 60000};
            queue_resolved(q, work.domain, &to, now, &kicks);
        }
        struct queue_lane_row row = {0};
        uint64_t cursor = 0;
        while (queue_lanes(q, &cursor, now, &row, 1) == 1 && strcmp(row.name, "a") != 0)
            ;
        if (row.rule != steps[i].want)
            fail_msg("step %zu: rule %u, want %u", i, row.rule, steps[i].want);
        queue_configure(q, conf, 0); // finds the same
        cursor = 0;
        while (queue_lanes(q, &cursor, now, &row, 1) == 1 && strcmp(row.name, "a") != 0)
            ;
        assert_number("rule after a reload", row.rule, steps[i].want);
        queue_resolve_again(q, 0, now, &kicks);
    }
    queue_free(q);
    conf_free(conf);
}

// Does what a worker does that has enough to judge, until it idles. Returns the connections that were asked for.
static uint32_t work_without_judging(struct queue *q, struct queue_now now)
{
    static struct queue_work work;
    struct queue_failure none = {550, BYTES("5.1.2"), BYTES("no such domain")};
    uint64_t kicks = 0;
    uint32_t connects = 0;
    for (uint32_t calls = 0;; calls++) {
        assert_true(calls < 1000); // nor does it ask for ever
        queue_next(q, 0, false, now, &work, &kicks);
        if (work.kind == QUEUE_IDLE && work.until.us > now.mono.us)
            return connects;
        if (work.kind == QUEUE_RESOLVE && strcmp(work.name, "dead.example") == 0)
            queue_unresolved(q, work.domain, QUEUE_UNRESOLVED_FAIL, &none, now, &kicks);
        else if (work.kind == QUEUE_RESOLVE)
            queue_resolved(
                q, work.domain,
                &(struct queue_resolution){.lane = bytes_cstr(work.name), .ttl_ms = HOUR_MS}, now,
                &kicks);
        else if (work.kind == QUEUE_CONNECT)
            queue_connect_failed(q, &work.connection, BYTES("refused"), now, &kicks), connects++;
        else
            assert_true(work.kind == QUEUE_IDLE || work.kind == QUEUE_SAVE);
    }
}

// A worker with its hands full of mail whose lifetime is over, or whose domain is none, goes on with all the rest.
static void a_flood_to_judge_stops_nothing_else(void **state)
{
    (void)state;
    enum { FLOOD = 10000, LIVE = 100 };
    struct conf *conf;
    struct queue *q = queue_of("hostname: test.example\n", &conf);
    struct queue_now now = {{1000000000}, {1800000000000000}};
    for (uint64_t i = 0; i < FLOOD; i++)
        add_one(q, i, i % 2 ? "dead.example" : "late.example", now);
    assert_number("late.example", work_without_judging(q, now), 1);
    now = (struct queue_now){mono_add_ms(now.mono, DAY_MS), wall_add_ms(now.wall, DAY_MS)};
    for (uint64_t i = 0; i < LIVE; i++) {
        char domain[40];
        snprintf(domain, sizeof(domain), "live%llu.example", (unsigned long long)i);
        add_one(q, FLOOD + i, domain, now);
    }
    assert_number("late.example again, and the others", work_without_judging(q, now), LIVE + 1);
    static struct queue_work work;
    uint64_t kicks = 0, expired = 0, failed = 0;
    for (;;) {
        queue_next(q, 0, true, now, &work, &kicks);
        if (work.kind == QUEUE_IDLE && work.until.us > now.mono.us)
            break;
        expired += work.kind == QUEUE_EXPIRE;
        failed += work.kind == QUEUE_FAIL;
        if (work.batch)
            queue_settle_all(q, work.batch, (struct queue_result){.outcome = QUEUE_DONE}, now,
                             &kicks);
    }
    assert_number("in the end it is judged", expired + failed, FLOOD);
    assert_true(expired >= FLOOD / 2 && failed > 0);
    queue_free(q);
    conf_free(conf);
}

// One recipient each in one of many domains, all deferred: what a backlog costs.
static void a_million_messages_fit(void **state)
{
    (void)state;
    enum { MESSAGES = 1000000, DOMAINS = 20000 };
    struct conf *conf;
    struct buf errors = {0};
    assert_int_equal(conf_load_text(BYTES("hostname: test.example\n"), "test", "/", &conf, &errors),
                     OK);
    struct queue *q = queue_new(&(struct queue_options){.workers = 2, .conf = conf});
    struct queue_now now = {{1000000000}, {1800000000000000}};
    uint64_t kicks = 0;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        char domain[40];
        int n = snprintf(domain, sizeof(domain), "d%llu.example", (unsigned long long)i % DOMAINS);
        struct queue_recipient r = {.number = 1,
                                    .domain = bytes_of(domain, (size_t)n),
                                    .attempts = 2,
                                    .next_attempt_at =
                                        wall_add_ms(now.wall, 1000 + (int64_t)i % 99991)};
        struct queue_message_new m = {.id = {i, i},
                                      .account = (uint32_t)i % 50,
                                      .accepted_at = now.wall,
                                      .expires_at = wall_add_ms(now.wall, DAY_MS),
                                      .size = 5000,
                                      .recipients = &r,
                                      .recipients_count = 1};
        CHECK(queue_add(q, &m, now, &kicks) == OK);
    }
    struct queue_counts c;
    queue_count(q, &c);
    assert_number("messages", c.messages, MESSAGES);
    assert_number("domains", c.domains, DOMAINS);
    print_message("# %.0f bytes a message with its recipient\n", (double)c.memory_bytes / MESSAGES);
    assert_true(c.message_bytes / MESSAGES <= 100 - 33); // the rest is the spool's table
    assert_true(c.recipient_bytes / MESSAGES <= 150 - 11);
    assert_true(c.domain_bytes / DOMAINS <= 300);
    assert_number("free", c.free_bytes, 0);
    queue_free(q);
    conf_free(conf);
}

// A message to a thousand recipients of one site is one bundle.
static void recipients_of_one_domain_cost_four_bytes(void **state)
{
    (void)state;
    struct world w;
    start(&w, "");
    struct queue_counts before, after;
    world_add(&w,
              &(struct world_mail){.domain = "d.site", .not_before_ms = HOUR_MS, .recipients = 1});
    queue_count(w.queue, &before);
    world_add(
        &w, &(struct world_mail){.domain = "d.site", .not_before_ms = HOUR_MS, .recipients = 4000});
    queue_count(w.queue, &after);
    assert_true(after.memory_bytes - before.memory_bytes <= 4000 * 4 + 200);
    world_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusing_site_costs_one_connection_an_interval),
        cmocka_unit_test(backs_off_from_broken_sessions),
        cmocka_unit_test(comes_back_with_one_probe),
        cmocka_unit_test(a_message_that_breaks_sessions_stops_no_others),
        cmocka_unit_test(two_of_them_stop_no_other_class),
        cmocka_unit_test(a_sites_limit_is_no_reason_to_rest),
        cmocka_unit_test(a_ceiling_is_lifted),
        cmocka_unit_test(accounts_take_turns),
        cmocka_unit_test(many_accounts_share_evenly),
        cmocka_unit_test(transactional_never_waits_behind_bulk),
        cmocka_unit_test(classes_go_in_order),
        cmocka_unit_test(limits_are_reached_and_not_passed),
        cmocka_unit_test(connection_limits_are_reached),
        cmocka_unit_test(all_lanes_together_have_a_limit),
        cmocka_unit_test(transactional_gets_a_connection_of_other_lanes),
        cmocka_unit_test(lanes_take_turns_for_connections),
        cmocka_unit_test(a_lane_without_connections_comes_first),
        cmocka_unit_test(a_connection_with_bulk_is_none_for_transactional),
        cmocka_unit_test(transactional_costs_few_connections),
        cmocka_unit_test(nobody_gives_way_to_itself),
        cmocka_unit_test(a_slow_site_keeps_no_more_than_others),
        cmocka_unit_test(lanes_share_connections_evenly),
        cmocka_unit_test(idle_connections_make_room),
        cmocka_unit_test(windows_survive_restarts),
        cmocka_unit_test(notes_have_room_for_full_windows),
        cmocka_unit_test(slow_lanes_keep_their_distance),
        cmocka_unit_test(notes_of_lanes_at_rest_are_few),
        cmocka_unit_test(backoff_survives_a_restart),
        cmocka_unit_test(backoff_is_told),
        cmocka_unit_test(why_names_the_limit),
        cmocka_unit_test(why_names_the_limit_of_all_lanes),
        cmocka_unit_test(reload_changes_limits),
        cmocka_unit_test(lower_limits_close_connections),
        cmocka_unit_test(a_domains_rule_closes_connections),
        cmocka_unit_test(a_resolution_costs_no_look_at_the_others),
        cmocka_unit_test(a_lane_follows_its_domains),
        cmocka_unit_test(a_flood_to_judge_stops_nothing_else),
        cmocka_unit_test(a_million_messages_fit),
        cmocka_unit_test(recipients_of_one_domain_cost_four_bytes),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
