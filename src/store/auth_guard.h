// SPDX-License-Identifier: MIT
//
// auth_guard - who may try to log in: keeps guessers out without locking owners out
//
// An address (IPv6: its /64) with too many failures within the window is blocked for a while. A
// login with too many failures, from wherever they came, is locked for the same while, but only for
// addresses from which it never succeeded: a guesser can't lock its owner out. Unknown logins are
// counted like known ones, so nothing tells them apart.
//
// Pure: the time is passed in. Ask before a password is looked at, and again before anybody hears how it ended, as other
// attempts may have failed meanwhile; tell then.
//
// Owner:    the daemon, one for all listeners. Thread: one at a time.
// Limits:   AUTH_GUARD_ENTRIES addresses, as many logins, as many pairs that succeeded; the ones
// not seen for
//           longest make room. Failures are counted in tenths of the window.
#pragma once

#include "base/bytes.h"
#include "base/clock.h"

#define AUTH_GUARD_ENTRIES 65536

struct auth_guard_limits {
    uint32_t failures; // allowed within the window; the next attempt is refused
    int64_t window_ms, block_ms;
};

enum auth_guard_verdict {
    AUTH_GUARD_GO,
    AUTH_GUARD_ADDRESS_BLOCKED, // 454 4.7.0: too many failures from your network
    AUTH_GUARD_LOGIN_LOCKED,    // the same words: the caller must not show which
};

// Who tries: address (4 or 16 bytes; IPv4-mapped counts as IPv4) and login.
struct auth_guard_who {
    uint8_t ip[16];
    bool ip6;
    struct bytes login;
};

struct auth_guard;
struct auth_guard *auth_guard_new(struct auth_guard_limits limits);
void auth_guard_free(struct auth_guard *guard);
// New limits (a reload); what was counted stays.
void auth_guard_set_limits(struct auth_guard *guard, struct auth_guard_limits limits);
// out_until (may be NULL): when it will be let try again.
enum auth_guard_verdict auth_guard_ask(struct auth_guard *guard, const struct auth_guard_who *who,
                                       struct mono now, struct mono *out_until);
// Before the login is known (a connection, an AUTH command): is the address blocked?
bool auth_guard_is_blocked(struct auth_guard *guard, const uint8_t ip[16], bool ip6,
                           struct mono now);
// How it ended. Success marks the pair of address and login as proven and clears no count: a
// guesser with one account of its own could wash its address, an owner who logs in often would wash
// the guesses at his login.
void auth_guard_tell(struct auth_guard *guard, const struct auth_guard_who *who, bool succeeded,
                     struct mono now);
