// SPDX-License-Identifier: MIT
#include "conf/conf_snapshot.h"

#include <stdlib.h>

#include "base/check.h"

struct conf_part {
    void *value;
    void (*free_value)(void *value);
    uint32_t references; // atomic
};

static void hold(uint32_t *references)
{
    CHECK(__atomic_fetch_add(references, 1, __ATOMIC_RELAXED) > 0);
}

// True for the one that let go last.
static bool release(uint32_t *references)
{
    uint32_t before = __atomic_fetch_sub(references, 1, __ATOMIC_ACQ_REL);
    CHECK(before > 0);
    return before == 1;
}

struct conf_part *conf_part_new(void *value, void (*free_value)(void *value))
{
    struct conf_part *part = mem_new(sizeof *part);
    *part = (struct conf_part){value, free_value, 1};
    return part;
}

struct conf_part *conf_part_hold(struct conf_part *part)
{
    hold(&part->references);
    return part;
}

void conf_part_release(struct conf_part *part)
{
    if (!part || !release(&part->references))
        return;
    if (part->free_value && part->value)
        part->free_value(part->value);
    free(part);
}

static const void *value_of(struct conf_part *part)
{
    return part ? part->value : NULL;
}

struct conf_snapshot *conf_snapshot_new(struct conf_part *conf, struct conf_part *routes,
                                        struct conf_part *accounts, struct conf_part *bounces,
                                        uint64_t generation)
{
    struct conf_snapshot *s = mem_new(sizeof *s);
    *s = (struct conf_snapshot){
        .conf = value_of(conf),
        .routes = value_of(routes),
        .accounts = value_of(accounts),
        .bounces = value_of(bounces),
        .conf_part = conf_part_hold(conf),
        .routes_part = routes ? conf_part_hold(routes) : NULL,
        .accounts_part = accounts ? conf_part_hold(accounts) : NULL,
        .bounces_part = bounces ? conf_part_hold(bounces) : NULL,
        .generation = generation,
        .references = 1,
    };
    return s;
}

struct conf_snapshot *conf_snapshot_hold(struct conf_snapshot *s)
{
    hold(&s->references);
    return s;
}

void conf_snapshot_release(struct conf_snapshot *s)
{
    if (!s || !release(&s->references))
        return;
    conf_part_release(s->conf_part);
    conf_part_release(s->routes_part);
    conf_part_release(s->accounts_part);
    conf_part_release(s->bounces_part);
    free(s);
}
