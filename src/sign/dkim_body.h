// SPDX-License-Identifier: MIT
//
// dkim_body - the hash of a canonical body (bh=), made while the body streams by
//
// Intake makes it in the one pass that takes the body in: where an account's domain has a key,
// intake_content feeds each piece of the body (behind the empty line, dots removed) here, and the
// hash stands in the envelope. A rendering that changes the body feeds what it gives out instead.
// Both are relaxed; nothing reads a body a second time for its identity form.
//
//     struct dkim_body b;
//     dkim_body_init(&b, DKIM_RELAXED);
//     dkim_body_feed(&b, piece);            for every piece, however cut; none for an empty body
//     dkim_body_finish(&b, hash);           or dkim_body_done(&b): given up
//
// Memory: 1 KiB and OpenSSL's context, from init to finish or done.
// Cost:   one look at each byte beyond the hash itself.
#pragma once

#include <openssl/evp.h>

#include "sign/dkim_canon.h"

#define DKIM_HASH_BYTES 32 // SHA-256

struct dkim_body {
    struct dkim_canon_body canon;
    EVP_MD_CTX *sha256;
    uint64_t limit; // canonical octets that are hashed: l= of a signature to be verified
    uint64_t total; // canonical octets so far
};

// SHA-256, looked up once: OpenSSL 3 else looks for it among its providers at each use.
const EVP_MD *dkim_sha256(void);

void dkim_body_init(struct dkim_body *b, enum dkim_canon canon);
void dkim_body_feed(struct dkim_body *b, struct bytes piece);
// The hash; b is done then.
void dkim_body_finish(struct dkim_body *b, uint8_t out[DKIM_HASH_BYTES]);
// Frees what it holds. Harmless twice, on a zeroed one, and after finish.
void dkim_body_done(struct dkim_body *b);
