// SPDX-License-Identifier: MIT
#include "mail/mail_address_list.h"

#include "base/test_base.h"

#define ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))
#define UE "\xc3\xbc"

// One line: "name<address>" per mailbox, "G" before those in a group, " | " between.
static void show(const struct mail_address_list *list, struct buf *out)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct mail_mailbox *m = &list->mailboxes[i];
        if (i)
            buf_add_cstr(out, " | ");
        if (m->in_group)
            buf_add_cstr(out, "G ");
        buf_add(out, m->name);
        buf_printf(out, "<%.*s>", BYTES_FMT(m->address.text));
    }
}

static const struct {
    struct bytes in;
    int want;
    const char *shown;
} rows[] = {
    // RFC 5322 appendix A and the like
    {BYTES(" John Doe <jdoe@machine.example>"), OK, "John Doe<jdoe@machine.example>"},
    {BYTES("jdoe@example.org"), OK, "<jdoe@example.org>"},
    {BYTES("\"Joe Q. Public\" <john.q.public@example.com>"), OK,
     "Joe Q. Public<john.q.public@example.com>"},
    {BYTES("Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>"), OK,
     "Mary Smith<mary@x.test> | <jdoe@example.org> | Who?<one@y.test>"},
    {BYTES("<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>"), OK,
     "<boss@nil.test> | Giant; \"Big\" Box<sysservices@example.net>"},
    {BYTES("A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;"), OK,
     "G Ed Jones<c@a.test> | G <joe@where.test> | G John<jdoe@one.test>"},
    {BYTES("Undisclosed recipients:;"), OK, ""},
    {BYTES("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;"), OK, ""},
    {BYTES("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>"), OK,
     "Pete<pete@silly.test>"},
    {BYTES("A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n"
           "         joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end)"),
     OK, "G Chris Jones<c@public.example> | G <joe@example.org> | G John<jdoe@one.test>"},
    {BYTES("Joe Q. Public <john.q.public@example.com>"), OK,
     "Joe Q. Public<john.q.public@example.com>"},
    {BYTES("\"Joe & J. Harvey\" <ddd @Org>, a . b @ c . d"), OK,
     "Joe & J. Harvey<ddd@Org> | <a.b@c.d>"},
    {BYTES("Mary <@node.test:mary@example.net>"), E_SYNTAX, ""}, // a source route: ambiguous
    {BYTES("a@b, , ,c@d,"), OK, "<a@b> | <c@d>"},
    {BYTES("x: a@b;, y: c@d;, e@f"), OK, "G <a@b> | G <c@d> | <e@f>"},
    {BYTES("\"a b\"@c"), OK, "<\"a b\"@c>"},
    {BYTES("a.\"b\".c@d"), OK, "<a.b.c@d>"},
    {BYTES("a@[192.0.2.1]"), OK, "<a@[192.0.2.1]>"},
    {BYTES(""), OK, ""},
    {BYTES(" \r\n "), OK, ""},
    {BYTES("\"a@b\" <c@d>"), OK, "a@b<c@d>"}, // a quoted name is a name
    {BYTES("c@d (a@b)"), OK, "<c@d>"},
    {BYTES("\"<a@b>, \" <c@d>"), OK, "<a@b>, <c@d>"},
    {BYTES("\"x\r\n y\" <c@d>"), OK, "x y<c@d>"},
    // UTF-8 and encoded names
    {BYTES("J" UE " <j" UE "@b" UE ".example>"), OK, "J" UE "<j" UE "@b" UE ".example>"},
    {BYTES("=?utf-8?q?M=C3=BCller=2C_Hans?= <h@d>"), OK, "M" UE "ller, Hans<h@d>"},
    {BYTES("=?utf-8?q?a?=\r\n =?utf-8?q?b?= c <h@d>"), OK, "ab c<h@d>"},
    {BYTES("=?gb2312?b?yP25+g==?= <h@d>"), OK, "=?gb2312?b?yP25+g==?=<h@d>"},
    {BYTES("=?utf-8?q?Info_=40_Firm?= <h@d>"), OK, "Info @ Firm<h@d>"},
    {BYTES("=?utf-8?q?=40handle?= <h@d>"), OK, "@handle<h@d>"},
    {BYTES("=?utf-8?q?h=40d?= <H@d>"), OK, "h@d<H@d>"}, // its own address
    {BYTES("J\xff <h@d>"), E_SYNTAX, ""},
    {BYTES("\"J\xff\" <h@d>"), E_SYNTAX, ""},
    // what an encoded-word must not do
    {BYTES("=?utf-8?q?ceo=40bank.example?= <h@d>"), E_SYNTAX, ""},
    {BYTES("=?utf-8?q?=3Cceo=40bank.example=3E?= <h@d>"), E_SYNTAX, ""},
    {BYTES("=?utf-8?q?ceo?= =?utf-8?q?=40bank.example?= <h@d>"), E_SYNTAX, ""},
    {BYTES("=?utf-8?b?Y2VvQGJhbmsuZXhhbXBsZQ==?= <h@d>"), E_SYNTAX, ""},
    {BYTES("\"=?utf-8?q?ceo=40bank.example?=\" <h@d>"), E_SYNTAX, ""},
    {BYTES("=?utf-8?q?J.ceo=40bank.example?= <h@d>"), E_SYNTAX, ""},
    {BYTES("=?utf-8?q?x=0D=0AFrom:_a?= <h@d>"), E_SYNTAX, ""},
    {BYTES("=?utf-8?q?x=00?= <h@d>"), E_SYNTAX, ""},
    {BYTES("=?a?b?=?utf-8?q?ceo=40bank.example?= <h@d>"), E_SYNTAX, ""},
    {BYTES("=?utf-8?q?ceo=40bank.example?=: h@d;"), E_SYNTAX, ""},
    {BYTES("=?utf-8?q?ceo=40bank.example=3E?=@d"), E_SYNTAX, ""},
    {BYTES("a@=?utf-8?q?b?="), E_SYNTAX, ""},
    // what is no list
    {BYTES("a"), E_SYNTAX, ""},
    {BYTES("a b"), E_SYNTAX, ""},
    {BYTES("a b@c"), E_SYNTAX, ""},
    {BYTES("a@b c"), E_SYNTAX, ""},
    {BYTES("a@b c@d"), E_SYNTAX, ""},
    {BYTES("a@b@c"), E_SYNTAX, ""},
    {BYTES("a@b <c@d>"), E_SYNTAX, ""},
    {BYTES("a@b, <c@d"), E_SYNTAX, ""},
    {BYTES("<a@b> x"), E_SYNTAX, ""},
    {BYTES("<a@b> <c@d>"), E_SYNTAX, ""},
    {BYTES("<a@b>>"), E_SYNTAX, ""},
    {BYTES("<<a@b>>"), E_SYNTAX, ""},
    {BYTES("<>"), E_SYNTAX, ""},
    {BYTES("<a>"), E_SYNTAX, ""},
    {BYTES("<a@b, c@d>"), E_SYNTAX, ""},
    {BYTES("a@b;"), E_SYNTAX, ""},
    {BYTES("a@b; c@d"), E_SYNTAX, ""},
    {BYTES("g: a@b"), E_SYNTAX, ""},
    {BYTES("g: a@b; c@d"), E_SYNTAX, ""},
    {BYTES("g: h: a@b;;"), E_SYNTAX, ""},
    {BYTES("g: h: a@b;"), E_SYNTAX, ""},
    {BYTES(": a@b;"), E_SYNTAX, ""},
    {BYTES("a..b@c"), E_SYNTAX, ""},
    {BYTES(".a@c"), E_SYNTAX, ""},
    {BYTES("a.@c"), E_SYNTAX, ""},
    {BYTES("a@"), E_SYNTAX, ""},
    {BYTES("a@b."), E_SYNTAX, ""},
    {BYTES("a@b..c"), E_SYNTAX, ""},
    {BYTES("@b"), E_SYNTAX, ""},
    {BYTES("a@\"b\""), E_SYNTAX, ""},
    {BYTES("a@b_c"), E_SYNTAX, ""},
    {BYTES("a@[1.2.3\\.4]"), E_SYNTAX, ""},
    {BYTES("a@[1.2.3.4"), E_SYNTAX, ""},
    {BYTES("\"a <c@d>"), E_SYNTAX, ""},
    {BYTES("(a <c@d>"), E_SYNTAX, ""},
    {BYTES("a) <c@d>"), E_SYNTAX, ""},
    {BYTES("a@b\0"), E_SYNTAX, ""},
    {BYTES("a@b\0c"), E_SYNTAX, ""},
    {BYTES("\"a\0\" <c@d>"), E_SYNTAX, ""},
    {BYTES("(a\0) <c@d>"), E_SYNTAX, ""},
    {BYTES("a@b\r\nc@d"), E_SYNTAX, ""},
    {BYTES("a@b,\nc@d"), E_SYNTAX, ""},
    {BYTES("\"a\n\" <c@d>"), E_SYNTAX, ""},
    {BYTES("a@b\\"), E_SYNTAX, ""},
    {BYTES(". \"x\" <a@b>"), E_SYNTAX, ""},
    {BYTES(".: a@b;"), E_SYNTAX, ""},
    {BYTES("a\xe2\x80\xa8@b"), E_SYNTAX, ""},
};

static void every_address_is_found(void **state)
{
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena = {0};
        struct mail_address_list list;
        struct buf b = {0};
        int err = mail_address_list_parse(rows[i].in, &arena, &list);
        assert_number(rows[i].in.at, err, rows[i].want);
        show(&list, &b);
        assert_bytes(rows[i].in.at, buf_bytes(&b), bytes_cstr(rows[i].shown));
        buf_done(&b);
        arena_done(&arena);
    }
}

static void groups_are_counted(void **state)
{
    struct arena arena = {0};
    struct mail_address_list list;
    assert_int_equal(mail_address_list_parse(BYTES("undisclosed-recipients:;"), &arena, &list), OK);
    assert_int_equal(list.groups, 1);
    assert_int_equal(list.count, 0);
    assert_int_equal(mail_address_list_parse(BYTES("a:;,b:c@d;"), &arena, &list), OK);
    assert_int_equal(list.groups, 2);
    arena_done(&arena);
}

static void repeat(struct buf *b, const char *text, size_t times)
{
    while (times--)
        buf_add_cstr(b, text);
}

static void limits_hold(void **state)
{
    struct arena arena = {0};
    struct mail_address_list list;
    struct buf b = {0};
    repeat(&b, "a@b,", MAIL_LIST_MAX);
    assert_int_equal(mail_address_list_parse(buf_bytes(&b), &arena, &list), OK);
    assert_int_equal(list.count, MAIL_LIST_MAX);
    repeat(&b, "a@b,", 1);
    assert_int_equal(mail_address_list_parse(buf_bytes(&b), &arena, &list), E_LIMIT);
    assert_int_equal(list.count, 0);
    for (size_t depth = MAIL_COMMENT_DEPTH_MAX; depth <= MAIL_COMMENT_DEPTH_MAX + 1; depth++) {
        buf_clear(&b);
        repeat(&b, "(", depth);
        repeat(&b, ")", depth);
        repeat(&b, "a@b", 1);
        assert_int_equal(mail_address_list_parse(buf_bytes(&b), &arena, &list),
                         depth == MAIL_COMMENT_DEPTH_MAX ? OK : E_LIMIT);
    }
    buf_clear(&b);
    repeat(&b, "a", MAIL_LOCAL_MAX + 1);
    repeat(&b, "@b", 1);
    assert_int_equal(mail_address_list_parse(buf_bytes(&b), &arena, &list), E_LIMIT);
    buf_clear(&b);
    repeat(&b, "=?utf-8?q?", 1);
    repeat(&b, "a", 2000);
    repeat(&b, "?= <a@b>", 1);
    assert_int_equal(mail_address_list_parse(buf_bytes(&b), &arena, &list), E_SYNTAX);
    buf_done(&b);
    arena_done(&arena);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_address_is_found),
    cmocka_unit_test(groups_are_counted),
    cmocka_unit_test(limits_hold),
};
RUN_TESTS(tests)
