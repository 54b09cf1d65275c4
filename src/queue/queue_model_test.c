// SPDX-License-Identifier: MIT
//
// The laws under random use: mail of every kind, sites and DNS that change their minds, operators, reloads,
// clock jumps and crashes, over virtual days. The world (queue_world.c) aborts where a law is broken; here
// the books are compared all along, and in the end, with everything healed, all mail must have left.
#include <stdlib.h>

#include "base/check.h"
#include "base/test_base.h"
#include "queue/queue_world.h"

#define MINUTE_MS 60000
#define HOUR_MS 3600000LL

static const char *const SITES[] = {"alpha", "beta", "gamma", "delta"};
static const char CONF[] =
    "retry: {first: 1m, factor: 1.5, max: 1h, lifetime: 2d, warn_after: 2h}\n"
    "lanes:\n"
    "- {match: alpha, connections: 3, messages_per_second: 2, recipients_per_transaction: 7}\n"
    "- {match: beta, connections: 1, messages_per_hour: 40, messages_per_day: 300}\n"
    "- {match: gamma, connections: 10, messages_per_connection: 3, bytes_per_second: 20000}\n"
    "- {match: \"*\", connections: 5, messages_per_second: 30}\n";

static uint32_t below(struct test_random *r, uint32_t n)
{
    return test_random_below(r, n);
}

static void add(struct world *w, struct test_random *r)
{
    char domain[32];
    snprintf(domain, sizeof(domain), "%c.%s", 'a' + (char)below(r, 6), SITES[below(r, 4)]);
    world_add(w, &(struct world_mail){
                     .domain = domain,
                     .spread = below(r, 4) ? 0 : 1 + below(r, 5),
                     .account = below(r, 4),
                     .class = (enum mail_class)below(r, MAIL_CLASSES),
                     .recipients = below(r, 3) ? 1 : 1 + below(r, 30),
                     .not_before_ms = below(r, 8) ? 0 : (int64_t)below(r, 10) * HOUR_MS,
                     .lifetime_ms = (1 + (int64_t)below(r, 48)) * HOUR_MS,
                     .size = below(r, 20000),
                     .notify = below(r, 3) ? 0 : 1u << below(r, 4),
                     .route = w->route_now - (below(r, 10) == 0),
                     .singly = below(r, 8) == 0,
                 });
}

static void operate(struct world *w, struct test_random *r)
{
    struct queue_filter f = {.by = below(r, 2) ? QUEUE_SELECT_ACCOUNT : QUEUE_SELECT_DOMAIN,
                             .domain = BYTES("b.beta"),
                             .account = below(r, 4)};
    static const enum queue_outcome outcomes[] = {QUEUE_HELD, QUEUE_RELEASED, QUEUE_RETRIED,
                                                  QUEUE_KEPT};
    enum queue_outcome outcome = outcomes[below(r, 4)];
    f.held_only = outcome == QUEUE_RELEASED;
    f.unheld_only = outcome == QUEUE_HELD;
    world_next_claim(w, &f, outcome);
}

static void upset(struct world *w, struct test_random *r)
{
    struct world_site *site = world_site(w, SITES[below(r, 4)]);
    site->refuses = below(r, 3) == 0;
    site->reply = (enum world_reply)below(r, 5);
    site->connect_ms = below(r, 300);
    site->transaction_ms = below(r, 3000);
    w->dns = below(r, 3) ? WORLD_DNS_OK : (enum world_dns)below(r, 3);
    w->proof = (enum queue_proof)(below(r, 3) ? 0 : below(r, QUEUE_PROOFS));
    if (below(r, 20) == 0)
        w->route_now++;
}

static void compare_books(struct world *w)
{
    struct queue_counts c;
    queue_count(w->queue, &c);
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++)
        sum += c.recipients[i];
    CHECK(sum == world_queued(w));
    CHECK(c.recipients[QUEUE_STATE_HELD] <= world_held(w));
    CHECK(c.recipients[QUEUE_STATE_HELD] + c.recipients[QUEUE_STATE_ACTIVE] >= world_held(w));
}

static void heal(struct world *w)
{
    w->dns = WORLD_DNS_OK;
    w->proof = QUEUE_PROOF_NONE;
    for (size_t i = 0; i < w->sites_count; i++) {
        w->sites[i].refuses = false;
        w->sites[i].reply = WORLD_DELIVER;
        w->sites[i].transaction_ms = 10;
    }
    world_next_claim(w, &(struct queue_filter){.by = QUEUE_SELECT_ALL, .held_only = true},
                     QUEUE_RELEASED);
}

static void live(uint64_t seed)
{
    struct world w;
    struct test_random r = {seed};
    world_init(&w, &(struct world_options){.conf = CONF,
                                           .workers = 1 + below(&r, 4),
                                           .seed = seed,
                                           .stored_bytes_max = below(&r, 2) ? 100000 : 0,
                                           .connections_max = below(&r, 2) ? 1 + below(&r, 8) : 0});
    w.dns_ms = below(&r, 500);
    w.save_ms = below(&r, 50);
    w.route_now = 5;
    for (size_t i = 0; i < COUNT_OF(SITES); i++)
        world_site(&w, SITES[i]);
    for (int step = 0; step < 300; step++) {
        for (uint32_t n = below(&r, 8); n; n--)
            add(&w, &r);
        if (below(&r, 10) == 0)
            upset(&w, &r);
        if (below(&r, 12) == 0)
            operate(&w, &r);
        if (below(&r, 30) == 0) {
            world_jump(&w, ((int64_t)below(&r, 48) - 24) * HOUR_MS);
            world_run(&w, 1000); // notes are written anew
        }
        if (below(&r, 60) == 0)
            world_crash(&w, below(&r, 100000), below(&r, 2));
        world_run(&w, below(&r, 2) ? below(&r, 1000) : below(&r, 15) * MINUTE_MS);
        compare_books(&w);
    }
    heal(&w);
    world_run(&w, 14 * 24 * HOUR_MS);
    world_hang_up_idle(&w);
    world_run(&w, HOUR_MS);
    struct queue_counts c;
    queue_count(w.queue, &c);
    if (world_queued(&w) || c.messages || c.domains || c.lanes || c.stored_bytes)
        fail_msg("seed %llu: %llu recipients, %llu messages, %llu domains, %llu lanes are left",
                 (unsigned long long)seed, (unsigned long long)world_queued(&w),
                 (unsigned long long)c.messages, (unsigned long long)c.domains,
                 (unsigned long long)c.lanes);
    assert_true(c.free_bytes > c.message_bytes && c.free_bytes <= c.memory_bytes);
    world_done(&w);
}

static void laws_hold_under_random_use(void **state)
{
    (void)state;
    const char *from = getenv("QUEUE_MODEL_SEED"), *count = getenv("QUEUE_MODEL_COUNT");
    uint64_t seed = from ? strtoull(from, NULL, 10) : 1, n = count ? strtoull(count, NULL, 10) : 20;
    for (uint64_t i = 0; i < n; i++)
        live(seed + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(laws_hold_under_random_use)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
