// SPDX-License-Identifier: MIT
//
// dns_cache - MX results by domain
//
// How it works. A request travels to the cache's loop and back with a copy of the result. An
// entry is being looked up (`lookup`), waiting for its turn to be, or ready (`mx`); those who ask
// meanwhile wait in it.
//
// Silent domains delay only themselves (law 9): a lookup that takes long goes on as a slow one, so that the next can
// begin; where there are too many slow ones the oldest ends. A domain that was silent last time leaves half of the
// places to the others.
#include "dns/dns_cache.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"

#define DOMAIN_MAX (DNS_NAME_MAX + 10) // an address literal included

struct dns_cache_request {
    struct sys_task task; // there, then back
    struct sys_loop *home;
    struct dns_cache *cache;
    struct dns_ask *ask; // touched at home only; NULL: nobody waits any more
    struct list link;    // entry->waiters
    struct dns_mx *mx;   // the result, on the way back
    size_t key_len;
    char key[DOMAIN_MAX + 1]; // the kind, then the domain
};

struct entry {
    struct list link; // in one of the cache's lists
    struct dns_cache *cache;
    struct dns_mx_lookup *lookup;
    struct mono began; // the lookup
    bool slow;         // it is, or was last time: without an answer in the end
    struct dns_mx *mx;
    struct mono expires;
    struct list waiters;
    size_t key_len;
    char key[]; // as in the request
};

struct dns_cache {
    struct dns *dns;
    struct sys_loop *loop;
    struct dns_cache_limits limits;
    size_t entry_count;
    struct map entries;
    struct list ready; // most recently asked first
    struct list pending,
        silent; // waiting for their turn, first come first; `silent`: they were last time
    struct list running, slow; // lookups under way, oldest first
    size_t running_count, slow_count;
    struct sys_timer slowness; // of the oldest that is running
};

// ---- entries ----------------------------------------------------------------------------------

static struct bytes key_of(const struct entry *e)
{
    return bytes_of(e->key, e->key_len);
}

static void drop_entry(struct entry *e)
{
    map_remove(&e->cache->entries, key_of(e));
    e->cache->entry_count--;
    list_remove(&e->link);
    dns_mx_free(e->mx);
    free(e);
}

static uint32_t clamp(uint32_t value, uint32_t low, uint32_t high)
{
    return value < low ? low : value > high ? high : value;
}

static uint32_t keep_s(const struct dns_mx *mx)
{
    switch (mx->outcome) {
    case DNS_MX_FOUND:
    case DNS_MX_NULL:
        return clamp(mx->ttl_s, DNS_CACHE_TTL_MIN_S, DNS_CACHE_TTL_MAX_S);
    case DNS_MX_NO_DOMAIN:
    case DNS_MX_NO_ADDRESS:
        return clamp(mx->ttl_s, DNS_CACHE_TTL_MIN_S, DNS_CACHE_TTL_PERMANENT_S);
    default:
        return DNS_CACHE_TTL_TEMPORARY_S;
    }
}

static void answer(struct dns_cache_request *r, struct dns_mx *mx);

static void start_pending(struct dns_cache *cache);

static void leave_lookups(struct entry *e)
{
    struct dns_cache *cache = e->cache;
    list_remove(&e->link);
    if (e->slow)
        cache->slow_count--;
    else
        cache->running_count--;
}

static void on_looked_up(void *ctx, struct dns_mx *mx)
{
    struct entry *e = ctx;
    struct dns_cache *cache = e->cache;
    leave_lookups(e);
    e->slow = e->slow && mx->outcome == DNS_MX_TEMPORARY;
    e->lookup = NULL;
    e->mx = mx;
    mx->ttl_s = keep_s(mx);
    e->expires = mono_add_ms(sys_mono(), (int64_t)mx->ttl_s * 1000);
    for (struct list *link; (link = list_pop_front(&e->waiters)) != NULL;)
        answer(list_get(link, struct dns_cache_request, link), dns_mx_copy(mx));
    list_push_front(&cache->ready, &e->link);
    start_pending(cache);
}

static void become_slow(struct entry *e)
{
    struct dns_cache *cache = e->cache;
    leave_lookups(e);
    e->slow = true;
    list_push_back(&cache->slow, &e->link);
    if (++cache->slow_count <= cache->limits.slow)
        return;
    struct entry *oldest = list_get(cache->slow.next, struct entry, link);
    dns_mx_lookup_cancel(oldest->lookup);
    on_looked_up(oldest,
                 dns_mx_new_failure(DNS_MX_TEMPORARY, 0,
                                    "no answer from DNS, and too many others wait for theirs"));
}

static void on_slowness(struct sys_timer *timer)
{
    struct dns_cache *cache = container_of(timer, struct dns_cache, slowness);
    struct mono now = sys_mono();
    while (!list_is_empty(&cache->running)) {
        struct entry *e = list_get(cache->running.next, struct entry, link);
        struct mono at = mono_add_ms(e->began, cache->limits.slow_ms);
        if (!mono_reached(at, now)) {
            sys_timer_set(timer, at);
            break;
        }
        become_slow(e);
    }
    start_pending(cache);
}

static struct list *next_pending(struct dns_cache *cache)
{
    size_t places = cache->limits.lookups;
    if (cache->running_count < places && !list_is_empty(&cache->pending))
        return list_pop_front(&cache->pending);
    return cache->running_count < (places + 1) / 2 ? list_pop_front(&cache->silent) : NULL;
}

static void start_pending(struct dns_cache *cache)
{
    for (struct list *link; (link = next_pending(cache)) != NULL;) {
        struct entry *e = list_get(link, struct entry, link);
        cache->running_count++;
        list_push_back(&cache->running, &e->link);
        e->slow = false;
        e->began = sys_mono();
        if (!sys_timer_is_set(&cache->slowness))
            sys_timer_set(&cache->slowness, mono_add_ms(e->began, cache->limits.slow_ms));
        struct mono deadline = mono_add_ms(e->began, DNS_CACHE_LOOKUP_MS);
        enum dns_mx_kind kind = (enum dns_mx_kind)e->key[0];
        e->lookup =
            dns_mx_lookup(cache->dns, bytes_skip(key_of(e), 1), kind, deadline, on_looked_up, e);
    }
}

static struct entry *new_entry(struct dns_cache *cache, struct bytes key)
{
    if (cache->entry_count >= cache->limits.entries) {
        if (list_is_empty(&cache->ready))
            return NULL; // all are being looked up
        drop_entry(list_get(cache->ready.prev, struct entry, link));
    }
    struct entry *e = mem_new(sizeof *e + key.len);
    e->cache = cache;
    list_init(&e->waiters);
    memcpy(e->key, key.at, key.len);
    e->key_len = key.len;
    map_set(&cache->entries, key_of(e), e);
    cache->entry_count++;
    list_push_back(&cache->pending, &e->link);
    return e;
}

// The entry of a domain; what is out of date is to be looked up again.
static struct entry *find_entry(struct dns_cache *cache, struct bytes key)
{
    struct entry *e = map_find(&cache->entries, key);
    if (e && e->mx && mono_reached(e->expires, sys_mono())) {
        dns_mx_free(e->mx);
        e->mx = NULL;
        list_remove(&e->link);
        list_push_back(e->slow ? &cache->silent : &cache->pending, &e->link);
    }
    return e;
}

// Who keeps it in turn keeps it no longer than we do.
static struct dns_mx *copy_known(const struct entry *e)
{
    struct dns_mx *mx = dns_mx_copy(e->mx);
    int64_t left_s = mono_ms_between(sys_mono(), e->expires) / 1000;
    mx->ttl_s = left_s > 1 ? (uint32_t)left_s : 1;
    return mx;
}

static void run_there(struct sys_task *task)
{
    struct dns_cache_request *r = container_of(task, struct dns_cache_request, task);
    struct dns_cache *cache = r->cache;
    struct bytes key = bytes_of(r->key, r->key_len);
    struct entry *e = find_entry(cache, key);
    if (!e)
        e = new_entry(cache, key);
    if (!e) {
        answer(r, dns_mx_new_failure(DNS_MX_TEMPORARY, 0, "too many domains are being looked up"));
    } else if (e->mx) {
        list_remove(&e->link);
        list_push_front(&cache->ready, &e->link);
        answer(r, copy_known(e));
    } else {
        list_push_back(&e->waiters, &r->link);
        start_pending(cache);
    }
}

// ---- the asker's side -------------------------------------------------------------------------

static void run_home(struct sys_task *task)
{
    struct dns_cache_request *r = container_of(task, struct dns_cache_request, task);
    struct dns_ask *ask = r->ask;
    struct dns_mx *mx = r->mx;
    free(r);
    if (!ask) {
        dns_mx_free(mx);
        return;
    }
    ask->request = NULL;
    sys_timer_stop(&ask->deadline);
    ask->done(ask, mx);
}

static void answer(struct dns_cache_request *r, struct dns_mx *mx)
{
    r->mx = mx;
    r->task.run = run_home;
    sys_post(r->home, &r->task);
}

static void on_deadline(struct sys_timer *timer)
{
    struct dns_ask *ask = container_of(timer, struct dns_ask, deadline);
    ask->request->ask = NULL;
    ask->request = NULL;
    ask->done(
        ask, dns_mx_new_failure(DNS_MX_TEMPORARY, 0, "no answer from DNS within the time allowed"));
}

static struct bytes strip_dot(struct bytes domain)
{
    if (domain.len > 1 && domain.at[domain.len - 1] == '.')
        domain.len--;
    return domain;
}

void dns_cache_ask(struct dns_cache *cache, struct dns_ask *ask, struct bytes domain,
                   enum dns_mx_kind kind, struct mono deadline)
{
    struct dns_cache_request *r = mem_new(sizeof *r);
    r->cache = cache;
    r->home = sys_loop_self();
    r->ask = ask;
    ask->request = r;
    ask->deadline = (struct sys_timer){.fire = on_deadline};
    sys_timer_set(&ask->deadline, deadline);
    domain = strip_dot(domain);
    if (domain.len > DOMAIN_MAX) {
        answer(r, dns_mx_new_failure(DNS_MX_NO_DOMAIN, 0, "the domain is too long to exist"));
        return;
    }
    for (size_t i = 0; i < domain.len; i++)
        r->key[1 + i] = ascii_lower(domain.at[i]);
    r->key[0] = (char)kind;
    r->key_len = 1 + domain.len;
    r->task.run = run_there;
    sys_post(cache->loop, &r->task);
}

void dns_cache_cancel(struct dns_ask *ask)
{
    if (!ask->request)
        return;
    ask->request->ask = NULL;
    ask->request = NULL;
    sys_timer_stop(&ask->deadline);
}

enum dns_verdict dns_verdict_of(const struct dns_mx *mx)
{
    switch (mx->outcome) {
    case DNS_MX_NO_DOMAIN:
        return DNS_NO_DOMAIN;
    case DNS_MX_NULL:
        return DNS_NULL_MX;
    case DNS_MX_TEMPORARY:
        return DNS_UNKNOWN;
    default:
        return DNS_EXISTS;
    }
}

// ---- the cache itself -------------------------------------------------------------------------

struct dns_cache *dns_cache_new(struct dns *dns, struct sys_loop *loop,
                                const struct dns_cache_limits *limits)
{
    static const struct dns_cache_limits USUAL = {DNS_CACHE_ENTRIES_MAX, DNS_CACHE_LOOKUPS_MAX,
                                                  DNS_CACHE_SLOW_MAX, DNS_CACHE_SLOW_MS};
    struct dns_cache *cache = mem_new(sizeof *cache);
    cache->dns = dns;
    cache->loop = loop;
    cache->limits = limits ? *limits : USUAL;
    cache->slowness.fire = on_slowness;
    list_init(&cache->ready);
    list_init(&cache->pending);
    list_init(&cache->silent);
    list_init(&cache->running);
    list_init(&cache->slow);
    return cache;
}

static void free_waiters(struct entry *e)
{
    for (struct list *link; (link = list_pop_front(&e->waiters)) != NULL;)
        free(list_get(link, struct dns_cache_request, link));
}

void dns_cache_free(struct dns_cache *cache)
{
    struct list *const all[] = {&cache->ready, &cache->pending, &cache->silent, &cache->running,
                                &cache->slow};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        list_each(link, all[i])
        {
            struct entry *e = list_get(link, struct entry, link);
            free_waiters(e);
            if (e->lookup)
                dns_mx_lookup_cancel(e->lookup);
            drop_entry(e);
        }
    map_done(&cache->entries);
    free(cache);
}
