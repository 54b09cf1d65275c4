// SPDX-License-Identifier: MIT
//
// smtp_server_content - DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030): content comes, ends, is refused

#include "base/check.h"
#include "smtp/smtp_command.h"
#include "smtp/smtp_server_private.h"

static void emit_content(void *ctx, struct bytes piece)
{
    struct smtp_server *s = ctx;
    if (s->state != ST_CLOSED) // by on_body itself
        s->handlers->on_body(s->ctx, piece);
}

static void begin_content(struct smtp_server *s, bool chunked)
{
    smtp_content_init(&s->content, !chunked, server_size_max(s), s->config->text_line_max,
                      emit_content, s);
    s->content.binary = s->binary;
    s->chunked = chunked;
    s->content_octets = 0;
    s->content_since = s->now;
    s->awaiting = AWAIT_DATA;
    s->handlers->on_data(s->ctx, chunked);
}

void server_run_data(struct smtp_server *s, struct bytes args)
{
    if (s->binary) // RFC 3030 section 3: MUST be 503
        server_refuse(s, SMTP_REPLY_BINARY_BY_BDAT, BYTES_NONE);
    else
        begin_content(s, false);
}

static void end_chunk(struct smtp_server *s);

void server_refuse_chunk(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot,
                         enum state after)
{
    server_note_answer(s, id, slot);
    buf_clear(&s->held);
    if (++s->errors >= server_limit(s->config->errors_max, ERRORS_DEFAULT)) {
        smtp_server_close(s, SMTP_REPLY_TOO_MANY_ERRORS, BYTES_NONE);
        return;
    }
    smtp_reply_format(&s->held, id, slot);
    s->state_after_skip = after;
    s->content_octets = 0;
    s->content_since = s->now;
    server_go(s, ST_SKIP);
    if (s->chunk_left == 0)
        end_chunk(s);
}

// more.
bool server_take_chunk_size(struct smtp_server *s, struct bytes args)
{
    enum smtp_reply_id bad = smtp_command_bdat(args, &s->chunk_size, &s->chunk_last);
    uint64_t so_far = s->state == ST_CHUNKS ? s->content.size : 0;
    if (bad)
        smtp_server_close(s, bad, BYTES_NONE);
    else if (s->chunk_size > server_size_max(s) + OVERRUN_MAX - so_far) {
        server_reply_number(s, SMTP_REPLY_TOO_LARGE_CLOSE, server_size_max(s));
        server_end_session(s);
    }
    s->chunk_left = s->chunk_size;
    return s->state != ST_CLOSED;
}

void server_run_bdat(struct smtp_server *s, struct bytes args)
{
    if (!server_take_chunk_size(s, args))
        return;
    if (s->state == ST_RCPT) {
        begin_content(s, true);
        return;
    }
    server_go(s, ST_BDAT);
    if (s->chunk_left == 0)
        end_chunk(s);
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

static uint64_t fault_limit(const struct smtp_content *c)
{
    return c->fault == SMTP_CONTENT_LINE_TOO_LONG ? c->line_max : c->size_max;
}

// A fault ends the transaction at once, so that nobody keeps the content; the reply comes at its
// end.
static void drop_faulty(struct smtp_server *s)
{
    if (s->command)
        server_note_number(s, fault_reply(s->content.fault), fault_limit(&s->content));
    server_end_transaction(s, SMTP_RESET_REFUSED);
}

static void refuse_content(struct smtp_server *s)
{
    drop_faulty(s);
    server_go(s, ST_READY);
    s->errors++;
    server_reply_number(s, fault_reply(s->content.fault), fault_limit(&s->content));
    server_settle(s);
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

static void watch_content(struct smtp_server *s)
{
    if (s->content.fault)
        drop_faulty(s);
    if (s->content.size > server_size_max(s) + OVERRUN_MAX) {
        server_reply_number(s, SMTP_REPLY_TOO_LARGE_CLOSE, server_size_max(s));
        server_end_session(s);
    }
}

struct mono server_content_due(const struct smtp_server *s)
{
    const struct smtp_server_config *c = s->config;
    uint64_t start_ms = server_limit((uint64_t)c->command_timeout_ms, COMMAND_TIMEOUT_DEFAULT_MS);
    uint64_t paid = s->content_octets * 1000 / server_limit(c->data_rate_min, DATA_RATE_DEFAULT);
    return mono_add_ms(s->content_since, (int64_t)(start_ms + paid));
}

size_t server_feed_data(struct smtp_server *s, struct bytes in)
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
        server_go(s, s->state_after_skip);
        server_settle(s);
        return;
    }
    if (s->chunk_last)
        smtp_content_end(&s->content);
    if (s->chunk_last || s->content.fault) {
        end_content(s);
        return;
    }
    // Progress, unless the content as a whole is too slow: an octet now and then holds no session for ever.
    if (s->chunk_size > 0 && !mono_reached(server_content_due(s), s->now))
        s->progress_at = s->now;
    server_go(s, ST_CHUNKS);
    server_reply_number(s, SMTP_REPLY_CHUNK, s->chunk_size);
}

size_t server_feed_chunk(struct smtp_server *s, struct bytes in)
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

// ---- answers

void server_answer_data(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    if (smtp_reply_is_ok(id)) {
        CHECK(id == SMTP_REPLY_START_MAIL);
        server_go(s, s->chunked ? ST_BDAT : ST_DATA);
        if (!s->chunked)
            server_reply(s, id, slot);
        else if (s->chunk_left == 0)
            end_chunk(s);
        return;
    }
    bool chunked = s->chunked;
    server_note_answer(s, id, slot);
    server_end_transaction(s, SMTP_RESET_REFUSED);
    if (chunked) {
        server_refuse_chunk(s, id, slot, ST_READY);
        return;
    }
    server_go(s, ST_READY);
    server_refuse(s, id, slot);
}

void server_answer_end(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot)
{
    s->open = false; // the owner has the message or has dropped it: no on_reset
    server_end_transaction(s, SMTP_RESET_REFUSED);
    server_go(s, ST_READY);
    s->progress_at = s->now;
    if (smtp_reply_is_ok(id))
        s->errors = s->junk = 0;
    server_reply(s, id, slot);
}
