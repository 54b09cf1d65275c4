// SPDX-License-Identifier: MIT
//
// smtp_testkit - an owner for a server session, with simple rules and a record of what happened;
// tests only
//
// Rules: sender local part "refused" 550, "busy" 451; recipient "unknown" 550, "greylist" 451;
// login "user", password "secret"; the same with "locked", which is so once SCRAM knows whether it is right; content that holds "REFUSE-ME" is answered 451. TLS "starts" at
// once.
#pragma once

#include "smtp/smtp_server.h"

struct testkit {
    struct smtp_server_config config;
    struct smtp_server *server;
    struct mono now;
    bool later; // answer from outside the handlers
    bool no_tls_start;
    bool refuse_data;
    bool pauses;           // at each piece of content, and never says that it can go on
    bool binds;            // TLS has a channel binding, tls-server-end-point: 32 times 'x'
    struct buf transcript; // all output; "[tls]" and "[close]" where they happened
    struct buf kept;       // input not consumed
    struct buf body;       // of the current transaction
    struct buf log;        // one line for each call of a handler that matters
    struct buf
        refusals; // "RCPT TO:<x@y> UNKNOWN_USER x@y in", one a line; in: a transaction was open
    uint32_t messages, rcpts;
    struct buf last_body; // of the last accepted message
    // A decision that waits.
    enum smtp_reply_id pending;
    char pending_slot[64];
    bool pending_scram, scram_known, is_pending;
    bool transaction; // between an accepted on_mail and its end
    char login[64];
};

void testkit_init(struct testkit *t); // defaults; change config, then testkit_start()
void testkit_start(struct testkit *t, bool tls, bool trusted);
void testkit_done(struct testkit *t);
// Feeds the input, cut by `cuts`: 0 whole, 1 byte by byte, else a seed of random cuts.
void testkit_feed(struct testkit *t, struct bytes input, unsigned cuts);
