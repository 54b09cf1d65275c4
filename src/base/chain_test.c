// SPDX-License-Identifier: MIT
#include "base/chain.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/test_base.h"

// Writes n bytes in pieces of up to `piece`; byte i is i * 31 + (i >> 8).
static char pattern(size_t i)
{
    return (char)(i * 31 + (i >> 8));
}

static void fill(struct chain *c, size_t n, size_t piece)
{
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++)
        text[i] = pattern(c->len + i);
    for (size_t at = 0; at < n; at += piece)
        chain_add(c, bytes_of(text + at, n - at < piece ? n - at : piece));
    free(text);
}

static void check(const struct chain *c, size_t n)
{
    char *text = malloc(n + 1);
    assert_int_equal(c->len, n);
    assert_int_equal(chain_read(c, 0, text, n + 1), n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(text[i], pattern(i));
    free(text);
}

static void keeps_every_byte(void **state)
{
    static const size_t sizes[] = {0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 100000};
    static const size_t pieces[] = {1, 7, CHUNK_BYTES, 60000};
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < 4; k++) {
            struct chain c = {0};
            fill(&c, sizes[i], pieces[k]);
            check(&c, sizes[i]);
            chain_done(&c);
            assert_null(c.first);
            assert_int_equal(c.len, 0);
        }
}

static void reads_from_any_offset(void **state)
{
    struct chain c = {0};
    char out[10];
    fill(&c, 40000, 999);
    for (size_t at = 16370; at < 16400; at++) {
        assert_int_equal(chain_read(&c, at, out, 10), 10);
        struct bytes slice = chain_slice(&c, at);
        assert_in_range(slice.len, 1, CHUNK_BYTES);
        assert_memory_equal(slice.at, out, slice.len < 10 ? slice.len : 10);
        for (size_t i = 0; i < 10; i++)
            assert_int_equal(out[i], pattern(at + i));
    }
    assert_int_equal(chain_read(&c, 39995, out, 10), 5);
    assert_int_equal(chain_read(&c, 40000, out, 10), 0);
    assert_int_equal(chain_read(&c, 50000, out, 10), 0);
    assert_int_equal(chain_slice(&c, 39995).len, 5);
    assert_int_equal(chain_slice(&c, 40000).len, 0);
    assert_int_equal(chain_slice(&c, 50000).len, 0);
    chain_done(&c);
}

static void moves_ownership(void **state)
{
    struct chain a = {0}, b = {0};
    chain_move(&a, &b);
    assert_int_equal(a.len, 0);
    fill(&b, 20000, 20000);
    chain_move(&a, &b);
    assert_int_equal(b.len, 0);
    assert_null(b.first);
    struct chain more = {.len = a.len}; // so that fill() goes on with the pattern
    fill(&more, 5000, 5000);
    more.len -= a.len;
    chain_move(&a, &more);
    check(&a, 25000);
    fill(&a, 100, 100);
    check(&a, 25100);
    chain_done(&a);
}

static void *fill_and_free(void *arg)
{
    struct chain c = {0};
    fill(&c, 300000, 5000);
    chain_done(&c);
    return arg;
}

// A leak here is the sanitizer's to see.
static void threads_give_their_cache_back(void **state)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fill_and_free, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(keeps_every_byte),
    cmocka_unit_test(reads_from_any_offset),
    cmocka_unit_test(moves_ownership),
    cmocka_unit_test(threads_give_their_cache_back),
};
RUN_TESTS(tests)
