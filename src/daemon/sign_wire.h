// SPDX-License-Identifier: MIT
//
// sign_wire - what the relay and the signer say to each other: one datagram a request, one an answer
//
// Both are of this machine and this program, so numbers are in its own byte order. What is not used of the last
// field is not sent.
#pragma once

#include "net/sign_port.h"

struct sign_wire_request {
    uint64_t id, key;
    uint16_t kind;            // enum sign_kind
    uint16_t len, sealed_len; // of the two parts of `parts`: what is signed, the sealed key
    unsigned char parts[SIGN_INPUT_MAX + SIGN_SEALED_MAX];
};

struct sign_wire_answer {
    uint64_t id;
    uint16_t state; // enum sign_state
    uint16_t len;
    unsigned char bytes[SIGN_ANSWER_MAX];
};

// Their bytes before the last field.
#define SIGN_WIRE_REQUEST_HEAD offsetof(struct sign_wire_request, parts)
#define SIGN_WIRE_ANSWER_HEAD offsetof(struct sign_wire_answer, bytes)
