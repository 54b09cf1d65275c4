// SPDX-License-Identifier: MIT
//
// How it works. When a segment is sealed the table knows how each of its messages stands, and that is what a
// replay of the segment's entries up to here would come to. So a message that is live carries its recipients'
// states and its outcomes need no entries; one that is settled, or stands in another segment by now, needs none
// itself. The outcomes of settled messages stay: an older copy of the message may still be there.
#include <stdlib.h>

#include "base/check.h"
#include "spool/journal.h"
#include "spool/tlv.h"

// Less than an outcome's entry ever takes.
#define OUTCOME_ENTRY_BYTES 32

struct folding {
    struct journal *j;
    const struct segment *segment;
    struct buf *out;
    uint64_t messages;
    char *states;
    uint32_t states_cap; // recipients
};

// The states take no more room than the entries of the outcomes that they stand for.
static bool is_worth(const struct table_entry *e, struct bytes states)
{
    struct recipient_status status;
    uint32_t told = 0, recipients = table_recipients(e);
    for (uint32_t i = 0; !states.len && i < recipients && table_status(e, i + 1, &status); i++)
        told += status.bits != 0;
    return states.len || (uint64_t)told * OUTCOME_ENTRY_BYTES >= (uint64_t)recipients * 8 + 2;
}

static struct bytes states_now(struct folding *f, const struct table_entry *e)
{
    struct recipient_status status;
    uint32_t recipients = table_recipients(e);
    if (recipients > f->states_cap) {
        f->states_cap = recipients;
        f->states = mem_resize(f->states, (size_t)recipients * 8);
    }
    for (uint32_t i = 0; table_status(e, i + 1, &status); i++)
        le64_put(f->states + 8 * (size_t)i, status.bits);
    return bytes_of(f->states, (size_t)recipients * 8);
}

static bool stands_here(const struct folding *f, const struct table_entry *e)
{
    return e && e->bytes16 && e->slot == f->segment->slot;
}

static void fold_message(struct folding *f, struct index_entry *x)
{
    struct table_entry *e = table_find(&f->j->table, x->id);
    if (!stands_here(f, e) || (uint64_t)e->offset16 * RECORD_ALIGN != x->offset)
        return;
    e->is_folded = is_worth(e, x->states);
    if (e->is_folded)
        x->states = states_now(f, e);
    index_add(f->out, x);
    f->messages++;
}

static void fold_entry(struct folding *f, struct index_entry *x)
{
    if (x->type == RECORD_MESSAGE) {
        fold_message(f, x);
        return;
    }
    const struct table_entry *e =
        x->type == RECORD_OUTCOME ? table_find(&f->j->table, x->id) : NULL;
    if (!stands_here(f, e) || !e->is_folded)
        index_add(f->out, x);
}

void journal_fold(struct journal *j, const struct segment *s, struct segment_index *x)
{
    struct index_entry some[JOURNAL_ENTRIES_AHEAD];
    struct bytes in = buf_bytes(&x->entries);
    struct buf out;
    int err = x->entries.err;
    buf_init(&out, x->entries.max);
    struct folding f = {.j = j, .segment = s, .out = &out};
    for (size_t n; !err && (n = journal_take_entries(j, &in, some, &err));)
        for (size_t i = 0; i < n; i++)
            fold_entry(&f, &some[i]);
    free(f.states);
    if (err || out.err || out.len > x->entries.len) {
        buf_done(&out);
        return;
    }
    buf_done(&x->entries);
    x->entries = out;
    x->messages = f.messages;
}
