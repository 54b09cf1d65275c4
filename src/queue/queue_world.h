// SPDX-License-Identifier: MIT
//
// queue_world - a virtual world around a queue for its tests: workers, DNS, sites, a journal, time
//
// It does what workers are told, plays the sites by the test's rules, and watches the laws while it
// does: each recipient in one place and ended once, nothing before its time, no lane beyond its
// shaping.
#pragma once

#include "base/heap.h"
#include "base/map.h"
#include "queue/queue.h"

#define WORLD_RECIPIENTS_MAX 4096 // of one message

enum world_dns { WORLD_DNS_OK, WORLD_DNS_DEFER, WORLD_DNS_FAIL, WORLD_DNS_REROUTE };
enum world_reply { WORLD_DELIVER, WORLD_DEFER, WORLD_REFUSE, WORLD_MIX, WORLD_BREAK };

struct world;

// How a site behaves; zero: at once and well.
struct world_site {
    const char
        *name; // of the lane; a domain belongs to the site that is named like its part behind "."
    bool refuses;       // connections
    uint64_t stand_max; // connections, more are refused; 0: no limit
    uint32_t puts_off;  // so many connections, before it is tried
    enum world_reply reply;
    struct message_id breaks[2]; // as WORLD_BREAK, but for these only
    int64_t connect_ms, transaction_ms;
    struct queue_remote remote; // what it says that it takes, and must be held to
    // counted
    uint64_t connects, refused, stand, messages, recipients, connections_most;
};

struct world_recipient;
struct world_sent { // one transaction
    struct message_id id;
    uint32_t account;
    enum mail_class class;
    uint32_t recipients;
    int64_t at_us;
};

struct world_options {
    const char *conf; // YAML of lanes and retry
    uint32_t workers, connections_max;
    uint64_t stored_bytes_max, seed;
};

struct world {
    struct queue *queue;
    struct conf *conf;
    struct world_options options;
    struct queue_now now;
    uint64_t random;
    enum world_dns dns;
    enum queue_proof proof; // that resolution asks for
    uint32_t route_now;     // other routes are answered by WORLD_DNS_REROUTE
    int64_t dns_ms, save_ms;
    struct world_site sites[16];
    size_t sites_count;
    struct world_sent *sent;
    size_t sent_count, sent_cap;
    bool unreadable; // what the queue wants judged can't be: deferred
    uint64_t unread; // so often
    uint64_t resolves, expired, warned, failed, rerouted, saves, released, done;
    uint64_t mended_after; // failures: then the DNS is fine, and the configuration loaded again
    bool keep_sent;
    // private
    struct heap events;
    struct map recipients, notes, lanes;
    uint32_t next_id;
};

// A world with one queue, no site and no mail; world_done() ends it.
void world_init(struct world *w, const struct world_options *options);
void world_done(struct world *w);
// The site of that name, made if there is none: set its rules, read its counts.
struct world_site *world_site(struct world *w, const char *name);

#define WORLD_REFUSED "connection refused: 50% + more = x\xc3\xb6" // by a site that refuses

struct world_mail {
    uint32_t account;
    enum mail_class class;
    const char *domain; // "d.site": d may be anything
    uint32_t spread;    // over so many domains "0d.site", "1d.site" ...; 0: one, as it stands
    uint32_t recipients;
    int64_t not_before_ms, lifetime_ms; // from now; 0: none, 5 days
    uint64_t size;
    uint32_t notify, route;
    bool singly;
    int8_t priority;
    int64_t warn_ms; // from now; 0: by retry.warn_after
};
// Accepts a message: journal, then queue.
struct message_id world_add(struct world *w, const struct world_mail *mail);
// Lets virtual time run; returns when it has passed or nothing is left to happen.
void world_run(struct world *w, int64_t ms);
// Gives every worker its turns now, without time passing.
void world_turn(struct world *w);
// kill -9 and restart, `down_ms` later: the queue is rebuilt from the journal and durable notes.
void world_crash(struct world *w, int64_t down_ms, bool clean);
// queue_hold_domain() and so on, and the rule lasts.
void world_hold_domain(struct world *w, struct bytes domain, bool on,
                       const struct queue_hold_facts *facts);
void world_hold_account(struct world *w, uint32_t account, bool on,
                        const struct queue_hold_facts *facts);
void world_hold_all(struct world *w, bool on, const struct queue_hold_facts *facts);
// The wall clock jumps and the queue is told; who has waited for it goes on waiting as long.
void world_jump(struct world *w, int64_t ms);
// Closes all idle connections, as their owners do after a while.
void world_hang_up_idle(struct world *w);
uint64_t world_queued(struct world *w); // recipients not ended, by the journal
uint64_t world_held(struct world *w);   // ... and held
// An operator's action on all that matches; false: on nobody.
bool world_next_claim(struct world *w, const struct queue_filter *filter,
                      enum queue_outcome outcome);
