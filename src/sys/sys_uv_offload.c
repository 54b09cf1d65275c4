// SPDX-License-Identifier: MIT
//
// sys_uv_offload - three pools of threads: for the processor, for the disk, for folders that may hang
//
// How it works. Password hashes must not queue behind slow file reads, nor reads behind a row of 20
// ms hashes, nor either behind a server of files that does not answer, so each kind has its own queue
// and threads: as many as cores for SYS_JOB_CPU, DISK_THREADS for SYS_JOB_DISK, FAR_THREADS for
// SYS_JOB_FAR. The threads start with the first loop, as the process does: later there may be none
// left to start. They live as long as the process.
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "sys/sys_uv.h"

#define DISK_THREADS 4
#define FAR_THREADS 4
#define CPU_THREADS_MAX 64

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct sys_task *first, **last;
    const char *name;
};

static struct pool pools[SYS_JOB_KINDS] = {
    [SYS_JOB_CPU] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, .name = "offload-cpu"},
    [SYS_JOB_DISK] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, .name = "offload-disk"},
    [SYS_JOB_FAR] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, .name = "offload-far"},
};
static pthread_once_t started = PTHREAD_ONCE_INIT;

static void run_done(struct sys_task *task)
{
    struct sys_job *job = container_of(task, struct sys_job, task);
    struct sys_loop *home = job->home;
    job->done(job); // may free the job
    sys_uv_job_done(home);
}

static struct sys_job *take_job(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (!pool->first)
        pthread_cond_wait(&pool->more, &pool->lock);
    struct sys_task *task = pool->first;
    pool->first = task->next;
    if (!pool->first)
        pool->last = &pool->first;
    pthread_mutex_unlock(&pool->lock);
    return container_of(task, struct sys_job, task);
}

static void *run_pool(void *arg)
{
    struct pool *pool = arg;
    pthread_setname_np(pthread_self(), pool->name);
    for (;;) {
        struct sys_job *job = take_job(pool);
        job->run(job);
        job->task.run = run_done;
        sys_post(job->home, &job->task);
    }
    return NULL;
}

static void start_pool(struct pool *pool, long threads)
{
    pool->last = &pool->first;
    for (long i = 0; i < threads; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, run_pool, pool) == 0);
        pthread_detach(thread);
    }
}

static void start_pools(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    start_pool(&pools[SYS_JOB_CPU], cores < 1                 ? 1
                                    : cores > CPU_THREADS_MAX ? CPU_THREADS_MAX
                                                              : cores);
    start_pool(&pools[SYS_JOB_DISK], DISK_THREADS);
    start_pool(&pools[SYS_JOB_FAR], FAR_THREADS);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void sys_uv_start_offload(void)
{
    pthread_once(&started, start_pools);
}

void sys_offload(struct sys_job *job)
{
    job->home = sys_loop_self();
    job->home->jobs++;
    job->task.next = NULL;
    struct pool *pool = &pools[job->kind];
    pthread_mutex_lock(&pool->lock);
    *pool->last = &job->task;
    pool->last = &job->task.next;
    pthread_cond_signal(&pool->more);
    pthread_mutex_unlock(&pool->lock);
}
