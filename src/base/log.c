// SPDX-License-Identifier: MIT
#include "base/log.h"

#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

#define LOG_LINE_MAX 16384 // bytes; a longer line ends in "..."
#define LOG_LINE_USUAL 500

static _Atomic int max_level = LOG_INFO;
static _Atomic int line_format = LOG_TEXT;
static void (*capture_fn)(void *ctx, struct bytes line);
static void *capture_ctx;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_setup(enum log_level level, enum log_format format)
{
    atomic_store(&max_level, (int)level);
    atomic_store(&line_format, (int)format);
}

enum log_level log_max_level(void)
{
    return (enum log_level)atomic_load_explicit(&max_level, memory_order_relaxed);
}

void log_capture(void (*fn)(void *ctx, struct bytes line), void *ctx)
{
    capture_ctx = ctx;
    capture_fn = fn;
}

static void add_time(struct buf *line)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    wall_format((struct wall){now.tv_sec * 1000000LL + now.tv_nsec / 1000}, line);
}

// Shows a value bare when nothing in it could be mistaken for the line's own structure.
static void add_text_value(struct buf *line, struct bytes value)
{
    size_t start = line->len;
    buf_add_byte(line, '"');
    buf_add_escaped(line, value, LOG_VALUE_MAX);
    if (line->err)
        return;
    struct bytes shown = bytes_skip(buf_bytes(line), start + 1);
    if (shown.len && bytes_find(shown, ' ') < 0 && bytes_find(shown, '\\') < 0 &&
        bytes_find(shown, '=') < 0) {
        memmove(line->at + start, line->at + start + 1, shown.len);
        buf_truncate(line, line->len - 1);
    } else
        buf_add_byte(line, '"');
}

static void write_text(struct buf *line, enum log_level level, const char *text,
                       const struct log_field *fields, size_t count)
{
    add_time(line);
    buf_add_byte(line, ' ');
    buf_add_cstr(line, level_names[level]);
    buf_add_byte(line, ' ');
    buf_add_cstr(line, text);
    for (size_t i = 0; i < count && !line->err; i++) {
        buf_add_byte(line, ' ');
        buf_add_cstr(line, fields[i].key);
        buf_add_byte(line, '=');
        if (fields[i].kind == LOG_FIELD_INT)
            buf_add_i64(line, fields[i].number);
        else
            add_text_value(line, fields[i].text);
    }
}

static void add_json_value(struct buf *line, struct bytes value)
{
    bool is_cut = value.len > LOG_VALUE_MAX;
    size_t end = is_cut ? LOG_VALUE_MAX : value.len;
    while (is_cut && end && ((unsigned char)value.at[end] & 0xc0) == 0x80)
        end--; // not inside a character
    buf_add_byte(line, '"');
    buf_add_json(line, bytes_first(value, end));
    buf_add_cstr(line, is_cut ? "...\"" : "\"");
}

static void write_json(struct buf *line, enum log_level level, const char *text,
                       const struct log_field *fields, size_t count)
{
    buf_add_cstr(line, "{\"at\":\"");
    add_time(line);
    buf_add_cstr(line, "\",\"level\":\"");
    buf_add_cstr(line, level_names[level]);
    buf_add_cstr(line, "\",\"text\":");
    add_json_value(line, bytes_cstr(text));
    for (size_t i = 0; i < count && !line->err; i++) {
        size_t before = line->len;
        buf_add_cstr(line, ",\"");
        buf_add_cstr(line, fields[i].key);
        buf_add_cstr(line, "\":");
        if (fields[i].kind == LOG_FIELD_INT)
            buf_add_i64(line, fields[i].number);
        else
            add_json_value(line, fields[i].text);
        if (line->err) { // the line is full: still one whole object
            line->err = OK;
            line->len = before;
            break;
        }
    }
    line->max = LOG_LINE_MAX + 2;
    buf_add_byte(line, '}');
}

// ---- writing ------------------------------------------------------------------------------------

static _Thread_local struct {
    bool on;
    size_t len;
    char bytes[LOG_HELD_MAX];
} held;

static void write_out(struct bytes lines)
{
    ssize_t written = write(STDERR_FILENO, lines.at, lines.len);
    (void)written; // there is nobody left to tell
}

void log_hold(void)
{
    held.on = true;
}

void log_flush(void)
{
    if (held.len)
        write_out(bytes_of(held.bytes, held.len));
    held.len = 0;
}

static void write_line(enum log_level level, struct bytes line)
{
    if (held.len + line.len > LOG_HELD_MAX)
        log_flush();
    if (!held.on || line.len > LOG_HELD_MAX) {
        write_out(line);
        return;
    }
    memcpy(held.bytes + held.len, line.at, line.len);
    held.len += line.len;
    if (level <= LOG_WARN)
        log_flush();
}

void log_write(enum log_level level, const char *text, const struct log_field *fields, size_t count)
{
    struct buf line;
    buf_init(&line, LOG_LINE_MAX);
    buf_reserve(&line, LOG_LINE_USUAL);
    if (atomic_load_explicit(&line_format, memory_order_relaxed) == LOG_JSON)
        write_json(&line, level, text, fields + 1, count);
    else
        write_text(&line, level, text, fields + 1, count);
    if (line.err) {
        line.err = OK;
        line.max = LOG_LINE_MAX + 4;
        buf_add_cstr(&line, "...");
    }
    if (capture_fn) {
        capture_fn(capture_ctx, buf_bytes(&line));
    } else {
        line.max = LOG_LINE_MAX + 8;
        buf_add_byte(&line, '\n');
        write_line(level, buf_bytes(&line));
    }
    buf_done(&line);
}
