// SPDX-License-Identifier: MIT
//
// What servers say that they take (RFC 9422). That they get no more is checked by the world.
#include "base/check.h"
#include "base/test_base.h"
#include "queue/queue_world.h"

static const char CONF[] = "retry: {first: 5m, factor: 2, max: 4h, lifetime: 5d, warn_after: 4h}\n"
                           "lanes: [{match: \"*\", connections: 1}]\n";

static struct world_site *start(struct world *w, struct queue_remote remote)
{
    world_init(w, &(struct world_options){.conf = CONF, .workers = 2, .seed = 1});
    w->keep_sent = true;
    struct world_site *site = world_site(w, "site");
    site->remote = remote;
    return site;
}

static void messages_over_one_connection(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, (struct queue_remote){.messages_per_connection = 3});
    for (int i = 0; i < 10; i++)
        world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
    world_run(&w, 60000);
    assert_number("sent", w.sent_count, 10);
    assert_number("connections", site->connects, 4);
    world_done(&w);
}

static void recipients_of_a_transaction(void **state)
{
    (void)state;
    struct world w;
    start(&w, (struct queue_remote){.recipients_per_transaction = 2});
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 5});
    world_run(&w, 60000);
    assert_number("transactions", w.sent_count, 3);
    assert_number("left", world_queued(&w), 0);
    world_done(&w);
}

static void add_to(struct world *w, const char *domain, uint32_t account)
{
    world_add(w, &(struct world_mail){.domain = domain, .recipients = 1, .account = account});
}

static void domains_over_one_connection(void **state)
{
    (void)state;
    static const char *const domains[] = {"a.site", "b.site", "c.site", "d.site", "e.site"};
    struct world w;
    struct world_site *site = start(&w, (struct queue_remote){.domains_per_connection = 2});
    for (int i = 0; i < 20; i++)
        add_to(&w, domains[i % 5], 1);
    world_run(&w, 60000);
    assert_number("sent", w.sent_count, 20);
    assert_number("connections", site->connects, 3); // each domain's mail together
    world_done(&w);
}

// An account whose domains are at their end does not make the others' mail wait for ever.
static void domains_and_turns(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, (struct queue_remote){.domains_per_connection = 1});
    for (int i = 0; i < 6; i++)
        add_to(&w, i % 2 ? "a.site" : "b.site", 1 + (uint32_t)i % 2);
    world_run(&w, 60000);
    assert_number("sent", w.sent_count, 6);
    assert_true(site->connects <= 6);
    world_done(&w);
}

static void assert_why(struct world *w, struct message_id id, uint32_t number, const char *words)
{
    struct queue_reason reason;
    assert_int_equal(queue_why(w->queue, id, number, w->now, &reason), OK);
    if (reason.limit != QUEUE_LIMIT_REMOTE || !strstr(reason.text, words))
        fail_msg("limit %s (%s), want remote with %s", queue_limit_name(reason.limit), reason.text,
                 words);
}

static void why_names_it(void **state)
{
    (void)state;
    static const struct {
        struct queue_remote remote;
        const char *words;
    } rows[] = {{{.messages_per_connection = 1}, "takes 1 messages over each (MAILMAX)"},
                {{.domains_per_connection = 1}, "takes 1 domains over each (RCPTDOMAINMAX)"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct world w;
        struct world_site *site = start(&w, rows[i].remote);
        site->transaction_ms = 10000;
        add_to(&w, "a.site", 1);
        world_run(&w, 10);
        struct message_id id =
            world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1, .account = 1});
        world_run(&w, 10);
        assert_why(&w, id, 0, rows[i].words);
        struct queue_lane_row row;
        uint64_t cursor = 0;
        assert_int_equal(queue_lanes(w.queue, &cursor, w.now, &row, 1), 1);
        assert_memory_equal(&row.remote, &rows[i].remote, sizeof row.remote);
        world_run(&w, 60000);
        assert_number("left", world_queued(&w), 0);
        world_done(&w);
    }
    struct world w;
    start(&w, (struct queue_remote){.recipients_per_transaction = 1})->transaction_ms = 10000;
    struct message_id id = world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 2});
    world_run(&w, 10);
    assert_why(&w, id, 2, "takes 1 recipients at once (RCPTMAX)");
    world_run(&w, 60000);
    world_done(&w);
}

// Our own limits hold beside larger ones.
static void the_tighter_holds(void **state)
{
    (void)state;
    struct world w;
    struct world_site *site = start(&w, (struct queue_remote){.messages_per_connection = 1000,
                                                              .recipients_per_transaction = 1000,
                                                              .domains_per_connection = 1000});
    for (int i = 0; i < 101; i++)
        add_to(&w, "a.site", 1);
    world_run(&w, 60000);
    assert_number("connections", site->connects, 2); // 100 each by default
    world_done(&w);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_over_one_connection),
        cmocka_unit_test(recipients_of_a_transaction),
        cmocka_unit_test(domains_over_one_connection),
        cmocka_unit_test(domains_and_turns),
        cmocka_unit_test(why_names_it),
        cmocka_unit_test(the_tighter_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
