// SPDX-License-Identifier: MIT
//
// How it works. Always the oldest segment. One without live messages and notes is freed at once: a
// tail record says so, and when that is flushed the file is free. Otherwise, when segments hold
// more than SPOOL_AMPLIFICATION times the live bytes, its survivors are copied: an offload job
// loads its index, then row by row the records; copies are committed like outcomes, each with its
// recipients' states as of its place in the log. When all copies are flushed the tail record
// follows. A record that does not match its checksums is set aside and its recipients are recorded as
// removed, by the spool, because it is damaged. What the disk does not give is no damage: the
// compaction is given up and begun again later, with a longer pause each time; the segment stays.
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "spool/spool_internal.h"
#include "spool/tlv.h"

#define ROW_BYTES ((uint64_t)1 << 20)
#define ROW_RECORDS SPOOL_FRAME_RECORDS

struct survivor {
    struct message_id id;
    uint64_t offset, bytes;
};

struct compact {
    struct spool *spool;
    struct segment *segment;
    struct sys_job job;
    struct segment_index index;
    struct survivor *survivors;
    size_t count, next;
    // the row being read
    struct disk *disk;
    struct disk_file *file;
    struct segment_header head; // what the job may read
    uint64_t end, sure, seed;
    char *row;
    size_t row_first, row_count;
    bool row_damaged[ROW_RECORDS];
    int err;         // the disk's
    uint32_t frames; // not yet flushed
    bool failed;     // a copy was refused
};

static void next_row(struct compact *c);

static void compact_free(struct compact *c)
{
    c->spool->compact = NULL;
    segment_index_done(&c->index);
    free(c->survivors);
    free(c->row);
    free(c);
}

void compact_stop(struct spool *spool)
{
    if (spool->compact)
        compact_free(spool->compact);
}

// ---- freeing ------------------------------------------------------------------------------------

static void on_tail_flushed(void *ctx, int err)
{
    struct spool *spool = ctx;
    spool->tail_pending = false;
    if (!err)
        spool_publish(spool);
}

static bool is_empty(const struct segment *s)
{
    return s->messages == 0 && s->notes == 0;
}

// Not while outcomes wait to be written again: they are what may have made a segment empty, and a crash would leave
// neither them nor the message.
static void free_empty(struct spool *spool)
{
    struct journal *j = spool->journal;
    uint64_t tail = 0;
    uint32_t live = j->live_count;
    if (j->retrying)
        return;
    list_each(link, &j->live)
    {
        struct segment *s = list_get(link, struct segment, link);
        if (s == j->open || !is_empty(s) || s->unread || !spool_may_free(spool, s, live--))
            break;
        tail = s->head.number + 1;
        if (!spool_is_copied(spool, s))
            break; // no more than has to be is lost to those who follow
    }
    if (!tail)
        return;
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    frame_add_tail(f, tail);
    spool->tail_pending = true;
    spool_submit(spool, f, on_tail_flushed, spool);
}

// ---- copying ------------------------------------------------------------------------------------

static void finish(struct compact *c)
{
    struct spool *spool = c->spool;
    if (!is_empty(c->segment)) {
        log_error("spool segment can't be compacted", LOG_INT("segment", c->segment->head.number));
        spool->stuck = c->segment->head.number;
    }
    spool->unreadable = 0;
    compact_free(c);
    if (!spool->stopping && !spool->tail_pending && !spool->backup)
        free_empty(spool);
}

#define PAUSE_MS_MIN 500
#define PAUSE_MS_MAX 60000

// The disk did not give what is in the segment: it stays as it is and is tried again later.
static void give_up(struct compact *c)
{
    struct spool *spool = c->spool;
    bool again = spool->unreadable == c->segment->head.number;
    if (!again)
        log_error("spool segment can't be read, its compaction waits",
                  LOG_INT("segment", c->segment->head.number), LOG_ERR(c->err));
    int64_t ms = again ? spool->compact_pause_ms * 2 : PAUSE_MS_MIN;
    spool->unreadable = c->segment->head.number;
    spool->compact_pause_ms = ms < PAUSE_MS_MAX ? ms : PAUSE_MS_MAX;
    spool->compact_after = mono_add_ms(sys_mono(), spool->compact_pause_ms);
    compact_free(c);
}

static void on_frame_flushed(void *ctx, int err)
{
    struct compact *c = ctx;
    c->failed |= err != OK;
    if (--c->frames > 0 || c->spool->stopping)
        return;
    free(c->row);
    c->row = NULL;
    next_row(c);
}

static void submit(struct compact *c, struct spool_frame *f)
{
    c->frames++;
    spool_submit(c->spool, f, on_frame_flushed, c);
}

// Records that the live recipients of a damaged message are removed.
static void remove_damaged(struct compact *c, struct message_id id)
{
    struct table_entry *e = table_find(&c->spool->journal->table, id);
    struct spool_frame *f = NULL;
    struct recipient_status status;
    for (uint32_t i = 1; e && table_status(e, i, &status); i++) {
        if (!recipient_state_is_live(recipient_status_state(status)))
            continue;
        if (f && f->count == SPOOL_FRAME_RECORDS) {
            submit(c, f);
            f = NULL;
        }
        if (!f)
            f = spool_frame_new(SPOOL_OUTCOME);
        spool_frame_add_outcome(f, &(struct spool_outcome){
                                       .id = id,
                                       .recipient = i,
                                       .state = RECIPIENT_REMOVED,
                                       .event = SPOOL_EVENT_REMOVED,
                                       .attempts = recipient_status_attempts(status),
                                       .at = sys_wall(),
                                       .actor = BYTES("spool"),
                                       .reason = BYTES("the stored message is damaged"),
                                   });
    }
    if (f)
        submit(c, f);
}

// A frame of its own for each, so that segments are filled to the brim. Its bytes stay in the row.
static void submit_copy(struct compact *c, const struct survivor *s, const char *at)
{
    struct record_head head;
    struct record_meta meta;
    CHECK(record_head_parse(at, c->seed, &head) == OK); // the job has checked it
    struct bytes all = bytes_of(at + RECORD_HEAD_BYTES, head.meta_bytes);
    struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
    if (record_meta_parse(all, &meta) == OK)
        frame_add_copy(f, &head, &meta, bytes_of(all.at + all.len, head.content_bytes),
                       c->segment->slot, (uint32_t)(s->offset / RECORD_ALIGN));
    if (f->count) {
        submit(c, f);
        return;
    }
    spool_frame_free(f);
    remove_damaged(c, s->id);
}

static void on_row_read(struct sys_job *job)
{
    struct compact *c = container_of(job, struct compact, job);
    if (c->spool->stopping)
        return;
    if (c->err) {
        give_up(c);
        return;
    }
    c->frames = 1; // held until all are submitted
    const char *at = c->row;
    for (size_t i = 0; i < c->row_count; i++) {
        const struct survivor *s = &c->survivors[c->row_first + i];
        if (c->row_damaged[i])
            remove_damaged(c, s->id);
        else
            submit_copy(c, s, at);
        at += s->bytes;
    }
    on_frame_flushed(c, OK);
}

static bool is_sound(const struct compact *c, const struct survivor *s, const char *at)
{
    struct record_head head;
    if (record_head_parse(at, c->seed, &head) || !message_id_eq(head.id, s->id) ||
        record_bytes(head.meta_bytes, head.content_bytes) != s->bytes)
        return false;
    struct bytes meta = bytes_of(at + RECORD_HEAD_BYTES, head.meta_bytes);
    struct bytes content = bytes_of(meta.at + meta.len, head.content_bytes);
    return record_is_sound(&head, meta, content);
}

static void read_row(struct sys_job *job)
{
    struct compact *c = container_of(job, struct compact, job);
    char *at = c->row;
    for (size_t i = 0; i < c->row_count; i++) {
        const struct survivor *s = &c->survivors[c->row_first + i];
        size_t got;
        c->err = disk_pread(c->file, at, s->bytes, s->offset, &got);
        if (c->err)
            return;
        c->row_damaged[i] = got < s->bytes || !is_sound(c, s, at);
        if (c->row_damaged[i])
            journal_set_aside(c->disk, c->file, c->head.number, s->offset, s->bytes, NULL);
        at += s->bytes;
    }
}

static bool is_wanted(const struct compact *c, const struct survivor *s)
{
    struct table_entry *e = table_find(&c->spool->journal->table, s->id);
    return e && e->slot == c->segment->slot && (uint64_t)e->offset16 * RECORD_ALIGN == s->offset;
}

static uint64_t row_limit(const struct compact *c)
{
    uint64_t quarter = c->spool->journal->segment_bytes / 4;
    return quarter < ROW_BYTES ? quarter : ROW_BYTES;
}

// Takes survivors that are still wanted, in a row; false at the end. Those that went meanwhile are
// dropped.
static bool take_row(struct compact *c)
{
    uint64_t bytes = 0;
    size_t kept = c->next;
    c->row_first = c->next;
    while (c->next < c->count && kept - c->row_first < ROW_RECORDS) {
        struct survivor s = c->survivors[c->next];
        if (is_wanted(c, &s)) {
            if (bytes && bytes + s.bytes > row_limit(c))
                break;
            bytes += s.bytes;
            c->survivors[kept++] = s;
        }
        c->next++;
    }
    c->row_count = kept - c->row_first;
    if (c->row_count)
        c->row = mem_new(bytes);
    return c->row_count > 0;
}

// A frame of its own for each, as one that has a newer value by then is left out.
static void move_notes(struct compact *c)
{
    struct journal *j = c->spool->journal;
    struct bytes key;
    void *value;
    for (size_t cursor = 0; map_next(&j->notes, &cursor, &key, &value);) {
        const struct note *note = value;
        if (note->segment != c->head.number)
            continue;
        struct spool_frame *f = spool_frame_new(SPOOL_OUTCOME);
        frame_add_moved_note(f, key, bytes_of(note->value, note->value_bytes), c->head.number);
        submit(c, f);
    }
}

// Live messages that the segment's index does not know: their records are damaged.
static void remove_leftovers(struct compact *c)
{
    const struct table *t = &c->spool->journal->table;
    struct message_id *ids = NULL;
    size_t count = 0;
    for (uint32_t i = 0; i < t->cap; i++) {
        const struct table_entry *e = &t->entries[i];
        if ((e->id_high == 0 && e->id_low == 0) || e->slot != c->segment->slot)
            continue;
        ids = mem_resize(ids, (count + 1) * sizeof(*ids));
        ids[count++] = table_id(e);
    }
    for (size_t i = 0; i < count; i++) {
        char text[MESSAGE_ID_CHARS + 1];
        message_id_format(ids[i], text);
        log_error("spool message can't be read any more", LOG_CSTR("id", text));
        remove_damaged(c, ids[i]);
    }
    free(ids);
}

// All copies are flushed: what is left in the segment, then the end.
static void finish_segment(struct compact *c)
{
    c->frames = 1;
    if (c->segment->notes)
        move_notes(c);
    else if (c->segment->messages && !c->failed)
        remove_leftovers(c);
    if (c->frames == 1) {
        finish(c);
        return;
    }
    on_frame_flushed(c, OK);
}

static void next_row(struct compact *c)
{
    if (!take_row(c)) {
        finish_segment(c);
        return;
    }
    c->job = (struct sys_job){.kind = SYS_JOB_DISK, .run = read_row, .done = on_row_read};
    sys_offload(&c->job);
}

// ---- starting -----------------------------------------------------------------------------------

static void load_index(struct sys_job *job)
{
    struct compact *c = container_of(job, struct compact, job);
    c->err = segment_index_read(c->file, &c->head, c->end, c->sure, NULL, &c->index);
    if (c->index.unread)
        c->err = E_IO;
}

static void list_survivors(struct compact *c)
{
    struct bytes in = buf_bytes(&c->index.entries);
    struct index_entry e;
    size_t cap = 0;
    int err = OK;
    while (index_next(&in, &e, &err)) {
        struct survivor s = {e.id, e.offset, e.bytes};
        if (e.type != RECORD_MESSAGE || !is_wanted(c, &s) || e.bytes < RECORD_HEAD_BYTES ||
            e.offset + e.bytes > c->end)
            continue;
        if (c->count == cap) {
            cap = cap ? 2 * cap : 64;
            c->survivors = mem_resize(c->survivors, cap * sizeof(*c->survivors));
        }
        c->survivors[c->count++] = s;
    }
    segment_index_done(&c->index);
}

static void on_index_loaded(struct sys_job *job)
{
    struct compact *c = container_of(job, struct compact, job);
    if (c->spool->stopping)
        return;
    if (c->err) {
        give_up(c);
        return;
    }
    list_survivors(c);
    next_row(c);
}

static void start(struct spool *spool, struct segment *s)
{
    struct compact *c = mem_new(sizeof(*c));
    spool->compact = c;
    c->spool = spool;
    c->segment = s;
    c->disk = spool->journal->disk;
    c->file = s->file;
    c->head = s->head;
    c->end = s->end;
    c->sure = s->sure;
    c->seed = s->seed;
    c->job = (struct sys_job){.kind = SYS_JOB_DISK, .run = load_index, .done = on_index_loaded};
    sys_offload(&c->job);
}

static bool is_worth_it(const struct spool *spool)
{
    const struct journal *j = spool->journal;
    uint64_t slack = SPOOL_SLACK_SEGMENTS * j->segment_bytes;
    if (j->used_bytes > SPOOL_AMPLIFICATION * j->live_bytes + slack)
        return true;
    // No room for more: whatever is dead is worth it now.
    return !j->can_create && j->free_count <= j->reserve &&
           j->used_bytes > j->live_bytes + j->segment_bytes;
}

void compact_consider(struct spool *spool)
{
    struct segment *oldest = journal_oldest(spool->journal);
    if (!oldest || journal_is_telling(spool->journal) || spool->compact || spool->tail_pending ||
        spool->backup || oldest->unread ||
        !spool_may_free(spool, oldest, spool->journal->live_count))
        return;
    if (is_empty(oldest))
        free_empty(spool);
    else if (is_worth_it(spool) && spool->stuck != oldest->head.number &&
             sys_mono().us >= spool->compact_after.us)
        start(spool, oldest);
}
