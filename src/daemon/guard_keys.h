// SPDX-License-Identifier: MIT
//
// guard_keys - the private keys, and what is signed with them
//
// They never leave the guard: the relay asks for a signature by a key's number. What may be asked is narrow: a
// digest of a known length for ECDSA, a well-formed PKCS #1 or PSS encoding of one for RSA. So no answer decrypts
// anything, and none signs what is not a digest.
//
// Owner:    the guard; a relay's process forgets them first of all.
// Limits:   GUARD_KEYS_MAX keys, the one used longest ago goes first; RSA of at most 8192 bits.
// Fails:    E_TLS with a reason in words.
#pragma once

#include "base/bytes.h"
#include "daemon/sign_wire.h"
#include "net/net_tls.h"

#define GUARD_KEYS_MAX 16

// Zeroed is empty.
struct guard_keys {
    struct guard_key {
        void *key; // EVP_PKEY; NULL: free
        uint32_t number;
        uint64_t used;
    } at[GUARD_KEYS_MAX];
    uint32_t last_number;
    uint64_t uses;
};

// Takes the key of a certificate, both PEM; its number, the same for the same key. Wipes nothing of the input.
int guard_keys_add(struct guard_keys *keys, struct bytes certificate_pem, struct bytes key_pem,
                   uint32_t *out_number, char out_reason[NET_TLS_REASON]) MUST_USE;
// Answers one datagram of the relay, whatever it is; the bytes of the answer to send, 0: none.
size_t guard_keys_answer(struct guard_keys *keys, struct bytes request,
                         struct sign_wire_answer *out);
// Wipes and frees all.
void guard_keys_done(struct guard_keys *keys);
