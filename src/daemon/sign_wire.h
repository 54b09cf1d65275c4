// SPDX-License-Identifier: MIT
//
// sign_wire - what the relay and the signer say to each other
//
// A datagram holds requests one behind the other, and is answered by one that holds their answers. What takes a thread
// long (RSA) is asked for alone, so that several threads share it; the rest goes together, so that many share what a
// datagram costs, which is as much as a fifth of an Ed25519 signature.
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

// Of a datagram: requests, their bytes, the bytes of the answers.
#define SIGN_WIRE_BATCH 8
#define SIGN_WIRE_REQUESTS_MAX sizeof(struct sign_wire_request)
#define SIGN_WIRE_ANSWERS_MAX (SIGN_WIRE_BATCH * (SIGN_WIRE_ANSWER_HEAD + SIGN_INPUT_MAX))
