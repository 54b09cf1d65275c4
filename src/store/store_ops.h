// SPDX-License-Identifier: MIT
//
// store_ops - what each operation does; private to src/store. store_apply() surrounds it with a
// transaction.
#pragma once

#include <json-c/json.h>

#include "base/arena.h"
#include "base/json.h"
#include "store/store_db.h"

struct store_call {
    struct store *store;
    const struct store_op *op;
    struct arena arena;
    struct store_answer *out;
    struct buf *error;
};

struct store_op_row {
    const char *name;
    bool writes;
    int (*run)(struct store_call *call);
};

// NULL if there is no such operation.
const struct store_op_row *store_op_find(const char *name);

// ---- for operations in files of their own ------------------------------------------------------------

// An argument's text; empty where it is missing or no string.
struct bytes store_call_text(struct store_call *call, const char *key);
// Says what is wrong, to whoever asked; returns err.
int store_call_refuse(struct store_call *call, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct store_account_row {
    int64_t number, created_at;
    struct bytes name, class, state;
    bool any_sender;
};
// The account that the argument "account" names; E_SYNTAX, E_NOT_FOUND.
int store_call_account(struct store_call *call, struct store_account_row *out) MUST_USE;
// The same, which may still change: E_DENIED for a closed one.
int store_call_open_account(struct store_call *call, struct store_account_row *out) MUST_USE;
// The argument "domain", in lower-case A-labels. E_SYNTAX.
int store_call_domain(struct store_call *call, struct bytes *out) MUST_USE;
struct json_object *store_account_json(const struct store_account_row *row);

// The operations themselves: store.h has their arguments.
int store_op_account_show(struct store_call *call) MUST_USE;
int store_op_account_set(struct store_call *call) MUST_USE;
int store_op_dkim_add(struct store_call *call) MUST_USE;
int store_op_dkim_seen(struct store_call *call) MUST_USE;
int store_op_dkim_rotate(struct store_call *call) MUST_USE;
int store_op_dkim_remove(struct store_call *call) MUST_USE;
int store_op_dkim_list(struct store_call *call) MUST_USE;
int store_op_audit_list(struct store_call *call) MUST_USE;

// The audit log's row of an operation that has changed something, in its transaction (store_audit.h).
int store_audit_change(struct store_call *call) MUST_USE;
