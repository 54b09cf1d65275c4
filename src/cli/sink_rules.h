// SPDX-License-Identifier: MIT
//
// sink_rules - how a sink treats whom at which step; from a text file, one rule a line
//
//     # WHO          STEP     [WHEN]    ACTION
//     example.org    rcpt     first 2   defer 451 4.7.1 greylisted
//     slow.example   data               delay 500
//     *              content            drop 1000
//     *              final    10%       refuse 554 5.6.0 no thanks
//     *              connect  rate 50   defer 421 4.7.0 too many connections
//
//     WHO     = "*" / domain / address; case does not matter. connect and helo know of nobody: "*"
//     only.
//               mail asks for the sender, the other steps for a recipient (final and content: any
//               of them).
//     STEP    = connect / helo / mail / rcpt / data / content / final
//     WHEN    = P% (of the times) / first N (times for each address) / after N / rate N (what goes
//     beyond N
//               a second)
//     ACTION  = accept / refuse [CODE [TEXT]] / defer [CODE [TEXT]] / delay MS / drop [BYTES] /
//     hang / lose
//
// The first rule whose WHO, STEP and WHEN hold decides; a delay is added up and the search goes on;
// without a rule the step is accepted. TEXT may hold "\n" for a reply of several lines. drop closes
// the connection by a reset, at step content after BYTES of it. A reply of 421 closes it in order.
//
// Limits:   SINK_RULES_MAX rules, SINK_RULE_LINE_MAX bytes a line.
#pragma once

#include "base/buf.h"
#include "base/clock.h"

#define SINK_RULES_MAX 1000
#define SINK_RULE_LINE_MAX 1024
#define SINK_DELAY_MS_MAX ((uint64_t)86400 * 1000)

enum sink_step {
    SINK_CONNECT,
    SINK_HELO,
    SINK_MAIL,
    SINK_RCPT,
    SINK_DATA,
    SINK_CONTENT,
    SINK_FINAL,
    SINK_STEPS
};

struct sink_rules;

// Errors are appended to `errors`, each "FILE:LINE: error: text". E_SYNTAX, E_LIMIT.
int sink_rules_parse(struct bytes text, const char *file, struct sink_rules **out,
                     struct buf *errors) MUST_USE;
// Reads the file; also E_NOT_FOUND, E_DENIED, E_IO.
int sink_rules_load(const char *file, struct sink_rules **out, struct buf *errors) MUST_USE;
void sink_rules_free(struct sink_rules *r); // NULL is fine

struct sink_verdict {
    enum { SINK_ACCEPT, SINK_REPLY, SINK_DROP, SINK_HANG, SINK_LOSE } kind;
    uint16_t code;     // SINK_REPLY
    struct bytes text; // SINK_REPLY: enhanced code and words, lines parted by LF
    int64_t delay_ms;  // before any of it
    uint64_t drop_after_bytes;
};

// What to do at this step; `addresses` are those it is about (none: connect, helo). NULL rules
// accept. Counts for first, after and rate.
struct sink_verdict sink_rules_ask(struct sink_rules *r, enum sink_step step,
                                   const struct bytes *addresses, size_t count, struct mono now);
