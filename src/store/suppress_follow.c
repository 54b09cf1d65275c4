// SPDX-License-Identifier: MIT
//
// How it works: outcomes and feedback are read from the journal once they are flushed; the entries they make and the number of the
// last record read are committed together, so that a crash at any moment neither loses an entry nor makes one twice.
// Where nothing is added, the number alone is stored every few seconds, for the journal keeps its segments until then.
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "store/suppress_private.h"

#define GATHER_MS 300 // after something new, before it is read
#define RECORDS_A_TURN 5000
#define CHECKPOINT_MS 5000 // how often the journal is told what it may forget
#define RETRY_MS 1000      // after a failure

// ---- what a record means ---------------------------------------------------------------------------------

// "ID.1 user-unknown: 550 5.1.1 no such user"
static struct bytes note_of(struct message_id id, uint32_t recipient, const char *what,
                            uint16_t code, struct bytes status, struct bytes text,
                            struct arena *arena)
{
    char shown[MESSAGE_ID_CHARS + 1];
    message_id_format(id, shown);
    return code ? arena_printf(arena, "%s.%u %s: %u %.*s %.*s", shown, recipient, what, code,
                               BYTES_FMT(status), BYTES_FMT(text))
                : arena_printf(arena, "%s.%u %s: %.*s%s%.*s", shown, recipient, what,
                               BYTES_FMT(status), status.len ? " " : "", BYTES_FMT(text));
}

static bool is_bad_address(struct bounce_class class)
{
    return class.hard && bounce_reason_is_about_address(class.reason);
}

static struct wall end_of(struct wall at, int64_t keep_ms)
{
    return keep_ms ? wall_add_ms(at, keep_ms) : (struct wall){0};
}

static bool entry_of_outcome(const struct spool_outcome *o, int64_t keep_ms, struct arena *arena,
                             struct suppress_entry *out)
{
    if (o->event != SPOOL_EVENT_BOUNCED || !o->address.len || !is_bad_address(o->class))
        return false;
    *out = (struct suppress_entry){
        .scope = SUPPRESS_ACCOUNT,
        .account = o->account,
        .address = o->address,
        .reason = SUPPRESS_HARD_BOUNCE,
        .since = o->at,
        .expires = end_of(o->at, keep_ms),
        .note = note_of(o->id, o->recipient, bounce_reason_name(o->class.reason), o->code,
                        o->enhanced, o->text, arena),
    };
    return true;
}

static bool entry_of_feedback(const struct spool_feedback *f, int64_t keep_ms, struct arena *arena,
                              struct suppress_entry *out)
{
    *out = (struct suppress_entry){
        .scope = SUPPRESS_ACCOUNT, .account = f->account, .address = f->address, .since = f->at};
    const char *what = feedback_kind_name(f->kind);
    switch (f->kind) {
    case FEEDBACK_BOUNCE:
        if (!is_bad_address(f->class))
            return false;
        what = bounce_reason_name(f->class.reason);
        out->reason = SUPPRESS_HARD_BOUNCE;
        out->expires = end_of(f->at, keep_ms);
        break;
    case FEEDBACK_COMPLAINT:
        out->reason = SUPPRESS_COMPLAINT;
        break;
    case FEEDBACK_UNSUBSCRIBE:
        out->reason = SUPPRESS_UNSUBSCRIBE;
        if (f->stream_only && f->tag.len) {
            out->scope = SUPPRESS_STREAM;
            out->stream = f->tag;
        }
        break;
    default:
        return false;
    }
    out->note = note_of(f->id, f->recipient, what, f->code, f->status,
                        f->diagnostic.len ? f->diagnostic : f->detail, arena);
    return f->address.len > 0;
}

bool suppress_entry_of_record(const struct spool_record *record, int64_t bounce_keep_ms,
                              struct arena *arena, struct suppress_entry *out)
{
    if (record->type == SPOOL_RECORD_OUTCOME)
        return entry_of_outcome(&record->outcome, bounce_keep_ms, arena, out);
    if (record->type == SPOOL_RECORD_FEEDBACK)
        return entry_of_feedback(&record->feedback, bounce_keep_ms, arena, out);
    return false;
}

// ---- reading ---------------------------------------------------------------------------------------------

static struct suppress *suppress_of(struct suppress_follow *f)
{
    return container_of(f, struct suppress, follow);
}

// What is over already, and what an operator has lifted since, stays away.
static int add_entry(struct suppress *s, const struct suppress_entry *entry)
{
    struct wall now = sys_wall();
    bool changed, lifted = false;
    if (entry->expires.us && wall_reached(entry->expires, now))
        return OK;
    int err = suppress_list_was_removed(s->list, entry, entry->since, &lifted);
    if (!err && !lifted)
        err = suppress_list_add(s->list, entry, BYTES("posthaste"), now, &changed);
    return err == E_SYNTAX
               ? OK
               : err; // an address of ours that the list can't hold: nothing to suppress
}

static int begin_once(struct suppress *s, bool *open)
{
    if (*open)
        return OK;
    int err = suppress_list_begin(s->list);
    *open = !err;
    return err;
}

static int take_record(struct suppress *s, const struct spool_record *record, bool *open)
{
    struct arena arena = {0};
    struct suppress_entry entry;
    int err = OK;
    if (suppress_entry_of_record(record, atomic_load(&s->bounce_keep_ms), &arena, &entry) &&
        (entry.reason != SUPPRESS_HARD_BOUNCE || atomic_load(&s->hard_bounces))) {
        err = begin_once(s, open);
        if (!err)
            err = add_entry(s, &entry);
    }
    arena_done(&arena);
    return err;
}

// Ends the transaction, which holds the number of the last record that was read.
static int commit(struct suppress *s)
{
    struct suppress_follow *f = &s->follow;
    uint64_t sequence = spool_reader_sequence(f->reader);
    int err = suppress_list_set_sequence(s->list, sequence);
    if (!err)
        err = suppress_list_commit(s->list);
    if (err)
        return err;
    f->committed = sequence;
    atomic_store(&s->sequence, sequence);
    suppress_note_counts(s);
    return OK;
}

// Up to RECORDS_A_TURN records. OK: there may be more; E_AGAIN: nothing more is flushed.
static int read_some(struct suppress *s)
{
    struct suppress_follow *f = &s->follow;
    struct spool_record record;
    bool open = false;
    int err = OK;
    for (int i = 0; i < RECORDS_A_TURN && !err; i++) {
        err = spool_reader_next(f->reader, &record);
        if (err == E_NOT_FOUND) {
            log_error("suppression fell behind: outcomes were freed before they were read");
            err = OK;
        } else if (!err) {
            err = take_record(s, &record, &open);
        }
    }
    int done = err == E_AGAIN ? OK : err;
    if (open && !done)
        done = commit(s);
    if (open && done)
        suppress_list_rollback(s->list);
    return done ? done : err;
}

// After a failure the reader has moved on while the database has not.
static void start_over(struct suppress_follow *f, int err)
{
    log_error("suppression does not follow the journal, trying again", LOG_ERR(err));
    spool_reader_close(f->reader);
    f->reader = spool_reader_open(f->spool, f->committed);
    spool_reader_skip_messages(f->reader);
    sys_timer_set(&f->gather, mono_add_ms(sys_mono(), RETRY_MS));
}

static void on_gathered(struct sys_timer *timer)
{
    struct suppress_follow *f = container_of(timer, struct suppress_follow, gather);
    int err = read_some(suppress_of(f));
    if (err == OK) {
        sys_timer_set(&f->gather, sys_mono()); // more, in another turn
    } else if (err != E_AGAIN) {
        start_over(f, err);
    } else if (!f->watching) {
        f->watching = true;
        spool_watch(f->reader, &f->watch);
        if (!f->caught_up) // what waits since the last run, perhaps a short one, can go from the journal now
            sys_timer_set(&f->checkpoint, sys_mono());
        f->caught_up = true;
    }
}

static void on_watch(struct sys_task *task)
{
    struct suppress_follow *f = container_of(task, struct suppress_follow, watch.task);
    f->watching = false;
    if (!f->stopping)
        sys_timer_set(&f->gather, mono_add_ms(sys_mono(), GATHER_MS));
}

static void checkpoint(struct suppress *s)
{
    struct suppress_follow *f = &s->follow;
    if (spool_reader_sequence(f->reader) > f->committed) {
        int err = suppress_list_begin(s->list);
        if (!err)
            err = commit(s);
        if (err)
            suppress_list_rollback(s->list);
    }
    if (f->told == f->committed)
        return;
    f->told = f->committed;
    spool_copied(f->spool, SPOOL_SUPPRESSION, f->told);
}

static void on_checkpoint(struct sys_timer *timer)
{
    struct suppress_follow *f = container_of(timer, struct suppress_follow, checkpoint);
    checkpoint(suppress_of(f));
    sys_timer_set(&f->checkpoint, mono_add_ms(sys_mono(), CHECKPOINT_MS));
}

// ---- life ------------------------------------------------------------------------------------------------

int suppress_follow_prepare(struct suppress *s)
{
    struct suppress_follow *f = &s->follow;
    struct spool_stats stats;
    uint64_t sequence;
    int err = suppress_list_get_sequence(s->list, &sequence);
    if (err && err != E_NOT_FOUND)
        return err;
    bool known = !err;
    spool_get_stats(f->spool, &stats);
    f->committed = sequence;
    if (known && sequence <= stats.sequence)
        return OK;
    if (known)
        log_warn("the suppression list has read further than this journal goes: it follows from "
                 "the journal's end",
                 LOG_INT("read", sequence), LOG_INT("journal", stats.sequence));
    f->committed = stats.sequence;
    err = suppress_list_begin(s->list);
    if (!err)
        err = suppress_list_set_sequence(s->list, f->committed);
    if (!err)
        return suppress_list_commit(s->list);
    suppress_list_rollback(s->list);
    return err;
}

void suppress_follow_start(struct suppress *s)
{
    struct suppress_follow *f = &s->follow;
    f->reader = spool_reader_open(f->spool, f->committed);
    spool_reader_skip_messages(f->reader);
    atomic_store(&s->sequence, f->committed);
    f->gather.fire = on_gathered;
    f->checkpoint.fire = on_checkpoint;
    f->watch.task.run = on_watch;
    f->watch.loop = s->loop;
    sys_timer_set(&f->gather, sys_mono());
    on_checkpoint(&f->checkpoint);
}

void suppress_follow_stop(struct suppress *s)
{
    struct suppress_follow *f = &s->follow;
    int err;
    f->stopping = true;
    while ((err = read_some(s)) == OK)
        ;
    if (err == E_AGAIN) // else the reader has passed what the list does not have
        checkpoint(s);
    sys_timer_stop(&f->gather);
    sys_timer_stop(&f->checkpoint);
    spool_reader_close(f->reader);
}
