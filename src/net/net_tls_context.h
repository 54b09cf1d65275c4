// SPDX-License-Identifier: MIT
//
// net_tls_context - what net_tls.c and net_tls_context.c share
#pragma once

#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "net/net_tls.h"

struct net_tls_server {
    SSL_CTX *context;
    int64_t not_after;
    bool is_remote;                 // another process has the key
    X509_STORE *client_authorities; // a reference; NULL: none
};

struct net_tls_client {
    SSL_CTX *context;
    struct map sessions; // key -> struct kept_session
    struct list by_use;  // most recently used first
    size_t session_count;
};

// The oldest queued OpenSSL error of this thread in words; empties the queue.
void net_tls_error_text(char out[NET_TLS_REASON]);
// The callback of client contexts.
int net_tls_on_new_session(SSL *ssl, SSL_SESSION *session);
// The session kept under key (borrowed), or NULL.
SSL_SESSION *net_tls_client_find_session(struct net_tls_client *client, struct bytes key);
// Takes the session over; replaces what was kept under key.
void net_tls_client_keep_session(struct net_tls_client *client, struct bytes key,
                                 SSL_SESSION *session);
