// SPDX-License-Identifier: MIT
//
// smtp_client - the sending side of one SMTP or LMTP session
//
// How it works: a session and each transaction are a row of positions (greeting, EHLO...; RSET,
// MAIL, one RCPT for each recipient, DATA or BDAT, the end of content). `sent` counts the positions
// whose command was written, `acked` those whose reply was read: with PIPELINING sent runs ahead,
// else it waits. `steps` has a row for each kind of position: wording, how its command is built,
// what its reply means, its time-out.
//
// Whatever happens, each recipient is settled exactly once: settle() is the only caller of
// on_outcome.

#include <stdlib.h>

#include "base/check.h"
#include "smtp/smtp_client_private.h"
#include "smtp/smtp_xtext.h"

#define MINUTE_MS 60000
#define QUIT_TIMEOUT_DEFAULT_MS 2000 // another lane may wait for the connection
#define BDAT_EAGER_MAX 65536 // content up to this size is sent before the replies to RCPT are known
#define BDAT_EAGER_IDLE_MS 1000
#define OUTPUT_KEPT_MAX 4096 // bytes of buffer that an idle session keeps

// ---- steps

struct step {
    const char *name;
    // Appends the command of a position; NULL: nothing is sent for it here.
    void (*build)(struct smtp_client *c, uint32_t rcpt);
    void (*on_reply)(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt);
    int64_t (*timeout_ms)(const struct smtp_client_config *config);
};
static const struct step steps[SMTP_STEPS];

const char *smtp_step_name(enum smtp_step step)
{
    CHECK(step < SMTP_STEPS);
    return steps[step].name;
}

// Positions of a transaction: [RSET] MAIL RCPT*n DATA FINAL.
static uint32_t mail_position(const struct smtp_client *c)
{
    return c->begins_with_rset ? 1 : 0;
}

static uint32_t data_position(const struct smtp_client *c)
{
    return mail_position(c) + 1 + c->t->rcpts_count;
}

static enum smtp_step step_at(const struct smtp_client *c, uint32_t position, uint32_t *out_rcpt)
{
    uint32_t mail = mail_position(c), data = data_position(c);
    *out_rcpt = 0;
    if (position < mail)
        return SMTP_STEP_RSET;
    if (position == mail)
        return SMTP_STEP_MAIL;
    if (position < data) {
        *out_rcpt = position - mail - 1;
        return SMTP_STEP_RCPT;
    }
    return position == data && !c->uses_bdat ? SMTP_STEP_DATA : SMTP_STEP_FINAL;
}

enum smtp_step smtp_client_step(const struct smtp_client *c)
{
    uint32_t rcpt;
    if (!c->t)
        return c->wants_tls ? SMTP_STEP_TLS : c->session_step;
    if (c->is_streaming && (!c->uses_bdat || c->acked == data_position(c)))
        return SMTP_STEP_CONTENT;
    return step_at(c, c->acked, &rcpt);
}

void client_await(struct smtp_client *c, enum smtp_step step)
{
    c->session_step = step;
    c->waiting_since = c->now;
}

// ---- outcomes and ends

static void settle(struct smtp_client *c, uint32_t rcpt, const struct smtp_outcome *outcome)
{
    if (c->rcpts[rcpt] == RCPT_SETTLED)
        return;
    if (c->rcpts[rcpt] == RCPT_ACCEPTED)
        c->accepted--;
    c->rcpts[rcpt] = RCPT_SETTLED;
    c->unsettled--;
    c->handlers->on_outcome(c->ctx, rcpt, outcome);
}

static void settle_all(struct smtp_client *c, const struct smtp_outcome *outcome)
{
    for (uint32_t i = 0; i < c->t->rcpts_count; i++)
        settle(c, i, outcome);
}

static void end_transaction(struct smtp_client *c, bool reusable)
{
    CHECK(c->unsettled == 0);
    c->t = NULL;
    c->is_streaming = false;
    if (reusable)
        client_await(c, SMTP_STEP_READY);
    c->handlers->on_done(c->ctx, reusable);
}

// The session can't go on.
void client_fail_at(struct smtp_client *c, enum smtp_step step, int err,
                    const struct smtp_reply *reply)
{
    if (c->is_closed)
        return;
    struct smtp_outcome why = {.step = step, .err = err, .reply = reply};
    if (c->t && c->content_is_sent && !reply)
        why.step = SMTP_STEP_FINAL; // sent before the replies were read: it may have been taken
    c->is_closed = true;
    c->wants_tls = false;
    client_drop_sasl(c);
    if (c->t) {
        settle_all(c, &why);
        end_transaction(c, false);
    }
    if (step != SMTP_STEP_QUIT)
        c->handlers->on_failed(c->ctx, &why);
}

void client_fail(struct smtp_client *c, int err, const struct smtp_reply *reply)
{
    client_fail_at(c, smtp_client_step(c), err, reply);
}

static void on_unasked(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    client_fail(c, reply->code >= 400 ? OK : E_SYNTAX, reply);
}

static void on_quit(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    c->is_closed = true;
}

// ---- a transaction: what is sent

static void build_rset(struct smtp_client *c, uint32_t rcpt)
{
    buf_add_cstr(&c->out, "RSET\r\n");
}

static void add_param(struct buf *out, const char *name, struct bytes value)
{
    if (value.len > 0)
        buf_add_all(out, BYTES(" "), bytes_cstr(name), BYTES("="), value);
}

// RFC 2852 section 4: nine digits.
static int64_t clamp_by(int64_t seconds)
{
    const int64_t max = 999999999;
    return seconds > max ? max : seconds < -max ? -max : seconds;
}

static void build_mail(struct smtp_client *c, uint32_t rcpt)
{
    const struct smtp_transaction *t = c->t;
    buf_add_all(&c->out, BYTES("MAIL FROM:<"), t->reverse_path, BYTES(">"));
    if (c->caps.size && t->size > 0) {
        buf_add_cstr(&c->out, " SIZE=");
        buf_add_u64(&c->out, t->size);
    }
    if (t->body == BODY_8BITMIME && c->caps.eightbitmime)
        buf_add_cstr(&c->out, " BODY=8BITMIME");
    if (t->body == BODY_BINARYMIME && c->caps.binarymime)
        buf_add_cstr(&c->out, " BODY=BINARYMIME");
    if (t->smtputf8)
        buf_add_cstr(&c->out, " SMTPUTF8");
    if (c->caps.dsn && t->ret != RET_UNSET)
        buf_add_cstr(&c->out, t->ret == RET_HDRS ? " RET=HDRS" : " RET=FULL");
    if (c->caps.dsn)
        add_param(&c->out, "ENVID", t->envid);
    if (c->caps.deliverby && t->by_mode != BY_NONE)
        buf_printf(&c->out, " BY=%lld;%s%s", (long long)clamp_by(t->by_s),
                   t->by_mode == BY_RETURN ? "R" : "N", t->by_trace ? "T" : "");
    if (c->caps.mt_priority) // RFC 6710 4.2: also where it is 0
        buf_printf(&c->out, " MT-PRIORITY=%d", t->priority);
    buf_add_cstr(&c->out, "\r\n");
}

static void add_orcpt(struct smtp_client *c, struct bytes orcpt)
{
    struct buf ascii = {0};
    if (!c->t->smtputf8 && !bytes_is_ascii(orcpt)) { // RFC 6533 section 3
        smtp_orcpt_add_ascii(orcpt, &ascii);
        orcpt = buf_bytes(&ascii);
    }
    add_param(&c->out, "ORCPT", orcpt);
    buf_done(&ascii);
}

static void build_rcpt(struct smtp_client *c, uint32_t i)
{
    static const struct {
        uint32_t bit;
        const char *word;
    } words[] = {{NOTIFY_NEVER, "NEVER"},
                 {NOTIFY_SUCCESS, "SUCCESS"},
                 {NOTIFY_FAILURE, "FAILURE"},
                 {NOTIFY_DELAY, "DELAY"}};
    const struct smtp_client_rcpt *rcpt = &c->t->rcpts[i];
    const char *before = " NOTIFY=";
    buf_add_all(&c->out, BYTES("RCPT TO:<"), rcpt->path, BYTES(">"));
    for (size_t k = 0; c->caps.dsn && k < COUNT_OF(words); k++) {
        if (!(rcpt->notify & words[k].bit))
            continue;
        buf_add_all(&c->out, bytes_cstr(before), bytes_cstr(words[k].word));
        before = ",";
    }
    if (c->caps.dsn)
        add_orcpt(c, rcpt->orcpt);
    buf_add_cstr(&c->out, "\r\n");
}

static void begin_streaming(struct smtp_client *c)
{
    c->is_streaming = true;
    c->content_sent = 0;
    c->stuffer = (struct smtp_stuffer){0};
}

static void build_data(struct smtp_client *c, uint32_t rcpt)
{
    buf_add_cstr(&c->out, "DATA\r\n");
}

static void build_bdat(struct smtp_client *c, uint32_t rcpt)
{
    buf_add_cstr(&c->out, "BDAT ");
    buf_add_u64(&c->out, c->t->size);
    buf_add_cstr(&c->out, " LAST\r\n");
    begin_streaming(c);
}

// All of the content is in the output.
static void end_content(struct smtp_client *c)
{
    c->is_streaming = false;
    c->content_is_sent = true;
    if (c->handlers->on_line)
        c->handlers->on_line(c->ctx, SMTP_LINE_CONTENT, c->content_sent, BYTES_NONE);
    if (c->uses_bdat)
        return;
    smtp_stuffer_end(&c->stuffer, &c->out);
    c->sent++;
}

static bool take_piece(struct smtp_client *c, struct bytes piece, bool end)
{
    c->content_sent += piece.len;
    if (!c->uses_bdat)
        smtp_stuffer_feed(&c->stuffer, piece, &c->out);
    else if (c->content_sent > c->t->size || (end && c->content_sent < c->t->size))
        return false; // the size that was announced does not hold: no receiver may take this for
                      // whole
    else
        buf_add(&c->out, piece);
    return true;
}

static void stream_content(struct smtp_client *c)
{
    while (c->is_streaming && c->out.len < SMTP_CLIENT_OUTPUT_HIGH) {
        struct bytes piece = BYTES_NONE;
        bool end = false;
        int err =
            c->t->content(c->t->content_ctx, SMTP_CLIENT_OUTPUT_HIGH - c->out.len, &piece, &end);
        if (err == E_AGAIN || (!err && piece.len == 0 && !end))
            return;
        if (err || !take_piece(c, piece, end)) {
            client_fail_at(c, SMTP_STEP_CONTENT, err ? err : E_DAMAGED, NULL);
            return;
        }
        if (end)
            end_content(c);
    }
}

// May the position after `sent` be sent now?
static bool may_send(const struct smtp_client *c, uint32_t position)
{
    bool pipelining = c->caps.pipelining && !c->config->no_pipelining;
    uint32_t data = data_position(c);
    if (position > data || c->out.len >= SMTP_CLIENT_OUTPUT_HIGH)
        return false; // the end of content is sent by end_content()
    if (c->unsettled == 0)
        return false; // nobody is left to send anything for
    if (!pipelining && position > c->acked)
        return false;
    if (position < data)
        return true;
    if (c->uses_bdat && !c->is_eager && c->acked < data)
        return false;
    return c->acked < data || c->accepted > 0;
}

// All replies are in and nobody is left for whom content would be sent.
static bool ends_without_content(const struct smtp_client *c)
{
    return c->acked == c->sent && c->sent <= data_position(c) && c->unsettled == 0;
}

static void pump(struct smtp_client *c)
{
    uint32_t rcpt;
    while (c->t && !c->is_streaming && may_send(c, c->sent)) {
        enum smtp_step step = step_at(c, c->sent, &rcpt);
        if (c->sent == c->acked)
            c->waiting_since = c->now;
        size_t from = c->out.len;
        steps[step].build(c, rcpt);
        client_tell_sent(c, from);
        c->sent++;
    }
    if (c->t && ends_without_content(c)) {
        c->needs_rset = c->mail_accepted;
        end_transaction(c, true);
        return;
    }
    if (c->t)
        stream_content(c);
}

// ---- a transaction: what the replies mean

static void on_rset(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    if (!client_is_positive(reply)) // says nothing about the recipients
        client_fail_at(c, SMTP_STEP_RSET, E_SYNTAX, reply);
}

static void on_mail(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    c->mail_accepted = client_is_positive(reply);
    if (reply->code < 400 && !c->mail_accepted) { // 354 to MAIL
        client_fail_at(c, SMTP_STEP_MAIL, E_SYNTAX, reply);
    } else if (!c->mail_accepted) {
        settle_all(c, &(struct smtp_outcome){.step = SMTP_STEP_MAIL, .reply = reply});
    }
}

static void on_rcpt(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    if (reply->code >= 300 && reply->code < 400) {
        client_fail_at(c, SMTP_STEP_RCPT, E_SYNTAX, reply);
    } else if (!client_is_positive(reply)) {
        settle(c, rcpt, &(struct smtp_outcome){.step = SMTP_STEP_RCPT, .reply = reply});
    } else if (c->rcpts[rcpt] == RCPT_OPEN) {
        c->rcpts[rcpt] = RCPT_ACCEPTED;
        c->accepted++;
    }
}

static void on_data(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    if (client_is_positive(reply) || (reply->code < 400 && reply->code != 354)) {
        client_fail_at(c, SMTP_STEP_DATA, E_SYNTAX, reply);
    } else if (reply->code != 354) {
        settle_all(c, &(struct smtp_outcome){.step = SMTP_STEP_DATA, .reply = reply});
        c->needs_rset = c->mail_accepted;
        end_transaction(c, true);
    } else if (c->accepted > 0) {
        begin_streaming(c);
    } else if (c->config->lmtp) { // which would give no reply to content for nobody
        client_fail_at(c, SMTP_STEP_DATA, E_SYNTAX, reply);
    } else { // RFC 2920 3.1: all recipients were refused, yet the server takes content: an empty
             // one
        buf_add_cstr(&c->out, ".\r\n");
        c->sent++;
    }
}

// LMTP gives one reply for each recipient that was accepted, in their order (RFC 2033 section 4.2).
static bool settle_next_lmtp(struct smtp_client *c, const struct smtp_outcome *outcome)
{
    while (c->lmtp_next < c->t->rcpts_count && c->rcpts[c->lmtp_next] != RCPT_ACCEPTED)
        c->lmtp_next++;
    if (c->lmtp_next < c->t->rcpts_count)
        settle(c, c->lmtp_next, outcome);
    return c->accepted == 0;
}

static void on_final(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    struct smtp_outcome outcome = {.step = SMTP_STEP_FINAL, .reply = reply};
    if (reply->code >= 300 && reply->code < 400) {
        client_fail_at(c, SMTP_STEP_FINAL, E_SYNTAX, reply);
        return;
    }
    if (!c->config->lmtp) {
        settle_all(c, &outcome);
    } else if (!settle_next_lmtp(c, &outcome)) {
        c->acked--; // the same position has more replies
        return;
    }
    c->needs_rset =
        c->uses_bdat && !client_is_positive(reply) && c->mail_accepted; // RFC 3030 section 2
    end_transaction(c, true);
}

// ---- the table

static int64_t or_minutes(int64_t ms, int minutes)
{
    return ms > 0 ? ms : (int64_t)minutes * MINUTE_MS;
}

static int64_t greeting_ms(const struct smtp_client_config *config)
{
    return or_minutes(config->greeting_timeout_ms, 5); // RFC 5321 4.5.3.2.1
}

static int64_t command_ms(const struct smtp_client_config *config)
{
    return or_minutes(config->command_timeout_ms, 5); // 4.5.3.2.2, .3
}

// The RFCs name none. A handshake takes a few round trips, and who waits for one that hangs waits in vain.
static int64_t tls_ms(const struct smtp_client_config *config)
{
    return or_minutes(config->tls_timeout_ms, 1);
}

static int64_t data_ms(const struct smtp_client_config *config)
{
    return or_minutes(config->data_timeout_ms, 2); // 4.5.3.2.4
}

static int64_t block_ms(const struct smtp_client_config *config)
{
    return or_minutes(config->block_timeout_ms, 3); // 4.5.3.2.5
}

static int64_t final_ms(const struct smtp_client_config *config)
{
    return or_minutes(config->final_timeout_ms, 10); // 4.5.3.2.6
}

static int64_t quit_ms(const struct smtp_client_config *config)
{
    return config->quit_timeout_ms > 0 ? config->quit_timeout_ms : QUIT_TIMEOUT_DEFAULT_MS;
}

// FINAL is built only as BDAT; the end of a DATA content is written by end_content().
static const struct step steps[SMTP_STEPS] = {
    [SMTP_STEP_GREETING] = {"greeting", NULL, client_on_greeting, greeting_ms},
    [SMTP_STEP_HELLO] = {"EHLO", NULL, client_on_hello, command_ms},
    [SMTP_STEP_STARTTLS] = {"STARTTLS", NULL, client_on_starttls, tls_ms},
    [SMTP_STEP_TLS] = {"TLS handshake", NULL, on_unasked, tls_ms},
    [SMTP_STEP_AUTH] = {"AUTH", NULL, client_on_auth, command_ms},
    [SMTP_STEP_READY] = {"idle", NULL, on_unasked, NULL},
    [SMTP_STEP_RSET] = {"RSET", build_rset, on_rset, command_ms},
    [SMTP_STEP_MAIL] = {"MAIL FROM", build_mail, on_mail, command_ms},
    [SMTP_STEP_RCPT] = {"RCPT TO", build_rcpt, on_rcpt, command_ms},
    [SMTP_STEP_DATA] = {"DATA", build_data, on_data, data_ms},
    [SMTP_STEP_CONTENT] = {"content", NULL, on_unasked, block_ms},
    [SMTP_STEP_FINAL] = {"end of content", build_bdat, on_final, final_ms},
    [SMTP_STEP_QUIT] = {"QUIT", NULL, on_quit, quit_ms},
};

// ---- input

// A reply that came before the command it belongs to, or before all of the content was sent. A
// refusal of content that comes early is one; what the server thinks of the rest of the stream is
// unknown, so it ends.
static void take_early_reply(struct smtp_client *c, const struct smtp_reply *reply)
{
    bool refusal = c->is_streaming ? reply->code >= 400 : reply->code == 421;
    client_fail(c, refusal ? OK : E_SYNTAX, reply);
}

static void take_unasked_reply(struct smtp_client *c, const struct smtp_reply *reply)
{
    client_tell_reply(c, smtp_client_step(c), reply);
    take_early_reply(c, reply);
}

static void take_reply(struct smtp_client *c, const struct smtp_reply *reply)
{
    uint32_t rcpt = 0;
    c->waiting_since = c->now;
    enum smtp_step step = c->t ? step_at(c, c->acked, &rcpt) : smtp_client_step(c);
    client_tell_reply(c, step, reply);
    if (c->t && (c->acked == c->sent || (c->is_streaming && step == SMTP_STEP_FINAL))) {
        take_early_reply(c, reply);
        return;
    }
    // RFC 5321 3.8: the server closes; the rest of the transaction is over with this reply.
    if (reply->code == 421 && step != SMTP_STEP_QUIT) {
        client_fail_at(c, step, OK, reply);
        return;
    }
    if (c->t)
        c->acked++;
    steps[step].on_reply(c, reply, rcpt);
}

// How many replies may come at most for what has left us.
static uint32_t replies_due(const struct smtp_client *c)
{
    if (!c->t)
        return 1; // idle: steps[SMTP_STEP_READY] judges it
    return c->sent - c->acked + (c->is_streaming ? 1 : 0) +
           (c->config->lmtp ? c->t->rcpts_count : 0);
}

void smtp_client_feed(struct smtp_client *c, struct bytes in, struct mono now)
{
    c->now = now;
    uint32_t due =
        replies_due(c); // commands that are built below are still here when these bytes came
    while (in.len > 0 && !c->is_closed) {
        size_t used;
        if (c->wants_tls) { // CVE-2021-38371: nothing may stand between the 220 and the handshake
            client_fail_at(c, SMTP_STEP_STARTTLS, E_SYNTAX, NULL);
            return;
        }
        enum smtp_parse result = smtp_reply_parser_feed(&c->parser, in, &used);
        if (result == SMTP_PARSE_BAD) {
            client_fail(c, E_SYNTAX, NULL);
            return;
        }
        in = bytes_skip(in, used);
        if (result == SMTP_PARSE_MORE)
            continue;
        if (due == 0)
            take_unasked_reply(c, &c->parser.reply);
        else
            take_reply(c, &c->parser.reply);
        due -= due > 0;
        pump(c);
    }
    if (!c->t)
        smtp_reply_parser_release(&c->parser);
}

void smtp_client_more(struct smtp_client *c, struct mono now)
{
    c->now = now;
    if (c->is_closed)
        return;
    if (c->t && (c->is_streaming || c->acked + 1 == c->sent))
        c->waiting_since = now; // the peer takes what we send
    pump(c);
    if (!c->t && c->out.len == 0 && c->out.cap > OUTPUT_KEPT_MAX)
        buf_done(&c->out);
}

// ---- calls of the owner

// What goes into a command line must not be able to end it; checked where it came from, and here
// again.
static bool is_clean_word(struct bytes s)
{
    return !bytes_has_control(s, NULL) && bytes_find(s, ' ') < 0;
}

// In a quoted local part ">" and blanks may stand: "a>b"@example.com.
static bool is_clean_path(struct bytes s)
{
    bool quoted = s.len > 0 && s.at[0] == '"';
    return quoted ? !bytes_has_control(s, NULL) : is_clean_word(s) && bytes_find(s, '>') < 0;
}

// RFC 3461 section 4: in ENVID and ORCPT, which stand in no brackets, ">" is a character like others.
static bool is_clean_transaction(const struct smtp_transaction *t)
{
    bool clean = is_clean_path(t->reverse_path) && is_clean_word(t->envid);
    for (uint32_t i = 0; i < t->rcpts_count && clean; i++)
        clean = is_clean_path(t->rcpts[i].path) && is_clean_word(t->rcpts[i].orcpt);
    return clean;
}

// May the content leave before the first reply? Not where the connection may well be at its end, gone stale or closed
// after one message: content that was sent may have been taken, and what is then sent again is there twice. Nor behind a
// RSET, which may be refused while the rest is taken.
static bool may_be_eager(const struct smtp_client *c, const struct smtp_transaction *t)
{
    return c->caps.pipelining && !c->config->no_pipelining && t->size <= BDAT_EAGER_MAX &&
           !c->needs_rset && c->transactions != 1 &&
           mono_ms_between(c->waiting_since, c->now) < BDAT_EAGER_IDLE_MS;
}

static bool wants_bdat(const struct smtp_client *c, const struct smtp_transaction *t)
{
    if (!c->caps.chunking || t->size == 0 || c->config->chunking == SMTP_CHUNKING_NEVER)
        return false;
    return c->config->chunking == SMTP_CHUNKING_ALWAYS || t->body == BODY_BINARYMIME || c->is_eager;
}

void smtp_client_send(struct smtp_client *c, const struct smtp_transaction *t, struct mono now)
{
    CHECK(smtp_client_is_ready(c) && t->rcpts_count > 0);
    CHECK(!t->smtputf8 || c->caps.smtputf8);
    CHECK(t->by_mode != BY_RETURN || t->by_s > 0);
    if (t->rcpts_count > c->rcpts_cap) {
        c->rcpts = mem_resize(c->rcpts, t->rcpts_count);
        c->rcpts_cap = t->rcpts_count;
    }
    memset(c->rcpts, RCPT_OPEN, t->rcpts_count);
    c->now = now;
    c->is_eager = may_be_eager(c, t);
    c->transactions++;
    c->waiting_since = now;
    c->t = t;
    c->unsettled = t->rcpts_count;
    c->accepted = c->sent = c->acked = c->lmtp_next = 0;
    c->mail_accepted = c->content_is_sent = false;
    c->begins_with_rset = c->needs_rset;
    c->needs_rset = false;
    c->uses_bdat = wants_bdat(c, t);
    CHECK(t->body != BODY_BINARYMIME || c->uses_bdat); // RFC 3030 section 3, and law 5
    if (!is_clean_transaction(t)) {
        settle_all(c,
                   &(struct smtp_outcome){.step = SMTP_STEP_MAIL, .err = E_SYNTAX, .unsent = true});
        c->needs_rset = c->begins_with_rset;
        end_transaction(c, true);
        return;
    }
    pump(c);
}

struct smtp_client *smtp_client_new(const struct smtp_client_config *config,
                                    const struct smtp_client_handlers *handlers, void *ctx,
                                    struct mono now)
{
    struct smtp_client *c = mem_new(sizeof *c);
    c->config = config;
    c->handlers = handlers;
    c->ctx = ctx;
    c->now = now;
    c->tls = config->tls == SMTP_CLIENT_TLS_ACTIVE;
    smtp_reply_parser_init(&c->parser);
    client_await(c, SMTP_STEP_GREETING);
    return c;
}

void smtp_client_free(struct smtp_client *c)
{
    if (!c)
        return;
    client_drop_sasl(c);
    smtp_reply_parser_done(&c->parser);
    if (c->out.at)
        explicit_bzero(c->out.at, c->out.cap); // a login may have stood in it
    buf_done(&c->out);
    free(c->rcpts);
    free(c);
}

struct buf *smtp_client_output(struct smtp_client *c)
{
    return &c->out;
}

enum smtp_client_wants smtp_client_wants(const struct smtp_client *c)
{
    if (c->is_closed)
        return SMTP_CLIENT_CLOSE;
    return c->wants_tls ? SMTP_CLIENT_TLS : SMTP_CLIENT_INPUT;
}

const struct smtp_caps *smtp_client_caps(const struct smtp_client *c)
{
    return &c->caps;
}

enum smtp_carry smtp_client_can_carry(const struct smtp_client *c, enum mail_body body,
                                      bool smtputf8, uint64_t size)
{
    if (smtputf8 && !c->caps.smtputf8)
        return SMTP_CARRY_NEEDS_SMTPUTF8;
    bool binary =
        c->caps.binarymime && c->caps.chunking && c->config->chunking != SMTP_CHUNKING_NEVER;
    if (body == BODY_BINARYMIME && !binary)
        return SMTP_CARRY_NEEDS_BINARYMIME;
    if (body == BODY_8BITMIME && !c->caps.eightbitmime)
        return SMTP_CARRY_NEEDS_8BITMIME;
    return c->caps.size_max && size > c->caps.size_max ? SMTP_CARRY_TOO_LARGE : SMTP_CARRY_OK;
}

void smtp_client_quit(struct smtp_client *c, struct mono now)
{
    c->now = now;
    if (smtp_client_is_ready(c)) {
        size_t from = c->out.len;
        buf_add_cstr(&c->out, "QUIT\r\n");
        client_tell_sent(c, from);
        client_await(c, SMTP_STEP_QUIT);
    } else if (c->session_step != SMTP_STEP_QUIT || c->t) {
        client_fail(c, E_CLOSED, NULL);
    }
}

void smtp_client_tls_started(struct smtp_client *c, struct mono now)
{
    if (c->is_closed)
        return;
    CHECK(c->wants_tls);
    c->now = now;
    c->wants_tls = false;
    c->tls = true;
    c->caps = (struct smtp_caps){0}; // RFC 3207 4.2: what was learned in the clear is forgotten
    client_send_hello(c);
}

void smtp_client_tls_failed(struct smtp_client *c)
{
    client_fail_at(c, SMTP_STEP_TLS, E_TLS, NULL);
}

struct mono smtp_client_deadline(const struct smtp_client *c)
{
    const struct step *step = &steps[smtp_client_step(c)];
    if (c->is_closed || !step->timeout_ms)
        return MONO_NEVER;
    return mono_add_ms(c->waiting_since, step->timeout_ms(c->config));
}

void smtp_client_tick(struct smtp_client *c, struct mono now)
{
    c->now = now;
    if (mono_reached(smtp_client_deadline(c), now))
        client_fail(c, E_TIMEOUT, NULL);
}

void smtp_client_hangup(struct smtp_client *c, int err)
{
    client_fail(c, err, NULL);
}

bool smtp_client_is_ready(const struct smtp_client *c)
{
    return !c->is_closed && !c->t && c->session_step == SMTP_STEP_READY;
}
