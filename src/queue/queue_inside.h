// SPDX-License-Identifier: MIT
//
// queue_inside - the queue's own structures; only files of this folder include it
//
//     message  1 --- n  bundle  n --- 1  domain  n --- 1  lane
//                          |                |               |
//                          `--- flow -------'--- turn ------'
//
// A bundle is in one place: WAITING in its domain's heap of due times, READY in a flow's list,
// LEASED in a batch, HELD nowhere. A *flow* is the ready mail of one domain, class, account and level of priority; a
// *turn* is the flows of one lane, proof, class and account: what takes turns. When a domain moves
// to another lane its flows are hung into other turns and its bundles are not touched.
//
// All functions here want the mutex held. Times are mono microseconds (int64_t ..._us).
#pragma once

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "queue/queue.h"
#include "queue/queue_ids.h"
#include "queue/queue_pool.h"
#include "queue/queue_window.h"

#define QUEUE_PROMOTE_MAX 256 // bundles moved from a domain to its lane in one step
#define QUEUE_RESOLVED_MIN_MS 1000
#define QUEUE_DEBT_NOTED_US 500000 // a byte rate's longer pauses survive a restart
#define QUEUE_HOUR_SLOTS 60
#define QUEUE_DAY_SLOTS 48
#define QUEUE_NOTE_BLOCK_MAX 1000 // messages counted ahead in one note

// What a piece of memory takes with the allocator's own bytes.
static inline size_t mem_chunk_bytes(void *piece)
{
    return malloc_usable_size(piece) + sizeof(size_t);
}

// RFC 6710's nineteen priorities in steps that keep apart all levels of its policies (MIXER, STANAG 4406, NSEP); the
// most urgent is 0.
#define QUEUE_LEVELS 6
static inline uint8_t queue_level_of(int8_t priority)
{
    return (uint8_t)(priority >= 6    ? 0
                     : priority >= 4  ? 1
                     : priority >= 2  ? 2
                     : priority >= 0  ? 3
                     : priority >= -2 ? 4
                                      : 5);
}

enum bundle_state { BUNDLE_WAITING, BUNDLE_READY, BUNDLE_LEASED, BUNDLE_HELD };
#define BUNDLE_STATES 4

#define BUNDLE_WARNABLE 1u   // a delayed-DSN may be sent for these
#define BUNDLE_WARNED 2u     // ... and has been
#define BUNDLE_SCHEDULED 4u  // due_us stands for a wall time the sender asked for
#define BUNDLE_WAS_HELD 8u   // before it was leased
#define BUNDLE_SUSPENDED 16u // HELD (or was) for its account's sake only
#define BUNDLE_EXEMPT 32u    // no rule for mail to come holds it

struct queue_message {
    struct message_id id;
    struct queue_bundle *bundles; // NULL: a free item
    int64_t timer_us;             // warning or expiry, whichever comes next
    int64_t expires_us;
    uint32_t timer_place; // in its worker's heap, from 1; 0: in none, nothing to expire
    uint32_t size;        // saturates
    uint32_t account;
    uint16_t leases; // batches out
    uint8_t class : 3;
    uint8_t flags : 5;    // QUEUE_NULL_SENDER ...
    bool warn_passed : 1; // the warning's time has come
    bool warn_again : 1;  // ... and somebody came back unwarned
    bool has_stored : 1;  // kept in memory: queue_stored_find()
    bool drop_stored : 1; // once no batch has it
    uint8_t level : 3;    // of its priority: queue_level_of()
};
_Static_assert(sizeof(struct queue_message) == 56, "memory per message is a promise");

// What is not on its way this long after it came makes room for others.
#define QUEUE_STORED_STALE_US INT64_C(10000000)

// Of a fresh message: the few that are kept in memory.
struct queue_kept {
    struct queue_hash_node hash;
    struct list link; // in kept_by_age, oldest first
    struct queue_message *message;
    void *stored;
    uint64_t bytes;
    int64_t since_us;
};

// Item numbers of messages, a min-heap by timer_us.
struct queue_timers {
    uint32_t *items;
    uint32_t count, cap;
};

struct queue_bundle {
    struct queue_message *message;
    struct queue_domain *domain;
    struct queue_bundle *next, **link; // among the message's bundles
    union {
        struct heap_node due;             // WAITING
        struct list ready;                // READY
        struct queue_bundle *next_leased; // LEASED
    };
    union {
        int64_t due_us;          // WAITING, HELD, LEASED
        struct queue_flow *flow; // READY
    };
    union {
        uint32_t number;   // count == 1
        uint32_t *numbers; // count > 1: malloc'd
    };
    uint32_t count;
    uint16_t attempts; // saturates
    uint8_t state;
    uint8_t flags;
};

enum domain_state {
    DOMAIN_UNRESOLVED, // nothing known; asks when something is due
    DOMAIN_ASKING,     // in the list of those to resolve
    DOMAIN_RESOLVING,  // handed out
    DOMAIN_RESOLVED,   // until until_us
    DOMAIN_BACKOFF,    // DNS failed, until until_us
    DOMAIN_DRAINING,   // what was due at until_us is handed back (failed or rerouted)
};

struct queue_refusal { // why a domain drains or backs off
    uint16_t code;
    char enhanced[12];
    bool reroute;
    char text[]; // NUL-terminated
};

struct queue_domain {
    struct queue_hash_node hash;
    char *name; // NUL-terminated
    struct heap waiting;
    struct heap_node *waiting_one; // what `waiting` stands in while there is no more than one
    struct heap_node wake;         // in its worker's heap
    struct list work;              // in its worker's lists: to resolve, or draining
    struct queue_lane *lane;
    struct list of_lane;
    struct list flows;
    struct queue_refusal *refusal;
    int64_t until_us;
    uint32_t route, bundles, name_hash, rule; // rule: the first that matches its name
    uint16_t failures;
    uint8_t name_len, worker, state, proof;
};

struct queue_flow {
    struct queue_hash_node hash;
    struct queue_domain *domain;
    struct queue_turn *turn;
    struct list bundles, of_domain, of_turn;
    uint32_t account, count;
    uint8_t class, level;
};

struct queue_turn {
    struct queue_hash_node hash;
    struct queue_lane *lane;
    struct list flows[QUEUE_LEVELS], ring;
    uint32_t account;
    uint8_t class, proof;
};

// The two kinds of mail where a lane's share is kept: all of it, and what is not transactional.
enum share { SHARE_ALL, SHARE_LOW, SHARES };

struct queue_lane {
    struct queue_hash_node hash;
    char *name, *hosts, *match_names, *text; // text: why it backs off
    uint32_t hosts_len, rule;
    uint32_t names_rule, domains_rule; // the first that matches a name, a domain; rule: the smaller
    const struct conf_lane *limits;
    struct list rings[QUEUE_PROOFS][MAIL_CLASSES]; // of turns
    uint32_t ready[QUEUE_PROOFS][MAIL_CLASSES];    // bundles
    struct list domains; // those whose rule is not the last one come first
    struct heap_node wake;
    struct list work, note_work;
    uint32_t domains_count;
    uint32_t connecting[QUEUE_PROOFS], idle[QUEUE_PROOFS], woken[QUEUE_PROOFS];
    uint32_t busy, busy_low, failures, batches;  // batches: out, of this lane
    uint32_t breaks;                             // connections that failed, or broke, so far
    uint32_t used_up;                            // busy ones that were told to close
    uint64_t deferred;                           // recipients, by answers over it so far
    struct queue_remote remote;                  // of the server spoken to last
    int64_t backoff_us;                          // no new connection before
    int64_t ceiling_us;                          // no more connections than `ceiling` before
    uint32_t ceiling;                            // what its site has let stand
    struct message_id broke;                     // whose session broke last
    int64_t last_us[SHARES];                     // when the last message went; 0: none
    int64_t bytes_us[SHARES];                    // no message before
    int64_t rested_us;                           // until when its last message counts, by its note
    struct queue_window *second, *hour, *day;    // NULL: no such limit was ever set
    uint32_t tokens, reserved, taken_since_note; // messages that durable notes cover
    struct {
        int64_t told_us, found_us;    // wall; 0: none
        uint32_t sweep;               // in which found_us was
    } oldest;                         // queue_oldest.c
    struct list slot_wait, slot_idle; // queue_slot.c: waits for a connection; has idle ones
    bool slot_granted;
    uint8_t slot_rank; // while it waits: its list
    uint8_t worker, proof_turn;
    bool note_pending, note_kept, note_again; // being written; a value is saved; changed since
};

struct queue_worker {
    struct queue_timers messages;
    struct heap domains, lanes;
    struct list resolve, drain, touched, notes;
    uint32_t step;
};

struct queue_rule { // a rule for mail to come
    struct wall since;
    char who[QUEUE_HOLD_WHO_MAX + 1], why[QUEUE_HOLD_WHY_MAX + 1];
    const struct queue_message *counted; // the last one; not to be looked into
    uint64_t messages, recipients;       // that it keeps, by the last count
};

struct queue {
    pthread_mutex_t mutex;
    atomic_uint lock_waiters; // threads that found the mutex taken
    uint32_t workers_count, connections_max, connections;
    uint64_t stored_bytes_max, stored_bytes, random;
    struct list kept_by_age;
    const struct conf *conf;
    void (*release)(void *message);
    struct queue_pool messages, kept, bundles, domains, flows, turns, lanes;
    struct queue_ids by_id;
    struct queue_hash by_message, by_domain, by_flow, by_turn, by_lane;
    struct queue_worker workers[QUEUE_WORKERS_MAX];
    struct map held_domains, held_accounts;      // struct queue_rule
    struct map suspended_accounts;               // key, as of held ones: the number in decimal
    struct queue_rule *hold_all, *hold_restored; // NULL: none
    struct {
        struct list waits[4], idle; // of lanes; waits: by rank, the first to get a connection first
        uint32_t waiting, granted;  // lanes that wait; that may open one, and have not yet
        uint32_t closing;           // connections that were told to close
    } slots;                        // queue_slot.c
    uint64_t kick;
    int64_t born_us; // the first time seen; what was sent before is not known
    uint64_t recipients[BUNDLE_STATES], scheduled; // scheduled: part of WAITING
    struct {
        int64_t told_us, found_us; // wall; 0: none
        int64_t again_us;          // no sweep before
        uint32_t sweep, next;      // next: of messages, the one to look at
    } oldest;                      // queue_oldest.c
    // malloc'd: recipients' numbers, heaps of due times, names
    uint64_t numbers_bytes, waiting_bytes, names_bytes;
};

// ---- queue.c: life, messages, bundles

void queue_lock(struct queue *q);
// For one slice of a look at the whole queue: whoever waits for the mutex goes first. The mutex itself would go to who
// asks again at once, and the workers would stand still until the whole queue has been looked at.
void queue_lock_slice(struct queue *q);
// Hands the kicks over (kicks may be NULL: they wait for the next one) and releases `drop`.
void queue_unlock(struct queue *q, uint64_t *kicks, void *drop);
static inline void queue_kick(struct queue *q, uint32_t worker)
{
    q->kick |= (uint64_t)1 << worker;
}
uint64_t queue_random(struct queue *q);
// min(first * factor^times, max), in milliseconds, without jitter.
int64_t queue_retry_ms(const struct queue *q, uint32_t times);
// What is released or found at a start is not given up before then.
int64_t queue_grace_us(const struct queue *q, struct queue_now now);
int64_t queue_us_of(struct wall t, struct queue_now now);
bool queue_is_suspended(const struct queue *q, uint32_t account);
struct wall queue_wall_of(int64_t us, struct queue_now now);

struct queue_message *queue_message_find(struct queue *q, struct message_id id);
uint32_t queue_message_item(const struct queue *q, const struct queue_message *m);
// What is kept of a fresh message, or NULL.
void *queue_message_stored(struct queue *q, const struct queue_message *m);
// Sets the timer anew after bundles came back to a place where they may expire.
void queue_message_check(struct queue *q, struct queue_message *m, struct queue_now now);
// The same, but neither its warning nor its end comes before that.
void queue_message_put_off(struct queue *q, struct queue_message *m, int64_t until_us);
// Frees the message if nothing is left of it; returns what of `stored` is to be released, or NULL.
void *queue_message_settle(struct queue *q, struct queue_message *m, struct queue_now now);
uint32_t queue_message_worker(const struct queue *q, struct message_id id);

struct queue_bundle *queue_bundle_new(struct queue *q, struct queue_message *m,
                                      struct queue_domain *d, const uint32_t *numbers,
                                      uint32_t count);
void queue_bundle_free(struct queue *q, struct queue_bundle *b); // in no place
const uint32_t *queue_bundle_numbers(const struct queue_bundle *b);
// Cuts the first n (0 < n < count) numbers off into a bundle of the same kind, which is in no
// place.
struct queue_bundle *queue_bundle_split(struct queue *q, struct queue_bundle *b, uint32_t n);
// From wherever it is into the state; WAITING uses due_us.
void queue_bundle_wait(struct queue *q, struct queue_bundle *b, int64_t due_us);
void queue_bundle_hold(struct queue *q, struct queue_bundle *b);
void queue_bundle_lease(struct queue *q, struct queue_bundle *b);
void queue_bundle_ready(struct queue *q, struct queue_bundle *b, struct queue_flow *f);
// What the domain's heap of due times takes, at its end: no bundle waits any more, or none will.
void queue_waiting_free(struct queue *q, struct queue_domain *d);
// Takes it out of where it is (its state's containers and counts).
void queue_bundle_take_out(struct queue *q, struct queue_bundle *b);
void queue_bundle_move(struct queue *q, struct queue_bundle *b, struct queue_domain *d);

// ---- queue_timers.c

void queue_timers_set(struct queue *q, struct queue_timers *h, struct queue_message *m,
                      int64_t at_us);
// Does nothing when it is in no heap.
void queue_timers_remove(struct queue *q, struct queue_timers *h, struct queue_message *m);
struct queue_message *queue_timers_first(const struct queue *q, const struct queue_timers *h);

// ---- queue_domain.c

struct queue_domain *queue_domain_get(struct queue *q, uint32_t route, struct bytes name);
// Something about the domain changed: sets its wake-up, puts it to work, or frees it.
void queue_domain_check(struct queue *q, struct queue_domain *d);
// Its time has come: moves what is due to the lane, or asks for resolution.
void queue_domain_wake(struct queue *q, struct queue_domain *d, struct queue_now now);
struct bytes queue_domain_name(const struct queue_domain *d);
void queue_domain_retry_now(struct queue *q, struct queue_domain *d);
uint64_t queue_domain_hash(const struct queue_hash_node *node);
void queue_domain_free(struct queue *q, struct queue_domain *d);

// ---- queue_lane.c

// A copy with NUL at its end, malloc'd.
char *queue_dup_text(struct bytes s);
struct queue_lane *queue_lane_find(struct queue *q, struct bytes name);
struct queue_lane *queue_lane_get(struct queue *q, struct bytes name);
void queue_lane_free(struct queue *q, struct queue_lane *l);
// Hangs the domain's flows (if any) under the lane; NULL: takes the domain off its lane (no flows
// left).
void queue_lane_join(struct queue *q, struct queue_domain *d, struct queue_lane *l,
                     enum queue_proof proof);
// Takes over hosts and names to match from a resolution.
void queue_lane_update(struct queue *q, struct queue_lane *l, const struct queue_resolution *r);
struct queue_flow *queue_flow_get(struct queue *q, struct queue_domain *d, uint32_t account,
                                  uint8_t class, uint8_t level);
void queue_flow_drop_if_empty(struct queue *q, struct queue_flow *f);
// Something about the lane changed: its worker looks at it.
void queue_lane_touch(struct queue *q, struct queue_lane *l);
// Matches all of its names and domains anew: another configuration.
void queue_lane_set_limits(struct queue *q, struct queue_lane *l);
uint32_t queue_lane_connections(const struct queue_lane *l); // slots in use
// How many the share may have: by the lane's rule, and by what its site has just let stand. UINT64_MAX: any number.
uint64_t queue_lane_connections_max(const struct queue_lane *l, enum share share,
                                    struct queue_now now);
// How many of a limit (0: none, returns UINT64_MAX) this share of the mail may use.
uint64_t queue_share_limit(uint64_t limit, enum share share);
// When the share may send its next message; *out_limit (may be NULL) names the binding limit, or
// NULL.
int64_t queue_lane_when(struct queue *q, struct queue_lane *l, enum share share,
                        struct queue_now now, const char **out_limit);
// What the lane wants done: false, or *out is a QUEUE_CONNECT or QUEUE_WAKE.
bool queue_lane_decide(struct queue *q, struct queue_lane *l, struct queue_now now,
                       struct queue_work *out);
// The time between two messages of a lane that spaces them, of the slower share; 0: it does not.
int64_t queue_lane_spacing(const struct queue_lane *l);
// Until when its last message counts. By its note, too, as the rule of a restored lane is that of the domains to come.
int64_t queue_lane_paced(const struct queue_lane *l);
// From when on nothing of its shaping is left to remember, nor to note; INT64_MAX: not known.
int64_t queue_lane_rests(struct queue *q, struct queue_lane *l, struct queue_now now);
bool queue_lane_has_ready(const struct queue_lane *l);
uint64_t queue_lane_hash(const struct queue_hash_node *node);
uint64_t queue_flow_hash(const struct queue_hash_node *node);
uint64_t queue_turn_hash(const struct queue_hash_node *node);

// ---- queue_remote.c

// Ours and the server's limit together: the smaller of those that are set; 0: neither is.
static inline uint32_t queue_tighter(uint32_t ours, uint32_t theirs)
{
    return theirs && (!ours || theirs < ours) ? theirs : ours;
}
// The turn's next flow whose domain may still go over the connection, or NULL.
struct queue_flow *queue_remote_flow(struct queue_turn *t, const struct queue_connection *c);
// The domain went over the connection.
void queue_remote_note(struct queue_connection *c, const struct queue_domain *d);
// The server's limit that holds the bundle up, as words; false: none does. full: all connections are in use.
bool queue_remote_binds(const struct queue_lane *l, const struct queue_bundle *b, bool full,
                        char text[QUEUE_TEXT_MAX]);

// ---- queue_slot.c

// A connection for the lane, counted in q->connections: false, it waits (`urgent`: with transactional mail) and is
// touched when it has one.
bool queue_slot_take(struct queue *q, struct queue_lane *l, bool urgent);
// It wants none just now.
void queue_slot_leave(struct queue *q, struct queue_lane *l);
// One is gone.
void queue_slot_give(struct queue *q);
// Whoever waits gets what is free.
void queue_slot_share(struct queue *q);
// The lane's idle connections are others than before.
void queue_slot_note_idle(struct queue *q, struct queue_lane *l);
// More lanes wait than connections are about to be closed.
bool queue_slot_is_short(const struct queue *q);
// Then the next lane with an idle one is to look at it.
void queue_slot_press(struct queue *q);
// Is the connection, whose next mail is `low` (not transactional) and whose lane has so many others, to be closed for the
// lane that waits first?
bool queue_slot_gives_way(struct queue *q, const struct queue_connection *c, uint32_t others,
                          bool low);

// ---- queue_note.c

// The lane's note is to be written.
void queue_note_want(struct queue *q, struct queue_lane *l);
void queue_note_make(struct queue *q, struct queue_lane *l, struct queue_now now, uint32_t reserve,
                     struct queue_note *out);
// The messages that a note of this lane counts ahead; 0: the lane counts nothing that lasts.
uint32_t queue_note_block(const struct queue_lane *l);

// ---- queue_hold.c

// Do rules for mail to come hold it? `exempt`: by itself it was let go.
bool queue_is_held(const struct queue *q, struct bytes domain, uint32_t account, bool exempt);
// NULL: none.
struct queue_rule *queue_rule_of_domain(const struct queue *q, struct bytes domain);
struct queue_rule *queue_rule_of_account(const struct queue *q, uint32_t account);
// A rule from its note, whose name is behind "hold/". E_SYNTAX.
int queue_hold_restore(struct queue *q, struct bytes name, struct bytes value) MUST_USE;
void queue_holds_free(struct queue *q);

// ---- queue_batch.c

// Leases the bundles (a chain by next_leased, all of one message) into a batch.
struct queue_batch *queue_batch_new(struct queue *q, struct queue_message *m,
                                    struct queue_bundle *bundles, struct queue_now now);
bool queue_filter_matches(const struct queue_filter *f, const struct queue_bundle *b);
