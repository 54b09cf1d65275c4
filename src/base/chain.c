// SPDX-License-Identifier: MIT
#include "base/chain.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"

#define CHUNKS_CACHED_MAX 128 // per thread: 2 MiB

struct chunk_cache {
    struct chunk *first;
    unsigned count;
    bool in_use; // this thread makes chunks; one that only frees what others made keeps none
};

static __thread struct chunk_cache cache;
static pthread_key_t cache_key;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;

static void cache_free(void *cache_of_thread)
{
    struct chunk_cache *c = cache_of_thread;
    while (c->first) {
        struct chunk *next = c->first->next;
        free(c->first);
        c->first = next;
    }
    c->count = 0;
}

// The main thread runs no thread-specific destructors.
static __attribute__((destructor)) void cache_free_main(void)
{
    cache_free(&cache);
}

static void cache_init(void)
{
    CHECK(pthread_key_create(&cache_key, cache_free) == 0);
}

static struct chunk *chunk_new(void)
{
    struct chunk *chunk = cache.first;
    if (chunk) {
        cache.first = chunk->next;
        cache.count--;
    } else {
        cache.in_use = true;
        chunk = mem_resize(NULL, sizeof(*chunk) + CHUNK_BYTES);
    }
    chunk->next = NULL;
    chunk->len = 0;
    return chunk;
}

static void chunk_free(struct chunk *chunk)
{
    if (!cache.in_use || cache.count >= CHUNKS_CACHED_MAX) {
        free(chunk);
        return;
    }
    pthread_once(&cache_once, cache_init);
    if (cache.count == 0)
        pthread_setspecific(cache_key, &cache); // freed when the thread ends
    chunk->next = cache.first;
    cache.first = chunk;
    cache.count++;
}

void chain_done(struct chain *c)
{
    while (c->first) {
        struct chunk *next = c->first->next;
        chunk_free(c->first);
        c->first = next;
    }
    *c = (struct chain){0};
}

void chain_add(struct chain *c, struct bytes s)
{
    while (s.len) {
        if (!c->last || c->last->len == CHUNK_BYTES) {
            struct chunk *chunk = chunk_new();
            if (c->last)
                c->last->next = chunk;
            else
                c->first = chunk;
            c->last = chunk;
        }
        size_t room = CHUNK_BYTES - c->last->len;
        size_t n = s.len < room ? s.len : room;
        memcpy(c->last->data + c->last->len, s.at, n);
        c->last->len += (uint32_t)n;
        c->len += n;
        s = bytes_skip(s, n);
    }
}

size_t chain_memory(const struct chain *c)
{
    size_t bytes = 0;
    for (const struct chunk *chunk = c->first; chunk; chunk = chunk->next)
        bytes += sizeof(*chunk) + CHUNK_BYTES;
    return bytes;
}

void chain_move(struct chain *to, struct chain *from)
{
    CHECK(to != from);
    if (!from->first)
        return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->len += from->len;
    *from = (struct chain){0};
}

size_t chain_read(const struct chain *c, size_t offset, char *out, size_t n)
{
    size_t done = 0;
    for (const struct chunk *chunk = c->first; chunk && done < n; chunk = chunk->next) {
        if (offset >= chunk->len) {
            offset -= chunk->len;
            continue;
        }
        size_t part = chunk->len - offset < n - done ? chunk->len - offset : n - done;
        memcpy(out + done, chunk->data + offset, part);
        done += part;
        offset = 0;
    }
    return done;
}

struct bytes chain_slice(const struct chain *c, size_t offset)
{
    for (const struct chunk *chunk = c->first; chunk; chunk = chunk->next) {
        if (offset < chunk->len)
            return bytes_of(chunk->data + offset, chunk->len - offset);
        offset -= chunk->len;
    }
    return BYTES_NONE;
}
