// SPDX-License-Identifier: MIT
//
// table - where each live message stands in the journal, and the state of its recipients: 32 bytes
// a message
//
// Open addressing by message id, between 0.73 and 0.85 full; entries stand in the order of their
// hashes, so that growing is one pass from the front to the back. A message with one recipient
// keeps its state in the entry, others in an array of 8 bytes a recipient.
//
// Owner: one journal. Pointers to entries are good until the next add or remove.
#pragma once

#include "spool/outcome_codec.h"

// Longest record that an entry can name, in units of 16 bytes, and the slots there can be.
#define TABLE_BYTES16_MAX ((1u << 20) - 1)
#define TABLE_SLOTS_MAX (1u << 20)
#define TABLE_OFFSET16_MAX ((1u << 28) - 1)

struct table_states {
    uint32_t recipients, live;
    struct recipient_status status[];
};

struct table_entry {
    uint64_t id_high;
    uint64_t id_low : 36, offset16 : 28; // offset of the record head, in units of 16 bytes
    uint64_t bytes16 : 20;               // of the whole record, likewise; 0: it stands nowhere yet
    uint64_t slot : 20, has_extent : 1, has_several : 1;
    uint64_t is_folded : 1; // its outcomes up to the end of that segment need no entry in the index
    union {
        struct recipient_status one;
        struct table_states *several;
    } status;
};
_Static_assert(sizeof(struct table_entry) == 32, "memory per live message is a promise");

struct table {
    struct table_entry *entries;
    uint32_t count, cap;
    uint64_t states_bytes; // of messages with several recipients
    uint32_t expected;     // so many fit as it is
    bool roomy;            // to be filled quickly: half empty, until table_fit()
};

void table_done(struct table *t);
struct table_entry *table_find(const struct table *t, struct message_id id); // NULL if absent
// A new entry with all recipients queued. The id must be absent and not zero.
struct table_entry *table_add(struct table *t, struct message_id id, uint32_t recipients);
void table_remove(struct table *t, struct table_entry *e);
struct message_id table_id(const struct table_entry *e);
// Fetches into the processor's cache what table_find() will look at.
void table_prefetch(const struct table *t, struct message_id id);
uint32_t table_recipients(const struct table_entry *e);
uint32_t table_live(const struct table_entry *e); // recipients queued or held
// Recipients are numbered from 1; beyond the last: false.
bool table_status(const struct table_entry *e, uint32_t recipient, struct recipient_status *out);
// Sets a recipient's status. A settled recipient stays settled; false then, and for a recipient
// that is not there. What stays true of it stays (recipient_status_after()).
bool table_set_status(struct table_entry *e, uint32_t recipient, struct recipient_status status);
// Sets it whatever it was; the recipient must be there.
void table_put_status(struct table_entry *e, uint32_t recipient, struct recipient_status status);
// What was roomy takes no more than it needs from now on.
// Many are going to be added, about so many if that is known (else 0), until table_fit().
void table_fill(struct table *t, uint32_t expected);
void table_fit(struct table *t);
uint64_t table_bytes(const struct table *t);
// The part of them that holds the recipients' states.
uint64_t table_recipient_bytes(const struct table *t);
