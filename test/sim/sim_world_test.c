// SPDX-License-Identifier: MIT
//
// The scheduler itself: order of posts, clocks, offload, crashes, and that a seed is a run.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "sim.h"

#define SENDERS 3
#define POSTS 200

struct numbered {
    struct sys_task task;
    uint32_t sender, number;
};

static struct {
    struct sys_loop *loops[SENDERS], *sink;
    struct numbered posts[SENDERS][POSTS];
    struct sys_task start[SENDERS];
    uint32_t seen[SENDERS], switches, last_sender, total;
    struct sys_timer timer;
    struct sys_turn_end end;
    struct sys_job job;
    int64_t fired_us;
    bool job_ran, job_done, ended, after_crash;
} t;

static void receive(struct sys_task *task)
{
    struct numbered *n = container_of(task, struct numbered, task);
    assert_int_equal(n->number, t.seen[n->sender]);
    t.seen[n->sender]++;
    t.switches += n->sender != t.last_sender;
    t.last_sender = n->sender;
    t.total++;
}

static void send_all(struct sys_task *task)
{
    uint32_t sender = (uint32_t)(task - t.start);
    for (uint32_t i = 0; i < POSTS; i++) {
        t.posts[sender][i] = (struct numbered){{NULL, receive}, sender, i};
        sys_post(t.sink, &t.posts[sender][i].task);
    }
}

static void start_senders(void *ctx)
{
    t.sink = sys_loop_start("sink");
    for (uint32_t i = 0; i < SENDERS; i++) {
        t.loops[i] = sys_loop_start("sender");
        t.start[i].run = send_all;
        sys_post(t.loops[i], &t.start[i]);
    }
}

static bool all_received(void *ctx)
{
    return t.total == SENDERS * POSTS;
}

static uint64_t run_senders(uint64_t seed)
{
    memset(&t, 0, sizeof t);
    sim_start(seed);
    struct sim_host *host = sim_host_new("host", NULL);
    assert_true(sim_host_call(host, start_senders, NULL));
    assert_true(sim_run_until(all_received, NULL, 10000));
    uint64_t hash = sim_trace_hash();
    sim_stop();
    return hash;
}

static void posts_of_a_pair_keep_their_order(void **state)
{
    run_senders(1);
    assert_true(t.switches > 2 * SENDERS); // and those of different pairs mix
}

static void a_seed_is_a_run(void **state)
{
    for (uint64_t seed = 1; seed < 20; seed++) {
        uint64_t hash = run_senders(seed);
        assert_true(hash == run_senders(seed));
        assert_true(hash != run_senders(seed + 1));
    }
}

// ---- timers, turn ends, offload ----------------------------------------------------------------

static void on_timer(struct sys_timer *timer)
{
    t.fired_us = sys_mono().us;
}

static void on_end(struct sys_turn_end *end)
{
    t.ended = true;
}

static void on_run(struct sys_job *job)
{
    t.job_ran = true;
}

static void on_done(struct sys_job *job)
{
    assert_true(t.job_ran);
    assert_ptr_equal(sys_loop_self(), t.sink);
    t.job_done = true;
}

static void set_things(struct sys_task *task)
{
    t.timer.fire = on_timer;
    sys_timer_set(&t.timer, mono_add_ms(sys_mono(), 5000));
    t.end.fn = on_end;
    sys_at_turn_end(&t.end);
    sys_at_turn_end(&t.end);
    assert_false(t.ended);
    t.job.run = on_run;
    t.job.done = on_done;
    sys_offload(&t.job);
    assert_false(t.job_ran);
}

static void start_one(void *ctx)
{
    t.sink = sys_loop_start("one");
    t.start[0].run = set_things;
    sys_post(t.sink, &t.start[0]);
}

static void timers_jobs_and_turn_ends(void **state)
{
    memset(&t, 0, sizeof t);
    sim_start(7);
    struct sim_host *host = sim_host_new("host", NULL);
    assert_true(sim_host_call(host, start_one, NULL));
    int64_t start = sim_now_us();
    sim_run_ms(4000);
    assert_true(t.ended && t.job_done);
    assert_int_equal(t.fired_us, 0);
    sim_run_ms(2000);
    assert_true(t.fired_us >= start + 5000000 && t.fired_us < start + 5200000);
    assert_int_equal(sim_now_us(), start + 6000000);
    sim_stop();
}

static void the_wall_clock_jumps_alone(void **state)
{
    sim_start(7);
    int64_t mono = sim_now_us();
    struct wall before = sim_wall();
    sim_wall_jump_ms(3600 * 1000);
    assert_int_equal(sim_wall().us - before.us, INT64_C(3600000000));
    assert_int_equal(sim_now_us(), mono);
    sim_stop();
}

// ---- crashes -----------------------------------------------------------------------------------

static void crash_here(struct sys_task *task)
{
    sys_post(t.sink, &t.start[1]);
    sim_host_crash(task == &t.start[0] ? *(struct sim_host **)t.posts : NULL, SIM_KILL);
    t.after_crash = true;
}

static void count_one(struct sys_task *task)
{
    t.total++;
}

static void start_crash(void *ctx)
{
    t.sink = sys_loop_start("doomed");
    t.start[0].run = crash_here;
    t.start[1].run = count_one;
    sys_post(t.sink, &t.start[0]);
}

static void a_crash_never_returns(void **state)
{
    memset(&t, 0, sizeof t);
    sim_start(7);
    struct sim_host *host = sim_host_new("host", NULL);
    *(struct sim_host **)t.posts = host;
    assert_true(sim_host_call(host, start_crash, NULL));
    sim_run_ms(1000);
    assert_true(sim_host_is_down(host));
    assert_false(t.after_crash);
    assert_int_equal(t.total, 0); // what was posted before is gone with the host
    sim_host_boot(host);
    t.start[0].run = count_one;
    assert_true(sim_host_call(host, start_one, NULL));
    sim_run_ms(1000);
    assert_true(t.ended);
    sim_stop();
}

static void stopping_runs_what_was_posted(void *ctx)
{
    start_senders(NULL);
    for (uint32_t i = 0; i < SENDERS; i++)
        sys_loop_stop(t.loops[i]);
    sys_loop_stop(t.sink);
    assert_int_equal(t.total, SENDERS * POSTS);
}

static void a_loop_stops_after_its_posts(void **state)
{
    memset(&t, 0, sizeof t);
    sim_start(3);
    assert_true(sim_host_call(sim_host_new("host", NULL), stopping_runs_what_was_posted, NULL));
    sim_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_of_a_pair_keep_their_order),
        cmocka_unit_test(a_seed_is_a_run),
        cmocka_unit_test(timers_jobs_and_turn_ends),
        cmocka_unit_test(the_wall_clock_jumps_alone),
        cmocka_unit_test(a_crash_never_returns),
        cmocka_unit_test(a_loop_stops_after_its_posts),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
