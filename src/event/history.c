// SPDX-License-Identifier: MIT
//
// How it works: the spool posts a watch when something new is flushed; the writer then waits a moment, so that
// many records share a transaction, and reads to the end. One file is open for writing, that of the records' day;
// a record of another day ends the transaction first, so that what is committed is always a prefix of the journal.
#include "event/history.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "event/history_file.h"

#define GATHER_MS 25       // after something new, before it is copied
#define ROWS_A_TURN 2000   // records in one transaction
#define CHECKPOINT_MS 2000 // how often what is copied is flushed, so that the journal may forget it
#define RETRY_MS 1000      // after a failure
#define RETENTION_MS 3600000
#define FILES_MAX 4096

struct history {
    struct sys_loop *loop;
    struct spool *spool;
    struct spool_reader *reader;
    struct spool_watch watch;
    char folder[4096];
    int64_t keep_ms;
    struct history_file file; // being written
    char day[9];              // its date; empty: none is open
    uint64_t last;            // copied, in committed transactions
    _Atomic uint64_t sequence;
    uint64_t flushed; // told to the spool
    struct sys_timer gather, checkpoint, retention;
    struct sys_task start, stop;
    bool stopping;
};

// ---- day files -------------------------------------------------------------------------------------------

static void day_of(struct wall at, char out[9])
{
    time_t seconds = (time_t)(at.us / 1000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(out, 9, "%Y%m%d", &tm);
}

static void path_of(const struct history *h, const char *day, char out[4200])
{
    snprintf(out, 4200, "%s/%s.db", h->folder, day);
}

static bool is_day_file(const char *name)
{
    return strlen(name) == 11 && strspn(name, "0123456789") == 8 && strcmp(name + 8, ".db") == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

struct days {
    char (*at)[9];
    size_t count;
};

// The days there are files of, oldest first. The caller frees `at`.
static struct days list_days(const struct history *h)
{
    struct days days = {mem_new(FILES_MAX * sizeof *days.at), 0};
    DIR *dir = opendir(h->folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) && days.count < FILES_MAX)
        if (is_day_file(entry->d_name))
            snprintf(days.at[days.count++], sizeof days.at[0], "%.8s", entry->d_name);
    if (dir)
        closedir(dir);
    qsort(days.at, days.count, sizeof *days.at, by_name);
    return days;
}

static uint64_t find_last_sequence(const struct history *h)
{
    struct days days = list_days(h);
    uint64_t last = 0;
    for (size_t i = 0; i < days.count; i++) {
        char path[4200];
        sqlite3 *db;
        path_of(h, days.at[i], path);
        if (history_file_open_reader(path, &db) != OK)
            continue;
        uint64_t sequence = history_file_sequence(db);
        last = sequence > last ? sequence : last;
        sqlite3_close(db);
    }
    free(days.at);
    return last;
}

static void forget_old_days(struct history *h)
{
    char oldest[9];
    day_of(wall_add_ms(sys_wall(), -h->keep_ms), oldest);
    struct days days = list_days(h);
    for (size_t i = 0; i < days.count && strcmp(days.at[i], oldest) < 0; i++) {
        char path[4200], side[4210];
        path_of(h, days.at[i], path);
        if (strcmp(days.at[i], h->day) == 0 || unlink(path) == -1)
            continue;
        snprintf(side, sizeof side, "%s-wal", path);
        unlink(side);
        snprintf(side, sizeof side, "%s-shm", path);
        unlink(side);
        log_info("history of a day deleted", LOG_CSTR("day", days.at[i]));
    }
    free(days.at);
}

// ---- copying ---------------------------------------------------------------------------------------------

static int open_day(struct history *h, const char *day)
{
    if (strcmp(h->day, day) == 0)
        return OK;
    if (h->day[0]) {
        (void)history_file_checkpoint(&h->file);
        history_file_close(&h->file);
    }
    h->day[0] = '\0';
    char path[4200];
    path_of(h, day, path);
    int err = history_file_open(path, &h->file);
    if (!err)
        snprintf(h->day, sizeof h->day, "%s", day);
    return err;
}

static struct wall time_of(const struct spool_record *record)
{
    return record->type == SPOOL_RECORD_MESSAGE   ? record->envelope->accepted_at
           : record->type == SPOOL_RECORD_OUTCOME ? record->outcome.at
                                                  : (struct wall){0};
}

// A transaction's worth of progress.
struct copy {
    struct history *history;
    bool open;
    uint64_t upto;
};

static int copy_commit(struct copy *c)
{
    if (!c->open) { // notes only: nothing to keep, but whoever waits for them need not
        if (c->upto > atomic_load(&c->history->sequence))
            atomic_store(&c->history->sequence, c->upto);
        return OK;
    }
    c->open = false;
    int err = history_file_commit(&c->history->file, c->upto);
    if (err) {
        history_file_rollback(&c->history->file);
        return err;
    }
    c->history->last = c->upto;
    atomic_store(&c->history->sequence, c->upto);
    return OK;
}

static int copy_record(struct copy *c, const struct spool_record *record)
{
    struct history *h = c->history;
    if (record->type == SPOOL_RECORD_NOTE) {
        c->upto = record->sequence;
        return OK;
    }
    char day[9];
    day_of(time_of(record), day);
    int err = strcmp(day, h->day) == 0 ? OK : copy_commit(c);
    if (!err)
        err = open_day(h, day);
    if (!err && !c->open) {
        err = history_file_begin(&h->file);
        c->open = err == OK;
    }
    if (!err)
        err = history_file_add(&h->file, record);
    if (!err)
        c->upto = record->sequence;
    return err;
}

// After a failure the reader has moved on while the file has not: it starts again behind what is committed.
static void start_over(struct history *h, int err)
{
    log_error("history not written, trying again", LOG_ERR(err));
    spool_reader_close(h->reader);
    h->reader = spool_reader_open(h->spool, h->last);
    sys_timer_set(&h->gather, mono_add_ms(sys_mono(), RETRY_MS));
}

// Copies up to ROWS_A_TURN records. OK: there may be more; E_AGAIN: nothing more is flushed.
static int copy_some(struct history *h)
{
    struct copy c = {.history = h, .upto = h->last};
    int err = OK;
    for (int i = 0; i < ROWS_A_TURN && !err; i++) {
        struct spool_record record;
        err = spool_reader_next(h->reader, &record);
        if (err == E_NOT_FOUND) {
            log_error("history fell behind: records were freed before they were copied");
            err = OK;
            continue;
        }
        if (!err)
            err = copy_record(&c, &record);
    }
    if (err && err != E_AGAIN) {
        if (c.open)
            history_file_rollback(&h->file);
        return err;
    }
    int committed = copy_commit(&c);
    return committed ? committed : err;
}

static void on_gathered(struct sys_timer *timer)
{
    struct history *h = container_of(timer, struct history, gather);
    int err = copy_some(h);
    if (err == OK)
        sys_timer_set(&h->gather, sys_mono()); // more, in another turn
    else if (err == E_AGAIN)
        spool_watch(h->reader, &h->watch);
    else
        start_over(h, err);
}

static void on_watch(struct sys_task *task)
{
    struct history *h = container_of(task, struct history, watch.task);
    if (!h->stopping)
        sys_timer_set(&h->gather, mono_add_ms(sys_mono(), GATHER_MS));
}

static void checkpoint(struct history *h)
{
    if (h->day[0] && h->flushed != h->last && history_file_checkpoint(&h->file)) {
        h->flushed = h->last;
        spool_copied(h->spool, h->flushed);
    }
}

static void on_checkpoint(struct sys_timer *timer)
{
    struct history *h = container_of(timer, struct history, checkpoint);
    checkpoint(h);
    sys_timer_set(&h->checkpoint, mono_add_ms(sys_mono(), CHECKPOINT_MS));
}

static void on_retention(struct sys_timer *timer)
{
    struct history *h = container_of(timer, struct history, retention);
    forget_old_days(h);
    sys_timer_set(&h->retention, mono_add_ms(sys_mono(), RETENTION_MS));
}

// ---- life ------------------------------------------------------------------------------------------------

static void on_start(struct sys_task *task)
{
    struct history *h = container_of(task, struct history, start);
    h->reader = spool_reader_open(h->spool, h->last);
    h->gather.fire = on_gathered;
    h->checkpoint.fire = on_checkpoint;
    h->retention.fire = on_retention;
    h->watch.task.run = on_watch;
    h->watch.loop = h->loop;
    sys_timer_set(&h->gather, sys_mono());
    on_checkpoint(&h->checkpoint);
    on_retention(&h->retention);
}

int history_start(struct bytes state_folder, struct spool *spool, int64_t keep_ms,
                  struct history **out)
{
    struct history *h = mem_new(sizeof *h);
    h->spool = spool;
    h->keep_ms = keep_ms;
    snprintf(h->folder, sizeof h->folder, "%.*s/events", BYTES_FMT(state_folder));
    if (mkdir(h->folder, 0700) == -1 && errno != EEXIST) {
        int err = err_from_errno(errno);
        free(h);
        return err;
    }
    h->last = find_last_sequence(h);
    atomic_store(&h->sequence, h->last);
    h->loop = sys_loop_start("event");
    h->start.run = on_start;
    sys_post(h->loop, &h->start);
    *out = h;
    return OK;
}

static void on_stop(struct sys_task *task)
{
    struct history *h = container_of(task, struct history, stop);
    h->stopping = true;
    while (copy_some(h) == OK)
        ;
    checkpoint(h);
    sys_timer_stop(&h->gather);
    sys_timer_stop(&h->checkpoint);
    sys_timer_stop(&h->retention);
    spool_reader_close(h->reader);
    if (h->day[0])
        history_file_close(&h->file);
}

void history_stop(struct history *h)
{
    h->stop.run = on_stop;
    sys_post(h->loop, &h->stop);
    sys_loop_stop(h->loop);
    free(h);
}

uint64_t history_sequence(const struct history *h)
{
    return atomic_load(&h->sequence);
}

void history_wait(const struct history *h)
{
    struct spool_stats stats;
    struct timespec pause = {0, 2000000};
    spool_get_stats(h->spool, &stats);
    for (int waited = 0; history_sequence(h) < stats.sequence && waited < HISTORY_WAIT_MS;
         waited += 2)
        nanosleep(&pause, NULL);
}

// ---- questions -------------------------------------------------------------------------------------------

static sqlite3 *open_reader(const struct history *h, const char *day)
{
    char path[4200];
    sqlite3 *db;
    path_of(h, day, path);
    return history_file_open_reader(path, &db) == OK ? db : NULL;
}

// Events on later days lack the address, which stands in the file of the acceptance.
struct with_addresses {
    const struct history_reader *reader;
    sqlite3 *acceptance;
};

static void pass_with_address(void *ctx, const struct history_event *event)
{
    struct with_addresses *w = ctx;
    struct history_event e = *event;
    struct buf address = {0};
    if (!e.address.len && e.recipient &&
        history_file_address(w->acceptance, e.id, e.recipient, &address) == OK)
        e.address = buf_bytes(&address);
    w->reader->on_event(w->reader->ctx, &e);
    buf_done(&address);
}

int history_show(struct history *h, struct message_id id, const struct history_reader *reader)
{
    char first[9];
    day_of(message_id_time(id), first);
    struct days days = list_days(h);
    struct with_addresses with = {.reader = reader};
    struct history_reader through = {&with, NULL, pass_with_address};
    int err = OK;
    for (size_t i = 0; i < days.count && !err; i++) {
        if (strcmp(days.at[i], first) < 0)
            continue;
        sqlite3 *db = open_reader(h, days.at[i]);
        if (!db)
            continue;
        // A message that arrives around midnight is accepted on the day after its number was given.
        if (!with.acceptance && history_file_find_message(db, id, reader) == OK)
            with.acceptance = db;
        if (with.acceptance)
            err = history_file_events_of(db, id, &through);
        if (db != with.acceptance)
            sqlite3_close(db);
    }
    bool found = with.acceptance != NULL;
    sqlite3_close(with.acceptance);
    free(days.at);
    return found ? err : E_NOT_FOUND;
}

int history_find(struct history *h, const struct history_filter *filter, size_t max,
                 void (*found)(void *ctx, struct message_id id), void *ctx)
{
    char oldest[9];
    day_of(filter->since, oldest);
    struct days days = list_days(h);
    int err = OK;
    for (size_t i = days.count; i > 0 && max > 0 && !err; i--) {
        if (strcmp(days.at[i - 1], oldest) < 0)
            break;
        sqlite3 *db = open_reader(h, days.at[i - 1]);
        if (!db)
            continue;
        size_t count;
        err = history_file_find(db, filter, max, found, ctx, &count);
        max -= count < max ? count : max;
        sqlite3_close(db);
    }
    free(days.at);
    return err;
}

struct events_pass {
    struct history *history;
    void (*on_event)(void *ctx, const struct history_event *event);
    void *ctx;
};

static void pass_event(void *ctx, const struct history_event *event)
{
    struct events_pass *pass = ctx;
    struct history_event e = *event;
    struct buf address = {0};
    if (!e.address.len && e.recipient) {
        char day[9];
        day_of(message_id_time(e.id), day);
        sqlite3 *db = open_reader(pass->history, day);
        if (db && history_file_address(db, e.id, e.recipient, &address) == OK)
            e.address = buf_bytes(&address);
        sqlite3_close(db);
    }
    pass->on_event(pass->ctx, &e);
    buf_done(&address);
}

// A day's file and the first event in it that is still to be told; 0: none.
struct day_next {
    const char *day;
    uint64_t next;
};

static uint64_t next_of(const struct history *h, const char *day, uint64_t after)
{
    sqlite3 *db = open_reader(h, day);
    uint64_t next = db && history_file_sequence(db) > after ? history_file_next(db, after) : 0;
    sqlite3_close(db);
    return next;
}

// The day whose event comes first, and (*out_upto) how far it may be read before another day's turn comes.
static struct day_next *first_day(struct day_next *days, size_t count, uint64_t limit,
                                  uint64_t *out_upto)
{
    struct day_next *first = NULL;
    *out_upto = limit;
    for (size_t i = 0; i < count; i++) {
        struct day_next *d = &days[i], *other = d;
        if (d->next == 0 || d->next > limit)
            continue;
        if (!first || d->next < first->next) {
            other = first;
            first = d;
        }
        if (other && other->next - 1 < *out_upto)
            *out_upto = other->next - 1;
    }
    return first;
}

// Around midnight, and when the clock is set, records of two days alternate in the journal; so the days' files
// are merged. Nothing beyond what was committed at the start is read: of a day looked at first it might be missing.
int history_events(struct history *h, uint64_t after, size_t max,
                   void (*on_event)(void *ctx, const struct history_event *event), void *ctx,
                   uint64_t *out_last)
{
    struct events_pass pass = {h, on_event, ctx};
    uint64_t limit = history_sequence(h), upto;
    struct days days = list_days(h);
    struct day_next *nexts = mem_new((days.count + 1) * sizeof *nexts), *first;
    size_t want = max < HISTORY_PAGE_MAX ? max : HISTORY_PAGE_MAX;
    int err = OK;
    for (size_t i = 0; i < days.count; i++)
        nexts[i] = (struct day_next){days.at[i], next_of(h, days.at[i], after)};
    *out_last = after;
    while (!err && want > 0 && (first = first_day(nexts, days.count, limit, &upto)) != NULL) {
        sqlite3 *db = open_reader(h, first->day);
        size_t count = 0;
        if (db)
            err = history_file_events_after(db, *out_last, upto, want, pass_event, &pass, &count,
                                            out_last);
        first->next = db ? history_file_next(db, *out_last) : 0;
        want -= count < want ? count : want;
        sqlite3_close(db);
    }
    free(nexts);
    free(days.at);
    return err;
}
