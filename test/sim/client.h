// SPDX-License-Identifier: MIT
//
// client - simulated senders: submit messages in all the ways a client may, well-behaved or not
//
// Written apart from smtp/smtp_client, so that what judges the relay does not share its mistakes. A
// client connects, sends some messages, quits or just goes, and comes again until its plan is done.
//
// Owner:    itself, until its plan is done. Thread: its loop.
#pragma once

#include "book.h"

// What is odd about a message or its sending; one of them.
enum client_manner {
    CLIENT_PLAIN,     // one command at a time
    CLIENT_PIPELINED, // RFC 2920
    CLIENT_CHUNKED,   // BDAT
    CLIENT_BREAKS,    // resets the connection in the middle of the content
    CLIENT_STALLS,    // stops in the middle of the content and waits
    CLIENT_SMUGGLES,  // hides a second message behind a bare newline and a dot
    CLIENT_MANNERS
};

struct client_message {
    enum client_manner manner;
    struct bytes sender;
    const struct bytes *recipients;
    uint32_t recipients_count;
    const char *parameters; // of MAIL FROM, with a leading space; ""
    const char *notify;     // of RCPT TO; ""
    size_t size;            // of the body
    bool eight_bit;
};

struct client_plan {
    struct sys_addr relay;
    uint32_t messages;
    uint32_t messages_per_connection;
    // Decides about the next message; what it points to is copied before anything else happens.
    void (*next)(void *ctx, struct client_message *out);
    int64_t (*pause_ms)(void *ctx); // before the next message; NULL: none
    void *ctx;
};

// On the current loop; plan is copied.
void client_start(const struct client_plan *plan);
uint32_t clients_alive(void);
void clients_reset(void); // a new world
