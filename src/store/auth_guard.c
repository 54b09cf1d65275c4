// SPDX-License-Identifier: MIT
//
// How it works: three tables, each a map and a list in the order of last use. Failures are counted
// in a ring of ten slices of the window; a slice that has gone out of the window is emptied when
// the counter is next touched.
#include "store/auth_guard.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "base/map.h"

#define SLICES 10
#define LOGIN_MAX 255
#define PREFIX_MAX 9 // kind, then 4 bytes (IPv4) or 8 (IPv6 /64)
#define KEY_MAX (PREFIX_MAX + LOGIN_MAX)

struct entry {
    struct list link; // in its table, least recently used first
    uint16_t key_len;
    bool blocked;
    char key[KEY_MAX];
    struct mono blocked_until;
    int64_t slice; // number of the newest slice
    uint16_t failures[SLICES];
};

struct table {
    struct map map;
    struct list used;
    uint32_t count;
};

struct auth_guard {
    struct auth_guard_limits limits;
    struct table addresses, logins;
    struct table proven; // address and login that succeeded together
};

// ---- tables ------------------------------------------------------------------------------------------

static struct entry *table_find(struct table *t, struct bytes key)
{
    struct entry *e = map_find(&t->map, key);
    if (e) {
        list_remove(&e->link);
        list_push_back(&t->used, &e->link);
    }
    return e;
}

static void table_remove(struct table *t, struct entry *e)
{
    list_remove(&e->link);
    map_remove(&t->map, bytes_of(e->key, e->key_len));
    t->count--;
    free(e);
}

static struct entry *table_get(struct table *t, struct bytes key)
{
    struct entry *e = table_find(t, key);
    if (e)
        return e;
    if (t->count == AUTH_GUARD_ENTRIES)
        table_remove(t, list_get(list_first(&t->used), struct entry, link));
    e = mem_new(sizeof *e);
    e->key_len = (uint16_t)key.len;
    memcpy(e->key, key.at, key.len);
    map_set(&t->map, key, e);
    list_push_back(&t->used, &e->link);
    t->count++;
    return e;
}

static void table_done(struct table *t)
{
    list_each(link, &t->used)
    {
        list_remove(link);
        free(list_get(link, struct entry, link));
    }
    map_done(&t->map);
}

// ---- keys --------------------------------------------------------------------------------------------

static struct bytes address_key(const uint8_t ip[16], bool ip6, char out[KEY_MAX])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (ip6 && memcmp(ip, mapped, sizeof mapped) == 0) {
        ip += sizeof mapped;
        ip6 = false;
    }
    size_t len = ip6 ? 8 : 4;
    out[0] = ip6 ? '6' : '4';
    memcpy(out + 1, ip, len);
    return bytes_of(out, len + 1);
}

static struct bytes login_key(struct bytes login)
{
    return login.len ? bytes_first(login, LOGIN_MAX) : BYTES("");
}

static struct bytes pair_key(const struct auth_guard_who *who, char out[KEY_MAX])
{
    size_t len = address_key(who->ip, who->ip6, out).len;
    struct bytes login = login_key(who->login);
    memcpy(out + len, login.at, login.len);
    return bytes_of(out, len + login.len);
}

// ---- counting ----------------------------------------------------------------------------------------

static void move_window(struct entry *e, const struct auth_guard_limits *limits, struct mono now)
{
    int64_t slice_us = limits->window_ms * 1000 / SLICES;
    int64_t slice = now.us / (slice_us ? slice_us : 1);
    int64_t passed = slice - e->slice;
    if (passed < 0 || passed >= SLICES) // or the window was changed
        memset(e->failures, 0, sizeof e->failures);
    else
        for (int64_t i = 1; i <= passed; i++)
            e->failures[(e->slice + i) % SLICES] = 0;
    e->slice = slice;
}

static uint32_t count_failures(const struct entry *e)
{
    uint32_t sum = 0;
    for (int i = 0; i < SLICES; i++)
        sum += e->failures[i];
    return sum;
}

static void add_failure(struct entry *e, const struct auth_guard_limits *limits, struct mono now)
{
    move_window(e, limits, now);
    uint16_t *slice = &e->failures[e->slice % SLICES];
    if (*slice < UINT16_MAX)
        ++*slice;
    if (count_failures(e) < limits->failures)
        return;
    e->blocked = true;
    e->blocked_until = mono_add_ms(now, limits->block_ms);
    memset(e->failures, 0, sizeof e->failures);
}

static bool is_blocked(struct entry *e, struct mono now)
{
    if (e && e->blocked && mono_reached(e->blocked_until, now))
        e->blocked = false;
    return e && e->blocked;
}

// ---- the guard ---------------------------------------------------------------------------------------

struct auth_guard *auth_guard_new(struct auth_guard_limits limits)
{
    struct auth_guard *guard = mem_new(sizeof *guard);
    guard->limits = limits;
    list_init(&guard->addresses.used);
    list_init(&guard->logins.used);
    list_init(&guard->proven.used);
    return guard;
}

void auth_guard_free(struct auth_guard *guard)
{
    if (!guard)
        return;
    table_done(&guard->addresses);
    table_done(&guard->logins);
    table_done(&guard->proven);
    free(guard);
}

void auth_guard_set_limits(struct auth_guard *guard, struct auth_guard_limits limits)
{
    guard->limits = limits;
}

enum auth_guard_verdict auth_guard_ask(struct auth_guard *guard, const struct auth_guard_who *who,
                                       struct mono now, struct mono *out_until)
{
    char key[KEY_MAX];
    struct mono until = now;
    enum auth_guard_verdict verdict = AUTH_GUARD_GO;
    struct entry *e = table_find(&guard->addresses, address_key(who->ip, who->ip6, key));
    if (is_blocked(e, now)) {
        verdict = AUTH_GUARD_ADDRESS_BLOCKED;
        until = e->blocked_until;
    } else {
        e = table_find(&guard->logins, login_key(who->login));
        if (is_blocked(e, now) && !table_find(&guard->proven, pair_key(who, key))) {
            verdict = AUTH_GUARD_LOGIN_LOCKED;
            until = e->blocked_until;
        }
    }
    if (out_until)
        *out_until = until;
    return verdict;
}

bool auth_guard_is_blocked(struct auth_guard *guard, const uint8_t ip[16], bool ip6,
                           struct mono now)
{
    char key[KEY_MAX];
    return is_blocked(table_find(&guard->addresses, address_key(ip, ip6, key)), now);
}

void auth_guard_tell(struct auth_guard *guard, const struct auth_guard_who *who, bool succeeded,
                     struct mono now)
{
    char key[KEY_MAX];
    if (succeeded) {
        table_get(&guard->proven, pair_key(who, key));
        return;
    }
    add_failure(table_get(&guard->addresses, address_key(who->ip, who->ip6, key)), &guard->limits,
                now);
    add_failure(table_get(&guard->logins, login_key(who->login)), &guard->limits, now);
}
