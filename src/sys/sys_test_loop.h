// SPDX-License-Identifier: MIT
//
// sys_test_loop - for tests: run something on a loop's thread, wait until what it started is over
#pragma once

#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "sys/sys.h"

#define TEST_WAIT_S 60

struct test_call {
    struct sys_task task;
    void (*fn)(void *ctx);
    void *ctx;
    sem_t done;
};

static inline void test_call_run(struct sys_task *task)
{
    struct test_call *call = container_of(task, struct test_call, task);
    call->fn(call->ctx);
    sem_post(&call->done);
}

// Runs fn(ctx) on the loop and returns when it has returned.
static inline void test_on_loop(struct sys_loop *loop, void (*fn)(void *ctx), void *ctx)
{
    struct test_call call = {.task.run = test_call_run, .fn = fn, .ctx = ctx};
    sem_init(&call.done, 0, 0);
    sys_post(loop, &call.task);
    while (sem_wait(&call.done) != 0)
        ;
    sem_destroy(&call.done);
}

// Waits for a sem_post() from a loop; false after TEST_WAIT_S.
static inline bool test_wait(sem_t *done)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TEST_WAIT_S;
    int rc;
    while ((rc = sem_timedwait(done, &until)) != 0 && errno == EINTR)
        ;
    return rc == 0;
}
