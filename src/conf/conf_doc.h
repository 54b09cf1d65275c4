// SPDX-License-Identifier: MIT
//
// conf_doc - the parameter table for people: `posthaste help configuration` and docs/INTERFACE.md
#pragma once

#include "base/buf.h"

struct conf_param;

// The default as people read it: "30s", "required", "not set".
const char *conf_doc_default(const struct conf_param *param);
// Plain text: name, help, what it accepts, default. Of the key `name` only, or of a section all keys, with or without
// []; empty: all. False: there is no such key.
bool conf_doc_text(struct bytes name, struct buf *out);
// The same as Markdown tables, one a section.
void conf_doc_markdown(struct buf *out);
