// SPDX-License-Identifier: MIT
//
// peers - simulated receivers: one site a domain, each a sink on a machine of its own, found by DNS
//
// good.test is always well; sender.test takes the notices. The others (p1.test ...) get rules and
// paths that make them misbehave, until peers_calm().
#pragma once

#include "book.h"

#define PEERS_MAX 16

struct peer_limits { // what the relay's lane to it is configured to keep; 0: no limit
    uint32_t connections, messages_per_connection, recipients_per_transaction;
    uint32_t messages_per_second;
};

struct peer {
    char domain[32], host_name[32];
    struct sys_addr address;
    struct sim_host *host;
    struct sink_server *server;
    struct peer_limits limits;
    uint32_t without;  // extensions it lacks, SINK_NO_ bits
    int64_t second_us; // of the running count
    uint32_t in_second;
};

// Makes `count` peers and their DNS records, and starts them. `relay` is whose connections are
// counted.
void peers_start(struct sim_host *relay, uint32_t count);
struct peer *peer_at(uint32_t number);
struct peer *peer_find(struct bytes domain);
uint32_t peers_count(void);
// Rules for sessions to come, as sink_rules.h has them; "" for none. CHECKs that they are valid.
void peer_set_rules(struct peer *p, const char *rules);
void peer_set_path(struct peer *p, const struct sim_path *path);
// A fault of the dice's choice; returns its description (static).
const char *peer_misbehave(struct peer *p);
void peers_calm(void);
// Checks the lanes' limits now.
void peers_check_lanes(void);
