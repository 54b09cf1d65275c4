// SPDX-License-Identifier: MIT
//
// unsubscribe_token - what the link of a hosted unsubscribe carries: who, from what; sealed, so nothing is kept
//
// Holds account, stream (tag), sender, address, and the message and recipient it was sent to. AES-256-SIV (RFC 5297) under a
// key made from the service's secret: it can't be guessed, made up or changed, and does not show the address. The same
// contents always give the same token.
//
// Thread: any.
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "bounce/return_token.h"

#define UNSUBSCRIBE_TOKEN_MAX 1024 // characters; what is longer is none

struct unsubscribe_token {
    struct message_id id;
    uint32_t recipient, account;
    struct bytes tag, sender, address; // sender: the domain it was sent as
};

// Appends it: letters, digits, "-" and "_" (RFC 4648 section 5).
void unsubscribe_token_format(const struct return_key *key, const struct unsubscribe_token *token,
                              struct buf *out);
// Slices are in the arena. E_SYNTAX: not one of this service, or changed on the way.
int unsubscribe_token_parse(const struct return_key *key, struct bytes text, struct arena *arena,
                            struct unsubscribe_token *out) MUST_USE;
