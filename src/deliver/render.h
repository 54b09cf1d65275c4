// SPDX-License-Identifier: MIT
//
// render - a stored message as it goes on the wire to one server
//
// Identity gives the stored bytes. SEVEN_BIT gives an equivalent message for a server without 8BITMIME: parts
// that need it become quoted-printable or base64 (RFC 6152 section 3). CHECKED is identity, but only if no header of
// the message, its parts' included, has 8-bit bytes (RFC 6532): for a server without SMTPUTF8. EIGHT_BIT gives binary
// mail (RFC 3030) as lines of at most 998 octets; what a multipart/signed signs stays, or there is no such form, and so
// with SEVEN_BIT of binary mail. Content is pulled, so
// a large message never stands in memory.
//
// Each form may have header fields of its own above the stored ones: what is different for each recipient or server
// (an unsubscribe link), and the signatures that cover it.
//
// Owner:  embedded in its user; render_done() before that goes.
// Thread: the worker's; ready() runs there.
#pragma once

#include "mail/mail_downgrade.h"
#include "spool/spool_body.h"

enum render_kind { RENDER_IDENTITY, RENDER_SEVEN_BIT, RENDER_CHECKED, RENDER_EIGHT_BIT };

// Are the bytes others than those stored?
static inline bool render_converts(enum render_kind kind)
{
    return kind == RENDER_SEVEN_BIT || kind == RENDER_EIGHT_BIT;
}

#define RENDER_PIECE_BYTES 16384

struct render {
    struct stored_message *message; // its own reference
    enum render_kind kind;
    struct spool_body body;
    struct buf added;                      // header fields above the stored ones
    uint64_t added_at, header_at, body_at; // how far all three have been read
    // Not for identity. The message is read twice, first to learn what is in it
    struct mail_downgrade_plan plan;
    bool planned;
    struct mail_downgrade *downgrade; // SEVEN_BIT, once planned
    struct buf out;                   // what the downgrade has given and is not taken yet
    size_t out_taken;
    bool ended; // the second reading is over
    int err;    // the first failure of render_next()
};

// `added`: whole ASCII header fields that come first (copied), or empty. `ready(ctx)` is called once after each
// E_AGAIN of render_next().
void render_init(struct render *r, struct spool *spool, struct stored_message *m,
                 enum render_kind kind, struct bytes added, void (*ready)(void *ctx), void *ctx);
void render_done(struct render *r);
// Octets of the whole rendering; 0: not known beforehand.
uint64_t render_size(const struct render *r);
// The next piece, at most max octets, valid until the next call; *out_end with the last (it may be empty).
// E_AGAIN: later, after ready(). E_DENIED: this message has no such form (plan.has_8bit_header: because of raw 8-bit
// header fields). E_DAMAGED: the stored message is not what it was, and never will be. E_IO: it can't be read now.
// The form fits struct smtp_transaction.
int render_next(void *render, size_t max, struct bytes *out, bool *out_end);
