// SPDX-License-Identifier: MIT
//
// Content cut at every place and at random ones, on the simulator's loops and disk: the header, the body, its hash.
#include "intake/intake_content.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/test_base.h"
#include "sim_disk.h"
#include "sim_spool.h"
#include "spool/spool_body.h"

#define LARGE ((size_t)700000)
#define HEADER_MAX 4096
#define PATIENCE_MS 60000

static struct sim_spool world;

static int setup(void **state)
{
    (void)state;
    return sim_spool_start(&world, 7, 65536) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return sim_spool_stop(&world) ? 0 : -1;
}

// ---- one message ---------------------------------------------------------------------------------------------

struct taking {
    struct sys_task task;
    struct bytes message;
    size_t at, piece; // piece 0: random cuts
    size_t first_cut; // where the first piece ends; 0: by `piece`
    size_t header_max;
    struct test_random random;
    struct intake_content content;
    struct stored_message *stored;
    uint32_t waits;
    bool waiting, done;
    int err;
    // what came of it
    struct spool_body reader;
    struct buf body;
};

static void feed_on(struct taking *t);

static void on_drained(void *ctx)
{
    struct taking *t = ctx;
    CHECK(t->waiting);
    t->waiting = false;
    feed_on(t);
}

static void read_back(void *ctx)
{
    struct taking *t = ctx;
    struct bytes piece = BYTES("x");
    while (piece.len > 0) {
        int err = spool_body_read(&t->reader, t->body.len, 10000, &piece);
        if (err == E_AGAIN)
            return;
        CHECK(err == OK);
        buf_add(&t->body, piece);
    }
    t->done = true;
}

static void on_finished(void *ctx, int err)
{
    struct taking *t = ctx;
    t->err = err;
    if (err) {
        t->done = true;
        return;
    }
    t->stored->envelope->id = t->content.id;
    spool_body_init(&t->reader, world.spool, t->stored, read_back, t);
    read_back(t);
}

static void feed_on(struct taking *t)
{
    while (t->at < t->message.len) {
        size_t n = t->piece ? t->piece : 1 + test_random_below(&t->random, 20000);
        if (t->at == 0 && t->first_cut)
            n = t->first_cut;
        struct bytes piece = bytes_mid(t->message, t->at, n);
        t->at += piece.len;
        if (intake_content_add(&t->content, piece)) {
            t->waits++;
            t->waiting = true;
            return;
        }
    }
    intake_content_end(&t->content);
    if (t->content.header_too_large)
        t->done = true;
    else
        intake_content_finish(&t->content, t->stored, on_finished);
}

static void begin(struct sys_task *task)
{
    struct taking *t = container_of(task, struct taking, task);
    intake_content_init(&t->content, world.spool,
                        message_id_make((struct wall){1700000000000000}, 1, 1, 1),
                        t->header_max ? t->header_max : HEADER_MAX, true, on_drained, t);
    t->stored = stored_message_new();
    t->stored->envelope->id = t->content.id;
    feed_on(t);
}

static void drop(struct sys_task *task)
{
    struct taking *t = container_of(task, struct taking, task);
    intake_content_drop(&t->content);
    intake_content_drop(&t->content); // twice is harmless
    if (t->reader.message)
        spool_body_done(&t->reader);
    stored_message_unref(t->stored);
    t->done = true;
}

static bool is_done(void *ctx)
{
    return ((struct taking *)ctx)->done;
}

static void take(struct taking *t)
{
    t->task.run = begin;
    sys_post(world.client, &t->task);
    assert_true(sim_run_until(is_done, t, PATIENCE_MS));
}

static void drop_taking(struct taking *t)
{
    t->done = false;
    t->task.run = drop;
    sys_post(world.client, &t->task);
    assert_true(sim_run_until(is_done, t, PATIENCE_MS));
    buf_done(&t->body);
}

static void check(const char *name, struct taking *t, struct bytes header, struct bytes body)
{
    unsigned char hash[DKIM_HASH_BYTES];
    struct dkim_body whole;
    assert_number(name, t->err, OK);
    assert_bytes(name, buf_bytes(&t->content.header), header);
    assert_number(name, t->stored->envelope->body_bytes, body.len);
    assert_true(bytes_eq(buf_bytes(&t->body), body));
    dkim_body_init(&whole, DKIM_RELAXED);
    dkim_body_feed(&whole, body);
    dkim_body_finish(&whole, hash);
    assert_true(t->stored->envelope->has_body_hash);
    assert_memory_equal(hash, t->stored->envelope->body_hash, sizeof hash);
}

// ---- tests -------------------------------------------------------------------------------------------------

static const struct {
    const char *name, *message, *header, *body;
} ROWS[] = {
    {"plain", "A: b\r\nC: d\r\n\r\nbody\r\n", "A: b\r\nC: d\r\n\r\n", "body\r\n"},
    {"no body", "A: b\r\n\r\n", "A: b\r\n\r\n", ""},
    {"no empty line", "A: b\r\nC: d\r\n", "A: b\r\nC: d\r\n\r\n", ""},
    {"no end of line", "A: b", "A: b\r\n\r\n", ""},
    {"nothing", "", "\r\n", ""},
    {"no fields", "\r\nbody\r\n", "\r\n", "body\r\n"},
    {"body begins with an empty line", "A: b\r\n\r\n\r\nx", "A: b\r\n\r\n", "\r\nx"},
    {"empty lines in the body", "A: b\r\n\r\nx\r\n\r\ny\r\n\r\n", "A: b\r\n\r\n",
     "x\r\n\r\ny\r\n\r\n"},
    {"half an empty line at the end", "A: b\r\n\r", "A: b\r\n\r\r\n\r\n", ""},
};

static void test_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct bytes message = bytes_cstr(ROWS[i].message);
        for (size_t cut = 1; cut <= message.len + 1; cut++) { // the last: byte by byte
            struct taking t = {.message = message,
                               .piece = cut > message.len ? 1 : message.len + 1,
                               .first_cut = cut > message.len ? 0 : cut};
            take(&t);
            check(ROWS[i].name, &t, bytes_cstr(ROWS[i].header), bytes_cstr(ROWS[i].body));
            drop_taking(&t);
        }
    }
}

static void test_header_limit(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t max;
        const char *message;
        bool too_large;
    } LIMITS[] = {
        {"fits", 8, "A: b\r\n\r\nbody", false},
        {"a byte too much", 7, "A: b\r\n\r\nbody", true},
        {"no empty line, fits", 6, "A: b\r\n", false},
        {"no empty line, too much", 5, "A: b\r\n", true},
        {"a large body is no header", 8, "A: b\r\n\r\n0123456789012345678901234567890123456789",
         false},
    };
    for (size_t i = 0; i < COUNT_OF(LIMITS); i++) {
        for (size_t piece = 1; piece <= 60; piece++) {
            struct taking t = {.message = bytes_cstr(LIMITS[i].message),
                               .piece = piece,
                               .header_max = LIMITS[i].max};
            take(&t);
            assert_number(LIMITS[i].name, t.content.header_too_large, LIMITS[i].too_large);
            drop_taking(&t);
        }
    }
}

static struct bytes large_message(struct buf *out, struct bytes header)
{
    buf_add(out, header);
    for (unsigned i = 0; out->len < header.len + LARGE; i++)
        buf_printf(out, "line %u of a body that is too large for memory\r\n", i);
    return buf_bytes(out);
}

static void test_extents(void **state)
{
    (void)state;
    static const size_t PIECES[] = {0, 65536, 300, 100000000};
    struct bytes header = BYTES("Subject: large\r\n\r\n");
    struct buf message = {0};
    large_message(&message, header);
    for (size_t i = 0; i < COUNT_OF(PIECES); i++) {
        struct taking t = {.message = buf_bytes(&message), .piece = PIECES[i], .random = {i}};
        take(&t);
        check("large", &t, header, bytes_skip(buf_bytes(&message), header.len));
        assert_true(t.stored->body_in_extent && t.stored->body.len == 0);
        drop_taking(&t);
    }
    // The largest body that is kept in memory, and one byte more.
    for (size_t more = 0; more <= 1; more++) {
        struct taking t = {
            .message = bytes_first(buf_bytes(&message), header.len + STORED_INLINE_MAX + more),
            .piece = 1000};
        take(&t);
        check("limit", &t, header, bytes_skip(t.message, header.len));
        assert_int_equal(t.stored->body_in_extent, more);
        drop_taking(&t);
    }
    buf_done(&message);
}

// A disk that fails: whoever was told to wait is told to go on, and the end says that it failed.
static void test_failing_disk(void **state)
{
    static const size_t PIECES[] = {0, 65536, 100000000};
    struct buf message = {0};
    large_message(&message, BYTES("Subject: large\r\n\r\n"));
    int failures = 0;
    for (uint64_t n = 1; n <= 12; n++) { // the n-th write of this world fails
        assert_int_equal(setup(state), 0);
        struct taking t = {.message = buf_bytes(&message), .piece = PIECES[n % 3], .random = {n}};
        sim_disk_fail(sim_disk_find(SIM_SPOOL_DIRECTORY), SIM_DISK_WRITE, n, 1, E_FULL);
        uint64_t struck = sim_disk_struck(sim_disk_find(SIM_SPOOL_DIRECTORY));
        take(&t);
        bool failed = sim_disk_struck(sim_disk_find(SIM_SPOOL_DIRECTORY)) != struck;
        // Where it struck the journal's own writes, the extent is whole.
        assert_true(t.err == OK || (failed && t.err == E_FULL));
        failures += t.err != OK;
        drop_taking(&t);
        assert_int_equal(teardown(state), 0);
    }
    assert_true(failures >= 3);
    buf_done(&message);
}

// The session is gone in the middle.
static void test_dropped(void **state)
{
    (void)state;
    struct buf message = {0};
    large_message(&message, BYTES("Subject: large\r\n\r\n"));
    for (size_t upto = 0; upto < message.len; upto += 90001) {
        struct taking t = {.message = buf_bytes(&message), .piece = 30000};
        t.message.len = upto;
        t.content.ctx = NULL;
        take(&t);
        drop_taking(&t);
    }
    buf_done(&message);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_every_cut, setup, teardown),
    cmocka_unit_test_setup_teardown(test_header_limit, setup, teardown),
    cmocka_unit_test_setup_teardown(test_extents, setup, teardown),
    cmocka_unit_test(test_failing_disk),
    cmocka_unit_test_setup_teardown(test_dropped, setup, teardown),
};

RUN_TESTS(tests)
