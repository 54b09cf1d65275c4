// SPDX-License-Identifier: MIT
//
// log - one line an event: a stable text, then key=value (or one JSON object a line)
//
// error: someone must act; warn: odd, we coped; info: one per transaction and delivery; debug.
// Values are escaped here, so bytes from outside may be passed as they are. Secrets and bodies never are.
//
//     log_info("message accepted", LOG_STR("id", id), LOG_INT("size", size));
//
// Keys: each once in a line, none of them "at", "level" or "text", which JSON has for the line's own (tools/lint looks).
//
// Thread: any. A line is one write(2) to standard error; the lines of a thread that holds them are
// put together, at most LOG_HELD_MAX bytes to a write.
#pragma once

#include "base/bytes.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

#define LOG_HELD_MAX 4096 // what a pipe takes in one piece
#define LOG_VALUE_MAX 512 // bytes of one value shown, then "..."

struct log_field {
    const char *key;
    enum { LOG_FIELD_STR, LOG_FIELD_INT } kind;
    struct bytes text;
    int64_t number;
};

#define LOG_STR(key, slice) ((struct log_field){key, LOG_FIELD_STR, slice, 0})
#define LOG_CSTR(key, string) ((struct log_field){key, LOG_FIELD_STR, bytes_cstr(string), 0})
#define LOG_INT(key, value) ((struct log_field){key, LOG_FIELD_INT, BYTES_NONE, (int64_t)(value)})
#define LOG_ERR(value) ((struct log_field){"error", LOG_FIELD_STR, bytes_cstr(err_text(value)), 0})

#define log_at(level, text, ...)                                                                   \
    do {                                                                                           \
        if ((level) <= log_max_level())                                                            \
            log_write((level), (text), (const struct log_field[]){{0}, ##__VA_ARGS__},             \
                      sizeof((const struct log_field[]){{0}, ##__VA_ARGS__}) /                     \
                              sizeof(struct log_field) -                                           \
                          1);                                                                      \
    } while (0)
#define log_error(text, ...) log_at(LOG_ERROR, text, ##__VA_ARGS__)
#define log_warn(text, ...) log_at(LOG_WARN, text, ##__VA_ARGS__)
#define log_info(text, ...) log_at(LOG_INFO, text, ##__VA_ARGS__)
#define log_debug(text, ...) log_at(LOG_DEBUG, text, ##__VA_ARGS__)

// Process-wide; set before threads start, or from one thread at a time (atomic).
void log_setup(enum log_level max_level, enum log_format format);
enum log_level log_max_level(void);
// Sends lines to fn instead of standard error (tests, simulator); NULL restores it. `line` has no newline.
void log_capture(void (*fn)(void *ctx, struct bytes line), void *ctx);
// From now on this thread's lines wait for its log_flush(); errors and warnings, and what was held
// before them, go out at once. For threads that call it at the end of each turn of theirs.
void log_hold(void);
void log_flush(void); // does nothing in a thread that holds nothing
// fields[0] is a filler, then `count` fields. Use the macros.
void log_write(enum log_level level, const char *text, const struct log_field *fields,
               size_t count);
