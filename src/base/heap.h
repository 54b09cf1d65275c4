// SPDX-License-Identifier: MIT
//
// heap - intrusive binary min-heap ordered by an int64 key (a time)
//
// Equal keys leave in the order they were added (a sequence number breaks ties), so runs are reproducible.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    int64_t key;
    uint32_t order;    // tie-break, set by the heap
    uint32_t position; // 1-based place in the array; 0 when not in a heap
};

struct heap {
    struct heap_node **nodes;
    size_t count, cap;
    uint32_t next_order;
};

void heap_done(struct heap *h); // frees the array, not the nodes
void heap_add(struct heap *h, struct heap_node *node, int64_t key);
// Does nothing when the node is in no heap.
void heap_remove(struct heap *h, struct heap_node *node);
// Changes the key of a node that is in the heap, or adds it.
void heap_move(struct heap *h, struct heap_node *node, int64_t key);
// The node with the smallest key, or NULL.
struct heap_node *heap_first(const struct heap *h);
static inline bool heap_has(const struct heap_node *node)
{
    return node->position != 0;
}
