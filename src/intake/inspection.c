// SPDX-License-Identifier: MIT
#include "intake/inspection.h"

#include <stdlib.h>

#include "base/check.h"

struct inspection {
    struct preflight *preflight;
    const struct store_directory *directory;
    const struct store_account *account;
    struct dns_cache *dns;
    struct inspection_memory *memory;
    bool has_links;
    bool looked, asking, takes_no_mail; // of the From field's domain
    struct dns_ask ask;
    void (*done)(void *ctx);
    void *ctx;
};

static enum store_preflight mode_of(const struct store_account *account)
{
    return (enum store_preflight)account->options[STORE_OPTION_PREFLIGHT];
}

struct inspection *inspection_begin(const struct store_directory *directory, bool has_links,
                                    const struct store_account *account, struct dns_cache *dns,
                                    struct inspection_memory *memory)
{
    if (!account || mode_of(account) == STORE_PREFLIGHT_OFF)
        return NULL;
    struct inspection *i = mem_new(sizeof *i);
    i->preflight = preflight_new();
    i->directory = directory;
    i->has_links = has_links;
    i->account = account;
    i->dns = dns;
    i->memory = memory;
    return i;
}

void inspection_free(struct inspection *i)
{
    if (!i)
        return;
    if (i->asking)
        dns_cache_cancel(&i->ask);
    preflight_free(i->preflight);
    free(i);
}

// ---- the From field's domain -------------------------------------------------------------------------------

static uint32_t slot_of(struct bytes domain)
{
    uint32_t hash = 2166136261u; // FNV-1a
    for (size_t i = 0; i < domain.len; i++)
        hash = (hash ^ (uint8_t)domain.at[i]) * 16777619u;
    return hash % INSPECTION_MEMORY_SLOTS;
}

static void remember(struct inspection *i, struct bytes domain, int64_t ms)
{
    if (domain.len > sizeof i->memory->slots[0].domain)
        return;
    uint32_t n = slot_of(domain);
    memcpy(i->memory->slots[n].domain, domain.at, domain.len);
    i->memory->slots[n].len = (uint8_t)domain.len;
    i->memory->slots[n].takes_no_mail = i->takes_no_mail;
    i->memory->slots[n].until = mono_add_ms(sys_mono(), ms);
}

static bool recall(struct inspection *i, struct bytes domain)
{
    uint32_t n = slot_of(domain);
    struct bytes known = bytes_of(i->memory->slots[n].domain, i->memory->slots[n].len);
    if (!bytes_eq(known, domain) || mono_reached(i->memory->slots[n].until, sys_mono()))
        return false;
    i->takes_no_mail = i->memory->slots[n].takes_no_mail;
    return true;
}

static void on_known(struct dns_ask *ask, struct dns_mx *mx)
{
    struct inspection *i = container_of(ask, struct inspection, ask);
    i->asking = false;
    i->takes_no_mail = mx->outcome == DNS_MX_NO_DOMAIN || mx->outcome == DNS_MX_NULL ||
                       mx->outcome == DNS_MX_NO_ADDRESS;
    remember(i, preflight_from_domain(i->preflight),
             mx->outcome == DNS_MX_TEMPORARY ? INSPECTION_UNKNOWN_MS : INSPECTION_MEMORY_MS);
    dns_mx_free(mx);
    if (i->done)
        i->done(i->ctx);
}

static void look_up_from(struct inspection *i)
{
    struct bytes domain = preflight_from_domain(i->preflight);
    i->looked = true;
    if (domain.at[0] == '[' || recall(i, domain))
        return;
    i->asking = true;
    i->ask.done = on_known;
    int64_t patience_ms = mode_of(i->account) == STORE_PREFLIGHT_WARN ? INSPECTION_WARN_PATIENCE_MS
                                                                      : DNS_VERDICT_BUDGET_MS;
    dns_cache_ask(i->dns, &i->ask, domain, DNS_BY_MX, mono_add_ms(sys_mono(), patience_ms));
}

// ---- from begin to end -------------------------------------------------------------------------------------

void inspection_feed(struct inspection *i, struct bytes piece)
{
    preflight_feed(i->preflight, piece);
    if (!i->looked && preflight_from_domain(i->preflight).len)
        look_up_from(i);
}

bool inspection_waits(struct inspection *i, void (*done)(void *ctx), void *ctx)
{
    i->done = done;
    i->ctx = ctx;
    return i->asking;
}

void inspection_finish(struct inspection *i, enum mail_class class, struct bytes reverse_path,
                       struct preflight_result *out)
{
    struct buf mail_from = {0};
    ptrdiff_t at = bytes_find_last(reverse_path, '@');
    if (at >= 0)
        (void)!mail_domain_route(bytes_skip(reverse_path, (size_t)at + 1), &mail_from);
    uint8_t unsubscribe = i->account->options[STORE_OPTION_UNSUBSCRIBE];
    struct preflight_facts facts = {
        .class = class,
        .mail_from = buf_bytes(&mail_from),
        .we_sign = store_directory_aligned_dkim(i->directory, i->account,
                                                preflight_from_domain(i->preflight)) != NULL,
        .we_add_unsubscribe = i->has_links && unsubscribe == STORE_UNSUBSCRIBE_BULK,
        .from_takes_no_mail = i->takes_no_mail,
    };
    preflight_finish(i->preflight, &facts, out);
    buf_done(&mail_from);
}

bool inspection_is_refused(const struct inspection *i, const struct preflight_result *result)
{
    return mode_of(i->account) == STORE_PREFLIGHT_REFUSE && result->verdict == PREFLIGHT_REFUSE;
}

bool inspection_is_held(const struct inspection *i, const struct preflight_result *result)
{
    return mode_of(i->account) == STORE_PREFLIGHT_HOLD && result->verdict == PREFLIGHT_REFUSE;
}
