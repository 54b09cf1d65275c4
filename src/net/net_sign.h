// SPDX-License-Identifier: MIT
//
// net_sign - handshakes whose private key another process has
//
// A server context made by net_tls_server_new_remote() has certificates and public keys only. Where its handshake
// needs a signature it stops (an OpenSSL async job), the loop goes on, and the answer of the port `sign`
// (net/sign_port.h) wakes it. What is asked for is a digest (ECDSA) or a padded one (RSA).
//
// Thread:   the loop's.
// Limits:   NET_SIGN_WAITING_MAX handshakes of a loop wait for signatures; more wait for their turn.
#pragma once

#include "net/sign_port.h"

#define NET_SIGN_WAITING_MAX 64
#define NET_SIGN_BYTES_MAX                                                                         \
    SIGN_INPUT_MAX // of what is signed and of a signature: RSA with 8192 bits
