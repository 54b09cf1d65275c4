// SPDX-License-Identifier: MIT
//
// import_postfix - a posthaste configuration made from Postfix's
//
// The configuration is built section by section; above each key stands the Postfix parameter it came from. Whatever
// main.cf sets is told of once: taken over, replaced by something of ours, or not taken over, with what to do.
#pragma once

#include "cli/postfix_cf.h"

#define IMPORT_LIST_FILES_MAX 20 // that one list names, and they in turn: one may name itself

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
    struct import_read *tables; // those read so far
    struct import_list *lists;  // of domains, likewise
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
// "# master.cf: SERVICE -o NAME=VALUE", a line.
void import_add_override(const struct postfix_service *s, const struct postfix_param *p,
                         struct buf *out);
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

// ---- where mail goes ---------------------------------------------------------------------------------

#define IMPORT_VIA 300
#define IMPORT_MAILDIRS "/var/mail/posthaste" // the unit lets the service write there

#define IMPORT_NOWHERE "nowhere" // no value of `via`: the result is refused until somebody decides

// Where a transport and its next hop lead.
struct import_target {
    char via[IMPORT_VIA];                  // "" : nowhere that we know
    bool smtp;                             // TLS and logins make sense
    bool implicit_tls;                     // smtps://
    const struct postfix_service *service; // the transport in master.cf, or NULL
    bool refuses;                          // error: or retry:, and so no `via`
    const char *note;                      // for a comment, or NULL
    struct bytes nexthop;                  // as Postfix looks it up: for logins and TLS policies
};

// "smtp:[host]:port", "lmtp:unix:path", ":[host]", "discard:", "smtp:".
void import_parse_target(struct import *im, struct bytes text, struct import_target *out);
// By transport_maps, for mail to somebody in the domain; false: no entry of it that we could follow.
bool import_transport_of(struct import *im, struct bytes domain, struct import_target *out);
// Has it an entry there that says only that the rest of the table is not for it?
bool import_is_exempt(struct import *im, struct bytes domain);
// A route with its login and TLS. `match` is the inside of match: {}, empty for everything; `recipients` a table's
// path or empty. E_IO: the login's file.
int import_route(struct import *im, const char *match, const struct import_target *t,
                 struct bytes recipients) MUST_USE;

// import_postfix_local.c: the recipient table that Postfix's aliases become. What is read is written and told of at
// once; import_aliases_done() in any case. E_IO.
struct import_aliases;
int import_aliases_read(struct import *im, struct import_aliases **out) MUST_USE;
void import_aliases_done(struct import_aliases *a);
// Routes for domains of aliases that are not this host's own; `fallback`: where mail goes that nothing else decides.
int import_aliases_print(struct import_aliases *a, const struct import_target *fallback) MUST_USE;
// The route for domains of this host that the parameter lists, by the first transport that is set: for those that
// transport_maps exempts, which come before its entries, or for the others.
int import_local(struct import *im, const struct import_aliases *a, const char *name, bool exempt,
                 const char *const *transports) MUST_USE;
// Is it a domain of this host?
bool import_is_own(struct import *im, struct bytes domain);

// ---- tables ------------------------------------------------------------------------------------------

struct import_entry {
    struct bytes key, value;
    uint32_t line;
    struct import_entry *next;
};
// The entries of a table such as "hash:/etc/postfix/transport", from its text; also from beside main.cf, where it is
// not where it says. Not to be changed: who asks again gets the same. NULL with *out_why set: it has no text, or can't be
// read. An empty table is NULL, too.
struct import_entry *import_table(struct import *im, struct bytes map, const char **out_why);
// A file that main.cf names: from where it says, or of that name beside main.cf.
int import_read_file(struct import *im, struct bytes path, struct buf *out) MUST_USE;
// Writes a file of `files`; NULL as `text`.at: none is written. Its path lives in im->cf.arena.
int import_write(struct import *im, struct bytes name, struct bytes text,
                 struct bytes *out_path) MUST_USE;
