// SPDX-License-Identifier: MIT
//
// How it works: a pending request travels asker -> auth loop -> (pool -> auth loop) -> asker, always as the one
// object; only the loop that holds it touches it, but for `cancelled`, which is the asker's.
#include "intake/auth.h"

#include <openssl/crypto.h>
#include <stdlib.h>

struct auth {
    struct sys_loop *loop;
    struct auth_guard *guard;
    struct store_checker checker;
};

struct auth_pending {
    struct sys_task task;
    struct auth *auth;
    struct sys_loop *home;
    struct conf_snapshot *snapshot;
    enum auth_question question;
    struct auth_guard_who who;
    struct buf login, password;
    bool proven, suspended, cancelled;
    enum auth_result result;
    void (*done)(void *ctx, enum auth_result result);
    void *ctx;
};

struct auth *auth_new(struct sys_loop *loop, struct auth_guard_limits limits)
{
    struct auth *a = mem_new(sizeof *a);
    a->loop = loop;
    a->guard = auth_guard_new(limits);
    return a;
}

void auth_free(struct auth *a)
{
    auth_guard_free(a->guard);
    free(a);
}

void auth_set_limits(struct auth *a, struct auth_guard_limits limits)
{
    auth_guard_set_limits(a->guard, limits);
}

// ---- back at the asker -----------------------------------------------------------------------------------

static void on_home(struct sys_task *task)
{
    struct auth_pending *p = container_of(task, struct auth_pending, task);
    if (!p->cancelled)
        p->done(p->ctx, p->result);
    conf_snapshot_release(p->snapshot);
    if (p->password.at)
        OPENSSL_cleanse(p->password.at, p->password.cap);
    buf_done(&p->login);
    buf_done(&p->password);
    free(p);
}

static void answer(struct auth_pending *p, enum auth_result result)
{
    p->result = result;
    p->task.run = on_home;
    sys_post(p->home, &p->task);
}

// ---- on the auth loop ------------------------------------------------------------------------------------

static void count(struct auth_pending *p, bool right)
{
    auth_guard_tell(p->auth->guard, &p->who, right, sys_mono());
    if (!right) {
        char ip[SYS_ADDR_TEXT];
        struct sys_addr addr = {.kind = p->who.ip6 ? SYS_ADDR_IP6 : SYS_ADDR_IP4};
        memcpy(addr.ip, p->who.ip, sizeof addr.ip);
        log_warn("login failed", LOG_STR("login", buf_bytes(&p->login)),
                 LOG_CSTR("client", sys_addr_format_ip(&addr, ip)));
    }
}

static bool is_blocked(const struct auth_pending *p)
{
    return auth_guard_ask(p->auth->guard, &p->who, sys_mono(), NULL) != AUTH_GUARD_GO;
}

// Attempts may run side by side. What began before too many failed is told nothing once they have: so no more guesses
// are judged than are allowed, however many began at once.
static void judge(struct auth_pending *p, bool right, bool active)
{
    if (is_blocked(p)) {
        answer(p, AUTH_TOO_MANY);
        return;
    }
    if (right && !active) {
        answer(p, AUTH_SUSPENDED);
        return;
    }
    count(p, right);
    answer(p, right ? AUTH_RIGHT : AUTH_WRONG);
}

static void on_checked(void *ctx, const struct store_check_result *result)
{
    judge(ctx, result->right, result->active);
}

static void check_password(struct auth_pending *p)
{
    struct store_check *check;
    if (store_check_start(&p->auth->checker, p->snapshot->accounts, buf_bytes(&p->login),
                          buf_bytes(&p->password), on_checked, p, &check) != OK)
        answer(p, AUTH_UNAVAILABLE);
}

static void on_auth_loop(struct sys_task *task)
{
    struct auth_pending *p = container_of(task, struct auth_pending, task);
    if (p->question == AUTH_PROVED)
        judge(p, p->proven, !p->suspended);
    else if (is_blocked(p))
        answer(p, AUTH_TOO_MANY);
    else if (p->question == AUTH_PASSWORD)
        check_password(p);
    else
        answer(p, AUTH_RIGHT);
}

// ---- asking ----------------------------------------------------------------------------------------------

struct auth_pending *auth_ask(struct auth *a, const struct auth_request *request,
                              struct conf_snapshot *snapshot)
{
    struct auth_pending *p = mem_new(sizeof *p);
    p->auth = a;
    p->home = sys_loop_self();
    p->snapshot = conf_snapshot_hold(snapshot);
    p->question = request->question;
    p->proven = request->proven;
    p->suspended = request->suspended;
    p->done = request->done;
    p->ctx = request->ctx;
    buf_add(&p->login, request->login);
    buf_add(&p->password, request->password);
    p->who = (struct auth_guard_who){.ip6 = request->peer->kind == SYS_ADDR_IP6,
                                     .login = buf_bytes(&p->login)};
    memcpy(p->who.ip, request->peer->ip, sizeof p->who.ip);
    p->task.run = on_auth_loop;
    sys_post(a->loop, &p->task);
    return p;
}

void auth_cancel(struct auth_pending *p)
{
    p->cancelled = true;
}
