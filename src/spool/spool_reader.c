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
#include "spool/spool_internal.h"
#include "spool/tlv.h"

struct spool_reader {
    struct spool *spool;
    struct disk *disk;
    uint64_t after;                 // sequence of the last record shown
    uint64_t watermark;             // as last looked at
    struct segment_header *headers; // of all segments, as last listed
    size_t count, cap;
    struct segment_header at; // the segment being read; number 0: none
    struct disk_file *file;
    struct segment_scan scan;
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

static void leave(struct spool_reader *r)
{
    segment_scan_done(&r->scan);
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
    if (read_header(r->disk, name, &h) || h.number > watermark_number(r->watermark))
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
    return disk_list(r->disk, SEGMENT_DIRECTORY, on_name, r);
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
    return segment_header_read(r->file, &h) || h.number != r->at.number || h.salt != r->at.salt;
}

// Sets the scan's limit to what is flushed. OK: there is more in this segment; E_NOT_FOUND: it is
// read to its end and `next` follows; E_AGAIN: nothing more yet.
static int look_ahead(struct spool_reader *r, const struct segment_header **next)
{
    *next = NULL;
    if (r->at.number == watermark_number(r->watermark)) {
        r->scan.limit = watermark_offset(r->watermark);
    } else {
        *next = successor(r, r->at.number);
        if (!*next && list_headers(r) == OK)
            *next = successor(r, r->at.number);
        if (!*next)
            return E_IO;
        r->scan.limit = (*next)->previous_end;
    }
    if (r->scan.offset < r->scan.limit)
        return OK;
    return *next ? E_NOT_FOUND : E_AGAIN;
}

// ---- records ------------------------------------------------------------------------------------

static int show_message(struct spool_reader *r, const struct scanned *s,
                        const struct record_meta *meta, struct spool_record *out)
{
    stored_message_unref(r->message);
    r->message = stored_message_new();
    out->type = SPOOL_RECORD_MESSAGE;
    out->envelope = r->message->envelope;
    return envelope_decode(s->head.id, meta->summary, meta->rest, r->message);
}

static int show_note(const struct record_meta *meta, struct spool_record *out)
{
    out->type = SPOOL_RECORD_NOTE;
    out->value = meta->summary;
    return bytes_take_counted(&out->value, &out->key);
}

// True if the record is one to show.
static bool show(struct spool_reader *r, const struct scanned *s, struct spool_record *out)
{
    struct record_meta meta;
    int err = E_DAMAGED;
    if (s->kind != SCANNED_RECORD || s->head.flags & RECORD_COPY || s->head.sequence <= r->after ||
        record_meta_parse(s->meta, &meta))
        return false;
    *out = (struct spool_record){.sequence = s->head.sequence};
    if (s->head.type == RECORD_MESSAGE) {
        err = show_message(r, s, &meta, out);
    } else if (s->head.type == RECORD_OUTCOME) {
        out->type = SPOOL_RECORD_OUTCOME;
        err = outcome_decode(s->head.id, meta.summary, meta.rest, &out->outcome);
    } else if (s->head.type == RECORD_NOTE) {
        err = show_note(&meta, out);
    }
    r->after = s->head.sequence;
    return err == OK;
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
    err = segment_scan_next(&r->scan, &s);
    if (err == E_NOT_FOUND)
        return E_EXISTS; // padding up to the limit
    if (s.kind != SCANNED_RECORD && is_recycled(r)) {
        leave(r);
        return E_NOT_FOUND;
    }
    return show(r, &s, out) ? OK : E_EXISTS;
}

int spool_reader_next(struct spool_reader *r, struct spool_record *out)
{
    int err;
    r->watermark = atomic_load(&r->spool->watermark);
    do
        err = step(r, out);
    while (err == E_EXISTS);
    return err;
}

void spool_watch(struct spool_reader *r, struct spool_watch *w)
{
    spool_watch_from(r->spool, w, r->watermark);
}
