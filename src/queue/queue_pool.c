// SPDX-License-Identifier: MIT
#include "queue/queue_pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

// ---- pool ----

void queue_pool_init(struct queue_pool *p, size_t item_bytes)
{
    CHECK(item_bytes >= sizeof(void *) && item_bytes <= QUEUE_POOL_CHUNK);
    item_bytes = (item_bytes + 7) & ~(size_t)7;
    *p = (struct queue_pool){.item_bytes = (uint32_t)item_bytes};
    while ((item_bytes << (p->shift + 1)) <= QUEUE_POOL_CHUNK)
        p->shift++;
}

void queue_pool_done(struct queue_pool *p)
{
    for (uint32_t i = 0; i < p->chunks_count; i++)
        free(p->chunks[i]);
    free(p->chunks);
    *p = (struct queue_pool){0};
}

static void add_chunk(struct queue_pool *p)
{
    if (p->chunks_count == p->chunks_cap) {
        p->chunks_cap = p->chunks_cap ? p->chunks_cap * 2 : 16;
        p->chunks = mem_resize(p->chunks, p->chunks_cap * sizeof(*p->chunks));
    }
    p->chunks[p->chunks_count++] = mem_new((size_t)p->item_bytes << p->shift);
}

void *queue_pool_new(struct queue_pool *p)
{
    p->used++;
    if (p->free_item) {
        void *item = queue_pool_at(p, p->free_item - 1);
        memcpy(&p->free_item, item, sizeof(p->free_item));
        memset(item, 0, sizeof(void *));
        return item;
    }
    if (p->free) {
        void *item = p->free;
        memcpy(&p->free, item, sizeof(void *));
        memset(item, 0, sizeof(void *));
        return item;
    }
    CHECK(p->made < UINT32_MAX);
    if (p->made == p->chunks_count << p->shift)
        add_chunk(p);
    return queue_pool_at(p, p->made++);
}

void queue_pool_free(struct queue_pool *p, void *item)
{
    CHECK(p->used > 0);
    p->used--;
    memset(item, 0, p->item_bytes);
    memcpy(item, &p->free, sizeof(void *));
    p->free = item;
}

uint32_t queue_pool_next(const struct queue_pool *p)
{
    CHECK(!p->free);
    return p->free_item ? p->free_item - 1 : p->made;
}

void queue_pool_free_at(struct queue_pool *p, uint32_t index)
{
    void *item = queue_pool_at(p, index);
    CHECK(p->used > 0);
    p->used--;
    memset(item, 0, p->item_bytes);
    memcpy(item, &p->free_item, sizeof(p->free_item));
    p->free_item = index + 1;
}

uint64_t queue_pool_bytes(const struct queue_pool *p)
{
    return ((uint64_t)p->chunks_count << p->shift) * p->item_bytes +
           p->chunks_cap * sizeof(*p->chunks);
}

// ---- hash ----

void queue_hash_init(struct queue_hash *h, uint64_t (*hash_of)(const struct queue_hash_node *node))
{
    *h = (struct queue_hash){.hash_of = hash_of};
}

void queue_hash_done(struct queue_hash *h)
{
    for (uint32_t i = 0; i < h->segments_count; i++)
        free(h->segments[i]);
    free(h->segments);
    *h = (struct queue_hash){0};
}

static struct queue_hash_node **bucket_at(const struct queue_hash *h, uint64_t bucket)
{
    return &h->segments[bucket / QUEUE_HASH_SEGMENT][bucket % QUEUE_HASH_SEGMENT];
}

// Buckets [0, buckets - low) and their twins at +low have been split; the others not yet.
static uint64_t bucket_of(const struct queue_hash *h, uint64_t hash)
{
    uint64_t bucket = hash & (2 * h->low - 1);
    return bucket < h->buckets ? bucket : bucket - h->low;
}

static void add_bucket(struct queue_hash *h)
{
    if (h->buckets == (uint64_t)h->segments_count * QUEUE_HASH_SEGMENT) {
        if (h->segments_count == h->segments_cap) {
            h->segments_cap = h->segments_cap ? h->segments_cap * 2 : 4;
            h->segments = mem_resize(h->segments, h->segments_cap * sizeof(*h->segments));
        }
        h->segments[h->segments_count++] =
            mem_new(QUEUE_HASH_SEGMENT * sizeof(struct queue_hash_node *));
    }
    h->buckets++;
    if (h->low == 0)
        h->low = 1;
    else if (h->buckets > 2 * h->low)
        h->low *= 2;
}

// Adds one bucket and moves into it what belongs there from its twin.
static void split_one(struct queue_hash *h)
{
    add_bucket(h);
    if (h->buckets == 1)
        return;
    uint64_t fresh = h->buckets - 1;
    struct queue_hash_node **from = bucket_at(h, fresh - h->low), **to = bucket_at(h, fresh);
    while (*from) {
        struct queue_hash_node *node = *from;
        if (bucket_of(h, h->hash_of(node)) == fresh) {
            *from = node->next;
            node->next = *to;
            *to = node;
        } else {
            from = &node->next;
        }
    }
}

void queue_hash_add(struct queue_hash *h, struct queue_hash_node *node)
{
    if (h->count >= h->buckets)
        split_one(h);
    struct queue_hash_node **bucket = bucket_at(h, bucket_of(h, h->hash_of(node)));
    node->next = *bucket;
    *bucket = node;
    h->count++;
}

void queue_hash_remove(struct queue_hash *h, struct queue_hash_node *node)
{
    struct queue_hash_node **link = bucket_at(h, bucket_of(h, h->hash_of(node)));
    while (*link != node) {
        CHECK(*link);
        link = &(*link)->next;
    }
    *link = node->next;
    node->next = NULL;
    h->count--;
}

struct queue_hash_node *queue_hash_chain(const struct queue_hash *h, uint64_t hash)
{
    return h->count ? *bucket_at(h, bucket_of(h, hash)) : NULL;
}

uint64_t queue_hash_bytes(const struct queue_hash *h)
{
    return (uint64_t)h->segments_count * QUEUE_HASH_SEGMENT * sizeof(struct queue_hash_node *) +
           h->segments_cap * sizeof(*h->segments);
}

uint64_t queue_hash_mix(uint64_t key)
{
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9u;
    key = (key ^ (key >> 27)) * 0x94d049bb133111ebu;
    return key ^ (key >> 31);
}
