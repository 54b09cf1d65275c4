// SPDX-License-Identifier: MIT
//
// history_private - what the writer (history.c) and the questions (history_ask.c) share: the folder and how far it goes
#pragma once

#include <stdatomic.h>

#include "event/history_file.h"

#define HISTORY_DAY_BYTES 9 // "20260131"
#define HISTORY_PATH_BYTES 4200

struct history {
    struct sys_loop *loop;
    struct spool *spool;
    struct spool_reader *reader;
    struct spool_watch watch;
    char folder[4096];
    int64_t keep_ms;
    struct history_file file;         // being written
    char day[HISTORY_DAY_BYTES];      // its date; empty: none is open
    struct wall day_begin, day_end;   // its first moment, that of the next
    struct history_progress progress; // in committed transactions
    uint64_t passed;                  // sequence number up to which there is nothing left to copy
    _Atomic uint64_t sequence;        // progress.sequence, for others
    _Atomic uint64_t position;        // of the journal: all before it is copied, or nothing to copy
    uint64_t flushed;                 // sequence number told to the spool
    struct sys_timer gather, checkpoint, retention;
    struct sys_task start, stop, ask;
    atomic_bool asked; // somebody waits: no gathering
    // A question has found a day's file damaged; one day at a time, it is found again.
    struct sys_task damage;
    atomic_bool damage_told;
    char damaged_day[HISTORY_DAY_BYTES];
    bool watching, caught_up, failing, stopping;
};

// From a question: this day's file does not hold any more; the writer moves it out of the way.
void history_tell_damage(struct history *h, const char *day);

// Names of days: "YYYYMMDD", in UTC.
void history_day_of(struct wall at, char out[HISTORY_DAY_BYTES]);
void history_path_of(const struct history *h, const char *day, char out[HISTORY_PATH_BYTES]);

struct history_days {
    char (*at)[HISTORY_DAY_BYTES];
    size_t count;
};
// The days there are files of, oldest first. The caller frees `at`.
struct history_days history_list_days(const struct history *h);
