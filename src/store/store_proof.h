// SPDX-License-Identifier: MIT
//
// store_proof - credentials without a password: what a connection itself proves
//
// The network that it comes from, the certificate that its client has, or a name in one that an authority signed.
// Each has one text, which is login and verifier of the credential in the store: "network:192.0.2.0/24",
// "certificate:" and 64 hexadecimal digits, "certificate-name:robot.example.org".
#pragma once

#include "base/buf.h"

#define STORE_PROOF_MAX 288 // octets of a text
#define STORE_PROOF_NAME_MAX 254
#define STORE_NETWORK_BITS_MIN 8   // of a network: a shorter prefix is the world's
#define STORE_NETWORK6_BITS_MIN 16 // the same of IPv6

enum store_proof {
    STORE_PROOF_NONE,
    STORE_PROOF_NETWORK,
    STORE_PROOF_CERTIFICATE, // SHA-256 of the certificate or of its public key, both as DER
    STORE_PROOF_NAME,        // in a certificate that tls.client_authorities signed
    STORE_PROOFS
};

// Which kind a login is; NONE: one with a password.
enum store_proof store_proof_of(struct bytes login);
// "network", "certificate", "certificate-name": arguments of credential.add and options of the command; "password".
const char *store_proof_name(enum store_proof proof);
// Appends the text of a value as people write it: a network or address; digits with or without colons; a DNS name or
// mail address, whose case does not count. E_SYNTAX; E_LIMIT (bits behind the prefix, or too wide a network).
int store_proof_format(enum store_proof proof, struct bytes value, struct buf *out) MUST_USE;
// The text of a certificate's or key's hash.
void store_proof_format_hash(const uint8_t sha256[32], struct buf *out);
