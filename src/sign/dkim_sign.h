// SPDX-License-Identifier: MIT
//
// dkim_sign - a DKIM-Signature field for a message (RFC 6376, 8301, 8463)
//
// Whoever has the private key is somewhere else, so it is made in two steps: what is to be signed,
// then the field with the signature in it. Relaxed for header and body, never with l=.
//
//     struct dkim_sign s;
//     err = dkim_sign_start(&s, &want, header);        header: the block as it will be sent
//     ... s.digest goes to the key, its signature comes back ...
//     dkim_sign_finish(&s, signature, &field);         "DKIM-Signature: ...CRLF", to stand on top
//     dkim_sign_done(&s);
//
// What is signed: every field of the message that the table in dkim_sign.c names. The fields that
// people read or reply to, Date, Message-ID, those that say how the body is built, and List-* are
// over-signed: named once more than they occur, so that none can be added (RFC 6376 8.15). Of
// repeated fields all are signed. A List- field whose name has more than letters, digits and hyphens is not signed.
//
// Several signatures of one message do not cover each other: any order, each started on the same
// block.
//
// Limits: DKIM_SIGNED_MAX fields in the header, and names in h=.
// Fails:  E_SYNTAX: no From field in the header, or domain or selector are no names; E_LIMIT.
#pragma once

#include "base/clock.h"
#include "sign/dkim_body.h"

#define DKIM_SIGNED_MAX 2000

enum dkim_algorithm { DKIM_RSA_SHA256, DKIM_ED25519_SHA256 };
// "rsa-sha256", "ed25519-sha256"
const char *dkim_algorithm_text(enum dkim_algorithm algorithm);

struct dkim_sign_want {
    struct bytes domain, selector; // d=, s=: A-labels
    enum dkim_algorithm algorithm;
    const uint8_t *body_hash; // DKIM_HASH_BYTES, of dkim_body (relaxed)
    struct wall now;          // t=
};

struct dkim_sign {
    // What the key signs: with RSA as PKCS #1 v1.5 of a SHA-256 digest, with Ed25519 these bytes
    // themselves as the message (RFC 8463 section 3).
    uint8_t digest[DKIM_HASH_BYTES];
    struct buf field; // up to and with "b="
};

int dkim_sign_start(struct dkim_sign *s, const struct dkim_sign_want *want,
                    struct bytes header) MUST_USE;
// Appends the whole field with its CRLF, no line over 78 characters (unless a name is longer).
void dkim_sign_finish(const struct dkim_sign *s, struct bytes signature, struct buf *out);
void dkim_sign_done(struct dkim_sign *s); // also after a failed start

// With a key that is here: signs the digest as said above, appends the raw signature. E_DENIED: the
// key is neither RSA nor Ed25519; E_IO: OpenSSL failed.
int dkim_sign_digest(EVP_PKEY *key, const uint8_t digest[DKIM_HASH_BYTES],
                     struct buf *out) MUST_USE;
// What a key signs with. E_DENIED: neither RSA nor Ed25519.
int dkim_sign_algorithm(EVP_PKEY *key, enum dkim_algorithm *out) MUST_USE;
