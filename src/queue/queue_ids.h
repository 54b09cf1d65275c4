// SPDX-License-Identifier: MIT
//
// queue_ids - finds a message's item by its id, in about eight bytes a message
//
// A set of item numbers by the hash of the id that stands in the item. It is cut into shards by the
// hash's top bits; a shard is an open-addressed table of (number, 16 bits of the hash), at most 0.85
// full, that grows by itself and looks at no item for it, so no insertion takes longer when there
// are ten million.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define QUEUE_IDS_SHARDS 4096

struct queue_ids_shard {
    uint32_t *items; // number + 1, 0: empty; behind them, cap times the 16 bits
    uint32_t count, cap;
};

struct queue_ids {
    struct queue_ids_shard *shards;
    uint64_t bytes;
};

void queue_ids_init(struct queue_ids *x);
void queue_ids_done(struct queue_ids *x);
// The item must not be in the set.
void queue_ids_add(struct queue_ids *x, uint64_t hash, uint32_t item);
// CHECKs that it is there.
void queue_ids_remove(struct queue_ids *x, uint64_t hash, uint32_t item);
// The next item that may have this hash: start with *probe = 0, compare, call again. False: no more.
bool queue_ids_next(const struct queue_ids *x, uint64_t hash, uint32_t *probe, uint32_t *out_item);
uint64_t queue_ids_bytes(const struct queue_ids *x);
