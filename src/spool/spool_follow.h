// SPDX-License-Identifier: MIT
//
// spool_follow - a database that is kept as far as the journal goes: read in batches, waited for, tried again
//
// History and suppression list are such databases. What a record means to them, and how they commit, is theirs
// (struct spool_follow_owner); when to read, where to go on after a failure, and what the journal may forget is
// decided here. Records and the sequence number they end with are committed together, so that a crash at any moment
// neither loses one nor shows it twice.
//
// Owner:  the database's, which embeds it and sets `owner` and `spool`.
// Thread: all on the loop that it was started on, which blocks on the disk.
// Fails:  nobody is told: what fails (the disk, the database) is tried again after a second, for ever.
#pragma once

#include <stdatomic.h>

#include "spool/spool_reader.h"

struct spool_follow;

// Each runs between the start and the end of the stop.
struct spool_follow_owner {
    enum spool_follower who;
    int64_t
        gather_ms; // after something new, before it is read, so that records share a transaction
    uint32_t records_a_turn; // in one transaction, at most
    // Opens f->reader behind what is committed: at the start, and after each failure, when the reader has moved on
    // while the database has not.
    void (*open)(struct spool_follow *f);
    // Adds it to the transaction, and begins that where none is open.
    int (*take)(struct spool_follow *f, const struct spool_record *record);
    // Records were freed before they were read. What it returns counts as of take().
    int (*lost)(struct spool_follow *f);
    // The turn is over. Where a transaction is open: commits it; but if `err` is set, or on failure, rolls it back.
    // Returns `err`, or what became of the commit.
    int (*end)(struct spool_follow *f, int err);
    // Says what failed, and mends what it can, before it is tried again.
    void (*failed)(struct spool_follow *f, int err);
    // From time to time, no transaction is open: has f->passed committed where that is more than was, and returns
    // the sequence number up to which the journal may forget. f->told: no more than was told last.
    uint64_t (*checkpoint)(struct spool_follow *f);
};

struct spool_follow {
    const struct spool_follow_owner *owner;
    struct spool *spool;
    struct spool_reader *reader;
    uint64_t passed; // sequence number up to which all is committed, or nothing to commit
    uint64_t told;   // to the spool
    // its own
    struct spool_watch watch;
    struct sys_timer gather, checkpoint;
    bool watching, caught_up, stopping;
    atomic_bool failing; // the last turn; any thread may look
};

// On the loop.
void spool_follow_start(struct spool_follow *f);
// Reads all that is flushed without gathering, for who waits; but what is failing just now waits for its time.
void spool_follow_now(struct spool_follow *f);
// What the database held has turned out damaged: as after a failure with this error.
void spool_follow_start_over(struct spool_follow *f, int err);
// Reads what is flushed, once, and ends; f->reader is closed. After spool_stop(), for the spool may hold its watch.
void spool_follow_stop(struct spool_follow *f);
