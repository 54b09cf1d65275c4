// SPDX-License-Identifier: MIT
//
// client - how it works: a message is a row of steps (MAIL, RCPT ..., DATA, content), with a sent
// and an acked cursor. Each reply acks one step; what may be sent next depends on the manner.
#include "client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

#define REPLY_TIMEOUT_MS 300000
#define RETRY_MS 2000
#define SHAPES 3

enum stage { STAGE_CONNECTING, STAGE_GREETING, STAGE_HELLO, STAGE_IDLE, STAGE_MESSAGE, STAGE_QUIT };

struct client {
    struct client_plan plan;
    struct sys_stream *stream;
    struct sys_timer timer; // reply time-out, pause, or the next connection
    struct buf in;
    enum stage stage;
    uint32_t done, on_this_connection;
    struct client_message message;
    struct book_message *record;
    struct buf content;   // with dots stuffed, for DATA
    uint32_t sent, acked; // steps: 0 MAIL, 1..n RCPT, n+1 DATA, n+2 content
    bool content_allowed, failed, stalled;
    uint16_t code; // of the reply being read
};

static uint32_t alive;

uint32_t clients_alive(void)
{
    return alive;
}

void clients_reset(void)
{
    alive = 0;
}

static void connect_now(struct client *c);
static void advance(struct client *c);

static void say(struct client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct client *c, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    CHECK(n > 0 && (size_t)n < sizeof line);
    sys_stream_write(c->stream, bytes_of(line, (size_t)n));
}

// ---- content
// -------------------------------------------------------------------------------------

static void add_body_line(struct buf *out, bool eight_bit)
{
    static const char *const lines[SHAPES] = {".starts with a dot", "..", "a plain line of text"};
    static const char *const eight[SHAPES] = {"gr\xc3\xbc\xc3\x9f", ".\xe2\x82\xac", "n\xc2\xb0 1"};
    uint64_t shape = sim_roll(DICE_TEST, SHAPES);
    buf_add_cstr(out, eight_bit ? eight[shape] : lines[shape]);
    for (uint64_t n = sim_roll(DICE_TEST, 60); n > 0; n--)
        buf_add_byte(out, (char)('a' + sim_roll(DICE_TEST, 26)));
    buf_add_cstr(out, "\r\n");
}

static void make_content(struct client *c, const char *token, struct buf *out)
{
    const struct client_message *m = &c->message;
    buf_printf(out,
               "X-Load-Id: %s\r\nFrom: <%.*s>\r\nTo: undisclosed-recipients:;\r\n"
               "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <%s@sim.test>\r\n"
               "Subject: test\r\n",
               token, BYTES_FMT(m->sender.len ? m->sender : BYTES("nobody@sender.test")), token);
    if (m->eight_bit)
        buf_add_cstr(out, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                          "Content-Transfer-Encoding: 8bit\r\n");
    buf_add_cstr(out, "\r\n");
    for (size_t from = out->len; out->len < from + m->size;)
        add_body_line(out, m->eight_bit);
}

// RFC 5321 4.5.2; what is smuggled stands behind bare newlines, before the true end.
static void stuff(struct client *c, struct bytes content)
{
    static const char *const smuggling[] = {"\n.\n", "\n.\r\n", "\r\n.\n",
                                            "\r.\r", "\r\n.\r", "\n.\r"};
    struct bytes line;
    buf_clear(&c->content);
    while (bytes_cut(&content, '\n', &line) && content.at) {
        if (line.len && line.at[0] == '.')
            buf_add_byte(&c->content, '.');
        buf_add(&c->content, line);
        buf_add_byte(&c->content, '\n');
    }
    if (c->message.manner == CLIENT_SMUGGLES) {
        buf_add_cstr(&c->content, "text");
        buf_add_cstr(&c->content, smuggling[sim_roll(DICE_TEST, COUNT_OF(smuggling))]);
        buf_add_cstr(&c->content, "MAIL FROM:<smuggled@sender.test>\r\nRCPT TO:<r@good.test>\r\n"
                                  "DATA\r\nSubject: smuggled\r\n\r\nsmuggled");
        buf_add_cstr(&c->content, "\r\n");
    }
    buf_add_cstr(&c->content, ".\r\n");
}

// ---- one message
// ---------------------------------------------------------------------------------

static void message_begin(struct client *c)
{
    char token[32];
    struct buf content = {0};
    c->plan.next(c->plan.ctx, &c->message);
    book_token(token);
    make_content(c, token, &content);
    c->record = book_send(token, c->message.sender, buf_bytes(&content), c->message.recipients,
                          c->message.recipients_count);
    stuff(c, buf_bytes(&content));
    buf_done(&content);
    c->sent = c->acked = 0;
    c->content_allowed = c->failed = c->stalled = false;
    c->stage = STAGE_MESSAGE;
    advance(c);
}

static void idle(struct client *c)
{
    c->stage = STAGE_IDLE;
    sys_timer_set(&c->timer,
                  mono_add_ms(sys_mono(), c->plan.pause_ms ? c->plan.pause_ms(c->plan.ctx) : 0));
}

static void message_end(struct client *c)
{
    c->record = NULL;
    c->done++;
    c->on_this_connection++;
    idle(c);
}

static uint32_t step_data(const struct client *c)
{
    return c->message.recipients_count + 1;
}

static void send_part(struct client *c, size_t len, bool reset)
{
    sys_stream_write(c->stream, bytes_first(buf_bytes(&c->content), len));
    c->stalled = true;
    if (!reset)
        return;
    // The connection goes in a later turn, so that the part has a chance to arrive.
    sys_timer_set(&c->timer, mono_add_ms(sys_mono(), 1 + (int64_t)sim_roll(DICE_TEST, 50)));
}

static void send_content(struct client *c)
{
    size_t part = sim_roll(DICE_TEST, c->content.len);
    switch (c->message.manner) {
    case CLIENT_BREAKS:
        send_part(c, part, true);
        break;
    case CLIENT_STALLS:
        send_part(c, part, false);
        break;
    case CLIENT_CHUNKED: { // in two chunks
        struct bytes content = c->record->content;
        size_t first = sim_roll(DICE_TEST, content.len + 1);
        say(c, "BDAT %zu\r\n", first);
        sys_stream_write(c->stream, bytes_first(content, first));
        say(c, "BDAT %zu LAST\r\n", content.len - first);
        sys_stream_write(c->stream, bytes_skip(content, first));
        break;
    }
    default:
        sys_stream_write(c->stream, buf_bytes(&c->content));
    }
}

static void send_step(struct client *c)
{
    const struct client_message *m = &c->message;
    uint32_t step = c->sent++;
    if (step == 0)
        say(c, "MAIL FROM:<%.*s>%s%s\r\n", BYTES_FMT(c->record->sender),
            m->eight_bit ? " BODY=8BITMIME" : "", m->parameters);
    else if (step < step_data(c))
        say(c, "RCPT TO:<%.*s>%s\r\n", BYTES_FMT(c->record->recipients[step - 1].address),
            m->notify);
    else if (step == step_data(c) && m->manner != CLIENT_CHUNKED)
        say(c, "DATA\r\n");
    else
        send_content(c);
}

// Sends all that may go out now.
static void advance(struct client *c)
{
    bool pipelines = c->message.manner == CLIENT_PIPELINED;
    while (c->sent <= step_data(c) && (pipelines || c->sent == c->acked))
        send_step(c);
    if (c->content_allowed && c->sent == step_data(c) + 1 && c->acked == c->sent)
        send_step(c);
    if (!c->stalled)
        sys_timer_set(&c->timer, mono_add_ms(sys_mono(), REPLY_TIMEOUT_MS));
}

static void give_up(struct client *c, uint16_t code, struct bytes text)
{
    book_answered(c->record, code, text);
    say(c, "RSET\r\n");
    c->failed = true;
}

// BDAT has no step of its own for the content: its two chunks are answered in a row.
static void on_chunk_reply(struct client *c, uint16_t code, struct bytes text)
{
    if (c->acked == step_data(c) && code < 300) {
        c->acked++;
        return;
    }
    book_answered(c->record, code, text);
    if (c->acked == step_data(c)) { // the reply to the second chunk and to RSET are still to come
        say(c, "RSET\r\n");
        c->failed = true;
        c->acked = 0;
        c->sent = 2;
        return;
    }
    message_end(c);
}

static void on_message_reply(struct client *c, uint16_t code, struct bytes text)
{
    if (c->failed) { // what was pipelined, then the reply to RSET
        if (++c->acked == c->sent)
            message_end(c);
        return;
    }
    bool ok = code < 300, chunked = c->message.manner == CLIENT_CHUNKED;
    uint32_t step = c->acked;
    if (chunked && step >= step_data(c)) {
        on_chunk_reply(c, code, text);
        return;
    }
    c->acked++;
    if (step > 0 && step < step_data(c) && !ok) {
        book_refused_recipient(c->record, step - 1);
    } else if (step == step_data(c) && code == 354) {
        c->content_allowed = true;
    } else if (step == step_data(c) + 1) {
        if (ok && c->message.manner == CLIENT_SMUGGLES)
            book_violation("CRLF", "%s was accepted with bare newlines", c->record->token);
        book_answered(c->record, code, text);
        message_end(c);
        return;
    } else if (!ok) {
        give_up(c, code, text);
        c->sent++;
        return;
    }
    advance(c);
}

// ---- the session
// ---------------------------------------------------------------------------------

static void close_and_retry(struct client *c, bool abort, int64_t ms)
{
    if (c->record && c->record->state == BOOK_SENDING)
        book_broken(c->record);
    if (c->record) {
        c->record = NULL;
        c->done++;
    }
    sys_stream_close(c->stream, abort);
    c->stream = NULL;
    buf_clear(&c->in);
    if (c->done < c->plan.messages) {
        sys_timer_set(&c->timer, mono_add_ms(sys_mono(), ms));
        return;
    }
    sys_timer_stop(&c->timer);
    buf_done(&c->in);
    buf_done(&c->content);
    alive--;
    free(c);
}

// Quits, or just goes.
static void leave(struct client *c)
{
    if (sim_chance(DICE_TEST, 1, 4)) {
        close_and_retry(c, sim_chance(DICE_TEST, 1, 2), 10);
        return;
    }
    c->stage = STAGE_QUIT;
    say(c, "QUIT\r\n");
    sys_timer_set(&c->timer, mono_add_ms(sys_mono(), REPLY_TIMEOUT_MS));
}

// False: the connection is gone.
static bool on_reply(struct client *c, uint16_t code, struct bytes text)
{
    if (code == 421 && c->record && c->record->state == BOOK_SENDING)
        book_answered(c->record, code, text);
    if (code == 421 || (c->stage < STAGE_IDLE && code >= 400) || c->stage == STAGE_QUIT) {
        close_and_retry(c, false, code == 421 ? RETRY_MS : 10);
        return false;
    }
    switch (c->stage) {
    case STAGE_GREETING:
        c->stage = STAGE_HELLO;
        say(c, "EHLO client.test\r\n");
        break;
    case STAGE_HELLO:
        idle(c);
        break;
    case STAGE_MESSAGE:
        on_message_reply(c, code, text);
        break;
    default:
        break;
    }
    return true;
}

static void on_data(void *ctx, struct bytes data)
{
    struct client *c = ctx;
    buf_add(&c->in, data);
    ptrdiff_t end;
    while ((end = bytes_find(buf_bytes(&c->in), '\n')) >= 0) {
        char text[600];
        struct bytes line = bytes_trim(bytes_first(buf_bytes(&c->in), (size_t)end));
        uint64_t code;
        if (line.len > sizeof text || line.len < 3 ||
            bytes_to_u64(bytes_first(line, 3), 599, &code)) {
            book_violation("CRLF", "the relay's reply is no reply: %.*s", BYTES_FMT(line));
            close_and_retry(c, true, RETRY_MS);
            return;
        }
        memcpy(text, line.at, line.len);
        line.at = text;
        buf_consume(&c->in, (size_t)end + 1);
        bool last = line.len < 4 || line.at[3] == ' ';
        if (last && !on_reply(c, (uint16_t)code, bytes_skip(line, 4)))
            return;
    }
}

static void on_connected(void *ctx)
{
    struct client *c = ctx;
    c->stage = STAGE_GREETING;
}

static void on_end(void *ctx, int err)
{
    close_and_retry(ctx, false, RETRY_MS);
}

static const struct sys_stream_events events = {on_connected, on_data, NULL, on_end};

static void connect_now(struct client *c)
{
    c->stage = STAGE_CONNECTING;
    c->on_this_connection = 0;
    c->stream = sys_stream_connect(&c->plan.relay, NULL, &events, c);
    sys_timer_set(&c->timer, mono_add_ms(sys_mono(), REPLY_TIMEOUT_MS));
}

static void on_timer(struct sys_timer *timer)
{
    struct client *c = container_of(timer, struct client, timer);
    if (!c->stream) {
        connect_now(c);
    } else if (c->stage != STAGE_IDLE) { // a reply does not come, or the manner is to break
        close_and_retry(c, true, RETRY_MS);
    } else if (c->done >= c->plan.messages ||
               c->on_this_connection >= c->plan.messages_per_connection) {
        if (c->done < c->plan.messages || sim_chance(DICE_TEST, 3, 4))
            leave(c);
        else
            close_and_retry(c, false, 0);
    } else {
        message_begin(c);
    }
}

void client_start(const struct client_plan *plan)
{
    struct client *c = mem_new(sizeof *c);
    c->plan = *plan;
    c->timer.fire = on_timer;
    alive++;
    connect_now(c);
}
