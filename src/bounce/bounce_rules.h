// SPDX-License-Identifier: MIT
//
// bounce_rules - what receivers' replies mean: codes and words, from one file
//
// The built-in file is data/bounce-rules.yaml; the parameter bounce.rules names one whose rules
// come before these. docs/BOUNCES.md has the format. All words of all rules are searched for in one
// pass over a reply (bounce_words.h).
//
// Owner:    the rules own all; bounce_rules_free() frees it.
// Thread:   any, once loaded: nobody writes to it.
// Limits:   those below.
#pragma once

#include "base/buf.h"
#include "mail/bounce_reason.h"

#define BOUNCE_RULES_FILE_MAX ((size_t)1 << 20)
#define BOUNCE_RULES_MAX 2000
#define BOUNCE_PHRASES_MAX 10000    // of all rules
#define BOUNCE_PHRASE_BYTES_MAX 200 // of one

struct bounce_rules;

// What a server said. code: 0 if unknown; enhanced: "5.1.1", or empty; text: its words, lines
// parted by anything white.
struct bounce_reply {
    uint16_t code;
    struct bytes enhanced;
    struct bytes text;
};

struct bounce_verdict {
    struct bounce_class class;
    bool again;           // worth another attempt: every 4xx, and a 5xx whose rule says so
    struct bytes rule;    // name of the rule that held, borrowed from the rules; empty: none
    uint32_t alternative; // which of the rule's words, statuses and codes, counted over all rules
};

// Only the built-in ones; never fails.
struct bounce_rules *bounce_rules_default(void);
// `text` is a file's contents, `name` stands in the errors ("name:line:column: error: text"). The
// built-in rules follow its own unless it says `builtin: no`. E_SYNTAX, with *out NULL.
int bounce_rules_load(struct bytes text, const char *name, struct bounce_rules **out,
                      struct buf *errors) MUST_USE;
void bounce_rules_free(struct bounce_rules *rules); // NULL is fine

// The first rule that holds. Linear in the text; a reply without any rule is BOUNCE_OTHER, of 2xx
// BOUNCE_DELIVERED.
struct bounce_verdict bounce_rules_match(const struct bounce_rules *rules,
                                         const struct bounce_reply *reply);

// For tests: how many alternatives there are, and whose they are.
uint32_t bounce_rules_alternatives(const struct bounce_rules *rules);
void bounce_rules_describe(const struct bounce_rules *rules, uint32_t alternative,
                           struct buf *out); // "gmail-quota: words 'over quota'"
