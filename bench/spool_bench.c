// SPDX-License-Identifier: MIT
//
// spool_bench - how many messages a second the journal takes, and at what cost
//
//     spool_bench DIRECTORY [SESSIONS [MESSAGES [BODY_BYTES]]]
//
// SESSIONS sessions on one loop each commit a message, wait for the flush, record its delivery and commit the
// next. Prints one JSON object: messages a second, flushes and microseconds of processor time a message (of
// the whole process: making the message, encoding, hashing, writing, both posts).
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/check.h"
#include "spool/spool.h"

struct bench {
    struct spool *spool;
    struct sys_task start;
    uint32_t sessions, live;
    uint32_t messages, begun;
    size_t body_bytes;
    char *body;
    sem_t finished;
};

struct session {
    struct bench *bench;
    struct message_id id;
};

static void next_message(struct session *s);

static struct stored_message *make_message(struct session *s)
{
    struct stored_message *m = stored_message_new();
    struct envelope *e = m->envelope;
    e->id = s->id;
    e->accepted_at = sys_wall();
    e->expires_at = wall_add_ms(e->accepted_at, 5 * 86400000LL);
    e->reverse_path = BYTES("sender@example.org");
    e->account_name = BYTES("bench");
    e->client = BYTES("192.0.2.1:4711");
    e->helo = BYTES("client.example.org");
    e->recipients_count = 1;
    e->recipients = arena_new(&m->arena, sizeof(*e->recipients));
    e->recipients[0] = (struct recipient){
        .number = 1, .address = BYTES("someone@example.net"), .domain = BYTES("example.net")};
    m->header =
        BYTES("From: sender@example.org\r\nTo: someone@example.net\r\nSubject: bench\r\n\r\n");
    e->header_bytes = m->header.len;
    chain_add(&m->body, bytes_of(s->bench->body, s->bench->body_bytes));
    e->body_bytes = m->body.len;
    return m;
}

static void on_settled(void *ctx, int err)
{
    CHECK(err == OK);
    next_message(ctx);
}

static void on_accepted(void *ctx, int err)
{
    struct session *s = ctx;
    CHECK(err == OK);
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_outcome(f, &(struct spool_outcome){.id = s->id,
                                                       .recipient = 1,
                                                       .state = RECIPIENT_DELIVERED,
                                                       .event = SPOOL_EVENT_DELIVERED,
                                                       .attempts = 1,
                                                       .at = sys_wall(),
                                                       .mx = BYTES("mx.example.net"),
                                                       .ip = BYTES("192.0.2.25:25"),
                                                       .code = 250,
                                                       .text = BYTES("2.0.0 Ok: queued")});
    spool_commit(s->bench->spool, f, on_settled, s);
}

static void next_message(struct session *s)
{
    struct bench *b = s->bench;
    if (b->begun == b->messages) {
        free(s);
        if (--b->live == 0)
            sem_post(&b->finished);
        return;
    }
    b->begun++;
    s->id = spool_next_id(b->spool, sys_wall());
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    struct stored_message *m = make_message(s);
    spool_expect(b->spool, 1);
    spool_frame_add_message(f, m);
    spool_frame_set_expected(f);
    stored_message_unref(m);
    spool_commit(b->spool, f, on_accepted, s);
}

static void run_start(struct sys_task *task)
{
    struct bench *b = container_of(task, struct bench, start);
    b->live = b->sessions;
    for (uint32_t i = 0; i < b->sessions; i++) {
        struct session *s = mem_new(sizeof(*s));
        s->bench = b;
        next_message(s);
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void report(struct bench *b, double wall, double cpu)
{
    struct spool_stats s;
    spool_get_stats(b->spool, &s);
    printf("{\"sessions\":%u,\"messages\":%u,\"body_bytes\":%zu,\"messages_per_second\":%.0f,"
           "\"flushes_per_message\":%.3f,\"cpu_us_per_message\":%.1f,\"written_per_byte\":%.2f}\n",
           b->sessions, b->messages, b->body_bytes, b->messages / wall,
           (double)s.flushes / b->messages, cpu * 1e6 / b->messages,
           (double)s.written_bytes / ((double)b->messages * (double)b->body_bytes));
}

static uint32_t number(int argc, char **argv, int i, uint32_t otherwise)
{
    return argc > i ? (uint32_t)strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: spool_bench DIRECTORY [SESSIONS [MESSAGES [BODY_BYTES]]]\n");
        return 64;
    }
    struct bench b = {.sessions = number(argc, argv, 2, 50),
                      .messages = number(argc, argv, 3, 20000),
                      .body_bytes = number(argc, argv, 4, 4096),
                      .start.run = run_start};
    struct spool_options options = {.directory = argv[1]};
    if (b.sessions == 0 || b.messages < b.sessions || b.body_bytes > STORED_INLINE_MAX)
        return 64;
    b.body = mem_new(b.body_bytes + 1);
    memset(b.body, 'x', b.body_bytes);
    sem_init(&b.finished, 0, 0);
    if (spool_open(&options, NULL, &b.spool))
        return 75;
    spool_start(b.spool);
    struct sys_loop *loop = sys_loop_start("bench");
    double wall = seconds(), cpu = cpu_seconds();
    sys_post(loop, &b.start);
    while (sem_wait(&b.finished))
        ;
    report(&b, seconds() - wall, cpu_seconds() - cpu);
    spool_stop(b.spool);
    sys_loop_stop(loop);
    spool_close(b.spool);
    free(b.body);
    return 0;
}
