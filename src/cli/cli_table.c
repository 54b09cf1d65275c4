// SPDX-License-Identifier: MIT
#include "cli/cli_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"

#define GAP 2         // blanks between columns
#define COLUMN_MIN 8  // columns are not cut below this
#define CELL_MAX 4096 // bytes of a cell shown

void cli_table_init(struct cli_table *t, const char *const *headings)
{
    *t = (struct cli_table){0};
    while (headings[t->columns])
        t->columns++;
    CHECK(t->columns > 0 && t->columns <= CLI_TABLE_COLUMNS);
    for (int i = 0; i < t->columns; i++)
        cli_table_add(t, bytes_cstr(headings[i]));
}

void cli_table_done(struct cli_table *t)
{
    free(t->cells);
    arena_done(&t->arena);
    *t = (struct cli_table){0};
}

void cli_table_add(struct cli_table *t, struct bytes cell)
{
    struct buf shown = {0};
    if (t->count == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->cells = mem_resize(t->cells, t->cap * sizeof *t->cells);
    }
    buf_add_visible(&shown, cell, CELL_MAX);
    t->cells[t->count++] = arena_dup(&t->arena, buf_bytes(&shown));
    buf_done(&shown);
}

// Characters of valid UTF-8.
static uint32_t characters(struct bytes s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((unsigned char)s.at[i] & 0xc0) != 0x80;
    return n;
}

static struct bytes first_characters(struct bytes s, uint32_t n)
{
    size_t i = 0;
    for (; i < s.len; i++)
        if (((unsigned char)s.at[i] & 0xc0) != 0x80 && n-- == 0)
            break;
    return bytes_first(s, i);
}

// An ID that is cut is of no use to the next command: that column gives last.
static bool gives_last(const struct cli_table *t, int column)
{
    return bytes_eq(t->cells[column], BYTES("ID"));
}

static int widest(const struct cli_table *t, const uint32_t *widths)
{
    int found = 0, first = -1;
    for (int i = 0; i < t->columns; i++) {
        if (widths[i] > widths[found])
            found = i;
        if (!gives_last(t, i) && (first < 0 || widths[i] > widths[first]))
            first = i;
    }
    return first >= 0 && widths[first] > COLUMN_MIN ? first : found;
}

// As wide as the cells; then the widest is cut, character by character, until the line fits.
static void measure(const struct cli_table *t, uint32_t width, uint32_t *widths)
{
    uint32_t sum = (uint32_t)(t->columns - 1) * GAP;
    for (int i = 0; i < t->columns; i++)
        widths[i] = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t n = characters(t->cells[i]);
        uint32_t *column = &widths[i % (uint32_t)t->columns];
        *column = n > *column ? n : *column;
    }
    for (int i = 0; i < t->columns; i++)
        sum += widths[i];
    for (int i; width && sum > width; sum--) {
        i = widest(t, widths);
        if (widths[i] <= COLUMN_MIN)
            return;
        widths[i]--;
    }
}

static void add_cell(struct bytes cell, uint32_t width, bool last, struct buf *out)
{
    uint32_t n = characters(cell);
    if (n > width) {
        buf_add(out, first_characters(cell, width - 1));
        buf_add_byte(out, '~');
        n = width;
    } else {
        buf_add(out, cell);
    }
    for (; !last && n < width + GAP; n++)
        buf_add_byte(out, ' ');
}

void cli_table_format(const struct cli_table *t, uint32_t width, struct buf *out)
{
    uint32_t widths[CLI_TABLE_COLUMNS], columns = (uint32_t)t->columns;
    if (t->count <= columns)
        return;
    CHECK(t->count % columns == 0);
    measure(t, width, widths);
    for (uint32_t i = 0; i < t->count; i++) {
        bool last = i % columns == columns - 1;
        add_cell(t->cells[i], widths[i % columns], last, out);
        if (!last)
            continue;
        while (out->len && out->at[out->len - 1] == ' ')
            buf_truncate(out, out->len - 1);
        buf_add_byte(out, '\n');
    }
}

void cli_table_print(const struct cli_table *t)
{
    struct winsize size = {0};
    struct buf out = {0};
    bool terminal = isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    cli_table_format(t, terminal ? size.ws_col : 0, &out);
    fwrite(out.at ? out.at : "", 1, out.len, stdout);
    buf_done(&out);
}
