// SPDX-License-Identifier: MIT
//
// What is read as an address is written and read back as the same one.
#include "base/check.h"
#include "sys/sys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sys_addr addr, again;
    char text[SYS_ADDR_TEXT];
    struct bytes input = bytes_of(data, size);
    if (sys_addr_parse(input, &addr) == OK) {
        sys_addr_format(&addr, text);
        CHECK(sys_addr_parse(bytes_cstr(text), &again) == OK && sys_addr_eq(&addr, &again));
    }
    if (sys_addr_parse_ip(input, 25, &addr) == OK) {
        sys_addr_format_ip(&addr, text);
        CHECK(sys_addr_parse_ip(bytes_cstr(text), 25, &again) == OK && sys_addr_eq(&addr, &again));
    }
    return 0;
}
