// SPDX-License-Identifier: MIT
#include "spool/table.h"

#include <stdlib.h>

#include "base/check.h"

#define TABLE_CAP_MIN 64u

static uint64_t hash_of(uint64_t high, uint64_t low)
{
    uint64_t h = (high ^ low * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return h ^ h >> 31;
}

static uint32_t home_of(const struct table *t, const struct table_entry *e)
{
    return (uint32_t)hash_of(e->id_high, e->id_low) & (t->cap - 1);
}

static bool is_empty(const struct table_entry *e)
{
    return e->id_high == 0 && e->id_low == 0;
}

void table_done(struct table *t)
{
    for (uint32_t i = 0; i < t->cap; i++)
        if (!is_empty(&t->entries[i]) && t->entries[i].recipients > 1)
            free(t->entries[i].status.many);
    free(t->entries);
    *t = (struct table){0};
}

static struct table_entry *place_of(const struct table *t, struct message_id id)
{
    uint32_t i = (uint32_t)hash_of(id.high, id.low) & (t->cap - 1);
    while (!is_empty(&t->entries[i]) &&
           (t->entries[i].id_high != id.high || t->entries[i].id_low != id.low))
        i = (i + 1) & (t->cap - 1);
    return &t->entries[i];
}

struct table_entry *table_find(const struct table *t, struct message_id id)
{
    if (t->count == 0 || id.low >> 36 || (id.high == 0 && id.low == 0))
        return NULL;
    struct table_entry *e = place_of(t, id);
    return is_empty(e) ? NULL : e;
}

static void grow(struct table *t)
{
    struct table old = *t;
    t->cap = old.cap ? old.cap * 2 : TABLE_CAP_MIN;
    CHECK(t->cap > old.cap);
    t->entries = mem_new((unsigned long)t->cap * sizeof(*t->entries));
    for (uint32_t i = 0; i < old.cap; i++)
        if (!is_empty(&old.entries[i]))
            *place_of(t, table_id(&old.entries[i])) = old.entries[i];
    free(old.entries);
}

struct table_entry *table_add(struct table *t, struct message_id id, uint32_t recipients)
{
    CHECK(id.low >> 36 == 0 && (id.high || id.low));
    CHECK(recipients > 0 && recipients < 1u << 24);
    if (t->count + 1 > t->cap / 5 * 4)
        grow(t);
    struct table_entry *e = place_of(t, id);
    CHECK(is_empty(e));
    *e = (struct table_entry){
        .id_high = id.high, .id_low = id.low, .recipients = recipients, .live = recipients};
    if (recipients > 1)
        e->status.many = mem_new(recipients * sizeof(*e->status.many));
    t->count++;
    return e;
}

// Closes the gap: moves each following entry that may stand here, so that no search stops too
// early.
void table_remove(struct table *t, struct table_entry *e)
{
    if (e->recipients > 1)
        free(e->status.many);
    uint32_t mask = t->cap - 1, gap = (uint32_t)(e - t->entries);
    for (uint32_t i = (gap + 1) & mask; !is_empty(&t->entries[i]); i = (i + 1) & mask) {
        uint32_t home = home_of(t, &t->entries[i]);
        if (((i - home) & mask) < ((i - gap) & mask))
            continue;
        t->entries[gap] = t->entries[i];
        gap = i;
    }
    t->entries[gap] = (struct table_entry){0};
    t->count--;
}

struct message_id table_id(const struct table_entry *e)
{
    return (struct message_id){e->id_high, e->id_low};
}

struct recipient_status *table_status(struct table_entry *e, uint32_t recipient)
{
    if (recipient == 0 || recipient > e->recipients)
        return NULL;
    return e->recipients == 1 ? &e->status.one : &e->status.many[recipient - 1];
}

bool table_set_status(struct table_entry *e, uint32_t recipient, struct recipient_status status)
{
    struct recipient_status *old = table_status(e, recipient);
    if (!old || !recipient_state_is_live(recipient_status_state(*old)))
        return false;
    *old = recipient_status_warned(*old) ? recipient_status_with_warned(status) : status;
    if (!recipient_state_is_live(recipient_status_state(status)))
        e->live--;
    return true;
}
