// SPDX-License-Identifier: MIT
//
// suppress - the suppression list: addresses that no mail may go to, in STATE/suppressions.db and in memory
//
// An entry says why (reason) and for whom (scope): for the whole service, for one account, or for one stream of an
// account (the tag of a message). Workers ask suppress_may_hit(), which looks into a table in memory and says "no"
// for nearly everybody; only after a "maybe" is the database asked, which decides and knows the reason. While the
// table is being loaded after a start every answer is "maybe": slower, and as right.
//
// An address matches in every spelling: domain as lower-case A-label, local part without needless quotes, A-Z as
// a-z; nothing else is folded (dots and +tags stay). docs/SUPPRESSION.md
//
// Owner:  the daemon; the database belongs to a loop of its own.
// Thread: suppress_may_hit() and the counts: any. Questions and changes: any, answered on the loop they name.
// Fails:  what can't be asked is not answered "no": E_IO comes through done().
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "sys/sys.h"

struct suppress;
struct suppress_list; // store/suppress_list.h: the database alone

#define SUPPRESS_NOTE_MAX 1000  // bytes; what is longer is cut
#define SUPPRESS_STREAM_MAX 255 // bytes of a tag

// Values stand in the database.
enum suppress_reason {
    SUPPRESS_HARD_BOUNCE = 1,
    SUPPRESS_COMPLAINT = 2,
    SUPPRESS_UNSUBSCRIBE = 3,
    SUPPRESS_MANUAL = 4,
};
#define SUPPRESS_REASONS 5
// "hard-bounce", "complaint", "unsubscribe", "manual".
const char *suppress_reason_name(enum suppress_reason reason);
// E_SYNTAX.
int suppress_reason_parse(struct bytes name, enum suppress_reason *out) MUST_USE;

enum suppress_scope { SUPPRESS_SERVICE, SUPPRESS_ACCOUNT, SUPPRESS_STREAM };
// "service", "account", "stream".
const char *suppress_scope_name(enum suppress_scope scope);

// One entry; an address may have one for each scope and reason.
struct suppress_entry {
    enum suppress_scope scope;
    uint32_t account;     // ACCOUNT, STREAM: its number; 0: mail without an account
    struct bytes stream;  // STREAM: the tag
    struct bytes address; // any spelling
    enum suppress_reason reason;
    struct wall since;   // 0: now
    struct wall expires; // 0: never
    struct bytes note;   // for the operator: "0HZX...1 550 5.1.1 no such user"; may be empty
};

// ---- questions -----------------------------------------------------------------------------------------

// False: no mail of this account and stream to this address is suppressed. True: ask. `stream` empty: not known
// yet, or none. NULL is an empty list. Under 1 us; an address that is none is never on the list.
bool suppress_may_hit(const struct suppress *s, uint32_t account, struct bytes stream,
                      struct bytes address);

struct suppress_hit {
    bool found;
    enum suppress_scope scope;
    enum suppress_reason reason;
    struct wall since, expires; // expires 0: never
};
// "hard-bounce since 2026-01-31 for account shop, until 2026-05-01": what a refusal and the history say. `account`
// is shown for the scopes that have one.
void suppress_hit_format(const struct suppress_hit *hit, struct bytes account, struct buf *out);

// Asks about `count` addresses (copied) at once; done() runs on the current loop, never from inside this call. OK:
// hits[i] is about addresses[i], borrowed for the call. Otherwise nothing is known: no mail may go.
struct suppress_ask;
struct suppress_ask *suppress_ask(struct suppress *s, uint32_t account, struct bytes stream,
                                  const struct bytes *addresses, uint32_t count,
                                  void (*done)(void *ctx, int err, const struct suppress_hit *hits),
                                  void *ctx);
// done() will not be called. On the loop that asked, before done().
void suppress_cancel(struct suppress_ask *ask);

// ---- changes -------------------------------------------------------------------------------------------

// Adds an entry (copied) and writes who did it to the list's log of changes. Idempotent: an entry that is there
// stays, and never gets shorter. done() (may be NULL) runs on `home`, or where that is NULL on the list's own loop,
// once the entry is durable and seen by suppress_may_hit(). E_SYNTAX: not an address; E_IO, E_FULL.
void suppress_add(struct suppress *s, const struct suppress_entry *entry, struct bytes actor,
                  struct sys_loop *home, void (*done)(void *ctx, int err), void *ctx);
// Removes the entry of this scope, address and reason. OK also when there was none.
void suppress_remove(struct suppress *s, const struct suppress_entry *entry, struct bytes actor,
                     struct sys_loop *home, void (*done)(void *ctx, int err), void *ctx);

struct json_object;
struct store_directory;
// One operation of the command line (store/suppress_list.h has them); runs on the list's loop, where done() gets
// the result (owned by the receiver) or a sentence in `error` (borrowed). args and directory are borrowed until then.
void suppress_command(struct suppress *s, const char *op, struct json_object *args,
                      const struct store_directory *directory, struct bytes actor,
                      void (*done)(void *ctx, int err, struct json_object *result,
                                   struct bytes error),
                      void *ctx);

// ---- life ----------------------------------------------------------------------------------------------

struct spool;

struct suppress_policy {
    bool hard_bounces;      // outcomes of that kind make entries
    int64_t bounce_keep_ms; // which last so long; 0: for ever
};

// Opens (and makes) FOLDER/suppressions.db. Blocking, short. `error` gets a line. E_VERSION, E_DENIED, E_DAMAGED,
// E_IO.
int suppress_open(struct bytes folder, struct suppress **out, struct buf *error) MUST_USE;
// Starts its loop: the table is loaded, and the journal followed from where the database has come to. Before the
// first delivery. E_IO, E_FULL, E_DAMAGED.
int suppress_start(struct suppress *s, struct spool *spool,
                   const struct suppress_policy *policy) MUST_USE;
// A reload. On any loop.
void suppress_set_policy(struct suppress *s, const struct suppress_policy *policy);
// Reads what is flushed, then ends; copies get E_CLOSED. Before spool_close(). What is asked later is dropped: done()
// never comes.
void suppress_stop(struct suppress *s);
void suppress_close(struct suppress *s); // NULL is fine
// A consistent copy for a backup, into a new file; done() on the list's loop. E_EXISTS, E_FULL, E_IO, E_CLOSED.
void suppress_copy(struct suppress *s, const char *path, void (*done)(void *ctx, int err),
                   void *ctx);

struct suppress_stats {
    bool loaded;
    uint64_t addresses, bytes;        // of the table in memory
    uint64_t questions;               // that went to the database
    uint64_t added, removed, expired; // entries, since the start
    uint64_t recipients_removed;      // suppress_count_removed()
    uint64_t sequence;                // of the last record of the journal that is dealt with
    int64_t load_ms;                  // of the load at the start
};
// Recipients that delivery took out of messages; any thread.
void suppress_count_removed(struct suppress *s, uint32_t recipients);
void suppress_get_stats(const struct suppress *s, struct suppress_stats *out);
