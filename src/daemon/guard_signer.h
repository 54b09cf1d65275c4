// SPDX-License-Identifier: MIT
//
// guard_signer - the guard's side of signing: keys of certificates, and the process that signs
//
// The guard reads key files and the master key, and hands them to the signer process (signer_process.h), which alone
// uses them; one that dies is replaced and gets them again. The relay's workers open lines to it through the guard.
//
// Owner:    the guard; a relay's process lets go of it first of all.
// Limits:   GUARD_SIGNER_KEYS keys of certificates, the one added longest ago goes first; RSA of at most 8192 bits.
#pragma once

#include <sys/types.h>

#include "daemon/key_seal.h"
#include "net/net_tls.h"

#define GUARD_SIGNER_KEYS 16

struct guard_signer {
    struct guard_key {
        EVP_PKEY *key; // NULL: free
        uint32_t number;
        uint64_t used;
    } keys[GUARD_SIGNER_KEYS];
    uint32_t last_number;
    uint64_t uses;
    pid_t pid;   // 0: none runs
    int channel; // -1: none
};

void guard_signer_init(struct guard_signer *s);
// Takes the key of a certificate, both PEM; its number, the same for the same key. Wipes nothing of the input.
// E_TLS with a reason in words.
int guard_signer_add(struct guard_signer *s, struct bytes certificate_pem, struct bytes key_pem,
                     uint32_t *out_number, char out_reason[NET_TLS_REASON]) MUST_USE;
// Of the numbers given, the one in use (0: none): its key now counts as the one added last.
void guard_signer_hold(struct guard_signer *s, uint32_t number);
// Starts the process, with the master key of that file. `prepare(ctx)` runs in it first: gives up what is the guard's
// alone, and its privileges. E_IO.
int guard_signer_start(struct guard_signer *s, const char *master_file, void (*prepare)(void *ctx),
                       void *ctx) MUST_USE;
// It ended, or is to: its process id was reaped, or is killed and reaped here.
void guard_signer_gone(struct guard_signer *s);
void guard_signer_stop(struct guard_signer *s);
// A line of a worker, which is taken over. Without a signer it is closed, and the worker opens another.
void guard_signer_add_line(struct guard_signer *s, int fd);
// Wipes and frees all; the process, if it runs, is not ended.
void guard_signer_done(struct guard_signer *s);
