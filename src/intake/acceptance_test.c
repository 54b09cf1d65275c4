// SPDX-License-Identifier: MIT
//
// What a restart makes of a message's times, and of jumps of the wall clock.
#include "intake/acceptance.h"

#include "base/log.h"
#include "base/test_base.h"

#define HOUR_MS INT64_C(3600000)
#define NOW_US INT64_C(1800000000000000)

static const struct queue_now NOW = {{5000000}, {NOW_US}};

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

static uint32_t any_route(void *ctx, const struct spool_summary *summary,
                          const struct spool_summary_recipient *recipient)
{
    (void)ctx;
    (void)summary;
    (void)recipient;
    return 1;
}

// ---- jumps ----------------------------------------------------------------------------------------------------

static void reads_its_note(void **state)
{
    (void)state;
    static const struct {
        const char *name, *key, *value;
        bool is;
        int64_t want_ms;
    } rows[] = {
        {"forward", "clock", "jumped=172800000", true, 172800000},
        {"back", "clock", "jumped=-172800000", true, -172800000},
        {"none", "clock", "jumped=0", true, 0},
        {"damaged", "clock", "jumped=x", true, 0},
        {"too large", "clock", "jumped=99999999999999999999", true, 0},
        {"of a lane", "lane/x", "failures=1", false, 0},
    };
    log_capture(swallow, NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct wall_jumps j = {0};
        bool is = wall_jumps_restore(&j, bytes_cstr(rows[i].key), bytes_cstr(rows[i].value));
        if (is != rows[i].is || wall_jumps_known(&j) != rows[i].want_ms)
            fail_msg("%s: %d, %lld ms", rows[i].name, is, (long long)wall_jumps_known(&j));
    }
}

static struct queue_now later(int64_t mono_ms, int64_t wall_ms)
{
    return (struct queue_now){mono_add_ms(NOW.mono, mono_ms), {NOW.wall.us + wall_ms * 1000}};
}

static void sees_what_the_monotonic_clock_does_not_confirm(void **state)
{
    (void)state;
    struct wall_jumps j = {0};
    assert_int_equal(wall_jumps_now(&j, NOW), 0);
    assert_true(wall_jumps_restore(&j, BYTES("clock"), BYTES("jumped=7000")));
    wall_jumps_start(&j, NOW);
    assert_int_equal(wall_jumps_now(&j, NOW), 7000);
    assert_int_equal(wall_jumps_now(&j, later(HOUR_MS, HOUR_MS)), 7000);
    assert_int_equal(wall_jumps_now(&j, later(HOUR_MS, HOUR_MS + 500)), 7000);
    assert_int_equal(wall_jumps_now(&j, later(HOUR_MS, 3 * HOUR_MS)), 7000 + 2 * HOUR_MS);
    assert_int_equal(wall_jumps_now(&j, later(0, -2 * HOUR_MS)), 7000 - 2 * HOUR_MS);
}

// ---- a message that was found ---------------------------------------------------------------------------------

struct found {
    const char *name;
    int64_t accepted_ms, not_before_ms, expires_ms; // from now; not_before 0: none
    int64_t jumped_ms, known_ms;                    // when accepted; today
    int64_t want_ms;                                // its end, from now
    int64_t unseen_ms; // jumped since the start, and not looked at yet: 0, the start is not over
    enum by_mode by_mode;
};

// The end that the queue goes by.
static int64_t end_of(const struct found *f)
{
    struct conf *conf;
    struct buf errors = {0};
    assert_int_equal(conf_load_text(BYTES("hostname: relay.example\nspool: /x\nstate: /y\n"),
                                    "test", "/", &conf, &errors),
                     OK);
    struct queue_options options = {.workers = 1, .seed = 1, .conf = conf};
    struct intake_port port = {.queue = queue_new(&options), .kick = no_kick};
    char note[40];
    snprintf(note, sizeof note, "jumped=%lld", (long long)f->known_ms);
    assert_true(wall_jumps_restore(&port.jumps, BYTES("clock"), bytes_cstr(note)));
    if (f->unseen_ms) {
        struct queue_now start = {NOW.mono, wall_add_ms(NOW.wall, -f->unseen_ms)};
        wall_jumps_start(&port.jumps, start);
    }
    struct spool_summary_recipient r = {.number = 1, .domain = BYTES("a.example")};
    struct spool_summary summary = {
        .id = {1, 2},
        .accepted_at = wall_add_ms(NOW.wall, f->accepted_ms),
        .not_before = f->not_before_ms ? wall_add_ms(NOW.wall, f->not_before_ms) : (struct wall){0},
        .expires_at = wall_add_ms(NOW.wall, f->expires_ms),
        .wall_jumped_ms = f->jumped_ms,
        .by_mode = f->by_mode,
        .deliver_by = f->by_mode ? wall_add_ms(NOW.wall, f->expires_ms) : (struct wall){0},
        .recipients = &r,
        .recipients_count = 1,
        .recipients_total = 1,
    };
    acceptance_recover(&port, &summary, NOW, HOUR_MS, any_route, NULL, NULL);
    struct queue_filter all = {.by = QUEUE_SELECT_ALL};
    struct queue_batch *batch = NULL;
    uint64_t cursor = 0, kicks = 0;
    while (!batch && queue_claim(port.queue, &all, &cursor, NOW, &batch))
        ;
    assert_non_null(batch);
    int64_t end_ms = wall_ms_between(NOW.wall, batch->expires_at);
    queue_settle_all(port.queue, batch, (struct queue_result){.outcome = QUEUE_DONE}, NOW, &kicks);
    queue_free(port.queue);
    conf_free(conf);
    return end_ms;
}

static void check_ends(const struct found *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t got_ms = end_of(&rows[i]);
        if (got_ms != rows[i].want_ms)
            fail_msg("%s: ends in %lld ms, want %lld", rows[i].name, (long long)got_ms,
                     (long long)rows[i].want_ms);
    }
}

static void charges_no_jump_to_a_lifetime(void **state)
{
    (void)state;
    const int64_t h = HOUR_MS;
    const struct found rows[] = {
        {"no jump", -2 * h, 0, 22 * h, 0, 0, 22 * h},
        {"none since", -2 * h, 0, 22 * h, 48 * h, 48 * h, 22 * h},
        {"forward by 2 days", -50 * h, 0, -26 * h, 0, 48 * h, 22 * h},
        {"back by 2 days", 46 * h, 0, 70 * h, 0, -48 * h, 22 * h},
        {"forward and back", 46 * h, 0, 70 * h, 48 * h, 0, 22 * h},
        {"never more than a whole one", -2 * h, 0, 22 * h, 0, 24 * 365 * h, 24 * h},
        {"scheduled, and sent for", -60 * h, -50 * h, -26 * h, 0, 48 * h, 22 * h},
        {"forward, not seen yet", -50 * h, 0, -26 * h, 0, 0, 22 * h, 48 * h},
        {"back, not seen yet", 46 * h, 0, 70 * h, 0, 0, 22 * h, -48 * h},
        {"still scheduled", -60 * h, 5 * h, 29 * h, 0, 48 * h, 29 * h},
    };
    check_ends(rows, COUNT_OF(rows));
}

// What was held, or waited while the service was down, is tried before it is given up.
static void gives_up_nothing_at_once(void **state)
{
    (void)state;
    const int64_t h = HOUR_MS, m = HOUR_MS / 60, grace = 10 * m; // retry.first is 5m
    const struct found rows[] = {
        {"its end came long ago", -75 * h, 0, -51 * h, 0, 0, grace},
        {"it came, less a jump", -75 * h, 0, -51 * h, 0, 48 * h, grace},
        {"it came just now", -24 * h, 0, 0, 0, 0, grace},
        {"it is about to come", -24 * h, 0, m, 0, 0, grace},
        {"it comes when that is over", -24 * h, 0, grace, 0, 0, grace},
        {"it comes later", -24 * h, 0, grace + m, 0, 0, grace + m},
        {"only told of its delay", -24 * h, 0, -h, 0, 0, grace, 0, BY_NOTIFY},
        {"returned at its time", -24 * h, 0, -h, 0, 0, -h, 0, BY_RETURN},
        {"soon returned", -24 * h, 0, m, 0, 0, m, 0, BY_RETURN},
    };
    check_ends(rows, COUNT_OF(rows));
}

// A next attempt recorded before the clock went back would be days away.
static void tries_again_no_later_than_it_may(void **state)
{
    (void)state;
    struct conf *conf;
    struct buf errors = {0};
    assert_int_equal(conf_load_text(BYTES("hostname: relay.example\nspool: /x\nstate: /y\n"),
                                    "test", "/", &conf, &errors),
                     OK);
    struct queue_options options = {.workers = 1, .seed = 1, .conf = conf};
    struct intake_port port = {.queue = queue_new(&options), .kick = no_kick};
    struct spool_summary_recipient r[] = {
        {.number = 1,
         .domain = BYTES("a.example"),
         .next_attempt_at = {NOW_US + 48 * HOUR_MS * 1000}},
        {.number = 2, .domain = BYTES("b.example"), .next_attempt_at = {NOW_US + 60000000}},
    };
    struct spool_summary summary = {.id = {1, 2},
                                    .accepted_at = {NOW_US},
                                    .expires_at = wall_add_ms(NOW.wall, 24 * HOUR_MS),
                                    .recipients = r,
                                    .recipients_count = 2,
                                    .recipients_total = 2};
    acceptance_recover(&port, &summary, NOW, HOUR_MS, any_route, NULL, NULL);
    struct queue_place place;
    assert_int_equal(queue_find(port.queue, summary.id, 1, NOW, &place), OK);
    assert_int_equal(wall_ms_between(NOW.wall, place.next_attempt_at),
                     HOUR_MS + HOUR_MS * QUEUE_JITTER_PERCENT / 100);
    assert_int_equal(queue_find(port.queue, summary.id, 2, NOW, &place), OK);
    assert_int_equal(wall_ms_between(NOW.wall, place.next_attempt_at), 60000);
    queue_free(port.queue);
    conf_free(conf);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(reads_its_note),
    cmocka_unit_test(sees_what_the_monotonic_clock_does_not_confirm),
    cmocka_unit_test(charges_no_jump_to_a_lifetime),
    cmocka_unit_test(gives_up_nothing_at_once),
    cmocka_unit_test(tries_again_no_later_than_it_may),
};

RUN_TESTS(tests)
