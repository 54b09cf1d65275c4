// SPDX-License-Identifier: MIT
//
// dkim_key - the key record in DNS (RFC 6376 section 3.6.1, RFC 8463 section 4): read and written
//
//     "v=DKIM1; k=ed25519; p=BASE64"        at SELECTOR._domainkey.DOMAIN
//
// g= is ignored (RFC 6376 C.2), unknown tags too. An RSA key is taken as SubjectPublicKeyInfo, as
// everybody publishes it, or as a bare RSAPublicKey.
//
// Limits: DKIM_KEY_RECORD_MAX characters; RSA of 1024 (RFC 8301 section 3.2) to DKIM_RSA_BITS_MAX
//         bits.
#pragma once

#include "sign/dkim_sign.h"

#define DKIM_KEY_RECORD_MAX 4096
#define DKIM_RSA_BITS_MIN 1024
#define DKIM_RSA_BITS_MAX 8192

enum dkim_key_fault {
    DKIM_KEY_GOOD,
    DKIM_KEY_SYNTAX,    // not a key record
    DKIM_KEY_REVOKED,   // p= is empty
    DKIM_KEY_TYPE,      // a type of key that we don't know
    DKIM_KEY_HASH,      // h= without sha256
    DKIM_KEY_SERVICE,   // s= without "*" and "email"
    DKIM_KEY_DATA,      // p= is no such key
    DKIM_KEY_TOO_SHORT, // RSA below 1024 bits
    DKIM_KEY_TOO_LONG,
};
// For people: "the key has been revoked".
const char *dkim_key_fault_text(enum dkim_key_fault fault);

struct dkim_key {
    enum dkim_algorithm algorithm; // that it verifies
    EVP_PKEY *key;                 // owned; only when good
    int bits;
    bool is_testing; // t=y
    bool is_strict;  // t=s: i= must be of the very domain
};

// Parses one TXT record, its strings joined.
enum dkim_key_fault dkim_key_parse(struct bytes record, struct dkim_key *out);
void dkim_key_done(struct dkim_key *key);

// The record for the public part of a key (private or public): "v=DKIM1; k=rsa; p=...".
// E_DENIED: neither RSA nor Ed25519.
int dkim_key_format(EVP_PKEY *key, struct buf *out) MUST_USE;
// What may be a d= or s=: ASCII letters, digits, '-', '_' and dots.
bool dkim_name_is_valid(struct bytes name);
// The name the record stands at: "SELECTOR._domainkey.DOMAIN".
void dkim_key_name(struct bytes selector, struct bytes domain, struct buf *out);
