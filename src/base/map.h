// SPDX-License-Identifier: MIT
//
// map - hash map from byte strings to pointers, keyed hash (hostile keys can't collide on purpose)
//
// The map copies keys, borrows values. A zeroed struct map is valid and empty; the hash key is drawn once
// per process by map_seed() (0 in tests and the simulator, so that runs are reproducible). Iteration order
// is insertion order, less removed entries.
#pragma once

#include "base/bytes.h"

struct map_slot;
struct map {
    struct map_entry *entries; // in insertion order; removed ones have value == NULL
    uint32_t *slots;
    uint32_t count, used, entries_cap, slots_cap;
};

struct map_entry {
    struct bytes key; // owned by the map
    void *value;      // never NULL while present
    uint64_t hash;
};

// Sets the process-wide hash key; call once before threads start.
void map_seed(uint64_t seed);
void map_done(struct map *m); // frees keys and tables; values are the caller's
void *map_find(const struct map *m, struct bytes key); // NULL if absent
// Sets key to value (not NULL); returns the value it replaced, or NULL.
void *map_set(struct map *m, struct bytes key, void *value);
// Removes and returns the value, or NULL.
void *map_remove(struct map *m, struct bytes key);
// Iterates: start with *cursor = 0; false at the end. Removing the entry just returned is allowed.
bool map_next(const struct map *m, size_t *cursor, struct bytes *out_key, void **out_value);
// The keyed 64-bit hash itself.
uint64_t map_hash(struct bytes key);
