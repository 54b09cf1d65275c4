// SPDX-License-Identifier: MIT
//
// unsubscribe - answers the links of List-Unsubscribe (RFC 8058) over HTTP, for everybody
//
// The last part of the path is the token (bounce/unsubscribe_token.h); it is all that is believed. POST acts: it makes a
// feedback record, from which the suppression list takes the address off, and is answered once that is flushed. GET
// shows a page with a button and never acts, since link scanners follow every link.
//
// A libmicrohttpd daemon of its own, plain HTTP: a web server with the certificate stands before it.
//
// Owner:  the daemon. Thread: start and stop outside the loops; what is to be recorded goes over the main loop.
// Limits: UNSUBSCRIBE_CONNECTIONS, UNSUBSCRIBE_BODY_MAX bytes of a POST, UNSUBSCRIBE_RATE records a minute of one link.
#pragma once

#include "bounce/return_token.h"
#include "intake/acceptance.h"
#include "sys/sys.h"

#define UNSUBSCRIBE_CONNECTIONS 256
#define UNSUBSCRIBE_BODY_MAX 4096
#define UNSUBSCRIBE_RATE 10

struct unsubscribe;

struct unsubscribe_counters {
    _Atomic uint64_t shown, done,
        refused; // pages; records; no token of ours, or no way that is known
};

struct unsubscribe_options {
    int fd; // bound and listening, taken over
    const struct return_key *key;
    struct intake_port *port;
    struct sys_loop *main;
    struct unsubscribe_counters *counters;
};

// E_IO.
int unsubscribe_start(const struct unsubscribe_options *options, struct unsubscribe **out) MUST_USE;
// Answers what is under way, then ends; the main loop must still run. NULL is fine. False: a request did not come to an
// end in time, and nothing that it uses may be freed.
bool unsubscribe_stop(struct unsubscribe *u);
