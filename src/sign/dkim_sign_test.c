// SPDX-License-Identifier: MIT
#include "base/check.h"
#include "base/test_base.h"
#include "mail/mail_header.h"
#include "sign/dkim_tags.h"
#include "sign/dkim_verify.h"

static EVP_PKEY *key;

static int make_key(void **state)
{
    key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return key ? 0 : -1;
}

static int free_key(void **state)
{
    EVP_PKEY_free(key);
    return 0;
}

// The field for a header and an empty body.
static int sign(const char *header, const char *domain, const char *selector, struct buf *out)
{
    uint8_t hash[DKIM_HASH_BYTES];
    struct dkim_sign s;
    struct dkim_body b;
    struct buf signature = {0};
    dkim_body_init(&b, DKIM_RELAXED);
    dkim_body_finish(&b, hash);
    struct dkim_sign_want want = {bytes_cstr(domain),
                                  bytes_cstr(selector),
                                  DKIM_ED25519_SHA256,
                                  hash,
                                  {1700000000 * INT64_C(1000000) + 999999}};
    int err = dkim_sign_start(&s, &want, bytes_cstr(header));
    if (!err) {
        assert_int_equal(dkim_sign_digest(key, s.digest, &signature), OK);
        dkim_sign_finish(&s, buf_bytes(&signature), out);
    }
    dkim_sign_done(&s);
    buf_done(&signature);
    return err;
}

static void tag_of(struct bytes field, const char *name, struct buf *out)
{
    struct dkim_tags tags;
    struct mail_field parsed;
    struct bytes value;
    assert_true(mail_header_next(&field, &parsed) && field.len == 0);
    assert_int_equal(dkim_tags_parse(parsed.value, &tags), OK);
    assert_true(dkim_tags_find(&tags, name, &value));
    buf_clear(out);
    for (size_t i = 0; i < value.len; i++)
        if (!strchr("\r\n\t ", value.at[i]))
            buf_add_byte(out, value.at[i]);
}

#define OVER_LIST                                                                                  \
    "List-Id:List-Unsubscribe:List-Unsubscribe-Post:List-Help:List-Subscribe:List-Post:List-"      \
    "Owner:List-Archive"

static void test_signed_fields(void **state)
{
    static const struct {
        const char *header, *h;
    } rows[] = {
        {"From: a@b\r\n", "From:From:To:Cc:Subject:Date:Message-ID:Reply-To:MIME-Version:Content-"
                          "Type:Content-Transfer-Encoding:" OVER_LIST},
        {"Received: x\r\nsubject: s\r\nto: a\r\nX-Mailer: y\r\nFROM: a@b\r\nTo: b\r\nReturn-Path: "
         "<>\r\nSender: s\r\nReferences: <1>\r\nDKIM-Signature: v=1\r\n",
         "From:From:To:To:To:Cc:Subject:Subject:Date:Message-ID:Reply-To:Sender:References:MIME-"
         "Version:Content-Type:Content-Transfer-Encoding:" OVER_LIST},
        {"From: a@b\r\nList-Unsubscribe: <u>\r\nList-New: 1\r\nList-Older: 2\r\nlist-new: 3\r\n",
         "From:From:To:Cc:Subject:Date:Message-ID:Reply-To:MIME-Version:Content-Type:Content-"
         "Transfer-Encoding:List-Id:List-Unsubscribe:List-Unsubscribe:List-Unsubscribe-Post:List-"
         "Help:List-Subscribe:List-Post:List-Owner:List-Archive:List-New:List-New:List-New:List-"
         "Older:List-Older"},
        {"From: a@b\r\nList-x;d=evil.example: 1\r\nList-a b: 2\r\nList-\xc3\xa4: 3\r\n",
         "From:From:To:Cc:Subject:Date:Message-ID:Reply-To:MIME-Version:Content-Type:Content-"
         "Transfer-Encoding:" OVER_LIST},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf field = {0}, h = {0};
        assert_int_equal(sign(rows[i].header, "b", "s", &field), OK);
        tag_of(buf_bytes(&field), "h", &h);
        assert_bytes(rows[i].header, buf_bytes(&h), bytes_cstr(rows[i].h));
        buf_done(&field);
        buf_done(&h);
    }
}

static void test_tags(void **state)
{
    static const char *const want[][2] = {
        {"v", "1"},
        {"a", "ed25519-sha256"},
        {"d", "example.com"},
        {"s", "2026a.eu"},
        {"t", "1700000000"},
        {"c", "relaxed/relaxed"},
        {"bh", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
    };
    struct buf field = {0}, value = {0};
    assert_int_equal(sign("From: a@b\r\n", "example.com", "2026a.eu", &field), OK);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        tag_of(buf_bytes(&field), want[i][0], &value);
        assert_bytes(want[i][0], buf_bytes(&value), bytes_cstr(want[i][1]));
    }
    assert_true(bytes_search(buf_bytes(&field), BYTES(" l=")) < 0);
    buf_done(&field);
    buf_done(&value);
}

static void test_folding(void **state)
{
    struct buf header = {0}, field = {0};
    for (int i = 0; i < 300; i++)
        buf_add_cstr(&header, "Subject: x\r\nTo: y\r\n");
    buf_add_cstr(&header, "From: a@b\r\n");
    assert_int_equal(sign(buf_cstr(&header), "a-rather-long-domain-name-of-somebody.example.com",
                          "a-rather-long-selector-too-for-no-reason", &field),
                     OK);
    assert_true(bytes_ends(buf_bytes(&field), BYTES("\r\n")));
    size_t lines = 0;
    for (struct bytes rest = buf_bytes(&field), line; bytes_cut(&rest, '\n', &line) && rest.at;) {
        assert_true(line.len <= 79 && bytes_ends(line, BYTES("\r")));
        assert_false(bytes_ends(line, BYTES(" \r")));
        assert_int_equal(lines++ ? line.at[0] : '\t', '\t');
    }
    assert_true(lines > 10);
    buf_done(&header);
    buf_done(&field);
}

static void test_refused(void **state)
{
    static const struct {
        const char *header, *domain, *selector;
    } rows[] = {
        {"To: a@b\r\n", "b", "s"},           {"", "b", "s"},
        {"From: a@b\r\n", "", "s"},          {"From: a@b\r\n", "b", ""},
        {"From: a@b\r\n", "b; l=0", "s"},    {"From: a@b\r\n", "b", "s\r\nX: y"},
        {"From: a@b\r\n", "b\xc3\xbc", "s"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf field = {0};
        assert_int_equal(sign(rows[i].header, rows[i].domain, rows[i].selector, &field), E_SYNTAX);
        buf_done(&field);
    }
    struct buf header = {0}, field = {0};
    buf_add_cstr(&header, "From: a@b\r\n");
    for (int i = 0; i < DKIM_SIGNED_MAX; i++)
        buf_add_cstr(&header, "To: y\r\n");
    assert_int_equal(sign(buf_cstr(&header), "b", "s", &field), E_LIMIT);
    buf_done(&header);
}

// The verdict on `more` and what was signed below.
static enum dkim_result verify(const char *more, const char *header)
{
    struct buf all = {0}, record = {0};
    assert_int_equal(sign(header, "example.com", "s", &all), OK);
    buf_add_cstr(&all, more);
    buf_add_cstr(&all, header);
    assert_int_equal(dkim_key_format(key, &record), OK);
    struct bytes text = buf_bytes(&record);
    struct dkim_verify *v = dkim_verify_new(buf_bytes(&all), (struct wall){0});
    dkim_verify_body_end(v);
    dkim_verify_key(v, 0, DKIM_KEY_FOUND, &text, 1);
    enum dkim_result result = dkim_verify_verdict(v, 0)->result;
    dkim_verify_free(v);
    buf_done(&all);
    buf_done(&record);
    return result;
}

// No field of these can be added behind the signature.
static void test_over_signed(void **state)
{
    static const char *const names[] = {
        "From",         "To",       "Subject",          "Date",           "Message-ID",
        "List-Id",      "Reply-To", "List-Unsubscribe", "List-Subscribe", "List-Unsubscribe-Post",
        "MIME-Version", "Cc",       "Content-Type",     "List-Own",
    };
    static const char header[] = "From: a@b\r\nSubject: x\r\nSUBJECT:  y\r\n\tz\r\nList-Own: x\r\n";
    assert_int_equal(verify("", header), DKIM_PASS);
    assert_int_equal(verify("Received: by us\r\n", header), DKIM_PASS);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char more[64];
        snprintf(more, sizeof more, "%s: x\r\n", names[i]);
        if (verify(more, header) != DKIM_FAIL)
            fail_msg("%s can be added", names[i]);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_signed_fields), cmocka_unit_test(test_tags),
    cmocka_unit_test(test_folding),       cmocka_unit_test(test_refused),
    cmocka_unit_test(test_over_signed),
};

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_key, free_key);
}
