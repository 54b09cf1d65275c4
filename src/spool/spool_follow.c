// SPDX-License-Identifier: MIT
//
// How it works: the spool posts a watch when something new is flushed; the follower then waits a moment and reads to
// the end, a transaction a turn, so that others on its loop have their turns. A turn that fails is rolled back as a
// whole, and the reader is opened anew behind what is committed. `passed` is what the last good turns have read:
// never the reader's own place, which is ahead of the database while a turn is under way, and after one that failed.
#include "spool/spool_follow.h"

#include "base/check.h"

#define CHECKPOINT_MS 5000 // how often the journal is told what it may forget
#define RETRY_MS 1000      // after a failure

static void open_reader(struct spool_follow *f)
{
    f->owner->open(f);
    spool_reader_set_follower(f->reader, f->owner->who);
    f->passed = spool_reader_sequence(f->reader);
}

// One transaction. OK: there may be more; E_AGAIN: nothing more is flushed.
static int read_some(struct spool_follow *f)
{
    int err = OK;
    for (uint32_t i = 0; i < f->owner->records_a_turn && !err; i++) {
        struct spool_record record;
        err = spool_reader_next(f->reader, &record);
        if (err == E_NOT_FOUND)
            err = f->owner->lost(f);
        else if (!err)
            err = f->owner->take(f, &record);
    }
    int ended = f->owner->end(f, err == E_AGAIN ? OK : err);
    if (ended)
        return ended;
    CHECK(err == OK || err == E_AGAIN);
    f->passed = spool_reader_sequence(f->reader);
    return err;
}

void spool_follow_start_over(struct spool_follow *f, int err)
{
    f->owner->failed(f, err);
    spool_reader_close(f->reader);
    open_reader(f);
    sys_timer_set(&f->gather, mono_add_ms(sys_mono(), RETRY_MS));
}

static void watch(struct spool_follow *f)
{
    if (!f->watching)
        spool_watch(f->reader, &f->watch);
    f->watching = true;
    sys_hand_over(); // this loop may block now, and until the spool is woken no other's post to it wakes it
    if (!f->caught_up) // what waits since the last run, perhaps a short one, can go from the journal now
        sys_timer_set(&f->checkpoint, sys_mono());
    f->caught_up = true;
}

static void read_on(struct spool_follow *f)
{
    int err = read_some(f);
    f->failing = err != OK && err != E_AGAIN;
    if (err == OK)
        sys_timer_set(&f->gather, sys_mono()); // more, in another turn
    else if (err == E_AGAIN)
        watch(f);
    else
        spool_follow_start_over(f, err);
}

static void on_gathered(struct sys_timer *timer)
{
    read_on(container_of(timer, struct spool_follow, gather));
}

static void on_watch(struct sys_task *task)
{
    struct spool_follow *f = container_of(task, struct spool_follow, watch.task);
    f->watching = false;
    if (!f->stopping)
        sys_timer_set(&f->gather, mono_add_ms(sys_mono(), f->owner->gather_ms));
}

void spool_follow_now(struct spool_follow *f)
{
    if (!f->stopping && !f->failing)
        read_on(f);
}

static void checkpoint(struct spool_follow *f)
{
    uint64_t sequence = f->owner->checkpoint(f);
    if (sequence == f->told)
        return;
    f->told = sequence;
    spool_copied(f->spool, f->owner->who, sequence);
}

static void on_checkpoint(struct sys_timer *timer)
{
    checkpoint(container_of(timer, struct spool_follow, checkpoint));
    sys_timer_set(timer, mono_add_ms(sys_mono(), CHECKPOINT_MS));
}

void spool_follow_start(struct spool_follow *f)
{
    open_reader(f);
    f->gather.fire = on_gathered;
    f->checkpoint.fire = on_checkpoint;
    f->watch.task.run = on_watch;
    f->watch.loop = sys_loop_self();
    sys_timer_set(&f->gather, sys_mono());
    on_checkpoint(&f->checkpoint);
}

void spool_follow_stop(struct spool_follow *f)
{
    f->stopping = true;
    while (read_some(f) == OK)
        ;
    checkpoint(f);
    sys_timer_stop(&f->gather);
    sys_timer_stop(&f->checkpoint);
    spool_reader_close(f->reader);
}
