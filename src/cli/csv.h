// SPDX-License-Identifier: MIT
//
// csv - records of comma-separated values (RFC 4180)
//
//     record = field *("," field)        field = *TEXT / DQUOTE *(TEXTDATA / COMMA / CR / LF / 2DQUOTE) DQUOTE
//
// Limits: CSV_FIELDS_MAX fields of a record.
#pragma once

#include "base/arena.h"
#include "base/buf.h"

#define CSV_FIELDS_MAX 32

struct csv_record {
    struct bytes fields[CSV_FIELDS_MAX]; // borrow from the line, or live in the arena
    size_t count;
};

// One record without its line end; spaces around unquoted fields are dropped. E_AGAIN: a quoted field is open, the
// record goes on behind the line's end. E_SYNTAX: text behind a closing quote; E_LIMIT: too many fields.
int csv_parse(struct bytes line, struct arena *arena, struct csv_record *out) MUST_USE;
// Appends a field, quoted where it must be. A field that a spreadsheet would take for a formula is not changed.
void csv_add(struct buf *out, struct bytes field);
