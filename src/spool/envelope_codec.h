// SPDX-License-Identifier: MIT
//
// envelope_codec - an envelope as attributes (tlv.h): what the journal keeps of a message beside
// its bytes
//
// Two parts: the summary, all that the queue needs and a restart reads; and the rest. Attributes
// this release does not know are kept in envelope->unknown; compaction copies both parts as they
// are.
#pragma once

#include "spool/spool.h"

// Recipients of one message.
#define ENVELOPE_RECIPIENTS_MAX 100000
#define ENVELOPE_METADATA_MAX 256

// Recipient numbers must be 1, 2, 3, ... in order. E_LIMIT.
int envelope_encode(const struct stored_message *m, struct buf *summary, struct buf *rest) MUST_USE;

// Fills m->envelope (all slices in m's arena), body_in_extent and extent_sum. E_DAMAGED.
int envelope_decode(struct message_id id, struct bytes summary, struct bytes rest,
                    struct stored_message *m) MUST_USE;

// Number of recipients, without decoding more. E_DAMAGED.
int summary_recipients(struct bytes summary, uint32_t *out) MUST_USE;
// True if the message's body is in an extent file.
bool summary_has_extent(struct bytes summary);
// Slices borrow from `summary`; `recipients` has room for summary_recipients(): number, domain and
// notify are set, all queued. E_DAMAGED.
int summary_decode(struct message_id id, struct bytes summary,
                   struct spool_summary_recipient *recipients, struct spool_summary *out) MUST_USE;
