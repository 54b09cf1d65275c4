// SPDX-License-Identifier: MIT
//
// net_tls - TLS as bytes in, bytes out: OpenSSL over memory, no sockets
//
// Contexts (certificates, authorities, policies) are made once and shared; a session is one
// connection's. TLS 1.2 and 1.3 only, no renegotiation, no compression, no early data. A session at
// rest keeps no record buffers.
//
// Thread:   a server context may be used by all loops; a client context by one only (its cache).
// Owner:    a session keeps what it needs of its context: the context may be freed (reload) at any
//           time.
// Limits:   NET_TLS_REASON bytes of reason; NET_TLS_SESSIONS_MAX sessions kept for resumption, the
//           least recently used go first; NET_TLS_MESSAGES_MAX handshake messages (tickets, KeyUpdates, wishes to
//           renegotiate) of the peer after the handshake, anew with each NET_TLS_MESSAGES_BYTES of plaintext.
// Fails:    E_TLS with a reason in words; E_CLOSED after the peer's close_notify; E_AGAIN: feed
//           more.
#pragma once

#include "base/buf.h"
#include "base/chain.h"
#include "smtp/sasl.h"

#define NET_TLS_REASON 256
#define NET_TLS_SESSIONS_MAX 512
#define NET_TLS_NAMES_MAX 8
#define NET_TLS_MESSAGES_MAX 32
#define NET_TLS_MESSAGES_BYTES 65536 // so that they cost no more than what the peer has to say

struct net_tls;
struct net_tls_server;
struct net_tls_client;
struct net_tls_authorities;

// Reads OpenSSL's own configuration now, for a process that can't open files later.
void net_tls_prepare(void);

// ---- contexts ---------------------------------------------------------------------------------

// From PEM in memory: the chain (own certificate first) and its key, not encrypted. Session tickets
// are sealed with keys of this context alone. E_TLS with `out_reason`.
int net_tls_server_new(struct bytes certificate_pem, struct bytes key_pem,
                       struct net_tls_server **out, char out_reason[NET_TLS_REASON]) MUST_USE;
// The same without the private key: net_sign.h asks for signatures by the key's number. RSA and ECDSA only.
int net_tls_server_new_remote(struct bytes certificate_pem, uint32_t key,
                              struct net_tls_server **out,
                              char out_reason[NET_TLS_REASON]) MUST_USE;
void net_tls_server_free(struct net_tls_server *server); // NULL allowed
// Who is believed about clients' certificates, before any session; a reference is taken.
void net_tls_server_set_client_authorities(struct net_tls_server *server,
                                           const struct net_tls_authorities *authorities);
// SHA-256 of the first certificate in PEM, as DER. E_TLS.
int net_tls_fingerprint(struct bytes pem, uint8_t out[32]) MUST_USE;
// When the certificate expires: seconds since 1970.
int64_t net_tls_server_not_after(const struct net_tls_server *server);
// Is its certificate for this host name (RFC 6125)? Did nobody but itself sign it?
bool net_tls_server_is_for(const struct net_tls_server *server, struct bytes host);
bool net_tls_server_is_self_signed(const struct net_tls_server *server);

// The certificates of trusted authorities, from PEM; shared by the client contexts of all loops.
int net_tls_authorities_new(struct bytes pem, struct net_tls_authorities **out,
                            char out_reason[NET_TLS_REASON]) MUST_USE;
void net_tls_authorities_free(struct net_tls_authorities *authorities);
// The path of the system's bundle of authorities, or NULL if none of the known places has one.
const char *net_tls_system_bundle(void);

// `authorities` may be NULL: nothing can be verified then. Never NULL.
struct net_tls_client *net_tls_client_new(struct net_tls_authorities *authorities);
void net_tls_client_free(struct net_tls_client *client);

// ---- sessions ---------------------------------------------------------------------------------

// What a connection has been proven to be. Ordered: more is better.
enum net_tls_proof {
    NET_TLS_NONE,      // no TLS
    NET_TLS_ENCRYPTED, // against whom is unknown
    NET_TLS_VERIFIED,  // PKIX: a trusted chain, and one of the names asked for
};

struct net_tls_result {
    int err; // OK, E_TLS, E_SYNTAX (plaintext where TLS had to begin), E_CLOSED
    enum net_tls_proof proof;
    bool resumed;
    const char *protocol;        // "TLSv1.3"; static
    const char *cipher;          // "TLS_AES_256_GCM_SHA384"; static
    char reason[NET_TLS_REASON]; // why it failed, or why it is not verified; may be empty
};

struct net_tls_client_params {
    struct bytes server_name; // SNI, an A-label; empty or an IP address: none is sent
    const struct bytes
        *names; // any of these must be in the certificate (RFC 6125); at most NET_TLS_NAMES_MAX
    size_t name_count;
    bool must_verify;         // else an unverifiable peer is only NET_TLS_ENCRYPTED
    struct bytes session_key; // resumption among connections with an equal key; empty: none
};

// Never NULL. `server_name` and `names` are copied. An impossible name makes the handshake fail.
struct net_tls *net_tls_new_server(struct net_tls_server *server);
struct net_tls *net_tls_new_client(struct net_tls_client *client,
                                   const struct net_tls_client_params *params);
void net_tls_free(struct net_tls *t);
// A server's, before the handshake: asks the client for a certificate. Whatever it sends, or does not, is no error.
void net_tls_ask_certificate(struct net_tls *t, const struct net_tls_server *server);
// The certificate of an established server session's client, whose key the client has proven to have.
struct net_tls_peer {
    bool given;
    bool
        verified; // an authority of net_tls_server_set_client_authorities() signed it, for clients, and it is valid now
    uint8_t certificate_sha256[32],
        key_sha256[32]; // of the certificate and of its public key (SPKI), as DER
};
void net_tls_get_peer(const struct net_tls *t, struct net_tls_peer *out);
// Appends the names of that certificate, one a line: host names and mail addresses, else its common name. Those with
// control characters are left out.
void net_tls_peer_names(const struct net_tls *t, struct buf *out);

// Bytes from the network, copied. Then call net_tls_handshake() or net_tls_read().
void net_tls_feed(struct net_tls *t, struct bytes data);
// How many of them wait: a handshake looks at none while it waits for a signature.
size_t net_tls_unread(const struct net_tls *t);
// Advances the handshake; for a client also to be called first. OK (done), E_AGAIN or E_TLS. In
// each case there may be output to send: an alert tells the peer why.
int net_tls_handshake(struct net_tls *t) MUST_USE;
// Says whom to tell when a handshake that waits for a signature can go on: fn() then has net_tls_handshake() called,
// but not at once. To be set before the handshake begins.
void net_tls_set_wake(struct net_tls *t, void (*fn)(void *ctx), void *ctx);
// The outcome, once net_tls_handshake() returned OK or E_TLS.
void net_tls_get_result(const struct net_tls *t, struct net_tls_result *out);
// What a login over the established session can be bound to; else nothing.
void net_tls_bindings(const struct net_tls *t, struct sasl_bindings *out);
// Decrypts up to n bytes: OK and *out_n > 0, E_AGAIN, E_CLOSED or E_TLS.
int net_tls_read(struct net_tls *t, void *out, size_t n, size_t *out_n) MUST_USE;
// Encrypts all of data into the output. Only after the handshake. E_TLS after a fatal error,
// E_CLOSED after net_tls_shutdown().
int net_tls_write(struct net_tls *t, struct bytes data) MUST_USE;
// Says close_notify; nothing can be written afterwards.
void net_tls_shutdown(struct net_tls *t);
// What is to be sent; take it with chain_move().
struct chain *net_tls_output(struct net_tls *t);
