// SPDX-License-Identifier: MIT
//
// How it works: `entries` is an array in insertion order. `slots` is an open-addressed table
// (linear probing, a power of two, at most half full) of entry index + 1; 0 is free. Removal
// empties the entry but leaves its slot pointing at it, so probe chains stay whole; when the array
// is full it is compacted or grown and the slots are rebuilt.
#include "base/map.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"

#define MAP_ENTRIES_MIN 8

static uint64_t hash_seed;

void map_seed(uint64_t seed)
{
    hash_seed = seed;
}

uint64_t map_hash(struct bytes key)
{
    return XXH3_64bits_withSeed(key.at ? key.at : "", key.len, hash_seed);
}

void map_done(struct map *m)
{
    for (uint32_t i = 0; i < m->used; i++)
        free((char *)m->entries[i].key.at);
    free(m->entries);
    free(m->slots);
    *m = (struct map){0};
}

// The slot that holds the key, or the free one that ends its probe chain.
static uint32_t *slot_of(const struct map *m, struct bytes key, uint64_t hash)
{
    uint32_t mask = m->slots_cap - 1;
    for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &m->slots[i];
        if (*slot == 0)
            return slot;
        const struct map_entry *entry = &m->entries[*slot - 1];
        if (entry->value && entry->hash == hash && bytes_eq(entry->key, key))
            return slot;
    }
}

static void rebuild(struct map *m, uint32_t entries_cap)
{
    struct map_entry *entries = mem_new(entries_cap * sizeof(*entries));
    uint32_t used = 0;
    for (uint32_t i = 0; i < m->used; i++)
        if (m->entries[i].value)
            entries[used++] = m->entries[i];
    free(m->entries);
    free(m->slots);
    m->entries = entries;
    m->entries_cap = entries_cap;
    m->used = used;
    m->slots_cap = entries_cap * 2;
    m->slots = mem_new(m->slots_cap * sizeof(*m->slots));
    for (uint32_t i = 0; i < used; i++) {
        uint32_t mask = m->slots_cap - 1, at = (uint32_t)entries[i].hash & mask;
        while (m->slots[at])
            at = (at + 1) & mask;
        m->slots[at] = i + 1;
    }
}

// Room for one more entry. A map half of removed entries is compacted, else it doubles.
static void make_room(struct map *m)
{
    if (m->used < m->entries_cap)
        return;
    uint32_t cap = m->entries_cap ? m->entries_cap : MAP_ENTRIES_MIN / 2;
    CHECK(cap < UINT32_MAX / 4);
    rebuild(m, m->count > cap / 2 || m->entries_cap == 0 ? cap * 2 : cap);
}

void *map_find(const struct map *m, struct bytes key)
{
    if (m->count == 0)
        return NULL;
    uint32_t slot = *slot_of(m, key, map_hash(key));
    return slot ? m->entries[slot - 1].value : NULL;
}

void *map_set(struct map *m, struct bytes key, void *value)
{
    CHECK(value != NULL);
    uint64_t hash = map_hash(key);
    uint32_t *slot = m->count ? slot_of(m, key, hash) : NULL;
    if (slot && *slot) {
        void *old = m->entries[*slot - 1].value;
        m->entries[*slot - 1].value = value;
        return old;
    }
    make_room(m);
    slot = slot_of(m, key, hash);
    char *copy = mem_new(key.len + 1);
    if (key.len)
        memcpy(copy, key.at, key.len);
    m->entries[m->used] = (struct map_entry){{copy, key.len}, value, hash};
    *slot = ++m->used;
    m->count++;
    return NULL;
}

void *map_remove(struct map *m, struct bytes key)
{
    if (m->count == 0)
        return NULL;
    uint32_t slot = *slot_of(m, key, map_hash(key));
    if (slot == 0)
        return NULL;
    struct map_entry *entry = &m->entries[slot - 1];
    void *value = entry->value;
    free((char *)entry->key.at);
    entry->key = BYTES_NONE;
    entry->value = NULL;
    m->count--;
    return value;
}

bool map_next(const struct map *m, size_t *cursor, struct bytes *out_key, void **out_value)
{
    while (*cursor < m->used) {
        const struct map_entry *entry = &m->entries[(*cursor)++];
        if (!entry->value)
            continue;
        if (out_key)
            *out_key = entry->key;
        if (out_value)
            *out_value = entry->value;
        return true;
    }
    return false;
}
