// SPDX-License-Identifier: MIT
//
// smtp_model_fuzz - a server session fed arbitrary bytes, beside a model of SMTP's states
//
// The model knows nothing of smtp_server.c: it cuts the input into commands, contents and responses itself, and
// says for each what may come. Laws: exactly one reply for each; no content is taken before its 354 (or BDAT);
// after every failure the transaction is fully reset or fully kept. The first byte chooses the setup.
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "smtp/smtp_testkit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define UNITS_MAX 200
#define CHUNK_MAX 8192

struct model {
    bool hello, tls, logged_in, mail, chunks, binary, in_auth;
    unsigned good; // recipients
};

struct session {
    struct testkit t;
    struct model m;
    size_t seen; // of the transcript
    struct bytes rest;
};

// ---- the input, cut -------------------------------------------------------------------------------------

static void take_line(struct session *s, struct buf *out)
{
    ptrdiff_t lf = bytes_find(s->rest, '\n');
    buf_add(out, lf < 0 ? s->rest : bytes_first(s->rest, (size_t)lf + 1));
    if (lf < 0)
        buf_add_cstr(out, "\r\n");
    s->rest = bytes_skip(s->rest, lf < 0 ? s->rest.len : (size_t)lf + 1);
}

// RFC 5321 4.1.1.4: up to CRLF.CRLF; the content may begin with the dot.
static void take_content(struct session *s, struct buf *out)
{
    struct bytes end = BYTES("\r\n.\r\n");
    ptrdiff_t at = bytes_search(s->rest, end);
    bool empty = bytes_starts(s->rest, BYTES(".\r\n"));
    size_t n = empty ? 3 : at < 0 ? s->rest.len : (size_t)at + end.len;
    buf_add(out, bytes_first(s->rest, n));
    s->rest = bytes_skip(s->rest, n);
    if (empty || at >= 0)
        return;
    struct bytes content = buf_bytes(out);
    bool dot = bytes_eq(content, BYTES(".")) || bytes_ends(content, BYTES("\r\n."));
    if (content.len && !bytes_ends(content, BYTES("\r\n")))
        buf_add_cstr(out, "\r\n");
    if (!dot)
        buf_add_cstr(out, ".\r\n");
}

static bool is_verb(struct bytes line, const char *verb)
{
    struct bytes v = bytes_cstr(verb);
    return bytes_starts_nocase(line, v) &&
           (line.at[v.len] == ' ' || line.at[v.len] == '\r' || line.at[v.len] == '\n');
}

// "BDAT 12 LAST": RFC 3030 section 2. False if it is none: then no octets follow.
static bool is_chunk(struct bytes line, uint64_t *out_size, bool *out_last)
{
    if (!is_verb(line, "BDAT") || line.at[4] != ' ' || !bytes_ends(line, BYTES("\r\n")) ||
        line.len > SMTP_SERVER_LINE_MAX)
        return false;
    struct bytes rest = bytes_first(line, line.len - 2), number;
    if (bytes_has_control(rest, NULL))
        return false;
    rest = bytes_trim(bytes_skip(rest, 5));
    if (!bytes_cut(&rest, ' ', &number) || bytes_to_u64(number, INT64_MAX, out_size) != OK)
        return false;
    rest = bytes_trim(rest);
    *out_last = bytes_eq_nocase(rest, BYTES("LAST"));
    return rest.len == 0 || *out_last;
}

// ---- one command and its reply ------------------------------------------------------------------------

// How many replies came since the last call; the code of the last one.
static unsigned replies(struct session *s, int *out_code)
{
    struct bytes fresh = bytes_skip(buf_bytes(&s->t.transcript), s->seen), line;
    unsigned n = 0;
    s->seen = s->t.transcript.len;
    while (bytes_cut(&fresh, '\n', &line)) {
        if (line.len < 4 || line.at[0] < '2' || line.at[0] > '5')
            continue;
        if (line.at[3] != ' ')
            continue;
        *out_code = (line.at[0] - '0') * 100 + (line.at[1] - '0') * 10 + line.at[2] - '0';
        n++;
    }
    return n;
}

static int send_unit(struct session *s, struct bytes unit, unsigned cuts)
{
    int code = 0;
    testkit_feed(&s->t, unit, cuts);
    CHECK(replies(s, &code) == 1); // one for each, no more
    return code;
}

static bool is_closed(const struct session *s)
{
    return bytes_ends(buf_bytes(&s->t.transcript), BYTES("[close]"));
}

static void forget(struct model *m)
{
    m->mail = m->chunks = m->binary = false;
    m->good = 0;
}

static bool may_have_content(const struct model *m)
{
    return m->hello && m->mail && m->good > 0;
}

// A parameter of the line, in any case.
static bool has_word(struct bytes line, const char *word)
{
    struct bytes part;
    while (bytes_cut(&line, ' ', &part))
        if (bytes_eq_nocase(bytes_trim(part), bytes_cstr(word)))
            return true;
    return false;
}

// The state after a reply to a command that is neither content nor part of an exchange.
static void advance(struct model *m, struct bytes line, int code)
{
    bool good = code < 400;
    if ((is_verb(line, "EHLO") || is_verb(line, "HELO")) && good) {
        forget(m);
        m->hello = true;
    } else if (is_verb(line, "RSET") && good) {
        forget(m);
    } else if (is_verb(line, "MAIL") && good) {
        CHECK(m->hello && !m->mail);
        m->mail = true;
        m->binary = has_word(line, "BODY=BINARYMIME");
    } else if (is_verb(line, "RCPT") && good) {
        CHECK(m->mail && !m->chunks);
        m->good++;
    } else if (is_verb(line, "STARTTLS") && good) {
        CHECK(m->hello && !m->tls && !m->mail);
        *m = (struct model){.tls = true};
    } else if (is_verb(line, "AUTH") && good) {
        CHECK(m->hello && !m->mail && !m->logged_in);
        m->in_auth = code == 334;
        m->logged_in = code == 235;
    }
}

static void check(const struct session *s)
{
    if (is_closed(s))
        return;
    CHECK(smtp_server_in_transaction(s->t.server) == s->m.mail);
    CHECK(s->t.transaction == s->m.mail);
    CHECK(smtp_server_is_authenticated(s->t.server) == s->m.logged_in);
}

static void run_chunk(struct session *s, struct buf *unit, uint64_t size, bool last, unsigned cuts)
{
    bool may = may_have_content(&s->m);
    uint32_t before = s->t.messages;
    struct bytes chunk = bytes_first(s->rest, size);
    buf_add(unit, chunk);
    s->rest = bytes_skip(s->rest, chunk.len);
    for (uint64_t i = chunk.len; i < size; i++)
        buf_add_byte(unit, 'x');
    int code = send_unit(s, buf_bytes(unit), cuts);
    CHECK(code != 354 && (may || code >= 400));
    CHECK(s->t.messages == before + (last && code == 250));
    if (!may)
        return; // kept
    s->m.chunks = true;
    if (last || code != 250)
        forget(&s->m);
}

static void run_data(struct session *s, unsigned cuts)
{
    struct buf content = {0};
    uint32_t before = s->t.messages;
    CHECK(may_have_content(&s->m) && !s->m.chunks);
    take_content(s, &content);
    int code = send_unit(s, buf_bytes(&content), cuts);
    CHECK(code != 354 && s->t.messages == before + (code == 250));
    forget(&s->m);
    buf_done(&content);
}

static void run_line(struct session *s, unsigned cuts)
{
    struct buf unit = {0};
    uint64_t size;
    bool last;
    take_line(s, &unit);
    struct bytes line = buf_bytes(&unit);
    if (s->m.in_auth) {
        int code = send_unit(s, line, cuts);
        s->m.in_auth = code == 334;
        s->m.logged_in = code == 235;
    } else if (is_chunk(line, &size, &last) && size <= CHUNK_MAX) {
        run_chunk(s, &unit, size, last, cuts);
    } else if (is_chunk(line, &size, &last)) {
        s->rest = BYTES_NONE; // more than is worth the time
    } else {
        size_t body = s->t.body.len;
        uint32_t messages = s->t.messages;
        bool may = may_have_content(&s->m) && !s->m.chunks;
        int code = send_unit(s, line, cuts);
        CHECK((s->t.body.len == body || s->t.body.len == 0) && s->t.messages == messages);
        CHECK(code != 354 || (is_verb(line, "DATA") && may && !s->m.binary));
        if (code == 354)
            run_data(s, cuts);
        else if (is_verb(line, "DATA") && may && code < 500)
            forget(&s->m); // refused for now, by the owner
        else
            advance(&s->m, line, code);
    }
    buf_done(&unit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 8192)
        return 0;
    struct session s = {.rest = bytes_of(data + 2, size - 2)};
    int code = 0;
    testkit_init(&s.t);
    s.t.config.errors_max = s.t.config.junk_max = s.t.config.auth_failures_max = 1000000;
    s.t.later = data[0] & 1;
    s.t.config.message_size_max = data[0] & 2 ? 100 : 0;
    s.t.config.text_line_max = data[0] & 4 ? 50 : 0;
    s.t.config.auth = data[0] & 8 ? SMTP_AUTH_REQUIRED : SMTP_AUTH_OPTIONAL;
    s.t.refuse_data = data[0] & 16;
    s.t.config.scheduling = data[0] & 128;
    s.m.tls = data[0] & 32;
    testkit_start(&s.t, s.m.tls, data[0] & 64);
    testkit_feed(&s.t, BYTES_NONE, 0);
    CHECK(replies(&s, &code) == 1 && code == 220);
    for (int i = 0; i < UNITS_MAX && s.rest.len && !is_closed(&s); i++) {
        run_line(&s, data[1] % 4);
        check(&s);
    }
    testkit_done(&s.t);
    return 0;
}
