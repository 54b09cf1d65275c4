// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "sys/disk.h"

static char root[64];

static int setup(void **state)
{
    snprintf(root, sizeof root, "/tmp/disk_uv_test.XXXXXX");
    return mkdtemp(root) && disk_open(root, (struct disk **)state) == OK ? 0 : -1;
}

static int teardown(void **state)
{
    disk_close(*state);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void write_text(struct disk *d, const char *name, const char *text)
{
    struct disk_file *f;
    assert_int_equal(disk_file_open(d, name, DISK_WRITE | DISK_CREATE, &f), OK);
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
    assert_int_equal(disk_pwritev(f, &iov, 1, 0), OK);
    assert_int_equal(disk_sync(f), OK);
    disk_file_close(f);
}

static void reads_what_it_wrote(void **state)
{
    struct disk *d = *state;
    struct disk_file *f;
    assert_int_equal(disk_mkdir(d, "a"), OK);
    assert_int_equal(disk_mkdir(d, "a"), OK);
    assert_int_equal(disk_mkdir(d, "a/b"), OK);
    assert_int_equal(
        disk_file_open(d, "a/b/f", DISK_READ | DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &f), OK);
    char big[150][100];
    struct iovec iov[150]; // more than one call takes
    for (int i = 0; i < 150; i++) {
        memset(big[i], 'A' + i % 26, sizeof big[i]);
        iov[i] = (struct iovec){big[i], sizeof big[i]};
    }
    assert_int_equal(disk_pwritev(f, iov, 150, 10), OK);
    assert_ptr_equal(iov[0].iov_base, big[0]); // the caller's vector is as it was
    char back[20000];
    size_t n;
    assert_int_equal(disk_pread(f, back, sizeof back, 10, &n), OK);
    assert_int_equal(n, sizeof big);
    assert_memory_equal(back, big, sizeof big);
    int err = disk_pread_nowait(f, back, 100, 110, &n);
    assert_true(err == E_AGAIN || (err == OK && n == 100 && back[0] == 'B'));
    uint64_t size;
    assert_int_equal(disk_size(f, &size), OK);
    assert_int_equal(size, sizeof big + 10);
    assert_int_equal(disk_truncate(f, 5), OK);
    assert_int_equal(disk_pread(f, back, 100, 0, &n), OK);
    assert_int_equal(n, 5);
    assert_int_equal(disk_pread(f, back, 100, 99, &n), OK);
    assert_int_equal(n, 0);
    disk_file_close(f);
    assert_int_equal(disk_sync_dir(d, "a/b"), OK);
    assert_int_equal(disk_sync_dir(d, ""), OK);
}

static void names_and_errors(void **state)
{
    struct disk *d = *state;
    struct disk_file *f;
    write_text(d, "one", "1");
    assert_int_equal(disk_file_open(d, "none", DISK_READ, &f), E_NOT_FOUND);
    assert_null(f);
    assert_int_equal(disk_file_open(d, "no/dir", DISK_WRITE | DISK_CREATE, &f), E_NOT_FOUND);
    assert_int_equal(disk_file_open(d, "one/two", DISK_READ, &f), E_NOT_FOUND);
    assert_int_equal(disk_file_open(d, "one", DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &f),
                     E_EXISTS);
    assert_int_equal(disk_rename(d, "one", "two"), OK);
    assert_int_equal(disk_rename(d, "one", "three"), E_NOT_FOUND);
    assert_int_equal(disk_unlink(d, "two"), OK);
    assert_int_equal(disk_unlink(d, "two"), E_NOT_FOUND);
    uint64_t bytes, inodes;
    assert_int_equal(disk_free(d, &bytes, &inodes), OK);
    assert_true(bytes > 0 && inodes > 0);
}

static void count_name(void *ctx, const char *name)
{
    int *count = ctx;
    assert_true(strncmp(name, "n", 1) == 0);
    *count += 1;
}

static void lists(void **state)
{
    struct disk *d = *state;
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        write_text(d, name, "");
    }
    int count = 0;
    assert_int_equal(disk_list(d, "", count_name, &count), OK);
    assert_int_equal(count, 5);
    assert_int_equal(disk_list(d, "nowhere", count_name, &count), E_NOT_FOUND);
}

// Whoever can write into the root must not lead us out of it, and nobody else may read what is
// there.
static void no_links_no_strangers(void **state)
{
    struct disk *d = *state;
    struct disk_file *f;
    char path[128];
    snprintf(path, sizeof path, "%s/link", root);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(disk_file_open(d, "link", DISK_READ, &f), E_DENIED);
    snprintf(path, sizeof path, "%s/dir", root);
    assert_int_equal(symlink("/etc", path), 0);
    assert_true(disk_file_open(d, "dir/passwd", DISK_READ, &f) != OK);
    umask(0);
    write_text(d, "private", "x");
    assert_int_equal(disk_mkdir(d, "own"), OK);
    struct stat st;
    snprintf(path, sizeof path, "%s/private", root);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    snprintf(path, sizeof path, "%s/own", root);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void one_lock(void **state)
{
    struct disk *other;
    assert_int_equal(disk_lock(*state), OK);
    assert_int_equal(disk_open(root, &other), OK);
    assert_int_equal(disk_lock(other), E_BUSY);
    disk_close(other);
    disk_close(*state);
    assert_int_equal(disk_open(root, (struct disk **)state), OK);
    assert_int_equal(disk_lock(*state), OK);
}

static void makes_root(void **state)
{
    char path[128];
    struct disk *d;
    snprintf(path, sizeof path, "%s/x/y/z", root);
    assert_int_equal(disk_open(path, &d), OK);
    disk_close(d);
    write_text(*state, "file", "x");
    snprintf(path, sizeof path, "%s/file", root);
    assert_int_equal(disk_open(path, &d), E_IO);
}

// /dev/full says ENOSPC to every write.
static void full(void **state)
{
    struct disk *dev;
    struct disk_file *f;
    assert_int_equal(disk_open("/dev", &dev), OK);
    assert_int_equal(disk_file_open(dev, "full", DISK_WRITE, &f), OK);
    struct iovec iov = {root, 1};
    assert_int_equal(disk_pwritev(f, &iov, 1, 0), E_FULL);
    disk_file_close(f);
    disk_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_what_it_wrote, setup, teardown),
        cmocka_unit_test_setup_teardown(names_and_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(lists, setup, teardown),
        cmocka_unit_test_setup_teardown(no_links_no_strangers, setup, teardown),
        cmocka_unit_test_setup_teardown(one_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(makes_root, setup, teardown),
        cmocka_unit_test_setup_teardown(full, setup, teardown),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
