// SPDX-License-Identifier: MIT
//
// queue - who may go out next: domains, lanes, schedule, turns and shaping
//
// A recipient waits in its *domain* (a route and a routing domain) until due; then the domain is
// resolved once and its mail joins a *lane* (source -> site), from which connections take batches:
// transactional before personal before bulk, within a class the accounts in turn. A *bundle* is
// what the queue moves: the recipients of one message in one domain that are in the same state, due
// at the same time.
//
// The queue decides and does nothing: worker threads ask queue_next() what to do (resolve, connect,
// expire, save ...), do it, and tell the queue how it went. Every domain and lane belongs to one
// worker. Whatever is handed out as a batch is leased: nobody else gets these recipients until
// queue_settle() (or queue_batch_free() at shutdown). The journal is written by the caller *before*
// it settles; the queue is rebuilt from the journal at start by queue_add() and queue_restore().
//
//     queue_next -> RESOLVE -> queue_resolved / queue_unresolved
//                -> CONNECT -> queue_connected / queue_connect_failed / queue_connect_later
//     queue_connected -> queue_take -> BATCH -> transaction -> queue_take (next one; need not wait
//     for the
//                                                  journal) ... -> queue_disconnected
//                                        `-> outcomes to the journal -> queue_settle
//
// Time: lifetimes, retries and rates run on `mono`; wall times are converted when they enter and
// leave, so that a jump of the wall clock is charged to no message. Scheduled sending follows the
// wall clock: queue_clock_jumped().
//
// Owner:    the daemon owns one; batches belong to the caller until settled; connections are the
// caller's. Thread:   any; one mutex inside, held for short bounded steps, nothing is called out of
// it. A handle
//           (lane, domain, connection) is used by the worker that got it only.
// Limits:   QUEUE_WORKERS_MAX workers; QUEUE_BATCH_MAX recipients a batch; lanes keep their shaping
// (law 7). Never:    does I/O, reads a clock, or keeps a recipient's address.
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "conf/conf.h"
#include "mail/envelope.h"

#define QUEUE_JITTER_PERCENT 10 // of a pause between attempts, added or taken away
#define QUEUE_WORKERS_MAX 64
#define QUEUE_BATCH_MAX 1000 // recipients in one batch, whatever a lane allows
#define QUEUE_RECIPIENTS_DEFAULT                                                                   \
    100                      // of one transaction, when the lane sets no limit (RFC 5321 4.5.3.1.8)
#define QUEUE_NAME_MAX 255   // bytes of a domain
#define QUEUE_LANE_MAX 352   // bytes of a lane's name
#define QUEUE_HOSTS_MAX 4096 // bytes of a lane's hosts
#define QUEUE_TEXT_MAX 200   // bytes kept of an error's text
#define QUEUE_NOTE_MAX                                                                             \
    4096 // bytes of a note's value: two windows of 61 slots, each at most 23, a text of at most 600, and little more
#define QUEUE_TRANSACTIONAL_PERCENT                                                                \
    10 // share of a lane's limits that only transactional mail may use

struct queue;
struct queue_lane;
struct queue_domain;

// Both clocks, read in the same turn.
struct queue_now {
    struct mono mono;
    struct wall wall;
};

// What the connection proved about the server, or a domain's policy asks for; each includes the
// ones before.
enum queue_proof {
    QUEUE_PROOF_NONE,
    QUEUE_PROOF_ENCRYPTED,
    QUEUE_PROOF_VERIFIED, // PKIX, names match
    QUEUE_PROOF_DANE,
    QUEUE_PROOFS,
};

// ---- life ----

struct queue_options {
    uint32_t workers;          // 1 .. QUEUE_WORKERS_MAX
    uint32_t connections_max;  // outgoing, all lanes: they take turns (queue_slot.c); 0: no limit
    uint64_t stored_bytes_max; // of memory for fresh messages; 0: none are kept
    uint64_t seed;             // of the jitter
    const struct conf *conf;   // lanes[], retry{}; borrowed until the next queue_configure()
};

struct queue *queue_new(const struct queue_options *options);
void queue_free(
    struct queue *q); // all connections gone, all batches settled or freed; NULL is fine
// A reload: shaping and retry schedule of `conf` hold from the next decision on. Borrowed until the
// next call; returns with nobody reading the old one.
void queue_configure(struct queue *q, const struct conf *conf, uint32_t connections_max);

// Which workers have something new to do: bit n is worker n. Calls below OR into *kicks; the caller posts to
// each, itself included, so that it calls queue_next() again.

// ---- messages in ----

#define QUEUE_NULL_SENDER 1u // no delayed-DSN is ever due
#define QUEUE_SMTPUTF8 2u
#define QUEUE_8BIT 4u
#define QUEUE_REQUIRETLS 8u
#define QUEUE_SINGLY 16u // one recipient a batch

// A counted reference to the stored message (in memory), so that a fresh message need not be read
// back. release() is called once, outside the mutex, on any worker.
struct queue_stored {
    void *message; // NULL: none
    void (*release)(void *message);
    uint64_t bytes; // that it takes in memory
};

struct queue_recipient {
    uint32_t number;     // ID.n, from 1, unique in the message
    uint32_t route;      // the caller's key of the route that applies (opaque, part of the domain)
    struct bytes domain; // routing domain, lower case; at most QUEUE_NAME_MAX; copied
    uint32_t notify;     // NOTIFY_ bits
    uint32_t attempts;   // so far
    struct wall next_attempt_at; // 0: as soon as the message may go
    bool held;                   // by an operator (a restored record)
    bool warned;                 // the delayed-DSN has been sent
    bool exempt;                 // let go by itself: no rule for mail to come holds it
};

struct queue_message_new {
    struct message_id id;
    uint32_t account; // 0: none; still takes turns as one account
    enum mail_class class;
    int8_t
        priority; // RFC 6710, -9 to 9: who goes first of the account's own mail of that class in a lane
    struct wall accepted_at;
    struct wall not_before; // 0: at once
    struct wall warn_at;    // 0: by retry.warn_after
    struct wall expires_at;
    bool spared;    // found at a start: whatever expires_at says, there is time for an attempt
    uint64_t size;  // bytes, for rates
    uint32_t flags; // QUEUE_NULL_SENDER ...
    struct queue_stored stored;
    const struct queue_recipient *recipients; // those still undecided only; at least one
    uint32_t recipients_count;
};

// Takes in an accepted or recovered message; takes over `stored` in any case (released at once when
// over budget). Recipients of held domains and accounts come in held. E_EXISTS: the id is already
// queued.
int queue_add(struct queue *q, const struct queue_message_new *message, struct queue_now now,
              uint64_t *kicks) MUST_USE;

// ---- batches ----

struct queue_batch_recipient {
    uint32_t number;
    uint32_t attempts; // before this one
    // When it would be tried next, had nobody leased it; 0: as soon as the message may go. What a record that is no attempt (held,
    // released, warned) repeats, so that a restart keeps to it.
    struct wall next_attempt_at;
    bool covered; // claimed by `through`, and a rule covers it
};

// Leased recipients of one message.
struct queue_batch {
    struct message_id id;
    uint32_t account;
    enum mail_class class;
    uint32_t flags;
    uint64_t size;
    struct wall expires_at; // on today's wall clock
    uint32_t route;         // of the first recipient; all have it when taken from a lane
    void *stored;           // borrowed until queue_settle(); NULL: read the spool
    int64_t retry_ms;       // the wait before the next attempt, jitter included: queue_retry_at()
    struct bytes domain;    // of the first recipient, points into `text`
    uint32_t count;
    struct queue_batch_recipient *recipients;
    // the queue's own
    struct queue_bundle *bundles;
    struct queue_lane *lane;
    uint32_t breaks; // the lane's, when it was taken
    char *text;
};

// When a recipient deferred at `now` is tried again; what the outcome record states and what the
// result of queue_settle() repeats.
struct wall queue_retry_at(const struct queue_batch *batch, struct wall now);

enum queue_outcome {
    QUEUE_DONE,     // delivered, failed, expired or removed: leaves the queue
    QUEUE_DEFERRED, // tried in vain: again at next_attempt_at, attempts + 1. Of a batch that came from
                    // no lane: neither expiry nor warning before that
    QUEUE_UNTRIED,   // not tried after all (the connection broke before, another must say RCPT): at
                     // once
    QUEUE_HELD,      // stays until released
    QUEUE_SUSPENDED, // stays until its account is active again
    QUEUE_RELEASED,  // no longer held, unless a rule covers it: due as before, but not before `now`
    QUEUE_EXEMPTED,  // the same, and no rule holds it from now on: until QUEUE_HELD
    QUEUE_RETRIED,   // due now, whatever the schedule; backoff of its domain and lane ends
    QUEUE_REROUTED,  // belongs to the domain (route, its own name) now: after a reload
    QUEUE_WARNED,    // the delayed-DSN is recorded; state as before
    QUEUE_KEPT,      // state as before (a claim given up)
};

struct queue_result {
    enum queue_outcome outcome;
    struct wall next_attempt_at; // DEFERRED
    uint32_t route;              // REROUTED
};

// Ends the lease: results[i] is what became of batch->recipients[i]. Call it once the outcomes
// stand in the journal. Frees the batch. A message without recipients left is gone.
void queue_settle(struct queue *q, struct queue_batch *batch, const struct queue_result *results,
                  struct queue_now now, uint64_t *kicks);
// The same for all recipients alike.
void queue_settle_all(struct queue *q, struct queue_batch *batch, struct queue_result result,
                      struct queue_now now, uint64_t *kicks);
// Gives up a batch when stopping: frees it, tells nobody; its recipients stay leased.
void queue_batch_free(struct queue *q, struct queue_batch *batch);

// ---- connections ----

// What the server of a connection said that it takes (RFC 9422); 0: nothing said.
struct queue_remote {
    uint32_t messages_per_connection, recipients_per_transaction, domains_per_connection;
};
#define QUEUE_REMOTE_DOMAINS                                                                       \
    32 // domains over one connection whose server limits them, whatever it allows

// One outgoing connection (or its attempt) of a lane: a slot of `connections`. A value the caller
// keeps and passes by pointer; do not copy it after queue_connected().
struct queue_connection {
    struct queue_lane *lane;    // NULL: no slot
    enum queue_proof proof;     // needed while connecting, proved once connected
    uint32_t messages;          // taken so far
    struct message_id last;     // of them
    uint8_t state;              // the queue's own
    bool low;                   // the queue's own
    struct queue_remote remote; // queue_limit_connection()
    bool used_up;               // the queue's own: was told to close
    uint32_t domains_count;
    uint64_t domains[QUEUE_REMOTE_DOMAINS]; // hashes: over it so far
};

// The site's greeting, EHLO and TLS went well and prove `proof` (at least connection->proof, law
// 7). Follow with queue_take().
void queue_connected(struct queue *q, struct queue_connection *c, enum queue_proof proof,
                     struct queue_now now, uint64_t *kicks);
// After queue_connected(): what its server takes, by which this connection is held beside the lane's own limits, and
// which is told of the lane from now on.
void queue_limit_connection(struct queue *q, struct queue_connection *c,
                            const struct queue_remote *remote);
// It took no more than `max` recipients in one transaction: nor will it be given more.
void queue_limit_recipients(struct queue *q, struct queue_connection *c, uint32_t max);
// No host of the site could be used. The slot is free; the lane backs off by the retry schedule, or, while others of its
// connections stand, opens no more than these for the first interval. Nothing is recorded per recipient. `text` explains (bounded, escaped by whoever shows it).
void queue_connect_failed(struct queue *q, struct queue_connection *c, struct bytes text,
                          struct queue_now now, uint64_t *kicks);
// The hosts that came with QUEUE_CONNECT are not to be used: of an older table, until their domains are resolved again.
// The slot is free, nothing has failed; the lane opens no connection for QUEUE_LATER_MS.
#define QUEUE_LATER_MS 1000
void queue_connect_later(struct queue *q, struct queue_connection *c, struct queue_now now,
                         uint64_t *kicks);
// The connection is about to be closed: no mail is meant for it any more. It keeps its slot until queue_disconnected(),
// as its server counts it so long.
void queue_leaving(struct queue *q, struct queue_connection *c, uint64_t *kicks);
// The connection is gone; its slot is free. `failed`: the site broke it (421, reset, time-out)
// before a transaction had gone through: as queue_connect_failed().
void queue_disconnected(struct queue *q, struct queue_connection *c, bool failed, struct bytes text,
                        struct queue_now now, uint64_t *kicks);

enum queue_take {
    QUEUE_TAKE_BATCH, // *out_batch: do this transaction
    QUEUE_TAKE_IDLE,  // nothing now: keep the connection for a while; QUEUE_WAKE says when there is
                      // work
    QUEUE_TAKE_CLOSE, // quit: used up, or its slot is needed
};
// The connection is free (its last transaction, if any, is over; it need not be settled): what
// next?
enum queue_take queue_take(struct queue *q, struct queue_connection *c, struct queue_now now,
                           struct queue_batch **out_batch, uint64_t *kicks);

// ---- what a worker does next ----

enum queue_work_kind {
    QUEUE_IDLE,    // nothing before `until` (MONO_NEVER: until kicked)
    QUEUE_RESOLVE, // domain, route, name -> queue_resolved() or queue_unresolved(), on any thread
    QUEUE_CONNECT, // connection (a reserved slot), name (the lane's), hosts
    QUEUE_WAKE,    // an idle connection of `lane` with exactly `proof` should call queue_take()
    QUEUE_EXPIRE, // batch: past its lifetime (text: why, if known) -> failure outcomes, DSN, QUEUE_DONE
    QUEUE_WARN,    // batch: warn_after has passed (text: why) -> delayed-DSN, QUEUE_WARNED
    QUEUE_FAIL,    // batch: its domain can't be delivered to (code, enhanced, text) -> QUEUE_DONE
    QUEUE_REROUTE, // batch: its route is no longer of the table -> QUEUE_REROUTED
    QUEUE_SAVE,    // note: write it (an empty value deletes it), then queue_saved()
};

struct queue_note {
    char name[QUEUE_LANE_MAX + 32];
    uint32_t value_len;
    char value[QUEUE_NOTE_MAX];
};

struct queue_work {
    enum queue_work_kind kind;
    struct mono until;
    struct queue_domain *domain;
    uint32_t route;
    struct queue_lane *lane;
    enum queue_proof proof;
    struct queue_connection connection;
    struct queue_batch *batch;
    uint16_t code; // 550
    char enhanced[12];
    char text[QUEUE_TEXT_MAX + 1];
    char name[QUEUE_LANE_MAX + 1]; // the domain's or the lane's, NUL-terminated
    uint32_t hosts_len;
    char hosts[QUEUE_HOSTS_MAX]; // as given to queue_resolved()
    struct queue_note note;
};

// The next thing for `worker` to do. Call until it says QUEUE_IDLE; then again at `until` or when
// kicked. Each call does a bounded amount of work. judges: false, neither EXPIRE, WARN, FAIL nor REROUTE, nor is
// `until` about these: the worker has enough of them to judge, and asks again when it has less.
void queue_next(struct queue *q, uint32_t worker, bool judges, struct queue_now now,
                struct queue_work *out, uint64_t *kicks);

struct queue_resolution {
    // Name: "SOURCE->SITE" (route/route_site.h), equal for all domains whose mail may go over the same connections: with
    // MX hosts ranked alike, and routes that ask the same of a connection. For each of them these hosts must do.
    struct bytes lane;
    struct bytes
        hosts; // opaque to the queue, at most QUEUE_HOSTS_MAX; comes back with QUEUE_CONNECT
    // Names that lanes[].match is compared with beside the domain: the MX hosts, separated by
    // spaces; in one order always, as they are matched again when they differ.
    struct bytes match_names;
    enum queue_proof proof; // that this domain's policy requires
    int64_t ttl_ms;         // how long this holds; at least 1 s is taken
};
// The domain's mail goes over this lane; it moves there if it was on another one.
void queue_resolved(struct queue *q, struct queue_domain *d, const struct queue_resolution *r,
                    struct queue_now now, uint64_t *kicks);

// The routes have changed: whatever this worker's domains were resolved to, or could not be, is
// asked for again when mail next depends on it.
void queue_resolve_again(struct queue *q, uint32_t worker, struct queue_now now, uint64_t *kicks);

enum queue_unresolved {
    QUEUE_UNRESOLVED_DEFER,   // DNS failed for now: the domain backs off by the retry schedule
    QUEUE_UNRESOLVED_FAIL,    // no such domain, null MX, ourselves: what is due comes back as
                              // QUEUE_FAIL
    QUEUE_UNRESOLVED_REROUTE, // the route key is of an older table: what is due comes as
                              // QUEUE_REROUTE
};
struct queue_failure {
    uint16_t code;         // FAIL: 550; DEFER: 451
    struct bytes enhanced; // "5.1.2"
    struct bytes text;     // at most QUEUE_TEXT_MAX are kept
};
void queue_unresolved(struct queue *q, struct queue_domain *d, enum queue_unresolved how,
                      const struct queue_failure *failure, struct queue_now now, uint64_t *kicks);

// ---- notes: what of the queue lasts beside messages ----

// The note of that name, as handed out by the last QUEUE_SAVE of it, is durable (law 7: hour and
// day limits are counted ahead in blocks, so that a crash can only make a lane send less).
void queue_saved(struct queue *q, const struct queue_note *note, struct queue_now now,
                 uint64_t *kicks);
// At a clean stop, with no batch to be taken any more: the exact notes of all lanes that have one,
// one a call, from *cursor = 0 until false. Without it a restart counts what was counted ahead as
// sent.
bool queue_save_next(struct queue *q, uint64_t *cursor, struct queue_now now,
                     struct queue_note *out);
// At start, before any queue_add(): a note as saved. Unknown or damaged ones are ignored: E_SYNTAX.
int queue_restore(struct queue *q, struct bytes name, struct bytes value,
                  struct queue_now now) MUST_USE;

// ---- operators ----

enum queue_select { QUEUE_SELECT_ALL, QUEUE_SELECT_ID, QUEUE_SELECT_DOMAIN, QUEUE_SELECT_ACCOUNT };
struct queue_filter {
    enum queue_select by;
    struct message_id id;
    uint32_t recipient; // ID: this number only; 0: all
    struct bytes domain;
    uint32_t account;
    bool held_only, unheld_only; // held by an operator, or not
    // With held_only: queue_claim() passes over what a hold of its domain, its account or all mail covers, and adds
    // here how many recipients that were; may be NULL.
    uint64_t *covered;
    // With held_only: these are claimed, too, for QUEUE_EXEMPTED; but for the hold of a restored backup.
    bool through;
    bool suspended_only;           // held for its account's sake only
    struct message_id made_before; // message_id_is_before() this; zero: whenever
};

// Leases matching recipients that are not in flight, one message at a time, for an operator's
// action: write the outcomes, then queue_settle() with QUEUE_HELD, QUEUE_RELEASED, QUEUE_RETRIED or
// QUEUE_DONE. What is released or retried is not given up before there was time for an attempt: two first intervals
// of the schedule. Start with *cursor = 0; NULL at the end; each call looks at no more than
// QUEUE_SCAN_MAX messages and may return *out_batch = NULL with true: call again. Settle before the
// next call or not, as you like.
#define QUEUE_SCAN_MAX 1000
bool queue_claim(struct queue *q, const struct queue_filter *filter, uint64_t *cursor,
                 struct queue_now now, struct queue_batch **out_batch);
// How many recipients match, those in flight included (a dry run); bounded steps as above.
bool queue_match(struct queue *q, const struct queue_filter *filter, uint64_t *cursor,
                 uint64_t *count);

// Rules for mail to come: recipients of the domain, account, or all come in held, and what was leased comes back held
// unless it is done, or was released by its id once. Those already queued are held or released by queue_claim(). `on` false ends the rule; what another
// one covers stays held, whatever releases it. The rule lasts once the caller has made *out_note durable (an empty value
// deletes it).
// A rule that begins again has the facts of the last time; NULL: none are known.
#define QUEUE_HOLD_WHO_MAX 100 // bytes; what is longer is cut
#define QUEUE_HOLD_WHY_MAX 200
struct queue_hold_facts {
    struct wall since;
    struct bytes who, why; // text of one line
};
void queue_hold_domain(struct queue *q, struct bytes domain, bool on,
                       const struct queue_hold_facts *facts, struct queue_note *out_note,
                       uint64_t *kicks);
void queue_hold_account(struct queue *q, uint32_t account, bool on,
                        const struct queue_hold_facts *facts, struct queue_note *out_note,
                        uint64_t *kicks);
void queue_hold_all(struct queue *q, bool on, const struct queue_hold_facts *facts,
                    struct queue_note *out_note, uint64_t *kicks);
// As queue_hold_all(), which also ends it; of this nothing is saved, and no recipient is exempt from it.
void queue_hold_restored(struct queue *q);

// Mail to come of the account is held for as long as this is on. Nothing of it is saved: it is told at each start,
// before queue_add(). What is queued already is to be claimed: when it begins, what is not held by an operator for
// QUEUE_SUSPENDED; when it ends, `suspended_only` for QUEUE_RELEASED. What an operator holds stays held.
void queue_suspend_account(struct queue *q, uint32_t account, bool on, uint64_t *kicks);

// The wall clock moved by delta_ms against mono: scheduled mail keeps to the wall clock, and its lifetime and warning to
// when it is due.
void queue_clock_jumped(struct queue *q, int64_t delta_ms, struct queue_now now, uint64_t *kicks);

// ---- questions ----

enum queue_limit {
    QUEUE_LIMIT_NONE, // in flight, or the next one to go
    QUEUE_LIMIT_RETRY_TIME,
    QUEUE_LIMIT_SCHEDULED,
    QUEUE_LIMIT_HOLD,
    QUEUE_LIMIT_DNS,
    QUEUE_LIMIT_BACKOFF,
    QUEUE_LIMIT_LANE_CONNECTIONS,
    QUEUE_LIMIT_LANE_RATE,
    QUEUE_LIMIT_CLASS,
    QUEUE_LIMIT_ACCOUNT_TURN,
    QUEUE_LIMIT_REMOTE,      // what the server says it takes
    QUEUE_LIMIT_CONNECTIONS, // of all lanes
};
const char *queue_limit_name(enum queue_limit limit); // "retry_time"

// The one binding limit.
struct queue_reason {
    uint32_t number; // the recipient's
    enum queue_limit limit;
    struct wall until; // 0: not known
    char setting[64];  // "retry.first", "lanes[2].connections"; empty: none would change it
    char text[QUEUE_TEXT_MAX + 256];
};
// Why does it (number 0: its first recipient) not go out? E_NOT_FOUND: not queued.
int queue_why(struct queue *q, struct message_id id, uint32_t number, struct queue_now now,
              struct queue_reason *out) MUST_USE;

enum queue_state {
    QUEUE_STATE_QUEUED,
    QUEUE_STATE_SCHEDULED,
    QUEUE_STATE_HELD,
    QUEUE_STATE_ACTIVE
};
const char *queue_state_name(enum queue_state state); // "queued", "scheduled", "held", "active"

// One recipient's place: {state, attempts, next_attempt_at}. E_NOT_FOUND.
struct queue_place {
    enum queue_state state;
    uint32_t attempts;
    struct wall next_attempt_at; // not before this, as far as queue_why() knows; 0: now, or held
};
int queue_find(struct queue *q, struct message_id id, uint32_t number, struct queue_now now,
               struct queue_place *out) MUST_USE;

// What the cursor of a search by anything but an id ends at, about: how far it is.
uint64_t queue_scan_end(struct queue *q);

struct queue_row { // a bundle
    struct message_id id;
    uint32_t account;
    enum mail_class class;
    uint64_t size;
    enum queue_state state;
    uint32_t recipients, first_number, attempts;
    struct wall next_attempt_at; // as of queue_place
    char domain[QUEUE_NAME_MAX + 1];
};
// Up to max rows; start with *cursor = 0; 0 rows and *cursor == UINT64_MAX at the end. Mail that
// stays queued throughout is seen exactly once. Looks at no more than QUEUE_SCAN_MAX messages a
// call, so that 0 rows with another cursor mean: call again. A page may end early; max is at
// least 1.
size_t queue_list(struct queue *q, const struct queue_filter *filter, uint64_t *cursor,
                  struct queue_now now, struct queue_row *rows, size_t max);

struct queue_lane_row {
    char name[QUEUE_LANE_MAX + 1];
    uint32_t worker, rule; // lanes[rule]
    uint64_t ready;        // recipients waiting in the lane
    uint32_t connections, connecting, busy, connections_max;
    struct queue_remote remote;   // of the server spoken to last
    uint64_t hour_used, day_used; // messages in the running windows
    uint64_t deferred;            // recipients put off, since the lane is known
    struct wall oldest_at;     // when its oldest message came, by the last look; 0: nothing waits
    struct wall backoff_until; // 0: none
    char text[QUEUE_TEXT_MAX + 1]; // why it backs off
};
size_t queue_lanes(struct queue *q, uint64_t *cursor, struct queue_now now,
                   struct queue_lane_row *rows, size_t max);

// Counts what each rule for mail to come keeps, in bounded steps: start with *cursor = 0, again until false. By one at a
// time.
bool queue_count_held(struct queue *q, uint64_t *cursor);

struct queue_hold_row {   // a rule for mail to come
    enum queue_select by; // ALL, DOMAIN, ACCOUNT
    bool restored;        // ALL: as this is a restored backup
    uint32_t account;
    char domain[QUEUE_NAME_MAX + 1];
    struct wall since; // 0: not known
    char who[QUEUE_HOLD_WHO_MAX + 1], why[QUEUE_HOLD_WHY_MAX + 1];
    uint64_t messages, recipients; // held that it covers, by the last count
};
// Up to max rows from *cursor = 0 on; 0 at the end.
size_t queue_holds(struct queue *q, uint64_t *cursor, struct queue_hold_row *rows, size_t max);

// Looks for the oldest message of each lane and of all, without what is held or scheduled, unless that was done just
// now; rows and counts tell what the last look found. It takes the mutex for QUEUE_SCAN_MAX messages at a time.
void queue_look_for_oldest(struct queue *q, struct queue_now now);

struct queue_counts {
    uint64_t messages, recipients[4]; // by enum queue_state
    uint64_t domains, lanes, connections;
    struct wall oldest_at; // of all that waits; 0: nothing does
    uint64_t stored_bytes; // bodies kept in memory
    uint64_t memory_bytes; // of the queue's own structures, of which:
    uint64_t message_bytes, recipient_bytes, domain_bytes;
    uint64_t
        free_bytes; // of these: places that are free for others to come, as a queue's memory never shrinks
};
void queue_count(struct queue *q, struct queue_counts *out);
