// SPDX-License-Identifier: MIT
//
// Workers, intake and askers on threads of their own: for the thread sanitizer, and to see all mail leave.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/test_base.h"
#include "queue/queue.h"

enum { WORKERS = 3, MESSAGES = 3000, SITES = 7 };

static struct queue *queue;
static atomic_uint delivered, released;

static struct queue_now now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t us = t.tv_sec * 1000000LL + t.tv_nsec / 1000;
    return (struct queue_now){{us}, {us + 1800000000000000}};
}

static void release_stored(void *message)
{
    (void)message;
    atomic_fetch_add(&released, 1);
}

static void serve(struct queue_connection *c)
{
    struct queue_batch *b;
    uint64_t kicks = 0;
    while (queue_take(queue, c, now(), &b, &kicks) == QUEUE_TAKE_BATCH) {
        atomic_fetch_add(&delivered, b->count);
        queue_settle_all(queue, b, (struct queue_result){.outcome = QUEUE_DONE}, now(), &kicks);
    }
    queue_disconnected(queue, c, false, BYTES_NONE, now(), &kicks);
}

static void resolve(const struct queue_work *work)
{
    char lane[64];
    uint64_t kicks = 0;
    int n = snprintf(lane, sizeof(lane), "site%u", (unsigned)work->name[0] % SITES);
    struct queue_resolution r = {.lane = bytes_of(lane, (size_t)n), .ttl_ms = 1000};
    queue_resolved(queue, work->domain, &r, now(), &kicks);
}

static void *run_worker(void *arg)
{
    struct queue_work *work = mem_new(sizeof(*work));
    uint32_t worker = (uint32_t)(uintptr_t)arg;
    struct queue_now end = now();
    end.mono.us += 20000000;
    while (atomic_load(&delivered) < MESSAGES && now().mono.us < end.mono.us) {
        uint64_t kicks = 0;
        queue_next(queue, worker, true, now(), work, &kicks);
        if (work->kind == QUEUE_RESOLVE)
            resolve(work);
        else if (work->kind == QUEUE_CONNECT) {
            queue_connected(queue, &work->connection, QUEUE_PROOF_NONE, now(), &kicks);
            serve(&work->connection);
        } else
            CHECK(work->kind == QUEUE_IDLE);
    }
    free(work);
    return NULL;
}

static void *run_intake(void *arg)
{
    (void)arg;
    static int stored;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        char domain[16];
        int n = snprintf(domain, sizeof(domain), "%c.example", 'a' + (char)(i % 26));
        struct queue_recipient r = {.number = 1, .domain = bytes_of(domain, (size_t)n)};
        uint64_t kicks = 0;
        struct queue_message_new m = {.id = {1, i},
                                      .account = i % 3,
                                      .accepted_at = now().wall,
                                      .expires_at = WALL_NEVER,
                                      .size = 10,
                                      .stored = {&stored, release_stored, 10},
                                      .recipients = &r,
                                      .recipients_count = 1};
        CHECK(queue_add(queue, &m, now(), &kicks) == OK);
    }
    return NULL;
}

static void *run_asker(void *arg)
{
    (void)arg;
    while (atomic_load(&delivered) < MESSAGES) {
        struct queue_counts c;
        struct queue_row rows[10];
        struct queue_lane_row *lanes = mem_new(4 * sizeof(*lanes));
        struct queue_reason why;
        uint64_t cursor = 0;
        queue_count(queue, &c);
        queue_list(queue, &(struct queue_filter){0}, &cursor, now(), rows, 10);
        cursor = 0;
        queue_lanes(queue, &cursor, now(), lanes, 4);
        (void)!queue_why(queue, (struct message_id){1, 77}, 0, now(), &why);
        free(lanes);
        nanosleep(&(struct timespec){0, 200000}, NULL);
    }
    return NULL;
}

static void threads_share_the_queue(void **state)
{
    (void)state;
    struct conf *conf;
    struct buf errors = {0};
    assert_int_equal(conf_load_text(BYTES("hostname: t.example\n"), "test", "/", &conf, &errors),
                     OK);
    queue = queue_new(
        &(struct queue_options){.workers = WORKERS, .conf = conf, .stored_bytes_max = 1000});
    pthread_t threads[WORKERS + 2];
    for (uintptr_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_worker, (void *)i), 0);
    assert_int_equal(pthread_create(&threads[WORKERS], NULL, run_intake, NULL), 0);
    assert_int_equal(pthread_create(&threads[WORKERS + 1], NULL, run_asker, NULL), 0);
    for (int i = 0; i < WORKERS + 2; i++)
        pthread_join(threads[i], NULL);
    assert_number("delivered", atomic_load(&delivered), MESSAGES);
    assert_number("released", atomic_load(&released), MESSAGES);
    queue_free(queue);
    conf_free(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_share_the_queue)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
