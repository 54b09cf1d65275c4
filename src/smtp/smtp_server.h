// SPDX-License-Identifier: MIT
//
// smtp_server - the receiving side of one SMTP session (RFC 5321), as a machine that does no I/O
//
// Its owner feeds bytes and the time, writes out what smtp_server_output() holds, and does what
// smtp_server_wants() says. The session parses, keeps the order of commands and the transaction's
// state, decodes the content, and asks its owner through handlers for every decision (may this
// login in, is this recipient ours, is the message safe on disk). Each decision is answered by
// exactly one smtp_server_answer(), from inside the handler or later; until then no further input
// is taken, so replies keep their order. Slices given to a handler are valid until it returns.
//
//   smtp_server_feed(...) consumes n bytes: the caller drops these and keeps the rest for the next
//   call. Call it again (with what was kept, even if nothing) after a later answer, after
//   smtp_server_resume(), and after output was written while wants() said DRAIN.
//
// Owner:    the connection; it must outlive no handler context. Never freed inside its own handler.
// Thread:   its worker only.
// Limits:   those of struct smtp_server_config; the caller must be able to keep
// SMTP_SERVER_KEEP_MAX bytes. Never:    lets anything but CRLF.CRLF end a DATA content (law 5);
// answers 250 to content on its own (law 1).
#pragma once

#include "base/buf.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "mail/envelope.h"
#include "mail/mail_address.h"
#include "smtp/sasl.h"
#include "smtp/smtp_reply.h"
#include "smtp/smtp_xclient.h"

// An AUTH line may have 12288 octets (RFC 4954 section 4), every other 2048 with CRLF.
#define SMTP_SERVER_LINE_MAX 2048
#define SMTP_SERVER_AUTH_LINE_MAX 12288
#define SMTP_SERVER_KEEP_MAX SMTP_SERVER_AUTH_LINE_MAX
// Input is not taken while this much output waits (wants() says DRAIN).
#define SMTP_SERVER_OUTPUT_HIGH 16384

enum smtp_auth_policy { SMTP_AUTH_OPTIONAL, SMTP_AUTH_REQUIRED, SMTP_AUTH_NONE };

// Shared by all sessions of a listener; must outlive them. Zero limits mean the default in
// brackets.
struct smtp_server_config {
    struct bytes hostname;      // in the greeting and EHLO
    struct bytes greeting;      // words behind it ["posthaste"]
    enum smtp_auth_policy auth; // REQUIRED holds for trusted peers too
    bool starttls;              // offer STARTTLS while TLS is not active
    bool no_pipelining, no_chunking, no_smtputf8, no_dsn, no_binarymime; // extensions left out
    uint64_t message_size_max; // content octets [52428800]
    uint32_t recipients_max;   // per transaction [1000]
    uint32_t mails_max;        // MAIL commands of one session, then 421; 0: any number
    uint32_t text_line_max;    // octets of a content line without CRLF; 0: unlimited
    uint32_t errors_max;       // then 421 [20]
    uint32_t junk_max; // NOOP, RSET, VRFY, HELP, EHLO... between two messages, then 421 [200]
    uint32_t auth_failures_max; // in one session, then 421 [3]
    int64_t command_timeout_ms; // for one whole command line [300000]
    int64_t data_timeout_ms;    // between two pieces of content [300000]
    int64_t
        unproductive_ms; // a session that gets no MAIL, RCPT, chunk or content accepted [1200000]
    uint32_t data_rate_min; // octets a second, on top of command_timeout_ms [500]
    // FUTURERELEASE, DELIVERBY and MT-PRIORITY: offered to who may submit mail: who has logged in or must before MAIL,
    // is trusted, or (scheduling_for_all) acts as an account without a login.
    bool scheduling, scheduling_for_all;
    uint32_t hold_max_s;       // seconds that a message may be held
    uint32_t deliver_by_min_s; // the least time of BY=...;R
    struct wall (*wall)(void); // where scheduling is on: now, as what is offered ends at a moment
    uint8_t scram_secret[32];  // from which unknown logins' salts are derived
    void (*random)(void *random_ctx, void *out, size_t n); // for SCRAM nonces
    void *random_ctx;
};

struct smtp_server_start {
    bool tls;     // TLS is active already (implicit TLS)
    bool trusted; // may log in without TLS and, unless a login is required, send without one
};

// What a peer may do for where it comes from.
struct smtp_server_rights {
    bool trusted;       // as in smtp_server_start
    bool known;         // may send without a login, also where one is required: it is an account's
    bool external;      // has a certificate that it can log in with: AUTH EXTERNAL
    bool xclient;       // say who the client is that it speaks for
    bool xclient_login; // and as what that has logged in
};

// MAIL FROM (RFC 5321 4.1.1.2).
struct smtp_mail {
    struct mail_address address; // parsed; its text is
    struct bytes reverse_path;   // mailbox without <> and source route; empty: the null sender
    uint64_t size;               // SIZE=, 0: not given (RFC 1870)
    enum mail_body body;         // BODY= (RFC 6152, 3030)
    enum dsn_ret ret;            // RET= (RFC 3461)
    struct bytes envid;          // ENVID=, xtext as received
    struct bytes auth; // AUTH=, xtext as received, "<>" too (RFC 4954 section 5); empty: not given
    bool smtputf8;     // RFC 6531
    // RFC 4865: HOLDFOR= or HOLDUNTIL=, within what is offered; hold empty: not given
    struct bytes hold; // the value as received
    bool hold_is_for;
    uint32_t hold_for_s;
    struct wall hold_until; // of both
    // RFC 2852: BY=
    enum by_mode by_mode;
    bool by_trace;
    int32_t by_s;
    int8_t priority; // MT-PRIORITY= (RFC 6710); 0: or not given
};

// RCPT TO (RFC 5321 4.1.1.3).
struct smtp_rcpt {
    struct mail_address address; // parsed; its text is
    struct bytes
        path;        // mailbox without <> and source route; "postmaster" may stand without a domain
    uint32_t notify; // NOTIFY_ bits, 0: not given
    struct bytes orcpt; // ORCPT= as received ("rfc822;xtext")
};

enum smtp_auth_kind {
    SMTP_AUTH_PASSWORD, // check login and password: answer AUTH_OK, AUTH_BAD, AUTH_TOO_MANY, ...
    SMTP_AUTH_EXTERNAL, // is `login` (empty: whoever) what the client's certificate stands for?
    SMTP_AUTH_SCRAM,    // find the login's SCRAM key: smtp_server_answer_scram(), or a refusal
    SMTP_AUTH_PROOF, // the login is `proven` or not, which nobody was told yet: count it; AUTH_OK only if proven
};

struct smtp_auth {
    enum smtp_auth_kind kind;
    const char *mechanism;        // as sasl_mechanism_name()
    struct bytes login, password; // UTF-8 without NUL and controls; password empty but for PASSWORD
    bool proven;
};

struct smtp_content_facts {
    uint64_t size;     // octets given to on_body
    bool chunked;      // came by BDAT
    bool ends_in_crlf; // false only for BDAT content, or an empty one
    bool has_8bit, has_nul;
};

// MAIL, RCPT, DATA or BDAT (or the content behind these two) is refused by the session, or by the answer of its owner;
// but for an answer to on_body_end.
struct smtp_refusal {
    const char *command;   // "RCPT"
    struct bytes argument; // as received: "TO:<bob@example.org>"
    enum smtp_reply_id reply;
    struct bytes slot; // of the reply
};

// Why a transaction that on_mail opened ends without on_body_end.
enum smtp_reset { SMTP_RESET_RSET, SMTP_RESET_HELLO, SMTP_RESET_REFUSED, SMTP_RESET_CLOSED };

// All are called from inside feed(), tick(), hangup() or close(). on_mail, on_rcpt, on_data,
// on_auth, on_xclient and on_body_end each want one answer. A NULL on_hello, on_refused or on_reset is
// skipped.
struct smtp_server_handlers {
    // The client named itself (EHLO: extended); nothing to answer. Any transaction was reset
    // before.
    void (*on_hello)(void *ctx, struct bytes name, bool extended);
    // What the TLS connection can bind a login to; asked under TLS only. NULL: nothing, so there is no PLUS.
    void (*on_bindings)(void *ctx, struct sasl_bindings *out);
    // Answer with AUTH_OK or a refusal.
    void (*on_auth)(void *ctx, const struct smtp_auth *auth);
    // The peer speaks for somebody else: answer with smtp_server_answer_xclient() or a refusal. ADDR and DESTADDR are
    // not looked at yet.
    void (*on_xclient)(void *ctx, const struct smtp_xclient *xclient);
    // Answer with MAIL_OK (the transaction is open) or a refusal (there is none).
    void (*on_mail)(void *ctx, const struct smtp_mail *mail);
    // Answer with RCPT_OK or a refusal (the transaction goes on without this recipient).
    void (*on_rcpt)(void *ctx, const struct smtp_rcpt *rcpt);
    // Content is to come; answer START_MAIL, or a refusal (the transaction is over, on_reset
    // follows).
    void (*on_data)(void *ctx, bool chunked);
    // A piece of content, dots un-stuffed, CRLF kept. May call smtp_server_pause().
    void (*on_body)(void *ctx, struct bytes piece);
    // The whole content is there; answer ACCEPTED once it is durable, or a refusal. The transaction
    // is over either way (no on_reset).
    void (*on_body_end)(void *ctx, const struct smtp_content_facts *facts);
    // For logs: nothing to answer, and the transaction, if there is one, is still what it was.
    void (*on_refused)(void *ctx, const struct smtp_refusal *refusal);
    // The open transaction is dropped, for whatever reason; forget its content.
    void (*on_reset)(void *ctx, enum smtp_reset why);
};

// What the owner must do next.
enum smtp_server_wants {
    SMTP_SERVER_INPUT,    // feed it
    SMTP_SERVER_DECISION, // answer it (or resume it); no input is taken meanwhile
    SMTP_SERVER_DRAIN,    // write output first, then feed again
    SMTP_SERVER_TLS,      // write all output, then do the handshake, then smtp_server_tls_started()
    SMTP_SERVER_CLOSE,    // write all output, then close the connection
};

struct smtp_server;

// The greeting is not in the output yet: smtp_server_greet() or, to turn the client away, close().
struct smtp_server *smtp_server_new(const struct smtp_server_config *config,
                                    struct smtp_server_start start,
                                    const struct smtp_server_handlers *handlers, void *ctx,
                                    struct mono now);
// Frees it; an open transaction gets on_reset(CLOSED). An outstanding decision is forgotten.
void smtp_server_free(struct smtp_server *s);
// Before a greeting, or when TLS has started: who the peer is, is known now.
void smtp_server_set_rights(struct smtp_server *s, struct smtp_server_rights rights);

// Puts the greeting into the output, once.
void smtp_server_greet(struct smtp_server *s, struct mono now);

// Takes as much of `in` as it can; returns how many bytes were consumed. What stands behind a
// STARTTLS command in the same call is consumed and forgotten (CVE-2011-0411).
size_t smtp_server_feed(struct smtp_server *s, struct bytes in, struct mono now) MUST_USE;
// What is to be sent; the caller takes bytes with buf_consume().
struct buf *smtp_server_output(struct smtp_server *s);
enum smtp_server_wants smtp_server_wants(const struct smtp_server *s);

// Answers the outstanding decision with a row of the reply table; slot as the row says. After
// on_body_end an answer that is no 2xx refuses the message. For a 421 row the session closes.
void smtp_server_answer(struct smtp_server *s, enum smtp_reply_id reply, struct bytes slot);
// Answers SMTP_AUTH_SCRAM: the login's key, copied; NULL: no such login, or no key (the exchange
// goes on with a made-up key, so that nobody learns which logins exist; it ends in on_auth PROOF,
// not proven).
void smtp_server_answer_scram(struct smtp_server *s, const struct sasl_scram_key *key);
// Answers on_xclient: the session begins anew with a greeting, for the client that was told of, logged in or not.
void smtp_server_answer_xclient(struct smtp_server *s, struct smtp_server_rights rights,
                                bool logged_in);

// Back-pressure: after pause() no more content is taken until resume() (then feed again), or until the transaction is
// over: paused at its last bytes, it needs no resume().
void smtp_server_pause(struct smtp_server *s);
void smtp_server_resume(struct smtp_server *s);

// TLS is active: the session forgets what it knew but that it was greeted (RFC 3207 section 4.2).
void smtp_server_tls_started(struct smtp_server *s, struct mono now);

// When tick() is to be called, if nothing happens before; MONO_NEVER while a decision is
// outstanding.
struct mono smtp_server_deadline(const struct smtp_server *s);
// Gives up on a client that is too slow: 421 and CLOSE.
void smtp_server_tick(struct smtp_server *s, struct mono now);

// The peer closed, or the connection broke: the transaction is dropped (on_reset), wants() is
// CLOSE.
void smtp_server_hangup(struct smtp_server *s);
// Ends the session now with this reply (NONE: silently).
void smtp_server_close(struct smtp_server *s, enum smtp_reply_id reply, struct bytes slot);
// Stops politely: 421 at once when no transaction is open, else behind the end of this one.
void smtp_server_shutdown(struct smtp_server *s);

// State, for logs, limits and traces.
bool smtp_server_is_authenticated(const struct smtp_server *s);
bool smtp_server_is_extended(const struct smtp_server *s); // EHLO was used, or so XCLIENT says
bool smtp_server_in_transaction(const struct smtp_server *s);
// The name the client gave, or that XCLIENT says it gave; or empty.
struct bytes smtp_server_helo(const struct smtp_server *s);
