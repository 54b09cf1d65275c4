// SPDX-License-Identifier: MIT
//
// A thread plays the service: it takes one request on a Unix socket and answers with what the row
// says.
#include "cli/control_client.h"

#include <json-c/json.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "cli/cli.h"

static char folder[64], path[96];

struct service {
    int listener;
    const char *answer;
    char request[4096];
    pthread_t thread;
};

static int setup(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/posthaste-control-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/control.sock", folder);
    return 0;
}

static int teardown(void **state)
{
    unlink(path);
    return rmdir(folder);
}

// A request is whole when its header has ended and as much of a body has come as it said.
static bool is_whole(const char *text)
{
    const char *end = strstr(text, "\r\n\r\n"), *length = strstr(text, "Content-Length: ");
    return end && (!length || strlen(end + 4) >= strtoul(length + 16, NULL, 10));
}

// The service tells the length of what it answers.
static void add_length(const char *answer, struct buf *out)
{
    const char *end = strstr(answer, "\r\n\r\n");
    if (end && !strstr(answer, "Content-Length: "))
        buf_printf(out, "%.*s\r\nContent-Length: %zu%s", (int)(end - answer), answer,
                   strlen(end + 4), end);
    else
        buf_add_cstr(out, answer);
}

static void *serve(void *arg)
{
    struct service *s = arg;
    int fd = accept(s->listener, NULL, NULL);
    size_t len = 0;
    ssize_t n;
    while (!is_whole(s->request) && len + 1 < sizeof s->request &&
           (n = read(fd, s->request + len, sizeof s->request - 1 - len)) > 0)
        len += (size_t)n;
    struct buf answer = {0};
    add_length(s->answer, &answer);
    for (size_t at = 0; at < answer.len; at += (size_t)n)
        if ((n = send(fd, answer.at + at, answer.len - at, MSG_NOSIGNAL)) <= 0)
            break;
    buf_done(&answer);
    close(fd);
    return NULL;
}

static void start(struct service *s, const char *answer)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *s = (struct service){.listener = socket(AF_UNIX, SOCK_STREAM, 0), .answer = answer};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(s->listener, 1), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct service *s)
{
    pthread_join(s->thread, NULL);
    close(s->listener);
}

#define ANSWER(status, body)                                                                       \
    "HTTP/1.1 " status "\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" body

static void test_request(void **state)
{
    static const struct {
        const char *answer;
        long status;
        int exit;
        const char *says; // of an error
    } cases[] = {
        {ANSWER("200 OK", "{\"changed\":true,\"result\":{}}"), 200, CLI_OK, NULL},
        {ANSWER("404 Not Found", "{\"error\":\"there is no account 'x'\"}"), 404, CLI_NOT_FOUND,
         "there is no account 'x'"},
        {ANSWER("409 Conflict", "{\"error\":\"a\\u001b[31mb\"}"), 409, CLI_DATA, "a\\x1b[31mb"},
        {ANSWER("404 Not Found", "{\"error\":\"there is no account \\\"x\\\"\"}"), 404,
         CLI_NOT_FOUND, "there is no account \"x\""},
        {ANSWER("422 Bad", "{\"error\":\"f:1: error: a\\n\\nf:2: error: b\\n\"}"), 422, CLI_DATA,
         "f:1: error: a\nf:2: error: b"},
        {ANSWER("403 Forbidden", "{}"), 403, CLI_PERMISSION, "status 403"},
        {ANSWER("503 Busy", "<html>"), 503, CLI_TEMPORARY, "status 503"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct service s;
        struct control_reply reply;
        struct buf error = {0};
        struct json_object *body = json_tokener_parse("{\"op\":\"account.list\"}");
        start(&s, cases[i].answer);
        assert_int_equal(control_request(bytes_cstr(path), "/v1/store", body, &reply, &error), 0);
        stop(&s);
        assert_true(bytes_starts(bytes_cstr(s.request), BYTES("POST /v1/store HTTP/1.1\r\n")));
        assert_true(bytes_ends(bytes_cstr(s.request), BYTES("\r\n\r\n{\"op\":\"account.list\"}")));
        assert_int_equal(reply.status, cases[i].status);
        assert_int_equal(control_reply_exit(&reply), cases[i].exit);
        if (cases[i].says) {
            control_reply_error(&reply, &error);
            if (bytes_search(buf_bytes(&error), bytes_cstr(cases[i].says)) < 0)
                fail_msg("%s", buf_cstr(&error));
        }
        json_object_put(reply.body);
        json_object_put(body);
        buf_done(&error);
    }
}

static bool keep_lines(void *ctx, struct bytes line)
{
    struct buf *lines = ctx;
    buf_printf(lines, "<%.*s>", BYTES_FMT(line));
    return !bytes_eq(line, BYTES("stop"));
}

static void test_stream(void **state)
{
    static const struct {
        const char *answer, *lines;
        long status;
    } cases[] = {
        {ANSWER("200 OK", "{\"a\":1}\n{\"b\":2}\n"), "<{\"a\":1}><{\"b\":2}>", 200},
        {ANSWER("200 OK", "one\nstop\nthree\n"), "<one><stop>", 200},
        {ANSWER("200 OK", ""), "", 200},
        {ANSWER("400 Bad", "{\"error\":\"no\"}\n"), "", 400},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct service s;
        struct control_reply reply;
        struct buf lines = {0}, error = {0};
        start(&s, cases[i].answer);
        assert_int_equal(control_stream(bytes_cstr(path), "/v1/events?after=x", keep_lines, &lines,
                                        &reply, &error),
                         0);
        stop(&s);
        assert_true(bytes_starts(bytes_cstr(s.request), BYTES("GET /v1/events?after=x HTTP")));
        assert_string_equal(buf_cstr(&lines), cases[i].lines);
        assert_int_equal(reply.status, cases[i].status);
        json_object_put(reply.body);
        buf_done(&lines);
        buf_done(&error);
    }
}

// A message to 5,000 recipients is one line of over a megabyte.
static void test_a_long_line(void **state)
{
    enum { LONG = 3 << 20 };
    struct buf answer = {0}, lines = {0}, error = {0};
    struct control_reply reply;
    struct service s;
    buf_add_cstr(&answer, ANSWER("200 OK", ""));
    for (size_t i = 0; i < LONG; i++)
        buf_add_byte(&answer, (char)('a' + i % 26));
    buf_add_cstr(&answer, "\nshort\n");
    start(&s, buf_cstr(&answer));
    int err = control_stream(bytes_cstr(path), "/v1/messages?recipient=x", keep_lines, &lines,
                             &reply, &error);
    stop(&s);
    if (err)
        fail_msg("%s", buf_cstr(&error));
    assert_int_equal(reply.status, 200);
    assert_int_equal(lines.len, LONG + strlen("<><short>"));
    assert_true(bytes_ends(buf_bytes(&lines), BYTES("><short>")));
    buf_done(&answer);
    buf_done(&lines);
    buf_done(&error);
}

static void test_nobody_there(void **state)
{
    struct control_reply reply;
    struct buf error = {0};
    assert_int_equal(control_request(bytes_cstr(path), "/", NULL, &reply, &error), E_CLOSED);
    assert_true(bytes_search(buf_bytes(&error), BYTES("posthaste is not running")) >= 0);
    struct service s; // a socket that a dead service left behind
    start(&s, "");
    shutdown(s.listener, SHUT_RDWR);
    stop(&s);
    assert_int_equal(control_request(bytes_cstr(path), "/", NULL, &reply, &error), E_CLOSED);
    buf_done(&error);
}

static void test_an_answer_that_breaks_off(void **state)
{
    struct service s;
    struct control_reply reply;
    struct buf error = {0};
    start(&s, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
    assert_int_equal(control_request(bytes_cstr(path), "/", NULL, &reply, &error), E_IO);
    stop(&s);
    assert_null(reply.body);
    start(&s, "HTTP/1.1 200 OK\r\nContent-Le"); // in its header
    assert_int_equal(control_request(bytes_cstr(path), "/", NULL, &reply, &error), E_IO);
    stop(&s);
    buf_done(&error);
}

static void test_encode(void **state)
{
    struct buf out = {0};
    control_add_encoded(&out, BYTES("a b/c?d=e&f%\xc3\xbc~-._Z9\n"));
    assert_string_equal(buf_cstr(&out), "a%20b%2Fc%3Fd%3De%26f%25%C3%BC~-._Z9%0A");
    buf_done(&out);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest all[] = {
        TEST(test_request),
        TEST(test_stream),
        TEST(test_a_long_line),
        TEST(test_nobody_there),
        TEST(test_an_answer_that_breaks_off),
        TEST(test_encode),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
