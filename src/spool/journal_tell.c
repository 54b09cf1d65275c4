// SPDX-License-Identifier: MIT
//
// How it works. Recovery has filled the table; this walks over the indexes of the segments it found
// once more and tells the messages that stand where the table says, with their recipients' states as
// of now. It stops after any number of messages and goes on later: until all are told no segment is
// freed and none compacted, so a message not yet told stays where it is.
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "spool/envelope_codec.h"
#include "spool/journal.h"

size_t journal_take_entries(const struct journal *j, struct bytes *in,
                            struct index_entry out[JOURNAL_ENTRIES_AHEAD], int *err)
{
    size_t n = 0;
    while (n < JOURNAL_ENTRIES_AHEAD && index_next(in, &out[n], err))
        table_prefetch(&j->table, out[n++].id);
    return n;
}

void journal_tell_begin(struct journal *j, const struct spool_recovery *recovery)
{
    const struct list *last = j->live.prev;
    struct journal_telling *t = &j->telling;
    if (!recovery || !recovery->on_message || last == &j->live)
        return;
    t->recovery = *recovery;
    t->last = list_get(last, struct segment, link)->head.number;
    t->next = list_get(list_first(&j->live), struct segment, link)->head.number;
    t->open = true;
}

void journal_tell_end(struct journal *j)
{
    segment_index_done(&j->telling.index);
    free(j->telling.recipients);
    j->telling = (struct journal_telling){0};
}

bool journal_is_telling(const struct journal *j)
{
    return j->telling.open;
}

// ---- one message --------------------------------------------------------------------------------

static struct spool_summary_recipient *room_for(struct journal_telling *t, uint32_t count)
{
    if (count > t->recipients_cap) {
        t->recipients_cap = count;
        free(t->recipients);
        t->recipients = mem_new(count * sizeof(*t->recipients));
    }
    return t->recipients;
}

// Those that are still ours, with what the table knows of them; returns how many.
static uint32_t take_live(const struct table_entry *e, struct spool_summary_recipient *recipients)
{
    struct recipient_status status;
    uint32_t live = 0;
    for (uint32_t i = 0; table_status(e, i + 1, &status); i++) {
        enum recipient_state state = recipient_status_state(status);
        if (!recipient_state_is_live(state))
            continue;
        recipients[live] = recipients[i];
        recipients[live].state = state;
        recipients[live].attempts = recipient_status_attempts(status);
        recipients[live].next_attempt_at = recipient_status_next(status);
        recipients[live].warned = recipient_status_warned(status);
        recipients[live].exempt = recipient_status_exempt(status);
        live++;
    }
    return live;
}

static void tell_message(struct journal_telling *t, const struct table_entry *e,
                         struct bytes summary)
{
    struct spool_summary s;
    uint32_t total = table_recipients(e), count;
    struct spool_summary_recipient *recipients = room_for(t, total);
    if (summary_recipients(summary, &count) || count != total ||
        summary_decode(table_id(e), summary, recipients, &s)) {
        log_error("spool summary can't be read", LOG_INT("segment", t->segment->head.number));
        return;
    }
    s.recipients_count = take_live(e, recipients);
    t->recovery.on_message(t->recovery.ctx, &s);
}

// ---- all of them --------------------------------------------------------------------------------

// OK: the index of the next segment is loaded; E_NOT_FOUND: that was the last.
static int next_segment(struct journal *j)
{
    struct journal_telling *t = &j->telling;
    list_each(link, &j->live)
    {
        struct segment *s = list_get(link, struct segment, link);
        if (s->head.number < t->next || s->head.number > t->last || s->messages == 0)
            continue;
        segment_index_done(&t->index);
        int err = segment_index_read(s->file, &s->head, s->end, s->sure, NULL, &t->index);
        if (!err && t->index.unread && !s->unread)
            err = E_IO; // the start had all of it
        if (err)
            return err;
        t->segment = s;
        t->next = s->head.number + 1;
        t->left = buf_bytes(&t->index.entries);
        return OK;
    }
    return E_NOT_FOUND;
}

static uint32_t tell_some(struct journal *j)
{
    struct journal_telling *t = &j->telling;
    struct index_entry some[JOURNAL_ENTRIES_AHEAD];
    uint32_t told = 0;
    int err = OK;
    size_t n = journal_take_entries(j, &t->left, some, &err);
    for (size_t i = 0; i < n; i++) {
        const struct table_entry *e =
            some[i].type == RECORD_MESSAGE ? table_find(&j->table, some[i].id) : NULL;
        if (!e || e->slot != t->segment->slot ||
            (uint64_t)e->offset16 * RECORD_ALIGN != some[i].offset)
            continue;
        tell_message(t, e, some[i].summary);
        told++;
    }
    if (n == 0)
        t->left = BYTES_NONE;
    return told;
}

int journal_tell(struct journal *j, uint32_t max)
{
    int err = OK;
    for (uint32_t told = 0; j->telling.open && !err && told < max;) {
        told += tell_some(j);
        if (j->telling.left.len == 0)
            err = next_segment(j);
    }
    if (err == E_NOT_FOUND)
        journal_tell_end(j);
    return err == E_NOT_FOUND ? OK : err;
}
