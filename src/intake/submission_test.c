// SPDX-License-Identifier: MIT
#include "intake/submission.h"

#include "base/check.h"
#include "base/test_base.h"

// The account owns own.example; pending.example is not verified yet.
static enum submission_ownership owns(void *ctx, struct bytes domain)
{
    (void)ctx;
    if (bytes_eq(domain, BYTES("own.example")) || bytes_eq(domain, BYTES("xn--bcher-kva.example")))
        return SUBMISSION_OWNED;
    return bytes_eq(domain, BYTES("pending.example")) ? SUBMISSION_UNVERIFIED
                                                      : SUBMISSION_NOT_OWNED;
}

static void make(struct submission *s, enum conf_submission mode, const char *header)
{
    *s = (struct submission){
        .mode = mode,
        .header = bytes_cstr(header),
        .smtputf8 = true,
        .authenticated = true,
        .received_max = 3,
        .header_bytes_max = 100000,
        .now = {1795327200000000}, // 2026-11-22T06:00:00Z
        .hostname = BYTES("mx.own.example"),
        .id = message_id_make((struct wall){1795327200000000}, 1, 2, 3),
        .helo = BYTES("client.example"),
        .client_ip = BYTES("192.0.2.7"),
        .protocol = BYTES("ESMTPSA"),
        .owns = owns,
    };
}

#define DATED                                                                                      \
    "Date: Sun, 22 Nov 2026 06:00:00 +0000\r\nMessage-ID: <a@own.example>\r\nTo: b@c.example\r\n"

struct refusal_case {
    const char *name, *header;
    enum conf_submission mode;
    enum smtp_reply_id want;
    const char *slot; // NULL: whatever
};

static const struct refusal_case REFUSALS[] = {
    {"fine", "From: a@own.example\r\n" DATED, CONF_SUBMISSION_FIX, SMTP_REPLY_NONE, NULL},
    {"no From", DATED, CONF_SUBMISSION_FIX, SMTP_REPLY_NO_FROM, NULL},
    {"empty From", "From: \r\n" DATED, CONF_SUBMISSION_FIX, SMTP_REPLY_NO_FROM, NULL},
    {"From with an empty group", "From: nobody:;\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_NO_FROM, NULL},
    {"two From fields", "From: a@own.example\r\nFrom: a@own.example\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_SEVERAL_FROM, NULL},
    {"two From fields, second foreign, mode off",
     "From: a@own.example\r\nfrom: x@bank.example\r\n" DATED, CONF_SUBMISSION_OFF,
     SMTP_REPLY_FROM_NOT_OWNED, "bank.example"},
    {"two authors without Sender", "From: a@own.example, b@own.example\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_SENDER_MISSING, NULL},
    {"two authors with Sender",
     "From: a@own.example, b@own.example\r\nSender: a@own.example\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_NONE, NULL},
    {"foreign From", "From: ceo@bank.example\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_FROM_NOT_OWNED, "bank.example"},
    {"subdomain of an own domain", "From: a@sub.own.example\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_FROM_NOT_OWNED, "sub.own.example"},
    {"unverified", "From: a@pending.example\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_FROM_UNVERIFIED, "pending.example"},
    {"foreign second author",
     "From: a@own.example, x@bank.example\r\nSender: a@own.example\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_FROM_NOT_OWNED, "bank.example"},
    {"foreign in a group",
     "From: staff: a@own.example, x@bank.example;\r\nSender: a@own.example\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_FROM_NOT_OWNED, "bank.example"},
    {"foreign Sender", "From: a@own.example\r\nSender: x@bank.example\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_FROM_NOT_OWNED, "bank.example"},
    {"own in a comment, foreign as address", "From: (a@own.example) x@bank.example\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_FROM_NOT_OWNED, "bank.example"},
    {"own as display name", "From: \"a@own.example\" <x@bank.example>\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_FROM_NOT_OWNED, "bank.example"},
    {"folded", "From: a\r\n <x@bank.example>\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_FROM_NOT_OWNED, "bank.example"},
    {"upper case is the same domain", "From: a@OWN.Example\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_NONE, NULL},
    {"U-label is the same domain",
     "From: a@b\xc3\xbc"
     "cher.example\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_NONE, NULL},
    {"address literal", "From: a@[192.0.2.1]\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_FROM_NOT_OWNED, NULL},
    {"broken From", "From: <a@own.example\r\n" DATED, CONF_SUBMISSION_FIX, SMTP_REPLY_BAD_ADDRESS,
     "From"},
    {"broken From is refused in mode off, too", "From: <a@own.example\r\n" DATED,
     CONF_SUBMISSION_OFF, SMTP_REPLY_BAD_ADDRESS, "From"},
    {"broken To", "From: a@own.example\r\nCc: b@@c\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_BAD_ADDRESS, "Cc"},
    {"subject twice", "From: a@own.example\r\nSubject: a\r\nSubject: b\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_FIELD_TWICE, "Subject"},
    {"mbox line", "From x@bank.example Sun Nov 22 07:00:00 2026\r\n" DATED, CONF_SUBMISSION_OFF,
     SMTP_REPLY_BAD_HEADER, "From x@bank.example Sun Nov 22 07:00:00 2026"},
    {"folded first line", " From: a@own.example\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_BAD_HEADER, " From: a@own.example"},
    {"no field", "From: a@own.example\r\nhello\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_BAD_HEADER, "hello"},
    {"too many hops",
     "Received: a\r\nReceived: b\r\nReceived: c\r\nReceived: d\r\nFrom: a@own.example\r\n" DATED,
     CONF_SUBMISSION_OFF, SMTP_REPLY_TOO_MANY_HOPS, "3"},
    {"no Date, fix", "From: a@own.example\r\n", CONF_SUBMISSION_FIX, SMTP_REPLY_NONE, NULL},
    {"no Date, strict", "From: a@own.example\r\n", CONF_SUBMISSION_STRICT, SMTP_REPLY_NO_DATE,
     NULL},
    {"no Message-ID, strict", "From: a@own.example\r\nDate: x\r\n", CONF_SUBMISSION_STRICT,
     SMTP_REPLY_NO_MESSAGE_ID, NULL},
    {"no destination, strict", "From: a@own.example\r\nDate: x\r\nMessage-ID: <a@b>\r\n",
     CONF_SUBMISSION_STRICT, SMTP_REPLY_NO_DESTINATION, NULL},
    {"nothing at all, off", "", CONF_SUBMISSION_OFF, SMTP_REPLY_NONE, NULL},
    {"class", "From: a@own.example\r\nX-Posthaste-Class: bulk\r\n" DATED, CONF_SUBMISSION_FIX,
     SMTP_REPLY_NONE, NULL},
    {"unknown class", "From: a@own.example\r\nX-Posthaste-Class: fast\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_BAD_CLASS, "fast"},
    {"send-at that is no time", "From: a@own.example\r\nX-Posthaste-Send-At: tomorrow\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_BAD_SEND_AT, "tomorrow"},
    {"send-at too far",
     "From: a@own.example\r\nX-Posthaste-Send-At: 2036-01-01T00:00:00Z\r\n" DATED,
     CONF_SUBMISSION_FIX, SMTP_REPLY_BAD_SEND_AT, NULL},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(REFUSALS); i++) {
        const struct refusal_case *c = &REFUSALS[i];
        struct arena arena = {0};
        struct submission s;
        make(&s, c->mode, c->header);
        bool accepted = submission_check(&s, &arena);
        if (s.refusal != c->want || accepted != (c->want == SMTP_REPLY_NONE))
            fail_msg("%s: got %s", c->name,
                     s.refusal == SMTP_REPLY_NONE ? "accepted" : smtp_reply_row(s.refusal)->name);
        if (c->slot && !bytes_eq(s.slot, bytes_cstr(c->slot)))
            fail_msg("%s: slot %.*s", c->name, BYTES_FMT(s.slot));
        buf_done(&s.out);
        arena_done(&arena);
    }
}

static void test_utf8_header_needs_smtputf8(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct submission s;
    make(&s, CONF_SUBMISSION_FIX, "From: a@own.example\r\nSubject: gr\xc3\xbc\xc3\x9f\r\n" DATED);
    s.smtputf8 = false;
    assert_false(submission_check(&s, &arena));
    assert_int_equal(s.refusal, SMTP_REPLY_HEADER_UTF8);
    buf_done(&s.out);
    arena_done(&arena);
}

struct header_case {
    const char *name, *header;
    enum conf_submission mode;
    bool authenticated;
    const char *want; // behind Received
};

static const struct header_case HEADERS[] = {
    {"complete: only Received is added", "From: a@own.example\r\n" DATED, CONF_SUBMISSION_FIX, true,
     "From: a@own.example\r\n" DATED "\r\n"},
    {"fix adds what is missing", "From: a@own.example\r\nSubject: x\r\n", CONF_SUBMISSION_FIX, true,
     "From: a@own.example\r\nSubject: x\r\nDate: Sun, 22 Nov 2026 06:00:00 +0000\r\nMessage-ID: "
     "<ID@mx.own.example>\r\n"
     "To: undisclosed-recipients:;\r\n\r\n"},
    {"only Bcc left",
     "From: a@own.example\r\nBcc: secret@x.example\r\nDate: x\r\nMessage-ID: <m@x>\r\n",
     CONF_SUBMISSION_FIX, true,
     "From: a@own.example\r\nDate: x\r\nMessage-ID: <m@x>\r\nTo: undisclosed-recipients:;\r\n\r\n"},
    {"Bcc goes, folded and in any case",
     "From: a@own.example\r\nbCC: a@x.example,\r\n b@x.example\r\n" DATED, CONF_SUBMISSION_STRICT,
     true, "From: a@own.example\r\n" DATED "\r\n"},
    {"off leaves Bcc", "From: a@own.example\r\nBcc: b@x.example\r\n", CONF_SUBMISSION_OFF, true,
     "From: a@own.example\r\nBcc: b@x.example\r\n\r\n"},
    {"instructions go",
     "X-Posthaste-Tag: t\r\nFrom: a@own.example\r\nx-posthaste-class: bulk\r\n" DATED,
     CONF_SUBMISSION_FIX, true, "From: a@own.example\r\n" DATED "\r\n"},
    {"nobody's instructions stay", "X-Posthaste-Tag: t\r\nFrom: a@own.example\r\n" DATED,
     CONF_SUBMISSION_FIX, false, "X-Posthaste-Tag: t\r\nFrom: a@own.example\r\n" DATED "\r\n"},
    {"odd spacing and folding are kept", "From : a@own.example\r\nSubject:\ta\r\n\t b  \r\n" DATED,
     CONF_SUBMISSION_FIX, true, "From : a@own.example\r\nSubject:\ta\r\n\t b  \r\n" DATED "\r\n"},
};

static void test_n_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(HEADERS); i++) {
        const struct header_case *c = &HEADERS[i];
        struct arena arena = {0};
        struct submission s;
        make(&s, c->mode, c->header);
        s.authenticated = c->authenticated;
        if (!submission_check(&s, &arena))
            fail_msg("%s: refused: %s", c->name, smtp_reply_row(s.refusal)->name);
        char id[MESSAGE_ID_CHARS + 1];
        message_id_format(s.id, id);
        struct buf want = {0};
        buf_printf(&want,
                   "Received: from client.example ([192.0.2.7])\r\n\tby mx.own.example (posthaste) "
                   "with ESMTPSA id %s;"
                   "\r\n\tSun, 22 Nov 2026 06:00:00 +0000\r\n",
                   id);
        for (const char *at = c->want; *at; at++) {
            if (strncmp(at, "<ID@", 4) == 0) {
                buf_printf(&want, "<%s", id);
                at += 2;
                continue;
            }
            buf_add_byte(&want, *at);
        }
        if (!bytes_eq(buf_bytes(&s.out), buf_bytes(&want)))
            fail_msg("%s: got\n%.*s", c->name, BYTES_FMT(buf_bytes(&s.out)));
        buf_done(&want);
        buf_done(&s.out);
        arena_done(&arena);
    }
}

static void test_instructions_are_read(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct submission s;
    make(&s, CONF_SUBMISSION_FIX,
         "From: a@own.example\r\nX-Posthaste-Class: Bulk\r\nX-Posthaste-Tag: autumn sale\r\n"
         "X-Posthaste-Send-At: 2026-11-23T08:00:00+01:00\r\n" DATED);
    assert_true(submission_check(&s, &arena));
    assert_true(s.has_class);
    assert_int_equal(s.class, MAIL_BULK);
    assert_true(bytes_eq(s.tag, BYTES("autumn sale")));
    assert_int_equal(s.send_at.us, 1795417200000000);
    assert_true(bytes_eq(s.message_id, BYTES("<a@own.example>")));
    buf_done(&s.out);
    arena_done(&arena);
}

static void test_hidden_client(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct submission s;
    make(&s, CONF_SUBMISSION_FIX, "From: a@own.example\r\n" DATED);
    s.client_ip = BYTES_NONE;
    s.tls = BYTES("TLSv1.3 X");
    s.single_recipient = BYTES("b@c.example");
    assert_true(submission_check(&s, &arena));
    assert_true(bytes_starts(buf_bytes(&s.out),
                             BYTES("Received: by mx.own.example (posthaste) with ESMTPSA id ")));
    assert_int_equal(bytes_search(buf_bytes(&s.out), BYTES("client.example")), -1);
    assert_true(bytes_search(buf_bytes(&s.out),
                             BYTES("\r\n\t(TLSv1.3 X)\r\n\tfor <b@c.example>;\r\n")) > 0);
    buf_done(&s.out);
    arena_done(&arena);
}

static const struct CMUnitTest TESTS[] = {
    cmocka_unit_test(test_refusals),      cmocka_unit_test(test_utf8_header_needs_smtputf8),
    cmocka_unit_test(test_n_headers),     cmocka_unit_test(test_instructions_are_read),
    cmocka_unit_test(test_hidden_client),
};
RUN_TESTS(TESTS)
