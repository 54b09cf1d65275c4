// SPDX-License-Identifier: MIT
#include "queue/queue_world_test.h"

static void assert_limit(struct message_id id, enum queue_limit want)
{
    struct queue_reason reason;
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &reason), OK);
    if (reason.limit != want)
        fail_msg("limit %s (%s), want %s", queue_limit_name(reason.limit), reason.text,
                 queue_limit_name(want));
}

// The world delivers what it is given, and nothing is left in the queue.
static void delivers(void **state)
{
    (void)state;
    struct message_id id =
        world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 3, .size = 100});
    assert_number("stored", counts().stored_bytes, 100);
    assert_number("queued", counts().recipients[QUEUE_STATE_QUEUED], 3);
    world_run(&w, 1);
    assert_number("transactions", w.sent_count, 1);
    assert_number("recipients", w.sent[0].recipients, 3);
    assert_true(message_id_eq(w.sent[0].id, id));
    assert_number("left", counts().messages, 0);
    assert_number("released", w.released, 1);
    struct queue_reason reason;
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &reason), E_NOT_FOUND);
    world_run(&w, 2 * MINUTE_MS); // resolution runs out: domain and lane are forgotten
    world_turn(&w);
    assert_number("domains", counts().domains, 0);
}

static void refuses_a_second_of_the_same_id(void **state)
{
    (void)state;
    struct queue_recipient r = {.number = 1, .domain = BYTES("a.site")};
    struct queue_message_new m = {
        .id = {1, 2}, .expires_at = WALL_NEVER, .recipients = &r, .recipients_count = 1};
    uint64_t kicks = 0;
    assert_int_equal(queue_add(w.queue, &m, w.now, &kicks), OK);
    assert_true(kicks != 0);
    assert_int_equal(queue_add(w.queue, &m, w.now, &kicks), E_EXISTS);
    assert_number("messages", counts().messages, 1);
}

static void splits_by_recipients_per_transaction(void **state)
{
    (void)state;
    static const struct {
        uint32_t recipients, limit, want;
        bool singly;
    } rows[] = {{1, 10, 1},   {10, 10, 1},          {11, 10, 2},     {100, 1, 100},
                {101, 50, 3}, {101, 50, 101, true}, {1, 10, 1, true}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char conf[200];
        snprintf(conf, sizeof(conf), "lanes: [{match: \"*\", recipients_per_transaction: %u}]\n",
                 rows[i].limit);
        begin_again(conf);
        world_add(&w, &(struct world_mail){.domain = "a.site",
                                           .recipients = rows[i].recipients,
                                           .singly = rows[i].singly});
        world_run(&w, 1);
        assert_number("transactions", w.sent_count, rows[i].want);
        assert_number("done", w.done, rows[i].recipients);
    }
}

static void retries_by_the_schedule(void **state)
{
    (void)state;
    w.sites[0].reply = WORLD_DEFER;
    struct message_id id =
        world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1, .size = 10});
    assert_number("stored", counts().stored_bytes, 10);
    world_run(&w, MINUTE_MS);
    assert_number("stored is let go at the first deferral", w.released, 1);
    world_run(&w, 6LL * 24 * HOUR_MS);
    // 5m 10m 20m 40m 80m 160m, then every 4h (+-10 %) up to five days
    static const int64_t minutes[] = {5, 10, 20, 40, 80, 160, 240, 240};
    assert_true(w.sent_count > 30 && w.sent_count < 40);
    for (size_t i = 0; i < sizeof(minutes) / sizeof(minutes[0]); i++) {
        int64_t ms = (w.sent[i + 1].at_us - w.sent[i].at_us) / 1000;
        if (ms < minutes[i] * MINUTE_MS * 9 / 10 || ms > minutes[i] * MINUTE_MS * 11 / 10)
            fail_msg("attempt %zu came after %lld ms", i + 2, (long long)ms);
    }
    assert_number("expired", w.expired, 1);
    assert_number("warned", w.warned, 1);
    assert_int_equal(queue_why(w.queue, id, 0, w.now, &(struct queue_reason){0}), E_NOT_FOUND);
}

static void mixes_results_of_one_batch(void **state)
{
    (void)state;
    w.sites[0].reply = WORLD_MIX;
    for (uint32_t n = 1; n < 40; n++)
        world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = n});
    world_run(&w, 24LL * HOUR_MS);
    assert_number("done", w.done, 39 * 40 / 2);
    assert_number("left", counts().messages, 0);
}

static void expires_and_warns_while_dns_fails(void **state)
{
    (void)state;
    w.dns = WORLD_DNS_DEFER;
    struct message_id id = world_add(
        &w, &(struct world_mail){.domain = "a.site", .recipients = 2, .lifetime_ms = 10 * HOUR_MS});
    world_add(&w, &(struct world_mail){.domain = "a.site",
                                       .recipients = 1,
                                       .notify = NOTIFY_NEVER,
                                       .lifetime_ms = 10 * HOUR_MS});
    world_run(&w, 5 * HOUR_MS);
    assert_limit(id, QUEUE_LIMIT_DNS);
    assert_number("warned", w.warned, 2); // not the one that wants no news
    assert_number("expired", w.expired, 0);
    world_run(&w, 6 * HOUR_MS);
    assert_number("warned once", w.warned, 2);
    assert_number("expired", w.expired, 3);
    assert_true(w.resolves < 12);
}

// What can't be judged, as the disk does not give the message, waits for its next attempt (5 m, 10 m, 20 m ...); then it
// is judged.
static void an_end_that_cannot_be_read_waits(void **state)
{
    (void)state;
    w.dns = WORLD_DNS_DEFER;
    w.unreadable = true;
    world_add(
        &w, &(struct world_mail){.domain = "a.site", .recipients = 2, .lifetime_ms = 3 * HOUR_MS});
    world_run(&w, 3 * HOUR_MS - MINUTE_MS);
    assert_number("not looked at yet", w.unread, 0);
    world_run(&w, 2 * HOUR_MS);
    if (w.unread < 2 || w.unread > 6)
        fail_msg("looked at %llu times", (unsigned long long)w.unread);
    w.unreadable = false;
    world_run(&w, 4 * HOUR_MS);
    assert_number("expired", w.expired, 2);
    assert_number("left", counts().messages, 0);
}

static void a_warning_that_cannot_be_read_waits(void **state)
{
    (void)state;
    w.dns = WORLD_DNS_DEFER;
    w.unreadable = true;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 2});
    world_run(&w, 6 * HOUR_MS);
    if (w.unread < 2 || w.unread > 6)
        fail_msg("looked at %llu times", (unsigned long long)w.unread);
    w.unreadable = false;
    world_run(&w, 6 * HOUR_MS);
    assert_number("warned", w.warned, 2);
    world_run(&w, 5LL * 24 * HOUR_MS);
    assert_number("warned once", w.warned, 2);
    assert_number("expired", w.expired, 2);
}

static void expires_while_the_lane_backs_off(void **state)
{
    (void)state;
    w.sites[0].refuses = true;
    struct message_id id = world_add(
        &w, &(struct world_mail){.domain = "a.site", .recipients = 1, .lifetime_ms = HOUR_MS});
    world_run(&w, 30 * MINUTE_MS);
    assert_limit(id, QUEUE_LIMIT_BACKOFF);
    world_run(&w, HOUR_MS);
    assert_number("expired", w.expired, 1);
    assert_number("attempts", w.sent_count, 0);
}

static void fails_what_dns_refuses(void **state)
{
    (void)state;
    w.dns = WORLD_DNS_FAIL;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 3});
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1, .not_before_ms = 5000});
    world_run(&w, 1000);
    assert_number("failed", w.failed, 3);
    w.dns = WORLD_DNS_OK;
    world_run(&w, 10000);
    assert_number("later mail is asked for anew", w.done, 4);
    assert_number("failed", w.failed, 3);
}

static void reroutes_after_a_reload(void **state)
{
    (void)state;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 3, .route = 7});
    w.route_now = 8;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1, .route = 8});
    world_run(&w, 1000);
    assert_number("rerouted", w.rerouted, 3);
    assert_number("done", w.done, 4);
}

static void resolve_again(void)
{
    uint64_t kicks = 0;
    for (uint32_t i = 0; i < w.options.workers; i++)
        queue_resolve_again(w.queue, i, w.now, &kicks);
}

// What is ready in a lane, and what waits for its next attempt, leaves the old route as well.
static void reroutes_what_was_resolved(void **state)
{
    (void)state;
    w.route_now = 7;
    w.sites[0].refuses = true;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 3, .route = 7});
    world_run(&w, 1000);
    w.route_now = 8;
    world_run(&w, 1000);
    assert_number("the old answer still holds", w.rerouted, 0);
    resolve_again();
    world_run(&w, 1000);
    assert_number("rerouted", w.rerouted, 3);
}

// Where DNS has failed by the old route, the new one need not wait for its next attempt.
static void reroutes_what_dns_failed_for(void **state)
{
    (void)state;
    w.route_now = 7;
    w.dns = WORLD_DNS_DEFER;
    struct message_id id =
        world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 3, .route = 7});
    world_run(&w, 1000);
    assert_limit(id, QUEUE_LIMIT_DNS);
    w.route_now = 8;
    w.dns = WORLD_DNS_OK;
    resolve_again();
    world_run(&w, 1000);
    assert_number("rerouted", w.rerouted, 3);
    assert_number("done", w.done, 3);
}

// A reload comes in the midst of it: the rest is not failed by what was in force before.
static void a_reload_ends_failing(void **state)
{
    (void)state;
    w.dns = WORLD_DNS_FAIL;
    w.mended_after = 2;
    for (int i = 0; i < 6; i++)
        world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
    world_run(&w, 1000);
    assert_number("failed", w.failed, 2);
    assert_number("through", w.done, 6);
}

// A connection that may not be made yet is no failure, and is not asked for all the time.
static void connects_later(void **state)
{
    (void)state;
    w.sites[0].puts_off = 5;
    struct message_id id = world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
    world_run(&w, 4 * QUEUE_LATER_MS + QUEUE_LATER_MS / 2);
    assert_number("asked for", w.sites[0].connects, 5);
    assert_limit(id, QUEUE_LIMIT_BACKOFF);
    world_run(&w, QUEUE_LATER_MS);
    assert_number("asked for", w.sites[0].connects, 6);
    assert_number("done", w.done, 1);
    assert_number("notes", w.saves, 0); // of failures
}

static void keeps_scheduled_mail_to_the_wall_clock(void **state)
{
    (void)state;
    struct message_id id = world_add(
        &w,
        &(struct world_mail){.domain = "a.site", .recipients = 1, .not_before_ms = 3 * HOUR_MS});
    world_run(&w, HOUR_MS);
    assert_limit(id, QUEUE_LIMIT_SCHEDULED);
    assert_number("scheduled", counts().recipients[QUEUE_STATE_SCHEDULED], 1);
    uint64_t kicks = 0;
    w.now.wall.us += HOUR_MS * 1000LL; // the machine slept
    queue_clock_jumped(w.queue, HOUR_MS, w.now, &kicks);
    world_run(&w, HOUR_MS - 1);
    assert_number("not yet", w.sent_count, 0);
    world_run(&w, 2);
    assert_number("sent", w.sent_count, 1);
}

// A jump of the wall clock makes nobody's mail older.
static void charges_no_jump_to_lifetimes(void **state)
{
    (void)state;
    w.sites[0].refuses = true;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
    world_run(&w, HOUR_MS);
    uint64_t kicks = 0;
    w.now.wall.us += 30LL * 24 * HOUR_MS * 1000;
    queue_clock_jumped(w.queue, 30LL * 24 * HOUR_MS, w.now, &kicks);
    world_run(&w, 24LL * HOUR_MS);
    assert_number("expired", w.expired, 0);
    world_run(&w, 5LL * 24 * HOUR_MS);
    assert_number("expired", w.expired, 1);
}

// Nor does it shorten that of mail that is to go later: it expires, and is warned of, as long after it is due as before.
static void scheduled_mail_lives_from_when_it_is_due(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t wait_ms,
            jump_ms; // it jumps after that; due after 3 h, warned of 4 h later, expires 3 h after that
        int64_t due_ms; // after the jump
    } rows[] = {{"back", HOUR_MS, -20LL * HOUR_MS, 22LL * HOUR_MS},
                {"a little ahead", HOUR_MS, HOUR_MS, HOUR_MS},
                {"beyond its time", HOUR_MS, 24LL * HOUR_MS, 0},
                {"beyond its lifetime", HOUR_MS, 240LL * HOUR_MS, 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int tried = 0; tried < 2; tried++) {
            uint64_t expired = w.expired, warned = w.warned, done = w.done;
            w.dns = tried ? WORLD_DNS_DEFER : WORLD_DNS_OK;
            world_add(&w, &(struct world_mail){.domain = tried ? "b.site" : "a.site",
                                               .recipients = 1,
                                               .not_before_ms = 3 * HOUR_MS,
                                               .lifetime_ms = 10 * HOUR_MS,
                                               .warn_ms = 7 * HOUR_MS});
            world_run(&w, rows[i].wait_ms);
            world_jump(&w, rows[i].jump_ms);
            if (rows[i].due_ms) {
                world_run(&w, rows[i].due_ms - 1000);
                assert_number(rows[i].name, w.done + w.expired + w.warned, done + expired + warned);
            }
            world_run(&w, 2000);
            assert_number(rows[i].name, w.done - done, tried ? 0 : 1);
            world_run(&w, 4 * HOUR_MS - 4000);
            assert_number("not warned", w.warned, warned);
            world_run(&w, HOUR_MS);
            assert_number("warned", w.warned - warned, tried);
            world_run(&w, HOUR_MS);
            assert_number("not expired", w.expired, expired);
            world_run(&w, 2 * HOUR_MS);
            assert_number("expired", w.expired - expired, tried);
        }
    }
}

// What was due before the clock went back, and could not be tried, is due still.
static void a_time_once_reached_stays_reached(void **state)
{
    (void)state;
    w.dns = WORLD_DNS_DEFER;
    world_add(&w,
              &(struct world_mail){.domain = "a.site", .recipients = 1, .not_before_ms = HOUR_MS});
    world_run(&w, HOUR_MS + 1000);
    world_jump(&w, -48LL * HOUR_MS);
    w.dns = WORLD_DNS_OK;
    world_run(&w, HOUR_MS);
    assert_number("sent", w.done, 1);
}

static void holds_and_releases(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct queue_filter filter;
        uint64_t want; // recipients held
    } rows[] = {
        {"all", {.by = QUEUE_SELECT_ALL}, 8},
        {"domain", {.by = QUEUE_SELECT_DOMAIN, .domain = BYTES("A.site")}, 5},
        {"account", {.by = QUEUE_SELECT_ACCOUNT, .account = 2}, 3},
        {"nobody", {.by = QUEUE_SELECT_ACCOUNT, .account = 9}, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin_again(CONF);
        world_site(&w, "other");
        world_add(&w, &(struct world_mail){.domain = "a.site", .account = 1, .recipients = 5});
        world_add(&w, &(struct world_mail){.domain = "b.site", .account = 2, .recipients = 3});
        uint64_t cursor = 0, count = 0;
        while (queue_match(w.queue, &rows[i].filter, &cursor, &count))
            ;
        assert_number(rows[i].name, count, rows[i].want);
        world_next_claim(&w, &rows[i].filter, QUEUE_HELD);
        assert_number(rows[i].name, counts().recipients[QUEUE_STATE_HELD], rows[i].want);
        world_run(&w, 6LL * 24 * HOUR_MS);
        assert_number(rows[i].name, w.done, 8 - rows[i].want);
        assert_number("held mail does not expire", w.expired, 0);
        struct queue_filter held = rows[i].filter;
        held.held_only = true;
        world_next_claim(&w, &held, QUEUE_RELEASED);
        world_run(&w, 1000);
        assert_number(rows[i].name, w.done, 8);
        assert_number("... not even when released", w.expired, 0);
    }
}

// Nor by a crash before it was tried: a start gives it the same time again, but not for ever.
static void releases_are_no_failures_after_a_crash(void **state)
{
    (void)state;
    struct world_site *site = world_site(&w, "site");
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 5});
    world_next_claim(&w, &(struct queue_filter){.by = QUEUE_SELECT_ALL}, QUEUE_HELD);
    world_run(&w, 6LL * 24 * HOUR_MS);
    site->reply = WORLD_DEFER;
    world_next_claim(&w, &(struct queue_filter){.held_only = true}, QUEUE_RELEASED);
    for (int i = 0; i < 3; i++) {
        world_crash(&w, HOUR_MS, false);
        world_run(&w, 1000);
        assert_number("expired", w.expired, 0);
        assert_number("warned of what is over", w.warned, 0);
    }
    assert_number("tried", w.sent_count > 0, 1);
    world_run(&w, 9 * MINUTE_MS); // retry.first is 5m
    assert_number("not yet", w.expired, 0);
    world_run(&w, MINUTE_MS);
    assert_number("tried in vain", w.expired, 5);
}

// Ids are counted in 28 bits: what has waited since before the counter began again is older all the same.
static void ends_what_came_before(void **state)
{
    (void)state;
    static const uint32_t LAST[] = {6, (1u << 28) - 1, 1u << 28}; // id before the action's
    for (size_t i = 0; i < sizeof(LAST) / sizeof(LAST[0]); i++) {
        begin_again(CONF);
        w.next_id = LAST[i] - 3;
        for (int n = 0; n < 3; n++)
            world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
        struct queue_filter f = {.by = QUEUE_SELECT_ALL,
                                 .made_before = message_id_make(w.now.wall, 1, 1, ++w.next_id)};
        world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 5});
        while (world_next_claim(&w, &f, QUEUE_DONE))
            ;
        assert_number("left", counts().messages, 1);
        assert_number("of whom", counts().recipients[QUEUE_STATE_QUEUED], 5);
    }
}

static void holds_one_recipient_of_many(void **state)
{
    (void)state;
    struct message_id id = world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 9});
    struct queue_filter f = {.by = QUEUE_SELECT_ID, .id = id, .recipient = 5};
    assert_true(world_next_claim(&w, &f, QUEUE_HELD));
    f.recipient = 10;
    assert_false(world_next_claim(&w, &f, QUEUE_HELD));
    world_run(&w, 1000);
    assert_number("done", w.done, 8);
    assert_limit(id, QUEUE_LIMIT_HOLD);
    struct queue_place place;
    assert_int_equal(queue_find(w.queue, id, 5, w.now, &place), OK);
    assert_int_equal(place.state, QUEUE_STATE_HELD);
    assert_int_equal(queue_find(w.queue, id, 4, w.now, &place), E_NOT_FOUND);
    f.recipient = 0;
    assert_true(world_next_claim(&w, &f, QUEUE_DONE));
    assert_number("left", counts().messages, 0);
}

// What only its account's state holds is told apart from what an operator holds.
static void suspends_beside_operators_holds(void **state)
{
    (void)state;
    uint64_t kicks = 0;
    struct queue_filter mine = {.by = QUEUE_SELECT_ACCOUNT, .account = 7};
    struct message_id held =
        world_add(&w, &(struct world_mail){.domain = "a.site", .account = 7, .recipients = 2});
    struct message_id other =
        world_add(&w, &(struct world_mail){.domain = "a.site", .account = 7, .recipients = 1});
    struct queue_filter one = {.by = QUEUE_SELECT_ID, .id = held};
    assert_true(world_next_claim(&w, &one, QUEUE_HELD));
    queue_suspend_account(w.queue, 7, true, &kicks);
    mine.unheld_only = true;
    assert_true(world_next_claim(&w, &mine, QUEUE_SUSPENDED));
    struct message_id late =
        world_add(&w, &(struct world_mail){.domain = "b.site", .account = 7, .recipients = 1});
    world_add(&w, &(struct world_mail){.domain = "b.site", .account = 8, .recipients = 1});
    world_run(&w, HOUR_MS);
    assert_number("only the other account's went", w.done, 1);
    assert_limit(other, QUEUE_LIMIT_HOLD);
    assert_limit(late, QUEUE_LIMIT_HOLD);
    mine = (struct queue_filter){.by = QUEUE_SELECT_ACCOUNT, .account = 7, .held_only = true};
    assert_true(world_next_claim(&w, &mine, QUEUE_RELEASED)); // the operator's, who lets go of it
    world_run(&w, HOUR_MS);
    assert_number("the account still may not", w.done, 1);
    one.unheld_only = true;
    assert_true(world_next_claim(&w, &one, QUEUE_HELD)); // and takes hold of it again
    queue_suspend_account(w.queue, 7, false, &kicks);
    mine = (struct queue_filter){.by = QUEUE_SELECT_ACCOUNT, .account = 7, .suspended_only = true};
    assert_true(world_next_claim(&w, &mine, QUEUE_RELEASED));
    world_run(&w, HOUR_MS);
    assert_number("what the operator holds stays", w.done, 3);
    assert_number("held", counts().recipients[QUEUE_STATE_HELD], 2);
    one.unheld_only = false;
    assert_true(world_next_claim(&w, &one, QUEUE_RELEASED));
    world_run(&w, HOUR_MS);
    assert_number("all", w.done, 5);
}

static void suspends_what_was_in_flight(void **state)
{
    (void)state;
    uint64_t kicks = 0;
    struct world_site *site = world_site(&w, "site");
    site->reply = WORLD_DEFER;
    site->transaction_ms = 5000;
    world_add(&w, &(struct world_mail){.domain = "a.site", .account = 7, .recipients = 1});
    world_run(&w, 1000);
    struct queue_filter mine = {.by = QUEUE_SELECT_ACCOUNT, .account = 7, .unheld_only = true};
    queue_suspend_account(w.queue, 7, true, &kicks);
    assert_false(world_next_claim(&w, &mine, QUEUE_SUSPENDED)); // leased
    world_run(&w, 10000);
    assert_number("held", counts().recipients[QUEUE_STATE_HELD], 1);
    site->reply = WORLD_DELIVER;
    world_run(&w, HOUR_MS);
    assert_number("done", w.done, 0);
    queue_suspend_account(w.queue, 7, false, &kicks);
    mine = (struct queue_filter){.by = QUEUE_SELECT_ACCOUNT, .account = 7, .suspended_only = true};
    assert_true(world_next_claim(&w, &mine, QUEUE_RELEASED));
    world_run(&w, HOUR_MS);
    assert_number("done", w.done, 1);
}

// What is held, released or warned about is due when it was before, also after a restart.
static void holds_keep_the_schedule(void **state)
{
    (void)state;
    struct queue_place before, after;
    world_site(&w, "site")->reply = WORLD_DEFER;
    struct message_id id = world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
    world_run(&w, 1000);
    assert_int_equal(queue_find(w.queue, id, 1, w.now, &before), OK);
    assert_true(before.next_attempt_at.us > w.now.wall.us);
    struct queue_filter f = {.by = QUEUE_SELECT_ID, .id = id};
    assert_true(world_next_claim(&w, &f, QUEUE_HELD));
    world_crash(&w, 0, false);
    assert_true(world_next_claim(&w, &f, QUEUE_RELEASED));
    world_crash(&w, 0, false);
    assert_true(world_next_claim(&w, &f, QUEUE_WARNED));
    world_crash(&w, 0, false);
    assert_int_equal(queue_find(w.queue, id, 1, w.now, &after), OK);
    assert_int_equal(after.state, QUEUE_STATE_QUEUED);
    assert_in_range(after.next_attempt_at.us, before.next_attempt_at.us - 1000,
                    before.next_attempt_at.us + 1000);
}

static void retries_now(void **state)
{
    (void)state;
    w.sites[0].refuses = true;
    for (int i = 0; i < 50; i++)
        world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
    world_run(&w, 60 * MINUTE_MS);
    uint64_t connects = w.sites[0].connects;
    world_next_claim(&w, &(struct queue_filter){.by = QUEUE_SELECT_ALL}, QUEUE_RETRIED);
    world_run(&w, MINUTE_MS);
    assert_number("one probe", w.sites[0].connects, connects + 1);
    w.sites[0].refuses = false;
    world_next_claim(&w, &(struct queue_filter){.by = QUEUE_SELECT_ALL}, QUEUE_RETRIED);
    world_run(&w, MINUTE_MS);
    assert_number("done", w.done, 50);
}

// Every bundle is listed exactly once, whatever the page.
static void lists_in_pages(void **state)
{
    (void)state;
    for (size_t page = 1; page < 8; page += 3) {
        begin_again(CONF);
        for (int i = 0; i < 2500; i++)
            world_add(&w, &(struct world_mail){.domain = "a.site",
                                               .not_before_ms = HOUR_MS,
                                               .account = (uint32_t)i % 5,
                                               .recipients = 1 + (uint32_t)i % 3});
        struct queue_filter f = {.by = QUEUE_SELECT_ACCOUNT, .account = 3};
        struct queue_row rows[8];
        uint64_t cursor = 0, seen = 0, calls = 0;
        while (cursor != UINT64_MAX) {
            size_t n = queue_list(w.queue, &f, &cursor, w.now, rows, page);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(rows[i].account, 3);
                assert_int_equal(rows[i].state, QUEUE_STATE_SCHEDULED);
                assert_true(rows[i].next_attempt_at.us > w.now.wall.us);
            }
            seen += n;
            assert_true(calls++ < 3000);
        }
        assert_number("rows", seen, 500);
    }
}

// A body in memory stays while a batch has it, and only within the budget.
static void keeps_bodies_within_the_budget(void **state)
{
    (void)state;
    w.sites[0].transaction_ms = 1000;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1, .size = 600});
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1, .size = 600});
    assert_number("one kept", counts().stored_bytes, 600);
    assert_number("one let go", w.released, 1);
    world_run(&w, 500);
    assert_number("not while in use", w.released, 1);
    world_run(&w, 2000);
    assert_number("all let go", w.released, 2);
    assert_number("stored", counts().stored_bytes, 0);
}

// What waits for long makes room; what a batch has does not.
static void lets_go_of_stale_bodies(void **state)
{
    (void)state;
    w.sites[0].transaction_ms = 60000;
    w.sites[1].refuses = true;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1, .size = 400});
    world_run(&w, 500); // a batch has it
    world_add(&w, &(struct world_mail){.domain = "b.site", .recipients = 1, .size = 500});
    world_add(&w, &(struct world_mail){.domain = "b.site", .recipients = 1, .size = 500});
    assert_number("too soon for the first to go", w.released, 1);
    world_run(&w, 11000);
    world_add(&w, &(struct world_mail){.domain = "b.site", .recipients = 1, .size = 500});
    assert_number("the one that waits, not the one under way", w.released, 2);
    assert_number("stored", counts().stored_bytes, 900);
}

// All workers' turns, where every connection is refused. The domain that is to be resolved last, or NULL.
static struct queue_domain *turns_refused(uint64_t *kicks)
{
    static struct queue_work work;
    struct queue_domain *d = NULL;
    for (uint32_t worker = 0; worker < 2; worker++)
        do {
            queue_next(w.queue, worker, true, w.now, &work, kicks);
            if (work.kind == QUEUE_RESOLVE)
                d = work.domain;
            if (work.kind == QUEUE_CONNECT)
                queue_connect_failed(w.queue, &work.connection, BYTES("refused"), w.now, kicks);
        } while (work.kind != QUEUE_IDLE || work.until.us <= w.now.mono.us);
    return d;
}

static void moves_with_the_mx_set(void **state)
{
    (void)state;
    world_site(&w, "dead");
    w.sites[1].refuses = true;
    // The same domain name: its site changes with what resolution says.
    struct queue_recipient r = {.number = 1, .domain = BYTES("a.site")};
    uint64_t kicks = 0;
    for (uint32_t i = 0; i < 100; i++) {
        struct queue_message_new m = {.id = {1, i},
                                      .account = i % 3,
                                      .accepted_at = w.now.wall,
                                      .expires_at = WALL_NEVER,
                                      .recipients = &r,
                                      .recipients_count = 1};
        assert_int_equal(queue_add(w.queue, &m, w.now, &kicks), OK);
    }
    struct queue_resolution to = {BYTES("dead"), BYTES("x"), BYTES("dead"), QUEUE_PROOF_NONE,
                                  60000};
    for (int moves = 0; moves < 2; moves++) {
        struct queue_domain *d = turns_refused(&kicks);
        assert_non_null(d);
        queue_resolved(w.queue, d, &to, w.now, &kicks);
        to.lane = to.match_names = BYTES("site");
        if (moves == 0)
            assert_null(turns_refused(&kicks));
        w.now.mono.us += 61000000; // the resolution runs out while its mail is ready
        w.now.wall.us += 61000000;
    }
    struct queue_lane_row rows[4];
    uint64_t cursor = 0, on_site = 0, on_dead = 0;
    size_t n = queue_lanes(w.queue, &cursor, w.now, rows, 4);
    for (size_t i = 0; i < n; i++)
        *(strcmp(rows[i].name, "site") == 0 ? &on_site : &on_dead) += rows[i].ready;
    assert_number("on the new site", on_site, 100);
    assert_number("on the old one", on_dead, 0);
}

// A lane's row, by its name.
static struct queue_lane_row lane_row(const char *name)
{
    struct queue_lane_row row = {0};
    uint64_t cursor = 0;
    while (queue_lanes(w.queue, &cursor, w.now, &row, 1) == 1)
        if (strcmp(row.name, name) == 0)
            return row;
    fail_msg("no lane %s", name);
    return row;
}

// When the oldest of a lane came, and of all that waits, in seconds since the beginning; -1: nothing waits.
static int64_t oldest(const char *lane, struct wall since)
{
    queue_look_for_oldest(w.queue, w.now);
    struct wall at = lane ? lane_row(lane).oldest_at : counts().oldest_at;
    return at.us ? (at.us - since.us + 500000) / 1000000 : -1;
}

static void tells_the_oldest_message(void **state)
{
    (void)state;
    begin_again("retry: {first: 1h, factor: 1}\n");
    world_site(&w, "slow")->reply = WORLD_DEFER;
    world_site(&w, "dead")->refuses = true;
    struct wall since = w.now.wall;
    world_run(&w, 100000); // nothing is there yet
    assert_int_equal(oldest(NULL, since), -1);
    struct wall began = w.now.wall;
    struct message_id first =
        world_add(&w, &(struct world_mail){.domain = "a.slow", .recipients = 1});
    world_add(&w,
              &(struct world_mail){.domain = "a.slow", .recipients = 1, .not_before_ms = 86400000});
    world_run(&w, 60000);
    world_add(&w, &(struct world_mail){.domain = "a.dead", .recipients = 1});
    world_run(&w, 60000);
    world_add(&w, &(struct world_mail){.domain = "b.slow", .recipients = 1});
    world_run(&w, 5000);
    assert_int_equal(oldest("slow", began), 0);
    assert_int_equal(oldest("dead", began), 60);
    assert_int_equal(oldest(NULL, began), 0);
    // what is on hold waits for nobody
    assert_true(world_next_claim(&w, &(struct queue_filter){.by = QUEUE_SELECT_ID, .id = first},
                                 QUEUE_HELD));
    world_run(&w, 5000);
    assert_int_equal(oldest("slow", began), 120);
    assert_int_equal(oldest(NULL, began), 60);
    while (world_next_claim(&w, &(struct queue_filter){.by = QUEUE_SELECT_ALL}, QUEUE_DONE))
        ;
    world_run(&w, 5000);
    assert_int_equal(oldest(NULL, began), -1);
}

static void closes_used_up_connections(void **state)
{
    (void)state;
    begin_again("lanes: [{match: \"*\", connections: 1, messages_per_connection: 10}]\n");
    for (int i = 0; i < 95; i++)
        world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
    world_run(&w, 1000);
    assert_number("done", w.done, 95);
    assert_number("connections", w.sites[0].connects, 10);
}

// Mail that needs more proof never travels over less, and gets the slot in the end.
static void respects_proof(void **state)
{
    (void)state;
    begin_again("lanes: [{match: \"*\", connections: 1}]\n");
    w.sites[0].transaction_ms = 10;
    for (int i = 0; i < 5; i++)
        world_add(&w, &(struct world_mail){.domain = "plain.site", .recipients = 1});
    world_run(&w, 1000);
    assert_number("connections", w.sites[0].connects, 1);
    w.proof = QUEUE_PROOF_VERIFIED; // the idle connection proved nothing and holds the only slot
    for (int i = 0; i < 5; i++)
        world_add(&w, &(struct world_mail){.domain = "safe.site", .recipients = 1});
    world_run(&w, 1000);
    assert_number("connections", w.sites[0].connects, 2);
    assert_number("done", w.done, 10);
}

// RFC 6710: of one account's mail the most urgent goes first; another account's turn comes all the same.
static void urgent_mail_goes_first_in_its_accounts_turn(void **state)
{
    (void)state;
    static const int8_t priorities[] = {0, -9, 9, 4, 0, -2, 6, 2, -4};
    static const int wanted[] = {2, 6, 3, 7, 0,
                                 4, 5, 1, 8}; // of account 1; 9, 6 and -9, -4 share a step
    struct message_id ids[COUNT_OF(priorities)], low;
    begin_again("retry: {first: 5m, factor: 2, max: 4h, lifetime: 5d, warn_after: 4h}\n"
                "lanes: [{match: \"*\", connections: 1}]\n");
    world_site(&w, "site")->connect_ms = 1000;
    for (size_t i = 0; i < COUNT_OF(priorities); i++)
        ids[i] = world_add(
            &w, &(struct world_mail){
                    .domain = "a.site", .recipients = 1, .account = 1, .priority = priorities[i]});
    low = world_add(&w, &(struct world_mail){
                            .domain = "a.site", .recipients = 1, .account = 2, .priority = -9});
    world_run(&w, MINUTE_MS);
    assert_number("sent", w.sent_count, COUNT_OF(priorities) + 1);
    size_t n = 0;
    for (size_t i = 0; i < w.sent_count; i++) {
        if (message_id_eq(w.sent[i].id, low)) {
            assert_in_range(i, 0, 1);
            continue;
        }
        if (!message_id_eq(w.sent[i].id, ids[wanted[n]]))
            fail_msg("place %zu is not message %d", n, wanted[n]);
        n++;
    }
}

// RFC 2852, mode N: the warning comes at the time that was asked for, not by the schedule.
static void warns_when_asked_for(void **state)
{
    (void)state;
    world_site(&w, "site")->reply = WORLD_DEFER;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1, .warn_ms = MINUTE_MS});
    world_run(&w, MINUTE_MS - 1000);
    assert_number("warned", w.warned, 0);
    world_run(&w, 2000);
    assert_number("warned", w.warned, 1);
    world_run(&w, 5 * HOUR_MS);
    assert_number("warned once", w.warned, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(delivers),
        WORLD_TEST(refuses_a_second_of_the_same_id),
        WORLD_TEST(splits_by_recipients_per_transaction),
        WORLD_TEST(retries_by_the_schedule),
        WORLD_TEST(mixes_results_of_one_batch),
        WORLD_TEST(expires_and_warns_while_dns_fails),
        WORLD_TEST(an_end_that_cannot_be_read_waits),
        WORLD_TEST(a_warning_that_cannot_be_read_waits),
        WORLD_TEST(expires_while_the_lane_backs_off),
        WORLD_TEST(fails_what_dns_refuses),
        WORLD_TEST(reroutes_after_a_reload),
        WORLD_TEST(reroutes_what_was_resolved),
        WORLD_TEST(reroutes_what_dns_failed_for),
        WORLD_TEST(a_reload_ends_failing),
        WORLD_TEST(connects_later),
        WORLD_TEST(keeps_scheduled_mail_to_the_wall_clock),
        WORLD_TEST(charges_no_jump_to_lifetimes),
        WORLD_TEST(scheduled_mail_lives_from_when_it_is_due),
        WORLD_TEST(a_time_once_reached_stays_reached),
        WORLD_TEST(holds_and_releases),
        WORLD_TEST(releases_are_no_failures_after_a_crash),
        WORLD_TEST(ends_what_came_before),
        WORLD_TEST(holds_one_recipient_of_many),
        WORLD_TEST(holds_keep_the_schedule),
        WORLD_TEST(suspends_beside_operators_holds),
        WORLD_TEST(suspends_what_was_in_flight),
        WORLD_TEST(retries_now),
        WORLD_TEST(lists_in_pages),
        WORLD_TEST(keeps_bodies_within_the_budget),
        WORLD_TEST(lets_go_of_stale_bodies),
        WORLD_TEST(moves_with_the_mx_set),
        WORLD_TEST(tells_the_oldest_message),
        WORLD_TEST(closes_used_up_connections),
        WORLD_TEST(respects_proof),
        WORLD_TEST(urgent_mail_goes_first_in_its_accounts_turn),
        WORLD_TEST(warns_when_asked_for),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
