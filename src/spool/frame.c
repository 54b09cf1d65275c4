// SPDX-License-Identifier: MIT
#include "spool/frame.h"

#include <stdlib.h>

#include "base/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "spool/envelope_codec.h"
#include "spool/outcome_codec.h"
#include "spool/segment.h"
#include "spool/tlv.h"

struct spool_frame *spool_frame_new(enum spool_kind kind)
{
    struct spool_frame *f = mem_new(sizeof(*f));
    f->kind = kind;
    f->records = f->first;
    f->cap = COUNT_OF(f->first);
    return f;
}

void spool_frame_free(struct spool_frame *f)
{
    if (!f)
        return;
    for (uint32_t i = 0; i < f->count; i++)
        stored_message_unref(f->records[i].message);
    if (f->records != f->first)
        free(f->records);
    buf_done(&f->meta);
    free(f);
}

void spool_frame_set_expected(struct spool_frame *f)
{
    f->expected = true;
}

static void fail(struct spool_frame *f, int err)
{
    if (!f->err)
        f->err = err;
}

// A new zeroed record, or NULL when the frame is full or failed.
static struct frame_record *add_record(struct spool_frame *f, uint8_t type)
{
    if (f->count == SPOOL_FRAME_RECORDS)
        fail(f, E_LIMIT);
    if (f->err)
        return NULL;
    if (f->count == f->cap) {
        uint32_t cap = f->cap * 4;
        struct frame_record *grown = mem_new(cap * sizeof(*grown));
        memcpy(grown, f->records, f->count * sizeof(*grown));
        if (f->records != f->first)
            free(f->records);
        f->records = grown;
        f->cap = cap;
    }
    struct frame_record *r = &f->records[f->count++];
    *r = (struct frame_record){.type = type, .meta_at = f->meta.len};
    return r;
}

static void add_meta(struct spool_frame *f, struct frame_record *r, struct bytes states,
                     struct bytes summary, struct bytes rest)
{
    char head[RECORD_META_HEAD_BYTES];
    le32_put(head, (uint32_t)states.len);
    le32_put(head + 4, (uint32_t)summary.len);
    r->states_bytes = (uint32_t)states.len;
    r->summary_bytes = (uint32_t)summary.len;
    r->meta_bytes = (uint32_t)(sizeof(head) + states.len + summary.len + rest.len);
    buf_add(&f->meta, bytes_of(head, sizeof(head)));
    buf_add(&f->meta, states);
    buf_add(&f->meta, summary);
    buf_add(&f->meta, rest);
    if (f->meta.err || r->meta_bytes > RECORD_META_MAX)
        fail(f, E_LIMIT);
    else
        r->meta_hash = record_hash(frame_meta(f, r));
}

// ---- messages -----------------------------------------------------------------------------------

static uint64_t hash_content(const struct stored_message *m)
{
    if (!m->body.first)
        return record_hash(m->header);
    // On a sanitizer's stack it would not be aligned as it must be.
    XXH3_state_t *state = XXH3_createState();
    CHECK(state);
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, m->header.at, m->header.len);
    for (const struct chunk *c = m->body.first; c; c = c->next)
        XXH3_64bits_update(state, c->data, c->len);
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return hash;
}

static int check_message(const struct stored_message *m)
{
    const struct envelope *e = m->envelope;
    CHECK(e->header_bytes == m->header.len);
    CHECK(m->body_in_extent ? m->body.len == 0 : e->body_bytes == m->body.len);
    if (m->header.len > SPOOL_HEADER_MAX || m->body.len > STORED_INLINE_MAX)
        return E_LIMIT;
    return OK;
}

void spool_frame_add_message(struct spool_frame *f, struct stored_message *m)
{
    struct buf summary = {0}, rest = {0};
    int err = check_message(m);
    if (!err)
        err = envelope_encode(m, &summary, &rest);
    struct frame_record *r = err ? NULL : add_record(f, RECORD_MESSAGE);
    if (r) {
        r->id = m->envelope->id;
        r->message = stored_message_ref(m);
        r->recipients = m->envelope->recipients_count;
        r->has_extent = m->body_in_extent;
        r->content_bytes = (uint32_t)(m->header.len + m->body.len);
        r->content_hash = hash_content(m);
        add_meta(f, r, BYTES_NONE, buf_bytes(&summary), buf_bytes(&rest));
    }
    if (err)
        fail(f, err);
    buf_done(&summary);
    buf_done(&rest);
}

// ---- outcomes, feedback, notes ----------------------------------------------------------------------------

static bool frame_has_message(const struct spool_frame *f, struct message_id id)
{
    for (uint32_t i = 0; i < f->count; i++)
        if (f->records[i].type == RECORD_MESSAGE && message_id_eq(f->records[i].id, id))
            return true;
    return f->err != OK;
}

void spool_frame_add_outcome(struct spool_frame *f, const struct spool_outcome *o)
{
    // A refused intake frame is forgotten whole: it must not have said anything of another message.
    CHECK(f->kind != SPOOL_INTAKE || frame_has_message(f, o->id));
    CHECK(o->state < RECIPIENT_STATES && o->event < SPOOL_EVENTS && o->recipient > 0);
    struct frame_record *r = add_record(f, RECORD_OUTCOME);
    if (!r)
        return;
    struct buf summary = {0}, rest = {0};
    outcome_encode(o, &summary, &rest);
    r->id = o->id;
    r->recipient = o->recipient;
    r->status = recipient_status_of(o).bits;
    add_meta(f, r, BYTES_NONE, buf_bytes(&summary), buf_bytes(&rest));
    buf_done(&summary);
    buf_done(&rest);
}

void spool_frame_add_feedback(struct spool_frame *f, const struct spool_feedback *feedback)
{
    CHECK(feedback->recipient > 0);
    struct frame_record *r = add_record(f, RECORD_FEEDBACK);
    if (!r)
        return;
    struct buf rest = {0};
    feedback_encode(feedback, &rest);
    r->id = feedback->id;
    add_meta(f, r, BYTES_NONE, BYTES_NONE, buf_bytes(&rest));
    buf_done(&rest);
}

static void add_note(struct spool_frame *f, struct bytes key, struct bytes value,
                     uint64_t moved_from)
{
    struct frame_record *r = add_record(f, RECORD_NOTE);
    if (!r)
        return;
    r->moved_from = moved_from;
    struct buf summary = {0};
    bytes_add_counted(&summary, key);
    buf_add(&summary, value);
    add_meta(f, r, BYTES_NONE, buf_bytes(&summary), BYTES_NONE);
    buf_done(&summary);
}

void spool_frame_add_note(struct spool_frame *f, struct bytes key, struct bytes value)
{
    CHECK(f->kind == SPOOL_OUTCOME);
    if (key.len == 0 || key.len > SPOOL_NOTE_KEY_MAX || value.len > SPOOL_NOTE_VALUE_MAX)
        fail(f, E_LIMIT);
    else
        add_note(f, key, value, 0);
}

// ---- internal -----------------------------------------------------------------------------------

void frame_add_moved_note(struct spool_frame *f, struct bytes key, struct bytes value,
                          uint64_t number)
{
    add_note(f, key, value, number);
}

void frame_add_tail(struct spool_frame *f, uint64_t number)
{
    char summary[8];
    struct frame_record *r = add_record(f, RECORD_TAIL);
    CHECK(r);
    le64_put(summary, number);
    r->tail = number;
    add_meta(f, r, BYTES_NONE, bytes_of(summary, sizeof(summary)), BYTES_NONE);
}

void frame_add_copy(struct spool_frame *f, const struct record_head *head,
                    const struct record_meta *meta, struct bytes content, uint32_t slot,
                    uint32_t offset16)
{
    uint32_t recipients = 0;
    int err = summary_recipients(meta->summary, &recipients);
    struct frame_record *r = err ? NULL : add_record(f, RECORD_MESSAGE);
    if (!r)
        return;
    size_t states = recipients * sizeof(struct recipient_status);
    char *zeros = mem_new(states);
    r->flags = RECORD_COPY;
    r->id = head->id;
    r->recipients = recipients;
    r->has_extent = summary_has_extent(meta->summary);
    r->sequence = head->sequence;
    r->content = content;
    r->content_bytes = (uint32_t)content.len;
    r->content_hash = head->content_hash;
    r->old_slot = slot;
    r->old_offset16 = offset16;
    add_meta(f, r, bytes_of(zeros, states), meta->summary, meta->rest);
    free(zeros);
}

uint64_t frame_bytes(const struct spool_frame *f)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < f->count; i++)
        total += record_bytes(f->records[i].meta_bytes, f->records[i].content_bytes);
    return total;
}

uint64_t frame_index_bytes(const struct spool_frame *f)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < f->count; i++)
        total += index_add_max(f->records[i].states_bytes, f->records[i].summary_bytes);
    return total;
}
