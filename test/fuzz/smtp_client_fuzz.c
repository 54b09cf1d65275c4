// SPDX-License-Identifier: MIT
//
// smtp_client_fuzz - a client session with two messages to send, fed an arbitrary server
//
// The first byte chooses the setup. Laws: each recipient is settled exactly once; the session ends when the
// connection does; what is sent by DATA has only one end.
#include "base/check.h"
#include "smtp/smtp_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct session {
    struct smtp_client *client;
    struct smtp_transaction transaction;
    size_t content_at;
    unsigned sent, settled, done, failed;
    struct buf said;   // commands of the client
    struct bytes seen; // of the server's input: what was fed so far
    bool told[3];
};

static const struct bytes text = BYTES("Subject: x\r\n\r\n.\r\n..\r\nMAIL FROM:<x@y.z>\r\nlast");

// By DATA content follows a 354 only, which the server must have said by now (RFC 5321 4.1.1.4).
static void check_may_send(struct session *s)
{
    struct buf *out = smtp_client_output(s->client);
    struct buf all = {0};
    buf_add(&all, buf_bytes(&s->said));
    buf_add(&all, buf_bytes(out));
    ptrdiff_t data = bytes_search(buf_bytes(&all), BYTES("DATA\r\n"));
    ptrdiff_t bdat = bytes_search(buf_bytes(&all), BYTES("BDAT "));
    CHECK(data >= 0 || bdat >= 0);
    CHECK(bdat >= 0 || bytes_search(s->seen, BYTES("354")) >= 0);
    buf_done(&all);
}

static int content(void *ctx, size_t max, struct bytes *out, bool *out_end)
{
    struct session *s = ctx;
    check_may_send(s);
    *out = bytes_mid(text, s->content_at, 7);
    s->content_at += out->len;
    *out_end = s->content_at == text.len;
    return OK;
}

static void start(struct session *s)
{
    s->content_at = 0;
    s->sent++;
    memset(s->told, 0, sizeof s->told);
    smtp_client_send(s->client, &s->transaction, (struct mono){1});
}

static void on_ready(void *ctx, const struct smtp_caps *caps)
{
    struct session *s = ctx;
    CHECK(s->sent == 0);
    s->transaction.smtputf8 = caps->smtputf8;
    start(s);
}

static void on_outcome(void *ctx, uint32_t rcpt, const struct smtp_outcome *outcome)
{
    struct session *s = ctx;
    CHECK(rcpt < 3 && !s->told[rcpt]);
    CHECK(outcome->err || outcome->reply);
    s->told[rcpt] = true;
    s->settled++;
}

static void on_done(void *ctx, bool reusable)
{
    struct session *s = ctx;
    s->done++;
    CHECK(s->done == s->sent && s->settled == s->sent * 3);
    if (reusable && s->sent < 2)
        start(s);
}

static void on_failed(void *ctx, const struct smtp_outcome *why)
{
    CHECK(((struct session *)ctx)->failed++ == 0);
}

static void fixed_random(void *ctx, void *out, size_t n)
{
    memset(out, 'r', n);
}

static const struct smtp_client_handlers handlers = {on_ready, on_outcome, on_done, on_failed};

static void feed(struct session *s, struct bytes input, size_t step)
{
    for (size_t at = 0; at < input.len; at += step) {
        s->seen = bytes_first(input, at + step < input.len ? at + step : input.len);
        smtp_client_feed(s->client, bytes_mid(input, at, step), (struct mono){1});
        if (s->said.len < 65536)
            buf_add(&s->said, buf_bytes(smtp_client_output(s->client)));
        buf_consume(smtp_client_output(s->client), smtp_client_output(s->client)->len);
        smtp_client_more(s->client, (struct mono){1});
        if (smtp_client_wants(s->client) == SMTP_CLIENT_TLS)
            smtp_client_tls_started(s->client, (struct mono){1});
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 100000)
        return 0;
    static const struct smtp_client_rcpt rcpts[] = {{BYTES("a@b.c"), NOTIFY_NEVER, BYTES("")},
                                                    {BYTES("b@b.c"), 0, BYTES("rfc822;x")},
                                                    {BYTES("c@b.c"), 0, BYTES("")}};
    struct smtp_client_config config = {.helo_name = BYTES("relay.example"),
                                        .lmtp = data[0] & 1,
                                        .tls = (enum smtp_client_tls)(data[0] >> 1 & 3),
                                        .chunking =
                                            data[0] & 8 ? SMTP_CHUNKING_ALWAYS : SMTP_CHUNKING_AUTO,
                                        .auth_without_tls = true,
                                        .random = fixed_random};
    if (data[0] & 16) {
        config.login = BYTES("user");
        config.password = BYTES("secret");
    }
    struct session s = {.transaction = {.reverse_path = BYTES("s@b.c"),
                                        .body = BODY_8BITMIME,
                                        .size = text.len,
                                        .by_mode = data[0] & 128 ? BY_RETURN : BY_NOTIFY,
                                        .by_s = data[0] & 128 ? 1 : -1,
                                        .priority = -9,
                                        .rcpts = rcpts,
                                        .rcpts_count = 3,
                                        .content = content,
                                        .content_ctx = &s}};
    s.client = smtp_client_new(&config, &handlers, &s, (struct mono){1});
    feed(&s, bytes_of(data + 1, size - 1), data[0] & 32 ? 1 : data[0] & 64 ? 1000000 : 17);
    smtp_client_hangup(s.client, E_CLOSED);
    CHECK(s.done == s.sent && s.settled == s.sent * 3 && s.failed == 1);
    smtp_client_free(s.client);
    buf_done(&s.said);
    return 0;
}
