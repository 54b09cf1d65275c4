// SPDX-License-Identifier: MIT
#include "base/check.h"
#include "base/test_base.h"
#include "sign/dkim_body.h"
#include "sign/dkim_canon.h"

static void gather(void *ctx, struct bytes piece)
{
    buf_add(ctx, piece);
}

// In pieces of `step` bytes.
static void canon_body(enum dkim_canon canon, struct bytes body, size_t step, struct buf *out)
{
    struct dkim_canon_body b;
    buf_clear(out);
    dkim_canon_body_init(&b, canon, gather, out);
    for (; body.len; body = bytes_skip(body, step))
        dkim_canon_body_feed(&b, bytes_first(body, step));
    dkim_canon_body_finish(&b);
}

static void test_bodies(void **state)
{
    static const struct {
        const char *body, *simple, *relaxed;
    } rows[] = {
        // RFC 6376 section 3.4.5
        {" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"},
        {"", "\r\n", ""},
        {"\r\n", "\r\n", ""},
        {"\r\n\r\n", "\r\n", ""},
        {" \t\r\n\r\n", " \t\r\n", ""},
        {"a", "a\r\n", "a\r\n"},
        {"a ", "a \r\n", "a\r\n"},
        {" ", " \r\n", ""},
        {"a\r\n", "a\r\n", "a\r\n"},
        {"\r\na\r\n", "\r\na\r\n", "\r\na\r\n"},
        {"a\r\n \r\nb", "a\r\n \r\nb\r\n", "a\r\n\r\nb\r\n"},
        {"a\r\n \r\n", "a\r\n \r\n", "a\r\n"},
        {"a\t \tb\r\n\t\tc\r\n", "a\t \tb\r\n\t\tc\r\n", "a b\r\n c\r\n"},
        {"a\rb\nc\r\n", "a\rb\nc\r\n", "a\rb\nc\r\n"},
        {"a\r\r\n", "a\r\r\n", "a\r\r\n"},
        {"a\r", "a\r\r\n", "a\r\r\n"},
        {"a \rb", "a \rb\r\n", "a \rb\r\n"},
        {"\n\n", "\n\n\r\n", "\n\n\r\n"},
        {".\r\n..\r\n", ".\r\n..\r\n", ".\r\n..\r\n"},
        {"\xe4 \xff\r\n", "\xe4 \xff\r\n", "\xe4 \xff\r\n"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (size_t step = 1; step < 6; step++) {
            canon_body(DKIM_SIMPLE, bytes_cstr(rows[i].body), step, &out);
            assert_bytes(rows[i].body, buf_bytes(&out), bytes_cstr(rows[i].simple));
            canon_body(DKIM_RELAXED, bytes_cstr(rows[i].body), step, &out);
            assert_bytes(rows[i].body, buf_bytes(&out), bytes_cstr(rows[i].relaxed));
        }
    buf_done(&out);
}

// Bodies larger than what is gathered, at random cuts.
static void test_cuts(void **state)
{
    static const char alphabet[] = "ab \t\r\n\r\n.x";
    struct test_random random = {7};
    struct buf body = {0}, whole = {0}, cut = {0};
    for (int round = 0; round < 300; round++) {
        enum dkim_canon canon = round % 2 ? DKIM_RELAXED : DKIM_SIMPLE;
        buf_clear(&body);
        buf_clear(&cut);
        for (uint32_t n = test_random_below(&random, 5000); n > 0; n--)
            buf_add_byte(&body, round % 3 ? alphabet[test_random_below(&random, 10)] : 'x');
        canon_body(canon, buf_bytes(&body), SIZE_MAX, &whole);
        struct dkim_canon_body b;
        dkim_canon_body_init(&b, canon, gather, &cut);
        for (struct bytes rest = buf_bytes(&body); rest.len;) {
            size_t n = test_random_below(&random, 2000);
            dkim_canon_body_feed(&b, bytes_first(rest, n));
            rest = bytes_skip(rest, n);
        }
        dkim_canon_body_finish(&b);
        assert_bytes("cut", buf_bytes(&cut), buf_bytes(&whole));
    }
    buf_done(&body);
    buf_done(&whole);
    buf_done(&cut);
}

static void test_fields(void **state)
{
    static const struct {
        const char *raw, *relaxed;
    } rows[] = {
        // RFC 6376 section 3.4.5
        {"A: X\r\n", "a:X\r\n"},
        {"B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n"},
        {"Subject:\r\n", "subject:\r\n"},
        {"Subject: \r\n \r\n", "subject:\r\n"},
        {"SUBJect: a\r\n\tb\r\n", "subject:a b\r\n"},
        {"a:b\r\n c", "a:b c\r\n"},
        {"a::b : c\r\n", "a::b : c\r\n"},
        {"From:\t\xc3\xa4 <a@b>\r\n", "from:\xc3\xa4 <a@b>\r\n"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        buf_clear(&out);
        dkim_canon_field(DKIM_RELAXED, bytes_cstr(rows[i].raw), &out);
        assert_bytes(rows[i].raw, buf_bytes(&out), bytes_cstr(rows[i].relaxed));
    }
    buf_clear(&out);
    dkim_canon_field(DKIM_SIMPLE, BYTES("B : Y\t\r\n\tZ  \r\n"), &out);
    assert_bytes("simple", buf_bytes(&out), BYTES("B : Y\t\r\n\tZ  \r\n"));
    buf_done(&out);
}

static void test_signature_field(void **state)
{
    static const struct {
        const char *raw, *simple, *relaxed;
    } rows[] = {
        {"DKIM-Signature: a=x; b=QUJD\r\n", "DKIM-Signature: a=x; b=", "dkim-signature:a=x; b="},
        {"DKIM-Signature: b = QU\r\n JD ; bh=b=c;\r\n", "DKIM-Signature: b =; bh=b=c;",
         "dkim-signature:b =; bh=b=c;"},
        {"DKIM-Signature: bh=x;\r\n\tb=\r\n\tQQ==\r\n\t; c=y \r\n",
         "DKIM-Signature: bh=x;\r\n\tb=; c=y ", "dkim-signature:bh=x; b=; c=y"},
        {"DKIM-Signature: a=x; nob=y;b=z",
         "DKIM-Signature: a=x; nob=y;b=", "dkim-signature:a=x; nob=y;b="},
    };
    struct buf out = {0};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        buf_clear(&out);
        dkim_canon_signature(DKIM_SIMPLE, bytes_cstr(rows[i].raw), &out);
        assert_bytes(rows[i].raw, buf_bytes(&out), bytes_cstr(rows[i].simple));
        buf_clear(&out);
        dkim_canon_signature(DKIM_RELAXED, bytes_cstr(rows[i].raw), &out);
        assert_bytes(rows[i].raw, buf_bytes(&out), bytes_cstr(rows[i].relaxed));
    }
    buf_done(&out);
}

// RFC 6376 sections 3.4.3 and 3.4.4: the hashes of an empty body.
static void test_empty_hash(void **state)
{
    static const uint8_t want[][4] = {
        [DKIM_SIMPLE] = {0x7e, 0xb7, 0x02, 0x57}, [DKIM_RELAXED] = {0xe3, 0xb0, 0xc4, 0x42}};
    static const char *const bodies[] = {"", "\r\n", "\r\n\r\n"};
    for (size_t i = 0; i < 2 * COUNT_OF(bodies); i++) {
        uint8_t hash[DKIM_HASH_BYTES];
        struct dkim_body b;
        dkim_body_init(&b, i % 2);
        dkim_body_feed(&b, bytes_cstr(bodies[i / 2]));
        dkim_body_finish(&b, hash);
        dkim_body_done(&b);
        assert_memory_equal(hash, want[i % 2], sizeof want[0]);
    }
}

// l=: only so many canonical octets are hashed, all are counted.
static void test_limit(void **state)
{
    uint8_t want[DKIM_HASH_BYTES], got[DKIM_HASH_BYTES];
    struct dkim_body b;
    dkim_body_init(&b, DKIM_RELAXED);
    dkim_body_feed(&b, BYTES("a b\r\n"));
    dkim_body_finish(&b, want);
    for (size_t step = 1; step < 4; step++) {
        dkim_body_init(&b, DKIM_RELAXED);
        b.limit = 5;
        for (struct bytes rest = BYTES("a  b \r\nmore\r\n"); rest.len;
             rest = bytes_skip(rest, step))
            dkim_body_feed(&b, bytes_first(rest, step));
        dkim_body_finish(&b, got);
        assert_memory_equal(got, want, sizeof got);
        assert_int_equal(b.total, 11);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_bodies), cmocka_unit_test(test_cuts),
    cmocka_unit_test(test_fields), cmocka_unit_test(test_signature_field),
    cmocka_unit_test(test_limit),  cmocka_unit_test(test_empty_hash),
};

RUN_TESTS(tests)
