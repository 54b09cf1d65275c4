// SPDX-License-Identifier: MIT
//
// The simulated network: bytes arrive whole and in order however they are cut; every way to fail is
// told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "sim.h"

#define TALK_BYTES 300000

static const struct sys_addr server_addr = {.kind = SYS_ADDR_IP4, .port = 25, .ip = {192, 0, 2, 1}};

static struct {
    struct sim_host *server_host, *client_host;
    struct sys_loop *server_loop, *client_loop;
    struct sys_task server_task, client_task;
    struct sys_listener *listener;
    struct sys_stream *server, *client;
    struct buf server_got, client_got;
    int server_end, client_end, connected, drained, pieces;
    int fd;
    bool server_deaf, server_closes, client_shuts;
} t;

static void server_data(void *ctx, struct bytes data)
{
    t.pieces++;
    buf_add(&t.server_got, data);
}

static void server_end(void *ctx, int err)
{
    t.server_end = err;
    sys_stream_close(t.server, false);
}

static void client_connected(void *ctx)
{
    t.connected++;
}

static void client_data(void *ctx, struct bytes data)
{
    buf_add(&t.client_got, data);
}

static void client_drained(void *ctx)
{
    assert_int_equal(sys_stream_pending(t.client), 0);
    t.drained++;
}

static void client_end(void *ctx, int err)
{
    t.client_end = err;
    sys_stream_close(t.client, false);
}

static const struct sys_stream_events server_events = {NULL, server_data, NULL, server_end};
static const struct sys_stream_events client_events = {client_connected, client_data,
                                                       client_drained, client_end};

static void server_accept(void *ctx, struct sys_stream *s)
{
    t.server = s;
    sys_stream_set_events(s, &server_events, NULL);
    if (t.server_deaf)
        sys_stream_read(s, false);
    sys_stream_write(s, BYTES("hello\r\n"));
    if (t.server_closes)
        sys_stream_close(s, false);
}

static void server_run(struct sys_task *task)
{
    t.listener = sys_listener_open(t.fd, server_accept, NULL);
}

static void server_start(void *ctx)
{
    t.fd = sim_listen(&server_addr);
    t.server_loop = sys_loop_start("server");
    t.server_task.run = server_run;
    sys_post(t.server_loop, &t.server_task);
}

// Writes before it is connected, numbers that show order and loss.
static void client_run(struct sys_task *task)
{
    t.client = sys_stream_connect(&server_addr, NULL, &client_events, NULL);
    struct buf out = {0};
    for (uint32_t i = 0; out.len < TALK_BYTES; i++)
        buf_add_u64(&out, i);
    sys_stream_write(t.client, buf_bytes(&out));
    buf_done(&out);
    if (t.client_shuts)
        sys_stream_shutdown(t.client);
}

static void client_start(void *ctx)
{
    t.client_loop = sys_loop_start("client");
    t.client_task.run = client_run;
    sys_post(t.client_loop, &t.client_task);
}

static void begin(uint64_t seed)
{
    memset(&t, 0, sizeof t);
    sim_start(seed);
    t.server_host = sim_host_new("server", &server_addr);
    t.client_host = sim_host_new("client", NULL);
}

static void talk(bool with_server)
{
    if (with_server)
        assert_true(sim_host_call(t.server_host, server_start, NULL));
    sim_run_ms(50);
    assert_true(sim_host_call(t.client_host, client_start, NULL));
    sim_run_ms(3000);
}

static void end(void)
{
    buf_done(&t.server_got);
    buf_done(&t.client_got);
    sim_stop();
}

static void bytes_arrive_in_order(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        begin(seed);
        t.client_shuts = true;
        talk(true);
        struct bytes got = buf_bytes(&t.server_got);
        assert_true(got.len >= TALK_BYTES && t.pieces > 100);
        struct buf want = {0};
        for (uint32_t i = 0; want.len < TALK_BYTES; i++)
            buf_add_u64(&want, i);
        assert_true(bytes_eq(got, buf_bytes(&want)));
        buf_done(&want);
        assert_true(bytes_eq(buf_bytes(&t.client_got), BYTES("hello\r\n")));
        assert_int_equal(t.server_end, E_CLOSED);
        assert_int_equal(t.client_end, E_CLOSED);
        assert_int_equal(sim_streams_open(), 0);
        end();
    }
}

static void a_deaf_peer_stops_the_writer(void **state)
{
    begin(4);
    t.server_deaf = true;
    talk(true);
    assert_int_equal(t.pieces, 0);
    assert_true(sys_stream_pending(t.client) > TALK_BYTES / 2);
    assert_int_equal(t.drained, 0);
    assert_int_equal(sim_streams_to(t.client_host, &server_addr), 1);
    end();
}

static void who_listens_not_refuses(void **state)
{
    begin(4);
    talk(false);
    assert_int_equal(t.client_end, E_REFUSED);
    end();
}

struct path_case {
    const char *name;
    struct sim_path path;
    int64_t wait_ms;
    int want;
};

static void paths_fail_as_told(void **state)
{
    static const struct path_case cases[] = {
        {"refused", {.refused = true}, 100, E_REFUSED},
        {"unreachable", {.unreachable = true}, 100, E_UNREACHABLE},
        {"black hole", {.blackhole = true}, 200000, E_TIMEOUT},
        {"reset", {.reset_per_million = 100000}, 1000, E_IO},
        {"hang", {.hang_per_million = 100000}, 1000000, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin(i + 1);
        struct sys_addr any_port = server_addr;
        any_port.port = 0;
        sim_path_set(&any_port, &cases[i].path);
        talk(true);
        sim_run_ms(cases[i].wait_ms);
        if (t.client_end != cases[i].want)
            fail_msg("%s: %d", cases[i].name, t.client_end);
        assert_true(t.server_got.len < TALK_BYTES);
        end();
    }
}

static void a_killed_server_resets(void **state)
{
    begin(4);
    talk(true);
    sim_host_crash(t.server_host, SIM_KILL);
    sim_run_ms(100);
    assert_int_equal(t.client_end, E_IO);
    end();
}

static void closing_in_order_delivers_what_was_written(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        begin(seed);
        t.server_closes = true;
        talk(true);
        assert_true(bytes_eq(buf_bytes(&t.client_got), BYTES("hello\r\n")));
        assert_int_equal(t.client_end, E_CLOSED);
        end();
    }
}

static void bandwidth_is_kept(void **state)
{
    begin(4);
    sim_path_default(&(struct sim_path){.bytes_per_second = 20000});
    talk(true);
    assert_true(t.server_got.len > 30000 && t.server_got.len < 60000);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_in_order),
        cmocka_unit_test(a_deaf_peer_stops_the_writer),
        cmocka_unit_test(who_listens_not_refuses),
        cmocka_unit_test(paths_fail_as_told),
        cmocka_unit_test(a_killed_server_resets),
        cmocka_unit_test(closing_in_order_delivers_what_was_written),
        cmocka_unit_test(bandwidth_is_kept),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
