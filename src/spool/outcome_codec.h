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

// What the spool keeps of one recipient: 3 bits state, 1 warned, 16 attempts, 43 next attempt (ms), 1 exempt.
struct recipient_status {
    uint64_t bits;
};
struct recipient_status recipient_status_of(const struct spool_outcome *o);
enum recipient_state recipient_status_state(struct recipient_status s);
uint32_t recipient_status_attempts(struct recipient_status s);
struct wall recipient_status_next(struct recipient_status s);
bool recipient_status_warned(struct recipient_status s);
bool recipient_status_exempt(struct recipient_status s);
// `s` with what `before` says that stays true: warned for good, exempt until the recipient is held.
struct recipient_status recipient_status_after(struct recipient_status before,
                                               struct recipient_status s);
