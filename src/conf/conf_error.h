// SPDX-License-Identifier: MIT
//
// conf_error - all errors of a configuration file, each shown with its line and a caret
//
// Errors are collected while the file is read and checked, and shown together, in the order of the
// file.
#pragma once

#include "conf/conf.h"

// A place in the file: line and column from 1, and how many characters the caret underlines. Line
// 0: the file as a whole.
struct conf_place {
    uint32_t line, column, length;
};

struct conf_error {
    struct conf_place place;
    uint32_t order; // as it was added
    struct bytes text;
};

struct conf_errors {
    struct arena *arena; // borrowed
    struct bytes source; // borrowed: the file's text
    const char *name;    // borrowed: the file's name
    struct conf_error *at;
    uint32_t count;  // all that were added
    uint32_t stored; // at most CONF_ERRORS_MAX of them
};

void conf_errors_init(struct conf_errors *errors, struct arena *arena, struct bytes source,
                      const char *name);
// Beyond CONF_ERRORS_MAX only counts.
void conf_errors_add(struct conf_errors *errors, struct conf_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// Is there an error within these lines?
bool conf_errors_within(const struct conf_errors *errors, uint32_t first_line, uint32_t last_line);
// Appends them, sorted by place.
void conf_errors_format(struct conf_errors *errors, struct buf *out);
// Appends one error that only this host can judge, such as a file that is not there, as those of the file are shown.
void conf_error_format(const struct conf *conf, struct conf_place place, struct buf *out,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));
