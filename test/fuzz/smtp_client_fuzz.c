// SPDX-License-Identifier: MIT
//
// smtp_client_fuzz - a client session with two messages to send, fed an arbitrary server, beside a model of SMTP's states
//
// The model knows nothing of smtp_client.c: it reads what the server said and what the client says, and keeps which
// commands wait for which replies. Laws: each command may come then (RFC 5321 4.1.4), more than one at a time only where
// PIPELINING is offered, and uses only what is offered; content follows the 354 of its own DATA, is whole, and has one
// end; each recipient is settled exactly once, by the reply that is about it, or by the session's end; what the server
// may not say ends the session. The first byte chooses the setup.
#include "base/check.h"
#include "smtp/smtp_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RCPTS 3
#define INPUT_MAX 8192 // nothing of a reply is left out then

// What waits for its reply. FINAL: content, of which LMTP answers each recipient.
enum unit { NOTHING, GREETING, HELLO, STARTTLS, LOGIN, RESET, MAIL, RCPT, DATA, FINAL, QUIT };

struct model {
    const struct smtp_client_config *config;
    enum unit waits[RCPTS + 4]; // in their order
    size_t count;
    struct buf line,
        reply; // of the server, as far as they have come; the reply's lines without their codes
    int code;  // of the reply
    // the session
    struct buf offers; // the reply to EHLO
    bool may_ehlo, may_helo, helo, hello, tls, handshake, logged_in, challenged;
    bool open; // the server has a transaction in hand, and takes no other MAIL
    bool over; // nothing may follow what the server said
    // the transaction
    bool began;    // MAIL was said
    enum unit way; // DATA, FINAL (BDAT), or NOTHING yet
    uint32_t rcpts_said, rcpts_answered;
    bool accepted[RCPTS];
    int decided[RCPTS];   // the code that became of it
    struct bytes content; // that is still to come
};

static const struct bytes text = BYTES("Subject: x\r\n\r\n.\r\n..\r\nMAIL FROM:<x@y.z>\r\nlast");
static const struct bytes stuffed =
    BYTES("Subject: x\r\n\r\n..\r\n...\r\nMAIL FROM:<x@y.z>\r\nlast\r\n.\r\n");
static const struct smtp_client_rcpt rcpts[RCPTS] = {{BYTES("a@b.c"), NOTIFY_NEVER, BYTES("")},
                                                     {BYTES("b@b.c"), 0, BYTES("rfc822;x")},
                                                     {BYTES("c@b.c"), 0, BYTES("")}};

// ---- the model ------------------------------------------------------------------------------------------

static void await(struct model *m, enum unit unit)
{
    CHECK(m->count < COUNT_OF(m->waits));
    m->waits[m->count++] = unit;
}

// Behind the server's name. `loosely`: anywhere in a line, which is more than the client may go by, but little more;
// else the first word, which it must not overlook.
static bool is_offered(const struct model *m, struct bytes keyword, bool loosely)
{
    struct bytes lines = buf_bytes(&m->offers), line, word;
    bytes_cut(&lines, '\n', &line);
    while (bytes_cut(&lines, '\n', &line))
        while (bytes_cut(&line, ' ', &word)) {
            if (bytes_starts_nocase(word, BYTES("AUTH="))) // of old
                word = bytes_skip(word, 5);
            if (bytes_eq_nocase(word, keyword))
                return true;
            if (!loosely)
                break;
        }
    return false;
}

static bool offers(const struct model *m, struct bytes keyword)
{
    return is_offered(m, keyword, true);
}

static uint32_t good(const struct model *m)
{
    uint32_t n = 0;
    for (int i = 0; i < RCPTS; i++)
        n += m->accepted[i] && !m->decided[i];
    return n;
}

static void decide(struct model *m, int code)
{
    for (int i = 0; i < RCPTS; i++)
        m->decided[i] = m->decided[i] ? m->decided[i] : code;
}

static void forget(struct model *m)
{
    m->began = false;
    m->way = NOTHING;
    m->rcpts_said = m->rcpts_answered = 0;
    memset(m->accepted, 0, sizeof m->accepted);
    memset(m->decided, 0, sizeof m->decided);
}

// ---- what the server says

static bool is_positive(int code)
{
    return code >= 200 && code < 300;
}

static void on_hello(struct model *m, int code)
{
    buf_clear(&m->offers);
    m->hello = is_positive(code);
    if (m->hello && !m->helo)
        buf_add(&m->offers, buf_bytes(&m->reply));
    m->may_helo = code >= 500 && !m->helo && !m->tls && !m->config->lmtp; // RFC 5321 3.2
    m->over = !m->hello && !m->may_helo;
}

static void on_mail(struct model *m, int code)
{
    m->open = is_positive(code);
    m->over = !m->open && code < 400;
    if (code >= 400)
        decide(m, code);
}

static void on_rcpt(struct model *m, int code)
{
    uint32_t i = m->rcpts_answered++;
    if (code >= 400 && !m->decided[i])
        m->decided[i] = code;
    m->accepted[i] = is_positive(code);
    m->over = !m->accepted[i] && code < 400;
}

static void on_data(struct model *m, int code)
{
    if (code == 354 && !(m->config->lmtp && !good(m)))
        m->content = good(m) ? stuffed : BYTES(".\r\n"); // RFC 2920 3.1: of all that were refused
    else if (code >= 400)
        decide(m, code);
    else
        m->over = true;
}

static void on_final(struct model *m, int code)
{
    m->over = !is_positive(code) && code < 400;
    if (m->over)
        return;
    for (int i = 0; i < RCPTS && m->config->lmtp; i++) // RFC 2033 4.2: in their order
        if (m->accepted[i] && !m->decided[i]) {
            m->decided[i] = code;
            break;
        }
    if (m->config->lmtp && good(m)) {
        memmove(m->waits + 1, m->waits, m->count++ * sizeof m->waits[0]);
        m->waits[0] = FINAL;
        return;
    }
    decide(m, code);
    m->open = m->open && m->way == FINAL && !is_positive(code); // RFC 3030 section 2
}

static void on_reply(struct model *m, int code)
{
    enum unit unit = m->count ? m->waits[0] : NOTHING;
    if (m->count)
        memmove(m->waits, m->waits + 1, --m->count * sizeof m->waits[0]);
    m->over = unit == NOTHING || unit == QUIT || code == 421; // RFC 5321 3.8
    if (m->over)
        return;
    switch (unit) {
    case GREETING:
        m->may_ehlo = code == 220;
        m->over = !m->may_ehlo;
        break;
    case HELLO:
        on_hello(m, code);
        break;
    case STARTTLS:
        m->handshake = code == 220;
        m->over = !m->handshake;
        break;
    case LOGIN:
        m->challenged = code == 334;
        m->logged_in = code == 235;
        m->over = !m->challenged && !m->logged_in;
        break;
    case RESET:
        m->over = !is_positive(code);
        break;
    case MAIL:
        on_mail(m, code);
        break;
    case RCPT:
        on_rcpt(m, code);
        break;
    case DATA:
        on_data(m, code);
        break;
    default:
        on_final(m, code);
    }
}

// RFC 5321 4.2. Is it the last line of a reply?
static bool take_reply_line(struct model *m, struct bytes line)
{
    if (bytes_ends(line, BYTES("\r")))
        line.len--;
    uint64_t code = 0;
    bool number = bytes_to_u64(bytes_first(line, 3), 599, &code) == OK && code >= 200;
    bool first = m->code == 0, more = line.len > 3 && line.at[3] == '-';
    m->over =
        !number || (!first && m->code != (int)code) || (line.len > 3 && !more && line.at[3] != ' ');
    m->code = (int)code;
    buf_add_cstr(&m->reply, first ? "" : "\n");
    for (size_t i = 4; i < line.len; i++)
        buf_add_byte(&m->reply, line.at[i] == '\t' ? ' ' : line.at[i]);
    return !more && !m->over;
}

// A piece of it, before the client gets it.
static void server_says(struct model *m, struct bytes in)
{
    for (; in.len && !m->over; in = bytes_skip(in, 1)) {
        m->over = m->handshake; // CVE-2021-38371: nothing may come between it and the 220
        if (in.at[0] != '\n') {
            buf_add(&m->line, bytes_first(in, 1));
        } else {
            if (!m->over && take_reply_line(m, buf_bytes(&m->line))) {
                on_reply(m, m->code);
                buf_clear(&m->reply);
                m->code = 0;
            }
            buf_clear(&m->line);
        }
    }
}

// ---- what the client says

// No command waits, or it may come behind others (RFC 2920).
static bool may_follow(const struct model *m)
{
    return m->count == 0 || offers(m, BYTES("PIPELINING"));
}

static bool may_mail(const struct model *m)
{
    const struct smtp_client_config *c = m->config;
    bool after_reset = m->count == 1 && m->waits[0] == RESET && offers(m, BYTES("PIPELINING"));
    bool must_tls = c->tls == SMTP_CLIENT_TLS_REQUIRED || (c->tls == SMTP_CLIENT_TLS_IF_OFFERED &&
                                                           is_offered(m, BYTES("STARTTLS"), false));
    return m->hello && (m->count == 0 || after_reset) && !m->open && !m->began &&
           (m->tls || !must_tls) && (m->logged_in || !c->login.len);
}

// For somebody, as far as is known.
static bool may_send_content(const struct model *m)
{
    bool unknown = m->rcpts_answered < RCPTS || !m->open;
    return m->began && m->rcpts_said == RCPTS && m->way == NOTHING && may_follow(m) &&
           (good(m) || (unknown && m->count > 0));
}

// Parameters of MAIL and RCPT are of extensions that are offered.
static void check_parameters(const struct model *m, struct bytes line)
{
    static const struct {
        const char *begins, *keyword;
    } rows[] = {{"SIZE=", "SIZE"},
                {"BODY=8BITMIME", "8BITMIME"},
                {"BODY=BINARYMIME", "BINARYMIME"},
                {"SMTPUTF8", "SMTPUTF8"},
                {"RET=", "DSN"},
                {"ENVID=", "DSN"},
                {"NOTIFY=", "DSN"},
                {"ORCPT=", "DSN"},
                {"BY=", "DELIVERBY"},
                {"MT-PRIORITY=", "MT-PRIORITY"}};
    struct bytes word;
    bytes_cut(&line, '>', &word);
    bytes_cut(&line, ' ', &word);
    while (bytes_cut(&line, ' ', &word)) {
        bool known = false;
        for (size_t i = 0; i < COUNT_OF(rows); i++)
            known = known || (bytes_starts(word, bytes_cstr(rows[i].begins)) &&
                              offers(m, bytes_cstr(rows[i].keyword)));
        CHECK(known);
    }
}

static void say_mail(struct model *m, struct bytes line)
{
    CHECK(may_mail(m));
    m->began = true;
    check_parameters(m, line);
    await(m, MAIL);
}

static void say_rcpt(struct model *m, struct bytes line)
{
    CHECK(m->began && m->way == NOTHING && m->rcpts_said < RCPTS && may_follow(m));
    CHECK(m->open || m->count > 0); // not once MAIL was refused
    struct bytes path = rcpts[m->rcpts_said++].path, rest = bytes_skip(line, strlen("RCPT TO:<"));
    CHECK(bytes_starts(rest, path) && rest.at[path.len] == '>');
    check_parameters(m, line);
    await(m, RCPT);
}

static void say_content(struct model *m, bool by_data, struct bytes line)
{
    CHECK(may_send_content(m));
    m->way = by_data ? DATA : FINAL;
    if (!by_data) {
        uint64_t size;
        struct bytes word;
        bytes_cut(&line, ' ', &word);
        bytes_cut(&line, ' ', &word);
        CHECK(offers(m, BYTES("CHUNKING")) && bytes_eq(line, BYTES("LAST")));
        CHECK(bytes_to_u64(word, 1000, &size) == OK && size == text.len);
        m->content = text;
    }
    await(m, m->way);
}

static void command(struct model *m, struct bytes line)
{
    struct bytes rest = line, verb, argument;
    bytes_cut(&rest, ' ', &verb);
    if (m->challenged) { // whatever it says
        m->challenged = false;
        await(m, LOGIN);
    } else if (bytes_eq(verb, m->config->lmtp ? BYTES("LHLO") : BYTES("EHLO"))) {
        CHECK(m->may_ehlo);
        m->may_ehlo = false;
        await(m, HELLO);
    } else if (bytes_eq(verb, BYTES("HELO"))) {
        CHECK(m->may_helo);
        m->may_helo = false;
        m->helo = true;
        await(m, HELLO);
    } else if (bytes_eq(verb, BYTES("STARTTLS"))) {
        CHECK(m->hello && !m->tls && m->count == 0 && offers(m, verb));
        await(m, STARTTLS);
    } else if (bytes_eq(verb, BYTES("AUTH"))) {
        bytes_cut(&rest, ' ', &argument);
        CHECK(m->hello && m->count == 0 && !m->logged_in && offers(m, argument));
        await(m, LOGIN);
    } else if (bytes_eq(verb, BYTES("RSET"))) {
        CHECK(m->hello && m->count == 0 && m->open && !m->began);
        m->open = false;
        await(m, RESET);
    } else if (bytes_eq(verb, BYTES("MAIL"))) {
        say_mail(m, line);
    } else if (bytes_eq(verb, BYTES("RCPT"))) {
        say_rcpt(m, line);
    } else if (bytes_eq(verb, BYTES("DATA")) || bytes_eq(verb, BYTES("BDAT"))) {
        say_content(m, verb.at[0] == 'D', line);
    } else {
        CHECK(bytes_eq(verb, BYTES("QUIT")) && m->hello && m->count == 0 && !m->began);
        await(m, QUIT);
    }
}

static void client_says(struct model *m, struct bytes out)
{
    while (out.len) {
        if (m->content.len) {
            struct bytes piece = bytes_first(out, m->content.len);
            CHECK(bytes_eq(piece, bytes_first(m->content, piece.len)));
            m->content = bytes_skip(m->content, piece.len);
            out = bytes_skip(out, piece.len);
            if (!m->content.len && m->way == DATA)
                await(m, FINAL);
        } else {
            ptrdiff_t end = bytes_search(out, BYTES("\r\n"));
            CHECK(end >= 0 && !bytes_has_control(bytes_first(out, (size_t)end), NULL));
            command(m, bytes_first(out, (size_t)end));
            out = bytes_skip(out, (size_t)end + 2);
        }
    }
}

// ---- the session ----------------------------------------------------------------------------------------

struct session {
    struct smtp_client *client;
    struct model model;
    struct smtp_transaction transaction;
    size_t content_at;
    unsigned sent, settled, done, failed;
    bool told[RCPTS], said_quit;
};

static int content(void *ctx, size_t max, struct bytes *out, bool *out_end)
{
    struct session *s = ctx;
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
    CHECK(rcpt < RCPTS && !s->told[rcpt]);
    CHECK(outcome->err || outcome->reply);
    s->told[rcpt] = true;
    s->settled++;
    if (outcome->err)
        return;
    int decided = s->model.decided[rcpt], code = outcome->reply->code;
    CHECK(code == decided || (s->model.over && code >= 400));
    CHECK(!is_positive(code) || outcome->step == SMTP_STEP_FINAL);
}

static void on_done(void *ctx, bool reusable)
{
    struct session *s = ctx;
    s->done++;
    CHECK(s->done == s->sent && s->settled == s->sent * RCPTS);
    for (int i = 0; i < RCPTS && reusable; i++)
        CHECK(s->model.decided[i]);
    if (!reusable)
        return;
    CHECK(s->model.count == 0);
    forget(&s->model);
    if (s->sent < 2)
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

static void hear(struct session *s)
{
    struct buf *out = smtp_client_output(s->client);
    client_says(&s->model, buf_bytes(out));
    buf_consume(out, out->len);
}

static void feed(struct session *s, struct bytes piece)
{
    struct mono now = {1};
    server_says(&s->model, piece);
    smtp_client_feed(s->client, piece, now);
    CHECK(!s->model.over || smtp_client_wants(s->client) == SMTP_CLIENT_CLOSE);
    hear(s);
    smtp_client_more(s->client, now);
    if (smtp_client_wants(s->client) == SMTP_CLIENT_TLS) {
        CHECK(s->model.handshake);
        s->model.handshake = s->model.hello = false;
        s->model.tls = s->model.may_ehlo = true;
        buf_clear(&s->model.offers);
        smtp_client_tls_started(s->client, now);
    }
    if (s->sent == 2 && smtp_client_is_ready(s->client)) {
        smtp_client_quit(s->client, now);
        s->said_quit = true;
    }
    hear(s);
}

// How much of the input comes at once: a byte, a line, as many lines as are awaited, or what ends in CRLF. (LMTP takes
// replies that come early for those of what it says next, so it gets none: it would know more than the model.)
static size_t cut(struct bytes in, uint8_t setup, size_t awaited)
{
    bool lmtp = setup & 1, bytewise = setup & 32 && !(setup & 64), many = (setup & 96) == 64;
    struct bytes end = (setup & 96) == 96 && !lmtp ? BYTES("\r\n") : BYTES("\n");
    size_t n = 0;
    for (size_t lines = many && awaited ? awaited : 1; lines > 0; lines--) {
        ptrdiff_t at = bytes_search(bytes_skip(in, n), end);
        n = at < 0 ? in.len : n + (size_t)at + end.len;
    }
    return bytewise ? 1 : n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > INPUT_MAX)
        return 0;
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
    struct session s = {.model = {.config = &config,
                                  .waits = {GREETING},
                                  .count = 1,
                                  .tls = config.tls == SMTP_CLIENT_TLS_ACTIVE},
                        .transaction = {.reverse_path = BYTES("s@b.c"),
                                        .body = BODY_8BITMIME,
                                        .size = text.len,
                                        .by_mode = data[0] & 128 ? BY_RETURN : BY_NOTIFY,
                                        .by_s = data[0] & 128 ? 1 : -1,
                                        .priority = -9,
                                        .rcpts = rcpts,
                                        .rcpts_count = RCPTS,
                                        .content = content,
                                        .content_ctx = &s}};
    s.client = smtp_client_new(&config, &handlers, &s, (struct mono){1});
    struct bytes rest = bytes_of(data + 1, size - 1);
    while (rest.len && smtp_client_wants(s.client) != SMTP_CLIENT_CLOSE) {
        struct bytes piece = bytes_first(rest, cut(rest, data[0], s.model.count));
        rest = bytes_skip(rest, piece.len);
        feed(&s, piece);
    }
    smtp_client_hangup(s.client, E_CLOSED);
    CHECK(s.done == s.sent && s.settled == s.sent * RCPTS && s.failed + s.said_quit == 1);
    smtp_client_free(s.client);
    buf_done(&s.model.line);
    buf_done(&s.model.reply);
    buf_done(&s.model.offers);
    return 0;
}
