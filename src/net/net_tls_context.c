// SPDX-License-Identifier: MIT
#include "net/net_tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/passphrase.h"
#include "net/net_sign_private.h"

// Forward secrecy and authenticated encryption; TLS 1.3 suites are all of that kind.
#define SERVER_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!eNULL:!PSK:!SRP"
// To whoever takes our mail, anything that encrypts beats plaintext.
#define CLIENT_CIPHERS "DEFAULT:!aNULL:!eNULL:!PSK:!SRP"
#define PEM_BYTES_MAX (16 << 20)

struct net_tls_authorities {
    X509_STORE *store;
};

struct kept_session {
    struct list link; // net_tls_client.by_use
    SSL_SESSION *session;
    struct bytes key; // owned
};

void net_tls_prepare(void)
{
    OPENSSL_init_ssl(0, NULL);
}

static void set_common(SSL_CTX *context, const char *ciphers)
{
    CHECK(SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1);
    CHECK(SSL_CTX_set_cipher_list(context, ciphers) == 1);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
}

// ---- server -----------------------------------------------------------------------------------

// A client that speaks only other protocols (HTTP, IMAP, ...) was led here by someone (ALPACA):
// refuse. There is no registered name for SMTP; those in use are known.
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x4smtp\xasubmission\x4lmtp";
    unsigned char *chosen;
    int rc = SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len);
    *out = chosen;
    return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static BIO *open_pem(struct bytes pem)
{
    if (pem.len == 0 || pem.len > PEM_BYTES_MAX)
        return NULL;
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    CHECK(bio != NULL);
    return bio;
}

// The end of a file of PEM blocks is an error to OpenSSL; any other is a damaged block.
static bool is_pem_end(void)
{
    unsigned long last = ERR_peek_last_error();
    return ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
}

static bool load_chain(SSL_CTX *context, struct bytes pem, int64_t *out_not_after)
{
    BIO *bio = open_pem(pem);
    X509 *own = bio ? PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL) : NULL;
    bool good = own && SSL_CTX_use_certificate(context, own) == 1;
    struct tm tm;
    if (good && ASN1_TIME_to_tm(X509_get0_notAfter(own), &tm) == 1)
        *out_not_after = timegm(&tm);
    X509_free(own);
    for (X509 *next; good && (next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL;)
        good = SSL_CTX_add0_chain_cert(context, next) == 1;
    BIO_free(bio);
    if (!good || !is_pem_end())
        return false;
    ERR_clear_error();
    return true;
}

static bool load_key(SSL_CTX *context, struct bytes pem)
{
    BIO *bio = open_pem(pem);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    bool good =
        key && SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return good;
}

// Tickets are sealed with random keys of this context, and carry its random id: one from another
// listener opens nothing here.
static void set_tickets(SSL_CTX *context)
{
    unsigned char id[16];
    CHECK(RAND_bytes(id, sizeof id) == 1);
    CHECK(SSL_CTX_set_session_id_context(context, id, sizeof id) == 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

static bool make_remote_key(SSL_CTX *context, uint32_t number)
{
    EVP_PKEY *key = net_sign_key_new(X509_get0_pubkey(SSL_CTX_get0_certificate(context)), number);
    bool good = key && SSL_CTX_use_PrivateKey(context, key) == 1;
    EVP_PKEY_free(key);
    SSL_CTX_set_mode(context, SSL_MODE_ASYNC);
    return good;
}

// Either key_pem or number is the key.
static int new_server(struct bytes certificate_pem, const struct bytes *key_pem, uint32_t number,
                      struct net_tls_server **out, char out_reason[NET_TLS_REASON])
{
    *out = NULL;
    out_reason[0] = '\0';
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    CHECK(context != NULL);
    set_common(context, SERVER_CIPHERS);
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_dh_auto(context, 1);
    SSL_CTX_set_alpn_select_cb(context, choose_alpn, NULL);
    set_tickets(context);
    int64_t not_after = 0;
    const char *what = NULL;
    if (!load_chain(context, certificate_pem, &not_after))
        what = "certificate";
    else if (!(key_pem ? load_key(context, *key_pem) : make_remote_key(context, number)))
        what = "key";
    if (what) {
        char text[NET_TLS_REASON];
        net_tls_error_text(text);
        snprintf(out_reason, NET_TLS_REASON, "%s: %.200s", what, text);
        SSL_CTX_free(context);
        return E_TLS;
    }
    *out = mem_new(sizeof **out);
    **out = (struct net_tls_server){context, not_after, key_pem == NULL, NULL};
    return OK;
}

int net_tls_server_new(struct bytes certificate_pem, struct bytes key_pem,
                       struct net_tls_server **out, char out_reason[NET_TLS_REASON])
{
    return new_server(certificate_pem, &key_pem, 0, out, out_reason);
}

int net_tls_server_new_remote(struct bytes certificate_pem, uint32_t key,
                              struct net_tls_server **out, char out_reason[NET_TLS_REASON])
{
    return new_server(certificate_pem, NULL, key, out, out_reason);
}

void net_tls_server_free(struct net_tls_server *server)
{
    if (!server)
        return;
    SSL_CTX_free(server->context); // sessions hold their own reference
    X509_STORE_free(server->client_authorities);
    free(server);
}

int64_t net_tls_server_not_after(const struct net_tls_server *server)
{
    return server->not_after;
}

bool net_tls_server_is_for(const struct net_tls_server *server, struct bytes host)
{
    X509 *own = SSL_CTX_get0_certificate(server->context);
    return X509_check_host(own, host.at, host.len, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

bool net_tls_server_is_self_signed(const struct net_tls_server *server)
{
    bool is = X509_self_signed(SSL_CTX_get0_certificate(server->context), 0) == 1;
    ERR_clear_error();
    return is;
}

// ---- authorities ------------------------------------------------------------------------------

static size_t add_authorities(X509_STORE *store, BIO *bio)
{
    size_t count = 0;
    for (X509 *next; (next = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL)) != NULL;
         X509_free(next))
        count += X509_STORE_add_cert(store, next) == 1;
    return count;
}

int net_tls_authorities_new(struct bytes pem, struct net_tls_authorities **out,
                            char out_reason[NET_TLS_REASON])
{
    *out = NULL;
    out_reason[0] = '\0';
    ERR_clear_error();
    BIO *bio = open_pem(pem);
    X509_STORE *store = X509_STORE_new();
    CHECK(store != NULL);
    size_t count = bio ? add_authorities(store, bio) : 0;
    BIO_free(bio);
    if (count == 0 || !is_pem_end()) {
        net_tls_error_text(out_reason);
        X509_STORE_free(store);
        return E_TLS;
    }
    ERR_clear_error();
    *out = mem_new(sizeof **out);
    (*out)->store = store;
    return OK;
}

void net_tls_authorities_free(struct net_tls_authorities *authorities)
{
    if (!authorities)
        return;
    X509_STORE_free(authorities->store);
    free(authorities);
}

void net_tls_server_set_client_authorities(struct net_tls_server *server,
                                           const struct net_tls_authorities *authorities)
{
    CHECK(!server->client_authorities && X509_STORE_up_ref(authorities->store) == 1);
    server->client_authorities = authorities->store;
}

int net_tls_fingerprint(struct bytes pem, uint8_t out[32])
{
    BIO *bio = open_pem(pem);
    X509 *own = bio ? PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL) : NULL;
    bool good = own && X509_digest(own, EVP_sha256(), out, NULL) == 1;
    X509_free(own);
    BIO_free(bio);
    ERR_clear_error();
    return good ? OK : E_TLS;
}

const char *net_tls_system_bundle(void)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch, Gentoo
        "/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL
        "/etc/ssl/ca-bundle.pem",                            // SUSE
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL
        "/etc/ssl/cert.pem",                                 // Alpine
    };
    for (size_t i = 0; i < COUNT_OF(places); i++)
        if (access(places[i], R_OK) == 0)
            return places[i];
    return NULL;
}

// ---- client -----------------------------------------------------------------------------------

struct net_tls_client *net_tls_client_new(struct net_tls_authorities *authorities)
{
    struct net_tls_client *client = mem_new(sizeof *client);
    list_init(&client->by_use);
    client->context = SSL_CTX_new(TLS_client_method());
    CHECK(client->context != NULL);
    set_common(client->context, CLIENT_CIPHERS);
    if (authorities)
        SSL_CTX_set1_cert_store(client->context, authorities->store);
    SSL_CTX_set_session_cache_mode(client->context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client->context, net_tls_on_new_session);
    SSL_CTX_set_app_data(client->context, client);
    return client;
}

static void drop_session(struct net_tls_client *client, struct kept_session *kept)
{
    map_remove(&client->sessions, kept->key);
    list_remove(&kept->link);
    client->session_count--;
    SSL_SESSION_free(kept->session);
    free((char *)(uintptr_t)kept->key.at);
    free(kept);
}

void net_tls_client_free(struct net_tls_client *client)
{
    if (!client)
        return;
    SSL_CTX_set_app_data(client->context, NULL); // sessions that go on keep no tickets
    list_each(link, &client->by_use)
        drop_session(client, list_get(link, struct kept_session, link));
    map_done(&client->sessions);
    SSL_CTX_free(client->context);
    free(client);
}

SSL_SESSION *net_tls_client_find_session(struct net_tls_client *client, struct bytes key)
{
    struct kept_session *kept = map_find(&client->sessions, key);
    if (!kept)
        return NULL;
    list_remove(&kept->link);
    list_push_front(&client->by_use, &kept->link);
    return kept->session;
}

void net_tls_client_keep_session(struct net_tls_client *client, struct bytes key,
                                 SSL_SESSION *session)
{
    struct kept_session *kept = map_find(&client->sessions, key);
    if (kept)
        drop_session(client, kept);
    else if (client->session_count >= NET_TLS_SESSIONS_MAX)
        drop_session(client, list_get(client->by_use.prev, struct kept_session, link));
    kept = mem_new(sizeof *kept);
    char *copy = mem_resize(NULL, key.len);
    memcpy(copy, key.at, key.len);
    kept->key = bytes_of(copy, key.len);
    kept->session = session;
    map_set(&client->sessions, kept->key, kept);
    list_push_front(&client->by_use, &kept->link);
    client->session_count++;
}
