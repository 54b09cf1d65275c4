// SPDX-License-Identifier: MIT
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/net_conn.h"
#include "net/net_sign.h"
#include "net/net_test_certs.h"
#include "sys/sys_sockaddr.h"
#include "sys/sys_test_loop.h"

// A server and a client connection on one loop; what they do is a mode.
enum mode {
    LINES,      // server consumes whole lines only
    STARTTLS,   // both upgrade, then the client sends BULK bytes and the server echoes them
    IMPLICIT,   // the same, TLS from the first byte
    INJECT_IN,  // the client sends a command behind STARTTLS
    INJECT_OUT, // the server sends a reply behind its 220
    FLUSH,      // server writes BULK bytes and closes in order
    FLUSH_TLS,
    JUNK,  // plaintext to a TLS port
    LEAVE, // the client goes away in mid-handshake
    STALL, // server consumes nothing until told to
    DEADLINE,
    REFUSED,
    BRIM,  // just not full, before it is encrypted
    FLOOD, // the client sends without end behind its ClientHello, and nobody makes the signature
    DEAF,  // the client, a plain socket, has KeyUpdates answered and reads nothing
};

#define BULK 1000000
#define FLOOD_BYTES ((size_t)24 << 20) // more than the kernel keeps

struct side {
    struct net_conn *conn;
    struct test *test;
    bool is_server, closed, tls_ok, upgraded;
    int tls_err, end_err, ends, deadlines, drained;
    size_t got, sent, largest, lines;
    uint64_t sum; // of the bytes received
    char first[64];
};

struct test {
    enum mode mode;
    struct sys_loop *loop;
    struct sys_listener *listener;
    int fd;
    struct sys_addr addr;
    struct side server, client;
    struct net_tls_server *tls_server;
    struct net_tls_client *tls_client;
    struct mono began, fired;
    bool may_consume;
    sem_t over;
};

static struct test_cert authority, good;
static char bulk[BULK];
static uint64_t bulk_sum;

static uint64_t sum_of(uint64_t sum, struct bytes data)
{
    for (size_t i = 0; i < data.len; i++)
        sum = sum * 31 + (unsigned char)data.at[i];
    return sum;
}

static void close_side(struct side *side, bool abort)
{
    if (side->closed)
        return;
    side->closed = true;
    net_conn_close(side->conn, abort);
}

static void finish(struct test *t)
{
    sem_post(&t->over);
}

// ---- what each side does ----------------------------------------------------------------------

static void start_client_tls(struct side *side)
{
    static const struct bytes name = BYTES("mx.example.org");
    struct net_tls_client_params params = {
        .server_name = name, .names = &name, .name_count = 1, .must_verify = true};
    net_conn_start_tls_client(side->conn, side->test->tls_client, &params);
}

// Writes until full; on_drained goes on.
static void send_bulk(struct side *side)
{
    while (side->sent < BULK && !net_conn_is_full(side->conn)) {
        size_t n = BULK - side->sent < 30000 ? BULK - side->sent : 30000;
        net_conn_write(side->conn, bytes_of(bulk + side->sent, n));
        side->sent += n;
    }
}

static void send_hello(struct side *side)
{
    static const struct net_tls_client_params params = {0};
    struct net_tls *tls = net_tls_new_client(side->test->tls_client, &params);
    CHECK(net_tls_handshake(tls) == E_AGAIN);
    net_conn_write_chain(side->conn, net_tls_output(tls));
    net_tls_free(tls);
}

static void flood(struct side *side)
{
    while (side->sent < FLOOD_BYTES && !net_conn_is_full(side->conn)) {
        net_conn_write(side->conn, bytes_of(bulk, 30000));
        side->sent += 30000;
    }
}

static void count_bytes(struct side *side, struct bytes data)
{
    if (side->got < sizeof side->first - 1) {
        size_t n = sizeof side->first - 1 - side->got < data.len
                       ? sizeof side->first - 1 - side->got
                       : data.len;
        memcpy(side->first + side->got, data.at, n);
    }
    side->got += data.len;
    side->sum = sum_of(side->sum, data);
}

static size_t echo(struct side *side, struct bytes data)
{
    count_bytes(side, data);
    net_conn_write(side->conn, data);
    if (net_conn_is_full(side->conn))
        net_conn_read(side->conn, false); // until on_drained
    return data.len;
}

static size_t server_data(struct side *side, struct bytes data)
{
    struct test *t = side->test;
    ptrdiff_t end = bytes_search(data, BYTES("\r\n"));
    if (t->mode == BRIM)
        return data.len;
    if (t->mode == DEAF) {
        count_bytes(side, data);
        return data.len;
    }
    if (t->mode == STALL) {
        if (!t->may_consume)
            return 0;
        size_t n = data.len < 1000 ? data.len : 1000;
        count_bytes(side, bytes_first(data, n));
        if (n < data.len)
            net_conn_read(side->conn, true); // ask for the rest
        if (side->got == BULK)
            finish(t);
        return n;
    }
    if (side->upgraded || t->mode == IMPLICIT)
        return echo(side, data);
    if (end < 0)
        return 0; // a line is not whole yet
    side->lines++;
    size_t n = (size_t)end + 2;
    if (t->mode == LINES) {
        net_conn_read(side->conn, true);
        if (side->lines == 5)
            finish(t);
        return n;
    }
    CHECK(bytes_eq(bytes_first(data, n), BYTES("STARTTLS\r\n")));
    net_conn_write(side->conn,
                   t->mode == INJECT_OUT ? BYTES("220 go\r\n250 evil\r\n") : BYTES("220 go\r\n"));
    net_conn_start_tls_server(side->conn, t->tls_server);
    side->upgraded = true;
    return n;
}

static size_t client_data(struct side *side, struct bytes data)
{
    struct test *t = side->test;
    bool starts = t->mode == STARTTLS || t->mode == INJECT_IN || t->mode == INJECT_OUT;
    if (starts && !side->upgraded) {
        CHECK(bytes_starts(data, BYTES("220 go\r\n")));
        side->upgraded = true;
        start_client_tls(side);
        return 8;
    }
    count_bytes(side, data);
    if (side->got == BULK && (t->mode == STARTTLS || t->mode == IMPLICIT))
        finish(t);
    return data.len;
}

static size_t on_data(void *ctx, struct bytes data)
{
    struct side *side = ctx;
    CHECK(!side->closed && data.len > 0);
    if (data.len > side->largest)
        side->largest = data.len;
    return side->is_server ? server_data(side, data) : client_data(side, data);
}

static void on_connected(void *ctx)
{
    struct side *side = ctx;
    struct test *t = side->test;
    if (t->mode == STARTTLS || t->mode == INJECT_OUT)
        net_conn_write(side->conn, BYTES("STARTTLS\r\n"));
    if (t->mode == INJECT_IN)
        net_conn_write(side->conn, BYTES("STARTTLS\r\nRSET\r\n"));
    if (t->mode == JUNK)
        net_conn_write(side->conn, BYTES("EHLO plain.example\r\n"));
    if (t->mode == LINES)
        net_conn_write(side->conn, BYTES("one\r\ntwo\r\nthree\r\nfour\r\nfi"));
    if (t->mode == STALL)
        send_bulk(side);
    if (t->mode == FLOOD) {
        send_hello(side);
        flood(side);
    }
}

static void on_drained(void *ctx)
{
    struct side *side = ctx;
    CHECK(!side->closed && net_conn_pending(side->conn) == 0);
    side->drained++;
    if (side->test->mode == BRIM)
        finish(side->test);
    else if (side->test->mode == FLOOD)
        flood(side);
    else if (!side->is_server)
        send_bulk(side);
    else if (side->test->mode == FLUSH || side->test->mode == FLUSH_TLS)
        send_bulk(side);
    else
        net_conn_read(side->conn, true);
}

static void on_tls_done(void *ctx, const struct net_tls_result *result)
{
    struct side *side = ctx;
    struct test *t = side->test;
    CHECK(!side->closed && !side->tls_ok);
    side->tls_err = result->err;
    side->tls_ok = result->err == OK;
    if (!side->tls_ok) {
        CHECK(net_conn_proof(side->conn) == NET_TLS_NONE && result->reason[0]);
        close_side(side, false);
        if (side->is_server || t->mode == INJECT_OUT)
            finish(t);
        return;
    }
    CHECK(net_conn_proof(side->conn) == (side->is_server ? NET_TLS_ENCRYPTED : NET_TLS_VERIFIED));
    if (!side->is_server && t->mode != FLUSH_TLS && t->mode != BRIM)
        send_bulk(side);
    if (side->is_server && t->mode == FLUSH_TLS) {
        net_conn_write(side->conn, bytes_of(bulk, BULK));
        close_side(side, false);
    }
}

static void on_deadline(void *ctx)
{
    struct side *side = ctx;
    side->deadlines++;
    side->test->fired = sys_mono();
    finish(side->test);
}

static void on_end(void *ctx, int err)
{
    struct side *side = ctx;
    struct test *t = side->test;
    CHECK(!side->closed);
    side->ends++;
    side->end_err = err;
    close_side(side, false);
    if ((!side->is_server && (t->mode == FLUSH || t->mode == FLUSH_TLS)) || t->mode == REFUSED)
        finish(t);
}

static const struct net_conn_events events = {on_connected, on_data,     on_drained,
                                              on_tls_done,  on_deadline, on_end};

static void on_accept(void *ctx, struct sys_stream *s)
{
    struct test *t = ctx;
    t->server.conn = net_conn_accept(s, &events, &t->server);
    if (t->mode == IMPLICIT || t->mode == FLUSH_TLS || t->mode == JUNK || t->mode == LEAVE ||
        t->mode == BRIM || t->mode == FLOOD || t->mode == DEAF)
        net_conn_start_tls_server(t->server.conn, t->tls_server);
    if (t->mode == LEAVE) // the client's first flight is all that is on its way
        close_side(&t->client, false);
    if (t->mode == FLUSH) {
        net_conn_write(t->server.conn, bytes_of(bulk, BULK));
        close_side(&t->server, false);
    }
}

// ---- running ----------------------------------------------------------------------------------

static void begin(void *ctx)
{
    struct test *t = ctx;
    t->listener = sys_listener_open(t->fd, on_accept, t);
    if (t->mode == REFUSED)
        t->addr.port = 1;
    t->client.conn = net_conn_connect(&t->addr, NULL, &events, &t->client);
    if (t->mode == IMPLICIT || t->mode == FLUSH_TLS || t->mode == LEAVE || t->mode == BRIM)
        start_client_tls(&t->client);
    t->began = sys_mono();
    if (t->mode == DEADLINE) {
        net_conn_deadline(t->client.conn, mono_add_ms(sys_mono(), 60000));
        net_conn_deadline(t->client.conn, mono_add_ms(sys_mono(), 50));
        net_conn_deadline(t->client.conn, mono_add_ms(sys_mono(), 300)); // the last one holds
    }
}

static void end(void *ctx)
{
    struct test *t = ctx;
    close_side(&t->client, true);
    if (t->server.conn)
        close_side(&t->server, true);
    sys_listener_close(t->listener);
}

static void prepare(struct test *t, enum mode mode)
{
    *t = (struct test){.mode = mode};
    t->server = (struct side){.test = t, .is_server = true};
    t->client = (struct side){.test = t};
    sem_init(&t->over, 0, 0);
    struct sockaddr_storage sockaddr;
    assert_int_equal(sys_addr_parse(BYTES("127.0.0.1:0"), &t->addr), OK);
    socklen_t len = sys_addr_to_sockaddr(&t->addr, &sockaddr);
    t->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(t->fd, (struct sockaddr *)&sockaddr, len), 0);
    assert_int_equal(listen(t->fd, 100), 0);
    assert_int_equal(getsockname(t->fd, (struct sockaddr *)&sockaddr, &len), 0);
    sys_addr_from_sockaddr(&sockaddr, len, &t->addr);
    struct net_tls_authorities *trusted = test_authorities(&authority);
    t->tls_server = test_server(&good);
    t->tls_client = net_tls_client_new(trusted);
    net_tls_authorities_free(trusted);
    t->loop = sys_loop_start("net_conn");
}

static void start(struct test *t, enum mode mode)
{
    prepare(t, mode);
    test_on_loop(t->loop, begin, t);
}

static void stop(struct test *t)
{
    test_on_loop(t->loop, end, t);
    sys_loop_stop(t->loop);
    net_tls_server_free(t->tls_server);
    net_tls_client_free(t->tls_client);
}

static void run(struct test *t, enum mode mode)
{
    start(t, mode);
    assert_true(test_wait(&t->over));
    stop(t);
}

// ---- tests ------------------------------------------------------------------------------------

static void send_rest_of_line(void *ctx)
{
    net_conn_write(((struct test *)ctx)->client.conn, BYTES("ve\r\n"));
}

struct look {
    struct test *test;
    bool arrived;
};

static void look(void *ctx)
{
    struct look *l = ctx;
    l->arrived = l->test->server.largest > 0;
}

// Until the server has got something.
static void wait_for_data(struct test *t)
{
    struct look l = {t, false};
    for (int i = 0; i < 6000 && !l.arrived; i++) {
        usleep(10000);
        test_on_loop(t->loop, look, &l);
    }
    assert_true(l.arrived);
}

static void lines(void **state)
{
    struct test t;
    start(&t, LINES);
    wait_for_data(&t);
    test_on_loop(t.loop, send_rest_of_line, &t);
    assert_true(test_wait(&t.over));
    stop(&t);
    assert_int_equal(t.server.lines, 5);
}

static void carries_bulk(void **state)
{
    static const enum mode modes[] = {STARTTLS, IMPLICIT};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        struct test t;
        run(&t, modes[i]);
        assert_true(t.server.tls_ok && t.client.tls_ok);
        assert_int_equal(t.server.got, BULK);
        assert_true(t.server.sum == bulk_sum && t.client.sum == bulk_sum);
        assert_true(t.client.drained > 0);
        assert_true(t.server.largest <= NET_CONN_IN_HIGH);
    }
}

static void fill_to_the_brim(void *ctx)
{
    struct test *t = ctx;
    t->may_consume = t->client.tls_ok && net_conn_is_full(t->client.conn);
    if (!t->client.tls_ok || t->may_consume)
        return;
    net_conn_read(t->server.conn, false);
    net_conn_write(t->client.conn,
                   bytes_of(bulk, NET_CONN_OUT_HIGH - 1 - net_conn_pending(t->client.conn)));
    CHECK(!net_conn_is_full(t->client.conn) && t->client.drained == 0);
}

static void read_on(void *ctx)
{
    net_conn_read(((struct test *)ctx)->server.conn, true);
}

// What becomes full by its encryption is told to be drained, too.
static void full_by_encryption(void **state)
{
    struct test t;
    start(&t, BRIM);
    for (int i = 0; i < 6000 && !t.may_consume; i++) {
        test_on_loop(t.loop, fill_to_the_brim, &t);
        usleep(1000);
    }
    assert_true(t.may_consume);
    test_on_loop(t.loop, read_on, &t);
    assert_true(test_wait(&t.over));
    stop(&t);
}

static void injections(void **state)
{
    struct test t;
    run(&t, INJECT_IN);
    assert_int_equal(t.server.tls_err, E_SYNTAX);
    run(&t, INJECT_OUT);
    assert_int_equal(t.client.tls_err, E_SYNTAX);
}

static void closes_in_order(void **state)
{
    static const enum mode modes[] = {FLUSH, FLUSH_TLS};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        struct test t;
        run(&t, modes[i]);
        assert_int_equal(t.client.got, BULK);
        assert_true(t.client.sum == bulk_sum);
        assert_int_equal(t.client.end_err, E_CLOSED);
        assert_int_equal(t.client.ends, 1);
    }
}

static void junk_for_a_handshake(void **state)
{
    struct test t;
    run(&t, JUNK);
    assert_int_equal(t.server.tls_err, E_TLS);
    assert_int_equal(t.server.ends, 0);
}

static void leaves_in_handshake(void **state)
{
    struct test t;
    run(&t, LEAVE);
    assert_true(t.server.tls_err == E_CLOSED || t.server.tls_err == E_IO);
    assert_int_equal(t.server.ends, 0);
}

static size_t held;
static void consume_now(void *ctx)
{
    struct test *t = ctx;
    held = t->server.largest;
    t->may_consume = true;
    net_conn_read(t->server.conn, true);
}

static void holds_little(void **state)
{
    struct test t;
    start(&t, STALL);
    wait_for_data(&t);
    usleep(100000); // it could get more
    test_on_loop(t.loop, consume_now, &t);
    assert_true(test_wait(&t.over));
    stop(&t);
    assert_in_range(held, 1, NET_CONN_IN_HIGH + 32768);
    assert_true(t.server.sum == bulk_sum);
}

static uint64_t asked; // for a signature: the id

static bool send_request(void *ctx, const struct sign_request *request, bool with_key)
{
    asked = request->id;
    return true;
}

static const struct sign_port nobody_signs = {send_request, NULL};

static void use_nobody(void *ctx)
{
    sign_port_use(&nobody_signs);
}

static void refuse_signature(void *ctx)
{
    sign_port_answer(asked, SIGN_REFUSED, BYTES_NONE);
    sign_port_use(NULL);
}

static void look_at_flood(void *ctx)
{
    struct look *l = ctx;
    l->arrived = asked != 0;
    held = l->test->client.sent;
}

// While a handshake waits for its signature, what the client sends does not gather in memory.
static void holds_little_in_a_handshake(void **state)
{
    struct test t;
    struct look l = {&t, false};
    asked = 0;
    prepare(&t, FLOOD);
    net_tls_server_free(t.tls_server);
    char reason[NET_TLS_REASON];
    assert_int_equal(net_tls_server_new_remote(bytes_cstr(good.cert_pem), 1, &t.tls_server, reason),
                     OK);
    int bytes = 65536;
    assert_int_equal(setsockopt(t.fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    test_on_loop(t.loop, use_nobody, NULL);
    test_on_loop(t.loop, begin, &t);
    size_t before = 0;
    for (int same = 0; same < 20 && before < FLOOD_BYTES;) { // it could send more
        usleep(20000);
        test_on_loop(t.loop, look_at_flood, &l);
        same = l.arrived && held == before ? same + 1 : 0;
        before = held;
    }
    assert_in_range(before, 1, FLOOD_BYTES / 2);
    test_on_loop(t.loop, refuse_signature, NULL);
    assert_true(test_wait(&t.over));
    stop(&t);
    assert_int_equal(t.server.tls_err, E_TLS);
}

static void begin_server(void *ctx)
{
    struct test *t = ctx;
    t->listener = sys_listener_open(t->fd, on_accept, t);
    t->client.closed = true;
}

static int connect_plain(const struct sys_addr *to)
{
    struct sockaddr_storage sockaddr;
    socklen_t len = sys_addr_to_sockaddr(to, &sockaddr);
    struct timeval patience = {.tv_usec = 500000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), bytes = 32768;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sockaddr, len), 0);
    return fd;
}

// As many demands as are borne, and the plaintext that they need; false: it isn't taken from us any more.
static bool demand_answers(SSL *ssl)
{
    static const char plain[NET_TLS_MESSAGES_BYTES];
    for (int i = 0; i < NET_TLS_MESSAGES_MAX; i++)
        if (SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) != 1 || SSL_do_handshake(ssl) != 1)
            return false;
    return SSL_write(ssl, plain, sizeof plain) == sizeof plain;
}

static size_t pending, got;
static void look_at_server(void *ctx)
{
    struct test *t = ctx;
    CHECK(!t->server.closed);
    pending = net_conn_pending(t->server.conn);
    got = t->server.got;
}

// What TLS answers of itself does not gather in memory while the peer reads nothing; when it does, the reading goes on.
static void d_answers_that_nobody_reads(void **state)
{
    struct test t;
    int bytes = 32768, rounds = 0;
    prepare(&t, DEAF);
    assert_int_equal(setsockopt(t.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    test_on_loop(t.loop, begin_server, &t);
    int fd = connect_plain(&t.addr);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(context);
    assert_true(SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1);
    while (rounds < 1000 && demand_answers(ssl))
        rounds++;
    test_on_loop(t.loop, look_at_server, &t);
    assert_in_range(pending, 1, NET_CONN_DEAF_HIGH + 65536);
    assert_in_range(rounds, 1, 999);
    char drop[65536];
    for (size_t before = got; got == before; test_on_loop(t.loop, look_at_server, &t))
        assert_true(recv(fd, drop, sizeof drop, 0) > 0);
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    stop(&t);
}

static void deadline(void **state)
{
    struct test t;
    run(&t, DEADLINE);
    assert_int_equal(t.client.deadlines, 1);
    assert_in_range(mono_ms_between(t.began, t.fired), 300, 30000);
}

static void refused(void **state)
{
    struct test t;
    run(&t, REFUSED);
    assert_int_equal(t.client.end_err, E_REFUSED);
    assert_int_equal(t.client.ends, 1);
}

static int setup(void **state)
{
    authority = test_cert_new(NULL, NULL, 10);
    good = test_cert_new("DNS:mx.example.org", &authority, 10);
    for (size_t i = 0; i < BULK; i++)
        bulk[i] = (char)(i * 131 + i / 977);
    bulk_sum = sum_of(0, bytes_of(bulk, BULK));
    return 0;
}

static int teardown(void **state)
{
    test_cert_done(&authority);
    test_cert_done(&good);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(carries_bulk),
        cmocka_unit_test(full_by_encryption),
        cmocka_unit_test(injections),
        cmocka_unit_test(closes_in_order),
        cmocka_unit_test(junk_for_a_handshake),
        cmocka_unit_test(leaves_in_handshake),
        cmocka_unit_test(holds_little),
        cmocka_unit_test(holds_little_in_a_handshake),
        cmocka_unit_test(d_answers_that_nobody_reads),
        cmocka_unit_test(deadline),
        cmocka_unit_test(refused),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
