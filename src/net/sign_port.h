// SPDX-License-Identifier: MIT
//
// sign_port - the port `sign`: private keys are in another process, and what is to be signed goes there
//
// Whoever needs a signature fills in a request and is called back; who answers is the port's owner: the line to the
// signer process (daemon/signer.h), or a test. A TLS key is known there by its number. A DKIM key goes along, sealed,
// where the signer does not have it yet (`sealed`; its number is sign_sealed_number() of it).
//
// Owner:    a request is its asker's, and stays where it is until done() or sign_forget().
// Thread:   each loop has a port of its own, which is to outlive what the loop asks.
// Limits:   SIGN_UNDER_WAY_MAX requests of a loop are under way; more wait for their turn.
// Never:    calls done() from inside sign_ask().
#pragma once

#include "base/bytes.h"
#include "base/list.h"

#define SIGN_UNDER_WAY_MAX 128
#define SIGN_TRIES_MAX 2     // of a request whose signer ends meanwhile
#define SIGN_INPUT_MAX 1024  // an encoded digest for RSA with 8192 bits
#define SIGN_SEALED_MAX 3072 // a private key of 4096 bits, sealed
#define SIGN_ANSWER_MAX 4096 // a new key: what is published, and sealed what is not

enum sign_kind {
    SIGN_ECDSA = 1, // a digest; the signature is DER (RFC 3279 2.2.3)
    SIGN_RSA_PKCS1, // a DigestInfo (RFC 8017 9.2)
    SIGN_RSA_PSS,   // an encoded message (RFC 8017 9.1.1), as long as the modulus
    SIGN_ED25519,   // a SHA-256 digest (RFC 8463 3); 64 octets
    SIGN_MAKE_RSA,  // no input: a new key of 2048 bits, as sign_made_parse() reads it
    SIGN_MAKE_ED25519,
};

struct sign_request {
    enum sign_kind kind;
    uint64_t key;
    struct bytes input, sealed; // borrowed until the end; sealed empty: the signer has the key
    void (*done)(struct sign_request *r, struct bytes answer); // empty: refused, or nobody answers
    // the port's
    struct list link;
    uint64_t id;
    uint8_t tries;
    bool with_key; // the signer has asked for it
};

// Asks. False: nobody signs here, done() won't be called.
bool sign_ask(struct sign_request *r);
// Its asker is gone: no done(). Harmless after it.
void sign_forget(struct sign_request *r);

// The number of a sealed key: a part of it that no other has. 0: this is none.
uint64_t sign_sealed_number(struct bytes sealed);
// The answer to SIGN_MAKE_*: the DNS record that publishes the key, and the private key, sealed. E_SYNTAX.
int sign_made_parse(struct bytes answer, struct bytes *out_record,
                    struct bytes *out_sealed) MUST_USE;

// ---- for who answers -----------------------------------------------------------------------------------

enum sign_state { SIGN_DONE = 1, SIGN_REFUSED, SIGN_NO_KEY };

// Sends a request, with the sealed key or without; false if it can't be sent now.
struct sign_port {
    bool (*send)(void *ctx, const struct sign_request *r, bool with_key);
    void *ctx;
};

// Says who signs for this loop, from now on; NULL: nobody, and what waits is refused.
void sign_port_use(const struct sign_port *port);
// The line is broken: what is under way is sent again over the next one, what is asked meanwhile waits for it.
void sign_port_lost(void);
void sign_port_found(void);
// An answer; of an id that nobody waits for any more, only that it made room.
void sign_port_answer(uint64_t id, enum sign_state state, struct bytes answer);
