// SPDX-License-Identifier: MIT
//
// cli_table - rows for people, in columns as wide as they need and the terminal allows
//
// Cells may hold bytes from outside: they are shown escaped. Where the rows do not fit, the widest
// columns are cut and end in "~", that of IDs last; output that goes to no terminal is never cut.
#pragma once

#include "base/arena.h"
#include "base/buf.h"

#define CLI_TABLE_COLUMNS 12

struct cli_table {
    struct arena arena;
    int columns;
    uint32_t count, cap; // rows, the heading included
    struct bytes *cells; // row by row
};

// headings: as many as columns, ended by NULL.
void cli_table_init(struct cli_table *t, const char *const *headings);
void cli_table_done(struct cli_table *t);
// One cell after the other, row by row.
void cli_table_add(struct cli_table *t, struct bytes cell);
// width: characters in a line; 0: no limit.
void cli_table_format(const struct cli_table *t, uint32_t width, struct buf *out);
// To standard output, as wide as its terminal; nothing at all, not even headings, when there are no
// rows.
void cli_table_print(const struct cli_table *t);
