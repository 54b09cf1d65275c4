// SPDX-License-Identifier: MIT
//
// sign_wire - what relay and guard say about signatures: one datagram a request, one an answer
//
// Both are of this machine and this program, so numbers are in its own byte order.
#pragma once

#include "net/net_sign.h"

struct sign_wire_request {
    uint64_t id;
    uint32_t key;
    uint16_t kind; // enum net_sign_kind
    uint16_t len;
    unsigned char input[NET_SIGN_BYTES_MAX]; // len bytes of it are sent
};

struct sign_wire_answer {
    uint64_t id;
    uint64_t len;                                // 0: refused
    unsigned char signature[NET_SIGN_BYTES_MAX]; // len bytes of it are sent
};
