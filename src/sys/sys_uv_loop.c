// SPDX-License-Identifier: MIT
//
// sys_uv_loop - loops, posts, clocks and timers over libuv
//
// How it works. A turn is: wait; callbacks of descriptors and posts; turn-end hooks (uv_check);
// timers; turn-end hooks again (uv_prepare), then the next wait. The clocks are read by the first
// that asks in a turn. Posts are pushed on a lock-free stack, which the loop takes whole and
// reverses; only the push on an empty stack wakes the loop, so a burst costs one write.
#include "sys/sys_uv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define WAIT_MS_MAX 3600000   // a timer further away is looked at again then
#define SHORT_SLICE_NS 100000 // the least that there is

static _Thread_local struct sys_loop *self;

struct sys_loop *sys_loop_self(void)
{
    CHECK(self != NULL);
    return self;
}

struct sys_core *sys_core_of(struct sys_loop *loop)
{
    return &loop->core;
}

int sys_uv_err(int uv_error)
{
    switch (uv_error) {
    case UV_EOF:
        return E_CLOSED;
    case UV_ECONNREFUSED:
    case UV_ENOENT: // a Unix socket that is not there
        return E_REFUSED;
    case UV_EHOSTUNREACH:
    case UV_ENETUNREACH:
    case UV_ENETDOWN:
    case UV_EADDRNOTAVAIL:
    case UV_EAFNOSUPPORT:
    case UV_EACCES:
    case UV_EPERM:
        return E_UNREACHABLE;
    case UV_ETIMEDOUT:
        return E_TIMEOUT;
    case UV_EMFILE:
    case UV_ENFILE:
    case UV_ENOBUFS:
    case UV_ENOMEM:
        return E_FULL;
    default:
        return E_IO;
    }
}

// ---- clocks -----------------------------------------------------------------------------------

static int64_t read_clock_us(clockid_t id)
{
    struct timespec t;
    CHECK(clock_gettime(id, &t) == 0);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void read_clocks(struct sys_loop *loop)
{
    if (loop->clocks_read)
        return;
    loop->mono.us = read_clock_us(CLOCK_MONOTONIC);
    loop->wall.us = read_clock_us(CLOCK_REALTIME);
    loop->clocks_read = true;
}

struct mono sys_mono(void)
{
    read_clocks(sys_loop_self());
    return self->mono;
}

struct mono sys_mono_now(void)
{
    return (struct mono){read_clock_us(CLOCK_MONOTONIC)};
}

struct wall sys_wall(void)
{
    read_clocks(sys_loop_self());
    return self->wall;
}

// ---- the turn ---------------------------------------------------------------------------------

static void on_timer(uv_timer_t *timer)
{
    struct sys_loop *loop = timer->data;
    loop->armed_us = MONO_NEVER.us;
    sys_core_run_timers(&loop->core, sys_mono());
}

static void on_no_wait(uv_idle_t *idle)
{
}

// Hooks that keep asking again go on in the next turn, which then must not wait.
static void run_turn_ends(struct sys_loop *loop)
{
    if (sys_core_run_turn_ends(&loop->core))
        uv_idle_start(&loop->no_wait, on_no_wait);
    else
        uv_idle_stop(&loop->no_wait);
    sys_hand_over();
}

// libuv's clock is CLOCK_MONOTONIC in whole ms: the wait is taken from the absolute time, rounded
// up.
static void arm_timer(struct sys_loop *loop)
{
    struct mono next = sys_core_next_timer(&loop->core);
    if (next.us == loop->armed_us)
        return;
    loop->armed_us = next.us;
    if (next.us == MONO_NEVER.us) {
        uv_timer_stop(&loop->timer);
        return;
    }
    int64_t wait_ms = next.us / 1000 + 1 - (int64_t)uv_now(&loop->uv);
    if (wait_ms < 0)
        wait_ms = 0;
    if (wait_ms > WAIT_MS_MAX)
        wait_ms = WAIT_MS_MAX;
    uv_timer_start(&loop->timer, on_timer, (uint64_t)wait_ms, 0);
}

static void on_before_wait(uv_prepare_t *prepare)
{
    struct sys_loop *loop = prepare->data;
    run_turn_ends(loop);
    arm_timer(loop);
    loop->clocks_read = false;
}

static void on_after_wait(uv_check_t *check)
{
    run_turn_ends(check->data);
}

// ---- posts ------------------------------------------------------------------------------------

// Who stops a loop sets `closed` and then waits for `posting`: nobody wakes a loop that is gone.
static void wake(struct sys_loop *loop)
{
    atomic_fetch_add(&loop->posting, 1);
    if (!atomic_load(&loop->closed))
        uv_async_send(&loop->wake);
    atomic_fetch_sub(&loop->posting, 1);
}

void sys_hand_over(void)
{
    log_flush();
    while (self && self->to_wake_count)
        wake(self->to_wake[--self->to_wake_count]);
}

// sched_setattr(2), for which the C library has no words.
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t slice_ns, deadline_ns, period_ns;
};

void sys_run_promptly(void)
{
    struct scheduling s = {.size = sizeof s};
    if (syscall(SYS_sched_getattr, 0, &s, sizeof s, 0) != 0)
        return;
    s.slice_ns = SHORT_SLICE_NS; // its nice value and policy stay
    (void)syscall(SYS_sched_setattr, 0, &s, 0);
}

// A loop that posts in its turn wakes the other at the turn's end, once for all of it.
static void wake_later(struct sys_loop *loop)
{
    if (self && self->to_wake_count < SYS_WAKES)
        self->to_wake[self->to_wake_count++] = loop;
    else
        wake(loop);
}

void sys_post(struct sys_loop *to, struct sys_task *task)
{
    atomic_fetch_add(&to->posting, 1);
    bool closed = atomic_load(&to->closed);
    struct sys_task *head = closed ? task : atomic_load(&to->inbox);
    if (!closed)
        do
            task->next = head;
        while (!atomic_compare_exchange_weak(&to->inbox, &head, task));
    atomic_fetch_sub(&to->posting, 1);
    if (!head)
        wake_later(to);
}

static struct sys_task *take_inbox(struct sys_loop *loop)
{
    struct sys_task *newest = atomic_exchange(&loop->inbox, NULL), *oldest = NULL;
    while (newest) {
        struct sys_task *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void on_wake(uv_async_t *wake)
{
    struct sys_task *task = take_inbox(wake->data);
    while (task) {
        struct sys_task *next = task->next; // run() may free the task or post it again
        task->run(task);
        task = next;
    }
}

// ---- start and stop ---------------------------------------------------------------------------

static void stop_if_idle(struct sys_loop *loop)
{
    if (loop->stopping && loop->jobs == 0)
        uv_stop(&loop->uv);
}

void sys_uv_job_done(struct sys_loop *loop)
{
    loop->jobs--;
    stop_if_idle(loop);
}

static void run_stop(struct sys_task *task)
{
    struct sys_loop *loop = container_of(task, struct sys_loop, stop);
    loop->stopping = true;
    stop_if_idle(loop);
}

static void close_all(struct sys_loop *loop)
{
    sys_uv_abandon_streams(loop);
    sys_uv_abandon_listeners(loop);
    sys_uv_abandon_watches(loop);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->before_wait, NULL);
    uv_close((uv_handle_t *)&loop->after_wait, NULL);
    uv_close((uv_handle_t *)&loop->no_wait, NULL);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop->uv) == 0);
}

static void *run_thread(void *arg)
{
    self = arg;
    log_hold();
    char name[16]; // by the thread itself: the relay may not write in /proc
    snprintf(name, sizeof name, "%.15s", self->name);
    pthread_setname_np(pthread_self(), name);
    uv_run(&self->uv, UV_RUN_DEFAULT);
    atomic_store(&self->closed, true);
    while (atomic_load(&self->posting) != 0)
        sched_yield();
    close_all(self);
    sys_hand_over();
    return NULL;
}

static void init_uv(struct sys_loop *loop)
{
    CHECK(uv_loop_init(&loop->uv) == 0);
    CHECK(uv_async_init(&loop->uv, &loop->wake, on_wake) == 0);
    uv_prepare_init(&loop->uv, &loop->before_wait);
    uv_check_init(&loop->uv, &loop->after_wait);
    uv_idle_init(&loop->uv, &loop->no_wait);
    uv_timer_init(&loop->uv, &loop->timer);
    loop->wake.data = loop->before_wait.data = loop->after_wait.data = loop->timer.data = loop;
    uv_prepare_start(&loop->before_wait, on_before_wait);
    uv_check_start(&loop->after_wait, on_after_wait);
}

struct sys_loop *sys_loop_start(const char *name)
{
    sys_uv_start_offload();
    struct sys_loop *loop = mem_new(sizeof *loop);
    loop->name = name;
    loop->armed_us = MONO_NEVER.us;
    loop->stop.run = run_stop;
    loop->read_buffer = mem_new(SYS_READ_BYTES);
    sys_core_init(&loop->core);
    list_init(&loop->streams);
    list_init(&loop->listeners);
    list_init(&loop->watches);
    init_uv(loop);
    // Signals are the main thread's; SIGPIPE too stays blocked, so a write to a dead peer is an
    // error.
    sigset_t all, before;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    int rc = pthread_create(&loop->thread, NULL, run_thread, loop);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    CHECK(rc == 0);
    return loop;
}

// What is left of stopped loops, so that a late post finds `closed` and not freed memory.
static struct list stopped_loops;
static pthread_mutex_t stopped_lock = PTHREAD_MUTEX_INITIALIZER;

static void bury(struct sys_loop *loop)
{
    pthread_mutex_lock(&stopped_lock);
    if (!stopped_loops.next)
        list_init(&stopped_loops);
    list_push_back(&stopped_loops, &loop->stopped);
    pthread_mutex_unlock(&stopped_lock);
}

void sys_loop_stop(struct sys_loop *loop)
{
    CHECK(loop != self);
    sys_post(loop, &loop->stop);
    if (self)
        sys_hand_over();
    CHECK(pthread_join(loop->thread, NULL) == 0);
    sys_core_done(&loop->core);
    free(loop->read_buffer);
    loop->read_buffer = NULL;
    bury(loop);
}
