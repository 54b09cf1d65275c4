// SPDX-License-Identifier: MIT
#include "sign/dkim_key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/check.h"
#include "mail/mail_encode.h"
#include "sign/dkim_tags.h"

#define ED25519_BYTES 32
#define RSA_ENCRYPTION "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" // the OID in DER

const char *dkim_key_fault_text(enum dkim_key_fault fault)
{
    switch (fault) {
    case DKIM_KEY_GOOD:
        return "good";
    case DKIM_KEY_SYNTAX:
        return "the key record is malformed";
    case DKIM_KEY_REVOKED:
        return "the key has been revoked";
    case DKIM_KEY_TYPE:
        return "the key is of an unknown type";
    case DKIM_KEY_HASH:
        return "the key is not for SHA-256";
    case DKIM_KEY_SERVICE:
        return "the key is not for mail";
    case DKIM_KEY_DATA:
        return "the key record's p= is no such key";
    case DKIM_KEY_TOO_SHORT:
        return "the RSA key is shorter than 1024 bits";
    case DKIM_KEY_TOO_LONG:
        return "the RSA key is longer than 8192 bits";
    }
    return "?";
}

// ---- read ---------------------------------------------------------------------------------------

// Cuts a DER value with this tag off *der (X.690 8.1); false: it is not there.
static bool cut_der(struct bytes *der, uint8_t tag, struct bytes *out)
{
    const uint8_t *at = (const uint8_t *)der->at;
    if (der->len < 2 || at[0] != tag)
        return false;
    size_t len = at[1], head = 2, more = len & 0x7f;
    if (len > 0x7f) {
        if (more == 0 || more > 2 || der->len < 2 + more)
            return false;
        len = more == 1 ? at[2] : (size_t)at[2] << 8 | at[3];
        head += more;
    }
    if (der->len - head < len)
        return false;
    *out = bytes_mid(*der, head, len);
    *der = bytes_skip(*der, head + len);
    return true;
}

// SubjectPublicKeyInfo around an RSAPublicKey (RFC 3279 2.3.1), or, as RFC 6376's ABNF has it, that
// alone. (OpenSSL's own decoders take longer than all the rest of a verification.)
static bool cut_rsa(struct bytes der, struct bytes *out_n, struct bytes *out_e)
{
    struct bytes key, algorithm;
    if (!cut_der(&der, 0x30, &key) || der.len)
        return false;
    if (cut_der(&key, 0x30, &algorithm)) {
        struct bytes bits;
        if (!bytes_starts(algorithm, BYTES(RSA_ENCRYPTION)) || !cut_der(&key, 0x03, &bits) ||
            key.len || bits.len < 1 || bits.at[0] != 0)
            return false;
        der = bytes_skip(bits, 1);
        if (!cut_der(&der, 0x30, &key) || der.len)
            return false;
    }
    return cut_der(&key, 0x02, out_n) && cut_der(&key, 0x02, out_e) && key.len == 0 && out_n->len &&
           out_e->len && (out_n->at[0] & 0x80) == 0 && (out_e->at[0] & 0x80) == 0;
}

static EVP_PKEY *make_rsa(const BIGNUM *n, const BIGNUM *e)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (builder && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e))
        params = OSSL_PARAM_BLD_to_param(builder);
    if (ctx && params && EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static EVP_PKEY *read_rsa(struct bytes data)
{
    struct bytes n_bytes, e_bytes;
    if (!cut_rsa(data, &n_bytes, &e_bytes))
        return NULL;
    BIGNUM *n = BN_bin2bn((const unsigned char *)n_bytes.at, (int)n_bytes.len, NULL);
    BIGNUM *e = BN_bin2bn((const unsigned char *)e_bytes.at, (int)e_bytes.len, NULL);
    EVP_PKEY *key = n && e ? make_rsa(n, e) : NULL;
    BN_free(n);
    BN_free(e);
    return key;
}

static enum dkim_key_fault take_key(struct dkim_key *key, struct bytes data)
{
    bool is_rsa = key->algorithm == DKIM_RSA_SHA256;
    key->key = is_rsa ? read_rsa(data)
                      : EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
                                                    (const unsigned char *)data.at, data.len);
    if (!key->key)
        return DKIM_KEY_DATA;
    key->bits = EVP_PKEY_get_bits(key->key);
    if (is_rsa && key->bits < DKIM_RSA_BITS_MIN)
        return DKIM_KEY_TOO_SHORT;
    return is_rsa && key->bits > DKIM_RSA_BITS_MAX ? DKIM_KEY_TOO_LONG : DKIM_KEY_GOOD;
}

static enum dkim_key_fault check_tags(const struct dkim_tags *tags, struct dkim_key *out)
{
    struct bytes value;
    if (dkim_tags_find(tags, "v", &value) &&
        (!bytes_eq(value, BYTES("DKIM1")) || !bytes_eq(tags->tags[0].name, BYTES("v"))))
        return DKIM_KEY_SYNTAX; // v= must be the first and be this
    if (!dkim_tags_find(tags, "k", &value) || bytes_eq_nocase(value, BYTES("rsa")))
        out->algorithm = DKIM_RSA_SHA256;
    else if (bytes_eq_nocase(value, BYTES("ed25519")))
        out->algorithm = DKIM_ED25519_SHA256;
    else
        return DKIM_KEY_TYPE;
    if (dkim_tags_find(tags, "h", &value) && !dkim_tags_has_item(value, "sha256"))
        return DKIM_KEY_HASH;
    if (dkim_tags_find(tags, "s", &value) && !dkim_tags_has_item(value, "*") &&
        !dkim_tags_has_item(value, "email"))
        return DKIM_KEY_SERVICE;
    if (dkim_tags_find(tags, "t", &value)) {
        out->is_testing = dkim_tags_has_item(value, "y");
        out->is_strict = dkim_tags_has_item(value, "s");
    }
    return DKIM_KEY_GOOD;
}

enum dkim_key_fault dkim_key_parse(struct bytes record, struct dkim_key *out)
{
    struct dkim_tags tags;
    struct bytes value;
    uint8_t data[DKIM_KEY_RECORD_MAX];
    size_t len;
    *out = (struct dkim_key){0};
    if (record.len > DKIM_KEY_RECORD_MAX || dkim_tags_parse(record, &tags) != OK ||
        !dkim_tags_find(&tags, "p", &value))
        return DKIM_KEY_SYNTAX;
    enum dkim_key_fault fault = check_tags(&tags, out);
    if (fault != DKIM_KEY_GOOD)
        return fault;
    if (value.len == 0)
        return DKIM_KEY_REVOKED;
    if (!dkim_tags_base64(value, sizeof data, data, &len))
        return DKIM_KEY_DATA;
    fault = take_key(out, bytes_of(data, len));
    if (fault != DKIM_KEY_GOOD)
        dkim_key_done(out);
    return fault;
}

void dkim_key_done(struct dkim_key *key)
{
    EVP_PKEY_free(key->key);
    key->key = NULL;
}

// ---- written ------------------------------------------------------------------------------------

static void add_rsa(EVP_PKEY *key, struct buf *out)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    CHECK(len > 0);
    mail_base64_encode(bytes_of(der, (size_t)len), out);
    OPENSSL_free(der);
}

int dkim_key_format(EVP_PKEY *key, struct buf *out)
{
    enum dkim_algorithm algorithm;
    if (dkim_sign_algorithm(key, &algorithm) != OK)
        return E_DENIED;
    if (algorithm == DKIM_RSA_SHA256) {
        buf_add(out, BYTES("v=DKIM1; k=rsa; p="));
        add_rsa(key, out);
    } else {
        uint8_t raw[ED25519_BYTES];
        size_t len = sizeof raw;
        CHECK(EVP_PKEY_get_raw_public_key(key, raw, &len) == 1);
        buf_add(out, BYTES("v=DKIM1; k=ed25519; p="));
        mail_base64_encode(bytes_of(raw, len), out);
    }
    return out->err;
}

bool dkim_name_is_valid(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!ascii_is_alnum(name.at[i]) && !ascii_is_one_of(name.at[i], "-_."))
            return false;
    return name.len > 0 && name.len <= 253;
}

void dkim_key_name(struct bytes selector, struct bytes domain, struct buf *out)
{
    buf_add_all(out, selector, BYTES("._domainkey."), domain);
}
