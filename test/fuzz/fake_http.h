// SPDX-License-Identifier: MIT
//
// fake_http - stands in for libmicrohttpd: a request that a fuzz target makes up, without sockets and threads
//
// What libmicrohttpd believes of a request is its own; what our servers make of it is what is fuzzed. A program that has
// this file has these functions of its own, so the library's are not called.
#pragma once

#include <microhttpd.h>

#include "base/buf.h"

#define FAKE_HTTP_ARGUMENTS 12

struct MHD_Connection {
    // given
    const char *method, *path;
    struct bytes body;
    size_t step; // of the body at once; 0: all
    int fd;      // for MHD_CONNECTION_INFO_CONNECTION_FD
    struct {
        const char *name, *value;
    } arguments[FAKE_HTTP_ARGUMENTS]; // of the query
    // found
    unsigned status; // 0: not answered
    struct buf answer;
    bool suspended;
    // its own
    void *state;
};

// Hands the request over to the server started last, as far as it goes: until it is answered, or suspended. After
// MHD_resume_connection(): again.
void fake_http_run(struct MHD_Connection *c);
// The request is over, and its answer is freed.
void fake_http_end(struct MHD_Connection *c);
