// SPDX-License-Identifier: MIT
#include "base/test_base.h"

#include "base/check.h"
#include "bounce/returned.h"

static struct recipient recipients[] = {
    {.number = 1, .address = {"one@example.org", 15}, .domain = {"example.org", 11}},
    {.number = 2, .address = {"Two@example.org", 15}, .domain = {"example.org", 11}},
    {.number = 3, .address = {"three@example.org", 17}, .domain = {"example.org", 11}},
    {.number = 4, .address = {"four@other.example", 18}, .domain = {"other.example", 13}},
};
#define SEVERAL 1000000u // and the lowest of them, for check()
static const struct envelope THREE = {
    .account = 7, .tag = {"news", 4}, .recipients = recipients, .recipients_count = 3};
static const struct envelope FOUR = {.recipients = recipients, .recipients_count = 4};
static const struct envelope ONE = {.recipients = recipients, .recipients_count = 1};

static struct bounce_record failed(const char *address)
{
    return (struct bounce_record){.recipient = bytes_cstr(address),
                                  .action = DSN_FAILED,
                                  .status = BYTES("5.1.1"),
                                  .reply_code = 550,
                                  .class = {BOUNCE_USER_UNKNOWN, true},
                                  .diagnostic = BYTES("no such user")};
}
static struct bounce_record delayed(const char *address)
{
    return (struct bounce_record){
        .recipient = bytes_cstr(address), .action = DSN_DELAYED, .class = {BOUNCE_MAILBOX_FULL}};
}

static void check(const char *name, const struct envelope *e, uint32_t number,
                  const struct bounce_mail *mail, const char *want)
{
    struct arena arena = {0};
    struct spool_feedback *f;
    struct return_token token = {RETURN_BOUNCE, {1, 2}, number % SEVERAL, number >= SEVERAL};
    struct returned r = {.token = token, .mail = mail, .envelope = e};
    struct buf got = {0};
    size_t count = returned_feedback(&r, &arena, &f);
    for (size_t i = 0; i < count; i++)
        buf_printf(&got, "%s%u %.*s %s%s", i ? ", " : "", f[i].recipient, BYTES_FMT(f[i].address),
                   feedback_kind_name(f[i].kind), f[i].class.hard ? " hard" : "");
    assert_bytes(name, buf_bytes(&got), bytes_cstr(want));
    buf_done(&got);
    arena_done(&arena);
}

static void test_who_is_meant(void **state)
{
    (void)state;
    struct bounce_record rows[] = {delayed("three@example.org"), failed("two@EXAMPLE.org"),
                                   failed("other@example.org"), failed("two@example.org")};
    struct bounce_mail mail = {.kind = BOUNCE_KIND_BOUNCE, .records = rows, .count = 4};
    check("its own record", &THREE, 2, &mail, "2 Two@example.org bounce hard");
    check("a delay beside a failure", &THREE, 3, &mail, "3 three@example.org delay");
    check("forwarded: another is named", &THREE, 1, &mail, "1 one@example.org bounce hard");
    check("message forgotten", NULL, 1, &mail, "1  bounce hard");
    check("number beyond the message", &ONE, 9, &mail, "9  bounce hard");
    check("of several, each once", &THREE, 0, &mail,
          "3 three@example.org delay, 2 Two@example.org bounce hard");
    check("of several, forgotten", NULL, 0, &mail, "");
    check("the only one", &ONE, 0, &mail, "1 one@example.org bounce hard");
    mail.count = 0;
    check("no record", &THREE, 2, &mail, "2 Two@example.org bounce");
    check("of several, no record", &THREE, 0, &mail, "");
    check("the only one, no record", &ONE, 0, &mail, "1 one@example.org bounce");
}

// Whoever was sent a transaction may speak of its domain's recipients only.
static void test_several(void **state)
{
    (void)state;
    struct bounce_record rows[] = {failed("three@example.org"), failed("four@other.example")};
    struct bounce_mail mail = {.kind = BOUNCE_KIND_BOUNCE, .records = rows, .count = 2};
    check("of one domain", &FOUR, SEVERAL + 1, &mail, "3 three@example.org bounce hard");
    check("of the other", &FOUR, SEVERAL + 4, &mail, "4 four@other.example bounce hard");
    check("made before", &FOUR, 0, &mail,
          "3 three@example.org bounce hard, 4 four@other.example bounce hard");
    check("beyond the message", &FOUR, SEVERAL + 9, &mail, "");
    check("forgotten", NULL, SEVERAL + 1, &mail, "");
    struct recipient known[] = {{.number = 1}, recipients[1], recipients[2], {.number = 4}};
    struct envelope some = {.recipients = known, .recipients_count = 4};
    check("some forgotten", &some, SEVERAL + 2, &mail, "3 three@example.org bounce hard");
    check("the lowest forgotten", &some, SEVERAL + 1, &mail, "");
    rows[0] = delayed("three@example.org");
    check("he is forgotten", &some, 4, &mail, "4  bounce hard");
    mail.count = 0;
    check("nobody named", &FOUR, SEVERAL + 1, &mail, "");
}

static struct bounce_record moved_on(const char *final, const char *original)
{
    struct bounce_record row = failed(original);
    row.final = bytes_cstr(final);
    return row;
}

// What the sender called a recipient (ORCPT) need not be the address that the mail went to.
static void test_names(void **state)
{
    (void)state;
    struct recipient rows[] = {
        {.number = 1, .address = BYTES("a@x.example"), .orcpt = BYTES("rfc822;anna+2Bn@y.example")},
        {.number = 2, .address = BYTES("b@x.example"), .orcpt = BYTES("rfc822;all@y.example")},
        {.number = 3, .address = BYTES("c@x.example"), .orcpt = BYTES("RFC822;all@y.example")},
        {.number = 4, .address = BYTES("d@x.example"), .orcpt = BYTES("utf-8;d\\x{F6}@y.example")},
    };
    struct envelope e = {.recipients = rows, .recipients_count = 4};
    static const struct {
        const char *final, *original, *want;
    } CASES[] = {
        {"b@x.example", "all@y.example", "2 b@x.example bounce hard"},
        {"C@X.example", "a@x.example", "3 c@x.example bounce hard"},
        {"forwarded@z.example", "a@x.example", "1 a@x.example bounce hard"},
        {"forwarded@z.example", "Anna+n@y.example", "1 a@x.example bounce hard"},
        {"", "d\303\266@y.example", "4 d@x.example bounce hard"},
        {"forwarded@z.example", "all@y.example", ""},
        {"anna+n@y.example", "z@z.example", ""},
        {"", "", ""},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct bounce_record row = moved_on(CASES[i].final, CASES[i].original);
        struct bounce_mail mail = {.kind = BOUNCE_KIND_BOUNCE, .records = &row, .count = 1};
        check(CASES[i].original, &e, SEVERAL + 1, &mail, CASES[i].want);
    }
    struct bounce_record two[] = {failed("other@x.example"),
                                  moved_on("b@x.example", "q@x.example")};
    two[0].class = (struct bounce_class){BOUNCE_SPAM, false};
    struct bounce_mail mail = {.kind = BOUNCE_KIND_BOUNCE, .records = two, .count = 2};
    check("of one, its own record", &e, 2, &mail, "2 b@x.example bounce hard");
}

// A whole notification: both its addresses count.
static void test_notification(void **state)
{
    (void)state;
    static const char TEXT[] = "From: MAILER-DAEMON@mx.example\r\nContent-Type: multipart/report;"
                               " report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nno\r\n"
                               "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
                               "Reporting-MTA: dns; mx.example\r\n\r\n"
                               "Original-Recipient: rfc822; alias@shop.example\r\n"
                               "Final-Recipient: rfc822; two@example.org\r\n"
                               "Action: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n";
    struct bounce_rules *rules = bounce_rules_default();
    struct arena arena = {0};
    struct bounce_mail mail;
    bounce_classify_mail(rules, bytes_cstr(TEXT), &arena, &mail);
    check("notification", &THREE, SEVERAL + 1, &mail, "2 Two@example.org bounce hard");
    arena_done(&arena);
    bounce_rules_free(rules);
}

static void test_kinds(void **state)
{
    (void)state;
    struct bounce_record row = failed("one@example.org");
    static const struct {
        enum bounce_kind kind;
        const char *type, *want;
    } ROWS[] = {
        {BOUNCE_KIND_BOUNCE, "", "1 one@example.org bounce hard"},
        {BOUNCE_KIND_COMPLAINT, "abuse", "1 one@example.org complaint"},
        {BOUNCE_KIND_COMPLAINT, "not-spam", "1 one@example.org other"},
        {BOUNCE_KIND_AUTO_REPLY, "", "1 one@example.org auto-reply"},
        {BOUNCE_KIND_OTHER, "", "1 one@example.org other"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct bounce_mail mail = {.kind = ROWS[i].kind,
                                   .records = &row,
                                   .count = 1,
                                   .feedback_type = bytes_cstr(ROWS[i].type)};
        check(ROWS[i].want, &THREE, 1, &mail, ROWS[i].want);
    }
    row.action = DSN_RELAYED;
    struct bounce_mail mail = {.kind = BOUNCE_KIND_SUCCESS, .records = &row, .count = 1};
    check("relayed", &THREE, 1, &mail, "1 one@example.org success");
}

static void test_many_records(void **state)
{
    (void)state;
    static struct recipient many[300];
    static struct bounce_record rows[300];
    static char names[300][16];
    struct envelope e = {.recipients = many, .recipients_count = 300};
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(names[i], sizeof names[i], "u%u@x", i);
        many[i] = (struct recipient){.number = i + 1, .address = bytes_cstr(names[i])};
        rows[i] = failed(names[i]);
    }
    struct bounce_mail mail = {.kind = BOUNCE_KIND_BOUNCE, .records = rows, .count = 300};
    struct arena arena = {0};
    struct spool_feedback *f;
    struct returned r = {.token = {RETURN_BOUNCE, {1, 2}, 0, false}, .mail = &mail, .envelope = &e};
    assert_number("count", returned_feedback(&r, &arena, &f), RETURNED_RECORDS_MAX);
    arena_done(&arena);
}

static const struct CMUnitTest TESTS[] = {
    cmocka_unit_test(test_who_is_meant), cmocka_unit_test(test_several),
    cmocka_unit_test(test_names),        cmocka_unit_test(test_notification),
    cmocka_unit_test(test_kinds),        cmocka_unit_test(test_many_records),
};
RUN_TESTS(TESTS)
