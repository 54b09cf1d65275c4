// SPDX-License-Identifier: MIT
//
// store_password - passwords made, hashed and checked
//
// A person's password is kept as yescrypt (about 20 ms of CPU to check, which is the point); a
// generated one has 160 random bits, so SHA-256 suffices. SCRAM keys are kept for both: EHLO has to
// offer SCRAM before it is known who comes, and clients take the strongest that is offered. Every
// check that fails costs one yescrypt, whether the login exists or not and of whichever kind it is,
// so that neither look nor cost tell.
#pragma once

#include "base/buf.h"
#include "store/store_directory.h"

#define STORE_PASSWORD_RANDOM 20 // random bytes behind a generated password
#define STORE_PASSWORD_CHARS 32  // its characters: a-z and 2-7
#define STORE_PASSWORD_MIN 8     // bytes of a person's password
#define STORE_CHECKS_MAX 64      // running at once for one checker

// The password those random bytes make.
void store_password_generate(const uint8_t random[STORE_PASSWORD_RANDOM],
                             char out[STORE_PASSWORD_CHARS + 1]);
// What credential.add takes for a generated one: "sha256:HEX".
void store_password_verifier_generated(struct bytes password, struct buf *out_verifier);
// What credential.add takes for a person's: a yescrypt string. About 20 ms. E_LIMIT: shorter than
// STORE_PASSWORD_MIN or longer than SASL_PASSWORD_MAX; E_SYNTAX: not UTF-8, control characters.
int store_password_verifier_chosen(struct bytes password, const uint8_t salt[SASL_SCRAM_SALT_BYTES],
                                   struct buf *out_verifier) MUST_USE;
// The SCRAM key of either, in RFC 5803 form; of a chosen one about 50 ms. E_LIMIT.
int store_password_scram(struct bytes password, const uint8_t salt[SASL_SCRAM_SALT_BYTES],
                         bool chosen, struct buf *out_scram) MUST_USE;

// Is it this credential's password? NULL: no such login; costs the same and says no. Blocks for
// about 20 ms unless it is the right one of a generated kind. Thread: any but a loop's.
bool store_password_is_right(const struct store_credential *credential, struct bytes password);

// ---- on the offload threads --------------------------------------------------------------------------

// One per worker; zeroed is ready.
struct store_checker {
    uint32_t running;
};
struct store_check;

// Checks on an offload thread; done() is called in a later turn of the calling loop, with what the
// directory said at the start. Copies what it needs, so directory and password may go away. E_FULL
// beyond STORE_CHECKS_MAX: answer 454 and count nothing.
struct store_check_result {
    bool right;
    bool active; // its account is: else it may not come in, though the password may be right
};
int store_check_start(struct store_checker *checker, const struct store_directory *dir,
                      struct bytes login, struct bytes password,
                      void (*done)(void *ctx, const struct store_check_result *result), void *ctx,
                      struct store_check **out) MUST_USE;
// The asker is gone: done() will not be called. Not after done().
void store_check_cancel(struct store_check *check);
