// SPDX-License-Identifier: MIT
//
// import_postfix - a posthaste configuration made from Postfix's
//
// The configuration is built section by section; above each key stands the Postfix parameter it came from. Whatever
// main.cf sets is told of once: taken over, replaced by something of ours, or not taken over, with what to do.
#pragma once

#include "cli/postfix_cf.h"

struct import {
    struct postfix_cf cf;
    const char *main_file;
    const char *files;         // folder for passwords and recipient tables; NULL: none are written
    struct buf out;            // the configuration
    struct buf replaced, left; // comments for its end
    struct buf errors;         // what ends the import
    int64_t lifetime_ms, warn_ms; // as written, to keep them in order
    bool needs_certificate;       // some listener wants logins, and Postfix has none
    bool has_certificate;
};

// Builds all of im->out from im->cf. E_IO where a file below `files` can't be written; `errors` says which.
int import_postfix(struct import *im) MUST_USE;

// ---- between its files -------------------------------------------------------------------------------

// A line of the configuration, or of its comments.
void import_line(struct import *im, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The parameter has been dealt with; it need not be set.
void import_told(struct import *im, const char *name);
// "# from NAME = VALUE" above a key; the parameter is dealt with.
void import_from(struct import *im, const char *name, int indent);
// It is dealt with, and this is why nothing came of it, or something else.
void import_replaced(struct import *im, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void import_left(struct import *im, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// A value as YAML text. Lives in im->cf.arena.
struct bytes import_yaml(struct import *im, struct bytes text);
// The rest of main.cf, and of the services' own settings: by a table of what is known of Postfix's parameters.
void import_the_rest(struct import *im);

// import_postfix_listeners.c: listeners, tls; sendmail
void import_listeners(struct import *im);
void import_sendmail(struct import *im);
// import_postfix_routes.c: routes, lanes. E_IO.
int import_routes(struct import *im) MUST_USE;

// ---- tables ------------------------------------------------------------------------------------------

struct import_entry {
    struct bytes key, value;
    uint32_t line;
    struct import_entry *next;
};
// The entries of a table such as "hash:/etc/postfix/transport", from its text; also from beside main.cf, where it is
// not where it says. NULL with *out_why set: it has no text, or can't be read. An empty table is NULL, too.
struct import_entry *import_table(struct import *im, struct bytes map, const char **out_why);
// Writes a file of `files`; NULL as `text`.at: none is written. Its path lives in im->cf.arena.
int import_write(struct import *im, struct bytes name, struct bytes text,
                 struct bytes *out_path) MUST_USE;
