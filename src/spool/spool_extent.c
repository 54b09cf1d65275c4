// SPDX-License-Identifier: MIT
//
// How it works. Chunks gather in `queue` while one job writes the row before them. The job opens
// the file the first time, sums up each block of SPOOL_EXTENT_BLOCK bytes, and flushes now and
// then, so that the last flush is short. finish() has one more job write the sums behind the body
// and flush file and directory.
#include "spool/spool_extent.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/log.h"
#include "spool/spool_internal.h"
#include "spool/tlv.h"

#define FLUSH_EVERY ((uint64_t)8 << 20)
#define IOV_MAX_WRITE 64

struct spool_extent {
    struct spool *spool;
    struct disk *disk;
    struct message_id id;
    void (*drained)(void *ctx);
    void (*done)(void *ctx, int err);
    void *ctx;
    struct stored_message *message; // to be marked, a reference
    struct chain queue;
    size_t row_bytes; // with the job
    bool running, over_window, finishing, aborted;
    int err;
    struct sys_job job;
    // the job's
    int job_err;
    struct chain row;
    bool last;
    struct disk_file *file;
    uint64_t bytes, flushed;
    struct buf sums;
    XXH3_state_t *block;
    size_t block_bytes;
};

// ---- in the job ---------------------------------------------------------------------------------

static void block_close(struct spool_extent *e)
{
    char sum[8];
    if (e->block_bytes == 0)
        return;
    le64_put(sum, XXH3_64bits_digest(e->block));
    buf_add(&e->sums, bytes_of(sum, sizeof(sum)));
    XXH3_64bits_reset(e->block);
    e->block_bytes = 0;
}

static void sum_up(struct spool_extent *e, struct bytes data)
{
    while (data.len) {
        struct bytes part = bytes_first(data, SPOOL_EXTENT_BLOCK - e->block_bytes);
        XXH3_64bits_update(e->block, part.at, part.len);
        e->block_bytes += part.len;
        data = bytes_skip(data, part.len);
        if (e->block_bytes == SPOOL_EXTENT_BLOCK)
            block_close(e);
    }
}

static int write_row(struct spool_extent *e)
{
    struct iovec iov[IOV_MAX_WRITE];
    int err = OK, n = 0;
    uint64_t at = e->bytes;
    for (const struct chunk *c = e->row.first; c && !err; c = c->next) {
        iov[n++] = (struct iovec){(void *)(uintptr_t)c->data, c->len};
        e->bytes += c->len;
        sum_up(e, bytes_of(c->data, c->len));
        if (n < IOV_MAX_WRITE && c->next)
            continue;
        err = disk_pwritev(e->file, iov, n, at);
        at = e->bytes;
        n = 0;
    }
    return err;
}

static int write_sums(struct spool_extent *e)
{
    block_close(e);
    struct iovec iov = {e->sums.at, e->sums.len};
    if (e->sums.err)
        return E_LIMIT;
    int err = e->sums.len ? disk_pwritev(e->file, &iov, 1, e->bytes) : OK;
    if (!err)
        err = disk_sync(e->file);
    return err ? err : disk_sync_dir(e->disk, EXTENT_DIRECTORY);
}

static int write_all(struct spool_extent *e)
{
    char name[EXTENT_NAME_BYTES];
    int err = OK;
    if (!e->file)
        err = disk_file_open(e->disk, extent_name(e->id, name),
                             DISK_WRITE | DISK_CREATE | DISK_TRUNCATE, &e->file);
    if (!err)
        err = write_row(e);
    if (!err && e->last)
        return write_sums(e);
    if (!err && e->bytes - e->flushed >= FLUSH_EVERY) {
        err = disk_sync(e->file);
        e->flushed = e->bytes;
    }
    return err;
}

static void remove_file(struct disk *disk, struct message_id id)
{
    char name[EXTENT_NAME_BYTES];
    int err = disk_unlink(disk, extent_name(id, name));
    if (err && err != E_NOT_FOUND)
        log_warn("spool extent not removed", LOG_CSTR("file", name), LOG_ERR(err));
}

static void run_write(struct sys_job *job)
{
    struct spool_extent *e = container_of(job, struct spool_extent, job);
    e->job_err = write_all(e);
    chain_done(&e->row);
}

static void run_discard(struct sys_job *job)
{
    struct spool_extent *e = container_of(job, struct spool_extent, job);
    if (!e->file)
        return;
    disk_file_close(e->file);
    e->file = NULL;
    remove_file(e->disk, e->id);
}

// ---- on the loop --------------------------------------------------------------------------------

static void extent_free(struct spool_extent *e)
{
    if (e->file)
        disk_file_close(e->file);
    chain_done(&e->queue);
    buf_done(&e->sums);
    stored_message_unref(e->message);
    XXH3_freeState(e->block);
    free(e);
}

static void start_job(struct spool_extent *e, void (*run)(struct sys_job *),
                      void (*done)(struct sys_job *))
{
    e->running = true;
    e->job = (struct sys_job){.kind = SYS_JOB_DISK, .run = run, .done = done};
    sys_offload(&e->job);
}

static void on_discarded(struct sys_job *job)
{
    struct spool_extent *e = container_of(job, struct spool_extent, job);
    if (!e->aborted)
        e->done(e->ctx, e->err);
    extent_free(e);
}

static void succeed(struct spool_extent *e)
{
    struct stored_message *m = e->message;
    m->body_in_extent = true;
    m->envelope->body_bytes = e->bytes;
    m->extent_sum = record_hash(buf_bytes(&e->sums));
    atomic_fetch_add(&e->spool->extents, 1);
    atomic_fetch_add(&e->spool->extent_bytes, e->bytes + e->sums.len);
    e->done(e->ctx, OK);
    extent_free(e);
}

static void proceed(struct spool_extent *e);

static void on_written(struct sys_job *job)
{
    struct spool_extent *e = container_of(job, struct spool_extent, job);
    e->running = false;
    e->row_bytes = 0;
    e->err = e->job_err;
    if (e->err) // what waits is for nothing; who was told to wait must hear of it
        chain_done(&e->queue);
    if (e->over_window && spool_extent_pending(e) <= SPOOL_EXTENT_WINDOW / 2 && !e->finishing &&
        !e->aborted) {
        e->over_window = false;
        if (e->drained)
            e->drained(e->ctx); // may abort, finish or write
    }
    if (!e->running)
        proceed(e);
}

// Starts the next job, if there is something to do.
static void proceed(struct spool_extent *e)
{
    if (e->aborted || (e->err && e->finishing)) {
        start_job(e, run_discard, on_discarded);
    } else if (e->last) {
        succeed(e);
    } else if (!e->err && (e->queue.len || e->finishing)) { // else finish or abort will follow
        e->row = e->queue;
        e->row_bytes = e->row.len;
        e->queue = (struct chain){0};
        e->last = e->finishing;
        start_job(e, run_write, on_written);
    }
}

struct spool_extent *spool_extent_begin(struct spool *spool, struct message_id id,
                                        void (*drained)(void *ctx), void *ctx)
{
    struct spool_extent *e = mem_new(sizeof(*e));
    e->spool = spool;
    e->disk = spool->journal->disk;
    e->id = id;
    e->drained = drained;
    e->ctx = ctx;
    e->block = XXH3_createState();
    CHECK(e->block);
    XXH3_64bits_reset(e->block);
    return e;
}

void spool_extent_write(struct spool_extent *e, struct chain *from)
{
    CHECK(!e->finishing && !e->aborted);
    if (e->err) {
        chain_done(from);
        return;
    }
    chain_move(&e->queue, from);
    if (spool_extent_pending(e) > SPOOL_EXTENT_WINDOW)
        e->over_window = true;
    if (!e->running)
        proceed(e);
}

size_t spool_extent_pending(const struct spool_extent *e)
{
    return e->queue.len + e->row_bytes;
}

int spool_extent_error(const struct spool_extent *e)
{
    return e->err;
}

void spool_extent_finish(struct spool_extent *e, struct stored_message *m,
                         void (*done)(void *ctx, int err))
{
    CHECK(!e->finishing && !e->aborted && m->body.len == 0);
    e->finishing = true;
    e->message = stored_message_ref(m);
    e->done = done;
    if (!e->running)
        proceed(e);
}

void spool_extent_abort(struct spool_extent *e)
{
    e->aborted = true;
    chain_done(&e->queue);
    if (!e->running)
        proceed(e);
}

// ---- removing -----------------------------------------------------------------------------------

struct removal {
    struct sys_job job;
    struct spool *spool;
    struct message_id id;
    uint64_t bytes;
};

static void run_removal(struct sys_job *job)
{
    struct removal *r = container_of(job, struct removal, job);
    char name[EXTENT_NAME_BYTES];
    struct disk_file *file;
    struct disk *disk = r->spool->journal->disk;
    if (disk_file_open(disk, extent_name(r->id, name), DISK_READ, &file))
        return;
    if (disk_size(file, &r->bytes))
        r->bytes = 0;
    disk_file_close(file);
    remove_file(disk, r->id);
}

static void on_removed(struct sys_job *job)
{
    struct removal *r = container_of(job, struct removal, job);
    if (r->bytes) {
        atomic_fetch_sub(&r->spool->extents, 1);
        atomic_fetch_sub(&r->spool->extent_bytes, r->bytes);
    }
    free(r);
}

void spool_extent_remove(struct spool *spool, struct message_id id)
{
    struct removal *r = mem_new(sizeof(*r));
    *r = (struct removal){.spool = spool,
                          .id = id,
                          .job = {.kind = SYS_JOB_DISK, .run = run_removal, .done = on_removed}};
    sys_offload(&r->job);
}
