// SPDX-License-Identifier: MIT
//
// sink_smtp - see the header
//
// How it works: a command's verdict is asked for once; its delay is waited for with the reply kept
// back, and no input is taken meanwhile. Replies collect in `out`.
#include "cli/sink_smtp.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/check.h"
#include "cli/sink_content.h"

#define HANG_MS 3600000 // longer than anyone waits; then the connection is dropped

enum state { STATE_COMMAND, STATE_DATA, STATE_BDAT, STATE_CLOSING, STATE_DROPPED };

struct sink_smtp {
    struct sink_smtp_config config;
    enum state state;
    struct buf out;
    struct buf delayed; // replies that wait for wake_at
    struct mono wake_at, began;
    bool close_after, wants_tls, tls, hello, drop_after_delay, reply_lost;
    uint32_t messages;     // taken on this connection
    bool take_after_delay; // a message counts as taken when its reply goes out
    bool has_mail, content_open, bdat_last;
    uint64_t bdat_left, drop_after; // of the chunk; content bytes until a drop (UINT64_MAX: none)
    struct arena arena;             // of the transaction
    struct bytes sender;
    struct bytes *recipients;
    size_t recipients_count, recipients_cap;
    struct bytes *taken; // those who got the message
    size_t taken_count;
    struct sink_content content;
};

// ---- replies -----------------------------------------------------------------------------------

static struct buf *reply_buf(struct sink_smtp *s)
{
    return s->wake_at.us == MONO_NEVER.us ? &s->out : &s->delayed;
}

static void reply(struct sink_smtp *s, unsigned code, struct bytes text)
{
    struct bytes line;
    while (bytes_cut(&text, '\n', &line))
        buf_printf(reply_buf(s), "%u%c%.*s\r\n", code, text.at ? '-' : ' ', BYTES_FMT(line));
    if (code == 421)
        s->close_after = true;
}

static void reply_cstr(struct sink_smtp *s, unsigned code, const char *text)
{
    reply(s, code, bytes_cstr(text));
}

static void drop(struct sink_smtp *s)
{
    if (s->wake_at.us != MONO_NEVER.us)
        s->drop_after_delay = true;
    else
        s->state = STATE_DROPPED;
}

// Obeys what the rules say of a step; true if it is accepted (the caller then replies).
static bool obey(struct sink_smtp *s, enum sink_step step, const struct bytes *addresses,
                 size_t count, struct mono now)
{
    struct sink_verdict v = sink_rules_ask(s->config.rules, step, addresses, count, now);
    if (v.delay_ms && s->wake_at.us == MONO_NEVER.us)
        s->wake_at = mono_add_ms(now, v.delay_ms);
    if (v.kind == SINK_HANG) {
        s->wake_at = mono_add_ms(now, HANG_MS);
        drop(s);
    }
    s->reply_lost = v.kind == SINK_LOSE;
    if (v.kind == SINK_DROP || v.kind == SINK_LOSE)
        drop(s);
    else if (v.kind == SINK_REPLY)
        reply(s, v.code, v.text);
    return v.kind == SINK_ACCEPT || v.kind == SINK_LOSE;
}

static void settle(struct sink_smtp *s)
{
    if (s->wake_at.us != MONO_NEVER.us)
        return;
    if (s->close_after && s->state != STATE_DROPPED)
        s->state = STATE_CLOSING;
}

// ---- transactions ------------------------------------------------------------------------------

static void transaction_reset(struct sink_smtp *s)
{
    s->has_mail = s->content_open = false;
    s->recipients = NULL;
    s->recipients_count = s->recipients_cap = 0;
    arena_done(&s->arena);
}

static void add_recipient(struct sink_smtp *s, struct bytes path)
{
    if (s->recipients_count == s->recipients_cap) {
        size_t cap = s->recipients_cap ? 2 * s->recipients_cap : 8;
        struct bytes *more = arena_new(&s->arena, cap * sizeof *more);
        if (s->recipients_count)
            memcpy(more, s->recipients, s->recipients_count * sizeof *more);
        s->recipients = more;
        s->recipients_cap = cap;
    }
    s->recipients[s->recipients_count++] = arena_dup(&s->arena, path);
}

// "id ID" of a Received field's value.
static struct bytes received_id(struct bytes header)
{
    ptrdiff_t at = bytes_search(header, BYTES("Received:"));
    if (at < 0)
        return BYTES_NONE;
    struct bytes rest = bytes_skip(header, (size_t)at);
    at = bytes_search(rest, BYTES(" id "));
    ptrdiff_t semicolon = bytes_find(rest, ';');
    if (at < 0 || (semicolon >= 0 && semicolon < at))
        return BYTES_NONE;
    rest = bytes_skip(rest, (size_t)at + 4);
    size_t n = 0;
    while (n < rest.len && ascii_is_alnum(rest.at[n]))
        n++;
    return bytes_first(rest, n);
}

static void tell_message(struct sink_smtp *s, const struct bytes *recipients, size_t count)
{
    struct bytes header = buf_bytes(&s->content.header);
    struct sink_message m = {
        .id = sink_content_field(&s->content, "X-Load-Id"),
        .sender = s->sender,
        .recipients = recipients,
        .recipients_count = count,
        .size = s->content.size,
        .bare_newlines = s->content.bare_newlines,
        .header = header,
        .body = buf_bytes(&s->content.body),
        .is_lost = s->reply_lost,
        .number = ++s->messages,
        .began = s->began,
    };
    if (!m.id.len)
        m.id = received_id(header);
    sink_content_finish(&s->content, m.sha256);
    if (s->config.on_message && count)
        s->config.on_message(s->config.ctx, &m);
}

static void take_message(struct sink_smtp *s)
{
    if (s->taken_count)
        tell_message(s, s->taken, s->taken_count);
    transaction_reset(s);
}

// RFC 2033 4.2: one reply for each recipient that was accepted.
static void decide_each(struct sink_smtp *s, struct mono now)
{
    for (size_t i = 0; i < s->recipients_count && s->state != STATE_DROPPED; i++)
        if (obey(s, SINK_FINAL, &s->recipients[i], 1, now)) {
            s->taken[s->taken_count++] = s->recipients[i];
            reply_cstr(s, 250, "2.0.0 Ok: taken");
        }
}

static void decide_all(struct sink_smtp *s, struct mono now)
{
    if (!obey(s, SINK_FINAL, s->recipients, s->recipients_count, now))
        return;
    memcpy(s->taken, s->recipients, s->recipients_count * sizeof *s->taken);
    s->taken_count = s->recipients_count;
    reply_cstr(s, 250, "2.0.0 Ok: taken");
}

static void end_message(struct sink_smtp *s, struct mono now)
{
    s->state = STATE_COMMAND;
    s->taken = arena_new(&s->arena, (s->recipients_count + 1) * sizeof *s->taken);
    s->taken_count = 0;
    if (s->config.lmtp)
        decide_each(s, now);
    else
        decide_all(s, now);
    s->take_after_delay = s->wake_at.us != MONO_NEVER.us;
    if (!s->take_after_delay)
        take_message(s);
}

void sink_smtp_tick(struct sink_smtp *s, struct mono now)
{
    if (!mono_reached(s->wake_at, now))
        return;
    s->wake_at = MONO_NEVER;
    if (s->take_after_delay)
        take_message(s);
    s->take_after_delay = false;
    buf_add(&s->out, buf_bytes(&s->delayed));
    buf_clear(&s->delayed);
    if (s->drop_after_delay)
        s->state = STATE_DROPPED;
    settle(s);
}

// ---- commands ----------------------------------------------------------------------------------

const struct sink_extension sink_extensions[SINK_EXTENSIONS] = {
    {"PIPELINING", SINK_NO_PIPELINING},
    {"8BITMIME", SINK_NO_8BITMIME},
    {"SMTPUTF8", SINK_NO_SMTPUTF8},
    {"DSN", SINK_NO_DSN},
    {"CHUNKING", SINK_NO_CHUNKING},
    {"SIZE", SINK_NO_SIZE},
    {"ENHANCEDSTATUSCODES", SINK_NO_ENHANCEDSTATUSCODES},
};

static void say_extensions(struct sink_smtp *s)
{
    struct buf text = {0};
    buf_add(&text, s->config.hostname);
    for (size_t i = 0; i < SINK_EXTENSIONS; i++)
        if (!(s->config.without & sink_extensions[i].without))
            buf_printf(&text, "\n%s", sink_extensions[i].keyword);
    if (s->config.starttls && !s->tls)
        buf_add_cstr(&text, "\nSTARTTLS");
    reply(s, 250, buf_bytes(&text));
    buf_done(&text);
}

static void do_hello(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    transaction_reset(s);
    s->hello = obey(s, SINK_HELO, NULL, 0, now);
    if (s->hello)
        reply(s, 250, s->config.hostname);
}

static void do_ehlo(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    if (s->config.without & SINK_NO_EHLO) {
        reply_cstr(s, 502, "5.5.1 what is EHLO?");
        return;
    }
    transaction_reset(s);
    s->hello = obey(s, SINK_HELO, NULL, 0, now);
    if (s->hello)
        say_extensions(s);
}

// "FROM:<path> PARAMETERS": the path without <>. False: malformed.
static bool take_path(struct bytes argument, struct bytes keyword, struct bytes *out)
{
    if (!bytes_starts_nocase(argument, keyword))
        return false;
    argument = bytes_trim(bytes_skip(argument, keyword.len));
    ptrdiff_t end = bytes_find(argument, '>');
    if (!argument.len || argument.at[0] != '<' || end < 0)
        return false;
    *out = bytes_mid(argument, 1, (size_t)end - 1);
    return true;
}

static void do_mail(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    struct bytes path;
    if (!s->hello || s->has_mail) {
        reply_cstr(s, 503, s->has_mail ? "5.5.1 nested MAIL" : "5.5.1 say hello first");
    } else if (!take_path(argument, BYTES("FROM:"), &path)) {
        reply_cstr(s, 501, "5.5.4 MAIL FROM:<address>");
    } else if (obey(s, SINK_MAIL, &path, 1, now)) {
        s->has_mail = true;
        s->sender = arena_dup(&s->arena, path);
        reply_cstr(s, 250, "2.1.0 Ok");
    }
}

static void do_rcpt(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    struct bytes path;
    if (!s->has_mail) {
        reply_cstr(s, 503, "5.5.1 MAIL first");
    } else if (!take_path(argument, BYTES("TO:"), &path) || !path.len) {
        reply_cstr(s, 501, "5.5.4 RCPT TO:<address>");
    } else if (s->recipients_count == SINK_RECIPIENTS_MAX) {
        reply_cstr(s, 452, "4.5.3 too many recipients");
    } else if (obey(s, SINK_RCPT, &path, 1, now)) {
        add_recipient(s, path);
        reply_cstr(s, 250, "2.1.5 Ok");
    }
}

static void content_begin(struct sink_smtp *s, struct mono now)
{
    sink_content_begin(&s->content, s->config.hash, SINK_HEADER_MAX, s->config.keep_body_max);
    s->content_open = true;
    struct sink_verdict v =
        sink_rules_ask(s->config.rules, SINK_CONTENT, s->recipients, s->recipients_count, now);
    s->drop_after = v.kind == SINK_DROP ? v.drop_after_bytes : UINT64_MAX;
}

static void do_data(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    if (!s->recipients_count) {
        reply_cstr(s, s->has_mail ? 554 : 503, "5.5.1 no valid recipients");
    } else if (obey(s, SINK_DATA, s->recipients, s->recipients_count, now)) {
        reply_cstr(s, 354, "go ahead");
        content_begin(s, now);
        s->state = STATE_DATA;
    }
}

// RFC 3030 section 2: BDAT chunk-size [ SP "LAST" ]
static void do_bdat(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    struct bytes size = BYTES_NONE;
    bytes_cut(&argument, ' ', &size);
    bool last = bytes_eq_nocase(bytes_trim(argument), BYTES("LAST"));
    if (bytes_to_u64(size, UINT64_MAX >> 1, &s->bdat_left)) {
        reply_cstr(s, 501, "5.5.4 BDAT size [LAST]");
        s->close_after = true; // what follows can't be understood
        return;
    }
    s->bdat_last = last;
    if (!s->content_open)
        content_begin(s, now);
    s->state = STATE_BDAT;
}

static void do_rset(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    transaction_reset(s);
    reply_cstr(s, 250, "2.0.0 Ok");
}

static void do_noop(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    reply_cstr(s, 250, "2.0.0 Ok");
}

static void do_quit(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    reply_cstr(s, 221, "2.0.0 bye");
    s->close_after = true;
}

static void do_starttls(struct sink_smtp *s, struct bytes argument, struct mono now)
{
    if (!s->config.starttls || s->tls) {
        reply_cstr(s, 502, "5.5.1 not offered");
        return;
    }
    reply_cstr(s, 220, "2.0.0 go ahead");
    s->wants_tls = true;
}

static const struct command {
    const char *verb;
    void (*run)(struct sink_smtp *s, struct bytes argument, struct mono now);
    enum { IN_ANY, IN_SMTP, IN_LMTP } in;
} commands[] = {
    {"EHLO", do_ehlo, IN_SMTP}, {"HELO", do_hello, IN_SMTP},       {"LHLO", do_ehlo, IN_LMTP},
    {"MAIL", do_mail, IN_ANY},  {"RCPT", do_rcpt, IN_ANY},         {"DATA", do_data, IN_ANY},
    {"BDAT", do_bdat, IN_ANY},  {"RSET", do_rset, IN_ANY},         {"NOOP", do_noop, IN_ANY},
    {"QUIT", do_quit, IN_ANY},  {"STARTTLS", do_starttls, IN_ANY},
};

static void run_command(struct sink_smtp *s, struct bytes line, struct mono now)
{
    struct bytes verb;
    line = bytes_trim(line);
    bytes_cut(&line, ' ', &verb);
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        const struct command *c = &commands[i];
        if (bytes_eq_nocase(verb, bytes_cstr(c->verb)) &&
            (c->in == IN_ANY || (c->in == IN_LMTP) == s->config.lmtp)) {
            c->run(s, bytes_trim(line), now);
            return;
        }
    }
    reply_cstr(s, 500, "5.5.1 unknown command");
}

// ---- input -------------------------------------------------------------------------------------

// Counts content against a planned drop; false if it strikes.
static bool survives(struct sink_smtp *s, size_t taken)
{
    if (s->drop_after == UINT64_MAX)
        return true;
    if (taken < s->drop_after) {
        s->drop_after -= taken;
        return true;
    }
    s->state = STATE_DROPPED;
    return false;
}

static size_t feed_data(struct sink_smtp *s, struct bytes in, struct mono now)
{
    size_t used;
    bool end = sink_content_feed(&s->content, in, &used);
    if (survives(s, used) && end)
        end_message(s, now);
    return used;
}

static void end_chunk(struct sink_smtp *s, struct mono now)
{
    bool last = s->bdat_last;
    s->state = STATE_COMMAND;
    if (!s->recipients_count) {
        reply_cstr(s, 503, "5.5.1 no valid recipients");
        if (last)
            transaction_reset(s);
    } else if (last) {
        end_message(s, now);
    } else {
        reply_cstr(s, 250, "2.0.0 chunk taken");
    }
}

static size_t feed_bdat(struct sink_smtp *s, struct bytes in, struct mono now)
{
    struct bytes piece = bytes_first(in, s->bdat_left < in.len ? (size_t)s->bdat_left : in.len);
    if (s->recipients_count)
        sink_content_add(&s->content, piece);
    s->bdat_left -= piece.len;
    if (survives(s, piece.len) && s->bdat_left == 0)
        end_chunk(s, now);
    return piece.len;
}

static size_t feed_command(struct sink_smtp *s, struct bytes in, struct mono now)
{
    ptrdiff_t end = bytes_find(in, '\n');
    if (end < 0 && in.len < SINK_LINE_MAX)
        return 0;
    if (end < 0 || end >= SINK_LINE_MAX) {
        reply_cstr(s, 500, "5.5.2 line too long");
        s->close_after = true;
        return in.len;
    }
    run_command(s, bytes_first(in, (size_t)end), now);
    return (size_t)end + 1;
}

static size_t feed_some(struct sink_smtp *s, struct bytes in, struct mono now)
{
    size_t used = s->state == STATE_DATA   ? feed_data(s, in, now)
                  : s->state == STATE_BDAT ? feed_bdat(s, in, now)
                                           : feed_command(s, in, now);
    settle(s);
    return used;
}

size_t sink_smtp_feed(struct sink_smtp *s, struct bytes in, struct mono now)
{
    size_t used = 0;
    while (sink_smtp_wants(s) == SINK_WANTS_INPUT) {
        bool chunk_of_none = s->state == STATE_BDAT && s->bdat_left == 0;
        if (used == in.len && !chunk_of_none)
            break;
        size_t n = feed_some(s, bytes_skip(in, used), now);
        if (n == 0 && !chunk_of_none)
            break;
        used += n;
    }
    return used;
}

// ---- life --------------------------------------------------------------------------------------

enum sink_wants sink_smtp_wants(const struct sink_smtp *s)
{
    if (s->state == STATE_DROPPED)
        return SINK_WANTS_DROP;
    if (s->wake_at.us != MONO_NEVER.us)
        return SINK_WANTS_TIME;
    if (s->state == STATE_CLOSING)
        return SINK_WANTS_CLOSE;
    if (s->wants_tls)
        return SINK_WANTS_TLS;
    return s->out.len >= SINK_OUTPUT_HIGH ? SINK_WANTS_DRAIN : SINK_WANTS_INPUT;
}

struct mono sink_smtp_wake_at(const struct sink_smtp *s)
{
    return s->wake_at;
}

struct buf *sink_smtp_output(struct sink_smtp *s)
{
    return &s->out;
}

void sink_smtp_tls_started(struct sink_smtp *s)
{
    transaction_reset(s);
    s->wants_tls = s->hello = false;
    s->tls = true;
}

struct sink_smtp *sink_smtp_new(const struct sink_smtp_config *config, struct mono now)
{
    struct sink_smtp *s = mem_new(sizeof *s);
    s->config = *config;
    s->wake_at = MONO_NEVER;
    s->began = now;
    s->drop_after = UINT64_MAX;
    if (obey(s, SINK_CONNECT, NULL, 0, now)) {
        struct buf text = {0};
        buf_printf(&text, "%.*s %s posthaste sink", BYTES_FMT(config->hostname),
                   config->lmtp ? "LMTP" : "ESMTP");
        reply(s, 220, buf_bytes(&text));
        buf_done(&text);
    } else {
        s->close_after = true;
    }
    settle(s);
    return s;
}

void sink_smtp_free(struct sink_smtp *s)
{
    if (!s)
        return;
    transaction_reset(s);
    sink_content_done(&s->content);
    buf_done(&s->out);
    buf_done(&s->delayed);
    free(s);
}
