// SPDX-License-Identifier: MIT
//
// net_sign - private keys that another process has: what is to be signed goes there, and a handshake waits
//
// A server context made by net_tls_server_new_remote() has certificates and public keys only. Where its handshake
// needs a signature it stops (an OpenSSL async job), the loop goes on, and the answer wakes it. The request is a
// digest (ECDSA) or a padded one (RSA), the number of a key, and an id; who answers is the owner's business.
//
// Owner:    each loop sets its own port, which must outlive the loop's TLS sessions.
// Thread:   the loop's.
// Limits:   NET_SIGN_WAITING_MAX handshakes of a loop wait for signatures; more wait for their turn.
#pragma once

#include "base/bytes.h"
#include "base/list.h"

#define NET_SIGN_WAITING_MAX 64
#define NET_SIGN_BYTES_MAX 1024 // of what is signed and of a signature: RSA with 8192 bits

enum net_sign_kind {
    NET_SIGN_ECDSA = 1, // a digest; the signature is DER (RFC 3279 2.2.3)
    NET_SIGN_RSA_PKCS1, // a DigestInfo (RFC 8017 9.2)
    NET_SIGN_RSA_PSS,   // an encoded message (RFC 8017 9.1.1), as long as the modulus
};

struct net_sign_request {
    uint64_t id;
    uint32_t key;
    enum net_sign_kind kind;
    struct bytes input; // borrowed for the call
};

// Sends a request; false if it can't be sent now (the handshake fails).
struct net_sign_port {
    bool (*ask)(void *ctx, const struct net_sign_request *request);
    void *ctx;
};

// Says who signs for this loop, from now on; NULL: nobody.
void net_sign_use(const struct net_sign_port *port);
// An answer to the request `id`; empty: refused. An id that nobody waits for any more is ignored.
void net_sign_answer(uint64_t id, struct bytes signature);
