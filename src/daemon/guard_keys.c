// SPDX-License-Identifier: MIT
#define OPENSSL_SUPPRESS_DEPRECATED // PKCS1_MGF1()

#include "daemon/guard_keys.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

// ---- keys ----------------------------------------------------------------------------------------------

static int no_passphrase(char *out, int max, int writing, void *arg)
{
    (void)out;
    (void)max;
    (void)writing;
    (void)arg;
    return 0;
}

static int fail(const char *what, char out_reason[NET_TLS_REASON])
{
    const char *why = ERR_reason_error_string(ERR_peek_error());
    snprintf(out_reason, NET_TLS_REASON, "%s: %.200s", what, why ? why : "unknown error");
    ERR_clear_error();
    return E_TLS;
}

static EVP_PKEY *read_key(struct bytes pem)
{
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return key;
}

static X509 *read_certificate(struct bytes pem)
{
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    X509 *certificate = bio ? PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return certificate;
}

static struct guard_key *find_equal(struct guard_keys *keys, EVP_PKEY *key)
{
    for (size_t i = 0; i < GUARD_KEYS_MAX; i++)
        if (keys->at[i].key && EVP_PKEY_eq(keys->at[i].key, key) == 1)
            return &keys->at[i];
    return NULL;
}

static struct guard_key *find_place(struct guard_keys *keys)
{
    struct guard_key *oldest = &keys->at[0];
    for (size_t i = 0; i < GUARD_KEYS_MAX; i++)
        if (keys->at[i].used < oldest->used)
            oldest = &keys->at[i];
    EVP_PKEY_free(oldest->key);
    oldest->key = NULL;
    return oldest;
}

static uint32_t keep(struct guard_keys *keys, EVP_PKEY *key)
{
    struct guard_key *k = find_equal(keys, key);
    if (k) {
        EVP_PKEY_free(key);
    } else {
        k = find_place(keys);
        k->key = key;
        k->number = ++keys->last_number;
    }
    k->used = ++keys->uses;
    return k->number;
}

int guard_keys_add(struct guard_keys *keys, struct bytes certificate_pem, struct bytes key_pem,
                   uint32_t *out_number, char out_reason[NET_TLS_REASON])
{
    ERR_clear_error();
    if (certificate_pem.len > INT32_MAX || key_pem.len > INT32_MAX)
        return fail("file", out_reason);
    X509 *certificate = read_certificate(certificate_pem);
    if (!certificate)
        return fail("certificate", out_reason);
    EVP_PKEY *key = read_key(key_pem);
    int type = key ? EVP_PKEY_get_base_id(key) : 0;
    bool good = key && X509_check_private_key(certificate, key) == 1;
    X509_free(certificate);
    if (good && ((type != EVP_PKEY_RSA && type != EVP_PKEY_EC) ||
                 EVP_PKEY_get_size(key) > NET_SIGN_BYTES_MAX)) {
        snprintf(out_reason, NET_TLS_REASON,
                 "key: only RSA of at most 8192 bits and ECDSA are supported");
        EVP_PKEY_free(key);
        return E_TLS;
    }
    if (!good) {
        EVP_PKEY_free(key);
        return fail("key", out_reason);
    }
    *out_number = keep(keys, key);
    return OK;
}

void guard_keys_done(struct guard_keys *keys)
{
    for (size_t i = 0; i < GUARD_KEYS_MAX; i++)
        EVP_PKEY_free(keys->at[i].key); // OpenSSL wipes private numbers
    *keys = (struct guard_keys){0};
}

// ---- what may be signed --------------------------------------------------------------------------------

static const struct {
    size_t len; // of the digest
    const char *name;
    size_t info_len; // of what stands before it in a DigestInfo
    unsigned char info[19];
} DIGESTS[] = {
    {32,
     "SHA256",
     19,
     {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
      0x05, 0x00, 0x04, 0x20}},
    {48,
     "SHA384",
     19,
     {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02,
      0x05, 0x00, 0x04, 0x30}},
    {64,
     "SHA512",
     19,
     {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03,
      0x05, 0x00, 0x04, 0x40}},
    {28,
     "SHA224",
     19,
     {0x30, 0x2d, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x04,
      0x05, 0x00, 0x04, 0x1c}},
    {20,
     "SHA1",
     15,
     {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04,
      0x14}}, // TLS 1.2 with old clients
};

static bool is_digest(struct bytes s)
{
    for (size_t i = 0; i < COUNT_OF(DIGESTS); i++)
        if (s.len == DIGESTS[i].len)
            return true;
    return false;
}

static bool is_digest_info(struct bytes s)
{
    for (size_t i = 0; i < COUNT_OF(DIGESTS); i++)
        if (s.len == DIGESTS[i].info_len + DIGESTS[i].len &&
            memcmp(s.at, DIGESTS[i].info, DIGESTS[i].info_len) == 0)
            return true;
    return false;
}

// RFC 8017 9.1.2, without the message: 00.. 01 and a salt as long as the digest, masked by the hash that follows.
static bool is_pss_by(struct bytes em, unsigned bits, const EVP_MD *md)
{
    unsigned char db[NET_SIGN_BYTES_MAX];
    size_t hash = (size_t)EVP_MD_get_size(md), top = bits % 8 == 1 ? 1 : 0;
    const unsigned char *at = (const unsigned char *)em.at + top; // emLen is one byte shorter then
    size_t len = em.len - top;
    if (len < 2 * hash + 2 || at[len - 1] != 0xbc || (top && em.at[0] != 0))
        return false;
    size_t db_len = len - hash - 1, zeros = db_len - hash - 1;
    if (PKCS1_MGF1(db, (long)db_len, at + db_len, (long)hash, md) != 0)
        return false;
    for (size_t i = 0; i < db_len; i++)
        db[i] ^= at[i];
    unsigned unused = (unsigned)(8 * len) - (bits - 1);
    if (at[0] >> (8 - unused) && unused)
        return false;
    db[0] &= (unsigned char)(0xff >> unused);
    for (size_t i = 0; i < zeros; i++)
        if (db[i] != 0)
            return false;
    return db[zeros] == 1;
}

static bool is_pss(struct bytes em, EVP_PKEY *key)
{
    if (em.len != (size_t)EVP_PKEY_get_size(key))
        return false;
    unsigned bits = (unsigned)EVP_PKEY_get_bits(key);
    return is_pss_by(em, bits, EVP_sha256()) || is_pss_by(em, bits, EVP_sha384()) ||
           is_pss_by(em, bits, EVP_sha512());
}

// ---- signing -------------------------------------------------------------------------------------------

static size_t sign(EVP_PKEY *key, int padding, struct bytes input, unsigned char *out)
{
    size_t len = NET_SIGN_BYTES_MAX;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool good = ctx && EVP_PKEY_sign_init(ctx) == 1 &&
                (!padding || EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1) &&
                EVP_PKEY_sign(ctx, out, &len, (const unsigned char *)input.at, input.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return good ? len : 0;
}

static size_t sign_as_asked(EVP_PKEY *key, const struct sign_wire_request *r, unsigned char *out)
{
    struct bytes input = bytes_of(r->input, r->len);
    int type = EVP_PKEY_get_base_id(key);
    switch (r->kind) {
    case NET_SIGN_ECDSA:
        return type == EVP_PKEY_EC && is_digest(input) ? sign(key, 0, input, out) : 0;
    case NET_SIGN_RSA_PKCS1:
        return type == EVP_PKEY_RSA && is_digest_info(input)
                   ? sign(key, RSA_PKCS1_PADDING, input, out)
                   : 0;
    case NET_SIGN_RSA_PSS:
        return type == EVP_PKEY_RSA && is_pss(input, key) ? sign(key, RSA_NO_PADDING, input, out)
                                                          : 0;
    default:
        return 0;
    }
}

size_t guard_keys_answer(struct guard_keys *keys, struct bytes request,
                         struct sign_wire_answer *out)
{
    const size_t head = offsetof(struct sign_wire_request, input);
    struct sign_wire_request r;
    if (request.len < head || request.len > sizeof r)
        return 0;
    memcpy(&r, request.at, request.len);
    if (r.len != request.len - head)
        return 0;
    out->id = r.id;
    out->len = 0;
    for (size_t i = 0; i < GUARD_KEYS_MAX; i++) {
        struct guard_key *k = &keys->at[i];
        if (!k->key || k->number != r.key)
            continue;
        k->used = ++keys->uses;
        out->len = sign_as_asked(k->key, &r, out->signature);
    }
    return offsetof(struct sign_wire_answer, signature) + out->len;
}
