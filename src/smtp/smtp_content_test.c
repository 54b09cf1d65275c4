// SPDX-License-Identifier: MIT
//
// Decoder and stuffer against a plain reference, over every short string of the bytes that matter.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "smtp/smtp_content.h"
#include "smtp/smtp_stuffer.h"

#define LENGTH_MAX 8
static const char alphabet[] = {'\r', '\n', '.', 'a'};

struct result {
    bool ended;
    size_t used;
    enum smtp_content_fault fault;
    size_t len;
    char text[64];
};

// RFC 5321 4.1.1.4 in the plainest form: the end is the first ".\r\n" at the start or behind
// "\r\n".
static void reference(struct bytes in, struct result *r)
{
    *r = (struct result){.used = in.len};
    for (size_t i = 0; i + 3 <= in.len && !r->ended; i++) {
        bool at_line = i == 0 || (i >= 2 && in.at[i - 2] == '\r' && in.at[i - 1] == '\n');
        r->ended = at_line && memcmp(in.at + i, ".\r\n", 3) == 0;
        if (r->ended)
            r->used = i + 3;
    }
    size_t text = r->ended ? r->used - 3 : in.len;
    for (size_t i = 0; i < text; i++) {
        bool at_line = i == 0 || (i >= 2 && in.at[i - 2] == '\r' && in.at[i - 1] == '\n');
        if (at_line && in.at[i] == '.')
            continue;
        r->text[r->len++] = in.at[i];
    }
    for (size_t i = 0; i < r->used && !r->fault; i++) {
        if (in.at[i] == '\r' && i + 1 < r->used && in.at[i + 1] != '\n')
            r->fault = SMTP_CONTENT_BARE_CR;
        if (in.at[i] == '\n' && (i == 0 || in.at[i - 1] != '\r'))
            r->fault = SMTP_CONTENT_BARE_LF;
    }
}

static void keep(void *ctx, struct bytes piece)
{
    struct result *r = ctx;
    CHECK(piece.len > 0 && r->len + piece.len <= sizeof r->text);
    memcpy(r->text + r->len, piece.at, piece.len);
    r->len += piece.len;
}

// mask: bit i set: a cut behind byte i.
static void decode(struct bytes in, unsigned mask, struct result *r)
{
    struct smtp_content c;
    *r = (struct result){0};
    smtp_content_init(&c, true, 1000, 0, keep, r);
    for (size_t from = 0, i = 0; i < in.len && !r->ended; i++) {
        if (i + 1 < in.len && !(mask & 1u << i))
            continue;
        r->used += smtp_content_feed(&c, bytes_mid(in, from, i + 1 - from), &r->ended);
        from = i + 1;
    }
    r->fault = c.fault;
}

static void each_string(void (*test)(struct bytes text))
{
    char text[LENGTH_MAX];
    for (size_t len = 0; len <= LENGTH_MAX; len++) {
        for (unsigned n = 0; n < 1u << (2 * len); n++) {
            for (size_t i = 0; i < len; i++)
                text[i] = alphabet[n >> (2 * i) & 3];
            test(bytes_of(text, len));
        }
    }
}

static void show(struct bytes in, const char *what)
{
    struct buf shown = {0};
    buf_add_escaped(&shown, in, 100);
    fail_msg("%s: %s", buf_cstr(&shown), what);
}

static void check_decoder(struct bytes in)
{
    struct result want, got;
    reference(in, &want);
    unsigned whole = 0, each = ~0u, odd = 0x55, seeds[] = {0x12, 0x2c, 0x49};
    unsigned masks[] = {whole, each, odd, ~odd, seeds[0], seeds[1], seeds[2]};
    for (size_t i = 0; i < COUNT_OF(masks); i++) {
        decode(in, masks[i], &got);
        if (got.ended != want.ended || got.used != want.used)
            show(in, "the end is elsewhere");
        // Without an end a last CR is still open, and not yet a fault.
        if (got.fault != want.fault)
            show(in, "another fault");
        // A dot that is held, or a CR behind one, was not emitted yet.
        if (want.fault == SMTP_CONTENT_GOOD && want.ended &&
            (got.len != want.len || memcmp(got.text, want.text, got.len) != 0))
            show(in, "other text");
    }
}

static void test_decoder(void **state)
{
    each_string(check_decoder);
}

// What a DATA receiver must see: lines ended by CRLF, whatever stood there.
static void normalise(struct bytes in, struct buf *out)
{
    bool in_line = false;
    for (size_t i = 0; i < in.len; i++) {
        bool lf_of_cr = in.at[i] == '\n' && i > 0 && in.at[i - 1] == '\r';
        if (lf_of_cr)
            continue;
        in_line = in.at[i] != '\r' && in.at[i] != '\n';
        if (in_line)
            buf_add_byte(out, in.at[i]);
        else
            buf_add_cstr(out, "\r\n");
    }
    if (in_line)
        buf_add_cstr(out, "\r\n");
}

static void check_stuffer(struct bytes in)
{
    static struct buf whole, cut, want;
    struct smtp_stuffer s = {0};
    struct result r;
    buf_clear(&whole);
    buf_clear(&cut);
    buf_clear(&want);
    smtp_stuffer_feed(&s, in, &whole);
    smtp_stuffer_end(&s, &whole);
    for (size_t i = 0; i < in.len; i++)
        smtp_stuffer_feed(&s, bytes_mid(in, i, 1), &cut);
    smtp_stuffer_end(&s, &cut);
    normalise(in, &want);
    if (!bytes_eq(buf_bytes(&whole), buf_bytes(&cut)))
        show(in, "cutting changes it");
    decode(buf_bytes(&whole), 0, &r);
    if (!r.ended || r.used != whole.len || r.fault || r.len != want.len ||
        (r.len && memcmp(r.text, want.at, r.len) != 0))
        show(in, "does not come back as one message");
}

static void test_b_stuffer(void **state)
{
    each_string(check_stuffer);
}

// ---- long content: stretches of plain lines, taken whole, against the same byte by byte -----------

struct fed {
    struct smtp_content c;
    struct buf text;
    bool ended;
    size_t used;
};

static void add(void *ctx, struct bytes piece)
{
    buf_add(ctx, piece);
}

static void feed_in_steps(struct bytes in, size_t step, uint32_t line_max, struct fed *f)
{
    buf_clear(&f->text);
    f->ended = false;
    f->used = 0;
    smtp_content_init(&f->c, true, 1 << 20, line_max, add, &f->text);
    for (size_t at = 0; at < in.len && !f->ended; at += step)
        f->used += smtp_content_feed(&f->c, bytes_mid(in, at, step), &f->ended);
}

static void stuff_in_steps(struct bytes in, size_t step, struct buf *out)
{
    struct smtp_stuffer s = {0};
    buf_clear(out);
    for (size_t at = 0; at < in.len; at += step)
        smtp_stuffer_feed(&s, bytes_mid(in, at, step), out);
    smtp_stuffer_end(&s, out);
}

static void check_long(struct bytes in, uint32_t line_max)
{
    static struct fed whole, each;
    static struct buf once, cut;
    feed_in_steps(in, in.len, line_max, &whole);
    feed_in_steps(in, 1, line_max, &each);
    assert_int_equal(whole.ended, each.ended);
    assert_int_equal(whole.used, each.used);
    assert_int_equal(whole.c.fault, each.c.fault);
    assert_int_equal(whole.c.state, each.c.state);
    assert_int_equal(whole.c.line_bytes, each.c.line_bytes);
    if (!whole.c.fault) {
        assert_int_equal(whole.c.has_8bit, each.c.has_8bit);
        assert_int_equal(whole.c.has_nul, each.c.has_nul);
        assert_int_equal(whole.c.size, each.c.size);
        assert_true(bytes_eq(buf_bytes(&whole.text), buf_bytes(&each.text)));
    }
    stuff_in_steps(in, in.len, &once);
    stuff_in_steps(in, 1, &cut);
    assert_true(bytes_eq(buf_bytes(&once), buf_bytes(&cut)));
}

// A header and `before` bytes of plain lines of 40 octets, then `what`, then more such lines and the end.
static struct bytes long_content(size_t before, struct bytes what, struct buf *out)
{
    static const char line[] = "abcdefghijklmnopqrstuvwxyz.ABCDEFGHIJKLM\r\n";
    buf_clear(out);
    buf_add_cstr(out, "A: b\r\n\r\n");
    for (size_t i = 0; i < before; i++)
        buf_add_byte(out, line[i % (sizeof line - 1)]);
    buf_add(out, what);
    buf_add_cstr(out, "n\r\n");
    for (size_t i = 0; i < 110; i++) // over a block
        buf_add_cstr(out, line);
    buf_add_cstr(out, ".\r\n");
    return buf_bytes(out);
}

// What matters stands at the start of a line, in one, at the edges of what is looked at together.
static void test_b_long_content(void **state)
{
    static const char bytes[] = {'\r', '\n', '.', 'a', 0, (char)0x80};
    static const size_t before[] = {0, 200, 210, 216, 4094, 4095, 4096};
    static struct buf in;
    char text[3];
    for (size_t n = 0; n < 6 * 6 * 6; n++) {
        text[0] = bytes[n % 6];
        text[1] = bytes[n / 6 % 6];
        text[2] = bytes[n / 36];
        for (size_t i = 0; i < COUNT_OF(before); i++)
            check_long(long_content(before[i], bytes_of(text, sizeof text), &in), 0);
    }
}

static void test_long_lines(void **state)
{
    static const char text[] =
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    static struct buf in;
    for (uint32_t line_max = 50; line_max < 52; line_max++)
        for (size_t before = 4200; before < 4242; before++)
            for (size_t len = 5; len < sizeof text; len += 3)
                check_long(long_content(before, bytes_of(text, len), &in), line_max);
}

static void count(void *ctx, struct bytes piece)
{
    *(size_t *)ctx += piece.len;
}

static void test_facts(void **state)
{
    static const struct {
        struct bytes in;
        enum smtp_content_fault fault;
        bool ends_in_crlf, has_8bit, has_nul;
    } rows[] = {
        {BYTES("A: b\r\n\r\nx\r\n"), SMTP_CONTENT_GOOD, true, false, false},
        {BYTES("A: b\r\n\r\nx"), SMTP_CONTENT_GOOD, false, false, false},
        {BYTES("A: b\r\n\r\nx\0\r\n"), SMTP_CONTENT_GOOD, true, false, true},
        {BYTES("A: b\0\r\n\r\nx\r\n"), SMTP_CONTENT_NUL_IN_HEADER, true, false, true},
        {BYTES("\r\n\0"), SMTP_CONTENT_GOOD, false, false, true},
        {BYTES("A: b\r\n\r\n1234567\x80\r\n"), SMTP_CONTENT_GOOD, true, true, false},
        {BYTES("A: b\r\n\r\n123456789012345678\xff"), SMTP_CONTENT_GOOD, false, true, false},
        {BYTES("A: b\r\n\r\n12345678901234567890\r\n"), SMTP_CONTENT_GOOD, true, false, false},
        {BYTES("A: b\r\n\r\n123456789012345678901\r\n"), SMTP_CONTENT_LINE_TOO_LONG, true, false,
         false},
        {BYTES("123456789012345678901\rx"), SMTP_CONTENT_BARE_CR, false, false, false},
        {BYTES("x\r\nx\r"), SMTP_CONTENT_BARE_CR, false, false, false},
        {BYTES("12345678901234567890\r\n12345678901234567890\r\n"), SMTP_CONTENT_TOO_LARGE, true,
         false, false},
        {BYTES(""), SMTP_CONTENT_GOOD, false, false, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t step = 1; step < 50; step++) {
            struct smtp_content c;
            size_t emitted = 0;
            bool end;
            smtp_content_init(&c, false, 40, 20, count, &emitted);
            for (size_t at = 0; at < rows[i].in.len; at += step) {
                struct bytes piece = bytes_mid(rows[i].in, at, step);
                assert_int_equal(smtp_content_feed(&c, piece, &end), piece.len);
            }
            smtp_content_end(&c);
            if (c.fault != rows[i].fault || c.has_8bit != rows[i].has_8bit ||
                c.has_nul != rows[i].has_nul)
                fail_msg("row %zu, step %zu: fault %d", i, step, (int)c.fault);
            assert_int_equal(c.ends_in_crlf, rows[i].ends_in_crlf);
            assert_int_equal(c.size, rows[i].in.len);
            assert_true(c.fault || emitted == rows[i].in.len);
        }
    }
}

// RFC 3030: behind an empty header every string is content, whole, byte by byte and cut.
static void check_binary(struct bytes in)
{
    static const unsigned masks[] = {0, ~0u, 0x155, 0x2aa, 0x24};
    char text[LENGTH_MAX + 2] = "\r\n";
    if (in.len)
        memcpy(text + 2, in.at, in.len);
    struct bytes all = bytes_of(text, in.len + 2);
    for (size_t i = 0; i < COUNT_OF(masks); i++) {
        struct smtp_content c;
        struct result got = {0};
        smtp_content_init(&c, false, 1000, 3, keep, &got);
        c.binary = true;
        for (size_t from = 0, k = 0; k < all.len; k++) {
            if (k + 1 < all.len && !(masks[i] & 1u << k))
                continue;
            struct bytes piece = bytes_mid(all, from, k + 1 - from);
            if (smtp_content_feed(&c, piece, &got.ended) != piece.len || got.ended)
                show(in, "it ended");
            from = k + 1;
        }
        smtp_content_end(&c);
        if (c.fault || !bytes_eq(bytes_of(got.text, got.len), all))
            show(in, "not as it is");
        if (c.ends_in_crlf != bytes_ends(all, BYTES("\r\n")))
            show(in, "another end");
    }
}

static void test_binary(void **state)
{
    each_string(check_binary);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoder),        cmocka_unit_test(test_b_stuffer),
        cmocka_unit_test(test_b_long_content), cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_facts),          cmocka_unit_test(test_binary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
