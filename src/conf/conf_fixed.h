// SPDX-License-Identifier: MIT
//
// conf_fixed - what a reload leaves as it was: the parameters whose row is not reloadable
#pragma once

#include "conf/conf.h"

// Gives each of them in `conf` the value that it has in `running`. The names of those that differed are added to
// `changed` (NULL: nobody asks), as "spool, http.address". What was checked of `conf` is not checked again: what
// a reload changes works with any value of these.
void conf_keep_fixed(struct conf *conf, const struct conf *running, struct buf *changed);
