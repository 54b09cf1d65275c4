// SPDX-License-Identifier: MIT
//
// Notifications: who is told, what is returned, and a structure that no value from outside can break. With an
// argument it prints one notification, for dsn_python_test.py.
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/test_base.h"
#include "bounce/dsn.h"

#define LINE_MAX 998 // RFC 5322 2.1.1
#define PARTS 3

static struct bytes of(const char *s)
{
    return bytes_cstr(s);
}

// ---- who is told -------------------------------------------------------------------------------------------

static void test_wanted(void **state)
{
    (void)state;
    enum { F = 1, D = 2, S = 4 }; // failed, delayed, successes
    static const struct {
        const char *name, *sender;
        enum mail_origin origin;
        uint32_t notify;
        unsigned want;
    } ROWS[] = {
        {"no NOTIFY", "a@b", ORIGIN_SMTP, 0, F | D},
        {"NEVER", "a@b", ORIGIN_SMTP, NOTIFY_NEVER, 0},
        {"FAILURE", "a@b", ORIGIN_SMTP, NOTIFY_FAILURE, F},
        {"DELAY", "a@b", ORIGIN_SMTP, NOTIFY_DELAY, D},
        {"SUCCESS", "a@b", ORIGIN_SMTP, NOTIFY_SUCCESS, S},
        {"FAILURE,DELAY", "a@b", ORIGIN_SMTP, NOTIFY_FAILURE | NOTIFY_DELAY, F | D},
        {"all", "a@b", ORIGIN_HTTP, NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY, F | D | S},
        {"null sender", "", ORIGIN_SMTP, 0, 0},
        {"null sender, all", "", ORIGIN_SMTP, NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY, 0},
        {"about a notification", "a@b", ORIGIN_BOUNCE, NOTIFY_FAILURE, 0},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct envelope e = {.reverse_path = of(ROWS[i].sender), .origin = ROWS[i].origin};
        struct recipient r = {.notify = ROWS[i].notify};
        assert_number(ROWS[i].name, dsn_is_wanted(&e, &r, DSN_FAILED), (ROWS[i].want & F) != 0);
        assert_number(ROWS[i].name, dsn_is_wanted(&e, &r, DSN_DELAYED), (ROWS[i].want & D) != 0);
        for (int a = DSN_DELIVERED; a <= DSN_EXPANDED; a++)
            assert_number(ROWS[i].name, dsn_is_wanted(&e, &r, (enum dsn_action)a),
                          (ROWS[i].want & S) != 0);
    }
}

static void test_returns_body(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum dsn_ret ret;
        uint64_t body_bytes;
        enum dsn_action first, second;
        bool want;
    } ROWS[] = {
        {"FULL, failed", RET_FULL, 100, DSN_FAILED, DSN_FAILED, true},
        {"FULL, one failed", RET_FULL, 100, DSN_DELIVERED, DSN_FAILED, true},
        {"FULL, none failed", RET_FULL, 100, DSN_DELIVERED, DSN_RELAYED, false},
        {"FULL, delayed", RET_FULL, 100, DSN_DELAYED, DSN_DELAYED, false},
        {"HDRS", RET_HDRS, 100, DSN_FAILED, DSN_FAILED, false},
        {"not said", RET_UNSET, 100, DSN_FAILED, DSN_FAILED, false},
        {"at the limit", RET_FULL, DSN_RETURN_BODY_MAX, DSN_FAILED, DSN_FAILED, true},
        {"over the limit", RET_FULL, DSN_RETURN_BODY_MAX + 1, DSN_FAILED, DSN_FAILED, false},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct envelope e = {.ret = ROWS[i].ret, .body_bytes = ROWS[i].body_bytes};
        struct dsn_recipient r[2] = {{.action = ROWS[i].first}, {.action = ROWS[i].second}};
        assert_number(ROWS[i].name, dsn_returns_body(&e, r, 2), ROWS[i].want);
    }
}

// ---- a small reader of notifications -----------------------------------------------------------------------

struct part {
    struct bytes type, content;
};

struct reading {
    struct buf all;
    struct part parts[PARTS];
    size_t count;
};

// Lines end in CRLF and nothing else; no NUL; none is too long.
static void check_lines(const char *name, struct bytes s)
{
    size_t length = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '\0')
            fail_msg("%s: a NUL at %zu", name, i);
        if (s.at[i] == '\n')
            fail_msg("%s: a bare LF at %zu", name, i);
        if (s.at[i] != '\r') {
            if (++length > LINE_MAX)
                fail_msg("%s: a line of more than %d bytes at %zu", name, LINE_MAX, i);
            continue;
        }
        if (i + 1 == s.len || s.at[i + 1] != '\n')
            fail_msg("%s: a bare CR at %zu", name, i);
        i++;
        length = 0;
    }
    if (length)
        fail_msg("%s: the last line does not end", name);
}

// The value of a field of a block of fields, unfolded only as far as these tests need; empty: none.
static struct bytes field(struct bytes block, const char *name)
{
    struct bytes line;
    struct buf start = {0};
    buf_printf(&start, "%s: ", name);
    struct bytes found = BYTES_NONE;
    while (block.len && !found.len) {
        ptrdiff_t end = bytes_search(block, BYTES("\r\n"));
        if (end <= 0)
            break;
        line = bytes_first(block, (size_t)end);
        block = bytes_skip(block, (size_t)end + 2);
        if (bytes_starts(line, buf_bytes(&start)))
            found = bytes_skip(line, start.len);
    }
    buf_done(&start);
    return found;
}

static size_t count_of(struct bytes s, const char *what)
{
    size_t n = 0;
    ptrdiff_t at;
    while ((at = bytes_search(s, of(what))) != -1) {
        n++;
        s = bytes_skip(s, (size_t)at + strlen(what));
    }
    return n;
}

static void split(const char *name, const struct dsn *dsn, struct reading *r)
{
    *r = (struct reading){0};
    buf_add(&r->all, buf_bytes(&dsn->header));
    buf_add(&r->all, buf_bytes(&dsn->body));
    check_lines(name, buf_bytes(&r->all));
    struct bytes header = buf_bytes(&dsn->header), body = buf_bytes(&dsn->body);
    ptrdiff_t at = bytes_search(header, BYTES("boundary=\""));
    assert_true(at > 0);
    struct bytes boundary, rest = bytes_skip(header, (size_t)at + strlen("boundary=\""));
    assert_true(bytes_cut(&rest, '"', &boundary));
    struct buf line = {0};
    buf_printf(&line, "--%.*s", BYTES_FMT(boundary));
    assert_number(name, count_of(body, buf_cstr(&line)), PARTS + 1);
    at = bytes_search(body, buf_bytes(&line));
    while (r->count < PARTS) {
        body = bytes_skip(body, (size_t)at + line.len);
        assert_true(bytes_starts(body, BYTES("\r\n")));
        body = bytes_skip(body, 2);
        at = bytes_search(body, buf_bytes(&line));
        struct bytes whole = bytes_first(body, (size_t)at);
        ptrdiff_t empty = bytes_search(whole, BYTES("\r\n\r\n"));
        assert_true(empty > 0);
        r->parts[r->count++] =
            (struct part){field(bytes_first(whole, (size_t)empty + 2), "Content-Type"),
                          bytes_skip(whole, (size_t)empty + 4)};
    }
    body = bytes_skip(body, (size_t)at + line.len);
    assert_bytes(name, body, BYTES("--\r\n"));
    buf_done(&line);
}

// Recipient n's block of the delivery status; 0: the one of the message.
static struct bytes status_block(const struct reading *r, uint32_t n)
{
    struct bytes rest = r->parts[1].content;
    for (;; n--) {
        ptrdiff_t end = bytes_search(rest, BYTES("\r\n\r\n"));
        assert_true(end > 0);
        if (n == 0)
            return bytes_first(rest, (size_t)end + 2);
        rest = bytes_skip(rest, (size_t)end + 4);
    }
}

// ---- what is reported --------------------------------------------------------------------------------------

struct example {
    struct envelope envelope;
    struct recipient recipients[3];
    struct dsn_recipient told[3];
    struct dsn_request request;
};

static void example_make(struct example *x)
{
    *x = (struct example){0};
    x->envelope = (struct envelope){.id = {0x1234567890abcdef, 42},
                                    .accepted_at = {1700000000000000},
                                    .expires_at = {1700400000000000},
                                    .reverse_path = BYTES("sender@example.org"),
                                    .envid = BYTES("QQ+2B314"),
                                    .message_id = BYTES("<1@example.org>"),
                                    .ret = RET_FULL};
    x->recipients[0] = (struct recipient){.number = 1,
                                          .address = BYTES("one@example.net"),
                                          .orcpt = BYTES("rfc822;One+2BA@example.net")};
    x->told[0] = (struct dsn_recipient){.recipient = &x->recipients[0],
                                        .action = DSN_FAILED,
                                        .status = BYTES("5.1.1"),
                                        .remote_mta = BYTES("mx.example.net"),
                                        .diagnostic = BYTES("550 5.1.1 no such user"),
                                        .diagnostic_is_remote = true,
                                        .last_attempt = {1700000100000000}};
    x->request =
        (struct dsn_request){.envelope = &x->envelope,
                             .header = BYTES("From: sender@example.org\r\nSubject: x\r\n\r\n"),
                             .body = BYTES("the body\r\n"),
                             .hostname = BYTES("relay.example"),
                             .postmaster = BYTES("MAILER-DAEMON@relay.example"),
                             .id = {0x1234567890abcdef, 43},
                             .now = {1700000200000000},
                             .recipients = x->told,
                             .count = 1};
}

static void build(const char *name, const struct example *x, struct dsn *dsn, struct reading *r)
{
    assert_int_equal(dsn_build(&x->request, dsn), OK);
    split(name, dsn, r);
}

static void drop(struct dsn *dsn, struct reading *r)
{
    buf_done(&r->all);
    dsn_done(dsn);
}

static void test_actions(void **state)
{
    (void)state;
    static const struct {
        enum dsn_action action;
        const char *name, *subject, *person;
        bool retry_until;
    } ROWS[] = {
        {DSN_FAILED, "failed", "Undelivered mail", "The address does not exist", false},
        {DSN_DELAYED, "delayed", "Delayed mail", "ONLY A WARNING", true},
        {DSN_DELIVERED, "delivered", "Delivery report", "was put into the mailbox", false},
        {DSN_RELAYED, "relayed", "Delivery report", "was passed to mx.example.net", false},
        {DSN_EXPANDED, "expanded", "Delivery report", "the addresses this one stands for", false},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct example x;
        struct dsn dsn;
        struct reading r;
        example_make(&x);
        x.told[0].action = ROWS[i].action;
        build(ROWS[i].name, &x, &dsn, &r);
        struct bytes block = status_block(&r, 1);
        assert_bytes(ROWS[i].name, field(block, "Action"), of(ROWS[i].name));
        assert_bytes(ROWS[i].name, field(block, "Final-Recipient"),
                     BYTES("rfc822; one@example.net"));
        assert_bytes(ROWS[i].name, field(block, "Original-Recipient"),
                     BYTES("rfc822; One+A@example.net"));
        assert_bytes(ROWS[i].name, field(block, "Remote-MTA"), BYTES("dns; mx.example.net"));
        assert_bytes(ROWS[i].name, field(block, "Diagnostic-Code"),
                     BYTES("smtp; 550 5.1.1 no such user"));
        assert_number(ROWS[i].name, field(block, "Will-Retry-Until").len > 0, ROWS[i].retry_until);
        assert_true(field(block, "Last-Attempt-Date").len > 0);
        struct bytes message = status_block(&r, 0);
        assert_bytes(ROWS[i].name, field(message, "Reporting-MTA"), BYTES("dns; relay.example"));
        assert_bytes(ROWS[i].name, field(message, "Original-Envelope-Id"), BYTES("QQ+314"));
        struct bytes header = buf_bytes(&dsn.header);
        assert_true(bytes_starts(field(header, "Subject"), of(ROWS[i].subject)));
        assert_bytes(ROWS[i].name, field(header, "To"), BYTES("<sender@example.org>"));
        assert_bytes(ROWS[i].name, field(header, "Auto-Submitted"), BYTES("auto-replied"));
        assert_bytes(ROWS[i].name, field(header, "In-Reply-To"), BYTES("<1@example.org>"));
        if (bytes_search(r.parts[0].content, of(ROWS[i].person)) == -1)
            fail_msg("%s: a person is not told \"%s\"", ROWS[i].name, ROWS[i].person);
        assert_false(dsn.eight_bit || dsn.smtputf8);
        drop(&dsn, &r);
    }
}

// No server is blamed for what an operator did.
static void test_by_operator(void **state)
{
    (void)state;
    static const struct {
        const char *text, *person;
    } ROWS[] = {
        {"returned by an operator of this mail system",
         "\r\n  one@example.net\r\n    was returned by an operator of this mail system.\r\n\r\n"},
        {"returned by an operator of this mail system: sent by mistake.\r\nX: \x1b[2J",
         "\r\n    was returned by an operator of this mail system: sent by mistake.? X: "
         "?[2J.\r\n\r\n"},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct example x;
        struct dsn dsn;
        struct reading r;
        example_make(&x);
        x.told[0] = (struct dsn_recipient){.recipient = &x.recipients[0],
                                           .action = DSN_FAILED,
                                           .by_operator = true,
                                           .status = BYTES("5.0.0"),
                                           .diagnostic = of(ROWS[i].text)};
        build(ROWS[i].text, &x, &dsn, &r);
        struct bytes block = status_block(&r, 1);
        if (bytes_search(r.parts[0].content, of(ROWS[i].person)) == -1)
            fail_msg("not told \"%s\" but %.*s", ROWS[i].person, BYTES_FMT(r.parts[0].content));
        assert_int_equal(bytes_search(r.parts[0].content, BYTES("server")), -1);
        assert_true(
            bytes_starts(field(block, "Diagnostic-Code"),
                         BYTES("x-posthaste; returned by an operator of this mail system")));
        assert_int_equal(field(block, "Last-Attempt-Date").len + field(block, "Remote-MTA").len, 0);
        drop(&dsn, &r);
    }
}

static void test_returned(void **state)
{
    (void)state;
    static const struct {
        const char *name, *header, *body;
        size_t body_len;
        const char *type, *content;
        bool eight_bit;
    } ROWS[] = {
        {"whole", "A: b\r\n\r\n", "text\r\n", 6, "message/rfc822", "A: b\r\n\r\ntext\r\n\r\n",
         false},
        {"no final newline", "A: b\r\n\r\n", "text", 4, "message/rfc822",
         "A: b\r\n\r\ntext\r\n\r\n", false},
        {"header only", "A: b\r\n\r\n", "", 0, "text/rfc822-headers", "A: b\r\n\r\n\r\n", false},
        {"8-bit body", "A: b\r\n\r\n", "\xe9\r\n", 3, "message/rfc822", "A: b\r\n\r\n\xe9\r\n\r\n",
         true},
        {"a NUL: header only", "A: b\r\n\r\n", "a\0b\r\n", 5, "text/rfc822-headers",
         "A: b\r\n\r\n\r\n", false},
        {"UTF-8 header", "A: \xc3\xa9\r\n\r\n", "x\r\n", 3, "message/global",
         "A: \xc3\xa9\r\n\r\nx\r\n\r\n", true},
        {"UTF-8 header only", "A: \xc3\xa9\r\n\r\n", "", 0, "message/global-headers",
         "A: \xc3\xa9\r\n\r\n\r\n", true},
        {"Latin-1 header", "A: \xe9\r\n\r\n", "x\r\n", 3, "message/rfc822",
         "A: \xe9\r\n\r\nx\r\n\r\n", true},
        {"Latin-1 header only", "A: \xe9\r\n\r\n", "", 0, "text/rfc822-headers",
         "A: \xe9\r\n\r\n\r\n", true},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct example x;
        struct dsn dsn;
        struct reading r;
        example_make(&x);
        x.request.header = of(ROWS[i].header);
        x.request.body = bytes_of(ROWS[i].body, ROWS[i].body_len);
        build(ROWS[i].name, &x, &dsn, &r);
        assert_bytes(ROWS[i].name, r.parts[2].type, of(ROWS[i].type));
        assert_bytes(ROWS[i].name, r.parts[2].content, of(ROWS[i].content));
        bool global = bytes_starts(of(ROWS[i].type), BYTES("message/global"));
        assert_bytes(ROWS[i].name, r.parts[1].type,
                     of(global ? "message/global-delivery-status" : "message/delivery-status"));
        assert_number(ROWS[i].name, dsn.eight_bit, ROWS[i].eight_bit);
        assert_number(ROWS[i].name,
                      field(buf_bytes(&dsn.header), "Content-Transfer-Encoding").len > 0,
                      ROWS[i].eight_bit);
        drop(&dsn, &r);
    }
}

// RFC 6533: the internationalised forms, where an address needs them and only there; SMTPUTF8 is for the sender's.
static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *name, *sender, *recipient;
        bool utf8, smtputf8;
        const char *final, *orcpt, *original;
    } ROWS[] = {
        {"ascii", "a@example.org", "b@example.net", false, false, "rfc822; b@example.net",
         "rfc822;c+2Bd@example.net", "rfc822; c+d@example.net"},
        {"sender", "\xc3\xa9@example.org", "b@example.net", true, true, "rfc822; b@example.net",
         "utf-8;\\x{E9}\\x{2B}d@example.net", "utf-8; \xc3\xa9+d@example.net"},
        {"recipient", "a@example.org", "\xc3\xa9@example.net", true, false,
         "utf-8; \xc3\xa9@example.net", "utf-8;\xc3\xa9@example.net",
         "utf-8; \xc3\xa9@example.net"},
        {"original recipient alone", "a@example.org", "b@example.net", false, false,
         "rfc822; b@example.net", "utf-8;\xc3\xa9\\x{2B}d@example.net",
         "utf-8; \\x{E9}\\x{2B}d@example.net"},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct example x;
        struct dsn dsn;
        struct reading r;
        example_make(&x);
        x.envelope.reverse_path = of(ROWS[i].sender);
        x.recipients[0].address = of(ROWS[i].recipient);
        x.recipients[0].orcpt = of(ROWS[i].orcpt);
        build(ROWS[i].name, &x, &dsn, &r);
        assert_number(ROWS[i].name, dsn.smtputf8, ROWS[i].smtputf8);
        assert_bytes(ROWS[i].name, field(status_block(&r, 1), "Original-Recipient"),
                     of(ROWS[i].original));
        assert_bytes(ROWS[i].name, field(status_block(&r, 1), "Final-Recipient"),
                     of(ROWS[i].final));
        assert_bytes(
            ROWS[i].name, r.parts[1].type,
            of(ROWS[i].utf8 ? "message/global-delivery-status" : "message/delivery-status"));
        assert_number(
            ROWS[i].name,
            bytes_search(buf_bytes(&dsn.header), BYTES("report-type=global-delivery-status")) != -1,
            ROWS[i].utf8);
        drop(&dsn, &r);
    }
}

// ---- hostile values ----------------------------------------------------------------------------------------

static void put(struct example *x, int where, struct bytes value)
{
    switch (where) {
    case 0:
        x->told[0].diagnostic = value;
        break;
    case 1:
        x->told[0].diagnostic = value;
        x->told[0].diagnostic_is_remote = false;
        break;
    case 2:
        x->told[0].remote_mta = value;
        break;
    case 3:
        x->recipients[0].address = value;
        break;
    case 4:
        x->recipients[0].orcpt = value;
        break;
    case 5:
        x->envelope.envid = value;
        break;
    case 6:
        x->envelope.message_id = value;
        break;
    case 7:
        x->envelope.reverse_path = value;
        break;
    default:
        x->told[0].status = value;
        break;
    }
}
#define PLACES 9

static void test_hostile(void **state)
{
    (void)state;
    char *huge = malloc(100001);
    assert_non_null(huge);
    memset(huge, 'A', 100000);
    huge[100000] = '\0';
    char *wide = malloc(100001);
    assert_non_null(wide);
    for (size_t i = 0; i < 100000; i += 2)
        memcpy(wide + i, "\xc3\xa9", 2);
    wide[100000] = '\0';
    const struct bytes values[] = {
        BYTES("x\r\nAction: delivered\r\nStatus: 2.0.0"),
        BYTES("x\n\nFinal-Recipient: rfc822; forged@example"),
        BYTES("x\r\n.\r\nMAIL FROM:<>\r\n"),
        BYTES("\0\0\0"),
        BYTES("\x1b[2J\x1b[H\x07\x7f"),
        BYTES("\xff\xfe\x80 not utf-8"),
        BYTES("\xc3\xa9t\xc3\xa9"),
        BYTES("rfc822;a+0D+0AAction:+20delivered"),
        BYTES("rfc822;+"),
        BYTES(";"),
        BYTES("a+0D+0AX: y"),
        BYTES(""),
        bytes_of(huge, 100000),
        bytes_of(wide, 100000),
    };
    for (size_t v = 0; v < COUNT_OF(values); v++) {
        for (int where = 0; where < PLACES; where++) {
            struct example x;
            struct dsn dsn;
            struct reading r;
            char name[64];
            snprintf(name, sizeof name, "value %zu at place %d", v, where);
            example_make(&x);
            put(&x, where, values[v]);
            build(name, &x, &dsn, &r);
            struct bytes block = status_block(&r, 1);
            assert_bytes(name, field(block, "Action"), BYTES("failed"));
            assert_number(name, count_of(r.parts[1].content, "\r\nAction: "), 1);
            assert_number(name, count_of(r.parts[1].content, "\r\nFinal-Recipient: "), 1);
            assert_number(name, count_of(r.parts[1].content, "\r\n\r\n"), 2);
            assert_true(r.parts[0].content.len < 4000 && r.parts[1].content.len < 8000);
            assert_int_equal(bytes_find(r.parts[0].content, '\x1b'), -1);
            drop(&dsn, &r);
        }
    }
    free(huge);
    free(wide);
}

// A reply of several lines stands on one.
static void test_lines(void **state)
{
    (void)state;
    struct example x;
    struct dsn dsn;
    struct reading r;
    example_make(&x);
    x.told[0].diagnostic = BYTES("550 5.1.1 no such user\nhere");
    build("lines", &x, &dsn, &r);
    assert_bytes("lines", field(status_block(&r, 1), "Diagnostic-Code"),
                 BYTES("smtp; 550 5.1.1 no such user here"));
    drop(&dsn, &r);
}

// What is returned may hold the boundary that would have been taken.
static void test_boundary(void **state)
{
    (void)state;
    struct example x;
    struct dsn dsn;
    struct reading r;
    example_make(&x);
    build("plain", &x, &dsn, &r);
    struct bytes header = buf_bytes(&dsn.header), boundary;
    ptrdiff_t at = bytes_search(header, BYTES("boundary=\""));
    struct bytes rest = bytes_skip(header, (size_t)at + 10);
    assert_true(bytes_cut(&rest, '"', &boundary));
    struct buf body = {0};
    buf_printf(&body, "--%.*s--\r\n--%.*s\r\n", BYTES_FMT(boundary), BYTES_FMT(boundary));
    drop(&dsn, &r);
    x.request.body = buf_bytes(&body);
    build("collision", &x, &dsn, &r);
    assert_true(bytes_search(r.parts[2].content, buf_bytes(&body)) > 0);
    drop(&dsn, &r);
    buf_done(&body);
}

static void test_many(void **state)
{
    (void)state;
    static struct recipient recipients[DSN_RECIPIENTS_MAX];
    static struct dsn_recipient told[DSN_RECIPIENTS_MAX + 1];
    struct example x;
    struct dsn dsn;
    struct reading r;
    char address[32];
    example_make(&x);
    for (uint32_t i = 0; i < DSN_RECIPIENTS_MAX; i++) {
        recipients[i] = (struct recipient){.number = i + 1, .address = BYTES("r@example.net")};
        told[i] = (struct dsn_recipient){
            .recipient = &recipients[i], .action = DSN_FAILED, .status = BYTES("5.0.0")};
    }
    told[DSN_RECIPIENTS_MAX] = told[0];
    snprintf(address, sizeof address, "last@example.net");
    recipients[DSN_RECIPIENTS_MAX - 1].address = of(address);
    x.request.recipients = told;
    x.request.count = DSN_RECIPIENTS_MAX;
    build("many", &x, &dsn, &r);
    assert_bytes("the last", field(status_block(&r, DSN_RECIPIENTS_MAX), "Final-Recipient"),
                 BYTES("rfc822; last@example.net"));
    drop(&dsn, &r);
    x.request.count++;
    assert_int_equal(dsn_build(&x.request, &dsn), E_LIMIT);
}

// Many lines of 100 bytes, then what is left; the caller frees.
static struct bytes lines_of(size_t len)
{
    char *at = mem_new(len);
    memset(at, 'x', len);
    for (size_t i = 100; i + 2 < len; i += 100)
        memcpy(at + i - 2, "\r\n", 2);
    memcpy(at + len - 2, "\r\n", 2);
    return bytes_of(at, len);
}

// However much is to be returned: a notification that is no larger than what the spool takes.
static void test_room(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t header, body;
        const char *type;
        bool cut;
    } ROWS[] = {
        {"both have room", 150000, DSN_RETURN_BODY_MAX, "message/rfc822", false},
        {"no room for the body", 210000, DSN_RETURN_BODY_MAX, "text/rfc822-headers", false},
        {"nearly no room for the header", 255000, 0, "text/rfc822-headers", false},
        {"the largest header", DSN_BODY_MAX, 0, "text/rfc822-headers", true},
        {"larger ones allowed", 1 << 20, DSN_RETURN_BODY_MAX, "text/rfc822-headers", true},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct example x;
        struct dsn dsn;
        struct reading r;
        example_make(&x);
        struct bytes lines = lines_of(ROWS[i].header - 2), body = lines_of(ROWS[i].body + 2);
        struct buf header = {0};
        buf_add_all(&header, lines, BYTES("\r\n"));
        x.request.header = buf_bytes(&header);
        x.request.body = ROWS[i].body ? body : BYTES_NONE;
        build(ROWS[i].name, &x, &dsn, &r);
        assert_true(dsn.body.len <= DSN_BODY_MAX);
        assert_bytes(ROWS[i].name, r.parts[2].type, of(ROWS[i].type));
        struct bytes content = r.parts[2].content;
        if (ROWS[i].cut) {
            assert_true(dsn.body.len > DSN_BODY_MAX - 1000 &&
                        bytes_ends(content, of("\r\n\r\n\r\n")));
            assert_bytes("lines", bytes_first(content, content.len - 4),
                         bytes_first(lines, content.len - 4));
        } else {
            assert_true(bytes_starts(content, buf_bytes(&header)));
        }
        drop(&dsn, &r);
        buf_done(&header);
        free((void *)body.at);
        free((void *)lines.at);
    }
}

// Where not even what there is to say has room, there is none.
static void test_no_room(void **state)
{
    (void)state;
    static struct recipient recipients[DSN_RECIPIENTS_MAX];
    static struct dsn_recipient told[DSN_RECIPIENTS_MAX];
    struct example x;
    struct dsn dsn;
    char text[500];
    memset(text, 'x', sizeof text);
    example_make(&x);
    for (uint32_t i = 0; i < DSN_RECIPIENTS_MAX; i++) {
        recipients[i] = (struct recipient){.number = i + 1, .address = BYTES("r@example.net")};
        told[i] = (struct dsn_recipient){.recipient = &recipients[i],
                                         .status = BYTES("5.0.0"),
                                         .diagnostic = bytes_of(text, sizeof text)};
    }
    x.request.recipients = told;
    x.request.count = DSN_RECIPIENTS_MAX;
    assert_int_equal(dsn_build(&x.request, &dsn), E_LIMIT);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_wanted),   cmocka_unit_test(test_returns_body),
    cmocka_unit_test(test_actions),  cmocka_unit_test(test_by_operator),
    cmocka_unit_test(test_returned), cmocka_unit_test(test_utf8),
    cmocka_unit_test(test_hostile),  cmocka_unit_test(test_lines),
    cmocka_unit_test(test_boundary), cmocka_unit_test(test_many),
    cmocka_unit_test(test_room),     cmocka_unit_test(test_no_room),
};

// Two recipients, hostile words; "utf8": with an internationalised one.
static int print(const char *kind)
{
    struct example x;
    struct dsn dsn;
    example_make(&x);
    x.recipients[1] = (struct recipient){.number = 2, .address = BYTES("two@example.net")};
    if (strcmp(kind, "utf8") == 0)
        x.recipients[1].address = BYTES("zw\xc3\xb6@example.net");
    x.told[1] = (struct dsn_recipient){.recipient = &x.recipients[1],
                                       .action = DSN_FAILED,
                                       .status = BYTES("5.7.1"),
                                       .diagnostic = BYTES("550 \r\nAction: delivered\x1b[2J"),
                                       .diagnostic_is_remote = true};
    x.request.count = 2;
    if (dsn_build(&x.request, &dsn) != OK)
        return 1;
    fwrite(dsn.header.at, 1, dsn.header.len, stdout);
    fwrite(dsn.body.at, 1, dsn.body.len, stdout);
    dsn_done(&dsn);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return print(argv[1]);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
