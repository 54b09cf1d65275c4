// SPDX-License-Identifier: MIT
//
// delivery - a leased batch on its way through an open session, until there is a verdict for each recipient
//
// The message is loaded, gets the form that the server takes (RFC 3030, 6152, 6531), is signed, and sent in one
// transaction. A message that has no such form, or no time left (RFC 2852), is decided without one.
//
//     NONE -> LOADING -> SENDING -> DECIDED -> NONE
//             |    `----------------^          ^
//             `--- its batch has been settled -'
//
// Owner:  embedded in its connection, one batch after the other. Thread: the connection's loop.
#pragma once

#include "deliver/batch_load.h"
#include "deliver/dialogue.h"
#include "deliver/render.h"
#include "deliver/signature.h"
#include "deliver/verdict.h"
#include "smtp/smtp_client.h"

struct deliver;

enum delivery_phase {
    DELIVERY_NONE,
    DELIVERY_LOADING, // message and signature are fetched
    DELIVERY_SENDING, // the session has the transaction: delivery_outcome() and delivery_sent() follow
    DELIVERY_DECIDED, // until delivery_drop()
};

struct delivery {
    // The connection's, for its whole life.
    struct deliver *deliver;
    struct dialogue *dialogue;
    bool lmtp;                                  // which answers the content once for each recipient
    void (*changed)(struct delivery *delivery); // the phase, or there is more to write
    // This batch's.
    bool final; // the other side holds the mailboxes; set before delivery_start()
    enum delivery_phase phase;
    struct smtp_client *client; // borrowed; stays until the batch is decided, though it may end
    struct queue_batch *batch;
    struct stored_message *message; // NULL while it is loaded
    struct verdict *verdicts;       // as many as the batch has recipients
    uint32_t accepted;              // so many recipients were, by the replies to RCPT
    bool too_many;                  // with DECIDED: the others were too many for the server
    bool refused;                   // a recipient was, for good, in the server's words about him
    bool render_failed;             // with DECIDED: that is not the server's doing
    // Its own.
    struct batch_load load;
    struct signature_ask signature;
    bool signing, rendering;
    enum render_kind kind;
    bool utf8;
    bool may_stay_binary;           // converted for the sake of signatures only
    struct buf reverse_path, added; // of this transaction (deliver/extras.h)
    struct render render;
    struct smtp_transaction transaction;
    struct smtp_client_rcpt *rcpts;
};

// The batch is the delivery's from now on. `client` is ready. changed() may run inside.
void delivery_start(struct delivery *d, struct smtp_client *client, struct queue_batch *batch);
// The session's, while SENDING. `fresh`: the connection has carried nothing before.
void delivery_outcome(struct delivery *d, uint32_t rcpt, const struct smtp_outcome *outcome,
                      bool fresh);
void delivery_sent(struct delivery *d); // all outcomes are there: DECIDED
// Is something under way that points here? Then it can't be freed.
bool delivery_is_pending(const struct delivery *d);
// Lets go of the batch, which has been reported or freed: NONE. Harmless twice.
void delivery_drop(struct delivery *d);
void delivery_done(struct delivery *d); // drops, and frees what is kept between batches
