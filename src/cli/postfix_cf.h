// SPDX-License-Identifier: MIT
//
// postfix_cf - Postfix's main.cf and master.cf as parameters and services (postconf(5), master(5))
//
// Lines that begin with white space go on with the one before; comments and empty lines may stand between. A later
// parameter replaces an earlier one of the same name. Values are expanded when they are asked for: $name, ${name},
// $(name), ${name?text}, ${name:text} and ${name?{text}:{text}}; comparisons are left as they stand. What main.cf does
// not set has Postfix's default, of the few parameters in DEFAULTS.
//
// Owner:  struct postfix_cf owns all; slices are NUL-terminated behind their end and live as long as it.
// Limits: POSTFIX_FILE_MAX bytes, POSTFIX_ITEMS_MAX parameters or services, POSTFIX_VALUE_MAX bytes of an expanded
//         value, POSTFIX_DEPTH_MAX names within names, POSTFIX_STEPS_MAX of them in one value; what is beyond is left out.
#pragma once

#include "base/arena.h"
#include "base/buf.h"

#define POSTFIX_FILE_MAX ((size_t)4 << 20)
#define POSTFIX_ITEMS_MAX 5000
#define POSTFIX_VALUE_MAX ((size_t)256 << 10)
#define POSTFIX_DEPTH_MAX 20
#define POSTFIX_STEPS_MAX 1000

struct postfix_param {
    struct bytes name, value; // value as written
    uint32_t line;
    bool told; // the caller's: it is dealt with
    struct postfix_param *next;
};

// A line of master.cf: "smtps inet n - y - - smtpd -o smtpd_tls_wrappermode=yes".
struct postfix_service {
    struct bytes name, type, command;
    struct postfix_param *overrides; // its -o, in their order
    uint32_t line;
    struct postfix_service *next;
};

struct postfix_cf {
    struct arena arena;
    struct bytes host; // what $myhostname is where main.cf says nothing
    struct postfix_param *params;
    struct postfix_service *services;
    uint32_t steps; // of the expansion under way
};

// Adds what stands in a main.cf or master.cf; `file` is its name in errors, each "FILE:LINE: error: text". E_SYNTAX,
// E_LIMIT.
int postfix_cf_main(struct postfix_cf *cf, struct bytes text, const char *file,
                    struct buf *errors) MUST_USE;
int postfix_cf_master(struct postfix_cf *cf, struct bytes text, const char *file,
                      struct buf *errors) MUST_USE;
void postfix_cf_done(struct postfix_cf *cf);

// Does main.cf, or the service (may be NULL), set the parameter?
bool postfix_is_set(const struct postfix_cf *cf, const struct postfix_service *service,
                    const char *name);
// Its value for the service (NULL: for none), expanded, without white space around it; empty where nobody sets it.
struct bytes postfix_get(struct postfix_cf *cf, const struct postfix_service *service,
                         const char *name);
// yes or no; `otherwise` where it is not set, or neither.
bool postfix_flag(struct postfix_cf *cf, const struct postfix_service *service, const char *name,
                  bool otherwise);
// The next part of a list separated by commas and white space; false at its end.
bool postfix_word(struct bytes *list, struct bytes *out);
