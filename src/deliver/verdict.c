// SPDX-License-Identifier: MIT
#include "deliver/verdict.h"

#include <stdio.h>

static void set_text(struct verdict *v, struct bytes text)
{
    size_t len = text.len < VERDICT_TEXT_MAX ? text.len : VERDICT_TEXT_MAX;
    if (len)
        memcpy(v->text, text.at, len);
    v->text[len] = '\0';
}

struct verdict verdict_make(enum verdict_kind kind, uint16_t code, const char *enhanced,
                            struct bytes text)
{
    struct verdict v = {.kind = kind, .code = code};
    snprintf(v.enhanced, sizeof v.enhanced, "%s", enhanced);
    set_text(&v, text);
    return v;
}

struct verdict verdict_of_return(struct bytes reason)
{
    char text[VERDICT_TEXT_MAX + 1];
    snprintf(text, sizeof text, "returned by an operator of this mail system%s%.*s",
             reason.len ? ": " : "", BYTES_FMT(reason));
    return verdict_make(VERDICT_RETURNED, 550, "5.0.0", bytes_cstr(text));
}

struct verdict verdict_of_render_failure(int err)
{
    if (err == E_DENIED)
        return verdict_make(
            VERDICT_FAILED, 554, "5.6.3",
            BYTES("the receiving server does not take this message as it is, and it has no form "
                  "that the server takes"));
    if (err == E_DAMAGED)
        return verdict_make(VERDICT_FAILED, 554, "5.3.0",
                            BYTES("the stored message was damaged on the disk and cannot be sent"));
    return verdict_make(VERDICT_DEFERRED, 451, "4.3.0", BYTES("the stored message cannot be read"));
}

// RFC 5321 4.5.3.1.10: 452 to RCPT, or 552, means "too many recipients" and is temporary, unless its enhanced code says
// something else.
static bool is_too_many(enum smtp_step step, const struct smtp_reply *reply)
{
    const struct smtp_enhanced *e = &reply->enhanced;
    return step == SMTP_STEP_RCPT && (reply->code == 452 || reply->code == 552) &&
           (!e->class || (e->subject == 5 && e->detail == 3));
}

// 421 ends the session, whatever was asked.
static enum verdict_kind kind_of_reply(enum smtp_step step, const struct smtp_reply *reply)
{
    if (reply->code / 100 == 5 && !is_too_many(step, reply))
        return VERDICT_FAILED;
    return VERDICT_DEFERRED;
}

// RFC 3461 5.2.1: who offers DSN was given NOTIFY and confirms, so that we must not: it may hold the mailbox itself.
static enum verdict_kind kind_of_success(bool final, bool dsn_offered)
{
    return dsn_offered ? VERDICT_PASSED : final ? VERDICT_DELIVERED : VERDICT_RELAYED;
}

static struct verdict of_reply(enum smtp_step step, const struct smtp_reply *reply, bool final,
                               bool dsn_offered)
{
    struct verdict v = {.code = reply->code, .remote = true};
    if (reply->code / 100 == 2 && step == SMTP_STEP_FINAL)
        v.kind = kind_of_success(final, dsn_offered);
    else
        v.kind = kind_of_reply(step, reply);
    v.too_many = is_too_many(step, reply);
    if (reply->enhanced.class) {
        snprintf(v.enhanced, sizeof v.enhanced, "%u.%u.%u", reply->enhanced.class,
                 reply->enhanced.subject, reply->enhanced.detail);
    } else { // RFC 3463: a class is all that a bare code tells
        v.bare = true;
        snprintf(v.enhanced, sizeof v.enhanced, "%u.0.0",
                 v.kind == VERDICT_FAILED     ? 5u
                 : v.kind == VERDICT_DEFERRED ? 4u
                                              : 2u);
    }
    set_text(&v, reply->text);
    return v;
}

// Did a session that had served before end without a word to this message? RSET ends the message before it. At MAIL a
// connection that breaks was merely stale, and 421, which may come at any time (RFC 5321 3.8), is about the session,
// which has served enough.
static bool is_about_session(const struct smtp_outcome *outcome)
{
    if (outcome->step == SMTP_STEP_MAIL)
        return !outcome->reply || (outcome->err == OK && outcome->reply->code == 421);
    return outcome->step == SMTP_STEP_RSET;
}

struct verdict verdict_of_outcome(const struct smtp_outcome *outcome, bool final, bool dsn_offered,
                                  bool fresh)
{
    if (outcome->unsent) // by none, over no connection
        return verdict_make(VERDICT_FAILED, 554, "5.5.4",
                            BYTES("the envelope has what no command can carry"));
    if (!fresh && is_about_session(outcome))
        return verdict_make(VERDICT_UNTRIED, 0, "", BYTES_NONE);
    if (outcome->err == OK && outcome->reply)
        return of_reply(outcome->step, outcome->reply, final, dsn_offered);
    char text[160];
    snprintf(text, sizeof text, "connection lost at %s: %s", smtp_step_name(outcome->step),
             err_text(outcome->err));
    return verdict_make(VERDICT_DEFERRED, 0, "4.4.2", bytes_cstr(text));
}

static bool mentions(struct bytes text, const char *word)
{
    for (; text.len; text = bytes_skip(text, 1))
        if (bytes_starts_nocase(text, bytes_cstr(word)))
            return true;
    return false;
}

// 530 may also want a login, which may well be offered under TLS only. 523 and 538: RFC 5248, RFC 4954 section 6.
bool verdict_is_for_want_of_tls(const struct smtp_reply *reply)
{
    const struct smtp_enhanced *e = &reply->enhanced;
    if (reply->code / 100 < 4)
        return false;
    if (reply->code == 523 || reply->code == 530 || reply->code == 538)
        return true;
    if (e->class && e->subject != 7)
        return false;
    return (e->subject == 7 && (e->detail == 10 || e->detail == 11)) ||
           mentions(reply->text, "tls") || mentions(reply->text, "encrypt");
}

void verdict_defer(struct verdict *v)
{
    if (v->kind != VERDICT_FAILED)
        return;
    v->kind = VERDICT_DEFERRED;
    v->class.hard = false; // not while it is tried again
    if (v->bare)
        snprintf(v->enhanced, sizeof v->enhanced, "4.0.0");
}

void verdict_classify(struct verdict *v, const struct bounce_rules *rules, struct bytes text)
{
    if (!rules || (v->kind != VERDICT_FAILED && v->kind != VERDICT_DEFERRED))
        return;
    struct bounce_reply reply = {.enhanced = bytes_cstr(v->bare ? "" : v->enhanced)};
    if (v->remote) {
        reply.code = v->code;
        reply.text = text;
    }
    struct bounce_verdict meant = bounce_rules_match(rules, &reply);
    v->class = meant.class;
    if (v->remote && meant.again)
        verdict_defer(v);
    if (v->kind == VERDICT_DEFERRED)
        v->class.hard = false; // not while it is tried again
}

// MAIL speaks of the sender. One reply to DATA or to the content for several does not tell whose address is bad.
bool verdict_is_about_address(enum smtp_step step, bool alone, bool lmtp)
{
    switch (step) {
    case SMTP_STEP_RCPT:
        return true;
    case SMTP_STEP_DATA:
    case SMTP_STEP_CONTENT:
        return alone;
    case SMTP_STEP_FINAL:
        return alone || lmtp;
    default:
        return false;
    }
}
