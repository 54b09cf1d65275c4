// SPDX-License-Identifier: MIT
//
// How it works. The spool's loop looks up where the message stands; the asking loop reads it there,
// from the page cache or through the offload pool. No pin is needed: if compaction moves the
// message and its segment is reused meanwhile, the checksum (seeded by the segment) fails and the
// place is looked up again. Damage is what fails its checksums twice at one place; what the disk
// does not give is read again and then E_IO.
#include <stdlib.h>

#include "base/check.h"
#include "spool/envelope_codec.h"
#include "spool/spool_internal.h"

#define READ_TRIES 8
#define READ_IO_TRIES 3

static void end_read(struct spool_read *r, int err)
{
    free(r->buffer);
    r->buffer = NULL;
    r->err = err;
    r->done(r);
}

// ---- decoding -----------------------------------------------------------------------------------

static int take_content(struct stored_message *m, struct bytes content)
{
    struct envelope *e = m->envelope;
    if (e->header_bytes > content.len)
        return E_DAMAGED;
    struct bytes body = bytes_skip(content, e->header_bytes);
    if (!m->body_in_extent && body.len != e->body_bytes)
        return E_DAMAGED;
    m->header = arena_dup(&m->arena, bytes_first(content, e->header_bytes));
    if (!m->body_in_extent)
        chain_add(&m->body, body);
    return OK;
}

// E_DAMAGED: not (or no longer) the record of this message.
static int decode(struct message_id id, struct bytes record, uint64_t seed,
                  struct stored_message **out)
{
    struct record_head head;
    struct record_meta parts;
    if (record.len < RECORD_HEAD_BYTES || record_head_parse(record.at, seed, &head) ||
        head.type != RECORD_MESSAGE || !message_id_eq(head.id, id) ||
        record_bytes(head.meta_bytes, head.content_bytes) != record.len)
        return E_DAMAGED;
    struct bytes meta = bytes_of(record.at + RECORD_HEAD_BYTES, head.meta_bytes);
    struct bytes content = bytes_of(meta.at + meta.len, head.content_bytes);
    if (!record_is_sound(&head, meta, content) || record_meta_parse(meta, &parts))
        return E_DAMAGED;
    struct stored_message *m = stored_message_new();
    int err = envelope_decode(id, parts.summary, parts.rest, m);
    if (!err)
        err = take_content(m, content);
    if (err)
        stored_message_unref(m);
    else
        *out = m;
    return err;
}

// ---- the asking loop ----------------------------------------------------------------------------

static void look_up(struct sys_task *task);

static void ask(struct spool_read *r)
{
    r->task.run = look_up;
    sys_post(r->spool->loop, &r->task);
}

static void run_set_aside(struct sys_job *job)
{
    struct spool_read *r = container_of(job, struct spool_read, job);
    journal_set_aside(r->spool->journal->disk, r->place.file, r->place.number, r->place.offset,
                      r->place.bytes, NULL);
}

static void on_set_aside(struct sys_job *job)
{
    end_read(container_of(job, struct spool_read, job), E_DAMAGED);
}

static void got_bytes(struct spool_read *r, int err, size_t n)
{
    if (!err)
        err = decode(r->id, bytes_of(r->buffer, n), r->place.seed, &r->message);
    if (!err) {
        end_read(r, OK);
        return;
    }
    free(r->buffer);
    r->buffer = NULL;
    if (err == E_IO && ++r->io_tries == READ_IO_TRIES) {
        end_read(r, err);
        return;
    }
    if (err != E_IO)
        r->failed = r->place;
    ask(r); // it may have moved
}

static void run_pread(struct sys_job *job)
{
    struct spool_read *r = container_of(job, struct spool_read, job);
    r->err = disk_pread(r->place.file, r->buffer, r->place.bytes, r->place.offset, &r->got);
}

static void on_pread(struct sys_job *job)
{
    struct spool_read *r = container_of(job, struct spool_read, job);
    got_bytes(r, r->err, r->got);
}

static void offload(struct spool_read *r, void (*run)(struct sys_job *),
                    void (*done)(struct sys_job *))
{
    r->job = (struct sys_job){.kind = SYS_JOB_DISK, .run = run, .done = done};
    sys_offload(&r->job);
}

// The place is known (or an error): back on the asking loop.
static void read_place(struct sys_task *task)
{
    struct spool_read *r = container_of(task, struct spool_read, task);
    if (r->err == E_DAMAGED) {
        offload(r, run_set_aside, on_set_aside);
        return;
    }
    if (r->err) {
        end_read(r, r->err);
        return;
    }
    r->buffer = malloc(r->place.bytes);
    CHECK(r->buffer);
    int err = disk_pread_nowait(r->place.file, r->buffer, r->place.bytes, r->place.offset, &r->got);
    if (err == E_AGAIN || (!err && r->got < r->place.bytes))
        offload(r, run_pread, on_pread);
    else
        got_bytes(r, err, r->got);
}

void spool_read(struct spool *spool, struct spool_read *r)
{
    CHECK(spool->loop);
    r->spool = spool;
    r->home = sys_loop_self();
    r->message = NULL;
    r->buffer = NULL;
    r->tries = r->io_tries = 0;
    r->failed = (struct spool_place){0};
    ask(r);
}

// ---- the spool's loop ---------------------------------------------------------------------------

static int find_place(struct spool *spool, struct spool_read *r)
{
    struct table_entry *e = table_find(&spool->journal->table, r->id);
    if (!e)
        return E_NOT_FOUND;
    struct segment *s = journal_slot(spool->journal, e->slot);
    r->place = (struct spool_place){.file = s->file,
                                    .seed = s->seed,
                                    .number = s->head.number,
                                    .offset = (uint64_t)e->offset16 * RECORD_ALIGN,
                                    .bytes = (uint32_t)e->bytes16 * RECORD_ALIGN};
    bool same = r->failed.number == r->place.number && r->failed.offset == r->place.offset;
    if (same)
        spool->journal->counts.damaged++;
    return same ? E_DAMAGED : ++r->tries > READ_TRIES ? E_IO : OK;
}

static void look_up(struct sys_task *task)
{
    struct spool_read *r = container_of(task, struct spool_read, task);
    r->err = find_place(r->spool, r);
    r->task.run = read_place;
    sys_post(r->home, &r->task);
}
