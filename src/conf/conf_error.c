// SPDX-License-Identifier: MIT
#include "conf/conf_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

#define SHOWN_LINE_MAX 160  // characters of a source line shown
#define ERROR_TEXT_MAX 1024 // bytes of one error's text

void conf_errors_init(struct conf_errors *errors, struct arena *arena, struct bytes source,
                      const char *name)
{
    *errors = (struct conf_errors){.arena = arena, .source = source, .name = name};
    errors->at = arena_new(arena, CONF_ERRORS_MAX * sizeof *errors->at);
}

static void format_text(char out[ERROR_TEXT_MAX], const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static void format_text(char out[ERROR_TEXT_MAX], const char *format, va_list args)
{
    vsnprintf(out, ERROR_TEXT_MAX, format, args);
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

void conf_errors_add(struct conf_errors *errors, struct conf_place place, const char *format, ...)
{
    uint32_t order = errors->count++;
    if (errors->stored == CONF_ERRORS_MAX)
        return;
    char text[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    errors->at[errors->stored++] =
        (struct conf_error){place, order, arena_dup(errors->arena, bytes_cstr(text))};
}

bool conf_errors_within(const struct conf_errors *errors, uint32_t first_line, uint32_t last_line)
{
    for (uint32_t i = 0; i < errors->stored; i++)
        if (errors->at[i].place.line >= first_line && errors->at[i].place.line <= last_line)
            return true;
    return errors->count > errors->stored; // it may have been one of the others
}

static int error_cmp(const void *a, const void *b)
{
    const struct conf_error *x = a, *y = b;
    if (x->place.line != y->place.line)
        return x->place.line < y->place.line ? -1 : 1;
    if (x->place.column != y->place.column)
        return x->place.column < y->place.column ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static struct bytes source_line(struct bytes source, uint32_t line)
{
    struct bytes text = BYTES_NONE;
    for (uint32_t i = 0; i < line; i++)
        if (!bytes_cut(&source, '\n', &text))
            return BYTES_NONE;
    return bytes_ends(text, BYTES("\r")) ? bytes_first(text, text.len - 1) : text;
}

// How many bytes the character at s takes; bytes that are no UTF-8 count one each.
static size_t char_bytes(struct bytes s)
{
    unsigned char c = (unsigned char)s.at[0];
    size_t n = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    return n <= s.len && bytes_is_utf8(bytes_first(s, n)) ? n : 1;
}

// The line as it may be shown on a terminal: control bytes and broken UTF-8 become '?', a tab one
// blank, so that one character stays one column.
static void add_source_line(struct buf *out, struct bytes line)
{
    for (int column = 0; line.len && column < SHOWN_LINE_MAX; column++) {
        size_t n = char_bytes(line);
        unsigned char c = (unsigned char)line.at[0];
        if (c == '\t')
            buf_add_byte(out, ' ');
        else if (n == 1 && (c < 0x20 || c >= 0x7f))
            buf_add_byte(out, '?');
        else
            buf_add(out, bytes_first(line, n));
        line = bytes_skip(line, n);
    }
}

static void add_caret(struct buf *out, struct conf_place place)
{
    for (uint32_t i = 1; i < place.column; i++)
        buf_add_byte(out, ' ');
    buf_add_byte(out, '^');
    for (uint32_t i = 1; i < place.length && place.column + i <= SHOWN_LINE_MAX; i++)
        buf_add_byte(out, '~');
}

static void format_error(const struct conf_errors *errors, const struct conf_error *e,
                         struct buf *out)
{
    if (!e->place.line) {
        buf_printf(out, "%s: error: %s\n", errors->name, e->text.at);
        return;
    }
    buf_printf(out, "%s:%u:%u: error: %s\n", errors->name, e->place.line, e->place.column,
               e->text.at);
    struct bytes line = source_line(errors->source, e->place.line);
    if (!bytes_trim(line).len || e->place.column > SHOWN_LINE_MAX)
        return;
    buf_add_cstr(out, "    ");
    add_source_line(out, line);
    buf_add_cstr(out, "\n    ");
    add_caret(out, e->place);
    buf_add_byte(out, '\n');
}

void conf_errors_format(struct conf_errors *errors, struct buf *out)
{
    qsort(errors->at, errors->stored, sizeof *errors->at, error_cmp);
    for (uint32_t i = 0; i < errors->stored; i++)
        format_error(errors, &errors->at[i], out);
    if (errors->count > errors->stored)
        buf_printf(out, "%s: error: and %u more\n", errors->name, errors->count - errors->stored);
}

void conf_error_format(const struct conf *conf, struct conf_place place, struct buf *out,
                       const char *format, ...)
{
    const struct conf_errors all = {.source = conf->source, .name = conf->file.at};
    char text[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    const struct conf_error one = {.place = place, .text = bytes_cstr(text)};
    format_error(&all, &one, out);
}
