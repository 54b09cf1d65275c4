// SPDX-License-Identifier: MIT
//
// Our client talks to our server in memory; the bytes between them are cut at random.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "smtp/smtp_client.h"
#include "smtp/smtp_testkit.h"

#define ROUNDS 300
#define TRANSACTIONS 3
#define CONTENT_MAX 2000

struct loop {
    unsigned seed;
    struct testkit server;
    struct smtp_client *client;
    struct smtp_client_config config;
    struct smtp_transaction transaction;
    struct smtp_client_rcpt rcpts[4];
    struct buf content;
    size_t content_at;
    size_t from_server; // how much of the server's transcript the client was fed
    unsigned outcomes, delivered, transactions;
    bool dirty; // content with bare CR or LF
    bool failed;
};

static unsigned draw(struct loop *l, unsigned n)
{
    return (unsigned)rand_r(&l->seed) % n;
}

static int content(void *ctx, size_t max, struct bytes *out, bool *out_end)
{
    struct loop *l = ctx;
    if (draw(l, 4) == 0)
        return E_AGAIN;
    size_t n = draw(l, 3) == 0 ? draw(l, 5) : draw(l, 500);
    *out = bytes_mid(buf_bytes(&l->content), l->content_at, n < max ? n : max);
    l->content_at += out->len;
    *out_end = l->content_at == l->content.len;
    return OK;
}

static void make_content(struct loop *l)
{
    static const char *const clean[] = {".",         "..",    "\r\n",     "\r\n", "\r\n.",
                                        "\r\n.\r\n", "hello", "\xff\xfe", "a.b"};
    static const char *const dirty[] = {"\r",    "\n",    ".",       "\r\n",   "a",
                                        "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\r"};
    buf_clear(&l->content);
    l->dirty = draw(l, 3) == 0;
    size_t len = draw(l, CONTENT_MAX);
    while (l->content.len < len)
        buf_add_cstr(&l->content,
                     l->dirty ? dirty[draw(l, COUNT_OF(dirty))] : clean[draw(l, COUNT_OF(clean))]);
    l->content_at = 0;
}

static void start(struct loop *l)
{
    make_content(l);
    l->transactions++;
    l->outcomes = l->delivered = 0;
    l->transaction.rcpts_count = 1 + draw(l, COUNT_OF(l->rcpts));
    for (size_t i = 0; i < COUNT_OF(l->rcpts); i++)
        l->rcpts[i].path = draw(l, 4) ? BYTES("b@example.net") : BYTES("unknown@example.net");
    l->transaction.size = l->content.len;
    smtp_client_send(l->client, &l->transaction, l->server.now);
}

static void on_ready(void *ctx, const struct smtp_caps *caps)
{
    start(ctx);
}

static void on_outcome(void *ctx, uint32_t rcpt, const struct smtp_outcome *outcome)
{
    struct loop *l = ctx;
    l->outcomes++;
    CHECK(outcome->reply && outcome->err == OK);
    l->delivered += outcome->step == SMTP_STEP_FINAL && outcome->reply->code == 250;
}

// What must have arrived: lines ended by CRLF where DATA carried it, else the bytes as they are.
static bool has_arrived(const struct loop *l)
{
    struct bytes want = buf_bytes(&l->content), got = buf_bytes(&l->server.last_body);
    if (bytes_eq(want, got))
        return true;
    struct buf mended = {0};
    for (size_t i = 0; i < want.len; i++) {
        char c = want.at[i];
        if (c == '\n' && i > 0 && want.at[i - 1] == '\r')
            continue;
        buf_add(&mended, c == '\r' || c == '\n' ? BYTES("\r\n") : bytes_of(&c, 1));
    }
    if (want.len > 0 && want.at[want.len - 1] != '\n' && want.at[want.len - 1] != '\r')
        buf_add_cstr(&mended, "\r\n");
    bool same = bytes_eq(buf_bytes(&mended), got) && (l->dirty || !bytes_ends(want, BYTES("\r\n")));
    buf_done(&mended);
    return same;
}

static void on_done(void *ctx, bool reusable)
{
    struct loop *l = ctx;
    CHECK(reusable && l->outcomes == l->transaction.rcpts_count);
    if (l->delivered > 0)
        CHECK(has_arrived(l));
    if (l->transactions < TRANSACTIONS)
        start(l);
    else
        smtp_client_quit(l->client, l->server.now);
}

static void on_failed(void *ctx, const struct smtp_outcome *why)
{
    ((struct loop *)ctx)->failed = true;
}

static const struct smtp_client_handlers handlers = {on_ready, on_outcome, on_done, on_failed};

static void fixed_random(void *ctx, void *out, size_t n)
{
    memset(out, 'r', n);
}

static void setup(struct loop *l, unsigned seed)
{
    static const enum smtp_client_tls tls[] = {SMTP_CLIENT_TLS_NEVER, SMTP_CLIENT_TLS_IF_OFFERED,
                                               SMTP_CLIENT_TLS_REQUIRED};
    *l = (struct loop){.seed = seed};
    testkit_init(&l->server);
    l->server.no_tls_start = true;
    l->server.config.no_pipelining = draw(l, 3) == 0;
    l->server.config.no_chunking = draw(l, 2) == 0;
    l->server.config.no_smtputf8 = l->server.config.no_dsn = draw(l, 2) == 0;
    l->server.later = draw(l, 2);
    testkit_start(&l->server, false, false);
    l->config = (struct smtp_client_config){.helo_name = BYTES("relay.example"),
                                            .tls = tls[draw(l, 3)],
                                            .chunking = (enum smtp_client_chunking)draw(l, 3),
                                            .random = fixed_random};
    if (l->config.tls != SMTP_CLIENT_TLS_NEVER && draw(l, 2)) {
        l->config.login = BYTES("user");
        l->config.password = BYTES("secret");
    }
    for (size_t i = 0; i < COUNT_OF(l->rcpts); i++)
        l->rcpts[i] =
            (struct smtp_client_rcpt){.notify = NOTIFY_FAILURE, .orcpt = BYTES("rfc822;x@y.z")};
    l->transaction = (struct smtp_transaction){.reverse_path = BYTES("a@example.com"),
                                               .body = BODY_8BITMIME,
                                               .envid = BYTES("e1"),
                                               .rcpts = l->rcpts,
                                               .content = content,
                                               .content_ctx = l};
    l->client = smtp_client_new(&l->config, &handlers, l, l->server.now);
}

static void to_server(struct loop *l)
{
    struct buf *out = smtp_client_output(l->client);
    size_t n = out->len ? 1 + draw(l, (unsigned)out->len) : 0;
    struct buf moved = {0};
    buf_add(&moved, bytes_first(buf_bytes(out), n));
    buf_consume(out, n);
    testkit_feed(&l->server, buf_bytes(&moved), 0);
    buf_done(&moved);
    smtp_client_more(l->client, l->server.now);
}

static void to_client(struct loop *l)
{
    struct bytes all = buf_bytes(&l->server.transcript);
    if (bytes_ends(all, BYTES("[close]")))
        all.len -= strlen("[close]");
    struct bytes rest = bytes_skip(all, l->from_server);
    struct bytes piece = bytes_first(rest, rest.len ? 1 + draw(l, (unsigned)rest.len) : 0);
    l->from_server += piece.len;
    struct buf moved = {0}; // a copy of exactly its size, for the sanitizer
    buf_add(&moved, piece);
    smtp_client_feed(l->client, buf_bytes(&moved), l->server.now);
    buf_done(&moved);
}

static void handshake(struct loop *l)
{
    if (smtp_client_wants(l->client) != SMTP_CLIENT_TLS)
        return;
    CHECK(smtp_server_wants(l->server.server) == SMTP_SERVER_TLS);
    smtp_server_tls_started(l->server.server, l->server.now);
    smtp_client_tls_started(l->client, l->server.now);
}

static void run(unsigned seed)
{
    struct loop l;
    setup(&l, seed);
    int turns = 0;
    while (smtp_client_wants(l.client) != SMTP_CLIENT_CLOSE && turns++ < 100000) {
        to_server(&l);
        to_client(&l);
        handshake(&l);
    }
    if (l.failed || l.transactions != TRANSACTIONS ||
        smtp_client_wants(l.client) != SMTP_CLIENT_CLOSE)
        fail_msg("seed %u: failed %d after %u transactions\n%s\n%s", seed, l.failed, l.transactions,
                 buf_cstr(&l.server.log), buf_cstr(&l.server.transcript));
    smtp_client_free(l.client);
    testkit_done(&l.server);
    buf_done(&l.content);
}

static void test_loopback(void **state)
{
    for (unsigned seed = 0; seed < ROUNDS; seed++)
        run(seed);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loopback)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
