// SPDX-License-Identifier: MIT
//
// The simulated disk: what was not synced really is lost, what was synced never is, faults strike
// when told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "sim_disk.h"

#define ROOT "/spool"
#define PAGES 8

static struct disk *disk;
static struct disk_file *file;

static void write_byte(uint64_t offset, size_t len, char c)
{
    char data[PAGES * SIM_PAGE_BYTES];
    assert_true(len <= sizeof data);
    memset(data, c, len);
    struct iovec iov[2] = {{data, len / 2}, {data + len / 2, len - len / 2}};
    assert_int_equal(disk_pwritev(file, iov, 2, offset), OK);
}

static char read_byte(uint64_t offset)
{
    char c = 0;
    size_t n;
    assert_int_equal(disk_pread(file, &c, 1, offset, &n), OK);
    return n == 1 ? c : '?';
}

static void open_file(const char *name, int flags)
{
    assert_int_equal(disk_open(ROOT, &disk), OK);
    assert_int_equal(disk_file_open(disk, name, DISK_READ | DISK_WRITE | flags, &file), OK);
}

// A file of PAGES pages of 'a', synced with its name.
static void make_base(void *ctx)
{
    open_file("f", DISK_CREATE);
    write_byte(0, PAGES * SIM_PAGE_BYTES, 'a');
    assert_int_equal(disk_sync(file), OK);
    assert_int_equal(disk_sync_dir(disk, ""), OK);
}

static void overwrite(void *ctx)
{
    write_byte(0, PAGES * SIM_PAGE_BYTES, 'b');
}

static struct sim_host *power_cut_after(uint64_t seed, void (*fn)(void *ctx))
{
    sim_start(seed);
    struct sim_host *host = sim_host_new("host", NULL);
    assert_true(sim_host_call(host, make_base, NULL));
    if (fn)
        assert_true(sim_host_call(host, fn, NULL));
    sim_host_crash(host, SIM_POWER);
    sim_host_boot(host);
    return host;
}

static void synced_data_survives(void **state)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        power_cut_after(seed, NULL);
        open_file("f", 0);
        for (size_t i = 0; i < PAGES * SIM_PAGE_BYTES; i += 100)
            assert_int_equal(read_byte(i), 'a');
        sim_stop();
    }
}

static void unsynced_data_is_old_new_or_torn(void **state)
{
    int lost = 0, kept = 0, torn = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        power_cut_after(seed, overwrite);
        open_file("f", 0);
        int old = 0, new = 0;
        for (size_t i = 0; i < PAGES * SIM_PAGE_BYTES; i += SIM_SECTOR_BYTES) {
            char c = read_byte(i);
            assert_true(c == 'a' || c == 'b');
            assert_int_equal(read_byte(i + SIM_SECTOR_BYTES - 1), c); // a sector is atomic
            old += c == 'a';
            new += c == 'b';
        }
        lost += new == 0;
        kept += old == 0;
        torn += old && new;
        sim_stop();
    }
    assert_true(lost > 5 && kept > 5 && torn > 20);
}

static void a_kill_loses_nothing(void **state)
{
    sim_start(5);
    struct sim_host *host = sim_host_new("host", NULL);
    assert_true(sim_host_call(host, make_base, NULL));
    assert_true(sim_host_call(host, overwrite, NULL));
    sim_host_crash(host, SIM_KILL);
    open_file("f", 0);
    assert_int_equal(read_byte(0), 'b');
    sim_stop();
}

static void make_names(void *ctx)
{
    struct disk_file *f;
    assert_int_equal(disk_mkdir(disk, "d"), OK);
    assert_int_equal(disk_file_open(disk, "d/one", DISK_WRITE | DISK_CREATE, &f), OK);
    assert_int_equal(disk_sync(f), OK);
    assert_int_equal(disk_rename(disk, "d/one", "d/two"), OK);
    assert_int_equal(disk_sync_dir(disk, ctx ? "d" : ""), OK);
    if (ctx)
        assert_int_equal(disk_sync_dir(disk, ""), OK);
}

static bool exists(const char *name)
{
    struct disk_file *f = NULL;
    int err = disk_file_open(disk, name, DISK_READ, &f);
    disk_file_close(f);
    return err == OK;
}

// Runs make_names, cuts the power; counts what is there afterwards.
static void count_names(bool synced, int *one, int *two)
{
    *one = *two = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        sim_start(seed);
        struct sim_host *host = sim_host_new("host", NULL);
        assert_true(sim_host_call(host, make_base, NULL));
        assert_true(sim_host_call(host, make_names, synced ? host : NULL));
        sim_host_crash(host, SIM_POWER);
        assert_int_equal(disk_open(ROOT, &disk), OK);
        assert_false(exists("d/one") && exists("d/two")); // a rename is atomic
        *one += exists("d/one");
        *two += exists("d/two");
        sim_stop();
    }
}

static void names_survive_when_their_directory_is_synced(void **state)
{
    int one, two;
    count_names(true, &one, &two);
    assert_int_equal(two, 100);
    count_names(false, &one, &two);
    assert_true(one > 5 && two > 5 && one + two < 90);
}

static void faults_strike_when_told(void **state)
{
    sim_start(3);
    open_file("f", DISK_CREATE);
    struct sim_disk *d = sim_disk_find(ROOT);
    char data[600] = {0};
    struct iovec iov = {data, sizeof data};
    sim_disk_fail(d, SIM_DISK_WRITE, 3, 2, E_FULL);
    assert_int_equal(disk_pwritev(file, &iov, 1, 0), OK);
    assert_int_equal(disk_pwritev(file, &iov, 1, 0), OK);
    assert_int_equal(disk_pwritev(file, &iov, 1, 0), E_FULL);
    assert_int_equal(disk_pwritev(file, &iov, 1, 0), E_FULL);
    assert_int_equal(disk_pwritev(file, &iov, 1, 0), OK);
    sim_stop();
}

static void sync_that_fails(void *ctx)
{
    overwrite(NULL);
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_SYNC, 1, 1, E_IO);
    assert_int_equal(disk_sync(file), E_IO);
    assert_int_equal(disk_sync(file), OK); // and lies
}

static void after_a_failed_sync_the_next_one_lies(void **state)
{
    int old = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        power_cut_after(seed, sync_that_fails);
        open_file("f", 0);
        for (size_t i = 0; i < PAGES; i++)
            old += read_byte(i * SIM_PAGE_BYTES) == 'a';
        sim_stop();
    }
    assert_true(old > PAGES * 50 / 5);
}

static void the_disk_fills(void **state)
{
    sim_start(3);
    open_file("f", DISK_CREATE);
    struct sim_disk *d = sim_disk_find(ROOT);
    sim_disk_capacity(d, 4 * SIM_PAGE_BYTES, 1);
    write_byte(0, 4 * SIM_PAGE_BYTES, 'x');
    struct iovec iov = {&(char){'y'}, 1};
    uint64_t bytes, inodes;
    assert_int_equal(disk_pwritev(file, &iov, 1, 4 * SIM_PAGE_BYTES), E_FULL);
    assert_int_equal(disk_pwritev(file, &iov, 1, 0), OK);
    struct disk_file *second;
    assert_int_equal(disk_file_open(disk, "g", DISK_WRITE | DISK_CREATE, &second), E_FULL);
    assert_int_equal(disk_free(disk, &bytes, &inodes), OK);
    assert_int_equal(bytes, 0);
    assert_int_equal(disk_truncate(file, SIM_PAGE_BYTES), OK);
    assert_int_equal(disk_pwritev(file, &iov, 1, 2 * SIM_PAGE_BYTES), OK);
    disk_file_close(file);
    assert_int_equal(disk_unlink(disk, "f"), OK);
    assert_int_equal(sim_disk_used_bytes(d), 0);
    sim_stop();
}

static void durable_bytes_are_found(void **state)
{
    sim_start(3);
    open_file("f", DISK_CREATE);
    struct sim_disk *d = sim_disk_find(ROOT);
    char needle[] = "needle";
    struct iovec iov = {needle, 6};
    assert_int_equal(disk_pwritev(file, &iov, 1, SIM_PAGE_BYTES - 3), OK);
    assert_false(sim_disk_has_durable(d, BYTES("needle")));
    assert_int_equal(disk_sync(file), OK);
    assert_false(sim_disk_has_durable(d, BYTES("needle"))); // not its name yet
    assert_int_equal(disk_sync_dir(disk, ""), OK);
    assert_true(sim_disk_has_durable(d, BYTES("needle")));
    assert_int_equal(sim_disk_flip(d, "f", SIM_PAGE_BYTES - 3, 1), OK);
    assert_false(sim_disk_has_durable(d, BYTES("needle")));
    assert_int_equal(read_byte(SIM_PAGE_BYTES - 3), 'n' ^ 1);
    sim_stop();
}

static void many_writes(void *ctx)
{
    for (int i = 0; i < 20; i++)
        overwrite(NULL);
}

static void a_crash_strikes_at_the_nth_operation(void **state)
{
    sim_start(3);
    struct sim_host *host = sim_host_new("host", NULL);
    assert_true(sim_host_call(host, make_base, NULL));
    uint64_t writes = sim_disk_count(sim_disk_find(ROOT), SIM_DISK_WRITE);
    sim_host_crash_at(host, SIM_POWER, 7);
    assert_false(sim_host_call(host, many_writes, NULL));
    assert_int_equal(sim_disk_count(sim_disk_find(ROOT), SIM_DISK_WRITE) - writes, 7);
    assert_true(sim_host_is_down(host));
    sim_stop();
}

static void the_lock_is_exclusive_and_dies_with_the_host(void **state)
{
    sim_start(3);
    struct sim_host *host = sim_host_new("host", NULL);
    assert_true(sim_host_call(host, make_base, NULL));
    struct disk *other;
    assert_int_equal(disk_open(ROOT, &other), OK);
    assert_int_equal(disk_lock(disk), OK);
    assert_int_equal(disk_lock(other), E_BUSY);
    sim_host_crash(host, SIM_KILL);
    assert_int_equal(disk_open(ROOT, &other), OK);
    assert_int_equal(disk_lock(other), OK);
    sim_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synced_data_survives),
        cmocka_unit_test(unsynced_data_is_old_new_or_torn),
        cmocka_unit_test(a_kill_loses_nothing),
        cmocka_unit_test(names_survive_when_their_directory_is_synced),
        cmocka_unit_test(faults_strike_when_told),
        cmocka_unit_test(after_a_failed_sync_the_next_one_lies),
        cmocka_unit_test(the_disk_fills),
        cmocka_unit_test(durable_bytes_are_found),
        cmocka_unit_test(a_crash_strikes_at_the_nth_operation),
        cmocka_unit_test(the_lock_is_exclusive_and_dies_with_the_host),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
