// SPDX-License-Identifier: MIT
#include "daemon/channel.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/test_base.h"

#define FDS_LOOKED_AT 64

static int ends[2];

static int setup(void **state)
{
    (void)state;
    return channel_pair(ends) == OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static int open_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < FDS_LOOKED_AT; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

static void test_texts(void **state)
{
    (void)state;
    char *longest = mem_new(CHANNEL_TEXT_MAX + 10);
    memset(longest, 'x', CHANNEL_TEXT_MAX + 9);
    const struct {
        enum channel_kind kind;
        struct bytes text;
        size_t want;
    } rows[] = {{CHANNEL_COMMIT, BYTES_NONE, 0},
                {CHANNEL_READY, BYTES("/run/control.sock"), 17},
                {CHANNEL_REFUSED, bytes_of(longest, CHANNEL_TEXT_MAX - 1), CHANNEL_TEXT_MAX - 1},
                {CHANNEL_REFUSED, bytes_of(longest, CHANNEL_TEXT_MAX + 9), CHANNEL_TEXT_MAX - 1}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_int_equal(channel_send(ends[0], rows[i].kind, rows[i].text, -1), OK);
    for (size_t i = 0; i < COUNT_OF(rows); i++) { // in order, each by itself
        struct channel_message m;
        assert_int_equal(channel_receive(ends[1], &m), OK);
        assert_number("kind", m.kind, rows[i].kind);
        assert_number("descriptor", m.fd, -1);
        assert_bytes("text", bytes_cstr(m.text), bytes_first(rows[i].text, rows[i].want));
    }
    free(longest);
}

static void test_m_contents(void **state)
{
    (void)state;
    static const size_t SIZES[] = {0, 1, 4096, 300000};
    char *bytes = mem_new(300000);
    for (size_t i = 0; i < 300000; i++)
        bytes[i] = (char)(i * 7);
    int before = open_fds();
    for (size_t i = 0; i < COUNT_OF(SIZES); i++) {
        struct channel_message m;
        struct buf got;
        assert_int_equal(
            channel_send_contents(ends[0], CHANNEL_FILE, BYTES("k"), bytes_of(bytes, SIZES[i])),
            OK);
        assert_int_equal(channel_receive(ends[1], &m), OK);
        assert_true(m.fd != -1);
        assert_int_equal(write(m.fd, "x", 1), -1); // sealed: what was checked stays so
        assert_int_equal(fcntl(m.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_int_equal(channel_read_contents(m.fd, 300000, &got), OK);
        assert_bytes("contents", buf_bytes(&got), bytes_of(bytes, SIZES[i]));
        buf_done(&got);
    }
    free(bytes);
    assert_number("descriptors left open", open_fds(), before);
}

static void test_m_contents_too_large(void **state)
{
    (void)state;
    struct channel_message m;
    struct buf got;
    int before = open_fds();
    assert_int_equal(channel_send_contents(ends[0], CHANNEL_FILE, BYTES_NONE, BYTES("12345")), OK);
    assert_int_equal(channel_receive(ends[1], &m), OK);
    assert_int_equal(channel_read_contents(m.fd, 4, &got), E_LIMIT);
    assert_number("descriptors left open", open_fds(), before);
}

static void test_m_malformed(void **state)
{
    (void)state;
    struct channel_message m;
    static const char SHORT[] = {1, 0, 0};
    assert_int_equal(send(ends[0], SHORT, sizeof SHORT, 0), sizeof SHORT);
    assert_int_equal(channel_receive(ends[1], &m), E_IO);
    static const char UNENDED[] = {CHANNEL_READY, 0, 0, 0, 'a', 'b', 'c'};
    assert_int_equal(send(ends[0], UNENDED, sizeof UNENDED, 0), sizeof UNENDED);
    assert_int_equal(channel_receive(ends[1], &m), OK);
    assert_string_equal(m.text, "ab"); // ended whatever was sent
}

// A datagram with so many copies of `fd`.
static void send_descriptors(const char *bytes, size_t len, int fd, size_t count)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(4 * sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)bytes, len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    for (size_t i = 0; i < count; i++)
        memcpy(CMSG_DATA(c) + i * sizeof fd, &fd, sizeof fd);
    assert_int_equal(sendmsg(ends[0], &msg, 0), (ssize_t)len);
}

// Whoever has been taken over sends what no channel_send() would: nothing stays open.
static void test_m_descriptors_nobody_asked_for(void **state)
{
    (void)state;
    struct channel_message m;
    static const char WHOLE[] = {CHANNEL_SIGN, 0, 0, 0, 'x', 0}, SHORT[] = {CHANNEL_SIGN, 0};
    int before = open_fds();
    for (size_t count = 2; count <= 4; count++) {
        send_descriptors(WHOLE, sizeof WHOLE, ends[0], count);
        assert_int_equal(channel_receive(ends[1], &m), OK);
        assert_int_equal(m.fd, -1);
        assert_true(m.cut);
    }
    send_descriptors(SHORT, sizeof SHORT, ends[0], 1);
    assert_int_equal(channel_receive(ends[1], &m), E_IO);
    send_descriptors(SHORT, 0, ends[0], 1);
    assert_int_equal(channel_receive(ends[1], &m), E_CLOSED);
    assert_number("descriptors left open", open_fds(), before);
}

// A descriptor that the process has no number for is lost, and that is told.
static void test_m_no_room_for_a_descriptor(void **state)
{
    (void)state;
    struct channel_message m;
    struct rlimit limit, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(channel_send(ends[0], CHANNEL_LISTENER, BYTES("in"), ends[0]), OK);
    none = (struct rlimit){3, limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int err = channel_receive(ends[1], &m);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(err, OK);
    assert_int_equal(m.fd, -1);
    assert_true(m.cut);
    assert_int_equal(channel_send(ends[0], CHANNEL_LISTENER, BYTES("in"), -1), OK);
    assert_int_equal(channel_receive(ends[1], &m), OK);
    assert_false(m.cut);
}

static void test_gone(void **state)
{
    (void)state;
    struct channel_message m;
    close(ends[0]);
    assert_int_equal(channel_receive(ends[1], &m), E_CLOSED);
    assert_int_equal(channel_send(ends[1], CHANNEL_READY, BYTES("x"), -1), E_CLOSED);
    assert_int_equal(channel_pair(ends), OK);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
    cmocka_unit_test_setup_teardown(test_m_contents, setup, teardown),
    cmocka_unit_test_setup_teardown(test_m_contents_too_large, setup, teardown),
    cmocka_unit_test_setup_teardown(test_m_malformed, setup, teardown),
    cmocka_unit_test_setup_teardown(test_m_descriptors_nobody_asked_for, setup, teardown),
    cmocka_unit_test_setup_teardown(test_m_no_room_for_a_descriptor, setup, teardown),
    cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
};

RUN_TESTS(tests)
