// SPDX-License-Identifier: MIT
//
// holds - what of the queue is held because of a state that is kept elsewhere
//
// A suspended or closed account has its mail held, a restored backup all of it. Nothing of that is recorded per
// recipient: the account's state and the backup's mark are the record, and are looked at again at each start.
#pragma once

#include "intake/acceptance.h"
#include "store/store_directory.h"

// At start, before the spool is opened: mail of accounts that may not send comes in held.
void holds_begin(struct queue *queue, const struct store_directory *accounts);
// At start, behind spool_open() of a restored backup: all that was recovered is held, and what comes.
void holds_all(struct queue *queue, struct queue_now now);
// On a loop: the accounts changed. Mail of those that were suspended is held, of those activated released (but for what
// an operator holds), a step a turn, so that a long queue holds nobody up. `port` must outlive it.
void holds_change(struct intake_port *port, const struct store_directory *before,
                  const struct store_directory *after);
