// SPDX-License-Identifier: MIT
//
// main.cf, a NUL, master.cf, a NUL, a table that they may name as TABLE (aliases, transports, logins ...): whatever they
// are, an import ends and what it prints has no control bytes.
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/import_postfix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TABLE 200 // "hash:/dev/fd/200"

static void write_table(struct bytes text)
{
    static int fd = -1;
    if (fd == -1) {
        int made = memfd_create("table", MFD_CLOEXEC);
        fd = dup2(made, TABLE);
        CHECK(fd == TABLE && close(made) == 0);
    }
    CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, text.at, text.len, 0) == (ssize_t)text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct import im = {.main_file = "/nonexistent/main.cf", .cf.host = BYTES("host.example.org")};
    struct bytes rest = bytes_of(data, size), main = BYTES_NONE, master = BYTES_NONE;
    bytes_cut(&rest, '\0', &main);
    bytes_cut(&rest, '\0', &master);
    write_table(rest);
    if (postfix_cf_main(&im.cf, main, "main.cf", &im.errors) == OK &&
        postfix_cf_master(&im.cf, master, "master.cf", &im.errors) == OK) {
        CHECK(import_postfix(&im) == OK);
        CHECK(!bytes_has_control(buf_bytes(&im.out), "\n"));
    }
    postfix_cf_done(&im.cf);
    buf_done(&im.out);
    buf_done(&im.replaced);
    buf_done(&im.left);
    buf_done(&im.errors);
    return 0;
}
