// SPDX-License-Identifier: MIT
//
// sign_keys - the private keys in the signer process, and what is signed with them
//
// The relay asks for a signature by a key's number: that of a certificate, which the guard has given, or that of a
// sealed key, which came along with the request or with an earlier one. What may be asked is narrow: a digest of a
// known length for ECDSA and Ed25519, a well-formed PKCS #1 or PSS encoding of one for RSA. So no answer decrypts
// anything, and none signs what is not a digest. DKIM's keys sign SHA-256 digests only.
//
// Thread:   any, several at once.
// Limits:   SIGN_KEYS_TLS certificates' keys and SIGN_KEYS_OPEN opened ones; the one used longest ago goes first.
#pragma once

#include <openssl/evp.h>

#include "daemon/key_seal.h"
#include "daemon/sign_wire.h"

#define SIGN_KEYS_TLS 16
#define SIGN_KEYS_OPEN 10000

struct sign_keys;
// Takes the master key, and wipes it there; one that is not set opens nothing.
struct sign_keys *sign_keys_new(struct key_master *master);
void sign_keys_free(struct sign_keys *keys);
// A certificate's key, in DER, under its number; one that is there already counts as used now. E_SYNTAX.
int sign_keys_add(struct sign_keys *keys, uint64_t number, struct bytes der) MUST_USE;
// Answers one request of the relay, whatever it is; the bytes of the answer, 0: none.
size_t sign_keys_answer(struct sign_keys *keys, struct bytes request, struct sign_wire_answer *out);
// Answers a datagram of them, up to the first that is none; the bytes to send, 0: nothing.
size_t sign_keys_answer_all(struct sign_keys *keys, struct bytes datagram,
                            char out[SIGN_WIRE_ANSWERS_MAX]);
