// SPDX-License-Identifier: MIT
//
// smtp_server_auth - logins over SMTP (RFC 4954): the exchange, line by line, and the questions it asks

#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_encode.h"
#include "smtp/smtp_command.h"
#include "smtp/smtp_server_private.h"

void server_end_sasl(struct smtp_server *s)
{
    if (!s->sasl || s->asking_auth) // the handler still reads the login in it
        return;
    sasl_server_done(s->sasl);
    free(s->sasl);
    s->sasl = NULL;
}

bool server_may_log_in(const struct smtp_server *s)
{
    return s->config->auth != SMTP_AUTH_NONE && (s->tls || s->rights.trusted);
}

bool server_find_bindings(const struct smtp_server *s, struct sasl_bindings *out)
{
    *out = (struct sasl_bindings){0};
    if (s->tls && s->handlers->on_bindings)
        s->handlers->on_bindings(s->ctx, out);
    return sasl_bindings_any(out);
}

static void end_auth(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    server_end_sasl(s);
    server_go(s, ST_READY);
    if (id == SMTP_REPLY_AUTH_BAD || id == SMTP_REPLY_AUTH_UNBOUND ||
        id == SMTP_REPLY_ACCOUNT_SUSPENDED)
        s->auth_failures++;
    if (smtp_reply_is_ok(id))
        server_reply(s, id, slot);
    else
        server_refuse(s, id, slot);
}

static void admit(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    CHECK(s->proven);
    s->authenticated = true;
    end_auth(s, id, slot);
}

static void ask_auth(struct smtp_server *s, enum smtp_auth_kind kind, bool proven)
{
    struct smtp_auth auth = {.kind = kind,
                             .mechanism = sasl_mechanism_name(s->sasl->mechanism),
                             .login = buf_bytes(&s->sasl->login),
                             .proven = proven};
    if (kind == SMTP_AUTH_PASSWORD)
        auth.password = buf_bytes(&s->sasl->password);
    s->proven = kind == SMTP_AUTH_PASSWORD || kind == SMTP_AUTH_EXTERNAL || proven;
    s->awaiting = kind == SMTP_AUTH_SCRAM ? AWAIT_SCRAM : AWAIT_AUTH;
    s->asking_auth = true;
    s->handlers->on_auth(s->ctx, &auth);
    s->asking_auth = false;
    if (s->state != ST_AUTH)
        server_end_sasl(s);
}

static void send_challenge(struct smtp_server *s, struct bytes challenge)
{
    struct buf text = {0};
    mail_base64_encode(challenge, &text);
    server_reply(s, SMTP_REPLY_AUTH_CHALLENGE, buf_bytes(&text));
    buf_done(&text);
}

static void follow_sasl(struct smtp_server *s, enum sasl_server_step step, struct bytes challenge)
{
    switch (step) {
    case SASL_CHALLENGE:
        send_challenge(s, challenge);
        break;
    case SASL_CHECK_PASSWORD:
        ask_auth(s, SMTP_AUTH_PASSWORD, false);
        break;
    case SASL_ASK_EXTERNAL:
        ask_auth(s, SMTP_AUTH_EXTERNAL, false);
        break;
    case SASL_FIND_KEY:
        ask_auth(s, SMTP_AUTH_SCRAM, false);
        break;
    case SASL_PROVEN:
        ask_auth(s, SMTP_AUTH_PROOF, true);
        break;
    case SASL_DONE:
        admit(s, SMTP_REPLY_AUTH_OK, BYTES_NONE);
        break;
    case SASL_WRONG:
        if (sasl_is_scram(s->sasl->mechanism))
            ask_auth(s, SMTP_AUTH_PROOF, false);
        else
            end_auth(s, SMTP_REPLY_AUTH_BAD, BYTES_NONE);
        break;
    case SASL_UNBOUND:
        end_auth(s, SMTP_REPLY_AUTH_UNBOUND, BYTES_NONE);
        break;
    case SASL_MALFORMED:
        end_auth(s, SMTP_REPLY_AUTH_SYNTAX, BYTES_NONE);
        break;
    }
}

// One response of the client, still in base64; "=" stands for an empty initial one (RFC 4954
// section 4).
static void take_response(struct smtp_server *s, struct bytes text, bool initial)
{
    struct buf message, challenge = {0};
    buf_init(&message, SASL_MESSAGE_MAX);
    if (initial && bytes_eq(text, BYTES("=")))
        text = BYTES_NONE;
    if (mail_base64_decode(text, &message) != OK)
        end_auth(s, SMTP_REPLY_AUTH_SYNTAX, BYTES_NONE);
    else {
        enum sasl_server_step step = sasl_server_feed(s->sasl, buf_bytes(&message), &challenge);
        follow_sasl(s, step, buf_bytes(&challenge));
    }
    if (message.at)
        explicit_bzero(message.at, message.cap);
    buf_done(&message);
    buf_done(&challenge);
}

static void begin_sasl(struct smtp_server *s, enum sasl_mechanism mechanism)
{
    char raw[NONCE_RANDOM_BYTES] = {0};
    struct buf nonce = {0};
    struct sasl_bindings bindings;
    bool may_bind = server_find_bindings(s, &bindings);
    if (sasl_is_scram(mechanism)) {
        CHECK(s->config->random);
        s->config->random(s->config->random_ctx, raw, sizeof raw);
    }
    mail_base64_encode(bytes_of(raw, sizeof raw), &nonce);
    s->sasl = mem_new(sizeof *s->sasl);
    sasl_server_init(s->sasl, mechanism, buf_bytes(&nonce), may_bind ? &bindings : NULL);
    buf_done(&nonce);
    server_go(s, ST_AUTH);
}

static enum smtp_reply_id auth_refusal(const struct smtp_server *s)
{
    if (s->authenticated)
        return SMTP_REPLY_AUTH_TWICE;
    if (s->config->auth == SMTP_AUTH_NONE)
        return SMTP_REPLY_AUTH_NOT_OFFERED;
    return server_may_log_in(s) ? SMTP_REPLY_NONE : SMTP_REPLY_AUTH_TLS_FIRST;
}

static bool offers(const struct smtp_server *s, enum sasl_mechanism mechanism)
{
    struct sasl_bindings bindings;
    if (mechanism == SASL_EXTERNAL)
        return s->rights.external;
    return mechanism != SASL_SCRAM_SHA_256_PLUS || server_find_bindings(s, &bindings);
}

void server_run_auth(struct smtp_server *s, struct bytes args)
{
    enum sasl_mechanism mechanism = SASL_PLAIN;
    struct bytes initial;
    enum smtp_reply_id bad = auth_refusal(s);
    if (!bad)
        bad = smtp_command_auth(args, &mechanism, &initial);
    if (!bad && !offers(s, mechanism))
        bad = SMTP_REPLY_AUTH_MECHANISM;
    if (bad) {
        server_refuse(s, bad, BYTES("AUTH mechanism [response]"));
    } else if (s->auth_failures >=
               server_limit(s->config->auth_failures_max, AUTH_FAILURES_DEFAULT)) {
        smtp_server_close(s, SMTP_REPLY_TOO_MANY_ERRORS, BYTES_NONE);
    } else {
        begin_sasl(s, mechanism);
        if (initial.at) {
            take_response(s, initial, true);
        } else {
            struct buf challenge = {0};
            sasl_server_begin(s->sasl, &challenge);
            send_challenge(s, buf_bytes(&challenge));
            buf_done(&challenge);
        }
    }
}

void server_take_auth_line(struct smtp_server *s, enum smtp_lex lex, struct bytes line)
{
    if (lex == SMTP_LEX_TOO_LONG)
        end_auth(s, SMTP_REPLY_AUTH_TOO_LONG, BYTES_NONE);
    else if (lex == SMTP_LEX_BAD)
        end_auth(s, SMTP_REPLY_AUTH_SYNTAX, BYTES_NONE);
    else if (bytes_eq(line, BYTES("*")))
        end_auth(s, SMTP_REPLY_AUTH_CANCELLED, BYTES_NONE);
    else
        take_response(s, line, false);
}

// ---- answers

void server_answer_auth(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (!smtp_reply_is_ok(id)) {
        end_auth(s, id, slot);
    } else if (sasl_is_scram(s->sasl->mechanism)) { // which is not over before it has our proof
        CHECK(s->proven);
        struct buf challenge = {0};
        enum sasl_server_step step = sasl_server_prove(s->sasl, &challenge);
        follow_sasl(s, step, buf_bytes(&challenge));
        buf_done(&challenge);
    } else {
        admit(s, id, slot);
    }
}

void smtp_server_answer_scram(struct smtp_server *s, const struct sasl_scram_key *key)
{
    if (s->state == ST_CLOSED)
        return;
    CHECK(s->awaiting == AWAIT_SCRAM);
    s->awaiting = AWAIT_NOTHING;
    struct sasl_scram_key fake;
    struct buf challenge = {0};
    sasl_scram_key_fake(s->config->scram_secret, buf_bytes(&s->sasl->login), &fake);
    enum sasl_server_step step =
        sasl_server_key(s->sasl, key ? key : &fake, key != NULL, &challenge);
    follow_sasl(s, step, buf_bytes(&challenge));
    buf_done(&challenge);
}
