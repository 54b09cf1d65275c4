// SPDX-License-Identifier: MIT
#include "deliver/tls_fallback.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"

struct host {
    struct mono since, last; // failures, without a success between them
    struct mono plain_until; // zero: TLS is tried
};

void tls_fallback_done(struct tls_fallback *f)
{
    size_t cursor = 0;
    struct bytes name;
    void *value;
    while (map_next(&f->hosts, &cursor, &name, &value))
        free(value);
    map_done(&f->hosts);
}

static bool is_over(const struct host *h, struct mono now)
{
    return mono_ms_between(h->last, now) >= TLS_FALLBACK_KEPT_MS;
}

// Forgets what is over; at the limit also the host whose failure is the oldest.
static void sweep(struct tls_fallback *f, struct mono now)
{
    size_t cursor = 0;
    struct bytes name, oldest_name = BYTES_NONE;
    struct host *oldest = NULL;
    void *value;
    while (map_next(&f->hosts, &cursor, &name, &value)) {
        struct host *h = value;
        if (is_over(h, now)) {
            free(map_remove(&f->hosts, name));
        } else if (!oldest || h->last.us < oldest->last.us) {
            oldest = h;
            oldest_name = name;
        }
    }
    if (f->hosts.count >= TLS_FALLBACK_HOSTS_MAX)
        free(map_remove(&f->hosts, oldest_name));
    f->swept_at = now;
}

bool tls_fallback_holds(const struct tls_fallback *f, struct bytes host, struct mono now)
{
    const struct host *h = map_find(&f->hosts, host);
    return h && !mono_reached(h->plain_until, now);
}

bool tls_fallback_failed(struct tls_fallback *f, struct bytes host, int64_t patience_ms,
                         struct mono now)
{
    struct host *h = map_find(&f->hosts, host);
    if (!h) {
        if (f->hosts.count >= TLS_FALLBACK_HOSTS_MAX ||
            mono_ms_between(f->swept_at, now) >= TLS_FALLBACK_SWEEP_MS)
            sweep(f, now);
        h = mem_new(sizeof *h);
        h->since = now;
        map_set(&f->hosts, host, h);
    } else if (is_over(h, now)) {
        h->since = now;
    }
    h->last = now;
    if (mono_ms_between(h->since, now) < patience_ms)
        return false;
    h->plain_until = mono_add_ms(now, TLS_FALLBACK_PLAIN_MS);
    log_warn("STARTTLS keeps failing there, an hour without TLS begins", LOG_STR("host", host));
    return true;
}

void tls_fallback_forget(struct tls_fallback *f, struct bytes host)
{
    struct host *h = map_remove(&f->hosts, host);
    if (h && h->plain_until.us)
        log_info("TLS is tried there again", LOG_STR("host", host));
    free(h);
}
