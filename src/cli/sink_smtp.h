// SPDX-License-Identifier: MIT
//
// sink_smtp - the receiving side of a test server, as a machine without I/O: takes mail, or
// misbehaves by rule
//
// Written apart from smtp/smtp_server on purpose: what judges the relay must not share its
// mistakes. Content ends at CRLF.CRLF and nowhere else; bare CR and LF in it are counted. LMTP
// answers each recipient.
//
// Owner:    the connection. Thread: its loop.
// Limits:   SINK_LINE_MAX bytes a command, SINK_RECIPIENTS_MAX recipients, SINK_HEADER_MAX bytes of
// header
//           are looked at; SINK_OUTPUT_HIGH bytes of unsent replies stop the input.
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "cli/sink_rules.h"

#define SINK_LINE_MAX 4096
#define SINK_RECIPIENTS_MAX 10000
#define SINK_HEADER_MAX 65536
#define SINK_OUTPUT_HIGH 16384

// Extensions to leave out of the EHLO reply.
#define SINK_NO_PIPELINING 1u
#define SINK_NO_8BITMIME 2u
#define SINK_NO_SMTPUTF8 4u
#define SINK_NO_DSN 8u
#define SINK_NO_CHUNKING 16u
#define SINK_NO_SIZE 32u
#define SINK_NO_ENHANCEDSTATUSCODES 64u
#define SINK_NO_EHLO 128u // HELO only

struct sink_extension {
    const char *keyword;
    uint32_t without; // SINK_NO_ bit
};
#define SINK_EXTENSIONS 7
extern const struct sink_extension sink_extensions[SINK_EXTENSIONS];

// One accepted message; borrowed for the call.
struct sink_message {
    struct bytes id; // X-Load-Id, or the id of the topmost Received field; may be empty
    struct bytes sender;
    const struct bytes *recipients; // those that were told 250
    size_t recipients_count;
    uint8_t sha256[32]; // of the content, dots un-stuffed, trace fields at its top left out
    uint64_t size;
    uint64_t bare_newlines; // CR or LF alone
    struct bytes header;    // its first SINK_HEADER_MAX bytes
    struct bytes body;      // its first keep_body_max bytes
    bool is_lost;           // a rule says that the sender does not see the reply
    uint32_t number;        // of the message on its connection, from 1
    struct mono began;      // when the connection did
};

struct sink_smtp_config {
    struct bytes hostname;
    struct sink_rules *rules; // may be NULL
    bool lmtp, starttls;
    bool hash;        // compute the digest
    uint32_t without; // SINK_NO_ bits
    size_t keep_body_max;
    void (*on_message)(void *ctx, const struct sink_message *message);
    void *ctx;
};

struct sink_smtp;

// The greeting stands in the output already, unless a rule says otherwise. config is copied. Never NULL.
struct sink_smtp *sink_smtp_new(const struct sink_smtp_config *config, struct mono now);
void sink_smtp_free(struct sink_smtp *s); // NULL is fine

enum sink_wants {
    SINK_WANTS_INPUT,
    SINK_WANTS_TIME,  // a delay: call sink_smtp_tick() at sink_smtp_wake_at()
    SINK_WANTS_DRAIN, // write output, then feed again
    SINK_WANTS_TLS,   // write output, do the handshake, sink_smtp_tls_started()
    SINK_WANTS_CLOSE, // write output, close
    SINK_WANTS_DROP,  // reset the connection, output unsent
};
enum sink_wants sink_smtp_wants(const struct sink_smtp *s);
struct mono sink_smtp_wake_at(const struct sink_smtp *s);

// Returns how much it took; the rest is to be fed again later.
size_t sink_smtp_feed(struct sink_smtp *s, struct bytes in, struct mono now) MUST_USE;
void sink_smtp_tick(struct sink_smtp *s, struct mono now);
void sink_smtp_tls_started(struct sink_smtp *s);
// Bytes to be sent; the caller takes them with buf_consume().
struct buf *sink_smtp_output(struct sink_smtp *s);
