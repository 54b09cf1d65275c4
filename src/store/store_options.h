// SPDX-License-Identifier: MIT
//
// store_options - what an account may choose about its mail: names, allowed values, defaults
//
// Set by the operation account.set, read by workers from store_account.options: an index into the
// option's values, for which the enums here have names. To add an option: an enum value here, its
// row in store_options.c, an enum for its values.
#pragma once

#include "base/buf.h"

enum store_option {
    STORE_OPTION_PREFLIGHT,   // what becomes of mail that looks bad to receivers
    STORE_OPTION_UNSUBSCRIBE, // add a one-click List-Unsubscribe to bulk mail
    STORE_OPTION_RETURN_PATH, // bounces come to us
    STORE_OPTION_SUPPRESSED,  // what becomes of mail to an address on the suppression list
    STORE_OPTION_PRIORITY,    // how urgent its mail may call itself (MT-PRIORITY, RFC 6710)
};
#define STORE_OPTIONS_COUNT 5

enum store_preflight {
    STORE_PREFLIGHT_OFF,
    STORE_PREFLIGHT_WARN,
    STORE_PREFLIGHT_HOLD,
    STORE_PREFLIGHT_REFUSE,
};
enum store_unsubscribe { STORE_UNSUBSCRIBE_OFF, STORE_UNSUBSCRIBE_BULK };
enum store_suppressed { STORE_SUPPRESSED_REFUSE, STORE_SUPPRESSED_REMOVE };
enum store_priority {
    STORE_PRIORITY_ANY,
    STORE_PRIORITY_NORMAL, // 0 and less
    STORE_PRIORITY_OFF,    // always 0
};
enum store_return_path {
    STORE_RETURN_PATH_OFF,
    STORE_RETURN_PATH_MESSAGE,   // recipients that share a transaction share it
    STORE_RETURN_PATH_RECIPIENT, // each recipient has a transaction, and a return path, of its own
};

#define STORE_OPTION_VALUES_MAX 4

struct store_option_row {
    const char *name;
    const char *help;                            // one line, for people
    const char *values[STORE_OPTION_VALUES_MAX]; // behind the last: NULL
    uint8_t default_value;                       // an index of values
};

// The option's row; i < STORE_OPTIONS_COUNT.
const struct store_option_row *store_option_row(enum store_option option);
// By name, case-insensitive. E_NOT_FOUND.
int store_option_find(struct bytes name, enum store_option *out) MUST_USE;
// A value by its name, case-insensitive. E_SYNTAX.
int store_option_parse(enum store_option option, struct bytes text, uint8_t *out) MUST_USE;
// "off, warn, hold or refuse"
void store_option_list_values(enum store_option option, struct buf *out);
