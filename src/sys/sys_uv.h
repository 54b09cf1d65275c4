// SPDX-License-Identifier: MIT
//
// sys_uv - what the files of the libuv implementation share
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "sys/sys_core.h"

#define SYS_WAKES 16         // put off at a time
#define SYS_READ_BYTES 32768 // one read buffer a loop, lent to whichever stream reads

struct sys_loop {
    struct sys_core core;
    const char *name;
    pthread_t thread;
    uv_loop_t uv;
    uv_async_t wake;
    uv_prepare_t before_wait;
    uv_check_t after_wait;
    uv_idle_t no_wait; // active: the turn's wait returns at once
    uv_timer_t timer;  // stands for the first of core.timers
    int64_t armed_us;  // what `timer` is set for
    bool clocks_read;
    struct mono mono;
    struct wall wall;
    _Atomic(struct sys_task *) inbox; // newest first
    atomic_uint posting;              // threads inside sys_post()
    // Loops whose inbox this one's posts have filled in this turn, to be woken at its end
    struct sys_loop *to_wake[SYS_WAKES];
    unsigned to_wake_count;
    atomic_bool closed; // posts are dropped
    unsigned jobs;      // offloaded and not done
    bool stopping;
    struct sys_task stop;
    struct list streams, listeners, watches; // all that are open
    char *read_buffer;                       // SYS_READ_BYTES
    struct list stopped;                     // all that have stopped
};

// A negative libuv error as one of enum err.
int sys_uv_err(int uv_error);
// Closes without a word what the owners left open when the loop stops.
void sys_uv_abandon_streams(struct sys_loop *loop);
void sys_uv_abandon_listeners(struct sys_loop *loop);
void sys_uv_abandon_watches(struct sys_loop *loop);
// A stream over an accepted, non-blocking descriptor (taken over); NULL if libuv refuses it.
struct sys_stream *sys_uv_stream_accepted(int fd, const struct sys_addr *peer);
// Starts the threads of sys_offload, unless they run. Ends the process if they can't be made.
void sys_uv_start_offload(void);
// A job is done on its home loop: a loop that stops waits for its jobs.
void sys_uv_job_done(struct sys_loop *loop);
