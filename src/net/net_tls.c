// SPDX-License-Identifier: MIT
//
// net_tls - TLS sessions over memory
//
// How it works. A BIO of our own reads from the session's chain of received bytes and writes to its
// chain of bytes to send, so that OpenSSL never sees a socket and keeps no buffer of its own
// between records (SSL_MODE_RELEASE_BUFFERS). A session at rest has empty chains.
#include "net/net_tls_context.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "net/net_sign_private.h"
#include "sys/sys.h"

struct net_tls {
    SSL *ssl;
    struct chain in, out;
    uint32_t in_read; // bytes of in.first that were read
    // Since the handshake, or the last NET_TLS_MESSAGES_BYTES:
    uint32_t messages;
    size_t plain_bytes;
    int err; // sticky: E_TLS after a fatal error
    bool is_client, checks_names, must_verify;
    bool impossible; // what was asked for can't be proven by any certificate
    bool shut;
    bool is_remote; // another process has the key
    bool
        is_paused; // the handshake's job has stopped, and must be ended before the session is freed
    struct net_sign_wake wake;
    char *reason;             // of the failure; NULL: none
    struct bytes session_key; // owned
};

// ---- the BIO ----------------------------------------------------------------------------------

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static void drop_read_chunk(struct net_tls *t)
{
    struct chunk *chunk = t->in.first;
    struct chain one = {.first = chunk, .last = chunk, .len = chunk->len};
    t->in.first = chunk->next;
    if (!t->in.first)
        t->in.last = NULL;
    t->in.len -= chunk->len;
    chunk->next = NULL;
    t->in_read = 0;
    chain_done(&one);
}

static int bio_read(BIO *bio, char *out, int max)
{
    struct net_tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    struct chunk *chunk = t->in.first;
    if (t->err != OK)
        return -1;
    if (!chunk) {
        BIO_set_retry_read(bio);
        return -1;
    }
    uint32_t n = chunk->len - t->in_read;
    if (n > (uint32_t)max)
        n = (uint32_t)max;
    memcpy(out, chunk->data + t->in_read, n);
    t->in_read += n;
    if (t->in_read == chunk->len)
        drop_read_chunk(t);
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int n)
{
    struct net_tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    chain_add(&t->out, bytes_of(data, (size_t)n));
    return n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP ? 1 : 0;
}

static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "posthaste chain");
    CHECK(bio_method != NULL);
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

// ---- errors -----------------------------------------------------------------------------------

void net_tls_error_text(char out[NET_TLS_REASON])
{
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    const char *library = code ? ERR_lib_error_string(code) : NULL;
    if (reason)
        snprintf(out, NET_TLS_REASON, "%s", reason);
    else if (code)
        snprintf(out, NET_TLS_REASON, "error %lx in %s", code, library ? library : "OpenSSL");
    else
        snprintf(out, NET_TLS_REASON, "unknown error");
    ERR_clear_error();
}

static void set_reason(struct net_tls *t, const char *text)
{
    free(t->reason);
    t->reason = strdup(text);
}

static int fail(struct net_tls *t)
{
    char text[NET_TLS_REASON];
    long verify = t->is_client ? SSL_get_verify_result(t->ssl) : X509_V_OK;
    net_tls_error_text(text);
    if (t->must_verify && verify != X509_V_OK)
        snprintf(text, sizeof text, "certificate not acceptable: %s",
                 X509_verify_cert_error_string(verify));
    if (t->err == OK)
        set_reason(t, text);
    return t->err = E_TLS;
}

// ---- making sessions --------------------------------------------------------------------------

static struct net_tls *new_session(SSL_CTX *context)
{
    pthread_once(&bio_once, make_bio_method);
    struct net_tls *t = mem_new(sizeof *t);
    t->ssl = SSL_new(context);
    BIO *bio = BIO_new(bio_method);
    CHECK(t->ssl != NULL && bio != NULL);
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio); // one reference serves both
    SSL_set_app_data(t->ssl, t);
    return t;
}

struct net_tls *net_tls_new_server(struct net_tls_server *server)
{
    struct net_tls *t = new_session(server->context);
    SSL_set_accept_state(t->ssl);
    t->is_remote = server->is_remote;
    return t;
}

// C strings for OpenSSL; false for what no name can be.
static bool copy_name(struct bytes name, char out[256])
{
    if (name.len > 0 && name.at[name.len - 1] == '.')
        name.len--;
    if (name.len == 0 || name.len > 253 || memchr(name.at, '\0', name.len))
        return false;
    memcpy(out, name.at, name.len);
    out[name.len] = '\0';
    return true;
}

static bool add_name(SSL *ssl, struct bytes name)
{
    char text[256];
    if (!copy_name(name, text))
        return false;
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), text) == 1)
        return true;
    ERR_clear_error();
    return SSL_add1_host(ssl, text) == 1;
}

static void set_names(struct net_tls *t, const struct net_tls_client_params *params)
{
    CHECK(params->name_count <= NET_TLS_NAMES_MAX);
    char text[256];
    struct sys_addr ip; // RFC 6066 section 3: an address is no server name
    if (sys_addr_parse_ip(params->server_name, 0, &ip) != OK &&
        copy_name(params->server_name, text))
        SSL_set_tlsext_host_name(t->ssl, text);
    SSL_set_hostflags(t->ssl,
                      X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    t->checks_names = params->name_count > 0;
    for (size_t i = 0; i < params->name_count; i++)
        if (!add_name(t->ssl, params->names[i]))
            t->checks_names = false;
    t->impossible = t->must_verify && !t->checks_names;
}

// Equal keys, SNI and names: a resumed session proves no more than the one it resumes was asked to.
static struct bytes make_session_key(const struct net_tls_client_params *params)
{
    struct buf key = {0};
    buf_add(&key, params->session_key);
    buf_add_byte(&key, '\0');
    buf_add(&key, params->server_name);
    for (size_t i = 0; i < params->name_count; i++) {
        buf_add_byte(&key, '\0');
        buf_add(&key, params->names[i]);
    }
    struct bytes whole = {NULL, key.len};
    whole.at = buf_take(&key);
    return whole;
}

static void resume(struct net_tls *t, struct net_tls_client *client)
{
    SSL_SESSION *session = net_tls_client_find_session(client, t->session_key);
    if (session && SSL_SESSION_is_resumable(session))
        SSL_set_session(t->ssl, session);
    // A session that was not verified is of no use where it must be.
    if (session && t->must_verify && SSL_get_verify_result(t->ssl) != X509_V_OK)
        SSL_set_session(t->ssl, NULL);
    ERR_clear_error();
}

struct net_tls *net_tls_new_client(struct net_tls_client *client,
                                   const struct net_tls_client_params *params)
{
    struct net_tls *t = new_session(client->context);
    t->is_client = true;
    t->must_verify = params->must_verify;
    SSL_set_connect_state(t->ssl);
    SSL_set_security_level(t->ssl, params->must_verify ? 2 : 1); // a weak key beats no TLS at all
    SSL_set_verify(t->ssl, params->must_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    set_names(t, params);
    if (params->session_key.len > 0) {
        t->session_key = make_session_key(params);
        resume(t, client);
    }
    return t;
}

// Called by OpenSSL for each message, either way. Many ask for an answer (a KeyUpdate, RFC 8446 section 4.6.3; an alert
// to who wants to renegotiate, RFC 5246 section 7.2.2), and a peer may send them without end and read no answer.
static void count_message(int is_ours, int version, int type, const void *message, size_t n,
                          SSL *ssl, void *ctx)
{
    struct net_tls *t = ctx;
    if (is_ours || type != SSL3_RT_HANDSHAKE || t->err != OK ||
        ++t->messages <= NET_TLS_MESSAGES_MAX)
        return;
    set_reason(t, "too many handshake messages in mid-session");
    t->err = E_TLS; // no more is read
}

static void begin_session(struct net_tls *t)
{
    SSL_clear_mode(t->ssl, SSL_MODE_ASYNC);
    SSL_set_msg_callback(t->ssl, count_message);
    SSL_set_msg_callback_arg(t->ssl, t);
}

static void count_plain(struct net_tls *t, size_t n)
{
    t->plain_bytes += n;
    if (t->plain_bytes >= NET_TLS_MESSAGES_BYTES)
        t->plain_bytes = t->messages = 0;
}

// One step of the handshake: 1, or what SSL_get_error() says of it.
static int step(struct net_tls *t)
{
    ERR_clear_error();
    if (t->is_remote)
        net_sign_enter(&t->wake);
    int rc = SSL_do_handshake(t->ssl), error = SSL_get_error(t->ssl, rc);
    if (t->is_remote)
        net_sign_leave();
    bool was_paused = t->is_paused;
    t->is_paused = rc != 1 && error == SSL_ERROR_WANT_ASYNC;
    if (was_paused && !t->is_paused)
        net_sign_give_turn();
    return rc == 1 ? SSL_ERROR_NONE : error;
}

static void end_waiting(struct net_tls *t)
{
    do
        net_sign_forget(&t->wake);
    while (t->is_paused && step(t) == SSL_ERROR_WANT_ASYNC);
}

void net_tls_free(struct net_tls *t)
{
    if (!t)
        return;
    if (t->is_remote)
        end_waiting(t);
    // No close_notify was exchanged perhaps: the session may be resumed all the same, its end is
    // the stream's.
    SSL_set_quiet_shutdown(t->ssl, 1);
    SSL_shutdown(t->ssl);
    SSL_free(t->ssl);
    ERR_clear_error();
    chain_done(&t->in);
    chain_done(&t->out);
    free(t->reason);
    free((char *)(uintptr_t)t->session_key.at);
    free(t);
}

// Called by OpenSSL for each ticket received (TLS 1.3: after the handshake).
int net_tls_on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct net_tls *t = SSL_get_app_data(ssl);
    struct net_tls_client *client = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    if (!client || !t || t->session_key.len == 0 || t->err != OK)
        return 0;
    net_tls_client_keep_session(client, t->session_key, session);
    return 1;
}

// ---- bytes in, bytes out ----------------------------------------------------------------------

void net_tls_feed(struct net_tls *t, struct bytes data)
{
    if (t->err == OK)
        chain_add(&t->in, data);
}

size_t net_tls_unread(const struct net_tls *t)
{
    return t->in.len - t->in_read;
}

int net_tls_handshake(struct net_tls *t)
{
    if (t->err != OK)
        return t->err;
    if (t->impossible) {
        set_reason(t, "no name that a certificate could prove");
        return t->err = E_TLS;
    }
    if (t->wake.wait || t->wake.has_turn_link)
        return E_AGAIN; // for the signature, or a place among those that wait for one
    switch (step(t)) {
    case SSL_ERROR_NONE:
        begin_session(t);
        return OK;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_ASYNC:
        return E_AGAIN;
    case SSL_ERROR_WANT_ASYNC_JOB:
        net_sign_wait_turn(&t->wake);
        return E_AGAIN;
    default:
        return fail(t);
    }
}

void net_tls_set_wake(struct net_tls *t, void (*fn)(void *ctx), void *ctx)
{
    t->wake.fn = fn;
    t->wake.ctx = ctx;
}

int net_tls_read(struct net_tls *t, void *out, size_t n, size_t *out_n)
{
    *out_n = 0;
    if (t->err != OK)
        return t->err;
    ERR_clear_error();
    int rc = SSL_read_ex(t->ssl, out, n, out_n);
    if (rc == 1) {
        count_plain(t, *out_n);
        return OK;
    }
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return E_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return E_CLOSED;
    default:
        return fail(t);
    }
}

int net_tls_write(struct net_tls *t, struct bytes data)
{
    if (t->err != OK)
        return t->err;
    if (t->shut)
        return E_CLOSED;
    if (data.len == 0)
        return OK;
    ERR_clear_error();
    size_t n;
    if (SSL_write_ex(t->ssl, data.at, data.len, &n) != 1)
        return fail(t);
    CHECK(n == data.len); // the BIO takes everything
    return OK;
}

void net_tls_shutdown(struct net_tls *t)
{
    if (t->err != OK || t->shut || !SSL_is_init_finished(t->ssl))
        return;
    t->shut = true;
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
}

struct chain *net_tls_output(struct net_tls *t)
{
    return &t->out;
}

// ---- certificates of clients --------------------------------------------------------------------

// What is wrong with a certificate is seen afterwards: it may be known by its hash.
static int accept_any(int is_good, X509_STORE_CTX *context)
{
    return 1;
}

void net_tls_ask_certificate(struct net_tls *t, const struct net_tls_server *server)
{
    CHECK(!t->is_client);
    SSL_set_verify(t->ssl, SSL_VERIFY_PEER, accept_any);
    if (server->client_authorities)
        SSL_set1_verify_cert_store(t->ssl, server->client_authorities);
}

void net_tls_get_peer(const struct net_tls *t, struct net_tls_peer *out)
{
    *out = (struct net_tls_peer){0};
    bool is_ready = !t->is_client && t->err == OK && SSL_is_init_finished(t->ssl);
    const X509 *certificate = is_ready ? SSL_get0_peer_certificate(t->ssl) : NULL;
    if (!certificate)
        return;
    out->given = X509_digest(certificate, EVP_sha256(), out->certificate_sha256, NULL) == 1;
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    out->given = out->given && len > 0 &&
                 EVP_Digest(der, (size_t)len, out->key_sha256, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    out->verified = out->given && SSL_get_verify_result(t->ssl) == X509_V_OK;
    ERR_clear_error();
}

// A name with a NUL or LF in it would be taken for another one.
static void add_peer_name(const ASN1_STRING *name, struct buf *out)
{
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, name);
    struct bytes text = bytes_of(utf8, len > 0 ? (size_t)len : 0);
    if (text.len > 0 && !bytes_has_control(text, NULL))
        buf_add_all(out, text, BYTES("\n"));
    OPENSSL_free(utf8);
}

void net_tls_peer_names(const struct net_tls *t, struct buf *out)
{
    const X509 *certificate = SSL_get0_peer_certificate(t->ssl);
    if (!certificate)
        return;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_EMAIL || name->type == GEN_DNS)
            add_peer_name(name->d.ia5, out);
    }
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int last = -1;
    while (!names && (last = X509_NAME_get_index_by_NID(subject, NID_commonName, last)) >= 0)
        add_peer_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last)), out);
    GENERAL_NAMES_free(names);
    ERR_clear_error();
}

// ---- channel bindings ---------------------------------------------------------------------------

// RFC 9266: TLS 1.2 only with the extended master secret.
static uint8_t find_exporter(SSL *ssl, uint8_t out[SASL_BINDING_MAX])
{
    static const char label[] = "EXPORTER-Channel-Binding";
    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return 0;
    return SSL_export_keying_material(ssl, out, 32, label, sizeof label - 1, NULL, 0, 1) == 1 ? 32
                                                                                              : 0;
}

// RFC 5929 section 4.1: the certificate's hash, by the function of its signature; SHA-256 instead of MD5 and SHA-1.
// A signature without one such function (Ed25519) has none.
static uint8_t find_end_point(const X509 *certificate, uint8_t out[SASL_BINDING_MAX])
{
    int digest;
    unsigned len = 0;
    if (!certificate ||
        X509_get_signature_info((X509 *)(uintptr_t)certificate, &digest, NULL, NULL, NULL) != 1)
        return 0;
    const EVP_MD *md =
        digest == NID_md5 || digest == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(digest);
    if (!md || EVP_MD_get_size(md) > SASL_BINDING_MAX ||
        X509_digest(certificate, md, out, &len) != 1)
        return 0;
    return (uint8_t)len;
}

void net_tls_bindings(const struct net_tls *t, struct sasl_bindings *out)
{
    *out = (struct sasl_bindings){0};
    if (t->err != OK || !SSL_is_init_finished(t->ssl))
        return;
    const X509 *certificate =
        t->is_client ? SSL_get0_peer_certificate(t->ssl) : SSL_get_certificate(t->ssl);
    out->of[SASL_TLS_EXPORTER].len = find_exporter(t->ssl, out->of[SASL_TLS_EXPORTER].bytes);
    out->of[SASL_TLS_SERVER_END_POINT].len =
        find_end_point(certificate, out->of[SASL_TLS_SERVER_END_POINT].bytes);
    ERR_clear_error();
}

// ---- the outcome ------------------------------------------------------------------------------

static void judge_peer(const struct net_tls *t, struct net_tls_result *out)
{
    out->proof = NET_TLS_ENCRYPTED;
    if (!t->is_client)
        return;
    long verify = SSL_get_verify_result(t->ssl);
    if (!SSL_get0_peer_certificate(t->ssl))
        snprintf(out->reason, sizeof out->reason, "the server sent no certificate");
    else if (verify != X509_V_OK)
        snprintf(out->reason, sizeof out->reason, "%s", X509_verify_cert_error_string(verify));
    else if (!t->checks_names)
        snprintf(out->reason, sizeof out->reason, "no name to check");
    else
        out->proof = NET_TLS_VERIFIED;
}

void net_tls_get_result(const struct net_tls *t, struct net_tls_result *out)
{
    *out = (struct net_tls_result){.err = t->err, .protocol = "", .cipher = ""};
    if (t->err != OK) {
        snprintf(out->reason, sizeof out->reason, "%s", t->reason ? t->reason : "");
        return;
    }
    if (!SSL_is_init_finished(t->ssl)) {
        out->err = E_AGAIN;
        return;
    }
    out->protocol = SSL_get_version(t->ssl);
    out->cipher = SSL_get_cipher_name(t->ssl);
    out->resumed = SSL_session_reused(t->ssl) == 1;
    judge_peer(t, out);
}
