// SPDX-License-Identifier: MIT
//
// The parts of the list without its loop: spelling, table, database.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "mail/mail_address.h"
#include "store/store_directory.h"
#include "store/suppress_list.h"

static char folder[64];
static struct suppress_table table;
static struct suppress_list *list;

static const struct wall NOW = {1800000000000000};

// ---- a full disk ---------------------------------------------------------------------------------------------

static bool full;

// In place of the C library's. No file grows any more.
ssize_t pwrite64(int fd, const void *at, size_t n, off64_t offset)
{
    struct stat st;
    if (full && fstat(fd, &st) == 0 && offset + (off64_t)n > st.st_size) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, at, n, offset);
}

static int reopen(void **state)
{
    struct buf error = {0};
    int err = suppress_list_open(bytes_cstr(folder), &table, &list, &error);
    buf_done(&error);
    return err;
}

static int setup(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/posthaste-suppress-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    suppress_table_init(&table);
    return reopen(state);
}

static int teardown(void **state)
{
    static const char *const files[] = {"suppressions.db", "suppressions.db-wal",
                                        "suppressions.db-shm", "copy.db"};
    char path[128];
    suppress_list_close(list);
    suppress_table_done(&table);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static void add(enum suppress_scope scope, uint32_t account, const char *stream,
                const char *address, enum suppress_reason reason, int64_t expires_ms)
{
    struct suppress_entry e = {.scope = scope,
                               .account = account,
                               .stream = bytes_cstr(stream),
                               .address = bytes_cstr(address),
                               .reason = reason,
                               .expires =
                                   expires_ms ? wall_add_ms(NOW, expires_ms) : (struct wall){0}};
    bool changed;
    assert_int_equal(suppress_list_begin(list), OK);
    assert_int_equal(suppress_list_add(list, &e, BYTES("test"), NOW, &changed), OK);
    assert_int_equal(suppress_list_commit(list), OK);
}

static uint32_t remove_entry(enum suppress_scope scope, uint32_t account, const char *stream,
                             const char *address, enum suppress_reason reason)
{
    struct suppress_entry e = {scope, account, bytes_cstr(stream), bytes_cstr(address), reason};
    uint32_t removed;
    assert_int_equal(suppress_list_begin(list), OK);
    assert_int_equal(suppress_list_remove(list, &e, BYTES("test"), NOW, &removed), OK);
    assert_int_equal(suppress_list_commit(list), OK);
    return removed;
}

static struct suppress_hit find(uint32_t account, const char *stream, const char *address,
                                int64_t later_ms)
{
    struct suppress_hit hit;
    assert_int_equal(suppress_list_find(list, account, bytes_cstr(stream), bytes_cstr(address),
                                        wall_add_ms(NOW, later_ms), &hit),
                     OK);
    return hit;
}

static bool in_table(int64_t account, const char *stream, const char *address)
{
    struct suppress_address a;
    assert_int_equal(suppress_address_parse(bytes_cstr(address), &a), OK);
    return suppress_table_has(
        &table, suppress_key_hash(&table, account, bytes_cstr(stream), suppress_address_text(&a)));
}

// ---- spelling --------------------------------------------------------------------------------------------

static void test_one_spelling(void **state)
{
    static const struct {
        const char *in, *want; // NULL: no address
    } rows[] = {
        {"bob@example.com", "bob@example.com"},
        {"BOB@EXAMPLE.com", "bob@example.com"},
        {"\"bob\"@example.com", "bob@example.com"},
        {"bob@example.com.", "bob@example.com"},
        {"b.o.b+x@gmail.com", "b.o.b+x@gmail.com"},
        {"\"B B\"@example.com", "\"b b\"@example.com"},
        {"joe@B\xc3\xbc"
         "cher.example",
         "joe@xn--bcher-kva.example"},
        {"JOE@XN--BCHER-KVA.example", "joe@xn--bcher-kva.example"},
        {"\xc3\x9c@example.com", "\xc3\x9c@example.com"},
        {"a!b@[192.0.2.1]", "a!b@[192.0.2.1]"},
        {"bob", NULL},
        {"@example.com", NULL},
        {"bob@", NULL},
        {"bob@example..com", NULL},
        {".bob@example.com", NULL},
        {"bob.@example.com", NULL},
        {"bob@-example.com", NULL},
        {"bob@example-.com", NULL},
        {"bob@a@b", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct suppress_address a;
        int err = suppress_address_parse(bytes_cstr(rows[i].in), &a);
        if ((err == OK) != (rows[i].want != NULL))
            fail_msg("%s: %d", rows[i].in, err);
        if (rows[i].want && !bytes_eq(suppress_address_text(&a), bytes_cstr(rows[i].want)))
            fail_msg("%s: %.*s", rows[i].in, BYTES_FMT(suppress_address_text(&a)));
    }
}

// The short way for plain addresses gives what the long way gives.
static void test_both_ways_agree(void **state)
{
    static const char letters[] = "aZ09-_+=.@.a-b@.x";
    uint32_t random = 7;
    int valid = 0;
    for (int n = 0; n < 200000; n++) {
        char text[24];
        struct suppress_address a;
        struct mail_address parsed;
        struct buf canonical = {0};
        size_t len = 1 + n % (sizeof text - 1);
        for (size_t i = 0; i < len; i++) {
            random = random * 1664525 + 1013904223;
            text[i] = letters[(random >> 16) % (sizeof letters - 1)];
        }
        struct bytes address = bytes_of(text, len);
        int err = mail_address_parse(address, &parsed);
        if (!err)
            err = mail_address_canonical(&parsed, &canonical);
        for (size_t i = 0; i < canonical.len; i++)
            canonical.at[i] = ascii_lower(canonical.at[i]);
        int got = suppress_address_parse(address, &a);
        if ((got == OK) != (err == OK) ||
            (!err && !bytes_eq(suppress_address_text(&a), buf_bytes(&canonical))))
            fail_msg("%.*s: %d %d", BYTES_FMT(address), err, got);
        valid += !err;
        buf_done(&canonical);
    }
    assert_true(valid > 1000);
}

// ---- table -----------------------------------------------------------------------------------------------

#define MODEL 50000

static void test_table_against_a_model(void **state)
{
    static bool present[MODEL];
    uint32_t random = 1, count = 0;
    for (uint32_t i = 0; i < 400000; i++) {
        random = random * 1664525 + 1013904223;
        uint32_t n = (random >> 8) % MODEL;
        uint64_t hash = suppress_table_hash(&table, bytes_of(&n, sizeof n));
        assert_int_equal(suppress_table_has(&table, hash), present[n]);
        bool adds = i < 200000 ? random % 4 != 0 : random % 4 == 0;
        if (adds)
            suppress_table_add(&table, hash);
        else
            suppress_table_remove(&table, hash);
        count += (uint32_t)adds - (uint32_t)present[n];
        present[n] = adds;
    }
    assert_int_equal(suppress_table_count(&table), count);
    for (uint32_t n = 0; n < MODEL; n++) {
        uint64_t hash = suppress_table_hash(&table, bytes_of(&n, sizeof n));
        assert_int_equal(suppress_table_has(&table, hash), present[n]);
        suppress_table_remove(&table, hash);
    }
    assert_int_equal(suppress_table_count(&table), 0);
}

// The target of 16 bytes holds at every size, not only at a good one.
static void test_bytes_an_address(void **state)
{
    uint64_t worst = 0;
    for (uint64_t n = 1; n <= 2000000; n++) {
        suppress_table_add(&table, suppress_table_hash(&table, bytes_of(&n, sizeof n)));
        if (n < 1000000 || n % 1000 != 0)
            continue;
        uint64_t bytes = suppress_table_bytes(&table) * 1000 / n;
        worst = bytes > worst ? bytes : worst;
    }
    assert_true(worst < 15000);
}

// ---- list ------------------------------------------------------------------------------------------------

static void test_scopes(void **state)
{
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_COMPLAINT, 0);
    add(SUPPRESS_STREAM, 1, "news", "b@example.com", SUPPRESS_UNSUBSCRIBE, 0);
    add(SUPPRESS_SERVICE, 0, "", "c@example.com", SUPPRESS_MANUAL, 0);
    add(SUPPRESS_ACCOUNT, 0, "", "d@example.com", SUPPRESS_MANUAL, 0);
    static const struct {
        uint32_t account;
        const char *stream, *address;
        bool found;
    } rows[] = {
        {1, "", "A@example.com", true},       {1, "news", "a@example.com", true},
        {2, "", "a@example.com", false},      {0, "", "a@example.com", false},
        {1, "news", "b@example.com", true},   {1, "", "b@example.com", false},
        {1, "other", "b@example.com", false}, {2, "news", "b@example.com", false},
        {1, "", "c@example.com", true},       {2, "x", "c@example.com", true},
        {0, "", "c@example.com", true},       {0, "", "d@example.com", true},
        {1, "", "d@example.com", false},      {1, "", "no address", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (find(rows[i].account, rows[i].stream, rows[i].address, 0).found != rows[i].found)
            fail_msg("%zu: %s", i, rows[i].address);
    assert_int_equal(find(1, "news", "b@example.com", 0).scope, SUPPRESS_STREAM);
    assert_int_equal(find(1, "news", "b@example.com", 0).reason, SUPPRESS_UNSUBSCRIBE);
    assert_true(in_table(1, "news", "b@example.com") && !in_table(1, "", "b@example.com"));
}

static void test_an_entry_never_gets_shorter(void **state)
{
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_HARD_BOUNCE, 1000);
    assert_true(find(1, "", "a@example.com", 999).found);
    assert_false(find(1, "", "a@example.com", 1000).found);
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_HARD_BOUNCE, 5000);
    assert_true(find(1, "", "a@example.com", 4999).found);
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_HARD_BOUNCE, 1000);
    assert_true(find(1, "", "a@example.com", 4999).found);
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_HARD_BOUNCE, 0);
    assert_true(find(1, "", "a@example.com", 999999).found);
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_HARD_BOUNCE, 5000);
    assert_true(find(1, "", "a@example.com", 999999).found);
}

// The table keeps an address until its last reason is gone; expiry takes what is over, and nothing else.
static void test_reasons_and_expiry(void **state)
{
    uint32_t removed;
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_HARD_BOUNCE, 1000);
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_COMPLAINT, 0);
    add(SUPPRESS_ACCOUNT, 1, "", "b@example.com", SUPPRESS_HARD_BOUNCE, 1000);
    add(SUPPRESS_ACCOUNT, 1, "", "c@example.com", SUPPRESS_HARD_BOUNCE, 3000);
    assert_int_equal(suppress_list_begin(list), OK);
    assert_int_equal(suppress_list_expire(list, wall_add_ms(NOW, 2000), 100, &removed), OK);
    assert_true(in_table(1, "", "b@example.com")); // until it is committed
    assert_int_equal(suppress_list_commit(list), OK);
    assert_int_equal(removed, 2);
    assert_true(in_table(1, "", "a@example.com") && !in_table(1, "", "b@example.com"));
    assert_true(in_table(1, "", "c@example.com"));
    assert_int_equal(find(1, "", "a@example.com", 2000).reason, SUPPRESS_COMPLAINT);
    assert_int_equal(remove_entry(SUPPRESS_ACCOUNT, 1, "", "A@Example.com", 0), 1);
    assert_int_equal(remove_entry(SUPPRESS_ACCOUNT, 1, "", "a@example.com", 0), 0);
    assert_false(in_table(1, "", "a@example.com"));
    assert_int_equal(remove_entry(SUPPRESS_SERVICE, 0, "", "c@example.com", 0), 0);
    assert_true(find(1, "", "c@example.com", 0).found);
}

// What was removed and added again in one transaction is still in the table; what was rolled back never left it.
static void test_table_follows_the_transaction(void **state)
{
    struct suppress_entry e = {.scope = SUPPRESS_ACCOUNT,
                               .account = 1,
                               .address = BYTES("a@example.com"),
                               .reason = SUPPRESS_MANUAL};
    uint32_t removed;
    bool changed;
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_MANUAL, 0);
    assert_int_equal(suppress_list_begin(list), OK);
    assert_int_equal(suppress_list_remove(list, &e, BYTES("test"), NOW, &removed), OK);
    assert_int_equal(suppress_list_add(list, &e, BYTES("test"), NOW, &changed), OK);
    assert_int_equal(suppress_list_commit(list), OK);
    assert_true(in_table(1, "", "a@example.com") && find(1, "", "a@example.com", 0).found);
    assert_int_equal(suppress_list_begin(list), OK);
    assert_int_equal(suppress_list_remove(list, &e, BYTES("test"), NOW, &removed), OK);
    suppress_list_rollback(list);
    assert_true(in_table(1, "", "a@example.com") && find(1, "", "a@example.com", 0).found);
}

static void test_load(void **state)
{
    bool all = false;
    int slices = 0;
    add(SUPPRESS_SERVICE, 0, "", "a@example.com", SUPPRESS_MANUAL, 0);
    add(SUPPRESS_SERVICE, 0, "", "a@example.com", SUPPRESS_COMPLAINT, 0);
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_MANUAL, 0);
    add(SUPPRESS_STREAM, 1, "x", "a@example.com", SUPPRESS_MANUAL, 0);
    add(SUPPRESS_STREAM, 1, "y", "b@example.com", SUPPRESS_MANUAL, 0);
    suppress_list_close(list);
    suppress_table_done(&table);
    suppress_table_init(&table);
    assert_int_equal(reopen(state), OK);
    for (; !all; slices++)
        assert_int_equal(suppress_list_load(list, 2, &all), OK);
    assert_int_equal(slices, 3);
    assert_int_equal(suppress_table_count(&table), 4);
    assert_true(in_table(SUPPRESS_NOBODY, "", "a@example.com") &&
                in_table(1, "x", "a@example.com"));
    assert_true(in_table(1, "", "a@example.com") && in_table(1, "y", "b@example.com"));
}

static void test_removed_by_hand(void **state)
{
    struct suppress_entry e = {.scope = SUPPRESS_ACCOUNT,
                               .account = 1,
                               .address = BYTES("a@example.com"),
                               .reason = SUPPRESS_HARD_BOUNCE};
    bool lifted;
    add(SUPPRESS_ACCOUNT, 1, "", "a@example.com", SUPPRESS_HARD_BOUNCE, 0);
    assert_int_equal(suppress_list_was_removed(list, &e, NOW, &lifted), OK);
    assert_false(lifted);
    remove_entry(SUPPRESS_ACCOUNT, 1, "", "a@example.com", 0);
    assert_int_equal(suppress_list_was_removed(list, &e, NOW, &lifted), OK);
    assert_true(lifted);
    assert_int_equal(suppress_list_was_removed(list, &e, wall_add_ms(NOW, 1), &lifted), OK);
    assert_false(lifted); // it bounced again since
}

static void test_copy(void **state)
{
    char path[128];
    struct suppress_copy *copy;
    int err;
    for (int i = 0; i < 500; i++) {
        char address[32];
        snprintf(address, sizeof address, "a%d@example.com", i);
        add(SUPPRESS_SERVICE, 0, "", address, SUPPRESS_MANUAL, 0);
    }
    snprintf(path, sizeof path, "%s/copy.db", folder);
    assert_int_equal(suppress_copy_begin(list, path, &copy), OK);
    assert_int_equal(suppress_copy_step(copy, 2), E_AGAIN);
    add(SUPPRESS_SERVICE, 0, "", "late@example.com", SUPPRESS_MANUAL, 0);
    while ((err = suppress_copy_step(copy, 5)) == E_AGAIN)
        ;
    assert_int_equal(err, OK);
    suppress_copy_end(copy);
    assert_int_equal(suppress_copy_begin(list, path, &copy), E_EXISTS);
    suppress_list_close(list);
    char original[128];
    snprintf(original, sizeof original, "%s/suppressions.db", folder);
    assert_int_equal(rename(path, original), 0);
    assert_int_equal(reopen(state), OK);
    assert_true(find(0, "", "a499@example.com", 0).found &&
                find(0, "", "late@example.com", 0).found);
}

static int commit_sequence(uint64_t sequence)
{
    assert_int_equal(suppress_list_begin(list), OK);
    int err = suppress_list_set_sequence(list, sequence);
    if (!err)
        return suppress_list_commit(list);
    suppress_list_rollback(list);
    return err;
}

// How far the list follows is written down though the disk is full: the spool would wait for it, and free nothing.
static void test_progress_on_a_full_disk(void **state)
{
    uint64_t sequence = 1;
    add(SUPPRESS_SERVICE, 0, "", "bob@example.com", SUPPRESS_HARD_BOUNCE, 0);
    suppress_list_close(list);
    assert_int_equal(reopen(state), OK);
    for (; sequence < 5; sequence++)
        assert_int_equal(commit_sequence(sequence), OK);
    full = true;
    int refused = 0, kept = 0;
    for (int i = 0; i < 20; i++)
        *(commit_sequence(sequence++) == OK ? &kept : &refused) += 1;
    full = false;
    assert_true(refused > 0); // or this has tested nothing
    assert_true(kept >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_spelling),
        cmocka_unit_test(test_both_ways_agree),
        cmocka_unit_test_setup_teardown(test_table_against_a_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bytes_an_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scopes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_entry_never_gets_shorter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reasons_and_expiry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_table_follows_the_transaction, setup, teardown),
        cmocka_unit_test_setup_teardown(test_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed_by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_progress_on_a_full_disk, setup, teardown),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
