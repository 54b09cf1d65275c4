// SPDX-License-Identifier: MIT
//
// mail_downgrade - an 8-bit message as an equal 7-bit one, for a hop without 8BITMIME (RFC 6152)
//
// Two passes over the message, so that only what must change does: the plan is fed the whole
// message and learns which parts cannot pass; the downgrade is fed it again and pushes the changed
// one out piece by piece. Text (and message/ parts other than message/rfc822) becomes
// quoted-printable, everything else base64, wherever a part has 8-bit bytes, NUL, a bare CR or LF,
// or (asked for) a line over 998. multipart/ and message/rfc822 are walked into; their boundaries
// stay. No part keeps the label 8bit or binary. All else is byte for byte the same, but that a
// header without the empty line behind it gets one, and that 8-bit bytes in a multipart's preamble
// or epilogue, which nobody reads, become "?".
//
//     struct mail_downgrade_plan plan;
//     mail_downgrade_plan_start(&plan, flags);
//     mail_downgrade_plan_feed(&plan, piece);      for every piece
//     err = mail_downgrade_plan_finish(&plan);
//     if (err == OK && plan.is_needed) {
//         d = mail_downgrade_new(&plan, emit, ctx);
//         err = mail_downgrade_feed(d, piece);     for every piece
//         err = mail_downgrade_finish(d);
//         mail_downgrade_free(d);
//     }
//     mail_downgrade_plan_done(&plan);
//
// A message never stands whole in memory: the header of the current part, one line, a byte a part.
//
// Owner:  the caller owns plan and downgrade; slices given to emit() are valid until it returns.
// Limits: mail_mime.h, mail_header.h.
// Fails:  E_DENIED: no equal 7-bit message exists (5.6.3; 5.6.7 if has_8bit_header): raw 8-bit
//         bytes in a header, 8-bit bytes in a part that is encoded already or in a multipart
//         without a usable boundary, and what KEEP_SIGNED says. E_LIMIT. E_SYNTAX: bare CR, LF or NUL in a header.
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

// Long lines force an encoding too (for a message that could not pass at all otherwise).
#define MAIL_DOWNGRADE_LONG_LINES 1u
// 8-bit bytes may pass: only long lines (if asked for), NUL, bare CR and LF force an encoding.
#define MAIL_DOWNGRADE_KEEP_8BIT 2u
// What a multipart/signed signs must not change: where it had to, there is no equal message.
#define MAIL_DOWNGRADE_KEEP_SIGNED 4u

struct mail_mime_walk;
struct mail_downgrade_plan {
    bool is_needed;       // something would change
    bool has_8bit_header; // raw UTF-8 or other 8-bit bytes in a header
    bool has_signed;      // a multipart/signed part or DKIM-Signature is there: a change breaks it
    // its own affairs
    size_t parts;
    struct buf marks; // one byte a part, in order: must it be encoded?
    struct mail_mime_walk *walk;
    unsigned flags;
    int err;
    bool is_bad;   // the current part has bytes that can't pass
    char last;     // its last byte
    size_t column; // of its current line
};

// A zeroed plan is what start() makes of it; done() frees it.
void mail_downgrade_plan_start(struct mail_downgrade_plan *plan, unsigned flags);
// Header and body, from the first byte, in pieces of any size.
void mail_downgrade_plan_feed(struct mail_downgrade_plan *plan, struct bytes piece);
int mail_downgrade_plan_finish(struct mail_downgrade_plan *plan) MUST_USE;
void mail_downgrade_plan_done(struct mail_downgrade_plan *plan);

struct mail_downgrade;
// The plan must be finished without failure and outlive this.
struct mail_downgrade *mail_downgrade_new(const struct mail_downgrade_plan *plan,
                                          void (*emit)(void *ctx, struct bytes piece), void *ctx);
// The same bytes again; E_DAMAGED if they are not those that were planned.
int mail_downgrade_feed(struct mail_downgrade *d, struct bytes piece) MUST_USE;
int mail_downgrade_finish(struct mail_downgrade *d) MUST_USE;
void mail_downgrade_free(struct mail_downgrade *d);
