// SPDX-License-Identifier: MIT
//
// net_listener - accepts connections and counts them, per address, per worker and in all
//
// Each loop opens its own listener over a dup of the inherited descriptor; all share one struct
// net_limits (atomic counters). Who comes over a limit is accepted and handed to the owner with the
// reason, so that it can be told (421) before it is closed.
#pragma once

#include "net/net_cidr.h"
#include "sys/sys.h"

// ---- limits -----------------------------------------------------------------------------------

#define NET_WORKERS_MAX 64
#define NET_ADDRESS_CONNECTIONS_DEFAULT 50 // of one IPv4 address or one IPv6 /64

struct net_limits;
// At most total_max connections in all, address_max of one IPv4 address or IPv6 /64 (0: no such
// limit). Any thread. Addresses are counted in a fixed table by two keyed hashes; two that collide
// in both (about 1 in a billion pairs) share a count.
struct net_limits *net_limits_new(unsigned total_max, unsigned address_max);
// Others from now on; whoever is connected stays. Any thread.
void net_limits_set(struct net_limits *limits, unsigned total_max, unsigned address_max);
void net_limits_free(struct net_limits *limits); // after all its connections have left
unsigned net_limits_connections(const struct net_limits *limits);

enum net_admission { NET_ADMITTED, NET_ADDRESS_FULL, NET_TOTAL_FULL };
// Held by each admitted connection until it leaves.
struct net_place {
    struct net_limits *limits; // NULL: holds no place
    uint32_t slots[2];
    uint16_t worker;
    bool counted_by_address;
};
// For the worker of that number. `exempt` is not counted by address (trusted networks, Unix sockets
// always).
enum net_admission net_limits_enter(struct net_limits *limits, uint32_t worker,
                                    const struct sys_addr *peer, bool exempt,
                                    struct net_place *out);
// From now on it counts for another address, as a proxy tells it. NET_ADDRESS_FULL: it counts for none.
enum net_admission net_limits_move(struct net_place *place, const struct sys_addr *peer,
                                   bool exempt);
void net_limits_leave(struct net_place *place); // does nothing a second time

// ---- listener ---------------------------------------------------------------------------------

struct net_listener_conf {
    int fd;                    // bound and listening; taken over
    struct net_limits *limits; // may be NULL
    // Of `workers` that listen this is number `worker`. Who has more connections than its share leaves
    // the next one to the others, so that all cores work. 0: alone.
    uint32_t worker, workers;
    const struct conf_cidr *trusted; // borrowed for the listener's life
    size_t trusted_count;
    // Owns the stream and the place (which holds nothing unless admitted).
    void (*on_accept)(void *ctx, struct sys_stream *s, bool is_trusted,
                      enum net_admission admission, struct net_place place);
    void *ctx;
};

struct net_listener;
// On the current loop. Never NULL.
struct net_listener *net_listener_open(const struct net_listener_conf *conf);
// Stops accepting; connections go on.
void net_listener_close(struct net_listener *l);
