// SPDX-License-Identifier: MIT
//
// chain - a body in motion: 16 KiB chunks in a row, handed over by moving ownership
//
// A zeroed struct chain is empty and owns no chunk. Chunks come from and return to a small per-thread cache.
#pragma once

#include "base/bytes.h"

#define CHUNK_BYTES 16384

struct chunk {
    struct chunk *next;
    uint32_t len;
    char data[];
};

struct chain {
    struct chunk *first, *last;
    size_t len; // bytes in all chunks
};

void chain_done(struct chain *c); // frees the chunks; empty and usable again
void chain_add(struct chain *c, struct bytes s);
size_t chain_memory(const struct chain *c); // that its chunks take, full or not
// Moves all chunks of `from` behind those of `to`; `from` is empty.
void chain_move(struct chain *to, struct chain *from);
// Copies up to n bytes from offset into out; returns how many there were.
size_t chain_read(const struct chain *c, size_t offset, char *out, size_t n);
// The bytes from offset to the end of the chunk that they stand in; empty behind the last.
struct bytes chain_slice(const struct chain *c, size_t offset);
