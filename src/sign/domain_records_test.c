// SPDX-License-Identifier: MIT
#include "sign/domain_records.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"

// "PURPOSE TYPE NAME VALUE" a line, then the notes behind "# ".
static void records_of(const char *domains, size_t keys, struct buf *out)
{
    static const struct domain_key all[] = {{BYTES("s1"), BYTES("v=DKIM1; k=rsa; p=AAAA")},
                                            {BYTES("s2"), BYTES("v=DKIM1; k=ed25519; p=BBBB")}};
    struct buf text = {0}, errors = {0};
    struct arena arena = {0};
    struct conf *conf;
    buf_printf(&text, "hostname: relay.example.net\n%s", domains);
    if (conf_load_text(buf_bytes(&text), "t.yaml", "/", &conf, &errors))
        fail_msg("%s", buf_cstr(&errors));
    struct domain_setup setup = {BYTES("shop.test"), BYTES("abcdef"), all, keys, conf};
    struct domain_records got;
    domain_records_make(&setup, &arena, &got);
    buf_clear(out);
    for (size_t i = 0; i < got.count; i++)
        buf_printf(out, "%s %s %.*s %.*s\n", got.records[i].purpose, got.records[i].type,
                   BYTES_FMT(got.records[i].name), BYTES_FMT(got.records[i].value));
    for (size_t i = 0; i < got.notes_count; i++)
        buf_printf(out, "# %.40s\n", got.notes[i]);
    conf_free(conf);
    arena_done(&arena);
    buf_done(&text);
    buf_done(&errors);
}

static const struct {
    const char *name, *domains;
    size_t keys;
    const char *want;
} cases[] = {
    {"all configured, keys as TXT",
     "domains: {spf_include: _spf.example.net, bounce_host: bounce.example.net, "
     "dmarc_reports: d@example.net}\n",
     2,
     "verification TXT _posthaste.shop.test posthaste-verification=abcdef\n"
     "spf TXT shop.test v=spf1 include:_spf.example.net ~all\n"
     "dkim TXT s1._domainkey.shop.test v=DKIM1; k=rsa; p=AAAA\n"
     "dkim TXT s2._domainkey.shop.test v=DKIM1; k=ed25519; p=BBBB\n"
     "dmarc TXT _dmarc.shop.test v=DMARC1; p=none; rua=mailto:d@example.net\n"
     "return_path CNAME bounces.shop.test bounce.example.net\n"},
    {"keys as CNAME",
     "domains: {dkim: cname, spf_include: spf.example.net, bounce_host: b.example.net}\n", 1,
     "verification TXT _posthaste.shop.test posthaste-verification=abcdef\n"
     "spf TXT shop.test v=spf1 include:spf.example.net ~all\n"
     "dkim CNAME s1._domainkey.shop.test s1.shop.test.dkim.relay.example.net\n"
     "dmarc TXT _dmarc.shop.test v=DMARC1; p=none\n"
     "return_path CNAME bounces.shop.test b.example.net\n"},
    {"addresses alone", "domains: {addresses: [192.0.2.1, \"2001:db8::1\"], bounce_host: b.test}\n",
     1,
     "verification TXT _posthaste.shop.test posthaste-verification=abcdef\n"
     "spf TXT shop.test v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ~all\n"
     "dkim TXT s1._domainkey.shop.test v=DKIM1; k=rsa; p=AAAA\n"
     "dmarc TXT _dmarc.shop.test v=DMARC1; p=none\n"
     "return_path CNAME bounces.shop.test b.test\n"},
    {"nothing configured", "", 0,
     "verification TXT _posthaste.shop.test posthaste-verification=abcdef\n"
     "spf TXT shop.test v=spf1 a:relay.example.net ~all\n"
     "dmarc TXT _dmarc.shop.test v=DMARC1; p=none\n"
     "# the operator has configured neither doma\n"
     "# there is no DKIM key for this domain yet\n"
     "# the operator has not configured domains.\n"},
};

static void test_records(void **state)
{
    struct buf got = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        records_of(cases[i].domains, cases[i].keys, &got);
        if (!bytes_eq(buf_bytes(&got), bytes_cstr(cases[i].want)))
            fail_msg("%s:\n%s", cases[i].name, buf_cstr(&got));
    }
    buf_done(&got);
}

static void test_txt(void **state)
{
    struct buf text = {0}, out = {0};
    domain_format_txt(BYTES(""), &out);
    assert_string_equal(buf_cstr(&out), "\"\"");
    buf_clear(&out);
    domain_format_txt(BYTES("a \"b\\\t"), &out);
    assert_string_equal(buf_cstr(&out), "\"a \\\"b\\\\\\009\"");
    buf_clear(&out);
    for (int i = 0; i < 256; i++)
        buf_add_byte(&text, 'x');
    domain_format_txt(buf_bytes(&text), &out);
    assert_int_equal(out.len, 256 + 2 + 1 + 2);
    assert_true(bytes_ends(buf_bytes(&out), BYTES("x\" \"x\"")));
    buf_done(&text);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest all[] = {cmocka_unit_test(test_records), cmocka_unit_test(test_txt)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
