// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <fcntl.h>
#include <malloc.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "sys/sys_sockaddr.h"
#include "sys/sys_test_loop.h"

// ---- the other side, with plain blocking sockets ----------------------------------------------

static int listen_on(const char *text, struct sys_addr *out)
{
    struct sockaddr_storage sockaddr;
    assert_int_equal(sys_addr_parse(bytes_cstr(text), out), OK);
    socklen_t len = sys_addr_to_sockaddr(out, &sockaddr);
    int fd = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sockaddr, len), 0);
    assert_int_equal(listen(fd, 1000), 0);
    if (out->kind != SYS_ADDR_UNIX) {
        assert_int_equal(getsockname(fd, (struct sockaddr *)&sockaddr, &len), 0);
        sys_addr_from_sockaddr(&sockaddr, len, out);
    }
    return fd;
}

static int connect_to(const struct sys_addr *to)
{
    struct sockaddr_storage sockaddr;
    socklen_t len = sys_addr_to_sockaddr(to, &sockaddr);
    int fd = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sockaddr, len), 0);
    return fd;
}

static int accept_blocking(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0 && errno == EAGAIN)
        usleep(1000);
    assert_true(fd >= 0);
    return fd;
}

static void write_all(int fd, const char *at, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, at, n);
        assert_true(done > 0);
        at += done;
        n -= (size_t)done;
    }
}

// ---- our side ---------------------------------------------------------------------------------

enum behaviour { ECHO, HOLD, CLOSE_AT_ONCE, REPLY_AND_CLOSE, ABORT_AT_ONCE };

struct side {
    struct sys_loop *loop;
    struct sys_listener *listener;
    struct sys_stream *stream;
    struct sys_addr to, from;
    bool has_from;
    enum behaviour behaviour;
    int connected, ended, err, drained, accepted;
    size_t received;
    bool closed; // nothing may be told after this
    char last[64];
    sem_t event;
};

static void side_connected(void *ctx)
{
    struct side *side = ctx;
    CHECK(!side->closed);
    side->connected++;
    sem_post(&side->event);
}

static void side_data(void *ctx, struct bytes data)
{
    struct side *side = ctx;
    CHECK(!side->closed && data.len > 0);
    side->received += data.len;
    snprintf(side->last, sizeof side->last, "%.*s", (int)(data.len < 60 ? data.len : 60), data.at);
    if (side->behaviour == ECHO)
        sys_stream_write(side->stream, data);
    if (side->behaviour == REPLY_AND_CLOSE) {
        sys_stream_write(side->stream, BYTES("421 bye\r\n"));
        side->closed = true;
        sys_stream_close(side->stream, false);
    }
}

static void side_drained(void *ctx)
{
    struct side *side = ctx;
    CHECK(!side->closed);
    side->drained++;
    sem_post(&side->event);
}

static void side_end(void *ctx, int err)
{
    struct side *side = ctx;
    CHECK(!side->closed);
    side->ended++;
    side->err = err;
    side->closed = true;
    sys_stream_close(side->stream, false);
    sem_post(&side->event);
}

static const struct sys_stream_events side_events = {side_connected, side_data, side_drained,
                                                     side_end};

static void side_accept(void *ctx, struct sys_stream *s)
{
    struct side *side = ctx;
    side->accepted++;
    side->stream = s;
    side->closed = false;
    if (side->behaviour == CLOSE_AT_ONCE || side->behaviour == ABORT_AT_ONCE) {
        side->closed = true;
        sys_stream_close(s, side->behaviour == ABORT_AT_ONCE);
    } else {
        sys_stream_set_events(s, &side_events, side);
    }
    sem_post(&side->event);
}

static int listener_fd;
static void open_listener(void *ctx)
{
    struct side *side = ctx;
    side->listener = sys_listener_open(listener_fd, side_accept, side);
}

static void close_listener(void *ctx)
{
    sys_listener_close(((struct side *)ctx)->listener);
}

static void start_connect(void *ctx)
{
    struct side *side = ctx;
    int before = side->connected + side->ended;
    side->stream =
        sys_stream_connect(&side->to, side->has_from ? &side->from : NULL, &side_events, side);
    CHECK(side->connected + side->ended == before); // not from inside
}

static void start_side(struct side *side, enum behaviour behaviour)
{
    *side = (struct side){.behaviour = behaviour};
    sem_init(&side->event, 0, 0);
    side->loop = sys_loop_start("side");
}

static void serve(struct side *side, const char *on, enum behaviour behaviour)
{
    start_side(side, behaviour);
    listener_fd = listen_on(on, &side->to);
    test_on_loop(side->loop, open_listener, side);
}

// ---- tests ------------------------------------------------------------------------------------

static void echoes(const char *on)
{
    struct side server;
    serve(&server, on, ECHO);
    int fd = connect_to(&server.to);
    static char text[300000], back[300000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7 + i / 1000);
    size_t sent = 0, got = 0;
    while (got < sizeof text) { // in lockstep, so that neither side's buffers fill up for ever
        size_t part = sizeof text - sent < 10000 ? sizeof text - sent : 10000;
        write_all(fd, text + sent, part);
        sent += part;
        while (got < sent) {
            ssize_t n = read(fd, back + got, sent - got);
            assert_true(n > 0);
            got += (size_t)n;
        }
    }
    assert_memory_equal(text, back, sizeof text);
    assert_int_equal(sem_wait(&server.event), 0); // accepted
    close(fd);
    assert_true(test_wait(&server.event));
    assert_int_equal(server.err, E_CLOSED);
    sys_loop_stop(server.loop);
}

static void echoes_ip4(void **state)
{
    echoes("127.0.0.1:0");
}

static void echoes_unix(void **state)
{
    char path[64];
    snprintf(path, sizeof path, "unix:/tmp/sys_uv_stream_test.%d", getpid());
    echoes(path);
    unlink(path + 5);
}

static struct sys_addr peer_seen, local_seen;
static void look_at_addresses(void *ctx)
{
    struct side *side = ctx;
    peer_seen = *sys_stream_peer(side->stream);
    local_seen = *sys_stream_local(side->stream);
}

static void connects_from(void **state)
{
    struct side server, client;
    serve(&server, "127.0.0.1:0", HOLD);
    start_side(&client, HOLD);
    client.to = server.to;
    client.has_from = true;
    assert_int_equal(sys_addr_parse(BYTES("127.0.0.77:0"), &client.from), OK);
    test_on_loop(client.loop, start_connect, &client);
    assert_true(test_wait(&client.event) && test_wait(&server.event));
    char text[SYS_ADDR_TEXT];
    test_on_loop(server.loop, look_at_addresses, &server);
    assert_string_equal(sys_addr_format_ip(&peer_seen, text), "127.0.0.77");
    assert_true(sys_addr_eq(&local_seen, &server.to));
    test_on_loop(client.loop, look_at_addresses, &client);
    assert_string_equal(sys_addr_format_ip(&local_seen, text), "127.0.0.77");
    assert_true(local_seen.port != 0);
    sys_loop_stop(client.loop); // what is left open is closed
    assert_true(test_wait(&server.event));
    assert_int_equal(server.err, E_CLOSED);
    sys_loop_stop(server.loop);
}

struct fail_row {
    const char *to, *from;
    int err;
};

static void connect_fails(void **state)
{
    static const struct fail_row rows[] = {
        {"127.0.0.1:1", NULL, E_REFUSED},
        {"unix:/nonexistent/socket", NULL, E_REFUSED},
        {"127.0.0.1:1", "192.0.2.1:0", E_UNREACHABLE}, // not an address of ours
        {"127.0.0.1:1", "[::1]:0", E_UNREACHABLE},     // families do not mix
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct side client;
        start_side(&client, HOLD);
        assert_int_equal(sys_addr_parse(bytes_cstr(rows[i].to), &client.to), OK);
        client.has_from = rows[i].from != NULL;
        if (client.has_from)
            assert_int_equal(sys_addr_parse(bytes_cstr(rows[i].from), &client.from), OK);
        test_on_loop(client.loop, start_connect, &client);
        assert_true(test_wait(&client.event));
        assert_int_equal(client.err, rows[i].err);
        assert_int_equal(client.connected, 0);
        sys_loop_stop(client.loop);
    }
    struct side nowhere; // SYS_ADDR_NONE
    start_side(&nowhere, HOLD);
    test_on_loop(nowhere.loop, start_connect, &nowhere);
    assert_true(test_wait(&nowhere.event));
    assert_int_equal(nowhere.err, E_UNREACHABLE);
    sys_loop_stop(nowhere.loop);
}

static void connect_and_close(void *ctx)
{
    struct side *side = ctx;
    for (int i = 0; i < 50; i++) {
        start_connect(side);
        side->closed = true; // any callback fails its CHECK
        sys_stream_close(side->stream, i % 2 == 0);
    }
}

static void no_callback_after_close(void **state)
{
    struct side server, client;
    serve(&server, "127.0.0.1:0", CLOSE_AT_ONCE);
    start_side(&client, HOLD);
    client.to = server.to;
    test_on_loop(client.loop, connect_and_close, &client);
    client.to.port = 1;
    test_on_loop(client.loop, connect_and_close, &client);
    usleep(50000);
    sys_loop_stop(client.loop);
    sys_loop_stop(server.loop);
    assert_int_equal(client.connected + client.ended, 0);
}

// A side that is connected; the other end, which blocks, and what it came to.
static int connect_to_blocking(struct side *side, int *out_listener)
{
    struct sys_addr to;
    *out_listener = listen_on("127.0.0.1:0", &to);
    start_side(side, HOLD);
    side->to = to;
    test_on_loop(side->loop, start_connect, side);
    int fd = accept_blocking(*out_listener);
    assert_true(test_wait(&side->event));
    return fd;
}

static void told_of_reset(void **state)
{
    struct side client;
    int listener, fd = connect_to_blocking(&client, &listener);
    struct linger hard = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
    assert_true(test_wait(&client.event));
    assert_int_equal(client.err, E_IO);
    sys_loop_stop(client.loop);
    close(listener);
}

static void write_much(void *ctx)
{
    struct side *side = ctx;
    static char part[100000];
    memset(part, 'x', sizeof part);
    struct chain chain = {0};
    for (int i = 0; i < 100; i++) {
        chain_add(&chain, bytes_of(part, sizeof part));
        if (i % 2)
            sys_stream_write_chain(side->stream, &chain);
        sys_stream_write(side->stream, bytes_of(part, sizeof part));
    }
    CHECK(chain.len == 0);
    CHECK(sys_stream_pending(side->stream) > 0);
}

static void write_little(void *ctx)
{
    sys_stream_write(((struct side *)ctx)->stream, BYTES("EHLO\r\n"));
}

static void write_and_close(void *ctx)
{
    struct side *side = ctx;
    write_much(ctx);
    side->closed = true;
    sys_stream_close(side->stream, false);
}

static size_t read_to_end(int fd)
{
    static char drop[65536];
    size_t total = 0;
    ssize_t n;
    while ((n = read(fd, drop, sizeof drop)) > 0)
        total += (size_t)n;
    return n == 0 ? total : 0;
}

static void drains_and_flushes(void **state)
{
    struct side client;
    int listener, fd = connect_to_blocking(&client, &listener);
    test_on_loop(client.loop, write_much, &client);
    static char drop[65536];
    for (size_t total = 0; total < 20000000;) {
        ssize_t n = read(fd, drop, sizeof drop);
        assert_true(n > 0);
        total += (size_t)n;
    }
    assert_true(test_wait(&client.event));
    assert_true(client.drained >= 1);
    test_on_loop(client.loop, write_and_close, &client);
    assert_int_equal(read_to_end(fd), 20000000); // closing in order loses nothing
    close(fd);
    close(listener);
    sys_loop_stop(client.loop);
}

// Until the kernel takes no more.
static void write_full(void *ctx)
{
    struct side *side = ctx;
    static char part[65536];
    while (sys_stream_pending(side->stream) == 0)
        sys_stream_write(side->stream, bytes_of(part, sizeof part));
}

#define REPLIES 2000
#define REPLY_BYTES 40
static char replies[REPLIES * REPLY_BYTES + 1];
static size_t reply_count;
static void write_reply(void *ctx)
{
    struct chain chain = {0};
    char *reply = replies + reply_count * REPLY_BYTES;
    snprintf(reply, REPLY_BYTES + 1, "250 2.0.0 reply %022zu\r\n", reply_count++);
    chain_add(&chain, bytes_of(reply, REPLY_BYTES));
    sys_stream_write_chain(((struct side *)ctx)->stream, &chain);
}

static void check_replies(int fd)
{
    static char got[32 << 20];
    size_t len = 0;
    for (ssize_t n; (n = read(fd, got + len, sizeof got - len)) > 0;)
        len += (size_t)n;
    assert_in_range(len, sizeof replies, sizeof got - 1);
    assert_memory_equal(got + len - (sizeof replies - 1), replies, sizeof replies - 1);
}

static size_t pending_now;
static void look_at_pending(void *ctx)
{
    pending_now = sys_stream_pending(((struct side *)ctx)->stream);
}

// 0: the sanitizers don't say.
static size_t heap_bytes(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#else
    return mallinfo2().uordblks;
#endif
}

// A peer that reads nothing, and is written to a little in each turn: what waits takes the memory of its bytes.
static void gathers_what_waits(void **state)
{
    struct side client;
    int listener, fd = connect_to_blocking(&client, &listener);
    size_t before = heap_bytes();
    test_on_loop(client.loop, write_full, &client);
    for (int i = 0; i < REPLIES; i++)
        test_on_loop(client.loop, write_reply, &client);
    test_on_loop(client.loop, look_at_pending, &client);
    assert_in_range(pending_now, REPLIES, 65536 + REPLIES * REPLY_BYTES);
    if (before > 0)
        assert_in_range(heap_bytes() - before, pending_now, 4 * pending_now + 65536);
    shutdown(fd, SHUT_WR);
    check_replies(fd);
    close(fd);
    close(listener);
    sys_loop_stop(client.loop);
}

// The client has sent more than we read: our last words must arrive all the same, not a reset.
static void last_words_arrive(void **state)
{
    struct side server;
    serve(&server, "127.0.0.1:0", REPLY_AND_CLOSE);
    for (int i = 0; i < 20; i++) {
        int fd = connect_to(&server.to);
        static char much[400000];
        write_all(fd, much, sizeof much);
        char reply[64] = "";
        size_t got = 0;
        for (ssize_t n; (n = read(fd, reply + got, sizeof reply - 1 - got)) != 0; got += (size_t)n)
            assert_true(n > 0);
        assert_string_equal(reply, "421 bye\r\n");
        close(fd);
    }
    sys_loop_stop(server.loop);
}

// The peer answers and resets while we write: its answer is read before the end is told.
static void reply_before_reset(void **state)
{
    struct side client;
    int listener, fd = connect_to_blocking(&client, &listener);
    test_on_loop(client.loop, write_much, &client);
    write_all(fd, "421 full\r\n", 10);
    close(fd); // with unread input: the kernel sends a reset
    assert_true(test_wait(&client.event));
    while (client.ended == 0)
        assert_true(test_wait(&client.event));
    assert_string_equal(client.last, "421 full\r\n");
    sys_loop_stop(client.loop);
    close(listener);
}

static sem_t peer_may_reset, peer_has_reset;
static void write_into_reset(void *ctx)
{
    struct side *side = ctx;
    sem_post(&peer_may_reset);
    CHECK(test_wait(&peer_has_reset));
    usleep(20000);
    for (int i = 0; i < 3; i++)
        sys_stream_write(side->stream, BYTES("MAIL FROM:<>\r\n")); // fails at once
}

// The same, found out by a write in the turn that does not know of the reset yet.
static void reply_before_failed_write(void **state)
{
    struct side client;
    int listener, fd = connect_to_blocking(&client, &listener);
    sem_init(&peer_may_reset, 0, 0);
    sem_init(&peer_has_reset, 0, 0);
    test_on_loop(client.loop, write_little, &client); // unread by the peer: its close is a reset
    struct test_call call = {.task.run = test_call_run, .fn = write_into_reset, .ctx = &client};
    sem_init(&call.done, 0, 0);
    sys_post(client.loop, &call.task);
    assert_true(test_wait(&peer_may_reset));
    usleep(10000);
    write_all(fd, "421 full\r\n", 10);
    close(fd);
    sem_post(&peer_has_reset);
    assert_true(test_wait(&call.done));
    assert_true(test_wait(&client.event));
    assert_string_equal(client.last, "421 full\r\n");
    assert_int_equal(client.err, E_IO);
    sys_loop_stop(client.loop);
    close(listener);
}

static void pause_reading(void *ctx)
{
    sys_stream_read(((struct side *)ctx)->stream, false);
}

static void resume_reading(void *ctx)
{
    sys_stream_read(((struct side *)ctx)->stream, true);
}

static size_t received_now;
static void look_at_received(void *ctx)
{
    received_now = ((struct side *)ctx)->received;
}

static void backpressure(void **state)
{
    struct side server;
    serve(&server, "127.0.0.1:0", HOLD);
    int fd = connect_to(&server.to);
    assert_true(test_wait(&server.event));
    test_on_loop(server.loop, pause_reading, &server);
    write_all(fd, "hello", 5);
    close(fd);
    usleep(30000);
    test_on_loop(server.loop, look_at_received, &server);
    assert_int_equal(received_now, 0);
    test_on_loop(server.loop, resume_reading, &server);
    assert_true(test_wait(&server.event));
    assert_int_equal(server.received, 5);
    sys_loop_stop(server.loop);
}

static void shut_down(void *ctx)
{
    struct side *side = ctx;
    sys_stream_write(side->stream, BYTES("last"));
    sys_stream_shutdown(side->stream);
}

static void half_close(void **state)
{
    struct side server;
    serve(&server, "127.0.0.1:0", HOLD);
    int fd = connect_to(&server.to);
    assert_true(test_wait(&server.event));
    test_on_loop(server.loop, shut_down, &server);
    assert_int_equal(read_to_end(fd), 4);
    write_all(fd, "still", 5);
    close(fd);
    assert_true(test_wait(&server.event));
    assert_int_equal(server.received, 5); // reading went on
    sys_loop_stop(server.loop);
}

static void aborts(void **state)
{
    struct side server;
    serve(&server, "127.0.0.1:0", ABORT_AT_ONCE);
    int fd = connect_to(&server.to);
    char c;
    assert_int_equal(read(fd, &c, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
    sys_loop_stop(server.loop);
}

static void count_line(void *ctx, struct bytes line)
{
    ++*(int *)ctx;
}

// Out of descriptors: no spin (one warning, little processor time), then accepting goes on.
static void out_of_descriptors(void **state)
{
    struct side server;
    int warnings = 0;
    log_capture(count_line, &warnings);
    serve(&server, "127.0.0.1:0", HOLD);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct rlimit before, low;
    getrlimit(RLIMIT_NOFILE, &before);
    low = before;
    int top = dup(0);
    close(top);
    low.rlim_cur = (rlim_t)top;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    struct sockaddr_storage sockaddr;
    socklen_t len = sys_addr_to_sockaddr(&server.to, &sockaddr);
    assert_int_equal(connect(client, (struct sockaddr *)&sockaddr, len), 0);
    clock_t cpu = clock();
    usleep(300000);
    assert_true(clock() - cpu < CLOCKS_PER_SEC / 10);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(test_wait(&server.event));
    close(client);
    sys_loop_stop(server.loop);
    log_capture(NULL, NULL);
    assert_int_equal(server.accepted, 1);
    assert_int_equal(warnings, 1);
}

// Many at once, then the listener is closed: its port refuses, connections live on.
static void accepts_many(void **state)
{
    struct side server;
    serve(&server, "127.0.0.1:0", ECHO);
    int fds[200];
    for (int i = 0; i < 200; i++)
        fds[i] = connect_to(&server.to);
    for (int i = 0; i < 200; i++)
        assert_true(test_wait(&server.event));
    test_on_loop(server.loop, close_listener, &server);
    char c = 'x';
    write_all(fds[199], &c, 1); // the last accepted is in side->stream
    assert_int_equal(read(fds[199], &c, 1), 1);
    struct sockaddr_storage sockaddr;
    socklen_t len = sys_addr_to_sockaddr(&server.to, &sockaddr);
    int connected = 0;
    for (int i = 0; i < 6000 && connected == 0;
         i++) { // the descriptor closes at the end of the turn
        usleep(10000);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        connected = connect(fd, (struct sockaddr *)&sockaddr, len);
        close(fd);
    }
    assert_int_equal(connected, -1);
    sys_loop_stop(server.loop);
    for (int i = 0; i < 200; i++)
        close(fds[i]);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    write_all(fd, text, strlen(text));
    close(fd);
}

// In a network of its own with a single ephemeral port, so that connect() takes the port it connects to.
static void never_connects_to_itself(void **state)
{
    if (unshare(CLONE_NEWNET) != 0)
        skip();
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
    close(fd);
    write_file("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000");
    struct side client;
    start_side(&client, HOLD);
    assert_int_equal(sys_addr_parse(BYTES("127.0.0.1:40000"), &client.to), OK);
    test_on_loop(client.loop, start_connect, &client);
    assert_true(test_wait(&client.event));
    assert_int_equal(client.connected, 0);
    assert_int_equal(client.err, E_REFUSED);
    sys_loop_stop(client.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echoes_ip4),
        cmocka_unit_test(echoes_unix),
        cmocka_unit_test(connects_from),
        cmocka_unit_test(connect_fails),
        cmocka_unit_test(no_callback_after_close),
        cmocka_unit_test(told_of_reset),
        cmocka_unit_test(drains_and_flushes),
        cmocka_unit_test(gathers_what_waits),
        cmocka_unit_test(last_words_arrive),
        cmocka_unit_test(reply_before_reset),
        cmocka_unit_test(reply_before_failed_write),
        cmocka_unit_test(backpressure),
        cmocka_unit_test(half_close),
        cmocka_unit_test(aborts),
        cmocka_unit_test(out_of_descriptors),
        cmocka_unit_test(accepts_many),
        cmocka_unit_test(never_connects_to_itself), // the last: it leaves the host's network
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
