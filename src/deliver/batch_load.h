// SPDX-License-Identifier: MIT
//
// batch_load - gets the message of a leased batch: at once from memory, or from the journal
//
// Where there is nothing to deliver the batch is settled here: a damaged record is recorded as removed, a disk that
// does not answer defers it, or leaves it as it was where it was claimed. For who is about to deliver, recipients on the suppression list are taken out, too:
// recorded as removed, while the others of the batch go back to the queue, where they are next.
//
// Owner:  embedded in its user until done(). Thread: any loop.
#pragma once

#include "intake/acceptance.h"

struct batch_load {
    struct intake_port *port;
    struct queue_batch *batch;
    // Owns the reference to `message`; NULL: gone, the batch is settled. May run inside batch_load_start().
    void (*done)(struct batch_load *load, struct stored_message *message);
    bool delivers; // the suppression list is asked
    bool claimed;  // the batch, for an operator (queue_claim())
    bool pending;
    struct spool_read read;
    struct stored_message *message; // while the list is asked
};
void batch_load_start(struct batch_load *load);
