// SPDX-License-Identifier: MIT
//
// Renderings pulled in pieces of every size, from memory and from extents, on the simulator's loops and disk.
#include "deliver/render.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/test_base.h"
#include "sim_spool.h"
#include "spool/spool_extent.h"

#define PATIENCE_MS 60000
#define LARGE ((size_t)700000)

#define MIME                                                                                       \
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"                             \
    "Content-Transfer-Encoding: 8bit\r\n\r\n"

static struct sim_spool world;

static int setup(void **state)
{
    (void)state;
    return sim_spool_start(&world, 5, 65536) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return sim_spool_stop(&world) ? 0 : -1;
}

// ---- one rendering -------------------------------------------------------------------------------------------

struct pulling {
    struct sys_task task;
    struct bytes header, body, added;
    uint64_t claimed; // what the envelope says of the body; 0: the truth
    bool in_extent;
    enum render_kind kind;
    size_t max;
    struct stored_message *message;
    struct render render;
    struct buf out;
    uint64_t size;
    bool done;
    int err;
};

static void pull(void *ctx)
{
    struct pulling *p = ctx;
    bool end = false;
    while (!end) {
        struct bytes piece;
        p->err = render_next(&p->render, p->max, &piece, &end);
        if (p->err == E_AGAIN)
            return;
        if (p->err)
            break;
        CHECK(piece.len <= p->max);
        buf_add(&p->out, piece);
    }
    CHECK(p->render.err == p->err);
    p->size = render_size(&p->render);
    render_done(&p->render);
    render_done(&p->render); // twice is harmless
    stored_message_unref(p->message);
    p->done = true;
}

static void start_pulling(struct pulling *p)
{
    if (p->claimed)
        p->message->envelope->body_bytes = p->claimed;
    render_init(&p->render, world.spool, p->message, p->kind, p->added, pull, p);
    pull(p);
}

static void on_extent(void *ctx, int err)
{
    CHECK(err == OK);
    start_pulling(ctx);
}

static void begin(struct sys_task *task)
{
    struct pulling *p = container_of(task, struct pulling, task);
    struct stored_message *m = p->message = stored_message_new();
    m->envelope->id = message_id_make((struct wall){1700000000000000}, 1, 1, 1);
    m->header = arena_dup(&m->arena, p->header);
    m->envelope->header_bytes = p->header.len;
    m->envelope->body_bytes = p->body.len;
    struct chain body = {0};
    chain_add(&body, p->body);
    if (!p->in_extent) {
        chain_move(&m->body, &body);
        start_pulling(p);
        return;
    }
    struct spool_extent *e = spool_extent_begin(world.spool, m->envelope->id, NULL, p);
    spool_extent_write(e, &body);
    spool_extent_finish(e, m, on_extent);
}

static bool is_done(void *ctx)
{
    return ((struct pulling *)ctx)->done;
}

static void run(struct pulling *p)
{
    p->task.run = begin;
    sys_post(world.client, &p->task);
    assert_true(sim_run_until(is_done, p, PATIENCE_MS));
}

static const size_t SIZES[] = {1, 2, 3, 7, 100, 4096, 16384, 65536, 10000000};

static struct bytes large_body(struct buf *out, const char *line)
{
    while (out->len < LARGE)
        buf_printf(out, "%s %zu\r\n", line, out->len);
    return buf_bytes(out);
}

// ---- tests -------------------------------------------------------------------------------------------------

static void test_identity(void **state)
{
    (void)state;
    static const struct {
        const char *name, *header, *body;
    } ROWS[] = {
        {"plain", "A: b\r\n\r\n", "text\r\n"},
        {"no body", "A: b\r\n\r\n", ""},
        {"no final newline", "A: b\r\n\r\n", "text"},
        {"8-bit and dots", "A: \xc3\xa9\r\n\r\n", "\xe9\r\n.\r\n..\r\n"},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        for (size_t k = 0; k < COUNT_OF(SIZES); k++) {
            struct pulling p = {.header = bytes_cstr(ROWS[i].header),
                                .body = bytes_cstr(ROWS[i].body),
                                .max = SIZES[k]};
            struct buf want = {0};
            buf_printf(&want, "%s%s", ROWS[i].header, ROWS[i].body);
            run(&p);
            assert_number(ROWS[i].name, p.err, OK);
            assert_number(ROWS[i].name, p.size, want.len);
            assert_bytes(ROWS[i].name, buf_bytes(&p.out), buf_bytes(&want));
            buf_done(&want);
            buf_done(&p.out);
        }
    }
}

static void test_extent(void **state)
{
    (void)state;
    struct buf body = {0};
    large_body(&body, "a line of a large body");
    for (size_t k = 4; k < COUNT_OF(SIZES); k++) {
        struct pulling p = {.header = BYTES("A: b\r\n\r\n"),
                            .body = buf_bytes(&body),
                            .in_extent = true,
                            .max = SIZES[k]};
        run(&p);
        assert_int_equal(p.err, OK);
        assert_true(bytes_eq(bytes_skip(buf_bytes(&p.out), 8), buf_bytes(&body)));
        buf_done(&p.out);
    }
    buf_done(&body);
}

// The same for every size of pieces, ASCII, in one of the two encodings; from memory and from an extent.
static void test_seven_bit(void **state)
{
    (void)state;
    struct buf body = {0};
    large_body(&body, "gr\xc3\xbc\xc3\x9f"
                      "e");
    for (int large = 0; large <= 1; large++) {
        struct buf first = {0};
        for (size_t k = 3; k < COUNT_OF(SIZES); k++) {
            struct pulling p = {.header = BYTES(MIME),
                                .body =
                                    large ? buf_bytes(&body) : bytes_first(buf_bytes(&body), 9000),
                                .in_extent = large,
                                .kind = RENDER_SEVEN_BIT,
                                .max = SIZES[k]};
            run(&p);
            assert_int_equal(p.err, OK);
            assert_int_equal(p.size, 0); // not known beforehand
            assert_true(bytes_is_ascii(buf_bytes(&p.out)) && p.out.len > p.body.len);
            assert_int_equal(bytes_search(buf_bytes(&p.out), BYTES(": 8bit")), -1);
            assert_true(bytes_search(buf_bytes(&p.out), BYTES("Content-Transfer-Encoding: ")) > 0);
            if (!first.len)
                buf_add(&first, buf_bytes(&p.out));
            assert_true(bytes_eq(buf_bytes(&first), buf_bytes(&p.out)));
            buf_done(&p.out);
        }
        buf_done(&first);
    }
    buf_done(&body);
}

#define EIGHT "\xc3\xa9\r\n"
#define PARTS "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"

static void test_failures(void **state)
{
    (void)state;
    static const struct {
        const char *name, *header, *body;
        enum render_kind kind;
        uint64_t claimed;
        int err;
    } ROWS[] = {
        {"raw 8-bit header has no 7-bit form", "Subject: \xc3\xa9\r\n" MIME, EIGHT,
         RENDER_SEVEN_BIT, 0, E_DENIED},
        {"the same as it is", "Subject: \xc3\xa9\r\n" MIME, EIGHT, RENDER_IDENTITY, 0, OK},
        {"checked, raw 8-bit header", "Subject: \xc3\xa9\r\n" MIME, EIGHT, RENDER_CHECKED, 0,
         E_DENIED},
        {"checked, 8-bit text only", MIME, EIGHT, RENDER_CHECKED, 0, OK},
        {"checked, in a part's header", PARTS, "--b\r\nX: \xc3\xa9\r\n\r\nx\r\n--b--\r\n",
         RENDER_CHECKED, 0, E_DENIED},
        {"checked, in a part's text", PARTS, "--b\r\nX: y\r\n\r\n\xc3\xa9\r\n--b--\r\n",
         RENDER_CHECKED, 0, OK},
        {"checked, can't be taken apart", PARTS, "--b\r\nX: \r\r\n\r\nx\r\n--b--\r\n",
         RENDER_CHECKED, 0, OK},
        {"shorter than the envelope says", MIME, EIGHT, RENDER_IDENTITY, 100, E_DAMAGED},
        {"shorter, 7-bit", MIME, EIGHT, RENDER_SEVEN_BIT, 100, E_DAMAGED},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct pulling p = {.header = bytes_cstr(ROWS[i].header),
                            .body = bytes_cstr(ROWS[i].body),
                            .kind = ROWS[i].kind,
                            .claimed = ROWS[i].claimed,
                            .max = 1000};
        run(&p);
        assert_number(ROWS[i].name, p.err, ROWS[i].err);
        if (!p.err)
            assert_number(ROWS[i].name, p.out.len, p.header.len + p.body.len);
        buf_done(&p.out);
    }
}

// What is added stands first, in every form and whatever the size of the pieces, and nothing else changes.
static void test_added(void **state)
{
    (void)state;
    static const enum render_kind KINDS[] = {RENDER_IDENTITY, RENDER_CHECKED, RENDER_SEVEN_BIT};
    struct bytes added = BYTES("X-One: 1\r\nX-Two: a\r\n\tb\r\n");
    for (size_t i = 0; i < COUNT_OF(KINDS); i++) {
        for (size_t k = 0; k < COUNT_OF(SIZES); k++) {
            struct pulling plain = {
                .header = BYTES(MIME), .body = BYTES(EIGHT), .kind = KINDS[i], .max = SIZES[k]};
            struct pulling more = plain;
            more.added = added;
            run(&plain);
            run(&more);
            assert_int_equal(more.err, OK);
            assert_true(bytes_starts(buf_bytes(&more.out), added));
            assert_bytes("rest", bytes_skip(buf_bytes(&more.out), added.len),
                         buf_bytes(&plain.out));
            assert_number("size", more.size, plain.size ? plain.size + added.len : 0);
            buf_done(&plain.out);
            buf_done(&more.out);
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
    cmocka_unit_test_setup_teardown(test_extent, setup, teardown),
    cmocka_unit_test_setup_teardown(test_seven_bit, setup, teardown),
    cmocka_unit_test_setup_teardown(test_added, setup, teardown),
    cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
};

RUN_TESTS(tests)
