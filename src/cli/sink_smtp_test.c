// SPDX-License-Identifier: MIT
//
// Dialogues with the sink, each fed whole, byte by byte and at random cuts.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "cli/sink_smtp.h"

#define EHLO_REPLY                                                                                 \
    "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n"               \
    "250-CHUNKING\r\n250-SIZE\r\n250 ENHANCEDSTATUSCODES\r\n"
#define GREETING "220 sink.test ESMTP posthaste sink\r\n"
#define HELO "HELO x\r\n"
#define HELO_REPLY "250 sink.test\r\n"
#define MAIL "MAIL FROM:<s@a.test>\r\n"
#define MAIL_REPLY "250 2.1.0 Ok\r\n"
#define RCPT "RCPT TO:<r@b.test> NOTIFY=NEVER\r\n"
#define RCPT_REPLY "250 2.1.5 Ok\r\n"
#define DATA_REPLY "354 go ahead\r\n"
#define TAKEN "250 2.0.0 Ok: taken\r\n"
#define BEGIN HELO MAIL RCPT
#define BEGIN_REPLY HELO_REPLY MAIL_REPLY RCPT_REPLY

static struct buf told; // what on_message was given, as text

static void on_message(void *ctx, const struct sink_message *m)
{
    buf_printf(&told, "id=%.*s from=%.*s size=%llu bare=%llu", BYTES_FMT(m->id),
               BYTES_FMT(m->sender), (unsigned long long)m->size,
               (unsigned long long)m->bare_newlines);
    for (size_t i = 0; i < m->recipients_count; i++)
        buf_printf(&told, " to=%.*s", BYTES_FMT(m->recipients[i]));
    buf_printf(&told, " sha=%02x%02x;", m->sha256[0], m->sha256[1]);
}

struct dialogue {
    const char *name, *rules, *input, *replies, *told;
    enum sink_wants wants;
    bool lmtp;
};

static const struct dialogue dialogues[] = {
    {"a message", NULL, BEGIN "DATA\r\nX-Load-Id: a-1\r\n\r\nhello\r\n.\r\nQUIT\r\n",
     BEGIN_REPLY DATA_REPLY TAKEN "221 2.0.0 bye\r\n",
     "id=a-1 from=s@a.test size=25 bare=0 to=r@b.test sha=6a1a;", SINK_WANTS_CLOSE, false},
    {"extensions", NULL, "EHLO x\r\n", EHLO_REPLY, "", SINK_WANTS_INPUT, false},
    {"dots are un-stuffed", NULL, BEGIN "DATA\r\n..\r\n...a\r\n.b\r\n.\r\n",
     BEGIN_REPLY DATA_REPLY TAKEN, "id= from=s@a.test size=11 bare=0 to=r@b.test sha=43a8;",
     SINK_WANTS_INPUT, false},
    {"LF.LF is content", NULL, BEGIN "DATA\r\na\n.\nb\r\n.\n\r\n.\r\n",
     BEGIN_REPLY DATA_REPLY TAKEN, "id= from=s@a.test size=10 bare=3 to=r@b.test sha=9040;",
     SINK_WANTS_INPUT, false},
    {"CR.CR and dot CR are content", NULL, BEGIN "DATA\r\na\r.\rb\r\n.\rc\r\n.\r\n",
     BEGIN_REPLY DATA_REPLY TAKEN, "id= from=s@a.test size=11 bare=3 to=r@b.test sha=6886;",
     SINK_WANTS_INPUT, false},
    {"an empty message", NULL, BEGIN "DATA\r\n.\r\n", BEGIN_REPLY DATA_REPLY TAKEN,
     "id= from=s@a.test size=0 bare=0 to=r@b.test sha=e3b0;", SINK_WANTS_INPUT, false},
    {"the relay's id", NULL,
     BEGIN "DATA\r\nReceived: from x\r\n\tby y id ABC9; now\r\nX: y\r\n\r\n.\r\n",
     BEGIN_REPLY DATA_REPLY TAKEN, "id=ABC9 from=s@a.test size=46 bare=0 to=r@b.test sha=f356;",
     SINK_WANTS_INPUT, false},
    {"BDAT", NULL, BEGIN "BDAT 4\r\nab\n.BDAT 0 LAST\r\nNOOP\r\n",
     BEGIN_REPLY "250 2.0.0 chunk taken\r\n" TAKEN "250 2.0.0 Ok\r\n",
     "id= from=s@a.test size=4 bare=0 to=r@b.test sha=c764;", SINK_WANTS_INPUT, false},
    {"BDAT without a size", NULL, BEGIN "BDAT 4\r\nab\n.BDAT\r\nNOOP\r\n",
     BEGIN_REPLY "250 2.0.0 chunk taken\r\n501 5.5.4 BDAT size [LAST]\r\n", "", SINK_WANTS_CLOSE,
     false},
    {"LMTP answers each", "bad.test final refuse 552 5.2.2 full\n",
     "LHLO x\r\n" MAIL RCPT "RCPT TO:<x@bad.test>\r\nDATA\r\nhi\r\n.\r\n",
     EHLO_REPLY MAIL_REPLY RCPT_REPLY RCPT_REPLY DATA_REPLY TAKEN "552 5.2.2 full\r\n",
     "id= from=s@a.test size=4 bare=0 to=r@b.test sha=4472;", SINK_WANTS_INPUT, true},
    {"refused at each step", "* mail refuse\n", HELO MAIL RCPT "DATA\r\n",
     HELO_REPLY "550 5.0.0 refused\r\n503 5.5.1 MAIL first\r\n503 5.5.1 no valid recipients\r\n",
     "", SINK_WANTS_INPUT, false},
    {"greylisting", "b.test rcpt first 2 defer 451 4.7.1 later\n", HELO MAIL RCPT RCPT RCPT,
     HELO_REPLY MAIL_REPLY "451 4.7.1 later\r\n451 4.7.1 later\r\n" RCPT_REPLY, "",
     SINK_WANTS_INPUT, false},
    {"421 closes", "* rcpt defer 421 4.3.2 bye\\nfor now\n", HELO MAIL RCPT "NOOP\r\n",
     HELO_REPLY MAIL_REPLY "421-4.3.2 bye\r\n421 for now\r\n", "", SINK_WANTS_CLOSE, false},
    {"drop in content", "* content drop 3\n", BEGIN "DATA\r\nabcdef\r\n.\r\n",
     BEGIN_REPLY DATA_REPLY, "", SINK_WANTS_DROP, false},
    {"delay holds the reply", "* mail delay 500\n", HELO MAIL RCPT, HELO_REPLY, "", SINK_WANTS_TIME,
     false},
    {"unknown and out of order", NULL, "FROB\r\nMAIL FROM:<a@b>\r\nHELO x\r\nMAIL FROM:a@b\r\n",
     "500 5.5.1 unknown command\r\n503 5.5.1 say hello first\r\n" HELO_REPLY
     "501 5.5.4 MAIL FROM:<address>\r\n",
     "", SINK_WANTS_INPUT, false},
};

static struct sink_smtp *begin(const struct dialogue *d, struct sink_rules **out_rules)
{
    struct buf errors = {0};
    *out_rules = NULL;
    if (d->rules)
        assert_int_equal(sink_rules_parse(bytes_cstr(d->rules), "rules", out_rules, &errors), OK);
    struct sink_smtp_config config = {.hostname = BYTES("sink.test"),
                                      .rules = *out_rules,
                                      .lmtp = d->lmtp,
                                      .hash = true,
                                      .on_message = on_message};
    buf_clear(&told);
    struct sink_smtp *s = sink_smtp_new(&config, (struct mono){0});
    buf_clear(sink_smtp_output(s)); // the greeting
    return s;
}

// Feeds in pieces of at most max bytes; what is not taken is fed again with the next piece.
static void feed_cut(struct sink_smtp *s, struct bytes in, size_t max)
{
    size_t given = 0, taken = 0;
    while (given < in.len) {
        size_t n = max == SIZE_MAX ? in.len : 1 + (size_t)rand() % max;
        given = given + n < in.len ? given + n : in.len;
        taken += sink_smtp_feed(s, bytes_mid(in, taken, given - taken), (struct mono){0});
    }
}

static void dialogues_at_all_cuts(void **state)
{
    static const size_t cuts[] = {SIZE_MAX, 1, 3, 20};
    for (size_t i = 0; i < COUNT_OF(dialogues) * COUNT_OF(cuts); i++) {
        const struct dialogue *d = &dialogues[i / COUNT_OF(cuts)];
        struct sink_rules *rules;
        struct sink_smtp *s = begin(d, &rules);
        feed_cut(s, bytes_cstr(d->input), cuts[i % COUNT_OF(cuts)]);
        if (strcmp(buf_cstr(sink_smtp_output(s)), d->replies) != 0)
            fail_msg("%s: replies\n%s", d->name, buf_cstr(sink_smtp_output(s)));
        if (strcmp(buf_cstr(&told), d->told) != 0)
            fail_msg("%s: told %s", d->name, buf_cstr(&told));
        if (sink_smtp_wants(s) != d->wants)
            fail_msg("%s: wants %d", d->name, sink_smtp_wants(s));
        sink_smtp_free(s);
        sink_rules_free(rules);
    }
}

static void a_delay_ends(void **state)
{
    const struct dialogue d = {.rules = "* mail delay 500\n"};
    struct sink_rules *rules;
    struct sink_smtp *s = begin(&d, &rules);
    size_t used = sink_smtp_feed(s, BYTES(HELO MAIL RCPT), (struct mono){0});
    assert_int_equal(used, strlen(HELO MAIL));
    assert_int_equal(sink_smtp_wake_at(s).us, 500000);
    sink_smtp_tick(s, (struct mono){499999});
    assert_int_equal(sink_smtp_wants(s), SINK_WANTS_TIME);
    sink_smtp_tick(s, (struct mono){500000});
    assert_int_equal(sink_smtp_feed(s, BYTES(RCPT), (struct mono){500000}), strlen(RCPT));
    assert_string_equal(buf_cstr(sink_smtp_output(s)), BEGIN_REPLY);
    sink_smtp_free(s);
    sink_rules_free(rules);
}

static void the_greeting_may_refuse(void **state)
{
    const struct dialogue d = {.rules = "* connect refuse 554 5.7.1 go away\n"};
    struct buf errors = {0};
    struct sink_rules *rules;
    assert_int_equal(sink_rules_parse(bytes_cstr(d.rules), "rules", &rules, &errors), OK);
    struct sink_smtp_config config = {.hostname = BYTES("sink.test"), .rules = rules};
    struct sink_smtp *s = sink_smtp_new(&config, (struct mono){0});
    assert_string_equal(buf_cstr(sink_smtp_output(s)), "554 5.7.1 go away\r\n");
    assert_int_equal(sink_smtp_wants(s), SINK_WANTS_CLOSE);
    sink_smtp_free(s);
    sink_rules_free(rules);
}

static void lines_are_bounded(void **state)
{
    const struct dialogue d = {.name = "long"};
    struct sink_rules *rules;
    struct sink_smtp *s = begin(&d, &rules);
    char line[SINK_LINE_MAX + 10];
    memset(line, 'a', sizeof line);
    assert_int_equal(sink_smtp_feed(s, bytes_of(line, SINK_LINE_MAX - 1), (struct mono){0}), 0);
    assert_int_equal(sink_smtp_feed(s, bytes_of(line, sizeof line), (struct mono){0}), sizeof line);
    assert_int_equal(sink_smtp_wants(s), SINK_WANTS_CLOSE);
    sink_smtp_free(s);
}

// The digest leaves out the trace fields at the top: the same with and without them.
static void the_digest_is_of_what_was_handed_over(void **state)
{
    static const char *const tops[] = {"", "Received: a\r\n",
                                       "Return-Path: <>\r\nReceived: a\r\n b\r\n"};
    char first[16] = "";
    for (size_t i = 0; i < COUNT_OF(tops); i++) {
        const struct dialogue d = {.name = "top"};
        struct sink_rules *rules;
        struct sink_smtp *s = begin(&d, &rules);
        struct buf in = {0};
        buf_printf(&in, BEGIN "DATA\r\n%sFrom: x\r\nReceived: old\r\n\r\nbody\r\n.\r\n", tops[i]);
        feed_cut(s, buf_bytes(&in), 3);
        const char *sha = strstr(buf_cstr(&told), "sha=");
        assert_non_null(sha);
        if (i == 0)
            snprintf(first, sizeof first, "%s", sha);
        assert_string_equal(sha, first);
        buf_done(&in);
        sink_smtp_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dialogues_at_all_cuts),
        cmocka_unit_test(a_delay_ends),
        cmocka_unit_test(the_greeting_may_refuse),
        cmocka_unit_test(lines_are_bounded),
        cmocka_unit_test(the_digest_is_of_what_was_handed_over),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
