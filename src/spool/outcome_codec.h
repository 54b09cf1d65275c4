// SPDX-License-Identifier: MIT
//
// outcome_codec - an outcome as it stands in the journal, and a recipient's state in eight bytes
#pragma once

#include "base/buf.h"
#include "spool/outcome.h"

// The summary holds what a restart needs; the rest what history and reports show. Strings are cut
// to OUTCOME_TEXT_MAX and OUTCOME_WORD_MAX.
void outcome_encode(const struct spool_outcome *o, struct buf *summary, struct buf *rest);
// Slices borrow from `rest`. E_DAMAGED.
int outcome_decode(struct message_id id, struct bytes summary, struct bytes rest,
                   struct spool_outcome *out) MUST_USE;

// What the spool keeps of one recipient: 3 bits state, 1 warned, 16 attempts, 44 next attempt (ms).
struct recipient_status {
    uint64_t bits;
};
struct recipient_status recipient_status_of(const struct spool_outcome *o);
enum recipient_state recipient_status_state(struct recipient_status s);
uint32_t recipient_status_attempts(struct recipient_status s);
struct wall recipient_status_next(struct recipient_status s);
bool recipient_status_warned(struct recipient_status s);
struct recipient_status recipient_status_with_warned(struct recipient_status s);
