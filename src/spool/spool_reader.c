// SPDX-License-Identifier: MIT
//
// How it works. The reader shares one number with the spool, the watermark; the rest it learns from
// the files: headers say which segment follows which and where it ends. A segment that is recycled
// under the reader's hands no longer checks out; its header then shows another number, and the
// reader goes on with the oldest there is and says that it lost something.
#include "spool/spool_reader.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "spool/envelope_codec.h"
#include "spool/outcome_codec.h"
#include "spool/spool_internal.h"
#include "spool/tlv.h"

struct spool_reader {
    struct spool *spool;
    struct disk *disk;
    enum spool_follower who;
    uint64_t after;        // sequence of the last record shown
    uint64_t watermark;    // as last looked at
    uint64_t position;     // all before it is shown
    uint64_t copies_below; // copies with a lower sequence are shown
    bool skip_messages;
    struct segment_header *headers; // of all segments, as last listed
    size_t count, cap;
    bool unlisted;            // the disk did not give all of them
    struct segment_header at; // the segment being read; number 0: none
    struct disk_file *file;
    struct segment_scan scan;
    uint64_t sure;                 // behind this offset of `at` a crash may have cut records short
    struct segment_index doubtful; // what counts there
    struct bytes doubtful_left;
    struct index_entry doubtful_next;
    bool doubtful_read;
    struct stored_message *message; // holds the envelope shown last
};

struct spool_reader *spool_reader_open(struct spool *spool, uint64_t after)
{
    struct spool_reader *r = mem_new(sizeof(*r));
    r->spool = spool;
    r->disk = spool->journal->disk;
    r->after = after;
    return r;
}

void spool_reader_set_follower(struct spool_reader *r, enum spool_follower who)
{
    CHECK(who < SPOOL_FOLLOWERS);
    r->who = who;
}

void spool_reader_show_copies(struct spool_reader *r, uint64_t below)
{
    r->copies_below = below;
}

void spool_reader_skip_messages(struct spool_reader *r)
{
    r->skip_messages = true;
}

static void leave(struct spool_reader *r)
{
    segment_scan_done(&r->scan);
    segment_index_done(&r->doubtful);
    r->doubtful = (struct segment_index){0};
    r->doubtful_left = BYTES_NONE;
    r->doubtful_next = (struct index_entry){0};
    r->doubtful_read = false;
    if (r->file)
        disk_file_close(r->file);
    r->file = NULL;
    r->at = (struct segment_header){0};
}

void spool_reader_close(struct spool_reader *r)
{
    leave(r);
    stored_message_unref(r->message);
    free(r->headers);
    free(r);
}

// ---- which segments there are -------------------------------------------------------------------

static int read_header(struct disk *disk, const char *name, struct segment_header *out)
{
    struct disk_file *file;
    int err = disk_file_open(disk, name, DISK_READ, &file);
    if (err)
        return err;
    err = segment_header_read(file, out);
    disk_file_close(file);
    return err;
}

static void on_name(void *ctx, const char *file)
{
    struct spool_reader *r = ctx;
    char name[SEGMENT_NAME_BYTES];
    struct segment_header h;
    if (strlen(file) != 8)
        return;
    snprintf(name, sizeof(name), SEGMENT_DIRECTORY "/%s", file);
    int err = read_header(r->disk, name, &h);
    r->unlisted |= err == E_IO;
    if (err || h.number > watermark_number(r->watermark))
        return;
    if (r->count == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 16;
        r->headers = mem_resize(r->headers, r->cap * sizeof(*r->headers));
    }
    r->headers[r->count++] = h;
}

static int list_headers(struct spool_reader *r)
{
    r->count = 0;
    r->unlisted = false;
    int err = disk_list(r->disk, SEGMENT_DIRECTORY, on_name, r);
    return !err && r->unlisted ? E_IO : err;
}

// The one that follows `number`; of several (attempts that failed) the last. NULL if there is none
// yet.
static const struct segment_header *successor(const struct spool_reader *r, uint64_t number)
{
    const struct segment_header *found = NULL;
    for (size_t i = 0; i < r->count; i++)
        if (r->headers[i].previous == number && (!found || r->headers[i].number > found->number))
            found = &r->headers[i];
    return found;
}

// The segment to begin with: the last that can hold the record behind `after`, else the oldest.
static const struct segment_header *beginning(const struct spool_reader *r)
{
    const struct segment_header *oldest = NULL, *best = NULL;
    uint64_t tail = 0;
    for (size_t i = 0; i < r->count; i++)
        if (r->headers[i].tail > tail)
            tail = r->headers[i].tail;
    for (size_t i = 0; i < r->count; i++) {
        const struct segment_header *h = &r->headers[i];
        if (h->number < tail)
            continue;
        if (!oldest || h->number < oldest->number)
            oldest = h;
        if (h->first_sequence <= r->after + 1 && (!best || h->number > best->number))
            best = h;
    }
    return best ? best : oldest;
}

// ---- moving -------------------------------------------------------------------------------------

static int enter(struct spool_reader *r, const struct segment_header *h)
{
    char name[SEGMENT_NAME_BYTES];
    struct segment_header now = *h; // `h` may be one of those listed
    leave(r);
    int err = disk_file_open(r->disk, segment_name(now.slot, name), DISK_READ, &r->file);
    if (err)
        return err;
    r->at = now;
    segment_scan_init(&r->scan, r->file, segment_seed(&now), SEGMENT_DATA_AT, SEGMENT_DATA_AT,
                      true);
    r->scan.meta_only = true;
    return OK;
}

// Begins, or begins again. E_NOT_FOUND: something between `after` and there is gone.
static int begin(struct spool_reader *r)
{
    int err = list_headers(r);
    if (err)
        return err;
    const struct segment_header *h = beginning(r);
    if (!h)
        return E_AGAIN;
    bool lost = r->after && h->last_sequence > r->after && h->first_sequence > r->after + 1;
    err = enter(r, h);
    return err ? err : lost ? E_NOT_FOUND : OK;
}

static bool is_recycled(struct spool_reader *r)
{
    struct segment_header h;
    int err = segment_header_read(r->file, &h);
    return err != E_IO && (err || h.number != r->at.number || h.salt != r->at.salt);
}

// Sets the scan's limit to what is flushed. OK: there is more in this segment; E_NOT_FOUND: it is
// read to its end and `next` follows; E_AGAIN: nothing more yet.
static int look_ahead(struct spool_reader *r, const struct segment_header **next)
{
    *next = NULL;
    if (r->at.number == watermark_number(r->watermark)) {
        r->scan.limit = watermark_offset(r->watermark);
        r->sure = r->at.number == r->spool->recovered ? r->spool->recovered_sure : UINT64_MAX;
    } else {
        *next = successor(r, r->at.number);
        if (!*next && list_headers(r) == OK)
            *next = successor(r, r->at.number);
        if (!*next)
            return E_IO;
        r->scan.limit = (*next)->previous_end;
        r->sure = (*next)->previous_sure;
    }
    if (r->scan.offset < r->scan.limit)
        return OK;
    return *next ? E_NOT_FOUND : E_AGAIN;
}

// ---- records ------------------------------------------------------------------------------------

int spool_record_decode(struct spool_record *record, struct stored_message *m)
{
    struct record_meta meta;
    if (record_meta_parse(record->meta, &meta))
        return E_DAMAGED;
    switch (record->type) {
    case SPOOL_RECORD_MESSAGE:
        record->envelope = m->envelope;
        record->states = meta.states;
        return envelope_decode(record->id, meta.summary, meta.rest, m);
    case SPOOL_RECORD_OUTCOME:
        return outcome_decode(record->id, meta.summary, meta.rest, &record->outcome);
    case SPOOL_RECORD_FEEDBACK:
        return feedback_decode(record->id, meta.rest, &record->feedback);
    case SPOOL_RECORD_NOTE:
        record->value = meta.summary;
        return bytes_take_counted(&record->value, &record->key);
    }
    return E_DAMAGED;
}

enum recipient_state spool_record_state(const struct spool_record *record, uint32_t recipient,
                                        uint32_t *out_attempts)
{
    *out_attempts = 0;
    if (recipient == 0 || record->states.len / 8 < recipient)
        return RECIPIENT_QUEUED;
    struct recipient_status status = {le64_get(record->states.at + 8 * (size_t)(recipient - 1))};
    enum recipient_state state = recipient_status_state(status);
    *out_attempts = recipient_status_attempts(status);
    return state < RECIPIENT_STATES ? state : RECIPIENT_QUEUED;
}

static bool is_to_show(const struct spool_reader *r, const struct scanned *s)
{
    if (s->kind != SCANNED_RECORD)
        return false;
    return s->head.flags & RECORD_COPY ? s->head.sequence < r->copies_below
                                       : s->head.sequence > r->after;
}

// True if the record is one to show.
static bool show(struct spool_reader *r, const struct scanned *s, struct spool_record *out)
{
    if (!is_to_show(r, s))
        return false;
    bool copy = s->head.flags & RECORD_COPY;
    if (!copy)
        r->after = s->head.sequence;
    if (s->head.type != RECORD_MESSAGE && s->head.type != RECORD_OUTCOME &&
        s->head.type != RECORD_NOTE && s->head.type != RECORD_FEEDBACK)
        return false;
    if (s->head.type == RECORD_MESSAGE && r->skip_messages)
        return false;
    *out = (struct spool_record){.sequence = s->head.sequence,
                                 .type = (enum spool_record_type)s->head.type,
                                 .copy = copy,
                                 .id = s->head.id,
                                 .meta = s->meta};
    if (out->type == SPOOL_RECORD_MESSAGE) {
        stored_message_unref(r->message);
        r->message = stored_message_new();
    }
    return spool_record_decode(out, r->message) == OK;
}

// ---- what counts --------------------------------------------------------------------------------

// Recovery has dropped what a crash cut short: it reads those records in full, and so does this.
static int read_doubtful(struct spool_reader *r)
{
    if (r->doubtful_read)
        return OK;
    int err = segment_index_batch(r->file, &r->at, r->sure, r->scan.limit, &r->doubtful);
    if (err) {
        segment_index_done(&r->doubtful);
        return err;
    }
    r->doubtful_left = buf_bytes(&r->doubtful.entries);
    r->doubtful_read = true;
    return OK;
}

// What recovery has dropped is no record. Asked in the order of offsets.
static int check_doubtful(struct spool_reader *r, struct scanned *s)
{
    int damage = OK, err = read_doubtful(r);
    if (err)
        return err;
    while (r->doubtful_next.offset < s->offset &&
           index_next(&r->doubtful_left, &r->doubtful_next, &damage))
        ;
    if (r->doubtful_next.offset != s->offset)
        s->kind = SCANNED_DAMAGED;
    return OK;
}

// The disk did not give what stands there: is it to be asked again? A reader that is opened anew goes on being patient,
// but not where he was: else of two such places in one turn, which begins again at each failure, none were ever passed.
static bool is_patient(struct spool_reader *r, uint64_t offset)
{
    struct spool_unread *unread = &r->spool->unread[r->who];
    uint64_t place = watermark_of(r->at.number, offset);
    int64_t now = sys_mono().us / 1000;
    if (place <= atomic_load(&unread->passed))
        return false;
    if (atomic_exchange(&unread->at, place) != place)
        atomic_store(&unread->since, now);
    if (now - atomic_load(&unread->since) < SPOOL_UNREAD_PATIENCE_MS)
        return true;
    atomic_store(&unread->passed, place);
    log_error("spool segment can't be read, its records are passed over",
              LOG_INT("segment", r->at.number), LOG_INT("offset", offset));
    return false;
}

// The next record or damaged stretch. E_NOT_FOUND: nothing up to the limit. E_IO: the disk does not give it now.
static int scan(struct spool_reader *r, struct scanned *out)
{
    uint64_t from = r->scan.offset;
    int err = segment_scan_next(&r->scan, out);
    if (err == OK && out->kind == SCANNED_RECORD && out->offset >= r->sure)
        err = check_doubtful(r, out);
    bool whole = err == OK && out->kind == SCANNED_RECORD;
    if (err != E_IO && (whole || !r->scan.unread))
        return err;
    if (is_patient(r, from)) {
        segment_scan_back(&r->scan, from);
        return E_IO;
    }
    r->scan.unread = false;
    r->doubtful_read |= err == E_IO; // nothing of it counts
    return E_NOT_FOUND;
}

// One step forward. OK: *out is filled; E_EXISTS: a step, but nothing to show.
static int step(struct spool_reader *r, struct spool_record *out)
{
    const struct segment_header *next;
    struct scanned s;
    int err = r->at.number ? OK : begin(r);
    if (err)
        return err;
    err = look_ahead(r, &next);
    if (err == E_NOT_FOUND) {
        err = enter(r, next);
        return err ? err : E_EXISTS;
    }
    if (err == E_IO && is_recycled(r)) {
        leave(r);
        return E_NOT_FOUND;
    }
    if (err)
        return err;
    err = scan(r, &s);
    if (err)
        return err == E_NOT_FOUND ? E_EXISTS : err;
    if (s.kind != SCANNED_RECORD && is_recycled(r)) {
        leave(r);
        return E_NOT_FOUND;
    }
    return show(r, &s, out) ? OK : E_EXISTS;
}

int spool_reader_next(struct spool_reader *r, struct spool_record *out)
{
    int err;
    r->watermark = spool_flushed(r->spool);
    do
        err = step(r, out);
    while (err == E_EXISTS);
    if (err == E_AGAIN)
        r->position = r->watermark;
    else if (err == OK)
        r->position = watermark_of(r->at.number, r->scan.offset);
    return err;
}

uint64_t spool_reader_position(const struct spool_reader *r)
{
    return r->position;
}

uint64_t spool_reader_sequence(const struct spool_reader *r)
{
    return r->after;
}

void spool_watch(struct spool_reader *r, struct spool_watch *w)
{
    spool_watch_from(r->spool, w, r->watermark);
}
