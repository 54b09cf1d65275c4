// SPDX-License-Identifier: MIT
#include "spool/table.h"

#include <stdlib.h>

#include "base/check.h"

#define CAP_MIN 64u
// What table_fill() makes room for at once.
#define TABLE_EXPECTED_MIN 1000u
#define TABLE_EXPECTED_MAX 1000000000u

static uint32_t hash_of(uint64_t high, uint64_t low)
{
    uint64_t h = (high ^ low * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)((h ^ h >> 31) * 0x94d049bb133111ebu >> 32);
}

// Hashes in order give places in order.
static uint32_t home_of(const struct table *t, uint64_t high, uint64_t low)
{
    return (uint32_t)((uint64_t)hash_of(high, low) * t->cap >> 32);
}

static bool is_empty(const struct table_entry *e)
{
    return e->id_high == 0 && e->id_low == 0;
}

static void free_states(struct table *t, struct table_entry *e)
{
    if (!e->has_several)
        return;
    t->states_bytes -= sizeof(struct table_states) +
                       e->status.several->recipients * sizeof(struct recipient_status);
    free(e->status.several);
}

void table_done(struct table *t)
{
    for (uint32_t i = 0; i < t->cap; i++)
        if (!is_empty(&t->entries[i]))
            free_states(t, &t->entries[i]);
    free(t->entries);
    *t = (struct table){0};
}

static struct table_entry *place_of(const struct table *t, struct message_id id)
{
    uint32_t i = home_of(t, id.high, id.low);
    while (!is_empty(&t->entries[i]) &&
           (t->entries[i].id_high != id.high || t->entries[i].id_low != id.low))
        i = i + 1 < t->cap ? i + 1 : 0;
    return &t->entries[i];
}

struct table_entry *table_find(const struct table *t, struct message_id id)
{
    if (t->count == 0 || id.low >> 36 || (id.high == 0 && id.low == 0))
        return NULL;
    struct table_entry *e = place_of(t, id);
    return is_empty(e) ? NULL : e;
}

void table_prefetch(const struct table *t, struct message_id id)
{
    if (t->cap)
        __builtin_prefetch(&t->entries[home_of(t, id.high, id.low)]);
}

// Nearly all stand in the order of their homes, old and new, so that each goes behind the one before;
// the few that do not, in a cluster or around the end, are put where a search finds them.
static void move_all(struct table *t, const struct table *old)
{
    uint32_t next = 0, last_home = 0;
    for (uint32_t i = 0; i < old->cap; i++) {
        const struct table_entry *e = &old->entries[i];
        if (is_empty(e))
            continue;
        uint32_t home = home_of(t, e->id_high, e->id_low), at = home > next ? home : next;
        if (home < last_home || home_of(old, e->id_high, e->id_low) > i || at >= t->cap ||
            !is_empty(&t->entries[at])) {
            *place_of(t, table_id(e)) = *e;
            continue;
        }
        t->entries[at] = *e;
        next = at + 1;
        last_home = home;
    }
}

static void resize(struct table *t, uint32_t cap)
{
    struct table old = *t;
    t->cap = cap;
    t->entries = mem_new((unsigned long)t->cap * sizeof(*t->entries));
    move_all(t, &old);
    free(old.entries);
}

static bool is_full(const struct table *t)
{
    uint32_t max = t->roomy ? t->cap / 2 : t->cap / 20 * 17; // 0.85
    return t->count + 1 > (t->expected > max ? t->expected : max);
}

static void grow(struct table *t)
{
    uint32_t more = t->roomy ? t->cap : t->cap / 6;
    CHECK(t->cap + more >= t->cap);
    resize(t, t->cap ? t->cap + more : CAP_MIN);
}

static uint32_t cap_for(uint32_t count)
{
    return count + count / 4; // 0.8
}

void table_fill(struct table *t, uint32_t expected)
{
    t->roomy = true;
    if (expected < TABLE_EXPECTED_MIN || expected > TABLE_EXPECTED_MAX ||
        cap_for(expected) <= t->cap)
        return;
    t->expected = expected;
    resize(t, cap_for(expected));
}

void table_fit(struct table *t)
{
    uint32_t cap = cap_for(t->count);
    t->roomy = false;
    t->expected = 0;
    if (cap >= CAP_MIN && cap < t->cap)
        resize(t, cap);
}

struct table_entry *table_add(struct table *t, struct message_id id, uint32_t recipients)
{
    CHECK(id.low >> 36 == 0 && (id.high || id.low));
    CHECK(recipients > 0 && recipients < 1u << 24);
    if (is_full(t))
        grow(t);
    struct table_entry *e = place_of(t, id);
    CHECK(is_empty(e));
    *e = (struct table_entry){.id_high = id.high, .id_low = id.low, .has_several = recipients > 1};
    if (recipients > 1) {
        size_t bytes = sizeof(struct table_states) + recipients * sizeof(struct recipient_status);
        e->status.several = mem_new(bytes);
        e->status.several->recipients = e->status.several->live = recipients;
        t->states_bytes += bytes;
    }
    t->count++;
    return e;
}

// Closes the gap: moves each following entry that may stand here, so that no search stops too
// early.
void table_remove(struct table *t, struct table_entry *e)
{
    free_states(t, e);
    uint32_t gap = (uint32_t)(e - t->entries);
    uint32_t distance = 0; // from the gap
    for (uint32_t i = gap;;) {
        i = i + 1 < t->cap ? i + 1 : 0;
        distance++;
        if (is_empty(&t->entries[i]))
            break;
        uint32_t home = home_of(t, t->entries[i].id_high, t->entries[i].id_low);
        if ((i >= home ? i - home : i + t->cap - home) < distance)
            continue;
        t->entries[gap] = t->entries[i];
        gap = i;
        distance = 0;
    }
    t->entries[gap] = (struct table_entry){0};
    t->count--;
}

struct message_id table_id(const struct table_entry *e)
{
    return (struct message_id){e->id_high, e->id_low};
}

uint32_t table_recipients(const struct table_entry *e)
{
    return e->has_several ? e->status.several->recipients : 1;
}

uint32_t table_live(const struct table_entry *e)
{
    if (e->has_several)
        return e->status.several->live;
    return recipient_state_is_live(recipient_status_state(e->status.one));
}

static struct recipient_status *status_of(struct table_entry *e, uint32_t recipient)
{
    if (recipient == 0 || recipient > table_recipients(e))
        return NULL;
    return e->has_several ? &e->status.several->status[recipient - 1] : &e->status.one;
}

bool table_status(const struct table_entry *e, uint32_t recipient, struct recipient_status *out)
{
    if (recipient == 0 || recipient > table_recipients(e))
        return false;
    *out = e->has_several ? e->status.several->status[recipient - 1] : e->status.one;
    return true;
}

void table_put_status(struct table_entry *e, uint32_t recipient, struct recipient_status status)
{
    struct recipient_status *old = status_of(e, recipient);
    CHECK(old);
    if (e->has_several) {
        e->status.several->live -= recipient_state_is_live(recipient_status_state(*old));
        e->status.several->live += recipient_state_is_live(recipient_status_state(status));
    }
    *old = status;
}

bool table_set_status(struct table_entry *e, uint32_t recipient, struct recipient_status status)
{
    const struct recipient_status *old = status_of(e, recipient);
    if (!old || !recipient_state_is_live(recipient_status_state(*old)))
        return false;
    table_put_status(e, recipient, recipient_status_after(*old, status));
    return true;
}

uint64_t table_bytes(const struct table *t)
{
    return (uint64_t)t->cap * sizeof(*t->entries) + t->states_bytes;
}

uint64_t table_recipient_bytes(const struct table *t)
{
    return (uint64_t)t->cap * sizeof(struct recipient_status) + t->states_bytes;
}
