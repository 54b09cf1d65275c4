// SPDX-License-Identifier: MIT
//
// intake_private - what the files of intake/ share: gate, session, transaction
#pragma once

#include "intake/inspection.h"
#include "intake/intake.h"
#include "intake/intake_content.h"
#include "net/net_conn.h"
#include "route/route.h"
#include "smtp/smtp_server.h"

struct intake {
    struct intake_options options;
    struct conf_snapshot *snapshot; // current
    struct list gates, sessions, transactions, returns;
    uint32_t returns_count;
    bool stopping;
    struct inspection_memory memory;
    uint64_t refusals_unlogged; // since it was told
};

struct gate {
    struct list link;
    struct intake *intake;
    struct conf_snapshot *snapshot; // the one its sessions keep
    const struct conf_listener *conf;
    struct net_listener *listener; // NULL: retired
    struct net_tls_server *tls;    // kept alive by tls_part
    struct conf_part *tls_part;
    struct smtp_server_config config;
    uint32_t sessions;
};

struct transaction;
struct returns;

struct session {
    struct list link;
    struct gate *gate;
    struct net_conn *conn;
    struct smtp_server *server;
    struct net_place place;
    bool trusted, tls_started, over, in_pump;
    bool awaits_proxy; // its PROXY header comes first
    bool may_xclient;
    bool is_nobody;         // a proxy speaks for it and does not say where it comes from
    uint32_t uid;           // at the Unix socket: whose mail it is
    bool told;              // by XCLIENT who it is: the certificate is the proxy's
    struct mono deaf_since; // the client does not take what it was sent; 0: it does
    enum net_admission admission;
    struct buf login;          // of the account; empty: none
    uint64_t login_mark;       // of the credential that it logged in with: store_directory_login()
    struct auth_pending *auth; // NULL: none
    struct transaction *current; // NULL: none
    struct returns *returns;     // the same at a listener with role: bounces
};

// The door's own words to its session, from a transaction: answers, then lets the session go on, which may be to its
// end: neither the session nor a transaction that it has is there afterwards.
void session_answer(struct session *s, enum smtp_reply_id reply, struct bytes slot);
void session_resume(struct session *s);
// The credential that the session has without a login: of the client's certificate where the listener takes that for
// one, or of its network; NULL: none. Valid while `snapshot` is.
const struct store_credential *session_known_as(const struct session *s,
                                                const struct conf_snapshot *snapshot);
// What counts as one client where rates are limited: an address (IPv6: its /64), or a user of this host. Borrowed.
struct bytes session_place(const struct session *s);
// Logs a refused command, at listeners of either role.
void session_on_refused(void *ctx, const struct smtp_refusal *refusal);
// Answers XCLIENT, at listeners of either role.
void session_on_xclient(void *ctx, const struct smtp_xclient *x);
// Gate without sessions and retired: frees it.
void gate_leave(struct gate *g);

static inline void intake_count(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

// transaction.c: the answers to MAIL, RCPT, DATA and the end of content.
void transaction_on_mail(struct session *s, const struct smtp_mail *mail);
void transaction_on_rcpt(struct session *s, const struct smtp_rcpt *rcpt);
void transaction_on_data(struct session *s);
void transaction_on_body(struct session *s, struct bytes piece);
void transaction_on_body_end(struct session *s, const struct smtp_content_facts *facts);
// The reverse-path of the transaction that is open; or empty.
struct bytes transaction_sender(const struct session *s);
// Its content is complete and on its way into the spool: whatever comes, it is to hear what became of it.
bool transaction_is_committing(const struct session *s);
// The session drops it, or is gone; what is being made durable goes on without it.
void transaction_drop(struct session *s);
