// SPDX-License-Identifier: MIT
//
// Every way out of dkim_verify has its row: a signature made for it, changed at one place.
#include <openssl/rsa.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/test_base.h"
#include "mail/mail_encode.h"
#include "mail/mail_header.h"
#include "sign/dkim_verify.h"

#define NOW 1000000
#define HEADER "From: Joe <joe@example.com>\r\nTo: a@example.org\r\nSubject: Hi  there\r\n\tyou\r\n"
#define BODY "Hello  world \r\n\r\n.\r\n\r\n"

// Keys are made once.
static struct {
    EVP_PKEY *rsa, *other, *small, *ed25519;
    char *rsa_record, *other_record, *small_record, *ed25519_record;
} keys;

static char *record_of(EVP_PKEY *key)
{
    struct buf text = {0};
    assert_int_equal(dkim_key_format(key, &text), OK);
    return buf_take(&text);
}

static int make_keys(void **state)
{
    keys.rsa = EVP_RSA_gen(2048);
    keys.other = EVP_RSA_gen(1024);
    keys.small = EVP_RSA_gen(768);
    keys.ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    keys.rsa_record = record_of(keys.rsa);
    keys.other_record = record_of(keys.other);
    keys.small_record = record_of(keys.small);
    keys.ed25519_record = record_of(keys.ed25519);
    return 0;
}

static int free_keys(void **state)
{
    EVP_PKEY *const all[] = {keys.rsa, keys.other, keys.small, keys.ed25519};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        EVP_PKEY_free(all[i]);
    free(keys.rsa_record);
    free(keys.other_record);
    free(keys.small_record);
    free(keys.ed25519_record);
    return 0;
}

// `text` with the first `from` as `to`.
static void replace(struct buf *text, const char *from, const char *to)
{
    struct buf out = {0};
    struct bytes old = buf_bytes(text);
    ptrdiff_t at = bytes_search(old, bytes_cstr(from));
    if (at < 0)
        fail_msg("\"%s\" is not there", from);
    buf_add_all(&out, bytes_first(old, (size_t)at), bytes_cstr(to),
                bytes_skip(old, (size_t)at + strlen(from)));
    buf_done(text);
    *text = out;
}

struct making {
    EVP_PKEY *key;
    enum dkim_canon header, body;
    uint64_t limit;
    const char *from, *to; // in the field before it is signed; NULL: nothing
};

static void add_body_hash(const struct making *m, struct buf *out)
{
    uint8_t hash[DKIM_HASH_BYTES];
    struct dkim_body b;
    dkim_body_init(&b, m->body);
    b.limit = m->limit;
    dkim_body_feed(&b, BYTES(BODY));
    dkim_body_finish(&b, hash);
    mail_base64_encode(bytes_of(hash, sizeof hash), out);
}

// A DKIM-Signature over From, To and Subject of HEADER, and BODY.
static void make_signature(const struct making *m, struct buf *out)
{
    static const char *const names[] = {"simple", "relaxed"};
    struct buf canonical = {0}, signature = {0};
    uint8_t digest[DKIM_HASH_BYTES];
    struct mail_field field;
    struct bytes rest = BYTES(HEADER);
    buf_printf(out, "DKIM-Signature: v=1; a=%s; c=%s/%s; d=example.com; s=sel; t=1000;\r\n",
               m->key == keys.ed25519 ? "ed25519-sha256" : "rsa-sha256", names[m->header],
               names[m->body]);
    buf_add_cstr(out, "\th=From:To : subject:To; bh=");
    add_body_hash(m, out);
    buf_add_cstr(out, "; b=");
    if (m->from)
        replace(out, m->from, m->to);
    while (mail_header_next(&rest, &field))
        dkim_canon_field(m->header, field.raw, &canonical);
    dkim_canon_signature(m->header, buf_bytes(out), &canonical);
    CHECK(EVP_Digest(canonical.at, canonical.len, digest, NULL, EVP_sha256(), NULL) == 1);
    CHECK(dkim_sign_digest(m->key, digest, &signature) == OK);
    mail_base64_encode(buf_bytes(&signature), out);
    buf_add_cstr(out, "\r\n");
    buf_done(&canonical);
    buf_done(&signature);
}

// What dkim_verify says of the first signature. `record` NULL: as `lookup` says.
static struct dkim_verdict judge(struct bytes header, struct bytes body,
                                 enum dkim_key_lookup lookup, const char *const *records,
                                 size_t count)
{
    struct bytes texts[DKIM_KEYS_MAX + 2];
    struct dkim_verify *v = dkim_verify_new(header, (struct wall){NOW * INT64_C(1000000)});
    for (size_t i = 0; i < count; i++)
        texts[i] = bytes_cstr(records[i]);
    dkim_verify_body(v, body);
    dkim_verify_body_end(v);
    assert_true(dkim_verify_count(v) > 0);
    if (dkim_verify_key_name(v, 0).len)
        dkim_verify_key(v, 0, lookup, texts, count);
    struct dkim_verdict verdict = *dkim_verify_verdict(v, 0);
    verdict.domain = verdict.selector = verdict.algorithm = BYTES_NONE; // gone with v
    dkim_verify_free(v);
    return verdict;
}

static void expect(const char *name, const struct dkim_verdict *got, enum dkim_result result,
                   const char *reason)
{
    if (got->result != result || strcmp(got->reason, reason) != 0)
        fail_msg("%s: got %s \"%s\", want %s \"%s\"", name, dkim_result_text(got->result),
                 got->reason, dkim_result_text(result), reason);
}

// ---- what passes --------------------------------------------------------------------------------

static void test_passes(void **state)
{
    EVP_PKEY *const all[] = {keys.rsa, keys.other, keys.ed25519};
    const char *const records[] = {keys.rsa_record, keys.other_record, keys.ed25519_record};
    for (size_t i = 0; i < COUNT_OF(all) * 4; i++) {
        struct making m = {all[i / 4], i % 2, i / 2 % 2, UINT64_MAX, NULL, NULL};
        struct buf header = {0};
        make_signature(&m, &header);
        buf_add_cstr(&header, HEADER);
        struct dkim_verdict verdict =
            judge(buf_bytes(&header), BYTES(BODY), DKIM_KEY_FOUND, &records[i / 4], 1);
        expect("pass", &verdict, DKIM_PASS, "");
        buf_done(&header);
    }
}

// Changes that keep a signature whole.
static void test_tags_that_pass(void **state)
{
    static const char *const changes[][2] = {
        {"v=1;", "  v = 1 ;\r\n\t"},
        {"a=rsa", "a=RSA"},
        {"t=1000;", ""},
        {"t=1000;", "t=1000; x=1000000;"},
        {"t=1000;", "t=99999999999;"}, // RFC 6376 3.5: from the future MAY be ignored
        {"t=1000;", "x=99999999999999999999999999;"},
        {"t=1000;", "unknown=tag; q=other:dns/txt;"},
        {"t=1000;", "i=joe@example.com;"},
        {"t=1000;", "i=@EXAMPLE.com;"},
        {"t=1000;", "i=joe@sub.example.com;"},
        {"d=example.com", "d=Example.COM"},
        {"t=1000;", "z=From:joe|To:x;"},
        {"h=From", "h=FROM"},
    };
    const char *record = keys.rsa_record;
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        struct making m = {keys.rsa,   DKIM_RELAXED,  DKIM_RELAXED,
                           UINT64_MAX, changes[i][0], changes[i][1]};
        struct buf header = {0};
        make_signature(&m, &header);
        buf_add_cstr(&header, HEADER);
        struct dkim_verdict verdict =
            judge(buf_bytes(&header), BYTES(BODY), DKIM_KEY_FOUND, &record, 1);
        expect(changes[i][1], &verdict, DKIM_PASS, "");
        buf_done(&header);
    }
}

// ---- what does not ------------------------------------------------------------------------------

// The signature is good but for this one thing.
static void test_j_signature_faults(void **state)
{
    static const struct {
        const char *from, *to;
        enum dkim_result result;
        const char *reason;
    } rows[] = {
        {"v=1;", "", DKIM_NEUTRAL, "v= is missing"},
        {"a=rsa-sha256;", "", DKIM_NEUTRAL, "a= is missing"},
        {"d=example.com;", "", DKIM_NEUTRAL, "d= is missing"},
        {"s=sel;", "", DKIM_NEUTRAL, "s= is missing"},
        {"h=From:To : subject:To;", "", DKIM_NEUTRAL, "h= is missing"},
        {"bh=", "xh=", DKIM_NEUTRAL, "bh= is missing"},
        {" b=", " xb=", DKIM_NEUTRAL, "b= is missing"},
        {"v=1;", "v=2;", DKIM_NEUTRAL, "unknown version"},
        {"v=1;", "v=1; v=1;", DKIM_NEUTRAL, "a tag stands twice in the signature"},
        {"v=1;", "v=1;;", DKIM_NEUTRAL, "the signature is malformed"},
        {"v=1;", "v=1; 1x=y;", DKIM_NEUTRAL, "the signature is malformed"},
        {"v=1;", "v=1; x;", DKIM_NEUTRAL, "the signature is malformed"},
        {"v=1;", "v=1; x=\x01;", DKIM_NEUTRAL, "the signature is malformed"},
        {"rsa-sha256", "rsa-sha1", DKIM_FAIL, "rsa-sha1 is too weak"},
        {"rsa-sha256", "dsa-sha256", DKIM_NEUTRAL, "unknown algorithm"},
        {"c=relaxed/relaxed", "c=loose/relaxed", DKIM_NEUTRAL, "unknown canonicalization"},
        {"c=relaxed/relaxed", "c=relaxed/", DKIM_NEUTRAL, "unknown canonicalization"},
        {"c=relaxed/relaxed", "c=relaxed/relaxed/simple", DKIM_NEUTRAL, "unknown canonicalization"},
        {"bh=", "bh=!", DKIM_NEUTRAL, "bh= is no SHA-256 in base64"},
        {"bh=", "bh=AAAA", DKIM_NEUTRAL, "bh= is no SHA-256 in base64"},
        {" b=", " b=A", DKIM_NEUTRAL, "b= is no signature in base64"},
        {" b=", " b=; z=", DKIM_NEUTRAL, "b= is no signature in base64"},
        {"d=example.com", "d=exa mple.com", DKIM_NEUTRAL, "d= is no domain name"},
        {"d=example.com", "d=", DKIM_NEUTRAL, "d= is no domain name"},
        {"d=example.com", "d=[192.0.2.1]", DKIM_NEUTRAL, "d= is no domain name"},
        {"s=sel", "s=s/l", DKIM_NEUTRAL, "s= is no selector"},
        {"t=1000;", "i=joe;", DKIM_NEUTRAL, "i= is no address"},
        {"t=1000;", "i=joe@;", DKIM_NEUTRAL, "i= is no address"},
        {"t=1000;", "i=joe@other.example;", DKIM_PERMERROR, "i= is not within d="},
        {"t=1000;", "i=joe@notexample.com;", DKIM_PERMERROR, "i= is not within d="},
        {"h=From:", "h=", DKIM_PERMERROR, "From is not signed"},
        {"h=From:To :", "h=From::", DKIM_NEUTRAL, "h= is no list of field names"},
        {"h=From:To :", "h=Fr om:", DKIM_NEUTRAL, "h= is no list of field names"},
        {"t=1000;", "q=dns/other;", DKIM_NEUTRAL, "q= has no method that we know"},
        {"t=1000;", "l=-1;", DKIM_NEUTRAL, "l= is no number"},
        {"t=1000;", "l=;", DKIM_NEUTRAL, "l= is no number"},
        {"t=1000;", "t=now;", DKIM_NEUTRAL, "t= or x= is no time"},
        {"t=1000;", "x=1e9;", DKIM_NEUTRAL, "t= or x= is no time"},
        {"t=1000;", "t=1000; x=999;", DKIM_NEUTRAL, "x= lies before t="},
        {"t=1000;", "t=1000; x=999999;", DKIM_FAIL, "the signature has expired"},
        {"t=1000;", "l=99;", DKIM_FAIL, "the body is shorter than l="},
        {"t=1000;", "l=99999999999999999999999999;", DKIM_FAIL, "the body is shorter than l="},
        {"bh=", "bh=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=; z=", DKIM_FAIL,
         "the body hash does not match"},
        {"h=From:To : subject:To", "h=From:subject:To", DKIM_FAIL, "the signature does not match"},
        {"h=From:To : subject:To", "h=From:To", DKIM_FAIL, "the signature does not match"},
        {"c=relaxed/relaxed", "c=simple/relaxed", DKIM_FAIL, "the signature does not match"},
        {"c=relaxed/relaxed", "c=relaxed", DKIM_FAIL, "the body hash does not match"},
        {" b=", " b=AAAA", DKIM_FAIL, "the signature does not match"},
    };
    const char *record = keys.rsa_record;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct making m = {keys.rsa,   DKIM_RELAXED, DKIM_RELAXED,
                           UINT64_MAX, rows[i].from, rows[i].to};
        struct buf header = {0};
        make_signature(&m, &header);
        buf_add_cstr(&header, HEADER);
        struct dkim_verdict verdict =
            judge(buf_bytes(&header), BYTES(BODY), DKIM_KEY_FOUND, &record, 1);
        expect(rows[i].to, &verdict, rows[i].result, rows[i].reason);
        buf_done(&header);
    }
}

// The message is changed behind the signature.
static void test_j_message_faults(void **state)
{
    static const struct {
        const char *from, *to; // in the header
        const char *body;
        enum dkim_result result;
        const char *reason;
    } rows[] = {
        {NULL, NULL, "Hello world\r\n\r\n.\r\n", DKIM_PASS, ""},
        {NULL, NULL, "Hello world\r\n\r\n.", DKIM_PASS, ""},
        {NULL, NULL, "Hello worlds\r\n\r\n.\r\n", DKIM_FAIL, "the body hash does not match"},
        {NULL, NULL, "Helloworld\r\n\r\n.\r\n", DKIM_FAIL, "the body hash does not match"},
        {NULL, NULL, "Hello world\r\n.\r\n", DKIM_FAIL, "the body hash does not match"},
        {NULL, NULL, "", DKIM_FAIL, "the body hash does not match"},
        {"Hi  there\r\n\tyou", "Hi there you", BODY, DKIM_PASS, ""},
        {"Subject: ", "SUBJECT :", BODY, DKIM_PASS, ""},
        {"Hi", "hi", BODY, DKIM_FAIL, "the signature does not match"},
        {"Joe", "Jim", BODY, DKIM_FAIL, "the signature does not match"},
        {"Joe <", "Joe<", BODY, DKIM_FAIL, "the signature does not match"},
        // To is over-signed, Subject is not: one on top is not seen by the signature
        {"To:", "To: b@example.org\r\nTo:", BODY, DKIM_FAIL, "the signature does not match"},
        {"To:", "Subject: new\r\nTo:", BODY, DKIM_PASS, ""},
        {"\tyou\r\n", "\tyou\r\nSubject: new\r\n", BODY, DKIM_FAIL, "the signature does not match"},
        {"From: J", "X-Other: x\r\nFrom: J", BODY, DKIM_PASS, ""},
        {"s=sel", "s=sel ", BODY, DKIM_FAIL, "the signature does not match"},
        {"t=1000", "t=1001", BODY, DKIM_FAIL, "the signature does not match"},
    };
    const char *record = keys.ed25519_record;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct making m = {keys.ed25519, DKIM_RELAXED, DKIM_RELAXED, UINT64_MAX, NULL, NULL};
        struct buf header = {0};
        make_signature(&m, &header);
        buf_add_cstr(&header, HEADER);
        if (rows[i].from)
            replace(&header, rows[i].from, rows[i].to);
        struct dkim_verdict verdict =
            judge(buf_bytes(&header), bytes_cstr(rows[i].body), DKIM_KEY_FOUND, &record, 1);
        expect(rows[i].to ? rows[i].to : rows[i].body, &verdict, rows[i].result, rows[i].reason);
        buf_done(&header);
    }
}

// The key record, and DNS.
static void test_j_key_faults(void **state)
{
    char rsa_of[3000], other_of[3000];
    const char *p = strstr(keys.rsa_record, "p=");
    const struct {
        const char *format; // %s: p= of the right key
        enum dkim_result result;
        const char *reason;
    } rows[] = {
        {"%s", DKIM_PASS, ""},
        {"v=DKIM1; %s", DKIM_PASS, ""},
        {" v = DKIM1 ;\tk=rsa; n=a note; x=y; %s; ", DKIM_PASS, ""},
        {"v=DKIM1; g=nobody; %s", DKIM_PASS, ""},
        {"v=DKIM1; h=sha1:sha256; s=*; t=y:s; %s", DKIM_PASS, ""},
        {"v=DKIM1; s=tlsrpt:email; %s", DKIM_PASS, ""},
        {"", DKIM_PERMERROR, "the key record is malformed"},
        {"v=spf1 -all", DKIM_PERMERROR, "the key record is malformed"},
        {"v=DKIM2; %s", DKIM_PERMERROR, "the key record is malformed"},
        {"k=rsa; v=DKIM1; %s", DKIM_PERMERROR, "the key record is malformed"},
        {"v=DKIM1; k=rsa", DKIM_PERMERROR, "the key record is malformed"},
        {"v=DKIM1; %s; p=", DKIM_PERMERROR, "the key record is malformed"},
        {"v=DKIM1; p=", DKIM_PERMERROR, "the key has been revoked"},
        {"v=DKIM1; k=dsa; %s", DKIM_PERMERROR, "the key is of an unknown type"},
        {"v=DKIM1; h=sha1; %s", DKIM_PERMERROR, "the key is not for SHA-256"},
        {"v=DKIM1; s=tlsrpt; %s", DKIM_PERMERROR, "the key is not for mail"},
        {"v=DKIM1; p=AAAA", DKIM_PERMERROR, "the key record's p= is no such key"},
        {"v=DKIM1; p=A", DKIM_PERMERROR, "the key record's p= is no such key"},
        {"v=DKIM1; k=ed25519; p=AAAA", DKIM_PERMERROR, "the key record's p= is no such key"},
        {"v=DKIM1; k=ed25519; %s", DKIM_PERMERROR, "the key record's p= is no such key"},
    };
    struct making m = {keys.rsa, DKIM_SIMPLE, DKIM_SIMPLE, UINT64_MAX, NULL, NULL};
    struct buf header = {0};
    make_signature(&m, &header);
    buf_add_cstr(&header, HEADER);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf text = {0};
        buf_add_cstr(&text, rows[i].format);
        if (bytes_search(buf_bytes(&text), BYTES("%s")) >= 0)
            replace(&text, "%s", p);
        snprintf(rsa_of, sizeof rsa_of, "%s", buf_cstr(&text));
        const char *record = rsa_of;
        struct dkim_verdict verdict =
            judge(buf_bytes(&header), BYTES(BODY), DKIM_KEY_FOUND, &record, 1);
        expect(rows[i].format, &verdict, rows[i].result, rows[i].reason);
        assert_int_equal(verdict.is_testing, strstr(rows[i].format, "t=y") != NULL);
        buf_done(&text);
    }
    snprintf(rsa_of, sizeof rsa_of, "%s", keys.rsa_record);
    snprintf(other_of, sizeof other_of, "%s", keys.other_record);
    const struct {
        const char *name;
        enum dkim_key_lookup lookup;
        const char *records[DKIM_KEYS_MAX + 2];
        size_t count;
        enum dkim_result result;
        const char *reason;
    } answers[] = {
        {"absent", DKIM_KEY_ABSENT, {NULL}, 0, DKIM_PERMERROR, "there is no key"},
        {"none", DKIM_KEY_FOUND, {NULL}, 0, DKIM_PERMERROR, "there is no key"},
        {"timeout",
         DKIM_KEY_UNAVAILABLE,
         {NULL},
         0,
         DKIM_TEMPERROR,
         "the key could not be looked up"},
        {"other key", DKIM_KEY_FOUND, {other_of}, 1, DKIM_FAIL, "the signature does not match"},
        {"second", DKIM_KEY_FOUND, {other_of, rsa_of}, 2, DKIM_PASS, ""},
        {"behind junk", DKIM_KEY_FOUND, {"v=spf1 -all", "p=", rsa_of}, 3, DKIM_PASS, ""},
        {"first failure tells",
         DKIM_KEY_FOUND,
         {"x", other_of, keys.ed25519_record},
         3,
         DKIM_FAIL,
         "the signature does not match"},
        {"better than junk",
         DKIM_KEY_FOUND,
         {"x", "p=", "y"},
         3,
         DKIM_PERMERROR,
         "the key has been revoked"},
        {"type",
         DKIM_KEY_FOUND,
         {keys.ed25519_record},
         1,
         DKIM_PERMERROR,
         "the key is of another type than a= says"},
        {"beyond the limit",
         DKIM_KEY_FOUND,
         {"x", "x", "x", "x", rsa_of},
         5,
         DKIM_PERMERROR,
         "the key record is malformed"},
    };
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        struct dkim_verdict verdict = judge(buf_bytes(&header), BYTES(BODY), answers[i].lookup,
                                            answers[i].records, answers[i].count);
        expect(answers[i].name, &verdict, answers[i].result, answers[i].reason);
    }
    buf_done(&header);
}

static void test_j_weak_key(void **state)
{
    struct making m = {keys.small, DKIM_RELAXED, DKIM_RELAXED, UINT64_MAX, NULL, NULL};
    struct buf header = {0};
    const char *record = keys.small_record;
    make_signature(&m, &header);
    buf_add_cstr(&header, HEADER);
    struct dkim_verdict verdict =
        judge(buf_bytes(&header), BYTES(BODY), DKIM_KEY_FOUND, &record, 1);
    expect("768 bits", &verdict, DKIM_FAIL, "the RSA key is shorter than 1024 bits");
    buf_done(&header);
}

// t=s: i= must be of the very domain.
static void test_j_strict_key(void **state)
{
    static const struct {
        const char *i;
        enum dkim_result result;
        const char *reason;
    } rows[] = {
        {"i=joe@example.com;", DKIM_PASS, ""},
        {"i=joe@sub.example.com;", DKIM_PERMERROR, "the key allows no subdomain in i="},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct making m = {keys.ed25519, DKIM_RELAXED, DKIM_RELAXED,
                           UINT64_MAX,   "t=1000;",    rows[i].i};
        struct buf header = {0}, record = {0};
        make_signature(&m, &header);
        buf_add_cstr(&header, HEADER);
        buf_printf(&record, "t=s; %s", keys.ed25519_record + strlen("v=DKIM1; "));
        const char *text = buf_cstr(&record);
        struct dkim_verdict verdict =
            judge(buf_bytes(&header), BYTES(BODY), DKIM_KEY_FOUND, &text, 1);
        expect(rows[i].i, &verdict, rows[i].result, rows[i].reason);
        buf_done(&header);
        buf_done(&record);
    }
}

static void test_j_length(void **state)
{
    static const struct {
        const char *l, *more;
        uint64_t limit;
        enum dkim_result result;
        const char *reason;
        uint64_t unsigned_bytes;
    } rows[] = {
        {"l=0;", "", 0, DKIM_PASS, "the end of the body is not signed (l=)", 18},
        {"l=5;", "", 5, DKIM_PASS, "the end of the body is not signed (l=)", 13},
        {"l=18;", "", 18, DKIM_PASS, "", 0},
        {"l=18;", "added\r\n", 18, DKIM_PASS, "the end of the body is not signed (l=)", 9},
        {"l=18;", "added\r\n", 17, DKIM_FAIL, "the body hash does not match", 0},
        {"l=013;", "added\r\n", 13, DKIM_PASS, "the end of the body is not signed (l=)", 14},
        {"l=19;", "", 19, DKIM_FAIL, "the body is shorter than l=", 0},
    };
    const char *record = keys.ed25519_record;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct making m = {keys.ed25519,  DKIM_RELAXED, DKIM_RELAXED,
                           rows[i].limit, "t=1000;",    rows[i].l};
        struct buf header = {0}, body = {0};
        make_signature(&m, &header);
        buf_add_cstr(&header, HEADER);
        buf_add_cstr(&body, BODY);
        buf_add_cstr(&body, rows[i].more);
        struct dkim_verdict verdict =
            judge(buf_bytes(&header), buf_bytes(&body), DKIM_KEY_FOUND, &record, 1);
        expect(rows[i].l, &verdict, rows[i].result, rows[i].reason);
        assert_number(rows[i].l, verdict.unsigned_bytes, rows[i].unsigned_bytes);
        buf_done(&header);
        buf_done(&body);
    }
}

// Several signatures, more than are judged; each is for itself.
static void test_j_several(void **state)
{
    struct making good = {keys.rsa, DKIM_RELAXED, DKIM_SIMPLE, UINT64_MAX, NULL, NULL};
    struct making bad = {keys.ed25519, DKIM_SIMPLE, DKIM_RELAXED, UINT64_MAX, "v=1", "v=7"};
    struct bytes record = bytes_cstr(keys.rsa_record);
    struct buf header = {0}, one = {0};
    for (int i = 0; i < DKIM_SIGNATURES_MAX + 2; i++) {
        buf_clear(&one);
        make_signature(i % 2 ? &bad : &good, &one);
        buf_add(&header, buf_bytes(&one));
    }
    buf_add_cstr(&header, HEADER);
    struct dkim_verify *v =
        dkim_verify_new(buf_bytes(&header), (struct wall){NOW * INT64_C(1000000)});
    dkim_verify_body(v, BYTES(BODY));
    dkim_verify_body_end(v);
    assert_int_equal(dkim_verify_count(v), DKIM_SIGNATURES_MAX + 2);
    for (size_t i = 0; i < dkim_verify_count(v); i++) {
        bool asks = i % 2 == 0 && i < DKIM_SIGNATURES_MAX;
        assert_bytes("name", dkim_verify_key_name(v, i),
                     asks ? BYTES("sel._domainkey.example.com") : BYTES_NONE);
        dkim_verify_key(v, i, DKIM_KEY_FOUND, &record, 1);
        const struct dkim_verdict *verdict = dkim_verify_verdict(v, i);
        assert_int_equal(verdict->result, i >= DKIM_SIGNATURES_MAX ? DKIM_POLICY
                                          : i % 2                  ? DKIM_NEUTRAL
                                                                   : DKIM_PASS);
        if (i < DKIM_SIGNATURES_MAX)
            assert_bytes("domain", verdict->domain, BYTES("example.com"));
    }
    dkim_verify_free(v);
    buf_done(&header);
    buf_done(&one);
}

static void test_no_signature(void **state)
{
    struct dkim_verify *v = dkim_verify_new(BYTES(HEADER), (struct wall){0});
    dkim_verify_body(v, BYTES(BODY));
    dkim_verify_body_end(v);
    assert_int_equal(dkim_verify_count(v), 0);
    dkim_verify_free(v);
}

// RFC 8616: a domain in U-labels is asked for in A-labels.
static void test_u_labels(void **state)
{
    struct dkim_verify *v =
        dkim_verify_new(BYTES("DKIM-Signature: v=1; a=rsa-sha256; d=b\xc3\xbc"
                              "cher.example; s=s\xc3\xa9l; h=from; "
                              "bh=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=; b=AAAA\r\n"),
                        (struct wall){0});
    assert_bytes("name", dkim_verify_key_name(v, 0),
                 BYTES("xn--sl-bja._domainkey.xn--bcher-kva.example"));
    dkim_verify_free(v);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_passes),
    cmocka_unit_test(test_tags_that_pass),
    cmocka_unit_test(test_j_signature_faults),
    cmocka_unit_test(test_j_message_faults),
    cmocka_unit_test(test_j_key_faults),
    cmocka_unit_test(test_j_weak_key),
    cmocka_unit_test(test_j_strict_key),
    cmocka_unit_test(test_j_length),
    cmocka_unit_test(test_j_several),
    cmocka_unit_test(test_no_signature),
    cmocka_unit_test(test_u_labels),
};

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
