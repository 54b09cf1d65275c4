// SPDX-License-Identifier: MIT
//
// doctor_tls - the certificate of the listeners: chain, names, days left, and its key
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <time.h>

#include "base/passphrase.h"
#include "cli/doctor.h"
#include "net/net_tls.h"

#define SECONDS_A_DAY 86400
#define DAYS_WARN 14
#define LIFETIME_SHARE                                                                             \
    3 // ... unless more than a third of its lifetime is left (six-day certificates)

struct certificate {
    X509 *own;
    STACK_OF(X509) * rest;
};

static bool read_certificate(const char *path, struct certificate *out)
{
    BIO *bio = BIO_new_file(path, "r");
    out->rest = sk_X509_new_null();
    out->own = bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
    for (X509 *next; out->own && (next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL));)
        sk_X509_push(out->rest, next);
    BIO_free(bio);
    return out->own != NULL;
}

// ---- key ---------------------------------------------------------------------------------------------

static void check_key(struct doctor *d, X509 *own)
{
    struct bytes path = d->conf->tls.key;
    struct stat st;
    BIO *bio = BIO_new_file(path.at, "r");
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    if (!bio) {
        doctor_fail(d, "certificate_key", path, "can't be read");
        doctor_fix(d, "see whether it is there, and run posthaste doctor as the user that starts "
                      "the service");
    } else if (!key) {
        doctor_fail(d, "certificate_key", path, "is no private key in PEM, or has a passphrase");
        doctor_fix(d, "store the key without a passphrase: openssl pkey -in FILE -out FILE.new");
    } else if (X509_check_private_key(own, key) != 1) {
        doctor_fail(d, "certificate_key", path, "is not the key of the certificate");
        doctor_fix(d, "put certificate and key of one pair in tls.certificate and tls.key");
    } else if (stat(path.at, &st) == 0 && st.st_mode & 0007) {
        doctor_warn(d, "certificate_key", path,
                    "matches, but every user of this host can get at it");
        doctor_fix(d, "chmod 0600 %.*s", BYTES_FMT(path));
    } else {
        doctor_ok(d, "certificate_key", path, "is the key of the certificate");
    }
    EVP_PKEY_free(key);
    BIO_free(bio);
}

// ---- chain, names, days ------------------------------------------------------------------------------

static void check_chain(struct doctor *d, const struct certificate *c)
{
    struct bytes path = d->conf->tls.certificate;
    const char *authorities =
        d->conf->tls.authorities.len ? d->conf->tls.authorities.at : net_tls_system_bundle();
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    bool loaded = authorities && X509_STORE_load_file(store, authorities) == 1;
    X509_STORE_CTX_init(context, store, c->own, c->rest);
    X509_STORE_CTX_set_purpose(context, X509_PURPOSE_SSL_SERVER);
    X509_STORE_CTX_set_flags(context, X509_V_FLAG_NO_CHECK_TIME);
    if (!loaded) {
        doctor_warn(d, "certificate_chain", path,
                    "not judged: there are no authorities to believe");
        doctor_fix(d, "install ca-certificates, or set tls.authorities");
    } else if (X509_verify_cert(context) == 1) {
        doctor_ok(d, "certificate_chain", path, "leads to an authority that is believed");
    } else {
        doctor_warn(d, "certificate_chain", path, "clients won't believe it: %s",
                    X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
        doctor_fix(d, "put the certificate and then all intermediate ones in the file (fullchain), "
                      "from an authority that clients know");
    }
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
}

static void check_names(struct doctor *d, X509 *own)
{
    struct bytes name = d->conf->hostname;
    if (X509_check_host(own, name.at, name.len, 0, NULL) == 1) {
        doctor_ok(d, "certificate_names", name, "the certificate is for this name");
        return;
    }
    doctor_warn(d, "certificate_names", name, "the certificate is not for this name");
    doctor_fix(d, "get one whose names include %.*s, or set hostname to one of its names",
               BYTES_FMT(name));
}

static int64_t seconds_of(const ASN1_TIME *time)
{
    struct tm tm = {0};
    return ASN1_TIME_to_tm(time, &tm) == 1 ? timegm(&tm) : 0;
}

static void check_days(struct doctor *d, X509 *own)
{
    int64_t now = time(NULL), from = seconds_of(X509_get0_notBefore(own)),
            to = seconds_of(X509_get0_notAfter(own)), left = to - now;
    struct bytes path = d->conf->tls.certificate;
    long long days = (long long)(left / SECONDS_A_DAY);
    if (left <= 0) {
        doctor_fail(d, "certificate_days", path, "ended %lld days ago", -days);
        doctor_fix(d, "renew it now; the service reads the new file by itself");
    } else if (from > now) {
        doctor_fail(d, "certificate_days", path, "is not valid yet");
        doctor_fix(d, "see whether this host's clock is right");
    } else if (left < DAYS_WARN * SECONDS_A_DAY && left < (to - from) / LIFETIME_SHARE) {
        doctor_warn(d, "certificate_days", path, "ends in %lld days", days);
        doctor_fix(d, "see why it has not been renewed");
    } else {
        doctor_ok(d, "certificate_days", path, "ends in %lld days", days);
    }
}

// ---- all of it ---------------------------------------------------------------------------------------

static bool offers_tls(const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->listeners_count; i++)
        if (conf->listeners[i].tls != CONF_TLS_NONE)
            return true;
    return false;
}

static void check_self_signed(struct doctor *d)
{
    const struct conf *conf = d->conf;
    for (uint32_t i = 0; i < conf->listeners_count; i++)
        if (conf->listeners[i].tls != CONF_TLS_NONE &&
            !doctor_is_loopback(conf->listeners[i].address)) {
            doctor_warn(d, "self_signed", conf->listeners[i].name,
                        "a certificate that nobody can check is shown to the network");
            doctor_fix(d, "get one from an authority for %.*s; set tls.certificate and tls.key",
                       BYTES_FMT(conf->hostname));
            return;
        }
    doctor_ok(d, "self_signed", BYTES_NONE,
              "the certificate is made at the start; only this host sees it");
}

void doctor_check_tls(struct doctor *d)
{
    const struct conf *conf = d->conf;
    struct certificate c;
    if (conf->tls.self_signed) {
        check_self_signed(d);
        return;
    }
    if (!conf->tls.certificate.len || !offers_tls(conf)) {
        doctor_ok(d, "certificate", BYTES_NONE, "no listener offers TLS, none is needed");
        return;
    }
    if (read_certificate(conf->tls.certificate.at, &c)) {
        check_key(d, c.own);
        check_chain(d, &c);
        check_names(d, c.own);
        check_days(d, c.own);
    } else {
        doctor_fail(d, "certificate", conf->tls.certificate,
                    "can't be read, or is no certificate in PEM");
        doctor_fix(d, "see whether the file is there and begins with BEGIN CERTIFICATE");
    }
    X509_free(c.own);
    sk_X509_pop_free(c.rest, X509_free);
}
