// SPDX-License-Identifier: MIT
//
// net_listener - accepts and counts
//
// How it works. A table of two rows of atomic counters: an address adds one to a slot in each row,
// found by two keyed hashes, and its count is the smaller of the two. It needs no lock, no memory
// for each address, and a stranger can't choose whom to collide with.
#include "net/net_listener.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/map.h"

#define SLOTS 32768

struct net_limits {
    atomic_uint total_max, address_max;
    atomic_uint total, by_worker[NET_WORKERS_MAX];
    atomic_uint counts[2][SLOTS];
};

struct net_limits *net_limits_new(unsigned total_max, unsigned address_max)
{
    struct net_limits *limits = mem_new(sizeof *limits);
    net_limits_set(limits, total_max, address_max);
    return limits;
}

void net_limits_set(struct net_limits *limits, unsigned total_max, unsigned address_max)
{
    atomic_store(&limits->total_max, total_max);
    atomic_store(&limits->address_max, address_max);
}

void net_limits_free(struct net_limits *limits)
{
    CHECK(!limits || atomic_load(&limits->total) == 0);
    free(limits);
}

unsigned net_limits_connections(const struct net_limits *limits)
{
    return atomic_load(&limits->total);
}

// An IPv6 user has a /64 at least, so that is what counts as one.
static void find_slots(const struct sys_addr *peer, uint32_t out[2])
{
    uint8_t key[9] = {peer->kind};
    memcpy(key + 1, peer->ip, peer->kind == SYS_ADDR_IP4 ? 4 : 8);
    uint64_t hash = map_hash(bytes_of(key, sizeof key));
    out[0] = (uint32_t)hash % SLOTS;
    out[1] = (uint32_t)(hash >> 32) % SLOTS;
}

static void leave_slots(struct net_limits *limits, const uint32_t slots[2])
{
    atomic_fetch_sub(&limits->counts[0][slots[0]], 1);
    atomic_fetch_sub(&limits->counts[1][slots[1]], 1);
}

static bool enter_slots(struct net_limits *limits, const uint32_t slots[2])
{
    unsigned first = atomic_fetch_add(&limits->counts[0][slots[0]], 1);
    unsigned second = atomic_fetch_add(&limits->counts[1][slots[1]], 1);
    if ((first < second ? first : second) < limits->address_max)
        return true;
    leave_slots(limits, slots);
    return false;
}

enum net_admission net_limits_move(struct net_place *place, const struct sys_addr *peer,
                                   bool exempt)
{
    struct net_limits *limits = place->limits;
    if (!limits)
        return NET_ADMITTED;
    if (place->counted_by_address)
        leave_slots(limits, place->slots);
    bool is_ip = peer->kind == SYS_ADDR_IP4 || peer->kind == SYS_ADDR_IP6;
    bool counts = is_ip && !exempt && limits->address_max > 0;
    if (counts)
        find_slots(peer, place->slots);
    place->counted_by_address = counts && enter_slots(limits, place->slots);
    return counts && !place->counted_by_address ? NET_ADDRESS_FULL : NET_ADMITTED;
}

enum net_admission net_limits_enter(struct net_limits *limits, uint32_t worker,
                                    const struct sys_addr *peer, bool exempt, struct net_place *out)
{
    *out = (struct net_place){0};
    CHECK(worker < NET_WORKERS_MAX);
    if (atomic_fetch_add(&limits->total, 1) >= limits->total_max) {
        atomic_fetch_sub(&limits->total, 1);
        return NET_TOTAL_FULL;
    }
    out->limits = limits;
    out->worker = (uint16_t)worker;
    if (net_limits_move(out, peer, exempt) != NET_ADMITTED) {
        atomic_fetch_sub(&limits->total, 1);
        *out = (struct net_place){0};
        return NET_ADDRESS_FULL;
    }
    atomic_fetch_add(&limits->by_worker[worker], 1);
    return NET_ADMITTED;
}

void net_limits_leave(struct net_place *place)
{
    if (!place->limits)
        return;
    if (place->counted_by_address)
        leave_slots(place->limits, place->slots);
    atomic_fetch_sub(&place->limits->by_worker[place->worker], 1);
    atomic_fetch_sub(&place->limits->total, 1);
    *place = (struct net_place){0};
}

// ---- listener ---------------------------------------------------------------------------------

struct net_listener {
    struct net_listener_conf conf;
    struct sys_listener *sys;
};

static bool has_more_than_its_share(const struct net_listener_conf *conf)
{
    unsigned mine = atomic_load(&conf->limits->by_worker[conf->worker]);
    return (uint64_t)mine * conf->workers >
           (uint64_t)atomic_load(&conf->limits->total) + conf->workers / 2;
}

static void on_accept(void *ctx, struct sys_stream *s)
{
    struct net_listener *l = ctx;
    const struct sys_addr *peer = sys_stream_peer(s);
    bool is_trusted = net_cidr_any_has(l->conf.trusted, l->conf.trusted_count, peer);
    struct net_place place = {0};
    enum net_admission admission = NET_ADMITTED;
    if (l->conf.limits) {
        admission = net_limits_enter(l->conf.limits, l->conf.worker, peer, is_trusted, &place);
        if (has_more_than_its_share(&l->conf))
            sys_listener_yield(l->sys);
    }
    l->conf.on_accept(l->conf.ctx, s, is_trusted, admission, place);
}

struct net_listener *net_listener_open(const struct net_listener_conf *conf)
{
    struct net_listener *l = mem_new(sizeof *l);
    l->conf = *conf;
    l->sys = sys_listener_open(conf->fd, on_accept, l);
    return l;
}

// The conf is copied before on_accept can free us: sys promises no accept after its close.
void net_listener_close(struct net_listener *l)
{
    sys_listener_close(l->sys);
    free(l);
}
