// SPDX-License-Identifier: MIT
//
// smtp_server_private - what the parts of smtp_server share: the session's state and the moves between states
//
// smtp_server.c has the session and the table of commands, smtp_server_auth.c logins (RFC 4954),
// smtp_server_content.c DATA and BDAT. Nobody else includes this.
#pragma once

#include "smtp/smtp_content.h"
#include "smtp/smtp_lexer.h"
#include "smtp/smtp_server.h"

#define MESSAGE_SIZE_DEFAULT 52428800
#define RECIPIENTS_DEFAULT 1000
#define RECIPIENTS_OVERSHOOT 1000 // tries beyond it that are answered 452
#define ERRORS_DEFAULT 20
#define JUNK_DEFAULT 200
#define AUTH_FAILURES_DEFAULT 3
#define COMMAND_TIMEOUT_DEFAULT_MS 300000 // RFC 5321 4.5.3.2.7
#define UNPRODUCTIVE_DEFAULT_MS 1200000
#define DATA_RATE_DEFAULT 500
// Content octets beyond the limit that are read and dropped, so that the answer comes at its end.
#define OVERRUN_MAX 67108864
#define NONCE_RANDOM_BYTES 18
#define OUTPUT_KEPT_MAX 1024 // bytes of buffer an idle session keeps

enum state {
    ST_NEW,    // no EHLO yet, or forgotten by STARTTLS
    ST_READY,  // between transactions
    ST_MAIL,   // transaction open, no recipient yet
    ST_RCPT,   // at least one recipient
    ST_DATA,   // content until CRLF.CRLF
    ST_BDAT,   // the octets of a chunk
    ST_CHUNKS, // between chunks
    ST_SKIP,   // the octets of a refused chunk
    ST_AUTH,   // in a login exchange
    ST_TLS,    // the handshake comes
    ST_CLOSED,
};

enum awaiting {
    AWAIT_NOTHING,
    AWAIT_AUTH,
    AWAIT_SCRAM,
    AWAIT_XCLIENT,
    AWAIT_MAIL,
    AWAIT_RCPT,
    AWAIT_DATA,
    AWAIT_END
};

struct command;

struct smtp_server {
    const struct smtp_server_config *config;
    const struct smtp_server_handlers *handlers;
    void *ctx;
    struct buf out;
    struct buf held;               // the reply to a refused chunk, sent when its octets are gone
    char *helo;                    // owned
    const struct command *command; // of a transaction, not answered to its end yet; NULL: none
    struct bytes argument;         // its
    char *argument_kept;           // owned; what `argument` points into, once the line is gone
    struct sasl_server *sasl;      // owned; only in ST_AUTH
    struct smtp_lexer lexer;
    struct smtp_content content;
    uint64_t chunk_left;
    uint64_t chunk_size;
    uint64_t content_octets; // on the wire, for the data rate
    struct mono now, waiting_since, content_since, progress_at;
    struct mono blocked_since; // 0: not blocked
    uint32_t mails, rcpts, rcpts_tried, errors, junk, auth_failures;
    enum state state, state_after_skip;
    enum awaiting awaiting;
    struct smtp_server_rights rights;
    struct {
        char *helo; // owned; NULL: not told
        bool smtp, esmtp;
    } told; // by XCLIENT, of the client that the peer speaks for
    bool tls, extended, authenticated, proven, asking_auth;
    bool open;   // on_mail was accepted, the transaction has not ended
    bool utf8;   // ... with SMTPUTF8
    bool binary; // ... with BODY=BINARYMIME
    bool chunked, chunk_last;
    bool paused, stopping;
};

// A configured limit, or the standard one where it is 0.
static inline uint64_t server_limit(uint64_t value, uint64_t standard)
{
    return value ? value : standard;
}

static inline uint64_t server_size_max(const struct smtp_server *s)
{
    return server_limit(s->config->message_size_max, MESSAGE_SIZE_DEFAULT);
}

// ---- smtp_server.c

// Moves to another state; CHECKs that the move is one of the table's.
void server_go(struct smtp_server *s, enum state to);
void server_reply(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot);
void server_reply_number(struct smtp_server *s, enum smtp_reply_id id, uint64_t number);
// The transaction's command is answered so; a refusal is told to the owner, once. server_reply() does it itself.
void server_note_answer(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot);
void server_note_number(struct smtp_server *s, enum smtp_reply_id id, uint64_t number);
// A refusal by the session itself: one too many, and the client is sent away.
void server_refuse(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot);
// The transaction, if one is open, is over without a message.
void server_end_transaction(struct smtp_server *s, enum smtp_reset why);
void server_end_session(struct smtp_server *s);
// A stop that waited for the transaction's end.
void server_settle(struct smtp_server *s);

// ---- smtp_server_auth.c

bool server_may_log_in(const struct smtp_server *s);
// Fills in what logins can be bound to. False: nothing.
bool server_find_bindings(const struct smtp_server *s, struct sasl_bindings *out);
void server_run_auth(struct smtp_server *s, struct bytes args);
// A line of the exchange.
void server_take_auth_line(struct smtp_server *s, enum smtp_lex lex, struct bytes line);
void server_answer_auth(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot);
void server_end_sasl(struct smtp_server *s);

// ---- smtp_server_content.c

void server_run_data(struct smtp_server *s, struct bytes args);
void server_run_bdat(struct smtp_server *s, struct bytes args);
// Reads the chunk's size even of a BDAT that is refused; without it the stream makes no sense any more, and false
// says that the session was closed.
bool server_take_chunk_size(struct smtp_server *s, struct bytes args);
// The chunk's octets are read and dropped, then this reply is given (RFC 3030 section 2).
void server_refuse_chunk(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot,
                         enum state after);
// When the content, as much of it as has come, is too slow.
struct mono server_content_due(const struct smtp_server *s);
size_t server_feed_data(struct smtp_server *s, struct bytes in);
size_t server_feed_chunk(struct smtp_server *s, struct bytes in);
void server_answer_data(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot);
void server_answer_end(struct smtp_server *s, enum smtp_reply_id id, struct bytes slot);
