// SPDX-License-Identifier: MIT
//
// conf_params - the one table of parameters: name, help, type, range, unit, default, reloadable
//
// From a row come parsing, its error texts, `check-config`, the documentation and the tests. To add
// a parameter: a field in struct conf, a row here.
#pragma once

#include "conf/conf.h"

enum conf_type {
    CONF_MAP,      // a section
    CONF_ENTRIES,  // a list of maps: field `struct X *`, its count beside it
    CONF_DURATION, // int64_t, milliseconds
    CONF_SIZE,     // uint64_t, bytes
    CONF_COUNT,    // uint32_t or uint64_t
    CONF_DECIMAL,  // uint32_t or uint64_t, thousandths
    CONF_BOOL,
    CONF_ENUM,
    CONF_NAME,     // struct bytes
    CONF_HOSTNAME, // struct bytes
    CONF_TEXT,     // struct bytes; no control characters
    CONF_PATH,     // struct bytes; made absolute
    CONF_ENDPOINT, // struct bytes, a bool beside it
    CONF_VIA,      // struct conf_via
    CONF_MAILBOX,  // struct bytes; user@domain in plain ASCII
    CONF_CIDRS,    // struct conf_cidr *, its count beside it
    CONF_IPS,      // the same, single addresses only
    CONF_SERVERS,  // struct bytes *, its count beside it
    CONF_PATTERNS, // struct conf_patterns of addresses
    CONF_NAMES,    // struct conf_patterns of names
};

struct conf_param {
    const char *name; // "limits.message_size", "listeners[].tls"
    const char *help;
    enum conf_type type;
    uint32_t offset; // of the field, in struct conf or in the list's entry
    uint32_t width;  // of the field, in bytes; of an entry, for CONF_ENTRIES
    uint32_t count_offset;
    uint32_t any_offset;       // CONF_ENDPOINT: of the bool that is set by "*:PORT"
    uint64_t min, max;         // of a number, in the field's unit
    const char *const *words;  // CONF_ENUM: ended by NULL, index is the value
    const char *initial;       // default as a file would say it; NULL: not set
    const char *shown_default; // instead of `initial` in the documentation
    bool none;                 // accepts `none`: number 0, text not set
    bool required;
    bool secret; // its value is shown to nobody
    bool reloadable;
    bool not_bounces; // of a listener: one with role: bounces can't have it
};

extern const struct conf_param conf_params[];
extern const uint32_t conf_params_count;

// The row of that name, or NULL.
const struct conf_param *conf_param_find(struct bytes name);
// Does the row stand directly in the section `section` ("", "limits.", "listeners[].")?
bool conf_param_is_child(const struct conf_param *param, struct bytes section);
// The last part of the row's name: "tls" of "listeners[].tls".
struct bytes conf_param_key(const struct conf_param *param);
// What it accepts, in words: "a duration from 1s to 30d, such as 10s, 1h30m or 5d".
void conf_param_describe(const struct conf_param *param, struct buf *out);
// The nearest known key for one that is unknown in `section`; empty if nothing is near.
struct bytes conf_param_nearest(struct bytes section, struct bytes key);
