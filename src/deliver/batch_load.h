// SPDX-License-Identifier: MIT
//
// batch_load - gets the message of a leased batch: at once from memory, or from the journal
//
// Where there is none any more the batch is settled here: a damaged record is recorded as removed, a disk that
// does not answer defers it.
//
// Owner:  embedded in its user until done(). Thread: any loop.
#pragma once

#include "intake/acceptance.h"

struct batch_load {
    struct intake_port *port;
    struct queue_batch *batch;
    // Owns the reference to `message`; NULL: gone, the batch is settled. May run inside batch_load_start().
    void (*done)(struct batch_load *load, struct stored_message *message);
    bool pending;
    struct spool_read read;
};
void batch_load_start(struct batch_load *load);
