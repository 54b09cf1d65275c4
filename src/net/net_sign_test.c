// SPDX-License-Identifier: MIT
//
// Handshakes whose private key is elsewhere: here a list of requests that the test answers when it likes.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "net/net_sign.h"

#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/net_test_certs.h"
#include "net/net_tls_context.h"

#define SESSIONS (2 * NET_SIGN_WAITING_MAX + 10)
#define REQUESTS_MAX SESSIONS

static struct test_cert ec, rsa;

// ---- who has the keys ----------------------------------------------------------------------------------

struct kept {
    uint64_t id;
    uint64_t key;
    enum sign_kind kind;
    size_t len;
    unsigned char input[NET_SIGN_BYTES_MAX];
};
static struct kept requests[REQUESTS_MAX];
static size_t request_count;
static bool refuses_to_send;

static bool ask(void *ctx, const struct sign_request *request, bool with_key)
{
    assert_ptr_equal(ctx, requests);
    assert_false(with_key);
    if (refuses_to_send)
        return false;
    assert_true(request_count < REQUESTS_MAX && request->input.len <= NET_SIGN_BYTES_MAX);
    struct kept *k = &requests[request_count++];
    *k = (struct kept){request->id, request->key, request->kind, request->input.len, {0}};
    memcpy(k->input, request->input.at, request->input.len);
    return true;
}

static const struct sign_port port = {ask, requests};

static void answer(const struct kept *k)
{
    unsigned char out[NET_SIGN_BYTES_MAX];
    size_t len = sizeof out;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(k->key == 1 ? ec.key : rsa.key, NULL);
    assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
    if (k->kind != SIGN_ECDSA)
        EVP_PKEY_CTX_set_rsa_padding(ctx, k->kind == SIGN_RSA_PKCS1 ? RSA_PKCS1_PADDING
                                                                    : RSA_NO_PADDING);
    assert_int_equal(EVP_PKEY_sign(ctx, out, &len, k->input, k->len), 1);
    EVP_PKEY_CTX_free(ctx);
    sign_port_answer(k->id, SIGN_DONE, bytes_of(out, len));
}

// ---- two ends ------------------------------------------------------------------------------------------

struct pair {
    struct net_tls *client, *server;
    int client_err, server_err;
    int woken;
};

static void on_wake(void *ctx)
{
    ((struct pair *)ctx)->woken++;
}

static struct net_tls_server *remote(const struct test_cert *c)
{
    struct net_tls_server *server;
    char reason[NET_TLS_REASON];
    int err = net_tls_server_new_remote(bytes_cstr(c->cert_pem), c == &ec ? 1 : 2, &server, reason);
    if (err)
        fail_msg("%s", reason);
    return server;
}

static void start(struct pair *p, struct net_tls_server *server, struct net_tls_client *client)
{
    static const struct net_tls_client_params params = {0};
    *p = (struct pair){.server = net_tls_new_server(server),
                       .client = net_tls_new_client(client, &params),
                       .client_err = E_AGAIN,
                       .server_err = E_AGAIN};
    net_tls_set_wake(p->server, on_wake, p);
}

static bool move_bytes(struct net_tls *from, struct net_tls *to)
{
    struct chain *out = net_tls_output(from);
    bool any = out->len > 0;
    for (const struct chunk *c = out->first; c; c = c->next)
        net_tls_feed(to, bytes_of(c->data, c->len));
    chain_done(out);
    return any;
}

static void shake(struct pair *p)
{
    bool moved;
    do {
        if (p->client_err == E_AGAIN)
            p->client_err = net_tls_handshake(p->client);
        if (p->server_err == E_AGAIN)
            p->server_err = net_tls_handshake(p->server);
        moved = move_bytes(p->client, p->server);
        moved = move_bytes(p->server, p->client) || moved;
    } while (moved);
}

static void end(struct pair *p)
{
    net_tls_free(p->server);
    net_tls_free(p->client);
}

// ---- tests ---------------------------------------------------------------------------------------------

static void test_handshakes(void **state)
{
    (void)state;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
        for (int i = 0; i < 2; i++) {
            struct net_tls_server *server = remote(i ? &rsa : &ec);
            struct net_tls_client *client = net_tls_client_new(NULL);
            SSL_CTX_set_max_proto_version(client->context, version);
            struct pair p;
            request_count = 0;
            start(&p, server, client);
            shake(&p);
            assert_int_equal(p.server_err, E_AGAIN);
            assert_int_equal(request_count, 1);
            shake(&p); // nothing changes meanwhile
            assert_int_equal(request_count, 1);
            assert_int_equal(requests[0].key, i + 1);
            assert_int_equal(requests[0].kind, i ? SIGN_RSA_PSS : SIGN_ECDSA);
            sign_port_answer(requests[0].id + 1000, SIGN_DONE, BYTES("not asked for"));
            assert_int_equal(p.woken, 0);
            answer(&requests[0]);
            assert_int_equal(p.woken, 1);
            shake(&p);
            assert_int_equal(p.server_err, OK);
            assert_int_equal(p.client_err, OK);
            sign_port_answer(requests[0].id, SIGN_DONE, BYTES("again")); // late: ignored
            char line[8];
            size_t n;
            assert_int_equal(net_tls_write(p.client, BYTES("EHLO x")), OK);
            move_bytes(p.client, p.server);
            assert_int_equal(net_tls_read(p.server, line, sizeof line, &n), OK);
            assert_memory_equal(line, "EHLO x", 6);
            end(&p);
            net_tls_client_free(client);
            net_tls_server_free(server);
        }
}

// RFC 5246 7.4.3: TLS 1.2 with a client that knows no PSS.
static void test_pkcs1(void **state)
{
    (void)state;
    struct net_tls_server *server = remote(&rsa);
    struct net_tls_client *client = net_tls_client_new(NULL);
    SSL_CTX_set_max_proto_version(client->context, TLS1_2_VERSION);
    SSL_CTX_set1_sigalgs_list(client->context, "RSA+SHA256");
    struct pair p;
    request_count = 0;
    start(&p, server, client);
    shake(&p);
    assert_int_equal(request_count, 1);
    assert_int_equal(requests[0].kind, SIGN_RSA_PKCS1);
    answer(&requests[0]);
    shake(&p);
    assert_int_equal(p.server_err | p.client_err, OK);
    end(&p);
    net_tls_client_free(client);
    net_tls_server_free(server);
}

enum trouble { REFUSED, TOO_LONG, NOT_SENT, NO_PORT, WRONG };

static void test_trouble(void **state)
{
    (void)state;
    static char much[NET_SIGN_BYTES_MAX + 1];
    struct net_tls_server *server = remote(&ec);
    struct net_tls_client *client = net_tls_client_new(NULL);
    for (enum trouble t = REFUSED; t <= WRONG; t++) {
        struct pair p;
        request_count = 0;
        refuses_to_send = t == NOT_SENT;
        sign_port_use(t == NO_PORT ? NULL : &port);
        start(&p, server, client);
        shake(&p);
        if (t == REFUSED)
            sign_port_answer(requests[0].id, SIGN_REFUSED, BYTES_NONE);
        else if (t == TOO_LONG)
            sign_port_answer(requests[0].id, SIGN_DONE, bytes_of(much, sizeof much));
        else if (t == WRONG)
            sign_port_answer(requests[0].id, SIGN_DONE, BYTES("nonsense"));
        shake(&p);
        assert_int_equal(t == WRONG ? p.client_err : p.server_err, E_TLS);
        end(&p);
    }
    refuses_to_send = false;
    sign_port_use(&port);
    net_tls_client_free(client);
    net_tls_server_free(server);
}

// A session ends while its signature is under way, or has come and was not used yet.
static void test_freed(void **state)
{
    (void)state;
    struct net_tls_server *server = remote(&ec);
    struct net_tls_client *client = net_tls_client_new(NULL);
    for (int answered = 0; answered < 2; answered++) {
        struct pair p;
        request_count = 0;
        start(&p, server, client);
        shake(&p);
        assert_int_equal(request_count, 1);
        if (answered)
            answer(&requests[0]);
        end(&p);
        if (!answered)
            answer(&requests[0]); // nobody waits
        assert_int_equal(p.woken, answered);
    }
    net_tls_client_free(client);
    net_tls_server_free(server);
}

static void shake_woken(struct pair *pairs)
{
    for (size_t i = 0; i < SESSIONS; i++)
        if (i % 10 != 1 && pairs[i].woken) {
            pairs[i].woken = 0;
            shake(&pairs[i]);
        }
}

// More handshakes than may wait at once: the others wait for their turn, some leave, all that stay succeed.
static void test_many(void **state)
{
    (void)state;
    static struct pair pairs[SESSIONS];
    struct net_tls_server *server = remote(&ec);
    struct net_tls_client *client = net_tls_client_new(NULL);
    request_count = 0;
    for (size_t i = 0; i < SESSIONS; i++) {
        start(&pairs[i], server, client);
        shake(&pairs[i]);
    }
    assert_int_equal(request_count, NET_SIGN_WAITING_MAX);
    for (size_t i = 1; i < SESSIONS; i += 10)
        end(&pairs[i]); // its place goes to the next
    shake_woken(pairs);
    assert_true(request_count > NET_SIGN_WAITING_MAX);
    for (size_t done = 0; done < request_count; done++) {
        answer(&requests[done]);
        shake_woken(pairs);
    }
    for (size_t i = 0; i < SESSIONS; i++) {
        if (i % 10 == 1)
            continue;
        assert_int_equal(pairs[i].server_err, OK);
        assert_int_equal(pairs[i].client_err, OK);
        end(&pairs[i]);
    }
    net_tls_client_free(client);
    net_tls_server_free(server);
}

static int setup(void **state)
{
    (void)state;
    ec = test_cert_new("DNS:mx.example.org", NULL, 10);
    rsa = test_cert_of(EVP_RSA_gen(2048), "DNS:mx.example.org", NULL, 10);
    sign_port_use(&port);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_cert_done(&ec);
    test_cert_done(&rsa);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshakes), cmocka_unit_test(test_pkcs1),
        cmocka_unit_test(test_trouble),    cmocka_unit_test(test_freed),
        cmocka_unit_test(test_many),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
