// SPDX-License-Identifier: MIT
#include "sign/spf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/check.h"
#include "conf/conf_value.h"

// What the DNS has; the names of RFC 7208 appendix A, and others for what it has no example of.
static const struct row {
    const char *name;
    enum spf_type type;
    const char *value; // NULL: the servers fail
} zone[] = {
    {"example.com", SPF_A, "192.0.2.10"},
    {"example.com", SPF_A, "192.0.2.11"},
    {"example.com", SPF_MX, "mail-a.example.com"},
    {"example.com", SPF_MX, "mail-b.example.com"},
    {"mail-a.example.com", SPF_A, "192.0.2.129"},
    {"mail-b.example.com", SPF_A, "192.0.2.130"},
    {"example.org", SPF_MX, "mail-c.example.org"},
    {"mail-c.example.org", SPF_A, "192.0.2.140"},
    {"mail-c.example.org", SPF_AAAA, "2001:db8::140"},
    {"none.test", SPF_TXT, "some other text"},
    {"none.test", SPF_TXT, "v=spf10 +all"},
    {"two.test", SPF_TXT, "v=spf1 -all"},
    {"two.test", SPF_TXT, "V=SPF1"},
    {"down.test", SPF_TXT, NULL},
    {"deep.test", SPF_A, NULL},
    {"pass.test", SPF_TXT, "v=spf1 +all"},
    {"fail.test", SPF_TXT, "v=spf1 -all"},
    {"wrong.test", SPF_TXT, "v=spf1 nonsense"},
    {"ip.test", SPF_TXT, "v=spf1 ip4:192.0.2.0/25 ip6:2001:db8::/32 -all"},
    {"soft.test", SPF_TXT, "v=spf1 ip4:192.0.2.1 ~all"},
    {"to-ip.test", SPF_TXT, "v=spf1 redirect=ip.test"},
    {"to-none.test", SPF_TXT, "v=spf1 redirect=none.test"},
    {"loop.test", SPF_TXT, "v=spf1 include:loop.test -all"},
    {"many.test", SPF_MX, "h1.test"},
    {"many.test", SPF_MX, "h2.test"},
    {"many.test", SPF_MX, "h3.test"},
    {"many.test", SPF_MX, "h4.test"},
    {"many.test", SPF_MX, "h5.test"},
    {"many.test", SPF_MX, "h6.test"},
    {"many.test", SPF_MX, "h7.test"},
    {"many.test", SPF_MX, "h8.test"},
    {"many.test", SPF_MX, "h9.test"},
    {"many.test", SPF_MX, "h10.test"},
    {"many.test", SPF_MX, "h11.test"},
    {"3.2.0.192.in-addr.strong-bad.email.example.com", SPF_A, "127.0.0.2"},
    {"strong-bad.lp.example.com", SPF_A, "127.0.0.2"},
    {"bad.strong.lp.example.com", SPF_A, "127.0.0.2"},
    {"email.example.com.own.test", SPF_A, "127.0.0.2"},
    {"percent%20%.test", SPF_A, "127.0.0.2"},
    {"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.test", SPF_A,
     "127.0.0.2"},
};

// Asking: of each question the first is answered LATER if `slow`.
struct world {
    const char *record; // of email.example.com
    bool slow;
    char asked[64][128];
    size_t asked_count, questions;
    struct arena arena; // the answers
};

static bool is_new(struct world *w, struct bytes name, enum spf_type type)
{
    char key[128];
    snprintf(key, sizeof key, "%u %.*s", type, BYTES_FMT(name));
    for (size_t i = 0; i < w->asked_count; i++)
        if (bytes_eq(bytes_cstr(key), bytes_cstr(w->asked[i])))
            return false;
    assert_true(w->asked_count < COUNT_OF(w->asked));
    snprintf(w->asked[w->asked_count++], sizeof key, "%s", key);
    return true;
}

static enum spf_dns ask(void *ctx, struct bytes name, enum spf_type type,
                        const struct spf_record **out, size_t *out_count)
{
    struct world *w = ctx;
    bool ip6;
    w->questions++;
    if (w->slow && is_new(w, name, type))
        return SPF_DNS_LATER;
    size_t count = 0;
    struct spf_record *records = arena_new(&w->arena, 12 * sizeof *records);
    if (type == SPF_TXT && bytes_eq(name, BYTES("email.example.com")))
        records[count++].text = bytes_cstr(w->record);
    for (size_t i = 0; i < COUNT_OF(zone); i++) {
        if (zone[i].type != type || !bytes_eq_nocase(name, bytes_cstr(zone[i].name)))
            continue;
        if (!zone[i].value)
            return SPF_DNS_FAILED;
        records[count].text = bytes_cstr(zone[i].value);
        if (type == SPF_A || type == SPF_AAAA)
            assert_int_equal(conf_value_ip(records[count].text, records[count].ip, &ip6), 0);
        count++;
    }
    *out = records;
    *out_count = count;
    return count ? SPF_DNS_OK : SPF_DNS_NONE;
}

static struct spf_verdict check(struct world *w, const char *ip, const char *domain)
{
    struct spf_port port = {w, ask};
    struct spf_question q = {.domain = bytes_cstr(domain),
                             .local = BYTES("strong-bad"),
                             .helo = BYTES("mail.example.com")};
    struct spf_verdict verdict;
    assert_int_equal(conf_value_ip(bytes_cstr(ip), q.ip, &q.ip6), 0);
    int rounds = 0;
    do {
        spf_check(&port, &q, &verdict);
        assert_true(++rounds < 40);
        arena_done(&w->arena);
    } while (verdict.result == SPF_LATER);
    return verdict;
}

static const struct {
    const char *record, *ip;
    enum spf_result want;
    const char *why; // part of it; NULL: whatever
} cases[] = {
    // appendix A.1
    {"v=spf1 +all", "192.0.2.3", SPF_PASS, "it is '+all'"},
    {"v=spf1 a:example.com -all", "192.0.2.10", SPF_PASS, NULL},
    {"v=spf1 a:example.com -all", "192.0.2.11", SPF_PASS, NULL},
    {"v=spf1 a:example.com -all", "192.0.2.12", SPF_FAIL,
     "it is '-all' in the record of email.example.com"},
    {"v=spf1 a:example.org -all", "192.0.2.140", SPF_FAIL, NULL},
    {"v=spf1 mx:example.com -all", "192.0.2.129", SPF_PASS, NULL},
    {"v=spf1 mx:example.com -all", "192.0.2.130", SPF_PASS, NULL},
    {"v=spf1 mx:example.com -all", "192.0.2.10", SPF_FAIL, NULL},
    {"v=spf1 mx:example.org -all", "2001:db8::140", SPF_PASS, NULL},
    {"v=spf1 mx:example.com/30 mx:example.org/30 -all", "192.0.2.131", SPF_PASS, NULL},
    {"v=spf1 mx:example.com/30 mx:example.org/30 -all", "192.0.2.141", SPF_PASS, NULL},
    {"v=spf1 mx:example.com/30 mx:example.org/30 -all", "192.0.2.144", SPF_FAIL, NULL},
    {"v=spf1 a:example.com/24//64 -all", "192.0.2.200", SPF_PASS, NULL},
    {"v=spf1 a:mail-c.example.org//32 -all", "2001:db8:9::1", SPF_PASS, NULL},
    {"v=spf1 ip4:192.0.2.128/28 -all", "192.0.2.129", SPF_PASS, NULL},
    {"v=spf1 ip4:192.0.2.128/28 -all", "192.0.2.65", SPF_FAIL, NULL},
    {"v=spf1 ip4:0.0.0.0/0 -all", "192.0.2.65", SPF_PASS, NULL},
    {"v=spf1 ip4:0.0.0.0/0 -all", "::1", SPF_FAIL, NULL},
    {"v=spf1 ip6:2001:db8::/32 -all", "2001:db8:1::1", SPF_PASS, NULL},
    // results
    {"v=spf1", "192.0.2.3", SPF_NEUTRAL, "nothing matches"},
    {"v=spf1 ?all", "192.0.2.3", SPF_NEUTRAL, NULL},
    {"v=spf1 ~all", "192.0.2.3", SPF_SOFTFAIL, NULL},
    {"v=spf1   -ALL  ", "192.0.2.3", SPF_FAIL, NULL},
    {"V=sPf1 IP4:192.0.2.3 -all", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 ip4:192.0.2.3 -all moo=x-%{d}", "192.0.2.3", SPF_PASS, NULL},
    // include: only a pass counts (5.2)
    {"v=spf1 include:pass.test -all", "192.0.2.3", SPF_PASS, "it is 'include:pass.test'"},
    {"v=spf1 include:fail.test ~all", "192.0.2.3", SPF_SOFTFAIL, NULL},
    {"v=spf1 include:soft.test ip4:192.0.2.3 -all", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 ?include:ip.test -all", "192.0.2.3", SPF_NEUTRAL, NULL},
    {"v=spf1 include:none.test -all", "192.0.2.3", SPF_PERMERROR,
     "no SPF record for 'include:none.test'"},
    {"v=spf1 include:down.test -all", "192.0.2.3", SPF_TEMPERROR, "down.test"},
    {"v=spf1 include:two.test -all", "192.0.2.3", SPF_PERMERROR, "second SPF record"},
    {"v=spf1 include:wrong.test -all", "192.0.2.3", SPF_PERMERROR,
     "'nonsense' in the record of wrong.test"},
    {"v=spf1 include:loop.test -all", "192.0.2.3", SPF_PERMERROR, "more than 10 DNS lookups"},
    {"v=spf1 ip4:192.0.2.3 include:loop.test -all", "192.0.2.3", SPF_PASS, NULL},
    // redirect: where nothing matched (6.1)
    {"v=spf1 redirect=to-ip.test", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 redirect=ip.test", "192.0.2.200", SPF_FAIL, "in the record of ip.test"},
    {"v=spf1 redirect=ip.test ?all", "192.0.2.200", SPF_NEUTRAL, NULL},
    {"v=spf1 redirect=to-none.test", "192.0.2.3", SPF_PERMERROR, "redirect=none.test"},
    {"v=spf1 redirect=ip.test redirect=ip.test", "192.0.2.3", SPF_PERMERROR, "a second"},
    // limits (4.6.4)
    {"v=spf1 a:deep.test -all", "192.0.2.3", SPF_TEMPERROR, NULL},
    {"v=spf1 a:v1.test a:v2.test ip4:192.0.2.3 -all", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 a:v1.test a:v2.test mx:v3.test ip4:192.0.2.3 -all", "192.0.2.3", SPF_PERMERROR,
     "without records"},
    {"v=spf1 mx:many.test -all", "192.0.2.3", SPF_PERMERROR, "more than 10 hosts"},
    {"v=spf1 ptr ptr ptr ptr ptr ptr ptr ptr ptr ptr ip4:192.0.2.3", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 ptr ptr ptr ptr ptr ptr ptr ptr ptr ptr ptr ip4:192.0.2.3", "192.0.2.3", SPF_PERMERROR,
     "10 DNS"},
    // macros (7.4)
    {"v=spf1 exists:%{ir}.%{v}.%{l}.%{d} -all", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 exists:%{l}.lp.%{d2} -all", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 exists:%{lr-}.lp.%{o2} -all", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 exists:%{D}.own.test -all", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 exists:percent%-%%.test -all", "192.0.2.3", SPF_PASS, NULL},
    {"v=spf1 exists:%{ir}.ip6.test -all", "2001:db8::1", SPF_PASS, NULL},
    {"v=spf1 exists:%{p}.%{h}.%{s} -all", "192.0.2.3", SPF_FAIL, NULL},
    // wrong syntax, wherever it stands (4.6)
    {"v=spf1 +all nonsense", "192.0.2.3", SPF_PERMERROR, "'nonsense'"},
    {"v=spf1 -all:x", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 a: -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 a/33 -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 a/ -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 a//129 -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 a/024 -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 ip4:192.0.2.3.4 -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 ip4:2001:db8::1 -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 ip4 -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 ip4:192.0.2.3/33 -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 ip6:::1/129 -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 include -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 exists:%{z} -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 exists:%{d0} -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 exists:%{d -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 exists:a%x -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 redirect= -all", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 -", "192.0.2.3", SPF_PERMERROR, NULL},
    {"v=spf1 =x", "192.0.2.3", SPF_PERMERROR, NULL},
};

// Each at once, and with a DNS that has to be asked first: the same verdict.
static void test_j_cases(void **state)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (int slow = 0; slow < 2; slow++) {
            struct world w = {.record = cases[i].record, .slow = slow};
            struct spf_verdict got = check(&w, cases[i].ip, "email.example.com");
            bool said =
                !cases[i].why || bytes_search(bytes_cstr(got.why), bytes_cstr(cases[i].why)) >= 0;
            if (got.result != cases[i].want || !said || got.lookups > SPF_LOOKUPS_MAX + 1)
                fail_msg("%s for %s%s: %s, %s", cases[i].record, cases[i].ip, slow ? ", slow" : "",
                         spf_result_name(got.result), got.why);
        }
}

static void test_domains(void **state)
{
    static const struct {
        const char *domain;
        enum spf_result want;
    } domains[] = {
        {"none.test", SPF_NONE},      {"absent.test", SPF_NONE}, {"two.test", SPF_PERMERROR},
        {"down.test", SPF_TEMPERROR}, {"ip.test", SPF_PASS},     {"to-ip.test", SPF_PASS},
    };
    for (size_t i = 0; i < COUNT_OF(domains); i++) {
        struct world w = {.record = "v=spf1"};
        struct spf_verdict got = check(&w, "192.0.2.3", domains[i].domain);
        assert_int_equal(got.result, domains[i].want);
        assert_true(got.why[0] != 0);
    }
}

// The hosts of an mx are asked for together: a round for the record, one for the mx, one for its hosts.
static void test_rounds_are_few(void **state)
{
    struct world w = {.record = "v=spf1 mx:example.com -all", .slow = true};
    check(&w, "192.0.2.3", "email.example.com");
    assert_int_equal(w.asked_count, 4);
    assert_int_equal(w.questions, 1 + 2 + 4 + 4);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_j_cases),
        cmocka_unit_test(test_domains),
        cmocka_unit_test(test_rounds_are_few),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
