// SPDX-License-Identifier: MIT
//
// net_conn - one connection: a stream, TLS when asked for, buffers while needed, one deadline
//
// Used by servers and clients alike. What the owner writes in a turn leaves together at its end.
// Input that the owner does not consume is kept, and reading stops while too much of it waits.
//
// Owner:    who made it, until net_conn_close(); it is freed at the end of that turn.
// Thread:   the loop it was made on.
// Limits:   NET_CONN_IN_HIGH bytes of unconsumed input, or of what waits for a handshake's signature, stop the
//           reading (at most one read beyond it is held); NET_CONN_OUT_HIGH bytes of output make
//           net_conn_is_full() true: the owner then waits for on_drained. Under TLS NET_CONN_DEAF_HIGH bytes of
//           output stop the reading, too: TLS answers of itself, and the peer does not read it.
// Never:    calls back from inside a net_conn_* call, or after net_conn_close().
#pragma once

#include "net/net_proxy.h"
#include "net/net_tls.h"
#include "sys/sys.h"

#define NET_CONN_IN_HIGH 16384
#define NET_CONN_OUT_HIGH 65536
#define NET_CONN_DEAF_HIGH (4 * NET_CONN_OUT_HIGH) // no owner that heeds the above comes near it

struct net_conn;

struct net_conn_events {
    void (*on_connected)(void *ctx); // net_conn_connect() only
    // Returns how many bytes it consumed. The rest is offered again, with what follows, when more
    // arrives or after net_conn_read(c, true).
    size_t (*on_data)(void *ctx, struct bytes data);
    // After net_conn_is_full() was true: the kernel has all of the output. May be NULL.
    void (*on_drained)(void *ctx);
    // The handshake succeeded (err is OK) or failed: then no on_end follows, and only
    // net_conn_close() is of use. Borrowed.
    void (*on_tls_done)(void *ctx, const struct net_tls_result *result);
    // The deadline passed; it is not set any more. The connection goes on unless the owner closes
    // it.
    void (*on_deadline)(void *ctx);
    // As on_end of sys_stream; also E_CLOSED at the peer's close_notify, E_TLS at a TLS error in
    // mid-session. Once; net_conn_close() must still be called.
    void (*on_end)(void *ctx, int err);
    // net_conn_await_proxy() only: the header is there; net_conn_peer() says what it told. Or it is none, `why` says
    // why not, and only net_conn_close() is of use. May start TLS.
    void (*on_proxied)(void *ctx, const struct net_proxy_header *header);
};

// Takes over an accepted stream and starts to read. Never NULL.
struct net_conn *net_conn_accept(struct sys_stream *s, const struct net_conn_events *events,
                                 void *ctx);
// Right after net_conn_accept(): a PROXY header comes first, before TLS, too. Until on_proxied there is no on_data.
// The owner sets a deadline.
void net_conn_await_proxy(struct net_conn *c);
// Starts to connect; `from` may be NULL. Never NULL. Failure arrives by on_end.
struct net_conn *net_conn_connect(const struct sys_addr *to, const struct sys_addr *from,
                                  const struct net_conn_events *events, void *ctx);
// Hands the connection to another owner; unconsumed input is offered to it in a later turn.
void net_conn_set_owner(struct net_conn *c, const struct net_conn_events *events, void *ctx);

// From here on the bytes are TLS. What was written before leaves in the clear first (the 220 of
// STARTTLS); what is written afterwards waits for the handshake. Unconsumed input is an injection
// (CVE-2011-0411, CVE-2021-38371): on_tls_done tells E_SYNTAX then; inside on_data, what on_data
// does not consume counts.
void net_conn_start_tls_server(struct net_conn *c, struct net_tls_server *server);
// The same, and the client is asked for a certificate (net_tls_ask_certificate()).
void net_conn_start_tls_server_asking(struct net_conn *c, struct net_tls_server *server);
void net_conn_start_tls_client(struct net_conn *c, struct net_tls_client *client,
                               const struct net_tls_client_params *params);
// The proof of this connection now; NET_TLS_NONE before a handshake succeeded.
enum net_tls_proof net_conn_proof(const struct net_conn *c);
// Fills *out with what on_tls_done was told (all zero without TLS).
void net_conn_tls_result(const struct net_conn *c, struct net_tls_result *out);
// What a login over it can be bound to; nothing without TLS.
void net_conn_bindings(const struct net_conn *c, struct sasl_bindings *out);
// The certificate that the client has, as net_tls_get_peer(); none without TLS. `names` may be NULL: not asked for.
void net_conn_certificate(const struct net_conn *c, struct net_tls_peer *out, struct buf *names);

// Queues a copy. Ignored after on_end.
void net_conn_write(struct net_conn *c, struct bytes data);
// The same for a chain, which is taken over (and empty then).
void net_conn_write_chain(struct net_conn *c, struct chain *from);
// Bytes not yet with the kernel.
size_t net_conn_pending(const struct net_conn *c);
static inline bool net_conn_is_full(const struct net_conn *c)
{
    return net_conn_pending(c) >= NET_CONN_OUT_HIGH;
}
// Stops and resumes on_data (and the reading). On to begin with.
void net_conn_read(struct net_conn *c, bool on);

// One deadline, replaced by each call; MONO_NEVER: none. Cheap to move: it is looked at every now
// and then, so on_deadline comes up to NET_CONN_DEADLINE_MS late.
#define NET_CONN_DEADLINE_MS 100
void net_conn_deadline(struct net_conn *c, struct mono at);

// No callback afterwards. In order (what is written leaves first, close_notify under TLS), or by a
// reset.
void net_conn_close(struct net_conn *c, bool abort);

// Both ends, as those of the stream or as they were told. Borrowed, valid until net_conn_close().
const struct sys_addr *net_conn_peer(const struct net_conn *c);
const struct sys_addr *net_conn_local(const struct net_conn *c);
// Who it is that a proxy connects for, and where to. Copied; NULL: as it was.
void net_conn_tell_ends(struct net_conn *c, const struct sys_addr *peer,
                        const struct sys_addr *local);
