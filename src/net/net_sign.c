// SPDX-License-Identifier: MIT
//
// How it works. OpenSSL's methods for RSA and EC keys are replaced where they use the private key. They run in the
// handshake's async job, on a stack of its own, so they can stop there: the request stays on that stack until the
// answer, or until the session is freed, which lets the job end without one.
#define OPENSSL_SUPPRESS_DEPRECATED // a provider would be the modern way, and five times as long

#include "net/net_sign.h"

#include <openssl/async.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <string.h>

#include "base/check.h"
#include "net/net_sign_private.h"

struct net_sign_wait {
    struct sign_request request;
    struct net_sign_wake *wake;
    bool done;
    size_t len; // of the signature; 0: refused
    unsigned char signature[NET_SIGN_BYTES_MAX];
};

// One for each loop: OpenSSL's methods have nothing else to find it by.
static _Thread_local struct {
    struct list turn; // net_sign_wake
    bool begun;
    struct net_sign_wake *current; // of the handshake that is being advanced
} own;

static pthread_once_t methods_once = PTHREAD_ONCE_INIT;
static RSA_METHOD *rsa_method;
static EC_KEY_METHOD *ec_method;
static int rsa_index, ec_index; // of the key's number, plus 1, in its extra data

static void begin(void)
{
    if (own.begun)
        return;
    own.begun = true;
    list_init(&own.turn);
    CHECK(ASYNC_init_thread(NET_SIGN_WAITING_MAX, 0) == 1);
}

// ---- a handshake and its signature ---------------------------------------------------------------------

void net_sign_enter(struct net_sign_wake *wake)
{
    begin();
    own.current = wake;
}

void net_sign_leave(void)
{
    own.current = NULL;
}

void net_sign_wait_turn(struct net_sign_wake *wake)
{
    if (!wake->has_turn_link) {
        wake->has_turn_link = true;
        list_push_back(&own.turn, &wake->turn);
    }
}

void net_sign_give_turn(void)
{
    struct list *first = list_pop_front(&own.turn);
    if (!first)
        return;
    struct net_sign_wake *wake = list_get(first, struct net_sign_wake, turn);
    wake->has_turn_link = false;
    wake->fn(wake->ctx);
}

static void end_wait(struct net_sign_wait *w, struct bytes signature)
{
    sign_forget(&w->request);
    w->done = true;
    w->len = signature.len <= sizeof w->signature ? signature.len : 0;
    if (w->len)
        memcpy(w->signature, signature.at, w->len);
    w->wake->wait = NULL;
}

void net_sign_forget(struct net_sign_wake *wake)
{
    if (wake->has_turn_link)
        list_remove(&wake->turn);
    wake->has_turn_link = false;
    if (wake->wait)
        end_wait(wake->wait, BYTES_NONE);
}

static void on_answer(struct sign_request *request, struct bytes signature)
{
    struct net_sign_wait *w = container_of(request, struct net_sign_wait, request);
    struct net_sign_wake *wake = w->wake;
    end_wait(w, signature);
    wake->fn(wake->ctx);
}

// Asks and stops the job until there is an answer. The length of the signature in `out`; 0: none.
static size_t remote_sign(uint32_t key, enum sign_kind kind, const unsigned char *in, int in_len,
                          unsigned char *out, size_t out_max)
{
    struct net_sign_wait w = {.wake = own.current};
    if (!own.current || !ASYNC_get_current_job() || in_len < 0 || in_len > SIGN_INPUT_MAX)
        return 0;
    w.request = (struct sign_request){
        .kind = kind, .key = key, .input = bytes_of(in, (size_t)in_len), .done = on_answer};
    if (!sign_ask(&w.request))
        return 0;
    w.wake->wait = &w;
    while (!w.done)
        if (ASYNC_pause_job() == 0 && !w.done)
            end_wait(&w, BYTES_NONE);
    if (w.len == 0 || w.len > out_max)
        return 0;
    memcpy(out, w.signature, w.len);
    return w.len;
}

// ---- OpenSSL's methods -----------------------------------------------------------------------------------

static int rsa_sign(int len, const unsigned char *from, unsigned char *to, RSA *rsa, int padding)
{
    uint32_t key = (uint32_t)(uintptr_t)RSA_get_ex_data(rsa, rsa_index) - 1;
    enum sign_kind kind = padding == RSA_PKCS1_PADDING ? SIGN_RSA_PKCS1 : SIGN_RSA_PSS;
    size_t size = (size_t)RSA_size(rsa);
    if (padding != RSA_PKCS1_PADDING && padding != RSA_NO_PADDING)
        return -1;
    return remote_sign(key, kind, from, len, to, size) == size ? (int)size : -1;
}

static int ec_sign(int type, const unsigned char *digest, int len, unsigned char *out,
                   unsigned *out_len, const BIGNUM *kinv, const BIGNUM *r, EC_KEY *ec)
{
    uint32_t key = (uint32_t)(uintptr_t)EC_KEY_get_ex_data(ec, ec_index) - 1;
    size_t n = remote_sign(key, SIGN_ECDSA, digest, len, out, (size_t)ECDSA_size(ec));
    *out_len = (unsigned)n;
    return n > 0;
}

static void make_methods(void)
{
    rsa_method = RSA_meth_dup(RSA_PKCS1_OpenSSL());
    ec_method = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
    CHECK(rsa_method != NULL && ec_method != NULL);
    RSA_meth_set1_name(rsa_method, "posthaste");
    RSA_meth_set_priv_enc(rsa_method, rsa_sign);
    EC_KEY_METHOD_set_sign(ec_method, ec_sign, NULL, NULL);
    rsa_index = RSA_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    ec_index = EC_KEY_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static EVP_PKEY *new_rsa(EVP_PKEY *public_key, void *number)
{
    RSA *rsa = RSAPublicKey_dup(EVP_PKEY_get0_RSA(public_key));
    EVP_PKEY *key = EVP_PKEY_new();
    if (rsa && RSA_set_method(rsa, rsa_method) && RSA_set_ex_data(rsa, rsa_index, number) && key &&
        EVP_PKEY_assign_RSA(key, rsa))
        return key;
    RSA_free(rsa);
    EVP_PKEY_free(key);
    return NULL;
}

static EVP_PKEY *new_ec(EVP_PKEY *public_key, void *number)
{
    EC_KEY *ec = EC_KEY_dup(EVP_PKEY_get0_EC_KEY(public_key));
    EVP_PKEY *key = EVP_PKEY_new();
    if (ec && EC_KEY_set_method(ec, ec_method) && EC_KEY_set_ex_data(ec, ec_index, number) && key &&
        EVP_PKEY_assign_EC_KEY(key, ec))
        return key;
    EC_KEY_free(ec);
    EVP_PKEY_free(key);
    return NULL;
}

EVP_PKEY *net_sign_key_new(EVP_PKEY *public_key, uint32_t number)
{
    pthread_once(&methods_once, make_methods);
    void *data = (void *)((uintptr_t)number + 1);
    switch (EVP_PKEY_get_base_id(public_key)) {
    case EVP_PKEY_RSA:
        return new_rsa(public_key, data);
    case EVP_PKEY_EC:
        return new_ec(public_key, data);
    default:
        return NULL;
    }
}
