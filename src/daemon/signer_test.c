// SPDX-License-Identifier: MIT
//
// A loop's line to the signer; the test is guard and signer.
#include "daemon/signer.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/test_base.h"
#include "daemon/channel.h"
#include "daemon/sign_wire.h"
#include "sys/sys_test_loop.h"

// A line lives as long as the process: leaks mean nothing here.
int __lsan_is_turned_off(void); // NOLINT(bugprone-reserved-identifier): its name is the sanitizer's
int __lsan_is_turned_off(void)  // NOLINT(bugprone-reserved-identifier)
{
    return 1;
}

#define PATIENCE_MS 60000
#define CHEAP (SIGN_WIRE_BATCH + 2)

static struct sys_loop *loop;
static int channel[2];

struct asker {
    struct sign_request request;
    char got[8];
    sem_t done;
};
static struct asker askers[CHEAP + 2];
static atomic_int told;

static void on_done(struct sign_request *r, struct bytes answer)
{
    struct asker *a = container_of(r, struct asker, request);
    if (answer.len < sizeof a->got)
        memcpy(a->got, answer.at ? answer.at : "", answer.len);
    told++;
    sem_post(&a->done);
}

static void ask(struct asker *a, enum sign_kind kind, const char *input)
{
    *a = (struct asker){
        .request = {.kind = kind, .key = 5, .input = bytes_cstr(input), .done = on_done}};
    sem_init(&a->done, 0, 0);
    assert_true(sign_ask(&a->request));
}

static void open_line(void *ctx)
{
    (void)ctx;
    assert_int_equal(signer_open(channel[0]), OK);
}

// One turn: two more than a datagram takes, and two of RSA.
static void ask_many(void *ctx)
{
    (void)ctx;
    for (int i = 0; i < CHEAP; i++)
        ask(&askers[i], i % 2 ? SIGN_ECDSA : SIGN_ED25519, "cheap");
    ask(&askers[CHEAP], SIGN_RSA_PKCS1, "dear");
    ask(&askers[CHEAP + 1], SIGN_RSA_PSS, "dear");
}

static void ask_one(void *ctx)
{
    (void)ctx;
    ask(&askers[0], SIGN_ED25519, "cheap");
}

static int take_line(void)
{
    struct channel_message m;
    assert_int_equal(channel_receive(channel[1], &m), OK);
    assert_int_equal(m.kind, CHANNEL_SIGN);
    assert_true(m.fd != -1);
    return m.fd;
}

// A datagram of `count` requests for `input`; returns the answers, "a" for each.
static size_t hear(int line, int count, const char *input, char *out)
{
    char in[SIGN_WIRE_REQUESTS_MAX];
    struct pollfd p = {.fd = line, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    ssize_t n = recv(line, in, sizeof in, 0);
    size_t size = SIGN_WIRE_REQUEST_HEAD + strlen(input), len = 0;
    assert_int_equal(n, (size_t)count * size);
    for (int i = 0; i < count; i++) {
        struct sign_wire_request r;
        struct sign_wire_answer a = {.state = SIGN_DONE, .len = 1, .bytes = "a"};
        memcpy(&r, in + (size_t)i * size, size);
        assert_true(r.key == 5 && r.len == strlen(input) && r.sealed_len == 0);
        assert_memory_equal(r.parts, input, r.len);
        a.id = r.id;
        memcpy(out + len, &a, SIGN_WIRE_ANSWER_HEAD + 1);
        len += SIGN_WIRE_ANSWER_HEAD + 1;
    }
    return len;
}

static void say(int line, const char *answers, size_t len)
{
    assert_int_equal(send(line, answers, len, 0), len);
}

// What a turn asks goes in as few datagrams as may be, RSA alone; and what comes in one is answered at once.
static void test_batches(void **state)
{
    int line = *(int *)*state;
    char answers[4][SIGN_WIRE_ANSWERS_MAX];
    test_on_loop(loop, ask_many, NULL);
    size_t first = hear(line, SIGN_WIRE_BATCH, "cheap", answers[0]);
    size_t second = hear(line, 2, "cheap", answers[1]);
    size_t third = hear(line, 1, "dear", answers[2]);
    size_t fourth = hear(line, 1, "dear", answers[3]);
    say(line, answers[3], fourth);
    say(line, answers[2], third);
    say(line, answers[1], second);
    say(line, answers[0], first - 1); // the last one is cut off: not taken
    for (int i = 0; i < CHEAP + 2; i++)
        if (i != SIGN_WIRE_BATCH - 1)
            assert_true(test_wait(&askers[i].done));
    assert_int_equal(told, CHEAP + 1);
    say(line, answers[0], first); // those that were answered are ignored
    assert_true(test_wait(&askers[SIGN_WIRE_BATCH - 1].done));
    assert_int_equal(told, CHEAP + 2);
    for (int i = 0; i < CHEAP + 2; i++)
        assert_string_equal(askers[i].got, "a");
}

// The signer ends with a request under way: it is asked again over another line.
static void test_another_line(void **state)
{
    int *line = *state;
    char answers[SIGN_WIRE_ANSWERS_MAX];
    test_on_loop(loop, ask_one, NULL);
    hear(*line, 1, "cheap", answers);
    close(*line);
    *line = take_line();
    size_t len = hear(*line, 1, "cheap", answers);
    say(*line, answers, len);
    assert_true(test_wait(&askers[0].done));
    assert_string_equal(askers[0].got, "a");
}

// There are no descriptors for another line: what is asked is refused in time all the same, until there is one.
static void test_no_line(void **state)
{
    int *line = *state;
    char answers[SIGN_WIRE_ANSWERS_MAX];
    struct rlimit before, low = {0};
    struct mono asked = sys_mono_now();
    test_on_loop(loop, ask_one, NULL);
    hear(*line, 1, "cheap", answers);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    close(*line);
    assert_true(test_wait(&askers[0].done));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_in_range(mono_ms_between(asked, sys_mono_now()), SIGNER_PATIENCE_MS, PATIENCE_MS / 2);
    assert_string_equal(askers[0].got, "");
    *line = take_line();
}

static int setup(void **state)
{
    static int line;
    assert_int_equal(channel_pair(channel), OK);
    loop = sys_loop_start("test");
    test_on_loop(loop, open_line, NULL);
    line = take_line();
    *state = &line;
    return 0;
}

static int teardown(void **state)
{
    sys_loop_stop(loop);
    close(*(int *)*state);
    close(channel[0]);
    close(channel[1]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_another_line),
        cmocka_unit_test(test_no_line),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
