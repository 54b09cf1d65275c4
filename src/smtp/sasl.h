// SPDX-License-Identifier: MIT
//
// sasl - login exchanges: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802,
// 7677); both sides, no I/O
//
// Messages here are decoded (mail_base64_decode() is strict enough for RFC 4954). Logins and passwords
// must be UTF-8 without NUL and control characters; apart from that they are compared as they are
// (no SASLprep mapping). The server side never decides about a password: it asks
// (SASL_CHECK_PASSWORD, SASL_FIND_KEY). SCRAM with a made-up key runs to the same end as one with a
// wrong password.
//
// Owner:    a struct sasl_server or sasl_client owns heap memory until its done(), which wipes it.
// Limits:   SASL_MESSAGE_MAX octets a message, SASL_NAME_MAX a login, SASL_PASSWORD_MAX a password,
//           iterations from SASL_SCRAM_ITERATIONS_MIN to _MAX (a hostile server can't make us
//           compute).
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

#define SASL_MESSAGE_MAX 9216 // what fits a base64 line of 12288
#define SASL_NAME_MAX 255
#define SASL_PASSWORD_MAX 1024
#define SASL_SCRAM_ITERATIONS 4096 // of a generated password, which nobody can guess anyway
#define SASL_SCRAM_ITERATIONS_CHOSEN                                                               \
    100000 // of a person's: who steals the keys must pay for each guess
#define SASL_SCRAM_ITERATIONS_MIN 4096
#define SASL_SCRAM_ITERATIONS_MAX 600000
#define SASL_SCRAM_SALT_BYTES 16
#define SASL_SCRAM_SALT_MAX 64

enum sasl_mechanism {
    SASL_PLAIN,
    SASL_LOGIN,
    SASL_SCRAM_SHA_256,
    SASL_SCRAM_SHA_256_PLUS, // and the TLS connection is the same one at both ends
    SASL_EXTERNAL,           // RFC 4422 appendix A: what TLS has proven; the server's side only
    SASL_MECHANISMS
};

static inline bool sasl_is_scram(enum sasl_mechanism mechanism)
{
    return mechanism == SASL_SCRAM_SHA_256 || mechanism == SASL_SCRAM_SHA_256_PLUS;
}

// What both ends of a TLS connection know of it, and nobody else: channel bindings.
enum sasl_binding_type {
    SASL_TLS_EXPORTER,         // RFC 9266
    SASL_TLS_SERVER_END_POINT, // RFC 5929 section 4
    SASL_BINDING_TYPES
};
#define SASL_BINDING_MAX 64
struct sasl_bindings {
    struct {
        uint8_t len; // 0: the connection has none of this type
        uint8_t bytes[SASL_BINDING_MAX];
    } of[SASL_BINDING_TYPES];
};
// Whether PLUS can be done with them; NULL: no TLS.
bool sasl_bindings_any(const struct sasl_bindings *bindings);

// "PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL".
const char *sasl_mechanism_name(enum sasl_mechanism mechanism);
// Case-insensitive. E_NOT_FOUND.
int sasl_mechanism_find(struct bytes name, enum sasl_mechanism *out) MUST_USE;

// What the server stores of a SCRAM password (RFC 5802 section 3).
struct sasl_scram_key {
    uint32_t iterations;
    uint8_t salt_bytes;
    uint8_t salt[SASL_SCRAM_SALT_MAX];
    uint8_t stored_key[32], server_key[32];
};

// Derives the key of a password: `iterations` rounds of HMAC-SHA-256, so not on a loop's thread.
// E_LIMIT.
int sasl_scram_key_make(struct bytes password, struct bytes salt, uint32_t iterations,
                        struct sasl_scram_key *out) MUST_USE;
// The key that an unknown login seems to have: the same for the same secret and login, with the iterations of a
// generated password or of a chosen one, so that neither number tells of a login that exists.
void sasl_scram_key_fake(const uint8_t secret[32], struct bytes login, struct sasl_scram_key *out);
// RFC 5803 form: "SCRAM-SHA-256$4096:SALT$STORED:SERVER", base64 parts. Appends; parse: E_SYNTAX,
// E_LIMIT.
void sasl_scram_key_format(const struct sasl_scram_key *key, struct buf *out);
int sasl_scram_key_parse(struct bytes text, struct sasl_scram_key *out) MUST_USE;

// Whether a login may be used at all: not empty, limits, UTF-8, no NUL or control characters.
bool sasl_name_is_valid(struct bytes name);
bool sasl_password_is_valid(struct bytes password);

// ---- server

enum sasl_server_step {
    SASL_CHALLENGE,      // send out_challenge (may be empty), feed the client's response
    SASL_CHECK_PASSWORD, // login and password are there; the caller decides, the exchange is over
    SASL_ASK_EXTERNAL, // the client wants to be `login`, or what its certificate says: empty; over
    SASL_FIND_KEY,     // login is there; call sasl_server_key()
    SASL_PROVEN, // the client has proven that it knows the password; if it may come in, call sasl_server_prove()
    SASL_DONE,      // and has seen that we know it, too; over
    SASL_WRONG,     // it has not; over
    SASL_UNBOUND,   // the client sees another TLS connection, or another offer, than we; over
    SASL_MALFORMED, // not this mechanism's syntax; over
};

struct sasl_server {
    enum sasl_mechanism mechanism;
    int stage;
    struct buf login,
        password; // valid from CHECK_PASSWORD, FIND_KEY on; the authorization identity was
                  // empty or the same (another one: MALFORMED... see sasl_server_feed)
    struct scram_exchange *scram;
};

// nonce: printable ASCII without comma, 18 characters or more, for SCRAM only (copied). bindings: those with which
// PLUS was offered (copied), NULL where it was not: then a client that says it could do PLUS is believed.
void sasl_server_init(struct sasl_server *s, enum sasl_mechanism mechanism, struct bytes nonce,
                      const struct sasl_bindings *bindings);
// Wipes and frees.
void sasl_server_done(struct sasl_server *s);
// The client's next message; `initial` says that it came with the AUTH command. For a mechanism
// whose client speaks first, no initial response means: feed nothing, send an empty challenge. An
// authorization identity other than the login ends in SASL_WRONG.
enum sasl_server_step sasl_server_feed(struct sasl_server *s, struct bytes message,
                                       struct buf *out_challenge);
// The first challenge when the client gave no initial response.
void sasl_server_begin(struct sasl_server *s, struct buf *out_challenge);
// After FIND_KEY: goes on with this key. `real` false: the proof will be refused whatever it is.
enum sasl_server_step sasl_server_key(struct sasl_server *s, const struct sasl_scram_key *key,
                                      bool real, struct buf *out_challenge);
// After PROVEN: our own proof, which also says that the client's was right. CHALLENGE.
enum sasl_server_step sasl_server_prove(struct sasl_server *s, struct buf *out_challenge);

// ---- client

struct sasl_client {
    enum sasl_mechanism mechanism;
    int stage;
    struct buf login, password; // valid from CHECK_PASSWORD, FIND_KEY on
    struct scram_exchange *scram;
};

// Copies login, password and bindings. nonce as above. bindings: of the connection, NULL where it has none. With them
// SCRAM without PLUS says that PLUS was not offered, so that a server that did offer it knows (RFC 5802 section 6).
void sasl_client_init(struct sasl_client *c, enum sasl_mechanism mechanism, struct bytes login,
                      struct bytes password, struct bytes nonce,
                      const struct sasl_bindings *bindings);
void sasl_client_done(struct sasl_client *c);
// True when the first response goes with the AUTH command (then call feed with an empty challenge
// for it).
bool sasl_client_has_initial(const struct sasl_client *c);
// Appends the response to a challenge. E_SYNTAX (not this mechanism), E_LIMIT (iterations),
// E_DENIED (the server did not prove that it knows the password).
int sasl_client_feed(struct sasl_client *c, struct bytes challenge,
                     struct buf *out_response) MUST_USE;
// The server said it is over (235): E_DENIED if it has not proven itself where the mechanism has
// that.
int sasl_client_finish(struct sasl_client *c) MUST_USE;
