// SPDX-License-Identifier: MIT
//
// tls_fallback - hosts whose STARTTLS does not work, and which of them are spoken to without it
//
// Only where TLS is merely wished for (`tls: may`, no login). A failure may be a restart, a reset, an overload, so the
// first only means that the attempt failed; a host that still fails once the patience is over is spoken to without TLS
// for TLS_FALLBACK_PLAIN_MS. Then TLS is tried again. Once it works, all of this is forgotten.
//
// Owner:  one worker's deliver. A zeroed one is empty.
// Limits: TLS_FALLBACK_HOSTS_MAX hosts; one more takes the place of whose failure is the oldest. A host is forgotten
//         TLS_FALLBACK_KEPT_MS after its last failure.
#pragma once

#include "base/clock.h"
#include "base/map.h"

#define TLS_FALLBACK_PLAIN_MS 3600000 // 1 h
#define TLS_FALLBACK_KEPT_MS 86400000 // 1 day
#define TLS_FALLBACK_SWEEP_MS 3600000 // between two looks for what can be forgotten
#define TLS_FALLBACK_HOSTS_MAX 10000

struct tls_fallback {
    struct map hosts; // name -> struct of our own
    struct mono swept_at;
};

void tls_fallback_done(struct tls_fallback *f);
// Is the host to be spoken to without TLS now?
bool tls_fallback_holds(const struct tls_fallback *f, struct bytes host, struct mono now);
// STARTTLS has failed there. True: it is to be spoken to without TLS, at once and for TLS_FALLBACK_PLAIN_MS.
bool tls_fallback_failed(struct tls_fallback *f, struct bytes host, int64_t patience_ms,
                         struct mono now);
// TLS has worked there, or is asked for: what is known of its failures counts no more.
void tls_fallback_forget(struct tls_fallback *f, struct bytes host);
