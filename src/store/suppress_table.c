// SPDX-License-Identifier: MIT
#include "store/suppress_table.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"
#include "sys/sys.h"

#define PART_BITS 10
#define CAP_MIN 16
_Static_assert(1 << PART_BITS == SUPPRESS_TABLE_PARTS, "the upper bits choose the part");

void suppress_table_init(struct suppress_table *t)
{
    *t = (struct suppress_table){0};
    sys_random(t->secret, sizeof t->secret);
    for (size_t i = 0; i < SUPPRESS_TABLE_PARTS; i++)
        CHECK(pthread_mutex_init(&t->parts[i].lock, NULL) == 0);
}

void suppress_table_done(struct suppress_table *t)
{
    for (size_t i = 0; i < SUPPRESS_TABLE_PARTS; i++) {
        pthread_mutex_destroy(&t->parts[i].lock);
        free(t->parts[i].slots);
    }
}

uint64_t suppress_table_hash(const struct suppress_table *t, struct bytes key)
{
    uint64_t hash = XXH3_64bits_withSecret(key.at, key.len, t->secret, sizeof t->secret);
    return hash ? hash : 1;
}

static struct suppress_part *lock_part(struct suppress_table *t, uint64_t hash)
{
    struct suppress_part *p = &t->parts[hash >> (64 - PART_BITS)];
    pthread_mutex_lock(&p->lock);
    return p;
}

// Where its probing begins: the bits below the part's number, scaled to the array.
static uint32_t home_of(const struct suppress_part *p, uint64_t hash)
{
    return (uint32_t)(((unsigned __int128)(hash << PART_BITS) * p->cap) >> 64);
}

static uint32_t next_of(const struct suppress_part *p, uint32_t i)
{
    return i + 1 == p->cap ? 0 : i + 1;
}

// Its slot, or the free one that ends its row. There is always a free one.
static uint32_t find(const struct suppress_part *p, uint64_t hash)
{
    uint32_t i = home_of(p, hash);
    while (p->slots[i] && p->slots[i] != hash)
        i = next_of(p, i);
    return i;
}

bool suppress_table_has(struct suppress_table *t, uint64_t hash)
{
    struct suppress_part *p = lock_part(t, hash);
    bool has = p->used && p->slots[find(p, hash)] == hash;
    pthread_mutex_unlock(&p->lock);
    return has;
}

// By 1.4 when 0.8 is full.
static void grow(struct suppress_part *p)
{
    struct suppress_part old = *p;
    p->cap = old.cap < CAP_MIN ? CAP_MIN : old.cap + old.cap / 5 * 2;
    p->slots = mem_new(p->cap * sizeof *p->slots);
    for (uint32_t i = 0; i < old.cap; i++)
        if (old.slots[i])
            p->slots[find(p, old.slots[i])] = old.slots[i];
    free(old.slots);
}

void suppress_table_add(struct suppress_table *t, uint64_t hash)
{
    struct suppress_part *p = lock_part(t, hash);
    if (p->used >= p->cap / 5 * 4)
        grow(p);
    uint32_t i = find(p, hash);
    if (!p->slots[i]) {
        p->slots[i] = hash;
        p->used++;
    }
    pthread_mutex_unlock(&p->lock);
}

// Closes the gap: what stands behind it in the row and may stand in it moves there.
static void close_gap(struct suppress_part *p, uint32_t gap)
{
    for (uint32_t i = next_of(p, gap); p->slots[i]; i = next_of(p, i)) {
        uint32_t home = home_of(p, p->slots[i]);
        uint32_t from_home = (i + p->cap - home) % p->cap;
        uint32_t from_gap = (i + p->cap - gap) % p->cap;
        if (from_home < from_gap)
            continue;
        p->slots[gap] = p->slots[i];
        gap = i;
    }
    p->slots[gap] = 0;
}

void suppress_table_remove(struct suppress_table *t, uint64_t hash)
{
    struct suppress_part *p = lock_part(t, hash);
    uint32_t i = p->used ? find(p, hash) : 0;
    if (p->used && p->slots[i]) {
        close_gap(p, i);
        p->used--;
    }
    pthread_mutex_unlock(&p->lock);
}

static uint64_t sum(struct suppress_table *t, bool of_caps)
{
    uint64_t total = 0;
    for (size_t i = 0; i < SUPPRESS_TABLE_PARTS; i++) {
        struct suppress_part *p = &t->parts[i];
        pthread_mutex_lock(&p->lock);
        total += of_caps ? p->cap : p->used;
        pthread_mutex_unlock(&p->lock);
    }
    return total;
}

uint64_t suppress_table_count(struct suppress_table *t)
{
    return sum(t, false);
}

uint64_t suppress_table_bytes(struct suppress_table *t)
{
    return sizeof *t + sum(t, true) * sizeof(uint64_t);
}
