// SPDX-License-Identifier: MIT
#include "api/domain_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "base/check.h"
#include "dns/dns_zone.h"

// Two key records (RFC 8463 A.3, RFC 6376 C.2 in a shorter one), and another key.
#define ED "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define OTHER "v=DKIM1; k=ed25519; p=PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="

static const char config[] =
    "hostname: relay.test\n"
    "domains: {spf_include: spf.test, bounce_host: bounce.test, dmarc_reports: d@relay.test,\n"
    "          addresses: [192.0.2.1, \"2001:db8::1\"]}\n";

// name, type, value: JSON of the zone file's arrays; what is right.
struct row {
    const char *name, *type, *value;
};
static const struct row right[] = {
    {"_posthaste.shop.test", "TXT", "['posthaste-verification=tok']"},
    {"shop.test", "TXT", "['other','v=spf1 include:spf.test -all']"},
    {"shop.test", "MX", "[[10,'mx.shop.test']]"},
    {"mx.shop.test", "A", "['192.0.2.9']"},
    {"spf.test", "TXT", "['v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/64 -all']"},
    {"s1._domainkey.shop.test", "TXT", "['" ED "']"},
    {"_dmarc.shop.test", "TXT", "['v=DMARC1; p=reject']"},
    {"bounces.shop.test", "CNAME", "'bounce.test'"},
    {"bounce.test", "A", "['192.0.2.1']"},
    {"1.2.0.192.in-addr.arpa", "PTR", "['relay.test']"},
    {"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR",
     "['relay.test']"},
    {"relay.test", "A", "['192.0.2.1']"},
    {"relay.test", "AAAA", "['2001:db8::1']"},
};

// What is different from `right`: a record gone (value NULL) or another; type "RCODE": the name's.
struct change {
    const char *name;
    struct row rows[3];
    const char *wrong;  // "ID STATE" that is not ok, all of them, separated by ", "
    const char *says;   // part of the first one's fix
    const char *config; // instead of the above
};
static const struct change changes[] = {
    {"all is right", {{NULL}}, "", NULL, NULL},
    {"no token",
     {{"_posthaste.shop.test", "TXT", NULL}},
     "ownership missing",
     "_posthaste.shop.test",
     NULL},
    {"another token",
     {{"_posthaste.shop.test", "TXT", "['posthaste-verification=tik']"}},
     "ownership wrong",
     "another value",
     NULL},
    {"a second token",
     {{"_posthaste.shop.test", "TXT", "['x','posthaste-verification=tok']"}},
     "",
     NULL,
     NULL},
    {"token: servers fail",
     {{"_posthaste.shop.test", "RCODE", "'SERVFAIL'"}},
     "ownership unknown",
     "try again",
     NULL},
    {"token: no answer",
     {{"_posthaste.shop.test", "RCODE", "'TIMEOUT'"}},
     "ownership unknown",
     "try again",
     NULL},
    {"no SPF", {{"shop.test", "TXT", "['other']"}}, "spf missing", "publish", NULL},
    {"SPF without us",
     {{"shop.test", "TXT", "['v=spf1 -all']"}},
     "spf wrong",
     "192.0.2.1 is fail (it is '-all' in the record of shop.test): put \"include:spf.test\"",
     NULL},
    {"SPF without our IPv6",
     {{"spf.test", "TXT", "['v=spf1 ip4:192.0.2.0/24 -all']"}},
     "spf wrong",
     "2001:db8::1 is fail",
     NULL},
    {"two SPF",
     {{"shop.test", "TXT", "['v=spf1 include:spf.test','v=spf1 -all']"}},
     "spf wrong",
     "permerror",
     NULL},
    {"SPF: the included fails",
     {{"spf.test", "RCODE", "'SERVFAIL'"}},
     "spf unknown",
     "spf.test",
     NULL},
    {"SPF: no answer", {{"spf.test", "RCODE", "'TIMEOUT'"}}, "spf unknown", "try again", NULL},
    {"no key",
     {{"s1._domainkey.shop.test", "TXT", NULL}},
     "dkim missing",
     "s1._domainkey.shop.test",
     NULL},
    {"another key",
     {{"s1._domainkey.shop.test", "TXT", "['" OTHER "']"}},
     "dkim wrong",
     "another key",
     NULL},
    {"revoked key",
     {{"s1._domainkey.shop.test", "TXT", "['v=DKIM1; k=ed25519; p=']"}},
     "dkim wrong",
     "another key",
     NULL},
    {"the key written otherwise",
     {{"s1._domainkey.shop.test", "TXT",
       "[['k=ed25519 ; n=x; p=11qYAYKxCrfVS/7TyWQHOg7h ','cvPapiMlrwIaaPcHURo=']]"}},
     "",
     NULL,
     NULL},
    {"two keys",
     {{"s1._domainkey.shop.test", "TXT", "['" ED "','" OTHER "']"}},
     "dkim wrong",
     "several",
     NULL},
    {"key: servers fail",
     {{"s1._domainkey.shop.test", "RCODE", "'SERVFAIL'"}},
     "dkim unknown",
     "try again",
     NULL},
    {"no DMARC", {{"_dmarc.shop.test", "TXT", NULL}}, "dmarc missing", "_dmarc.shop.test", NULL},
    {"DMARC above",
     {{"_dmarc.shop.test", "TXT", NULL}, {"_dmarc.test", "TXT", "['v=DMARC1;p=none']"}},
     "dmarc missing",
     NULL,
     NULL},
    {"DMARC without policy",
     {{"_dmarc.shop.test", "TXT", "['v=DMARC1; rua=mailto:a@b.c']"}},
     "dmarc wrong",
     "p=none",
     NULL},
    {"DMARC twice",
     {{"_dmarc.shop.test", "TXT", "['v=DMARC1; p=none','v=DMARC1; p=reject']"}},
     "dmarc wrong",
     "2 DMARC records",
     NULL},
    {"DMARC beside others",
     {{"_dmarc.shop.test", "TXT", "['hello',' v = DMARC1 ; P = Quarantine']"}},
     "",
     NULL,
     NULL},
    {"DMARC: no answer",
     {{"_dmarc.shop.test", "RCODE", "'TIMEOUT'"}},
     "dmarc unknown",
     "try again",
     NULL},
    {"no return path",
     {{"bounces.shop.test", "CNAME", NULL}},
     "return_path missing",
     "CNAME",
     NULL},
    {"return path elsewhere",
     {{"bounces.shop.test", "CNAME", "'relay.test'"}},
     "return_path wrong",
     "elsewhere",
     NULL},
    {"bounce host has nothing",
     {{"bounce.test", "A", NULL}},
     "return_path wrong",
     "for the operator",
     NULL},
    {"return path: servers fail",
     {{"bounces.shop.test", "RCODE", "'SERVFAIL'"}},
     "return_path unknown",
     "try again",
     NULL},
    {"no MX", {{"shop.test", "MX", NULL}}, "mx missing", "publish an MX", NULL},
    {"no MX, an address",
     {{"shop.test", "MX", NULL}, {"shop.test", "A", "['192.0.2.9']"}},
     "",
     NULL,
     NULL},
    {"null MX", {{"shop.test", "MX", "[[0,'.']]"}}, "mx wrong", "null MX", NULL},
    {"MX without address", {{"mx.shop.test", "A", NULL}}, "mx wrong", "mx.shop.test", NULL},
    {"MX: a host of two",
     {{"shop.test", "MX", "[[10,'gone.shop.test'],[20,'mx.shop.test']]"}},
     "",
     NULL,
     NULL},
    {"MX: the host fails",
     {{"mx.shop.test", "RCODE", "'SERVFAIL'"}},
     "mx unknown",
     "mx.shop.test",
     NULL},
    {"no PTR",
     {{"1.2.0.192.in-addr.arpa", "PTR", NULL}},
     "ptr missing",
     "192.0.2.1 has no name",
     NULL},
    {"PTR leads elsewhere",
     {{"1.2.0.192.in-addr.arpa", "PTR", "['mx.shop.test']"}},
     "ptr wrong",
     "192.0.2.1",
     NULL},
    {"PTR leads nowhere",
     {{"1.2.0.192.in-addr.arpa", "PTR", "['gone.test']"}},
     "ptr wrong",
     "192.0.2.1",
     NULL},
    {"PTR: the second name",
     {{"1.2.0.192.in-addr.arpa", "PTR", "['gone.test','relay.test']"}},
     "",
     NULL,
     NULL},
    {"PTR: no answer",
     {{"1.2.0.192.in-addr.arpa", "RCODE", "'TIMEOUT'"}},
     "ptr unknown",
     "try again",
     NULL},
    {"CNAMEs instead of keys",
     {{"s1._domainkey.shop.test", "TXT", NULL},
      {"s1._domainkey.shop.test", "CNAME", "'s1.shop.test.dkim.relay.test'"}},
     "dkim missing, return_path missing",
     "dkim zone",
     "hostname: relay.test\ndomains: {dkim: cname, addresses: [192.0.2.1]}\n"},
    {"CNAMEs that lead elsewhere",
     {{"s1._domainkey.shop.test", "TXT", NULL}, {"s1._domainkey.shop.test", "CNAME", "'s1.test'"}},
     "dkim wrong, return_path missing",
     "elsewhere",
     "hostname: relay.test\ndomains: {dkim: cname, addresses: [192.0.2.1]}\n"},
    {"TXT where a CNAME is wanted",
     {{NULL}},
     "dkim missing, return_path missing",
     "CNAME",
     "hostname: relay.test\ndomains: {dkim: cname, addresses: [192.0.2.1]}\n"},
    {"addresses of the host name",
     {{NULL}},
     "return_path missing",
     "bounce_host",
     "hostname: relay.test\n"},
    {"no addresses at all",
     {{NULL}},
     "spf unknown, return_path missing, ptr unknown",
     "for the operator",
     "hostname: nowhere.test\n"},
    {"routes without TLS",
     {{NULL}},
     "return_path missing, tls wrong",
     NULL,
     "hostname: relay.test\nroutes: [{via: mx, tls: none}]\n"},
};

// ---- the zone --------------------------------------------------------------------------------------------

static void put(struct json_object *zone, const struct row *row)
{
    struct json_object *name, *value;
    struct buf text = {0};
    if (!json_object_object_get_ex(zone, row->name, &name)) {
        name = json_object_new_object();
        json_object_object_add(zone, row->name, name);
    }
    json_object_object_del(name, row->type);
    for (const char *p = row->value; p && *p; p++)
        buf_add_byte(&text, *p == '\'' ? '"' : *p);
    if (row->value) {
        value = json_tokener_parse(buf_cstr(&text));
        assert_non_null(value);
        json_object_object_add(name, row->type, value);
    } else if (json_object_object_length(name) == 0) {
        json_object_object_del(zone, row->name);
    }
    buf_done(&text);
}

static struct dns_zone *make_zone(const struct change *change)
{
    struct json_object *json = json_object_new_object();
    struct dns_zone *zone;
    struct buf error = {0};
    for (size_t i = 0; i < COUNT_OF(right); i++)
        put(json, &right[i]);
    for (size_t i = 0; i < COUNT_OF(change->rows) && change->rows[i].name; i++)
        put(json, &change->rows[i]);
    if (dns_zone_parse(bytes_cstr(json_object_to_json_string(json)), &zone, &error))
        fail_msg("%s: %s", change->name, buf_cstr(&error));
    json_object_put(json);
    buf_done(&error);
    return zone;
}

// ---- a check ---------------------------------------------------------------------------------------------

struct world {
    struct dns_zone *zone;
    struct arena arena;
    char told[64][160]; // what is known, from the round before on
    size_t told_count, known;
};

static const struct dns_answer *ask(void *ctx, struct bytes name, enum dns_type type)
{
    struct world *w = ctx;
    char key[160];
    snprintf(key, sizeof key, "%u %.*s", type, BYTES_FMT(name));
    for (size_t i = 0; i < w->known; i++)
        if (bytes_eq(bytes_cstr(key), bytes_cstr(w->told[i]))) {
            struct dns_answer *answer = arena_new(&w->arena, sizeof *answer);
            dns_zone_answer(w->zone, name, type, &w->arena, answer);
            return answer;
        }
    assert_true(w->told_count < COUNT_OF(w->told));
    snprintf(w->told[w->told_count++], sizeof key, "%s", key);
    return NULL;
}

static struct conf *load(const char *text)
{
    struct conf *conf;
    struct buf errors = {0};
    if (conf_load_text(bytes_cstr(text), "t.yaml", "/", &conf, &errors))
        fail_msg("%s", buf_cstr(&errors));
    buf_done(&errors);
    return conf;
}

static struct domain_check start(struct world *w, struct conf *conf)
{
    static const struct domain_key keys[] = {{BYTES("s1"), BYTES(ED)}};
    return (struct domain_check){
        .setup = {BYTES("shop.test"), BYTES("tok"), keys, 1, conf},
        .certificate = {true, true, false, {1800000000000000}},
        .now = {1790000000000000},
        .ask = ask,
        .ask_ctx = w,
    };
}

static int run(struct domain_check *c, struct world *w)
{
    int rounds = 1;
    while (!domain_check_run(c, &w->arena)) {
        w->known = w->told_count;
        assert_true(++rounds < 20);
    }
    return rounds;
}

static void test_changes(void **state)
{
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        const struct change *change = &changes[i];
        struct conf *conf = load(change->config ? change->config : config);
        struct world w = {.zone = make_zone(change)};
        struct domain_check c = start(&w, conf);
        struct buf wrong = {0};
        const struct domain_finding *first = NULL;
        run(&c, &w);
        for (int id = 0; id < DOMAIN_CHECKS; id++) {
            const struct domain_finding *f = &c.findings[id];
            assert_true((f->state == DOMAIN_OK) == (f->fix.len == 0));
            if (f->state == DOMAIN_OK)
                continue;
            buf_printf(&wrong, "%s%s %s", first ? ", " : "", domain_check_name(id),
                       domain_state_name(f->state));
            first = first ? first : f;
        }
        bool said =
            !change->says || (first && bytes_search(first->fix, bytes_cstr(change->says)) >= 0);
        if (!bytes_eq(buf_bytes(&wrong), bytes_cstr(change->wrong)) || !said)
            fail_msg("%s: %s: %.*s", change->name, buf_cstr(&wrong),
                     BYTES_FMT(first ? first->fix : BYTES_NONE));
        dns_zone_free(w.zone);
        arena_done(&w.arena);
        conf_free(conf);
        buf_done(&wrong);
    }
}

// Of several keys each that is missing or wrong is told; the worst state counts.
static void test_several_keys(void **state)
{
    static const struct domain_key keys[] = {
        {BYTES("s1"), BYTES(ED)}, {BYTES("s2"), BYTES(ED)}, {BYTES("s3"), BYTES(ED)}};
#define S(n) "s" #n "._domainkey.shop.test"
    static const struct {
        struct row rows[3];
        enum domain_state state;
        const char *want, *found, *fix; // the names in each, in order
    } cases[] = {
        {{{S(2), "TXT", "['" ED "']"}, {S(3), "TXT", "['" ED "']"}}, DOMAIN_OK, "123", "123", ""},
        {{{S(2), "TXT", "['" ED "']"}}, DOMAIN_MISSING, "3", "", "3"},
        {{{S(1), "TXT", NULL}}, DOMAIN_MISSING, "123", "", "123"},
        {{{S(3), "TXT", "['" OTHER "']"}}, DOMAIN_WRONG, "23", "3", "23"},
        {{{S(2), "TXT", "['" OTHER "']"}}, DOMAIN_WRONG, "23", "2", "23"},
        {{{S(2), "RCODE", "'SERVFAIL'"}}, DOMAIN_MISSING, "23", "2", "23"},
        {{{S(2), "RCODE", "'SERVFAIL'"}, {S(3), "TXT", "['" ED "']"}},
         DOMAIN_UNKNOWN,
         "2",
         "2",
         "2"},
    };
#undef S
    struct conf *conf = load(config);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct change change = {.name = "several keys"};
        memcpy(change.rows, cases[i].rows, sizeof change.rows);
        struct world w = {.zone = make_zone(&change)};
        struct domain_check c = start(&w, conf);
        c.setup.keys = keys;
        c.setup.keys_count = COUNT_OF(keys);
        assert_true(run(&c, &w) <= 4);
        const struct domain_finding *f = &c.findings[DOMAIN_CHECK_DKIM];
        assert_int_equal(f->state, cases[i].state);
        const struct bytes texts[] = {f->want, f->found, f->fix};
        const char *const wants[] = {cases[i].want, cases[i].found, cases[i].fix};
        for (size_t t = 0; t < COUNT_OF(texts); t++) {
            struct bytes rest = texts[t], line;
            char names[8] = "";
            while (bytes_cut(&rest, '\n', &line)) {
                ptrdiff_t at = bytes_search(line, BYTES("._domainkey.shop.test"));
                assert_true(at >= 2 && strlen(names) < 7);
                strncat(names, &line.at[at - 1], 1);
            }
            assert_string_equal(names, wants[t]);
        }
        dns_zone_free(w.zone);
        arena_done(&w.arena);
    }
    conf_free(conf);
}

static void test_certificates(void **state)
{
    static const struct {
        struct domain_certificate certificate;
        enum domain_state want;
        const char *says;
    } cases[] = {
        {{false, false, false, {0}}, DOMAIN_MISSING, "no listener offers TLS"},
        {{true, true, false, {1800000000000000}}, DOMAIN_OK, ""},
        {{true, false, false, {1800000000000000}}, DOMAIN_WRONG, "not for relay.test"},
        {{true, true, true, {1800000000000000}}, DOMAIN_WRONG, "self-signed"},
        {{true, true, false, {1789999999000000}}, DOMAIN_WRONG, "expired"},
        {{true, true, false, {1790000100000000}}, DOMAIN_WRONG, "within a week"},
    };
    struct conf *conf = load(config);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct world w = {.zone = make_zone(&changes[0])};
        struct domain_check c = start(&w, conf);
        c.certificate = cases[i].certificate;
        run(&c, &w);
        assert_int_equal(c.findings[DOMAIN_CHECK_TLS].state, cases[i].want);
        assert_true(bytes_search(c.findings[DOMAIN_CHECK_TLS].fix, bytes_cstr(cases[i].says)) >= 0);
        dns_zone_free(w.zone);
        arena_done(&w.arena);
    }
    conf_free(conf);
}

// What can be asked at once is: the chain of includes decides, not the number of checks.
static void test_rounds_are_few(void **state)
{
    struct conf *conf = load(config);
    struct world w = {.zone = make_zone(&changes[0])};
    struct domain_check c = start(&w, conf);
    assert_true(run(&c, &w) <= 4);
    dns_zone_free(w.zone);
    arena_done(&w.arena);
    conf_free(conf);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_several_keys),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_rounds_are_few),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
