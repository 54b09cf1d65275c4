// SPDX-License-Identifier: MIT
//
// auth - decides about logins, one place for all workers
//
// Lives on a loop of its own, where failures are counted (store/auth_guard.h); password hashes run on the offload
// pool, so that no loop ever computes one. Workers ask and are answered on their own loop.
//
// Owner:    the daemon owns one; a request belongs to its asker until done() or auth_cancel().
#pragma once

#include "conf/conf_snapshot.h"
#include "store/auth_guard.h"
#include "store/store_password.h"
#include "sys/sys.h"

enum auth_result {
    AUTH_RIGHT,
    AUTH_WRONG,
    AUTH_SUSPENDED,   // right, but its account may not come in: no guess, so nothing was counted
    AUTH_TOO_MANY,    // 454: blocked for a while, whatever the password
    AUTH_UNAVAILABLE, // 454: too busy; nothing was counted
};
enum auth_question {
    AUTH_PASSWORD, // is it right?
    AUTH_MAY_TRY,  // may this login be tried from there at all? RIGHT: yes (SCRAM, before the key)
    AUTH_PROVED, // `proven` says whether the client's proof is right, `suspended` that its account is not active:
    // counted, RIGHT, WRONG or SUSPENDED comes back. Ask before the client can tell which
};

struct auth;
struct auth_request {
    // filled in by the asker
    enum auth_question question;
    const struct sys_addr *peer;
    struct bytes login, password; // copied
    bool proven, suspended;       // of AUTH_PROVED
    void (*done)(void *ctx, enum auth_result result);
    void *ctx;
};

struct auth *auth_new(struct sys_loop *loop, struct auth_guard_limits limits);
void auth_free(struct auth *a); // after its loop has stopped
// On the auth loop.
void auth_set_limits(struct auth *a, struct auth_guard_limits limits);

struct auth_pending;
// Asks; `snapshot` is where the accounts are looked up (a reference is taken). Never NULL.
struct auth_pending *auth_ask(struct auth *a, const struct auth_request *request,
                              struct conf_snapshot *snapshot);
// The asker is gone: done() will not be called. On the asker's loop, not after done().
void auth_cancel(struct auth_pending *pending);
