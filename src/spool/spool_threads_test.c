// SPDX-License-Identifier: MIT
//
// The spool on real threads and a real disk: two loops of clients, one that follows the journal, a backup
// under way. Made for ThreadSanitizer.
#include <stdlib.h>
#include <unistd.h>

#include "spool/spool_body.h"
#include "spool/spool_extent.h"
#include "spool/spool_reader.h"
#include "spool/spool_test.h"
#include "sys/sys_test_loop.h"

#define CLIENTS 2
#define SESSIONS 8
#define ROUNDS 60
#define LARGE 300000

static struct spool *spool;
static char directory[64], copy[80];

// One client session: accept, read back, settle; every 10th message is large.
struct session {
    struct spool_read read;
    struct stored_message *message;
    struct spool_extent *extent;
    struct spool_body body;
    uint64_t offset;
    uint32_t number, left;
    atomic_int *running;
    sem_t *over;
};

static void next_round(struct session *s);

static void on_settled(void *ctx, int err)
{
    CHECK(err == OK);
    next_round(ctx);
}

static void settle(struct session *s)
{
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    for (uint32_t r = 1; r <= 1 + s->number % 3; r++) {
        struct spool_outcome o = test_outcome(s->number, r, RECIPIENT_DELIVERED);
        spool_frame_add_outcome(f, &o);
    }
    stored_message_unref(s->message);
    spool_commit(spool, f, on_settled, s);
}

static void read_body(void *ctx)
{
    struct session *s = ctx;
    struct bytes piece;
    int err;
    while ((err = spool_body_read(&s->body, s->offset, 8192, &piece)) == OK && piece.len)
        s->offset += piece.len;
    if (err == E_AGAIN)
        return;
    CHECK(err == OK && s->offset == s->read.message->envelope->body_bytes);
    spool_body_done(&s->body);
    stored_message_unref(s->read.message);
    settle(s);
}

static void on_read(struct spool_read *read)
{
    struct session *s = container_of(read, struct session, read);
    CHECK(read->err == OK);
    CHECK(read->message->body_in_extent || test_same_message(read->message, s->message));
    s->offset = 0;
    spool_body_init(&s->body, spool, read->message, read_body, s);
    read_body(s);
}

static void on_accepted(void *ctx, int err)
{
    struct session *s = ctx;
    CHECK(err == OK);
    s->read = (struct spool_read){.id = test_id(s->number), .done = on_read};
    spool_read(spool, &s->read);
}

static void accept(struct session *s)
{
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_message(f, s->message);
    spool_frame_set_expected(f);
    spool_commit(spool, f, on_accepted, s);
}

static void on_extent(void *ctx, int err)
{
    CHECK(err == OK);
    accept(ctx);
}

static void send_large(struct session *s)
{
    char data[CHUNK_BYTES] = {0};
    s->extent = spool_extent_begin(spool, test_id(s->number), NULL, s);
    for (size_t sent = 0; sent < LARGE; sent += sizeof(data)) {
        struct chain c = {0};
        chain_add(&c, bytes_of(data, sizeof(data)));
        spool_extent_write(s->extent, &c);
    }
    spool_extent_finish(s->extent, s->message, on_extent);
}

static void next_round(struct session *s)
{
    if (s->left-- == 0) {
        if (atomic_fetch_sub(s->running, 1) == 1)
            sem_post(s->over);
        free(s);
        return;
    }
    s->number++;
    spool_expect(spool, 1);
    bool large = s->left % 10 == 0;
    s->message = test_message(s->number, large ? 0 : 3000);
    if (large)
        send_large(s);
    else
        accept(s);
}

// ---- the loops ----------------------------------------------------------------------------------

static atomic_int running;
static sem_t over;

static void start_sessions(void *ctx)
{
    uint32_t base = *(uint32_t *)ctx;
    for (uint32_t i = 0; i < SESSIONS; i++) {
        struct session *s = mem_new(sizeof(*s));
        *s = (struct session){
            .number = base + i * 1000, .left = ROUNDS, .running = &running, .over = &over};
        next_round(s);
    }
}

static struct spool_reader *reader;
static struct spool_watch watch;
static uint32_t seen;
static bool stopping;

static void follow(void *ctx)
{
    struct spool_record record;
    int err;
    while ((err = spool_reader_next(reader, &record)) == OK) {
        seen += record.type == SPOOL_RECORD_MESSAGE;
        spool_copied(spool, SPOOL_HISTORY, record.sequence);
    }
    CHECK(err == E_AGAIN);
    if (ctx)
        spool_watch(reader, ctx);
}

static void on_watch(struct sys_task *task)
{
    follow(stopping ? NULL : &watch);
}

static void stop_following(void *ctx)
{
    stopping = true;
    follow(NULL);
}

static void on_backup(void *ctx, int err)
{
    CHECK(err == OK);
    sem_post(ctx);
}

static void start_backup(void *ctx)
{
    spool_backup(spool, copy, NULL, on_backup, ctx);
}

static void test_threads(void **state)
{
    struct spool_stats stats;
    struct sys_loop *clients[CLIENTS], *follower;
    sem_t backed_up;
    sem_init(&over, 0, 0);
    sem_init(&backed_up, 0, 0);
    snprintf(directory, sizeof(directory), "spool_threads_test.XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(copy, sizeof(copy), "%s/copy", directory);
    struct spool_options options = {
        .directory = directory, .segment_bytes = SPOOL_SEGMENT_BYTES_MIN, .followers = 1};
    assert_int_equal(spool_open(&options, NULL, &spool), OK);
    spool_start(spool);
    atomic_init(&running, CLIENTS * SESSIONS);
    follower = sys_loop_start("follower");
    reader = spool_reader_open(spool, 0);
    watch = (struct spool_watch){.task.run = on_watch, .loop = follower};
    test_on_loop(follower, follow, &watch);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        uint32_t base = i * 100000;
        clients[i] = sys_loop_start("client");
        test_on_loop(clients[i], start_sessions, &base);
    }
    test_on_loop(clients[0], start_backup, &backed_up);
    assert_true(test_wait(&over));
    assert_true(test_wait(&backed_up));
    test_on_loop(follower, stop_following, NULL);
    spool_get_stats(spool, &stats);
    assert_int_equal(stats.live_messages, 0);
    assert_int_equal(seen, CLIENTS * SESSIONS * ROUNDS);
    spool_stop(spool);
    for (uint32_t i = 0; i < CLIENTS; i++)
        sys_loop_stop(clients[i]);
    sys_loop_stop(follower);
    spool_reader_close(reader);
    spool_close(spool);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    assert_int_equal(system(command), 0);
}

#define OLD_MESSAGES 3000
#define OLD_BASE 1000000

static uint32_t told;
static sem_t all_told;

static void on_message(void *ctx, const struct spool_summary *summary)
{
    told++;
}

static void on_slice(void *ctx, bool all)
{
    CHECK(all != spool_is_telling(spool));
    if (all)
        sem_post(&all_told);
}

static atomic_int accepting;

static void on_old_accepted(void *ctx, int err)
{
    CHECK(err == OK);
    if (atomic_fetch_sub(&accepting, 1) == 1)
        sem_post(&over);
}

static void accept_old(void *ctx)
{
    atomic_init(&accepting, OLD_MESSAGES);
    for (uint32_t i = 0; i < OLD_MESSAGES; i++) {
        struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
        struct stored_message *m = test_message(OLD_BASE + i, 10);
        spool_frame_add_message(f, m);
        stored_message_unref(m);
        spool_commit(spool, f, on_old_accepted, NULL);
    }
}

// Old messages are told on the spool's loop while two others put new ones through.
static void test_told_while_working(void **state)
{
    struct spool_recovery recovery = {.on_message = on_message, .on_slice = on_slice, .at_once = 1};
    struct sys_loop *clients[CLIENTS];
    sem_init(&over, 0, 0);
    sem_init(&all_told, 0, 0);
    snprintf(directory, sizeof(directory), "spool_threads_test.XXXXXX");
    assert_non_null(mkdtemp(directory));
    struct spool_options options = {.directory = directory,
                                    .segment_bytes = SPOOL_SEGMENT_BYTES_MIN};
    assert_int_equal(spool_open(&options, NULL, &spool), OK);
    spool_start(spool);
    clients[0] = sys_loop_start("client");
    test_on_loop(clients[0], accept_old, NULL);
    assert_true(test_wait(&over));
    spool_stop(spool);
    sys_loop_stop(clients[0]);
    spool_close(spool);
    assert_int_equal(spool_open(&options, &recovery, &spool), OK);
    assert_in_range(told, 1, OLD_MESSAGES / 2);
    spool_start(spool);
    atomic_init(&running, CLIENTS * SESSIONS);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        uint32_t base = i * 100000;
        clients[i] = sys_loop_start("client");
        test_on_loop(clients[i], start_sessions, &base);
    }
    spool_tell_rest(spool);
    assert_true(test_wait(&all_told));
    assert_true(test_wait(&over));
    assert_int_equal(told, OLD_MESSAGES);
    spool_stop(spool);
    for (uint32_t i = 0; i < CLIENTS; i++)
        sys_loop_stop(clients[i]);
    spool_close(spool);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    assert_int_equal(system(command), 0);
}

// The loop has perhaps not had its first turn yet.
static void test_stop_right_after_start(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "spool_threads_test.XXXXXX");
    assert_non_null(mkdtemp(directory));
    struct spool_options options = {.directory = directory,
                                    .segment_bytes = SPOOL_SEGMENT_BYTES_MIN};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(spool_open(&options, NULL, &spool), OK);
        spool_start(spool);
        spool_stop(spool);
        spool_close(spool);
    }
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_told_while_working),
        cmocka_unit_test(test_stop_right_after_start),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
