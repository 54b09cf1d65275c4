// SPDX-License-Identifier: MIT
//
// spool_world_test - for tests: a spool on the simulator's loops and disk, and a client of it
#pragma once

#include "sim_disk.h"
#include "spool/spool_internal.h"
#include "spool/spool_test.h"

#define ROOT "/spool"
#define SEGMENT ((uint64_t)64 << 10)
#define PATIENCE_MS 60000

static struct sim_host *host;
static struct spool *spool;
static struct sys_loop *client;
static struct spool_options options;
static uint32_t told_messages, told_recipients;

static inline void on_message(void *ctx, const struct spool_summary *s)
{
    told_messages++;
    told_recipients += s->recipients_count;
}

static const struct spool_recovery recovery = {NULL, on_message, NULL};

// ---- the world ----------------------------------------------------------------------------------

struct call {
    struct sys_task task;
    void (*fn)(void *ctx);
    void *ctx;
    bool done;
};

static inline void run_call(struct sys_task *task)
{
    struct call *c = container_of(task, struct call, task);
    c->fn(c->ctx);
    c->done = true;
}

static inline bool is_true(void *ctx)
{
    return *(bool *)ctx;
}

static inline void wait_for(bool *flag)
{
    assert_true(sim_run_until(is_true, flag, PATIENCE_MS));
}

static inline void on_client(void (*fn)(void *ctx), void *ctx)
{
    struct call c = {.task.run = run_call, .fn = fn, .ctx = ctx};
    sys_post(client, &c.task);
    wait_for(&c.done);
}

static inline void open_in_host(void *ctx)
{
    told_messages = told_recipients = 0;
    *(int *)ctx = spool_open(&options, &recovery, &spool);
    if (*(int *)ctx)
        return;
    client = sys_loop_start("client");
    spool_start(spool);
}

static inline void start_spool(void)
{
    int err = -1;
    assert_true(sim_host_call(host, open_in_host, &err));
    assert_int_equal(err, OK);
}

static inline void stop_in_host(void *ctx)
{
    spool_stop(spool);
    sys_loop_stop(client);
    spool_close(spool);
}

static inline void stop_spool(void)
{
    assert_true(sim_host_call(host, stop_in_host, NULL));
}

static inline void begin(uint64_t seed)
{
    sim_start(seed);
    host = sim_host_new("relay", NULL);
    options = (struct spool_options){
        .directory = ROOT, .segment_bytes = SEGMENT, .free_bytes_min = SEGMENT};
    start_spool();
}

static inline void end(void)
{
    stop_spool();
    sim_stop();
}

static inline void swallow(void *ctx, struct bytes line)
{
}

// ---- what a client does -------------------------------------------------------------------------

struct commit {
    struct spool_frame *frame;
    int err;
    bool done;
};

static inline void on_committed(void *ctx, int err)
{
    struct commit *c = ctx;
    c->err = err;
    c->done = true;
}

static inline void do_commit(void *ctx)
{
    struct commit *c = ctx;
    spool_commit(spool, c->frame, on_committed, c);
}

static inline int commit(struct spool_frame *frame)
{
    struct commit c = {.frame = frame};
    on_client(do_commit, &c);
    wait_for(&c.done);
    return c.err;
}

static inline struct spool_frame *accept_frame(uint32_t n, size_t body_bytes)
{
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    struct stored_message *m = test_message(n, body_bytes);
    spool_frame_add_message(f, m);
    stored_message_unref(m);
    return f;
}

static inline struct spool_frame *settle_frame(uint32_t n)
{
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    for (uint32_t r = 1; r <= 1 + n % 3; r++) {
        struct spool_outcome o = test_outcome(n, r, RECIPIENT_DELIVERED);
        spool_frame_add_outcome(f, &o);
    }
    return f;
}

struct reading {
    struct spool_read read;
    bool done;
};

static inline void on_read(struct spool_read *read)
{
    container_of(read, struct reading, read)->done = true;
}

static inline void do_read(void *ctx)
{
    spool_read(spool, &((struct reading *)ctx)->read);
}

static inline int read_message(uint32_t n, struct stored_message **out)
{
    struct reading r = {.read = {.id = test_id(n), .done = on_read}};
    on_client(do_read, &r);
    wait_for(&r.done);
    *out = r.read.message;
    return r.read.err;
}

static inline void assert_reads_back(uint32_t n, size_t body_bytes)
{
    struct stored_message *want = test_message(n, body_bytes), *got;
    assert_int_equal(read_message(n, &got), OK);
    assert_true(test_same_message(got, want));
    stored_message_unref(want);
    stored_message_unref(got);
}
