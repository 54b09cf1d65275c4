// SPDX-License-Identifier: MIT
//
// message_id - names a message for ever: time, node, start epoch and counter, 100 bits, 20
// characters
//
// bits (high to low): 42 milliseconds since 2020-01-01 UTC, 10 node, 20 epoch (one more at each
// start), 28 counter. Shown in Crockford's base32 (0-9A-Z without I L O U), upper case, so ids sort
// by time. A recipient is named ID.n (n from 1), an attempt ID.n.k (k from 1).
#pragma once

#include "base/bytes.h"
#include "base/clock.h"

#define MESSAGE_ID_CHARS 20

struct message_id {
    uint64_t high; // 42 bits time, 10 bits node, 12 upper bits of the epoch
    uint64_t low;  // 8 lower bits of the epoch, 28 bits counter (36 bits used)
};

struct message_id message_id_make(struct wall now, uint32_t node, uint32_t epoch, uint32_t counter);
// Writes MESSAGE_ID_CHARS characters and a NUL.
void message_id_format(struct message_id id, char out[MESSAGE_ID_CHARS + 1]);
// Exactly MESSAGE_ID_CHARS characters, either case. E_SYNTAX.
int message_id_parse(struct bytes text, struct message_id *out) MUST_USE;
struct wall message_id_time(struct message_id id); // to the millisecond
static inline bool message_id_eq(struct message_id a, struct message_id b)
{
    return a.high == b.high && a.low == b.low;
}
// Was the id made before `mark`, by the same node? Epoch and counter say so, whatever the clock did. As the counter
// begins again after 2^28 ids, one that is ahead, by at most MESSAGE_ID_AHEAD_MAX, is a later one only where it isn't
// older than MESSAGE_ID_ROUND_MS: nobody makes so many ids in that time. The mark itself is no older than that.
#define MESSAGE_ID_AHEAD_MAX (1u << 26)
#define MESSAGE_ID_ROUND_MS 3600000
bool message_id_is_before(struct message_id id, struct message_id mark);
// Orders by time, then node, epoch, counter.
int message_id_cmp(struct message_id a, struct message_id b);
