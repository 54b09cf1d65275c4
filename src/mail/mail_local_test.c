// SPDX-License-Identifier: MIT
#include "mail/mail_local.h"

#include "base/check.h"
#include "base/test_base.h"

#define HOST BYTES("mail.example")

static const struct {
    struct bytes in, want;
} completions[] = {
    {BYTES("root"), BYTES("root@mail.example")},
    {BYTES(" root (Cron Daemon)"), BYTES(" root@mail.example (Cron Daemon)")},
    {BYTES("(Cron) root"), BYTES("(Cron) root@mail.example")},
    {BYTES("a@b"), BYTES("a@b")},
    {BYTES("a @ b"), BYTES("a @ b")},
    {BYTES("root, a@b,www-data"), BYTES("root@mail.example, a@b,www-data@mail.example")},
    {BYTES("Cron Daemon <root>"), BYTES("Cron Daemon <root@mail.example>")},
    {BYTES("root <root>"), BYTES("root <root@mail.example>")},
    {BYTES("< root (x) >"), BYTES("< root@mail.example (x) >")},
    {BYTES("\"a, b\" <c>, d"), BYTES("\"a, b\" <c@mail.example>, d@mail.example")},
    {BYTES("\"a b\""), BYTES("\"a b\"@mail.example")},
    {BYTES("\"a@b\" <c@d>"), BYTES("\"a@b\" <c@d>")},
    {BYTES("\"a@b\""), BYTES("\"a@b\"@mail.example")},
    {BYTES("first.last"), BYTES("first.last@mail.example")},
    {BYTES("first . last"), BYTES("first . last@mail.example")},
    {BYTES("John Doe"), BYTES("John Doe")}, // no address, and none is made
    {BYTES("staff: a, b;, c"), BYTES("staff: a@mail.example, b@mail.example;, c@mail.example")},
    {BYTES("undisclosed-recipients:;"), BYTES("undisclosed-recipients:;")},
    {BYTES("root\r\n , a"), BYTES("root@mail.example\r\n , a@mail.example")},
    {BYTES("<>"), BYTES("<>")},
    {BYTES("(a"), BYTES("(a")},
    {BYTES("\"a"), BYTES("\"a@mail.example")},
    {BYTES("a (b \\) c) (d)"), BYTES("a@mail.example (b \\) c) (d)")},
    {BYTES("a@[192.0.2.1]"), BYTES("a@[192.0.2.1]")},
    {BYTES(""), BYTES("")},
    {BYTES(",,"), BYTES(",,")},
};

static void addresses_are_completed(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(completions); i++) {
        struct buf out = {0};
        mail_local_complete(completions[i].in, HOST, &out);
        assert_bytes(completions[i].in.at, buf_bytes(&out), completions[i].want);
        buf_done(&out);
    }
}

#define FROM "From: a@b.example\r\n"

static const struct {
    const char *name;
    bool envelope, take;
    struct bytes in;
    int err;
    const char *recipients, *sender; // "-": none
    struct bytes out;
} rows[] = {
    {"cron", false, false, BYTES("From: root (Cron Daemon)\r\nTo: root\r\nSubject: x\r\n"), OK, "",
     "-",
     BYTES("From: root@mail.example (Cron Daemon)\r\nTo: root@mail.example\r\nSubject: "
           "x\r\n\r\n")},
    {"from is added", false, false, BYTES("Subject: x\r\n"), OK, "", "-",
     BYTES("Subject: x\r\nFrom: Me <me@mail.example>\r\n\r\n")},
    {"-t", false, true,
     BYTES(FROM "To: x, Y <y@z.example>\r\nCc: c@d.example\r\nBcc: e@f.example,\r\n g\r\n"), OK,
     "<x@mail.example> <y@z.example> <c@d.example> <e@f.example> <g@mail.example>", "-",
     BYTES(FROM "To: x@mail.example, Y <y@z.example>\r\nCc: c@d.example\r\n\r\n")},
    {"without -t nobody is taken", false, false, BYTES(FROM "To: x@y.example\r\nBcc: z@y\r\n"), OK,
     "", "-", BYTES(FROM "To: x@y.example\r\n\r\n")},
    {"resent", false, true,
     BYTES(FROM "To: x@y.example\r\nResent-To: r@y.example\r\nResent-Bcc: s@y.example\r\n"), OK,
     "<r@y.example> <s@y.example>", "-",
     BYTES(FROM "To: x@y.example\r\nResent-To: r@y.example\r\n\r\n")},
    {"dropped fields", false, false,
     BYTES(FROM "Return-Path: <x@y>\r\nContent-Length: 5\r\nX-A: b\r\n"), OK, "", "-",
     BYTES(FROM "X-A: b\r\n\r\n")},
    {"an empty Cc says nothing", false, true, BYTES(FROM "To: x@y.example\r\nCc: \r\n"), OK,
     "<x@y.example>", "-", BYTES(FROM "To: x@y.example\r\n\r\n")},
    {"8 bits in a subject", false, false,
     BYTES(FROM "Subject: Gr\xc3\xbc\xc3\x9f"
                "e\r\n"),
     OK, "", "-", BYTES(FROM "Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n\r\n")},
    {"ISO 8859-1 in a subject", false, false,
     BYTES(FROM "Subject: Gr\xfc\xdf"
                "e\r\n"),
     OK, "", "-", BYTES(FROM "Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n\r\n")},
    {"no list", false, true, BYTES(FROM "To: John Doe\r\n"), E_SYNTAX, NULL, NULL, BYTES("")},
    {"no list, not asked for", false, false, BYTES(FROM "To: John Doe\r\n"), OK, "", "-",
     BYTES(FROM "To: John Doe\r\n\r\n")},
    // the pickup's envelope
    {"envelope", true, false,
     BYTES("X-Sender: <s@t.example> RET=HDRS\r\nx-receiver: a@b.example\r\nX-Receiver: <root> "
           "NOTIFY=NEVER\r\n" FROM "To: z@y\r\nX-Receiver: late@b\r\n"),
     OK, "<a@b.example> <root@mail.example> NOTIFY=NEVER", "<s@t.example> RET=HDRS",
     BYTES(FROM "To: z@y\r\nX-Receiver: late@b\r\n\r\n")},
    {"an end of the envelope", true, false,
     BYTES("X-Sender: s@t.example\r\nX-Receiver: a@b.example\r\nX-Dropped: now\r\nX-Sender: "
           "mine\r\nX-Receiver: mine\r\n" FROM),
     OK, "<a@b.example>", "<s@t.example>",
     BYTES("X-Sender: mine\r\nX-Receiver: mine\r\n" FROM "\r\n")},
    {"a second sender is the message's", true, false,
     BYTES("X-Sender: s@t.example\r\nX-Sender: u@t.example\r\nX-Receiver: a@b.example\r\n" FROM),
     OK, "", "<s@t.example>",
     BYTES("X-Sender: u@t.example\r\nX-Receiver: a@b.example\r\n" FROM "\r\n")},
    {"the null sender", true, false, BYTES("X-Sender: <>\r\nX-Receiver: a@b.example\r\n" FROM), OK,
     "<a@b.example>", "<>", BYTES(FROM "\r\n")},
    {"recipients of the header", true, false,
     BYTES("X-Sender: s@t.example\r\n" FROM "To: a@b.example\r\nBcc: c@d.example\r\n"), OK,
     "<a@b.example> <c@d.example>", "<s@t.example>", BYTES(FROM "To: a@b.example\r\n\r\n")},
    {"all of the header", true, false, BYTES(FROM "To: a@b.example\r\n"), OK, "<a@b.example>", "-",
     BYTES(FROM "To: a@b.example\r\n\r\n")},
    {"a control in the envelope", true, false, BYTES("X-Sender: <a\x01@b>\r\n" FROM), E_SYNTAX,
     NULL, NULL, BYTES("")},
    {"in another place it is no envelope", true, false,
     BYTES(FROM "X-Receiver: a@b.example\r\nTo: c@d.example\r\n"), OK, "<c@d.example>", "-",
     BYTES(FROM "X-Receiver: a@b.example\r\nTo: c@d.example\r\n\r\n")},
};

static void envelope_and_header_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena arena = {0};
        struct buf found = {0};
        struct mail_local m = {.header = rows[i].in,
                               .domain = HOST,
                               .from = rows[i].envelope ? BYTES_NONE : BYTES("me@mail.example"),
                               .from_name = BYTES("Me"),
                               .has_envelope = rows[i].envelope,
                               .take_recipients = rows[i].take};
        int err = mail_local_read(&m, &arena);
        assert_number(rows[i].name, err, rows[i].err);
        assert_number(rows[i].name, m.why.len > 0, err != OK);
        for (size_t n = 0; n < m.count; n++)
            buf_add_all(&found, n ? BYTES(" ") : BYTES(""), m.recipients[n]);
        if (!err) {
            assert_bytes(rows[i].name, buf_bytes(&found), bytes_cstr(rows[i].recipients));
            assert_bytes(rows[i].name, m.has_sender ? m.sender : BYTES("-"),
                         bytes_cstr(rows[i].sender));
            assert_bytes(rows[i].name, buf_bytes(&m.out), rows[i].out);
        }
        buf_done(&found);
        buf_done(&m.out);
        arena_done(&arena);
    }
}

static void a_name_is_quoted_where_it_must_be(void **state)
{
    (void)state;
    static const struct {
        struct bytes name;
        const char *want;
    } names[] = {
        {BYTES("Joe User"), "From: Joe User <j@m>\r\n\r\n"},
        {BYTES(""), "From: <j@m>\r\n\r\n"},
        {BYTES("Joe \"J\" Q. User"), "From: \"Joe \\\"J\\\" Q. User\" <j@m>\r\n\r\n"},
        {BYTES("J\xc3\xb6"), "From: =?utf-8?B?SsO2?= <j@m>\r\n\r\n"},
        {BYTES("x\r\nBcc: y"), NULL},
    };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct arena arena = {0};
        struct mail_local m = {.from = BYTES("j@m"), .from_name = names[i].name};
        assert_int_equal(mail_local_read(&m, &arena), OK);
        if (names[i].want)
            assert_bytes("name", buf_bytes(&m.out), bytes_cstr(names[i].want));
        else // no field of its own comes out of a name
            assert_int_equal(bytes_search(buf_bytes(&m.out), BYTES("\nBcc")), -1);
        buf_done(&m.out);
        arena_done(&arena);
    }
}

static void one_address_is_one(void **state)
{
    (void)state;
    static const struct {
        const char *in, *want; // NULL: none
    } cases[] = {{"root", "root@mail.example"},
                 {"a@b.example", "a@b.example"},
                 {"Joe <j@b.example>", "j@b.example"},
                 {"<>", ""},
                 {"", ""},
                 {"a@b, c@d", NULL},
                 {"a b", NULL}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct arena arena = {0};
        struct mail_local m = {.domain = HOST};
        struct bytes found;
        int err = mail_local_one_address(&m, bytes_cstr(cases[i].in), &arena, &found);
        assert_number(cases[i].in, err == OK, cases[i].want != NULL);
        if (!err)
            assert_bytes(cases[i].in, found, bytes_cstr(cases[i].want));
        arena_done(&arena);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(addresses_are_completed),
    cmocka_unit_test(envelope_and_header_are_read),
    cmocka_unit_test(a_name_is_quoted_where_it_must_be),
    cmocka_unit_test(one_address_is_one),
};
RUN_TESTS(tests)
