// SPDX-License-Identifier: MIT
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/net_test_certs.h"
#include "net/net_tls_context.h"

static struct test_cert authority, stranger, good, expired;
static struct net_tls_authorities *trusted;

static int setup(void **state)
{
    authority = test_cert_new(NULL, NULL, 10);
    stranger = test_cert_new(NULL, NULL, 10);
    good = test_cert_new("DNS:mx.example.org,DNS:*.wild.example,IP:192.0.2.1", &authority, 10);
    expired = test_cert_new("DNS:mx.example.org", &authority, -1);
    trusted = test_authorities(&authority);
    return 0;
}

static int teardown(void **state)
{
    test_cert_done(&authority);
    test_cert_done(&stranger);
    test_cert_done(&good);
    test_cert_done(&expired);
    net_tls_authorities_free(trusted);
    return 0;
}

// ---- a network of two -------------------------------------------------------------------------

static unsigned dice = 1;
static size_t cut_max; // bytes moved at once; 0: all

static bool move_bytes(struct net_tls *from, struct net_tls *to)
{
    struct chain *out = net_tls_output(from);
    if (out->len == 0)
        return false;
    size_t len = out->len;
    char *all = mem_new(len);
    chain_read(out, 0, all, len);
    chain_done(out);
    struct bytes rest = bytes_of(all, len);
    while (rest.len > 0) {
        dice = dice * 1103515245 + 12345;
        size_t n = cut_max == 0 ? rest.len : cut_max == 1 ? 1 : 1 + dice / 65536 % cut_max;
        net_tls_feed(to, bytes_first(rest, n));
        rest = bytes_skip(rest, n);
        if (cut_max && net_tls_handshake(to) == E_TLS)
            break;
    }
    free(all);
    return true;
}

static int client_err, server_err;

static void shake(struct net_tls *client, struct net_tls *server)
{
    client_err = server_err = E_AGAIN;
    bool moved;
    do {
        if (client_err == E_AGAIN)
            client_err = net_tls_handshake(client);
        if (server_err == E_AGAIN)
            server_err = net_tls_handshake(server);
        moved = move_bytes(client, server);
        moved = move_bytes(server, client) || moved;
    } while (moved);
}

// Reads the tickets that follow a TLS 1.3 handshake, and whatever else is there.
static size_t read_all(struct net_tls *t, char *out, size_t max, int *out_err)
{
    size_t total = 0, n;
    while ((*out_err = net_tls_read(t, out + total, max - total, &n)) == OK)
        total += n;
    return total;
}

static void drain(struct net_tls *t)
{
    char c;
    int err;
    assert_int_equal(read_all(t, &c, 1, &err), 0);
    assert_int_equal(err, E_AGAIN);
}

struct names {
    struct bytes at[2];
    size_t count;
};

static struct net_tls *client_for(struct net_tls_client *client, const struct names *names,
                                  bool must_verify, const char *key)
{
    struct net_tls_client_params params = {.server_name = BYTES("mx.example.org"),
                                           .names = names->at,
                                           .name_count = names->count,
                                           .must_verify = must_verify,
                                           .session_key = bytes_cstr(key)};
    return net_tls_new_client(client, &params);
}

static const struct names right_name = {{BYTES("mx.example.org")}, 1};

// ---- tests ------------------------------------------------------------------------------------

struct verify_row {
    const char *what;
    struct names names;
    bool must_verify, trust, is_expired;
    int err;
    enum net_tls_proof proof;
    const char *reason; // contained
};

static const struct verify_row verify_rows[] = {
    {"right", {{BYTES("mx.example.org")}, 1}, true, true, false, OK, NET_TLS_VERIFIED, ""},
    {"final dot", {{BYTES("mx.example.org.")}, 1}, true, true, false, OK, NET_TLS_VERIFIED, ""},
    {"any of two",
     {{BYTES("other.example"), BYTES("mx.example.org")}, 2},
     true,
     true,
     false,
     OK,
     NET_TLS_VERIFIED,
     ""},
    {"wildcard", {{BYTES("a.wild.example")}, 1}, true, true, false, OK, NET_TLS_VERIFIED, ""},
    {"wildcard is one label",
     {{BYTES("a.b.wild.example")}, 1},
     true,
     true,
     false,
     E_TLS,
     0,
     "hostname mismatch"},
    {"address", {{BYTES("192.0.2.1")}, 1}, true, true, false, OK, NET_TLS_VERIFIED, ""},
    {"other address",
     {{BYTES("192.0.2.2")}, 1},
     true,
     true,
     false,
     E_TLS,
     0,
     "IP address mismatch"},
    {"wrong name",
     {{BYTES("mx.example.com")}, 1},
     true,
     true,
     false,
     E_TLS,
     0,
     "hostname mismatch"},
    {"wrong name, may",
     {{BYTES("mx.example.com")}, 1},
     false,
     true,
     false,
     OK,
     NET_TLS_ENCRYPTED,
     "hostname mismatch"},
    {"no authority",
     {{BYTES("mx.example.org")}, 1},
     true,
     false,
     false,
     E_TLS,
     0,
     "issuer certificate"},
    {"no authority, may",
     {{BYTES("mx.example.org")}, 1},
     false,
     false,
     false,
     OK,
     NET_TLS_ENCRYPTED,
     "issuer"},
    {"right, may", {{BYTES("mx.example.org")}, 1}, false, true, false, OK, NET_TLS_VERIFIED, ""},
    {"no name", {{BYTES("")}, 0}, true, true, false, E_TLS, 0, "no name"},
    {"empty name", {{BYTES("")}, 1}, true, true, false, E_TLS, 0, "no name"},
    {"NUL in name", {{BYTES("mx.example.org\0.evil")}, 1}, true, true, false, E_TLS, 0, "no name"},
    {"no name, may", {{BYTES("")}, 0}, false, true, false, OK, NET_TLS_ENCRYPTED, "no name"},
    {"expired", {{BYTES("mx.example.org")}, 1}, true, true, true, E_TLS, 0, "expired"},
    {"expired, may",
     {{BYTES("mx.example.org")}, 1},
     false,
     true,
     true,
     OK,
     NET_TLS_ENCRYPTED,
     "expired"},
};

static void verifies(void **state)
{
    for (size_t i = 0; i < COUNT_OF(verify_rows); i++) {
        const struct verify_row *row = &verify_rows[i];
        struct net_tls_server *server = test_server(row->is_expired ? &expired : &good);
        struct net_tls_client *client = net_tls_client_new(row->trust ? trusted : NULL);
        struct net_tls *s = net_tls_new_server(server),
                       *c = client_for(client, &row->names, row->must_verify, NULL);
        net_tls_server_free(server); // the session lives on
        net_tls_client_free(client);
        shake(c, s);
        struct net_tls_result result;
        net_tls_get_result(c, &result);
        if (client_err != row->err || result.proof != row->proof ||
            !strstr(result.reason, row->reason))
            fail_msg("%s: err %d proof %d reason '%s'", row->what, client_err, result.proof,
                     result.reason);
        if (row->err == OK) {
            assert_string_equal(result.protocol, "TLSv1.3");
            assert_string_equal(result.cipher, "TLS_AES_256_GCM_SHA384");
            net_tls_get_result(s, &result);
            assert_int_equal(result.err, OK);
        } else {
            assert_int_equal(net_tls_write(c, BYTES("x")), E_TLS);
        }
        net_tls_free(c);
        net_tls_free(s);
    }
}

// A certificate of the authority with this one name as it stands, NUL and all; as its CN instead if in_subject.
static struct test_cert cert_with_name(struct bytes name, bool in_subject)
{
    struct test_cert c = test_cert_new("DNS:other.example", &authority, 10);
    if (in_subject) {
        X509_EXTENSION_free(X509_delete_ext(c.x509, 0));
        X509_NAME *subject = X509_NAME_new();
        assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", V_ASN1_UTF8STRING,
                                                    (const unsigned char *)name.at, (int)name.len,
                                                    -1, 0),
                         1);
        X509_set_subject_name(c.x509, subject);
        X509_NAME_free(subject);
    } else {
        GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
        GENERAL_NAME *one = GENERAL_NAME_new();
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();
        ASN1_STRING_set(text, name.at, (int)name.len);
        GENERAL_NAME_set0_value(one, GEN_DNS, text);
        sk_GENERAL_NAME_push(names, one);
        assert_int_equal(
            X509_add1_ext_i2d(c.x509, NID_subject_alt_name, names, 0, X509V3_ADD_REPLACE), 1);
        GENERAL_NAMES_free(names);
    }
    assert_true(X509_sign(c.x509, authority.key, EVP_sha256()) > 0);
    free(c.cert_pem);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, c.x509);
    c.cert_pem = test_pem_of(bio);
    return c;
}

// RFC 9525 section 6.3: a wildcard is a whole label, the leftmost, and stands for one; the subject's CN is no name.
static void g_abused_names(void **state)
{
    static const struct {
        struct bytes name;
        bool in_subject, passes;
    } ROWS[] = {
        {BYTES("mx.example.org"), false, true},
        {BYTES("*.example.org"), false, true},
        {BYTES("MX.Example.ORG"), false, true},
        {BYTES("mx.example.org\0.evil.test"), false, false},
        {BYTES("*"), false, false},
        {BYTES("*.org"), false, false},
        {BYTES("*.*.org"), false, false},
        {BYTES("mx.*.org"), false, false},
        {BYTES("m*.example.org"), false, false},
        {BYTES("*x.example.org"), false, false},
        {BYTES("*mx.example.org"), false, false},
        {BYTES(".example.org"), false, false},
        {BYTES("example.org"), false, false},
        {BYTES("mx.example.org"), true, false},
        {BYTES("mx.example.org\0.evil.test"), true, false},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct test_cert cert = cert_with_name(ROWS[i].name, ROWS[i].in_subject);
        struct net_tls_server *server = test_server(&cert);
        struct net_tls_client *client = net_tls_client_new(trusted);
        struct net_tls *s = net_tls_new_server(server),
                       *c = client_for(client, &right_name, true, NULL);
        shake(c, s);
        if ((client_err == OK) != ROWS[i].passes)
            fail_msg("%s (%zu bytes, %s): %s", ROWS[i].name.at, ROWS[i].name.len,
                     ROWS[i].in_subject ? "CN" : "subjectAltName", err_text(client_err));
        net_tls_free(c);
        net_tls_free(s);
        net_tls_server_free(server);
        net_tls_client_free(client);
        test_cert_done(&cert);
    }
}

static char asked_for[64];

static int keep_asked_name(SSL *ssl, int *alert, void *ctx)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    snprintf(asked_for, sizeof asked_for, "%s", name ? name : "none");
    return SSL_TLSEXT_ERR_OK;
}

static void asks_for_a_name_but_no_address(void **state)
{
    static const struct {
        const char *server_name, *want;
    } ROWS[] = {{"mx.example.org", "mx.example.org"},
                {"mx.example.org.", "mx.example.org"},
                {"10.example.org", "10.example.org"},
                {"192.0.2.1", "none"},
                {"2001:db8::1", "none"},
                {"", "none"}};
    struct net_tls_server *server = test_server(&good);
    struct net_tls_client *client = net_tls_client_new(NULL);
    SSL_CTX_set_tlsext_servername_callback(server->context, keep_asked_name);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct net_tls_client_params params = {.server_name = bytes_cstr(ROWS[i].server_name)};
        struct net_tls *s = net_tls_new_server(server), *c = net_tls_new_client(client, &params);
        shake(c, s);
        assert_int_equal(client_err | server_err, OK);
        assert_string_equal(asked_for, ROWS[i].want);
        net_tls_free(c);
        net_tls_free(s);
    }
    net_tls_server_free(server);
    net_tls_client_free(client);
}

static void carries_bytes(void **state)
{
    static const size_t cuts[] = {0, 1, 7, 3000};
    static char text[100000], back[100001];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 31 + i / 255);
    struct net_tls_server *server = test_server(&good);
    struct net_tls_client *client = net_tls_client_new(NULL);
    for (size_t i = 0; i < COUNT_OF(cuts); i++) {
        cut_max = cuts[i];
        struct net_tls *s = net_tls_new_server(server),
                       *c = client_for(client, &right_name, false, NULL);
        shake(c, s);
        assert_int_equal(client_err | server_err, OK);
        assert_int_equal(net_tls_write(c, bytes_of(text, sizeof text)), OK);
        assert_int_equal(net_tls_write(c, BYTES_NONE), OK);
        move_bytes(c, s);
        int err;
        assert_int_equal(read_all(s, back, sizeof back, &err), sizeof text);
        assert_int_equal(err, E_AGAIN);
        assert_memory_equal(text, back, sizeof text);
        // close_notify behind data in the same bytes: the data first, then the end
        assert_int_equal(net_tls_write(s, BYTES("bye")), OK);
        net_tls_shutdown(s);
        assert_int_equal(net_tls_write(s, BYTES("more")), E_CLOSED);
        move_bytes(s, c);
        assert_int_equal(read_all(c, back, sizeof back, &err), 3);
        assert_int_equal(err, E_CLOSED);
        net_tls_free(c);
        net_tls_free(s);
    }
    cut_max = 0;
    net_tls_server_free(server);
    net_tls_client_free(client);
}

static bool resumes(struct net_tls_client *client, struct net_tls_server *server,
                    const struct names *names, bool must_verify, const char *key)
{
    struct net_tls *s = net_tls_new_server(server),
                   *c = client_for(client, names, must_verify, key);
    shake(c, s);
    assert_int_equal(client_err | server_err, OK);
    drain(c);
    struct net_tls_result result;
    net_tls_get_result(c, &result);
    if (must_verify)
        assert_int_equal(result.proof, NET_TLS_VERIFIED);
    net_tls_free(c);
    net_tls_free(s);
    return result.resumed;
}

static void d_resumption(void **state)
{
    static const struct names wrong_name = {{BYTES("mx.example.com")}, 1};
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct net_tls_server *one = test_server(&good), *two = test_server(&good);
        struct net_tls_client *client = net_tls_client_new(trusted);
        SSL_CTX_set_max_proto_version(client->context, version);
        assert_false(resumes(client, one, &right_name, true, "a"));
        assert_true(resumes(client, one, &right_name, true, "a"));
        assert_true(resumes(client, one, &right_name, true, "a"));
        assert_false(resumes(client, one, &right_name, true, "b"));
        assert_false(resumes(client, one, &right_name, true, NULL));
        assert_false(resumes(client, two, &right_name, true,
                             "a")); // another listener's ticket opens nothing
        assert_true(resumes(client, two, &right_name, true, "a"));
        // a session that proved nothing can't be resumed as one that does
        assert_false(resumes(client, one, &wrong_name, false, "c"));
        assert_true(resumes(client, one, &wrong_name, false, "c"));
        assert_false(resumes(client, one, &right_name, true, "c"));
        net_tls_client_free(client);
        net_tls_server_free(one);
        net_tls_server_free(two);
    }
}

static void sessions_are_bounded(void **state)
{
    struct net_tls_server *server = test_server(&good);
    struct net_tls_client *client = net_tls_client_new(NULL);
    resumes(client, server, &right_name, false, "first");
    for (int i = 0; i < NET_TLS_SESSIONS_MAX + 20; i++) {
        char key[20];
        snprintf(key, sizeof key, "k%d", i);
        assert_false(resumes(client, server, &right_name, false, key));
        if (i % 100 == 0)
            assert_true(
                resumes(client, server, &right_name, false, "first")); // recently used: stays
    }
    assert_int_equal(client->session_count, NET_TLS_SESSIONS_MAX);
    assert_true(resumes(client, server, &right_name, false, "first"));
    assert_false(resumes(client, server, &right_name, false, "k0"));
    net_tls_client_free(client);
    net_tls_server_free(server);
}

struct alpn_row {
    const char *offer;
    int err;
};

static void d_refuses_other_protocols(void **state)
{
    static const struct alpn_row rows[] = {{"\x8http/1.1", E_TLS},
                                           {"\x2h2\x4imap", E_TLS},
                                           {"\x4smtp", OK},
                                           {"\x2h2\xasubmission", OK}};
    struct net_tls_server *server = test_server(&good);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct net_tls_client *client = net_tls_client_new(NULL);
        SSL_CTX_set_alpn_protos(client->context, (const unsigned char *)rows[i].offer,
                                (unsigned)strlen(rows[i].offer));
        struct net_tls *s = net_tls_new_server(server),
                       *c = client_for(client, &right_name, false, NULL);
        shake(c, s);
        assert_int_equal(server_err, rows[i].err);
        assert_int_equal(client_err, rows[i].err);
        net_tls_free(c);
        net_tls_free(s);
        net_tls_client_free(client);
    }
    net_tls_server_free(server);
}

static void refuses_old_versions(void **state)
{
    struct net_tls_server *server = test_server(&good);
    struct net_tls_client *client = net_tls_client_new(NULL);
    SSL_CTX_set_min_proto_version(client->context, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(client->context, TLS1_1_VERSION);
    SSL_CTX_set_cipher_list(client->context, "DEFAULT:@SECLEVEL=0");
    struct net_tls *s = net_tls_new_server(server),
                   *c = client_for(client, &right_name, false, NULL);
    SSL_CTX_set_security_level(client->context, 0);
    shake(c, s);
    assert_int_not_equal(client_err, OK);
    assert_int_not_equal(server_err, OK);
    net_tls_free(c);
    net_tls_free(s);
    net_tls_client_free(client);
    net_tls_server_free(server);
}

static void survives_junk(void **state)
{
    struct net_tls_server *server = test_server(&good);
    static const char *const junk[] = {"EHLO client.example\r\n", "GET / HTTP/1.0\r\n\r\n",
                                       "\x16\x03\x01\xff\xff\xff\xff",
                                       "\x15\x03\x03\x00\x02\x02\x28"};
    for (size_t i = 0; i < COUNT_OF(junk); i++) {
        struct net_tls *s = net_tls_new_server(server);
        net_tls_feed(s, bytes_of(junk[i], i == 3 ? 7 : strlen(junk[i])));
        int err = net_tls_handshake(s);
        struct net_tls_result result;
        net_tls_get_result(s, &result);
        assert_true(err == E_TLS || (i == 2 && err == E_AGAIN));
        assert_true(err == E_AGAIN || result.reason[0] != '\0');
        net_tls_feed(s, BYTES("more"));
        char c;
        size_t n;
        assert_int_not_equal(net_tls_read(s, &c, 1, &n), OK);
        net_tls_free(s);
    }
    // a damaged record in mid-session is an error, then and ever after
    struct net_tls_client *client = net_tls_client_new(NULL);
    struct net_tls *s = net_tls_new_server(server),
                   *c = client_for(client, &right_name, false, NULL);
    shake(c, s);
    assert_int_equal(net_tls_write(c, BYTES("hello")), OK);
    net_tls_output(c)->first->data[8] ^= 1;
    move_bytes(c, s);
    char back[10];
    size_t n;
    assert_int_equal(net_tls_read(s, back, sizeof back, &n), E_TLS);
    assert_int_equal(net_tls_read(s, back, sizeof back, &n), E_TLS);
    assert_true(net_tls_output(s)->len > 0); // the alert
    net_tls_free(c);
    net_tls_free(s);
    net_tls_client_free(client);
    net_tls_server_free(server);
}

static void refuses_bad_files(void **state)
{
    struct net_tls_server *server;
    struct net_tls_authorities *authorities;
    char reason[NET_TLS_REASON], damaged[4096], chain[8192];
    snprintf(damaged, sizeof damaged, "%s", good.cert_pem);
    damaged[strlen(damaged) / 2] = '!';
    snprintf(chain, sizeof chain, "%s%s", good.cert_pem, damaged);
    const struct {
        const char *cert, *key, *reason;
    } rows[] = {
        {"", good.key_pem, "certificate"},
        {good.cert_pem, "", "key"},
        {damaged, good.key_pem, "certificate"},
        {chain, good.key_pem, "certificate"},
        {good.cert_pem, expired.key_pem, "key: "},
        {good.key_pem, good.cert_pem, "certificate"},
        {"no PEM at all", good.key_pem, "certificate"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(
            net_tls_server_new(bytes_cstr(rows[i].cert), bytes_cstr(rows[i].key), &server, reason),
            E_TLS);
        assert_null(server);
        assert_non_null(strstr(reason, rows[i].reason));
    }
    assert_int_equal(net_tls_authorities_new(bytes_cstr(damaged), &authorities, reason), E_TLS);
    assert_int_equal(net_tls_authorities_new(BYTES(""), &authorities, reason), E_TLS);
    server = test_server(&good);
    int64_t days = (net_tls_server_not_after(server) - (int64_t)time(NULL)) / 3600;
    assert_in_range(days, 239, 240);
    net_tls_server_free(server);
}

// ---- handshake messages after the handshake -----------------------------------------------------

// A peer that does what ours never does: OpenSSL's own.
struct hostile {
    SSL *ssl;
    BIO *in, *out;
};

static struct hostile hostile_new(SSL_CTX *context, bool is_client, int version)
{
    struct hostile h = {SSL_new(context), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem())};
    BIO_set_mem_eof_return(h.in, -1);
    SSL_set_bio(h.ssl, h.in, h.out);
    SSL_set_max_proto_version(h.ssl, version);
    SSL_clear_options(h.ssl, SSL_OP_NO_RENEGOTIATION);
    (is_client ? SSL_set_connect_state : SSL_set_accept_state)(h.ssl);
    return h;
}

static void say(struct hostile *h, struct net_tls *t)
{
    char *bytes;
    long n = BIO_get_mem_data(h->out, &bytes);
    net_tls_feed(t, bytes_of(bytes, (size_t)n));
    (void)BIO_reset(h->out);
}

static void shake_with(struct hostile *h, struct net_tls *t)
{
    int err;
    do {
        SSL_do_handshake(h->ssl);
        say(h, t);
        err = net_tls_handshake(t);
        assert_true(err == OK || err == E_AGAIN);
        for (const struct chunk *c = net_tls_output(t)->first; c; c = c->next)
            assert_int_equal(BIO_write(h->in, c->data, (int)c->len), c->len);
        chain_done(net_tls_output(t));
    } while (err != OK || !SSL_is_init_finished(h->ssl));
}

// Has it send a handshake message that wants an answer.
static void demand(SSL *ssl)
{
    if (SSL_version(ssl) == TLS1_3_VERSION)
        assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    else
        assert_int_equal(SSL_renegotiate(ssl), 1); // HelloRequest
    assert_int_equal(SSL_do_handshake(ssl), 1);
}

// Demands up to `most` times, each with n bytes of plaintext behind it; returns how often it went well.
static int demand_often(struct hostile *h, struct net_tls *t, int most, size_t n, int *out_err)
{
    static char plain[65536], got[65536];
    for (int i = 0; i < most; i++) {
        demand(h->ssl);
        if (n)
            assert_int_equal(SSL_write(h->ssl, plain, (int)n), n);
        say(h, t);
        size_t len = read_all(t, got, sizeof got, out_err);
        if (*out_err == E_TLS)
            return i;
        assert_int_equal(len, n);
    }
    return most;
}

// RFC 8446 4.6.3, RFC 5246 7.2.2: a peer may ask for an answer to each, and read none of them.
static void d_demands_without_end(void **state)
{
    static const struct {
        int version;
        bool is_client;
        size_t plain; // behind each
        bool passes;
    } rows[] = {
        {TLS1_3_VERSION, true, 0, false},    {TLS1_3_VERSION, false, 0, false},
        {TLS1_2_VERSION, false, 0, false},   {TLS1_3_VERSION, true, 1, false},
        {TLS1_2_VERSION, false, 100, false}, {TLS1_3_VERSION, true, 8000, true},
        {TLS1_3_VERSION, false, 8000, true}, {TLS1_2_VERSION, false, 8000, true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct net_tls_server *server = test_server(&good);
        struct net_tls_client *client = net_tls_client_new(NULL);
        struct hostile h = hostile_new(rows[i].is_client ? client->context : server->context,
                                       rows[i].is_client, rows[i].version);
        struct net_tls *t = rows[i].is_client ? net_tls_new_server(server)
                                              : client_for(client, &right_name, false, NULL);
        SSL_CTX_set_app_data(client->context, NULL); // the hostile one's sessions are not ours
        shake_with(&h, t);
        int err, count = demand_often(&h, t, 1000, rows[i].plain, &err);
        if (rows[i].passes) {
            assert_int_equal(count, 1000);
        } else {
            struct net_tls_result result;
            net_tls_get_result(t, &result);
            assert_in_range(count, NET_TLS_MESSAGES_MAX - 4, NET_TLS_MESSAGES_MAX);
            assert_string_equal(result.reason, "too many handshake messages in mid-session");
            assert_in_range(net_tls_output(t)->len, 1, 64 * (NET_TLS_MESSAGES_MAX + 1));
        }
        SSL_free(h.ssl);
        net_tls_free(t);
        net_tls_client_free(client);
        net_tls_server_free(server);
    }
}

// DESIGN: an idle TLS session must cost little; measured over the server's side alone.
#define IDLE 200
static void idle_session_is_small(void **state)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    struct net_tls_server *server = test_server(&good);
    struct net_tls_client *client = net_tls_client_new(NULL);
    struct net_tls *sessions[IDLE];
    resumes(client, server, &right_name, false, NULL); // what is allocated once
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (int i = 0; i < IDLE; i++) {
        struct net_tls *c = client_for(client, &right_name, false, NULL);
        sessions[i] = net_tls_new_server(server);
        shake(c, sessions[i]);
        assert_int_equal(net_tls_write(c, BYTES("EHLO\r\n")), OK);
        move_bytes(c, sessions[i]);
        char line[16];
        int err;
        assert_int_equal(read_all(sessions[i], line, sizeof line, &err), 6);
        assert_int_equal(net_tls_write(sessions[i], BYTES("250\r\n")), OK);
        chain_done(net_tls_output(sessions[i]));
        net_tls_free(c);
    }
    size_t each = (mallinfo2().uordblks + mallinfo2().hblkhd - before) / IDLE;
    print_message("# %zu bytes for each idle TLS session\n", each);
    assert_in_range(each, 1, 28 * 1024);
    for (int i = 0; i < IDLE; i++)
        net_tls_free(sessions[i]);
    net_tls_client_free(client);
    net_tls_server_free(server);
#endif
}

// What the server sees of a client's certificate, also over a resumed session; none is no error.
static void certificates_of_clients(void **state)
{
    struct test_cert self = test_cert_new("DNS:mx.example.org", NULL, 10);
    struct test_cert robot =
        test_cert_new("DNS:robot.example,email:robot@example.org,IP:192.0.2.1", &authority, 10);
    const struct {
        const struct test_cert *cert;
        bool verified;
        const char *names;
    } rows[] = {{NULL, false, ""},
                {&self, false, "mx.example.org\n"},
                {&robot, true, "robot.example\nrobot@example.org\n"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct net_tls_server *server = test_server(&good);
        struct net_tls_client *client = net_tls_client_new(trusted);
        net_tls_server_set_client_authorities(server, trusted);
        if (rows[i].cert) {
            assert_int_equal(SSL_CTX_use_certificate(client->context, rows[i].cert->x509), 1);
            assert_int_equal(SSL_CTX_use_PrivateKey(client->context, rows[i].cert->key), 1);
        }
        for (int round = 0; round < 2; round++) {
            struct net_tls *c = client_for(client, &right_name, true, "k");
            struct net_tls *s = net_tls_new_server(server);
            struct net_tls_peer peer;
            struct net_tls_result result;
            struct buf names = {0};
            uint8_t hash[32];
            net_tls_ask_certificate(s, server);
            shake(c, s);
            assert_true(client_err == OK && server_err == OK);
            drain(c);
            net_tls_get_result(s, &result);
            assert_int_equal(result.resumed, round);
            net_tls_get_peer(s, &peer);
            net_tls_peer_names(s, &names);
            assert_int_equal(peer.given, rows[i].cert != NULL);
            assert_int_equal(peer.verified, rows[i].verified);
            assert_true(bytes_eq(buf_bytes(&names), bytes_cstr(rows[i].names)));
            if (rows[i].cert) {
                assert_int_equal(net_tls_fingerprint(bytes_cstr(rows[i].cert->cert_pem), hash), OK);
                assert_memory_equal(peer.certificate_sha256, hash, 32);
            }
            buf_done(&names);
            net_tls_free(c);
            net_tls_free(s);
        }
        net_tls_client_free(client);
        net_tls_server_free(server);
    }
    test_cert_done(&self);
    test_cert_done(&robot);
}

// Both ends know the same of a connection, and of no other; the end point is the certificate's hash (RFC 5929).
static void bindings_of_both_ends(void **state)
{
    uint8_t hash[32];
    unsigned len;
    assert_int_equal(X509_digest(good.x509, EVP_sha256(), hash, &len), 1);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct sasl_bindings ours, theirs, last = {0};
        struct net_tls_server *server = test_server(&good);
        struct net_tls_client *client = net_tls_client_new(trusted);
        SSL_CTX_set_max_proto_version(client->context, version);
        for (int i = 0; i < 3; i++) { // the second and third resume the first
            struct net_tls *c = client_for(client, &right_name, true, "k");
            struct net_tls *s = net_tls_new_server(server);
            net_tls_bindings(s, &theirs);
            assert_false(theirs.of[0].len || theirs.of[1].len); // not yet
            shake(c, s);
            assert_true(client_err == OK && server_err == OK);
            drain(c);
            net_tls_bindings(c, &ours);
            net_tls_bindings(s, &theirs);
            assert_memory_equal(&ours, &theirs, sizeof ours);
            assert_int_equal(ours.of[SASL_TLS_EXPORTER].len, 32);
            assert_memory_not_equal(&ours.of[SASL_TLS_EXPORTER], &last.of[SASL_TLS_EXPORTER], 33);
            assert_int_equal(ours.of[SASL_TLS_SERVER_END_POINT].len, 32);
            assert_memory_equal(ours.of[SASL_TLS_SERVER_END_POINT].bytes, hash, 32);
            last = ours;
            net_tls_free(c);
            net_tls_free(s);
        }
        net_tls_client_free(client);
        net_tls_server_free(server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verifies),
        cmocka_unit_test(g_abused_names),
        cmocka_unit_test(asks_for_a_name_but_no_address),
        cmocka_unit_test(carries_bytes),
        cmocka_unit_test(d_resumption),
        cmocka_unit_test(bindings_of_both_ends),
        cmocka_unit_test(certificates_of_clients),
        cmocka_unit_test(sessions_are_bounded),
        cmocka_unit_test(d_refuses_other_protocols),
        cmocka_unit_test(d_demands_without_end),
        cmocka_unit_test(refuses_old_versions),
        cmocka_unit_test(survives_junk),
        cmocka_unit_test(refuses_bad_files),
        cmocka_unit_test(idle_session_is_small),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
