// SPDX-License-Identifier: MIT
#include "queue/queue_ids.h"

#include <stdlib.h>

#include "base/check.h"

#define CAP_MIN 8u
#define SLOT_BYTES (sizeof(uint32_t) + sizeof(uint16_t))

void queue_ids_init(struct queue_ids *x)
{
    *x = (struct queue_ids){.shards = mem_new(QUEUE_IDS_SHARDS * sizeof(*x->shards))};
}

void queue_ids_done(struct queue_ids *x)
{
    for (uint32_t i = 0; x->shards && i < QUEUE_IDS_SHARDS; i++)
        free(x->shards[i].items);
    free(x->shards);
    *x = (struct queue_ids){0};
}

uint64_t queue_ids_bytes(const struct queue_ids *x)
{
    return QUEUE_IDS_SHARDS * sizeof(*x->shards) + x->bytes;
}

// The top bits choose the shard, the next 16 the place in it.
static struct queue_ids_shard *shard_of(const struct queue_ids *x, uint64_t hash)
{
    return &x->shards[hash >> 52];
}

static uint16_t bits_of(uint64_t hash)
{
    return (uint16_t)(hash >> 36);
}

static uint32_t home_of(const struct queue_ids_shard *s, uint16_t bits)
{
    return (uint32_t)((uint64_t)bits * s->cap >> 16);
}

static uint32_t next_of(const struct queue_ids_shard *s, uint32_t i)
{
    return i + 1 < s->cap ? i + 1 : 0;
}

static uint16_t *all_bits(const struct queue_ids_shard *s)
{
    return (uint16_t *)(s->items + s->cap);
}

static void put(struct queue_ids_shard *s, uint16_t bits, uint32_t number)
{
    uint32_t i = home_of(s, bits);
    while (s->items[i])
        i = next_of(s, i);
    s->items[i] = number;
    all_bits(s)[i] = bits;
}

static void grow(struct queue_ids *x, struct queue_ids_shard *s)
{
    struct queue_ids_shard old = *s;
    s->cap = old.cap ? old.cap + old.cap / 6 + 1 : CAP_MIN;
    s->items = mem_new(s->cap * SLOT_BYTES);
    for (uint32_t i = 0; i < old.cap; i++)
        if (old.items[i])
            put(s, all_bits(&old)[i], old.items[i]);
    free(old.items);
    x->bytes += (s->cap - old.cap) * SLOT_BYTES;
}

void queue_ids_add(struct queue_ids *x, uint64_t hash, uint32_t item)
{
    struct queue_ids_shard *s = shard_of(x, hash);
    CHECK(item < UINT32_MAX);
    if ((s->count + 1) * 20 > s->cap * 17)
        grow(x, s);
    put(s, bits_of(hash), item + 1);
    s->count++;
}

bool queue_ids_next(const struct queue_ids *x, uint64_t hash, uint32_t *probe, uint32_t *out_item)
{
    const struct queue_ids_shard *s = shard_of(x, hash);
    if (s->count == 0)
        return false;
    uint32_t i = home_of(s, bits_of(hash)) + *probe;
    for (i = i < s->cap ? i : i - s->cap; s->items[i]; i = next_of(s, i)) {
        ++*probe;
        if (all_bits(s)[i] != bits_of(hash))
            continue;
        *out_item = s->items[i] - 1;
        return true;
    }
    return false;
}

// Closes the gap: moves each following item that may stand here, so that no search stops too early.
static void close_gap(struct queue_ids_shard *s, uint32_t gap)
{
    uint16_t *bits = all_bits(s);
    uint32_t distance = 0; // from the gap
    for (uint32_t i = next_of(s, gap); s->items[i]; i = next_of(s, i)) {
        uint32_t home = home_of(s, bits[i]);
        distance++;
        if ((i >= home ? i - home : i + s->cap - home) < distance)
            continue;
        s->items[gap] = s->items[i];
        bits[gap] = bits[i];
        gap = i;
        distance = 0;
    }
    s->items[gap] = 0;
}

void queue_ids_remove(struct queue_ids *x, uint64_t hash, uint32_t item)
{
    struct queue_ids_shard *s = shard_of(x, hash);
    CHECK(s->count > 0);
    uint32_t i = home_of(s, bits_of(hash));
    while (s->items[i] != item + 1) {
        CHECK(s->items[i]);
        i = next_of(s, i);
    }
    close_gap(s, i);
    s->count--;
}
