// SPDX-License-Identifier: MIT
//
// Doubling what a parser reads takes at most 2.2 times as long, from 64 KiB up to 1 MiB, however hostile it is.
//
// How it works: a row gives the bytes that an input begins with, those that it repeats, and those that it ends with.
// Each is parsed several times; its time is the least CPU time that one took, which other work on the machine can't
// make smaller. What looks too dear is measured again and again: only what never comes out right fails. All
// doublings are judged together, because a processor's caches, which others use too, make a step at one size: 16 times
// the input may take 2.2 to the fourth, 23 times as long, and would take 256 times if it were quadratic. (No counter
// of instructions: virtual machines often have none.)
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/test_base.h"
#include "bounce/bounce_class.h"
#include "bounce/dsn.h"
#include "cli/sink_rules.h"
#include "conf/conf.h"
#include "intake/submission.h"
#include "mail/mail_address_list.h"
#include "mail/mail_date.h"
#include "mail/mail_downgrade.h"
#include "mail/mail_encode.h"
#include "mail/mail_header.h"
#include "mail/mail_mime.h"
#include "mail/mail_rfc2047.h"
#include "mail/preflight.h"
#include "route/local_recipients.h"
#include "sign/dkim_verify.h"
#include "smtp/smtp_reply_parser.h"
#include "smtp/smtp_testkit.h"

#define FIRST ((size_t)64 << 10)
#define LAST ((size_t)1 << 20)
#define STEP (LAST / FIRST)
#define RATIO_MAX (2.2 * 2.2 * 2.2 * 2.2)
#define LEAST_NS 300000 // a measurement takes at least this long
#define ATTEMPTS 60     // on a busy machine most are disturbed

// ---- the parsers ---------------------------------------------------------------------------------------

static void header(struct bytes s)
{
    struct mail_header_reader r;
    struct mail_field field;
    size_t used;
    struct mail_header_limits none = {SIZE_MAX / 2, SIZE_MAX / 2, SIZE_MAX / 2};
    mail_header_reader_init(&r, &none);
    mail_header_reader_feed(&r, s, &used);
    (void)mail_header_reader_finish(&r);
    struct bytes rest = buf_bytes(&r.block);
    while (mail_header_next(&rest, &field))
        ;
    mail_header_remove(&r.block, BYTES("Bcc"));
    mail_header_reader_done(&r);
}

static void header_in_bytes(struct bytes s)
{
    struct mail_header_reader r;
    size_t used;
    struct mail_header_limits none = {SIZE_MAX / 2, SIZE_MAX / 2, SIZE_MAX / 2};
    mail_header_reader_init(&r, &none);
    for (; s.len; s = bytes_skip(s, 1))
        mail_header_reader_feed(&r, bytes_first(s, 1), &used);
    (void)mail_header_reader_finish(&r);
    mail_header_reader_done(&r);
}

static void addresses(struct bytes s)
{
    struct arena arena = {0};
    struct mail_address_list list;
    (void)!mail_address_list_parse(s, &arena, &list);
    arena_done(&arena);
}

static void words(struct bytes s)
{
    struct buf out = {0}, again = {0};
    mail_rfc2047_decode(s, &out);
    mail_rfc2047_encode(buf_bytes(&out), 9, &again);
    buf_done(&out);
    buf_done(&again);
}

static void preflight(struct bytes s)
{
    struct preflight *p = preflight_new();
    struct preflight_result result;
    preflight_feed(p, s);
    preflight_finish(p, &(struct preflight_facts){.class = MAIL_BULK}, &result);
    preflight_free(p);
}

static void content_type(struct bytes s)
{
    struct arena arena = {0};
    struct mail_content_type type;
    (void)!mail_content_type_parse(s, &arena, &type);
    arena_done(&arena);
}

static void date(struct bytes s)
{
    struct wall t;
    (void)!mail_date_parse(s, &t);
}

static void ignore(void *ctx, struct bytes piece)
{
    (void)ctx;
    (void)piece;
}

static void mime(struct bytes s)
{
    struct mail_downgrade_plan plan;
    mail_downgrade_plan_start(&plan, 0);
    mail_downgrade_plan_feed(&plan, s);
    if (mail_downgrade_plan_finish(&plan) == OK) {
        struct mail_downgrade *d = mail_downgrade_new(&plan, ignore, NULL);
        (void)!mail_downgrade_feed(d, s);
        (void)!mail_downgrade_finish(d);
        mail_downgrade_free(d);
    }
    mail_downgrade_plan_done(&plan);
}

static void encodings(struct bytes s)
{
    struct buf out = {0};
    struct mail_qp_decoder qp = {0};
    struct mail_base64_decoder base64 = {0};
    (void)!mail_qp_decoder_feed(&qp, s, &out);
    (void)!mail_base64_decoder_feed(&base64, s, &out);
    (void)!mail_base64_decode(s, &out);
    (void)!mail_xtext_decode(s, &out);
    buf_done(&out);
}

// One session for all of a run; what it said is forgotten in between.
static void server(struct bytes s)
{
    struct testkit t;
    testkit_init(&t);
    t.config.errors_max = t.config.junk_max = 100000000;
    testkit_start(&t, false, false);
    for (; s.len; s = bytes_skip(s, 4096)) {
        testkit_feed(&t, bytes_first(s, 4096), 0);
        buf_clear(&t.transcript);
        buf_clear(&t.log);
    }
    testkit_done(&t);
}

static void replies(struct bytes s)
{
    struct smtp_reply_parser p;
    size_t used;
    smtp_reply_parser_init(&p);
    while (s.len && smtp_reply_parser_feed(&p, s, &used) == SMTP_PARSE_DONE)
        s = bytes_skip(s, used);
    smtp_reply_parser_done(&p);
}

static void configuration(struct bytes s)
{
    struct conf *conf;
    struct buf errors = {0};
    if (conf_load_text(s, "f.yaml", "/", &conf, &errors) == OK)
        conf_free(conf);
    buf_done(&errors);
}

static void table(struct bytes s)
{
    struct local_recipients *t;
    struct buf errors = {0};
    (void)!local_recipients_parse(s, "users", &t, &errors);
    local_recipients_free(t);
    buf_done(&errors);
}

static void rules(struct bytes s)
{
    struct sink_rules *r;
    struct buf errors = {0};
    (void)!sink_rules_parse(s, "rules", &r, &errors);
    sink_rules_free(r);
    buf_done(&errors);
}

static enum submission_ownership owns(void *ctx, struct bytes domain)
{
    (void)ctx;
    (void)domain;
    return SUBMISSION_OWNED;
}

static void submission(struct bytes s)
{
    struct arena arena = {0};
    struct submission sub = {.header = s,
                             .authenticated = true,
                             .received_max = 1000000,
                             .header_bytes_max = 16 << 20,
                             .now = {1795327200000000},
                             .hostname = BYTES("mx.example"),
                             .helo = BYTES("client"),
                             .protocol = BYTES("ESMTPSA"),
                             .owns = owns};
    (void)!submission_check(&sub, &arena);
    buf_done(&sub.out);
    arena_done(&arena);
}

static void notification(struct bytes s)
{
    struct recipient recipient = {.number = 1, .address = BYTES("b@example.org")};
    struct envelope envelope = {.accepted_at = {1}, .reverse_path = BYTES("a@example.org")};
    struct dsn_recipient told = {
        .recipient = &recipient, .diagnostic_is_remote = true, .diagnostic = s};
    struct dsn_request request = {.envelope = &envelope,
                                  .header = BYTES("Subject: x\r\n\r\n"),
                                  .hostname = BYTES("relay.example"),
                                  .postmaster = BYTES("MAILER-DAEMON@relay.example"),
                                  .recipients = &told,
                                  .count = 1};
    struct dsn dsn;
    if (dsn_build(&request, &dsn) == OK)
        dsn_done(&dsn);
}

// With a key and, for an empty body, the right hash: nothing is left out but the signature's own arithmetic.
static void verify(struct bytes s)
{
    struct bytes record = BYTES("k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    struct mail_header_reader r;
    size_t used;
    struct mail_header_limits none = {SIZE_MAX / 2, SIZE_MAX / 2, SIZE_MAX / 2};
    mail_header_reader_init(&r, &none);
    mail_header_reader_feed(&r, s, &used);
    (void)mail_header_reader_finish(&r);
    struct dkim_verify *v = dkim_verify_new(buf_bytes(&r.block), (struct wall){0});
    dkim_verify_body(v, bytes_skip(s, used));
    dkim_verify_body_end(v);
    for (size_t i = 0; i < dkim_verify_count(v); i++)
        dkim_verify_key(v, i, DKIM_KEY_FOUND, &record, 1);
    dkim_verify_free(v);
    mail_header_reader_done(&r);
}

static void key_record(struct bytes s)
{
    struct dkim_key key;
    (void)dkim_key_parse(s, &key);
    dkim_key_done(&key);
}

static void sign(struct bytes s)
{
    static const uint8_t hash[DKIM_HASH_BYTES];
    struct dkim_sign_want want = {BYTES("a.example"), BYTES("s"), DKIM_RSA_SHA256, hash, {0}};
    struct dkim_sign signing;
    struct buf field = {0};
    if (dkim_sign_start(&signing, &want, s) == OK)
        dkim_sign_finish(&signing, BYTES("x"), &field);
    dkim_sign_done(&signing);
    buf_done(&field);
}

#define SIGNATURE                                                                                  \
    "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.example; s=s; b=AAAA; "         \
    "bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; h=from:x-y"

static struct bounce_rules *bounce_rules;

static void bounce(struct bytes s)
{
    struct arena arena = {0};
    struct bounce_mail out;
    if (!bounce_rules)
        bounce_rules = bounce_rules_default(); // for all of the run
    bounce_classify_mail(bounce_rules, s, &arena, &out);
    arena_done(&arena);
}

static void bounce_reply(struct bytes s)
{
    struct bounce_reply reply;
    if (!bounce_rules)
        bounce_rules = bounce_rules_default();
    bounce_classify_text(bounce_rules, s, &reply);
    bounce_rules_match(bounce_rules, &(struct bounce_reply){550, BYTES("5.1.1"), s});
}

static void bounce_file(struct bytes s)
{
    struct bounce_rules *r;
    struct buf errors = {0};
    (void)!bounce_rules_load(s, "rules", &r, &errors);
    bounce_rules_free(r);
    buf_done(&errors);
}

#define REPORT                                                                                     \
    "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"                  \
    "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n"
#define DAEMON "From: mailer-daemon@x.example\nSubject: failure notice\n\nundelivered\n"
#define PART "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xc3\xa4"

// ---- rows ----------------------------------------------------------------------------------------------

static const struct row {
    const char *name;
    void (*parse)(struct bytes s);
    const char *begin, *again, *end;
} rows[] = {
    {"header, fields", header, "", "X: y\r\n", "\r\n"},
    {"header, Bcc", header, "", "Bcc: y@z\r\n", "\r\n"},
    {"header, folded", header, "X: ", "y\r\n ", "\r\n"},
    {"header, one line", header, "X: ", "y", "\r\n"},
    {"header, no fields", header, "", ":", ""},
    {"header, byte by byte", header_in_bytes, "", "A: bcd\r\n", "\r\n"},
    {"addresses", addresses, "", "a@b.example, ", "a@b.example"},
    {"addresses, at signs", addresses, "", "a@", ""},
    {"addresses, backslashes", addresses, "", "\\", ""},
    {"addresses, beginnings of words", addresses, "", "=?", ""},
    {"addresses, words of nothing known", addresses, "", "=?a?b?", ""},
    {"addresses, open words", addresses, "", "=?utf-8?q?a ", ""},
    {"addresses, commas", addresses, "a@b.example", ",", ""},
    {"addresses, comments", addresses, "", "(", ""},
    {"addresses, comments closed", addresses, "", "(x)", "a@b.example"},
    {"addresses, groups", addresses, "", "g:;,", "g:;"},
    {"addresses, open groups", addresses, "", "g:", ""},
    {"addresses, quotes", addresses, "", "\"\\", ""},
    {"addresses, brackets", addresses, "", "<", ""},
    {"addresses, routes", addresses, "<", "@a,", ":x@y>"},
    {"addresses, words", addresses, "", "x ", "<a@b.example>"},
    {"addresses, encoded words", addresses, "", "=?utf-8?q?x?= ", "<a@b.example>"},
    {"addresses, dots", addresses, "", "a.", "@b"},
    {"encoded words", words, "", "=?utf-8?q?=C3=A4?= ", ""},
    {"encoded words, open", words, "", "=?utf-8?q?", ""},
    {"encoded words, base64", words, "", "=?utf-8?b?w6Q=?=", ""},
    {"encoded words, signs", words, "", "=?", "="},
    {"encoded words, 8-bit", words, "", "\xc3\xa4\xff ", ""},
    {"content type, parameters", content_type, "text/plain", "; a=b", ""},
    {"content type, quotes", content_type, "text/plain; a=\"", "\\x", "\""},
    {"content type, comments", content_type, "text/plain", "(", ""},
    {"date, comments", date, "", "(", ""},
    {"date, spaces", date, "Sun, 22 Nov 2026", " ", "05:57:00 +0000"},
    {"MIME, 8-bit lines", mime, "Subject: x\r\n\r\n", "\xc3\xa4 \r\n", ""},
    {"MIME, parts", mime, "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
     "--b\r\n\r\n\xc3\r\n", "--b--"},
    {"MIME, nested", mime, "", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", ""},
    {"MIME, messages", mime, "", "Content-Type: message/rfc822\r\n\r\n", ""},
    {"MIME, boundary's beginning", mime, "Content-Type: multipart/mixed; boundary=bbbbbbbb\r\n\r\n",
     "--bbbbbbb\r\n", ""},
    {"MIME, dashes", mime, "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "-", ""},
    {"MIME, a part of CR", mime, PART, "\r", ""},
    {"MIME, a part of spaces", mime, PART, "a ", ""},
    {"MIME, a part of escapes", mime, PART, "=\r\n", ""},
    {"MIME, a part of dashes", mime, PART, "--b", ""},
    {"MIME, a part of boundaries with more", mime, PART, "\r\n--b x", ""},
    {"encodings, text", encodings, "", "QUJD", ""},
    {"encodings, escapes", encodings, "", "=41", ""},
    {"encodings, plus", encodings, "", "+41", ""},
    {"encodings, spaces", encodings, "", " ", ""},
    {"bounce, recipients", bounce, REPORT, "Final-Recipient: rfc822; a@b.example\n\n", "--b--"},
    {"bounce, diagnostics", bounce, REPORT "Action: failed\nDiagnostic-Code: ", "550 user ", "\n"},
    {"bounce, fields", bounce, REPORT, "Status: 5.1.1\n", "\n"},
    {"bounce, addresses", bounce, DAEMON, "a@b.example: no\n", ""},
    {"bounce, one line of addresses", bounce, DAEMON, "<a@b.example> ", ""},
    {"bounce, at signs", bounce, DAEMON, "@", ""},
    {"bounce, leads", bounce, DAEMON, "recipient: ", "a@b.example"},
    {"bounce, many lines", bounce, DAEMON, "\n", ""},
    {"bounce, HTML", bounce, "From: mailer-daemon@x.example\nContent-Type: text/html\n\n", "<&lt;",
     ""},
    {"bounce, header", bounce, "", "Subject: failure notice\nAuto-Submitted: no\n", "\n"},
    {"bounce, carriage returns", bounce, DAEMON, "\r", ""},
    {"bounce, mails inside", bounce, "", "Content-Type: message/rfc822\n\n", ""},
    {"bounce, reply", bounce_reply, "550 5.1.1 ", "user unknown ", ""},
    {"bounce, reply of codes", bounce_reply, "", "550-5.1.1 ", ""},
    {"bounce, reply of beginnings", bounce_reply, "", "mailbox unavail ", ""},
    {"bounce, rules", bounce_file, "rules:\n", "  - {name: a, reason: spam, words: [b]}\n", ""},
    {"preflight, text", preflight, "\r\n", "hH", ""},
    {"preflight, big letters", preflight, "\r\n", "H", ""},
    {"preflight, links", preflight, "\r\n", "http://1.2.3.4", ""},
    {"preflight, one link", preflight, "\r\nhttp://", "1", ""},
    {"preflight, base64", preflight, "Content-Transfer-Encoding: base64\r\n\r\n", "aHR0\r\n", ""},
    {"preflight, quoted-printable", preflight,
     "Content-Transfer-Encoding: quoted-printable\r\n\r\n", "=68=\r\n", ""},
    {"preflight, parts", preflight, "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
     "--b\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\n", ""},
    {"preflight, names", preflight, "Content-Type: a/b", "; name*0=%41", "\r\n"},
    {"preflight, signatures", preflight, "", "DKIM-Signature: d=a; h=b:c\r\n", "\r\n"},
    {"preflight, unsubscribe", preflight, "List-Unsubscribe: ", "<", "\r\n\r\n"},
    {"server, commands", server, "EHLO c\r\n", "NOOP\r\n", ""},
    {"server, junk", server, "", "\xff\r\n", ""},
    {"server, one line", server, "", "x", ""},
    {"server, recipients", server, "EHLO c\r\nMAIL FROM:<a@b.example>\r\n",
     "RCPT TO:<b@c.example>\r\n", ""},
    {"server, content", server,
     "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\nDATA\r\n", ".x\r\n", ""},
    {"server, CR", server, "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\nDATA\r\n",
     "\r", ""},
    {"server, chunks", server, "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\n",
     "BDAT 1\r\nx", ""},
    {"server, empty chunks", server,
     "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\n", "BDAT 0\r\n", ""},
    {"replies", replies, "", "250 2.0.0 ok\r\n", ""},
    {"replies, of many lines", replies, "", "250-x\r\n250-y\r\n250 z\r\n", ""},
    {"configuration, keys", configuration, "", "unknown_key: x\n", ""},
    {"configuration, one list", configuration, "routes: [", "a,", "a]\n"},
    {"configuration, nested", configuration, "a: ", "[", ""},
    {"configuration, text", configuration, "hostname: \"", "x", "\"\n"},
    {"recipient table", table, "", "a@b.example: c@d.example\n", ""},
    {"recipient table, one line", table, "a@b.example: ", "c@d.example, ", "c@d.example\n"},
    {"recipient table, errors", table, "", "x\n", ""},
    {"sink rules, comments", rules, "", "# x\n", ""},
    {"sink rules, errors", rules, "", "x\n", ""},
    {"submission, fields", submission, "From: a@b.example\r\n", "X-Y: z\r\n", ""},
    {"submission, From", submission, "From: ", "a@b.example,\r\n ", "a@b.example\r\n"},
    {"submission, Froms", submission, "", "From: a@b.example\r\n", ""},
    {"submission, Received", submission, "From: a@b.example\r\n", "Received: x\r\n", ""},
    {"submission, Bcc", submission, "From: a@b.example\r\n", "Bcc: x@y.example\r\n", ""},
    {"DKIM, h=", verify, SIGNATURE, ":from", "\r\nFrom: a@b.example\r\n\r\n"},
    {"DKIM, fields", verify, SIGNATURE "\r\n", "X-Y: z\r\n", "\r\n"},
    {"DKIM, folded field", verify, SIGNATURE "\r\nFrom: ", "x\r\n\t", "\r\n\r\n"},
    {"DKIM, signatures", verify, "", "DKIM-Signature: v=1\r\n", "\r\n"},
    {"DKIM, tags", verify, "DKIM-Signature: ", "x=y;", "\r\n\r\n"},
    {"DKIM, one tag", verify, "DKIM-Signature: v=", "\r\n ", "1\r\n\r\n"},
    {"DKIM, base64", verify, "DKIM-Signature: v=1; b=", " ", "=\r\n\r\n"},
    {"DKIM, body of spaces", verify, SIGNATURE "\r\n\r\n", " ", "x"},
    {"DKIM, body of line ends", verify, SIGNATURE "\r\n\r\n", "\r\n", "x"},
    {"DKIM, body of CR", verify, SIGNATURE "\r\n\r\n", "\r", ""},
    {"DKIM, body of words", verify, SIGNATURE "\r\n\r\n", "word \t word \r\n", ""},
    {"DKIM, key record", key_record, "p=", "AAAA", ""},
    {"DKIM, key's hashes", key_record, "h=", "sha1:", "; p="},
    {"DKIM, signing", sign, "From: a@b.example\r\n", "X-Y: z\r\n", ""},
    {"DKIM, signing lists", sign, "From: a@b.example\r\n", "List-X: z\r\n", ""},
    {"DKIM, signing one field", sign, "From: a@b.example\r\nSubject:", " x", "\r\n"},
    {"notification", notification, "", "550 no \xc3\xa4\n", ""},
    {"notification, one word", notification, "", "x", ""},
};

// ---- measuring -----------------------------------------------------------------------------------------

static char *make_input(const struct row *row, size_t size)
{
    char *at = mem_new(size);
    size_t begin = strlen(row->begin), again = strlen(row->again), end = strlen(row->end);
    memcpy(at, row->begin, begin);
    for (size_t i = begin; i < size - end; i++)
        at[i] = row->again[(i - begin) % again];
    memcpy(at + size - end, row->end, end);
    return at;
}

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t measure(const struct row *row, struct bytes input, int times)
{
    int64_t start = cpu_ns();
    for (int i = 0; i < times; i++)
        row->parse(input);
    return cpu_ns() - start;
}

// The least of many measurements of each, until they fit; or what a third of the pairs say, which were taken right after
// one another: on a machine that is always busy a short one is lucky sooner than a long one.
static double ratio_of(const struct row *row)
{
    char *one = make_input(row, FIRST), *two = make_input(row, LAST);
    int times = 1, pairs_fit = 0;
    while (measure(row, bytes_of(one, FIRST), times) < LEAST_NS && times < 1000)
        times *= 2;
    int64_t least_one = INT64_MAX, least_two = INT64_MAX;
    for (int i = 0; i < ATTEMPTS; i++) {
        int64_t a = measure(row, bytes_of(one, FIRST), times);
        int64_t b = measure(row, bytes_of(two, LAST), times);
        least_one = a < least_one ? a : least_one;
        least_two = b < least_two ? b : least_two;
        pairs_fit += (double)b <= RATIO_MAX * (double)a;
        // The first pair may have been disturbed in the small one only: not before the third.
        if (i >= 2 && (double)least_two <= RATIO_MAX * (double)least_one)
            break;
    }
    free(one);
    free(two);
    return pairs_fit * 3 >= ATTEMPTS ? RATIO_MAX : (double)least_two / (double)least_one;
}

static void test_i_doubling(void **state)
{
    (void)state;
    bool bad = false;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        double ratio = ratio_of(&rows[i]);
        if (ratio <= RATIO_MAX)
            continue;
        bad = true;
        print_message("# %s: %zu bytes take %.1f times as long as %zu\n", rows[i].name, LAST, ratio,
                      FIRST);
    }
    assert_false(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_i_doubling)};
    // Large blocks come from the heap: not every growth is a new mapping, whose pages the kernel clears.
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    mallopt(M_TOP_PAD, 64 << 20);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
