// SPDX-License-Identifier: MIT
//
// store_ops - what each operation does; private to src/store. store_apply() surrounds it with a
// transaction.
#pragma once

#include <json-c/json.h>

#include "base/arena.h"
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
