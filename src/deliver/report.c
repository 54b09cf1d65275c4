// SPDX-License-Identifier: MIT
//
// How it works: a report counts the frames it has committed; when the last one is flushed it settles the
// batch. A frame with a notification goes through acceptance, which also queues the notification; where that is too much
// for any frame, the outcomes are committed without it, and where there is no room just now, nobody has heard of them.
#include "deliver/report.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bounce/dsn.h"
#include "mail/mail_address.h"
#include "route/route.h"

// NOLINTNEXTLINE(misc-redundant-expression): they are equal today
_Static_assert(DSN_BODY_MAX <= STORED_INLINE_MAX, "a notification's body stands in its record");

struct report {
    struct reporter *reporter;
    struct queue_batch *batch;
    struct stored_message *message;
    struct wall at, retry_at;
    uint32_t frames; // not flushed yet
    bool unrecorded; // some of it will not be
    bool *put_off;   // by recipient: there was no room to tell its sender; NULL: none
    struct arena arena;
    struct report_facts facts;
    struct verdict verdicts[];
};

const struct recipient *report_recipient(const struct envelope *envelope, uint32_t number)
{
    // Numbers count from 1 in order, so the row is nearly always where it is looked for first.
    if (number >= 1 && number <= envelope->recipients_count &&
        envelope->recipients[number - 1].number == number)
        return &envelope->recipients[number - 1];
    for (uint32_t i = 0; i < envelope->recipients_count; i++)
        if (envelope->recipients[i].number == number)
            return &envelope->recipients[i];
    return NULL;
}

// ---- verdicts as records, as results, as notifications ---------------------------------------------------

struct verdict_row {
    enum recipient_state state;
    enum spool_event event;
    enum queue_outcome outcome;
    bool counts; // as an attempt
};

static const struct verdict_row ROWS[] = {
    [VERDICT_DELIVERED] = {RECIPIENT_DELIVERED, SPOOL_EVENT_DELIVERED, QUEUE_DONE, true},
    [VERDICT_RELAYED] = {RECIPIENT_RELAYED, SPOOL_EVENT_DELIVERED, QUEUE_DONE, true},
    [VERDICT_PASSED] = {RECIPIENT_RELAYED, SPOOL_EVENT_DELIVERED, QUEUE_DONE, true},
    [VERDICT_FAILED] = {RECIPIENT_FAILED, SPOOL_EVENT_BOUNCED, QUEUE_DONE, true},
    [VERDICT_DEFERRED] = {RECIPIENT_QUEUED, SPOOL_EVENT_DEFERRED, QUEUE_DEFERRED, true},
    [VERDICT_UNTRIED] = {RECIPIENT_QUEUED, SPOOL_EVENT_DEFERRED, QUEUE_UNTRIED, false},
    [VERDICT_EXPIRED] = {RECIPIENT_EXPIRED, SPOOL_EVENT_EXPIRED, QUEUE_DONE, false},
    [VERDICT_WARNED] = {RECIPIENT_QUEUED, SPOOL_EVENT_DSN, QUEUE_WARNED, false},
    [VERDICT_RETURNED] = {RECIPIENT_FAILED, SPOOL_EVENT_BOUNCED, QUEUE_DONE, false},
};

// What the sender may have asked to hear of; false: nothing.
static bool action_of(enum verdict_kind kind, enum dsn_action *out)
{
    switch (kind) {
    case VERDICT_DELIVERED:
        *out = DSN_DELIVERED;
        return true;
    case VERDICT_RELAYED:
        *out = DSN_RELAYED;
        return true;
    case VERDICT_FAILED:
    case VERDICT_EXPIRED:
    case VERDICT_RETURNED:
        *out = DSN_FAILED;
        return true;
    case VERDICT_WARNED:
        *out = DSN_DELAYED;
        return true;
    default:
        return false;
    }
}

// What follows from a bad address needs no more than this record; nor does what comes back of mail that has waited
// (scheduled, held), as the day of its acceptance may be gone from the history when it does.
static void name_address(const struct report *r, uint32_t i, struct spool_outcome *outcome)
{
    const struct envelope *e = r->message->envelope;
    bool bad = outcome->state == RECIPIENT_FAILED && outcome->class.hard;
    if (!bad && wall_ms_between(e->accepted_at, r->at) <= REPORT_NAMED_AFTER_MS)
        return;
    const struct recipient *to = report_recipient(e, r->batch->recipients[i].number);
    outcome->account = e->account;
    outcome->address = to ? to->address : BYTES_NONE;
}

static void add_outcome(struct report *r, struct spool_frame *frame, uint32_t i)
{
    const struct verdict *v = &r->verdicts[i];
    const struct verdict_row *row = &ROWS[v->kind];
    if (v->kind == VERDICT_UNTRIED)
        return; // nothing happened to it
    bool deferred = row->outcome == QUEUE_DEFERRED;
    struct spool_outcome outcome = {
        .id = r->batch->id,
        .recipient = r->batch->recipients[i].number,
        .state = row->state,
        .event = row->event,
        .attempts = r->batch->recipients[i].attempts + (row->counts ? 1 : 0),
        .warned = v->kind == VERDICT_WARNED,
        .at = r->at,
        .next_attempt_at = deferred ? r->retry_at
                           : recipient_state_is_live(row->state)
                               ? r->batch->recipients[i].next_attempt_at
                               : (struct wall){0},
        .mx = r->facts.mx,
        .ip = r->facts.ip,
        .tls = r->facts.tls,
        .lane = r->facts.lane,
        .code = v->code,
        .enhanced = bytes_cstr(v->enhanced),
        .text = bytes_cstr(v->text),
        .class = v->class,
        .actor = r->facts.actor,
        .reason = r->facts.reason,
    };
    name_address(r, i, &outcome);
    spool_frame_add_outcome(frame, &outcome);
}

// ---- the notification ------------------------------------------------------------------------------------

struct notice {
    struct dsn_recipient recipients[REPORT_FRAME_RECIPIENTS];
    struct buf diagnostics[REPORT_FRAME_RECIPIENTS];
    enum recipient_state states[REPORT_FRAME_RECIPIENTS];
    uint32_t count;
};

// Does what became of it follow from attempts?
static bool is_tried(const struct report *r, uint32_t i)
{
    enum verdict_kind kind = r->verdicts[i].kind;
    return ROWS[kind].counts || (kind != VERDICT_RETURNED && r->batch->recipients[i].attempts > 0);
}

// *notice is made when the first recipient is found whose sender wants to know.
static void notice_add(struct report *r, struct notice **notice, uint32_t i)
{
    const struct verdict *v = &r->verdicts[i];
    const struct recipient *recipient =
        report_recipient(r->message->envelope, r->batch->recipients[i].number);
    enum dsn_action action = DSN_RELAYED;
    bool by_time = recipient && v->tells && dsn_is_due(r->message->envelope, recipient);
    if (!recipient || (!action_of(v->kind, &action) && !by_time) ||
        (!by_time && !dsn_is_wanted(r->message->envelope, recipient, action)))
        return;
    if (!*notice)
        *notice = mem_new(sizeof **notice);
    struct notice *n = *notice;
    struct buf *text = &n->diagnostics[n->count];
    if (v->remote)
        buf_printf(text, "%u %s ", v->code, v->enhanced);
    buf_add_cstr(text, v->text);
    n->recipients[n->count] = (struct dsn_recipient){
        .recipient = recipient,
        .action = action,
        .by_time = by_time,
        .by_operator = v->kind == VERDICT_RETURNED,
        .status = bytes_cstr(v->enhanced),
        .remote_mta = r->facts.mx,
        .diagnostic = buf_bytes(text),
        .diagnostic_is_remote = v->remote,
        .last_attempt = is_tried(r, i) ? r->at : (struct wall){0},
    };
    n->states[n->count] = ROWS[v->kind].state;
    n->count++;
}

static struct bytes body_in_memory(struct report *r)
{
    struct stored_message *m = r->message;
    if (m->body_in_extent || m->body.len == 0)
        return BYTES_NONE;
    char *copy = arena_new(&r->arena, m->body.len);
    size_t n = chain_read(&m->body, 0, copy, m->body.len);
    return bytes_of(copy, n);
}

// The notification's envelope: from nobody to the sender (RFC 3461 6.1). E_SYNTAX when the sender's address has
// no domain to send to.
static int address_notification(struct report *r, const struct dsn *dsn, struct stored_message *m)
{
    const struct conf *conf = r->reporter->snapshot->conf;
    const struct envelope *about = r->message->envelope;
    struct envelope *e = m->envelope;
    struct recipient *to = arena_new(&m->arena, sizeof *to);
    to->number = 1;
    to->address = arena_dup(&m->arena, about->reverse_path);
    to->notify = NOTIFY_NEVER;
    struct mail_address address;
    struct buf domain = {0};
    int err = mail_address_parse(to->address, &address);
    if (!err)
        err = mail_domain_route(address.domain, &domain);
    to->domain = arena_dup(&m->arena, buf_bytes(&domain));
    buf_done(&domain);
    if (err)
        return err;
    e->accepted_at = r->at;
    e->expires_at = wall_add_ms(r->at, conf->retry.lifetime_ms);
    e->wall_jumped_ms = wall_jumps_now(&r->reporter->port->jumps, acceptance_now());
    e->account = about->account;
    e->account_name = arena_dup(&m->arena, about->account_name);
    e->class = about->class == MAIL_BULK ? MAIL_BULK : MAIL_PERSONAL;
    e->origin = ORIGIN_BOUNCE;
    e->priority = about->priority; // RFC 6710 section 4
    e->body = dsn->eight_bit ? BODY_8BITMIME : BODY_7BIT;
    e->smtputf8 = dsn->smtputf8;
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(e->id, id);
    e->message_id = arena_printf(&m->arena, "<%s@%.*s>", id, BYTES_FMT(conf->hostname));
    e->recipients = to;
    e->recipients_count = 1;
    return OK;
}

static struct stored_message *make_notification(struct report *r, struct notice *n)
{
    const struct conf *conf = r->reporter->snapshot->conf;
    struct stored_message *m = stored_message_new();
    m->envelope->id = spool_next_id(r->reporter->port->spool, r->at);
    struct dsn_request request = {
        .envelope = r->message->envelope,
        .header = r->message->header,
        .hostname = conf->hostname,
        .postmaster = arena_printf(&r->arena, "MAILER-DAEMON@%.*s", BYTES_FMT(conf->hostname)),
        .id = m->envelope->id,
        .now = r->at,
        .recipients = n->recipients,
        .count = n->count,
    };
    if (dsn_returns_body(r->message->envelope, n->recipients, n->count))
        request.body = body_in_memory(r);
    struct dsn dsn;
    int err = dsn_build(&request, &dsn);
    if (!err)
        err = address_notification(r, &dsn, m);
    if (err) {
        log_error("notification not written", LOG_ERR(err));
        dsn_done(&dsn);
        stored_message_unref(m);
        return NULL;
    }
    m->header = arena_dup(&m->arena, buf_bytes(&dsn.header));
    chain_add(&m->body, buf_bytes(&dsn.body));
    m->envelope->header_bytes = dsn.header.len;
    m->envelope->body_bytes = dsn.body.len;
    dsn_done(&dsn);
    return m;
}

static uint32_t route_of(struct report *r, const struct stored_message *m)
{
    const struct route_table *routes = r->reporter->snapshot->routes;
    const struct recipient *to = &m->envelope->recipients[0];
    struct route_question question = {
        .recipient = to->address, .domain = to->domain, .account = m->envelope->account_name};
    return route_key(routes, route_pick(routes, &question));
}

static void add_dsn_events(struct report *r, struct spool_frame *frame, const struct notice *n,
                           struct message_id notification)
{
    for (uint32_t i = 0; i < n->count; i++) {
        bool live = n->recipients[i].action == DSN_DELAYED;
        if (live)
            continue; // the WARNED outcome is that event
        struct spool_outcome outcome = {
            .id = r->batch->id,
            .recipient = n->recipients[i].recipient->number,
            .event = SPOOL_EVENT_DSN,
            .state = n->states[i],
            .at = r->at,
            .related = notification,
        };
        spool_frame_add_outcome(frame, &outcome);
    }
}

// ---- frames ----------------------------------------------------------------------------------------------

// What an operator could not return stays as it was; the rest is due again at its time. Who could not be warned of a
// delay is not delayed further for it: as if he were, until the next start finds that he was not.
static enum queue_outcome outcome_of(const struct report *r, uint32_t i)
{
    enum verdict_kind kind = r->verdicts[i].kind;
    if (!r->put_off || !r->put_off[i] || kind == VERDICT_WARNED)
        return ROWS[kind].outcome;
    return kind == VERDICT_RETURNED ? QUEUE_KEPT : QUEUE_DEFERRED;
}

static void settle(struct report *r)
{
    struct queue_batch *batch = r->batch;
    struct queue_result *results = mem_new(batch->count * sizeof *results);
    for (uint32_t i = 0; i < batch->count; i++)
        results[i] =
            (struct queue_result){.outcome = outcome_of(r, i), .next_attempt_at = r->retry_at};
    uint64_t kicks = 0;
    struct intake_port *port = r->reporter->port;
    queue_settle(port->queue, batch, results, acceptance_now(), &kicks);
    port->kick(port->kick_ctx, kicks);
    free(results);
}

// What is not recorded is not settled: it stays leased, out of everybody's way, until the next start takes up what the
// journal says.
static void finish(struct report *r)
{
    if (r->unrecorded)
        queue_batch_free(r->reporter->port->queue, r->batch);
    else
        settle(r);
    r->reporter->open--;
    stored_message_unref(r->message);
    arena_done(&r->arena);
    free(r);
}

static void frame_done(struct report *r)
{
    if (--r->frames == 0)
        finish(r);
}

// The recipients of one frame.
struct range {
    struct report *report;
    uint32_t from, to;
    bool tells; // with a notification
};

static void commit_range(struct range *range, bool may_tell);

// The disk is full: what is said of these recipients is forgotten, and will be found again.
static void put_off(struct range *range)
{
    struct report *r = range->report;
    if (!r->put_off)
        r->put_off = arena_new(&r->arena, r->batch->count * sizeof *r->put_off);
    for (uint32_t i = range->from; i < range->to; i++) {
        r->put_off[i] = r->verdicts[i].kind != VERDICT_UNTRIED;
        r->reporter->put_off += r->put_off[i];
    }
}

static void on_flushed(void *ctx, int err)
{
    struct range *range = ctx;
    struct report *r = range->report;
    if (!err) {
        frame_done(r);
        return;
    }
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(r->batch->id, id);
    if (err == E_FULL && range->tells) {
        log_warn("no room to tell the sender: it stays queued, as if nothing had come of it",
                 LOG_CSTR("id", id));
        put_off(range);
        frame_done(r);
        return;
    }
    if (err != E_CLOSED && range->tells) { // what happened is recorded, though nobody is told of it
        log_error("notification not recorded", LOG_CSTR("id", id), LOG_ERR(err));
        commit_range(range, false);
        return;
    }
    // While stopping: the journal still says what it said; the next start goes on from there.
    log_warn("outcome not recorded", LOG_CSTR("id", id), LOG_ERR(err));
    r->unrecorded = true;
    frame_done(r);
}

static bool frame_has_records(const struct report *r, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (r->verdicts[i].kind != VERDICT_UNTRIED)
            return true;
    return false;
}

// What another server has must be recorded, or it would get it again.
static bool has_delivered(const struct range *range)
{
    for (uint32_t i = range->from; i < range->to; i++)
        if (ROWS[range->report->verdicts[i].kind].event == SPOOL_EVENT_DELIVERED)
            return true;
    return false;
}

static void commit_range(struct range *range, bool may_tell)
{
    struct report *r = range->report;
    struct intake_port *port = r->reporter->port;
    struct notice *notice = NULL;
    for (uint32_t i = range->from; may_tell && i < range->to; i++)
        notice_add(r, &notice, i);
    struct stored_message *m = notice ? make_notification(r, notice) : NULL;
    struct spool_frame *frame =
        spool_frame_new(m && !has_delivered(range) ? SPOOL_REPORT : SPOOL_OUTCOME);
    for (uint32_t i = range->from; i < range->to; i++)
        add_outcome(r, frame, i);
    range->tells = m;
    if (m) {
        add_dsn_events(r, frame, notice, m->envelope->id);
        spool_frame_add_message(frame, m);
        uint32_t route = route_of(r, m);
        acceptance_commit(port, frame, m, &route, on_flushed, range);
    } else {
        spool_commit(port->spool, frame, on_flushed, range);
    }
    for (uint32_t i = 0; notice && i < notice->count; i++)
        buf_done(&notice->diagnostics[i]);
    free(notice);
}

static void log_outcomes(const struct report *r)
{
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(r->batch->id, id);
    for (uint32_t i = 0; i < r->batch->count; i++) {
        const struct verdict *v = &r->verdicts[i];
        if (v->kind == VERDICT_UNTRIED)
            continue;
        const struct recipient *to =
            report_recipient(r->message->envelope, r->batch->recipients[i].number);
        log_info(
            "recipient", LOG_CSTR("id", id), LOG_STR("to", to ? to->address : BYTES_NONE),
            LOG_CSTR("outcome",
                     v->kind == VERDICT_WARNED ? "delayed" : spool_event_name(ROWS[v->kind].event)),
            LOG_STR("lane", r->facts.lane), LOG_STR("mx", r->facts.mx), LOG_STR("ip", r->facts.ip),
            LOG_STR("tls", r->facts.tls), LOG_INT("code", v->code), LOG_CSTR("answer", v->text),
            LOG_CSTR("reason", bounce_reason_name(v->class.reason)));
    }
}

static void count_reason(struct report_counters *counters, const struct verdict *v)
{
    if (!counters || v->class.reason == BOUNCE_NONE)
        return;
    bool deferred = v->kind == VERDICT_DEFERRED;
    atomic_fetch_add_explicit(deferred ? &counters->deferred[v->class.reason]
                                       : &counters->failed[v->class.reason],
                              1, memory_order_relaxed);
}

static void count_delivery(const struct report *r, const struct verdict *v)
{
    const struct envelope *e = r->message->envelope;
    bool waited = e->not_before.us > e->accepted_at.us; // as its sender asked
    if (r->reporter->counters && ROWS[v->kind].event == SPOOL_EVENT_DELIVERED)
        histogram_add(&r->reporter->counters->delivery,
                      r->at.us - (waited ? e->not_before.us : e->accepted_at.us));
}

// What was not classified when it was heard is our own words, or a lifetime that is over.
static void classify(struct report *r)
{
    for (uint32_t i = 0; i < r->batch->count; i++) {
        struct verdict *v = &r->verdicts[i];
        if (v->kind == VERDICT_EXPIRED)
            v->class = (struct bounce_class){BOUNCE_EXPIRED, false};
        else if (v->class.reason == BOUNCE_NONE)
            verdict_classify(v, r->reporter->snapshot->bounces, BYTES_NONE);
        count_reason(r->reporter->counters, v);
        count_delivery(r, v);
    }
}

void report_batch(struct reporter *reporter, struct queue_batch *batch,
                  struct stored_message *message, const struct verdict *verdicts,
                  const struct report_facts *facts)
{
    struct report *r = mem_new(sizeof *r + batch->count * sizeof r->verdicts[0]);
    r->reporter = reporter;
    r->batch = batch;
    r->message = stored_message_ref(message);
    r->at = sys_wall();
    r->retry_at = queue_retry_at(batch, r->at);
    r->facts = (struct report_facts){
        arena_dup(&r->arena, facts->mx),    arena_dup(&r->arena, facts->ip),
        arena_dup(&r->arena, facts->tls),   arena_dup(&r->arena, facts->lane),
        arena_dup(&r->arena, facts->actor), arena_dup(&r->arena, facts->reason)};
    memcpy(r->verdicts, verdicts, batch->count * sizeof r->verdicts[0]);
    reporter->open++;
    classify(r);
    log_outcomes(r);

    r->frames = 1; // ours, until all are committed
    for (uint32_t from = 0; from < batch->count; from += REPORT_FRAME_RECIPIENTS) {
        uint32_t to = from + REPORT_FRAME_RECIPIENTS < batch->count ? from + REPORT_FRAME_RECIPIENTS
                                                                    : batch->count;
        if (!frame_has_records(r, from, to))
            continue;
        r->frames++;
        struct range *range = arena_new(&r->arena, sizeof *range);
        *range = (struct range){.report = r, .from = from, .to = to};
        commit_range(range, true);
    }
    frame_done(r);
}
