// SPDX-License-Identifier: MIT
//
// net_test_certs - for tests: an authority and certificates of it, made on the spot
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/check.h"
#include "net/net_tls.h"

struct test_cert {
    EVP_PKEY *key;
    X509 *x509;
    char *cert_pem, *key_pem; // NUL-terminated
};

static inline char *test_pem_of(BIO *bio)
{
    char *data;
    long n = BIO_get_mem_data(bio, &data);
    char *copy = mem_new((unsigned long)n + 1);
    memcpy(copy, data, (size_t)n);
    BIO_free(bio);
    return copy;
}

static inline void test_cert_extension(X509 *x509, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    CHECK(extension && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

// A certificate for `names` ("DNS:mx.example.org,IP:127.0.0.1"), or an authority if NULL; signed by
// `issuer`, itself if NULL; it ends `days` from now.
// The key is taken over.
static inline struct test_cert test_cert_of(EVP_PKEY *key, const char *names,
                                            const struct test_cert *issuer, int days)
{
    static long serial = 1;
    struct test_cert c = {.key = key, .x509 = X509_new()};
    X509_set_version(c.x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c.x509), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c.x509), -86400 * 30);
    X509_gmtime_adj(X509_getm_notAfter(c.x509), 86400L * days);
    X509_set_pubkey(c.x509, c.key);
    X509_NAME *subject = X509_get_subject_name(c.x509);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                               (const unsigned char *)(names ? "leaf" : "authority"), -1, -1, 0);
    X509_set_issuer_name(c.x509, issuer ? X509_get_subject_name(issuer->x509) : subject);
    if (names)
        test_cert_extension(c.x509, NID_subject_alt_name, names);
    else
        test_cert_extension(c.x509, NID_basic_constraints, "critical,CA:TRUE");
    CHECK(X509_sign(c.x509, issuer ? issuer->key : c.key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, c.x509);
    c.cert_pem = test_pem_of(bio);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, c.key, NULL, NULL, 0, NULL, NULL);
    c.key_pem = test_pem_of(bio);
    return c;
}

static inline struct test_cert test_cert_new(const char *names, const struct test_cert *issuer,
                                             int days)
{
    return test_cert_of(EVP_EC_gen("P-256"), names, issuer, days);
}

static inline void test_cert_done(struct test_cert *c)
{
    EVP_PKEY_free(c->key);
    X509_free(c->x509);
    free(c->cert_pem);
    free(c->key_pem);
}

static inline struct net_tls_server *test_server(const struct test_cert *c)
{
    struct net_tls_server *server;
    char reason[NET_TLS_REASON];
    CHECK(net_tls_server_new(bytes_cstr(c->cert_pem), bytes_cstr(c->key_pem), &server, reason) ==
          OK);
    return server;
}

static inline struct net_tls_authorities *test_authorities(const struct test_cert *c)
{
    struct net_tls_authorities *authorities;
    char reason[NET_TLS_REASON];
    CHECK(net_tls_authorities_new(bytes_cstr(c->cert_pem), &authorities, reason) == OK);
    return authorities;
}
