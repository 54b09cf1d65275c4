// SPDX-License-Identifier: MIT
#include "base/test_base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "sys/safe_folder.h"

#define OTHER 65534

static struct stat entered(const char *path)
{
    struct stat st = {0};
    int fd = safe_folder_open(path);
    if (fd != -1 && fstat(fd, &st) == 0)
        close(fd);
    return st;
}

static bool leads_to(const char *path, const char *folder)
{
    struct stat st = {0}, found = entered(path);
    return stat(folder, &st) == 0 && st.st_ino == found.st_ino && st.st_dev == found.st_dev;
}

static void test_paths(void **state)
{
    (void)state;
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    assert_true(leads_to("/", "/"));
    assert_true(leads_to("/usr/bin", "/usr/bin"));
    assert_true(leads_to("//usr/./bin//", "/usr/bin"));
    assert_true(leads_to(".", here));
    assert_true(leads_to("/usr/..", "/"));
    assert_int_equal(safe_folder_open(""), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(safe_folder_open("/usr/no-such-folder"), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(safe_folder_open("/dev/null"), -1);
    assert_int_equal(errno, ENOTDIR);
}

static bool refuses(const char *path, int errno_value)
{
    return safe_folder_open(path) == -1 && errno == errno_value;
}

static char made[64];

// target/below and, another user's, others/own; the folder with them is the one that we are in.
static int setup(void **state)
{
    (void)state;
    snprintf(made, sizeof made, "/tmp/safe_folder_test.XXXXXX");
    return mkdtemp(made) && chdir(made) == 0 && mkdir("target", 0755) == 0 &&
                   mkdir("target/below", 0755) == 0 && mkdir("others", 0755) == 0 &&
                   mkdir("others/own", 0755) == 0 &&
                   (geteuid() != 0 || chown("others", OTHER, OTHER) == 0)
               ? 0
               : -1;
}

static int teardown(void **state)
{
    (void)state;
    const char *const links[] = {"link", "second", "others/link", "others/second", "others/third"};
    for (size_t i = 0; i < COUNT_OF(links); i++)
        (void)unlink(links[i]);
    return rmdir("target/below") | rmdir("target") | rmdir("others/own") | rmdir("others") |
           rmdir(made) | chdir("/");
}

// A link of that user's own.
static void others_link(const char *text, const char *path)
{
    assert_int_equal(symlink(text, path), 0);
    assert_int_equal(lchown(path, OTHER, OTHER), 0);
}

// A link is worth as much as the folder that it stands in, or as who made it.
static void test_links(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(symlink("target", "link"), 0);
    others_link("../target", "others/link");
    assert_true(leads_to("link", "target"));
    assert_true(leads_to("link/below", "target/below"));
    assert_true(leads_to("link//below/", "target/below"));
    assert_true(leads_to("others/own", "others/own"));
    assert_true(refuses("others/link", EMLINK));
    assert_true(refuses("others/link/below", EMLINK));
    assert_non_null(strstr(safe_folder_why(EMLINK), "link"));
    assert_string_equal(safe_folder_why(ENOENT), strerror(ENOENT));

    assert_int_equal(chown("others", 0, 0) | chmod("others", 0775), 0);
    assert_true(refuses("others/link", EMLINK));
    assert_int_equal(chmod("others", 0757), 0);
    assert_true(refuses("others/link", EMLINK));
    assert_int_equal(chmod("others", 0755), 0);
    assert_true(leads_to("others/link/below", "target/below"));
}

// What root put there root has vouched for; a second name of what root put elsewhere anybody may make.
static void test_links_of_root(void **state)
{
    (void)state;
    char text[128];
    if (geteuid() != 0)
        skip();
    snprintf(text, sizeof text, "%s/target", made);
    assert_int_equal(
        symlink(text, "others/link") | symlink("../others/../target/", "others/second"), 0);
    assert_true(leads_to("others/link", "target"));
    assert_true(leads_to("others/second/below", "target/below"));
    assert_int_equal(symlink("target", "link") | link("others/link", "second"), 0);
    assert_true(refuses("others/link", EMLINK));
    assert_true(leads_to("second", "target"));
}

// Where a link leads is a way like any other.
static void test_links_to_links(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(
        symlink("others/second", "link") | symlink("others/own/../third/below", "second"), 0);
    assert_int_equal(symlink("../target", "others/third"), 0);
    others_link("../target", "others/second");
    assert_true(refuses("link", EMLINK));
    assert_true(refuses("link/below", EMLINK));
    assert_true(leads_to("second", "target/below"));
    assert_int_equal(unlink("others/third"), 0);
    others_link("../target", "others/third");
    assert_true(refuses("second", EMLINK));
}

static void test_links_to_nothing(void **state)
{
    (void)state;
    assert_int_equal(symlink("second", "link") | symlink("link", "second"), 0);
    assert_true(refuses("link/below", ELOOP));
    assert_int_equal(unlink("second") | unlink("link"), 0);
    assert_int_equal(symlink("gone", "link") | symlink("/dev/null", "second"), 0);
    assert_true(refuses("link", ENOENT));
    assert_true(refuses("second", ENOTDIR));
}

static void test_long_paths(void **state)
{
    (void)state;
    char path[PATH_MAX + 2];
    memset(path, '/', sizeof path);
    snprintf(path + PATH_MAX - 1, 2, ".");
    assert_true(refuses(path, ENAMETOOLONG));
    path[PATH_MAX - 2] = '.';
    path[PATH_MAX - 1] = '\0';
    assert_true(leads_to(path, "/"));
}

// By the descriptor the folder can be given away, though not a right to it is left; it is none to read by.
static void test_needs_no_right(void **state)
{
    (void)state;
    struct stat st;
    int fd = safe_folder_open("target/below");
    assert_true(fd != -1 && fchownat(fd, "", geteuid(), getegid(), AT_EMPTY_PATH) == 0 &&
                fstat(fd, &st) == 0);
    assert_true(S_ISDIR(st.st_mode) && fcntl(fd, F_GETFD) == FD_CLOEXEC &&
                fcntl(fd, F_GETFL) & O_PATH);
    close(fd);
}

// Whole or not at all, and nothing where it would not be gone to.
static void test_made(void **state)
{
    (void)state;
    const struct passwd owner = {.pw_uid = OTHER, .pw_gid = OTHER};
    if (geteuid() != 0)
        skip();
    others_link("../target", "others/link");
    assert_int_equal(safe_folder_make("others/link/new", 0700, &owner), EMLINK);
    assert_int_equal(access("target/new", F_OK), -1);
    assert_int_equal(safe_folder_make("others/link", 0700, &owner), EEXIST);
    assert_int_equal(safe_folder_make("gone/new", 0700, NULL), ENOENT);
    assert_int_equal(safe_folder_err(EMLINK), E_DENIED);
    assert_int_equal(safe_folder_err(ENOENT), E_NOT_FOUND);

    assert_int_equal(safe_folder_make("others/new", 0700, &owner), 0);
    struct stat st = entered("others/new");
    assert_int_equal(st.st_uid, OTHER);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(safe_folder_make("others/new", 0700, &owner), EEXIST);
    assert_int_equal(rmdir("others/new"), 0);
    assert_int_equal(safe_folder_make("new", 0755, NULL), 0);
    st = entered("new");
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(rmdir("new"), 0);
}

static const struct CMUnitTest TESTS[] = {
    cmocka_unit_test(test_paths),
    cmocka_unit_test_setup_teardown(test_links, setup, teardown),
    cmocka_unit_test_setup_teardown(test_links_of_root, setup, teardown),
    cmocka_unit_test_setup_teardown(test_links_to_links, setup, teardown),
    cmocka_unit_test_setup_teardown(test_links_to_nothing, setup, teardown),
    cmocka_unit_test_setup_teardown(test_long_paths, setup, teardown),
    cmocka_unit_test_setup_teardown(test_needs_no_right, setup, teardown),
    cmocka_unit_test_setup_teardown(test_made, setup, teardown),
};
RUN_TESTS(TESTS)
