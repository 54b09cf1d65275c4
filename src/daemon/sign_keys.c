// SPDX-License-Identifier: MIT
#define OPENSSL_SUPPRESS_DEPRECATED // PKCS1_MGF1()

#include "daemon/sign_keys.h"

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"

struct sign_key {
    struct list link; // of its kind, the one used last at the end
    uint64_t number;
    EVP_PKEY *key;
    EVP_MD_CTX *ready; // Ed25519: begun with the key, where no thread has it
};

// A key that a thread signs with.
struct held_key {
    uint64_t number;
    EVP_PKEY *key;     // a reference; NULL: there is no such key
    EVP_MD_CTX *ready; // NULL: another thread has it, or nobody yet
};

// The lock is for what follows it; held while a key is looked up or kept, not while it is used.
struct sign_keys {
    struct key_master master;
    pthread_mutex_t lock;
    struct map by_number;  // sign_key
    struct list tls, open; // sign_key
    size_t tls_count, open_count;
};

// ---- keys ----------------------------------------------------------------------------------------------

struct sign_keys *sign_keys_new(struct key_master *master)
{
    struct sign_keys *keys = mem_new(sizeof *keys);
    keys->master = *master;
    key_master_wipe(master);
    pthread_mutex_init(&keys->lock, NULL);
    list_init(&keys->tls);
    list_init(&keys->open);
    return keys;
}

static struct bytes name_of(const uint64_t *number)
{
    return bytes_of(number, sizeof *number);
}

static void drop(struct sign_keys *keys, struct sign_key *k)
{
    map_remove(&keys->by_number, name_of(&k->number));
    list_remove(&k->link);
    EVP_MD_CTX_free(k->ready);
    EVP_PKEY_free(k->key); // OpenSSL wipes private numbers
    free(k);
}

static void drop_all(struct sign_keys *keys, struct list *head)
{
    list_each(link, head) drop(keys, list_get(link, struct sign_key, link));
}

void sign_keys_free(struct sign_keys *keys)
{
    drop_all(keys, &keys->tls);
    drop_all(keys, &keys->open);
    map_done(&keys->by_number);
    key_master_wipe(&keys->master);
    pthread_mutex_destroy(&keys->lock);
    free(keys);
}

// Takes the key over. Another thread may have kept the same meanwhile; or the guard holds on to it.
static void keep(struct sign_keys *keys, uint64_t number, EVP_PKEY *key, bool tls)
{
    struct list *head = tls ? &keys->tls : &keys->open;
    size_t *count = tls ? &keys->tls_count : &keys->open_count;
    pthread_mutex_lock(&keys->lock);
    struct sign_key *k = map_find(&keys->by_number, name_of(&number));
    if (k) {
        EVP_PKEY_free(key);
        list_remove(&k->link);
        list_push_back(head, &k->link);
    } else {
        k = mem_new(sizeof *k);
        k->number = number;
        k->key = key;
        if (*count == (tls ? SIGN_KEYS_TLS : SIGN_KEYS_OPEN))
            drop(keys, list_get(list_first(head), struct sign_key, link));
        else
            ++*count;
        list_push_back(head, &k->link);
        map_set(&keys->by_number, name_of(&k->number), k);
    }
    pthread_mutex_unlock(&keys->lock);
}

static struct held_key take(struct sign_keys *keys, uint64_t number)
{
    struct held_key held = {.number = number};
    pthread_mutex_lock(&keys->lock);
    struct sign_key *k = map_find(&keys->by_number, name_of(&number));
    if (k) {
        struct list *head = number >> 63 ? &keys->open : &keys->tls;
        list_remove(&k->link);
        list_push_back(head, &k->link);
        held.key = k->key;
        held.ready = k->ready;
        k->ready = NULL;
        EVP_PKEY_up_ref(held.key);
    }
    pthread_mutex_unlock(&keys->lock);
    return held;
}

static void give_back(struct sign_keys *keys, struct held_key *held)
{
    if (held->ready) {
        pthread_mutex_lock(&keys->lock);
        struct sign_key *k = map_find(&keys->by_number, name_of(&held->number));
        if (k && k->key == held->key && !k->ready) {
            k->ready = held->ready;
            held->ready = NULL;
        }
        pthread_mutex_unlock(&keys->lock);
    }
    EVP_MD_CTX_free(held->ready);
    EVP_PKEY_free(held->key);
}

int sign_keys_add(struct sign_keys *keys, uint64_t number, struct bytes der)
{
    const unsigned char *at = (const unsigned char *)der.at;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, (long)der.len);
    ERR_clear_error();
    if (!key)
        return E_SYNTAX;
    keep(keys, number, key, true);
    return OK;
}

// The key that came along, under its number.
static bool open_sealed(struct sign_keys *keys, struct bytes sealed)
{
    EVP_PKEY *key;
    int err = key_open(&keys->master, sealed, &key);
    if (err)
        log_error("a DKIM key cannot be opened",
                  LOG_CSTR("because", err == E_DENIED ? "it was sealed with another master key"
                                                      : "it is damaged"));
    else
        keep(keys, sign_sealed_number(sealed), key, false);
    return !err;
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
    unsigned char db[SIGN_INPUT_MAX];
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
    size_t len = SIGN_ANSWER_MAX;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool good = ctx && EVP_PKEY_sign_init(ctx) == 1 &&
                (!padding || EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1) &&
                EVP_PKEY_sign(ctx, out, &len, (const unsigned char *)input.at, input.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return good ? len : 0;
}

// With a context that was begun with its key; 0: it can't.
static size_t sign_pure(EVP_MD_CTX *ctx, struct bytes input, unsigned char *out)
{
    size_t len = SIGN_ANSWER_MAX;
    bool good = EVP_DigestSign(ctx, out, &len, (const unsigned char *)input.at, input.len) == 1;
    return good ? len : 0;
}

// PureEdDSA: the digest is what it signs as a message. Beginning costs a tenth of a signature; OpenSSL 3.0 signs many
// times with one context, a version that does not gets another one each time.
static size_t sign_ed25519(struct held_key *held, struct bytes input, unsigned char *out)
{
    size_t len = held->ready ? sign_pure(held->ready, input, out) : 0;
    if (len)
        return len;
    EVP_MD_CTX_free(held->ready);
    held->ready = EVP_MD_CTX_new();
    if (held->ready && EVP_DigestSignInit(held->ready, NULL, NULL, NULL, held->key) == 1)
        len = sign_pure(held->ready, input, out);
    ERR_clear_error();
    return len;
}

static size_t sign_as_asked(struct held_key *held, enum sign_kind kind, struct bytes input,
                            unsigned char *out)
{
    EVP_PKEY *key = held->key;
    int type = EVP_PKEY_get_base_id(key);
    switch (kind) {
    case SIGN_ECDSA:
        return type == EVP_PKEY_EC && is_digest(input) ? sign(key, 0, input, out) : 0;
    case SIGN_RSA_PKCS1:
        return type == EVP_PKEY_RSA && is_digest_info(input)
                   ? sign(key, RSA_PKCS1_PADDING, input, out)
                   : 0;
    case SIGN_RSA_PSS:
        return type == EVP_PKEY_RSA && is_pss(input, key) ? sign(key, RSA_NO_PADDING, input, out)
                                                          : 0;
    case SIGN_ED25519:
        return type == EVP_PKEY_ED25519 && input.len == 32 ? sign_ed25519(held, input, out) : 0;
    default:
        return 0;
    }
}

static size_t make(struct sign_keys *keys, enum sign_kind kind, unsigned char *out)
{
    struct buf pub, sealed;
    size_t len = 0;
    buf_init(&pub, SIGN_ANSWER_MAX);
    buf_init(&sealed, SIGN_SEALED_MAX);
    if (keys->master.is_set && key_make(&keys->master, kind, &pub, &sealed) == OK &&
        sizeof(uint16_t) + pub.len + sealed.len <= SIGN_ANSWER_MAX) {
        uint16_t public_len = (uint16_t)pub.len;
        memcpy(out, &public_len, sizeof public_len);
        memcpy(out + sizeof public_len, pub.at, pub.len);
        memcpy(out + sizeof public_len + pub.len, sealed.at, sealed.len);
        len = sizeof public_len + pub.len + sealed.len;
    }
    buf_done(&pub);
    buf_done(&sealed);
    return len;
}

static enum sign_state answer(struct sign_keys *keys, const struct sign_wire_request *r,
                              struct sign_wire_answer *out)
{
    enum sign_kind kind = (enum sign_kind)r->kind;
    struct bytes input = bytes_of(r->parts, r->len),
                 sealed = bytes_of(r->parts + r->len, r->sealed_len);
    if (kind == SIGN_MAKE_RSA || kind == SIGN_MAKE_ED25519) {
        out->len = (uint16_t)make(keys, kind, out->bytes);
        return out->len ? SIGN_DONE : SIGN_REFUSED;
    }
    if (sealed.len && (sign_sealed_number(sealed) != r->key || !open_sealed(keys, sealed)))
        return SIGN_REFUSED;
    bool is_dkim = kind == SIGN_ED25519 || (kind == SIGN_RSA_PKCS1 && input.len == 19 + 32);
    if (r->key >> 63 && !is_dkim)
        return SIGN_REFUSED;
    struct held_key held = take(keys, r->key);
    if (!held.key)
        return SIGN_NO_KEY;
    out->len = (uint16_t)sign_as_asked(&held, kind, input, out->bytes);
    give_back(keys, &held);
    return out->len ? SIGN_DONE : SIGN_REFUSED;
}

size_t sign_keys_answer(struct sign_keys *keys, struct bytes request, struct sign_wire_answer *out)
{
    struct sign_wire_request r;
    if (request.len < SIGN_WIRE_REQUEST_HEAD || request.len > sizeof r)
        return 0;
    memcpy(&r, request.at, request.len);
    if ((size_t)r.len + r.sealed_len != request.len - SIGN_WIRE_REQUEST_HEAD ||
        r.len > SIGN_INPUT_MAX)
        return 0;
    out->id = r.id;
    out->len = 0;
    out->state = (uint16_t)answer(keys, &r, out);
    return SIGN_WIRE_ANSWER_HEAD + out->len;
}

// The bytes of the request that `rest` begins with; 0: none.
static size_t request_size(struct bytes rest)
{
    struct sign_wire_request head;
    if (rest.len < SIGN_WIRE_REQUEST_HEAD)
        return 0;
    memcpy(&head, rest.at, SIGN_WIRE_REQUEST_HEAD);
    size_t size = SIGN_WIRE_REQUEST_HEAD + head.len + head.sealed_len;
    return size <= rest.len ? size : 0;
}

size_t sign_keys_answer_all(struct sign_keys *keys, struct bytes datagram,
                            char out[SIGN_WIRE_ANSWERS_MAX])
{
    size_t used = 0, size;
    for (int i = 0; i < SIGN_WIRE_BATCH && (size = request_size(datagram)) != 0; i++) {
        struct sign_wire_answer one;
        size_t n = sign_keys_answer(keys, bytes_first(datagram, size), &one);
        if (n == 0 || n > SIGN_WIRE_ANSWERS_MAX - used)
            break;
        memcpy(out + used, &one, n);
        used += n;
        datagram = bytes_skip(datagram, size);
    }
    return used;
}
