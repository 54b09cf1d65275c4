// SPDX-License-Identifier: MIT
//
// local_recipients - who exists in our local domains, and which addresses stand for others
//
// A text file, one entry a line; "#" starts a comment; blank lines don't count:
//
//     option subaddress +          user+anything stands for user where it is not listed itself
//     anna@example.org             exists
//     postmaster@example.org: anna@example.org, ops@example.net
//                                  an alias: its mail goes to the targets instead
//     @example.org                 catch-all: every other user of the domain exists
//     @example.org: anna@example.org
//                                  ... and its mail goes there
//
// Addresses compare case-insensitively. Targets in listed domains are expanded in turn and must
// exist. An alias that names itself keeps a copy, also of mail that comes by another alias; apart from that an
// address met again within one expansion is left out, so that loops end; one that would expand to
// nothing is an error.
//
// Owner:    the table owns all; results are written to the caller's arena.
// Thread:   any, once made. A reload makes a new one.
// Limits:   LOCAL_FILE_MAX bytes, LOCAL_LINE_MAX bytes a line, LOCAL_TARGETS_MAX addresses from one
// alias,
//           LOCAL_DEPTH_MAX aliases in a row.
#pragma once

#include "base/arena.h"
#include "base/buf.h"

#define LOCAL_FILE_MAX ((size_t)64 << 20)
#define LOCAL_LINE_MAX 8192
#define LOCAL_TARGETS_MAX 1000
#define LOCAL_DEPTH_MAX 20
#define LOCAL_ERRORS_MAX 50

struct local_recipients;

// All errors are appended to `errors`, each "FILE:LINE: error: text". E_SYNTAX, E_LIMIT.
int local_recipients_parse(struct bytes text, const char *file, struct local_recipients **out,
                           struct buf *errors) MUST_USE;
void local_recipients_free(struct local_recipients *t); // NULL is fine

enum local_answer {
    LOCAL_UNKNOWN, // 550 5.1.1
    LOCAL_MAILBOX, // exists; deliver to the address itself (without its subaddress: `targets[0]`)
    LOCAL_ALIAS,   // goes to `targets` instead
};
// Who is "user@domain"? The targets are in `arena`, domains in routing form; the local parts of those
// in listed domains are in lower case, of others as written.
enum local_answer local_recipients_find(const struct local_recipients *t, struct bytes address,
                                        struct arena *arena, struct bytes **out_targets,
                                        size_t *out_count);
size_t local_recipients_count(const struct local_recipients *t);
// The hash of the text it was made from.
uint64_t local_recipients_fingerprint(const struct local_recipients *t);
