// SPDX-License-Identifier: MIT
//
// How it works: sealed is "version, id high, id low, recipient, account, tag counted, sender counted, address", numbers as varints.
// A token is base64url(the synthetic IV of 16 bytes, then the ciphertext).
#include "bounce/unsubscribe_token.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/check.h"
#include "mail/mail_encode.h"
#include "spool/tlv.h"

#define VERSION 1
#define IV_BYTES 16
#define SIV_KEY_BYTES 64
#define PLAIN_MAX 750

static void derive(const struct return_key *key, uint8_t out[SIV_KEY_BYTES])
{
    static const char *const LABELS[] = {"posthaste unsubscribe 1", "posthaste unsubscribe 2"};
    for (size_t i = 0; i < COUNT_OF(LABELS); i++) {
        unsigned len = 0;
        CHECK(HMAC(EVP_sha256(), key->bytes, sizeof key->bytes, (const uint8_t *)LABELS[i],
                   strlen(LABELS[i]), out + 32 * i, &len) &&
              len == 32);
    }
}

// One call either way; false: opening found that it was not sealed so.
static bool siv(const struct return_key *key, bool seal, uint8_t iv[IV_BYTES], const uint8_t *in,
                int len, uint8_t *out)
{
    uint8_t siv_key[SIV_KEY_BYTES];
    int n = 0;
    derive(key, siv_key);
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-SIV", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    CHECK(cipher && ctx && EVP_CipherInit_ex2(ctx, cipher, siv_key, NULL, seal, NULL) == 1);
    CHECK(seal || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, IV_BYTES, iv) == 1);
    bool ok = EVP_CipherUpdate(ctx, out, &n, in, len) == 1 && n == len;
    CHECK(!seal || (ok && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, IV_BYTES, iv) == 1));
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}

static void url_safe(char *at, size_t len, char from, char to)
{
    for (size_t i = 0; i < len; i++)
        at[i] = at[i] == from ? to : at[i];
}

void unsubscribe_token_format(const struct return_key *key, const struct unsubscribe_token *t,
                              struct buf *out)
{
    struct buf plain = {0}, sealed = {0};
    buf_add_byte(&plain, VERSION);
    varint_add(&plain, t->id.high);
    varint_add(&plain, t->id.low);
    varint_add(&plain, t->recipient);
    varint_add(&plain, t->account);
    bytes_add_counted(&plain, t->tag);
    bytes_add_counted(&plain, t->sender);
    buf_add(&plain, t->address);
    uint8_t *at = (uint8_t *)buf_reserve(&sealed, IV_BYTES + plain.len);
    CHECK(at && siv(key, true, at, (const uint8_t *)plain.at, (int)plain.len, at + IV_BYTES));
    buf_commit(&sealed, IV_BYTES + plain.len);
    size_t begin = out->len;
    mail_base64_encode(buf_bytes(&sealed), out);
    while (out->len > begin && out->at[out->len - 1] == '=')
        buf_truncate(out, out->len - 1);
    url_safe(out->at + begin, out->len - begin, '+', '-');
    url_safe(out->at + begin, out->len - begin, '/', '_');
    buf_done(&plain);
    buf_done(&sealed);
}

static int take_number(struct bytes *in, uint64_t max, uint64_t *out)
{
    return varint_take(in, out) || *out > max ? E_SYNTAX : OK;
}

static int decode(struct bytes in, struct arena *arena, struct unsubscribe_token *out)
{
    uint64_t recipient, account;
    if (in.len == 0 || in.at[0] != VERSION)
        return E_SYNTAX;
    in = bytes_skip(in, 1);
    if (take_number(&in, UINT64_MAX, &out->id.high) || take_number(&in, UINT64_MAX, &out->id.low) ||
        take_number(&in, UINT32_MAX, &recipient) || take_number(&in, UINT32_MAX, &account) ||
        bytes_take_counted(&in, &out->tag) || bytes_take_counted(&in, &out->sender) || in.len == 0)
        return E_SYNTAX;
    out->recipient = (uint32_t)recipient;
    out->account = (uint32_t)account;
    out->tag = arena_dup(arena, out->tag);
    out->sender = arena_dup(arena, out->sender);
    out->address = arena_dup(arena, in);
    return OK;
}

static int open_sealed(const struct return_key *key, struct bytes sealed, struct arena *arena,
                       struct unsubscribe_token *out)
{
    uint8_t iv[IV_BYTES], plain[PLAIN_MAX];
    if (sealed.len <= IV_BYTES || sealed.len > IV_BYTES + PLAIN_MAX)
        return E_SYNTAX;
    size_t len = sealed.len - IV_BYTES;
    memcpy(iv, sealed.at, IV_BYTES);
    if (!siv(key, false, iv, (const uint8_t *)sealed.at + IV_BYTES, (int)len, plain))
        return E_SYNTAX;
    return decode(bytes_of(plain, len), arena, out);
}

int unsubscribe_token_parse(const struct return_key *key, struct bytes text, struct arena *arena,
                            struct unsubscribe_token *out)
{
    struct buf standard = {0}, sealed = {0};
    if (text.len == 0 || text.len > UNSUBSCRIBE_TOKEN_MAX || bytes_find(text, '+') != -1 ||
        bytes_find(text, '/') != -1)
        return E_SYNTAX;
    buf_add(&standard, text);
    url_safe(standard.at, standard.len, '-', '+');
    url_safe(standard.at, standard.len, '_', '/');
    while (standard.len % 4)
        buf_add_byte(&standard, '=');
    int err = mail_base64_decode(buf_bytes(&standard), &sealed);
    if (!err)
        err = open_sealed(key, buf_bytes(&sealed), arena, out);
    buf_done(&standard);
    buf_done(&sealed);
    return err ? E_SYNTAX : OK;
}
