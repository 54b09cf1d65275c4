// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "mail/mail_encode.h"
#include "smtp/sasl.h"

#define NONCE BYTES("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0") // the server's part in RFC 7677 section 3

static void test_e_plain(void **state)
{
    static const struct {
        struct bytes message;
        enum sasl_server_step step;
    } rows[] = {
        {BYTES("\0user\0secret"), SASL_CHECK_PASSWORD},
        {BYTES("user\0user\0secret"), SASL_CHECK_PASSWORD},
        {BYTES("\0us\xc3\xa9r\0s\xc3\xa9"), SASL_CHECK_PASSWORD},
        {BYTES("root\0user\0secret"), SASL_WRONG},
        {BYTES("\0user\0"), SASL_MALFORMED},
        {BYTES("\0\0secret"), SASL_MALFORMED},
        {BYTES("\0user"), SASL_MALFORMED},
        {BYTES("user"), SASL_MALFORMED},
        {BYTES(""), SASL_MALFORMED},
        {BYTES("\0user\0secret\0"), SASL_MALFORMED},
        {BYTES("\0user\0sec\0ret"), SASL_MALFORMED},
        {BYTES("\0us\ner\0secret"), SASL_MALFORMED},
        {BYTES("\0user\0sec\x7fret"), SASL_MALFORMED},
        {BYTES("\0us\xff\0secret"), SASL_MALFORMED},
        {BYTES("\0us\xc2\x85"
               "er\0secret"),
         SASL_MALFORMED},
        {BYTES("\0user\0sec\xe2\x80\xa8ret"), SASL_MALFORMED},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sasl_server s;
        struct buf challenge = {0};
        sasl_server_init(&s, SASL_PLAIN, BYTES_NONE, NULL);
        if (sasl_server_feed(&s, rows[i].message, &challenge) != rows[i].step)
            fail_msg("row %zu", i);
        assert_int_equal(sasl_server_feed(&s, rows[i].message, &challenge), SASL_MALFORMED); // over
        sasl_server_done(&s);
        buf_done(&challenge);
    }
}

// RFC 7677 section 3: the example of SCRAM-SHA-256.
static struct sasl_scram_key rfc_key(void)
{
    struct sasl_scram_key key;
    struct buf salt = {0};
    assert_int_equal(mail_base64_decode(BYTES("W22ZaJ0SNY7soEsUEjb6gQ=="), &salt), OK);
    assert_int_equal(sasl_scram_key_make(BYTES("pencil"), buf_bytes(&salt), 4096, &key), OK);
    buf_done(&salt);
    return key;
}

#define CLIENT_FIRST "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
#define SERVER_FIRST                                                                               \
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define CLIENT_NO_PROOF "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define PROOF "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define CLIENT_FINAL CLIENT_NO_PROOF ",p=" PROOF
#define SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

static void test_scram_example(void **state)
{
    struct sasl_server s;
    struct buf out = {0};
    struct sasl_scram_key key = rfc_key();
    sasl_server_init(&s, SASL_SCRAM_SHA_256, NONCE, NULL);
    assert_int_equal(sasl_server_feed(&s, BYTES(CLIENT_FIRST), &out), SASL_FIND_KEY);
    assert_true(bytes_eq(buf_bytes(&s.login), BYTES("user")));
    assert_int_equal(sasl_server_key(&s, &key, true, &out), SASL_CHALLENGE);
    assert_string_equal(buf_cstr(&out), SERVER_FIRST);
    buf_clear(&out);
    assert_int_equal(sasl_server_feed(&s, BYTES(CLIENT_FINAL), &out), SASL_PROVEN);
    assert_int_equal(out.len,
                     0); // nothing says so before the caller has asked whether it may come in
    assert_int_equal(sasl_server_prove(&s, &out), SASL_CHALLENGE);
    assert_string_equal(buf_cstr(&out), SERVER_FINAL);
    assert_int_equal(sasl_server_feed(&s, BYTES_NONE, &out), SASL_DONE);
    sasl_server_done(&s);
    buf_done(&out);
}

#define X16 "xxxxxxxxxxxxxxxx"
#define X128 X16 X16 X16 X16 X16 X16 X16 X16

// The same exchange with one thing changed.
static void test_e_scram_refusals(void **state)
{
    static const struct {
        const char *name, *first, *final;
        bool real;
        enum sasl_server_step first_step, final_step;
    } rows[] = {
        {"as it should be", CLIENT_FIRST, CLIENT_FINAL, true, SASL_FIND_KEY, SASL_PROVEN},
        {"made-up key", CLIENT_FIRST, CLIENT_FINAL, false, SASL_FIND_KEY, SASL_WRONG},
        {"wrong proof", CLIENT_FIRST,
         CLIENT_NO_PROOF ",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", true, SASL_FIND_KEY,
         SASL_WRONG},
        {"short proof", CLIENT_FIRST, CLIENT_NO_PROOF ",p=AAAA", true, SASL_FIND_KEY,
         SASL_MALFORMED},
        {"no proof", CLIENT_FIRST, CLIENT_NO_PROOF, true, SASL_FIND_KEY, SASL_MALFORMED},
        {"the client's part of the nonce alone", CLIENT_FIRST,
         "c=biws,r=rOprNGfwEbeRWgbNEkqO,p=" PROOF, true, SASL_FIND_KEY, SASL_MALFORMED},
        {"more behind the nonce", CLIENT_FIRST, CLIENT_NO_PROOF "x,p=" PROOF, true, SASL_FIND_KEY,
         SASL_MALFORMED},
        {"nonce of another exchange", CLIENT_FIRST,
         "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k1,p=" PROOF, true,
         SASL_FIND_KEY, SASL_MALFORMED},
        {"other channel binding", CLIENT_FIRST,
         "c=eSws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=" PROOF, true,
         SASL_FIND_KEY, SASL_UNBOUND},
        {"binding taken out (flag y)", "y,,n=user,r=rOprNGfwEbeRWgbNEkqO", CLIENT_FINAL, true,
         SASL_FIND_KEY, SASL_UNBOUND},
        {"binding asked for", "p=tls-unique,,n=user,r=abc", NULL, true, SASL_MALFORMED, 0},
        {"no header", "n=user,r=abc", NULL, true, SASL_MALFORMED, 0},
        {"no nonce", "n,,n=user", NULL, true, SASL_MALFORMED, 0},
        {"empty nonce", "n,,n=user,r=", NULL, true, SASL_MALFORMED, 0},
        {"nonce with a blank", "n,,n=user,r=a b", NULL, true, SASL_MALFORMED, 0},
        {"nonce with DEL", "n,,n=user,r=a\x7f", NULL, true, SASL_MALFORMED, 0},
        {"nonce without end", "n,,n=user,r=" X128 X128 "x", NULL, true, SASL_MALFORMED, 0},
        {"as long as a nonce may be", "n,,n=user,r=" X128 X128, NULL, true, SASL_FIND_KEY, 0},
        {"extension", "n,,m=x,n=user,r=abc", NULL, true, SASL_MALFORMED, 0},
        {"empty login", "n,,n=,r=abc", NULL, true, SASL_MALFORMED, 0},
        {"bad escape in the login", "n,,n=us=er,r=abc", NULL, true, SASL_MALFORMED, 0},
        {"another identity", "n,a=root,n=user,r=abc", NULL, true, SASL_MALFORMED, 0},
        {"own identity", "n,a=user,n=user,r=abc", NULL, true, SASL_FIND_KEY, 0},
        {"escaped login", "n,,n=a=2Cb=3Dc,r=abc", NULL, true, SASL_FIND_KEY, 0},
    };
    struct sasl_scram_key key = rfc_key();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sasl_server s;
        struct buf out = {0};
        sasl_server_init(&s, SASL_SCRAM_SHA_256, NONCE, NULL);
        if (sasl_server_feed(&s, bytes_cstr(rows[i].first), &out) != rows[i].first_step)
            fail_msg("%s: first", rows[i].name);
        if (rows[i].final) {
            sasl_server_key(&s, &key, rows[i].real, &out);
            if (sasl_server_feed(&s, bytes_cstr(rows[i].final), &out) != rows[i].final_step)
                fail_msg("%s: final", rows[i].name);
        }
        sasl_server_done(&s);
        buf_done(&out);
    }
}

static void test_scram_client_example(void **state)
{
    struct sasl_client c;
    struct buf out = {0};
    sasl_client_init(&c, SASL_SCRAM_SHA_256, BYTES("user"), BYTES("pencil"),
                     BYTES("rOprNGfwEbeRWgbNEkqO"), NULL);
    assert_int_equal(sasl_client_feed(&c, BYTES_NONE, &out), OK);
    assert_string_equal(buf_cstr(&out), CLIENT_FIRST);
    buf_clear(&out);
    assert_int_equal(sasl_client_feed(&c, BYTES(SERVER_FIRST), &out), OK);
    assert_string_equal(buf_cstr(&out), CLIENT_FINAL);
    assert_int_equal(sasl_client_finish(&c), E_DENIED);
    buf_clear(&out);
    assert_int_equal(sasl_client_feed(&c, BYTES(SERVER_FINAL), &out), OK);
    assert_int_equal(out.len, 0);
    assert_int_equal(sasl_client_finish(&c), OK);
    sasl_client_done(&c);
    buf_done(&out);
}

static void test_e_scram_client_refusals(void **state)
{
    static const struct {
        const char *name, *first, *final;
        int err;
    } rows[] = {
        {"nonce not ours", "r=xOprNGfwEbeRWgbNEkqO%hv,s=AAAA,i=4096", NULL, E_SYNTAX},
        {"nothing added", "r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096", NULL, E_SYNTAX},
        {"too few rounds", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=1", NULL, E_LIMIT},
        {"one round too few", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4095", NULL, E_LIMIT},
        {"one round too many", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=600001", NULL, E_LIMIT},
        {"too many rounds", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4000000000", NULL, E_LIMIT},
        {"4096 modulo 2^32", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4294971392", NULL, E_LIMIT},
        {"4096 modulo 2^64", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=18446744073709555712", NULL,
         E_LIMIT},
        {"rounds below zero", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=-4096", NULL, E_SYNTAX},
        {"nonce without end", "r=rOprNGfwEbeRWgbNEkqO" X128 X128 ",s=AAAA,i=4096", NULL, E_SYNTAX},
        {"no salt", "r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096", NULL, E_SYNTAX},
        {"garbage", "e=other-error", NULL, E_SYNTAX},
        {"server that does not know the password", SERVER_FIRST,
         "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", E_DENIED},
        {"server that says error", SERVER_FIRST, "e=invalid-proof", E_DENIED},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sasl_client c;
        struct buf out = {0};
        sasl_client_init(&c, SASL_SCRAM_SHA_256, BYTES("user"), BYTES("pencil"),
                         BYTES("rOprNGfwEbeRWgbNEkqO"), NULL);
        assert_int_equal(sasl_client_feed(&c, BYTES_NONE, &out), OK);
        int err = sasl_client_feed(&c, bytes_cstr(rows[i].first), &out);
        if (rows[i].final)
            err = sasl_client_feed(&c, bytes_cstr(rows[i].final), &out);
        if (err != rows[i].err)
            fail_msg("%s: %d", rows[i].name, err);
        assert_int_equal(sasl_client_finish(&c), E_DENIED);
        sasl_client_done(&c);
        buf_done(&out);
    }
}

// What RFC 5802 makes of RFC 7677's example with channel bindings, computed with Python's hmac and hashlib.
static const struct {
    enum sasl_binding_type type;
    uint8_t len; // octets 0, 1, 2, ...
    const char *first, *final, *server_final;
} bound[] = {
    {SASL_TLS_EXPORTER, 32, "p=tls-exporter,,n=user,r=rOprNGfwEbeRWgbNEkqO",
     "c=cD10bHMtZXhwb3J0ZXIsLAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f,r=rOprNGfwEbeRWgbNEkqO%"
     "hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=QC6CS20quADQRb3mT99YUH+n3VJxUvzuK0K0E1Vrs2M=",
     "v=2GiAgapEppLVlUXbxUDksL3VgYHzuqiK5tR4mhJGgvs="},
    {SASL_TLS_SERVER_END_POINT, 48, "p=tls-server-end-point,,n=user,r=rOprNGfwEbeRWgbNEkqO",
     "c="
     "cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissL"
     "S4v,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="
     "1ht2qQmRrdPQlcTqKFub99DhWWmiWO2f8Fra5qHa5bk=",
     "v=x5IxXONrzxiCfk1KvSYVDZV1ghsvS5BQA2qZ87P1xls="},
};

static struct sasl_bindings bindings_of(enum sasl_binding_type type, uint8_t len)
{
    struct sasl_bindings out = {0};
    out.of[type].len = len;
    for (uint8_t i = 0; i < len; i++)
        out.of[type].bytes[i] = i;
    return out;
}

static void test_plus_examples(void **state)
{
    for (size_t i = 0; i < COUNT_OF(bound); i++) {
        struct sasl_bindings bindings = bindings_of(bound[i].type, bound[i].len);
        struct sasl_client c;
        struct sasl_server s;
        struct sasl_scram_key key = rfc_key();
        struct buf out = {0};
        sasl_client_init(&c, SASL_SCRAM_SHA_256_PLUS, BYTES("user"), BYTES("pencil"),
                         BYTES("rOprNGfwEbeRWgbNEkqO"), &bindings);
        assert_int_equal(sasl_client_feed(&c, BYTES_NONE, &out), OK);
        assert_string_equal(buf_cstr(&out), bound[i].first);
        buf_clear(&out);
        assert_int_equal(sasl_client_feed(&c, BYTES(SERVER_FIRST), &out), OK);
        assert_string_equal(buf_cstr(&out), bound[i].final);
        buf_clear(&out);
        assert_int_equal(sasl_client_feed(&c, bytes_cstr(bound[i].server_final), &out), OK);
        assert_int_equal(sasl_client_finish(&c), OK);
        sasl_client_done(&c);
        sasl_server_init(&s, SASL_SCRAM_SHA_256_PLUS, NONCE, &bindings);
        assert_int_equal(sasl_server_feed(&s, bytes_cstr(bound[i].first), &out), SASL_FIND_KEY);
        assert_int_equal(sasl_server_key(&s, &key, true, &out), SASL_CHALLENGE);
        buf_clear(&out);
        assert_int_equal(sasl_server_feed(&s, bytes_cstr(bound[i].final), &out), SASL_PROVEN);
        assert_int_equal(sasl_server_prove(&s, &out), SASL_CHALLENGE);
        assert_string_equal(buf_cstr(&out), bound[i].server_final);
        assert_int_equal(sasl_server_feed(&s, BYTES_NONE, &out), SASL_DONE);
        sasl_server_done(&s);
        buf_done(&out);
    }
}

// RFC 5802 section 6: what flag goes with what mechanism, and what was offered.
static void test_e_binding_flags(void **state)
{
    static const struct {
        enum sasl_mechanism mechanism;
        bool offered;
        const char *first;
        enum sasl_server_step step;
    } rows[] = {
        {SASL_SCRAM_SHA_256, false, "n,,n=user,r=abc", SASL_FIND_KEY},
        {SASL_SCRAM_SHA_256, true, "n,,n=user,r=abc", SASL_FIND_KEY},
        {SASL_SCRAM_SHA_256, false, "y,,n=user,r=abc", SASL_FIND_KEY},
        {SASL_SCRAM_SHA_256, true, "y,,n=user,r=abc", SASL_UNBOUND}, // somebody took the offer out
        {SASL_SCRAM_SHA_256, true, "p=tls-exporter,,n=user,r=abc", SASL_MALFORMED},
        {SASL_SCRAM_SHA_256_PLUS, true, "n,,n=user,r=abc", SASL_MALFORMED},
        {SASL_SCRAM_SHA_256_PLUS, true, "y,,n=user,r=abc", SASL_MALFORMED},
        {SASL_SCRAM_SHA_256_PLUS, true, "p=tls-exporter,,n=user,r=abc", SASL_FIND_KEY},
        {SASL_SCRAM_SHA_256_PLUS, true, "p=tls-server-end-point,,n=user,r=abc", SASL_UNBOUND},
        {SASL_SCRAM_SHA_256_PLUS, true, "p=tls-unique,,n=user,r=abc", SASL_UNBOUND},
        {SASL_SCRAM_SHA_256_PLUS, true, "p=,,n=user,r=abc", SASL_UNBOUND},
        {SASL_SCRAM_SHA_256_PLUS, true, "p,,n=user,r=abc", SASL_MALFORMED},
    };
    struct sasl_bindings bindings = bindings_of(SASL_TLS_EXPORTER, 32);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sasl_server s;
        struct buf out = {0};
        sasl_server_init(&s, rows[i].mechanism, NONCE, rows[i].offered ? &bindings : NULL);
        enum sasl_server_step step = sasl_server_feed(&s, bytes_cstr(rows[i].first), &out);
        if (step != rows[i].step)
            fail_msg("%d %s: %d", rows[i].mechanism, rows[i].first, step);
        if (step != SASL_FIND_KEY)
            assert_int_equal(sasl_server_feed(&s, bytes_cstr(rows[i].first), &out), SASL_MALFORMED);
        sasl_server_done(&s);
        buf_done(&out);
    }
}

static void test_e_external(void **state)
{
    static const struct {
        struct bytes message;
        enum sasl_server_step step;
    } rows[] = {{BYTES(""), SASL_ASK_EXTERNAL},
                {BYTES("robot"), SASL_ASK_EXTERNAL},
                {BYTES("a\0b"), SASL_MALFORMED},
                {BYTES("a\nb"), SASL_MALFORMED}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sasl_server s;
        struct buf out = {0};
        sasl_server_init(&s, SASL_EXTERNAL, BYTES_NONE, NULL);
        assert_int_equal(sasl_server_feed(&s, rows[i].message, &out), rows[i].step);
        if (rows[i].step == SASL_ASK_EXTERNAL)
            assert_true(bytes_eq(buf_bytes(&s.login), rows[i].message));
        assert_int_equal(sasl_server_feed(&s, rows[i].message, &out), SASL_MALFORMED);
        assert_int_equal(out.len, 0);
        sasl_server_done(&s);
    }
}

// Both sides, every mechanism, right and wrong passwords, logins that need escapes.
static bool exchange(enum sasl_mechanism mechanism, struct bytes login, struct bytes password,
                     struct bytes truth)
{
    struct sasl_bindings of_client = bindings_of(SASL_TLS_EXPORTER, 32), of_server = of_client;
    bool plus = mechanism == SASL_SCRAM_SHA_256_PLUS;
    of_server.of[0].bytes[31] ^= bytes_eq(password, BYTES("elsewhere"));
    struct sasl_client c;
    struct sasl_server s;
    struct sasl_scram_key key;
    struct buf to_server = {0}, to_client = {0};
    assert_int_equal(sasl_scram_key_make(truth, BYTES("salt"), 4096, &key), OK);
    sasl_client_init(&c, mechanism, login, password, BYTES("cccccccccccccccccccc"),
                     plus ? &of_client : NULL);
    sasl_server_init(&s, mechanism, BYTES("ssssssssssssssssssss"), plus ? &of_server : NULL);
    sasl_server_begin(&s, &to_client);
    enum sasl_server_step step = SASL_CHALLENGE;
    int err = OK;
    while (step == SASL_CHALLENGE && !err) {
        buf_clear(&to_server);
        err = sasl_client_feed(&c, buf_bytes(&to_client), &to_server);
        buf_clear(&to_client);
        if (!err)
            step = sasl_server_feed(&s, buf_bytes(&to_server), &to_client);
        if (step == SASL_FIND_KEY)
            step = sasl_server_key(&s, &key, true, &to_client);
        if (step == SASL_PROVEN)
            step = sasl_server_prove(&s, &to_client);
    }
    bool in = step == SASL_DONE ||
              (step == SASL_CHECK_PASSWORD && bytes_eq(buf_bytes(&s.password), truth));
    assert_true(bytes_eq(buf_bytes(&s.login), login));
    if (in)
        assert_int_equal(sasl_client_finish(&c), OK);
    sasl_client_done(&c);
    sasl_server_done(&s);
    buf_done(&to_server);
    buf_done(&to_client);
    return in;
}

static void test_e_both_sides(void **state)
{
    for (int m = 0; m < SASL_EXTERNAL; m++) { // which has no client
        assert_true(
            exchange((enum sasl_mechanism)m, BYTES("user"), BYTES("secret"), BYTES("secret")));
        assert_true(
            exchange((enum sasl_mechanism)m, BYTES("a,b=c\xc3\xa9"), BYTES(",="), BYTES(",=")));
        assert_false(
            exchange((enum sasl_mechanism)m, BYTES("user"), BYTES("Secret"), BYTES("secret")));
    }
    // The right password over somebody else's TLS connection.
    assert_false(
        exchange(SASL_SCRAM_SHA_256_PLUS, BYTES("user"), BYTES("elsewhere"), BYTES("elsewhere")));
}

static void test_e_keys(void **state)
{
    struct sasl_scram_key key = rfc_key(), back, fake, again, other;
    struct buf text = {0};
    uint8_t secret[32] = {1};
    sasl_scram_key_format(&key, &text);
    assert_string_equal(
        buf_cstr(&text),
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
    assert_int_equal(sasl_scram_key_parse(buf_bytes(&text), &back), OK);
    assert_memory_equal(&back, &key, sizeof key);
    assert_int_equal(sasl_scram_key_parse(bytes_first(buf_bytes(&text), text.len - 1), &back),
                     E_SYNTAX);
    assert_int_equal(sasl_scram_key_parse(BYTES("SCRAM-SHA-256$1:AAAA$AAAA:AAAA"), &back), E_LIMIT);
    assert_int_equal(sasl_scram_key_parse(BYTES("SCRAM-SHA-1$4096:AAAA$AAAA:AAAA"), &back),
                     E_SYNTAX);
    assert_int_equal(sasl_scram_key_make(BYTES(""), BYTES("salt"), 4096, &back), E_LIMIT);
    assert_int_equal(sasl_scram_key_make(BYTES("x"), BYTES("salt"), 4095, &back), E_LIMIT);

    sasl_scram_key_fake(secret, BYTES("nobody"), &fake);
    sasl_scram_key_fake(secret, BYTES("nobody"), &again);
    assert_memory_equal(&fake, &again, sizeof fake);
    sasl_scram_key_fake(secret, BYTES("nobody2"), &other);
    assert_memory_not_equal(fake.salt, other.salt, SASL_SCRAM_SALT_BYTES);
    size_t chosen = 0; // of a hundred that nobody has, some seem to be a person's, some a machine's
    for (int i = 0; i < 100; i++) {
        char login[16];
        snprintf(login, sizeof login, "nobody%d", i);
        sasl_scram_key_fake(secret, bytes_cstr(login), &other);
        chosen += other.iterations == SASL_SCRAM_ITERATIONS_CHOSEN;
        assert_true(other.iterations == SASL_SCRAM_ITERATIONS_CHOSEN ||
                    other.iterations == SASL_SCRAM_ITERATIONS);
    }
    assert_true(chosen > 20 && chosen < 80);
    secret[0] = 2;
    sasl_scram_key_fake(secret, BYTES("nobody"), &other);
    assert_memory_not_equal(fake.salt, other.salt, SASL_SCRAM_SALT_BYTES);
    buf_done(&text);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_e_plain),
        cmocka_unit_test(test_scram_example),
        cmocka_unit_test(test_e_scram_refusals),
        cmocka_unit_test(test_scram_client_example),
        cmocka_unit_test(test_e_scram_client_refusals),
        cmocka_unit_test(test_plus_examples),
        cmocka_unit_test(test_e_binding_flags),
        cmocka_unit_test(test_e_external),
        cmocka_unit_test(test_e_both_sides),
        cmocka_unit_test(test_e_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
