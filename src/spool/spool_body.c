// SPDX-License-Identifier: MIT
//
// How it works. A body in memory is lent from its chain. An extent is read a block at a time:
// from the page cache if it is there, else by a job; the block is checked against its sum and then
// served in pieces. The first job also opens the file and loads the sums, which have to match the
// acceptance's extent_sum. What a block from the page cache says is doubted is read again by a job, which moves the
// file to damaged/ if it is no better.
#include "spool/spool_body.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "spool/spool_extent.h"
#include "spool/spool_internal.h"
#include "spool/tlv.h"

#define NO_BLOCK UINT64_MAX

struct spool_body_file {
    struct spool_body *owner; // NULL: given up while a job runs
    struct disk *disk;
    struct stored_message *message; // a reference
    struct disk_file *file;
    char *sums;
    uint64_t block_number; // the one in `block`, or NO_BLOCK
    uint64_t wanted;
    size_t block_bytes;
    char *block;
    bool running;
    int err; // sticky
    struct sys_job job;
};

static uint64_t body_bytes(const struct spool_body_file *f)
{
    return f->message->envelope->body_bytes;
}

static size_t bytes_of_block(const struct spool_body_file *f, uint64_t number)
{
    uint64_t left = body_bytes(f) - number * SPOOL_EXTENT_BLOCK;
    return left < SPOOL_EXTENT_BLOCK ? (size_t)left : SPOOL_EXTENT_BLOCK;
}

static int check_block(struct spool_body_file *f, uint64_t number, size_t got)
{
    size_t want = bytes_of_block(f, number);
    if (got < want || record_hash(bytes_of(f->block, want)) != le64_get(f->sums + 8 * number))
        return E_DAMAGED;
    f->block_number = number;
    f->block_bytes = want;
    return OK;
}

// ---- in the job ---------------------------------------------------------------------------------

static int load_sums(struct spool_body_file *f)
{
    uint64_t count = (body_bytes(f) + SPOOL_EXTENT_BLOCK - 1) / SPOOL_EXTENT_BLOCK;
    uint64_t size;
    size_t got;
    int err = disk_size(f->file, &size);
    if (err)
        return err;
    // The envelope is checksummed, but nothing is allocated that the file does not have.
    if (size < body_bytes(f) || size - body_bytes(f) != count * 8)
        return E_DAMAGED;
    f->sums = mem_new(count * 8 + 1);
    err = disk_pread(f->file, f->sums, count * 8, body_bytes(f), &got);
    if (err)
        return err;
    if (got < count * 8 || record_hash(bytes_of(f->sums, count * 8)) != f->message->extent_sum)
        return E_DAMAGED;
    f->block = mem_new(SPOOL_EXTENT_BLOCK);
    return OK;
}

#define ASIDE_NAME_BYTES (EXTENT_NAME_BYTES + 16)

// Where it goes if it is damaged. Returns out.
static const char *aside_name(const struct spool_body_file *f, char out[ASIDE_NAME_BYTES])
{
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(f->message->envelope->id, id);
    snprintf(out, ASIDE_NAME_BYTES, "damaged/extent-%s", id);
    return out;
}

// Another reader of it was first, who told only his recipients.
static bool is_set_aside(const struct spool_body_file *f)
{
    char name[ASIDE_NAME_BYTES];
    struct disk_file *file;
    if (disk_file_open(f->disk, aside_name(f, name), DISK_READ, &file))
        return false;
    disk_file_close(file);
    return true;
}

static int open_extent(struct spool_body_file *f)
{
    char name[EXTENT_NAME_BYTES];
    int err =
        disk_file_open(f->disk, extent_name(f->message->envelope->id, name), DISK_READ, &f->file);
    if (err == E_NOT_FOUND && is_set_aside(f))
        return E_DAMAGED;
    return err ? err : load_sums(f);
}

static void set_aside(struct spool_body_file *f)
{
    char name[EXTENT_NAME_BYTES], to[ASIDE_NAME_BYTES], id[MESSAGE_ID_CHARS + 1];
    message_id_format(f->message->envelope->id, id);
    int err = disk_rename(f->disk, extent_name(f->message->envelope->id, name), aside_name(f, to));
    if (err != E_NOT_FOUND) // else another reader of it was first
        log_error("spool extent damaged, set aside", LOG_CSTR("file", to), LOG_CSTR("id", id),
                  LOG_CSTR("saved", err ? err_text(err) : "yes"));
}

static void run_load(struct sys_job *job)
{
    struct spool_body_file *f = container_of(job, struct spool_body_file, job);
    size_t got = 0;
    int err = f->block ? OK : open_extent(f);
    if (!err)
        err = disk_pread(f->file, f->block, bytes_of_block(f, f->wanted),
                         f->wanted * SPOOL_EXTENT_BLOCK, &got);
    f->err = err ? err : check_block(f, f->wanted, got);
    if (f->err == E_DAMAGED)
        set_aside(f);
}

// ---- on the loop --------------------------------------------------------------------------------

static void file_free(struct spool_body_file *f)
{
    if (f->file)
        disk_file_close(f->file);
    stored_message_unref(f->message);
    free(f->sums);
    free(f->block);
    free(f);
}

static void on_loaded(struct sys_job *job)
{
    struct spool_body_file *f = container_of(job, struct spool_body_file, job);
    f->running = false;
    if (f->owner)
        f->owner->ready(f->owner->ctx);
    else
        file_free(f);
}

static int load(struct spool_body_file *f, uint64_t number)
{
    size_t got = 0;
    if (f->block) {
        f->block_number = NO_BLOCK;
        int err = disk_pread_nowait(f->file, f->block, bytes_of_block(f, number),
                                    number * SPOOL_EXTENT_BLOCK, &got);
        if (!err && check_block(f, number, got) == OK)
            return OK;
    }
    f->wanted = number;
    f->running = true;
    f->job = (struct sys_job){.kind = SYS_JOB_DISK, .run = run_load, .done = on_loaded};
    sys_offload(&f->job);
    return E_AGAIN;
}

void spool_body_init(struct spool_body *b, struct spool *spool, struct stored_message *m,
                     void (*ready)(void *ctx), void *ctx)
{
    *b = (struct spool_body){
        .spool = spool, .message = stored_message_ref(m), .ready = ready, .ctx = ctx};
    if (!m->body_in_extent)
        return;
    b->file = mem_new(sizeof(*b->file));
    b->file->owner = b;
    b->file->disk = spool->journal->disk;
    b->file->message = stored_message_ref(m);
    b->file->block_number = NO_BLOCK;
}

static int read_extent(struct spool_body_file *f, uint64_t offset, size_t max, struct bytes *out)
{
    if (offset >= body_bytes(f) || max == 0)
        return OK;
    if (f->running)
        return E_AGAIN;
    if (f->err)
        return f->err;
    uint64_t number = offset / SPOOL_EXTENT_BLOCK;
    int err = f->block_number == number ? OK : load(f, number);
    if (err)
        return err;
    size_t at = (size_t)(offset % SPOOL_EXTENT_BLOCK), left = f->block_bytes - at;
    *out = bytes_first(bytes_of(f->block + at, left), max);
    return OK;
}

int spool_body_read(struct spool_body *b, uint64_t offset, size_t max, struct bytes *out)
{
    *out = BYTES_NONE;
    if (b->file)
        return read_extent(b->file, offset, max, out);
    if (offset < b->message->body.len)
        *out = bytes_first(chain_slice(&b->message->body, (size_t)offset), max);
    return OK;
}

void spool_body_done(struct spool_body *b)
{
    if (b->file) {
        b->file->owner = NULL;
        if (!b->file->running)
            file_free(b->file);
    }
    stored_message_unref(b->message);
    *b = (struct spool_body){0};
}
