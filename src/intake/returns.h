// SPDX-License-Identifier: MIT
//
// returns - mail that comes back: reports, complaints and auto-replies at a listener with role: bounces
//
// Taken without a login, from any sender (auto-replies come from people), but only for recipients that hold a good
// token of ours (bounce/return_token.h) or are configured for complaints. It is never queued or sent on: what it says
// about our mail becomes feedback records, and the 250 waits for their flush (law 1). Content is understood on the
// offload pool, of which no more than RETURNS_KEPT_BYTES are kept.
//
// Owner:  the session, from the first such recipient to the end of content; then it ends by itself, with or without
//         the session.
// Thread: the worker's.
// Limits: RETURNS_MAX that have a recipient, at a time and worker, RETURNS_CLIENT_MAX of them of one client that is
//         not trusted (then 421), RETURNS_RECIPIENTS_MAX each,
//         conf->bounce.rate a minute and address.
#pragma once

#include "smtp/smtp_server.h"

#define RETURNS_MAX 64
#define RETURNS_CLIENT_MAX 8
#define RETURNS_KEPT_BYTES ((size_t)256 << 10)
#define RETURNS_RECIPIENTS_MAX 20

struct session;

// The handlers of such a session; ctx is the session.
extern const struct smtp_server_handlers RETURNS_HANDLERS;
// As transaction_is_committing().
bool returns_is_committing(const struct session *s);
// The session is gone.
void returns_drop(struct session *s);
