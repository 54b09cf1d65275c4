// SPDX-License-Identifier: MIT
//
// smtp_server - the receiving side of one SMTP session
//
// How it works: three levels. smtp_lexer cuts lines and smtp_content decodes content; smtp_command
// checks arguments; here one table says which command may come when (`commands`), and one which
// state may follow which (`next_states`). feed() takes input step by step until it has none or must
// wait: for a decision
// (`awaiting`), for the owner to resume, for TLS, or for output to drain.
//
// A transaction is `open` from an accepted MAIL to its end; end_transaction() is the one way out of
// it but for on_body_end, so every failure leaves it either as it was or wholly forgotten.

#include "smtp/smtp_server.h"

#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_encode.h"
#include "smtp/smtp_command.h"
#include "smtp/smtp_content.h"
#include "smtp/smtp_lexer.h"

#define MESSAGE_SIZE_DEFAULT 52428800
#define RECIPIENTS_DEFAULT 1000
#define RECIPIENTS_OVERSHOOT 1000 // tries beyond it that are answered 452
#define ERRORS_DEFAULT 20
#define JUNK_DEFAULT 200
#define AUTH_FAILURES_DEFAULT 3
#define COMMAND_TIMEOUT_DEFAULT_MS 300000 // RFC 5321 4.5.3.2.7
#define UNPRODUCTIVE_DEFAULT_MS 1200000
#define DATA_RATE_DEFAULT 500
#define OVERRUN_MAX                                                                                \
    67108864 // content octets read and dropped beyond the limit, to answer at its end
#define NONCE_RANDOM_BYTES 18
#define OUTPUT_KEPT_MAX 1024 // bytes of buffer an idle session keeps

enum state {
    ST_NEW,    // no EHLO yet, or forgotten by STARTTLS
    ST_READY,  // between transactions
    ST_MAIL,   // transaction open, no recipient yet
    ST_RCPT,   // at least one recipient
    ST_DATA,   // content until CRLF.CRLF
    ST_BDAT,   // the octets of a chunk
    ST_CHUNKS, // between chunks
    ST_SKIP,   // the octets of a refused chunk
    ST_AUTH,   // in a login exchange
    ST_TLS,    // the handshake comes
    ST_CLOSED,
};

#define S(state) (1u << (state))
static const uint16_t next_states[] = {
    [ST_NEW] = S(ST_NEW) | S(ST_READY) | S(ST_SKIP) | S(ST_CLOSED),
    [ST_READY] = S(ST_READY) | S(ST_MAIL) | S(ST_AUTH) | S(ST_TLS) | S(ST_SKIP) | S(ST_CLOSED),
    [ST_MAIL] = S(ST_RCPT) | S(ST_READY) | S(ST_SKIP) | S(ST_CLOSED),
    [ST_RCPT] = S(ST_RCPT) | S(ST_DATA) | S(ST_BDAT) | S(ST_READY) | S(ST_SKIP) | S(ST_CLOSED),
    [ST_DATA] = S(ST_READY) | S(ST_CLOSED),
    [ST_BDAT] = S(ST_CHUNKS) | S(ST_READY) | S(ST_CLOSED),
    [ST_CHUNKS] = S(ST_BDAT) | S(ST_READY) | S(ST_CLOSED),
    [ST_SKIP] = S(ST_NEW) | S(ST_READY) | S(ST_MAIL) | S(ST_CLOSED),
    [ST_AUTH] = S(ST_READY) | S(ST_CLOSED),
    [ST_TLS] = S(ST_NEW) | S(ST_CLOSED),
    [ST_CLOSED] = S(ST_CLOSED),
};

enum awaiting {
    AWAIT_NOTHING,
    AWAIT_AUTH,
    AWAIT_SCRAM,
    AWAIT_MAIL,
    AWAIT_RCPT,
    AWAIT_DATA,
    AWAIT_END
};

struct smtp_server {
    const struct smtp_server_config *config;
    const struct smtp_server_handlers *handlers;
    void *ctx;
    struct buf out;
    struct buf held;          // the reply to a refused chunk, sent when its octets are gone
    char *helo;               // owned
    struct sasl_server *sasl; // owned; only in ST_AUTH
    struct smtp_lexer lexer;
    struct smtp_content content;
    uint64_t chunk_left;
    uint64_t chunk_size;
    uint64_t content_octets; // on the wire, for the data rate
    struct mono now, waiting_since, content_since, progress_at;
    struct mono blocked_since; // 0: not blocked
    uint32_t rcpts, rcpts_tried, errors, junk, auth_failures;
    enum state state, state_after_skip;
    enum awaiting awaiting;
    bool tls, trusted, extended, authenticated, proven, asking_auth;
    bool open; // on_mail was accepted, the transaction has not ended
    bool utf8; // ... with SMTPUTF8
    bool chunked, chunk_last;
    bool paused, stopping;
};

_Static_assert(sizeof(struct smtp_server) < 768, "an idle session is small");

static uint64_t or_default(uint64_t value, uint64_t standard)
{
    return value ? value : standard;
}

static uint64_t size_max(const struct smtp_server *s)
{
    return or_default(s->config->message_size_max, MESSAGE_SIZE_DEFAULT);
}

static void go(struct smtp_server *s, enum state to)
{
    CHECK(next_states[s->state] & S(to));
    s->state = to;
}

static void reply(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    smtp_reply_format(&s->out, id, slot);
}

static void reply_number(struct smtp_server *s, enum smtp_reply_id id, uint64_t number)
{
    struct buf text = {0};
    buf_add_u64(&text, number);
    reply(s, id, buf_bytes(&text));
    buf_done(&text);
}

// ---- the ends: of a login exchange, of a transaction, of the session

static void end_sasl(struct smtp_server *s)
{
    if (!s->sasl || s->asking_auth) // the handler still reads the login in it
        return;
    sasl_server_done(s->sasl);
    free(s->sasl);
    s->sasl = NULL;
}

static void end_transaction(struct smtp_server *s, enum smtp_reset why)
{
    s->rcpts = s->rcpts_tried = 0;
    s->utf8 = s->chunked = false;
    if (!s->open)
        return;
    s->open = false;
    if (s->handlers->on_reset)
        s->handlers->on_reset(s->ctx, why);
}

static void end_session(struct smtp_server *s)
{
    if (s->state == ST_CLOSED)
        return;
    go(s, ST_CLOSED);
    s->awaiting = AWAIT_NOTHING;
    s->paused = false;
    end_sasl(s);
    end_transaction(s, SMTP_RESET_CLOSED);
}

void smtp_server_close(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (s->state == ST_CLOSED)
        return;
    if (id != SMTP_REPLY_NONE)
        reply(s, id, slot);
    end_session(s);
}

// A refusal by the session itself: one too many, and the client is sent away.
static void refuse(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (++s->errors >= or_default(s->config->errors_max, ERRORS_DEFAULT))
        smtp_server_close(s, SMTP_REPLY_TOO_MANY_ERRORS, BYTES_NONE);
    else
        reply(s, id, slot);
}

// A stop that waited for the transaction's end.
static void settle(struct smtp_server *s)
{
    if (s->stopping && s->state != ST_CLOSED && !s->open && !s->awaiting && s->state <= ST_READY)
        smtp_server_close(s, SMTP_REPLY_SHUTDOWN, BYTES_NONE);
}

// ---- commands

static bool run_hello(struct smtp_server *s, struct bytes args, bool extended)
{
    struct bytes name;
    enum smtp_reply_id bad = smtp_command_hello(args, &name);
    if (bad) {
        refuse(s, bad, BYTES_NONE);
        return false;
    }
    end_transaction(s, SMTP_RESET_HELLO); // RFC 5321 4.1.4
    free(s->helo);
    s->helo = mem_new(name.len + 1);
    memcpy(s->helo, name.at, name.len);
    s->extended = extended;
    go(s, ST_READY);
    if (s->handlers->on_hello)
        s->handlers->on_hello(s->ctx, name, extended);
    return s->state == ST_READY;
}

static void run_helo(struct smtp_server *s, struct bytes args)
{
    if (run_hello(s, args, false))
        reply(s, SMTP_REPLY_HELO, s->config->hostname);
}

static bool may_log_in(const struct smtp_server *s)
{
    return s->config->auth != SMTP_AUTH_NONE && (s->tls || s->trusted);
}

// RFC 5321 4.1.1.1: the last line has a blank, the others a hyphen.
static void add_keyword(struct smtp_server *s, const char *text, bool offered)
{
    if (offered)
        buf_printf(&s->out, "250-%s\r\n", text);
}

static void run_ehlo(struct smtp_server *s, struct bytes args)
{
    if (!run_hello(s, args, true))
        return;
    const struct smtp_server_config *c = s->config;
    buf_printf(&s->out, "250-%.*s\r\n", BYTES_FMT(c->hostname));
    add_keyword(s, "PIPELINING", !c->no_pipelining);
    buf_printf(&s->out, "250-SIZE %llu\r\n", (unsigned long long)size_max(s));
    add_keyword(s, "8BITMIME", true);
    add_keyword(s, "SMTPUTF8", !c->no_smtputf8);
    add_keyword(s, "DSN", !c->no_dsn);
    add_keyword(s, "CHUNKING", !c->no_chunking);
    add_keyword(s, "STARTTLS", c->starttls && !s->tls);
    add_keyword(s, "AUTH SCRAM-SHA-256 PLAIN LOGIN", may_log_in(s));
    buf_add_cstr(&s->out, "250 ENHANCEDSTATUSCODES\r\n");
}

static struct smtp_offer offer_of(const struct smtp_server *s)
{
    return (struct smtp_offer){.dsn = !s->config->no_dsn, .smtputf8 = !s->config->no_smtputf8};
}

static void run_mail(struct smtp_server *s, struct bytes args)
{
    if (s->config->auth == SMTP_AUTH_REQUIRED && !s->authenticated && !s->trusted) {
        refuse(s, SMTP_REPLY_AUTH_REQUIRED, BYTES_NONE);
        return;
    }
    struct smtp_mail mail;
    struct bytes slot;
    enum smtp_reply_id bad = smtp_command_mail(args, offer_of(s), &mail, &slot);
    if (bad) {
        refuse(s, bad, slot);
    } else if (mail.size > size_max(s)) { // RFC 1870 section 6.1
        s->errors++;
        reply_number(s, SMTP_REPLY_TOO_LARGE, size_max(s));
    } else {
        s->utf8 = mail.smtputf8;
        s->awaiting = AWAIT_MAIL;
        s->handlers->on_mail(s->ctx, &mail);
    }
}

static void run_rcpt(struct smtp_server *s, struct bytes args)
{
    struct smtp_rcpt rcpt;
    struct bytes slot;
    uint64_t max = or_default(s->config->recipients_max, RECIPIENTS_DEFAULT);
    if (++s->rcpts_tried > max + RECIPIENTS_OVERSHOOT) {
        smtp_server_close(s, SMTP_REPLY_TOO_MANY_ERRORS, BYTES_NONE);
        return;
    }
    enum smtp_reply_id bad = smtp_command_rcpt(args, offer_of(s), s->utf8, &rcpt, &slot);
    if (bad) {
        refuse(s, bad, slot);
    } else if (s->rcpts >= max) { // RFC 5321 4.5.3.1.10
        reply_number(s, SMTP_REPLY_TOO_MANY_RECIPIENTS, max);
    } else {
        s->awaiting = AWAIT_RCPT;
        s->handlers->on_rcpt(s->ctx, &rcpt);
    }
}

static void emit_content(void *ctx, struct bytes piece)
{
    struct smtp_server *s = ctx;
    if (s->state != ST_CLOSED) // by on_body itself
        s->handlers->on_body(s->ctx, piece);
}

static void begin_content(struct smtp_server *s, bool chunked)
{
    smtp_content_init(&s->content, !chunked, size_max(s), s->config->text_line_max, emit_content,
                      s);
    s->chunked = chunked;
    s->content_octets = 0;
    s->content_since = s->now;
    s->awaiting = AWAIT_DATA;
    s->handlers->on_data(s->ctx, chunked);
}

static void run_data(struct smtp_server *s, struct bytes args)
{
    begin_content(s, false);
}

static void end_chunk(struct smtp_server *s);

// The chunk's octets are read and dropped, then this reply is given (RFC 3030 section 2).
static void refuse_chunk(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot,
                         enum state after)
{
    buf_clear(&s->held);
    if (++s->errors >= or_default(s->config->errors_max, ERRORS_DEFAULT)) {
        smtp_server_close(s, SMTP_REPLY_TOO_MANY_ERRORS, BYTES_NONE);
        return;
    }
    smtp_reply_format(&s->held, id, slot);
    s->state_after_skip = after;
    s->content_octets = 0;
    s->content_since = s->now;
    go(s, ST_SKIP);
    if (s->chunk_left == 0)
        end_chunk(s);
}

// Reads the chunk's size even of a BDAT that is refused; without it the stream makes no sense any
// more.
static bool take_chunk_size(struct smtp_server *s, struct bytes args)
{
    enum smtp_reply_id bad = smtp_command_bdat(args, &s->chunk_size, &s->chunk_last);
    uint64_t so_far = s->state == ST_CHUNKS ? s->content.size : 0;
    if (bad)
        smtp_server_close(s, bad, BYTES_NONE);
    else if (s->chunk_size > size_max(s) + OVERRUN_MAX - so_far) {
        reply_number(s, SMTP_REPLY_TOO_LARGE_CLOSE, size_max(s));
        end_session(s);
    }
    s->chunk_left = s->chunk_size;
    return s->state != ST_CLOSED;
}

static void run_bdat(struct smtp_server *s, struct bytes args)
{
    if (!take_chunk_size(s, args))
        return;
    if (s->state == ST_RCPT) {
        begin_content(s, true);
        return;
    }
    go(s, ST_BDAT);
    if (s->chunk_left == 0)
        end_chunk(s);
}

static void run_rset(struct smtp_server *s, struct bytes args)
{
    end_transaction(s, SMTP_RESET_RSET);
    if (s->state != ST_NEW)
        go(s, ST_READY);
    reply(s, SMTP_REPLY_RSET, BYTES_NONE);
}

static void run_noop(struct smtp_server *s, struct bytes args)
{
    reply(s, SMTP_REPLY_NOOP, BYTES_NONE);
}

static void run_vrfy(struct smtp_server *s, struct bytes args)
{
    reply(s, SMTP_REPLY_VRFY, BYTES_NONE);
}

static void run_help(struct smtp_server *s, struct bytes args)
{
    reply(s, SMTP_REPLY_HELP, BYTES_NONE);
}

static void run_quit(struct smtp_server *s, struct bytes args)
{
    smtp_server_close(s, SMTP_REPLY_QUIT, BYTES_NONE);
}

static void run_not_implemented(struct smtp_server *s, struct bytes args)
{
    refuse(s, SMTP_REPLY_NOT_IMPLEMENTED, BYTES_NONE);
}

static void run_starttls(struct smtp_server *s, struct bytes args)
{
    if (s->tls) {
        refuse(s, SMTP_REPLY_TLS_ACTIVE, BYTES_NONE);
    } else if (!s->config->starttls) {
        refuse(s, SMTP_REPLY_NOT_IMPLEMENTED, BYTES_NONE);
    } else {
        reply(s, SMTP_REPLY_STARTTLS, BYTES_NONE);
        go(s, ST_TLS);
    }
}

// ---- logins (RFC 4954)

static void end_auth(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    end_sasl(s);
    go(s, ST_READY);
    if (id == SMTP_REPLY_AUTH_BAD)
        s->auth_failures++;
    if (smtp_reply_is_ok(id))
        reply(s, id, slot);
    else
        refuse(s, id, slot);
}

static void ask_auth(struct smtp_server *s, enum smtp_auth_kind kind, bool proven)
{
    struct smtp_auth auth = {.kind = kind,
                             .mechanism = sasl_mechanism_name(s->sasl->mechanism),
                             .login = buf_bytes(&s->sasl->login),
                             .proven = proven};
    if (kind == SMTP_AUTH_PASSWORD)
        auth.password = buf_bytes(&s->sasl->password);
    s->proven = kind == SMTP_AUTH_PASSWORD || proven;
    s->awaiting = kind == SMTP_AUTH_SCRAM ? AWAIT_SCRAM : AWAIT_AUTH;
    s->asking_auth = true;
    s->handlers->on_auth(s->ctx, &auth);
    s->asking_auth = false;
    if (s->state != ST_AUTH)
        end_sasl(s);
}

static void send_challenge(struct smtp_server *s, struct bytes challenge)
{
    struct buf text = {0};
    mail_base64_encode(challenge, &text);
    reply(s, SMTP_REPLY_AUTH_CHALLENGE, buf_bytes(&text));
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
    case SASL_FIND_KEY:
        ask_auth(s, SMTP_AUTH_SCRAM, false);
        break;
    case SASL_PROVEN:
        ask_auth(s, SMTP_AUTH_PROOF, true);
        break;
    case SASL_WRONG:
        if (s->sasl->mechanism == SASL_SCRAM_SHA_256)
            ask_auth(s, SMTP_AUTH_PROOF, false);
        else
            end_auth(s, SMTP_REPLY_AUTH_BAD, BYTES_NONE);
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
    if (mechanism == SASL_SCRAM_SHA_256) {
        CHECK(s->config->random);
        s->config->random(s->config->random_ctx, raw, sizeof raw);
    }
    mail_base64_encode(bytes_of(raw, sizeof raw), &nonce);
    s->sasl = mem_new(sizeof *s->sasl);
    sasl_server_init(s->sasl, mechanism, buf_bytes(&nonce));
    buf_done(&nonce);
    go(s, ST_AUTH);
}

static enum smtp_reply_id auth_refusal(const struct smtp_server *s)
{
    if (s->authenticated)
        return SMTP_REPLY_AUTH_TWICE;
    if (s->config->auth == SMTP_AUTH_NONE)
        return SMTP_REPLY_AUTH_NOT_OFFERED;
    return may_log_in(s) ? SMTP_REPLY_NONE : SMTP_REPLY_AUTH_TLS_FIRST;
}

static void run_auth(struct smtp_server *s, struct bytes args)
{
    enum sasl_mechanism mechanism = SASL_PLAIN;
    struct bytes initial;
    enum smtp_reply_id bad = auth_refusal(s);
    if (!bad)
        bad = smtp_command_auth(args, &mechanism, &initial);
    if (bad) {
        refuse(s, bad, BYTES("AUTH mechanism [response]"));
    } else if (s->auth_failures >=
               or_default(s->config->auth_failures_max, AUTH_FAILURES_DEFAULT)) {
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

// ---- which command may come when

enum {
    NEEDS_HELLO = 1,
    NEEDS_OUTSIDE = 2, // no transaction open
    NEEDS_MAIL = 4,
    NEEDS_RCPT = 8,
    NOT_IN_CHUNKS = 16,
    TAKES_NOTHING = 32, // no arguments
    IS_JUNK = 64,       // counts until a message is accepted
    HAS_OCTETS = 128,   // a chunk follows, whatever the answer
};

struct command {
    const char *name;
    unsigned flags;
    enum smtp_reply_id inside; // the reply to NEEDS_OUTSIDE
    void (*run)(struct smtp_server *s, struct bytes args);
};

static const struct command commands[] = {
    {"MAIL", NEEDS_HELLO | NEEDS_OUTSIDE, SMTP_REPLY_NESTED_MAIL, run_mail},
    {"RCPT", NEEDS_HELLO | NEEDS_MAIL | NOT_IN_CHUNKS, 0, run_rcpt},
    {"DATA", NEEDS_HELLO | NEEDS_MAIL | NOT_IN_CHUNKS | NEEDS_RCPT | TAKES_NOTHING, 0, run_data},
    {"BDAT", NEEDS_HELLO | NEEDS_MAIL | NEEDS_RCPT | HAS_OCTETS, 0, run_bdat},
    {"EHLO", IS_JUNK, 0, run_ehlo},
    {"HELO", IS_JUNK, 0, run_helo},
    {"RSET", IS_JUNK, 0, run_rset},
    {"NOOP", IS_JUNK, 0, run_noop},
    {"VRFY", IS_JUNK, 0, run_vrfy},
    {"HELP", IS_JUNK, 0, run_help},
    {"QUIT", 0, 0, run_quit},
    {"STARTTLS", NEEDS_HELLO | NEEDS_OUTSIDE | TAKES_NOTHING, SMTP_REPLY_TLS_IN_TRANSACTION,
     run_starttls},
    {"AUTH", NEEDS_HELLO | NEEDS_OUTSIDE, SMTP_REPLY_AUTH_IN_TRANSACTION, run_auth},
    {"EXPN", 0, 0, run_not_implemented},
    {"TURN", 0, 0, run_not_implemented},
    {"ETRN", 0, 0, run_not_implemented},
    {"SEND", 0, 0, run_not_implemented},
    {"SOML", 0, 0, run_not_implemented},
    {"SAML", 0, 0, run_not_implemented},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

// NONE, or why this command may not come now.
static enum smtp_reply_id out_of_place(const struct smtp_server *s, const struct command *c,
                                       struct bytes args, struct bytes *out_slot)
{
    *out_slot = BYTES_NONE;
    if ((c->flags & NEEDS_HELLO) && s->state == ST_NEW) {
        *out_slot = BYTES("EHLO");
        return SMTP_REPLY_SEQUENCE;
    }
    if ((c->flags & NEEDS_OUTSIDE) && s->open)
        return c->inside;
    if ((c->flags & NEEDS_MAIL) && !s->open) {
        *out_slot = BYTES("MAIL FROM");
        return SMTP_REPLY_SEQUENCE;
    }
    if ((c->flags & NOT_IN_CHUNKS) && s->state == ST_CHUNKS)
        return SMTP_REPLY_BDAT_MIXED;
    if ((c->flags & NEEDS_RCPT) && s->rcpts == 0) {
        *out_slot = BYTES("RCPT TO");
        return s->rcpts_tried ? SMTP_REPLY_NO_RECIPIENTS : SMTP_REPLY_SEQUENCE;
    }
    if ((c->flags & TAKES_NOTHING) && args.len > 0) {
        *out_slot = bytes_cstr(c->name);
        return SMTP_REPLY_ARGUMENTS;
    }
    return SMTP_REPLY_NONE;
}

static void run_command(struct smtp_server *s, struct bytes line)
{
    struct smtp_verb verb;
    smtp_command_split(line, &verb);
    const struct command *c = find_command(verb.name);
    if (c && s->config->no_chunking && (c->flags & HAS_OCTETS))
        c = NULL;
    if (!c) {
        if (smtp_command_is_foreign(&verb)) // a browser made to send us HTTP
            smtp_server_close(s, SMTP_REPLY_NOT_SMTP, BYTES_NONE);
        else
            refuse(s, SMTP_REPLY_UNKNOWN_COMMAND, BYTES_NONE);
        return;
    }
    if ((c->flags & IS_JUNK) && ++s->junk > or_default(s->config->junk_max, JUNK_DEFAULT)) {
        smtp_server_close(s, SMTP_REPLY_TOO_MANY_JUNK, BYTES_NONE);
        return;
    }
    struct bytes slot;
    enum smtp_reply_id bad = out_of_place(s, c, verb.args, &slot);
    if (!bad)
        c->run(s, verb.args);
    else if (!(c->flags & HAS_OCTETS))
        refuse(s, bad, slot);
    else if (take_chunk_size(s, verb.args))
        refuse_chunk(s, bad, slot, s->state);
}

// ---- input

static size_t line_max(const struct smtp_server *s, struct bytes in)
{
    bool auth = s->state == ST_AUTH || bytes_starts_nocase(in, BYTES("AUTH "));
    return auth ? SMTP_SERVER_AUTH_LINE_MAX : SMTP_SERVER_LINE_MAX;
}

static void take_auth_line(struct smtp_server *s, enum smtp_lex lex, struct bytes line)
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

static size_t feed_line(struct smtp_server *s, struct bytes in)
{
    if (s->state == ST_NEW && !s->lexer.scanned && in.at[0] == 0x16) { // a TLS record: ClientHello
        smtp_server_close(s, SMTP_REPLY_TLS_ON_PLAIN_PORT, BYTES_NONE);
        return in.len;
    }
    struct bytes line;
    size_t used;
    enum smtp_lex lex = smtp_lexer_feed(&s->lexer, in, line_max(s, in), &line, &used);
    if (lex == SMTP_LEX_MORE)
        return used;
    s->waiting_since = s->now;
    if (s->state == ST_AUTH)
        take_auth_line(s, lex, line);
    else if (lex == SMTP_LEX_DONE)
        run_command(s, line);
    else
        refuse(s, lex == SMTP_LEX_BAD ? SMTP_REPLY_LINE_SYNTAX : SMTP_REPLY_LINE_TOO_LONG,
               BYTES_NONE);
    return used;
}

static enum smtp_reply_id fault_reply(enum smtp_content_fault fault)
{
    static const enum smtp_reply_id replies[] = {
        [SMTP_CONTENT_LINE_TOO_LONG] = SMTP_REPLY_TEXT_LINE_TOO_LONG,
        [SMTP_CONTENT_NUL_IN_HEADER] = SMTP_REPLY_NUL_IN_HEADER,
        [SMTP_CONTENT_TOO_LARGE] = SMTP_REPLY_TOO_LARGE,
        [SMTP_CONTENT_BARE_LF] = SMTP_REPLY_BARE_LF,
        [SMTP_CONTENT_BARE_CR] = SMTP_REPLY_BARE_CR,
    };
    return replies[fault];
}

static void refuse_content(struct smtp_server *s)
{
    end_transaction(s, SMTP_RESET_REFUSED);
    go(s, ST_READY);
    s->errors++;
    uint64_t limit =
        s->content.fault == SMTP_CONTENT_LINE_TOO_LONG ? s->content.line_max : s->content.size_max;
    reply_number(s, fault_reply(s->content.fault), limit);
    settle(s);
}

static void end_content(struct smtp_server *s)
{
    if (s->content.fault) {
        refuse_content(s);
        return;
    }
    struct smtp_content_facts facts = {.size = s->content.size,
                                       .chunked = s->chunked,
                                       .ends_in_crlf = s->content.ends_in_crlf,
                                       .has_8bit = s->content.has_8bit,
                                       .has_nul = s->content.has_nul};
    s->awaiting = AWAIT_END;
    s->handlers->on_body_end(s->ctx, &facts);
}

// A fault ends the transaction at once, so that nobody keeps the content; the reply comes at its
// end.
static void watch_content(struct smtp_server *s)
{
    if (s->content.fault)
        end_transaction(s, SMTP_RESET_REFUSED);
    if (s->content.size > size_max(s) + OVERRUN_MAX) {
        reply_number(s, SMTP_REPLY_TOO_LARGE_CLOSE, size_max(s));
        end_session(s);
    }
}

static size_t feed_data(struct smtp_server *s, struct bytes in)
{
    bool end;
    s->waiting_since = s->now;
    size_t used = smtp_content_feed(&s->content, in, &end);
    if (s->state == ST_CLOSED) // by a handler
        return used;
    s->content_octets += used;
    watch_content(s);
    if (end && s->state == ST_DATA)
        end_content(s);
    return used;
}

static void end_chunk(struct smtp_server *s)
{
    if (s->state == ST_SKIP) {
        buf_add(&s->out, buf_bytes(&s->held));
        buf_done(&s->held);
        go(s, s->state_after_skip);
        settle(s);
        return;
    }
    if (s->chunk_last)
        smtp_content_end(&s->content);
    if (s->chunk_last || s->content.fault) {
        end_content(s);
        return;
    }
    go(s, ST_CHUNKS);
    reply_number(s, SMTP_REPLY_CHUNK, s->chunk_size);
}

static size_t feed_chunk(struct smtp_server *s, struct bytes in)
{
    struct bytes piece = in.len > s->chunk_left ? bytes_first(in, (size_t)s->chunk_left) : in;
    bool end;
    s->waiting_since = s->now;
    size_t used = s->state == ST_BDAT ? smtp_content_feed(&s->content, piece, &end) : piece.len;
    if (s->state == ST_CLOSED)
        return used;
    s->chunk_left -= used;
    s->content_octets += used;
    if (s->state == ST_BDAT)
        watch_content(s);
    if (s->chunk_left == 0 && s->state != ST_CLOSED)
        end_chunk(s);
    return used;
}

static bool in_content(const struct smtp_server *s)
{
    return s->state == ST_DATA || s->state == ST_BDAT || s->state == ST_SKIP;
}

static bool is_blocked(const struct smtp_server *s)
{
    return s->awaiting || s->paused || s->out.len > SMTP_SERVER_OUTPUT_HIGH;
}

// Time that passed while we were not ready to listen is not the client's.
static void forgive_wait(struct smtp_server *s)
{
    if (s->blocked_since.us) {
        int64_t us = s->now.us - s->blocked_since.us;
        s->waiting_since.us += us;
        s->content_since.us += us;
        s->progress_at.us += us;
        s->blocked_since.us = 0;
    }
}

size_t smtp_server_feed(struct smtp_server *s, struct bytes in, struct mono now)
{
    size_t total = 0;
    s->now = now;
    if (s->out.len == 0 && s->out.cap > OUTPUT_KEPT_MAX)
        buf_done(&s->out);
    if (!is_blocked(s))
        forgive_wait(s);
    while (in.len > 0 && !is_blocked(s)) {
        if (s->state == ST_CLOSED || s->state == ST_TLS) {
            total += in.len; // CVE-2011-0411: what was pipelined behind STARTTLS is forgotten
            break;
        }
        size_t used = s->state == ST_DATA ? feed_data(s, in)
                      : in_content(s)     ? feed_chunk(s, in)
                                          : feed_line(s, in);
        if (used == 0)
            break;
        in = bytes_skip(in, used);
        total += used;
    }
    settle(s);
    if (is_blocked(s) && !s->blocked_since.us)
        s->blocked_since = now;
    return total;
}

// ---- answers

static void answer_mail(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (smtp_reply_is_ok(id)) {
        s->open = true;
        s->progress_at = s->now;
        go(s, ST_MAIL);
        reply(s, id, slot);
        return;
    }
    s->utf8 = false;
    refuse(s, id, slot);
}

static void answer_rcpt(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (smtp_reply_is_ok(id)) {
        s->rcpts++;
        s->progress_at = s->now;
        go(s, ST_RCPT);
        reply(s, id, slot);
    } else if (s->authenticated || s->trusted) {
        reply(s, id, slot); // who logged in may have a list with many that are gone
    } else {
        refuse(s, id, slot);
    }
}

static void answer_data(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (smtp_reply_is_ok(id)) {
        go(s, s->chunked ? ST_BDAT : ST_DATA);
        if (!s->chunked)
            reply(s, id, slot);
        else if (s->chunk_left == 0)
            end_chunk(s);
        return;
    }
    bool chunked = s->chunked;
    end_transaction(s, SMTP_RESET_REFUSED);
    if (chunked) {
        refuse_chunk(s, id, slot, ST_READY);
        return;
    }
    go(s, ST_READY);
    refuse(s, id, slot);
}

static void answer_end(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    s->open = false; // the owner has the message or has dropped it: no on_reset
    end_transaction(s, SMTP_RESET_REFUSED);
    go(s, ST_READY);
    s->progress_at = s->now;
    if (smtp_reply_is_ok(id))
        s->errors = s->junk = 0;
    reply(s, id, slot);
}

static void answer_auth(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    CHECK(!smtp_reply_is_ok(id) || s->proven);
    s->authenticated = smtp_reply_is_ok(id);
    end_auth(s, id, slot);
}

void smtp_server_answer(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    enum awaiting what = s->awaiting;
    if (s->state == ST_CLOSED) // a decision that came too late
        return;
    CHECK(what != AWAIT_NOTHING);
    s->awaiting = AWAIT_NOTHING;
    if (smtp_reply_row(id)->code == 421) {
        if (what == AWAIT_END)
            s->open = false;
        smtp_server_close(s, id, slot);
        return;
    }
    switch (what) {
    case AWAIT_MAIL:
        answer_mail(s, id, slot);
        break;
    case AWAIT_RCPT:
        answer_rcpt(s, id, slot);
        break;
    case AWAIT_DATA:
        answer_data(s, id, slot);
        break;
    case AWAIT_END:
        answer_end(s, id, slot);
        break;
    case AWAIT_SCRAM:
        CHECK(!smtp_reply_is_ok(id));
        answer_auth(s, id, slot);
        break;
    case AWAIT_AUTH:
        answer_auth(s, id, slot);
        break;
    case AWAIT_NOTHING:
        break;
    }
    settle(s);
}

void smtp_server_answer_scram(struct smtp_server *s, const struct sasl_scram_key *key)
{
    if (s->state == ST_CLOSED)
        return;
    CHECK(s->awaiting == AWAIT_SCRAM);
    s->awaiting = AWAIT_NOTHING;
    struct sasl_scram_key fake;
    struct buf challenge = {0};
    uint32_t iterations = (uint32_t)or_default(s->config->scram_iterations, SASL_SCRAM_ITERATIONS);
    sasl_scram_key_fake(s->config->scram_secret, buf_bytes(&s->sasl->login), iterations, &fake);
    enum sasl_server_step step =
        sasl_server_key(s->sasl, key ? key : &fake, key != NULL, &challenge);
    follow_sasl(s, step, buf_bytes(&challenge));
    buf_done(&challenge);
}

// ---- the session's life

struct smtp_server *smtp_server_new(const struct smtp_server_config *config,
                                    struct smtp_server_start start,
                                    const struct smtp_server_handlers *handlers, void *ctx,
                                    struct mono now)
{
    struct smtp_server *s = mem_new(sizeof *s);
    s->config = config;
    s->handlers = handlers;
    s->ctx = ctx;
    s->tls = start.tls;
    s->trusted = start.trusted;
    s->now = s->waiting_since = s->progress_at = now;
    return s;
}

void smtp_server_free(struct smtp_server *s)
{
    if (!s)
        return;
    end_session(s);
    buf_done(&s->out);
    buf_done(&s->held);
    free(s->helo);
    free(s);
}

void smtp_server_greet(struct smtp_server *s, struct mono now)
{
    struct bytes words = s->config->greeting.len ? s->config->greeting : BYTES("ESMTP posthaste");
    struct buf text = {0};
    s->now = s->waiting_since = s->progress_at = now;
    buf_add(&text, s->config->hostname);
    buf_add_byte(&text, ' ');
    buf_add(&text, words);
    reply(s, SMTP_REPLY_GREETING, buf_bytes(&text));
    buf_done(&text);
}

struct buf *smtp_server_output(struct smtp_server *s)
{
    return &s->out;
}

enum smtp_server_wants smtp_server_wants(const struct smtp_server *s)
{
    if (s->state == ST_CLOSED)
        return SMTP_SERVER_CLOSE;
    if (s->awaiting || s->paused)
        return SMTP_SERVER_DECISION;
    if (s->state == ST_TLS)
        return SMTP_SERVER_TLS;
    return s->out.len > SMTP_SERVER_OUTPUT_HIGH ? SMTP_SERVER_DRAIN : SMTP_SERVER_INPUT;
}

void smtp_server_pause(struct smtp_server *s)
{
    s->paused = s->state != ST_CLOSED;
}

void smtp_server_resume(struct smtp_server *s)
{
    s->paused = false;
}

void smtp_server_tls_started(struct smtp_server *s, struct mono now)
{
    if (s->state == ST_CLOSED)
        return;
    go(s, ST_NEW);
    s->tls = true;
    s->authenticated = s->extended = false;
    s->lexer = (struct smtp_lexer){0};
    free(s->helo);
    s->helo = NULL;
    s->now = s->waiting_since = now;
}

struct mono smtp_server_deadline(const struct smtp_server *s)
{
    const struct smtp_server_config *c = s->config;
    if (s->state == ST_CLOSED || s->awaiting || s->paused || s->blocked_since.us)
        return MONO_NEVER;
    int64_t command_ms =
        (int64_t)or_default((uint64_t)c->command_timeout_ms, COMMAND_TIMEOUT_DEFAULT_MS);
    if (!in_content(s)) {
        int64_t idle = (int64_t)or_default((uint64_t)c->unproductive_ms, UNPRODUCTIVE_DEFAULT_MS);
        return mono_min(mono_add_ms(s->waiting_since, command_ms),
                        mono_add_ms(s->progress_at, idle));
    }
    int64_t data_ms = (int64_t)or_default((uint64_t)c->data_timeout_ms, COMMAND_TIMEOUT_DEFAULT_MS);
    uint64_t paid = s->content_octets * 1000 / or_default(c->data_rate_min, DATA_RATE_DEFAULT);
    return mono_min(mono_add_ms(s->waiting_since, data_ms),
                    mono_add_ms(s->content_since, command_ms + (int64_t)paid));
}

void smtp_server_tick(struct smtp_server *s, struct mono now)
{
    s->now = now;
    if (!mono_reached(smtp_server_deadline(s), now))
        return;
    if (s->state == ST_TLS)
        end_session(s);
    else
        smtp_server_close(s, in_content(s) ? SMTP_REPLY_TOO_SLOW : SMTP_REPLY_TIMEOUT, BYTES_NONE);
}

void smtp_server_hangup(struct smtp_server *s)
{
    end_session(s);
}

void smtp_server_shutdown(struct smtp_server *s)
{
    s->stopping = true;
    settle(s);
}

bool smtp_server_is_authenticated(const struct smtp_server *s)
{
    return s->authenticated;
}

bool smtp_server_is_extended(const struct smtp_server *s)
{
    return s->extended;
}

bool smtp_server_in_transaction(const struct smtp_server *s)
{
    return s->open;
}

struct bytes smtp_server_helo(const struct smtp_server *s)
{
    return bytes_cstr(s->helo);
}
