// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "dns/dns_rdata.h"

struct row {
    const char *what;
    enum dns_type type;
    struct bytes rdata;
    int err;
    const char *name, *text;
    unsigned number;
};

static const struct row rows[] = {
    {"MX", DNS_MX, BYTES("\0\x0a\2MX\7eXample\0"), OK, "mx.example", NULL, 10},
    {"null MX", DNS_MX, BYTES("\0\0\0"), OK, "", NULL, 0},
    {"MX with _", DNS_MX, BYTES("\xff\xff\3a_b\0"), OK, "a_b", NULL, 65535},
    {"MX empty", DNS_MX, BYTES(""), E_SYNTAX, NULL, NULL, 0},
    {"MX one byte", DNS_MX, BYTES("\0"), E_SYNTAX, NULL, NULL, 0},
    {"MX without name", DNS_MX, BYTES("\0\x0a"), E_SYNTAX, NULL, NULL, 0},
    {"MX name without end", DNS_MX, BYTES("\0\x0a\2mx"), E_SYNTAX, NULL, NULL, 0},
    {"MX label too long", DNS_MX, BYTES("\0\x0a\x09mx\0"), E_SYNTAX, NULL, NULL, 0},
    {"MX with pointer", DNS_MX, BYTES("\0\x0a\2mx\xc0\x0c"), E_SYNTAX, NULL, NULL, 0},
    {"MX with more", DNS_MX, BYTES("\0\x0a\2mx\0x"), E_SYNTAX, NULL, NULL, 0},
    {"MX with space", DNS_MX, BYTES("\0\x0a\4m x\0\0"), E_SYNTAX, NULL, NULL, 0},
    {"MX with dot in label", DNS_MX, BYTES("\0\x0a\3m.x\0"), E_SYNTAX, NULL, NULL, 0},
    {"MX with CR LF", DNS_MX, BYTES("\0\x0a\3m\r\n\0"), E_SYNTAX, NULL, NULL, 0},
    {"A", DNS_A, BYTES("\x7f\0\0\1"), OK, NULL, NULL, 127},
    {"A short", DNS_A, BYTES("\x7f\0\0"), E_SYNTAX, NULL, NULL, 0},
    {"A long", DNS_A, BYTES("\x7f\0\0\1\1"), E_SYNTAX, NULL, NULL, 0},
    {"A empty", DNS_A, BYTES(""), E_SYNTAX, NULL, NULL, 0},
    {"AAAA", DNS_AAAA, BYTES("\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"), OK, NULL, NULL, 32},
    {"AAAA short", DNS_AAAA, BYTES("\x20\1\x0d\xb8"), E_SYNTAX, NULL, NULL, 0},
    {"TXT", DNS_TXT, BYTES("\3abc\0\2de"), OK, NULL, "abcde", 0},
    {"TXT of one empty string", DNS_TXT, BYTES("\0"), OK, NULL, "", 0},
    {"TXT empty", DNS_TXT, BYTES(""), E_SYNTAX, NULL, NULL, 0},
    {"TXT short", DNS_TXT, BYTES("\5abc"), E_SYNTAX, NULL, NULL, 0},
    {"CNAME", DNS_CNAME, BYTES("\1a\1b\0"), OK, "a.b", NULL, 0},
    {"TLSA", DNS_TLSA, BYTES("\3\1\1\xaa\xbb"), OK, NULL, "\xaa\xbb", 3},
    {"TLSA empty", DNS_TLSA, BYTES(""), E_SYNTAX, NULL, NULL, 0},
    {"TLSA without data", DNS_TLSA, BYTES("\3\1\1"), E_SYNTAX, NULL, NULL, 0},
    {"other type", (enum dns_type)99, BYTES("x"), E_SYNTAX, NULL, NULL, 0},
};

// Every record is parsed from a copy of exactly its size, so that a sanitizer sees a byte read
// behind it.
static void h_parses(void **state)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena arena = {0};
        struct dns_record record;
        char *exact = malloc(rows[i].rdata.len + (rows[i].rdata.len == 0));
        memcpy(exact, rows[i].rdata.at, rows[i].rdata.len);
        int err =
            dns_rdata_parse(rows[i].type, bytes_of(exact, rows[i].rdata.len), &arena, &record);
        if (err != rows[i].err)
            fail_msg("%s: %d", rows[i].what, err);
        if (err == OK) {
            unsigned number = rows[i].type == DNS_MX     ? record.preference
                              : rows[i].type == DNS_TLSA ? record.usage
                                                         : record.ip[0];
            assert_int_equal(number, rows[i].number);
            assert_true(!rows[i].name || bytes_eq(record.name, bytes_cstr(rows[i].name)));
            assert_true(!rows[i].text || bytes_eq(record.text, bytes_cstr(rows[i].text)));
        }
        free(exact);
        arena_done(&arena);
    }
}

// Whatever is cut off a record, RDLENGTH 0 included, no shorter one is taken for whole.
static void h_cut_anywhere(void **state)
{
    static const struct {
        enum dns_type type;
        struct bytes whole;
    } cases[] = {
        {DNS_MX, BYTES("\0\x0a\3mx1\7example\3org\0")},
        {DNS_CNAME, BYTES("\3www\7example\0")},
        {DNS_TXT, BYTES("\5v=abc")},
        {DNS_TLSA, BYTES("\3\1\1\xaa")},
        {DNS_A, BYTES("\xc0\0\2\1")},
        {DNS_AAAA, BYTES("\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1")},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (size_t n = 0; n <= cases[i].whole.len; n++) {
            struct arena arena = {0};
            struct dns_record record;
            char *exact = malloc(n + (n == 0));
            memcpy(exact, cases[i].whole.at, n);
            int err = dns_rdata_parse(cases[i].type, bytes_of(exact, n), &arena, &record);
            if (err != (n == cases[i].whole.len ? OK : E_SYNTAX))
                fail_msg("type %d, %zu bytes: %d", cases[i].type, n, err);
            free(exact);
            arena_done(&arena);
        }
}

static void h_limits(void **state)
{
    struct arena arena = {0};
    struct dns_record record;
    char big[40 * 256];
    for (size_t i = 0; i < 40; i++)
        memset(big + i * 256, 255, 256); // strings of 255 bytes of 0xff
    assert_int_equal(dns_rdata_parse(DNS_TXT, bytes_of(big, 16 * 256), &arena, &record), OK);
    assert_int_equal(record.text.len, 16 * 255);
    assert_int_equal(dns_rdata_parse(DNS_TXT, bytes_of(big, sizeof big), &arena, &record), E_LIMIT);
    char label[2 + 1 + 64 + 1] = {0, 10, 64};
    memset(label + 3, 'a', 64); // all of it is there, but 63 is the most
    assert_int_equal(dns_rdata_parse(DNS_MX, bytes_of(label, sizeof label), &arena, &record),
                     E_SYNTAX);
    char name[300] = {0, 10};
    for (size_t i = 0; i < 140; i++) { // labels of one letter: 2 bytes each
        name[2 + 2 * i] = 1;
        name[3 + 2 * i] = 'a';
    }
    name[2 + 2 * 127] = '\0';
    assert_int_equal(dns_rdata_parse(DNS_MX, bytes_of(name, 3 + 2 * 127), &arena, &record), OK);
    assert_int_equal(record.name.len, DNS_NAME_MAX);
    name[2 + 2 * 127] = 1;
    name[2 + 2 * 128] = '\0';
    assert_int_equal(dns_rdata_parse(DNS_MX, bytes_of(name, 3 + 2 * 128), &arena, &record),
                     E_SYNTAX);
    arena_done(&arena);
}

struct name_row {
    const char *name;
    bool want;
};

static void h_names(void **state)
{
    static const struct name_row names[] = {
        {"example.org", true},
        {"example.org.", true},
        {"xn--bcher-kva.example", true},
        {"_dmarc.a", true},
        {"a", true},
        {"", false},
        {".", false},
        {"..", false},
        {".a", false},
        {"a..b", false},
        {"a.b..", false},
        {"a b", false},
        {"b\xc3\xbc"
         "cher.example",
         false},
        {"a\\.b", false},
        {"[192.0.2.1]", false},
        {"a/b", false},
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (dns_name_is_valid(bytes_cstr(names[i].name)) != names[i].want)
            fail_msg("'%s'", names[i].name);
    char text[260];
    memset(text, 'a', sizeof text);
    assert_true(dns_name_is_valid(bytes_of(text, 63)));
    assert_false(dns_name_is_valid(bytes_of(text, 64)));
    for (size_t i = 1; i < sizeof text; i += 2)
        text[i] = '.';
    assert_true(dns_name_is_valid(bytes_of(text, 253)));
    assert_true(dns_name_is_valid(bytes_of(text, 254))); // the final dot does not count
    assert_false(dns_name_is_valid(bytes_of(text, 255)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(h_parses),
        cmocka_unit_test(h_cut_anywhere),
        cmocka_unit_test(h_limits),
        cmocka_unit_test(h_names),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
