// SPDX-License-Identifier: MIT
#define OPENSSL_SUPPRESS_DEPRECATED // RSA_padding_add_PKCS1_PSS_mgf1()

#include "daemon/guard_keys.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/test_base.h"
#include "daemon/guard_lines.h"
#include "net/net_test_certs.h"
#include "net/tls_certificate.h"

static struct guard_keys keys;
static uint32_t ec_number, rsa_number;
static EVP_PKEY *rsa_key;
static struct test_cert rsa;

static size_t ask(uint32_t key, int kind, struct bytes input, struct sign_wire_answer *answer)
{
    struct sign_wire_request r = {
        .id = 7, .key = key, .kind = (uint16_t)kind, .len = (uint16_t)input.len};
    size_t head = offsetof(struct sign_wire_request, input);
    memcpy(r.input, input.at, input.len);
    size_t n = guard_keys_answer(&keys, bytes_of(&r, head + input.len), answer);
    assert_int_equal(n, offsetof(struct sign_wire_answer, signature) + answer->len);
    assert_int_equal(answer->id, 7);
    return answer->len;
}

// What a handshake asks for is signed, and verifies.
static void test_signs(void **state)
{
    (void)state;
    struct sign_wire_answer answer;
    unsigned char digest[32], em[256];
    memset(digest, 0x5a, sizeof digest);
    assert_true(ask(ec_number, NET_SIGN_ECDSA, bytes_of(digest, 32), &answer) > 64);
    RSA *own = EVP_PKEY_get1_RSA(rsa_key);
    assert_int_equal(
        RSA_padding_add_PKCS1_PSS_mgf1(own, em, digest, EVP_sha256(), EVP_sha256(), 32), 1);
    RSA_free(own);
    assert_int_equal(ask(rsa_number, NET_SIGN_RSA_PSS, bytes_of(em, sizeof em), &answer), 256);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(rsa_key, NULL);
    EVP_PKEY_verify_init(ctx);
    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING);
    EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256());
    assert_int_equal(EVP_PKEY_verify(ctx, answer.signature, answer.len, digest, sizeof digest), 1);
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
    static char zeros[NET_SIGN_BYTES_MAX];
    static const struct refused_row rows[] = {
        {"digest too short", false, NET_SIGN_ECDSA, zeros, 31},
        {"no digest", false, NET_SIGN_ECDSA, zeros, 0},
        {"digest too long", false, NET_SIGN_ECDSA, zeros, 65},
        {"raw block", true, NET_SIGN_RSA_PSS, zeros, 256},
        {"raw block, short", true, NET_SIGN_RSA_PSS, zeros, 255},
        {"raw block, long", true, NET_SIGN_RSA_PSS, zeros, 512},
        {"no DigestInfo", true, NET_SIGN_RSA_PKCS1, zeros, 51},
        {"digest alone", true, NET_SIGN_RSA_PKCS1, zeros, 32},
        {"other kind of key", true, NET_SIGN_ECDSA, zeros, 32},
        {"other kind of key, RSA", false, NET_SIGN_RSA_PKCS1, zeros, 51},
        {"no such kind", false, 0, zeros, 32},
        {"no such kind", false, 9, zeros, 32},
    };
    struct sign_wire_answer answer;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (ask(rows[i].rsa ? rsa_number : ec_number, rows[i].kind,
                bytes_of(rows[i].input, rows[i].len), &answer))
            fail_msg("%s: signed", rows[i].name);
    assert_int_equal(ask(99, NET_SIGN_ECDSA, bytes_of(zeros, 32), &answer), 0);
    // One bit of a right encoding, anywhere.
    unsigned char digest[32] = {1}, em[256];
    RSA *own = EVP_PKEY_get1_RSA(rsa_key);
    RSA_padding_add_PKCS1_PSS_mgf1(own, em, digest, EVP_sha256(), EVP_sha256(), 32);
    RSA_free(own);
    for (size_t i = 0; i < 256; i += 5) {
        em[i] ^= 0x80;
        // Under the mask the salt may be anything; what is fixed are the zeros, the hash's effect on them, the end.
        bool salt = i >= 256 - 33 - 32 && i < 256 - 33;
        if (ask(rsa_number, NET_SIGN_RSA_PSS, bytes_of(em, sizeof em), &answer) && !salt)
            fail_msg("byte %zu changed: signed", i);
        em[i] ^= 0x80;
    }
}

// Datagrams that are no request get no answer.
static void test_junk(void **state)
{
    (void)state;
    struct sign_wire_answer answer;
    struct sign_wire_request r = {.key = ec_number, .kind = NET_SIGN_ECDSA, .len = 32};
    size_t head = offsetof(struct sign_wire_request, input);
    for (size_t len = 0; len < sizeof r + 8; len++) {
        static char junk[sizeof r + 8];
        memcpy(junk, &r, sizeof r);
        size_t n = guard_keys_answer(&keys, bytes_of(junk, len), &answer);
        assert_int_equal(n > 0, len == head + 32);
    }
}

static void test_keys(void **state)
{
    (void)state;
    char reason[NET_TLS_REASON];
    uint32_t number;
    struct guard_keys k = {0};
    struct bytes cert = bytes_cstr(rsa.cert_pem), key = bytes_cstr(rsa.key_pem);
    struct buf other_cert = {0}, other_key = {0};
    assert_int_equal(tls_certificate_make(BYTES("mx.example"), &other_cert, &other_key), OK);
    assert_int_equal(guard_keys_add(&k, cert, buf_bytes(&other_key), &number, reason), E_TLS);
    assert_non_null(strstr(reason, "key: "));
    assert_int_equal(guard_keys_add(&k, BYTES("x"), key, &number, reason), E_TLS);
    assert_non_null(strstr(reason, "certificate: "));
    assert_int_equal(guard_keys_add(&k, cert, BYTES(""), &number, reason), E_TLS);
    assert_int_equal(guard_keys_add(&k, cert, key, &number, reason), OK);
    assert_int_equal(number, 1);
    assert_int_equal(guard_keys_add(&k, cert, key, &number, reason), OK);
    assert_int_equal(number, 1); // the same key
    for (int i = 0; i < GUARD_KEYS_MAX + 3; i++) {
        buf_clear(&other_cert);
        buf_clear(&other_key);
        assert_int_equal(tls_certificate_make(BYTES("mx.example"), &other_cert, &other_key), OK);
        assert_int_equal(
            guard_keys_add(&k, buf_bytes(&other_cert), buf_bytes(&other_key), &number, reason), OK);
        assert_int_equal(number, i + 2);
        assert_int_equal(guard_keys_add(&k, cert, key, &number, reason), OK);
        assert_int_equal(number, 1); // in use: stays
    }
    guard_keys_done(&k);
    buf_done(&other_cert);
    buf_done(&other_key);
}

static void test_lines(void **state)
{
    (void)state;
    struct guard_lines lines = {0};
    struct pollfd polled[GUARD_LINES_MAX];
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    guard_lines_add(&lines, ends[1]);
    struct sign_wire_request r = {.id = 3, .key = ec_number, .kind = NET_SIGN_ECDSA, .len = 32};
    size_t size = offsetof(struct sign_wire_request, input) + 32;
    for (int i = 0; i < GUARD_LINES_BATCH + 3; i++)
        assert_int_equal(send(ends[0], &r, size, 0), size);
    assert_int_equal(send(ends[0], "junk", 4, 0), 4);
    static const int want[] = {GUARD_LINES_BATCH, 3, 0};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct sign_wire_answer answer;
        int got = 0;
        assert_int_equal(guard_lines_poll(&lines, polled), 1);
        poll(polled, 1, 0);
        guard_lines_serve(&lines, &keys, polled);
        while (recv(ends[0], &answer, sizeof answer, MSG_DONTWAIT) > 0)
            got += answer.id == 3 && answer.len > 0;
        assert_int_equal(got, want[i]);
    }
    close(ends[0]);
    guard_lines_poll(&lines, polled);
    poll(polled, 1, 0);
    guard_lines_serve(&lines, &keys, polled);
    assert_int_equal(lines.count, 0);
}

static int setup(void **state)
{
    (void)state;
    char reason[NET_TLS_REASON];
    struct buf cert = {0}, key = {0};
    int err = tls_certificate_make(BYTES("mx.example"), &cert, &key);
    if (!err)
        err = guard_keys_add(&keys, buf_bytes(&cert), buf_bytes(&key), &ec_number, reason);
    buf_done(&cert);
    buf_done(&key);
    rsa_key = EVP_RSA_gen(2048);
    rsa = test_cert_of(rsa_key, "DNS:mx.example", NULL, 10);
    if (!err)
        err = guard_keys_add(&keys, bytes_cstr(rsa.cert_pem), bytes_cstr(rsa.key_pem), &rsa_number,
                             reason);
    return err;
}

static int teardown(void **state)
{
    (void)state;
    guard_keys_done(&keys);
    test_cert_done(&rsa);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signs), cmocka_unit_test(test_refuses), cmocka_unit_test(test_junk),
        cmocka_unit_test(test_keys),  cmocka_unit_test(test_lines),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
