// SPDX-License-Identifier: MIT
#include "cli/csv.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

// A quoted field; *at is behind its first quote, then behind its last.
static int take_quoted(struct bytes line, size_t *at, struct arena *arena, struct bytes *out)
{
    char *space = arena_new(arena, line.len - *at + 1);
    size_t len = 0;
    for (size_t i = *at; i < line.len; i++) {
        bool quote = line.at[i] == '"';
        if (quote && (i + 1 == line.len || line.at[i + 1] != '"')) {
            *out = bytes_of(space, len);
            *at = i + 1;
            return OK;
        }
        if (quote)
            i++;
        space[len++] = line.at[i];
    }
    return E_AGAIN;
}

static void take_plain(struct bytes line, size_t *at, struct bytes *out)
{
    size_t begin = *at, end;
    while (*at < line.len && line.at[*at] != ',')
        (*at)++;
    end = *at;
    while (end > begin && is_blank(line.at[end - 1]))
        end--;
    *out = bytes_mid(line, begin, end - begin);
}

int csv_parse(struct bytes line, struct arena *arena, struct csv_record *out)
{
    size_t at = 0;
    out->count = 0;
    for (;;) {
        if (out->count == CSV_FIELDS_MAX)
            return E_LIMIT;
        struct bytes *field = &out->fields[out->count++];
        int err = OK;
        while (at < line.len && is_blank(line.at[at]))
            at++;
        if (at < line.len && line.at[at] == '"') {
            at++;
            err = take_quoted(line, &at, arena, field);
        } else {
            take_plain(line, &at, field);
        }
        if (err)
            return err;
        while (at < line.len && is_blank(line.at[at]))
            at++;
        if (at == line.len)
            return OK;
        if (line.at[at++] != ',')
            return E_SYNTAX;
    }
}

void csv_add(struct buf *out, struct bytes field)
{
    bool plain = field.len == 0 || (!is_blank(field.at[0]) && !is_blank(field.at[field.len - 1]));
    for (size_t i = 0; i < field.len && plain; i++)
        plain =
            field.at[i] != '"' && field.at[i] != ',' && field.at[i] != '\n' && field.at[i] != '\r';
    if (plain) {
        buf_add(out, field);
        return;
    }
    buf_add_byte(out, '"');
    for (size_t i = 0; i < field.len; i++) {
        if (field.at[i] == '"')
            buf_add_byte(out, '"');
        buf_add_byte(out, field.at[i]);
    }
    buf_add_byte(out, '"');
}
