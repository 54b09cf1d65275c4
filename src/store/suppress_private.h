// SPDX-License-Identifier: MIT
//
// suppress_private - what the service (suppress.c) and its reader of the journal (suppress_follow.c) share
#pragma once

#include <stdatomic.h>

#include "base/arena.h"
#include "base/list.h"
#include "spool/spool_follow.h"
#include "store/suppress_list.h"

struct suppress {
    struct suppress_table table;
    struct suppress_list *list; // its loop's
    struct sys_loop *loop;      // NULL: not started
    atomic_bool loaded, hard_bounces;
    _Atomic int64_t bounce_keep_ms, load_ms;
    _Atomic uint64_t recipients_removed, questions, added, removed, expired, sequence;
    // its loop's
    struct list changes; // of this turn
    struct sys_turn_end turn_end;
    struct sys_timer load, sweep;
    struct wall trusted; // no earlier than it is: entries are over by this
    bool sweeping;       // the last look found more than it could remove
    struct sys_task start, stop;
    struct mono load_began;
    struct spool_follow follow;
    uint64_t committed; // sequence number in the database
    bool flushed; // this process has committed: what it found in the database's log is on the disk
    bool writing; // the follower's transaction is open
    struct list copies;
};

// What the list has counted, for others to read.
void suppress_note_counts(struct suppress *s);
// Where to go on in this journal: where the list has come to, or its end where the list has not seen it. Blocking,
// before deliveries begin.
int suppress_follow_prepare(struct suppress *s) MUST_USE;
void suppress_follow_start(struct suppress *s);

// What a record of the journal means for the list; false: nothing. Slices borrow from the record and the arena.
bool suppress_entry_of_record(const struct spool_record *record, int64_t bounce_keep_ms,
                              struct arena *arena, struct suppress_entry *out);
