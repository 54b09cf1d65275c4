// SPDX-License-Identifier: MIT
#include "mail/preflight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"

#define FROM "From: A <a@shop.test>\r\n"
#define TEXT FROM "\r\nhello\r\n"
#define ONE_CLICK                                                                                  \
    "List-Unsubscribe: <mailto:u@shop.test>, <https://shop.test/u>\r\n"                            \
    "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
#define SIGNED                                                                                     \
    "DKIM-Signature: v=1; a=rsa-sha256; d=shop.test; s=x;\r\n\th=From:List-Unsubscribe "           \
    ":\r\n\tlist-unsubscribe-post; b=x\r\n"
#define HTML(body) FROM "Content-Type: text/html\r\n\r\n" body
#define ATTACHED(field, more)                                                                      \
    FROM "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n--b\r\n" field "\r\n"  \
         "\r\n" more "\r\n--b--\r\n"

#define OURS                                                                                       \
    {                                                                                              \
        .mail_from = {"shop.test", 9}, .we_sign = true                                             \
    }
#define NOT_OURS                                                                                   \
    {                                                                                              \
        .mail_from = { "other.test", 10 }                                                          \
    }
#define BULK(...)                                                                                  \
    {                                                                                              \
        .class = MAIL_BULK, .mail_from = {"shop.test", 9}, __VA_ARGS__                             \
    }

static const struct {
    const char *name, *message;
    struct preflight_facts facts;
    const char *want; // "ID WHERE" of each, then the verdict, separated by "; "
} cases[] = {
    {"a plain message", TEXT, OURS, "ok"},
    {"nothing", "", OURS, "ok"},
    {"no From", "Subject: x\r\n\r\n", NOT_OURS, "ok"},

    {"neither signed nor sent from there", TEXT, NOT_OURS,
     "dmarc_alignment From: shop.test; refuse"},
    {"a null sender", TEXT, {.we_sign = false}, "dmarc_alignment From: shop.test; refuse"},
    {"sent from there", TEXT, {.mail_from = BYTES("bounces.shop.test")}, "ok"},
    {"nobody knows", TEXT, {.alignment_unknown = true}, "ok"},
    {"signed by its author", SIGNED TEXT, NOT_OURS, "ok"},
    {"signed by another", "DKIM-Signature: d=x.test; h=From\r\n" TEXT, NOT_OURS,
     "dmarc_alignment From: shop.test; refuse"},
    {"two authors", "From: a@shop.test, b@shop.test\r\n\r\n", OURS,
     "dmarc_alignment From: several authors; refuse"},
    {"two From fields", FROM TEXT, OURS, "dmarc_alignment From: several authors; refuse"},

    {"bulk without unsubscribe", TEXT, BULK(.we_sign = true),
     "unsubscribe_missing List-Unsubscribe; refuse"},
    {"not bulk", TEXT, {.class = MAIL_TRANSACTIONAL, .we_sign = true}, "ok"},
    {"one click", ONE_CLICK TEXT, BULK(.we_sign = true), "ok"},
    {"in another case, folded",
     "list-unsubscribe:\r\n <HTTPS://shop.test/u>\r\nLIST-UNSUBSCRIBE-POST: "
     "list-unsubscribe=one-click \r\n" TEXT,
     BULK(.we_sign = true), "ok"},
    {"by mail alone",
     "List-Unsubscribe: <mailto:u@shop.test>\r\nList-Unsubscribe-Post: "
     "List-Unsubscribe=One-Click\r\n" TEXT,
     BULK(.we_sign = true), "unsubscribe_missing List-Unsubscribe; refuse"},
    {"without Post", "List-Unsubscribe: <https://shop.test/u>\r\n" TEXT, BULK(.we_sign = true),
     "unsubscribe_missing List-Unsubscribe-Post; refuse"},
    {"we add it", TEXT, BULK(.we_sign = true, .we_add_unsubscribe = true), "ok"},
    {"we add it and can't sign", TEXT, BULK(.we_add_unsubscribe = true),
     "unsubscribe_unsigned List-Unsubscribe; refuse"},
    {"one click, not signed", ONE_CLICK TEXT, BULK(.we_sign = false),
     "unsubscribe_unsigned List-Unsubscribe; refuse"},
    {"one click, signed", SIGNED ONE_CLICK TEXT, BULK(.we_sign = false), "ok"},
    {"signed without them",
     "DKIM-Signature: d=shop.test; h=From:List-Unsubscribe\r\n" ONE_CLICK TEXT,
     BULK(.we_sign = false), "unsubscribe_unsigned List-Unsubscribe; refuse"},

    {"no MX",
     TEXT,
     {.we_sign = true, .from_takes_no_mail = true},
     "from_without_mx From: shop.test; refuse"},

    {"HTML alone", HTML("<p>x"), OURS, "text_part_missing text/plain; warn"},
    {"HTML beside text",
     FROM "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: "
          "text/plain\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\n",
     OURS, "ok"},
    {"HTML attached to text",
     ATTACHED("Content-Type: text/html\r\nContent-Disposition: attachment\r\n", "<p>"), OURS, "ok"},
    {"text attached to HTML",
     FROM "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: "
          "text/html\r\n\r\n<p>\r\n--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n",
     OURS, "text_part_missing text/plain; warn"},

    {"a link to a name",
     FROM "\r\nsee https://shop.test/http://x and http:// http:/1.2.3.4 httpss://1.2.3.4\r\n", OURS,
     "ok"},
    {"a link to an address", FROM "\r\nsee https://192.0.2.1/x\r\n", OURS,
     "link_to_address part 1: 192.0.2.1; warn"},
    {"with port and user", FROM "\r\n<a href=\"HTTP://joe:x@192.0.2.1:80\">", OURS,
     "link_to_address part 1: 192.0.2.1; warn"},
    {"IPv6", FROM "\r\nhttp://[2001:db8::1]:8/", OURS,
     "link_to_address part 1: [2001:db8::1]:8; warn"},
    {"as a number", FROM "\r\nhttp://3221225985/", OURS,
     "link_to_address part 1: 3221225985; warn"},
    {"hexadecimal", FROM "\r\nhttp://0xC0.0x00.0x02.0x01/", OURS,
     "link_to_address part 1: 0xC0.0x00.0x02.0x01; warn"},
    {"at the very end", FROM "\r\nhhttp://192.0.2.1", OURS,
     "link_to_address part 1: 192.0.2.1; warn"},
    {"in quoted-printable",
     FROM "Content-Transfer-Encoding: quoted-printable\r\n\r\nhtt=\r\np=3A//192.0=2E2.1/\r\n", OURS,
     "link_to_address part 1: 192.0.2.1; warn"},
    {"in base64", FROM "Content-Transfer-Encoding: base64\r\n\r\naHR0cDovLzE5\r\nMi4wLjIuMS8=\r\n",
     OURS, "link_to_address part 1: 192.0.2.1; warn"},
    {"a name that looks like one",
     FROM "\r\nhttp://192.0.2.1.shop.test/ http://0x.test/ http://1e.test", OURS, "ok"},
    {"in an attachment", ATTACHED("Content-Type: application/json", "http://192.0.2.1/"), OURS,
     "ok"},

    {"a program by name",
     ATTACHED("Content-Type: application/octet-stream; name=\"Invoice.EXE\"", "x"), OURS,
     "dangerous_attachment part 3: Invoice.EXE; refuse"},
    {"by disposition", ATTACHED("Content-Disposition: attachment; filename=a.pdf.js", "x"), OURS,
     "dangerous_attachment part 3: a.pdf.js; refuse"},
    {"with dots behind", ATTACHED("Content-Disposition: attachment; filename=\"a.exe. .\"", "x"),
     OURS, "dangerous_attachment part 3: a.exe. .; refuse"},
    {"in RFC 2231", ATTACHED("Content-Disposition: attachment; filename*=utf-8''a%2Ee%78e", "x"),
     OURS, "dangerous_attachment part 3: utf-8''a.exe; refuse"},
    {"in pieces",
     ATTACHED("Content-Disposition: attachment; filename*0=\"abc\"; filename*1=\"d.scr\"", "x"),
     OURS, "dangerous_attachment part 3: d.scr; refuse"},
    {"in an encoded word", ATTACHED("Content-Type: a/b; name=\"=?utf-8?B?YS5leGU=?=\"", "x"), OURS,
     "dangerous_attachment part 3: a.exe; refuse"},
    {"by its content",
     ATTACHED("Content-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: base64",
              "TVqQAAMAAAA="),
     OURS, "dangerous_attachment part 3: a Windows program; refuse"},
    {"text that begins so", FROM "\r\nMZ\r\n", OURS, "ok"},
    {"harmless",
     ATTACHED("Content-Type: application/pdf; name=exe.pdf\r\nContent-Disposition: inline; "
              "filename=\"exe\"",
              "x"),
     OURS, "ok"},

    {"the first of each kind, in order",
     FROM "Content-Type: text/html\r\n\r\nhttp://10.0.0.1/ http://10.0.0.2/", NOT_OURS,
     "dmarc_alignment From: shop.test; link_to_address part 1: 10.0.0.1; text_part_missing "
     "text/plain; refuse"},
    {"what is no MIME",
     FROM "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nbare\rcr: x\r\n", NOT_OURS,
     "dmarc_alignment From: shop.test; refuse"},
    {"words that are shown escaped", ATTACHED("Content-Type: a/b; name=\"a\x07.exe\"", "x"), OURS,
     "dangerous_attachment part 3: a\\x07.exe; refuse"},
};

static void show(const struct preflight_result *r, struct buf *out)
{
    buf_clear(out);
    for (size_t i = 0; i < r->count; i++)
        buf_printf(out, "%s %s; ", preflight_row(r->findings[i].id)->name, r->findings[i].where);
    buf_add_cstr(out, preflight_severity_name(r->verdict));
}

// Fed whole (0), byte by byte (1), or in pieces of random sizes up to `cut`.
static void run(struct bytes message, const struct preflight_facts *facts, size_t cut,
                struct buf *out)
{
    struct preflight *p = preflight_new();
    struct preflight_result result;
    while (message.len) {
        size_t n = cut ? 1 + (size_t)rand() % cut : message.len;
        preflight_feed(p, bytes_first(message, n));
        message = bytes_skip(message, n);
    }
    preflight_finish(p, facts, &result);
    show(&result, out);
    preflight_free(p);
}

static void test_cases(void **state)
{
    static const size_t cuts[] = {0, 1, 2, 7, 20};
    struct buf got = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (size_t k = 0; k < COUNT_OF(cuts); k++) {
            run(bytes_cstr(cases[i].message), &cases[i].facts, cuts[k], &got);
            if (!bytes_eq(buf_bytes(&got), bytes_cstr(cases[i].want)))
                fail_msg("%s, cut %zu: %s", cases[i].name, cuts[k], buf_cstr(&got));
        }
    buf_done(&got);
}

// HTML of so many decoded bytes, as it is or in base64.
static void html(size_t bytes, bool base64, struct buf *out)
{
    buf_clear(out);
    buf_printf(out, FROM "Content-Type: text/html\r\n%s\r\n",
               base64 ? "Content-Transfer-Encoding: base64\r\n" : "");
    for (size_t i = 0; i < bytes; i += 3)
        buf_add(out, base64 ? BYTES("eHh4") : bytes_first(BYTES("xxx"), bytes - i));
}

static void test_html_size(void **state)
{
    struct buf message = {0}, got = {0};
    struct preflight_facts facts = OURS;
    for (int base64 = 0; base64 < 2; base64++) {
        html(PREFLIGHT_HTML_MAX, base64, &message);
        run(buf_bytes(&message), &facts, 0, &got);
        assert_string_equal(buf_cstr(&got), "text_part_missing text/plain; warn");
        html(PREFLIGHT_HTML_MAX + 3, base64, &message);
        run(buf_bytes(&message), &facts, 5000, &got);
        assert_string_equal(buf_cstr(&got), "html_too_large part 1: 104451 bytes; "
                                            "text_part_missing text/plain; warn");
    }
    buf_done(&message);
    buf_done(&got);
}

static void test_alignment(void **state)
{
    static const struct {
        const char *a, *b;
        bool want;
    } pairs[] = {
        {"shop.test", "shop.test", true},
        {"SHOP.test", "shop.Test", true},
        {"a.shop.test", "b.shop.test", true},
        {"a.b.c.shop.test", "shop.test", true},
        {"shop.test", "shops.test", false},
        {"a.co.uk", "b.co.uk", false},
        {"a.co.uk", "x.a.co.uk", true},
        {"firma.de", "mail.firma.de", true},
        {"a.firma.de", "b.firma.de", true},
        {"test", "test", true},
        {"", "", false},
        {"shop.test", "", false},
        {"example.com", "other.com", false},
    };
    for (size_t i = 0; i < COUNT_OF(pairs); i++)
        assert_int_equal(preflight_is_aligned(bytes_cstr(pairs[i].a), bytes_cstr(pairs[i].b)),
                         pairs[i].want);
}

static void test_names(void **state)
{
    for (int i = 0; i < PREFLIGHT_IDS; i++) {
        enum preflight_id id;
        const struct preflight_row *row = preflight_row((enum preflight_id)i);
        assert_int_equal(preflight_find(bytes_cstr(row->name), &id), OK);
        assert_int_equal(id, i);
        assert_true(row->text && row->fix && row->severity != PREFLIGHT_OK);
    }
    enum preflight_id id;
    assert_int_equal(preflight_find(BYTES("x"), &id), E_NOT_FOUND);
}

// The domain is there as soon as the header is, so that the DNS can be asked while the body comes.
static void test_from_domain(void **state)
{
    struct preflight *p = preflight_new();
    preflight_feed(p, BYTES("From: \"a@b\" <a@B\xc3\xbc"
                            "cher.Example>\r\nTo: x@y\r\n"));
    assert_int_equal(preflight_from_domain(p).len, 0);
    preflight_feed(p, BYTES("\r\n"));
    assert_true(bytes_eq(preflight_from_domain(p), BYTES("xn--bcher-kva.example")));
    preflight_free(p);
    preflight_free(NULL);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_cases),       cmocka_unit_test(test_html_size),
        cmocka_unit_test(test_alignment),   cmocka_unit_test(test_names),
        cmocka_unit_test(test_from_domain),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
