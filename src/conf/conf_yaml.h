// SPDX-License-Identifier: MIT
//
// conf_yaml - a YAML text as a tree in which everything knows its place
//
// Only what a configuration needs: maps with plain keys, lists, scalars. Anchors, aliases, tags and
// a second document are errors; so is a key that stands twice in one map. Scalars are text: their
// meaning is the parameter table's business.
//
// Limits:   CONF_DEPTH_MAX levels, CONF_ITEMS_MAX entries in one list or map.
#pragma once

#include "conf/conf_error.h"

#define CONF_DEPTH_MAX 16

enum conf_node_kind { CONF_NODE_SCALAR, CONF_NODE_LIST, CONF_NODE_MAP };

struct conf_node {
    enum conf_node_kind kind;
    bool quoted;             // scalar in quotes: an empty one is "" and not null
    uint32_t count;          // children
    struct bytes key;        // in a map: its key
    struct conf_place place; // of the value; of the key where there is no value
    struct conf_place key_place;
    struct bytes text; // scalar
    struct conf_node *first, *last, *next;
};

// The tree, in the arena; an empty file is an empty map. NULL after a syntax error. Errors go to
// `errors`.
struct conf_node *conf_yaml_parse(struct bytes text, struct arena *arena,
                                  struct conf_errors *errors);
// The child with that key, or NULL; NULL for a NULL map.
const struct conf_node *conf_node_find(const struct conf_node *map, const char *key);
// The n-th child, from 0, or NULL.
const struct conf_node *conf_node_nth(const struct conf_node *list, uint32_t n);
// The place of its value; of NULL the file as a whole.
struct conf_place conf_node_place(const struct conf_node *node);
