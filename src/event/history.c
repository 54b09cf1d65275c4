// SPDX-License-Identifier: MIT
//
// How it works: spool_follow reads the journal in batches; who asks meanwhile has it read at once. One file is open
// for writing, that of the records' day; a record of another day ends the transaction first, and has the file flushed,
// so that what is committed, and what a power cut leaves, is always a prefix of the journal. A process that was killed
// had no time for that: before the next one writes, it flushes the days that were left with a log.
//
// A file that is damaged is moved out of the way, and what the journal still holds of its records is copied again.
//
// A history that begins in the middle of a journal (its folder was lost, or the spool is a restored backup), or that
// fell behind, or whose file of a past day was damaged, lacks acceptances of messages that are still live. Of these
// compaction makes copies, so copies of what was accepted before `since`, the first record read without a gap from there
// on, are copied too.
#include "event/history.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "event/history_private.h"

#define GATHER_MS 200 // after something new, before it is copied, unless somebody asks
#define ROWS_A_TURN 10000
#define RETENTION_MS 3600000 // between two looks for days that are too old
#define FILES_MAX 4096
#define DAY_US ((int64_t)86400 * 1000000)

// ---- day files -------------------------------------------------------------------------------------------

void history_day_of(struct wall at, char out[HISTORY_DAY_BYTES])
{
    time_t seconds = (time_t)(at.us / 1000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(out, HISTORY_DAY_BYTES, "%Y%m%d", &tm);
}

void history_path_of(const struct history *h, const char *day, char out[HISTORY_PATH_BYTES])
{
    snprintf(out, HISTORY_PATH_BYTES, "%s/%s.db", h->folder, day);
}

static bool is_day_file(const char *name)
{
    return strlen(name) == 11 && strspn(name, "0123456789") == 8 && strcmp(name + 8, ".db") == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

struct history_days history_list_days(const struct history *h)
{
    struct history_days days = {mem_new(FILES_MAX * sizeof *days.at), 0};
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

static struct history_progress find_progress(const struct history *h)
{
    struct history_days days = history_list_days(h);
    struct history_progress last = {0};
    for (size_t i = 0; i < days.count; i++) {
        char path[HISTORY_PATH_BYTES];
        struct history_view view;
        history_path_of(h, days.at[i], path);
        if (history_view_open(path, &view) != OK)
            continue;
        struct history_progress progress = history_view_progress(&view);
        last = progress.sequence > last.sequence ? progress : last;
        history_view_close(&view);
    }
    free(days.at);
    return last;
}

static uint64_t bytes_of_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static uint64_t bytes_of_log(const char *path)
{
    char side[HISTORY_PATH_BYTES + 8];
    snprintf(side, sizeof side, "%s-wal", path);
    return bytes_of_file(side);
}

static uint64_t bytes_of_day(const struct history *h, const char *day)
{
    char path[HISTORY_PATH_BYTES];
    history_path_of(h, day, path);
    return bytes_of_file(path) + bytes_of_log(path);
}

static void forget_day(const struct history *h, const char *day, const char *why)
{
    char path[HISTORY_PATH_BYTES], side[HISTORY_PATH_BYTES + 8];
    history_path_of(h, day, path);
    if (strcmp(day, h->day) == 0 || unlink(path) == -1)
        return;
    snprintf(side, sizeof side, "%s-wal", path);
    unlink(side);
    snprintf(side, sizeof side, "%s-shm", path);
    unlink(side);
    log_info("history of a day deleted", LOG_CSTR("day", day), LOG_CSTR("because", why));
}

static struct wall end_of_day(const char *day)
{
    int64_t date = strtoll(day, NULL, 10);
    int64_t days = clock_days((int)(date / 10000), (int)(date / 100 % 100), (int)(date % 100));
    return (struct wall){(days + 1) * DAY_US};
}

// Days are forgotten by a time that begins at the newest day there is and comes up to the wall clock by a day a look.
static struct wall trusted_time(struct history *h, const struct history_days *days)
{
    if (!h->trusted.us)
        h->trusted = days->count ? end_of_day(days->at[days->count - 1]) : sys_wall();
    return wall_trust(&h->trusted, sys_wall(), DAY_US / 1000);
}

static void forget_old_days(struct history *h)
{
    char oldest[HISTORY_DAY_BYTES];
    struct history_days days = history_list_days(h);
    history_day_of(wall_add_ms(trusted_time(h, &days), -h->keep_ms), oldest);
    uint64_t total = 0;
    for (size_t i = 0; i < days.count; i++)
        total += bytes_of_day(h, days.at[i]);
    for (size_t i = 0; i < days.count; i++) {
        bool old = strcmp(days.at[i], oldest) < 0, last = i + 1 == days.count;
        bool large = h->bytes_max && total > h->bytes_max && !last;
        total -= bytes_of_day(h, days.at[i]);
        if (!old && !large)
            break;
        forget_day(h, days.at[i], old ? "it is too old" : "there is too much");
    }
    free(days.at);
}

static void seal_day(const struct history *h, const char *day)
{
    char path[HISTORY_PATH_BYTES];
    struct history_file file;
    history_path_of(h, day, path);
    if (strcmp(day, h->day) == 0 || history_file_is_sealed(path) ||
        history_file_open(path, &file) != OK)
        return;
    int err = history_file_seal(&file);
    if (err)
        log_error("index of the history not written", LOG_CSTR("day", day), LOG_ERR(err));
    history_file_close(&file);
}

// The days that are over get their last sheet.
static void seal_old_days(const struct history *h)
{
    char today[HISTORY_DAY_BYTES];
    history_day_of(sys_wall(), today);
    struct history_days days = history_list_days(h);
    for (size_t i = 0; i < days.count && strcmp(days.at[i], today) < 0; i++)
        seal_day(h, days.at[i]);
    free(days.at);
}

// ---- copying ---------------------------------------------------------------------------------------------

static void close_day(struct history *h)
{
    history_file_close(&h->file);
    h->day[0] = '\0';
    h->day_begin = h->day_end = (struct wall){0};
}

static bool is_spoiled(int err)
{
    return err == E_DAMAGED || err == E_VERSION;
}

static void set_day_aside(const struct history *h, const char *day, int why)
{
    char from[HISTORY_PATH_BYTES + 8], to[HISTORY_PATH_BYTES + 32];
    int n = 0;
    do
        snprintf(to, sizeof to, "%s/%s.damaged%d", h->folder, day, ++n);
    while (access(to, F_OK) == 0 && n < FILES_MAX);
    history_path_of(h, day, from);
    bool moved = rename(from, to) == 0;
    log_error("history of a day damaged, set aside", LOG_CSTR("file", to), LOG_ERR(why),
              LOG_CSTR("moved", moved ? "yes" : strerror(errno)));
    size_t from_end = strlen(from), to_end = strlen(to);
    static const char *const SIDES[] = {"-wal",
                                        "-shm"}; // of the file they belong to, if they stay there
    for (size_t i = 0; i < COUNT_OF(SIDES) && moved; i++) {
        snprintf(from + from_end, sizeof from - from_end, "%s", SIDES[i]);
        snprintf(to + to_end, sizeof to - to_end, "%s", SIDES[i]);
        if (rename(from, to) == -1)
            unlink(from);
    }
}

// A day that is not open. One that is damaged is left to whoever reads it.
static int flush_day(const struct history *h, const char *day)
{
    char path[HISTORY_PATH_BYTES];
    struct history_file file;
    history_path_of(h, day, path);
    if (!bytes_of_log(path))
        return OK;
    int err = history_file_open(path, &file);
    if (err)
        return is_spoiled(err) ? OK : err;
    err = history_file_flush(&file);
    history_file_close(&file);
    return is_spoiled(err) ? OK : err;
}

// What a process that was killed has left of other days than this.
static int flush_days(const struct history *h, const char *but)
{
    struct history_days days = history_list_days(h);
    int err = OK;
    for (size_t i = 0; i < days.count && !err; i++)
        if (strcmp(days.at[i], but) != 0)
            err = flush_day(h, days.at[i]);
    free(days.at);
    return err;
}

static int leave_day(struct history *h)
{
    int err = history_file_flush(&h->file);
    if (!err)
        close_day(h);
    return err;
}

// The file of another day. It would say that all before it is copied, so the one before is flushed first.
static int open_day(struct history *h, struct wall at)
{
    char day[HISTORY_DAY_BYTES], path[HISTORY_PATH_BYTES];
    history_day_of(at, day);
    int err = h->day[0] ? leave_day(h) : flush_days(h, day);
    if (err)
        return err;
    history_path_of(h, day, path);
    err = history_file_open(path, &h->file);
    if (is_spoiled(err)) {
        set_day_aside(h, day, err);
        err = history_file_open(path, &h->file);
    }
    if (err)
        return err;
    snprintf(h->day, sizeof h->day, "%s", day);
    h->day_begin.us = at.us - at.us % DAY_US;
    h->day_end.us = h->day_begin.us + DAY_US;
    return OK;
}

static struct wall time_of(const struct spool_record *record)
{
    switch (record->type) {
    case SPOOL_RECORD_MESSAGE:
        return record->envelope->accepted_at;
    case SPOOL_RECORD_FEEDBACK:
        return record->feedback.at;
    default:
        return record->outcome.at;
    }
}

static struct history *history_of(struct spool_follow *f)
{
    return container_of(f, struct history, follow);
}

// Ends the transaction, which is open and goes up to this sequence number.
static int commit(struct history *h, uint64_t sequence)
{
    struct history_progress progress = {sequence, h->progress.since};
    h->writing = false;
    int err = history_file_commit(&h->file, progress);
    if (err) {
        history_file_rollback(&h->file);
        return err;
    }
    h->progress = progress;
    atomic_store(&h->sequence, sequence);
    return OK;
}

static int commit_taken(struct history *h)
{
    return h->writing ? commit(h, h->taken) : OK;
}

static int begin_day(struct history *h, struct wall at)
{
    int err = OK;
    if (at.us < h->day_begin.us || at.us >= h->day_end.us) {
        err = commit_taken(h);
        if (!err)
            err = open_day(h, at);
    }
    if (!err && !h->writing) {
        err = history_file_begin(&h->file);
        h->writing = err == OK;
    }
    return err;
}

static void set_since(struct history *h, uint64_t sequence)
{
    h->progress.since = sequence;
    spool_reader_show_copies(h->follow.reader, sequence ? sequence : UINT64_MAX);
}

static bool is_wanted(const struct history *h, const struct spool_record *record)
{
    if (record->type == SPOOL_RECORD_NOTE)
        return false;
    return !record->copy || wall_ms_between(record->envelope->accepted_at, sys_wall()) < h->keep_ms;
}

// A message that `words` has forgotten: from what is committed.
static const struct envelope *find_past(void *ctx, struct message_id id)
{
    struct history *h = ctx;
    if (!h->past) {
        h->past = mem_new(sizeof *h->past);
        question_init(h->past, h);
    }
    const struct history_known *k = question_message(h->past, id);
    return k ? k->record.envelope : NULL;
}

static void leave_past(struct history *h)
{
    if (h->past)
        question_done(h->past);
    free(h->past);
    h->past = NULL;
}

static int add_row(struct history *h, const struct spool_record *record)
{
    buf_clear(&h->record_words);
    history_words_add(&h->words, record, &h->record_words);
    struct history_row row = {record, time_of(record),
                              (const uint64_t *)(const void *)h->record_words.at,
                              h->record_words.len / sizeof(uint64_t)};
    return history_file_add(&h->file, &row);
}

static int take_record(struct spool_follow *f, const struct spool_record *record)
{
    struct history *h = history_of(f);
    int err = OK;
    if (!record->copy && !h->progress.since)
        set_since(h, record->sequence);
    if (is_wanted(h, record)) {
        err = begin_day(h, time_of(record));
        if (!err)
            err = add_row(h, record);
    }
    if (!err && !record->copy)
        h->taken = record->sequence;
    return err;
}

static int on_lost(struct spool_follow *f)
{
    struct history *h = history_of(f);
    log_error("history fell behind: records were freed before they were copied");
    set_since(h, 0);
    return commit_taken(h); // the file must know of the gap
}

static int end_turn(struct spool_follow *f, int err)
{
    struct history *h = history_of(f);
    if (!err)
        err = commit_taken(h);
    if (h->writing)
        history_file_rollback(&h->file);
    h->writing = false;
    h->taken = h->progress.sequence;
    if (!err)
        atomic_store(&h->position, spool_reader_position(f->reader));
    leave_past(h);
    return err;
}

static void open_journal(struct spool_follow *f)
{
    struct history *h = history_of(f);
    f->reader = spool_reader_open(f->spool, h->progress.sequence);
    h->taken = h->progress.sequence;
    set_since(h, h->progress.since);
}

// The day that is being written is no sound file any more; the others say how far the journal is copied.
static void give_up_day(struct history *h, int err)
{
    char day[HISTORY_DAY_BYTES];
    memcpy(day, h->day, sizeof day);
    close_day(h);
    set_day_aside(h, day, err);
    h->progress = find_progress(h);
    atomic_store(&h->sequence, h->progress.sequence);
    atomic_store(&h->position, 0);
}

static void on_failed(struct spool_follow *f, int err)
{
    struct history *h = history_of(f);
    log_error("history not written, trying again", LOG_ERR(err));
    if (is_spoiled(err) && h->day[0])
        give_up_day(h, err);
}

static void index_words(void *ctx, struct spool_record *record, struct buf *out_words)
{
    struct history *h = ctx;
    struct stored_message *m = stored_message_new();
    if (spool_record_decode(record, m) == OK)
        history_words_add(&h->words, record, out_words);
    stored_message_unref(m);
}

// A transaction of its own: what is committed is indexed, and nothing else is under way between two turns.
static void index_again(struct history *h, const char *day)
{
    struct history_indexer indexer = {h, index_words};
    struct history_file other, *file = strcmp(h->day, day) == 0 ? &h->file : &other;
    char path[HISTORY_PATH_BYTES];
    history_path_of(h, day, path);
    int err = file == &other ? history_file_open(path, &other) : OK;
    if (!err) {
        err = history_file_reindex(file, &indexer);
        if (file == &other)
            history_file_close(&other);
    }
    leave_past(h);
    log_error("index of the history damaged, made again", LOG_CSTR("day", day), LOG_ERR(err));
}

// A day that is over: what it had of live messages comes back with the copies that compaction makes from now on. That is
// noted at once where a file is open, else with the next record.
static void give_up_past_day(struct history *h, const char *day)
{
    set_day_aside(h, day, E_DAMAGED);
    set_since(h, h->progress.sequence + 1);
    if (!h->day[0])
        return;
    int err = history_file_begin(&h->file);
    if (!err)
        err = commit(h, h->progress.sequence);
    if (err)
        log_warn("history: not noted that a day's records are missing", LOG_ERR(err));
}

static void on_damage(struct sys_task *task)
{
    struct history *h = container_of(task, struct history, damage);
    char path[HISTORY_PATH_BYTES];
    history_path_of(h, h->damaged_day, path);
    if (h->follow.stopping)
        return;
    if (h->damaged_index)
        index_again(h, h->damaged_day);
    else if (strcmp(h->day, h->damaged_day) == 0)
        spool_follow_start_over(&h->follow, E_DAMAGED);
    else if (access(path, F_OK) == 0)
        give_up_past_day(h, h->damaged_day);
    atomic_store(&h->damage_told, false);
}

void history_tell_damage(struct history *h, const char *day, bool only_index)
{
    if (atomic_exchange(&h->damage_told, true))
        return;
    snprintf(h->damaged_day, sizeof h->damaged_day, "%s", day);
    h->damaged_index = only_index;
    sys_post(h->loop, &h->damage);
}

static void on_ask(struct sys_task *task)
{
    struct history *h = container_of(task, struct history, ask);
    atomic_store(&h->asked, false);
    spool_follow_now(&h->follow);
}

// What was read and is no event counts as copied too.
static int note_passed(struct history *h)
{
    if (h->follow.passed <= h->progress.sequence)
        return OK;
    int err = history_file_begin(&h->file);
    return err ? err : commit(h, h->follow.passed);
}

// What is committed is only flushed here.
static uint64_t checkpoint(struct spool_follow *f)
{
    struct history *h = history_of(f);
    if (!h->day[0] || note_passed(h) || f->told == h->progress.sequence ||
        !history_file_checkpoint(&h->file))
        return f->told;
    return h->progress.sequence;
}

static const struct spool_follow_owner FOLLOWER = {
    .who = SPOOL_HISTORY,
    .gather_ms = GATHER_MS,
    .records_a_turn = ROWS_A_TURN,
    .open = open_journal,
    .take = take_record,
    .lost = on_lost,
    .end = end_turn,
    .failed = on_failed,
    .checkpoint = checkpoint,
};

static void on_retention(struct sys_timer *timer)
{
    struct history *h = container_of(timer, struct history, retention);
    forget_old_days(h);
    seal_old_days(h);
    sys_timer_set(&h->retention, mono_add_ms(sys_mono(), RETENTION_MS));
}

// ---- life ------------------------------------------------------------------------------------------------

static void on_start(struct sys_task *task)
{
    struct history *h = container_of(task, struct history, start);
    spool_follow_start(&h->follow);
    h->retention.fire = on_retention;
    on_retention(&h->retention);
}

int history_start(struct bytes state_folder, struct spool *spool, int64_t keep_ms,
                  uint64_t bytes_max, struct history **out)
{
    struct history *h = mem_new(sizeof *h);
    h->follow.owner = &FOLLOWER;
    h->follow.spool = spool;
    h->keep_ms = keep_ms;
    h->bytes_max = bytes_max;
    h->words.find = find_past;
    h->words.ctx = h;
    snprintf(h->folder, sizeof h->folder, "%.*s/events", BYTES_FMT(state_folder));
    if (mkdir(h->folder, 0700) == -1 && errno != EEXIST) {
        int err = err_from_errno(errno);
        free(h);
        return err;
    }
    h->progress = find_progress(h);
    atomic_store(&h->sequence, h->progress.sequence);
    spool_go_on_behind(spool, h->progress.sequence);
    h->loop = sys_loop_start("event");
    h->start.run = on_start;
    h->ask.run = on_ask;
    h->damage.run = on_damage;
    sys_post(h->loop, &h->start);
    *out = h;
    return OK;
}

static void on_stop(struct sys_task *task)
{
    struct history *h = container_of(task, struct history, stop);
    spool_follow_stop(&h->follow);
    sys_timer_stop(&h->retention);
    if (h->day[0])
        close_day(h);
}

void history_stop(struct history *h)
{
    h->stop.run = on_stop;
    sys_post(h->loop, &h->stop);
    sys_loop_stop(h->loop);
}

void history_free(struct history *h)
{
    history_words_done(&h->words);
    buf_done(&h->record_words);
    free(h);
}

uint64_t history_sequence(const struct history *h)
{
    return atomic_load(&h->sequence);
}

static bool keeps_up(const struct history *h, uint64_t position)
{
    return !atomic_load(&h->follow.failing) && position >= atomic_load(&h->missed);
}

// Positions are compared, not sequence numbers: the last of those may be of a record that is no event.
int history_wait(struct history *h)
{
    uint64_t flushed = spool_flushed(h->follow.spool), position;
    struct timespec pause = {0, 1000000};
    for (int waited = 0; (position = atomic_load(&h->position)) < flushed; waited++) {
        if (waited == HISTORY_WAIT_MS)
            atomic_store(&h->missed, flushed);
        if (!keeps_up(h, position))
            return E_TIMEOUT;
        if (!atomic_exchange(&h->asked, true))
            sys_post(h->loop, &h->ask);
        nanosleep(&pause, NULL);
    }
    return OK;
}
