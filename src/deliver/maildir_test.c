// SPDX-License-Identifier: MIT
//
// One delivery into a Maildir: the file, and what is left when it fails. Loops and spool are the simulator's, the
// folders real.
#include "deliver/maildir.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/test_base.h"
#include "sim_spool.h"

#define PATIENCE_MS 60000
#define HEADER "Subject: x\r\n\r\n"

static struct sim_spool world;
static char root[64], pattern[96];

static int setup(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    snprintf(root, sizeof root, "/tmp/maildir_test.XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(pattern, sizeof pattern, "%s/%%d/%%u", root);
    return sim_spool_start(&world, 5, 1 << 20) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[96];
    bool ok = sim_spool_stop(&world);
    snprintf(command, sizeof command, "rm -r %s", root);
    return ok && system(command) == 0 ? 0 : -1; // NOLINT(cert-env33-c): a folder of our own making
}

// ---- flushes ---------------------------------------------------------------------------------------------------

// Paths below `root` that were flushed, each with a LF; of the one that fails, the flush does.
static char flushed[4096];
static const char *failing;

// In place of the C library's.
int fsync(int fd)
{
    char link[32], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    size_t top = strlen(root), used = strlen(flushed);
    if (strncmp(path, root, top) != 0)
        return (int)syscall(SYS_fsync, fd);
    if (failing && strcmp(path + top, failing) == 0) {
        errno = EIO;
        return -1;
    }
    snprintf(flushed + used, sizeof flushed - used, "%s\n",
             strstr(path + top, "/tmp/") ? "file" : path + top);
    return 0;
}

// ---- one delivery --------------------------------------------------------------------------------------------

struct trial {
    struct sys_task task;
    struct maildir_delivery delivery;
    struct recipient recipient;
    struct bytes body;
    uint64_t claimed; // what the envelope says of the body; 0: the truth
    struct stored_message *message;
    struct verdict verdict;
    bool done;
};

static void on_delivered(void *ctx, const struct verdict *verdict)
{
    struct trial *t = ctx;
    t->verdict = *verdict;
    t->done = true;
}

static void begin(struct sys_task *task)
{
    struct trial *t = container_of(task, struct trial, task);
    struct stored_message *m = t->message = stored_message_new();
    m->envelope->id = message_id_make((struct wall){1700000000000000}, 1, 1, 1);
    m->envelope->reverse_path = BYTES("alice@origin.example");
    m->header = arena_dup(&m->arena, BYTES(HEADER));
    m->envelope->header_bytes = m->header.len;
    m->envelope->body_bytes = t->claimed ? t->claimed : t->body.len;
    chain_add(&m->body, t->body);
    t->delivery = (struct maildir_delivery){.spool = world.spool,
                                            .message = m,
                                            .recipient = &t->recipient,
                                            .pattern = bytes_cstr(pattern),
                                            .done = on_delivered,
                                            .ctx = t};
    maildir_start(&t->delivery);
}

static bool is_done(void *ctx)
{
    return ((struct trial *)ctx)->done;
}

static void run(struct trial *t, const char *address, const char *domain)
{
    t->recipient = (struct recipient){
        .number = 1, .address = bytes_cstr(address), .domain = bytes_cstr(domain)};
    t->task.run = begin;
    sys_post(world.client, &t->task);
    assert_true(sim_run_until(is_done, t, PATIENCE_MS));
    stored_message_unref(t->message);
}

// How many files the folder has; its (last) name in `out`.
static int files_in(const char *folder, char out[1024])
{
    int count = 0;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, folder);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            count++;
            snprintf(out, 1024, "%s/%s", path, e->d_name);
        }
    if (dir)
        closedir(dir);
    return count;
}

static void assert_file(const char *folder, struct bytes want)
{
    char path[1024], *text = mem_new(want.len + 100);
    assert_int_equal(files_in(folder, path), 1);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t n = fread(text, 1, want.len + 100, f);
    fclose(f);
    assert_int_equal(n, want.len);
    assert_memory_equal(text, want.at, want.len);
    free(text);
}

// ---- tests ---------------------------------------------------------------------------------------------------

static void test_delivers(void **state)
{
    (void)state;
    char path[1024];
    struct trial t = {.body = BYTES("a\r\n.b\r\n\r\nc\rd\r\n\r")};
    run(&t, "Bob@Example.org", "example.org");
    assert_int_equal(t.verdict.kind, VERDICT_DELIVERED);
    assert_file("example.org/bob/new",
                BYTES("Return-Path: <alice@origin.example>\nDelivered-To: Bob@Example.org\n"
                      "Subject: x\n\na\n.b\n\nc\rd\n\r"));
    assert_int_equal(files_in("example.org/bob/tmp", path), 0);
    struct trial again = {.body = t.body}; // after a crash: no second copy
    run(&again, "Bob@Example.org", "example.org");
    assert_int_equal(again.verdict.kind, VERDICT_DELIVERED);
    assert_int_equal(files_in("example.org/bob/new", path), 1);
}

static void test_delivers_a_large_one(void **state)
{
    (void)state;
    struct buf body = {0}, want = {0};
    buf_add_cstr(
        &want, "Return-Path: <alice@origin.example>\nDelivered-To: b@example.org\nSubject: x\n\n");
    for (int i = 0; i < 20000; i++) { // many pieces, cut in the middle of line ends too
        buf_printf(&body, "line %d\r\n", i);
        buf_printf(&want, "line %d\n", i);
    }
    struct trial t = {.body = buf_bytes(&body)};
    run(&t, "b@example.org", "example.org");
    assert_int_equal(t.verdict.kind, VERDICT_DELIVERED);
    assert_file("example.org/b/new", buf_bytes(&want));
    buf_done(&body);
    buf_done(&want);
}

// The names of all folders that were made are flushed before mail is: for another try, too, if the first was cut short.
static void test_new_folders_are_flushed(void **state)
{
    (void)state;
    static const char ALL[] = "\n/example.org\n/example.org/bob\nfile\n/example.org/bob/new\n";
    char path[128];
    struct trial first = {.body = BYTES("text\r\n")}, again = first, cut = first, fails = first,
                 last = first;
    flushed[0] = '\0';
    run(&first, "bob@example.org", "example.org");
    assert_int_equal(first.verdict.kind, VERDICT_DELIVERED);
    assert_string_equal(flushed, ALL);
    flushed[0] = '\0';
    run(&again, "bob@example.org", "example.org");
    assert_string_equal(flushed, "file\n/example.org/bob/new\n");
    flushed[0] = '\0';
    snprintf(path, sizeof path, "%s/example.org/bob/cur", root);
    assert_int_equal(rmdir(path), 0);
    run(&cut, "bob@example.org", "example.org");
    assert_string_equal(flushed, ALL);
    failing = "/example.org";
    run(&fails, "eve@example.org", "example.org");
    failing = NULL;
    assert_int_equal(fails.verdict.kind, VERDICT_DEFERRED);
    flushed[0] = '\0';
    run(&last, "eve@example.org", "example.org");
    assert_int_equal(last.verdict.kind, VERDICT_DELIVERED);
    assert_string_equal(flushed, "\n/example.org\n/example.org/eve\nfile\n/example.org/eve/new\n");
}

// Whatever fails leaves nothing in tmp/.
static void test_failures_leave_nothing(void **state)
{
    (void)state;
    char path[1024];
    struct trial damaged = {.body = BYTES("text\r\n"), .claimed = 100};
    run(&damaged, "bob@example.org", "example.org");
    assert_int_equal(damaged.verdict.kind, VERDICT_FAILED);
    assert_int_equal(files_in("example.org/bob/tmp", path), 0);
    assert_int_equal(files_in("example.org/bob/new", path), 0);

    struct buf body = {0};
    while (body.len < 200000)
        buf_add_cstr(&body, "some text\r\n");
    struct rlimit before, small = {.rlim_cur = 50000};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct trial full = {.body = buf_bytes(&body)};
    run(&full, "bob@example.org", "example.org");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(full.verdict.kind, VERDICT_DEFERRED);
    assert_int_equal(files_in("example.org/bob/tmp", path), 0);
    assert_int_equal(files_in("example.org/bob/new", path), 0);

    snprintf(path, sizeof path, "%s/example.org/bob/new", root);
    assert_int_equal(rmdir(path), 0);
    FILE *f = fopen(path, "we"); // where the folder should be
    assert_non_null(f);
    fclose(f);
    struct trial blocked = {.body = BYTES("text\r\n")};
    run(&blocked, "bob@example.org", "example.org");
    assert_int_equal(blocked.verdict.kind, VERDICT_DEFERRED);
    assert_int_equal(files_in("example.org/bob/tmp", path), 0);
    buf_done(&body);
}

// A folder that can be written to and not be read: nothing is delivered that would be delivered again.
static void test_unreadable_folder(void **state)
{
    (void)state;
    char path[1024], command[320];
    struct trial first = {.body = BYTES("text\r\n")}, t = {.body = BYTES("text\r\n")};
    if (geteuid() != 0)
        skip();
    run(&first, "bob@example.org", "example.org");
    snprintf(
        command, sizeof command,
        "chown -R 65534 %s && rm %s/example.org/bob/new/* && chmod 0300 %s/example.org/bob/new",
        root, root, root);
    assert_int_equal(system(command), 0);
    assert_int_equal(seteuid(65534), 0);
    run(&t, "bob@example.org", "example.org");
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(t.verdict.kind, VERDICT_DEFERRED);
    assert_int_equal(files_in("example.org/bob/new", path), 0);
    assert_int_equal(files_in("example.org/bob/tmp", path), 0);
}

static void test_no_such_folder_name(void **state)
{
    (void)state;
    static const char *const ADDRESSES[] = {"\"../x\"@example.org", "\"a/b\"@example.org",
                                            "\"..\"@example.org"};
    for (size_t i = 0; i < COUNT_OF(ADDRESSES); i++) {
        struct trial t = {.body = BYTES("text\r\n")};
        run(&t, ADDRESSES[i], "example.org");
        assert_number(ADDRESSES[i], t.verdict.kind, VERDICT_FAILED);
        assert_string_equal(t.verdict.enhanced, "5.1.3");
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_delivers, setup, teardown),
    cmocka_unit_test_setup_teardown(test_delivers_a_large_one, setup, teardown),
    cmocka_unit_test_setup_teardown(test_new_folders_are_flushed, setup, teardown),
    cmocka_unit_test_setup_teardown(test_failures_leave_nothing, setup, teardown),
    cmocka_unit_test_setup_teardown(test_unreadable_folder, setup, teardown),
    cmocka_unit_test_setup_teardown(test_no_such_folder_name, setup, teardown),
};

RUN_TESTS(tests)
