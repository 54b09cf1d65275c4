// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/test_base.h"
#include "dns/dns_query.h"
#include "dns/dns_zone.h"

static const char zone_text[] =
    "{\"Example.COM.\": {\"TXT\": [\"v=spf1 -all\", [\"joined \", \"strings\"]],"
    "  \"A\": [\"192.0.2.1\"], \"AAAA\": [\"2001:db8::1\"], \"MX\": [[10, \"MX.example.com.\"]],"
    "  \"PTR\": [], \"CNAME\": \"\", \"TLSA\": [\"3 1 1 c0FFee\"], \"RCODE\": \"NOERROR\"},"
    " \"1.2.0.192.in-addr.arpa\": {\"PTR\": [\"Host.example.com\"]},"
    " \"a.example\": {\"CNAME\": \"b.example.\"}, \"b.example\": {\"CNAME\": \"example.com\"},"
    " \"dangling.example\": {\"CNAME\": \"nowhere.example\"},"
    " \"loop.example\": {\"CNAME\": \"LOOP.example.\"},"
    " \"late.example\": {\"RCODE\": \"TIMEOUT\", \"TXT\": [\"not seen\"]},"
    " \"to-late.example\": {\"CNAME\": \"late.example\"},"
    " \"fail.example\": {\"RCODE\": \"servfail\"}, \"gone.example\": {\"RCODE\": \"NXDOMAIN\"},"
    " \"empty.example\": {}, \"null.example\": {\"MX\": null, \"SOA\": \"ignored\"}}";

static struct dns_zone *must_parse(const char *json)
{
    struct dns_zone *zone;
    struct buf error = {0};
    int err = dns_zone_parse(bytes_cstr(json), &zone, &error);
    if (err)
        fail_msg("%s", buf_cstr(&error));
    buf_done(&error);
    return zone;
}

static void test_answers(void **state)
{
    static const struct {
        const char *name;
        enum dns_type type;
        enum dns_code code;
        size_t count;
        const char *want; // name or text of the last record
    } rows[] = {
        {"example.com", DNS_TXT, DNS_OK, 2, "joined strings"},
        {"EXAMPLE.com.", DNS_TXT, DNS_OK, 2, "joined strings"},
        {"example.com", DNS_MX, DNS_OK, 1, "mx.example.com"},
        {"example.com", DNS_TLSA, DNS_OK, 1, "\xc0\xff\xee"},
        {"example.com", DNS_PTR, DNS_NODATA, 0, ""},
        {"example.com", DNS_CNAME, DNS_NODATA, 0, ""},
        {"1.2.0.192.in-addr.arpa", DNS_PTR, DNS_OK, 1, "host.example.com"},
        {"a.example", DNS_MX, DNS_OK, 1, "mx.example.com"},
        {"a.example", DNS_CNAME, DNS_OK, 1, "b.example"},
        {"dangling.example", DNS_TXT, DNS_NXDOMAIN, 0, ""},
        {"loop.example", DNS_TXT, DNS_SERVFAIL, 0, ""},
        {"loop.example", DNS_CNAME, DNS_OK, 1, "loop.example"},
        {"late.example", DNS_TXT, DNS_TIMEOUT, 0, ""},
        {"to-late.example", DNS_TXT, DNS_TIMEOUT, 0, ""},
        {"fail.example", DNS_TXT, DNS_SERVFAIL, 0, ""},
        {"gone.example", DNS_TXT, DNS_NXDOMAIN, 0, ""},
        {"empty.example", DNS_TXT, DNS_NODATA, 0, ""},
        {"null.example", DNS_MX, DNS_NODATA, 0, ""},
        {"absent.example", DNS_TXT, DNS_NXDOMAIN, 0, ""},
        {"www.example.com", DNS_TXT, DNS_NXDOMAIN, 0, ""},
    };
    struct dns_zone *zone = must_parse(zone_text);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena arena = {0};
        struct dns_answer answer;
        dns_zone_answer(zone, bytes_cstr(rows[i].name), rows[i].type, &arena, &answer);
        assert_number(rows[i].name, answer.code, rows[i].code);
        assert_number(rows[i].name, answer.count, rows[i].count);
        if (answer.count) {
            const struct dns_record *last = &answer.records[answer.count - 1];
            assert_bytes(rows[i].name, last->name.len ? last->name : last->text,
                         bytes_cstr(rows[i].want));
        }
        arena_done(&arena);
    }
    dns_zone_free(zone);
}

static void test_numbers(void **state)
{
    struct dns_zone *zone = must_parse(zone_text);
    struct arena arena = {0};
    struct dns_answer answer;
    dns_zone_answer(zone, BYTES("example.com"), DNS_A, &arena, &answer);
    assert_memory_equal(answer.records[0].ip, "\xc0\x00\x02\x01", 4);
    dns_zone_answer(zone, BYTES("example.com"), DNS_AAAA, &arena, &answer);
    assert_memory_equal(answer.records[0].ip, "\x20\x01\x0d\xb8", 4);
    dns_zone_answer(zone, BYTES("example.com"), DNS_MX, &arena, &answer);
    assert_int_equal(answer.records[0].preference, 10);
    dns_zone_answer(zone, BYTES("example.com"), DNS_TLSA, &arena, &answer);
    assert_int_equal(answer.records[0].usage, 3);
    assert_int_equal(answer.records[0].selector, 1);
    assert_int_equal(answer.records[0].matching, 1);
    arena_done(&arena);
    dns_zone_free(zone);
}

static void test_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "[]",
        "{",
        "{\"a\": 1}",
        "{} x",
        "{\"a\": {\"TXT\": \"not a list\"}}",
        "{\"a\": {\"TXT\": [1]}}",
        "{\"a\": {\"TXT\": [[\"x\", 1]]}}",
        "{\"a\": {\"A\": [\"2001:db8::1\"]}}",
        "{\"a\": {\"AAAA\": [\"192.0.2.1\"]}}",
        "{\"a\": {\"MX\": [\"10 mx\"]}}",
        "{\"a\": {\"MX\": [[65536, \"mx\"]]}}",
        "{\"a\": {\"TLSA\": [\"3 1 1 abc\"]}}",
        "{\"a\": {\"TLSA\": [\"3 1 256 ab\"]}}",
        "{\"a\": {\"RCODE\": \"MAYBE\"}}",
        "{\"a\": {\"CNAME\": [\"b\"]}}",
        "{\"a\": {\"PTR\": [[]]}}",
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dns_zone *zone;
        struct buf error = {0};
        assert_number(rows[i], dns_zone_parse(bytes_cstr(rows[i]), &zone, &error), E_SYNTAX);
        assert_null(zone);
        assert_true(error.len > 0);
        buf_done(&error);
    }
}

static void test_long_text(void **state)
{
    static const struct {
        size_t len;
        int err;
    } rows[] = {{DNS_TEXT_MAX, OK}, {DNS_TEXT_MAX + 1, E_SYNTAX}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dns_zone *zone;
        struct buf json = {0}, error = {0};
        buf_add_cstr(&json, "{\"a\": {\"TXT\": [\"");
        for (size_t n = 0; n < rows[i].len; n++)
            buf_add_byte(&json, 'x');
        buf_add_cstr(&json, "\"]}}");
        assert_int_equal(dns_zone_parse(buf_bytes(&json), &zone, &error), rows[i].err);
        dns_zone_free(zone);
        buf_done(&json);
        buf_done(&error);
    }
}

// Through the port: several questions at once, from outside the loops.
static void test_questions(void **state)
{
    char path[] = "/tmp/dns-zone-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, zone_text, strlen(zone_text)) == (ssize_t)strlen(zone_text));
    close(fd);
    struct dns_resolver resolver;
    struct buf error = {0};
    struct arena arena = {0};
    assert_int_equal(dns_resolver_open(NULL, path, &resolver, &error), OK);
    struct dns_question questions[] = {{.name = BYTES("a.example"), .type = DNS_TXT},
                                       {.name = BYTES("late.example"), .type = DNS_A},
                                       {.name = BYTES("not a name"), .type = DNS_A}};
    dns_query_wait(resolver.dns, questions, COUNT_OF(questions), 20000, &arena);
    dns_resolver_close(&resolver); // answers outlive the resolver
    assert_int_equal(questions[0].answer.code, DNS_OK);
    assert_bytes("text", questions[0].answer.records[0].text, BYTES("v=spf1 -all"));
    assert_int_equal(questions[1].answer.code, DNS_TIMEOUT);
    assert_int_equal(questions[2].answer.code, DNS_NXDOMAIN);
    unlink(path);
    assert_int_equal(dns_resolver_open(NULL, path, &resolver, &error), E_NOT_FOUND);
    arena_done(&arena);
    buf_done(&error);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_answers),   cmocka_unit_test(test_numbers),
    cmocka_unit_test(test_refused),   cmocka_unit_test(test_long_text),
    cmocka_unit_test(test_questions),
};

RUN_TESTS(tests)
