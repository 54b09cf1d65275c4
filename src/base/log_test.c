// SPDX-License-Identifier: MIT
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/test_base.h"

static struct buf seen;
static int lines;

static void capture(void *ctx, struct bytes line)
{
    buf_clear(&seen);
    buf_add(&seen, line);
    lines++;
}

static int setup(void **state)
{
    lines = 0;
    log_capture(capture, NULL);
    return 0;
}

static int teardown(void **state)
{
    log_capture(NULL, NULL);
    log_setup(LOG_INFO, LOG_TEXT);
    buf_done(&seen);
    return 0;
}

// The captured line without its time, which must be one.
static struct bytes line_without(struct bytes before, struct bytes after)
{
    struct bytes line = buf_bytes(&seen);
    struct wall t;
    assert_true(bytes_starts(line, before));
    line = bytes_skip(line, before.len);
    assert_int_equal(wall_parse(bytes_first(line, 24), &t), OK);
    line = bytes_skip(line, 24);
    assert_true(bytes_starts(line, after));
    return bytes_skip(line, after.len);
}

static void f_text_lines(void **state)
{
    static const struct {
        const char *name;
        struct bytes value;
        const char *want;
    } rows[] = {
        {"plain", BYTES("01ABC"), "v=01ABC"},
        {"empty", BYTES(""), "v=\"\""},
        {"space", BYTES("a b"), "v=\"a b\""},
        {"equals", BYTES("a=b"), "v=\"a=b\""},
        {"quote", BYTES("a\"b"), "v=\"a\\\"b\""},
        {"line end", BYTES("a\r\nFAKE"), "v=\"a\\r\\nFAKE\""},
        {"escape sequence", BYTES("\x1b[2J"), "v=\"\\x1b[2J\""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        log_info("a text", LOG_STR("v", rows[i].value), LOG_INT("n", -5));
        struct bytes rest = line_without(BYTES_NONE, BYTES(" info a text "));
        assert_true(bytes_ends(rest, BYTES(" n=-5")));
        rest.len -= 5;
        assert_bytes(rows[i].name, rest, bytes_cstr(rows[i].want));
    }
    log_error("alone");
    assert_bytes("no fields", line_without(BYTES_NONE, BYTES(" error alone")), BYTES_NONE);
    log_warn("odd", LOG_ERR(E_BUSY), LOG_CSTR("nothing", NULL));
    assert_bytes("error", line_without(BYTES_NONE, BYTES(" warn odd ")),
                 BYTES("error=\"in use by another\" nothing=\"\""));
}

static void f_json_lines(void **state)
{
    log_setup(LOG_INFO, LOG_JSON);
    log_info("x", LOG_STR("v", BYTES("a\"\n\xff")), LOG_INT("n", INT64_MIN));
    assert_bytes(
        "json", line_without(BYTES("{\"at\":\""), BYTES("\",\"level\":\"info\",")),
        BYTES("\"text\":\"x\",\"v\":\"a\\\"\\n\xef\xbf\xbd\",\"n\":-9223372036854775808}"));
}

static void levels(void **state)
{
    log_debug("not shown");
    assert_int_equal(lines, 0);
    log_setup(LOG_ERROR, LOG_TEXT);
    log_warn("not shown");
    assert_int_equal(lines, 0);
    log_error("shown");
    assert_int_equal(lines, 1);
    log_setup(LOG_DEBUG, LOG_TEXT);
    log_debug("shown");
    assert_int_equal(lines, 2);
}

static void long_values_and_lines_are_bounded(void **state)
{
    static char text[LOG_VALUE_MAX + 100];
    memset(text, 'a', sizeof(text));
    struct bytes s = bytes_of(text, sizeof(text));
    log_info("x", LOG_STR("v", s));
    assert_int_equal(seen.len, 24 + sizeof(" info x v=") - 1 + LOG_VALUE_MAX + 3);
    memset(text, 1, sizeof(text)); // four characters each
    log_setup(LOG_INFO, LOG_JSON);
    log_info("x", LOG_STR("a", s), LOG_STR("b", s), LOG_STR("c", s), LOG_STR("d", s),
             LOG_STR("e", s), LOG_STR("f", s), LOG_STR("g", s));
    assert_true(seen.len < 17000);
    assert_true(bytes_ends(buf_bytes(&seen), BYTES("...\"}"))); // still one object
    log_setup(LOG_INFO, LOG_TEXT);
    log_info("x", LOG_STR("a", s), LOG_STR("b", s), LOG_STR("c", s), LOG_STR("d", s),
             LOG_STR("e", s), LOG_STR("f", s), LOG_STR("g", s), LOG_STR("h", s), LOG_STR("i", s));
    assert_true(seen.len < 17000);
}

// ---- what is written, and when ----------------------------------------------------------------

struct reader {
    int fd, stderr_before;
};

// What has come out since the last look.
static const char *come_out(const struct reader *r)
{
    static char text[4 * LOG_HELD_MAX];
    ssize_t n = read(r->fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static struct reader read_stderr(void)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    struct reader r = {ends[0], dup(STDERR_FILENO)};
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    return r;
}

static size_t lines_of(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += *text == '\n';
    return count;
}

static void *hold_lines(void *arg)
{
    struct reader *r = arg;
    log_hold();
    log_info("one");
    log_info("two");
    assert_string_equal(come_out(r), "");
    log_flush();
    assert_int_equal(lines_of(come_out(r)), 2);
    log_info("three");
    log_error("four"); // not later than what it may be about
    assert_int_equal(lines_of(come_out(r)), 2);
    for (int i = 0; i < 100; i++) // more than are held
        log_info("five", LOG_CSTR("filler", "----------------------------------------"));
    assert_in_range(lines_of(come_out(r)), 30, 99);
    log_flush();
    return NULL;
}

static void held_lines(void **state)
{
    struct reader r = read_stderr();
    pthread_t thread;
    log_capture(NULL, NULL);
    log_setup(LOG_INFO, LOG_TEXT);
    log_info("at once");
    size_t at_once = lines_of(come_out(&r));
    assert_int_equal(pthread_create(&thread, NULL, hold_lines, &r), 0);
    pthread_join(thread, NULL);
    dup2(r.stderr_before, STDERR_FILENO);
    close(r.stderr_before);
    close(r.fd);
    assert_int_equal(at_once, 1);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(f_text_lines, setup, teardown),
    cmocka_unit_test_setup_teardown(f_json_lines, setup, teardown),
    cmocka_unit_test_setup_teardown(levels, setup, teardown),
    cmocka_unit_test_setup_teardown(long_values_and_lines_are_bounded, setup, teardown),
    cmocka_unit_test(held_lines),
};
RUN_TESTS(tests)
