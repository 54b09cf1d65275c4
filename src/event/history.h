// SPDX-License-Identifier: MIT
//
// history - the journal read forward into one SQLite file a day; what every question about the past is answered from
//
// The writer has a loop of its own and blocks on nothing but its disk. It stores the sequence number it has come
// to in the same transaction as the rows, so that after a crash it goes on exactly there; the journal keeps
// segments until they are copied. A day's file is STATE/events/YYYYMMDD.db; forgetting is an unlink. Whatever
// became of these files, every live message is in the history again once the journal has been read; where a past day's
// was damaged, once compaction has copied it on.
//
// Thread: start and stop outside the loops; questions on any thread that may block (the API's, the disk pool's).
#pragma once

#include "mail/envelope.h"
#include "spool/spool.h"

#define HISTORY_PAGE_MAX 10000 // events of one page

struct history;

// Opens (and makes) the folder and starts to follow the journal. keep_ms: older day files are deleted, at most a day's
// worth an hour where only the wall clock says that they are so old; bytes_max: the oldest are, until the rest is no larger, but never the last (0: no matter). E_IO, E_DENIED, E_DAMAGED, E_VERSION.
int history_start(struct bytes state_folder, struct spool *spool, int64_t keep_ms,
                  uint64_t bytes_max, struct history **out) MUST_USE;
// Copies what is flushed, then ends. Before spool_close(). Questions are answered all the same, from what is copied.
void history_stop(struct history *h);
// Once it is stopped, and nobody asks any more.
void history_free(struct history *h);
// Sequence number of the last record copied; any thread.
uint64_t history_sequence(const struct history *h);
// Has all that is flushed now copied, and waits for it, at most HISTORY_WAIT_MS (then E_TIMEOUT): who was answered
// 250 finds his message. At once E_TIMEOUT while copying fails, and after a wait in vain until what that one waited
// for is copied: one that lags delays nobody for long. Any thread that may block.
#define HISTORY_WAIT_MS 2000
int history_wait(struct history *h);

// ---- questions; all slices are borrowed for the callback ---------------------------------------------------

struct history_message {
    struct message_id id;
    struct bytes account, class, tag, sender, message_id, envid, listener, client, credential;
    uint64_t size;
    struct wall accepted_at;
    const struct envelope *envelope; // all of it
    const struct metadata *metadata; // what was noted at acceptance: "preflight" and so on
    uint32_t metadata_count;
};
struct history_event {
    uint64_t cursor; // sequence number; the recipients of one acceptance share one
    struct wall at;
    enum spool_event type;
    struct message_id id;
    uint32_t recipient;   // number; 0: none
    struct bytes address; // of that recipient
    // After it. Of an acceptance: queued, or how the recipient stood when the history learned of the message, where
    // what happened before is not known any more.
    enum recipient_state state;
    uint32_t attempts;
    struct wall next_attempt_at;
    uint16_t code;
    struct bytes enhanced, text, mx, ip, tls, lane, actor, reason;
    struct bounce_class class; // why it failed or was deferred
    struct message_id related;
    const struct envelope *envelope;       // SPOOL_EVENT_ACCEPTED; else NULL
    const struct envelope *message;        // of its message; NULL: not known
    const struct spool_feedback *feedback; // SPOOL_EVENT_FEEDBACK; else NULL
};

// One message and all its events in order, its acceptance included (once a recipient). E_NOT_FOUND.
struct history_reader {
    void *ctx;
    void (*on_message)(void *ctx, const struct history_message *message);
    void (*on_event)(void *ctx, const struct history_event *event);
};
int history_show(struct history *h, struct message_id id,
                 const struct history_reader *reader) MUST_USE;
// The same for many, which opens each day's file but once. Between begin and end on one thread.
struct history_asking;
struct history_asking *history_begin(struct history *h);
int history_show_next(struct history_asking *a, struct message_id id,
                      const struct history_reader *reader) MUST_USE;
void history_end(struct history_asking *a);

// The envelope of a message that was accepted, borrowed for the call; where the day of its acceptance is gone, what its
// outcomes say of whom it went to: account and recipients, each at its number, those not known without an address.
// E_NOT_FOUND. E_AGAIN: a day that may have it can't be read now.
int history_envelope(struct history *h, struct message_id id,
                     void (*found)(void *ctx, const struct envelope *envelope), void *ctx) MUST_USE;

// What records are looked for by; all that is set must hold. Text is compared without case, but for Message-ID, ENVID and tag.
struct history_filter {
    struct bytes recipient; // an address, or "@" and a domain as A-labels: everybody there
    struct bytes sender;    // "<>": the null sender
    struct bytes message_id, envid, tag, account;
    struct wall since, until; // not before the one, before the other; 0: no matter
    bool typed;               // only events of this type:
    enum spool_event type;
};
// Messages that were accepted and match, the newest first, at most `max`. The type does not matter.
int history_find(struct history *h, const struct history_filter *filter, size_t max,
                 void (*found)(void *ctx, struct message_id id), void *ctx) MUST_USE;

// Events that match, the newest first (by day, then by sequence number). `before` is where the last page ended
// (history_cursor_format() of its last event), or empty. A page has about `max` events: the recipients of one
// acceptance stay together. E_SYNTAX: no such cursor.
#define HISTORY_CURSOR_BYTES 32
void history_cursor_format(const struct history_event *event, char out[HISTORY_CURSOR_BYTES]);
int history_search(struct history *h, const struct history_filter *filter, struct bytes before,
                   size_t max, void (*on_event)(void *ctx, const struct history_event *event),
                   void *ctx) MUST_USE;

// Events with a cursor above `after`, in order, at least one cursor's worth and about `max` in all; *out_last is
// the cursor to go on from (`after` when there was none).
int history_events(struct history *h, uint64_t after, size_t max,
                   void (*on_event)(void *ctx, const struct history_event *event), void *ctx,
                   uint64_t *out_last) MUST_USE;
