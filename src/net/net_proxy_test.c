// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "net/net_proxy.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define T(text)                                                                                    \
    {                                                                                              \
        "" text, sizeof(text) - 1                                                                  \
    }

// What comes of an input: "CLIENT source destination", "OWN", "NOBODYS", "MORE", or "BAD why".
static const struct {
    struct bytes in;
    size_t used;
    const char *want;
} cases[] = {
    // The examples of the specification's section 2.1, and its longest lines.
    {T("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), 56,
     "CLIENT 255.255.255.255:65535 255.255.255.255:65535"},
    {T("PROXY TCP6 ffff:f:f:f:f:f:f:ffff ffff:f:f:f:f:f:f:ffff 65535 65535\r\n"), 68,
     "CLIENT [ffff:f:f:f:f:f:f:ffff]:65535 [ffff:f:f:f:f:f:f:ffff]:65535"},
    {T("PROXY UNKNOWN\r\n"), 15, "NOBODYS"},
    {T("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     107, "NOBODYS"},
    {T("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nEHLO x\r\n"), 47,
     "CLIENT 192.168.0.1:56324 192.168.0.11:443"},
    {T("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 0 25\r\n"), 46,
     "CLIENT 192.0.2.1:0 [2001:db8::1]:25"},
    {T("PROXY UNKNOWN\r"), 0, "MORE"},
    {T("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"), 0, "MORE"},
    {T(""), 0, "MORE"},
    {T("EHLO x\r\n"), 0, "BAD no PROXY header"},
    {T("PROXYTCP4"), 0, "BAD no PROXY header"},
    {T("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), 0, "BAD no PROXY header"},
    {T("\x16\x03\x01"), 0, "BAD no PROXY header"},
    {T("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n"), 0,
     "BAD a family other than TCP4, TCP6 and UNKNOWN"},
    {T("PROXY \r\n"), 0, "BAD a family other than TCP4, TCP6 and UNKNOWN"},
    {T("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2\r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n"), 0, "BAD no two addresses of the family"},
    {T("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n"), 0, "BAD no two ports"},
    {T("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n"), 0, "BAD no two ports"},
    {T("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n"), 0, "BAD no two ports"},
    {T("PROXY UNKNOWN "
       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
       "aaaaaaaaaaaaaa\r\n"),
     0, "BAD a line of more than 107 octets"},
    // Version 2, section 2.2.
    {T(SIG "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x12\x34\0\x19"), 28,
     "CLIENT 192.0.2.1:4660 198.51.100.2:25"},
    {T(SIG "\x21\x11\0\x0f\xc0\0\2\1\xc6\x33\x64\2\x12\x34\0\x19\4\0\0"
           "EHLO"),
     31, "CLIENT 192.0.2.1:4660 198.51.100.2:25"}, // with a TLV
    {T(SIG
       "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2"
       "\0\1\2\x4b"),
     52, "CLIENT [2001:db8::1]:1 [2001:db8::2]:587"},
    {T(SIG
       "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\2"
       "\0\1\2\x4b"),
     52, "CLIENT 192.0.2.1:1 192.0.2.2:587"}, // IPv4-mapped
    {T(SIG "\x20\0\0\0"), 16, "OWN"},
    {T(SIG "\x20\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x12\x34\0\x19"), 28, "OWN"},
    {T(SIG "\x21\0\0\0"), 16, "NOBODYS"},
    {T(SIG "\x21\0\0\3\1\2\3"), 19, "NOBODYS"},
    {T(SIG "\x21\x31\0\0"), 16, "NOBODYS"},
    {T(SIG "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x12\x34\0"), 0, "MORE"},
    {T(SIG "\x21\x11\0"), 0, "MORE"},
    {T("\r\n\r\n"), 0, "MORE"},
    {T("\r\nEHLO"), 0, "BAD no PROXY header"},
    {T(SIG "\x11\x11\0\x0c"), 0, "BAD a version other than 1 and 2"},
    {T(SIG "\x22\x11\0\x0c"), 0, "BAD a command other than LOCAL and PROXY"},
    {T(SIG "\x21\x11\0\x0b\xc0\0\2\1\xc6\x33\x64\2\x12\x34\0"), 0,
     "BAD a length that is too small for its addresses"},
    {T(SIG "\x21\x21\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x12\x34\0\x19"), 0,
     "BAD a length that is too small for its addresses"},
    {T(SIG "\x21\x12\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x12\x34\0\x19"), 0,
     "BAD a family or transport that is none of a stream"},
    {T(SIG "\x21\x41\0\0"), 0, "BAD a family or transport that is none of a stream"},
    {T(SIG "\x21\x11\x10\1"), 0, "BAD more than 4096 octets of addresses and TLVs"},
};

static void show(enum net_proxy_step step, const struct net_proxy_header *h, char out[512])
{
    static const char *const whose[] = {"CLIENT", "OWN", "NOBODYS"};
    char from[SYS_ADDR_TEXT], to[SYS_ADDR_TEXT];
    if (step == NET_PROXY_MORE)
        snprintf(out, 512, "MORE");
    else if (step == NET_PROXY_BAD)
        snprintf(out, 512, "BAD %s", h->why);
    else if (h->whose != NET_PROXY_CLIENT)
        snprintf(out, 512, "%s", whose[h->whose]);
    else
        snprintf(out, 512, "CLIENT %s %s", sys_addr_format(&h->source, from),
                 sys_addr_format(&h->destination, to));
}

// As a connection does: what is there so far, again and again, a step longer each time.
static enum net_proxy_step feed(struct bytes in, unsigned cuts, struct net_proxy_header *out,
                                size_t *out_used)
{
    enum net_proxy_step step = NET_PROXY_MORE;
    size_t have = 0;
    srand(cuts);
    do {
        have += cuts == 0 ? in.len : cuts == 1 ? 1 : 1 + (size_t)rand() % 20;
        have = have > in.len ? in.len : have;
        char *copy = mem_new(have + 1); // its own memory: a read beyond it is seen
        if (have)
            memcpy(copy, in.at, have);
        step = net_proxy_parse(bytes_of(copy, have), out, out_used);
        free(copy);
    } while (step == NET_PROXY_MORE && have < in.len);
    return step;
}

static void headers(void **state)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (unsigned cuts = 0; cuts < 20; cuts++) {
            struct net_proxy_header header;
            size_t used;
            char got[512];
            show(feed(cases[i].in, cuts, &header, &used), &header, got);
            if (strcmp(got, cases[i].want) != 0 || used != cases[i].used)
                fail_msg("case %zu, cuts %u: %zu octets, %s", i, cuts, used, got);
        }
    }
}

static void largest(void **state)
{
    char *block = mem_new(NET_PROXY_V2_MAX);
    struct net_proxy_header header;
    size_t used;
    memcpy(block, SIG "\x21\0\x10\0", NET_PROXY_V2_HEAD);
    struct bytes in = bytes_of(block, NET_PROXY_V2_MAX);
    assert_int_equal(net_proxy_parse(bytes_first(in, in.len - 1), &header, &used), NET_PROXY_MORE);
    assert_int_equal(net_proxy_parse(in, &header, &used), NET_PROXY_DONE);
    assert_int_equal(used, NET_PROXY_V2_MAX);
    free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(headers), cmocka_unit_test(largest)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
