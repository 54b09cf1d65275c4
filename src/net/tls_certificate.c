// SPDX-License-Identifier: MIT
#include "net/tls_certificate.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#define VALID_SECONDS (30L * 86400)

static int add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    int ok = extension && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

static int fill(X509 *cert, EVP_PKEY *key, struct bytes hostname)
{
    uint64_t serial;
    char names[512];
    snprintf(names, sizeof names, "DNS:%.*s,DNS:localhost", BYTES_FMT(bytes_first(hostname, 253)));
    X509_NAME *name = X509_get_subject_name(cert);
    return RAND_bytes((unsigned char *)&serial, sizeof serial) == 1 &&
           X509_set_version(cert, X509_VERSION_3) &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
           X509_gmtime_adj(X509_getm_notAfter(cert), VALID_SECONDS) &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                      (const unsigned char *)"posthaste trial", -1, -1, 0) &&
           X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key) &&
           add_extension(cert, NID_subject_alt_name, names) &&
           add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
           X509_sign(cert, key, EVP_sha256());
}

static int take_pem(BIO *bio, struct buf *out)
{
    char *at;
    long n = BIO_get_mem_data(bio, &at);
    buf_add(out, bytes_of(at, (size_t)n));
    return out->err == OK;
}

static int write_pem(X509 *cert, EVP_PKEY *key, struct buf *out_certificate, struct buf *out_key)
{
    BIO *c = BIO_new(BIO_s_mem()), *k = BIO_new(BIO_s_mem());
    int ok = c && k && PEM_write_bio_X509(c, cert) &&
             PEM_write_bio_PrivateKey(k, key, NULL, NULL, 0, NULL, NULL) &&
             take_pem(c, out_certificate) && take_pem(k, out_key);
    BIO_free(c);
    BIO_free(k);
    return ok;
}

int tls_certificate_make(struct bytes hostname, struct buf *out_certificate, struct buf *out_key)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    int ok =
        key && cert && fill(cert, key, hostname) && write_pem(cert, key, out_certificate, out_key);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ok ? OK : E_TLS;
}
