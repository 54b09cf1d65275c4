// SPDX-License-Identifier: MIT
//
// Random sessions against a model: for every command the model, which knows nothing of
// smtp_server.c, says which reply codes must come and whether a transaction is open. After every
// failure the session is as the model has it: fully reset or fully kept.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "smtp/smtp_testkit.h"

#define SESSIONS 3000
#define COMMANDS 60

struct model {
    bool hello, tls, logged_in, mail, chunks, binary;
    unsigned good, tried; // recipients
    unsigned messages;
    int codes[4]; // replies that the last command must get
    unsigned n;
    bool wants_content;
};

static void must(struct model *m, int code)
{
    m->codes[m->n++] = code;
}

static void forget(struct model *m)
{
    m->mail = m->chunks = m->binary = false;
    m->good = m->tried = 0;
}

static void m_ehlo(struct model *m)
{
    forget(m);
    m->hello = true;
    must(m, 250);
}

static void m_bad_ehlo(struct model *m)
{
    must(m, 501);
}

// The reply to MAIL when nothing stands against it.
static void mail(struct model *m, int code)
{
    must(m, !m->hello || m->mail ? 503 : code);
    if (m->hello && !m->mail && code == 250)
        m->mail = true;
}

static void m_mail(struct model *m)
{
    mail(m, 250);
}

static void m_mail_syntax(struct model *m)
{
    mail(m, 501);
}

static void m_mail_refused(struct model *m)
{
    mail(m, 550);
}

static void m_mail_busy(struct model *m)
{
    mail(m, 451);
}

static void m_mail_large(struct model *m)
{
    mail(m, 552);
}

// RFC 3030: its content comes by BDAT only.
static void m_mail_binary(struct model *m)
{
    bool open = m->mail;
    mail(m, 250);
    m->binary |= !open && m->mail;
}

// RFC 4865, 2852, 6710: offered to who has logged in.
static void m_mail_scheduled(struct model *m)
{
    mail(m, m->logged_in ? 250 : 555);
}

static void m_mail_held_too_long(struct model *m)
{
    mail(m, m->logged_in ? 501 : 555);
}

static void m_mail_by_too_short(struct model *m)
{
    mail(m, 555); // RFC 2852 section 2: 55z; and where nothing is offered, too
}

static void rcpt(struct model *m, int code)
{
    if (!m->hello || !m->mail || m->chunks) {
        must(m, 503);
        return;
    }
    m->tried++;
    must(m, code);
    m->good += code == 250;
}

static void m_rcpt(struct model *m)
{
    rcpt(m, 250);
}

static void m_rcpt_unknown(struct model *m)
{
    rcpt(m, 550);
}

static void m_rcpt_syntax(struct model *m)
{
    rcpt(m, 501);
}

// 0: content may come.
static int content_refusal(const struct model *m)
{
    if (!m->hello || !m->mail)
        return 503;
    return m->good ? 0 : m->tried ? 554 : 503;
}

static void data(struct model *m, int code)
{
    int refusal = m->hello && m->mail && m->chunks ? 503 : content_refusal(m);
    if (!refusal && m->binary)
        refusal = 503;
    must(m, refusal ? refusal : 354);
    if (refusal)
        return;
    must(m, code);
    m->wants_content = true;
    m->messages += code == 250;
    forget(m);
}

static void m_data(struct model *m)
{
    data(m, 250);
}

static void m_data_bare_lf(struct model *m)
{
    data(m, 550);
}

static void m_data_refused(struct model *m)
{
    data(m, 451);
}

static void m_data_large(struct model *m)
{
    data(m, 552);
}

static void bdat(struct model *m, bool last, int code)
{
    int refusal = content_refusal(m);
    must(m, refusal ? refusal : code);
    if (refusal)
        return;
    m->messages += last && code == 250;
    m->chunks = true;
    if (last || code != 250)
        forget(m);
}

static void m_bdat(struct model *m)
{
    bdat(m, false, 250);
}

static void m_bdat_last(struct model *m)
{
    bdat(m, true, 250);
}

static void m_bdat_bare_lf(struct model *m)
{
    bdat(m, false, 550);
}

static void m_bdat_refused(struct model *m)
{
    bdat(m, true, 451);
}

static void m_rset(struct model *m)
{
    forget(m);
    must(m, 250);
}

static void m_250(struct model *m)
{
    must(m, 250);
}

static void m_252(struct model *m)
{
    must(m, 252);
}

static void m_214(struct model *m)
{
    must(m, 214);
}

static void m_500(struct model *m)
{
    must(m, 500);
}

static void m_502(struct model *m)
{
    must(m, 502);
}

static void m_starttls(struct model *m)
{
    if (!m->hello || m->mail || m->tls) {
        must(m, 503);
        return;
    }
    must(m, 220);
    *m = (struct model){.tls = true, .messages = m->messages, .codes = {220}, .n = 1};
}

// 0: the exchange begins.
static int auth_refusal(const struct model *m)
{
    if (!m->hello || m->mail || m->logged_in)
        return 503;
    return m->tls ? 0 : 530;
}

static void auth(struct model *m, int code)
{
    int refusal = auth_refusal(m);
    must(m, refusal ? refusal : code);
    m->logged_in |= !refusal && code == 235;
}

static void m_auth(struct model *m)
{
    auth(m, 235);
}

static void m_auth_wrong(struct model *m)
{
    auth(m, 535);
}

static void m_auth_garbage(struct model *m)
{
    auth(m, 501);
}

// A login that is cancelled: the "*" is sent only where the exchange begins.
static void m_auth_cancel(struct model *m)
{
    int refusal = auth_refusal(m);
    must(m, refusal ? refusal : 334);
    if (!refusal)
        must(m, 501);
    m->wants_content = !refusal;
}

static const struct {
    const char *line;
    const char *content; // sent behind it if the model says so
    void (*model)(struct model *m);
    unsigned weight;
} vocabulary[] = {
    {"EHLO c.example\r\n", NULL, m_ehlo, 8},
    {"HELO c.example\r\n", NULL, m_ehlo, 2},
    {"EHLO\r\n", NULL, m_bad_ehlo, 1},
    {"MAIL FROM:<a@example.com> SIZE=10\r\n", NULL, m_mail, 20},
    {"MAIL FROM:<a@example.com\r\n", NULL, m_mail_syntax, 2},
    {"MAIL FROM:<a@example.com> RET=NONE\r\n", NULL, m_mail_syntax, 1},
    {"MAIL FROM:<a@example.com> BODY=BINARYMIME\r\n", NULL, m_mail_binary, 5},
    {"MAIL FROM:<a@example.com> HOLDFOR=10 BY=60;RT MT-PRIORITY=-3\r\n", NULL, m_mail_scheduled, 6},
    {"MAIL FROM:<a@example.com> HOLDFOR=1001\r\n", NULL, m_mail_held_too_long, 1},
    {"MAIL FROM:<a@example.com> BY=9;R\r\n", NULL, m_mail_by_too_short, 1},
    {"MAIL FROM:<refused@example.com>\r\n", NULL, m_mail_refused, 2},
    {"MAIL FROM:<busy@example.com>\r\n", NULL, m_mail_busy, 2},
    {"MAIL FROM:<a@example.com> SIZE=99999999999\r\n", NULL, m_mail_large, 1},
    {"RCPT TO:<b@example.net>\r\n", NULL, m_rcpt, 20},
    {"RCPT TO:<unknown@example.net>\r\n", NULL, m_rcpt_unknown, 6},
    {"RCPT TO:<b@example.net> NOTIFY=MAYBE\r\n", NULL, m_rcpt_syntax, 2},
    {"DATA\r\n", "Subject: x\r\n\r\nMAIL FROM:<x@y.z>\r\n..\r\n.\r\n", m_data, 8},
    {"DATA\r\n", "x\n.\nRSET\r\n.\r\n", m_data_bare_lf, 3},
    {"DATA\r\n", "\r\nREFUSE-ME\r\n.\r\n", m_data_refused, 3},
    {"DATA\r\n",
     "0123456789012345678901234567890123456789\r\n0123456789012345678901234567890123456789\r\n."
     "\r\n",
     m_data_large, 2},
    {"BDAT 6\r\nQUIT\r\n", NULL, m_bdat, 8},
    {"BDAT 0\r\n", NULL, m_bdat, 2},
    {"BDAT 6 LAST\r\nRSET\r\n", NULL, m_bdat_last, 6},
    {"BDAT 0 LAST\r\n", NULL, m_bdat_last, 3},
    {"BDAT 7\r\nQU\nIT\r\n", NULL, m_bdat_bare_lf, 3},
    {"BDAT 11 LAST\r\nREFUSE-ME\r\n", NULL, m_bdat_refused, 3},
    {"RSET\r\n", NULL, m_rset, 4},
    {"NOOP\r\n", NULL, m_250, 3},
    {"VRFY x\r\n", NULL, m_252, 2},
    {"HELP\r\n", NULL, m_214, 1},
    {"EXPN x\r\n", NULL, m_502, 1},
    {"WHAT\r\n", NULL, m_500, 2},
    {"NO\rOP\r\n", NULL, m_500, 1},
    {"NOOP\n", NULL, m_500, 1},
    {"STARTTLS\r\n", NULL, m_starttls, 3},
    {"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n", NULL, m_auth, 3},
    {"AUTH PLAIN AHVzZXIAeA==\r\n", NULL, m_auth_wrong, 2},
    {"AUTH PLAIN !\r\n", NULL, m_auth_garbage, 1},
    {"AUTH LOGIN\r\n", "*\r\n", m_auth_cancel, 2},
};

static size_t draw(unsigned *seed)
{
    unsigned total = 0, n;
    for (size_t i = 0; i < COUNT_OF(vocabulary); i++)
        total += vocabulary[i].weight;
    n = (unsigned)rand_r(seed) % total;
    size_t i = 0;
    while (n >= vocabulary[i].weight)
        n -= vocabulary[i++].weight;
    return i;
}

// The codes of all complete replies in the transcript (last lines only), as text.
static void codes_of(struct bytes transcript, struct buf *out)
{
    struct bytes line;
    while (bytes_cut(&transcript, '\n', &line))
        if (line.len > 3 && line.at[3] == ' ')
            buf_printf(out, "%.3s ", line.at);
}

static void refuse_session(unsigned seed, const struct buf *sent, const struct buf *want,
                           const struct buf *got, const char *what)
{
    fail_msg("seed %u: %s\nsent:\n%.*s\nwant: %.*s\ngot:  %.*s", seed, what,
             BYTES_FMT(buf_bytes(sent)), BYTES_FMT(buf_bytes(want)), BYTES_FMT(buf_bytes(got)));
}

// Commands are sent in groups of random length, cut at random; STARTTLS ends a group.
static void run_session(unsigned session)
{
    unsigned seed = session * 7919 + 1;
    struct model m = {0};
    struct testkit t;
    struct buf group = {0}, sent = {0}, want = {0}, got = {0};
    testkit_init(&t);
    t.config.errors_max = t.config.junk_max = t.config.auth_failures_max = 1000000;
    t.config.message_size_max = 60;
    t.later = session & 1;
    t.config.scheduling = true;
    testkit_start(&t, false, false);
    buf_add_cstr(&want, "220 ");
    for (int i = 0; i < COMMANDS; i++) {
        size_t w = draw(&seed);
        m.n = 0;
        m.wants_content = false;
        vocabulary[w].model(&m);
        buf_add_cstr(&group, vocabulary[w].line);
        if (m.wants_content && vocabulary[w].content)
            buf_add_cstr(&group, vocabulary[w].content);
        for (unsigned k = 0; k < m.n; k++)
            buf_printf(&want, "%d ", m.codes[k]);
        bool starttls = strncmp(vocabulary[w].line, "STARTTLS", 8) == 0;
        if (!starttls && i + 1 < COMMANDS && rand_r(&seed) % 3)
            continue;
        testkit_feed(&t, buf_bytes(&group), (unsigned)rand_r(&seed) % 8);
        buf_add(&sent, buf_bytes(&group));
        buf_clear(&group);
        buf_clear(&got);
        codes_of(buf_bytes(&t.transcript), &got);
        if (!bytes_eq(buf_bytes(&got), buf_bytes(&want)))
            refuse_session(session, &sent, &want, &got, "other replies");
        if (smtp_server_in_transaction(t.server) != m.mail || t.transaction != m.mail)
            refuse_session(session, &sent, &want, &got, "the transaction is not as it should be");
        if (smtp_server_is_authenticated(t.server) != m.logged_in || t.messages != m.messages)
            refuse_session(session, &sent, &want, &got, "other logins or messages");
    }
    buf_done(&group);
    buf_done(&sent);
    buf_done(&want);
    buf_done(&got);
    testkit_done(&t);
}

static void test_c_random_sessions(void **state)
{
    for (unsigned session = 0; session < SESSIONS; session++)
        run_session(session);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_c_random_sessions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
