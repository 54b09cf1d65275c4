// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "dns/dns_mx.h"
#include "dns/dns_test_backend.h"
#include "sys/sys_test_loop.h"

static const struct dns_test_rule zone[] = {
    {"two.example", DNS_MX, DNS_OK, {"20 b.example", "10 A.example"}, 3600, 0},
    {"a.example", DNS_A, DNS_OK, {"192.0.2.1"}, 600, 0},
    {"a.example", DNS_AAAA, DNS_OK, {"2001:db8::1"}, 900, 0},
    {"b.example", DNS_A, DNS_OK, {"192.0.2.2"}, 700, 0},
    {"six.example", DNS_MX, DNS_OK, {"10 only6.example"}, 3600, 0},
    {"only6.example", DNS_AAAA, DNS_OK, {"2001:db8::6"}, 600, 0},
    {"plain.example", DNS_A, DNS_OK, {"192.0.2.9"}, 600, 0},
    {"null.example", DNS_MX, DNS_OK, {"0 ."}, 3600, 0},
    {"null.example", DNS_A, DNS_OK, {"192.0.2.9"}, 600, 0},
    {"dotty.example", DNS_MX, DNS_OK, {"0 .", "10 a.example"}, 3600, 0},
    {"twice.example", DNS_MX, DNS_OK, {"30 a.example", "10 a.example"}, 3600, 0},
    {"bare.example", DNS_TXT, DNS_OK, {NULL}, 600, 0},
    {"dangling.example", DNS_MX, DNS_OK, {"10 gone.example", "20 bare.example"}, 3600, 0},
    {"fail.example", DNS_MX, DNS_SERVFAIL, {NULL}, 0, 0},
    {"bogus.example", DNS_MX, DNS_BOGUS, {NULL}, 0, 0},
    {"silent.example", DNS_MX, DNS_OK, {NULL}, 0, DNS_TEST_SILENT},
    {"sick.example", DNS_MX, DNS_OK, {"10 sickhost.example"}, 3600, 0},
    {"sickhost.example", DNS_A, DNS_SERVFAIL, {NULL}, 0, 0},
    {"half.example", DNS_MX, DNS_OK, {"10 halfhost.example"}, 3600, 0},
    {"halfhost.example", DNS_A, DNS_OK, {"192.0.2.5"}, 3600, 0},
    {"halfhost.example", DNS_AAAA, DNS_OK, {NULL}, 0, DNS_TEST_SILENT},
    {"backup.example", DNS_MX, DNS_OK, {"10 sickhost.example", "20 b.example"}, 3600, 0},
    {"sickbackup.example",
     DNS_MX,
     DNS_OK,
     {"30 sickhost.example", "15 sickhost2.example", "10 b.example"},
     3600,
     0},
    {"sickhost2.example", DNS_A, DNS_SERVFAIL, {NULL}, 0, 0},
    {"half-dangling.example", DNS_MX, DNS_OK, {"10 gone.example", "20 b.example"}, 3600, 0},
    {"odd.example", DNS_MX, DNS_OK, {"10 odd1.example"}, 3600, 0},
    {"odd1.example", DNS_A, DNS_OK, {"0.0.0.0", "224.0.0.1", "192.0.2.3"}, 3600, 0},
    {"odd1.example", DNS_AAAA, DNS_OK, {"::", "ff02::1"}, 3600, 0},
    {"void.example", DNS_MX, DNS_OK, {"10 zero.example"}, 3600, 0},
    {"zero.example", DNS_A, DNS_OK, {"0.0.0.0"}, 3600, 0},
    {"malformed.example", DNS_MX, DNS_OK, {"junk", "10 b.example"}, 3600, 0},
    {"alljunk.example", DNS_MX, DNS_OK, {"junk"}, 3600, 0},
    {"literal.example", DNS_MX, DNS_OK, {"10 192.0.2.1", "20 b.example"}, 3600, 0},
    {"onlyliteral.example", DNS_MX, DNS_OK, {"10 192.0.2.1"}, 3600, 0},
    {"crowd.example", // 16 addresses each
     DNS_MX,
     DNS_OK,
     {"10 m1.many.example", "10 m2.many.example", "10 m3.many.example", "10 m4.many.example"},
     3600,
     0},
    {"sickcrowd.example",
     DNS_MX,
     DNS_OK,
     {"5 sickhost.example", "10 m2.many.example", "10 m3.many.example", "10 m4.many.example"},
     3600,
     0},
    {"halfcrowd.example",
     DNS_MX,
     DNS_OK,
     {"5 halfhost.example", "10 m2.many.example", "10 m3.many.example", "10 m4.many.example"},
     3600,
     0},
};

static struct sys_loop *loop;
static struct dns *dns;

struct lookup {
    const char *domain;
    enum dns_mx_kind kind;
    int64_t wait_ms;
    struct dns_mx *mx;
    struct mono began, ended;
    sem_t done;
};

static void on_done(void *ctx, struct dns_mx *mx)
{
    struct lookup *l = ctx;
    l->mx = mx;
    l->ended = sys_mono();
    sem_post(&l->done);
}

static void begin(void *ctx)
{
    struct lookup *l = ctx;
    l->began = sys_mono();
    dns_mx_lookup(dns, bytes_cstr(l->domain), l->kind, mono_add_ms(sys_mono(), l->wait_ms), on_done,
                  l);
    CHECK(!l->mx); // not from inside
}

static struct dns_mx *look_up_as(const char *domain, enum dns_mx_kind kind, int64_t wait_ms,
                                 int64_t *out_took_ms)
{
    struct lookup l = {.domain = domain, .kind = kind, .wait_ms = wait_ms};
    sem_init(&l.done, 0, 0);
    test_on_loop(loop, begin, &l);
    assert_true(test_wait(&l.done));
    if (out_took_ms)
        *out_took_ms = mono_ms_between(l.began, l.ended);
    return l.mx;
}

static struct dns_mx *look_up(const char *domain, int64_t wait_ms, int64_t *out_took_ms)
{
    return look_up_as(domain, DNS_BY_MX, wait_ms, out_took_ms);
}

// "10 a.example 2001:db8::1 192.0.2.1; 20 b.example ..."
static const char *hosts_text(const struct dns_mx *mx, struct buf *out)
{
    buf_clear(out);
    for (size_t i = 0; i < mx->host_count; i++) {
        const struct dns_mx_host *host = &mx->hosts[i];
        buf_printf(out, "%s%u %.*s", i ? "; " : "", host->preference, BYTES_FMT(host->name));
        for (size_t j = 0; j < host->address_count; j++) {
            char text[SYS_ADDR_TEXT];
            struct sys_addr addr = dns_ip_addr(&host->addresses[j], 25);
            buf_printf(out, " %s", sys_addr_format_ip(&addr, text));
        }
    }
    return buf_cstr(out);
}

struct row {
    const char *domain;
    enum dns_mx_outcome outcome;
    const char *hosts;
    uint32_t ttl_s; // 0: any
};

static const struct row rows[] = {
    {"two.example", DNS_MX_FOUND, "10 a.example 2001:db8::1 192.0.2.1; 20 b.example 192.0.2.2",
     300},
    {"TWO.Example.", DNS_MX_FOUND, "10 a.example 2001:db8::1 192.0.2.1; 20 b.example 192.0.2.2",
     300},
    {"six.example", DNS_MX_FOUND, "10 only6.example 2001:db8::6", 300},
    {"plain.example", DNS_MX_FOUND, "0 plain.example 192.0.2.9", 300},
    {"null.example", DNS_MX_NULL, "", 3600},
    {"dotty.example", DNS_MX_FOUND, "10 a.example 2001:db8::1 192.0.2.1", 600},
    {"twice.example", DNS_MX_FOUND, "10 a.example 2001:db8::1 192.0.2.1", 600},
    {"bare.example", DNS_MX_NO_ADDRESS, "", 0},
    {"dangling.example", DNS_MX_NO_ADDRESS, "", 0},
    {"nowhere.example", DNS_MX_NO_DOMAIN, "", 0},
    {"fail.example", DNS_MX_TEMPORARY, "", 0},
    {"bogus.example", DNS_MX_TEMPORARY, "", 0},
    {"sick.example", DNS_MX_TEMPORARY, "", 0},
    {"backup.example", DNS_MX_FOUND, "20 b.example 192.0.2.2", 60},
    {"odd.example", DNS_MX_FOUND, "10 odd1.example 192.0.2.3", 3600},
    {"void.example", DNS_MX_NO_ADDRESS, "", 0},
    {"malformed.example", DNS_MX_FOUND, "10 b.example 192.0.2.2", 0},
    {"alljunk.example", DNS_MX_TEMPORARY, "", 0},
    {"literal.example", DNS_MX_FOUND, "20 b.example 192.0.2.2", 0}, // its first MX is no host
    {"onlyliteral.example", DNS_MX_NO_ADDRESS, "", 0},
    {"[192.0.2.44]", DNS_MX_FOUND, "0 192.0.2.44 192.0.2.44", 0},
    {"[IPv6:2001:DB8::9]", DNS_MX_FOUND, "0 2001:db8::9 2001:db8::9", 0},
    {"[IPv6:::ffff:192.0.2.1]", DNS_MX_FOUND, "0 192.0.2.1 192.0.2.1", 0},
    {"[0.0.0.0]", DNS_MX_NO_ADDRESS, "", 0},
    {"[192.0.2.300]", DNS_MX_NO_DOMAIN, "", 0},
    {"[192.0.2.1", DNS_MX_NO_DOMAIN, "", 0},
    {"[", DNS_MX_NO_DOMAIN, "", 0},
    {"", DNS_MX_NO_DOMAIN, "", 0},
    {"a..b", DNS_MX_NO_DOMAIN, "", 0},
    {"b\xc3\xbc"
     "cher.example",
     DNS_MX_NO_DOMAIN, "", 0},
};

static const struct row host_rows[] = {
    {"a.example", DNS_MX_FOUND, "0 a.example 2001:db8::1 192.0.2.1", 600},
    {"null.example", DNS_MX_FOUND, "0 null.example 192.0.2.9", 0}, // its MX is not asked for
    {"192.0.2.7", DNS_MX_FOUND, "0 192.0.2.7 192.0.2.7", 0},
    {"2001:db8::7", DNS_MX_FOUND, "0 2001:db8::7 2001:db8::7", 0},
    {"bare.example", DNS_MX_NO_ADDRESS, "", 0},
    {"nowhere.example", DNS_MX_NO_DOMAIN, "", 0},
    {"sickhost.example", DNS_MX_TEMPORARY, "", 0},
};

static void check_outcomes(const struct row *list, size_t count, enum dns_mx_kind kind)
{
    struct buf text = {0};
    for (size_t i = 0; i < count; i++) {
        struct dns_mx *mx = look_up_as(list[i].domain, kind, 5000, NULL);
        if (mx->outcome != list[i].outcome || strcmp(hosts_text(mx, &text), list[i].hosts) != 0)
            fail_msg("%s: %d '%s' (%s)", list[i].domain, mx->outcome, buf_cstr(&text), mx->why);
        if (list[i].ttl_s && mx->ttl_s != list[i].ttl_s)
            fail_msg("%s: ttl %u", list[i].domain, mx->ttl_s);
        assert_true(mx->outcome == DNS_MX_FOUND || mx->why[0]);
        dns_mx_free(mx);
    }
    buf_done(&text);
}

static void h_outcomes(void **state)
{
    check_outcomes(rows, COUNT_OF(rows), DNS_BY_MX);
}

static void hosts(void **state)
{
    check_outcomes(host_rows, COUNT_OF(host_rows), DNS_BY_HOST);
}

static void ends_at_the_deadline(void **state)
{
    int64_t took_ms;
    struct dns_mx *mx = look_up("silent.example", 200, &took_ms);
    assert_int_equal(mx->outcome, DNS_MX_TEMPORARY);
    assert_in_range(took_ms, 200, 30000);
    dns_mx_free(mx);
    mx = look_up("half.example", 1000, &took_ms); // what is known is used
    assert_int_equal(mx->outcome, DNS_MX_FOUND);
    assert_true(mx->hosts[0].is_incomplete && mx->hosts[0].address_count == 1);
    assert_int_equal(mx->ttl_s, 60);
    dns_mx_free(mx);
}

// A host that can't be looked up just now is no host that does not exist.
static void tells_of_missing_hosts(void **state)
{
    static const struct {
        const char *domain;
        size_t missing;
        uint16_t preference; // of the first
        const char *first;
    } list[] = {
        {"two.example", 0, 0, ""},
        {"odd.example", 0, 0, ""},
        {"half.example", 0, 0, ""}, // one family of its host does not answer, the host is there
        {"backup.example", 1, 10, "sickhost.example"},
        {"sickbackup.example", 2, 15, "sickhost2.example"},
        {"half-dangling.example", 0, 0, ""},
    };
    for (size_t i = 0; i < COUNT_OF(list); i++) {
        struct dns_mx *mx = look_up(list[i].domain, 500, NULL), *copy = dns_mx_copy(mx);
        if (mx->outcome != DNS_MX_FOUND || mx->missing_count != list[i].missing)
            fail_msg("%s: %d, %zu missing", list[i].domain, mx->outcome, mx->missing_count);
        assert_int_equal(copy->missing_count, mx->missing_count);
        if (mx->missing_count) {
            assert_int_equal(mx->missing[0].preference, list[i].preference);
            assert_true(bytes_eq(copy->missing[0].name, bytes_cstr(list[i].first)));
            assert_non_null(strstr(mx->why, "addresses of sickhost"));
        }
        dns_mx_free(copy);
        dns_mx_free(mx);
    }
}

// Whom there is no room for depends on how many addresses of the others are known just now: it is told, too.
static void tells_of_hosts_without_room(void **state)
{
    static const struct {
        const char *domain;
        size_t hosts;
    } list[] = {{"crowd.example", 3}, {"sickcrowd.example", 3}, {"halfcrowd.example", 4}};
    for (size_t i = 0; i < COUNT_OF(list); i++) {
        struct dns_mx *mx = look_up(list[i].domain, 500, NULL);
        if (mx->host_count != list[i].hosts || mx->host_count + mx->missing_count != 4)
            fail_msg("%s: %zu hosts, %zu missing", list[i].domain, mx->host_count,
                     mx->missing_count);
        if (i == 0) {
            assert_true(bytes_eq(mx->missing[0].name, BYTES("m4.many.example")));
            assert_int_equal(mx->missing[0].address_count, 0);
            assert_string_equal(mx->why, ""); // all answered
        }
        dns_mx_free(mx);
    }
}

// A thousand MX records, each host with many addresses.
static void h_bounded(void **state)
{
    struct dns_mx *mx = look_up(DNS_TEST_MANY, 5000, NULL);
    assert_int_equal(mx->outcome, DNS_MX_FOUND);
    size_t addresses = 0;
    for (size_t i = 0; i < mx->host_count; i++) {
        addresses += mx->hosts[i].address_count;
        assert_true(mx->hosts[i].address_count <= DNS_MX_ADDRESSES_A_HOST_MAX);
        assert_true(i == 0 || mx->hosts[i].preference >= mx->hosts[i - 1].preference);
    }
    assert_int_equal(mx->host_count + mx->missing_count, DNS_MX_HOSTS_MAX);
    assert_int_equal(addresses, DNS_MX_ADDRESSES_MAX);
    dns_mx_free(mx);
}

static bool has_host(const struct dns_mx *mx, struct bytes name)
{
    for (size_t i = 0; i < mx->host_count; i++)
        if (bytes_eq(mx->hosts[i].name, name))
            return true;
    return false;
}

// Which of too many are left out: else each look-up would be another site, with limits of its own.
static void leaves_out_the_same(void **state)
{
    struct dns_mx *first = look_up(DNS_TEST_MANY, 5000, NULL);
    for (int i = 0; i < 8; i++) {
        struct dns_mx *mx = look_up(DNS_TEST_MANY, 5000, NULL);
        assert_int_equal(mx->host_count, first->host_count);
        for (size_t k = 0; k < mx->host_count; k++)
            assert_true(has_host(first, mx->hosts[k].name));
        dns_mx_free(mx);
    }
    dns_mx_free(first);
}

#define SPREAD 400

static void count_first(void *ctx)
{
    unsigned *first = ctx;
    struct dns_ip ip = {.ip = {192, 0, 2, 1}}, six = {.ip6 = true, .ip = {0x20}};
    struct dns_ip ips[4][3];
    struct dns_mx_host hosts[4];
    for (unsigned i = 0; i < 4; i++) {
        ips[i][0] = ips[i][1] = ip;
        ips[i][1].ip[3] = 2;
        ips[i][2] = six;
        hosts[i] = (struct dns_mx_host){.name = bytes_of(&"abcd"[i], 1),
                                        .preference = i == 3 ? 20 : 10,
                                        .addresses = ips[i],
                                        .address_count = 3};
    }
    struct dns_mx mx = {.hosts = hosts, .host_count = 4, .why = "because"};
    for (int i = 0; i < SPREAD; i++) {
        struct dns_mx *copy = dns_mx_copy(&mx);
        CHECK(copy->hosts[3].name.at[0] == 'd' && strcmp(copy->why, "because") == 0);
        first[copy->hosts[0].name.at[0] - 'a']++;
        const struct dns_ip *got = copy->hosts[0].addresses;
        CHECK(got[0].ip6 && !got[1].ip6 && !got[2].ip6 && got[1].ip[3] != got[2].ip[3]);
        first[4] += got[1].ip[3] == 1;
        dns_mx_free(copy);
    }
}

// Equal preferences share the load, worse ones do not join; addresses too.
static void copies_are_shuffled(void **state)
{
    unsigned first[5] = {0};
    test_on_loop(loop, count_first, first);
    for (int i = 0; i < 3; i++)
        assert_in_range(first[i], SPREAD / 5, SPREAD / 2);
    assert_int_equal(first[3], 0);
    assert_in_range(first[4], SPREAD / 4, SPREAD * 3 / 4);
}

static void cancel_at_once(void *ctx)
{
    static const char *const domains[] = {"two.example", "silent.example", "half.example",
                                          "[192.0.2.1]"};
    struct dns_mx_lookup *lookups[COUNT_OF(domains)];
    for (size_t i = 0; i < COUNT_OF(domains); i++)
        lookups[i] = dns_mx_lookup(dns, bytes_cstr(domains[i]), DNS_BY_MX,
                                   mono_add_ms(sys_mono(), 50), on_done, NULL);
    for (size_t i = 0; i < COUNT_OF(domains); i++)
        dns_mx_lookup_cancel(lookups[i]);
}

static void cancelled(void **state)
{
    test_on_loop(loop, cancel_at_once, NULL);
    usleep(100000); // a done() would crash on its NULL
    dns_mx_free(look_up("two.example", 5000, NULL));
}

static int setup(void **state)
{
    loop = sys_loop_start("dns");
    dns = dns_test_new(loop, zone, COUNT_OF(zone));
    return 0;
}

static int teardown(void **state)
{
    sys_loop_stop(loop);
    dns_test_free(dns);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(h_outcomes),
        cmocka_unit_test(hosts),
        cmocka_unit_test(ends_at_the_deadline),
        cmocka_unit_test(tells_of_missing_hosts),
        cmocka_unit_test(tells_of_hosts_without_room),
        cmocka_unit_test(h_bounded),
        cmocka_unit_test(leaves_out_the_same),
        cmocka_unit_test(copies_are_shuffled),
        cmocka_unit_test(cancelled),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
