// SPDX-License-Identifier: MIT
//
// Dialogues within their bounds; shelves that forget their oldest and nothing else; who is watched.
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/test_base.h"
#include "deliver/trace.h"

static struct mono at_ms(int64_t ms)
{
    return (struct mono){ms * 1000};
}

static size_t count_lines(struct bytes part, struct dialogue_line *out_last)
{
    size_t count = 0;
    while (dialogue_take(&part, out_last))
        count++;
    assert_number("left of a part", part.len, 0);
    return count;
}

static void test_lines(void **state)
{
    (void)state;
    struct dialogue d = {0};
    struct dialogue_line line;
    dialogue_begin(&d, at_ms(1000));
    dialogue_add_line(&d, at_ms(1005), SMTP_LINE_REPLY, 220, BYTES("mx ESMTP"));
    dialogue_add_line(&d, at_ms(1006), SMTP_LINE_SENT, 0, BYTES("EHLO us"));
    for (int i = 0; i < 2; i++) { // the second transaction has nothing of the first
        dialogue_next(&d, false);
        dialogue_add_line(&d, at_ms(2000), SMTP_LINE_SENT, 0, BYTES("MAIL FROM:<>"));
        dialogue_add_line(&d, at_ms(2001), SMTP_LINE_CONTENT, 12345, BYTES_NONE);
        dialogue_add_line(&d, at_ms(2002), SMTP_LINE_REPLY, 550, BYTES("5.1.1 a\nb"));
    }
    assert_number("opening", count_lines(buf_bytes(&d.opening), &line), 2);
    assert_number("ms", line.ms, 6);
    assert_true(line.from == DIALOGUE_US && bytes_eq(line.text, BYTES("EHLO us")));
    struct bytes part = buf_bytes(&d.first);
    assert_true(dialogue_take(&part, &line) && dialogue_take(&part, &line));
    assert_true(line.from == DIALOGUE_NOTE && bytes_eq(line.text, BYTES("12345 bytes of content")));
    assert_true(dialogue_take(&part, &line) && bytes_eq(line.text, BYTES("550 5.1.1 a\nb")));
    dialogue_begin(&d, at_ms(5000)); // another connection
    assert_number("opening", d.opening.len + d.first.len + d.last.len, 0);
    dialogue_done(&d);
}

// However much is said: the beginning and the end are there, and how much is missing.
static void test_bounds(void **state)
{
    (void)state;
    static char text[3 * DIALOGUE_LINE_MAX];
    memset(text, 'x', sizeof text);
    for (int all = 0; all < 2; all++) {
        struct dialogue d = {0};
        struct dialogue_line line = {0};
        size_t max = DIALOGUE_PART_BYTES * (all ? 16 : 1), lines = 20000;
        dialogue_begin(&d, at_ms(0));
        dialogue_next(&d, all);
        for (size_t i = 0; i < lines; i++) {
            char said[32];
            int n = snprintf(said, sizeof said, "line %zu", i);
            dialogue_add(&d, at_ms((int64_t)i), DIALOGUE_US, bytes_of(said, (size_t)n));
        }
        assert_true(d.first.len <= max && d.last.len <= max && d.last.len > max / 2);
        size_t first = count_lines(buf_bytes(&d.first), &line);
        assert_number("before the gap", line.ms, first - 1);
        size_t last = count_lines(buf_bytes(&d.last), &line);
        assert_number("the last", line.ms, lines - 1);
        assert_number("all", first + last + d.left_out, lines);
        dialogue_add(&d, at_ms(1), DIALOGUE_SERVER, bytes_of(text, sizeof text));
        count_lines(buf_bytes(&d.last), &line);
        assert_number("a long line", line.text.len, DIALOGUE_LINE_MAX);
        assert_true(d.last.len <= max);
        dialogue_done(&d);
    }
}

static void keep(struct trace *t, uint32_t n, enum trace_result result, bool recorded,
                 uint32_t number)
{
    static char text[1000];
    struct trace_attempt a = {.id = {7, n},
                              .at = {n},
                              .result = result,
                              .recorded = recorded,
                              .numbers = &number,
                              .numbers_count = 1,
                              .mx = BYTES("mx.example.org"),
                              .first = bytes_of(text, sizeof text)};
    trace_keep(t, &a);
}

static void on_found(void *ctx, const struct trace_attempt *a)
{
    *(struct wall *)ctx = a->at;
    assert_true(bytes_eq(a->mx, BYTES("mx.example.org")));
    assert_number("first", a->first.len, 1000);
}

static void swallow(void *ctx, struct bytes line)
{
    (void)ctx;
    (void)line;
}

static void test_shelves(void **state)
{
    (void)state;
    struct trace *t = trace_new(80000);
    struct wall at = {0};
    log_capture(swallow, NULL);
    keep(t, 1, TRACE_FAILED, false, 1);
    keep(t, 2, TRACE_DEFERRED, false, 1);
    keep(t, 3, TRACE_DELIVERED, true, 1);
    for (uint32_t n = 100; n < 1000; n++)
        keep(t, n, TRACE_DELIVERED, false, 1);
    log_capture(NULL, NULL);
    for (uint32_t n = 1; n <= 3; n++) // a flood of successes takes nothing from these
        assert_int_equal(trace_find(t, (struct message_id){7, n}, 0, on_found, &at), OK);
    assert_int_equal(trace_find(t, (struct message_id){7, 999}, 1, on_found, &at), OK);
    assert_number("at", at.us, 999);
    assert_int_equal(trace_find(t, (struct message_id){7, 999}, 2, on_found, &at), E_NOT_FOUND);
    assert_int_equal(trace_find(t, (struct message_id){7, 100}, 0, on_found, &at), E_NOT_FOUND);
    assert_int_equal(trace_find(t, (struct message_id){7, 950}, 0, on_found, &at), E_NOT_FOUND);
    trace_free(t);
    t = trace_new(1000); // nothing fits
    keep(t, 1, TRACE_FAILED, false, 1);
    assert_int_equal(trace_find(t, (struct message_id){7, 1}, 0, on_found, &at), E_NOT_FOUND);
    trace_free(t);
}

// The last attempt, on whatever shelf; of one recipient, or of any.
static void test_last_attempt(void **state)
{
    (void)state;
    struct trace *t = trace_new(1 << 20);
    struct wall at = {0};
    uint32_t one = 1, two = 2;
    struct trace_attempt a = {.id = {7, 1}, .mx = BYTES("mx.example.org")};
    static char text[1000];
    a.first = bytes_of(text, sizeof text);
    a.numbers_count = 1;
    struct {
        int64_t at;
        enum trace_result result;
        uint32_t *number;
    } ROWS[] = {{10, TRACE_DEFERRED, &one}, {20, TRACE_DELIVERED, &one}, {15, TRACE_FAILED, &two}};
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        a.at.us = ROWS[i].at;
        a.result = ROWS[i].result;
        a.numbers = ROWS[i].number;
        trace_keep(t, &a);
    }
    assert_int_equal(trace_find(t, a.id, 0, on_found, &at), OK);
    assert_number("any", at.us, 20);
    assert_int_equal(trace_find(t, a.id, 2, on_found, &at), OK);
    assert_number("the second", at.us, 15);
    trace_free(t);
}

static void test_watches(void **state)
{
    (void)state;
    struct trace *t = trace_new(1 << 20);
    struct trace_watch list[TRACE_WATCHES_MAX];
    struct wall now = {1000}, later = {2000};
    struct bytes bob = BYTES("Bob@Example.org"), org = BYTES("example.org");
    assert_false(trace_is_watched(t, bob, org, now));
    assert_int_equal(trace_watch_add(t, BYTES("bob@example.ORG"), later), OK);
    assert_true(trace_is_watched(t, bob, org, now));
    assert_false(trace_is_watched(t, BYTES("bobby@example.org"), org, now));
    assert_int_equal(trace_watch_remove(t, bob), OK);
    assert_int_equal(trace_watch_remove(t, bob), E_NOT_FOUND);
    assert_int_equal(trace_watch_add(t, BYTES("@example.org"), later), OK);
    assert_int_equal(trace_watch_add(t, BYTES("@EXAMPLE.org"), (struct wall){3000}), OK);
    assert_number("watches", trace_watches(t, now, list), 1);
    assert_true(trace_is_watched(t, bob, org, later));
    assert_false(trace_is_watched(t, BYTES("x@sub.example.org"), BYTES("sub.example.org"), now));
    assert_false(trace_is_watched(t, bob, org, (struct wall){3000})); // it has ended
    assert_number("watches", trace_watches(t, now, list), 0);
    for (int i = 0; i < TRACE_WATCHES_MAX; i++) {
        char pattern[32];
        snprintf(pattern, sizeof pattern, "@d%d.example", i);
        assert_int_equal(trace_watch_add(t, bytes_cstr(pattern), later), OK);
    }
    assert_int_equal(trace_watch_add(t, bob, later), E_FULL);
    assert_int_equal(trace_watch_add(t, BYTES("@d3.example"), later), OK);
    static char long_pattern[TRACE_PATTERN_MAX + 1];
    assert_int_equal(trace_watch_add(t, bytes_of(long_pattern, sizeof long_pattern), later),
                     E_LIMIT);
    trace_free(t);
}

// Who is watched still is after a restart, but for those whose time was over; a damaged file names nobody.
static void test_watches_over_restarts(void **state)
{
    (void)state;
    char path[] = "/tmp/trace_test.XXXXXX";
    struct trace_watch list[TRACE_WATCHES_MAX];
    close(mkstemp(path));
    struct trace *t = trace_new(1 << 20);
    trace_keep_watches(t, bytes_cstr(path));
    assert_int_equal(trace_watch_add(t, BYTES("bob@example.org"), (struct wall){100}), OK);
    assert_int_equal(trace_watch_add(t, BYTES("\"a b\"@example.org"), (struct wall){300}), OK);
    assert_int_equal(trace_watch_add(t, BYTES("@example.net"), (struct wall){200}), OK);
    assert_int_equal(trace_watch_add(t, BYTES("@gone.example"), (struct wall){200}), OK);
    assert_int_equal(trace_watch_remove(t, BYTES("@gone.example")), OK);
    trace_free(t);
    t = trace_new(1 << 20);
    trace_keep_watches(t, bytes_cstr(path));
    assert_number("watches", trace_watches(t, (struct wall){150}, list), 2);
    assert_string_equal(list[1].pattern, "\"a b\"@example.org");
    assert_number("until", list[0].until.us, 200);
    trace_free(t);
    FILE *f = fopen(path, "we");
    fputs("x y\n\n99999999999999999999 a@b\n 5\n", f);
    fclose(f);
    t = trace_new(1 << 20);
    trace_keep_watches(t, bytes_cstr(path));
    assert_number("watches", trace_watches(t, (struct wall){1}, list), 0);
    trace_free(t);
    unlink(path);
    t = trace_new(1 << 20);
    trace_keep_watches(t, BYTES("/nonexistent/traces"));
    assert_int_equal(trace_watch_add(t, BYTES("@example.net"), (struct wall){200}), E_NOT_FOUND);
    assert_number("watches", trace_watches(t, (struct wall){1}, list), 1);
    trace_free(t);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_lines),   cmocka_unit_test(test_bounds),
    cmocka_unit_test(test_shelves), cmocka_unit_test(test_last_attempt),
    cmocka_unit_test(test_watches), cmocka_unit_test(test_watches_over_restarts),
};

RUN_TESTS(tests)
