// SPDX-License-Identifier: MIT
//
// suppress_list - the suppression list in STATE/suppressions.db: entries, the log of changes, how far the journal is read
//
// What the service does on the list's loop, and a command does itself while the service is stopped (under the
// store's lock). Changes stand between suppress_list_begin() and _commit(); where there is a table in memory it
// follows: an entry is in it before it is committed, and leaves it only after its removal is.
//
//   op                args (* may be left out)                                    result
//   suppress.add      address, account*, stream*, reason*, since*, expires*,      ENTRY and "changed"
//                     note*
//   suppress.remove   address, account*, stream*, reason*                         {"address","removed": N}
//   suppress.check    address, account*, stream*                                  {"address","suppressed",
//                                                                                  "entries","changes"}
//   suppress.list     account* or service*, stream*, reason*, cursor*, max*       {"entries","next"}
//   suppress.import   account*, stream*, reason*, source, rows                    {"added","unchanged","errors"}
//
//   Without `account` add, remove and import speak of the whole service; account "-" is mail without an account.
//   ENTRY: {"address","scope","account","stream","reason","since","expires","added_at","actor","note"}
//   rows:  [{"line", "address", and as of add: "account","service","stream","reason","since","expires","note"}];
//          what a row does not say holds as of the operation
//   errors: [{"line","error"}]; the other rows are imported all the same
//
// Thread: one at a time; it blocks on the disk.
// Fails:  E_SYNTAX, E_NOT_FOUND (the account), E_EXISTS, E_FULL, E_IO, E_DAMAGED, E_VERSION, E_DENIED.
#pragma once

#include "store/suppress.h"
#include "store/suppress_key.h"

#define SUPPRESS_VERSION 1
#define SUPPRESS_PAGE_MAX 10000 // entries in one answer of suppress.list
#define SUPPRESS_LOOKED_MAX                                                                        \
    50000 // entries that one suppress.list looks at; then it answers with a cursor
#define SUPPRESS_CHANGES_SHOWN 100

struct suppress_list;

// FOLDER/suppressions.db, made where there is none. table: NULL, or the one that is to follow.
int suppress_list_open(struct bytes folder, struct suppress_table *table,
                       struct suppress_list **out, struct buf *error) MUST_USE;
void suppress_list_close(struct suppress_list *l); // NULL is fine

int suppress_list_begin(struct suppress_list *l) MUST_USE;
// A failed commit is rolled back. E_FULL: the next one may need no more room.
int suppress_list_commit(struct suppress_list *l) MUST_USE;
void suppress_list_rollback(struct suppress_list *l);

// *out_changed: false when it was there already, for at least as long.
int suppress_list_add(struct suppress_list *l, const struct suppress_entry *entry,
                      struct bytes actor, struct wall now, bool *out_changed) MUST_USE;
// The same without a line in the log of changes: the importer writes one for many.
int suppress_list_import(struct suppress_list *l, const struct suppress_entry *entry,
                         struct bytes actor, struct wall now, bool *out_changed) MUST_USE;
// Of this scope and address, of this reason or (0) of all. *out_removed: how many there were.
int suppress_list_remove(struct suppress_list *l, const struct suppress_entry *entry,
                         struct bytes actor, struct wall now, uint32_t *out_removed) MUST_USE;
// Removes up to `max` entries whose time is over.
int suppress_list_expire(struct suppress_list *l, struct wall now, uint32_t max,
                         uint32_t *out_removed) MUST_USE;
// When anything was changed last, as the clock was then; WALL_NEVER: never.
int suppress_list_last_change(struct suppress_list *l, struct wall *out) MUST_USE;
// Has an operator removed such an entry at this time or later? Then an older event does not bring it back.
int suppress_list_was_removed(struct suppress_list *l, const struct suppress_entry *entry,
                              struct wall since, bool *out) MUST_USE;
// What keeps mail of this account and stream from the address: the widest scope first.
int suppress_list_find(struct suppress_list *l, uint32_t account, struct bytes stream,
                       struct bytes address, struct wall now, struct suppress_hit *out) MUST_USE;

// The number of the last record of the journal that is dealt with; E_NOT_FOUND: never set. Set within a transaction.
int suppress_list_get_sequence(struct suppress_list *l, uint64_t *out) MUST_USE;
int suppress_list_set_sequence(struct suppress_list *l, uint64_t sequence) MUST_USE;

// Puts the next `max` entries into the table, from where the last call ended; *out_all: that was the last.
int suppress_list_load(struct suppress_list *l, uint32_t max, bool *out_all) MUST_USE;

// One operation, in a transaction of its own. On failure nothing has changed and `error` has a sentence.
struct json_object;
struct store_directory;
struct suppress_op {
    const char *name;
    struct json_object *args; // borrowed; NULL: none
    struct bytes actor;
    struct wall now;
    const struct store_directory *directory; // names of accounts
};
// The operations there are, from 0; NULL beyond the last. *out_writes: it may change something.
const char *suppress_list_op(size_t n, bool *out_writes);
int suppress_list_apply(struct suppress_list *l, const struct suppress_op *op,
                        struct json_object **out, struct buf *error) MUST_USE;

// A copy into a new file, in steps of `pages`; E_AGAIN: there is more. The list may be used in between.
struct suppress_copy;
int suppress_copy_begin(struct suppress_list *l, const char *path,
                        struct suppress_copy **out) MUST_USE;
int suppress_copy_step(struct suppress_copy *c, int pages) MUST_USE;
void suppress_copy_end(struct suppress_copy *c); // always

// Entries added, removed and expired since it was opened.
struct suppress_list_counts {
    uint64_t added, removed, expired;
};
struct suppress_list_counts suppress_list_counts(const struct suppress_list *l);
