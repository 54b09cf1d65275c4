// SPDX-License-Identifier: MIT
//
// The list on real loops: who is answered does not wait for what the list does next. A start tells the
// journal nothing that a power cut could make untrue.
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/check.h"
#include "base/test_base.h"
#include "spool/spool_internal.h"
#include "store/suppress.h"
#include "sys/sys_test_loop.h"

static char top[64], folder[80];
static struct spool *spool;
static struct suppress *list;
static struct sys_loop *client;
static sem_t hanging, go_on, answered, changed;

// ---- a slow disk -----------------------------------------------------------------------------------------

// The list's next flush takes until somebody says so.
static atomic_bool hang;

static void hang_flush(int fd)
{
    char link[32], path[160];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    if (!strstr(path, "/suppressions.db") || !atomic_exchange(&hang, false))
        return;
    sem_post(&hanging);
    test_wait(&go_on);
}

// In place of the C library's, for SQLite too.
int fdatasync(int fd)
{
    hang_flush(fd);
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    hang_flush(fd);
    return (int)syscall(SYS_fsync, fd);
}

// ---- the world -------------------------------------------------------------------------------------------

static void open_all(void)
{
    struct buf error = {0};
    struct spool_options options = {.directory = top, .segment_bytes = SPOOL_SEGMENT_BYTES_MIN};
    assert_int_equal(spool_open(&options, NULL, &spool), OK);
    spool_start(spool);
    assert_int_equal(suppress_open(bytes_cstr(folder), &list, &error), OK);
    assert_int_equal(suppress_start(list, spool, &(struct suppress_policy){0}), OK);
    client = sys_loop_start("client");
}

static void close_all(void)
{
    sys_loop_stop(client);
    spool_stop(spool);
    suppress_stop(list);
    suppress_close(list);
    spool_close(spool);
}

static int setup(void **state)
{
    (void)state;
    snprintf(top, sizeof top, "/tmp/suppress_loop_test.XXXXXX");
    if (!mkdtemp(top))
        return -1;
    snprintf(folder, sizeof folder, "%s", top);
    open_all();
    sem_init(&hanging, 0, 0);
    sem_init(&go_on, 0, 0);
    sem_init(&answered, 0, 0);
    sem_init(&changed, 0, 0);
    struct suppress_stats stats = {0};
    for (int i = 0; i < 10000 && !stats.loaded; i++) { // it has nothing else to do
        usleep(1000);
        suppress_get_stats(list, &stats);
    }
    return stats.loaded ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[96];
    close_all();
    snprintf(command, sizeof command, "rm -r %s", top);
    return system(command);
}

// ---- tests -----------------------------------------------------------------------------------------------

static const struct suppress_entry ENTRY = {
    .scope = SUPPRESS_SERVICE, .address = BYTES("bob@example.org"), .reason = SUPPRESS_MANUAL};

static void on_answer(void *ctx, int err, const struct suppress_hit *hits)
{
    (void)ctx;
    CHECK(err == OK && !hits->found);
    sem_post(&answered);
}

static void on_changed(void *ctx, int err)
{
    (void)ctx;
    CHECK(err == OK);
    sem_post(&changed);
}

static void on_command(void *ctx, int err, struct json_object *result, struct bytes error)
{
    (void)ctx;
    (void)error;
    CHECK(err == OK);
    json_object_put(result);
    sem_post(&changed);
}

static void ask(void)
{
    suppress_ask(list, 0, BYTES_NONE, &ENTRY.address, 1, on_answer, NULL);
}

static void ask_and_add(void *ctx)
{
    (void)ctx;
    ask();
    suppress_add(list, &ENTRY, BYTES("test"), client, on_changed, NULL);
}

static void ask_and_command(void *ctx)
{
    ask();
    suppress_command(list, "suppress.add", ctx, NULL, BYTES("test"), on_command, NULL);
}

static void assert_answered_meanwhile(void (*both)(void *ctx), void *ctx)
{
    atomic_store(&hang, true);
    test_on_loop(client, both, ctx);
    assert_true(test_wait(&hanging));
    int waited_ms = 0;
    for (; sem_trywait(&answered) != 0 && waited_ms < 5000; waited_ms++)
        usleep(1000);
    sem_post(&go_on);
    assert_true(test_wait(&changed));
    assert_true(waited_ms < 5000);
}

static void test_an_answer_does_not_wait_for_a_change(void **state)
{
    (void)state;
    assert_answered_meanwhile(ask_and_add, NULL);
}

static void test_an_answer_does_not_wait_for_a_command(void **state)
{
    (void)state;
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "service", json_object_new_boolean(true));
    json_object_object_add(args, "address", json_object_new_string("bob@example.org"));
    assert_answered_meanwhile(ask_and_command, args);
    json_object_put(args);
}

// ---- a start -----------------------------------------------------------------------------------------------

static void commit_complaint(void *ctx)
{
    struct spool_feedback feedback = {.id = message_id_make((struct wall){1}, 1, 1, 1),
                                      .recipient = 1,
                                      .kind = FEEDBACK_COMPLAINT,
                                      .at = sys_wall(),
                                      .account = 7,
                                      .address = BYTES("bob@example.org")};
    struct spool_frame *frame = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_feedback(frame, &feedback);
    spool_commit(spool, frame, on_changed, ctx);
}

static uint64_t told(void)
{
    return atomic_load(&spool->copied[SPOOL_SUPPRESSION]);
}

// What a kill leaves: all that was written, and nothing says how much of it is on the disk.
static void kill_and_start(void)
{
    char command[256];
    snprintf(command, sizeof command, "mkdir %s/killed && cp %s/suppressions.db* %s/killed", top,
             top, top);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a folder of our own making
    close_all();
    snprintf(folder, sizeof folder, "%s/killed", top);
    atomic_store(&hang, true);
    open_all();
}

static void test_a_start_tells_nothing_before_a_flush(void **state)
{
    (void)state;
    struct suppress_stats stats = {0};
    test_on_loop(client, commit_complaint, NULL);
    assert_true(test_wait(&changed));
    for (int i = 0; i < 10000 && !stats.added; i++) {
        usleep(1000);
        suppress_get_stats(list, &stats);
    }
    assert_true(stats.added);
    kill_and_start();
    bool flushes = test_wait(&hanging);
    uint64_t before = told();
    sem_post(&go_on);
    assert_true(flushes);
    assert_int_equal(before, 0);
    for (int i = 0; i < 10000 && told() < stats.sequence; i++)
        usleep(1000);
    assert_true(told() >= stats.sequence);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_a_start_tells_nothing_before_a_flush, setup, teardown),
    cmocka_unit_test_setup_teardown(test_an_answer_does_not_wait_for_a_change, setup, teardown),
    cmocka_unit_test_setup_teardown(test_an_answer_does_not_wait_for_a_command, setup, teardown),
};

RUN_TESTS(tests)
