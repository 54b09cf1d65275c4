// SPDX-License-Identifier: MIT
//
// suppress_table - a set of keyed 64-bit hashes: which addresses may be on the suppression list
//
// Split into SUPPRESS_TABLE_PARTS parts by the hash, each an array with linear probing that grows by itself, so that
// no growth holds anybody up for long. 8 bytes an entry at a load between 0.57 and 0.8: 10 to 14 bytes.
//
// A hash that is there by chance (one in 10^12 questions at 10 million entries) costs a question to the database.
//
// Thread: any; each part has a lock that is held for a probe, or for the growth of that part.
#pragma once

#include <pthread.h>

#include "base/bytes.h"

#define SUPPRESS_TABLE_PARTS 1024
#define SUPPRESS_SECRET_BYTES 192 // of the hash

struct suppress_table {
    uint8_t secret[SUPPRESS_SECRET_BYTES]; // random: nobody can choose addresses that meet
    struct suppress_part {
        pthread_mutex_t lock;
        uint64_t *slots; // 0: free
        uint32_t cap, used;
    } parts[SUPPRESS_TABLE_PARTS];
};

// Draws the secret from sys_random().
void suppress_table_init(struct suppress_table *t);
void suppress_table_done(struct suppress_table *t);

// The hash of a key; never 0.
uint64_t suppress_table_hash(const struct suppress_table *t, struct bytes key);
bool suppress_table_has(struct suppress_table *t, uint64_t hash);
void suppress_table_add(struct suppress_table *t, uint64_t hash);    // a second time: nothing
void suppress_table_remove(struct suppress_table *t, uint64_t hash); // none: nothing

uint64_t suppress_table_count(struct suppress_table *t);
uint64_t suppress_table_bytes(struct suppress_table *t); // all of it
