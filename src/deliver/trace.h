// SPDX-License-Identifier: MIT
//
// trace - the dialogues of last attempts, kept in memory; and of whom all is recorded
//
// Three shelves, each with its share of the memory: what was delivered, what was not, and what was recorded because
// somebody asked for it. Each forgets its oldest. So a flood of mail that goes well takes nothing from what went
// wrong. What is recorded is written into the log, too, a line each: that stays.
//
// Owner:  the relay. Thread: any; a mutex, held for a copy or a search.
// Limits: the bytes given to trace_new(); TRACE_WATCHES_MAX; TRACE_NUMBERS_MAX recipients are named of an attempt.
// Never:  keeps content, or what smtp_client holds back (passwords, answers to challenges).
#pragma once

#include "base/bytes.h"
#include "base/clock.h"
#include "deliver/dialogue.h"
#include "mail/message_id.h"

#define TRACE_WATCHES_MAX 100
#define TRACE_NUMBERS_MAX 1000
#define TRACE_PATTERN_MAX 320

enum trace_result { TRACE_DELIVERED, TRACE_FAILED, TRACE_DEFERRED, TRACE_MIXED };
// "delivered", "failed", "deferred", "mixed".
const char *trace_result_name(enum trace_result result);

// One attempt: a transaction, or what was there of it. All is borrowed.
struct trace_attempt {
    struct message_id id;
    struct wall at; // its end
    enum trace_result result;
    bool recorded;     // all of it was asked for
    uint32_t left_out; // lines in the middle
    const uint32_t *numbers;
    uint32_t numbers_count; // recipients
    struct bytes lane, mx, ip, tls;
    struct bytes opening, first, last; // dialogue.h
};

struct trace;
struct trace *trace_new(size_t bytes);
void trace_free(struct trace *t);
// Takes a copy. One that does not fit is forgotten at once.
void trace_keep(struct trace *t, const struct trace_attempt *attempt);
// The last attempt of the message, or of that recipient (number 0: of any). found() is called with the lock held.
// E_NOT_FOUND.
int trace_find(struct trace *t, struct message_id id, uint32_t number,
               void (*found)(void *ctx, const struct trace_attempt *attempt), void *ctx);

// ---- who is watched ----------------------------------------------------------------------------------------

struct trace_watch {
    char pattern[TRACE_PATTERN_MAX + 1]; // an address, or "@" and a domain; compared without case
    struct wall until;
};
// From now on they are kept in this file, over restarts; those in it hold again until they end. A file that can't
// be read has none. Before any other call; the file is written by who changes the watches, one thread at a time.
void trace_keep_watches(struct trace *t, struct bytes path);
// Replaces the one of the same pattern. E_FULL, E_LIMIT (the pattern is too long); E_IO...: it holds, but only until a
// restart.
int trace_watch_add(struct trace *t, struct bytes pattern, struct wall until) MUST_USE;
int trace_watch_remove(struct trace *t, struct bytes pattern) MUST_USE; // E_NOT_FOUND, E_IO...
// Those that hold now. At most TRACE_WATCHES_MAX; returns how many.
size_t trace_watches(struct trace *t, struct wall now, struct trace_watch *out);
// Is all to be recorded that goes to this address (`domain`: its own, as A-labels)? Costs next to nothing where nobody
// is watched.
bool trace_is_watched(struct trace *t, struct bytes address, struct bytes domain, struct wall now);
