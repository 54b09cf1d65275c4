// SPDX-License-Identifier: MIT
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/net_listener.h"
#include "sys/sys_sockaddr.h"
#include "sys/sys_test_loop.h"

static struct sys_addr addr(const char *text)
{
    struct sys_addr a;
    assert_int_equal(sys_addr_parse_ip(bytes_cstr(text), 25, &a), OK);
    return a;
}

static struct conf_cidr cidr(const char *ip, unsigned bits)
{
    struct sys_addr a;
    bool mapped = strncmp(ip, "::ffff:", 7) == 0;
    assert_int_equal(sys_addr_parse_ip(bytes_cstr(ip), 0, &a), OK);
    struct conf_cidr c = {.ip6 = a.kind == SYS_ADDR_IP6 || mapped, .bits = (uint8_t)bits};
    memcpy(c.ip + (mapped ? 12 : 0), a.ip, mapped ? 4 : 16);
    if (mapped)
        c.ip[10] = c.ip[11] = 0xff;
    return c;
}

struct cidr_row {
    const char *ip;
    unsigned bits;
    const char *addr;
    bool want;
};

static void networks(void **state)
{
    static const struct cidr_row rows[] = {
        {"192.0.2.0", 24, "192.0.2.255", true},
        {"192.0.2.0", 24, "192.0.3.0", false},
        {"192.0.2.128", 25, "192.0.2.127", false},
        {"192.0.2.128", 25, "192.0.2.129", true},
        {"192.0.2.4", 32, "192.0.2.4", true},
        {"192.0.2.4", 32, "192.0.2.5", false},
        {"192.0.2.4", 31, "192.0.2.5", true},
        {"0.0.0.0", 0, "203.0.113.9", true},
        {"0.0.0.0", 0, "2001:db8::1", false},
        {"::", 0, "2001:db8::1", true},
        {"::", 0, "192.0.2.1", false},
        {"2001:db8::", 33, "2001:db8:7fff::1", true},
        {"2001:db8::", 33, "2001:db8:8000::", false},
        {"2001:db8::1", 128, "2001:db8::2", false},
        {"::ffff:192.0.2.0", 120, "192.0.2.7", true},
        {"::ffff:192.0.2.0", 120, "192.0.3.7", false},
        {"192.0.2.0", 24, "::ffff:192.0.2.9", true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct conf_cidr c = cidr(rows[i].ip, rows[i].bits);
        struct sys_addr a = addr(rows[i].addr);
        if (net_cidr_has(&c, &a) != rows[i].want)
            fail_msg("%s/%u has %s: not %d", rows[i].ip, rows[i].bits, rows[i].addr, rows[i].want);
    }
    struct conf_cidr all[] = {cidr("192.0.2.0", 24), cidr("::1", 128)};
    struct sys_addr socket = {.kind = SYS_ADDR_UNIX}, six = addr("::1");
    assert_false(net_cidr_any_has(all, 2, &socket));
    assert_true(net_cidr_any_has(all, 2, &six));
    assert_false(net_cidr_any_has(all, 1, &six));
}

static void counts(void **state)
{
    struct net_limits *limits = net_limits_new(8, 3);
    struct net_place places[20];
    struct sys_addr a = addr("192.0.2.1"), b = addr("192.0.2.2");
    for (int i = 0; i < 3; i++)
        assert_int_equal(net_limits_enter(limits, 0, &a, false, &places[i]), NET_ADMITTED);
    assert_int_equal(net_limits_enter(limits, 0, &a, false, &places[3]), NET_ADDRESS_FULL);
    net_limits_leave(&places[3]); // holds nothing
    assert_int_equal(net_limits_enter(limits, 0, &b, false, &places[3]), NET_ADMITTED);
    assert_int_equal(net_limits_enter(limits, 0, &a, true, &places[4]), NET_ADMITTED); // trusted
    net_limits_leave(&places[0]);
    net_limits_leave(&places[0]);
    assert_int_equal(net_limits_connections(limits), 4);
    assert_int_equal(net_limits_enter(limits, 0, &a, false, &places[0]), NET_ADMITTED);
    struct sys_addr six[] = {addr("2001:db8::1"), addr("2001:db8::2"), addr("2001:db8::ffff:3"),
                             addr("2001:db8:0:1::1")};
    for (int i = 0; i < 3; i++)
        assert_int_equal(net_limits_enter(limits, 0, &six[i], false, &places[5 + i]), NET_ADMITTED);
    assert_int_equal(net_limits_enter(limits, 0, &six[3], false, &places[8]), NET_TOTAL_FULL);
    net_limits_leave(&places[1]);
    assert_int_equal(net_limits_enter(limits, 0, &six[0], false, &places[8]),
                     NET_ADDRESS_FULL); // its /64 is
    assert_int_equal(net_limits_enter(limits, 0, &six[3], false, &places[8]), NET_ADMITTED);
    for (int i = 0; i < 9; i++)
        net_limits_leave(&places[i]);
    net_limits_leave(&places[1]);
    assert_int_equal(net_limits_connections(limits), 0);
    net_limits_free(limits);
}

// A proxy's connections, once they are known to be clients'.
static void moves(void **state)
{
    struct net_limits *limits = net_limits_new(10, 2);
    struct net_place places[4];
    struct sys_addr proxy = addr("192.0.2.1"), a = addr("198.51.100.1"), b = addr("198.51.100.2");
    for (int i = 0; i < 4; i++)
        assert_int_equal(net_limits_enter(limits, 0, &proxy, true, &places[i]), NET_ADMITTED);
    assert_int_equal(net_limits_move(&places[0], &a, false), NET_ADMITTED);
    assert_int_equal(net_limits_move(&places[1], &a, false), NET_ADMITTED);
    assert_int_equal(net_limits_move(&places[2], &a, false), NET_ADDRESS_FULL);
    assert_int_equal(net_limits_move(&places[2], &b, false), NET_ADMITTED);
    assert_int_equal(net_limits_move(&places[1], &b, false), NET_ADMITTED); // and on
    assert_int_equal(net_limits_move(&places[3], &a, false), NET_ADMITTED);
    assert_int_equal(net_limits_move(&places[0], &a, true), NET_ADMITTED); // trusted
    assert_int_equal(net_limits_connections(limits), 4);
    for (int i = 0; i < 4; i++)
        net_limits_leave(&places[i]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(net_limits_enter(limits, 0, &a, false, &places[i]), NET_ADMITTED);
    for (int i = 0; i < 2; i++)
        net_limits_leave(&places[i]);
    assert_int_equal(net_limits_connections(limits), 0);
    net_limits_free(limits);
}

// ---- real connections over two loops that share the limits ------------------------------------

#define CLIENTS_MAX 40

struct worker {
    struct sys_loop *loop;
    struct net_listener *listener;
    struct net_listener_conf conf;
    struct sys_stream *streams[CLIENTS_MAX];
    struct net_place places[CLIENTS_MAX];
    int count, refused;
    sem_t *event;
};

static void on_accept(void *ctx, struct sys_stream *s, bool is_trusted,
                      enum net_admission admission, struct net_place place)
{
    struct worker *w = ctx;
    CHECK(!is_trusted);
    if (admission == NET_ADMITTED) {
        w->streams[w->count] = s;
        w->places[w->count++] = place;
    } else {
        CHECK(admission == NET_ADDRESS_FULL && !place.limits);
        w->refused++;
        sys_stream_write(s, BYTES("421 too many\r\n"));
        sys_stream_close(s, false);
    }
    sem_post(w->event);
}

static void open_worker(void *ctx)
{
    struct worker *w = ctx;
    w->listener = net_listener_open(&w->conf);
}

static void close_worker(void *ctx)
{
    struct worker *w = ctx;
    net_listener_close(w->listener);
    for (int i = 0; i < w->count; i++) {
        sys_stream_close(w->streams[i], false);
        net_limits_leave(&w->places[i]);
    }
}

// Two workers on one socket, so many clients that connect one after another.
static void loops_share(struct net_limits *limits, struct worker workers[2], int clients_count)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
    assert_int_equal(listen(fd, 100), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    sem_t event;
    sem_init(&event, 0, 0);
    for (uint32_t i = 0; i < 2; i++) {
        workers[i].loop = sys_loop_start("worker");
        workers[i].event = &event;
        workers[i].conf = (struct net_listener_conf){.fd = i == 0 ? fd : dup(workers[0].conf.fd),
                                                     .limits = limits,
                                                     .worker = i,
                                                     .workers = 2,
                                                     .on_accept = on_accept,
                                                     .ctx = &workers[i]};
    }
    for (int i = 0; i < 2; i++)
        test_on_loop(workers[i].loop, open_worker, &workers[i]);
    int clients[CLIENTS_MAX];
    for (int i = 0; i < clients_count; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(clients[i], (struct sockaddr *)&in, len), 0);
    }
    for (int i = 0; i < clients_count; i++)
        assert_true(test_wait(&event));
    assert_int_equal(net_limits_connections(limits), workers[0].count + workers[1].count);
    for (int i = 0; i < 2; i++) {
        test_on_loop(workers[i].loop, close_worker, &workers[i]);
        sys_loop_stop(workers[i].loop);
    }
    for (int i = 0; i < clients_count; i++)
        close(clients[i]);
    net_limits_free(limits); // checks that all have left
}

static void loops_share_limits(void **state)
{
    struct worker workers[2] = {0};
    loops_share(net_limits_new(100, 5), workers, 9);
    assert_int_equal(workers[0].count + workers[1].count, 5);
    assert_int_equal(workers[0].refused + workers[1].refused, 4);
}

// Whoever has more than its share leaves the next one to the other, who is idle: both get work.
static void loops_share_connections(void **state)
{
    struct worker workers[2] = {0};
    loops_share(net_limits_new(100, 100), workers, 40);
    assert_int_equal(workers[0].count + workers[1].count, 40);
    assert_in_range(workers[0].count, 10, 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks),
        cmocka_unit_test(counts),
        cmocka_unit_test(moves),
        cmocka_unit_test(loops_share_limits),
        cmocka_unit_test(loops_share_connections),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
