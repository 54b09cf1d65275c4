// SPDX-License-Identifier: MIT
//
// arena - memory that lives and dies with its owner (session, transaction, delivery, request)
//
// Allocations are never freed one by one. A zeroed struct arena is valid and empty and owns nothing.
#pragma once

#include "base/bytes.h"

struct arena_block;
struct arena {
    struct arena_block *head;
    size_t used_bytes; // sum of all allocations, for limits and accounting
};

// Bytes that it takes in memory, what is not used of its blocks included.
size_t arena_memory(const struct arena *a);
// Frees everything; the arena is empty and usable again.
void arena_done(struct arena *a);
// Zeroed, aligned to 16. Never NULL.
void *arena_new(struct arena *a, size_t bytes);
// A copy that lives as long as the arena; NUL-terminated behind its end. An empty slice gives BYTES_NONE.
struct bytes arena_dup(struct arena *a, struct bytes s);
// A copy with ASCII letters in lower case, NUL-terminated behind its end.
struct bytes arena_lower(struct arena *a, struct bytes s);
char *arena_cstr(struct arena *a, struct bytes s);
struct bytes arena_printf(struct arena *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
