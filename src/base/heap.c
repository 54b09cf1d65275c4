// SPDX-License-Identifier: MIT
#include "base/heap.h"

#include <stdlib.h>

#include "base/check.h"

void heap_done(struct heap *h)
{
    for (size_t i = 0; i < h->count; i++)
        h->nodes[i]->position = 0;
    free(h->nodes);
    *h = (struct heap){0};
}

static bool is_before(const struct heap_node *a, const struct heap_node *b)
{
    if (a->key != b->key)
        return a->key < b->key;
    return (int32_t)(a->order - b->order) < 0; // right across the wrap of the sequence
}

static void place(struct heap *h, size_t i, struct heap_node *node)
{
    h->nodes[i] = node;
    node->position = (uint32_t)i + 1;
}

static void sift_up(struct heap *h, size_t i, struct heap_node *node)
{
    while (i > 0 && is_before(node, h->nodes[(i - 1) / 2])) {
        place(h, i, h->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(h, i, node);
}

static void sift_down(struct heap *h, size_t i, struct heap_node *node)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < h->count && is_before(h->nodes[child + 1], h->nodes[child]))
            child++;
        if (child >= h->count || !is_before(h->nodes[child], node))
            break;
        place(h, i, h->nodes[child]);
        i = child;
    }
    place(h, i, node);
}

// Puts the node, which belongs at or near i, where its key says.
static void settle(struct heap *h, size_t i, struct heap_node *node)
{
    if (i > 0 && is_before(node, h->nodes[(i - 1) / 2]))
        sift_up(h, i, node);
    else
        sift_down(h, i, node);
}

void heap_add(struct heap *h, struct heap_node *node, int64_t key)
{
    CHECK(node->position == 0);
    CHECK(h->count < UINT32_MAX);
    if (h->count == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 16;
        h->nodes = mem_resize(h->nodes, h->cap * sizeof(*h->nodes));
    }
    node->key = key;
    node->order = h->next_order++;
    sift_up(h, h->count++, node);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    if (node->position == 0)
        return;
    size_t i = node->position - 1;
    CHECK(i < h->count && h->nodes[i] == node);
    node->position = 0;
    struct heap_node *last = h->nodes[--h->count];
    if (last != node)
        settle(h, i, last);
}

void heap_move(struct heap *h, struct heap_node *node, int64_t key)
{
    if (node->position == 0) {
        heap_add(h, node, key);
        return;
    }
    size_t i = node->position - 1;
    CHECK(i < h->count && h->nodes[i] == node);
    node->key = key;
    node->order = h->next_order++;
    settle(h, i, node);
}

struct heap_node *heap_first(const struct heap *h)
{
    return h->count ? h->nodes[0] : NULL;
}
