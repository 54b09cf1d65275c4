// SPDX-License-Identifier: MIT
#include "spool/stored_message.h"

#include <stdlib.h>

#include "base/check.h"

struct stored_message *stored_message_new(void)
{
    struct stored_message *m = mem_new(sizeof(*m));
    atomic_init(&m->refs, 1);
    m->envelope = arena_new(&m->arena, sizeof(*m->envelope));
    return m;
}

struct stored_message *stored_message_ref(struct stored_message *m)
{
    CHECK(atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed) > 0);
    return m;
}

size_t stored_message_memory(const struct stored_message *m)
{
    return sizeof(*m) + arena_memory(&m->arena) + chain_memory(&m->body);
}

void stored_message_unref(struct stored_message *m)
{
    if (!m)
        return;
    int before = atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1)
        return;
    for (size_t i = 0; i < STORED_RENDERINGS; i++)
        free((void *)(uintptr_t)m->made[i].fields.at);
    chain_done(&m->body);
    arena_done(&m->arena);
    free(m);
}
