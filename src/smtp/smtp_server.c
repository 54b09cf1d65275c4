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
// A transaction is `open` from an accepted MAIL to its end; server_end_transaction() is the one way out of
// it but for on_body_end, so every failure leaves it either as it was or wholly forgotten.

#include <stdlib.h>

#include "base/check.h"
#include "smtp/smtp_command.h"
#include "smtp/smtp_server_private.h"

_Static_assert(sizeof(struct smtp_server) < 768, "an idle session is small");

#define S(state) (1u << (state))
static const uint16_t next_states[] = {
    [ST_NEW] = S(ST_NEW) | S(ST_READY) | S(ST_SKIP) | S(ST_CLOSED),
    [ST_READY] =
        S(ST_NEW) | S(ST_READY) | S(ST_MAIL) | S(ST_AUTH) | S(ST_TLS) | S(ST_SKIP) | S(ST_CLOSED),
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

void server_go(struct smtp_server *s, enum state to)
{
    CHECK(next_states[s->state] & S(to));
    s->state = to;
}

// ---- replies

void server_reply(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    server_note_answer(s, id, slot);
    smtp_reply_format(&s->out, id, slot);
}

void server_reply_number(struct smtp_server *s, enum smtp_reply_id id, uint64_t number)
{
    struct buf text = {0};
    buf_add_u64(&text, number);
    server_reply(s, id, buf_bytes(&text));
    buf_done(&text);
}

// ---- the transaction's command that is being answered

struct command {
    const char *name;
    unsigned flags;
    enum smtp_reply_id inside; // the reply to NEEDS_OUTSIDE
    void (*run)(struct smtp_server *s, struct bytes args);
};

static void forget_command(struct smtp_server *s)
{
    s->command = NULL;
    s->argument = BYTES_NONE;
    free(s->argument_kept);
    s->argument_kept = NULL;
}

void server_note_answer(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (!s->command || id == SMTP_REPLY_START_MAIL) // its content comes first
        return;
    const struct smtp_refusal refusal = {s->command->name, s->argument, id,
                                         strstr(smtp_reply_row(id)->text, "%s") ? slot
                                                                                : BYTES_NONE};
    if (!smtp_reply_is_ok(id) && s->handlers->on_refused)
        s->handlers->on_refused(s->ctx, &refusal);
    forget_command(s);
}

static char *copy_text(struct bytes text)
{
    char *copy = mem_new(text.len + 1);
    memcpy(copy, text.at, text.len);
    return copy;
}

void server_note_number(struct smtp_server *s, enum smtp_reply_id id, uint64_t number)
{
    struct buf text = {0};
    buf_add_u64(&text, number);
    server_note_answer(s, id, buf_bytes(&text));
    buf_done(&text);
}

// The line goes before the answer comes.
static void keep_argument(struct smtp_server *s)
{
    if (!s->command || !s->argument.len)
        return;
    s->argument_kept = copy_text(s->argument);
    s->argument = bytes_of(s->argument_kept, s->argument.len);
}

// ---- the ends: of a login exchange, of a transaction, of the session

void server_end_transaction(struct smtp_server *s, enum smtp_reset why)
{
    s->rcpts = s->rcpts_tried = 0;
    s->utf8 = s->chunked = s->binary = false;
    s->paused = false; // whoever asked for it may not resume what is over
    if (!s->open)
        return;
    s->open = false;
    if (s->handlers->on_reset)
        s->handlers->on_reset(s->ctx, why);
}

void server_end_session(struct smtp_server *s)
{
    if (s->state == ST_CLOSED)
        return;
    server_go(s, ST_CLOSED);
    s->awaiting = AWAIT_NOTHING;
    s->paused = false;
    forget_command(s);
    server_end_sasl(s);
    server_end_transaction(s, SMTP_RESET_CLOSED);
}

void smtp_server_close(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (s->state == ST_CLOSED)
        return;
    if (id != SMTP_REPLY_NONE)
        server_reply(s, id, slot);
    server_end_session(s);
}

void server_refuse(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    server_note_answer(s, id, slot); // also where the reply is that these were too many
    if (++s->errors >= server_limit(s->config->errors_max, ERRORS_DEFAULT))
        smtp_server_close(s, SMTP_REPLY_TOO_MANY_ERRORS, BYTES_NONE);
    else
        server_reply(s, id, slot);
}

void server_settle(struct smtp_server *s)
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
        server_refuse(s, bad, BYTES_NONE);
        return false;
    }
    server_end_transaction(s, SMTP_RESET_HELLO); // RFC 5321 4.1.4
    free(s->helo);
    s->helo = copy_text(name);
    s->extended = extended;
    server_go(s, ST_READY);
    if (s->handlers->on_hello)
        s->handlers->on_hello(s->ctx, name, extended);
    return s->state == ST_READY;
}

static void run_helo(struct smtp_server *s, struct bytes args)
{
    if (run_hello(s, args, false))
        server_reply(s, SMTP_REPLY_HELO, s->config->hostname);
}

// RFC 5321 4.1.1.1: the last line has a blank, the others a hyphen.
static void add_keyword(struct smtp_server *s, const char *text, bool offered)
{
    if (offered)
        buf_printf(&s->out, "250-%s\r\n", text);
}

// RFC 3030 section 3: only with CHUNKING.
static bool offers_binary(const struct smtp_server *s)
{
    return !s->config->no_chunking && !s->config->no_binarymime;
}

// RFC 9422: what this session is held to. There is no limit to the domains of recipients.
static void add_limits(struct smtp_server *s)
{
    uint64_t rcpts = server_limit(s->config->recipients_max, RECIPIENTS_DEFAULT);
    buf_printf(&s->out, "250-LIMITS RCPTMAX=%llu", (unsigned long long)rcpts);
    if (s->config->mails_max)
        buf_printf(&s->out, " MAILMAX=%u", s->config->mails_max);
    buf_add_cstr(&s->out, "\r\n");
}

static void add_logins(struct smtp_server *s)
{
    struct sasl_bindings bindings;
    buf_printf(&s->out, "250-AUTH %s%sSCRAM-SHA-256 PLAIN LOGIN\r\n",
               s->rights.external ? "EXTERNAL " : "",
               server_find_bindings(s, &bindings) ? "SCRAM-SHA-256-PLUS " : "");
}

static bool offers_scheduling(const struct smtp_server *s)
{
    const struct smtp_server_config *c = s->config;
    return c->scheduling && (s->authenticated || s->rights.trusted || c->scheduling_for_all ||
                             c->auth == SMTP_AUTH_REQUIRED);
}

static void add_scheduling(struct smtp_server *s)
{
    const struct smtp_server_config *c = s->config;
    struct civil until;
    wall_split(wall_add_ms(c->wall(), (int64_t)c->hold_max_s * 1000), &until);
    // RFC 4865 section 4: an interval in seconds and a moment
    buf_printf(&s->out, "250-FUTURERELEASE %u %04d-%02d-%02dT%02d:%02d:%02dZ\r\n", c->hold_max_s,
               until.year, until.month, until.day, until.hour, until.minute, until.second);
    buf_printf(&s->out, "250-DELIVERBY %u\r\n250-MT-PRIORITY\r\n", c->deliver_by_min_s);
}

static void run_ehlo(struct smtp_server *s, struct bytes args)
{
    if (!run_hello(s, args, true))
        return;
    const struct smtp_server_config *c = s->config;
    buf_printf(&s->out, "250-%.*s\r\n", BYTES_FMT(c->hostname));
    add_keyword(s, "PIPELINING", !c->no_pipelining);
    buf_printf(&s->out, "250-SIZE %llu\r\n", (unsigned long long)server_size_max(s));
    add_keyword(s, "8BITMIME", true);
    add_keyword(s, "SMTPUTF8", !c->no_smtputf8);
    add_keyword(s, "DSN", !c->no_dsn);
    add_keyword(s, "CHUNKING", !c->no_chunking);
    add_keyword(s, "BINARYMIME", offers_binary(s));
    add_limits(s);
    if (offers_scheduling(s))
        add_scheduling(s);
    add_keyword(s, "STARTTLS", c->starttls && !s->tls);
    if (server_may_log_in(s))
        add_logins(s);
    add_keyword(s, "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT",
                s->rights.xclient && !s->rights.xclient_login);
    add_keyword(s, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
                s->rights.xclient && s->rights.xclient_login);
    buf_add_cstr(&s->out, "250 ENHANCEDSTATUSCODES\r\n");
}

static struct smtp_offer offer_of(const struct smtp_server *s)
{
    return (struct smtp_offer){.dsn = !s->config->no_dsn,
                               .smtputf8 = !s->config->no_smtputf8,
                               .binarymime = offers_binary(s),
                               .scheduling = offers_scheduling(s)};
}

// What is asked of the queue, against what was offered; makes a moment of HOLDFOR. *out_limit fills the reply's slot.
static enum smtp_reply_id check_schedule(const struct smtp_server *s, struct smtp_mail *mail,
                                         uint64_t *out_limit)
{
    const struct smtp_server_config *c = s->config;
    int64_t hold_ms = 0;
    *out_limit = c->hold_max_s;
    if (mail->hold.len) {
        struct wall now = c->wall();
        if (mail->hold_is_for)
            mail->hold_until = wall_add_ms(now, (int64_t)mail->hold_for_s * 1000);
        if (mail->hold_for_s > c->hold_max_s ||
            wall_ms_between(now, mail->hold_until) > (int64_t)c->hold_max_s * 1000)
            return SMTP_REPLY_HOLD_TOO_LONG; // RFC 4865 section 4
        hold_ms = wall_ms_between(now, mail->hold_until);
    }
    *out_limit = c->deliver_by_min_s;
    if (mail->by_mode == BY_RETURN && mail->by_s < (int32_t)c->deliver_by_min_s)
        return SMTP_REPLY_BY_TOO_SHORT; // RFC 2852 section 4
    *out_limit = (uint64_t)hold_ms / 1000;
    bool before = mail->by_mode != BY_NONE && hold_ms > (int64_t)mail->by_s * 1000;
    return hold_ms > 0 && before ? SMTP_REPLY_BY_BEFORE_RELEASE : SMTP_REPLY_NONE; // RFC 4865 5.2.2
}

static void run_mail(struct smtp_server *s, struct bytes args)
{
    if (s->config->mails_max && ++s->mails > s->config->mails_max) {
        server_reply_number(s, SMTP_REPLY_TOO_MANY_MAILS, s->config->mails_max);
        server_end_session(s);
        return;
    }
    if (s->config->auth == SMTP_AUTH_REQUIRED && !s->authenticated && !s->rights.known) {
        server_refuse(s, SMTP_REPLY_AUTH_REQUIRED, BYTES_NONE);
        return;
    }
    struct smtp_mail mail;
    struct bytes slot;
    uint64_t limit;
    enum smtp_reply_id bad = smtp_command_mail(args, offer_of(s), &mail, &slot);
    if (bad) {
        server_refuse(s, bad, slot);
    } else if (mail.size > server_size_max(s)) { // RFC 1870 section 6.1
        s->errors++;
        server_reply_number(s, SMTP_REPLY_TOO_LARGE, server_size_max(s));
    } else if ((bad = check_schedule(s, &mail, &limit))) {
        s->errors++;
        server_reply_number(s, bad, limit);
    } else {
        s->utf8 = mail.smtputf8;
        s->binary = mail.body == BODY_BINARYMIME;
        s->awaiting = AWAIT_MAIL;
        s->handlers->on_mail(s->ctx, &mail);
    }
}

static void run_rcpt(struct smtp_server *s, struct bytes args)
{
    struct smtp_rcpt rcpt;
    struct bytes slot;
    uint64_t max = server_limit(s->config->recipients_max, RECIPIENTS_DEFAULT);
    if (++s->rcpts_tried > max + RECIPIENTS_OVERSHOOT) {
        smtp_server_close(s, SMTP_REPLY_TOO_MANY_ERRORS, BYTES_NONE);
        return;
    }
    enum smtp_reply_id bad = smtp_command_rcpt(args, offer_of(s), s->utf8, &rcpt, &slot);
    if (bad) {
        server_refuse(s, bad, slot);
    } else if (s->rcpts >= max) { // RFC 5321 4.5.3.1.10
        server_reply_number(s, SMTP_REPLY_TOO_MANY_RECIPIENTS, max);
    } else {
        s->awaiting = AWAIT_RCPT;
        s->handlers->on_rcpt(s->ctx, &rcpt);
    }
}

static void run_rset(struct smtp_server *s, struct bytes args)
{
    server_end_transaction(s, SMTP_RESET_RSET);
    if (s->state != ST_NEW)
        server_go(s, ST_READY);
    server_reply(s, SMTP_REPLY_RSET, BYTES_NONE);
}

static void run_noop(struct smtp_server *s, struct bytes args)
{
    server_reply(s, SMTP_REPLY_NOOP, BYTES_NONE);
}

static void run_vrfy(struct smtp_server *s, struct bytes args)
{
    server_reply(s, SMTP_REPLY_VRFY, BYTES_NONE);
}

static void run_help(struct smtp_server *s, struct bytes args)
{
    server_reply(s, SMTP_REPLY_HELP, BYTES_NONE);
}

static void run_quit(struct smtp_server *s, struct bytes args)
{
    smtp_server_close(s, SMTP_REPLY_QUIT, BYTES_NONE);
}

static void run_not_implemented(struct smtp_server *s, struct bytes args)
{
    server_refuse(s, SMTP_REPLY_NOT_IMPLEMENTED, BYTES_NONE);
}

static void run_starttls(struct smtp_server *s, struct bytes args)
{
    if (s->tls) {
        server_refuse(s, SMTP_REPLY_TLS_ACTIVE, BYTES_NONE);
    } else if (!s->config->starttls) {
        server_refuse(s, SMTP_REPLY_NOT_IMPLEMENTED, BYTES_NONE);
    } else {
        server_reply(s, SMTP_REPLY_STARTTLS, BYTES_NONE);
        server_go(s, ST_TLS);
    }
}

// ---- XCLIENT

static void keep_told(struct smtp_server *s, const struct smtp_xclient *x)
{
    struct bytes helo = x->value[SMTP_XCLIENT_HELO], proto = x->value[SMTP_XCLIENT_PROTO];
    free(s->told.helo);
    s->told.helo = helo.len ? copy_text(helo) : NULL;
    s->told.smtp = bytes_eq_nocase(proto, BYTES("SMTP"));
    s->told.esmtp = bytes_eq_nocase(proto, BYTES("ESMTP"));
}

static void run_xclient(struct smtp_server *s, struct bytes args)
{
    struct smtp_xclient x;
    struct bytes slot;
    if (!s->rights.xclient) {
        server_refuse(s, SMTP_REPLY_XCLIENT_DENIED, BYTES_NONE);
        return;
    }
    enum smtp_reply_id bad = smtp_xclient_parse(args, &x, &slot);
    if (!bad && x.given[SMTP_XCLIENT_LOGIN] && !s->rights.xclient_login)
        bad = SMTP_REPLY_XCLIENT_DENIED;
    if (bad) {
        server_refuse(s, bad, slot);
    } else {
        keep_told(s, &x);
        s->awaiting = AWAIT_XCLIENT;
        s->handlers->on_xclient(s->ctx, &x);
    }
    smtp_xclient_done(&x);
}

// What was known of the client before is forgotten, as after a STARTTLS.
static void forget_client(struct smtp_server *s)
{
    server_go(s, ST_NEW);
    s->authenticated = s->extended = false;
    free(s->helo);
    s->helo = NULL;
}

void smtp_server_answer_xclient(struct smtp_server *s, struct smtp_server_rights rights,
                                bool logged_in)
{
    if (s->state == ST_CLOSED)
        return;
    CHECK(s->awaiting == AWAIT_XCLIENT);
    s->awaiting = AWAIT_NOTHING;
    forget_client(s);
    s->rights = rights;
    s->authenticated = logged_in;
    s->errors = s->auth_failures = s->mails = 0;
    smtp_server_greet(s, s->now);
    server_settle(s);
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
    IS_TOLD = 256,      // the owner hears of refusals
};

static const struct command commands[] = {
    {"MAIL", IS_TOLD | NEEDS_HELLO | NEEDS_OUTSIDE, SMTP_REPLY_NESTED_MAIL, run_mail},
    {"RCPT", IS_TOLD | NEEDS_HELLO | NEEDS_MAIL | NOT_IN_CHUNKS, 0, run_rcpt},
    {"DATA", IS_TOLD | NEEDS_HELLO | NEEDS_MAIL | NOT_IN_CHUNKS | NEEDS_RCPT | TAKES_NOTHING, 0,
     server_run_data},
    {"BDAT", IS_TOLD | NEEDS_HELLO | NEEDS_MAIL | NEEDS_RCPT | HAS_OCTETS, 0, server_run_bdat},
    {"EHLO", IS_JUNK, 0, run_ehlo},
    {"HELO", IS_JUNK, 0, run_helo},
    {"RSET", IS_JUNK, 0, run_rset},
    {"NOOP", IS_JUNK, 0, run_noop},
    {"VRFY", IS_JUNK, 0, run_vrfy},
    {"HELP", IS_JUNK, 0, run_help},
    {"QUIT", 0, 0, run_quit},
    {"STARTTLS", NEEDS_HELLO | NEEDS_OUTSIDE | TAKES_NOTHING, SMTP_REPLY_TLS_IN_TRANSACTION,
     run_starttls},
    {"AUTH", NEEDS_HELLO | NEEDS_OUTSIDE, SMTP_REPLY_AUTH_IN_TRANSACTION, server_run_auth},
    {"XCLIENT", NEEDS_OUTSIDE | IS_JUNK, SMTP_REPLY_XCLIENT_IN_TRANSACTION, run_xclient},
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
            server_refuse(s, SMTP_REPLY_UNKNOWN_COMMAND, BYTES_NONE);
        return;
    }
    if ((c->flags & IS_JUNK) && ++s->junk > server_limit(s->config->junk_max, JUNK_DEFAULT)) {
        smtp_server_close(s, SMTP_REPLY_TOO_MANY_JUNK, BYTES_NONE);
        return;
    }
    struct bytes slot;
    if (c->flags & IS_TOLD) {
        s->command = c;
        s->argument = verb.args;
    }
    enum smtp_reply_id bad = out_of_place(s, c, verb.args, &slot);
    if (!bad)
        c->run(s, verb.args);
    else if (!(c->flags & HAS_OCTETS))
        server_refuse(s, bad, slot);
    else if (server_take_chunk_size(s, verb.args))
        server_refuse_chunk(s, bad, slot, s->state);
    keep_argument(s);
}

// ---- input

static size_t line_max(const struct smtp_server *s, struct bytes in)
{
    bool auth = s->state == ST_AUTH || bytes_starts_nocase(in, BYTES("AUTH "));
    return auth ? SMTP_SERVER_AUTH_LINE_MAX : SMTP_SERVER_LINE_MAX;
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
        server_take_auth_line(s, lex, line);
    else if (lex == SMTP_LEX_DONE)
        run_command(s, line);
    else
        server_refuse(s, lex == SMTP_LEX_BAD ? SMTP_REPLY_LINE_SYNTAX : SMTP_REPLY_LINE_TOO_LONG,
                      BYTES_NONE);
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
        size_t used = s->state == ST_DATA ? server_feed_data(s, in)
                      : in_content(s)     ? server_feed_chunk(s, in)
                                          : feed_line(s, in);
        if (used == 0)
            break;
        in = bytes_skip(in, used);
        total += used;
    }
    server_settle(s);
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
        server_go(s, ST_MAIL);
        server_reply(s, id, slot);
        return;
    }
    s->utf8 = s->binary = false;
    server_refuse(s, id, slot);
}

static void answer_rcpt(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (smtp_reply_is_ok(id)) {
        s->rcpts++;
        s->progress_at = s->now;
        server_go(s, ST_RCPT);
        server_reply(s, id, slot);
    } else if (s->authenticated || s->rights.trusted || s->rights.known ||
               id == SMTP_REPLY_TOO_MANY_RECIPIENTS) {
        // Who logged in may have a list with many that are gone. And the rest goes in another transaction, which is no
        // error (RFC 5321 4.5.3.1.10).
        server_reply(s, id, slot);
    } else {
        server_refuse(s, id, slot);
    }
}

void smtp_server_answer(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    enum awaiting what = s->awaiting;
    if (s->state == ST_CLOSED) // a decision that came too late
        return;
    CHECK(what != AWAIT_NOTHING);
    s->awaiting = AWAIT_NOTHING;
    if (what == AWAIT_END)
        forget_command(s); // the owner knows best what became of it
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
        server_answer_data(s, id, slot);
        break;
    case AWAIT_END:
        server_answer_end(s, id, slot);
        break;
    case AWAIT_SCRAM:
        CHECK(!smtp_reply_is_ok(id));
        server_answer_auth(s, id, slot);
        break;
    case AWAIT_AUTH:
        server_answer_auth(s, id, slot);
        break;
    case AWAIT_XCLIENT:
        CHECK(!smtp_reply_is_ok(id));
        server_refuse(s, id, slot);
        break;
    case AWAIT_NOTHING:
        break;
    }
    server_settle(s);
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
    s->rights.trusted = start.trusted;
    s->now = s->waiting_since = s->progress_at = now;
    return s;
}

void smtp_server_free(struct smtp_server *s)
{
    if (!s)
        return;
    server_end_session(s);
    buf_done(&s->out);
    buf_done(&s->held);
    free(s->helo);
    free(s->told.helo);
    free(s);
}

void smtp_server_set_rights(struct smtp_server *s, struct smtp_server_rights rights)
{
    s->rights = rights;
}

void smtp_server_greet(struct smtp_server *s, struct mono now)
{
    struct bytes words = s->config->greeting.len ? s->config->greeting : BYTES("ESMTP posthaste");
    struct buf text = {0};
    s->now = s->waiting_since = s->progress_at = now;
    buf_add(&text, s->config->hostname);
    buf_add_byte(&text, ' ');
    buf_add(&text, words);
    server_reply(s, SMTP_REPLY_GREETING, buf_bytes(&text));
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
    forget_client(s);
    s->tls = true;
    s->lexer = (struct smtp_lexer){0};
    s->now = s->waiting_since = now;
}

struct mono smtp_server_deadline(const struct smtp_server *s)
{
    const struct smtp_server_config *c = s->config;
    if (s->state == ST_CLOSED || s->awaiting || s->paused || s->blocked_since.us)
        return MONO_NEVER;
    if (!in_content(s)) {
        int64_t command_ms =
            (int64_t)server_limit((uint64_t)c->command_timeout_ms, COMMAND_TIMEOUT_DEFAULT_MS);
        int64_t idle = (int64_t)server_limit((uint64_t)c->unproductive_ms, UNPRODUCTIVE_DEFAULT_MS);
        return mono_min(mono_add_ms(s->waiting_since, command_ms),
                        mono_add_ms(s->progress_at, idle));
    }
    int64_t data_ms =
        (int64_t)server_limit((uint64_t)c->data_timeout_ms, COMMAND_TIMEOUT_DEFAULT_MS);
    return mono_min(mono_add_ms(s->waiting_since, data_ms), server_content_due(s));
}

void smtp_server_tick(struct smtp_server *s, struct mono now)
{
    s->now = now;
    if (!mono_reached(smtp_server_deadline(s), now))
        return;
    if (s->state == ST_TLS)
        server_end_session(s);
    else
        smtp_server_close(s, in_content(s) ? SMTP_REPLY_TOO_SLOW : SMTP_REPLY_TIMEOUT, BYTES_NONE);
}

void smtp_server_hangup(struct smtp_server *s)
{
    server_end_session(s);
}

void smtp_server_shutdown(struct smtp_server *s)
{
    s->stopping = true;
    server_settle(s);
}

bool smtp_server_is_authenticated(const struct smtp_server *s)
{
    return s->authenticated;
}

bool smtp_server_is_extended(const struct smtp_server *s)
{
    return s->told.esmtp || (s->extended && !s->told.smtp);
}

bool smtp_server_in_transaction(const struct smtp_server *s)
{
    return s->open;
}

struct bytes smtp_server_helo(const struct smtp_server *s)
{
    return bytes_cstr(s->told.helo ? s->told.helo : s->helo);
}
