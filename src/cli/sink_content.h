// SPDX-License-Identifier: MIT
//
// sink_content - takes in one message's content: finds its end, un-stuffs, hashes, keeps the header
//
// DATA content is fed as it comes off the wire; BDAT chunks are added as they are. The digest
// leaves out the trace fields (Received, Return-Path) at the top, so that it equals that of what
// was handed to the relay.
#pragma once

#include <openssl/evp.h>

#include "base/buf.h"

struct sink_content {
    enum { CONTENT_LINE_START, CONTENT_MID, CONTENT_CR, CONTENT_DOT, CONTENT_DOT_CR } state;
    bool hash, in_body;
    uint32_t header_state; // how much of the empty line after the header has been seen
    EVP_MD_CTX *digest;
    uint64_t size, bare_newlines;
    struct buf header;
    struct buf body; // its first bytes, as many as body_max
    size_t body_max;
};

void sink_content_begin(struct sink_content *c, bool hash, size_t header_max, size_t body_max);
void sink_content_done(struct sink_content *c);
// Takes wire bytes up to the end of data; true if that was reached. *out_used: how many were taken.
bool sink_content_feed(struct sink_content *c, struct bytes in, size_t *out_used);
// Adds content that needs no un-stuffing.
void sink_content_add(struct sink_content *c, struct bytes piece);
// The SHA-256 (zero unless `hash`). Once, at the end.
void sink_content_finish(struct sink_content *c, uint8_t out[32]);
// The value of the first field of that name (any case), unfolded as far as its first line goes; or
// empty.
struct bytes sink_content_field(const struct sink_content *c, const char *name);
