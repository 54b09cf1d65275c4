// SPDX-License-Identifier: MIT
//
// How it works: outcomes and feedback are read from the journal once they are flushed (spool_follow); the entries they
// make and the number of the last record read are committed together. Where nothing is added, the number alone is
// stored every few seconds, for the journal keeps its segments until then.
//
// What a process was committing as it was killed is in the database's log, but perhaps in the page cache only: a
// restart finds it there, and a power cut would take it away. So nothing is told to the journal before a commit of this
// process, which flushes the log with all that stands in it.
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "store/suppress_private.h"

#define GATHER_MS 300       // after something new, before it is read
#define RECORDS_A_TURN 5000 // others ask on this loop

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

static struct suppress *suppress_of(struct spool_follow *f)
{
    return container_of(f, struct suppress, follow);
}

// What is over already, and what an operator has lifted since, stays away.
static int add_entry(struct suppress *s, const struct suppress_entry *entry)
{
    struct wall now = sys_wall();
    bool changed, lifted = false;
    if (entry->expires.us && wall_reached(entry->expires, wall_min(s->trusted, now)))
        return OK;
    int err = suppress_list_was_removed(s->list, entry, entry->since, &lifted);
    if (!err && !lifted)
        err = suppress_list_add(s->list, entry, BYTES("posthaste"), now, &changed);
    return err == E_SYNTAX
               ? OK
               : err; // an address of ours that the list can't hold: nothing to suppress
}

static int begin_once(struct suppress *s)
{
    if (s->writing)
        return OK;
    int err = suppress_list_begin(s->list);
    s->writing = !err;
    return err;
}

static int take_record(struct spool_follow *f, const struct spool_record *record)
{
    struct suppress *s = suppress_of(f);
    struct arena arena = {0};
    struct suppress_entry entry;
    int err = OK;
    if (suppress_entry_of_record(record, atomic_load(&s->bounce_keep_ms), &arena, &entry) &&
        (entry.reason != SUPPRESS_HARD_BOUNCE || atomic_load(&s->hard_bounces))) {
        err = begin_once(s);
        if (!err)
            err = add_entry(s, &entry);
    }
    arena_done(&arena);
    return err;
}

static int on_lost(struct spool_follow *f)
{
    (void)f;
    log_error("suppression fell behind: outcomes were freed before they were read");
    return OK;
}

// Ends the transaction, which is open and holds the number of the last record that was read.
static int commit(struct suppress *s, uint64_t sequence)
{
    s->writing = false;
    int err = suppress_list_set_sequence(s->list, sequence);
    if (!err)
        err = suppress_list_commit(s->list);
    if (err) {
        suppress_list_rollback(s->list);
        return err;
    }
    s->committed = sequence;
    s->flushed = true;
    atomic_store(&s->sequence, sequence);
    suppress_note_counts(s);
    return OK;
}

static int end_turn(struct spool_follow *f, int err)
{
    struct suppress *s = suppress_of(f);
    if (s->writing && !err)
        err = commit(s, spool_reader_sequence(f->reader));
    if (s->writing)
        suppress_list_rollback(s->list);
    s->writing = false;
    return err;
}

static void open_journal(struct spool_follow *f)
{
    f->reader = spool_reader_open(f->spool, suppress_of(f)->committed);
    spool_reader_skip_messages(f->reader);
}

static void on_failed(struct spool_follow *f, int err)
{
    (void)f;
    log_error("suppression does not follow the journal, trying again", LOG_ERR(err));
}

// What this process has committed is flushed, too, with what was there before.
static uint64_t checkpoint(struct spool_follow *f)
{
    struct suppress *s = suppress_of(f);
    if (f->passed > s->committed || !s->flushed) {
        int err = suppress_list_begin(s->list);
        if (err)
            suppress_list_rollback(s->list);
        else
            (void)!commit(s, f->passed); // else the next time
    }
    return s->flushed ? s->committed : f->told;
}

static const struct spool_follow_owner FOLLOWER = {
    .who = SPOOL_SUPPRESSION,
    .gather_ms = GATHER_MS,
    .records_a_turn = RECORDS_A_TURN,
    .open = open_journal,
    .take = take_record,
    .lost = on_lost,
    .end = end_turn,
    .failed = on_failed,
    .checkpoint = checkpoint,
};

// ---- life ------------------------------------------------------------------------------------------------

int suppress_follow_prepare(struct suppress *s)
{
    struct spool_stats stats;
    uint64_t sequence;
    int err = suppress_list_get_sequence(s->list, &sequence);
    if (err && err != E_NOT_FOUND)
        return err;
    bool known = !err;
    spool_get_stats(s->follow.spool, &stats);
    s->committed = sequence;
    if (known && sequence <= stats.sequence)
        return OK;
    if (known)
        log_warn("the suppression list has read further than this journal goes: it follows from "
                 "the journal's end",
                 LOG_INT("read", sequence), LOG_INT("journal", stats.sequence));
    s->committed = stats.sequence;
    err = suppress_list_begin(s->list);
    if (!err)
        err = suppress_list_set_sequence(s->list, s->committed);
    if (!err)
        return suppress_list_commit(s->list);
    suppress_list_rollback(s->list);
    return err;
}

void suppress_follow_start(struct suppress *s)
{
    s->follow.owner = &FOLLOWER;
    atomic_store(&s->sequence, s->committed);
    spool_follow_start(&s->follow);
}
