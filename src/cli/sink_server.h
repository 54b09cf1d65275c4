// SPDX-License-Identifier: MIT
//
// sink_server - listens and runs a sink_smtp on each connection
//
// Owner:    its user; freed by sink_server_close(). Thread: the loop it was opened on.
// Limits:   SINK_IDLE_MS without input ends a connection.
#pragma once

#include "cli/sink_smtp.h"
#include "net/net_tls.h"
#include "sys/sys.h"

#define SINK_IDLE_MS ((int64_t)600 * 1000)

struct sink_server;
struct sink_server_config {
    struct sink_smtp_config smtp;
    struct net_tls_server *tls; // for STARTTLS; NULL: not offered
};

// Never NULL. Opens no listener yet.
struct sink_server *sink_server_new(const struct sink_server_config *config);
// Takes over a listening descriptor; may be called several times.
void sink_server_listen(struct sink_server *server, int fd);
// Sessions to come follow these rules (borrowed, as those before, until the server is closed).
void sink_server_set_rules(struct sink_server *server, struct sink_rules *rules);
// Stops listening and ends each session as soon as it owes no reply that a rule delays; then calls done, perhaps at once.
void sink_server_finish(struct sink_server *server, void (*done)(void *ctx), void *ctx);
// Stops listening, resets what is open.
void sink_server_close(struct sink_server *server);
uint32_t sink_server_connections(const struct sink_server *server);
