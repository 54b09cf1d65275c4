// SPDX-License-Identifier: MIT
//
// conf_doc - the parameter table for people: `posthaste help configuration` and docs/INTERFACE.md
#pragma once

#include "base/buf.h"

// Plain text: name, help, what it accepts, default.
void conf_doc_text(struct buf *out);
// The same as Markdown tables, one a section.
void conf_doc_markdown(struct buf *out);
