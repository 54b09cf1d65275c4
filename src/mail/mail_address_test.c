// SPDX-License-Identifier: MIT
#include "mail/mail_address.h"

#include "base/test_base.h"

#define X16 "xxxxxxxxxxxxxxxx"
#define X63 X16 X16 X16 "xxxxxxxxxxxxxxx"
#define X64 X63 "x"

#define BOTH (MAIL_PATH_NULL | MAIL_PATH_POSTMASTER)

static void paths(void **state)
{
    static const struct {
        struct bytes in;
        unsigned allowed;
        int want;
        struct bytes text, local, domain, rest;
    } rows[] = {
        {BYTES("<a@b.example>"), 0, OK, BYTES("a@b.example"), BYTES("a"), BYTES("b.example"),
         BYTES("")},
        {BYTES("<a@b> SIZE=1"), 0, OK, BYTES("a@b"), BYTES("a"), BYTES("b"), BYTES(" SIZE=1")},
        {BYTES("<>"), BOTH, OK, BYTES(""), BYTES(""), BYTES(""), BYTES("")},
        {BYTES("<> X"), MAIL_PATH_NULL, OK, BYTES(""), BYTES(""), BYTES(""), BYTES(" X")},
        {BYTES("<>"), MAIL_PATH_POSTMASTER, E_SYNTAX},
        {BYTES("<PostMaster>"), BOTH, OK, BYTES("PostMaster"), BYTES("PostMaster"), BYTES(""),
         BYTES("")},
        {BYTES("<postmaster>"), MAIL_PATH_NULL, E_SYNTAX},
        {BYTES("<postmaste>"), BOTH, E_SYNTAX},
        {BYTES("<postmaster@a>"), BOTH, OK, BYTES("postmaster@a"), BYTES("postmaster"), BYTES("a"),
         BYTES("")},
        // source routes
        {BYTES("<@r.example:a@b>"), 0, OK, BYTES("a@b"), BYTES("a"), BYTES("b"), BYTES("")},
        {BYTES("<@r,@[1.2.3.4]:a@b>x"), 0, OK, BYTES("a@b"), BYTES("a"), BYTES("b"), BYTES("x")},
        {BYTES("<@r:>"), BOTH, E_SYNTAX},
        {BYTES("<@r,:a@b>"), 0, E_SYNTAX},
        {BYTES("<@r,s:a@b>"), 0, E_SYNTAX},
        {BYTES("<@:a@b>"), 0, E_SYNTAX},
        {BYTES("<@r..s:a@b>"), 0, E_SYNTAX},
        {BYTES("<@r"), 0, E_SYNTAX},
        // local-parts
        {BYTES("<a.b+c=d@e>"), 0, OK, BYTES("a.b+c=d@e"), BYTES("a.b+c=d"), BYTES("e"), BYTES("")},
        {BYTES("<!#$%&'*+-/=?^_`{|}~@e>"), 0, OK, BYTES("!#$%&'*+-/=?^_`{|}~@e"),
         BYTES("!#$%&'*+-/=?^_`{|}~"), BYTES("e"), BYTES("")},
        {BYTES("<\"a b>@c\"@d>"), 0, OK, BYTES("\"a b>@c\"@d"), BYTES("\"a b>@c\""), BYTES("d"),
         BYTES("")},
        {BYTES("<\"a\\\"\\\\\"@d>"), 0, OK, BYTES("\"a\\\"\\\\\"@d"), BYTES("\"a\\\"\\\\\""),
         BYTES("d"), BYTES("")},
        {BYTES("<\"\"@d>"), 0, OK, BYTES("\"\"@d"), BYTES("\"\""), BYTES("d"), BYTES("")},
        {BYTES("<a..b@c>"), 0, E_SYNTAX},
        {BYTES("<.a@c>"), 0, E_SYNTAX},
        {BYTES("<a.@c>"), 0, E_SYNTAX},
        {BYTES("<@c>"), 0, E_SYNTAX},
        {BYTES("<a b@c>"), 0, E_SYNTAX},
        {BYTES("<a(b)@c>"), 0, E_SYNTAX},
        {BYTES("<\"a@c>"), 0, E_SYNTAX},
        {BYTES("<\"a\"b@c>"), 0, E_SYNTAX},
        {BYTES("<\"a\r\n\"@c>"), 0, E_SYNTAX},
        {BYTES("<\"a\\\n\"@c>"), 0, E_SYNTAX},
        {BYTES("<a\0@c>"), 0, E_SYNTAX},
        {BYTES("<a@b\0>"), 0, E_SYNTAX},
        {BYTES("<a@b@c>"), 0, E_SYNTAX},
        {BYTES("<" X64 "@c>"), 0, OK, BYTES(X64 "@c"), BYTES(X64), BYTES("c"), BYTES("")},
        {BYTES("<" X64 "x@c>"), 0, E_LIMIT},
        // domains
        {BYTES("<a@b.>"), 0, E_SYNTAX},
        {BYTES("<@x:a@b.c.>"), 0, E_SYNTAX},
        {BYTES("<a@b..>"), 0, E_SYNTAX},
        {BYTES("<a@.b>"), 0, E_SYNTAX},
        {BYTES("<a@b..c>"), 0, E_SYNTAX},
        {BYTES("<a@.>"), 0, E_SYNTAX},
        {BYTES("<a@>"), 0, E_SYNTAX},
        {BYTES("<a@-b>"), 0, E_SYNTAX},
        {BYTES("<a@b->"), 0, E_SYNTAX},
        {BYTES("<a@b_c>"), 0, E_SYNTAX},
        {BYTES("<a@b;c>"), 0, E_SYNTAX},
        {BYTES("<a@" X63 ".e>"), 0, OK, BYTES("a@" X63 ".e"), BYTES("a"), BYTES(X63 ".e"),
         BYTES("")},
        {BYTES("<a@" X64 ".e>"), 0, E_LIMIT},
        {BYTES("<a@" X63 "." X63 "." X63 "." X16 X16 X16 "xxxxxxxxxxxx>"), 0, OK,
         BYTES("a@" X63 "." X63 "." X63 "." X16 X16 X16 "xxxxxxxxxxxx"), BYTES("a"),
         BYTES(X63 "." X63 "." X63 "." X16 X16 X16 "xxxxxxxxxxxx"), BYTES("")},
        {BYTES("<ab@" X63 "." X63 "." X63 "." X16 X16 X16 "xxxxxxxxxxxxx>"), 0, E_LIMIT},
        // literals
        {BYTES("<a@[192.0.2.1]>"), 0, OK, BYTES("a@[192.0.2.1]"), BYTES("a"), BYTES("[192.0.2.1]"),
         BYTES("")},
        {BYTES("<a@[IPv6:2001:db8::1]>"), 0, OK, BYTES("a@[IPv6:2001:db8::1]"), BYTES("a"),
         BYTES("[IPv6:2001:db8::1]"), BYTES("")},
        {BYTES("<a@[2001:db8::1]>"), 0, E_SYNTAX},
        {BYTES("<a@[192.0.2.256]>"), 0, E_SYNTAX},
        {BYTES("<a@[192.0.2]>"), 0, E_SYNTAX},
        {BYTES("<a@[192.0.2.1>"), 0, E_SYNTAX},
        {BYTES("<a@[192.0.2.1\0]>"), 0, E_SYNTAX},
        {BYTES("<a@[]>"), 0, E_SYNTAX},
        {BYTES("<a@[foo:bar]>"), 0, E_SYNTAX},
        // brackets
        {BYTES("a@b"), 0, E_SYNTAX},
        {BYTES("<a@b"), 0, E_SYNTAX},
        {BYTES("<a@b "), 0, E_SYNTAX},
        {BYTES("< a@b>"), 0, E_SYNTAX},
        {BYTES("<"), BOTH, E_SYNTAX},
        {BYTES(""), BOTH, E_SYNTAX},
        // UTF-8
        {BYTES("<j\xc3\xb6@b\xc3\xbc"
               "cher.example>"),
         0, OK,
         BYTES("j\xc3\xb6@b\xc3\xbc"
               "cher.example"),
         BYTES("j\xc3\xb6"),
         BYTES("b\xc3\xbc"
               "cher.example"),
         BYTES("")},
        {BYTES("<j\xff@b>"), 0, E_SYNTAX},
        {BYTES("<j\xc2\x85@b>"), 0, E_SYNTAX},     // C1 control
        {BYTES("<j\xe2\x80\xa8@b>"), 0, E_SYNTAX}, // line separator
        {BYTES("<a@b\xe3\x80\x82"
               "c>"),
         0, E_SYNTAX},                            // ideographic full stop is no dot
        {BYTES("<a@\xef\xbd\x82>"), 0, E_SYNTAX}, // full-width b
        {BYTES("<a@xn--\xc3\xbc>"), 0, E_SYNTAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mail_address a;
        size_t used = 0;
        const char *name = rows[i].in.at;
        assert_number(name, mail_path_parse(rows[i].in, rows[i].allowed, &a, &used), rows[i].want);
        if (rows[i].want != OK)
            continue;
        assert_bytes(name, a.text, rows[i].text);
        assert_bytes(name, a.local, rows[i].local);
        assert_bytes(name, a.domain, rows[i].domain);
        assert_bytes(name, bytes_skip(rows[i].in, used), rows[i].rest);
        assert_number(name, a.is_utf8, !bytes_is_ascii(rows[i].text));
        assert_number(name, a.is_literal, bytes_starts(rows[i].domain, BYTES("[")));
        for (size_t k = 0; k < used; k++) // nothing shorter is a path
            assert_true(mail_path_parse(bytes_first(rows[i].in, k), rows[i].allowed, &a,
                                        &(size_t){0}) != OK);
    }
}

static void mailboxes_are_whole(void **state)
{
    struct mail_address a;
    assert_int_equal(mail_address_parse(BYTES("a@b"), &a), OK);
    assert_int_equal(mail_address_parse(BYTES("a@b "), &a), E_SYNTAX);
    assert_int_equal(mail_address_parse(BYTES("a@b>"), &a), E_SYNTAX);
    assert_int_equal(mail_address_parse(BYTES("<a@b>"), &a), E_SYNTAX);
    assert_int_equal(mail_address_parse(BYTES(""), &a), E_SYNTAX);
    assert_int_equal(mail_address_parse(BYTES("postmaster"), &a), E_SYNTAX);
}

static void canonical_forms(void **state)
{
    static const struct {
        struct bytes in, want;
    } rows[] = {
        {BYTES("Joe@EXAMPLE.Com."), BYTES("Joe@example.com")},
        {BYTES("\"joe\"@a"), BYTES("joe@a")},
        {BYTES("\"j\\oe\"@a"), BYTES("joe@a")},
        {BYTES("\"j o\"@a"), BYTES("\"j o\"@a")},
        {BYTES("\"j\\ \\o\"@a"), BYTES("\"j o\"@a")},
        {BYTES("\"a\\\"\\\\\"@a"), BYTES("\"a\\\"\\\\\"@a")},
        {BYTES("\"a.\"@a"), BYTES("\"a.\"@a")},
        {BYTES("\"\"@a"), BYTES("\"\"@a")},
        {BYTES("a@[IPv6:2001:0DB8:0:0::0001]"), BYTES("a@[IPv6:2001:db8::1]")},
        {BYTES("a@B\xc3\x9c"
               "CHER.example"),
         BYTES("a@xn--bcher-kva.example")},
        {BYTES("a@XN--BCHER-KVA.example"), BYTES("a@xn--bcher-kva.example")},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mail_address a, again;
        struct buf b = {0}, b2 = {0};
        assert_int_equal(mail_address_parse(rows[i].in, &a), OK);
        assert_int_equal(mail_address_canonical(&a, &b), OK);
        assert_bytes(rows[i].in.at, buf_bytes(&b), rows[i].want);
        assert_int_equal(mail_address_parse(buf_bytes(&b), &again), OK);
        assert_int_equal(mail_address_canonical(&again, &b2), OK);
        assert_bytes("idempotent", buf_bytes(&b2), buf_bytes(&b));
        buf_done(&b);
        buf_done(&b2);
    }
    struct mail_address a;
    struct buf b = {0};
    size_t used;
    assert_int_equal(mail_path_parse(BYTES("<POSTMASTER>"), BOTH, &a, &used), OK);
    assert_int_equal(mail_address_canonical(&a, &b), OK);
    assert_bytes("postmaster", buf_bytes(&b), BYTES("postmaster"));
    buf_clear(&b);
    assert_int_equal(mail_path_parse(BYTES("<>"), BOTH, &a, &used), OK);
    assert_int_equal(mail_address_canonical(&a, &b), OK);
    assert_int_equal(b.len, 0);
    buf_done(&b);
}

static void routing_domains(void **state)
{
    static const struct {
        struct bytes in;
        int want;
        struct bytes out;
    } rows[] = {
        {BYTES("Example.COM"), OK, BYTES("example.com")},
        {BYTES("example.com."), OK, BYTES("example.com")},
        {BYTES("1.2.3.4"), OK, BYTES("1.2.3.4")},
        {BYTES("fa\xc3\x9f.de"), OK, BYTES("xn--fa-hia.de")}, // not fass.de: IDNA2008
        {BYTES("\xc3\x96sterreich.at"), OK, BYTES("xn--sterreich-z7a.at")},
        {BYTES("\xd0\x9f\xd0\xa0\xd0\x98\xd0\x9c\xd0\x95\xd0\xa0.\xd1\x80\xd1\x84"), OK,
         BYTES("xn--e1afmkfd.xn--p1ai")},
        {BYTES("\xe4\xbe\x8b\xe3\x81\x88.jp"), OK, BYTES("xn--r8jz45g.jp")},
        {BYTES("bu\xcc\x88"
               "cher.de"),
         OK, BYTES("xn--bcher-kva.de")},                           // decomposed: made NFC
        {BYTES("\xf0\x9f\x98\x80.example"), E_SYNTAX, BYTES_NONE}, // emoji: DISALLOWED
        {BYTES("a\xe2\x80\x8d"
               "b.example"),
         E_SYNTAX, BYTES_NONE}, // joiner out of context
        {BYTES("\xcc\x88"
               "a.example"),
         E_SYNTAX, BYTES_NONE}, // leading combining mark
        {BYTES("a\xef\xbc\x8e"
               "b"),
         E_SYNTAX, BYTES_NONE}, // full-width dot
        {BYTES("a\xef\xbc\xa0"
               "b"),
         E_SYNTAX, BYTES_NONE}, // full-width at
        {BYTES("xn--fa-hia.de"), OK, BYTES("xn--fa-hia.de")},
        {BYTES(""), E_SYNTAX, BYTES_NONE},
        {BYTES("."), E_SYNTAX, BYTES_NONE},
        {BYTES("a..b"), E_SYNTAX, BYTES_NONE},
        {BYTES("a.-b"), E_SYNTAX, BYTES_NONE},
        {BYTES("a b"), E_SYNTAX, BYTES_NONE},
        {BYTES("a\0b"), E_SYNTAX, BYTES_NONE},
        {BYTES("a'b"), E_SYNTAX, BYTES_NONE},
        {BYTES(X63), OK, BYTES(X63)},
        {BYTES(X64), E_LIMIT, BYTES_NONE},
        {BYTES(X63 "." X63 "." X63 "." X16 X16 X16 "xxxxxxxxxxxxx"), OK,
         BYTES(X63 "." X63 "." X63 "." X16 X16 X16 "xxxxxxxxxxxxx")}, // 253
        {BYTES(X63 "." X63 "." X63 "." X16 X16 X16 "xxxxxxxxxxxxx."), OK,
         BYTES(X63 "." X63 "." X63 "." X16 X16 X16 "xxxxxxxxxxxxx")},
        {BYTES(X63 "." X63 "." X63 "." X16 X16 X16 "xxxxxxxxxxxxxx"), E_LIMIT, BYTES_NONE},
        {BYTES("[192.0.2.1]"), OK, BYTES("[192.0.2.1]")},
        {BYTES("[ipv6:::FFFF:192.0.2.1]"), OK, BYTES("[IPv6:::ffff:192.0.2.1]")},
        {BYTES("[IPv6:1::2::3]"), E_SYNTAX, BYTES_NONE},
        {BYTES("[IPv6:]"), E_SYNTAX, BYTES_NONE},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        buf_add(&b, BYTES("kept:"));
        assert_number(rows[i].in.at, mail_domain_route(rows[i].in, &b), rows[i].want);
        assert_bytes(rows[i].in.at, bytes_skip(buf_bytes(&b), 5), rows[i].out);
        buf_done(&b);
    }
}

static void domains_for_people(void **state)
{
    static const struct {
        struct bytes in, want;
    } rows[] = {
        {BYTES("xn--bcher-kva.example"), BYTES("b\xc3\xbc"
                                               "cher.example")},
        {BYTES("example.com"), BYTES("example.com")},
        {BYTES("xn--0.example"), BYTES("xn--0.example")}, // no valid A-label
        {BYTES("[192.0.2.1]"), BYTES("[192.0.2.1]")},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        mail_domain_show(rows[i].in, &b);
        assert_bytes(rows[i].in.at, buf_bytes(&b), rows[i].want);
        buf_done(&b);
    }
}

static void zones(void **state)
{
    assert_true(mail_domain_is_within(BYTES("a.example"), BYTES("a.example")));
    assert_true(mail_domain_is_within(BYTES("x.a.example"), BYTES("a.example")));
    assert_false(mail_domain_is_within(BYTES("xa.example"), BYTES("a.example")));
    assert_false(mail_domain_is_within(BYTES("example"), BYTES("a.example")));
    assert_false(mail_domain_is_within(BYTES("a.example"), BYTES("")));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(paths),
    cmocka_unit_test(mailboxes_are_whole),
    cmocka_unit_test(canonical_forms),
    cmocka_unit_test(routing_domains),
    cmocka_unit_test(domains_for_people),
    cmocka_unit_test(zones),
};
RUN_TESTS(tests)
