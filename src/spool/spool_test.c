// SPDX-License-Identifier: MIT
//
// The whole spool on the simulator's loops and disk: group commit, reading back, extents,
// compaction, recycling, failing disks.
#include "spool/spool_world_test.h"

#include "base/log.h"
#include "spool/spool_body.h"
#include "spool/spool_extent.h"
#include "spool/spool_reader.h"

// ---- tests --------------------------------------------------------------------------------------

static void test_accept_read_settle(void **state)
{
    struct stored_message *m;
    begin(1);
    for (uint32_t n = 1; n <= 9; n++)
        assert_int_equal(commit(accept_frame(n, n * 1000)), OK);
    for (uint32_t n = 1; n <= 9; n++)
        assert_reads_back(n, n * 1000);
    assert_int_equal(commit(settle_frame(4)), OK);
    assert_int_equal(read_message(4, &m), E_NOT_FOUND);
    stop_spool();
    start_spool();
    assert_int_equal(told_messages, 8);
    for (uint32_t n = 5; n <= 9; n++)
        assert_reads_back(n, n * 1000);
    end();
}

// 50 sessions that commit at once share few flushes.
static void commit_many(void *ctx)
{
    struct commit *c = ctx;
    spool_expect(spool, 50);
    for (uint32_t i = 0; i < 50; i++) {
        spool_frame_set_expected(c[i].frame);
        spool_commit(spool, c[i].frame, on_committed, &c[i]);
    }
}

static void test_commits_share_flushes(void **state)
{
    struct commit c[50];
    struct spool_stats before, after;
    begin(2);
    stop_spool();
    options.segment_bytes = 16 * SEGMENT; // or new segments would be flushes too
    start_spool();
    assert_int_equal(commit(accept_frame(1000, 10)), OK);
    sim_run_ms(100);
    spool_get_stats(spool, &before);
    for (uint32_t i = 0; i < 50; i++)
        c[i] = (struct commit){.frame = accept_frame(i + 1, 100)};
    on_client(commit_many, c);
    for (uint32_t i = 0; i < 50; i++) {
        wait_for(&c[i].done);
        assert_int_equal(c[i].err, OK);
    }
    sim_run_ms(10);
    spool_get_stats(spool, &after);
    assert_in_range(after.flushes - before.flushes, 1, 5); // 0.1 a message
    end();
}

// ---- senders --------------------------------------------------------------------------------------

#define SENDERS 50
#define MESSAGES 40

// Each sends its next message a while after the last one's answer, as a client in a session does.
struct sender {
    struct sys_timer pause;
    uint32_t number, left;
};

static uint32_t senders_done;

static void send_next(struct sender *s);

static void on_answered(void *ctx, int err)
{
    assert_int_equal(err, OK);
    send_next(ctx);
}

static void on_pause_over(struct sys_timer *timer)
{
    struct sender *s = container_of(timer, struct sender, pause);
    struct spool_frame *f = accept_frame(s->number++, 1000);
    spool_frame_set_expected(f);
    spool_commit(spool, f, on_answered, s);
}

static void send_next(struct sender *s)
{
    if (s->left-- == 0) {
        senders_done++;
        return;
    }
    spool_expect(spool, 1);
    s->pause.fire = on_pause_over;
    sys_timer_set(&s->pause, mono_add_ms(sys_mono(), 1 + s->number % 5));
}

static void send_all(void *ctx)
{
    struct sender *senders = ctx;
    senders_done = 0;
    for (uint32_t i = 0; i < SENDERS; i++)
        send_next(&senders[i]);
}

static bool all_sent(void *ctx)
{
    return senders_done == SENDERS;
}

// On a disk whose flushes take 10 ms the senders do not fall into two groups, one sending while the other's
// flush runs.
static void test_a_slow_flush_is_shared(void **state)
{
    struct sender senders[SENDERS] = {0};
    struct spool_stats before, after;
    begin(5);
    stop_spool();
    options.segment_bytes = 64 * SEGMENT;
    start_spool();
    sim_disk_sync_us(sim_disk_find(ROOT), 10000, 10000);
    sim_run_ms(1000);
    spool_get_stats(spool, &before);
    for (uint32_t i = 0; i < SENDERS; i++)
        senders[i] = (struct sender){.number = 1 + 100 * i, .left = MESSAGES};
    on_client(send_all, senders);
    assert_true(sim_run_until(all_sent, NULL, PATIENCE_MS));
    spool_get_stats(spool, &after);
    assert_in_range(after.flushes - before.flushes, MESSAGES, MESSAGES * SENDERS / 28);
    end();
}

// ---- space ----------------------------------------------------------------------------------------

// Compaction keeps the space bounded and the messages readable while everything around them is
// settled.
static void test_space_is_bounded(void **state)
{
    struct spool_stats stats;
    begin(3);
    for (uint32_t n = 1; n <= 600; n++) {
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
        if (n > 10)
            assert_int_equal(commit(settle_frame(n)), OK);
        if (n == 1) { // one of its two recipients: known only from the copies' states later on
            struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
            struct spool_outcome o = test_outcome(1, 2, RECIPIENT_DELIVERED);
            spool_frame_add_outcome(f, &o);
            assert_int_equal(commit(f), OK);
        }
    }
    sim_run_ms(3000);
    spool_get_stats(spool, &stats);
    assert_int_equal(stats.live_messages, 10);
    assert_true(stats.compacted_bytes > 0);
    assert_in_range(stats.segment_bytes, SEGMENT,
                    2 * stats.live_bytes +
                        (SPOOL_SLACK_SEGMENTS + SPOOL_RESERVE_SEGMENTS + SPOOL_SPARE_SEGMENTS + 2) *
                            SEGMENT);
    for (uint32_t n = 1; n <= 10; n++)
        assert_reads_back(n, 2000);
    stop_spool();
    start_spool();
    assert_int_equal(told_messages, 10);
    assert_int_equal(told_recipients, 20 - 1);
    for (uint32_t n = 1; n <= 10; n++)
        assert_reads_back(n, 2000);
    end();
}

static uint32_t told_waits;

static void count_waits(void *ctx, struct bytes line)
{
    told_waits += memmem(line.at, line.len, "compaction waits", 16) != NULL;
}

// What the disk does not give for a while is not lost, not removed and not called damaged; compaction
// goes on once it gives it again.
static void test_unreadable_is_not_damaged(void **state)
{
    struct spool_stats stats;
    struct stored_message *m;
    told_waits = 0;
    log_capture(count_waits, NULL);
    begin(13);
    for (uint32_t n = 1; n <= 300; n++)
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, 1, UINT64_MAX, E_IO);
    for (uint32_t n = 11; n <= 300; n++)
        assert_int_equal(commit(settle_frame(n)), OK);
    sim_run_ms(600000);
    assert_int_equal(read_message(1, &m), E_IO);
    spool_get_stats(spool, &stats);
    assert_int_equal(stats.live_messages, 10);
    assert_in_range(told_waits, 1, 3); // once a segment, in ten minutes
    uint64_t before = stats.compacted_bytes;
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, UINT64_MAX, 1, E_IO);
    sim_run_ms(120000);
    spool_get_stats(spool, &stats);
    assert_true(stats.compacted_bytes > before);
    assert_int_equal(stats.live_messages, 10);
    assert_int_equal(stats.damaged_records, 0);
    for (uint32_t n = 1; n <= 10; n++)
        assert_reads_back(n, 2000);
    end();
    log_capture(NULL, NULL);
}

static void test_failing_disk_refuses_and_recovers(void **state)
{
    log_capture(swallow, NULL);
    begin(4);
    assert_int_equal(commit(accept_frame(1, 100)), OK);
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_SYNC, 1, 30, E_IO);
    struct commit refused = {.frame = accept_frame(2, 100)};
    on_client(do_commit, &refused);
    sim_run_ms(SPOOL_WITHHOLD_MS / 2);
    assert_false(refused.done);                           // a power cut could still bring it back
    assert_int_equal(commit(accept_frame(4, 100)), E_IO); // never written: refused at once
    wait_for(&refused.done);
    assert_int_equal(refused.err, E_IO);
    assert_false(spool_accepting(spool));
    assert_true(spool_outcomes_blocked(spool));
    struct commit c = {.frame = settle_frame(1)};
    on_client(do_commit, &c);
    sim_run_ms(40);
    assert_false(c.done);
    wait_for(&c.done); // the disk works again
    assert_int_equal(c.err, OK);
    assert_true(spool_accepting(spool));
    assert_int_equal(commit(accept_frame(3, 100)), OK);
    stop_spool();
    start_spool();
    assert_int_equal(told_messages, 1);
    end();
    log_capture(NULL, NULL);
}

// ---- extents ------------------------------------------------------------------------------------

struct sending {
    struct stored_message *message;
    struct spool_extent *extent;
    size_t bytes, sent;
    int err;
    bool done;
};

static void on_sent(void *ctx, int err)
{
    struct sending *s = ctx;
    s->err = err;
    s->done = true;
}

static char body_byte(size_t at)
{
    return (char)(at * 7 % 251);
}

static void send_on(void *ctx)
{
    struct sending *s = ctx;
    char data[5000];
    while (s->sent < s->bytes && spool_extent_pending(s->extent) <= SPOOL_EXTENT_WINDOW) {
        struct chain c = {0};
        size_t n = s->bytes - s->sent < sizeof(data) ? s->bytes - s->sent : sizeof(data);
        for (size_t i = 0; i < n; i++)
            data[i] = body_byte(s->sent + i);
        chain_add(&c, bytes_of(data, n));
        spool_extent_write(s->extent, &c);
        s->sent += n;
    }
    if (s->sent == s->bytes)
        spool_extent_finish(s->extent, s->message, on_sent);
}

static void begin_sending(void *ctx)
{
    struct sending *s = ctx;
    s->extent = spool_extent_begin(spool, s->message->envelope->id, send_on, s);
    send_on(s);
}

// Message n with a body of that many bytes in an extent; accepted unless the extent fails.
static int accept_large(uint32_t n, size_t bytes)
{
    struct sending s = {.message = test_message(n, 0), .bytes = bytes};
    on_client(begin_sending, &s);
    wait_for(&s.done);
    if (!s.err) {
        struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
        spool_frame_add_message(f, s.message);
        s.err = commit(f);
    }
    stored_message_unref(s.message);
    return s.err;
}

struct body_reading {
    struct stored_message *message;
    struct spool_body body;
    uint64_t offset;
    uint32_t waits;
    int err;
    bool done;
};

static void read_on(void *ctx)
{
    struct body_reading *r = ctx;
    struct bytes piece = BYTES("x");
    while (!r->err && piece.len) {
        r->err = spool_body_read(&r->body, r->offset, 3000, &piece);
        for (size_t i = 0; !r->err && i < piece.len; i++)
            if (piece.at[i] != body_byte(r->offset + i))
                r->err = E_SYNTAX;
        r->offset += piece.len;
    }
    if (r->err == E_AGAIN) {
        r->err = OK;
        r->waits++;
        return;
    }
    spool_body_done(&r->body);
    r->done = true;
}

static void begin_reading(void *ctx)
{
    struct body_reading *r = ctx;
    spool_body_init(&r->body, spool, r->message, read_on, r);
    read_on(r);
}

// Bytes read, all equal to what was sent; or an error.
static int64_t read_large(uint32_t n)
{
    struct body_reading r = {0};
    assert_int_equal(read_message(n, &r.message), OK);
    assert_true(r.message->body_in_extent);
    on_client(begin_reading, &r);
    wait_for(&r.done);
    stored_message_unref(r.message);
    return r.err ? r.err : (int64_t)r.offset;
}

static void test_extents(void **state)
{
    const size_t sizes[] = {1, SPOOL_EXTENT_BLOCK, SPOOL_EXTENT_BLOCK + 1, 3000000};
    struct spool_stats stats;
    begin(5);
    for (uint32_t i = 0; i < COUNT_OF(sizes); i++) {
        assert_int_equal(accept_large(i + 1, sizes[i]), OK);
        assert_int_equal(read_large(i + 1), sizes[i]);
    }
    stop_spool();
    start_spool();
    for (uint32_t i = 0; i < COUNT_OF(sizes); i++)
        assert_int_equal(read_large(i + 1), sizes[i]);
    assert_int_equal(commit(settle_frame(1)), OK);
    assert_int_equal(commit(settle_frame(4)), OK);
    sim_run_ms(2000);
    spool_get_stats(spool, &stats);
    assert_int_equal(stats.extents, 2);
    assert_in_range(stats.extent_bytes, 2 * SPOOL_EXTENT_BLOCK, 3 * SPOOL_EXTENT_BLOCK);
    end();
}

static void test_extent_faults(void **state)
{
    char name[EXTENT_NAME_BYTES];
    log_capture(swallow, NULL);
    begin(6);
    assert_int_equal(accept_large(1, 300000), OK);
    assert_int_equal(sim_disk_flip(sim_disk_find(ROOT), extent_name(test_id(1), name), 200000, 4),
                     OK);
    assert_int_equal(read_large(1), E_DAMAGED);
    assert_int_equal(read_large(1), E_DAMAGED); // for the next recipients, too
    uint64_t size;
    struct disk_file *file;
    char aside[64], id[MESSAGE_ID_CHARS + 1];
    message_id_format(test_id(1), id);
    snprintf(aside, sizeof aside, "damaged/extent-%s", id);
    assert_int_equal(disk_file_open(spool->journal->disk, aside, DISK_READ, &file), OK);
    assert_int_equal(disk_size(file, &size), OK);
    assert_true(size > 300000);
    disk_file_close(file);
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_WRITE, 3, 1, E_FULL);
    assert_int_equal(accept_large(2, 2000000), E_FULL);
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_SYNC, 1, 1, E_IO);
    assert_int_equal(accept_large(3, 10), E_IO);
    stop_spool();
    start_spool();
    assert_int_equal(told_messages, 1);
    struct spool_stats stats;
    spool_get_stats(spool, &stats);
    assert_int_equal(stats.extents, 0);
    end();
    log_capture(NULL, NULL);
}

// ---- reading forward ----------------------------------------------------------------------------

struct follower {
    struct spool_reader *reader;
    struct spool_watch watch;
    uint64_t last; // sequence
    uint32_t messages, outcomes, wakes;
    int err;
    uint32_t account; // of the last message
};

static void follow(void *ctx)
{
    struct follower *f = ctx;
    struct spool_record record;
    while ((f->err = spool_reader_next(f->reader, &record)) == OK) {
        assert_true(record.sequence > f->last);
        f->last = record.sequence;
        f->messages += record.type == SPOOL_RECORD_MESSAGE;
        f->outcomes += record.type == SPOOL_RECORD_OUTCOME;
        if (record.type == SPOOL_RECORD_MESSAGE)
            f->account = record.envelope->account;
    }
    spool_copied(spool, SPOOL_HISTORY, f->last);
    spool_watch(f->reader, &f->watch);
}

static void on_watch(struct sys_task *task)
{
    struct follower *f = container_of(task, struct follower, watch.task);
    f->wakes++;
    if (!spool->stopping)
        follow(f);
}

static void follow_from(struct follower *f, uint64_t after)
{
    *f = (struct follower){.reader = spool_reader_open(spool, after),
                           .last = after,
                           .watch = {.task.run = on_watch, .loop = client}};
    on_client(follow, f);
}

static void test_reader_sees_each_record_once(void **state)
{
    struct follower f;
    struct spool_stats stats;
    begin(7);
    stop_spool();
    options.followers = 1;
    options.copied_lag_segments = 1000;
    start_spool();
    follow_from(&f, 0);
    uint32_t outcomes = 0;
    for (uint32_t n = 1; n <= 200; n++) {
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
        if (n <= 10)
            continue;
        assert_int_equal(commit(settle_frame(n)), OK);
        outcomes += 1 + n % 3;
    }
    sim_run_ms(3000);
    spool_get_stats(spool, &stats);
    assert_true(stats.compacted_bytes > 0);
    assert_int_equal(f.err, E_AGAIN);
    assert_int_equal(f.messages, 200);
    assert_int_equal(f.account, 200);
    assert_int_equal(f.outcomes, outcomes);
    assert_in_range(stats.sequence - f.last, 0, 1); // the last may be a tail, which is not shown
    assert_in_range(f.wakes, 1, stats.flushes);     // never without something new
    uint64_t last = f.last;
    stop_spool();
    spool_reader_close(f.reader);
    start_spool(); // a restart leaves numbers out, and shows nothing twice
    follow_from(&f, last);
    assert_int_equal(f.err, E_AGAIN);
    assert_int_equal(f.messages + f.outcomes, 0);
    assert_int_equal(commit(accept_frame(201, 10)), OK);
    sim_run_ms(100);
    assert_int_equal(f.messages, 1);
    assert_int_equal(f.account, 201);
    stop_spool();
    spool_reader_close(f.reader);
    sim_stop();
}

static void test_segments_wait_for_the_copy(void **state)
{
    struct spool_stats stats;
    struct follower f;
    log_capture(swallow, NULL);
    begin(8);
    stop_spool();
    options.followers = 1;
    options.copied_lag_segments = 12;
    start_spool();
    for (uint32_t n = 1; n <= 150; n++) {
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
        assert_int_equal(commit(settle_frame(n)), OK);
    }
    sim_run_ms(2000);
    spool_get_stats(spool, &stats);
    assert_in_range(stats.segments - stats.free_segments, 12, 14); // the lag, not more
    f = (struct follower){.reader = spool_reader_open(spool, 1), .last = 1};
    struct spool_record record;
    assert_int_equal(spool_reader_next(f.reader, &record), E_NOT_FOUND);
    assert_int_equal(spool_reader_next(f.reader, &record), OK);
    spool_reader_close(f.reader);
    end();
    log_capture(NULL, NULL);
}

// The slowest decides, and who only follows outcomes is not shown messages.
static void test_segments_wait_for_all_followers(void **state)
{
    struct spool_stats stats;
    struct spool_record record;
    begin(8);
    stop_spool();
    options.followers = SPOOL_FOLLOWERS;
    options.copied_lag_segments = 1000;
    start_spool();
    for (uint32_t n = 1; n <= 150; n++) {
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
        assert_int_equal(commit(settle_frame(n)), OK);
    }
    spool_get_stats(spool, &stats);
    spool_copied(spool, SPOOL_HISTORY, stats.sequence);
    sim_run_ms(2000);
    spool_get_stats(spool, &stats);
    uint64_t kept = stats.segments - stats.free_segments;
    struct spool_reader *reader = spool_reader_open(spool, 0);
    spool_reader_skip_messages(reader);
    for (uint32_t n = 1; n <= 150; n++) {
        assert_int_equal(spool_reader_next(reader, &record), OK);
        assert_int_equal(record.type, SPOOL_RECORD_OUTCOME);
    }
    spool_copied(spool, SPOOL_SUPPRESSION, stats.sequence);
    assert_int_equal(commit(accept_frame(151, 2000)), OK);
    sim_run_ms(2000);
    spool_get_stats(spool, &stats);
    assert_true(kept > 12 && stats.segments - stats.free_segments < kept / 2);
    spool_reader_close(reader);
    end();
}

static uint64_t free_segments(void)
{
    struct spool_stats stats;
    spool_get_stats(spool, &stats);
    return stats.free_segments;
}

// Segments that come free in a lot are kept while the pace lasts that filled them, and then dropped.
static void test_freed_segments_are_kept_for_the_pace(void **state)
{
    const uint64_t least = SPOOL_RESERVE_SEGMENTS + SPOOL_SPARE_SEGMENTS;
    begin(9);
    stop_spool();
    options.followers = 1;
    options.copied_lag_segments = 1000;
    start_spool();
    for (uint32_t n = 1; n <= 200; n++) {
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
        assert_int_equal(commit(settle_frame(n)), OK);
    }
    assert_true(free_segments() <= least);
    spool_copied(spool, SPOOL_HISTORY, UINT64_MAX);
    assert_int_equal(commit(accept_frame(2000, 10)), OK);
    sim_run_ms(1500);
    uint64_t freed = free_segments();
    assert_true(freed > 4 * least);
    sim_run_ms(20000);
    assert_in_range(free_segments(), freed - 2, freed); // surplus would go by one a second
    sim_run_ms(3600000);
    assert_in_range(free_segments(), least - 1, least + 1);
    end();
}

// ---- backup -------------------------------------------------------------------------------------

static void do_backup(void *ctx)
{
    spool_backup(spool, "/copy", NULL, on_committed, ctx);
}

static void test_backup_is_one_cut_and_on_hold(void **state)
{
    begin(9);
    for (uint32_t n = 1; n <= 60; n++)
        assert_int_equal(commit(accept_frame(n, 2000)), OK);
    for (uint32_t n = 11; n <= 40; n++)
        assert_int_equal(commit(settle_frame(n)), OK);
    assert_int_equal(accept_large(100, 400000), OK);
    struct commit c = {0}, later = {.frame = accept_frame(101, 10)};
    on_client(do_backup, &c);
    on_client(do_commit, &later); // behind the cut, or in it; never half
    wait_for(&later.done);
    wait_for(&c.done);
    assert_int_equal(c.err, OK);
    for (uint32_t n = 41; n <= 60; n++)
        assert_int_equal(commit(settle_frame(n)), OK);
    c = (struct commit){0};
    on_client(do_backup, &c);
    wait_for(&c.done);
    assert_int_equal(c.err, E_EXISTS);
    stop_spool();
    options.directory = "/copy";
    start_spool();
    assert_true(spool_is_on_hold(spool));
    assert_in_range(told_messages, 31, 32);
    assert_reads_back(1, 2000);
    assert_reads_back(60, 2000);
    assert_int_equal(read_large(100), 400000);
    assert_int_equal(spool_release_hold(spool), OK);
    assert_false(spool_is_on_hold(spool));
    end();
}

// ---- restarts -----------------------------------------------------------------------------------

// Accepts, delivers, recycles and restarts: nothing was in flight, so nothing is told that was settled.
static void test_many_restarts_tell_nothing_twice(void **state)
{
    const char *wanted = getenv("SPOOL_RESTARTS");
    uint32_t restarts = wanted ? (uint32_t)strtoul(wanted, NULL, 10) : 1000, n = 0;
    struct spool_stats stats;
    begin(10);
    for (uint32_t i = 0; i < restarts; i++) {
        assert_int_equal(commit(accept_frame(++n, 3000)), OK); // stays
        for (uint32_t k = 0; k < 5; k++) {
            assert_int_equal(commit(accept_frame(++n, 3000)), OK);
            assert_int_equal(commit(settle_frame(n)), OK);
        }
        if (i >= 3)
            assert_int_equal(commit(settle_frame(n - 5 - 3 * 6)), OK);
        if (i % 2)
            sim_run_ms(1500);
        stop_spool();
        start_spool();
        assert_int_equal(told_messages, i < 3 ? i + 1 : 3);
    }
    spool_get_stats(spool, &stats);
    assert_in_range(stats.segments, 1, 20);
    end();
}

// ---- notes --------------------------------------------------------------------------------------

#define NOTES 40

static uint32_t notes_told[NOTES], commits_open;

static void on_note(void *ctx, struct bytes key, struct bytes value)
{
    uint64_t k, v;
    assert_int_equal(bytes_to_u64(key, NOTES - 1, &k), OK);
    assert_int_equal(bytes_to_u64(value, UINT32_MAX, &v), OK);
    notes_told[k] = (uint32_t)v;
}

static void open_with_notes(void *ctx)
{
    static const struct spool_recovery with_notes = {NULL, on_message, on_note};
    *(int *)ctx = spool_open(&options, &with_notes, &spool);
    client = sys_loop_start("client");
    spool_start(spool);
}

static void on_one_committed(void *ctx, int err)
{
    commits_open--;
    assert_int_equal(err, OK);
}

static bool none_is_open(void *ctx)
{
    return commits_open == 0;
}

struct several {
    struct spool_frame *frames[3];
    uint32_t count;
};

static void commit_several(void *ctx)
{
    struct several *s = ctx;
    commits_open += s->count;
    for (uint32_t i = 0; i < s->count; i++)
        spool_commit(spool, s->frames[i], on_one_committed, NULL);
}

static struct spool_frame *note_frame(uint32_t key, uint32_t value)
{
    char k[16], v[16];
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    snprintf(k, sizeof k, "%u", key);
    snprintf(v, sizeof v, "%u", value);
    spool_frame_add_note(f, bytes_cstr(k), bytes_cstr(v));
    return f;
}

// Old values are moved out of segments that are freed, while new ones are under way: the last one written is what a
// restart tells.
static void notes_of_a_world(uint64_t seed)
{
    uint32_t want[NOTES] = {0}, value = 0, n = 0;
    int err = -1;
    begin(seed);
    for (uint32_t i = 0; i < 1000; i++) {
        struct several s = {.count = 0};
        if (sim_chance(DICE_TEST, 1, 3)) {
            uint32_t key = (uint32_t)sim_roll(DICE_TEST, NOTES);
            want[key] = ++value;
            s.frames[s.count++] = note_frame(key, value);
        }
        n += 3; // of one recipient
        s.frames[s.count++] = accept_frame(n, 3000);
        s.frames[s.count++] = settle_frame(n);
        on_client(commit_several, &s);
        sim_run_ms((int64_t)sim_roll(DICE_TEST, 6));
        if (commits_open > 30)
            assert_true(sim_run_until(none_is_open, NULL, PATIENCE_MS));
    }
    assert_true(sim_run_until(none_is_open, NULL, PATIENCE_MS));
    sim_run_ms(3000);
    stop_spool();
    memset(notes_told, 0, sizeof notes_told);
    assert_true(sim_host_call(host, open_with_notes, &err));
    assert_int_equal(err, OK);
    for (uint32_t k = 0; k < NOTES; k++)
        if (notes_told[k] != want[k])
            fail_msg("seed %llu, note %u: %u, not %u", (unsigned long long)seed, k, notes_told[k],
                     want[k]);
    end();
}

static void test_notes_keep_their_last_value(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++)
        notes_of_a_world(seed);
}

#define FEW_NOTES 5
#define FAULTS 40 // flushes that fail, each in a world of its own

// Notes are all that is left in the oldest segment: they are moved, and the segment is freed. The fault-th flush behind
// them fails (0: none does). How many there were.
static uint64_t move_notes(uint64_t fault)
{
    int err = -1;
    begin(17);
    struct sim_disk *d = sim_disk_find(ROOT);
    for (uint32_t k = 0; k < FEW_NOTES; k++)
        assert_int_equal(commit(note_frame(k, k + 1)), OK);
    uint64_t before = sim_disk_count(d, SIM_DISK_SYNC);
    if (fault)
        sim_disk_fail(d, SIM_DISK_SYNC, fault, 1, E_IO);
    for (uint32_t n = 3; spool->journal->tail <= 1; n += 3) {
        assert_true(n < 3000);
        if (commit(accept_frame(n, 3000)) == OK)
            assert_int_equal(commit(settle_frame(n)), OK);
    }
    uint64_t flushes = sim_disk_count(d, SIM_DISK_SYNC) - before;
    stop_spool();
    memset(notes_told, 0, sizeof notes_told);
    assert_true(sim_host_call(host, open_with_notes, &err));
    assert_int_equal(err, OK);
    for (uint32_t k = 0; k < FEW_NOTES; k++)
        if (notes_told[k] != k + 1)
            fail_msg("fault %llu, note %u: %u", (unsigned long long)fault, k, notes_told[k]);
    end();
    return flushes;
}

static void test_moved_notes_are_tried_again(void **state)
{
    log_capture(swallow, NULL);
    uint64_t flushes = move_notes(0);
    assert_true(flushes > FAULTS);
    for (uint64_t fault = flushes - FAULTS; fault <= flushes; fault++)
        move_notes(fault);
    log_capture(NULL, NULL);
}

// ---- a long queue is told while the spool works -------------------------------------------------

static bool told_all, told_number[3 * SPOOL_TELL_SLICE];

static void on_numbered(void *ctx, const struct spool_summary *s)
{
    assert_true(s->account < COUNT_OF(told_number) && !told_number[s->account]);
    assert_false(told_all);
    told_number[s->account] = true;
    told_messages++;
}

static void on_slice(void *ctx, bool all)
{
    told_all |= all;
}

static const struct spool_recovery later = {NULL, on_numbered, NULL, on_slice, 10};

static void open_to_tell_later(void *ctx)
{
    told_messages = 0;
    told_all = false;
    memset(told_number, 0, sizeof(told_number));
    *(int *)ctx = spool_open(&options, &later, &spool);
    client = sys_loop_start("client");
    spool_start(spool);
}

static bool is_told(void *ctx)
{
    return told_all;
}

// Few are told before the start; the rest while mail comes in and old mail is settled. Each is told once,
// nothing is compacted before that, and compaction goes on afterwards.
static void test_a_long_queue_is_told_later(void **state)
{
    enum { OLD = 2 * SPOOL_TELL_SLICE + 500 };
    struct spool_stats stats;
    int err = -1;
    begin(16);
    for (uint32_t n = 1; n <= OLD; n += 20) {
        struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
        for (uint32_t i = n; i < n + 20; i++) {
            struct stored_message *m = test_message(i, 100);
            spool_frame_add_message(f, m);
            stored_message_unref(m);
        }
        assert_int_equal(commit(f), OK);
        sim_run_ms(50); // segments are made meanwhile
    }
    stop_spool();
    assert_true(sim_host_call(host, open_to_tell_later, &err));
    assert_int_equal(err, OK);
    assert_in_range(told_messages, 10, 100);
    assert_true(spool_is_telling(spool));
    for (uint32_t n = 1; n <= OLD; n++) // what has been told may be settled, new mail comes in
        if (told_number[n] && n % 2)
            assert_int_equal(commit(settle_frame(n)), OK);
    assert_int_equal(commit(accept_frame(OLD + 1, 100)), OK);
    sim_run_ms(5000);
    spool_get_stats(spool, &stats);
    assert_int_equal(stats.compacted_bytes, 0);
    spool_tell_rest(spool);
    assert_true(sim_run_until(is_told, NULL, PATIENCE_MS));
    assert_int_equal(told_messages, OLD);
    assert_false(told_number[OLD + 1]);
    assert_false(spool_is_telling(spool));
    for (uint32_t n = 2; n <= OLD; n += 2)
        if (n % 10)
            assert_int_equal(commit(settle_frame(n)), OK);
    sim_run_ms(3000);
    spool_get_stats(spool, &stats);
    assert_true(stats.compacted_bytes > 0);
    end();
}

// ---- a full disk --------------------------------------------------------------------------------

// Intake stops before it touches the reserve; outcomes go on, free the space, and intake goes on too.
static void test_full_disk(void **state)
{
    uint32_t accepted = 0;
    log_capture(swallow, NULL);
    begin(11);
    sim_disk_capacity(sim_disk_find(ROOT), 24 * SEGMENT, 10000);
    sim_run_ms(2000);
    int err = OK;
    while (!err && spool_accepting(spool)) {
        assert_true(accepted < 5000);
        err = commit(accept_frame(accepted + 1, 3000));
        accepted += !err;
    }
    assert_true(err == OK || err == E_FULL); // compaction may have been quicker
    assert_false(spool_outcomes_blocked(spool));
    stop_spool();
    start_spool(); // on a full disk
    assert_int_equal(told_messages, accepted);
    for (uint32_t n = 1; n <= accepted; n++)
        assert_int_equal(commit(settle_frame(n)), OK);
    sim_run_ms(5000);
    assert_true(spool_accepting(spool));
    assert_int_equal(commit(accept_frame(6000, 3000)), OK);
    end();
    log_capture(NULL, NULL);
}

static uint32_t fill_disk(void)
{
    uint32_t accepted = 0;
    sim_disk_capacity(sim_disk_find(ROOT), 24 * options.segment_bytes, 10000);
    sim_run_ms(2000);
    while (spool_accepting(spool) && commit(accept_frame(accepted + 1, 3000)) == OK)
        assert_true(++accepted < 5000);
    return accepted;
}

// Message n is late, which another one says.
static struct spool_frame *warn_frame(uint32_t n, uint32_t told_by)
{
    struct spool_frame *f = spool_frame_new(SPOOL_REPORT);
    struct spool_outcome o = test_outcome(n, 1, RECIPIENT_QUEUED);
    struct stored_message *m = test_message(told_by, 3000);
    spool_frame_add_outcome(f, &o);
    spool_frame_add_message(f, m);
    stored_message_unref(m);
    return f;
}

// Nothing is delivered for long, and mail about that comes to what has filled the disk: it is refused before there is no
// room to say what was delivered after all. That makes room for it again.
static void reports_of_a_world(uint64_t seed)
{
    enum { TOLD_BY = 10000 };
    uint32_t told = 0, refused = 0;
    begin(seed);
    stop_spool();
    options.segment_bytes = SPOOL_SEGMENT_BYTES_MIN;
    start_spool();
    uint32_t accepted = fill_disk();
    for (uint32_t tries = 0; tries < 1000; tries++) {
        int err = commit(warn_frame(1 + tries % accepted, TOLD_BY + told));
        assert_true(err == OK || err == E_FULL);
        told += err == OK;
        refused += err == E_FULL;
    }
    assert_true(told > 0 && refused > 500);
    sim_run_ms(10000); // compaction does what it can
    for (uint32_t n = 1; n <= accepted; n++) {
        assert_int_equal(commit(settle_frame(n)), OK);
        told += commit(warn_frame(n + 1, TOLD_BY + told)) == OK; // there are always more
    }
    sim_run_ms(5000);
    assert_true(spool_accepting(spool));
    assert_int_equal(commit(warn_frame(TOLD_BY, TOLD_BY + told)), OK);
    end();
}

static void test_full_disk_and_reports(void **state)
{
    log_capture(swallow, NULL);
    for (uint64_t seed = 1; seed <= 4; seed++)
        reports_of_a_world(seed);
    log_capture(NULL, NULL);
}

static void on_copied(void *ctx)
{
    spool_copied(spool, SPOOL_SUPPRESSION, UINT64_MAX);
}

// The history is on the same disk and can't write, so it does not move: after a minute outcomes are recorded all the
// same, and intake goes on. The suppression list is waited for.
static void test_full_disk_and_history(void **state)
{
    log_capture(swallow, NULL);
    begin(11);
    stop_spool();
    options.followers = SPOOL_FOLLOWERS;
    start_spool();
    uint32_t accepted = fill_disk(), settled = 0;
    struct commit *c = mem_new(accepted * sizeof *c);
    for (; settled < accepted; settled++) {
        c[settled].frame = settle_frame(settled + 1);
        on_client(do_commit, &c[settled]);
        if (!sim_run_until(is_true, &c[settled].done, 10 * PATIENCE_MS))
            break;
    }
    assert_true(settled < accepted);
    assert_int_equal(spool->journal->tail, 1);
    on_client(on_copied, NULL);
    wait_for(&c[settled].done);
    while (++settled <
           accepted) // no more than a moment later: making room does not wait for the next attempt
        assert_int_equal(commit(settle_frame(settled + 1)), OK);
    sim_run_ms(5000);
    assert_true(spool_accepting(spool));
    assert_int_equal(commit(accept_frame(6000, 3000)), OK);
    free(c);
    end();
    log_capture(NULL, NULL);
}

// One that is slow is waited for, on a full disk, too: nothing is freed before it has read it.
static void test_full_disk_and_slow_history(void **state)
{
    struct spool_stats stats;
    log_capture(swallow, NULL);
    begin(11);
    stop_spool();
    options.followers = 1;
    start_spool();
    uint32_t accepted = fill_disk();
    for (uint32_t n = 1; n <= accepted; n++) {
        struct commit c = {.frame = settle_frame(n)};
        spool_get_stats(spool, &stats);
        on_client(do_commit, &c);
        sim_run_ms(30000);
        spool_copied(spool, SPOOL_HISTORY, stats.sequence);
        wait_for(&c.done);
    }
    sim_run_ms(5000);
    assert_true(spool_accepting(spool));
    assert_false(spool->lag_told);
    end();
    log_capture(NULL, NULL);
}

// No descriptors, a quota: there is room, and yet no segment can be made. It is tried now and then.
static void test_making_fails_though_there_is_room(void **state)
{
    struct spool_stats stats;
    log_capture(swallow, NULL);
    begin(13);
    sim_run_ms(2000);
    stop_spool();
    options.reserve_segments = 2 * SPOOL_RESERVE_SEGMENTS; // more than there are
    start_spool();
    struct sim_disk *d = sim_disk_find(ROOT);
    sim_disk_fail(d, SIM_DISK_OPEN, 1, 1000000, E_IO);
    uint64_t before = sim_disk_count(d, SIM_DISK_OPEN);
    sim_run_ms(10000);
    uint64_t tries = sim_disk_count(d, SIM_DISK_OPEN) - before;
    assert_in_range(tries, 5, 45);
    sim_disk_fail(d, SIM_DISK_OPEN, 1, 1, E_IO); // the last time
    sim_run_ms(3000);
    spool_get_stats(spool, &stats);
    assert_true(stats.free_segments > 2 * SPOOL_RESERVE_SEGMENTS);
    end();
    log_capture(NULL, NULL);
}

// Those who ask all the same, without having looked, get E_FULL and nothing else; the reserve is for outcomes.
static void test_reserve_is_not_for_intake(void **state)
{
    struct spool_stats stats;
    uint32_t n = 0;
    int err;
    log_capture(swallow, NULL);
    begin(12);
    sim_disk_capacity(sim_disk_find(ROOT), 24 * SEGMENT, 10000);
    sim_run_ms(2000);
    while ((err = commit(accept_frame(++n, 3000))) == OK)
        assert_true(n < 5000);
    assert_int_equal(err, E_FULL);
    spool_get_stats(spool, &stats);
    // compaction, at work by now, may have opened one of them
    assert_in_range(stats.free_segments, SPOOL_RESERVE_SEGMENTS - 1, SPOOL_RESERVE_SEGMENTS + 1);
    for (uint32_t i = 1; i < n; i++) // all that was accepted, from the first on
        assert_int_equal(commit(settle_frame(i)), OK);
    end();
    log_capture(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept_read_settle),
        cmocka_unit_test(test_commits_share_flushes),
        cmocka_unit_test(test_a_slow_flush_is_shared),
        cmocka_unit_test(test_space_is_bounded),
        cmocka_unit_test(test_unreadable_is_not_damaged),
        cmocka_unit_test(test_failing_disk_refuses_and_recovers),
        cmocka_unit_test(test_extents),
        cmocka_unit_test(test_extent_faults),
        cmocka_unit_test(test_reader_sees_each_record_once),
        cmocka_unit_test(test_segments_wait_for_the_copy),
        cmocka_unit_test(test_segments_wait_for_all_followers),
        cmocka_unit_test(test_freed_segments_are_kept_for_the_pace),
        cmocka_unit_test(test_backup_is_one_cut_and_on_hold),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_full_disk_and_reports),
        cmocka_unit_test(test_full_disk_and_history),
        cmocka_unit_test(test_full_disk_and_slow_history),
        cmocka_unit_test(test_making_fails_though_there_is_room),
        cmocka_unit_test(test_reserve_is_not_for_intake),
        cmocka_unit_test(test_a_long_queue_is_told_later),
        cmocka_unit_test(test_many_restarts_tell_nothing_twice),
        cmocka_unit_test(test_notes_keep_their_last_value),
        cmocka_unit_test(test_moved_notes_are_tried_again),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
