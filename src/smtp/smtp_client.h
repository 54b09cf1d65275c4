// SPDX-License-Identifier: MIT
//
// smtp_client - the sending side of one SMTP or LMTP session (RFC 5321, 2033), as a machine without
// I/O
//
// Opens a session (greeting, EHLO, STARTTLS, AUTH), then carries any number of transactions, one
// after the other. Commands are pipelined where the server offers it (RFC 2920). Content is pulled
// from a callback, so a large message never stands in memory, and sent by DATA (dot-stuffed) or
// BDAT (RFC 3030).
//
// Each recipient of a transaction gets exactly one on_outcome(), then on_done() comes, also when
// the session breaks. Bytes equal: content that ends in CRLF and has no bare CR or LF arrives as it
// is. By DATA, a CRLF is added to content that ends without one, and a bare CR or LF (which intake
// never lets in) goes out as CRLF, so that nothing can end a message early (law 5).
//
// Owner:    the connection. The transaction, its recipients and the config are borrowed until
// on_done/free. Thread:   its worker only. Never freed inside its own handler. Limits:   replies as
// smtp_reply_parser.h says; output held back at SMTP_CLIENT_OUTPUT_HIGH. Fails:    on_failed()
// once, then wants() is CLOSE; nothing can be sent any more.
#pragma once

#include "base/buf.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "mail/envelope.h"
#include "smtp/sasl.h"
#include "smtp/smtp_reply_parser.h"

#define SMTP_CLIENT_OUTPUT_HIGH 32768

enum smtp_client_tls {
    SMTP_CLIENT_TLS_NEVER,
    SMTP_CLIENT_TLS_IF_OFFERED, // on_failed(STEP_STARTTLS) where it is offered and then refused
    SMTP_CLIENT_TLS_REQUIRED,   // also where it is not offered
    SMTP_CLIENT_TLS_ACTIVE,     // implicit TLS: the handshake is done already
};
enum smtp_client_chunking { SMTP_CHUNKING_AUTO, SMTP_CHUNKING_NEVER, SMTP_CHUNKING_ALWAYS };

// Zero time-outs mean those of RFC 5321 4.5.3.2, in brackets (minutes).
struct smtp_client_config {
    struct bytes helo_name;
    bool lmtp;
    enum smtp_client_tls tls;
    enum smtp_client_chunking
        chunking; // AUTO: for BODY=BINARYMIME, and small content to pipelining servers
    bool no_pipelining;
    struct bytes login,
        password;          // AUTH where login is not empty; the session fails if it can't be done
    bool auth_without_tls; // else a login is never sent in the clear
    void (*random)(void *random_ctx, void *out, size_t n); // SCRAM nonces
    void *random_ctx;
    int64_t greeting_timeout_ms; // [5]
    int64_t command_timeout_ms;  // MAIL, RCPT, EHLO, RSET... [5]
    int64_t tls_timeout_ms;      // STARTTLS, and again the handshake [1, our own]
    int64_t data_timeout_ms;     // DATA [2]
    int64_t block_timeout_ms;    // content not taken by the peer [3]
    int64_t final_timeout_ms;    // the reply to the end of content [10]
    int64_t quit_timeout_ms;     // [1/30]
};

// What the server offers (the EHLO reply after TLS, if any).
struct smtp_caps {
    bool extended; // EHLO was understood
    bool pipelining, eightbitmime, smtputf8, dsn, chunking, binarymime, starttls, enhanced, size,
        requiretls, deliverby, mt_priority;
    uint64_t size_max;        // SIZE n; 0: no fixed maximum
    uint32_t auth;            // 1u << enum sasl_mechanism
    uint32_t deliverby_min_s; // DELIVERBY n (RFC 2852); 0: no least time
    // LIMITS (RFC 9422); 0: nothing said
    uint32_t mails_max;        // MAIL commands of the session
    uint32_t rcpts_max;        // RCPT commands of a transaction
    uint32_t rcpt_domains_max; // domains of recipients in the session
};

enum smtp_step {
    SMTP_STEP_GREETING,
    SMTP_STEP_HELLO,
    SMTP_STEP_STARTTLS,
    SMTP_STEP_TLS, // the handshake, done by the owner
    SMTP_STEP_AUTH,
    SMTP_STEP_READY, // between transactions
    SMTP_STEP_RSET,
    SMTP_STEP_MAIL,
    SMTP_STEP_RCPT,
    SMTP_STEP_DATA,    // the reply to DATA
    SMTP_STEP_CONTENT, // while content is sent
    SMTP_STEP_FINAL,   // the reply to the end of content
    SMTP_STEP_QUIT,
    SMTP_STEPS
};
// "greeting", "EHLO", ..., "end of content": what was being done, for people.
const char *smtp_step_name(enum smtp_step step);

struct smtp_client_rcpt {
    struct bytes path; // without <>
    uint32_t notify;   // NOTIFY_ bits; sent only if DSN is offered
    // "rfc822;xtext" or "utf-8;address", valid; sent only if DSN is offered, and without smtputf8 in ASCII
    struct bytes orcpt;
};

struct smtp_transaction {
    struct bytes reverse_path; // without <>
    enum mail_body
        body; // sent only if the server offers what it needs; see smtp_client_can_carry()
    bool smtputf8;
    enum dsn_ret ret;
    struct bytes envid;   // xtext
    enum by_mode by_mode; // BY= and MT-PRIORITY= are sent where they are offered
    bool by_trace;
    int64_t by_s; // seconds left; more than 0 with BY_RETURN
    int8_t priority;
    uint64_t size; // content octets exactly; 0: unknown (no SIZE=, no BDAT)
    const struct smtp_client_rcpt *rcpts;
    uint32_t rcpts_count; // at least 1
    // Gives the next piece of content, at most max octets, valid until the next call; *out_end with
    // the last (which may be empty). 0; E_AGAIN: not yet (call smtp_client_more() later); any
    // other: the session is given up without ending the content.
    int (*content)(void *content_ctx, size_t max, struct bytes *out, bool *out_end);

    void *content_ctx;
};

// What became of one recipient. err 0: `reply` decided it, at `step` (2xx only with STEP_FINAL:
// delivered). Otherwise the session broke at `step` (E_CLOSED, E_TIMEOUT, E_SYNTAX, E_TLS, E_IO of
// the content...) and `reply` may be none. STEP_FINAL with an err: the content was sent whole and
// the answer is unknown.
struct smtp_outcome {
    enum smtp_step step;
    int err;
    const struct smtp_reply *reply; // valid until the handler returns; NULL: none
    bool unsent; // E_SYNTAX, and the session is as it was: what was to be said fits into no command
};

// What on_line tells of: a command without its CRLF, a reply (code and text), or the octets of content that were sent.
enum smtp_client_line { SMTP_LINE_SENT, SMTP_LINE_REPLY, SMTP_LINE_CONTENT };

struct smtp_client_handlers {
    // The session is open (or open again after a transaction's on_done): smtp_client_send() may be
    // called. Called once, when opened.
    void (*on_ready)(void *ctx, const struct smtp_caps *caps);
    // Exactly once for each recipient of the transaction.
    void (*on_outcome)(void *ctx, uint32_t rcpt, const struct smtp_outcome *outcome);
    // All outcomes are told; if `reusable`, the next smtp_client_send() may follow (also from
    // inside).
    void (*on_done)(void *ctx, bool reusable);
    // The session can't be used (any more). After on_done if a transaction ran. reply may be NULL.
    void (*on_failed)(void *ctx, const struct smtp_outcome *why);
    // What the TLS connection can bind a login to; asked under TLS only. NULL: nothing, so there is no PLUS.
    void (*on_bindings)(void *ctx, struct sasl_bindings *out);
    // All that is said, for who keeps the dialogue; NULL: nobody. Secrets are replaced by "***": what AUTH sends and is
    // asked, replies that have the password, and words of a refused login that may be such. `number`: the reply's code,
    // or how much content.
    void (*on_line)(void *ctx, enum smtp_client_line kind, uint64_t number, struct bytes text);
};

enum smtp_client_wants {
    SMTP_CLIENT_INPUT, // feed it
    SMTP_CLIENT_TLS,   // all output written, 220 seen: do the handshake, then
                       // smtp_client_tls_started()
    SMTP_CLIENT_CLOSE, // write what is left of the output if possible, close
};

struct smtp_client;

// The greeting is awaited from `now` on.
struct smtp_client *smtp_client_new(const struct smtp_client_config *config,
                                    const struct smtp_client_handlers *handlers, void *ctx,
                                    struct mono now);
void smtp_client_free(struct smtp_client *c); // calls nothing

// Consumes all of `in`.
void smtp_client_feed(struct smtp_client *c, struct bytes in, struct mono now);
// What is to be sent; the caller takes bytes with buf_consume(), then calls smtp_client_more().
struct buf *smtp_client_output(struct smtp_client *c);
// Output was written, or content that was E_AGAIN is there: fetches more content if there is room.
void smtp_client_more(struct smtp_client *c, struct mono now);
enum smtp_client_wants smtp_client_wants(const struct smtp_client *c);

const struct smtp_caps *smtp_client_caps(const struct smtp_client *c);
// Whether the server takes this body type, size and SMTPUTF8 need: 0, or the reason as SMTP_CARRY_
// flag.
enum smtp_carry {
    SMTP_CARRY_OK,
    SMTP_CARRY_NEEDS_8BITMIME,
    SMTP_CARRY_NEEDS_SMTPUTF8,
    SMTP_CARRY_NEEDS_BINARYMIME,
    SMTP_CARRY_TOO_LARGE
};
enum smtp_carry smtp_client_can_carry(const struct smtp_client *c, enum mail_body body,
                                      bool smtputf8, uint64_t size);

// Starts a transaction; the session must be ready (CHECK).
void smtp_client_send(struct smtp_client *c, const struct smtp_transaction *t, struct mono now);
// Ready: QUIT, then CLOSE after its reply or time-out. Otherwise closes at once (outcomes:
// E_CLOSED).
void smtp_client_quit(struct smtp_client *c, struct mono now);

// The handshake that was wanted is done: EHLO is sent again. Or it failed: the session ends
// (E_TLS).
void smtp_client_tls_started(struct smtp_client *c, struct mono now);
void smtp_client_tls_failed(struct smtp_client *c);

struct mono smtp_client_deadline(const struct smtp_client *c);
void smtp_client_tick(struct smtp_client *c, struct mono now);
// The peer closed or the connection broke; err is E_CLOSED, E_IO...
void smtp_client_hangup(struct smtp_client *c, int err);

bool smtp_client_is_ready(const struct smtp_client *c);
enum smtp_step smtp_client_step(const struct smtp_client *c); // what is being waited for
