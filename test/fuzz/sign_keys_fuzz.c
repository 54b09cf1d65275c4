// SPDX-License-Identifier: MIT
//
// What the signer reads of the relay: any datagram gets no answer, a refusal, or a signature for a digest; nothing
// that is signed by ECDSA is longer than one.
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "daemon/sign_keys.h"
#include "net/tls_certificate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sign_keys *keys;

static void make_keys(void)
{
    struct key_master master = {.key = {1}, .is_set = true};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    unsigned char *der = NULL;
    int len = i2d_PrivateKey(key, &der);
    keys = sign_keys_new(&master);
    CHECK(len > 0 && sign_keys_add(keys, 1, bytes_of(der, (size_t)len)) == OK);
    OPENSSL_free(der);
    EVP_PKEY_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!keys)
        make_keys();
    struct sign_wire_answer answer;
    struct sign_wire_request r = {0};
    char answers[SIGN_WIRE_ANSWERS_MAX];
    size_t n = sign_keys_answer(keys, bytes_of(data, size), &answer);
    size_t all = sign_keys_answer_all(keys, bytes_of(data, size), answers);
    CHECK(all <= sizeof answers && (n == 0 || all > 0));
    memcpy(&r, data, size < sizeof r ? size : sizeof r);
    CHECK(n == 0 || n == SIGN_WIRE_ANSWER_HEAD + answer.len);
    CHECK(n == 0 || (size == SIGN_WIRE_REQUEST_HEAD + r.len + r.sealed_len && answer.id == r.id));
    CHECK(n == 0 || (answer.state == SIGN_DONE) == (answer.len > 0));
    if (n && answer.len && r.kind != SIGN_MAKE_RSA && r.kind != SIGN_MAKE_ED25519)
        CHECK(r.key == 1 && r.kind == SIGN_ECDSA && r.len >= 20 && r.len <= 64);
    return 0;
}
