// SPDX-License-Identifier: MIT
#include "queue/queue_world_test.h"

static uint64_t held(void)
{
    return counts().recipients[QUEUE_STATE_HELD];
}

static void holds_mail_to_come(void **state)
{
    (void)state;
    world_hold_domain(&w, BYTES("a.site"), true, NULL);
    world_hold_account(&w, 3, true, NULL);
    world_add(&w, &(struct world_mail){.domain = "a.site", .account = 1, .recipients = 1});
    world_add(&w, &(struct world_mail){.domain = "b.site", .account = 3, .recipients = 1});
    world_add(&w, &(struct world_mail){.domain = "b.site", .account = 1, .recipients = 1});
    world_run(&w, 1000);
    assert_number("done", w.done, 1);
    assert_number("held", held(), 2);
    world_crash(&w, 1000, false); // the rules last
    world_add(&w, &(struct world_mail){.domain = "a.site", .account = 1, .recipients = 1});
    world_hold_account(&w, 3, false, NULL);
    world_add(&w, &(struct world_mail){.domain = "b.site", .account = 3, .recipients = 1});
    world_run(&w, 1000);
    assert_number("done", w.done, 2);
}

static void assert_why(struct message_id id, const char *setting)
{
    struct queue_reason why;
    assert_int_equal(queue_why(w.queue, id, 1, w.now, &why), OK);
    assert_string_equal(why.setting, setting);
}

// What several holds cover goes when the last of them ends, whatever is released before.
static void keeps_what_another_hold_covers(void **state)
{
    (void)state;
    uint64_t covered = 0;
    struct queue_filter all = {.held_only = true, .covered = &covered}, domain = all, one = all,
                        account = all;
    struct message_id id =
        world_add(&w, &(struct world_mail){.domain = "a.site", .account = 3, .recipients = 2});
    one.by = QUEUE_SELECT_ID, one.id = id;
    domain.by = QUEUE_SELECT_DOMAIN, domain.domain = BYTES("a.site");
    account.by = QUEUE_SELECT_ACCOUNT, account.account = 3;
    world_hold_account(&w, 3, true, NULL);
    world_hold_domain(&w, BYTES("a.site"), true, NULL);
    world_hold_all(&w, true, NULL);
    assert_true(world_next_claim(&w, &(struct queue_filter){.unheld_only = true}, QUEUE_HELD));
    assert_why(id, "queue release --all");
    world_hold_all(&w, false, NULL);
    assert_false(world_next_claim(&w, &all, QUEUE_RELEASED));
    assert_number("those that stay are told", covered, 2);
    assert_why(id, "queue release --domain");
    one.recipient = 2;
    assert_false(world_next_claim(&w, &one, QUEUE_RELEASED));
    assert_number("the one as well", covered, 3);
    world_hold_domain(&w, BYTES("a.site"), false, NULL);
    assert_false(world_next_claim(&w, &domain, QUEUE_RELEASED));
    assert_why(id, "queue release --account");
    world_crash(&w, 1000, false);
    world_run(&w, HOUR_MS);
    assert_number("nothing left", w.sent_count, 0);
    world_hold_account(&w, 3, false, NULL);
    assert_why(id, "queue release");
    assert_true(world_next_claim(&w, &account, QUEUE_RELEASED));
    world_run(&w, HOUR_MS);
    assert_number("done", w.done, 2);
}

// A message that is let go by itself is under way for good, whatever covers it: over deferrals and restarts, until it is
// held again.
static void lets_one_through(void **state)
{
    (void)state;
    struct queue_reason why;
    const struct world_mail mail = {.domain = "a.site", .account = 3, .recipients = 2};
    world_hold_account(&w, 3, true, NULL);
    world_hold_domain(&w, BYTES("a.site"), true, NULL);
    world_site(&w, "site")->reply = WORLD_DEFER;
    struct message_id id = world_add(&w, &mail);
    world_add(&w, &mail);
    struct queue_filter one = {
        .by = QUEUE_SELECT_ID, .id = id, .recipient = 1, .held_only = true, .through = true};
    assert_true(world_next_claim(&w, &one, QUEUE_EXEMPTED));
    world_run(&w, 1000);
    assert_number("an attempt", w.sent_count, 1);
    assert_int_equal(queue_why(w.queue, id, 1, w.now, &why), OK);
    assert_int_equal(why.limit, QUEUE_LIMIT_RETRY_TIME);
    assert_non_null(strstr(why.text, "released by itself from a hold that stands"));
    world_crash(&w, 1000, false);
    world_run(&w, HOUR_MS);
    assert_true(w.sent_count > 1);
    assert_number("held", held(), 3);
    struct queue_filter domain = {
        .by = QUEUE_SELECT_DOMAIN, .domain = BYTES("a.site"), .unheld_only = true};
    assert_true(world_next_claim(&w, &domain, QUEUE_HELD));
    assert_number("held", held(), 4);
    assert_false(world_next_claim(&w, &(struct queue_filter){.held_only = true}, QUEUE_RELEASED));
    world_site(&w, "site")->reply = WORLD_DELIVER;
    world_crash(&w, 1000, false);
    world_run(&w, HOUR_MS);
    assert_number("done", w.done, 0);
    one.recipient = 0;
    assert_true(world_next_claim(&w, &one, QUEUE_EXEMPTED));
    world_run(&w, HOUR_MS);
    assert_number("done", w.done, 2);
}

// Of a restored backup nothing goes before all of it is released: not what was let go by itself before the backup either,
// nor what is to be now.
static void holds_a_restored_backup(void **state)
{
    (void)state;
    uint64_t covered = 0;
    world_hold_domain(&w, BYTES("a.site"), true, NULL);
    struct message_id id = world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
    struct queue_filter one = {
        .by = QUEUE_SELECT_ID, .id = id, .held_only = true, .through = true, .covered = &covered};
    queue_hold_restored(w.queue);
    assert_false(world_next_claim(&w, &one, QUEUE_EXEMPTED));
    assert_number("covered", covered, 1);
    assert_why(id, "queue release --all");
    world_hold_all(&w, false, NULL);
    assert_true(world_next_claim(&w, &one, QUEUE_EXEMPTED));
    queue_hold_restored(w.queue);
    assert_true(world_next_claim(&w, &(struct queue_filter){.unheld_only = true}, QUEUE_KEPT));
    world_run(&w, HOUR_MS);
    assert_number("sent", w.sent_count, 0);
    world_hold_all(&w, false, NULL);
    assert_true(world_next_claim(&w, &(struct queue_filter){.held_only = true}, QUEUE_RELEASED));
    world_run(&w, HOUR_MS);
    assert_number("done", w.done, 1);
}

// A hold begins while an attempt is under way that fails: it is the last until the hold ends.
static void holds_what_was_in_flight(void **state)
{
    (void)state;
    struct world_site *site = world_site(&w, "site");
    site->reply = WORLD_DEFER;
    site->transaction_ms = 5000;
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 1});
    world_run(&w, 1000);
    world_hold_domain(&w, BYTES("a.site"), true, NULL);
    world_run(&w, 10000);
    assert_number("held", held(), 1);
    site->reply = WORLD_DELIVER;
    world_run(&w, HOUR_MS);
    assert_number("done", w.done, 0);
    world_hold_domain(&w, BYTES("a.site"), false, NULL);
    assert_true(world_next_claim(&w, &(struct queue_filter){.held_only = true}, QUEUE_RELEASED));
    world_run(&w, HOUR_MS);
    assert_number("done", w.done, 1);
}

// A restored backup starts like this: nothing goes out until it is released, not even after a restart.
static void holds_everything(void **state)
{
    (void)state;
    world_hold_all(&w, true, NULL);
    world_add(&w, &(struct world_mail){.domain = "a.site", .recipients = 2});
    world_run(&w, 1000);
    world_crash(&w, 1000, false);
    world_add(&w, &(struct world_mail){.domain = "b.site", .recipients = 1});
    world_run(&w, 1000);
    assert_number("held", held(), 3);
    assert_number("sent", w.sent_count, 0);
    world_hold_all(&w, false, NULL);
    world_next_claim(&w, &(struct queue_filter){.by = QUEUE_SELECT_ALL}, QUEUE_RELEASED);
    world_run(&w, 1000);
    assert_number("done", w.done, 3);
    world_crash(&w, 1000, false);
    world_add(&w, &(struct world_mail){.domain = "b.site", .recipients = 1});
    world_run(&w, 1000);
    assert_number("and it stays released", w.done, 4);
}

static struct queue_hold_row row_of(size_t at, size_t count)
{
    struct queue_hold_row rows[8];
    uint64_t cursor = 0, counted = 0;
    size_t n = 0;
    while (queue_count_held(w.queue, &counted))
        ;
    for (size_t got; (got = queue_holds(w.queue, &cursor, rows + n, 1)) > 0;)
        n += got;
    assert_int_equal(n, count);
    return rows[at];
}

// Which rules there are, whose, since when, why, and what each keeps: also after a restart.
static void are_told(void **state)
{
    (void)state;
    const struct wall since = w.now.wall;
    const struct queue_hold_facts facts = {since, BYTES("cli:uid 33"),
                                           BYTES("blocked:\n\xc3\xa4sk X")};
    world_hold_domain(&w, BYTES("a.site"), true, &facts);
    world_hold_domain(&w, BYTES("b.site"), true, NULL);
    world_hold_account(&w, 3, true, &facts);
    struct message_id id =
        world_add(&w, &(struct world_mail){.domain = "a.site", .account = 3, .recipients = 2});
    world_add(&w, &(struct world_mail){.domain = "a.site", .account = 4, .recipients = 1});
    world_add(&w, &(struct world_mail){.domain = "c.site", .account = 4, .recipients = 1});
    world_add(&w,
              &(struct world_mail){.domain = "d.site", .account = 3, .recipients = 2, .spread = 2});
    world_run(&w, 1000);
    for (int i = 0; i < 2; i++) {
        struct queue_hold_row a = row_of(0, 3), b = row_of(1, 3), account = row_of(2, 3);
        assert_true(a.by == QUEUE_SELECT_DOMAIN && account.by == QUEUE_SELECT_ACCOUNT);
        assert_string_equal(a.domain, "a.site");
        assert_true(a.since.us == since.us && !a.restored);
        assert_string_equal(a.who, "cli:uid 33");
        assert_string_equal(a.why, "blocked:?\xc3\xa4sk X");
        assert_number("messages", a.messages, 2);
        assert_number("recipients", a.recipients, 3);
        assert_true(b.since.us == 0 && !b.who[0] && !b.why[0] && !b.messages);
        assert_true(account.account == 3 && account.messages == 2 && account.recipients == 4);
        world_crash(&w, 1000, false);
    }
    struct queue_reason why;
    assert_int_equal(queue_why(w.queue, id, 1, w.now, &why), OK);
    assert_string_equal(why.text,
                        "held until released: mail to a.site is held: blocked:?\xc3\xa4sk X");
    queue_hold_restored(w.queue);
    world_hold_all(&w, true, &facts);
    assert_true(row_of(0, 5).restored && row_of(1, 5).by == QUEUE_SELECT_ALL);
    world_hold_all(&w, false, NULL);
    world_hold_domain(&w, BYTES("b.site"), false, NULL);
    assert_true(row_of(1, 2).account == 3);
}

// Notes of the first release say no more than that there is a rule.
static void restores_old_notes(void **state)
{
    (void)state;
    assert_int_equal(queue_restore(w.queue, BYTES("hold/domain/a.site"), BYTES("1"), w.now), OK);
    assert_int_equal(queue_restore(w.queue, BYTES("hold/all/all"), BYTES("1"), w.now), OK);
    assert_int_equal(queue_restore(w.queue, BYTES("hold/other/x"), BYTES("1"), w.now), E_SYNTAX);
    assert_int_equal(queue_restore(w.queue, BYTES("hold/domain/"), BYTES("1"), w.now), E_SYNTAX);
    assert_true(row_of(0, 2).since.us == 0 && row_of(1, 2).since.us == 0);
    assert_string_equal(row_of(1, 2).domain, "a.site");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(holds_mail_to_come),
        WORLD_TEST(keeps_what_another_hold_covers),
        WORLD_TEST(lets_one_through),
        WORLD_TEST(holds_a_restored_backup),
        WORLD_TEST(holds_what_was_in_flight),
        WORLD_TEST(holds_everything),
        WORLD_TEST(are_told),
        WORLD_TEST(restores_old_notes),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
