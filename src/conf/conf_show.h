// SPDX-License-Identifier: MIT
//
// conf_show - a configuration as the YAML that would make it, and the JSON Schema of such files
//
// Both go by the table of parameters. What is shown loads again, and to the same configuration; where a parameter is
// secret its value is shown as CONF_MASK.
#pragma once

#include "conf/conf.h"

#define CONF_MASK "********"

// What holds: all that the file says; what it leaves to its default is a comment, or with `defaults` shown like the
// rest. Values without a default that are not set are comments in both cases.
void conf_show(const struct conf *conf, bool defaults, struct buf *out);
// A text as a YAML scalar: plain, or in double quotes where YAML would take it for something else.
void conf_show_text(struct bytes text, struct buf *out);
// JSON Schema, draft 2020-12, for editors: keys, types, words, ranges of numbers. What only the whole file can be
// judged by (check-config) it leaves open.
void conf_schema(struct buf *out);
