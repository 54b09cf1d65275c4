// SPDX-License-Identifier: MIT
//
// queue_world_test - for tests: a world of two workers and a site that takes everything, new for each WORLD_TEST
#pragma once

#include "base/check.h"
#include "base/test_base.h"
#include "queue/queue_world.h"

#define SECOND_MS 1000
#define MINUTE_MS 60000
#define HOUR_MS 3600000

static const char CONF[] = "retry: {first: 5m, factor: 2, max: 4h, lifetime: 5d, warn_after: 4h}\n"
                           "lanes: [{match: \"*\", connections: 4}]\n";

static struct world w; // of the test that runs

static inline void make_world(const char *conf)
{
    world_init(&w, &(struct world_options){
                       .conf = conf, .workers = 2, .seed = 1, .stored_bytes_max = 1000});
    w.keep_sent = true;
    world_site(&w, "site");
}

static inline int begin(void **state)
{
    (void)state;
    make_world(CONF);
    return 0;
}

static inline int end(void **state)
{
    (void)state;
    world_done(&w);
    return 0;
}

#define WORLD_TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

// A new world in its place, with this configuration.
static inline void begin_again(const char *conf)
{
    world_done(&w);
    make_world(conf);
}

static inline struct queue_counts counts(void)
{
    struct queue_counts c;
    queue_count(w.queue, &c);
    return c;
}
