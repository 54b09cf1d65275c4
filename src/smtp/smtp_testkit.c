// SPDX-License-Identifier: MIT
#include "smtp/smtp_testkit.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

static void give(struct testkit *t)
{
    t->is_pending = false;
    if (t->pending_scram) {
        static struct sasl_scram_key key; // made once: it is meant to take time
        t->pending_scram = false;
        if (key.iterations == 0)
            CHECK(sasl_scram_key_make(BYTES("secret"), BYTES("0123456789abcdef"), 4096, &key) ==
                  OK);
        smtp_server_answer_scram(t->server, t->scram_known ? &key : NULL);
        return;
    }
    smtp_server_answer(t->server, t->pending, bytes_cstr(t->pending_slot));
}

static void decide(struct testkit *t, enum smtp_reply_id id, const char *slot)
{
    t->pending = id;
    snprintf(t->pending_slot, sizeof t->pending_slot, "%s", slot);
    t->is_pending = true;
    if (!t->later)
        give(t);
}

static void on_auth(void *ctx, const struct smtp_auth *auth)
{
    struct testkit *t = ctx;
    bool locked = bytes_eq(auth->login, BYTES("locked"));
    bool known = locked || bytes_eq(auth->login, BYTES("user"));
    buf_printf(&t->log, "auth %s %d %.*s\n", auth->mechanism, (int)auth->kind,
               BYTES_FMT(auth->login));
    if (auth->kind == SMTP_AUTH_SCRAM) {
        t->pending_scram = true;
        t->scram_known = known;
        decide(t, SMTP_REPLY_NONE, "");
        return;
    }
    if (auth->kind == SMTP_AUTH_PROOF && locked) {
        decide(t, SMTP_REPLY_AUTH_TOO_MANY, "");
        return;
    }
    bool right = auth->kind == SMTP_AUTH_PROOF ? auth->proven
                 : auth->kind == SMTP_AUTH_EXTERNAL
                     ? known || !auth->login.len
                     : known && bytes_eq(auth->password, BYTES("secret"));
    decide(t, right ? SMTP_REPLY_AUTH_OK : SMTP_REPLY_AUTH_BAD, "");
}

static void on_mail(void *ctx, const struct smtp_mail *mail)
{
    struct testkit *t = ctx;
    CHECK(!t->transaction);
    buf_printf(&t->log, "mail <%.*s> size=%llu body=%d ret=%d envid=%.*s auth=%.*s utf8=%d\n",
               BYTES_FMT(mail->reverse_path), (unsigned long long)mail->size, (int)mail->body,
               (int)mail->ret, BYTES_FMT(mail->envid), BYTES_FMT(mail->auth), mail->smtputf8);
    if (mail->hold.len || mail->by_mode || mail->priority)
        buf_printf(&t->log, "hold=%.*s until=%lld by=%d;%d%s priority=%d\n", BYTES_FMT(mail->hold),
                   (long long)mail->hold_until.us / 1000000, mail->by_s, (int)mail->by_mode,
                   mail->by_trace ? "T" : "", mail->priority);
    if (bytes_starts(mail->reverse_path, BYTES("refused@"))) {
        decide(t, SMTP_REPLY_SENDER_NOT_OWNED, "example.com");
    } else if (bytes_starts(mail->reverse_path, BYTES("busy@"))) {
        decide(t, SMTP_REPLY_LOCAL_ERROR, "");
    } else {
        t->transaction = true;
        t->rcpts = 0;
        buf_clear(&t->body);
        decide(t, SMTP_REPLY_MAIL_OK, "");
    }
}

static void on_rcpt(void *ctx, const struct smtp_rcpt *rcpt)
{
    struct testkit *t = ctx;
    CHECK(t->transaction);
    buf_printf(&t->log, "rcpt <%.*s> notify=%u orcpt=%.*s\n", BYTES_FMT(rcpt->path), rcpt->notify,
               BYTES_FMT(rcpt->orcpt));
    if (bytes_starts(rcpt->path, BYTES("unknown@"))) {
        decide(t, SMTP_REPLY_UNKNOWN_USER, "unknown@example.com");
    } else if (bytes_starts(rcpt->path, BYTES("many@"))) {
        decide(t, SMTP_REPLY_TOO_MANY_RECIPIENTS, "1");
    } else if (bytes_starts(rcpt->path, BYTES("greylist@"))) {
        decide(t, SMTP_REPLY_LOCAL_ERROR, "");
    } else {
        t->rcpts++;
        decide(t, SMTP_REPLY_RCPT_OK, "");
    }
}

static void on_data(void *ctx, bool chunked)
{
    struct testkit *t = ctx;
    CHECK(t->transaction && t->rcpts > 0);
    decide(t, t->refuse_data ? SMTP_REPLY_DISK_FULL : SMTP_REPLY_START_MAIL, "");
}

static void on_body(void *ctx, struct bytes piece)
{
    struct testkit *t = ctx;
    CHECK(t->transaction && piece.len > 0);
    buf_add(&t->body, piece);
    if (t->pauses)
        smtp_server_pause(t->server);
}

static void on_body_end(void *ctx, const struct smtp_content_facts *facts)
{
    struct testkit *t = ctx;
    CHECK(t->transaction && facts->size == t->body.len);
    t->transaction = false;
    if (bytes_search(buf_bytes(&t->body), BYTES("REFUSE-ME")) >= 0) {
        decide(t, SMTP_REPLY_LOCAL_ERROR, "");
        return;
    }
    t->messages++;
    buf_clear(&t->last_body);
    buf_add(&t->last_body, buf_bytes(&t->body));
    char id[32];
    snprintf(id, sizeof id, "M%u", t->messages);
    decide(t, SMTP_REPLY_ACCEPTED, id);
}

static void on_refused(void *ctx, const struct smtp_refusal *r)
{
    struct testkit *t = ctx;
    const struct smtp_reply_row *row = smtp_reply_row(r->reply);
    CHECK(row->code >= 400);
    buf_printf(&t->refusals, "%s %.*s %s %.*s%s\n", r->command, BYTES_FMT(r->argument), row->name,
               BYTES_FMT(r->slot), smtp_server_in_transaction(t->server) ? " in" : "");
}

static void on_reset(void *ctx, enum smtp_reset why)
{
    struct testkit *t = ctx;
    CHECK(t->transaction);
    t->transaction = false;
    buf_printf(&t->log, "reset %d\n", (int)why);
}

// ADDR "refused" is refused; LOGIN "user" is known.
static void on_xclient(void *ctx, const struct smtp_xclient *x)
{
    struct testkit *t = ctx;
    CHECK(!t->transaction);
    struct bytes login = x->value[SMTP_XCLIENT_LOGIN];
    for (int i = 0; i < SMTP_XCLIENT_NAMES; i++)
        if (x->given[i])
            buf_printf(&t->log, "xclient %d=%.*s %u\n", i, BYTES_FMT(x->value[i]), x->port[i]);
    if (bytes_eq(x->value[SMTP_XCLIENT_ADDR], BYTES("refused")))
        smtp_server_answer(t->server, SMTP_REPLY_XCLIENT_VALUE, BYTES("ADDR"));
    else if (login.len && !bytes_eq(login, BYTES("user")))
        smtp_server_answer(t->server, SMTP_REPLY_XCLIENT_LOGIN, login);
    else
        smtp_server_answer_xclient(
            t->server, (struct smtp_server_rights){.xclient = true, .xclient_login = true},
            login.len > 0);
}

static void on_bindings(void *ctx, struct sasl_bindings *out)
{
    out->of[SASL_TLS_SERVER_END_POINT].len = ((struct testkit *)ctx)->binds ? 32 : 0;
    memset(out->of[SASL_TLS_SERVER_END_POINT].bytes, 'x', 32);
}

static const struct smtp_server_handlers handlers = {.on_bindings = on_bindings,
                                                     .on_auth = on_auth,
                                                     .on_xclient = on_xclient,
                                                     .on_mail = on_mail,
                                                     .on_rcpt = on_rcpt,
                                                     .on_data = on_data,
                                                     .on_body = on_body,
                                                     .on_body_end = on_body_end,
                                                     .on_refused = on_refused,
                                                     .on_reset = on_reset};

static void fixed_random(void *ctx, void *out, size_t n)
{
    memset(out, 'x', n);
}

static struct wall fixed_wall(void)
{
    return (struct wall){1800000000000000}; // 2027-01-15T08:00:00Z
}

void testkit_init(struct testkit *t)
{
    *t = (struct testkit){.now = {1000000}};
    t->config = (struct smtp_server_config){.hostname = BYTES("mx.example.org"),
                                            .auth = SMTP_AUTH_OPTIONAL,
                                            .starttls = true,
                                            .hold_max_s = 1000,
                                            .deliver_by_min_s = 10,
                                            .wall = fixed_wall,
                                            .random = fixed_random};
}

void testkit_start(struct testkit *t, bool tls, bool trusted)
{
    t->server =
        smtp_server_new(&t->config, (struct smtp_server_start){.tls = tls, .trusted = trusted},
                        &handlers, t, t->now);
    smtp_server_greet(t->server, t->now);
}

void testkit_done(struct testkit *t)
{
    smtp_server_free(t->server);
    buf_done(&t->transcript);
    buf_done(&t->kept);
    buf_done(&t->body);
    buf_done(&t->log);
    buf_done(&t->refusals);
    buf_done(&t->last_body);
}

static void drain(struct testkit *t)
{
    struct buf *out = smtp_server_output(t->server);
    buf_add(&t->transcript, buf_bytes(out));
    buf_consume(out, out->len);
    if (smtp_server_wants(t->server) == SMTP_SERVER_TLS && !t->no_tls_start) {
        buf_add_cstr(&t->transcript, "[tls]\r\n");
        smtp_server_tls_started(t->server, t->now);
    }
    bool closed = bytes_ends(buf_bytes(&t->transcript), BYTES("[close]"));
    if (smtp_server_wants(t->server) == SMTP_SERVER_CLOSE && !closed)
        buf_add_cstr(&t->transcript, "[close]");
}

static void feed_piece(struct testkit *t, struct bytes piece)
{
    buf_add(&t->kept, piece);
    for (;;) {
        size_t used = smtp_server_feed(t->server, buf_bytes(&t->kept), t->now);
        buf_consume(&t->kept, used);
        bool waited = t->is_pending;
        if (waited)
            give(t);
        CHECK(smtp_server_wants(t->server) != SMTP_SERVER_INPUT || waited || used == 0 ||
              t->kept.len <= SMTP_SERVER_KEEP_MAX || t->kept.len > 0);
        bool drained = smtp_server_output(t->server)->len > 0;
        drain(t);
        if (!waited && used == 0 && !drained)
            return;
    }
}

void testkit_feed(struct testkit *t, struct bytes input, unsigned cuts)
{
    unsigned seed = cuts;
    drain(t);
    while (input.len > 0) {
        size_t n = cuts == 0 ? input.len : cuts == 1 ? 1 : 1 + (size_t)rand_r(&seed) % 40;
        struct bytes piece = bytes_first(input, n);
        feed_piece(t, piece);
        input = bytes_skip(input, piece.len);
    }
}
