// SPDX-License-Identifier: MIT
//
// The journal alone, on the simulator's disk: what was committed is there after any restart, what
// was not is not, and damage costs what it hits.
#include "spool/journal.h"

#include "base/log.h"
#include "sim_disk.h"
#include "spool/spool_test.h"

#define ROOT "/spool"
#define SEGMENT ((uint64_t)64 << 10)

static struct sim_host *host;
static struct journal *j;

// What recovery told.
struct told {
    uint32_t messages, recipients, notes;
    uint32_t numbers[4096];               // account of each message
    struct spool_summary_recipient first; // of the last message
    char note[64];
};
static struct told told;

static void on_message(void *ctx, const struct spool_summary *s)
{
    told.numbers[told.messages++ % COUNT_OF(told.numbers)] = s->account;
    told.recipients += s->recipients_count;
    told.first = s->recipients[0];
    assert_true(message_id_eq(s->id, test_id(s->account)));
    assert_int_equal(s->recipients_total, 1 + s->account % 3);
}

static void on_note(void *ctx, struct bytes key, struct bytes value)
{
    told.notes++;
    snprintf(told.note, sizeof(told.note), "%.*s", BYTES_FMT(value));
}

static const struct spool_recovery recovery = {NULL, on_message, on_note};

static bool told_has(uint32_t n)
{
    for (uint32_t i = 0; i < told.messages; i++)
        if (told.numbers[i] == n)
            return true;
    return false;
}

static int open_journal(void)
{
    told = (struct told){0};
    return journal_open(&(struct spool_options){.directory = ROOT, .segment_bytes = SEGMENT},
                        &recovery, &j);
}

static void reopen(void)
{
    journal_close(j);
    assert_int_equal(open_journal(), OK);
}

static struct spool_frame *accept_frame(uint32_t n, size_t body_bytes)
{
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    struct stored_message *m = test_message(n, body_bytes);
    spool_frame_add_message(f, m);
    stored_message_unref(m);
    return f;
}

// Commits one frame; its fate.
static int commit(struct spool_frame *f)
{
    struct list frames, done, *link;
    list_init(&frames);
    list_init(&done);
    list_push_back(&frames, &f->link);
    int err = journal_commit(j, &frames, &done);
    while ((link = list_pop_front(&done))) {
        struct spool_frame *g = list_get(link, struct spool_frame, link);
        if (!err)
            err = g->err;
        spool_frame_free(g);
    }
    while ((link = list_pop_front(&frames)))
        spool_frame_free(list_get(link, struct spool_frame, link));
    return err;
}

static int commit_outcome(uint32_t n, uint32_t recipient, enum recipient_state state)
{
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    struct spool_outcome o = test_outcome(n, recipient, state);
    spool_frame_add_outcome(f, &o);
    return commit(f);
}

static struct sim_disk *sim_disk(void)
{
    struct sim_disk *d = sim_disk_find(ROOT);
    assert_non_null(d);
    return d;
}

static void in_world(uint64_t seed, void (*fn)(void *ctx), void *ctx)
{
    sim_start(seed);
    host = sim_host_new("relay", NULL);
    assert_true(sim_host_call(host, fn, ctx));
    sim_stop();
}

static void swallow(void *ctx, struct bytes line)
{
}

// ---- restart ------------------------------------------------------------------------------------

// The first start makes room for what later ones write, so that they work on a full disk.
static void assert_room_for_epochs(void)
{
    struct disk_file *file;
    uint64_t size;
    assert_int_equal(disk_file_open(j->disk, "epoch", DISK_READ, &file), OK);
    assert_int_equal(disk_size(file, &size), OK);
    assert_int_equal(size, 2 * RECORD_BLOCK);
    disk_file_close(file);
}

static void keep_and_settle(void *ctx)
{
    assert_int_equal(open_journal(), OK);
    assert_room_for_epochs();
    for (uint32_t n = 1; n <= 30; n++)
        assert_int_equal(commit(accept_frame(n, n * 100)), OK);
    for (uint32_t n = 1; n <= 30; n += 3) // 2 recipients each
        assert_int_equal(commit_outcome(n, 1, RECIPIENT_DELIVERED), OK);
    for (uint32_t n = 2; n <= 30; n += 3) // 3 recipients each
        for (uint32_t r = 1; r <= 3; r++)
            assert_int_equal(commit_outcome(n, r, RECIPIENT_FAILED), OK);
    reopen();
    assert_int_equal(told.messages, 20);
    assert_int_equal(told.recipients, 10 * 1 + 10 * 1);
    assert_true(told_has(1) && told_has(3) && !told_has(2));
    uint32_t epoch = j->epoch;
    reopen(); // by index this time
    assert_int_equal(told.messages, 20);
    assert_int_equal(j->epoch, epoch + 1);
    journal_close(j);
}

static void test_restart_keeps_what_is_live(void **state)
{
    in_world(1, keep_and_settle, NULL);
}

static void keep_states(void *ctx)
{
    assert_int_equal(open_journal(), OK);
    assert_int_equal(commit(accept_frame(3, 10)), OK); // one recipient
    struct spool_outcome o = test_outcome(3, 1, RECIPIENT_HELD);
    o.attempts = 7;
    o.warned = true;
    o.next_attempt_at.us = 1711111111111000;
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_outcome(f, &o);
    spool_frame_add_note(f, BYTES("lane"), BYTES("old"));
    spool_frame_add_note(f, BYTES("lane"), BYTES("new"));
    spool_frame_add_note(f, BYTES("gone"), BYTES("x"));
    spool_frame_add_note(f, BYTES("gone"), BYTES(""));
    assert_int_equal(commit(f), OK);
    reopen();
    assert_int_equal(told.messages, 1);
    assert_int_equal(told.first.state, RECIPIENT_HELD);
    assert_int_equal(told.first.attempts, 7);
    assert_true(told.first.warned);
    assert_int_equal(told.first.next_attempt_at.us, o.next_attempt_at.us);
    assert_int_equal(told.notes, 1);
    assert_string_equal(told.note, "new");
    journal_close(j);
}

static void test_states_and_notes_survive(void **state)
{
    in_world(2, keep_states, NULL);
}

static void settled_stays_settled(void *ctx)
{
    assert_int_equal(open_journal(), OK);
    assert_int_equal(commit(accept_frame(1, 10)), OK); // two recipients
    assert_int_equal(commit_outcome(1, 1, RECIPIENT_DELIVERED), OK);
    assert_int_equal(commit_outcome(1, 1, RECIPIENT_QUEUED), OK);
    assert_int_equal(commit_outcome(9, 1, RECIPIENT_DELIVERED), OK); // nobody knows it
    assert_int_equal(commit_outcome(1, 99, RECIPIENT_DELIVERED), OK);
    reopen();
    assert_int_equal(told.recipients, 1);
    assert_int_equal(told.first.number, 2);
    journal_close(j);
}

static void test_settled_stays_settled(void **state)
{
    in_world(3, settled_stays_settled, NULL);
}

// ---- sealing ------------------------------------------------------------------------------------

// Entries of each type in the index of the oldest segment, which is sealed.
static void count_entries(uint32_t count[RECORD_FEEDBACK + 1], uint64_t *out_messages)
{
    const struct segment *s = list_get(list_first(&j->live), struct segment, link);
    struct segment_index x;
    struct index_entry e;
    int err = OK;
    memset(count, 0, (RECORD_FEEDBACK + 1) * sizeof(*count));
    assert_int_equal(segment_index_read(s->file, &s->head, s->end, s->sure, NULL, &x), OK);
    assert_false(x.scanned);
    for (struct bytes in = buf_bytes(&x.entries); index_next(&in, &e, &err);)
        count[e.type]++;
    assert_int_equal(err, OK);
    segment_index_done(&x);
    *out_messages = segment_messages(s->file, &s->head);
}

static void assert_folded_and_whole(void)
{
    uint32_t count[RECORD_FEEDBACK + 1];
    uint64_t messages;
    assert_int_equal(told.messages, 4);
    assert_int_equal(told.recipients, 1 + 1 + 3 + 1);
    assert_true(told_has(1) && told_has(3) && told_has(5) && told_has(6) && !told_has(2));
    assert_int_equal(told.first.number, 1); // message 3's, the last
    assert_int_equal(told.first.state, RECIPIENT_QUEUED);
    assert_int_equal(told.first.attempts, 1);
    assert_int_equal(told.first.next_attempt_at.us, 1700000060000000);
    count_entries(count, &messages);
    assert_int_equal(count[RECORD_MESSAGE], 4);
    assert_int_equal(count[RECORD_OUTCOME],
                     3); // of the settled one, which may stand elsewhere, too
    assert_int_equal(messages, 4);
}

// Live messages carry the states that their outcomes would lead to; settled ones have no entry.
static void fold(void *ctx)
{
    const uint32_t numbers[] = {1, 2, 5, 6, 3}; // 2, 3, 3, 1 and 1 recipients
    assert_int_equal(open_journal(), OK);
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        assert_int_equal(commit(accept_frame(numbers[i], 100)), OK);
    const struct spool_outcome outcomes[] = {
        test_outcome(1, 1, RECIPIENT_DELIVERED), test_outcome(1, 2, RECIPIENT_QUEUED),
        test_outcome(2, 1, RECIPIENT_FAILED),    test_outcome(2, 2, RECIPIENT_FAILED),
        test_outcome(2, 3, RECIPIENT_FAILED),    test_outcome(5, 2, RECIPIENT_HELD),
        test_outcome(3, 1, RECIPIENT_QUEUED),
    };
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME); // one, so that all stand in one segment
    for (size_t i = 0; i < COUNT_OF(outcomes); i++)
        spool_frame_add_outcome(f, &outcomes[i]);
    assert_int_equal(commit(f), OK);
    reopen(); // sealed by the stop
    assert_folded_and_whole();
    reopen();
    assert_folded_and_whole();
    assert_int_equal(commit_outcome(1, 2, RECIPIENT_DELIVERED), OK); // in a later segment
    reopen();
    assert_int_equal(told.messages, 3);
    journal_close(j);
}

static void test_outcomes_are_folded_into_their_messages(void **state)
{
    in_world(7, fold, NULL);
}

// ---- scanning -----------------------------------------------------------------------------------

// Hash over the sequence, type and meta of all records of the oldest segment.
static uint64_t hash_of_records(bool meta_only, uint32_t *out_count, size_t *out_window)
{
    const struct segment *s = list_get(list_first(&j->live), struct segment, link);
    struct segment_scan scan;
    struct scanned r;
    uint64_t hash = 0;
    segment_scan_init(&scan, s->file, s->seed, SEGMENT_DATA_AT, s->end, true);
    scan.meta_only = meta_only;
    for (*out_count = 0; segment_scan_next(&scan, &r) == OK; ++*out_count) {
        assert_int_equal(r.kind, SCANNED_RECORD);
        hash = hash * 31 + r.head.sequence + 7 * r.head.type + record_hash(r.meta);
    }
    *out_window = scan.window_cap;
    segment_scan_done(&scan);
    return hash;
}

// Who needs no bodies finds the same records and reads little of what stands between them.
static void scan_past_bodies(void *ctx)
{
    const struct spool_options options = {.directory = ROOT, .segment_bytes = (uint64_t)4 << 20};
    uint32_t all, some;
    size_t whole, window;
    assert_int_equal(journal_open(&options, NULL, &j), OK);
    for (uint32_t n = 3; n <= 36; n += 3) {
        assert_int_equal(commit(accept_frame(n, n % 2 ? 100000 : 100)), OK);
        assert_int_equal(commit_outcome(n, 1, RECIPIENT_QUEUED), OK);
    }
    uint64_t want = hash_of_records(false, &all, &whole);
    assert_int_equal(hash_of_records(true, &some, &window), want);
    assert_int_equal(all, 24);
    assert_int_equal(some, 24);
    assert_true(whole >= 500000 && window <= 32768);
    journal_close(j);
}

static void test_bodies_are_passed_over(void **state)
{
    in_world(8, scan_past_bodies, NULL);
}

// ---- what is told later -------------------------------------------------------------------------

static void on_slice(void *ctx, bool all)
{
}

static const struct spool_recovery later = {NULL, on_message, on_note, on_slice, 1};

// The disk does not give an index while the rest is told: it is asked again, and all are told once.
static void tell_through_faults(void *ctx)
{
    enum { LIVE = 100 };
    uint32_t errors = 0;
    assert_int_equal(open_journal(), OK);
    for (uint32_t n = 1; n <= LIVE; n++)
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
    journal_close(j);
    for (uint64_t times = 1; times <= 64; times *= 2) {
        told = (struct told){0};
        assert_int_equal(
            journal_open(&(struct spool_options){.directory = ROOT, .segment_bytes = SEGMENT},
                         &later, &j),
            OK);
        assert_true(told.messages < LIVE);
        sim_disk_fail(sim_disk(), SIM_DISK_READ, 1, times, E_IO);
        while (journal_is_telling(j))
            errors += journal_tell(j, 10) == E_IO;
        assert_int_equal(told.messages, LIVE);
        sim_disk_fail(sim_disk(), SIM_DISK_READ, UINT64_MAX, 1, E_IO);
        journal_close(j);
    }
    assert_true(errors > 0); // or this has tested nothing
}

static void test_all_are_told_though_reads_fail(void **state)
{
    log_capture(swallow, NULL);
    in_world(8, tell_through_faults, NULL);
    log_capture(NULL, NULL);
}

// ---- limits -------------------------------------------------------------------------------------

static void refuse_large(void *ctx)
{
    assert_int_equal(open_journal(), OK);
    assert_int_equal(commit(accept_frame(1, SEGMENT)), E_LIMIT);
    assert_int_equal(commit(accept_frame(2, 100)), OK);
    reopen();
    assert_int_equal(told.messages, 1);
    journal_close(j);
}

static void test_frame_over_half_a_segment_is_refused(void **state)
{
    in_world(4, refuse_large, NULL);
}

// ---- faults -------------------------------------------------------------------------------------

// A failed write or flush: never acknowledged, never back; outcomes are kept for the next segment.
static void fail_flush(void *ctx)
{
    const struct {
        enum sim_disk_op op;
        int err;
    } faults[] = {{SIM_DISK_SYNC, E_IO}, {SIM_DISK_WRITE, E_IO}, {SIM_DISK_WRITE, E_FULL}};
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        uint32_t n = (uint32_t)(10 * i + 3);
        assert_int_equal(open_journal(), OK);
        assert_int_equal(commit(accept_frame(n, 100)), OK);
        sim_disk_fail(sim_disk(), faults[i].op, 1, 1, faults[i].err);
        assert_int_equal(commit(accept_frame(n + 1, 100)), faults[i].err);
        assert_int_equal(commit(accept_frame(n + 2, 100)), OK);
        reopen();
        assert_true(told_has(n) && !told_has(n + 1) && told_has(n + 2));
        reopen();
        assert_true(told_has(n) && !told_has(n + 1) && told_has(n + 2));
        journal_close(j);
    }
}

static void test_failed_flush_never_comes_back(void **state)
{
    log_capture(swallow, NULL);
    in_world(5, fail_flush, NULL);
    log_capture(NULL, NULL);
}

// A segment's header may be on the disk though its flush failed, and says where the one before ends: nothing that is
// acknowledged later may stand behind that.
static void fail_header(void *ctx)
{
    const struct {
        enum sim_disk_op op;
        int err;
    } faults[] = {{SIM_DISK_SYNC, E_IO}, {SIM_DISK_WRITE, E_IO}, {SIM_DISK_WRITE, E_FULL}};
    uint32_t n = 0;
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        assert_int_equal(open_journal(), OK);
        do
            assert_int_equal(commit(accept_frame(++n, 1000)), OK);
        while (j->open->size - j->offset > 38000);
        sim_disk_fail(sim_disk(), faults[i].op, 1, 1, faults[i].err);
        assert_int_not_equal(commit(accept_frame(++n, 14000)), OK);
        uint32_t refused = n, before = n - 1;
        assert_int_equal(commit(accept_frame(++n, 100)), OK);
        for (uint32_t k = 0; k < 2; k++) {
            reopen();
            assert_true(told_has(before) && !told_has(refused) && told_has(n));
        }
        journal_close(j);
    }
}

static void test_failed_header_takes_nothing_along(void **state)
{
    log_capture(swallow, NULL);
    in_world(7, fail_header, NULL);
    log_capture(NULL, NULL);
}

static void retry_outcome(void *ctx)
{
    struct list frames, done;
    list_init(&frames);
    list_init(&done);
    assert_int_equal(open_journal(), OK);
    assert_int_equal(commit(accept_frame(3, 100)), OK);
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME), *g = accept_frame(4, 10);
    struct spool_outcome o = test_outcome(3, 1, RECIPIENT_DELIVERED);
    spool_frame_add_outcome(f, &o);
    list_push_back(&frames, &f->link);
    list_push_back(&frames, &g->link);
    sim_disk_fail(sim_disk(), SIM_DISK_SYNC, 1, 1, E_IO);
    assert_int_equal(journal_commit(j, &frames, &done), E_IO);
    assert_ptr_equal(list_pop_front(&frames), &f->link); // kept
    assert_ptr_equal(list_pop_front(&done), &g->link);   // refused
    assert_int_equal(g->err, E_IO);
    spool_frame_free(g);
    assert_int_equal(commit(f), OK);
    reopen();
    assert_int_equal(told.messages, 0);
    journal_close(j);
}

static void test_outcomes_are_retried(void **state)
{
    log_capture(swallow, NULL);
    in_world(6, retry_outcome, NULL);
    log_capture(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restart_keeps_what_is_live),
        cmocka_unit_test(test_states_and_notes_survive),
        cmocka_unit_test(test_settled_stays_settled),
        cmocka_unit_test(test_outcomes_are_folded_into_their_messages),
        cmocka_unit_test(test_bodies_are_passed_over),
        cmocka_unit_test(test_all_are_told_though_reads_fail),
        cmocka_unit_test(test_frame_over_half_a_segment_is_refused),
        cmocka_unit_test(test_failed_flush_never_comes_back),
        cmocka_unit_test(test_failed_header_takes_nothing_along),
        cmocka_unit_test(test_outcomes_are_retried),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
