// SPDX-License-Identifier: MIT
//
// book - keeps the account of a simulated run: what was handed over, answered, taken, reported; and
// the laws
//
// Clients tell what they sent and what they were answered, receivers what they took. What no law
// allows is a violation, named by its law and told at once; book_close() finds what is missing.
//
//     FLUSH   a 250 was given before the platter had the message            (law 1)
//     LOST    accepted, and neither taken by its receiver nor reported back (law 2)
//     DUP     taken twice with no crash and no lost reply to excuse it      (law 2)
//     GHOST   taken, but never handed over, refused, or to somebody else    (laws 1, 2)
//     BOTH    reported as failed, but taken                                 (law 2)
//     ID      an id was given to two messages                               (law 2)
//     BYTES   other bytes than were handed over                             (law 4)
//     CRLF    bare CR or LF sent, or a message smuggled behind one          (law 5)
//     LANE    a lane's limit passed                                         (law 7)
//     SLOW    mail to a healthy receiver waited for others                  (law 9)
//     EXPIRED given up before its lifetime had passed                       (DESIGN 4)
//
// A bit that rots may cost one message: LOST, DUP and BOTH are excused for it. Never other bytes, and never a crash.
//
// Owner:    one at a time, global. Limits: BOOK_MESSAGES_MAX messages.
#pragma once

#include "cli/sink_smtp.h"
#include "sim.h"
#include "sim_disk.h"

#define BOOK_MESSAGES_MAX 20000
#define BOOK_RECIPIENTS_MAX 64
#define BOOK_VIOLATIONS_SHOWN 5
// How long before a crash a taken message may not have been recorded yet: network, flush, late
// threads.
#define BOOK_IN_FLIGHT_MS 1000
#define BOOK_SLOW_MS INT64_C(120000)

enum book_state { BOOK_SENDING, BOOK_ACCEPTED, BOOK_REFUSED, BOOK_UNKNOWN };

struct book_recipient {
    struct bytes address;
    bool refused;             // at RCPT
    uint32_t taken;           // by its receiver
    uint32_t excused;         // of these: the relay could not know
    uint32_t failed, delayed; // notices about it
    int64_t last_taken_us;
    bool last_excused; // the last one is counted in `excused`
};

struct book_message {
    char token[32];
    struct bytes sender, content; // owned by the book
    uint8_t sha256[32];
    bool keeps_bytes; // no receiver forces another encoding
    bool rotten;      // a bit that rotted explains what happened to it
    enum book_state state;
    int64_t sent_us, accepted_us;
    char id[32];
    struct book_recipient recipients[BOOK_RECIPIENTS_MAX];
    uint32_t recipients_count;
};

void book_open(void);
void book_close(void);
// The spool's disk, for the law FLUSH; NULL: not checked.
void book_watch_disk(struct sim_disk *disk);
// How long a message may be tried, by the configuration.
void book_set_lifetime_ms(int64_t ms);

// A message about to be sent; content holds the header field "X-Load-Id: TOKEN". All is copied.
// Owned by the book. The token is made by book_token().
void book_token(char out[32]);
struct book_message *book_send(const char *token, struct bytes sender, struct bytes content,
                               const struct bytes *recipients, uint32_t count);
void book_refused_recipient(struct book_message *m, uint32_t recipient);
// The final reply to the content (or the one that ended the transaction before).
void book_answered(struct book_message *m, uint16_t code, struct bytes text);
// The connection broke before that.
void book_broken(struct book_message *m);

// A receiver took a message, for mail of its own domain.
void book_taken(const struct sink_message *m);
// The relay crashed just now.
void book_crashed(void);
// Outcomes could not be written for a while: what was taken since `from_us` may come twice after a
// crash.
void book_trouble(void);
// A bit of the spool has rotted.
void book_rotten(void);

void book_violation(const char *law, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint32_t book_violations(void);
// The law of the first one, or NULL.
const char *book_first_law(void);
// Every accepted recipient is taken or reported.
bool book_is_settled(void *ctx);
// Whoever is missing is LOST.
void book_check_end(void);

struct book_counts {
    uint32_t sent, accepted, refused, unknown, recipients, taken, excused, failed, delayed, missing,
        rotten;
};
void book_count(struct book_counts *out);
