// SPDX-License-Identifier: MIT
#include "base/test_base.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/safe_folder.h"

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
    assert_int_equal(safe_folder_open("/usr/no-such-folder"), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(safe_folder_open("/dev/null"), -1);
    assert_int_equal(errno, ENOTDIR);
}

// A link is worth as much as the folder that it stands in.
static void test_links(void **state)
{
    (void)state;
    char made[] = "/tmp/safe_folder_test.XXXXXX";
    if (geteuid() != 0)
        skip();
    assert_non_null(mkdtemp(made));
    assert_int_equal(chdir(made), 0);
    assert_int_equal(mkdir("target", 0755) | mkdir("target/below", 0755), 0);
    assert_int_equal(mkdir("others", 0755) | mkdir("others/own", 0755), 0);
    assert_int_equal(symlink("target", "link") | symlink("../target", "others/link"), 0);
    assert_int_equal(chown("others", OTHER, OTHER), 0);

    assert_true(leads_to("link", "target"));
    assert_true(leads_to("link/below", "target/below"));
    assert_true(leads_to("others/own", "others/own"));
    assert_int_equal(safe_folder_open("others/link"), -1);
    assert_int_equal(errno, ENOTDIR);
    assert_int_equal(safe_folder_open("others/link/below"), -1);
    assert_int_equal(chown("others", 0, 0) | chmod("others", 0775), 0);
    assert_int_equal(safe_folder_open("others/link"), -1);
    assert_int_equal(chmod("others", 0755), 0);
    assert_true(leads_to("others/link/below", "target/below"));

    assert_int_equal(unlink("link") | unlink("others/link"), 0);
    assert_int_equal(rmdir("target/below") | rmdir("target") | rmdir("others/own"), 0);
    assert_int_equal(rmdir("others") | rmdir(made) | chdir("/"), 0);
}

static const struct CMUnitTest TESTS[] = {cmocka_unit_test(test_paths),
                                          cmocka_unit_test(test_links)};
RUN_TESTS(TESTS)
