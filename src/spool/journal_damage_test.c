// SPDX-License-Identifier: MIT
//
// Damage to a journal: bit flips in every byte, truncation at every byte, recycled segments, other versions.
// No start fails or crashes; at most the record that was hit is lost, and the rest is told.
#include "base/log.h"
#include "sim_disk.h"
#include "spool/journal.h"
#include "spool/spool_test.h"

#define ROOT "/spool"
#define SEGMENT ((size_t)64 << 10)
#define USED ((size_t)36 << 10) // all records and the index lie below
#define FILE_0 "segments/00000000"
#define NUMBERS 64

static struct journal *j;
static bool told[NUMBERS];
static uint32_t told_count;
static char image[SEGMENT];
static uint64_t ends[NUMBERS]; // where each message's record ends, 0: none

static void on_message(void *ctx, const struct spool_summary *s)
{
    assert_true(s->account < NUMBERS && !told[s->account]);
    told[s->account] = true;
    told_count++;
}

static const struct spool_recovery recovery = {NULL, on_message, NULL};

static int open_journal(void)
{
    memset(told, 0, sizeof(told));
    told_count = 0;
    return journal_open(&(struct spool_options){.directory = ROOT, .segment_bytes = SEGMENT},
                        &recovery, &j);
}

static void commit(struct spool_frame *f)
{
    struct list frames, done;
    list_init(&frames);
    list_init(&done);
    list_push_back(&frames, &f->link);
    assert_int_equal(journal_commit(j, &frames, &done), OK);
    assert_ptr_equal(list_pop_front(&done), &f->link);
    assert_int_equal(f->err, OK);
    spool_frame_free(f);
}

static void add_message(struct spool_frame *f, uint32_t n, size_t body_bytes)
{
    struct stored_message *m = test_message(n, body_bytes);
    spool_frame_add_message(f, m);
    stored_message_unref(m);
}

static void accept(uint32_t n, size_t body_bytes)
{
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    add_message(f, n, body_bytes);
    commit(f);
    struct table_entry *e = table_find(&j->table, test_id(n));
    ends[n] = (uint64_t)e->offset16 * RECORD_ALIGN + e->bytes16 * RECORD_ALIGN;
}

static void settle(uint32_t n)
{
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    struct spool_outcome o = test_outcome(n, 1, RECIPIENT_DELIVERED);
    spool_frame_add_outcome(f, &o);
    commit(f);
}

static void swallow(void *ctx, struct bytes line)
{
}

static void in_world(void (*fn)(void *ctx))
{
    log_capture(swallow, NULL);
    sim_start(1);
    struct sim_host *host = sim_host_new("relay", NULL);
    assert_true(sim_host_call(host, fn, NULL));
    sim_stop();
    log_capture(NULL, NULL);
}

// ---- one small segment --------------------------------------------------------------------------

// Messages 3, 6, 9 and 12, one recipient each; 6 is settled.
static void build(void)
{
    memset(ends, 0, sizeof(ends));
    assert_int_equal(open_journal(), OK);
    accept(3, 300);
    accept(6, 100);
    settle(6);
    accept(9, 1000);
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    add_message(f, 12, 50);
    commit(f);
    ends[6] = 0;
    struct table_entry *e = table_find(&j->table, test_id(12));
    ends[12] = (uint64_t)e->offset16 * RECORD_ALIGN + e->bytes16 * RECORD_ALIGN;
}

static void read_image(void)
{
    struct disk_file *file;
    size_t n;
    assert_int_equal(disk_file_open(j->disk, FILE_0, DISK_READ, &file), OK);
    assert_int_equal(disk_pread(file, image, sizeof(image), 0, &n), OK);
    assert_int_equal(n, SEGMENT);
    disk_file_close(file);
}

// The disk as it was, but for the first `size` bytes of the image in the one segment.
static void write_image(size_t size)
{
    struct disk *disk;
    struct disk_file *file;
    struct iovec iov = {image, size};
    assert_int_equal(disk_open(ROOT, &disk), OK);
    assert_int_equal(disk_mkdir(disk, "segments"), OK);
    assert_int_equal(disk_file_open(disk, FILE_0, DISK_WRITE | DISK_CREATE | DISK_TRUNCATE, &file),
                     OK);
    if (size)
        assert_int_equal(disk_pwritev(file, &iov, 1, 0), OK);
    disk_file_close(file);
    disk_close(disk);
}

// Leaves the image of a journal that was closed in order, or of one that was not.
static void make_image(bool closed)
{
    build();
    if (!closed)
        read_image();
    uint64_t end = j->offset;
    journal_close(j);
    assert_int_equal(open_journal(), OK);
    assert_int_equal(told_count, 3);
    if (closed)
        read_image();
    journal_close(j);
    assert_in_range(end, SEGMENT_DATA_AT + 4 * RECORD_BLOCK, USED - RECORD_BLOCK);
}

static uint32_t differences(void)
{
    return !told[3] + told[6] + !told[9] + !told[12];
}

// What lies between the index and the footer is empty; the records of a sealed segment are not read.
static size_t next_to_flip(size_t at, bool closed)
{
    if (at + 1 == USED)
        return SEGMENT - RECORD_BLOCK;
    return at + (closed && at >= SEGMENT_DATA_AT && at + 64 < USED - 4 * RECORD_BLOCK ? 61 : 1);
}

static void flip_every_byte(bool closed)
{
    make_image(closed);
    for (size_t at = 0; at < SEGMENT; at = next_to_flip(at, closed)) {
        char kept = image[at];
        image[at] = (char)(kept ^ (1 << at % 8));
        write_image(SEGMENT);
        image[at] = kept;
        assert_int_equal(open_journal(), OK);
        // An index makes the state independent of the records.
        uint32_t allowed = !closed && at >= SEGMENT_DATA_AT ? 1 : 0;
        if (differences() > allowed)
            fail_msg("byte %zu: %u differences", at, differences());
        if (differences() && told[12] && j->counts.damaged == 0)
            fail_msg("byte %zu: a loss that was not reported", at);
        journal_close(j);
    }
}

static void flip_unclosed(void *ctx)
{
    flip_every_byte(false);
}

static void test_a_flipped_bit_costs_one_record(void **state)
{
    in_world(flip_unclosed);
}

// Whatever the disk does not give at a start: the start fails, or the segment is kept as it is. The next one
// has everything again.
static void fail_every_read(bool closed)
{
    bool failed = false, went_on = false;
    make_image(closed);
    for (uint64_t at = 1; at <= 40; at++) {
        write_image(SEGMENT);
        sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, at, 1 + at % 20, E_IO);
        int err = open_journal();
        assert_true(err == OK || err == E_IO);
        if (err == OK) {
            assert_int_equal(j->counts.damaged, 0);
            went_on |= told_count < 3;
            journal_close(j);
        }
        failed |= err == E_IO;
        sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, UINT64_MAX, 1, E_IO);
        assert_int_equal(open_journal(), OK);
        if (told_count != 3)
            fail_msg("read %llu, closed %d: lost", (unsigned long long)at, closed);
        journal_close(j);
    }
    assert_true(failed && (went_on || closed)); // or this has tested nothing
}

static void fail_reads_unclosed(void *ctx)
{
    fail_every_read(false);
}

static void fail_reads_closed(void *ctx)
{
    fail_every_read(true);
}

static void test_unread_at_the_start_is_kept(void **state)
{
    in_world(fail_reads_unclosed);
    in_world(fail_reads_closed);
}

// ---- extents ------------------------------------------------------------------------------------

static const char *sought;
static bool sought_is_there;

static void on_file(void *ctx, const char *name, uint64_t size)
{
    sought_is_there |= strcmp(name, sought) == 0;
}

static bool is_there(const char *name)
{
    sought = name;
    sought_is_there = false;
    sim_disk_each(sim_disk_find(ROOT), on_file, NULL);
    return sought_is_there;
}

static void write_extent(const char *name)
{
    struct disk_file *file;
    struct iovec iov = {(char[]){"hello"}, 5};
    assert_int_equal(disk_file_open(j->disk, name, DISK_WRITE | DISK_CREATE, &file), OK);
    assert_int_equal(disk_pwritev(file, &iov, 1, 0), OK);
    assert_int_equal(disk_sync(file), OK);
    disk_file_close(file);
    assert_int_equal(disk_sync_dir(j->disk, EXTENT_DIRECTORY), OK);
}

// Number 3 with its body in an extent, in a journal that is closed again.
static void accept_in_extent(char name[EXTENT_NAME_BYTES])
{
    assert_int_equal(open_journal(), OK);
    struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
    struct stored_message *m = test_message(3, 0);
    m->body_in_extent = true;
    m->envelope->body_bytes = 5;
    write_extent(extent_name(test_id(3), name));
    spool_frame_add_message(f, m);
    stored_message_unref(m);
    commit(f);
    journal_close(j);
}

// A start that does not get to read the record of a message leaves its body to the next one.
static void read_no_record(void *ctx)
{
    char name[EXTENT_NAME_BYTES];
    bool untold = false;
    accept_in_extent(name);
    for (uint64_t times = 1; times <= 60; times++) {
        sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, 2, times, E_IO);
        int err = open_journal();
        sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_READ, UINT64_MAX, 1, E_IO);
        assert_true(is_there(name));
        if (err)
            continue;
        untold |= !told[3];
        journal_close(j);
    }
    assert_true(untold); // or this has tested nothing
    assert_int_equal(open_journal(), OK);
    assert_true(told[3] && is_there(name));
    journal_close(j);
}

// What goes with a damaged record goes to damaged/ with it; with no damage it goes for good.
static void damage_record(void *ctx)
{
    char name[EXTENT_NAME_BYTES], aside[64], zero = 0;
    struct disk_file *file;
    struct iovec iov = {&zero, 1};
    accept_in_extent(name);
    snprintf(aside, sizeof(aside), "damaged/extent-%s", strchr(name, '/') + 1);
    assert_int_equal(open_journal(), OK);
    accept(4, 100); // so that nothing of it can be what a crash cut short
    assert_int_equal(disk_file_open(j->disk, FILE_0, DISK_WRITE, &file), OK);
    assert_int_equal(disk_pwritev(file, &iov, 1, SEGMENT_DATA_AT + 3), OK);    // the record's
    assert_int_equal(disk_pwritev(file, &iov, 1, SEGMENT - RECORD_BLOCK), OK); // and the footer's
    disk_file_close(file);
    write_extent(EXTENT_DIRECTORY "/none");
    journal_close(j);
    assert_int_equal(open_journal(), OK);
    assert_true(!told[3] && j->counts.damaged > 0);
    assert_true(!is_there(name) && is_there(aside));
    write_extent(EXTENT_DIRECTORY "/none");
    journal_close(j);
    assert_int_equal(open_journal(), OK);
    assert_true(is_there(aside) && !is_there(EXTENT_DIRECTORY "/none"));
    journal_close(j);
}

static void test_bodies_stay_with_unread_and_damaged_records(void **state)
{
    in_world(read_no_record);
    in_world(damage_record);
}

static void flip_closed(void *ctx)
{
    flip_every_byte(true);
}

static void test_a_flipped_bit_in_a_sealed_segment_costs_nothing(void **state)
{
    in_world(flip_closed);
}

// A record's padding (up to 15 bytes) may be missing. Without a header nothing can be told.
static bool may_be_told(uint32_t n, size_t size, bool is_told)
{
    if (size < 128 || ends[n] > size + RECORD_ALIGN - 1)
        return !is_told;
    return is_told || ends[n] > size;
}

// Every length within a record and a little behind it; larger steps in headers and padding.
static size_t next_to_cut(size_t size)
{
    bool near = false;
    for (uint32_t n = 3; n <= 12; n += 3)
        near |= ends[n] && size + 1500 > ends[n] && size < ends[n] + 40;
    return size + (near ? 1 : 64);
}

static void truncate_everywhere(void *ctx)
{
    make_image(false);
    for (size_t size = 0; size < USED; size = next_to_cut(size)) {
        write_image(size);
        assert_int_equal(open_journal(), OK);
        for (uint32_t n = 3; n <= 12; n += 3)
            if (n != 6 && !may_be_told(n, size, told[n]))
                fail_msg("%zu bytes: message %u %s", size, n, told[n] ? "told" : "lost");
        // Also when the cut falls between two records, and a scan sees nothing amiss.
        if (size >= 128 && j->counts.damaged == 0)
            fail_msg("%zu bytes: a cut that was not reported", size);
        journal_close(j);
    }
}

static void test_truncation_costs_what_it_cuts(void **state)
{
    in_world(truncate_everywhere);
}

// A byte hit in one record of a frame: the rest of the frame counts once a later batch shows that it was
// flushed, and not before.
static void hit_a_frame(void *ctx)
{
    for (int later = 0; later <= 1; later++) {
        assert_int_equal(open_journal(), OK);
        accept(3, 10);
        struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
        struct spool_outcome o = test_outcome(3, 1, RECIPIENT_FAILED);
        spool_frame_add_outcome(f, &o);
        add_message(f, 9, 100);
        commit(f);
        uint64_t at = (uint64_t)table_find(&j->table, test_id(9))->offset16 * RECORD_ALIGN + 200;
        if (later)
            accept(12, 10);
        read_image();
        journal_close(j);
        image[at] ^= 1;
        write_image(SEGMENT);
        assert_int_equal(open_journal(), OK);
        assert_false(told[9]);
        assert_int_equal(told[3], !later);
        assert_int_equal(told[12], later);
        journal_close(j);
        write_image(0);
    }
}

static void test_frames_are_atomic(void **state)
{
    in_world(hit_a_frame);
}

// ---- recycling ----------------------------------------------------------------------------------

static void free_all_below(uint64_t number)
{
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    frame_add_tail(f, number);
    commit(f);
}

static void recycle(void *ctx)
{
    char name[SEGMENT_NAME_BYTES];
    assert_int_equal(open_journal(), OK);
    j->reserve = 1;
    for (int i = 0; i < 2; i++) // further back than the recycled segment will be written
        accept(6, 10), settle(6);
    accept(3, 700);
    uint32_t first = j->open->slot;
    while (j->open->slot == first)
        accept(6, 3000), settle(6);
    settle(3);
    free_all_below(j->open->head.number);
    assert_int_equal(j->free_count, 1);
    j->can_create = false;
    j->reserve = 0;
    uint32_t n = 12;
    while (j->open->slot != first)
        accept(n += 3, 3000);
    j->can_create = true; // outcomes leave the last free segment alone
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    for (; n > 12; n -= 3) {
        struct spool_outcome o = test_outcome(n, 1, RECIPIENT_DELIVERED);
        spool_frame_add_outcome(f, &o);
    }
    commit(f);
    accept(9, 10);
    // Message 3 is still there to be read, if anyone believed it.
    struct bytes needle = BYTES("Subject: message 3\r\n");
    struct disk_file *file;
    char *bytes = mem_new(SEGMENT);
    size_t got;
    assert_int_equal(disk_file_open(j->disk, segment_name(first, name), DISK_READ, &file), OK);
    assert_int_equal(disk_pread(file, bytes, SEGMENT, 0, &got), OK);
    disk_file_close(file);
    assert_true(bytes_search(bytes_of(bytes, got), needle) > 0);
    free(bytes);
    j->open->abandoned = true; // no index: the restart scans
    journal_close(j);
    assert_int_equal(open_journal(), OK);
    assert_int_equal(told_count, 1);
    assert_true(told[9]);
    journal_close(j);
}

static void test_recycled_records_never_revive(void **state)
{
    in_world(recycle);
}

// ---- headers ------------------------------------------------------------------------------------

static bool is_aside(const char *name)
{
    struct disk *disk;
    struct disk_file *file;
    assert_int_equal(disk_open(ROOT, &disk), OK);
    int err = disk_file_open(disk, name, DISK_READ, &file);
    if (!err)
        disk_file_close(file);
    disk_close(disk);
    return err == OK;
}

static void lose_headers(void *ctx)
{
    make_image(false);
    memset(image, 'x', SEGMENT_DATA_AT);
    write_image(SEGMENT);
    assert_int_equal(open_journal(), OK);
    assert_int_equal(told_count, 0);
    assert_int_equal(j->counts.damaged, 1);
    char name[64];
    snprintf(name, sizeof name, "damaged/segment-00000000-%u", j->epoch);
    assert_true(is_aside(name));
    journal_close(j);
}

// Power was cut while a used file got its new header: what stands behind it is of its life before.
static void tear_headers(void *ctx)
{
    struct disk_file *file;
    struct iovec iov = {image, SEGMENT};
    make_image(false);
    memset(image, 'x', SEGMENT_DATA_AT);
    assert_int_equal(open_journal(), OK);
    assert_int_equal(disk_file_open(j->disk, "segments/00000007", DISK_WRITE | DISK_CREATE, &file),
                     OK);
    assert_int_equal(disk_pwritev(file, &iov, 1, 0), OK);
    disk_file_close(file);
    journal_close(j);
    assert_int_equal(open_journal(), OK);
    assert_int_equal(told_count, 3);
    assert_int_equal(j->counts.damaged, 0);
    journal_close(j);
}

// Both copies of the newest segment's header: there is none that would miss it, yet it has mail in it.
static void test_a_newest_header_is_missed(void **state)
{
    in_world(lose_headers);
    in_world(tear_headers);
}

// ---- versions -----------------------------------------------------------------------------------

static char logged[4096];

static void keep_log(void *ctx, struct bytes line)
{
    snprintf(logged, sizeof(logged), "%.*s", BYTES_FMT(line));
}

static void newer_version(void *ctx)
{
    make_image(true);
    image[8] = 99;
    image[RECORD_BLOCK + 8] = 99;
    write_image(SEGMENT);
    log_capture(keep_log, NULL);
    assert_int_equal(open_journal(), E_VERSION);
    assert_non_null(strstr(logged, "99"));
    assert_non_null(strstr(logged, "format_known=1"));
}

static void test_newer_version_is_refused(void **state)
{
    in_world(newer_version);
}

// Written once by this test with SPOOL_WRITE_FIXTURE set; read by all later releases.
static void load_fixture(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(image, 1, sizeof(image), f), sizeof(image));
    fclose(f);
}

static void fixture(void *ctx)
{
    const char *path = getenv("SPOOL_FIXTURE"), *write = getenv("SPOOL_WRITE_FIXTURE");
    if (write) {
        make_image(true);
        FILE *f = fopen(write, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(image, 1, sizeof(image), f), sizeof(image));
        fclose(f);
    }
    assert_non_null(path);
    load_fixture(path);
    write_image(SEGMENT);
    assert_int_equal(open_journal(), OK);
    assert_int_equal(told_count, 3);
    assert_int_equal(differences(), 0);
    struct table_entry *e = table_find(&j->table, test_id(9));
    assert_int_equal(table_recipients(e), 1);
    journal_close(j);
}

static void test_version_1_is_read(void **state)
{
    in_world(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flipped_bit_costs_one_record),
        cmocka_unit_test(test_a_flipped_bit_in_a_sealed_segment_costs_nothing),
        cmocka_unit_test(test_unread_at_the_start_is_kept),
        cmocka_unit_test(test_bodies_stay_with_unread_and_damaged_records),
        cmocka_unit_test(test_truncation_costs_what_it_cuts),
        cmocka_unit_test(test_frames_are_atomic),
        cmocka_unit_test(test_recycled_records_never_revive),
        cmocka_unit_test(test_a_newest_header_is_missed),
        cmocka_unit_test(test_newer_version_is_refused),
        cmocka_unit_test(test_version_1_is_read),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
