// SPDX-License-Identifier: MIT
//
// How it works. journal_commit() takes frames one by one. A frame that fits is placed: its records
// get their offsets and sequence numbers, the table learns of them, their bytes go into the batch's
// vectors. When the segment is full, the batch large or the frames at their end, the batch is
// written and flushed. On success its frames are done. On failure the table forgets intake's
// messages, moved copies move back, outcomes stay applied (their frames are retried, in order,
// before anything later; copies at the end), and the segment is abandoned.
#include "spool/journal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "spool/tlv.h"
#include "sys/sys.h"

#define BATCH_IOV 512

// Vectors of one batch; written whenever they are full.
struct batch {
    struct iovec iov[BATCH_IOV];
    char heads[BATCH_IOV][RECORD_HEAD_BYTES];
    int count;
    uint64_t written_to; // file offset up to which was written
    uint64_t end;        // file offset behind the last vector
    int err;             // sticky
    bool only_copies;
    struct list frames;
};

const char *extent_name(struct message_id id, char out[EXTENT_NAME_BYTES])
{
    char text[MESSAGE_ID_CHARS + 1];
    message_id_format(id, text);
    snprintf(out, EXTENT_NAME_BYTES, EXTENT_DIRECTORY "/%s", text);
    return out;
}

// ---- segments in memory -------------------------------------------------------------------------

struct segment *journal_slot(const struct journal *j, uint32_t slot)
{
    return slot < j->slots_count ? j->slots[slot] : NULL;
}

struct segment *journal_segment_new(struct journal *j, uint32_t slot, struct disk_file *file,
                                    uint64_t size)
{
    struct segment *s = mem_new(sizeof(*s));
    if (slot >= j->slots_count) {
        uint32_t count = slot + 64;
        j->slots = mem_resize(j->slots, count * sizeof(*j->slots));
        memset(j->slots + j->slots_count, 0, (count - j->slots_count) * sizeof(*j->slots));
        j->slots_count = count;
    }
    CHECK(!j->slots[slot]);
    j->slots[slot] = s;
    s->slot = slot;
    s->file = file;
    s->size = size;
    j->file_bytes += size;
    return s;
}

void journal_segment_drop(struct journal *j, struct segment *s)
{
    char name[SEGMENT_NAME_BYTES];
    list_remove(&s->link);
    // The space is given back at once, even while someone holds the file open.
    if (disk_truncate(s->file, 0) || disk_unlink(j->disk, segment_name(s->slot, name)))
        log_warn("spool segment not removed", LOG_CSTR("file", name));
    j->file_bytes -= s->size;
    j->slots[s->slot] = NULL;
    list_push_back(&j->gone, &s->link);
}

uint32_t journal_next_slot(struct journal *j)
{
    uint32_t slot = 0;
    while (journal_slot(j, slot) || slot == j->reserved_slot)
        slot++;
    return slot;
}

static void free_push(struct journal *j, struct segment *s)
{
    list_push_back(&j->free, &s->link);
    j->free_count++;
}

void journal_add_free(struct journal *j, uint32_t slot, struct disk_file *file, uint64_t size)
{
    free_push(j, journal_segment_new(j, slot, file, size));
}

void journal_drop_free(struct journal *j)
{
    struct list *link = list_first(&j->free);
    if (!link)
        return;
    j->free_count--;
    journal_segment_drop(j, list_get(link, struct segment, link));
}

struct segment *journal_oldest(const struct journal *j)
{
    struct list *link = list_first(&j->live);
    struct segment *s = link ? list_get(link, struct segment, link) : NULL;
    return s == j->open ? NULL : s;
}

// Frees all segments below number, which is durable as the tail.
static void free_below(struct journal *j, uint64_t number)
{
    if (number <= j->tail)
        return;
    j->tail = number;
    list_each(link, &j->live)
    {
        struct segment *s = list_get(link, struct segment, link);
        if (s->head.number >= number)
            break;
        CHECK(s != j->open && s->messages == 0 && s->notes == 0);
        list_remove(&s->link);
        j->live_count--;
        j->used_bytes -= s->size;
        if (s->abandoned || s->size != j->segment_bytes)
            journal_segment_drop(j, s);
        else
            free_push(j, s);
    }
}

// ---- the table ----------------------------------------------------------------------------------

static void unplace(struct journal *j, struct table_entry *e)
{
    struct segment *s = journal_slot(j, e->slot);
    uint32_t bytes = (uint32_t)e->bytes16 * RECORD_ALIGN;
    if (bytes == 0 || !s)
        return;
    CHECK(s->messages > 0);
    s->messages--;
    s->bytes -= bytes;
    j->live_bytes -= bytes;
    e->bytes16 = 0;
}

void journal_place(struct journal *j, struct table_entry *e, uint32_t slot, uint32_t offset16,
                   uint32_t bytes)
{
    struct segment *s = journal_slot(j, slot);
    CHECK(s);
    unplace(j, e);
    e->slot = slot;
    e->offset16 = offset16;
    e->bytes16 = bytes / RECORD_ALIGN;
    e->is_folded = false;
    s->messages++;
    s->bytes += bytes;
    j->live_bytes += bytes;
}

static void id_push(struct message_id **ids, uint32_t *count, uint32_t *cap, struct message_id id)
{
    if (*count == *cap) {
        *cap = *cap ? 2 * *cap : 16;
        *ids = mem_resize(*ids, *cap * sizeof(**ids));
    }
    (*ids)[(*count)++] = id;
}

void journal_settle(struct journal *j, struct table_entry *e)
{
    if (e->has_extent)
        id_push(&j->settling, &j->settling_count, &j->settling_cap, table_id(e));
    unplace(j, e);
    table_remove(&j->table, e);
}

struct message_id *journal_take_settled(struct journal *j, uint32_t *out_count)
{
    struct message_id *ids = j->settled;
    *out_count = j->settled_count;
    j->settled = NULL;
    j->settled_count = j->settled_cap = 0;
    return ids;
}

static struct segment *segment_of_note(const struct journal *j, const struct note *note)
{
    struct segment *s = journal_slot(j, note->slot);
    return s && s->head.number == note->segment ? s : NULL;
}

void journal_set_note(struct journal *j, struct bytes key, struct bytes value, struct segment *s)
{
    struct note *note = NULL;
    if (value.len) {
        note = mem_new(sizeof(*note) + value.len);
        note->segment = s->head.number;
        note->slot = s->slot;
        note->value_bytes = (uint32_t)value.len;
        memcpy(note->value, value.at, value.len);
        s->notes++;
    }
    struct note *old = note ? map_set(&j->notes, key, note) : map_remove(&j->notes, key);
    struct segment *before = old ? segment_of_note(j, old) : NULL;
    if (before)
        before->notes--;
    free(old);
}

// ---- opening and sealing segments ---------------------------------------------------------------

static void seal(struct journal *j)
{
    struct segment *s = j->open;
    if (!s)
        return;
    s->end = s->sure = j->index.end = j->index.sure = j->offset;
    s->last_sequence = j->index.last_sequence;
    j->index.tail = j->tail;
    // What waits to be written again is in the table already, but not on the disk.
    if (!s->abandoned && j->retrying == 0)
        journal_fold(j, s, &j->index);
    if (!s->abandoned && segment_index_write(s->file, &s->head, &j->index))
        log_warn("spool index not written; a restart will scan",
                 LOG_INT("segment", s->head.number));
    segment_index_done(&j->index);
    j->index = (struct segment_index){0};
    j->open = NULL;
}

static struct segment_header header_of_next(struct journal *j, const struct segment *s)
{
    struct list *last = j->live.prev;
    struct segment *before = last == &j->live ? NULL : list_get(last, struct segment, link);
    struct segment_header h = {
        .version = SEGMENT_VERSION,
        .slot = s->slot,
        .number = j->next_number++,
        .generation = s->head.generation + 1,
        .epoch = j->epoch,
        .size = s->size,
        .first_sequence = j->next_sequence,
        .last_sequence = j->last_sequence,
        .previous = before ? before->head.number : 0,
        .previous_end = before ? before->end : 0,
        .previous_sure = before ? before->sure : 0,
        .tail = j->tail,
    };
    if (h.tail == 0)
        h.tail = h.number;
    sys_random(&h.salt, sizeof(h.salt));
    return h;
}

bool journal_check_space(const struct journal *j)
{
    uint64_t bytes, inodes;
    uint64_t segments = j->reserved_slot == JOURNAL_NO_SLOT ? 1 : 2;
    return disk_free(j->disk, &bytes, &inodes) == OK &&
           bytes >= j->free_bytes_min + segments * j->segment_bytes && inodes >= j->free_inodes_min;
}

static int create_segment(struct journal *j, struct segment **out)
{
    char name[SEGMENT_NAME_BYTES];
    struct disk_file *file;
    uint32_t slot = journal_next_slot(j);
    if (slot >= JOURNAL_SLOTS_MAX)
        return E_FULL;
    segment_name(slot, name);
    int err =
        disk_file_open(j->disk, name, DISK_READ | DISK_WRITE | DISK_CREATE | DISK_TRUNCATE, &file);
    if (err)
        return err;
    err = disk_truncate(file, j->segment_bytes);
    if (!err)
        err = disk_sync_dir(j->disk, SEGMENT_DIRECTORY);
    if (err) {
        disk_file_close(file);
        if (disk_unlink(j->disk, name))
            log_warn("spool segment not removed", LOG_CSTR("file", name));
        return err;
    }
    *out = journal_segment_new(j, slot, file, j->segment_bytes);
    return OK;
}

// A free segment, or a new file. Intake leaves the reserve alone.
static int take_segment(struct journal *j, uint32_t keep, struct segment **out)
{
    int err = E_FULL;
    bool create = j->can_create && j->free_count <= j->reserve;
    if (create)
        err = journal_check_space(j) ? create_segment(j, out) : E_FULL;
    else if (keep == 0 && j->free_count == 0)
        err = create_segment(j, out); // the last resort: what is kept free on the disk is for this
    if (!err)
        return OK;
    if (create) {
        log_error("spool can't make a segment", LOG_ERR(err));
        j->can_create = false;
    }
    if (j->free_count <= keep)
        return err;
    *out = list_get(list_pop_front(&j->free), struct segment, link);
    j->free_count--;
    return OK;
}

// Begins the next segment. While there is none to be had the open one stays: outcomes may still fit there. Once a
// header was tried it is sealed, whatever came of that: a restart that finds the header, which says where the open one
// ends, would drop what was written behind that.
static int roll(struct journal *j, uint32_t keep)
{
    struct segment *s;
    int err = take_segment(j, keep, &s);
    if (err)
        return err;
    struct segment_header h = header_of_next(j, s);
    err = segment_header_write(s->file, &h);
    j->counts.flushes++;
    seal(j);
    if (err) {
        // Nothing acknowledged is in it: it can be tried again, under another number.
        j->counts.flush_failures++;
        log_error("spool segment can't be begun", LOG_INT("segment", h.number), LOG_ERR(err));
        free_push(j, s);
        return err;
    }
    s->head = h;
    s->seed = segment_seed(&h);
    s->end = s->sure = SEGMENT_DATA_AT;
    s->last_sequence = s->bytes = 0;
    s->messages = s->notes = 0;
    s->abandoned = false;
    list_push_back(&j->live, &s->link);
    j->live_count++;
    j->used_bytes += s->size;
    j->tail = h.tail;
    j->open = s;
    j->offset = SEGMENT_DATA_AT;
    buf_init(&j->index.entries, s->size);
    return OK;
}

bool journal_has_room(const struct journal *j)
{
    if (j->can_create || j->free_count > j->reserve)
        return true;
    if (!j->open || j->free_count < j->reserve)
        return false;
    return j->offset + j->index.entries.len + j->open->size / 8 < j->open->size;
}

// ---- placing ------------------------------------------------------------------------------------

static void batch_flush_vectors(struct journal *j)
{
    struct batch *b = j->batch;
    if (b->count && !b->err)
        b->err = disk_pwritev(j->open->file, b->iov, b->count, b->written_to);
    b->written_to = b->end;
    b->count = 0;
}

static void batch_add(struct journal *j, const void *at, size_t n)
{
    struct batch *b = j->batch;
    if (n == 0)
        return;
    if (b->count == BATCH_IOV)
        batch_flush_vectors(j);
    b->iov[b->count++] = (struct iovec){(void *)(uintptr_t)at, n};
    b->end += n;
}

static void batch_add_head(struct journal *j, const struct record_head *head)
{
    struct batch *b = j->batch;
    if (b->count == BATCH_IOV)
        batch_flush_vectors(j);
    record_head_format(head, j->open->seed, b->heads[b->count]);
    batch_add(j, b->heads[b->count], RECORD_HEAD_BYTES);
}

static void batch_pad(struct journal *j, uint64_t to)
{
    batch_add(j, j->zeros, (size_t)(to - j->batch->end));
}

static void add_content(struct journal *j, const struct frame_record *r)
{
    batch_add(j, r->content.at, r->content.len);
    if (!r->message)
        return;
    batch_add(j, r->message->header.at, r->message->header.len);
    for (const struct chunk *c = r->message->body.first; c; c = c->next)
        batch_add(j, c->data, c->len);
}

static void place_message(struct journal *j, struct frame_record *r)
{
    struct table_entry *e;
    if (r->flags & RECORD_COPY) {
        e = table_find(&j->table, r->id);
        r->old_bytes = (uint32_t)e->bytes16 * RECORD_ALIGN;
    } else {
        e = table_add(&j->table, r->id, r->recipients);
        e->has_extent = r->has_extent;
    }
    journal_place(j, e, r->slot, r->offset16, r->bytes);
}

static void place_outcome(struct journal *j, struct frame_record *r)
{
    struct table_entry *e = table_find(&j->table, r->id);
    if (!e || !table_set_status(e, r->recipient, (struct recipient_status){r->status}))
        return; // settled before: law 2
    if (table_live(e) == 0)
        journal_settle(j, e);
}

static void place_note(struct journal *j, const struct spool_frame *f, const struct frame_record *r)
{
    struct bytes key, value = frame_summary(f, r);
    CHECK(bytes_take_counted(&value, &key) == OK);
    journal_set_note(j, key, value, j->open);
}

// The copy of a message that has been settled or moved meanwhile is not wanted any more.
static bool copy_is_stale(struct journal *j, const struct frame_record *r)
{
    struct table_entry *e = table_find(&j->table, r->id);
    return !e || e->slot != r->old_slot || e->offset16 != r->old_offset16 ||
           table_recipients(e) != r->recipients;
}

// A newer value of the note that is moved has been placed meanwhile, or its removal.
static bool note_is_stale(struct journal *j, const struct spool_frame *f,
                          const struct frame_record *r)
{
    struct bytes key, value = frame_summary(f, r);
    CHECK(bytes_take_counted(&value, &key) == OK);
    const struct note *note = map_find(&j->notes, key);
    return !note || note->segment != r->moved_from;
}

static void write_states(struct journal *j, struct spool_frame *f, struct frame_record *r)
{
    struct table_entry *e = table_find(&j->table, r->id);
    char *at = frame_states_at(f, r);
    struct recipient_status status;
    for (uint32_t i = 0; i < r->recipients && table_status(e, i + 1, &status); i++)
        le64_put(at + 8 * i, status.bits);
    r->meta_hash = record_hash(frame_meta(f, r));
}

static void index_placed(struct journal *j, const struct spool_frame *f,
                         const struct frame_record *r)
{
    index_add(&j->index.entries,
              &(struct index_entry){.type = r->type,
                                    .offset = (uint64_t)r->offset16 * RECORD_ALIGN,
                                    .bytes = r->bytes,
                                    .id = r->id,
                                    .states = frame_states(f, r),
                                    .summary = frame_summary(f, r)});
    j->index.records++;
}

static void place_record(struct journal *j, struct spool_frame *f, uint32_t i)
{
    struct frame_record *r = &f->records[i];
    struct batch *b = j->batch;
    bool copy = r->flags & RECORD_COPY;
    if (copy)
        write_states(j, f, r);
    else
        r->sequence = j->next_sequence++;
    struct record_head head = {
        .type = r->type,
        .flags = (uint8_t)(r->flags | (b->end == j->offset ? RECORD_BATCH_START : 0)),
        .frame_index = copy ? 0 : (uint8_t)i,
        .frame_left = copy ? 0 : (uint8_t)(f->count - 1 - i),
        .sequence = r->sequence,
        .id = r->id,
        .meta_bytes = r->meta_bytes,
        .content_bytes = r->content_bytes,
        .meta_hash = r->meta_hash,
        .content_hash = r->content_hash,
    };
    r->slot = j->open->slot;
    r->offset16 = (uint32_t)(b->end / RECORD_ALIGN);
    r->bytes = (uint32_t)record_bytes(r->meta_bytes, r->content_bytes);
    r->placed = true;
    batch_add_head(j, &head);
    batch_add(j, frame_meta(f, r).at, r->meta_bytes);
    add_content(j, r);
    batch_pad(j, (uint64_t)r->offset16 * RECORD_ALIGN + r->bytes);
    index_placed(j, f, r);
    j->counts.records++;
    if (!copy)
        j->index.last_sequence = r->sequence;
    else
        j->counts.compacted_bytes += r->bytes;
}

static void apply_record(struct journal *j, struct spool_frame *f, struct frame_record *r)
{
    if (r->type == RECORD_MESSAGE)
        place_message(j, r);
    else if (r->type == RECORD_OUTCOME)
        place_outcome(j, r);
    else if (r->type == RECORD_NOTE)
        place_note(j, f, r);
}

static bool is_copy(const struct spool_frame *f)
{
    return f->count && f->records[0].flags & RECORD_COPY;
}

static void place_frame(struct journal *j, struct spool_frame *f)
{
    for (uint32_t i = 0; i < f->count; i++) {
        struct frame_record *r = &f->records[i];
        if ((r->flags & RECORD_COPY) && copy_is_stale(j, r))
            continue;
        if (r->moved_from && note_is_stale(j, f, r))
            continue;
        place_record(j, f, i);
        apply_record(j, f, r);
        r->moved_from = 0; // tried again it is a value as others are, in their order
    }
    list_push_back(&j->batch->frames, &f->link);
    j->batch->only_copies &= is_copy(f);
}

static void unplace_frame(struct journal *j, struct spool_frame *f)
{
    for (uint32_t i = f->count; i > 0; i--) {
        struct frame_record *r = &f->records[i - 1];
        struct table_entry *e = table_find(&j->table, r->id);
        bool here = r->placed && r->type == RECORD_MESSAGE && e && e->slot == r->slot &&
                    e->offset16 == r->offset16;
        r->placed = false;
        if (!here)
            continue;
        if (r->flags & RECORD_COPY) {
            journal_place(j, e, r->old_slot, r->old_offset16, r->old_bytes);
        } else {
            unplace(j, e);
            table_remove(&j->table, e);
        }
    }
}

// ---- batches ------------------------------------------------------------------------------------

static uint64_t room_left(const struct journal *j)
{
    // Behind the records come the index, on a fresh block, and the footer.
    uint64_t used = block_up(j->batch->end) + block_up(j->index.entries.len) + RECORD_BLOCK;
    return used < j->open->size ? j->open->size - used : 0;
}

// Room for rounding up batch and index; and all but a tail leave as much again for one, or a full journal
// could not say any more what is free.
static uint64_t slack_of(const struct spool_frame *f)
{
    return (f->count && f->records[0].type == RECORD_TAIL ? 2 : 4) * RECORD_BLOCK;
}

static bool fits(const struct journal *j, const struct spool_frame *f)
{
    return j->open && frame_bytes(f) + frame_index_bytes(f) + slack_of(f) <= room_left(j);
}

static bool fits_any(const struct journal *j, const struct spool_frame *f)
{
    // A copy has stood in a segment before; only its states are new.
    uint64_t room =
        is_copy(f) ? j->segment_bytes - SEGMENT_DATA_AT - RECORD_BLOCK : j->segment_bytes / 2;
    return frame_bytes(f) + frame_index_bytes(f) + slack_of(f) <= room;
}

static void batch_begin(struct journal *j)
{
    struct batch *b = j->batch;
    CHECK(list_is_empty(&b->frames));
    b->count = 0;
    b->err = OK;
    b->only_copies = true;
    b->written_to = b->end = j->offset;
}

static void finish_frame(struct journal *j, struct spool_frame *f)
{
    for (uint32_t i = 0; i < f->count; i++)
        if (f->records[i].type == RECORD_TAIL)
            free_below(j, f->records[i].tail);
    j->counts.frames++;
    if (f->retried)
        j->retrying--;
    f->retried = false;
}

static void give_settled(struct journal *j)
{
    // An outcome that waits to be retried may be what settled a message: its extent stays until
    // then.
    if (j->retrying)
        return;
    for (uint32_t i = 0; i < j->settling_count; i++)
        id_push(&j->settled, &j->settled_count, &j->settled_cap, j->settling[i]);
    j->settling_count = 0;
}

static void batch_succeed(struct journal *j, struct list *done)
{
    struct list *link;
    j->counts.written_bytes += j->batch->end - j->offset;
    j->offset = j->batch->end;
    j->open->end = j->open->sure = j->offset;
    if (j->index.last_sequence)
        j->last_sequence = j->index.last_sequence;
    while ((link = list_pop_front(&j->batch->frames))) {
        struct spool_frame *f = list_get(link, struct spool_frame, link);
        finish_frame(j, f);
        list_push_back(done, &f->link);
    }
    give_settled(j);
}

// Nothing of the batch is acknowledged, so its blocks may be rewritten: a restart that finds the pages in the
// cache, or written after all, must not take it for good. A best effort; the next header makes it certain.
static void void_batch(struct journal *j)
{
    struct batch *b = j->batch;
    struct iovec iov[BATCH_IOV];
    for (size_t i = 0; i < BATCH_IOV; i++)
        iov[i] = (struct iovec){j->zeros, RECORD_BLOCK};
    for (uint64_t at = j->offset; at < b->written_to;) {
        uint64_t blocks = (block_up(b->written_to) - at) / RECORD_BLOCK;
        int n = blocks < BATCH_IOV ? (int)blocks : BATCH_IOV;
        if (disk_pwritev(j->open->file, iov, n, at))
            return;
        at += (uint64_t)n * RECORD_BLOCK;
    }
}

static void batch_fail(struct journal *j, struct list *frames, struct list *done, int err)
{
    j->counts.flush_failures++;
    void_batch(j);
    log_error("spool write failed; segment abandoned", LOG_INT("segment", j->open->head.number),
              LOG_INT("offset", j->offset), LOG_ERR(err));
    struct list copies, *link = j->batch->frames.prev;
    list_init(&copies);
    while (link != &j->batch->frames) { // newest first, so that each finds what it placed
        struct spool_frame *f = list_get(link, struct spool_frame, link);
        link = link->prev;
        list_remove(&f->link);
        unplace_frame(j, f);
        if (f->kind == SPOOL_INTAKE) {
            f->err = err == E_FULL ? E_FULL : E_IO;
            f->voided = true;
            list_push_front(done, &f->link);
            continue;
        }
        if (!f->retried)
            j->retrying++;
        f->retried = true;
        // A copy has the states of all outcomes now, of those that came after it, too.
        list_push_front(is_copy(f) ? &copies : frames, &f->link);
    }
    list_move_all(frames, &copies);
    j->open->abandoned = true;
    seal(j);
}

// Writes and flushes what was placed. On an error the segment is gone.
static int batch_end(struct journal *j, struct list *frames, struct list *done)
{
    struct batch *b = j->batch;
    if (list_is_empty(&b->frames))
        return OK;
    if (b->end > j->offset) {
        batch_pad(j, block_up(b->end));
        batch_flush_vectors(j);
        if (!b->err)
            b->err = disk_sync(j->open->file);
        j->counts.flushes++;
    }
    if (b->err) {
        int err = b->err;
        batch_fail(j, frames, done, err);
        return err;
    }
    batch_succeed(j, done);
    batch_begin(j);
    return OK;
}

// Free segments that f must leave: intake the reserve, outcomes the last one, which compaction needs to free
// others. It does not begin before those that are tried again are through. What brings a message makes the live bytes
// more, which no compaction gets back: it leaves another one to those outcomes that only take messages away.
static uint32_t segments_kept_from(const struct journal *j, const struct spool_frame *f)
{
    if (f->internal || f->retried)
        return 0;
    return f->kind == SPOOL_INTAKE ? j->reserve : f->kind == SPOOL_REPORT ? 2 : 1;
}

// Even where the open segment has room for it, that is not for f.
static bool lacks_room(const struct journal *j, const struct spool_frame *f)
{
    return !j->can_create && j->free_count < segments_kept_from(j, f);
}

static void refuse(struct spool_frame *f, int err, struct list *done)
{
    f->err = err;
    list_push_back(done, &f->link);
}

// Frames that can't be taken, whatever comes: their refusal, else OK.
static int verdict(const struct journal *j, const struct spool_frame *f)
{
    if (f->err)
        return f->err;
    if (!fits_any(j, f))
        return E_LIMIT;
    return f->kind != SPOOL_OUTCOME && lacks_room(j, f) ? E_FULL : OK;
}

// When an outcome has to wait for room, what makes room goes first. Copies are placed with the states as of
// then, so they may pass by, but not one that is tried again, which the states have already. False if the first is
// internal already, or there is none.
static bool bring_internal_forward(struct list *frames)
{
    list_each(link, frames)
    {
        struct spool_frame *f = list_get(link, struct spool_frame, link);
        if (!f->internal)
            continue;
        if (link == list_first(frames))
            return false;
        list_remove(link);
        list_push_front(frames, link);
        return true;
    }
    return false;
}

// The last segment is compaction's alone: what it copies must not lack the room.
static bool must_wait(const struct journal *j, const struct spool_frame *f)
{
    return f->kind == SPOOL_OUTCOME && lacks_room(j, f);
}

// A copy has the states that the outcomes before it gave: in a batch that is cut short it could outlive an outcome, and
// what came with that, a bounce, would be lost. So they are flushed first.
static bool comes_too_early(const struct journal *j, const struct spool_frame *f)
{
    return is_copy(f) && !j->batch->only_copies;
}

// Makes room for the first of frames: ends the batch, or if that is empty, opens another segment.
// Intake and reports that get none are refused.
static int make_room(struct journal *j, struct list *frames, struct list *done)
{
    struct spool_frame *f = list_get(list_first(frames), struct spool_frame, link);
    if (j->open && !list_is_empty(&j->batch->frames))
        return batch_end(j, frames, done);
    int err = roll(j, segments_kept_from(j, f));
    if (!err) {
        batch_begin(j);
    } else if (f->kind == SPOOL_INTAKE ||
               (f->kind == SPOOL_REPORT && !f->retried && err == E_FULL)) {
        list_remove(&f->link);
        refuse(f, err == E_FULL ? E_FULL : E_IO, done);
        if (err == E_FULL)
            return OK;
    } else if (err == E_FULL && !f->retried && bring_internal_forward(frames)) {
        return OK;
    }
    return err;
}

static int commit_next(struct journal *j, struct list *frames, struct list *done)
{
    struct spool_frame *f = list_get(list_first(frames), struct spool_frame, link);
    int refusal = verdict(j, f);
    if (refusal) {
        list_remove(&f->link);
        refuse(f, refusal, done);
        return OK;
    }
    if (must_wait(j, f) && bring_internal_forward(frames))
        return OK;
    if (must_wait(j, f)) // but not those before it
        return list_is_empty(&j->batch->frames) ? E_FULL : batch_end(j, frames, done);
    if (comes_too_early(j, f))
        return batch_end(j, frames, done);
    if (!fits(j, f))
        return make_room(j, frames, done);
    list_remove(&f->link);
    place_frame(j, f);
    return j->batch->end - j->offset < JOURNAL_BATCH_BYTES ? OK : batch_end(j, frames, done);
}

int journal_commit(struct journal *j, struct list *frames, struct list *done)
{
    int err = OK;
    batch_begin(j);
    while (!err && !list_is_empty(frames))
        err = commit_next(j, frames, done);
    if (!err)
        err = batch_end(j, frames, done);
    // The next segment's header states where the abandoned one ends: what was refused must not come
    // back.
    if (err && journal_reopen(j))
        log_debug("spool has no segment to go on with");
    return err;
}

int journal_reopen(struct journal *j)
{
    return j->open || j->live_count == 0 ? OK : roll(j, 0);
}

// ---- open, close --------------------------------------------------------------------------------

static uint64_t default_segment_bytes(struct disk *disk)
{
    uint64_t bytes, inodes, size = SPOOL_SEGMENT_BYTES;
    if (disk_free(disk, &bytes, &inodes))
        return size;
    while (size > SPOOL_SEGMENT_BYTES_MIN && size > bytes / 16)
        size /= 2;
    return size;
}

static int make_directories(struct disk *disk)
{
    static const char *const names[] = {SEGMENT_DIRECTORY, EXTENT_DIRECTORY, "damaged"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        int err = disk_mkdir(disk, names[i]);
        if (err)
            return err;
    }
    // A file that the last run had just made is found by a name that may be in the cache only.
    int err = disk_sync_dir(disk, SEGMENT_DIRECTORY);
    return err ? err : disk_sync_dir(disk, "");
}

static struct journal *journal_new(const struct spool_options *options, struct disk *disk)
{
    struct journal *j = mem_new(sizeof(*j));
    j->disk = disk;
    j->segment_bytes =
        options->segment_bytes ? options->segment_bytes : default_segment_bytes(disk);
    j->reserve = options->reserve_segments ? options->reserve_segments : SPOOL_RESERVE_SEGMENTS;
    j->free_bytes_min = options->free_bytes_min ? options->free_bytes_min : JOURNAL_FREE_BYTES_MIN;
    j->free_inodes_min =
        options->free_inodes_min ? options->free_inodes_min : JOURNAL_FREE_INODES_MIN;
    j->next_number = j->next_sequence = 1;
    j->can_create = true;
    j->reserved_slot = JOURNAL_NO_SLOT;
    j->batch = mem_new(sizeof(*j->batch));
    j->zeros = mem_new(RECORD_BLOCK);
    list_init(&j->batch->frames);
    list_init(&j->live);
    list_init(&j->free);
    list_init(&j->gone);
    CHECK(j->segment_bytes % RECORD_BLOCK == 0 && j->segment_bytes >= JOURNAL_SEGMENT_BYTES_MIN &&
          j->segment_bytes <= SPOOL_SEGMENT_BYTES_MAX);
    return j;
}

int journal_open(const struct spool_options *options, const struct spool_recovery *recovery,
                 struct journal **out)
{
    struct disk *disk;
    int err = disk_open(options->directory, &disk);
    if (err)
        return err;
    err = disk_lock(disk);
    if (!err)
        err = make_directories(disk);
    if (err) {
        disk_close(disk);
        return err;
    }
    struct journal *j = journal_new(options, disk);
    err = journal_recover(j, recovery);
    if (!err) {
        journal_tell_begin(j, recovery);
        bool later = recovery && recovery->on_slice;
        uint32_t at_once = !later              ? UINT32_MAX
                           : recovery->at_once ? recovery->at_once
                                               : SPOOL_TELL_AT_ONCE;
        err = journal_tell(j, at_once);
    }
    if (err) {
        journal_close(j);
        return err;
    }
    *out = j;
    return OK;
}

static void free_segments(struct list *segments)
{
    struct list *link;
    while ((link = list_pop_front(segments))) {
        struct segment *s = list_get(link, struct segment, link);
        disk_file_close(s->file);
        free(s);
    }
}

void journal_close(struct journal *j)
{
    struct bytes key;
    void *note;
    seal(j);
    journal_tell_end(j);
    free_segments(&j->live);
    free_segments(&j->free);
    free_segments(&j->gone);
    for (size_t cursor = 0; map_next(&j->notes, &cursor, &key, &note);)
        free(note);
    map_done(&j->notes);
    table_done(&j->table);
    segment_index_done(&j->index);
    disk_close(j->disk);
    free(j->slots);
    free(j->settling);
    free(j->settled);
    free(j->batch);
    free(j->zeros);
    free(j);
}
