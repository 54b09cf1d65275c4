// SPDX-License-Identifier: MIT
//
// table - where each live message stands in the journal, and the state of its recipients: 40 bytes
// a message
//
// Open addressing by message id, at most 4/5 full. A message with one recipient keeps its state in
// the entry, others in an array of 8 bytes a recipient.
//
// Owner: one journal. Pointers to entries are good until the next add or remove.
#pragma once

#include "spool/outcome_codec.h"

struct table_entry {
    uint64_t id_high;
    uint64_t id_low : 36, recipients : 24, has_extent : 1, spare : 3;
    uint32_t slot;
    uint32_t offset16; // of the record head, in units of 16 bytes
    uint32_t bytes;    // of the whole record
    uint32_t live;     // recipients queued or held
    union {
        struct recipient_status one;
        struct recipient_status *many; // recipients > 1
    } status;
};
_Static_assert(sizeof(struct table_entry) == 40, "memory per live message is a promise");

struct table {
    struct table_entry *entries;
    uint32_t count, cap; // cap: a power of two, or 0
};

void table_done(struct table *t);
struct table_entry *table_find(const struct table *t, struct message_id id); // NULL if absent
// A new entry with all recipients queued. The id must be absent and not zero.
struct table_entry *table_add(struct table *t, struct message_id id, uint32_t recipients);
void table_remove(struct table *t, struct table_entry *e);
struct message_id table_id(const struct table_entry *e);
// Recipients are numbered from 1. NULL beyond the last.
struct recipient_status *table_status(struct table_entry *e, uint32_t recipient);
// Sets a recipient's status and keeps `live` true. A settled recipient stays settled; false then,
// and for a recipient that is not there. A warned one stays warned.
bool table_set_status(struct table_entry *e, uint32_t recipient, struct recipient_status status);
