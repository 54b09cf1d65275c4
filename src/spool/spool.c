// SPDX-License-Identifier: MIT
//
// How it works. Frames arrive as posts and are collected until the end of the turn. A flush starts
// then if the last one's mark is past (flush_mark_after()), or if nobody who is still sending could
// share it and about as many as usual are waiting; else a timer waits for that mark. The flush
// blocks this loop and no other; whoever commits meanwhile is found in the inbox when it is over.
//
// When a flush fails, intake has been refused by the journal and outcomes are still in `pending`.
// One more segment is tried at once; then the spool is `failing`: intake is refused on arrival, and
// a timer retries.
#include "spool/spool.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "spool/spool_internal.h"
#include "spool/spool_reader.h"

// ---- frames that are through --------------------------------------------------------------------

static void finish(struct spool_frame *f)
{
    void (*done)(void *, int) = f->done;
    void *ctx = f->ctx;
    int err = f->err;
    spool_frame_free(f);
    if (done)
        done(ctx, err);
}

static void run_finish(struct sys_task *task)
{
    finish(container_of(task, struct spool_frame, task));
}

static void send_back(struct spool_frame *f)
{
    if (!f->home) {
        finish(f);
        return;
    }
    f->task.run = run_finish;
    sys_post(f->home, &f->task);
}

static void send_back_all(struct list *frames)
{
    struct list *link;
    while ((link = list_pop_front(frames)))
        send_back(list_get(link, struct spool_frame, link));
}

static void refuse_intake(struct spool *spool, int err)
{
    list_each(link, &spool->pending)
    {
        struct spool_frame *f = list_get(link, struct spool_frame, link);
        if (f->kind != SPOOL_INTAKE)
            continue;
        list_remove(&f->link);
        f->err = err;
        send_back(f);
    }
    spool->pending_intake = 0;
}

// ---- state for other threads --------------------------------------------------------------------

static void publish_stats(struct spool *spool)
{
    const struct journal *j = spool->journal;
    struct spool_atomic_stats *s = &spool->stats;
    s->flushes = j->counts.flushes;
    s->flush_failures = j->counts.flush_failures;
    s->frames = j->counts.frames;
    s->records = j->counts.records;
    s->written_bytes = j->counts.written_bytes;
    s->segments = j->live_count + j->free_count;
    s->free_segments = j->free_count;
    s->segment_bytes = j->file_bytes;
    s->live_messages = j->table.count;
    s->live_bytes = j->live_bytes;
    s->compacted_bytes = j->counts.compacted_bytes;
    s->damaged_records = j->counts.damaged;
    s->sequence = j->last_sequence;
    s->table_recipient_bytes = table_recipient_bytes(&j->table);
    s->table_message_bytes = table_bytes(&j->table) - s->table_recipient_bytes;
}

static bool within_bytes_max(const struct spool *spool)
{
    uint64_t used = spool->journal->file_bytes + atomic_load(&spool->extent_bytes);
    return spool->options.bytes_max == 0 || used <= spool->options.bytes_max;
}

static void fire_watches(struct spool *spool)
{
    struct spool_watch *w = spool->watches;
    spool->watches = NULL;
    while (w) {
        struct spool_watch *next = w->next;
        w->armed = false;
        sys_post(w->loop, &w->task);
        w = next;
    }
}

// Before the first segment of this run: all that was recovered.
static uint64_t last_mark(const struct journal *j, uint64_t mark)
{
    const struct list *last = j->live.prev;
    if (mark || last == &j->live)
        return mark;
    const struct segment *s = list_get(last, struct segment, link);
    return watermark_of(s->head.number, s->end);
}

static void check_space(struct spool *spool)
{
    spool->journal->can_create = journal_check_space(spool->journal) && within_bytes_max(spool);
}

// True if another segment will soon be needed and none is free for intake.
static bool needs_another(const struct journal *j)
{
    return j->free_count <= j->reserve &&
           (!j->open || j->open->size - j->offset < j->open->size / 2);
}

// Before anybody is told that it is flushed.
static void publish_mark(struct spool *spool)
{
    const struct journal *j = spool->journal;
    uint64_t mark = atomic_load(&spool->watermark);
    uint64_t now = j->open ? watermark_of(j->open->head.number, j->offset) : last_mark(j, mark);
    if (now == mark)
        return;
    atomic_store(&spool->watermark, now);
    fire_watches(spool);
}

static void tell_room(struct spool *spool, bool room)
{
    const struct journal *j = spool->journal;
    if (room == !spool->short_told)
        return;
    spool->short_told = !room;
    if (room)
        log_info("spool has room again: intake goes on");
    else
        log_error("spool has no room: intake refused",
                  LOG_CSTR("because", within_bytes_max(spool) ? "the disk is nearly full"
                                                              : "the spool's limit is reached"),
                  LOG_INT("segments", j->live_count), LOG_INT("live_bytes", j->live_bytes));
}

void spool_publish(struct spool *spool)
{
    struct journal *j = spool->journal;
    if (needs_another(j))
        check_space(spool); // better known before intake is refused than then
    bool room = journal_has_room(j) && within_bytes_max(spool);
    bool accepting = !spool->failing && !spool->stopping && room;
    atomic_store(&spool->accepting, accepting);
    if (!spool->failing && !spool->stopping)
        tell_room(spool, room);
    atomic_store(&spool->blocked, spool->failing || spool->stopping);
    publish_stats(spool);
    publish_mark(spool);
}

bool spool_accepting(const struct spool *spool)
{
    return atomic_load(&spool->accepting);
}

bool spool_outcomes_blocked(const struct spool *spool)
{
    int64_t since = atomic_load(&spool->flush_since_us);
    return atomic_load(&spool->blocked) || (since && sys_mono().us - since > SPOOL_FLUSH_SLOW_US);
}

void spool_expect(struct spool *spool, int change)
{
    atomic_fetch_add(&spool->expected, change);
}

void spool_get_stats(const struct spool *spool, struct spool_stats *out)
{
    const struct spool_atomic_stats *s = &spool->stats;
    *out = (struct spool_stats){
        .flushes = s->flushes,
        .flush_failures = s->flush_failures,
        .flush_us = s->flush_us,
        .frames = s->frames,
        .records = s->records,
        .written_bytes = s->written_bytes,
        .segments = s->segments,
        .free_segments = s->free_segments,
        .segment_bytes = s->segment_bytes,
        .live_messages = s->live_messages,
        .live_bytes = s->live_bytes,
        .extents = spool->extents,
        .extent_bytes = spool->extent_bytes,
        .compacted_bytes = s->compacted_bytes,
        .damaged_records = s->damaged_records,
        .sequence = s->sequence,
        .table_message_bytes = s->table_message_bytes,
        .table_recipient_bytes = s->table_recipient_bytes,
    };
}

// ---- extents of settled messages ----------------------------------------------------------------

static void remover_run(struct sys_job *job)
{
    struct spool_remover *r = container_of(job, struct spool_remover, job);
    for (uint32_t i = 0; i < r->count; i++) {
        char name[EXTENT_NAME_BYTES];
        struct disk_file *file;
        uint64_t size = 0;
        if (disk_file_open(r->disk, extent_name(r->ids[i], name), DISK_READ, &file))
            continue;
        if (disk_size(file, &size))
            size = 0;
        disk_file_close(file);
        if (disk_unlink(r->disk, name)) {
            log_warn("spool extent not removed", LOG_CSTR("file", name));
            continue;
        }
        r->removed++;
        r->removed_bytes += size;
    }
}

static void remove_extents(struct spool *spool);

static void remover_done(struct sys_job *job)
{
    struct spool *spool = container_of(job, struct spool, remover.job);
    struct spool_remover *r = &spool->remover;
    atomic_fetch_sub(&spool->extents, r->removed);
    atomic_fetch_sub(&spool->extent_bytes, r->removed_bytes);
    free(r->ids);
    r->ids = NULL;
    r->running = false;
    if (!spool->stopping)
        remove_extents(spool);
}

static void remove_extents(struct spool *spool)
{
    struct spool_remover *r = &spool->remover;
    if (r->running || spool->backup || spool->journal->settled_count == 0)
        return;
    r->ids = journal_take_settled(spool->journal, &r->count);
    r->disk = spool->journal->disk;
    r->removed = r->removed_bytes = 0;
    r->running = true;
    r->job = (struct sys_job){.kind = SYS_JOB_DISK, .run = remover_run, .done = remover_done};
    sys_offload(&r->job);
}

// ---- segments made ahead ------------------------------------------------------------------------

#define MAKE_BYTES ((size_t)1 << 20)

static void maker_run(struct sys_job *job)
{
    struct spool_maker *m = container_of(job, struct spool_maker, job);
    char name[SEGMENT_NAME_BYTES], *zeros = mem_new(MAKE_BYTES);
    int err = disk_file_open(m->disk, segment_name(m->slot, name),
                             DISK_READ | DISK_WRITE | DISK_CREATE | DISK_TRUNCATE, &m->file);
    bool opened = err == OK;
    for (uint64_t at = 0; !err && at < m->size; at += MAKE_BYTES) {
        struct iovec iov = {zeros, m->size - at < MAKE_BYTES ? (size_t)(m->size - at) : MAKE_BYTES};
        err = disk_pwritev(m->file, &iov, 1, at);
    }
    if (!err) // XFS, which saw the file grow, has set as much again aside behind its end
        err = disk_truncate(m->file, m->size);
    if (!err)
        err = disk_sync(m->file);
    if (!err)
        err = disk_sync_dir(m->disk, SEGMENT_DIRECTORY);
    if (err && opened) {
        disk_file_close(m->file);
        if (disk_unlink(m->disk, name))
            log_warn("spool segment not removed", LOG_CSTR("file", name));
    }
    free(zeros);
    m->err = err;
}

static void make_ahead(struct spool *spool);

static void maker_done(struct sys_job *job)
{
    struct spool *spool = container_of(job, struct spool, maker.job);
    struct spool_maker *m = &spool->maker;
    m->running = false;
    spool->journal->reserved_slot = JOURNAL_NO_SLOT;
    if (m->err) {
        // Whatever it is, room that check_space() sees does not end it.
        log_error("spool can't make a segment", LOG_ERR(m->err));
        spool->journal->can_create = false;
        spool->make_after = mono_add_ms(sys_mono(), SPOOL_MAKE_PAUSE_MS);
    } else {
        journal_add_free(spool->journal, m->slot, m->file, m->size);
    }
    spool_publish(spool);
    if (!spool->stopping)
        make_ahead(spool);
}

static void make_ahead(struct spool *spool)
{
    struct journal *j = spool->journal;
    struct spool_maker *m = &spool->maker;
    if (m->running || !j->can_create || j->free_count >= j->reserve + SPOOL_AHEAD_SEGMENTS ||
        sys_mono().us < spool->make_after.us)
        return;
    check_space(spool);
    if (!j->can_create)
        return;
    *m = (struct spool_maker){.running = true,
                              .disk = j->disk,
                              .slot = journal_next_slot(j),
                              .size = j->segment_bytes,
                              .job = {.kind = SYS_JOB_DISK, .run = maker_run, .done = maker_done}};
    j->reserved_slot = m->slot;
    sys_offload(&m->job);
}

// Segments come free in lots, when the followers have flushed what they read: as many are kept as that
// time takes at the present pace, since to make one costs as much as to write it full.
static uint32_t spare_segments(struct spool *spool)
{
    struct journal *j = spool->journal;
    uint32_t lot = (uint32_t)(j->next_number - spool->ticked_number) * SPOOL_LOT_TICKS;
    spool->ticked_number = j->next_number;
    spool->lot = lot > spool->lot ? lot : spool->lot > 0 ? spool->lot - 1 : 0;
    uint64_t most = spool->options.bytes_max / 8 / j->segment_bytes; // free files count, too
    if (spool->options.bytes_max && spool->lot > most)
        spool->lot = (uint32_t)most;
    return spool->lot > SPOOL_SPARE_SEGMENTS ? spool->lot : SPOOL_SPARE_SEGMENTS;
}

static void drop_surplus(struct spool *spool)
{
    struct journal *j = spool->journal;
    if (j->free_count > j->reserve + spare_segments(spool))
        journal_drop_free(j);
}

bool spool_is_copied(const struct spool *spool, const struct segment *s)
{
    for (uint32_t i = 0; i < spool->options.followers; i++)
        if (atomic_load(&spool->copied[i]) < s->last_sequence)
            return false;
    return true;
}

// For how many ticks there has been something to read, and it has come no further.
static void watch_history(struct spool *spool)
{
    uint64_t copied = atomic_load(&spool->copied[SPOOL_HISTORY]);
    bool stands = copied < spool->journal->last_sequence && copied == spool->ticked_copied;
    spool->history_stands = stands ? spool->history_stands + 1 : 0;
    spool->ticked_copied = copied;
}

// On a full disk the history may be what can't write. It is worth less than that mail goes out and comes in; the list
// of suppressed addresses is not.
static bool history_is_in_the_way(const struct spool *spool, const struct segment *s)
{
    bool no_room = spool->short_told || (spool->failing && spool->full);
    for (uint32_t i = SPOOL_HISTORY + 1; i < spool->options.followers; i++)
        if (atomic_load(&spool->copied[i]) < s->last_sequence)
            return false;
    return no_room && spool->history_stands >= SPOOL_HISTORY_TICKS;
}

bool spool_may_free(struct spool *spool, const struct segment *s, uint32_t live)
{
    if (spool_is_copied(spool, s))
        return true;
    if (live <= spool->options.copied_lag_segments && !history_is_in_the_way(spool, s))
        return false;
    if (!spool->lag_told)
        log_error("spool frees records that its followers have not read",
                  LOG_INT("segments", live));
    spool->lag_told = true;
    return true;
}

// ---- group commit -------------------------------------------------------------------------------

static void housekeeping(struct spool *spool)
{
    if (spool->stopping)
        return;
    make_ahead(spool);
    remove_extents(spool);
    backup_consider(spool);
    if (!spool->failing || spool->full)
        compact_consider(spool);
}

static void set_failing(struct spool *spool, int err)
{
    if (!spool->failing)
        log_error("spool is failing: intake refused, outcomes wait", LOG_ERR(err));
    spool->retry_ms = spool->failing ? spool->retry_ms * 2 : SPOOL_RETRY_MS_MIN;
    if (spool->retry_ms > SPOOL_RETRY_MS_MAX)
        spool->retry_ms = SPOOL_RETRY_MS_MAX;
    spool->failing = true;
    spool->full = err == E_FULL;
    sys_timer_set(&spool->retry_timer, mono_add_ms(sys_mono(), spool->retry_ms));
}

// Intake whose flush failed: while no new segment states where the failed one ends, a power cut could
// bring it back. Its refusal waits for that, but not for ever.
static void withhold(struct spool *spool, struct list *done)
{
    list_each(link, done)
    {
        struct spool_frame *f = list_get(link, struct spool_frame, link);
        if (f->kind != SPOOL_INTAKE || !f->voided)
            continue;
        list_remove(&f->link);
        list_push_back(&spool->withheld, &f->link);
    }
    if (!sys_timer_is_set(&spool->withheld_timer) && !list_is_empty(&spool->withheld))
        sys_timer_set(&spool->withheld_timer, mono_add_ms(sys_mono(), SPOOL_WITHHOLD_MS));
}

static void on_withheld_timer(struct sys_timer *timer)
{
    send_back_all(&container_of(timer, struct spool, withheld_timer)->withheld);
}

// Frames taken back by a failed flush get one more segment at once. OK: nothing is pending any
// more.
static int commit_pending(struct spool *spool)
{
    struct list done;
    list_init(&done);
    int err = journal_commit(spool->journal, &spool->pending, &done);
    if (err) {
        refuse_intake(spool, err == E_FULL ? E_FULL : E_IO);
        err = journal_reopen(spool->journal);
    }
    if (!err && !list_is_empty(&spool->pending))
        err = journal_commit(spool->journal, &spool->pending, &done);
    if (!err)
        err = journal_reopen(spool->journal);
    publish_mark(spool);
    if (err)
        withhold(spool, &done);
    else
        send_back_all(&spool->withheld);
    send_back_all(&done);
    return err;
}

// SPOOL_FLUSH_EVERY_MS after its start. One that took long waits for up to three quarters as long again
// as it took, so that those whom it answered can share the next: else the senders would fall into two
// groups, one sending while the other's flush runs, and each flush carry half of them.
static struct mono flush_mark_after(struct mono started, struct mono ended)
{
    int64_t every = (int64_t)SPOOL_FLUSH_EVERY_MS * 1000,
            rest_max = (int64_t)SPOOL_REST_MS_MAX * 1000;
    int64_t took = ended.us - started.us;
    int64_t rest = took * 3 / 4 < rest_max ? took * 3 / 4 : rest_max;
    return (struct mono){took + rest > every ? ended.us + rest : started.us + every};
}

static void flush(struct spool *spool)
{
    struct mono started = sys_mono();
    atomic_store(&spool->flush_since_us, started.us);
    sys_timer_stop(&spool->flush_timer);
    if (spool->pending_intake)
        spool->answered = spool->pending_intake;
    spool->pending_intake = 0;
    spool->just_flushed = true;
    sys_hand_over(); // this loop blocks now
    int err = commit_pending(spool);
    atomic_store(&spool->flush_since_us, 0);
    sys_hand_over(); // nobody waits for the housekeeping
    struct mono ended = sys_mono_now();
    spool->flush_mark = flush_mark_after(started, ended);
    spool->stats.flush_us += (unsigned long long)(ended.us - started.us);
    if (err) {
        set_failing(spool, err);
    } else if (spool->failing) {
        log_info("spool works again");
        spool->failing = false;
    }
    spool_publish(spool);
    housekeeping(spool);
}

static bool flush_is_due(struct spool *spool)
{
    if (sys_mono().us >= spool->flush_mark.us)
        return true;
    if (spool->pending_intake >= SPOOL_FLUSH_WORTH)
        return true;
    return spool->pending_intake && atomic_load(&spool->expected) <= 0 &&
           spool->pending_intake * 4 >= spool->round * 3;
}

// A failing disk is tried when its timer says; but a full one is no reason to stop making room.
static bool may_flush(const struct spool *spool)
{
    return !list_is_empty(&spool->pending) && !spool->stopping &&
           (!spool->failing || (spool->full && (spool->compact || spool->tail_pending)));
}

static void on_turn_end(struct sys_turn_end *end)
{
    struct spool *spool = container_of(end, struct spool, turn_end);
    if (spool->just_flushed) // the first turn since: these came while it ran
        spool->round = spool->answered + spool->pending_intake;
    spool->just_flushed = false;
    if (!may_flush(spool))
        return;
    if (flush_is_due(spool))
        flush(spool);
    else if (!sys_timer_is_set(&spool->flush_timer))
        sys_timer_set(&spool->flush_timer, spool->flush_mark);
}

static void on_flush_timer(struct sys_timer *timer)
{
    struct spool *spool = container_of(timer, struct spool, flush_timer);
    if (may_flush(spool))
        flush(spool);
}

static void on_retry_timer(struct sys_timer *timer)
{
    struct spool *spool = container_of(timer, struct spool, retry_timer);
    if (!spool->stopping)
        flush(spool);
}

static void on_tick(struct sys_timer *timer)
{
    struct spool *spool = container_of(timer, struct spool, tick);
    if (spool->stopping)
        return;
    check_space(spool);
    drop_surplus(spool);
    watch_history(spool);
    spool_publish(spool);
    housekeeping(spool);
    sys_timer_set(&spool->tick, mono_add_ms(sys_mono(), SPOOL_TICK_MS));
}

static void arrive(struct spool *spool, struct spool_frame *f)
{
    int err = spool->stopping ? E_CLOSED : spool->failing && f->kind == SPOOL_INTAKE ? E_IO : OK;
    if (err) {
        f->err = err;
        send_back(f);
        return;
    }
    spool->pending_intake += f->kind == SPOOL_INTAKE;
    list_push_back(&spool->pending, &f->link);
    sys_at_turn_end(&spool->turn_end);
}

static void run_arrive(struct sys_task *task)
{
    struct spool_frame *f = container_of(task, struct spool_frame, task);
    if (f->expected)
        atomic_fetch_sub(&f->spool->expected, 1);
    arrive(f->spool, f);
}

void spool_commit(struct spool *spool, struct spool_frame *f, void (*done)(void *ctx, int err),
                  void *ctx)
{
    CHECK(spool->loop);
    f->spool = spool;
    f->home = sys_loop_self();
    f->done = done;
    f->ctx = ctx;
    f->task.run = run_arrive;
    sys_post(spool->loop, &f->task);
}

void spool_submit(struct spool *spool, struct spool_frame *f, void (*done)(void *ctx, int err),
                  void *ctx)
{
    f->spool = spool;
    f->internal = true;
    f->done = done;
    f->ctx = ctx;
    arrive(spool, f);
}

// ---- watching -----------------------------------------------------------------------------------

static void run_watch(struct sys_task *task)
{
    struct spool_watch *w = container_of(task, struct spool_watch, arm);
    if (atomic_load(&w->spool->watermark) != w->seen || w->spool->stopping) {
        w->armed = false;
        sys_post(w->loop, &w->task);
        return;
    }
    w->next = w->spool->watches;
    w->spool->watches = w;
}

void spool_watch_from(struct spool *spool, struct spool_watch *w, uint64_t seen)
{
    CHECK(spool->home && w->loop && w->task.run && !w->armed);
    w->armed = true;
    w->spool = spool;
    w->seen = seen;
    w->arm.run = run_watch;
    sys_post(spool->home, &w->arm); // a stopped one drops it: nothing more will come
}

uint64_t spool_flushed(const struct spool *spool)
{
    return atomic_load(&spool->watermark);
}

void spool_copied(struct spool *spool, enum spool_follower who, uint64_t sequence)
{
    atomic_store(&spool->copied[who], sequence);
}

// ---- going on behind another journal --------------------------------------------------------------

struct raising {
    struct sys_task task;
    struct spool *spool;
    uint64_t sequence;
};

static void run_raise(struct sys_task *task)
{
    struct raising *r = container_of(task, struct raising, task);
    struct journal *j = r->spool->journal;
    if (j->next_sequence <= r->sequence) {
        log_warn(
            "the history has read further than this journal goes: its numbers go on from there",
            LOG_INT("read", r->sequence), LOG_INT("journal", j->last_sequence));
        j->next_sequence = r->sequence + 1;
    }
    free(r);
}

void spool_go_on_behind(struct spool *spool, uint64_t sequence)
{
    struct raising *r = mem_new(sizeof *r);
    *r = (struct raising){{NULL, run_raise}, spool, sequence};
    sys_post(spool->home, &r->task);
}

// ---- telling the rest ---------------------------------------------------------------------------

static void run_tell(struct sys_task *task)
{
    struct spool *spool = container_of(task, struct spool, tell);
    if (spool->stopping)
        return;
    int err = journal_tell(spool->journal, SPOOL_TELL_SLICE);
    bool all = !journal_is_telling(spool->journal);
    if (all)
        atomic_store(&spool->telling, false);
    spool->on_slice(spool->on_slice_ctx, all);
    if (err) {
        log_error("spool index can't be read, trying again", LOG_ERR(err));
        sys_timer_set(&spool->tell_timer, mono_add_ms(sys_mono(), SPOOL_TELL_RETRY_MS));
    } else if (!all) {
        sys_post(spool->loop, &spool->tell);
    }
}

static void on_tell_timer(struct sys_timer *timer)
{
    run_tell(&container_of(timer, struct spool, tell_timer)->tell);
}

void spool_tell_rest(struct spool *spool)
{
    CHECK(spool->loop && spool->on_slice);
    spool->tell.run = run_tell;
    sys_post(spool->loop, &spool->tell);
}

bool spool_is_telling(const struct spool *spool)
{
    return atomic_load(&spool->telling);
}

// ---- open, start, stop --------------------------------------------------------------------------

static bool file_exists(struct disk *disk, const char *name)
{
    struct disk_file *file;
    if (disk_file_open(disk, name, DISK_READ, &file))
        return false;
    disk_file_close(file);
    return true;
}

// Before any mail is taken, and for good: nobody may believe it of a spool that died.
static int remove_empty_mark(struct disk *disk)
{
    int err = disk_unlink(disk, SPOOL_EMPTY_FILE);
    if (err)
        return err == E_NOT_FOUND ? OK : err;
    return disk_sync_dir(disk, "");
}

// For those who find the folder while nobody has it open. Without the mark there may be mail.
static void make_empty_mark(const struct journal *j)
{
    struct disk_file *file;
    if (j->table.count || j->retrying)
        return;
    list_each(link, &j->live)
    {
        if (list_get(link, struct segment, link)->unread)
            return;
    }
    if (disk_file_open(j->disk, SPOOL_EMPTY_FILE, DISK_WRITE | DISK_CREATE, &file) == OK)
        disk_file_close(file);
}

// What followers have to know of the last segment while no other says it.
static void note_recovered(struct spool *spool)
{
    const struct list *last = spool->journal->live.prev;
    if (last == &spool->journal->live)
        return;
    const struct segment *s = list_get(last, struct segment, link);
    spool->recovered = s->head.number;
    spool->recovered_sure = s->sure;
}

int spool_open(const struct spool_options *options, const struct spool_recovery *recovery,
               struct spool **out)
{
    struct journal *journal;
    int err = journal_open(options, recovery, &journal);
    if (err)
        return err;
    err = remove_empty_mark(journal->disk);
    if (err) {
        journal_close(journal);
        return err;
    }
    struct spool *spool = mem_new(sizeof(*spool));
    spool->journal = journal;
    spool->options = *options;
    spool->options.directory = NULL;
    if (!spool->options.copied_lag_segments)
        spool->options.copied_lag_segments = SPOOL_COPIED_LAG_SEGMENTS;
    spool->on_hold = file_exists(journal->disk, SPOOL_HOLD_FILE);
    spool->extents = journal->extents;
    spool->extent_bytes = journal->extent_bytes;
    note_recovered(spool);
    list_init(&spool->pending);
    list_init(&spool->withheld);
    spool->turn_end.fn = on_turn_end;
    spool->flush_timer.fire = on_flush_timer;
    spool->retry_timer.fire = on_retry_timer;
    spool->withheld_timer.fire = on_withheld_timer;
    spool->tick.fire = on_tick;
    spool->tell_timer.fire = on_tell_timer;
    if (recovery && recovery->on_slice) {
        spool->on_slice = recovery->on_slice;
        spool->on_slice_ctx = recovery->ctx;
        spool->telling = true;
    }
    check_space(spool);
    spool_publish(spool);
    *out = spool;
    return OK;
}

static void run_start(struct sys_task *task)
{
    struct spool *spool = container_of(task, struct spool, start);
    sys_run_promptly(); // a flush makes it wait several times, and all senders wait for the flush
    make_ahead(spool);
    spool->ticked_number = spool->journal->next_number;
    sys_timer_set(&spool->tick, mono_add_ms(sys_mono(), SPOOL_TICK_MS));
}

void spool_start(struct spool *spool)
{
    CHECK(!spool->loop);
    spool->loop = spool->home = sys_loop_start("spool");
    spool->start.run = run_start;
    sys_post(spool->loop, &spool->start);
}

static void run_stop(struct sys_task *task)
{
    struct spool *spool = container_of(task, struct spool, stop);
    struct list *link;
    if (!list_is_empty(&spool->pending) && commit_pending(spool))
        log_error("spool stops with outcomes that could not be written");
    spool->stopping = true;
    send_back_all(&spool->withheld);
    while ((link = list_pop_front(&spool->pending))) {
        struct spool_frame *f = list_get(link, struct spool_frame, link);
        f->err = E_CLOSED;
        send_back(f);
    }
    spool_publish(spool);
    fire_watches(spool);
    backup_stop(spool);
    sys_timer_stop(&spool->flush_timer);
    sys_timer_stop(&spool->retry_timer);
    sys_timer_stop(&spool->withheld_timer);
    sys_timer_stop(&spool->tell_timer);
    sys_timer_stop(&spool->tick);
}

void spool_stop(struct spool *spool)
{
    CHECK(spool->loop);
    struct sys_loop *loop = spool->loop;
    spool->stop.run = run_stop;
    sys_post(loop, &spool->stop);
    sys_loop_stop(loop);
    spool->loop = NULL;
}

void spool_close(struct spool *spool)
{
    CHECK(!spool->loop && list_is_empty(&spool->pending));
    compact_stop(spool);
    free(spool->remover.ids);
    make_empty_mark(spool->journal);
    journal_close(spool->journal);
    free(spool);
}

bool spool_is_on_hold(const struct spool *spool)
{
    return atomic_load(&spool->on_hold);
}

int spool_release_hold(struct spool *spool)
{
    int err = disk_unlink(spool->journal->disk, SPOOL_HOLD_FILE);
    if (err && err != E_NOT_FOUND)
        return err;
    err = disk_sync_dir(spool->journal->disk, "");
    if (!err)
        atomic_store(&spool->on_hold, false);
    return err;
}

struct message_id spool_next_id(struct spool *spool, struct wall now)
{
    return message_id_make(now, spool->options.node, spool->journal->epoch,
                           atomic_fetch_add(&spool->id_counter, 1));
}

struct disk *spool_disk(struct spool *spool)
{
    return spool->journal->disk;
}
