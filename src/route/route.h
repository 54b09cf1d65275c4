// SPDX-License-Identifier: MIT
//
// route - where a recipient's mail goes: the first of routes[] that matches
//
// A table is made from a configuration and from the recipient tables it names. Queued mail carries
// a *route key*: the number of the entry that matched, marked with the table's generation, so that
// after a reload mail queued under an older table is recognised and looked up again
// (QUEUE_REROUTED).
//
// Owner:    a table owns its entries and local recipient tables; it borrows the configuration.
// Thread:   any, once made: nobody writes to it.
// Limits:   ROUTE_MAX routes (the configuration's limit is lower).
#pragma once

#include "base/buf.h"
#include "conf/conf.h"
#include "mail/envelope.h"
#include "route/route_file.h"

#define ROUTE_MAX 65534
#define ROUTE_LOGIN_SHOWN 32         // bytes of a login that names of lanes show
#define ROUTE_KEY_UNKNOWN UINT32_MAX // of no table: such mail comes back as QUEUE_REROUTE

struct route_table;
struct local_recipients;

// What a route may ask about; BYTES_NONE where there is none.
struct route_question {
    struct bytes recipient; // "user@domain"
    struct bytes domain;    // its routing domain (A-labels); a pattern may match either form
    struct bytes sender;    // reverse-path; empty is the null sender, matched by "*" only
    struct bytes account;   // name
    struct bytes listener;  // name
};

// One entry, read-only.
struct route {
    uint32_t number; // its place in routes[]
    const struct conf_route *conf;
    struct bytes login, password; // AUTH to a smarthost; empty: none. Never logged.
    // Which of the table's logins at this host that look like this one (by ROUTE_LOGIN_SHOWN bytes): 1, 2 ... in the
    // order of routes[], one number for each login and password. 0: none.
    uint32_t login_number;
    const struct local_recipients *locals; // NULL: any recipient is taken
    uint64_t fingerprint; // of what decides where and how: equal means same treatment
};

// Reads recipient tables and password files. On failure *out is NULL and `errors` (appended to, one
// line each, "FILE:LINE: error: text") has all of them. E_SYNTAX, E_NOT_FOUND, E_DENIED, E_IO,
// E_LIMIT. files: where they come from; NULL: opened by their paths. generation: one more for each table whose routes differ from the last one's; 0 .. 65535,
// wraps.
int route_table_new(const struct conf *conf, const struct route_files *files, uint32_t generation,
                    struct route_table **out, struct buf *errors) MUST_USE;
void route_table_free(struct route_table *t); // NULL is fine
uint32_t route_table_generation(const struct route_table *t);
// Would every recipient be treated alike by both? Then the new one may keep the old one's
// generation.
bool route_table_same(const struct route_table *a, const struct route_table *b);

// The first route that matches; without any, the default: by MX, tls may. Never NULL.
const struct route *route_pick(const struct route_table *t, const struct route_question *question);
// The same when only the domain is known (recovery). NULL: the other facts decide.
const struct route *route_pick_domain(const struct route_table *t, struct bytes domain);
// The key to queue a recipient under, and back; route_get() is NULL for a key of another
// generation.
uint32_t route_key(const struct route_table *t, const struct route *r);
const struct route *route_get(const struct route_table *t, uint32_t key);
// Does the route deliver here rather than hand on to the domain's own servers (has a recipient
// table, or goes to LMTP, a Maildir or nowhere)?
bool route_is_local(const struct route *r);

// The path of a Maildir for one recipient: %d its domain, %u its local part, %% a percent sign. So
// that no address leaves the folder it was meant for, a value that is empty, begins with a dot, has
// "/", NUL or a control byte in it, or is longer than ROUTE_PATH_PART_MAX is E_DENIED; so is a
// result with "." or ".." as a component. ASCII letters of both are made lower-case. E_LIMIT:
// longer than ROUTE_PATH_MAX.
#define ROUTE_PATH_PART_MAX 200
#define ROUTE_PATH_MAX 4000
int route_expand_path(struct bytes pattern, struct bytes local_part, struct bytes domain,
                      struct buf *out) MUST_USE;
