// SPDX-License-Identifier: MIT
//
// How it works. On the spool's loop, in one turn, the cut is fixed: the segments in use, each with its end.
// From then on nothing is freed or removed. A row of offload jobs copies PIECE_BYTES at a time: the sealed
// segments and their indexes as they are, the open one up to the watermark, then every extent that was there
// at the cut. Records that come later lie behind the ends and are not in the copy. The mark `hold` is made
// first, so that a copy that was interrupted can't be sent from either.
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "spool/spool_internal.h"

#define PIECE_BYTES ((size_t)4 << 20)

struct part {
    char name[EXTENT_NAME_BYTES];
    uint64_t size; // of the copy; bytes behind `end` but before `index` are holes
    uint64_t end;
};

struct backup {
    struct spool *spool;
    struct sys_loop *home;
    struct sys_task task;
    struct sys_job job;
    char *to;
    void (*done)(void *ctx, int err);
    void *ctx;
    struct spool_backup_watch *watch; // may be NULL
    int err;
    struct disk *from, *disk;
    struct part *parts;
    size_t count, cap, next;
    struct disk_file *in, *out;
    uint64_t at;
    char *piece;
    bool begun, finished;
};

// ---- in the job ---------------------------------------------------------------------------------

static struct part *add_part(struct backup *b)
{
    if (b->count == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 64;
        b->parts = mem_resize(b->parts, b->cap * sizeof(*b->parts));
    }
    struct part *p = &b->parts[b->count++];
    *p = (struct part){0};
    return p;
}

static void on_any_name(void *ctx, const char *name)
{
    if (strcmp(name, "lock") != 0)
        *(bool *)ctx = true;
}

static void on_extent_name(void *ctx, const char *name)
{
    struct backup *b = ctx;
    if (strlen(name) >= 32)
        return;
    struct part *p = add_part(b);
    snprintf(p->name, sizeof(p->name), EXTENT_DIRECTORY "/%s", name);
    p->size = p->end = UINT64_MAX; // all of it
}

static int make_hold(struct disk *disk)
{
    struct disk_file *file;
    int err = disk_file_open(disk, SPOOL_HOLD_FILE, DISK_WRITE | DISK_CREATE, &file);
    if (err)
        return err;
    err = disk_sync(file);
    disk_file_close(file);
    return err;
}

static int begin(struct backup *b)
{
    static const char *const names[] = {SEGMENT_DIRECTORY, EXTENT_DIRECTORY, "damaged"};
    bool used = false;
    int err = disk_open(b->to, &b->disk);
    if (!err)
        err = disk_lock(b->disk);
    if (!err)
        err = disk_list(b->disk, "", on_any_name, &used);
    if (!err && used)
        err = E_EXISTS;
    if (!err)
        err = make_hold(b->disk);
    for (size_t i = 0; !err && i < COUNT_OF(names); i++)
        err = disk_mkdir(b->disk, names[i]);
    if (!err)
        err = disk_sync_dir(b->disk, "");
    if (!err)
        err = disk_list(b->from, EXTENT_DIRECTORY, on_extent_name, b);
    b->piece = mem_new(PIECE_BYTES);
    b->begun = true;
    return err;
}

static int open_part(struct backup *b)
{
    const char *name = b->parts[b->next].name;
    b->at = 0;
    int err = disk_file_open(b->from, name, DISK_READ, &b->in);
    if (!err)
        err = disk_file_open(b->disk, name, DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &b->out);
    return err;
}

static int close_part(struct backup *b)
{
    struct part *p = &b->parts[b->next++];
    int err = p->size == UINT64_MAX ? OK : disk_truncate(b->out, p->size);
    if (!err)
        err = disk_sync(b->out);
    disk_file_close(b->in);
    disk_file_close(b->out);
    b->in = b->out = NULL;
    return err;
}

// Copies a piece of the current part; *out_end when there is no more of it.
static int copy_piece(struct backup *b, bool *out_end)
{
    uint64_t left = b->parts[b->next].end - b->at;
    size_t want = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES, got = 0;
    int err = want ? disk_pread(b->in, b->piece, want, b->at, &got) : OK;
    struct iovec iov = {b->piece, got};
    if (!err && got)
        err = disk_pwritev(b->out, &iov, 1, b->at);
    b->at += got;
    if (b->watch)
        atomic_fetch_add(&b->watch->copied, got);
    *out_end = got < want || got == left;
    return err;
}

static int copy_epoch(struct backup *b)
{
    bool end;
    struct part *p = add_part(b);
    snprintf(p->name, sizeof(p->name), "epoch");
    p->size = p->end = UINT64_MAX;
    b->next = b->count - 1;
    int err = open_part(b);
    if (!err)
        err = copy_piece(b, &end);
    return err ? err : close_part(b);
}

static int finish_copy(struct backup *b)
{
    int err = copy_epoch(b);
    if (!err)
        err = disk_sync_dir(b->disk, SEGMENT_DIRECTORY);
    if (!err)
        err = disk_sync_dir(b->disk, EXTENT_DIRECTORY);
    if (!err)
        err = disk_sync_dir(b->disk, "");
    b->finished = true;
    return err;
}

static int work(struct backup *b)
{
    bool end = false;
    if (!b->begun)
        return begin(b);
    if (b->next == b->count)
        return finish_copy(b);
    int err = b->in ? OK : open_part(b);
    if (err == E_NOT_FOUND && b->parts[b->next].size == UINT64_MAX) {
        b->next++; // an extent whose message was not accepted after all
        return OK;
    }
    if (!err)
        err = copy_piece(b, &end);
    return !err && end ? close_part(b) : err;
}

static void run_work(struct sys_job *job)
{
    struct backup *b = container_of(job, struct backup, job);
    b->err = work(b);
}

// ---- on the spool's loop ------------------------------------------------------------------------

static void backup_free(struct backup *b)
{
    if (b->in)
        disk_file_close(b->in);
    if (b->out)
        disk_file_close(b->out);
    if (b->disk)
        disk_close(b->disk);
    free(b->parts);
    free(b->piece);
    free(b->to);
    free(b);
}

static void run_tell(struct sys_task *task)
{
    struct backup *b = container_of(task, struct backup, task);
    b->done(b->ctx, b->err);
    backup_free(b);
}

static void tell(struct backup *b)
{
    b->task.run = run_tell;
    sys_post(b->home, &b->task);
}

static void on_worked(struct sys_job *job)
{
    struct backup *b = container_of(job, struct backup, job);
    if (!b->err && !b->finished &&
        (b->spool->stopping || (b->watch && atomic_load(&b->watch->stop))))
        b->err = E_CLOSED;
    if (!b->err && !b->finished) {
        sys_offload(&b->job);
        return;
    }
    log_info("backup", LOG_CSTR("to", b->to),
             LOG_CSTR("result", b->err ? err_text(b->err) : "complete"));
    b->spool->backup = NULL;
    tell(b);
}

static void add_segment(struct backup *b, const struct segment *s, bool open)
{
    struct part *p = add_part(b);
    segment_name(s->slot, p->name);
    p->size = s->size;
    p->end = open ? s->end : s->size;
}

void backup_consider(struct spool *spool)
{
    struct backup *b = spool->backup;
    struct journal *j = spool->journal;
    if (!b || b->from || spool->compact || spool->tail_pending)
        return; // what they are about to free must not be in the cut
    list_each(link, &j->live)
    {
        struct segment *s = list_get(link, struct segment, link);
        add_segment(b, s, s == j->open);
        if (b->watch)
            atomic_fetch_add(&b->watch->size, s == j->open ? s->end : s->size);
    }
    b->from = j->disk;
    b->job = (struct sys_job){.kind = SYS_JOB_DISK, .run = run_work, .done = on_worked};
    sys_offload(&b->job);
}

void backup_stop(struct spool *spool)
{
    struct backup *b = spool->backup;
    if (!b || b->from)
        return; // the job's end tells
    spool->backup = NULL;
    b->err = E_CLOSED;
    tell(b);
}

static void run_begin(struct sys_task *task)
{
    struct backup *b = container_of(task, struct backup, task);
    struct spool *spool = b->spool;
    if (spool->stopping || spool->backup) {
        b->err = spool->stopping ? E_CLOSED : E_BUSY;
        tell(b);
        return;
    }
    spool->backup = b; // nothing new is freed from now on
    backup_consider(spool);
}

void spool_backup(struct spool *spool, const char *to, struct spool_backup_watch *watch,
                  void (*done)(void *ctx, int err), void *ctx)
{
    CHECK(spool->loop);
    struct backup *b = mem_new(sizeof(*b));
    size_t len = strlen(to) + 1;
    b->spool = spool;
    b->home = sys_loop_self();
    b->watch = watch;
    b->done = done;
    b->ctx = ctx;
    b->to = mem_new(len);
    memcpy(b->to, to, len);
    b->task.run = run_begin;
    sys_post(spool->loop, &b->task);
}
