// SPDX-License-Identifier: MIT
//
// snapshot_test - for tests: a snapshot that has its parts to itself, and frees them
#pragma once

#include <stdio.h>

#include "base/check.h"
#include "bounce/bounce_rules.h"
#include "conf/conf_snapshot.h"
#include "route/route.h"
#include "store/store_directory.h"

static inline void test_free_conf(void *value)
{
    conf_free(value);
}

static inline void test_free_routes(void *value)
{
    route_table_free(value);
}

static inline void test_free_accounts(void *value)
{
    store_directory_free(value);
}

static inline void test_free_bounces(void *value)
{
    bounce_rules_free(value);
}

// Takes the values over; those that the test does without are NULL.
static inline struct conf_snapshot *test_snapshot(struct conf *conf, struct route_table *routes,
                                                  struct store_directory *accounts,
                                                  struct bounce_rules *bounces)
{
    struct conf_part *parts[] = {
        conf_part_new(conf, test_free_conf), conf_part_new(routes, test_free_routes),
        conf_part_new(accounts, test_free_accounts), conf_part_new(bounces, test_free_bounces)};
    struct conf_snapshot *s = conf_snapshot_new(parts[0], parts[1], parts[2], parts[3], 1);
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        conf_part_release(parts[i]);
    return s;
}

// The same of a configuration's text, with its routes (files, generation: route.h) and the bounce rules as we ship
// them.
static inline struct conf_snapshot *test_snapshot_parse(struct bytes text,
                                                        const struct route_files *files,
                                                        uint32_t generation,
                                                        struct store_directory *accounts)
{
    struct buf errors = {0};
    struct conf *conf = NULL;
    struct route_table *routes = NULL;
    int err = conf_load_text(text, "test", "/", &conf, &errors);
    if (!err)
        err = route_table_new(conf, files, generation, &routes, &errors);
    if (err)
        fputs(buf_cstr(&errors), stderr);
    CHECK(!err);
    return test_snapshot(conf, routes, accounts, bounce_rules_default());
}
