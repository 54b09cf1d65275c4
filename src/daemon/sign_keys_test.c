// SPDX-License-Identifier: MIT
#define OPENSSL_SUPPRESS_DEPRECATED // RSA_padding_add_PKCS1_PSS_mgf1()

#include "daemon/sign_keys.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/test_base.h"

#define EC_NUMBER 1
#define RSA_NUMBER 2

static struct sign_keys *keys;
static struct key_master master;
static EVP_PKEY *rsa_key;

static size_t ask_with(uint64_t key, int kind, struct bytes input, struct bytes sealed,
                       struct sign_wire_answer *answer)
{
    struct sign_wire_request r = {.id = 7,
                                  .key = key,
                                  .kind = (uint16_t)kind,
                                  .len = (uint16_t)input.len,
                                  .sealed_len = (uint16_t)sealed.len};
    memcpy(r.parts, input.at, input.len);
    if (sealed.len)
        memcpy(r.parts + input.len, sealed.at, sealed.len);
    size_t n = sign_keys_answer(keys, bytes_of(&r, SIGN_WIRE_REQUEST_HEAD + input.len + sealed.len),
                                answer);
    assert_int_equal(n, SIGN_WIRE_ANSWER_HEAD + answer->len);
    assert_int_equal(answer->id, 7);
    assert_int_equal(answer->state == SIGN_DONE, answer->len > 0);
    return answer->len;
}

static size_t ask(uint64_t key, int kind, struct bytes input, struct sign_wire_answer *answer)
{
    return ask_with(key, kind, input, BYTES_NONE, answer);
}

// What a handshake asks for is signed, and verifies.
static void test_signs(void **state)
{
    (void)state;
    struct sign_wire_answer answer;
    unsigned char digest[32], em[256];
    memset(digest, 0x5a, sizeof digest);
    assert_true(ask(EC_NUMBER, SIGN_ECDSA, bytes_of(digest, 32), &answer) > 64);
    RSA *own = EVP_PKEY_get1_RSA(rsa_key);
    assert_int_equal(
        RSA_padding_add_PKCS1_PSS_mgf1(own, em, digest, EVP_sha256(), EVP_sha256(), 32), 1);
    RSA_free(own);
    assert_int_equal(ask(RSA_NUMBER, SIGN_RSA_PSS, bytes_of(em, sizeof em), &answer), 256);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(rsa_key, NULL);
    EVP_PKEY_verify_init(ctx);
    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING);
    EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256());
    assert_int_equal(EVP_PKEY_verify(ctx, answer.bytes, answer.len, digest, sizeof digest), 1);
    EVP_PKEY_CTX_free(ctx);
}

struct refused_row {
    const char *name;
    bool rsa;
    int kind;
    const char *input;
    size_t len;
};

// No digest, no signature: neither raw RSA, nor a key of the other kind, nor one that is not there.
static void test_refuses(void **state)
{
    (void)state;
    static char zeros[SIGN_INPUT_MAX];
    static const struct refused_row rows[] = {
        {"digest too short", false, SIGN_ECDSA, zeros, 31},
        {"no digest", false, SIGN_ECDSA, zeros, 0},
        {"digest too long", false, SIGN_ECDSA, zeros, 65},
        {"raw block", true, SIGN_RSA_PSS, zeros, 256},
        {"raw block, short", true, SIGN_RSA_PSS, zeros, 255},
        {"raw block, long", true, SIGN_RSA_PSS, zeros, 512},
        {"no DigestInfo", true, SIGN_RSA_PKCS1, zeros, 51},
        {"digest alone", true, SIGN_RSA_PKCS1, zeros, 32},
        {"other kind of key", true, SIGN_ECDSA, zeros, 32},
        {"other kind of key, RSA", false, SIGN_RSA_PKCS1, zeros, 51},
        {"no such kind", false, 0, zeros, 32},
        {"no such kind", false, 9, zeros, 32},
        {"other kind of key, Ed25519", false, SIGN_ED25519, zeros, 32},
    };
    struct sign_wire_answer answer;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (ask(rows[i].rsa ? RSA_NUMBER : EC_NUMBER, rows[i].kind,
                bytes_of(rows[i].input, rows[i].len), &answer))
            fail_msg("%s: signed", rows[i].name);
    assert_int_equal(ask(99, SIGN_ECDSA, bytes_of(zeros, 32), &answer), 0);
    // One bit of a right encoding, anywhere.
    unsigned char digest[32] = {1}, em[256];
    RSA *own = EVP_PKEY_get1_RSA(rsa_key);
    RSA_padding_add_PKCS1_PSS_mgf1(own, em, digest, EVP_sha256(), EVP_sha256(), 32);
    RSA_free(own);
    for (size_t i = 0; i < 256; i += 5) {
        em[i] ^= 0x80;
        // Under the mask the salt may be anything; what is fixed are the zeros, the hash's effect on them, the end.
        bool salt = i >= 256 - 33 - 32 && i < 256 - 33;
        if (ask(RSA_NUMBER, SIGN_RSA_PSS, bytes_of(em, sizeof em), &answer) && !salt)
            fail_msg("byte %zu changed: signed", i);
        em[i] ^= 0x80;
    }
}

// Datagrams that are no request get no answer.
static void test_junk(void **state)
{
    (void)state;
    struct sign_wire_answer answer;
    struct sign_wire_request r = {.key = EC_NUMBER, .kind = SIGN_ECDSA, .len = 30, .sealed_len = 2};
    for (size_t len = 0; len < sizeof r + 8; len++) {
        static char junk[sizeof r + 8];
        memcpy(junk, &r, sizeof r);
        size_t n = sign_keys_answer(keys, bytes_of(junk, len), &answer);
        assert_int_equal(n > 0, len == SIGN_WIRE_REQUEST_HEAD + 32);
    }
}

// Several requests in a datagram, and their answers; nothing behind what is no request.
static void test_batch(void **state)
{
    (void)state;
    struct sign_wire_request r = {.key = EC_NUMBER, .kind = SIGN_ECDSA, .len = 32};
    const size_t size = SIGN_WIRE_REQUEST_HEAD + 32;
    char in[(SIGN_WIRE_BATCH + 1) * (SIGN_WIRE_REQUEST_HEAD + 32)], out[SIGN_WIRE_ANSWERS_MAX];
    static const struct {
        size_t requests, cut, answers; // bytes cut off at the end
    } rows[] = {{0, 0, 0}, {1, 0, 1}, {3, 0, 3}, {3, 1, 2}, {1, 1, 0}, {2, 53, 1}, {9, 0, 8}};
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        for (size_t i = 0; i < rows[row].requests; i++) {
            r.id = i;
            memcpy(in + i * size, &r, size);
        }
        struct bytes rest = {
            out, sign_keys_answer_all(keys, bytes_of(in, rows[row].requests * size - rows[row].cut),
                                      out)};
        for (size_t i = 0; i < rows[row].answers; i++) {
            struct sign_wire_answer a;
            assert_true(rest.len > SIGN_WIRE_ANSWER_HEAD);
            memcpy(&a, rest.at, SIGN_WIRE_ANSWER_HEAD);
            assert_true(a.id == i && a.state == SIGN_DONE && a.len > 64);
            rest = bytes_skip(rest, SIGN_WIRE_ANSWER_HEAD + a.len);
        }
        assert_int_equal(rest.len, 0);
    }
}

// DKIM's keys: made here, sealed; they sign once they came along, and SHA-256 digests only.
static void test_dkim(void **state)
{
    (void)state;
    static const unsigned char info[51] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60,
                                           0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                                           0x01, 0x05, 0x00, 0x04, 0x20};
    static const struct {
        enum sign_kind make, sign;
        size_t len, signature;
    } rows[] = {{SIGN_MAKE_RSA, SIGN_RSA_PKCS1, 51, 256},
                {SIGN_MAKE_ED25519, SIGN_ED25519, 32, 64}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sign_wire_answer made, answer;
        struct bytes pub, sealed, input = bytes_of(info, rows[i].len);
        assert_true(ask(0, rows[i].make, BYTES(""), &made) > 0);
        assert_int_equal(sign_made_parse(bytes_of(made.bytes, made.len), &pub, &sealed), OK);
        uint64_t number = sign_sealed_number(sealed);
        assert_int_equal(ask(number, rows[i].sign, input, &answer), 0);
        assert_int_equal(answer.state, SIGN_NO_KEY);
        assert_int_equal(ask_with(number + 1, rows[i].sign, input, sealed, &answer), 0);
        assert_int_equal(answer.state, SIGN_REFUSED);
        assert_int_equal(ask_with(number, rows[i].sign, input, sealed, &answer), rows[i].signature);
        unsigned char signature[64]; // both kinds are the same each time
        memcpy(signature, answer.bytes, sizeof signature);
        for (int again = 0; again < 3; again++) { // from the second on with a context that is there
            assert_int_equal(ask(number, rows[i].sign, input, &answer), rows[i].signature);
            assert_memory_equal(answer.bytes, signature, sizeof signature);
        }
        assert_int_equal(ask(number, rows[i].sign, bytes_first(input, 31), &answer), 0);
        assert_int_equal(ask(number, SIGN_RSA_PSS, bytes_of(info, 32), &answer), 0);
        // Another master key opens nothing, nor is anything opened that was changed.
        struct key_master other = {.key = {9}, .is_set = true};
        struct sign_keys *own = keys;
        keys = sign_keys_new(&other);
        assert_int_equal(ask_with(number, rows[i].sign, input, sealed, &answer), 0);
        assert_int_equal(answer.state, SIGN_REFUSED);
        sign_keys_free(keys);
        keys = own;
    }
}

// The key used longest ago makes room.
static void test_room(void **state)
{
    (void)state;
    struct sign_wire_answer answer;
    static const char digest[32] = {1};
    struct key_master none = {0};
    struct sign_keys *own = keys;
    keys = sign_keys_new(&none);
    for (uint64_t n = 1; n <= SIGN_KEYS_TLS + 5; n++) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        unsigned char *der = NULL;
        int len = i2d_PrivateKey(key, &der);
        assert_int_equal(sign_keys_add(keys, n, bytes_of(der, (size_t)len)), OK);
        OPENSSL_free(der);
        EVP_PKEY_free(key);
        assert_true(ask(1, SIGN_ECDSA, bytes_of(digest, 32), &answer) > 0); // in use: stays
    }
    assert_int_equal(ask(2, SIGN_ECDSA, bytes_of(digest, 32), &answer), 0);
    assert_int_equal(answer.state, SIGN_NO_KEY);
    assert_int_equal(sign_keys_add(keys, 99, BYTES("junk")), E_SYNTAX);
    assert_int_equal(ask(0, SIGN_MAKE_RSA, BYTES(""), &answer), 0); // without a master key
    sign_keys_free(keys);
    keys = own;
}

static void add(uint64_t number, EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int len = i2d_PrivateKey(key, &der);
    assert_int_equal(sign_keys_add(keys, number, bytes_of(der, (size_t)len)), OK);
    OPENSSL_free(der);
}

static int setup(void **state)
{
    (void)state;
    master = (struct key_master){.key = {1, 2, 3}, .is_set = true};
    keys = sign_keys_new(&master);
    assert_false(master.is_set); // wiped
    rsa_key = EVP_RSA_gen(2048);
    EVP_PKEY *ec = EVP_EC_gen("P-256");
    add(EC_NUMBER, ec);
    add(RSA_NUMBER, rsa_key);
    EVP_PKEY_free(ec);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(rsa_key);
    sign_keys_free(keys);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signs), cmocka_unit_test(test_refuses), cmocka_unit_test(test_junk),
        cmocka_unit_test(test_batch), cmocka_unit_test(test_dkim),    cmocka_unit_test(test_room),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
