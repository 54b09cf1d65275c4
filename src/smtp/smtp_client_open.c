// SPDX-License-Identifier: MIT
//
// smtp_client_open - opens a session: greeting, EHLO or HELO or LHLO, STARTTLS (RFC 3207), AUTH (RFC 4954)

#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_encode.h"
#include "smtp/smtp_client_private.h"

#define NONCE_RANDOM_BYTES 18
#define LIMIT_MAX 999999 // RFC 9422 section 4
#define LIMIT_DIGITS 6
#define BY_MAX_S 999999999 // RFC 2852 section 3

void client_drop_sasl(struct smtp_client *c)
{
    if (c->sasl)
        sasl_client_done(c->sasl);
    free(c->sasl);
    c->sasl = NULL;
}

void client_send_hello(struct smtp_client *c)
{
    size_t from = c->out.len;
    buf_printf(&c->out, "%s %.*s\r\n",
               c->config->lmtp ? "LHLO"
               : c->tried_helo ? "HELO"
                               : "EHLO",
               BYTES_FMT(c->config->helo_name));
    client_tell_sent(c, from);
    client_await(c, SMTP_STEP_HELLO);
}

void client_on_greeting(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    if (reply->code == 220)
        client_send_hello(c);
    else // RFC 5321 3.1: 554 means no service here
        client_fail(c, reply->code < 400 ? E_SYNTAX : OK, reply);
}

static void add_auth(struct smtp_caps *caps, struct bytes list)
{
    struct bytes name;
    enum sasl_mechanism mechanism;
    while (bytes_cut(&list, ' ', &name))
        if (sasl_mechanism_find(name, &mechanism) == OK)
            caps->auth |= 1u << mechanism;
}

struct keyword {
    const char *name;
    size_t offset;
};
#define KEYWORD(name, member)                                                                      \
    {                                                                                              \
        name, offsetof(struct smtp_caps, member)                                                   \
    }
static const struct keyword keywords[] = {
    KEYWORD("PIPELINING", pipelining), KEYWORD("8BITMIME", eightbitmime),
    KEYWORD("SMTPUTF8", smtputf8),     KEYWORD("DSN", dsn),
    KEYWORD("CHUNKING", chunking),     KEYWORD("BINARYMIME", binarymime),
    KEYWORD("STARTTLS", starttls),     KEYWORD("SIZE", size),
    KEYWORD("DELIVERBY", deliverby),   KEYWORD("MT-PRIORITY", mt_priority),
    KEYWORD("REQUIRETLS", requiretls), KEYWORD("ENHANCEDSTATUSCODES", enhanced),
};

// RFC 9422 section 3: limits we don't know, and values that are none (%x31-39 0*5DIGIT), say nothing.
static void add_limits(struct smtp_caps *caps, struct bytes list)
{
    struct {
        struct bytes name;
        uint32_t *max;
    } limits[] = {{BYTES("MAILMAX"), &caps->mails_max},
                  {BYTES("RCPTMAX"), &caps->rcpts_max},
                  {BYTES("RCPTDOMAINMAX"), &caps->rcpt_domains_max}};
    struct bytes one, name;
    while (bytes_cut(&list, ' ', &one)) {
        uint64_t value;
        bytes_cut(&one, '=', &name);
        if (bytes_to_u64(one, LIMIT_MAX, &value) != OK || one.len > LIMIT_DIGITS)
            continue;
        for (size_t i = 0; i < COUNT_OF(limits); i++)
            if (bytes_eq_nocase(name, limits[i].name) && one.at[0] != '0')
                *limits[i].max = (uint32_t)value;
    }
}

static void add_keyword(struct smtp_caps *caps, struct bytes line)
{
    struct bytes word, rest = line;
    bytes_cut(&rest, ' ', &word);
    if (bytes_eq_nocase(word, BYTES("AUTH"))) {
        add_auth(caps, rest);
    } else if (bytes_starts_nocase(word, BYTES("AUTH="))) { // of old: "AUTH=LOGIN PLAIN"
        add_auth(caps, bytes_skip(word, 5));
        add_auth(caps, rest);
    }
    for (size_t i = 0; i < COUNT_OF(keywords); i++)
        if (bytes_eq_nocase(word, bytes_cstr(keywords[i].name)))
            *(bool *)((char *)caps + keywords[i].offset) = true;
    if (bytes_eq_nocase(word, BYTES("LIMITS")))
        add_limits(caps, rest);
    uint64_t min_s;
    if (bytes_eq_nocase(word, BYTES("DELIVERBY")) &&
        bytes_to_u64(bytes_trim(rest), BY_MAX_S, &min_s) == OK)
        caps->deliverby_min_s = (uint32_t)min_s;
    // RFC 1870 section 4: without a number, or with 0, there is no fixed maximum.
    if (bytes_eq_nocase(word, BYTES("SIZE")) &&
        bytes_to_u64(bytes_trim(rest), UINT64_MAX, &caps->size_max) != OK)
        caps->size_max = 0;
}

static void read_caps(struct smtp_client *c, struct bytes text)
{
    struct bytes line;
    c->caps = (struct smtp_caps){.extended = !c->tried_helo};
    bytes_cut(&text, '\n', &line); // the server's name
    while (c->caps.extended && bytes_cut(&text, '\n', &line))
        add_keyword(&c->caps, line);
}

static void begin_auth(struct smtp_client *c);

static void open_done(struct smtp_client *c)
{
    client_await(c, SMTP_STEP_READY);
    c->handlers->on_ready(c->ctx, &c->caps);
}

static void after_tls(struct smtp_client *c)
{
    if (c->config->login.len > 0 && !c->logged_in)
        begin_auth(c);
    else
        open_done(c);
}

static void after_hello(struct smtp_client *c)
{
    enum smtp_client_tls tls = c->config->tls;
    if (c->tls || tls == SMTP_CLIENT_TLS_NEVER) {
        after_tls(c);
    } else if (c->caps.starttls) {
        size_t from = c->out.len;
        buf_add_cstr(&c->out, "STARTTLS\r\n");
        client_tell_sent(c, from);
        client_await(c, SMTP_STEP_STARTTLS);
    } else if (tls == SMTP_CLIENT_TLS_REQUIRED) {
        client_fail_at(c, SMTP_STEP_STARTTLS, E_TLS, NULL);
    } else {
        after_tls(c);
    }
}

void client_on_hello(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    if (client_is_positive(reply)) {
        read_caps(c, reply->text);
        after_hello(c);
    } else if (reply->code >= 500 && !c->tried_helo && !c->config->lmtp && !c->tls) {
        c->tried_helo = true; // RFC 5321 3.2
        client_send_hello(c);
    } else {
        client_fail(c, reply->code < 400 ? E_SYNTAX : OK, reply);
    }
}

void client_on_starttls(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    if (reply->code == 220)
        c->wants_tls = true;
    else // whether to go on in the clear, and when, is the owner's to say
        client_fail(c, reply->code < 400 ? E_SYNTAX : OK, reply);
}

// `from`: where the line begins in the output.
static void send_auth_line(struct smtp_client *c, size_t from, const char *prefix,
                           struct bytes challenge)
{
    struct buf response = {0};
    int err = sasl_client_feed(c->sasl, challenge, &response);
    if (!err) {
        buf_add_cstr(&c->out, prefix);
        if (*prefix && response.len == 0)
            buf_add_byte(&c->out, '='); // RFC 4954 section 4: an empty initial response
        mail_base64_encode(buf_bytes(&response), &c->out);
        buf_add_cstr(&c->out, "\r\n");
        client_tell_sent(c, from);
        client_await(c, SMTP_STEP_AUTH);
    }
    if (response.at)
        explicit_bzero(response.at, response.cap);
    buf_done(&response);
    if (err)
        client_fail_at(c, SMTP_STEP_AUTH, err, NULL);
}

static bool can_do(const struct smtp_client *c, enum sasl_mechanism mechanism,
                   const struct sasl_bindings *bindings)
{
    return (c->caps.auth & 1u << mechanism) && (!sasl_is_scram(mechanism) || c->config->random) &&
           (mechanism != SASL_SCRAM_SHA_256_PLUS || sasl_bindings_any(bindings));
}

static bool choose_mechanism(const struct smtp_client *c, const struct sasl_bindings *bindings,
                             enum sasl_mechanism *out)
{
    static const enum sasl_mechanism order[] = {SASL_SCRAM_SHA_256_PLUS, SASL_SCRAM_SHA_256,
                                                SASL_PLAIN, SASL_LOGIN};
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        *out = order[i];
        if (can_do(c, order[i], bindings))
            return true;
    }
    return false;
}

static void begin_auth(struct smtp_client *c)
{
    enum sasl_mechanism mechanism;
    struct sasl_bindings bindings = {0};
    if (c->tls && c->handlers->on_bindings)
        c->handlers->on_bindings(c->ctx, &bindings);
    if (!c->tls && !c->config->auth_without_tls) {
        client_fail_at(c, SMTP_STEP_AUTH, E_DENIED, NULL);
        return;
    }
    if (!choose_mechanism(c, &bindings, &mechanism)) {
        client_fail_at(c, SMTP_STEP_AUTH, E_NOT_FOUND, NULL);
        return;
    }
    char raw[NONCE_RANDOM_BYTES] = {0};
    struct buf nonce = {0};
    if (sasl_is_scram(mechanism))
        c->config->random(c->config->random_ctx, raw, sizeof raw);
    mail_base64_encode(bytes_of(raw, sizeof raw), &nonce);
    c->sasl = mem_new(sizeof *c->sasl);
    sasl_client_init(c->sasl, mechanism, c->config->login, c->config->password, buf_bytes(&nonce),
                     &bindings);
    buf_done(&nonce);
    size_t from = c->out.len;
    buf_printf(&c->out, "AUTH %s", sasl_mechanism_name(mechanism));
    if (sasl_client_has_initial(c->sasl)) {
        send_auth_line(c, from, " ", BYTES_NONE);
    } else {
        buf_add_cstr(&c->out, "\r\n");
        client_tell_sent(c, from);
        client_await(c, SMTP_STEP_AUTH);
    }
}

void client_on_auth(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt)
{
    if (reply->code == 334) {
        struct buf challenge;
        buf_init(&challenge, SASL_MESSAGE_MAX);
        int err = mail_base64_decode(bytes_trim(reply->text), &challenge);
        if (err)
            client_fail(c, err, reply);
        else
            send_auth_line(c, c->out.len, "", buf_bytes(&challenge));
        buf_done(&challenge);
    } else if (reply->code == 235) {
        int err = sasl_client_finish(c->sasl);
        client_drop_sasl(c);
        c->logged_in = true;
        if (err)
            client_fail(c, err, reply);
        else
            open_done(c);
    } else {
        client_fail(c, reply->code < 400 ? E_SYNTAX : OK, reply);
    }
}
