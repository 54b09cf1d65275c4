// SPDX-License-Identifier: MIT
//
// main.cf, a NUL, master.cf: whatever they are, an import ends and what it prints has no control bytes.
#include <stdlib.h>

#include "base/check.h"
#include "cli/import_postfix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct import im = {.main_file = "/nonexistent/main.cf", .cf.host = BYTES("host.example.org")};
    struct bytes master = bytes_of(data, size), main;
    bytes_cut(&master, '\0', &main);
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
