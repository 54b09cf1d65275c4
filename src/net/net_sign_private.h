// SPDX-License-Identifier: MIT
//
// net_sign_private - what net_tls.c and net_sign.c share
#pragma once

#include <openssl/evp.h>

#include "net/net_sign.h"

// A session's part: who is told that its handshake may go on. fn() is not to advance it at once.
struct net_sign_wake {
    void (*fn)(void *ctx);
    void *ctx;
    struct net_sign_wait *wait; // for a signature; NULL: for none
    struct list turn;           // for a free place among those that wait
    bool has_turn_link;
};

// Around each step of a handshake.
void net_sign_enter(struct net_sign_wake *wake);
void net_sign_leave(void);
// No job was free: fn() is called when one may be.
void net_sign_wait_turn(struct net_sign_wake *wake);
// A job that had stopped is over: the next one's turn.
void net_sign_give_turn(void);
// Whoever waits, waits no more: the next step of its handshake fails and ends the job. No fn() afterwards.
void net_sign_forget(struct net_sign_wake *wake);
// A key that has the public part only, and asks for signatures by `number`; NULL for kinds other than RSA and EC.
EVP_PKEY *net_sign_key_new(EVP_PKEY *public_key, uint32_t number);
