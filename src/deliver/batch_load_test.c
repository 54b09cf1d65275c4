// SPDX-License-Identifier: MIT
//
// What becomes of a batch whose message the disk does not give.
#include "deliver/batch_load.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "base/test_base.h"
#include "sim_disk.h"
#include "sim_spool.h"

#define PATIENCE_MS 60000

static const char CONFIG[] = "hostname: relay.example\nspool: /x/spool\nstate: /x/state\n";

static struct sim_spool world;
static struct conf *conf;
static struct intake_port port;
static size_t warnings;

static void no_kick(void *ctx, uint64_t workers)
{
    (void)ctx;
    (void)workers;
}

static void on_line(void *ctx, struct bytes line)
{
    (void)ctx;
    warnings += bytes_search(line, BYTES("message not read")) >= 0;
}

static const struct row {
    const char *name;
    bool claimed, held;
    uint32_t attempts; // wanted
    uint64_t still_held;
} ROWS[] = {
    {"to be judged", false, false, 1, 0},
    {"claimed by an operator", true, false, 0, 0},
    {"claimed, held", true, true, 0, 1},
};

struct trial {
    struct sys_task task;
    const struct row *row;
    struct stored_message *message;
    struct batch_load load;
    uint32_t attempts;
    uint64_t still_held;
    bool done;
};

static struct queue_batch *claim(const struct trial *t)
{
    struct queue_filter filter = {.by = QUEUE_SELECT_ID, .id = t->message->envelope->id};
    struct queue_batch *batch = NULL;
    uint64_t cursor = 0;
    CHECK(queue_claim(port.queue, &filter, &cursor, acceptance_now(), &batch) && batch);
    CHECK(batch->count == 1 && !batch->stored);
    return batch;
}

static void settle(struct queue_batch *batch, enum queue_outcome outcome)
{
    uint64_t kicks = 0;
    queue_settle_all(port.queue, batch, (struct queue_result){.outcome = outcome}, acceptance_now(),
                     &kicks);
}

static void on_loaded(struct batch_load *load, struct stored_message *message)
{
    CHECK(!message);
    struct trial *t = container_of(load, struct trial, load);
    struct queue_filter held = {
        .by = QUEUE_SELECT_ID, .id = t->message->envelope->id, .held_only = true};
    uint64_t cursor = 0;
    while (queue_match(port.queue, &held, &cursor, &t->still_held))
        ;
    struct queue_batch *batch = claim(t);
    t->attempts = batch->recipients[0].attempts;
    settle(batch, QUEUE_DONE);
    t->done = true;
}

static void on_accepted(void *ctx, int err)
{
    struct trial *t = ctx;
    CHECK(err == OK);
    if (t->row->held)
        settle(claim(t), QUEUE_HELD);
    sim_disk_fail(sim_disk_find(SIM_SPOOL_DIRECTORY), SIM_DISK_READ, 1, 1000, E_IO);
    t->load = (struct batch_load){
        .port = &port, .batch = claim(t), .done = on_loaded, .claimed = t->row->claimed};
    batch_load_start(&t->load);
}

static void begin(struct sys_task *task)
{
    struct trial *t = container_of(task, struct trial, task);
    struct stored_message *m = t->message = stored_message_new();
    struct envelope *e = m->envelope;
    e->id = spool_next_id(world.spool, sys_wall());
    e->accepted_at = sys_wall();
    e->expires_at = wall_add_ms(sys_wall(), 86400000);
    e->recipients_count = 1;
    e->recipients = arena_new(&m->arena, sizeof *e->recipients);
    e->recipients[0] = (struct recipient){
        .number = 1, .address = BYTES("a@b.example"), .domain = BYTES("b.example")};
    m->header = BYTES("Subject: x\r\n\r\n");
    e->header_bytes = m->header.len;
    struct spool_frame *frame = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_message(frame, m);
    acceptance_commit(&port, frame, stored_message_ref(m), &(uint32_t){0}, on_accepted, t);
}

static bool is_done(void *ctx)
{
    return ((struct trial *)ctx)->done;
}

static void start(void)
{
    struct buf errors = {0};
    assert_true(sim_spool_start(&world, 5, 1 << 20));
    assert_int_equal(conf_load_text(bytes_cstr(CONFIG), "test", "/", &conf, &errors), OK);
    struct queue_options options = {.workers = 1, .stored_bytes_max = 1, .seed = 1, .conf = conf};
    port =
        (struct intake_port){.spool = world.spool, .queue = queue_new(&options), .kick = no_kick};
    warnings = 0;
    log_capture(on_line, NULL);
}

static void test_unread(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        const struct row *row = &ROWS[i];
        struct trial *t = mem_new(sizeof *t);
        start();
        t->row = row;
        t->task.run = begin;
        sys_post(world.client, &t->task);
        assert_true(sim_run_until(is_done, t, PATIENCE_MS));
        assert_number(row->name, warnings, 1);
        assert_number(row->name, t->still_held, row->still_held);
        assert_number(row->name, t->attempts, row->attempts);
        stored_message_unref(t->message);
        free(t);
        queue_free(port.queue);
        assert_true(sim_spool_stop(&world));
        conf_free(conf);
    }
    log_capture(NULL, NULL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_unread),
};

RUN_TESTS(tests)
