// SPDX-License-Identifier: MIT
//
// How it works: each step ends in the next one or in decide_all(); each callback ends in changed().
#include "deliver/delivery.h"

#include <stdlib.h>

#include "deliver/attempt.h"
#include "deliver/deliver_private.h"
#include "deliver/extras.h"
#include "store/store_directory.h"

// ---- verdicts --------------------------------------------------------------------------------------------

// RFC 2852 section 4: who asked for a time hears where that is known no further, or, with the trace, at each step; but
// a mailbox is where it was to go.
static bool tells_relay(const struct delivery *d, const struct verdict *v)
{
    const struct envelope *e = d->message->envelope;
    bool lost = e->by_mode == BY_NOTIFY && !smtp_client_caps(d->client)->deliverby;
    return !d->final && (v->kind == VERDICT_RELAYED || v->kind == VERDICT_PASSED) &&
           (lost || e->by_trace);
}

void delivery_outcome(struct delivery *d, uint32_t rcpt, const struct smtp_outcome *outcome,
                      bool fresh)
{
    struct verdict *v = &d->verdicts[rcpt];
    d->accepted += outcome->step > SMTP_STEP_RCPT;
    *v = verdict_of_outcome(outcome, d->final, smtp_client_caps(d->client)->dsn, fresh);
    v->tells = tells_relay(d, v);
    if (outcome->reply)
        verdict_classify(v, d->deliver->snapshot->bounces, outcome->reply->text);
    bool about_address = verdict_is_about_address(outcome->step, d->batch->count == 1, d->lmtp);
    d->refused = d->refused || (about_address && v->remote && v->kind == VERDICT_FAILED);
    if (!about_address)
        v->class.hard = false;
}

static struct verdict no_utf8(void)
{
    return verdict_make(VERDICT_FAILED, 550, "5.6.7",
                        BYTES("the receiving server does not support internationalised mail"));
}

// A 7-bit form that does not exist, or a stored message that can't be read, is not the server's doing.
static void explain_render_failure(struct delivery *d)
{
    bool utf8 = d->message->envelope->smtputf8 && d->render.plan.has_8bit_header;
    struct verdict v =
        d->render.err == E_DENIED && utf8 ? no_utf8() : verdict_of_render_failure(d->render.err);
    for (uint32_t i = 0; i < d->batch->count; i++)
        if (!d->verdicts[i].remote)
            d->verdicts[i] = v;
}

// RFC 5321 4.5.3.1.10: those that were too many for this transaction go with the next one, which is no new attempt.
// Where it was the first that was refused, there would be no end of that.
static void put_off_too_many(struct delivery *d)
{
    for (uint32_t i = 0; d->accepted > 0 && i < d->batch->count; i++) {
        if (!d->verdicts[i].too_many)
            continue;
        d->too_many = true;
        d->verdicts[i] = verdict_make(VERDICT_UNTRIED, 0, "", BYTES_NONE);
    }
}

void delivery_sent(struct delivery *d)
{
    put_off_too_many(d);
    d->render_failed = d->render.err != OK;
    if (d->render_failed)
        explain_render_failure(d);
    d->phase = DELIVERY_DECIDED;
}

static void decide_all(struct delivery *d, struct verdict verdict)
{
    for (uint32_t i = 0; i < d->batch->count; i++)
        d->verdicts[i] = verdict;
    d->phase = DELIVERY_DECIDED;
}

// ---- time ------------------------------------------------------------------------------------------------

// What is left of the time that the sender gave (RFC 2852), in seconds; the queue knows of jumps of the clock.
static int64_t seconds_left(const struct delivery *d)
{
    const struct envelope *e = d->message->envelope;
    int64_t ms = wall_ms_between(sys_wall(), e->deliver_by) +
                 wall_ms_between(e->expires_at, d->batch->expires_at);
    return ms / 1000 - (ms % 1000 < 0);
}

// May mail with BY=...;R go to this server? Else *out says why it is returned.
static bool is_in_time(const struct delivery *d, struct verdict *out)
{
    const struct envelope *e = d->message->envelope;
    const struct smtp_caps *caps = smtp_client_caps(d->client);
    int64_t left = seconds_left(d);
    if (e->by_mode != BY_RETURN)
        return true;
    if (left <= 0)
        *out = verdict_make(VERDICT_EXPIRED, 0, "5.4.7", BYTES(VERDICT_NOT_IN_TIME));
    else if (!d->final && !caps->deliverby) // a mailbox is where it is to go
        *out = verdict_make(VERDICT_FAILED, 554, "5.4.7",
                            BYTES("its sender wants it delivered within a time, and the next "
                                  "server has no DELIVERBY"));
    else if (!d->final && left < caps->deliverby_min_s)
        *out = verdict_make(
            VERDICT_FAILED, 554, "5.4.7",
            BYTES("the next server does not promise delivery in the time that is left"));
    else
        return true;
    return false;
}

// RFC 2852 4.1.4.2: a server that knows nothing of the time is asked to tell at least of delays.
static void ask_for_delays(struct delivery *d)
{
    const struct envelope *e = d->message->envelope;
    bool lost = e->by_mode == BY_NOTIFY && !d->final && !smtp_client_caps(d->client)->deliverby;
    for (uint32_t i = 0; lost && seconds_left(d) > 0 && i < d->batch->count; i++)
        if (!(d->rcpts[i].notify & NOTIFY_NEVER))
            d->rcpts[i].notify |= NOTIFY_DELAY | (d->rcpts[i].notify ? 0 : NOTIFY_FAILURE);
}

// ---- sending ---------------------------------------------------------------------------------------------

static void on_render_ready(void *ctx)
{
    struct delivery *d = ctx;
    smtp_client_more(d->client, sys_mono());
    d->changed(d);
}

static void send_rendered(struct delivery *d)
{
    struct verdict late;
    if (!is_in_time(d, &late)) {
        decide_all(d, late);
        return;
    }
    ask_for_delays(d);
    const struct envelope *e = d->message->envelope;
    struct buf fields = {0};
    buf_add_all(&fields, d->signature.fields, buf_bytes(&d->added));
    render_init(&d->render, d->deliver->options.port->spool, d->message, d->kind,
                buf_bytes(&fields), on_render_ready, d);
    buf_done(&fields);
    d->rendering = true;
    d->transaction = (struct smtp_transaction){
        .reverse_path = buf_bytes(&d->reverse_path),
        .body = d->kind == RENDER_SEVEN_BIT   ? BODY_7BIT
                : d->kind == RENDER_EIGHT_BIT ? BODY_8BITMIME
                                              : e->body,
        .smtputf8 = d->utf8,
        .ret = e->ret,
        .envid = e->envid,
        .by_mode = e->by_mode,
        .by_trace = e->by_trace,
        .by_s = e->by_mode == BY_NONE ? 0 : seconds_left(d),
        .priority = e->priority,
        .size = render_size(&d->render),
        .rcpts = d->rcpts,
        .rcpts_count = d->batch->count,
        .content = render_next,
        .content_ctx = &d->render,
    };
    d->phase = DELIVERY_SENDING;
    deliver_count(&d->deliver->options.counters->bytes_sent, d->transaction.size);
    smtp_client_send(d->client, &d->transaction, sys_mono());
}

// ---- signing ---------------------------------------------------------------------------------------------

static struct verdict not_signed(const struct delivery *d)
{
    if (d->signature.err == E_CLOSED)
        return verdict_make(VERDICT_DEFERRED, 451, "4.3.0",
                            BYTES("the message cannot be signed with DKIM now"));
    bool utf8 = d->message->envelope->smtputf8 && d->signature.has_8bit_header;
    return d->signature.err == E_DENIED && utf8 ? no_utf8()
                                                : verdict_of_render_failure(d->signature.err);
}

static void sign(struct delivery *d, enum render_kind kind, bool utf8);

static void go_on(struct delivery *d)
{
    bool stays = d->may_stay_binary;
    d->may_stay_binary = false;
    if (stays && d->signature.err == E_DENIED) { // a form that can't be had need not be
        signature_done(&d->signature);
        sign(d, RENDER_IDENTITY, d->utf8);
        return;
    }
    if (stays && !d->signature.err && !d->signature.fields.len)
        d->kind = RENDER_IDENTITY;
    if (d->signature.err)
        decide_all(d, not_signed(d));
    else
        send_rendered(d);
}

static bool can_begin(const struct delivery *d)
{
    return smtp_client_is_ready(d->client);
}

static void on_signed(struct signature_ask *ask)
{
    struct delivery *d = container_of(ask, struct delivery, signature);
    d->signing = false;
    if (can_begin(d))
        go_on(d);
    else // the server left meanwhile
        decide_all(d, verdict_make(VERDICT_UNTRIED, 0, "", BYTES_NONE));
    d->changed(d);
}

static void sign(struct delivery *d, enum render_kind kind, bool utf8)
{
    struct deliver *deliver = d->deliver;
    d->kind = kind;
    d->utf8 = utf8;
    d->signature = (struct signature_ask){.spool = deliver->options.port->spool,
                                          .message = d->message,
                                          .snapshot = deliver->snapshot,
                                          .counters = &deliver->options.counters->signatures,
                                          .kind = kind,
                                          .added = buf_bytes(&d->added),
                                          .done = on_signed};
    d->signing = !signature_start(&d->signature);
    if (!d->signing)
        go_on(d);
}

// ---- the form --------------------------------------------------------------------------------------------

static bool server_takes_utf8(const struct delivery *d)
{
    return smtp_client_caps(d->client)->smtputf8;
}

// Is it known to need SMTPUTF8, or was that only declared? RFC 6531 3.4: an ASCII message may go on without. What the
// headers of its parts need is found out where it matters: when the server does not have it.
static bool needs_utf8(const struct delivery *d)
{
    const struct envelope *e = d->message->envelope;
    if (!e->smtputf8)
        return false;
    if (e->body != BODY_7BIT && server_takes_utf8(d))
        return true;
    if (!bytes_is_ascii(buf_bytes(&d->reverse_path)) || !bytes_is_ascii(d->message->header))
        return true;
    for (uint32_t i = 0; i < d->batch->count; i++)
        if (!bytes_is_ascii(d->rcpts[i].path))
            return true;
    return false;
}

static bool fill_recipients(struct delivery *d)
{
    d->rcpts = mem_new(d->batch->count * sizeof *d->rcpts);
    d->verdicts = mem_new(d->batch->count * sizeof *d->verdicts);
    for (uint32_t i = 0; i < d->batch->count; i++) {
        const struct recipient *r =
            report_recipient(d->message->envelope, d->batch->recipients[i].number);
        if (!r)
            return false;
        d->rcpts[i] = (struct smtp_client_rcpt){r->address, r->notify, r->orcpt};
    }
    return true;
}

// Mail for a mailbox here stays as it came.
static void make_extras(struct delivery *d)
{
    const struct recipient **recipients = mem_new(d->batch->count * sizeof *recipients);
    const struct envelope *e = d->message->envelope;
    for (uint32_t i = 0; i < d->batch->count; i++)
        recipients[i] = report_recipient(e, d->batch->recipients[i].number);
    struct extras extras = {d->deliver->snapshot, d->deliver->options.return_key, e, recipients,
                            d->batch->count};
    if (d->final) {
        buf_add(&d->reverse_path, e->reverse_path);
    } else {
        extras_reverse_path(&extras, &d->reverse_path);
        extras_header(&extras, &d->added);
    }
    free(recipients);
}

// The form for a server that does not take the message as it is.
static enum render_kind edge_form(const struct delivery *d, bool utf8)
{
    const struct envelope *e = d->message->envelope;
    bool lines = e->body == BODY_BINARYMIME && smtp_client_caps(d->client)->eightbitmime;
    return lines && (utf8 || !e->smtputf8) ? RENDER_EIGHT_BIT : RENDER_SEVEN_BIT;
}

// RFC 6376 5.3: what is signed should have a form that needs no conversion on its way. Binary mail has none.
static enum render_kind signed_form(struct delivery *d, bool utf8)
{
    const struct envelope *e = d->message->envelope;
    d->may_stay_binary = e->body == BODY_BINARYMIME &&
                         store_directory_signs(d->deliver->snapshot->accounts, e->account);
    if (d->may_stay_binary)
        return edge_form(d, utf8);
    return e->smtputf8 && e->body != BODY_7BIT && !utf8 ? RENDER_CHECKED : RENDER_IDENTITY;
}

static void begin(struct delivery *d)
{
    if (!fill_recipients(d)) {
        decide_all(d, verdict_make(VERDICT_FAILED, 554, "5.3.0",
                                   BYTES("the stored message does not list this recipient")));
        return;
    }
    const struct envelope *e = d->message->envelope;
    make_extras(d);
    bool utf8 = needs_utf8(d);
    switch (smtp_client_can_carry(d->client, e->body, utf8,
                                  d->added.len + e->header_bytes + e->body_bytes)) {
    case SMTP_CARRY_OK:
        sign(d, signed_form(d, utf8), utf8);
        break;
    case SMTP_CARRY_NEEDS_8BITMIME:
    case SMTP_CARRY_NEEDS_BINARYMIME:
        sign(d, edge_form(d, utf8), utf8);
        break;
    case SMTP_CARRY_NEEDS_SMTPUTF8: // RFC 6531 3.4: never silently changed
        decide_all(d, no_utf8());
        break;
    case SMTP_CARRY_TOO_LARGE:
        decide_all(d,
                   verdict_make(VERDICT_FAILED, 552, "5.3.4",
                                BYTES("the message is larger than the receiving server accepts")));
        break;
    }
}

// ---- the batch -------------------------------------------------------------------------------------------

static void on_loaded(struct batch_load *load, struct stored_message *message)
{
    struct delivery *d = container_of(load, struct delivery, load);
    d->message = message;
    if (message)
        dialogue_next(d->dialogue,
                      attempt_is_watched(d->deliver->options.trace, d->batch, message->envelope));
    if (!message) {
        d->batch = NULL; // batch_load has settled it
        d->phase = DELIVERY_NONE;
    } else if (can_begin(d)) {
        begin(d);
    } else { // the server left while we read
        fill_recipients(d);
        decide_all(d, verdict_make(VERDICT_UNTRIED, 0, "", BYTES_NONE));
    }
    d->changed(d);
}

void delivery_start(struct delivery *d, struct smtp_client *client, struct queue_batch *batch)
{
    CHECK(d->phase == DELIVERY_NONE);
    d->phase = DELIVERY_LOADING;
    d->client = client;
    d->batch = batch;
    d->render_failed = d->too_many = d->refused = false;
    d->accepted = 0;
    d->load.port = d->deliver->options.port;
    d->load.batch = batch;
    d->load.done = on_loaded;
    d->load.delivers = true;
    batch_load_start(&d->load);
}

bool delivery_is_pending(const struct delivery *d)
{
    return d->load.pending || d->signing;
}

void delivery_drop(struct delivery *d)
{
    if (d->rendering)
        render_done(&d->render);
    d->rendering = false;
    signature_done(&d->signature);
    stored_message_unref(d->message);
    free(d->rcpts);
    free(d->verdicts);
    buf_clear(&d->reverse_path);
    buf_clear(&d->added);
    d->phase = DELIVERY_NONE;
    d->message = NULL;
    d->rcpts = NULL;
    d->verdicts = NULL;
    d->batch = NULL;
}

void delivery_done(struct delivery *d)
{
    delivery_drop(d);
    buf_done(&d->reverse_path);
    buf_done(&d->added);
}
