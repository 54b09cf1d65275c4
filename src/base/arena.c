// SPDX-License-Identifier: MIT
//
// How it works: blocks of doubling size (1 KiB to 64 KiB) in a singly linked list, the newest
// first; a request larger than a quarter of the next block gets a block of its own behind the
// newest.
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

#define ARENA_ALIGN 16
#define ARENA_BLOCK_MIN 1024
#define ARENA_BLOCK_MAX 65536

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    size_t padding; // data stays aligned to 16
    char data[];
};
_Static_assert(sizeof(struct arena_block) % ARENA_ALIGN == 0, "arena data is aligned");

size_t arena_memory(const struct arena *a)
{
    size_t bytes = 0;
    for (const struct arena_block *b = a->head; b; b = b->next)
        bytes += sizeof(*b) + b->size;
    return bytes;
}

void arena_done(struct arena *a)
{
    while (a->head) {
        struct arena_block *next = a->head->next;
        free(a->head);
        a->head = next;
    }
    a->used_bytes = 0;
}

static struct arena_block *block_new(size_t size)
{
    struct arena_block *block = mem_new(sizeof(*block) + size);
    block->size = size;
    return block;
}

// A block with room for `bytes`: the newest, a new newest, or one of its own behind the newest.
static struct arena_block *block_with_room(struct arena *a, size_t bytes)
{
    struct arena_block *head = a->head;
    if (head && head->size - head->used >= bytes)
        return head;
    size_t size = head ? head->size * 2 : ARENA_BLOCK_MIN;
    if (size > ARENA_BLOCK_MAX)
        size = ARENA_BLOCK_MAX;
    if (head && bytes > size / 4) {
        struct arena_block *own = block_new(bytes);
        own->next = head->next;
        head->next = own;
        return own;
    }
    struct arena_block *block = block_new(bytes > size ? bytes : size);
    block->next = head;
    a->head = block;
    return block;
}

void *arena_new(struct arena *a, size_t bytes)
{
    CHECK(bytes < SIZE_MAX / 2);
    size_t rounded = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (rounded == 0)
        rounded = ARENA_ALIGN;
    struct arena_block *block = block_with_room(a, rounded);
    void *at = block->data + block->used;
    block->used += rounded;
    a->used_bytes += bytes;
    return at;
}

char *arena_cstr(struct arena *a, struct bytes s)
{
    char *copy = arena_new(a, s.len + 1);
    if (s.len)
        memcpy(copy, s.at, s.len);
    return copy;
}

struct bytes arena_dup(struct arena *a, struct bytes s)
{
    if (s.len == 0)
        return BYTES_NONE;
    return (struct bytes){arena_cstr(a, s), s.len};
}

struct bytes arena_lower(struct arena *a, struct bytes s)
{
    char *copy = arena_cstr(a, s);
    for (size_t i = 0; i < s.len; i++)
        copy[i] = ascii_lower(copy[i]);
    return bytes_of(copy, s.len);
}

struct bytes arena_printf(struct arena *a, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(n >= 0);
    char *text = arena_new(a, (size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return (struct bytes){text, (size_t)n};
}
