// SPDX-License-Identifier: MIT
//
// conf_snapshot - what a session or attempt works with: configuration, routes and accounts of one
// moment
//
// A reload (or a change of the store) makes a new snapshot and posts it to each worker, which gives
// up its old one; sessions keep the one they began with. Parts that did not change are shared
// between snapshots. This is the one reference count of the house: atomic, and the last to let go
// frees.
//
// Thread:   hold and release on any; the contents never change.
#pragma once

#include "conf/conf.h"

struct route_table;     // route/
struct store_directory; // store/store_directory.h
struct bounce_rules;    // bounce/bounce_rules.h

struct conf_part; // a counted immutable value

struct conf_snapshot {
    const struct conf *conf;
    const struct route_table *routes;
    const struct store_directory *accounts;
    const struct bounce_rules *bounces;
    struct conf_part *conf_part, *routes_part, *accounts_part,
        *bounces_part;   // what keeps them alive
    uint64_t generation; // one more for each snapshot made
    uint32_t references; // atomic
};

// Wraps a value with the function that frees it; the caller holds one reference. value may be NULL.
struct conf_part *conf_part_new(void *value, void (*free_value)(void *value));
struct conf_part *conf_part_hold(struct conf_part *part); // returns part
void conf_part_release(struct conf_part *part);           // NULL is fine

// Holds its own references to the parts (values: struct conf, struct route_table, struct
// store_directory, struct bounce_rules); all but conf may be NULL. The caller holds one reference to the result.
struct conf_snapshot *conf_snapshot_new(struct conf_part *conf, struct conf_part *routes,
                                        struct conf_part *accounts, struct conf_part *bounces,
                                        uint64_t generation);
struct conf_snapshot *conf_snapshot_hold(struct conf_snapshot *s); // returns s
void conf_snapshot_release(struct conf_snapshot *s);               // NULL is fine
