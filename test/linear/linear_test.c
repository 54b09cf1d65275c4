// SPDX-License-Identifier: MIT
//
// Doubling what a parser reads takes at most 2.2 times as long, from 64 KiB up to 1 MiB, however hostile it is.
//
// How it works: a row gives the bytes that an input begins with, those that it repeats, and those that it ends with.
// Inputs of all five sizes are parsed in turn, again and again; the time of each is the least CPU time that it took,
// which other work on the machine can't make smaller. Each of the four doublings is judged by itself, and fails if it
// never comes out right. What memory costs is left out, because a step from one of the processor's caches to the next is
// none of the parser's: it shows where a parser does next to nothing. (No counter of instructions: virtual machines
// often have none.)
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/test_base.h"
#include "bounce/bounce_class.h"
#include "bounce/dsn.h"
#include "bounce/returned.h"
#include "cli/csv.h"
#include "cli/import_postfix.h"
#include "cli/sink_rules.h"
#include "conf/conf.h"
#include "dns/dns_rdata.h"
#include "dns/dns_zone.h"
#include "intake/submission.h"
#include "mail/mail_address_list.h"
#include "mail/mail_date.h"
#include "mail/mail_downgrade.h"
#include "mail/mail_encode.h"
#include "mail/mail_header.h"
#include "mail/mail_lines.h"
#include "mail/mail_local.h"
#include "mail/mail_mime.h"
#include "mail/mail_rfc2047.h"
#include "mail/preflight.h"
#include "route/local_recipients.h"
#include "sign/dkim_verify.h"
#include "sign/spf.h"
#include "smtp/smtp_reply_parser.h"
#include "smtp/smtp_testkit.h"
#include "spool/envelope_codec.h"
#include "spool/outcome_codec.h"
#include "spool/segment.h"

#define FIRST ((size_t)64 << 10)
#define LAST ((size_t)1 << 20)
#define SIZES 5
#define RATIO_MAX 2.2
#define MEMORY_NS 0.1   // of a byte: 10 GB/s
#define LEAST_NS 300000 // a measurement takes at least this long
#define ROUNDS_MIN 3    // the first may have been disturbed in the small ones only
#define ROUNDS_MAX 60   // on a busy machine most are disturbed
#define LOOKS 3 // what fails is looked at again after the others: who disturbed it may be gone

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

// A mail to a return path of a message with many recipients.
static void returned(struct bytes s)
{
    static struct recipient recipients[1000];
    struct envelope envelope = {.recipients = recipients, .recipients_count = COUNT_OF(recipients)};
    struct arena arena = {0};
    struct bounce_mail mail;
    struct spool_feedback *f;
    for (uint32_t i = 0; i < COUNT_OF(recipients); i++)
        recipients[i] = (struct recipient){.number = i + 1, .address = BYTES("z@b.example")};
    if (!bounce_rules)
        bounce_rules = bounce_rules_default();
    bounce_classify_mail(bounce_rules, s, &arena, &mail);
    struct returned r = {.token = {RETURN_BOUNCE, {1, 2}, 0}, .mail = &mail, .envelope = &envelope};
    returned_feedback(&r, &arena, &f);
    arena_done(&arena);
}

// ---- of this host and its operator, and of the DNS

static void csv(struct bytes s)
{
    struct arena arena = {0};
    struct csv_record r;
    (void)!csv_parse(s, &arena, &r);
    arena_done(&arena);
}

static void zone(struct bytes s)
{
    struct dns_zone *zone;
    struct buf error = {0};
    struct arena arena = {0};
    struct dns_answer answer;
    if (dns_zone_parse(s, &zone, &error) == OK)
        dns_zone_answer(zone, BYTES("a"), DNS_TXT, &arena, &answer);
    dns_zone_free(zone);
    arena_done(&arena);
    buf_done(&error);
}

static void rdata(struct bytes s)
{
    static const enum dns_type types[] = {DNS_CNAME, DNS_MX, DNS_TXT, DNS_TLSA};
    struct arena arena = {0};
    struct dns_record record;
    for (size_t i = 0; i < COUNT_OF(types); i++)
        (void)!dns_rdata_parse(types[i], s, &arena, &record);
    (void)dns_name_is_valid(s);
    arena_done(&arena);
}

static void postfix_with(struct bytes main, struct bytes master)
{
    struct import im = {.main_file = "/nonexistent/main.cf", .cf.host = BYTES("host.example.org")};
    if (postfix_cf_main(&im.cf, main, "main.cf", &im.errors) == OK &&
        postfix_cf_master(&im.cf, master, "master.cf", &im.errors) == OK)
        (void)!import_postfix(&im);
    postfix_cf_done(&im.cf);
    buf_done(&im.out);
    buf_done(&im.replaced);
    buf_done(&im.left);
    buf_done(&im.errors);
}

static void postfix_main(struct bytes s)
{
    postfix_with(s, BYTES("smtp inet n - y - - smtpd\n"));
}

static void postfix_master(struct bytes s)
{
    postfix_with(BYTES(""), s);
}

static void local_lines(struct bytes s)
{
    struct mail_lines lines = {.dot_ends = true};
    struct buf text = {0};
    mail_lines_feed(&lines, s, &text);
    mail_lines_finish(&lines, &text);
    buf_done(&text);
}

static void local_header(struct bytes s)
{
    struct arena arena = {0};
    struct mail_local m = {.header = s,
                           .domain = BYTES("h.example"),
                           .from = BYTES("me@h.example"),
                           .has_envelope = true,
                           .take_recipients = true};
    (void)!mail_local_read(&m, &arena);
    buf_done(&m.out);
    arena_done(&arena);
}

static enum spf_dns one_record(void *ctx, struct bytes name, enum spf_type type,
                               const struct spf_record **out, size_t *out_count)
{
    *out = ctx;
    *out_count = type == SPF_TXT;
    return *out_count ? SPF_DNS_OK : SPF_DNS_NONE;
}

static void spf(struct bytes s)
{
    struct spf_record record = {.text = s};
    struct spf_port port = {&record, one_record};
    struct spf_question q = {
        .ip = {192, 0, 2, 1}, .domain = BYTES("a.test"), .helo = BYTES("h.test")};
    struct spf_verdict verdict;
    spf_check(&port, &q, &verdict);
}

// ---- of the spool: what a restart reads

struct disk_file {
    struct bytes data; // behind the segment's header
};

int disk_pread(struct disk_file *f, void *out, size_t n, uint64_t offset, size_t *out_n)
{
    struct bytes there =
        offset < SEGMENT_DATA_AT ? BYTES_NONE : bytes_mid(f->data, offset - SEGMENT_DATA_AT, n);
    if (there.len)
        memcpy(out, there.at, there.len);
    *out_n = there.len;
    return OK;
}

int disk_pwritev(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset)
{
    return E_FULL;
}

int disk_sync(struct disk_file *f)
{
    return E_FULL;
}

static void segment(struct bytes s)
{
    struct disk_file file = {s};
    struct segment_scan scan;
    struct scanned r;
    segment_scan_init(&scan, &file, 1, SEGMENT_DATA_AT, SEGMENT_DATA_AT + s.len, false);
    while (segment_scan_next(&scan, &r) == OK)
        ;
    segment_scan_done(&scan);
}

static void segment_entries(struct bytes s)
{
    struct index_entry e;
    struct spool_outcome outcome;
    int err = OK;
    while (index_next(&s, &e, &err))
        (void)!outcome_decode(e.id, e.summary, BYTES_NONE, &outcome);
}

// Attributes of another release behind those of a message to one recipient.
static void envelope(struct bytes s)
{
    static struct recipient recipient = {.number = 1, .address = {"b@example.org", 13}};
    struct stored_message *m = stored_message_new(), *again = stored_message_new();
    struct buf summary = {0}, rest = {0};
    uint32_t count;
    m->envelope->recipients = &recipient;
    m->envelope->recipients_count = 1;
    if (envelope_encode(m, &summary, &rest) == OK) {
        buf_add(&summary, s);
        buf_add(&rest, s);
        (void)!envelope_decode((struct message_id){1, 2}, buf_bytes(&summary), buf_bytes(&rest),
                               again);
        (void)!summary_recipients(buf_bytes(&summary), &count);
        summary_has_extent(buf_bytes(&summary));
    }
    stored_message_unref(m);
    stored_message_unref(again);
    buf_done(&summary);
    buf_done(&rest);
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
    {"returned, recipients", returned, REPORT, "Final-Recipient: rfc822; a@b.example\n\n", "--b--"},
    {"returned, addresses", returned, DAEMON, "a@b.example: no\n", ""},
    {"csv, text", csv, "", "x", ""},
    {"csv, quotes", csv, "\"", "\"\"", "\""},
    {"csv, open", csv, "a,\"", "x\n", ""},
    {"csv, commas", csv, "", ",", ""},
    {"csv, spaces", csv, "a,", " ", "x"},
    {"zone, names", zone, "{", "\"a\":{\"A\":[\"192.0.2.1\"]},", "\"b\":{}}"},
    {"zone, records", zone, "{\"a\":{\"A\":[", "\"192.0.2.1\",", "\"192.0.2.1\"]}}"},
    {"zone, strings", zone, "{\"a\":{\"TXT\":[[", "\"x\",", "\"x\"]]}}"},
    {"zone, escapes", zone, "{\"a\":{\"TXT\":[\"", "\\u0041", "\"]}}"},
    {"zone, nested", zone, "{\"a\":", "[", ""},
    {"zone, spaces", zone, "{", " ", "}"},
    {"rdata, strings", rdata, "", "\001x", ""},
    {"rdata, text", rdata, "", "x", ""},
    {"main.cf, lines", postfix_main, "", "mynetworks = 192.0.2.0/24\n", ""},
    {"main.cf, one value", postfix_main, "mynetworks = ", "192.0.2.1, ", "\n"},
    {"main.cf, folded", postfix_main, "mynetworks =", " 192.0.2.1\n", ""},
    {"main.cf, names", postfix_main, "a = b\nmynetworks = ", "$a ", "\n"},
    {"main.cf, open names", postfix_main, "mynetworks = ", "${a?{", "\n"},
    {"main.cf, comments", postfix_main, "", "# x\n", ""},
    {"main.cf, errors", postfix_main, "", "x\n", ""},
    {"master.cf, services", postfix_master, "", "smtp inet n - y - - smtpd\n", ""},
    {"master.cf, options", postfix_master, "smtp inet n - y - - smtpd\n", " -o a=b\n", ""},
    {"local, lines", local_lines, "", "x\n", ""},
    {"local, CR", local_lines, "", "\r", ""},
    {"local, mbox", local_lines, "", ">From x\n", ""},
    {"local, dots", local_lines, "", ".\r", ""},
    {"local, fields", local_header, "", "X-Y: z\r\n", ""},
    {"local, recipients", local_header, "To: ", "a, ", "b\r\n"},
    {"local, To", local_header, "", "To: a\r\n", ""},
    {"local, Bcc", local_header, "", "Bcc: a@b.example\r\n", ""},
    {"local, envelope", local_header, "", "X-Receiver: <a@b.example>\r\n", ""},
    {"local, 8-bit", local_header, "Subject: ", "\xe4 ", "\r\n"},
    {"local, comments", local_header, "To: ", "(", "\r\n"},
    {"SPF, addresses", spf, "v=spf1", " ip4:192.0.2.2", " -all"},
    {"SPF, networks", spf, "v=spf1", " ip6:2001:db8::/32", " -all"},
    {"SPF, hosts", spf, "v=spf1", " a", " -all"},
    {"SPF, macros", spf, "v=spf1 exists:", "%{d2r.-}", " -all"},
    {"SPF, spaces", spf, "v=spf1", " ", "-all"},
    {"SPF, modifiers", spf, "v=spf1", " x=y", " -all"},
    {"SPF, one word", spf, "v=spf1 ", "x", " -all"},
    {"segment, text", segment, "", "x", ""},
    {"segment, heads", segment, "", "PHR1\001\001\001\001xxxxxxxx", ""},
    {"segment, index", segment_entries, "", "\002\001\001\0200123456789abcdef\001x\002\001\001",
     ""},
    {"envelope, attributes", envelope, "", "\177\001x", ""},
    {"envelope, of a later release", envelope, "", "\377\177\001x", ""},
    {"notification", notification, "", "550 no \xc3\xa4\n", ""},
    {"notification, one word", notification, "", "x", ""},
};

// ---- measuring -----------------------------------------------------------------------------------------

// Whole repetitions: what is cut short may be something else, which takes another way.
static struct bytes make_input(const struct row *row, size_t size)
{
    size_t begin = strlen(row->begin), again = strlen(row->again), end = strlen(row->end);
    size_t count = (size - begin - end) / again;
    char *at = mem_new(size);
    memcpy(at, row->begin, begin);
    for (size_t i = 0; i < count; i++)
        memcpy(at + begin + i * again, row->again, again);
    memcpy(at + begin + count * again, row->end, end);
    return bytes_of(at, begin + count * again + end);
}

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double measure(const struct row *row, struct bytes input, int times)
{
    int64_t start = cpu_ns();
    for (int i = 0; i < times; i++)
        row->parse(input);
    return (double)(cpu_ns() - start) / times;
}

// An input of one size, and the least time that it took.
struct measured {
    struct bytes input;
    int times; // so many make a measurement
    double least_ns;
};

// The first of the doublings that takes too long, by what is known yet; SIZES - 1: none.
static size_t too_long(const struct measured m[SIZES])
{
    size_t i = 0;
    for (; i < SIZES - 1; i++)
        if (m[i + 1].least_ns > RATIO_MAX * m[i].least_ns + MEMORY_NS * (double)m[i + 1].input.len)
            break;
    return i;
}

static bool check_row(const struct row *row)
{
    struct measured m[SIZES];
    for (size_t i = 0; i < SIZES; i++) {
        m[i] = (struct measured){make_input(row, FIRST << i), 1, 1e18};
        while (measure(row, m[i].input, m[i].times) * m[i].times < LEAST_NS && m[i].times < 1000)
            m[i].times *= 2;
    }
    for (int round = 0; round < ROUNDS_MAX; round++) {
        for (size_t i = 0; i < SIZES; i++) {
            double ns = measure(row, m[i].input, m[i].times);
            m[i].least_ns = ns < m[i].least_ns ? ns : m[i].least_ns;
        }
        if (round >= ROUNDS_MIN - 1 && too_long(m) == SIZES - 1)
            break;
    }
    size_t bad = too_long(m);
    if (bad < SIZES - 1)
        print_message("# %s: %zu bytes take %.0f ns, %zu take %.0f: %.2f times as long\n",
                      row->name, m[bad].input.len, m[bad].least_ns, m[bad + 1].input.len,
                      m[bad + 1].least_ns, m[bad + 1].least_ns / m[bad].least_ns);
    for (size_t i = 0; i < SIZES; i++)
        free((char *)(uintptr_t)m[i].input.at);
    return bad == SIZES - 1;
}

static void test_i_doubling(void **state)
{
    (void)state;
    bool good[COUNT_OF(rows)] = {false};
    size_t bad = COUNT_OF(rows);
    for (int look = 0; look < LOOKS && bad > 0; look++) {
        bad = 0;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            good[i] = good[i] || check_row(&rows[i]);
            bad += !good[i];
        }
    }
    assert_int_equal(bad, 0);
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
