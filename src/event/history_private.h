// SPDX-License-Identifier: MIT
//
// history_private - what the writer (history.c) and the questions (history_ask.c, history_search.c) share
#pragma once

#include <stdatomic.h>

#include "event/history_file.h"
#include "event/history_words.h"
#include "spool/spool_follow.h"

#define HISTORY_DAY_BYTES 9 // "20260131"
#define HISTORY_PATH_BYTES 4200

struct history {
    struct sys_loop *loop;
    struct spool_follow follow;
    char folder[4096];
    int64_t keep_ms;
    uint64_t bytes_max;          // of all files; 0: no matter
    struct history_file file;    // being written
    struct history_words words;  // what its records are found by
    struct buf record_words;     // of the record at hand
    struct question *past;       // asked for messages that `words` does not know any more; or NULL
    char day[HISTORY_DAY_BYTES]; // its date; empty: none is open
    struct wall day_begin, day_end;   // its first moment, that of the next
    struct history_progress progress; // in committed transactions
    bool writing;                     // a transaction is open
    uint64_t taken;                   // how far it goes: sequence number; else as progress
    _Atomic uint64_t sequence;        // progress.sequence, for others
    _Atomic uint64_t position;        // of the journal: all before it is copied, or nothing to copy
    _Atomic uint64_t missed;          // a wait for this position was in vain
    struct sys_timer retention;
    struct wall trusted; // no earlier than it is: days are forgotten by this; zero: not looked yet
    struct sys_task start, stop, ask;
    atomic_bool asked; // somebody waits: no gathering
    // A question has found a day's file damaged; one day at a time, it is found again.
    struct sys_task damage;
    atomic_bool damage_told;
    char damaged_day[HISTORY_DAY_BYTES];
    bool damaged_index; // only its index
};

// From a question: this day's file does not hold any more; the writer moves it out of the way, or makes its index anew.
void history_tell_damage(struct history *h, const char *day, bool only_index);

// Names of days: "YYYYMMDD", in UTC.
void history_day_of(struct wall at, char out[HISTORY_DAY_BYTES]);
void history_path_of(const struct history *h, const char *day, char out[HISTORY_PATH_BYTES]);

struct history_days {
    char (*at)[HISTORY_DAY_BYTES];
    size_t count;
};
// The days there are files of, oldest first. The caller frees `at`.
struct history_days history_list_days(const struct history *h);

// ---- questions: one opens the days' files that it needs ----------------------------------------------------

#define HISTORY_KNOWN_MESSAGES 256

// A message taken apart.
struct history_known {
    struct stored_message *message; // NULL: none
    struct spool_record record;     // its slices borrow from `message` and `meta`
    struct buf meta;
};

struct question {
    struct history *history;
    struct history_days days;
    struct history_view *views; // of each day; db NULL: not opened
    bool *failed;               // opened in vain
    struct history_known known[HISTORY_KNOWN_MESSAGES];
    const struct history_reader *reader;
    size_t told; // events
};

void question_init(struct question *q, struct history *h);
void question_done(struct question *q);
// NULL: it can't be read (it was just deleted, or is none), and is passed over.
struct history_view *question_view(struct question *q, size_t day);
// What came of reading a day: OK for a damaged one, which is passed over from here on.
int question_read(struct question *q, size_t day, int err);
// The first day that may have records of this time.
size_t question_first_day(const struct question *q, struct wall at);
// The message, or NULL. It is remembered until another takes its place.
const struct history_known *question_message(struct question *q, struct message_id id);
// The same, of a record that is at hand.
const struct history_known *question_know(struct question *q, const struct spool_record *record);
// Tells its events to q->reader.
void question_tell(struct question *q, struct spool_record *record);
