// SPDX-License-Identifier: MIT
//
// How it works: RCPT checks the token, the content is gathered, then a job on the pool classifies it and asks the
// history for the message's envelope; the records it makes are committed in one frame, and their flush is answered.
#include "intake/returns.h"

#include <stdlib.h>

#include "bounce/returned.h"
#include "event/history.h"
#include "intake/intake_private.h"

struct target {
    struct return_token token;
    bool complaints; // a configured address: the token stands in the content, if at all
};

struct returns {
    struct list link; // in intake->returns
    struct sys_job job;
    struct intake *intake;
    struct session *session; // NULL: gone
    struct conf_snapshot *snapshot;
    struct arena arena;
    struct buf content;
    struct target targets[RETURNS_RECIPIENTS_MAX];
    uint32_t count;
    struct bytes client;
    struct wall at;
    bool working; // from the end of content on it lives until it is flushed
    // what the job found
    struct spool_feedback *found[RETURNS_RECIPIENTS_MAX];
    size_t found_count[RETURNS_RECIPIENTS_MAX];
    struct envelope *envelope_found;
    struct message_id asked; // whose that is, or NULL for its absence; zero: nobody's
    bool waited, lags;       // for the history; it did not come so far
    bool undecided;          // what is reported may be ours, but is not in the history yet
};

static void returns_free(struct returns *r)
{
    if (r->session)
        r->session->returns = NULL;
    list_remove(&r->link);
    r->intake->returns_count--;
    buf_done(&r->content);
    arena_done(&r->arena);
    conf_snapshot_release(r->snapshot);
    free(r);
}

bool returns_is_committing(const struct session *s)
{
    return s->returns && s->returns->working;
}

void returns_drop(struct session *s)
{
    struct returns *r = s->returns;
    if (!r)
        return;
    s->returns = NULL;
    r->session = NULL;
    if (!r->working)
        returns_free(r);
}

// ---- envelope --------------------------------------------------------------------------------------------

static void on_mail(void *ctx, const struct smtp_mail *mail)
{
    (void)mail; // anybody: it proves nothing
    struct session *s = ctx;
    struct intake *in = s->gate->intake;
    if (!intake_port_accepts(in->options.port)) {
        session_answer(s, SMTP_REPLY_DISK_FULL, BYTES_NONE);
        return;
    }
    if (!rate_groups_take(in->options.returns_rates, session_place(s),
                          s->gate->snapshot->conf->bounce.rate, sys_mono())) {
        intake_count(&in->options.counters->returns_too_many, 1);
        session_answer(s, SMTP_REPLY_TOO_MANY_REPORTS, BYTES_NONE);
        return;
    }
    session_answer(s, SMTP_REPLY_MAIL_OK, BYTES_NONE);
}

static uint32_t places_of(const struct intake *in, struct bytes client)
{
    uint32_t count = 0;
    list_each(link, &in->returns)
    {
        const struct session *s = list_get(link, struct returns, link)->session;
        count += s && bytes_eq(session_place(s), client);
    }
    return count;
}

// Law 9: a place is for who has a token, as strangers could keep all of them by saying MAIL; and who has got one, with
// any mail of ours, keeps a few of them at most.
static bool take_place(struct session *s)
{
    struct intake *in = s->gate->intake;
    if (in->returns_count >= RETURNS_MAX ||
        (!s->trusted && places_of(in, session_place(s)) >= RETURNS_CLIENT_MAX))
        return false;
    struct returns *r = mem_new(sizeof *r);
    char client[SYS_ADDR_TEXT];
    r->intake = in;
    r->session = s;
    r->snapshot = conf_snapshot_hold(s->gate->snapshot);
    r->client = arena_dup(&r->arena, bytes_cstr(sys_addr_format(net_conn_peer(s->conn), client)));
    buf_init(&r->content, RETURNS_KEPT_BYTES);
    s->returns = r;
    in->returns_count++;
    list_push_back(&in->returns, &r->link);
    return true;
}

static void refuse(struct session *s, const struct smtp_rcpt *rcpt, bool forged)
{
    struct intake_counters *counters = s->gate->intake->options.counters;
    char client[SYS_ADDR_TEXT];
    intake_count(forged ? &counters->returns_forged : &counters->recipients_refused, 1);
    if (forged)
        log_warn("forged return path refused", LOG_STR("address", rcpt->path),
                 LOG_CSTR("client", sys_addr_format(net_conn_peer(s->conn), client)));
    session_answer(s, SMTP_REPLY_UNKNOWN_USER, rcpt->path);
}

static void on_rcpt(void *ctx, const struct smtp_rcpt *rcpt)
{
    struct session *s = ctx;
    const struct conf_patterns *complaints = &s->gate->snapshot->conf->bounce.complaints;
    struct target t = {.complaints =
                           conf_patterns_match(complaints, rcpt->path) && complaints->count > 0};
    ptrdiff_t at = bytes_find_last(rcpt->path, '@');
    struct bytes local = at == -1 ? rcpt->path : bytes_first(rcpt->path, (size_t)at);
    if (!t.complaints) {
        enum return_verdict v =
            return_token_parse(s->gate->intake->options.return_key, local, &t.token);
        if (v != RETURN_GOOD) {
            refuse(s, rcpt, v == RETURN_FORGED);
            return;
        }
    }
    if (!s->returns && !take_place(s)) {
        session_answer(s, SMTP_REPLY_BUSY, BYTES_NONE);
        return;
    }
    struct returns *r = s->returns;
    CHECK(r->count < RETURNS_RECIPIENTS_MAX); // the session's limit
    r->targets[r->count++] = t;
    session_answer(s, SMTP_REPLY_RCPT_OK, BYTES_NONE);
}

// ---- content ---------------------------------------------------------------------------------------------

static void on_content(void *ctx, bool chunked)
{
    (void)chunked;
    session_answer(ctx, SMTP_REPLY_START_MAIL, BYTES_NONE);
}

// What is said about our mail stands at the front; the rest is read and forgotten.
static void on_body(void *ctx, struct bytes piece)
{
    struct buf *content = &((struct session *)ctx)->returns->content;
    buf_add(content, bytes_first(piece, RETURNS_KEPT_BYTES - content->len));
}

static void copy_envelope(void *ctx, const struct envelope *envelope)
{
    struct returns *r = ctx;
    r->envelope_found = envelope_copy(envelope, &r->arena);
}

static bool find_token(struct returns *r, const struct bounce_mail *mail, struct target *t)
{
    const struct return_key *key = r->intake->options.return_key;
    if (!t->complaints)
        return true;
    return return_token_search(key, mail->feedback_id, &t->token) ||
           return_token_search(key, buf_bytes(&r->content), &t->token);
}

// A message that is a moment old may not have been copied yet: the history is waited for, once for all recipients. If
// that was in vain, or a day can't be read, the report is to come again: whom it is about would be unknown for ever.
static void find_envelope(struct returns *r, struct message_id id)
{
    struct history *h = r->intake->options.history;
    if (message_id_eq(id, r->asked))
        return; // one report may be told of by many addresses
    r->asked = id;
    r->envelope_found = NULL;
    int err = h ? history_envelope(h, id, copy_envelope, r) : OK;
    if (err == E_NOT_FOUND && !r->waited) {
        r->waited = true;
        r->lags = history_wait(h) != OK;
        if (!r->lags)
            err = history_envelope(h, id, copy_envelope, r);
    }
    r->undecided |= err == E_AGAIN || (err && r->lags);
}

static void understand(struct sys_job *job)
{
    struct returns *r = container_of(job, struct returns, job);
    struct bounce_mail mail;
    bounce_classify_mail(r->snapshot->bounces, buf_bytes(&r->content), &r->arena, &mail);
    for (uint32_t i = 0; i < r->count; i++) {
        struct target *t = &r->targets[i];
        if (!find_token(r, &mail, t))
            continue;
        find_envelope(r, t->token.id);
        struct returned returned = {.token = t->token,
                                    .mail = &mail,
                                    .envelope = r->envelope_found,
                                    .from = r->client,
                                    .at = r->at};
        r->found_count[i] = returned_feedback(&returned, &r->arena, &r->found[i]);
    }
}

static void log_noted(const struct spool_feedback *f)
{
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(f->id, id);
    log_info("came back", LOG_CSTR("id", id), LOG_INT("recipient", f->recipient),
             LOG_STR("address", f->address), LOG_CSTR("kind", feedback_kind_name(f->kind)),
             LOG_CSTR("reason", bounce_reason_name(f->class.reason)), LOG_STR("client", f->from));
}

static void on_committed(void *ctx, int err)
{
    struct returns *r = ctx;
    struct session *s = r->session;
    struct intake_counters *counters = r->intake->options.counters;
    for (uint32_t i = 0; i < r->count && !err; i++) {
        if (r->found_count[i] == 0)
            intake_count(&counters->returns_unmatched, 1);
        for (size_t k = 0; k < r->found_count[i]; k++) {
            intake_count(&counters->returns[r->found[i][k].kind], 1);
            log_noted(&r->found[i][k]);
        }
    }
    if (err)
        log_warn("report not kept", LOG_STR("client", r->client), LOG_ERR(err));
    returns_free(r);
    if (s)
        session_answer(s,
                       err == OK       ? SMTP_REPLY_NOTED
                       : err == E_FULL ? SMTP_REPLY_DISK_FULL
                                       : SMTP_REPLY_LOCAL_ERROR,
                       BYTES_NONE);
}

static void on_understood(struct sys_job *job)
{
    struct returns *r = container_of(job, struct returns, job);
    if (r->undecided) {
        on_committed(r, E_TIMEOUT);
        return;
    }
    struct spool_frame *frame = spool_frame_new(SPOOL_INTAKE);
    size_t count = 0;
    for (uint32_t i = 0; i < r->count; i++)
        for (size_t k = 0; k < r->found_count[i] && count < SPOOL_FRAME_RECORDS; k++, count++)
            spool_frame_add_feedback(frame, &r->found[i][k]);
    if (count) {
        spool_commit(r->intake->options.port->spool, frame, on_committed, r);
        return;
    }
    spool_frame_free(frame);
    log_info("a report about no mail of ours", LOG_STR("client", r->client));
    on_committed(r, OK);
}

static void on_body_end(void *ctx, const struct smtp_content_facts *facts)
{
    (void)facts;
    struct session *s = ctx;
    struct returns *r = s->returns;
    r->working = true;
    r->at = sys_wall();
    r->job = (struct sys_job){.kind = SYS_JOB_DISK, .run = understand, .done = on_understood};
    sys_offload(&r->job);
}

static void on_reset(void *ctx, enum smtp_reset why)
{
    (void)why;
    returns_drop(ctx);
}

const struct smtp_server_handlers RETURNS_HANDLERS = {.on_xclient = session_on_xclient,
                                                      .on_mail = on_mail,
                                                      .on_rcpt = on_rcpt,
                                                      .on_data = on_content,
                                                      .on_body = on_body,
                                                      .on_body_end = on_body_end,
                                                      .on_refused = session_on_refused,
                                                      .on_reset = on_reset};
