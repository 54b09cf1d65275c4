// SPDX-License-Identifier: MIT
//
// A message that compaction copies while one of its recipients is reported as failed: wherever the power goes, either
// the recipient waits as before, or the outcome and the notification that came with it are both there.
#include "spool/journal.h"

#include "base/log.h"
#include "sim_disk.h"
#include "spool/spool_test.h"

#define ROOT "/spool"
#define SEGMENT ((uint64_t)1 << 20)
#define WORLDS 60 // for each operation that the power may go in
#define MESSAGES 12
#define REPORTS 100 // the number of the notification about message 1
#define BODY_BYTES 900

// What a crashed world held is lost on purpose, as it is when a process is killed: leaks mean nothing here.
int __lsan_is_turned_off(void); // NOLINT(bugprone-reserved-identifier): its name is the sanitizer's
int __lsan_is_turned_off(void)  // NOLINT(bugprone-reserved-identifier)
{
    return 1;
}

static struct sim_host *host;
static struct journal *j;
static uint32_t told[REPORTS + MESSAGES + 1]; // live recipients of each message

static void on_message(void *ctx, const struct spool_summary *s)
{
    assert_in_range(s->account, 1, COUNT_OF(told) - 1);
    assert_int_equal(told[s->account], 0);
    told[s->account] = s->recipients_count;
}

static void open_journal(void *ctx)
{
    static const struct spool_recovery recovery = {NULL, on_message, NULL};
    const struct spool_options options = {.directory = ROOT, .segment_bytes = SEGMENT};
    memset(told, 0, sizeof(told));
    assert_int_equal(journal_open(&options, &recovery, &j), OK);
}

static uint32_t recipients_of(uint32_t n)
{
    return 1 + n % 3;
}

static void swallow(void *ctx, struct bytes line)
{
}

// ---- frames -------------------------------------------------------------------------------------

static void add_message(struct spool_frame *f, uint32_t n)
{
    struct stored_message *m = test_message(n, BODY_BYTES);
    spool_frame_add_message(f, m);
    stored_message_unref(m);
}

static void push_accept(struct list *frames, uint32_t n)
{
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    add_message(f, n);
    list_push_back(frames, &f->link);
}

static void push_failure(struct list *frames, uint32_t n)
{
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    struct spool_outcome o = test_outcome(n, 1, RECIPIENT_FAILED);
    spool_frame_add_outcome(f, &o);
    add_message(f, REPORTS + n);
    list_push_back(frames, &f->link);
}

// As compaction does it. Returns the bytes that the frame borrows.
static char *push_copy(struct list *frames, uint32_t n)
{
    const struct table_entry *e = table_find(&j->table, test_id(n));
    const struct segment *s = journal_slot(j, e->slot);
    size_t bytes = (size_t)e->bytes16 * RECORD_ALIGN, got;
    struct record_head head;
    struct record_meta meta;
    char *row = mem_new(bytes);
    assert_int_equal(disk_pread(s->file, row, bytes, (uint64_t)e->offset16 * RECORD_ALIGN, &got),
                     OK);
    assert_int_equal(record_head_parse(row, s->seed, &head), OK);
    struct bytes all = bytes_of(row + RECORD_HEAD_BYTES, head.meta_bytes);
    assert_int_equal(record_meta_parse(all, &meta), OK);
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    frame_add_copy(f, &head, &meta, bytes_of(all.at + all.len, head.content_bytes), e->slot,
                   e->offset16);
    list_push_back(frames, &f->link);
    return row;
}

static int commit(struct list *frames)
{
    struct list done, *link;
    list_init(&done);
    int err = journal_commit(j, frames, &done);
    while ((link = list_pop_front(&done)))
        spool_frame_free(list_get(link, struct spool_frame, link));
    return err;
}

// ---- the cut ------------------------------------------------------------------------------------

static void accept_all(void *ctx)
{
    struct list frames;
    list_init(&frames);
    open_journal(NULL);
    for (uint32_t n = 1; n <= MESSAGES; n++)
        push_accept(&frames, n);
    assert_int_equal(commit(&frames), OK);
}

static char *rows[MESSAGES + 1];

static void push_failures(struct list *frames)
{
    for (uint32_t n = 1; n <= MESSAGES; n++)
        if (recipients_of(n) > 1) // one that is settled is not copied
            push_failure(frames, n);
}

static void push_copies(struct list *frames)
{
    for (uint32_t n = 1; n <= MESSAGES; n++)
        rows[n] = push_copy(frames, n);
}

static void end(struct list *frames)
{
    assert_int_equal(commit(frames), OK);
    for (uint32_t n = 1; n <= MESSAGES; n++)
        free(rows[n]);
}

static void report_and_copy(void *ctx)
{
    struct list frames;
    list_init(&frames);
    push_failures(&frames);
    push_copies(&frames);
    end(&frames);
}

// The copies come first, and don't know of the failures; but when the flush has failed and they are tried again, they do.
static void copy_and_report_again(void *ctx)
{
    struct list frames;
    list_init(&frames);
    push_copies(&frames);
    push_failures(&frames);
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_SYNC, 1, 1, E_IO);
    assert_int_equal(commit(&frames), E_IO);
    end(&frames);
}

// False: all was over before the cut-th operation.
static bool one_cut(void (*work)(void *ctx), uint64_t seed, uint64_t cut)
{
    sim_start(seed);
    host = sim_host_new("relay", NULL);
    assert_true(sim_host_call(host, accept_all, NULL));
    sim_host_crash_at(host, SIM_POWER, cut);
    bool over = sim_host_call(host, work, NULL);
    if (over)
        sim_host_crash(host, SIM_POWER);
    sim_host_boot(host);
    assert_true(sim_host_call(host, open_journal, NULL));
    for (uint32_t n = 1; n <= MESSAGES; n++)
        if (told[n] != recipients_of(n) - (told[REPORTS + n] > 0))
            fail_msg("seed %llu, cut %llu: message %u has %u recipients that wait, of %u; its "
                     "notification is %s",
                     (unsigned long long)seed, (unsigned long long)cut, n, told[n],
                     recipients_of(n), told[REPORTS + n] ? "there" : "lost");
    sim_stop();
    return !over;
}

static void cut_everywhere(void (*work)(void *ctx))
{
    log_capture(swallow, NULL);
    for (uint64_t seed = 1; seed <= WORLDS; seed++) {
        uint64_t cut = 1;
        while (one_cut(work, seed, cut))
            assert_true(++cut < 100);
        assert_true(cut > 2); // or this has tested nothing
    }
    log_capture(NULL, NULL);
}

static void test_copies_do_not_outlive_outcomes(void **state)
{
    cut_everywhere(report_and_copy);
}

static void test_nor_when_they_are_tried_again(void **state)
{
    cut_everywhere(copy_and_report_again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies_do_not_outlive_outcomes),
        cmocka_unit_test(test_nor_when_they_are_tried_again),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
