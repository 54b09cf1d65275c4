// SPDX-License-Identifier: MIT
//
// smtp_client_private - what the parts of smtp_client share: the session's state, its ends
//
// smtp_client.c has the transactions and the table of steps, smtp_client_open.c what comes before the first of them.
// Nobody else includes this.
#pragma once

#include "smtp/smtp_client.h"
#include "smtp/smtp_stuffer.h"

enum rcpt_state { RCPT_OPEN, RCPT_ACCEPTED, RCPT_SETTLED };

struct smtp_client {
    const struct smtp_client_config *config;
    const struct smtp_client_handlers *handlers;
    void *ctx;
    struct buf out;
    struct smtp_reply_parser parser;
    struct smtp_caps caps;
    struct sasl_client *sasl; // owned; only while logging in
    const struct smtp_transaction *t;
    uint8_t *rcpts; // owned; an enum rcpt_state each
    uint32_t rcpts_cap;
    uint32_t accepted; // recipients that the server took and that are not settled
    uint32_t unsettled;
    uint32_t sent, acked; // positions of the transaction
    uint32_t lmtp_next;   // LMTP: where to look for the recipient that the next final reply is for
    uint64_t content_sent;
    struct smtp_stuffer stuffer;
    struct mono now, waiting_since;
    enum smtp_step session_step; // what is awaited outside of a transaction
    bool tls, wants_tls, tried_helo, logged_in, has_failed, is_closed;
    bool needs_rset;       // the last transaction left something open at the server
    bool begins_with_rset; // position 0 of this one is RSET
    bool uses_bdat, is_eager, mail_accepted, is_streaming;
    bool content_is_sent; // whole
    uint32_t transactions;
};

static inline bool client_is_positive(const struct smtp_reply *reply)
{
    return reply->code >= 200 && reply->code < 300;
}

// ---- smtp_client.c

// A command of the opening was sent: its reply is awaited from now on.
void client_await(struct smtp_client *c, enum smtp_step step);
// The session can't go on: settles what is open and tells on_failed. err OK: `reply` says why.
void client_fail(struct smtp_client *c, int err, const struct smtp_reply *reply);
void client_fail_at(struct smtp_client *c, enum smtp_step step, int err,
                    const struct smtp_reply *reply);

// ---- smtp_client_line.c: on_line()

// What stands in the output from there on has been said; hides AUTH's answers.
void client_tell_sent(const struct smtp_client *c, size_t from);
void client_tell_reply(const struct smtp_client *c, enum smtp_step step,
                       const struct smtp_reply *reply);

// ---- smtp_client_open.c

void client_send_hello(struct smtp_client *c);
void client_drop_sasl(struct smtp_client *c);
// What a reply to these steps means; rcpt is not used.
void client_on_greeting(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt);
void client_on_hello(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt);
void client_on_starttls(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt);
void client_on_auth(struct smtp_client *c, const struct smtp_reply *reply, uint32_t rcpt);
