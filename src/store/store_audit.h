// SPDX-License-Identifier: MIT
//
// store_audit - who did what, when, through what, and what became of it
//
// One log for all: operations of the store write their row themselves, in the transaction of the change
// (store_apply()); whoever does something else begins a row before it acts, which is on disk when
// store_audit_begin() returns, and ends it before it answers. A row without an end is of an action that was cut
// short: the process died in it. Rows are never changed once they have an outcome, and go only by age.
// Verifiers, keys and lists never come into it; it is read by the operation audit.list (store.h).
//
// Limits:   STORE_AUDIT_ARGS_MAX bytes of arguments, STORE_AUDIT_TEXT_MAX of one text and of a detail; what is longer
//           is cut.
// Thread:   as store_apply(): any but a loop's.
// Fails:    E_FULL, E_IO, E_DAMAGED.
#pragma once

#include "store/store.h"

#define STORE_AUDIT_ARGS_MAX 4096
#define STORE_AUDIT_TEXT_MAX 1024

// What became of it. The words are part of the interface.
#define STORE_AUDIT_DONE "done"
#define STORE_AUDIT_UNCHANGED "unchanged" // it was so already
#define STORE_AUDIT_FAILED "failed"
#define STORE_AUDIT_REFUSED "refused" // who asked may not
#define STORE_AUDIT_STOPPED "stopped" // by who asked, before it was done

// A row that is whole at once.
int store_audit_add(struct store *store, const struct store_op *op, const char *outcome,
                    struct bytes detail) MUST_USE;
// A row for what is about to be done; its number is for store_audit_end().
int store_audit_begin(struct store *store, const struct store_op *op, int64_t *out_number) MUST_USE;
int store_audit_end(struct store *store, int64_t number, struct wall at, const char *outcome,
                    struct bytes detail) MUST_USE;
// Removes rows from before that time, at most STORE_AUDIT_TRIM_MAX at once.
#define STORE_AUDIT_TRIM_MAX 10000
int store_audit_trim(struct store *store, struct wall before) MUST_USE;
