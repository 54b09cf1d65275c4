// SPDX-License-Identifier: MIT
#include "intake/acceptance.h"

#include <stdlib.h>

struct acceptance {
    struct intake_port *port;
    struct stored_message *message;
    void (*done)(void *ctx, int err);
    void *ctx;
    uint32_t routes[];
};

struct queue_now acceptance_now(void)
{
    return (struct queue_now){sys_mono(), sys_wall()};
}

static void release_stored(void *message)
{
    stored_message_unref(message);
}

static uint32_t flags_of(bool null_sender, bool smtputf8, enum mail_body body, bool requiretls,
                         bool singly)
{
    return (null_sender ? QUEUE_NULL_SENDER : 0) | (smtputf8 ? QUEUE_SMTPUTF8 : 0) |
           (body != BODY_7BIT ? QUEUE_8BIT : 0) | (requiretls ? QUEUE_REQUIRETLS : 0) |
           (singly ? QUEUE_SINGLY : 0);
}

// RFC 2852: who asked to hear where it is not delivered by a time hears then, but where that was past already when it came.
static struct wall warn_at(enum by_mode mode, struct wall deliver_by, struct wall accepted_at)
{
    bool asked = mode == BY_NOTIFY && deliver_by.us > accepted_at.us;
    return asked ? deliver_by : (struct wall){0};
}

// As a message has them: wall times of when it was accepted, and how far the wall clock had jumped by then.
struct lifetime {
    struct wall from, not_before, until;
    int64_t jumped_ms;
};

// The same on today's wall clock: moved by what that has jumped since, but never more than a whole one from now on.
// What is still scheduled keeps to the wall clock with all its times.
static struct lifetime lifetime_today(const struct intake_port *port, struct lifetime life,
                                      struct queue_now now)
{
    int64_t jumped_ms = wall_jumps_then(&port->jumps, now) - life.jumped_ms;
    if (!jumped_ms || !wall_reached(life.not_before, now.wall))
        return life;
    bool waited = wall_reached(life.from, life.not_before);
    int64_t whole_ms = wall_ms_between(waited ? life.not_before : life.from, life.until);
    struct wall latest = wall_add_ms(now.wall, whole_ms);
    life.from = wall_add_ms(life.from, jumped_ms);
    life.until = wall_add_ms(life.until, jumped_ms);
    life.until = life.until.us < latest.us ? life.until : latest;
    return life;
}

static void queue_fresh(struct acceptance *a)
{
    const struct envelope *e = a->message->envelope;
    struct queue_now now = acceptance_now();
    struct lifetime life = lifetime_today( // the clock may have jumped during the flush
        a->port, (struct lifetime){e->accepted_at, e->not_before, e->expires_at, e->wall_jumped_ms},
        now);
    struct queue_recipient *recipients = mem_new(e->recipients_count * sizeof *recipients);
    for (uint32_t i = 0; i < e->recipients_count; i++)
        recipients[i] = (struct queue_recipient){.number = e->recipients[i].number,
                                                 .route = a->routes[i],
                                                 .domain = e->recipients[i].domain,
                                                 .notify = e->recipients[i].notify,
                                                 .held = a->message->is_held};
    struct queue_message_new message = {
        .id = e->id,
        .account = e->account,
        .class = e->class,
        .priority = e->priority,
        .accepted_at = life.from,
        .not_before = e->not_before,
        .warn_at = warn_at(e->by_mode, e->deliver_by, e->accepted_at),
        .expires_at = life.until,
        .size = e->header_bytes + e->body_bytes,
        .flags = flags_of(e->reverse_path.len == 0, e->smtputf8, e->body, e->requiretls, e->singly),
        .stored = {stored_message_ref(a->message), release_stored,
                   stored_message_memory(a->message)},
        .recipients = recipients,
        .recipients_count = e->recipients_count,
    };
    uint64_t kicks = 0;
    CHECK(queue_add(a->port->queue, &message, now, &kicks) == OK);
    a->port->kick(a->port->kick_ctx, kicks);
    free(recipients);
}

static void on_committed(void *ctx, int err)
{
    struct acceptance *a = ctx;
    if (!err)
        queue_fresh(a);
    stored_message_unref(a->message);
    a->done(a->ctx, err);
    free(a);
}

void acceptance_commit(struct intake_port *port, struct spool_frame *frame,
                       struct stored_message *m, const uint32_t *routes,
                       void (*done)(void *ctx, int err), void *ctx)
{
    uint32_t count = m->envelope->recipients_count;
    struct acceptance *a = mem_new(sizeof *a + count * sizeof a->routes[0]);
    *a = (struct acceptance){.port = port, .message = m, .done = done, .ctx = ctx};
    memcpy(a->routes, routes, count * sizeof a->routes[0]);
    wall_jumps_keep(&port->jumps, m->envelope->wall_jumped_ms, port->spool);
    spool_commit(port->spool, frame, on_committed, a);
}

void acceptance_recover(struct intake_port *port, const struct spool_summary *summary,
                        struct queue_now now, int64_t retry_max_ms,
                        uint32_t (*route_of)(void *ctx, const struct spool_summary *summary,
                                             const struct spool_summary_recipient *recipient),
                        void *ctx, uint64_t *kicks)
{
    struct lifetime life =
        lifetime_today(port,
                       (struct lifetime){summary->accepted_at, summary->not_before,
                                         summary->expires_at, summary->wall_jumped_ms},
                       now);
    struct wall latest =
        wall_add_ms(now.wall, retry_max_ms + retry_max_ms * QUEUE_JITTER_PERCENT / 100);
    struct queue_recipient few[8];
    uint32_t count = summary->recipients_count;
    struct queue_recipient *recipients =
        count <= COUNT_OF(few) ? few : mem_new(count * sizeof *recipients);
    for (uint32_t i = 0; i < summary->recipients_count; i++) {
        const struct spool_summary_recipient *r = &summary->recipients[i];
        recipients[i] = (struct queue_recipient){
            .number = r->number,
            .route = route_of(ctx, summary, r),
            .domain = r->domain,
            .notify = r->notify,
            .attempts = r->attempts,
            .next_attempt_at = r->next_attempt_at.us < latest.us ? r->next_attempt_at : latest,
            .held = r->state == RECIPIENT_HELD,
            .warned = r->warned,
            .exempt = r->exempt};
    }
    struct queue_message_new message = {
        .id = summary->id,
        .account = summary->account,
        .class = summary->class,
        .priority = summary->priority,
        .warn_at = warn_at(summary->by_mode, summary->deliver_by, summary->accepted_at),
        .accepted_at = life.from,
        .not_before = summary->not_before,
        .expires_at = life.until,
        .spared = summary->by_mode != BY_RETURN, // RFC 2852: its sender wants it back in time
        .size = summary->size,
        .flags = flags_of(summary->null_sender, summary->smtputf8, summary->body,
                          summary->requiretls, summary->singly),
        .recipients = recipients,
        .recipients_count = summary->recipients_count,
    };
    int err = queue_add(port->queue, &message, now, kicks);
    if (err)
        log_error("recovered message not queued", LOG_ERR(err));
    if (recipients != few)
        free(recipients);
}
