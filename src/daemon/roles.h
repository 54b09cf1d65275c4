// SPDX-License-Identifier: MIT
//
// roles - the groups of the configuration's `roles`, by number
#pragma once

#include "conf/conf.h"

struct roles {
    int64_t operators, readers; // -1: none
};

// E_NOT_FOUND: there is no such group; `errors` gets each, with its place in the file.
int roles_find(const struct conf *conf, struct roles *out, struct buf *errors) MUST_USE;
// As one text for the channel, and back. E_SYNTAX.
void roles_format(const struct roles *roles, struct buf *out);
int roles_parse(struct bytes text, struct roles *out) MUST_USE;
