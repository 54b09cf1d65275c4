// SPDX-License-Identifier: MIT
//
// queue_pool - memory for millions of equal small items, and a hash table that grows without pauses
//
// Items stay where they are, cost no header, and can be visited by index. Chunks are never given
// back. The table is intrusive and grows by one bucket at a time (linear hashing), so that no
// insertion takes longer when there are ten million entries.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_POOL_CHUNK 65536

struct queue_pool {
    uint32_t item_bytes, shift; // 1 << shift items a chunk
    char **chunks;
    uint32_t chunks_count, chunks_cap;
    uint32_t used, made; // items in use; indexes below `made` have been in use
    void *free;
    uint32_t free_item; // freed by number: number + 1, 0: none
};

// item_bytes: at least 8, at most QUEUE_POOL_CHUNK.
void queue_pool_init(struct queue_pool *p, size_t item_bytes);
void queue_pool_done(struct queue_pool *p);
void *queue_pool_new(struct queue_pool *p); // zeroed
// For items known by number: the one that queue_pool_new() gives next; and queue_pool_free(). Of a
// pool all are freed in this way or none.
uint32_t queue_pool_next(const struct queue_pool *p);
void queue_pool_free_at(struct queue_pool *p, uint32_t index);
// The item's bytes behind the first eight are zero afterwards: how a visitor sees that it is free.
void queue_pool_free(struct queue_pool *p, void *item);
static inline void *queue_pool_at(const struct queue_pool *p, uint32_t index) // index < made
{
    return p->chunks[index >> p->shift] +
           (size_t)(index & (((uint32_t)1 << p->shift) - 1)) * p->item_bytes;
}
uint64_t queue_pool_bytes(const struct queue_pool *p);

struct queue_hash_node {
    struct queue_hash_node *next;
};

#define QUEUE_HASH_SEGMENT 1024 // buckets

struct queue_hash {
    uint64_t (*hash_of)(const struct queue_hash_node *node);
    struct queue_hash_node ***segments;
    uint32_t segments_count, segments_cap;
    uint64_t buckets, low; // buckets in use; the power of two at or below
    uint64_t count;
};

void queue_hash_init(struct queue_hash *h, uint64_t (*hash_of)(const struct queue_hash_node *node));
void queue_hash_done(struct queue_hash *h);
void queue_hash_add(struct queue_hash *h, struct queue_hash_node *node);
void queue_hash_remove(struct queue_hash *h,
                       struct queue_hash_node *node); // CHECKs that it is there
// The first node of the chain where nodes with this hash are; follow ->next and compare.
struct queue_hash_node *queue_hash_chain(const struct queue_hash *h, uint64_t hash);
uint64_t queue_hash_bytes(const struct queue_hash *h);
// Spreads the bits of a key that is not hostile.
uint64_t queue_hash_mix(uint64_t key);
