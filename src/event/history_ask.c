// SPDX-License-Identifier: MIT
//
// How it works: a question opens the days' files that it needs, reads records, and takes them apart as the journal's
// own readers do. What an outcome lacks (the recipient's address) is looked up in the acceptance of its message, of
// which the last few are remembered.
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "event/history_private.h"
#include "mail/mail_address.h"

#define DAY_MS ((int64_t)86400 * 1000)

void question_init(struct question *q, struct history *h)
{
    *q = (struct question){.history = h, .days = history_list_days(h)};
    q->views = mem_new((q->days.count + 1) * sizeof *q->views);
    q->failed = mem_new((q->days.count + 1) * sizeof *q->failed);
}

static void forget(struct history_known *k)
{
    stored_message_unref(k->message);
    buf_done(&k->meta);
    *k = (struct history_known){0};
}

void question_done(struct question *q)
{
    for (size_t i = 0; i < COUNT_OF(q->known); i++)
        forget(&q->known[i]);
    for (size_t i = 0; i < q->days.count; i++) {
        if (q->views[i].damaged)
            log_error("history of a day damaged, some is passed over",
                      LOG_CSTR("day", q->days.at[i]), LOG_INT("blocks", q->views[i].damaged));
        if (q->views[i].db)
            history_view_close(&q->views[i]);
    }
    free(q->views);
    free(q->failed);
    free(q->days.at);
}

struct history_view *question_view(struct question *q, size_t day)
{
    char path[HISTORY_PATH_BYTES];
    if (q->failed[day])
        return NULL;
    if (!q->views[day].db) {
        history_path_of(q->history, q->days.at[day], path);
        int err = history_view_open(path, &q->views[day]);
        q->failed[day] = err != OK;
        if (err == E_DAMAGED)
            history_tell_damage(q->history, q->days.at[day], false);
    }
    return q->failed[day] ? NULL : &q->views[day];
}

int question_read(struct question *q, size_t day, int err)
{
    if (err != E_DAMAGED)
        return err;
    q->failed[day] = true; // it stays open: rows of it may be under way
    history_tell_damage(q->history, q->days.at[day], false);
    return OK;
}

size_t question_first_day(const struct question *q, struct wall at)
{
    char day[HISTORY_DAY_BYTES];
    size_t i = 0;
    history_day_of(at, day);
    while (i < q->days.count && strcmp(q->days.at[i], day) < 0)
        i++;
    return i;
}

// ---- messages --------------------------------------------------------------------------------------------

static int know(struct history_known *k, const struct spool_record *record)
{
    forget(k);
    k->message = stored_message_new();
    buf_add(&k->meta, record->meta);
    k->record = *record;
    k->record.meta = buf_bytes(&k->meta);
    int err = spool_record_decode(&k->record, k->message);
    if (err)
        forget(k);
    return err;
}

const struct history_known *question_know(struct question *q, const struct spool_record *record)
{
    struct history_known *k = &q->known[record->id.low % HISTORY_KNOWN_MESSAGES];
    return know(k, record) == OK ? k : NULL;
}

static bool on_acceptance(void *ctx, struct spool_record *record)
{
    return record->type != SPOOL_RECORD_MESSAGE || know(ctx, record) != OK;
}

// One that arrives around midnight is accepted on the day after its number was given, or, if the clock was set back
// meanwhile, on the day before.
const struct history_known *question_message(struct question *q, struct message_id id)
{
    static const size_t NEAR[] = {0, 1, (size_t)-1};
    struct history_known *k = &q->known[id.low % HISTORY_KNOWN_MESSAGES];
    size_t first = question_first_day(q, message_id_time(id));
    if (k->message && message_id_eq(k->record.id, id))
        return k;
    forget(k);
    for (size_t n = 0; n < COUNT_OF(NEAR) && !k->message; n++) {
        size_t i = first + NEAR[n]; // before the first: beyond the last
        struct history_view *view = i < q->days.count ? question_view(q, i) : NULL;
        struct history_rows rows = {on_acceptance, k};
        if (view && (question_read(q, i, history_view_of(view, id, &rows)) || q->failed[i]))
            forget(k);
    }
    return k->message ? k : NULL;
}

static void tell_message(const struct history_known *k, const struct history_reader *reader)
{
    const struct envelope *e = k->record.envelope;
    reader->on_message(reader->ctx, &(struct history_message){
                                        .id = e->id,
                                        .account = e->account_name,
                                        .class = bytes_cstr(mail_class_name(e->class)),
                                        .tag = e->tag,
                                        .sender = e->reverse_path,
                                        .message_id = e->message_id,
                                        .envid = e->envid,
                                        .listener = e->listener,
                                        .client = e->client,
                                        .credential = e->credential,
                                        .size = e->header_bytes + e->body_bytes,
                                        .accepted_at = e->accepted_at,
                                        .envelope = e,
                                        .metadata = e->metadata,
                                        .metadata_count = e->metadata_count,
                                    });
}

// ---- events ----------------------------------------------------------------------------------------------

static void tell(struct question *q, const struct history_event *event)
{
    q->told++;
    q->reader->on_event(q->reader->ctx, event);
}

// An acceptance is one record; it is told once for each recipient.
static void tell_acceptance(struct question *q, const struct history_known *k)
{
    const struct envelope *e = k->record.envelope;
    for (uint32_t i = 0; i < e->recipients_count; i++) {
        struct history_event event = {.cursor = k->record.sequence,
                                      .at = e->accepted_at,
                                      .type = SPOOL_EVENT_ACCEPTED,
                                      .id = e->id,
                                      .recipient = e->recipients[i].number,
                                      .address = e->recipients[i].address,
                                      .envelope = e,
                                      .message = e};
        event.state = spool_record_state(&k->record, event.recipient, &event.attempts);
        tell(q, &event);
    }
}

static struct bytes address_of(const struct history_known *k, uint32_t recipient)
{
    bool known = recipient >= 1 && recipient <= k->record.envelope->recipients_count;
    return known ? k->record.envelope->recipients[recipient - 1].address : BYTES_NONE;
}

static void tell_outcome(struct question *q, const struct spool_record *record)
{
    const struct spool_outcome *o = &record->outcome;
    const struct history_known *k = question_message(q, o->id);
    tell(q, &(struct history_event){
                .cursor = record->sequence,
                .at = o->at,
                .type = o->event,
                .id = o->id,
                .recipient = o->recipient,
                .address = k ? address_of(k, o->recipient) : o->address,
                .state = o->state,
                .attempts = o->attempts,
                .next_attempt_at = o->next_attempt_at,
                .code = o->code,
                .enhanced = o->enhanced,
                .text = o->text,
                .class = o->class,
                .mx = o->mx,
                .ip = o->ip,
                .tls = o->tls,
                .lane = o->lane,
                .actor = o->actor,
                .reason = o->reason,
                .related = o->related,
                .message = k ? k->record.envelope : NULL,
            });
}

// What came back: the state is left as it was.
static void tell_feedback(struct question *q, const struct spool_record *record)
{
    const struct spool_feedback *f = &record->feedback;
    tell(q, &(struct history_event){.cursor = record->sequence,
                                    .at = f->at,
                                    .type = SPOOL_EVENT_FEEDBACK,
                                    .id = f->id,
                                    .recipient = f->recipient,
                                    .address = f->address,
                                    .code = f->code,
                                    .enhanced = f->status,
                                    .text = f->diagnostic,
                                    .ip = f->from,
                                    .feedback = f});
}

void question_tell(struct question *q, struct spool_record *record)
{
    if (record->type == SPOOL_RECORD_MESSAGE) {
        const struct history_known *k = question_know(q, record);
        if (k)
            tell_acceptance(q, k);
    } else if (record->type == SPOOL_RECORD_OUTCOME && spool_record_decode(record, NULL) == OK) {
        tell_outcome(q, record);
    } else if (record->type == SPOOL_RECORD_FEEDBACK && spool_record_decode(record, NULL) == OK) {
        tell_feedback(q, record);
    }
}

static bool on_shown(void *ctx, struct spool_record *record)
{
    question_tell(ctx, record);
    return true;
}

static int show(struct question *q, struct message_id id, const struct history_reader *reader)
{
    q->reader = reader;
    const struct history_known *k = question_message(q, id);
    int err = k ? OK : E_NOT_FOUND;
    if (k)
        tell_message(k, reader);
    struct wall day_before = wall_add_ms(message_id_time(id), -DAY_MS);
    for (size_t i = question_first_day(q, day_before); i < q->days.count && !err; i++) {
        struct history_view *view = question_view(q, i);
        struct history_rows rows = {on_shown, q};
        if (view)
            err = question_read(q, i, history_view_of(view, id, &rows));
    }
    return err;
}

struct history_asking {
    struct question question;
};

struct history_asking *history_begin(struct history *h)
{
    struct history_asking *a = mem_new(sizeof *a);
    question_init(&a->question, h);
    return a;
}

int history_show_next(struct history_asking *a, struct message_id id,
                      const struct history_reader *reader)
{
    return show(&a->question, id, reader);
}

void history_end(struct history_asking *a)
{
    question_done(&a->question);
    free(a);
}

int history_show(struct history *h, struct message_id id, const struct history_reader *reader)
{
    struct history_asking *a = history_begin(h);
    int err = history_show_next(a, id, reader);
    history_end(a);
    return err;
}

// ---- whom a report is about ------------------------------------------------------------------------------

#define NAMED_MAX 50000 // limits.recipients at most

// What the outcomes of a message that is forgotten say of whom it went to.
struct named {
    struct envelope envelope;
    struct buf rows; // of struct recipient, by number; without an address: not known
    struct arena arena;
};

static struct bytes domain_of(struct bytes text, struct arena *arena)
{
    struct mail_address address;
    struct buf domain = {0};
    if (mail_address_parse(text, &address) || mail_domain_route(address.domain, &domain))
        buf_clear(&domain);
    struct bytes copy = arena_dup(arena, buf_bytes(&domain));
    buf_done(&domain);
    return copy;
}

static bool on_named(void *ctx, struct spool_record *record)
{
    static const struct recipient UNKNOWN = {0};
    struct named *n = ctx;
    const struct spool_outcome *o = &record->outcome;
    if (record->type != SPOOL_RECORD_OUTCOME || spool_record_decode(record, NULL) ||
        !o->address.len || o->recipient > NAMED_MAX)
        return true;
    while (n->rows.len <= o->recipient * sizeof UNKNOWN) // and one row more, see find_named()
        buf_add(&n->rows, bytes_of(&UNKNOWN, sizeof UNKNOWN));
    struct recipient *r = (struct recipient *)(void *)n->rows.at + o->recipient - 1;
    n->envelope.account = o->account;
    if (r->number) // by an earlier outcome
        return true;
    r->number = o->recipient;
    r->address = arena_dup(&n->arena, o->address);
    r->domain = domain_of(r->address, &n->arena);
    return true;
}

// There may have been others beyond the last that is named: so the envelope has a row more than it is known to have, and
// nobody is taken for its only recipient.
static int find_named(struct question *q, struct message_id id, struct named *out)
{
    struct history_rows rows = {on_named, out};
    struct wall day_before = wall_add_ms(message_id_time(id), -DAY_MS);
    int err = OK;
    for (size_t i = question_first_day(q, day_before); i < q->days.count && !err; i++) {
        struct history_view *view = question_view(q, i);
        if (view)
            err = question_read(q, i, history_view_of(view, id, &rows));
    }
    out->envelope.id = id;
    out->envelope.recipients = (struct recipient *)(void *)out->rows.at;
    out->envelope.recipients_count = (uint32_t)(out->rows.len / sizeof(struct recipient));
    return err ? E_AGAIN : out->rows.len ? OK : E_NOT_FOUND;
}

int history_envelope(struct history *h, struct message_id id,
                     void (*found)(void *ctx, const struct envelope *envelope), void *ctx)
{
    struct question q;
    struct named named = {0};
    question_init(&q, h);
    const struct history_known *k = question_message(&q, id);
    const struct envelope *e = k ? k->record.envelope : NULL;
    int err = k ? OK : find_named(&q, id, &named);
    for (size_t i = 0; i < q.days.count && !k; i++)
        if (q.failed[i]) // only days that were asked
            err = E_AGAIN;
    if (!err)
        found(ctx, e ? e : &named.envelope);
    question_done(&q);
    buf_done(&named.rows);
    arena_done(&named.arena);
    return err;
}

// ---- all events ------------------------------------------------------------------------------------------

struct page {
    struct question *q;
    size_t max;
    uint64_t last;
};

// A page ends between two cursors, never within one.
static bool on_page_record(void *ctx, struct spool_record *record)
{
    struct page *p = ctx;
    if (p->q->told >= p->max)
        return false;
    question_tell(p->q, record);
    p->last = record->sequence;
    return true;
}

static uint64_t next_of(struct question *q, size_t day, uint64_t after)
{
    struct history_view *view = question_view(q, day);
    uint64_t next = 0;
    if (view && question_read(q, day, history_view_next(view, after, &next)))
        next = 0;
    return next;
}

// The day whose record comes first, and (*out_upto) how far it may be read before another day's turn comes; `nexts`
// are the first records of the days that are still to be told (0: none). The number of days: none has any.
static size_t first_day(const uint64_t *nexts, size_t count, uint64_t limit, uint64_t *out_upto)
{
    size_t first = count;
    for (size_t i = 0; i < count; i++)
        if (nexts[i] && nexts[i] <= limit && (first == count || nexts[i] < nexts[first]))
            first = i;
    *out_upto = limit;
    for (size_t i = 0; i < count; i++)
        if (i != first && nexts[i] && nexts[i] - 1 < *out_upto)
            *out_upto = nexts[i] - 1;
    return first;
}

// Around midnight, and when the clock is set, records of two days alternate in the journal; so the days' files
// are merged. Nothing beyond what was committed at the start is read: of a day looked at first it might be missing.
int history_events(struct history *h, uint64_t after, size_t max,
                   void (*on_event)(void *ctx, const struct history_event *event), void *ctx,
                   uint64_t *out_last)
{
    struct question q;
    struct history_reader reader = {ctx, NULL, on_event};
    uint64_t limit = history_sequence(h), upto;
    question_init(&q, h);
    q.reader = &reader;
    struct page page = {&q, max < HISTORY_PAGE_MAX ? max : HISTORY_PAGE_MAX, after};
    struct history_rows rows = {on_page_record, &page};
    uint64_t *nexts = mem_new((q.days.count + 1) * sizeof *nexts);
    size_t day;
    int err = OK;
    for (size_t i = 0; i < q.days.count; i++)
        nexts[i] = next_of(&q, i, after);
    while (!err && q.told < page.max &&
           (day = first_day(nexts, q.days.count, limit, &upto)) < q.days.count) {
        err = question_read(&q, day, history_view_after(&q.views[day], page.last, upto, &rows));
        nexts[day] = next_of(&q, day, page.last);
    }
    *out_last = page.last;
    free(nexts);
    question_done(&q);
    return err;
}
