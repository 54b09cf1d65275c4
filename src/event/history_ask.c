// SPDX-License-Identifier: MIT
//
// How it works: a question opens the days' files that it needs, reads records, and takes them apart as the journal's
// own readers do. What an outcome lacks (the recipient's address) is looked up in the acceptance of its message, of
// which the last few are remembered.
#include <stdio.h>
#include <stdlib.h>

#include "event/history_private.h"

#define KNOWN_MESSAGES 256

// A message taken apart.
struct known {
    struct stored_message *message; // NULL: none
    struct spool_record record;     // its slices borrow from `message` and `meta`
    struct buf meta;
};

struct question {
    struct history *history;
    struct history_days days;
    struct history_view *views; // of each day; db NULL: not opened
    bool *failed;               // opened in vain
    struct known known[KNOWN_MESSAGES];
    const struct history_reader *reader;
    size_t told; // events
};

static void question_init(struct question *q, struct history *h)
{
    *q = (struct question){.history = h, .days = history_list_days(h)};
    q->views = mem_new((q->days.count + 1) * sizeof *q->views);
    q->failed = mem_new((q->days.count + 1) * sizeof *q->failed);
}

static void forget(struct known *k)
{
    stored_message_unref(k->message);
    buf_done(&k->meta);
    *k = (struct known){0};
}

static void question_done(struct question *q)
{
    for (size_t i = 0; i < COUNT_OF(q->known); i++)
        forget(&q->known[i]);
    for (size_t i = 0; i < q->days.count; i++)
        if (q->views[i].db)
            history_view_close(&q->views[i]);
    free(q->views);
    free(q->failed);
    free(q->days.at);
}

// NULL: it can't be read (it was just deleted, or is none), and is passed over.
static struct history_view *view_of(struct question *q, size_t day)
{
    char path[HISTORY_PATH_BYTES];
    if (q->failed[day])
        return NULL;
    if (!q->views[day].db) {
        history_path_of(q->history, q->days.at[day], path);
        int err = history_view_open(path, &q->views[day]);
        q->failed[day] = err != OK;
        if (err == E_DAMAGED)
            history_tell_damage(q->history, q->days.at[day]);
    }
    return q->failed[day] ? NULL : &q->views[day];
}

// What came of reading a day. A damaged one is passed over from here on.
static int read_of(struct question *q, size_t day, int err)
{
    if (err != E_DAMAGED)
        return err;
    q->failed[day] = true; // it stays open: rows of it may be under way
    history_tell_damage(q->history, q->days.at[day]);
    return OK;
}

static size_t first_day_of(const struct question *q, struct wall at)
{
    char day[HISTORY_DAY_BYTES];
    size_t i = 0;
    history_day_of(at, day);
    while (i < q->days.count && strcmp(q->days.at[i], day) < 0)
        i++;
    return i;
}

// ---- messages --------------------------------------------------------------------------------------------

static int know(struct known *k, const struct spool_record *record)
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

static bool on_acceptance(void *ctx, struct spool_record *record)
{
    return record->type != SPOOL_RECORD_MESSAGE || know(ctx, record) != OK;
}

// The message, or NULL. One that arrives around midnight is accepted on the day after its number was given.
static const struct known *find_message(struct question *q, struct message_id id)
{
    struct known *k = &q->known[id.low % KNOWN_MESSAGES];
    size_t first = first_day_of(q, message_id_time(id));
    if (k->message && message_id_eq(k->record.id, id))
        return k;
    forget(k);
    for (size_t i = first; i < q->days.count && i < first + 2 && !k->message; i++) {
        struct history_view *view = view_of(q, i);
        struct history_rows rows = {on_acceptance, k};
        if (view && (read_of(q, i, history_view_of(view, id, &rows)) || q->failed[i]))
            forget(k);
    }
    return k->message ? k : NULL;
}

static void tell_message(const struct known *k, const struct history_reader *reader)
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
static void tell_acceptance(struct question *q, const struct known *k)
{
    const struct envelope *e = k->record.envelope;
    for (uint32_t i = 0; i < e->recipients_count; i++) {
        struct history_event event = {.cursor = k->record.sequence,
                                      .at = e->accepted_at,
                                      .type = SPOOL_EVENT_ACCEPTED,
                                      .id = e->id,
                                      .recipient = e->recipients[i].number,
                                      .address = e->recipients[i].address,
                                      .envelope = e};
        event.state = spool_record_state(&k->record, event.recipient, &event.attempts);
        tell(q, &event);
    }
}

static struct bytes address_of(const struct known *k, uint32_t recipient)
{
    bool known = k && recipient >= 1 && recipient <= k->record.envelope->recipients_count;
    return known ? k->record.envelope->recipients[recipient - 1].address : BYTES_NONE;
}

static void tell_outcome(struct question *q, const struct spool_record *record)
{
    const struct spool_outcome *o = &record->outcome;
    tell(q, &(struct history_event){
                .cursor = record->sequence,
                .at = o->at,
                .type = o->event,
                .id = o->id,
                .recipient = o->recipient,
                .address = address_of(find_message(q, o->id), o->recipient),
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

static void tell_record(struct question *q, struct spool_record *record)
{
    struct known *k = &q->known[record->id.low % KNOWN_MESSAGES];
    if (record->type == SPOOL_RECORD_MESSAGE) {
        if (know(k, record) == OK)
            tell_acceptance(q, k);
    } else if (record->type == SPOOL_RECORD_OUTCOME && spool_record_decode(record, NULL) == OK) {
        tell_outcome(q, record);
    } else if (record->type == SPOOL_RECORD_FEEDBACK && spool_record_decode(record, NULL) == OK) {
        tell_feedback(q, record);
    }
}

static bool on_shown(void *ctx, struct spool_record *record)
{
    tell_record(ctx, record);
    return true;
}

int history_show(struct history *h, struct message_id id, const struct history_reader *reader)
{
    struct question q;
    question_init(&q, h);
    q.reader = reader;
    const struct known *k = find_message(&q, id);
    int err = k ? OK : E_NOT_FOUND;
    if (k)
        tell_message(k, reader);
    for (size_t i = first_day_of(&q, message_id_time(id)); i < q.days.count && !err; i++) {
        struct history_view *view = view_of(&q, i);
        struct history_rows rows = {on_shown, &q};
        if (view)
            err = read_of(&q, i, history_view_of(view, id, &rows));
    }
    question_done(&q);
    return err;
}

int history_envelope(struct history *h, struct message_id id,
                     void (*found)(void *ctx, const struct envelope *envelope), void *ctx)
{
    struct question q;
    question_init(&q, h);
    const struct known *k = find_message(&q, id);
    if (k)
        found(ctx, k->record.envelope);
    question_done(&q);
    return k ? OK : E_NOT_FOUND;
}

// ---- finding ---------------------------------------------------------------------------------------------

struct finding {
    const struct history_filter *filter;
    size_t left;
    void (*found)(void *ctx, struct message_id id);
    void *ctx;
};

static bool is_or_any(struct bytes wanted, struct bytes value)
{
    return !wanted.len || bytes_eq(wanted, value);
}

static bool matches(const struct history_filter *f, const struct envelope *e)
{
    bool recipient = !f->recipient.len;
    for (uint32_t i = 0; i < e->recipients_count && !recipient; i++)
        recipient = bytes_eq_nocase(f->recipient, e->recipients[i].address);
    return recipient && (!f->sender.len || bytes_eq_nocase(f->sender, e->reverse_path)) &&
           is_or_any(f->message_id, e->message_id) && is_or_any(f->envid, e->envid) &&
           is_or_any(f->tag, e->tag) && e->accepted_at.us >= f->since.us;
}

static bool on_candidate(void *ctx, struct spool_record *record)
{
    struct finding *f = ctx;
    struct stored_message *m = stored_message_new();
    if (spool_record_decode(record, m) == OK && matches(f->filter, m->envelope)) {
        f->found(f->ctx, record->id);
        f->left--;
    }
    stored_message_unref(m);
    return f->left > 0;
}

// By the word that is likely to be the rarest; the records themselves say whether the rest matches.
static int find_in(struct history_view *view, const struct history_filter *f,
                   const struct history_rows *rows)
{
    if (f->message_id.len)
        return history_view_find(view, HISTORY_MESSAGE_ID, f->message_id, rows);
    if (f->envid.len)
        return history_view_find(view, HISTORY_ENVID, f->envid, rows);
    if (f->recipient.len)
        return history_view_find(view, HISTORY_RECIPIENT, f->recipient, rows);
    if (f->tag.len)
        return history_view_find(view, HISTORY_TAG, f->tag, rows);
    if (f->sender.len)
        return history_view_find(view, HISTORY_SENDER, f->sender, rows);
    return history_view_all(view, rows);
}

int history_find(struct history *h, const struct history_filter *filter, size_t max,
                 void (*found)(void *ctx, struct message_id id), void *ctx)
{
    struct question q;
    struct finding f = {filter, max, found, ctx};
    struct history_rows rows = {on_candidate, &f};
    int err = OK;
    question_init(&q, h);
    size_t oldest = first_day_of(&q, filter->since);
    for (size_t i = q.days.count; i > oldest && f.left > 0 && !err; i--) {
        struct history_view *view = view_of(&q, i - 1);
        if (view)
            err = read_of(&q, i - 1, find_in(view, filter, &rows));
    }
    question_done(&q);
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
    tell_record(p->q, record);
    p->last = record->sequence;
    return true;
}

static uint64_t next_of(struct question *q, size_t day, uint64_t after)
{
    struct history_view *view = view_of(q, day);
    uint64_t next = 0;
    if (view && read_of(q, day, history_view_next(view, after, &next)))
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
        err = read_of(&q, day, history_view_after(&q.views[day], page.last, upto, &rows));
        nexts[day] = next_of(&q, day, page.last);
    }
    *out_last = page.last;
    free(nexts);
    question_done(&q);
    return err;
}
