// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/sys_test_loop.h"

// ---- posts ------------------------------------------------------------------------------------

#define SENDERS 3
#define POSTS 20000

struct counted {
    struct sys_task task;
    int sender, number;
};

static struct counted posts[SENDERS][POSTS];
static int seen[SENDERS]; // of the receiving loop

static void receive(struct sys_task *task)
{
    struct counted *c = container_of(task, struct counted, task);
    CHECK(c->number == seen[c->sender]);
    seen[c->sender]++;
}

struct sender {
    struct sys_task task;
    struct sys_loop *loop, *to;
    int index;
};

static void send_all(struct sys_task *task)
{
    struct sender *s = container_of(task, struct sender, task);
    for (int i = 0; i < POSTS; i++) {
        posts[s->index][i] = (struct counted){.task.run = receive, .sender = s->index, .number = i};
        sys_post(s->to, &posts[s->index][i].task);
    }
}

static void posts_keep_their_order(void **state)
{
    struct sys_loop *to = sys_loop_start("receiver");
    struct sender senders[SENDERS];
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){{.run = send_all}, sys_loop_start("sender"), to, i};
        sys_post(senders[i].loop, &senders[i].task);
    }
    for (int i = 0; i < SENDERS; i++)
        sys_loop_stop(senders[i].loop);
    sys_loop_stop(to); // the posts already made run first
    for (int i = 0; i < SENDERS; i++)
        assert_int_equal(seen[i], POSTS);
}

struct again {
    struct sys_task task;
    int left;
    bool inside;
    sem_t done;
};

static void post_again(struct sys_task *task)
{
    struct again *a = container_of(task, struct again, task);
    CHECK(!a->inside);
    a->inside = true;
    if (--a->left > 0)
        sys_post(sys_loop_self(), task);
    else
        sem_post(&a->done);
    a->inside = false;
}

static void posts_to_self(void **state)
{
    struct sys_loop *loop = sys_loop_start("self");
    struct again a = {.task.run = post_again, .left = 1000};
    sem_init(&a.done, 0, 0);
    sys_post(loop, &a.task);
    assert_true(test_wait(&a.done));
    sys_loop_stop(loop);
    assert_int_equal(a.left, 0);
}

// A loop that stops while others post to it: what comes too late is dropped.
static atomic_bool go_on;
static struct sys_task hammered[50000];

static void take_hammered(struct sys_task *task)
{
    CHECK(task->run == take_hammered);
}

static void hammer(struct sys_task *task)
{
    struct sender *s = container_of(task, struct sender, task);
    for (size_t i = 0; i < COUNT_OF(hammered) && atomic_load(&go_on); i++) {
        hammered[i].run = take_hammered;
        sys_post(s->to, &hammered[i]);
    }
}

static void never(struct sys_task *task)
{
    CHECK(false);
}

static void posts_to_a_stopping_loop(void **state)
{
    for (int i = 0; i < 20; i++) {
        struct sys_loop *to = sys_loop_start("stopping");
        struct sender s = {{.run = hammer}, sys_loop_start("hammer"), to, 0};
        atomic_store(&go_on, true);
        sys_post(s.loop, &s.task);
        usleep(500);
        sys_loop_stop(to);
        atomic_store(&go_on, false);
        sys_loop_stop(s.loop);
        struct sys_task late = {.run = never};
        sys_post(to, &late);
    }
}

// ---- timers -----------------------------------------------------------------------------------

#define TIMERS 5000

static struct sys_timer timers[TIMERS];
static struct mono due[TIMERS], last_fired;
static int fired, stopped;
static sem_t timers_done;

static void on_fire(struct sys_timer *timer)
{
    size_t i = (size_t)(timer - timers);
    CHECK(i % 5 != 0); // those were stopped
    CHECK(!sys_timer_is_set(timer));
    CHECK(due[i].us <= sys_mono().us); // never early
    CHECK(due[i].us >= last_fired.us); // in order
    last_fired = due[i];
    if (++fired == TIMERS - stopped)
        sem_post(&timers_done);
}

static void set_timers(void *ctx)
{
    for (size_t i = 0; i < TIMERS; i++) {
        timers[i].fire = on_fire;
        sys_timer_set(&timers[i], mono_add_ms(sys_mono(), 100000));
        due[i] = mono_add_ms(sys_mono(), (int64_t)sys_random_below(200));
        sys_timer_set(&timers[i], due[i]); // moved
    }
    for (size_t i = 0; i < TIMERS; i += 5, stopped++)
        sys_timer_stop(&timers[i]);
    sys_timer_stop(&timers[0]);
}

static void many_timers(void **state)
{
    sem_init(&timers_done, 0, 0);
    struct sys_loop *loop = sys_loop_start("timers");
    test_on_loop(loop, set_timers, NULL);
    assert_true(test_wait(&timers_done));
    sys_loop_stop(loop);
    assert_int_equal(fired, TIMERS - TIMERS / 5);
}

// A timer that is always due must leave the loop its other work.
static int refired;
static sem_t refired_enough;
static void refire(struct sys_timer *timer)
{
    if (++refired == 3)
        sem_post(&refired_enough);
    sys_timer_set(timer, sys_mono());
}

static void set_refiring(void *ctx)
{
    struct sys_timer *timer = ctx;
    timer->fire = refire;
    sys_timer_set(timer, sys_mono());
}

static void stop_timer(void *ctx)
{
    sys_timer_stop(ctx);
}

static void timer_always_due(void **state)
{
    struct sys_loop *loop = sys_loop_start("refire");
    struct sys_timer timer = {0};
    sem_init(&refired_enough, 0, 0);
    test_on_loop(loop, set_refiring, &timer);
    for (int i = 0; i < 10; i++)
        test_on_loop(loop, (void (*)(void *))stop_timer, &(struct sys_timer){0});
    assert_true(test_wait(&refired_enough));
    test_on_loop(loop, stop_timer, &timer);
    sys_loop_stop(loop);
}

// What is set while timers fire waits for the next turn, for whenever it is set, and is no reason to keep
// others waiting for ever.
static struct mono fired_at[2];
static int fired_times[2];
static bool fired_twice;
static struct sys_timer pushy, plain, later[20];

static void set_again(int which, struct sys_timer *timer, struct mono at)
{
    fired_twice |= fired_at[which].us == sys_mono().us; // which is one time for the whole turn
    fired_at[which] = sys_mono();
    if (++fired_times[which] == 10)
        sem_post(&refired_enough);
    sys_timer_set(timer, at);
}

static void refire_long_ago(struct sys_timer *timer)
{
    set_again(0, timer, (struct mono){1});
}

static void refire_now(struct sys_timer *timer)
{
    set_again(1, timer, sys_mono());
}

static void set_two_refiring(void *ctx)
{
    (void)ctx;
    pushy.fire = refire_long_ago;
    plain.fire = refire_now;
    sys_timer_set(&pushy, sys_mono());
    sys_timer_set(&plain, sys_mono());
    for (size_t i = 0; i < COUNT_OF(later); i++)
        sys_timer_set(&later[i], mono_add_ms(sys_mono(), 3600000));
}

static void timers_fire_once_a_turn(void **state)
{
    struct sys_loop *loop = sys_loop_start("once");
    sem_init(&refired_enough, 0, 0);
    test_on_loop(loop, set_two_refiring, NULL);
    bool both = test_wait(&refired_enough);
    both = test_wait(&refired_enough) && both;
    test_on_loop(loop, stop_timer, &pushy);
    test_on_loop(loop, stop_timer, &plain);
    sys_loop_stop(loop);
    assert_true(both);
    assert_false(fired_twice);
}

// ---- turn ends --------------------------------------------------------------------------------

struct hook {
    struct sys_turn_end end;
    int left, ran;
    struct hook *frees; // unlinks another one of the same turn
    bool inside_turn;
    sem_t done;
};

static void on_turn_end(struct sys_turn_end *end)
{
    struct hook *h = container_of(end, struct hook, end);
    CHECK(!h->inside_turn);
    h->ran++;
    if (h->frees)
        list_remove(&h->frees->end.link);
    if (--h->left > 0)
        sys_at_turn_end(end);
    else
        sem_post(&h->done);
}

static void ask_twice(void *ctx)
{
    struct hook *h = ctx;
    h->inside_turn = true;
    sys_at_turn_end(&h->end);
    sys_at_turn_end(&h->end);
    if (h->frees)
        sys_at_turn_end(&h->frees->end);
    h->inside_turn = false;
}

static void turn_ends(void **state)
{
    struct sys_loop *loop = sys_loop_start("ends");
    struct hook other = {.end.fn = on_turn_end, .left = 1};
    struct hook once = {.end.fn = on_turn_end, .left = 1, .frees = &other};
    struct hook many = {.end.fn = on_turn_end, .left = 500}; // more than the rounds of one turn
    sem_init(&once.done, 0, 0);
    sem_init(&many.done, 0, 0);
    test_on_loop(loop, ask_twice, &once);
    assert_true(test_wait(&once.done));
    test_on_loop(loop, ask_twice, &many);
    assert_true(test_wait(&many.done));
    sys_loop_stop(loop);
    assert_int_equal(once.ran, 1);
    assert_int_equal(other.ran, 0);
    assert_int_equal(many.ran, 500);
}

static void same_clock(void *ctx)
{
    struct mono first = sys_mono();
    struct wall wall = sys_wall();
    usleep(3000);
    CHECK(sys_mono().us == first.us && sys_wall().us == wall.us);
    if (((struct mono *)ctx)->us != 0)
        CHECK(first.us >= ((struct mono *)ctx)->us + 3000);
    *(struct mono *)ctx = first;
}

static void clocks_once_a_turn(void **state)
{
    struct sys_loop *loop = sys_loop_start("clock");
    struct mono last = {0};
    test_on_loop(loop, same_clock, &last);
    test_on_loop(loop, same_clock, &last);
    sys_loop_stop(loop);
}

// ---- offload ----------------------------------------------------------------------------------

#define JOBS 40

struct work {
    struct sys_job job;
    int result;
};

static struct work works[JOBS];
static int works_done;
static bool disk_done_first;

static void do_work(struct sys_job *job)
{
    struct work *w = container_of(job, struct work, job);
    if (job->kind == SYS_JOB_CPU)
        usleep(20000);
    w->result = 42;
}

static void work_done(struct sys_job *job)
{
    struct work *w = container_of(job, struct work, job);
    CHECK(w->result == 42 && sys_loop_self() == job->home);
    if (job->kind == SYS_JOB_DISK)
        disk_done_first = works_done < JOBS - 1;
    works_done++;
}

static void start_works(void *ctx)
{
    for (int i = 0; i < JOBS; i++) {
        works[i].job.run = do_work;
        works[i].job.done = work_done;
        works[i].job.kind = i == JOBS - 1 ? SYS_JOB_DISK : SYS_JOB_CPU;
        sys_offload(&works[i].job);
    }
}

static int count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(tasks));)
        count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

static void threads_of_offload_are_there_before_jobs(void **state)
{
    struct sys_loop *loop = sys_loop_start("early");
    int before = count_threads();
    assert_true(before >= 1 + 1 + 1 + 4 + 4); // this, the loop, a core's, the disk's, the far ones
    test_on_loop(loop, start_works, NULL);
    assert_int_equal(count_threads(), before);
    sys_loop_stop(loop);
    works_done = 0;
}

static void offload_and_stop(void **state)
{
    struct sys_loop *loop = sys_loop_start("jobs");
    test_on_loop(loop, start_works, NULL);
    sys_loop_stop(loop); // waits for them
    assert_int_equal(works_done, JOBS);
    assert_true(disk_done_first); // the read did not queue behind 39 hashes
}

static sem_t hung, read_done;

static void hang(struct sys_job *job)
{
    (void)job;
    while (sem_wait(&hung) == -1)
        ;
}

static void hung_done(struct sys_job *job)
{
    (void)job;
}

static void read_is_done(struct sys_job *job)
{
    (void)job;
    sem_post(&read_done);
}

static void start_behind_hung(void *ctx)
{
    static struct sys_job far[8], read;
    (void)ctx;
    for (size_t i = 0; i < COUNT_OF(far); i++) {
        far[i] = (struct sys_job){.kind = SYS_JOB_FAR, .run = hang, .done = hung_done};
        sys_offload(&far[i]);
    }
    read = (struct sys_job){.kind = SYS_JOB_DISK, .run = hung_done, .done = read_is_done};
    sys_offload(&read);
}

// However many folders hang, the disk is read.
static void hanging_folders_hold_up_no_disk(void **state)
{
    (void)state;
    struct sys_loop *loop = sys_loop_start("far");
    sem_init(&hung, 0, 0);
    sem_init(&read_done, 0, 0);
    test_on_loop(loop, start_behind_hung, NULL);
    bool read = test_wait(&read_done);
    for (int i = 0; i < 8; i++)
        sem_post(&hung);
    sys_loop_stop(loop);
    assert_true(read);
}

// ---- scheduling ---------------------------------------------------------------------------------

// sched_getattr(2): size and policy, flags, nice value and priority, slice.
struct attributes {
    uint64_t size_and_policy, flags, nice_and_priority, slice_ns, deadline, period;
};

static struct attributes attributes_before, attributes_after;

static struct attributes attributes_now(void)
{
    struct attributes a = {0};
    CHECK(syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) == 0);
    return a;
}

static void ask_for_promptness(struct sys_task *task)
{
    attributes_before = attributes_now();
    sys_run_promptly();
    attributes_after = attributes_now();
}

// The slice is all that changes, and before Linux 6.12, which tells none, nothing.
static void runs_promptly(void **state)
{
    struct sys_loop *loop = sys_loop_start("prompt");
    struct sys_task task = {.run = ask_for_promptness};
    sys_post(loop, &task);
    sys_loop_stop(loop);
    assert_int_equal(attributes_after.slice_ns, attributes_before.slice_ns ? 100000 : 0);
    assert_int_equal(attributes_after.size_and_policy, attributes_before.size_and_policy);
    assert_int_equal(attributes_after.nice_and_priority, attributes_before.nice_and_priority);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_of_offload_are_there_before_jobs),
        cmocka_unit_test(posts_keep_their_order),
        cmocka_unit_test(posts_to_self),
        cmocka_unit_test(posts_to_a_stopping_loop),
        cmocka_unit_test(many_timers),
        cmocka_unit_test(timer_always_due),
        cmocka_unit_test(timers_fire_once_a_turn),
        cmocka_unit_test(turn_ends),
        cmocka_unit_test(clocks_once_a_turn),
        cmocka_unit_test(offload_and_stop),
        cmocka_unit_test(hanging_folders_hold_up_no_disk),
        cmocka_unit_test(runs_promptly),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
