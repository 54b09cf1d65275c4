// SPDX-License-Identifier: MIT
//
// dns_unbound - the port `resolve` on libunbound
//
// How it works. libunbound recurses, validates and caches on a thread of its own; its descriptor
// tells us when answers are there. At most RUNNING_MAX questions are with it at once, the others
// wait here in a row; one whose deadline passes is cancelled. So that silent servers don't keep
// the others waiting (law 9), one that takes long goes on as a slow one and gives its place to
// the next; of more than SLOW_MAX slow ones the oldest is cancelled.
//
// Watchdog: libunbound 1.17 is known to have spun for ever (unbound#1292, #1471). When questions
//           are out and
// nothing has come back for a while, we ask for a name that it answers by itself; if that stays
// unanswered too, the context is abandoned (it can't be freed: its thread would have to end
// first) and another one is made.
//
// Descriptors: libunbound makes its thread for the first question, and libevent below it ends the whole process where
//              it gets no descriptors for that. So it is asked something at once, while there are some, and not made
//              anew when there are none.
#include "dns/dns_unbound.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unbound.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "dns/dns_request.h"
#include "sys/sys_watch.h"

#define RUNNING_MAX 1000
#define SLOW_MS 2000
#define SLOW_MAX 1000
#define SWEEP_MS 1000
#define SILENCE_MS 10000 // then the watchdog asks
#define PROBE_MS 5000    // for so long at most
#define SERVERS_MAX 16
#define DESCRIPTORS 32 // more than a context and its thread take

struct dns_unbound {
    struct dns dns;
    struct ub_ctx *context;
    struct sys_watch *watch;
    struct list waiting, running, slow; // the last two are out, oldest first
    unsigned running_count, slow_count;
    struct sys_timer sweep;
    struct mono last_answer;
    struct mono probed; // MONO_NEVER: no probe is out
    struct sys_task start;
    char servers[SERVERS_MAX][64];
    size_t server_count;
    char *trust_anchor;
};

static struct dns_unbound *own(struct dns *dns)
{
    return container_of(dns, struct dns_unbound, dns);
}

// ---- the context ------------------------------------------------------------------------------

// What must hold, then what only newer versions know.
static int set_options(struct ub_ctx *context, bool validate)
{
    static const struct {
        const char *name, *value;
        bool may_lack;
    } options[] = {
        {"do-not-query-localhost:", "no", false}, // the resolver of the host often listens there
        {"num-queries-per-thread:", "2048", false},
        {"outgoing-range:", "2048", false},
        // A server that was down is asked again within 5 s: what is known of it is forgotten then, and a server
        // that stays silent is probed once in 12 s, never less often (12 s is the least that unbound takes for "down").
        {"infra-host-ttl:", "5", false},
        {"infra-cache-max-rtt:", "12000", true},
        {"infra-keep-probing:", "yes", true},
        {"cache-max-ttl:", "86400", false},
        {"cache-max-negative-ttl:", "300", true},
        {"msg-cache-size:", "8m", false},
        {"rrset-cache-size:", "16m", false},
        {"use-syslog:", "no", false},
        {"unblock-lan-zones:", "yes", false},
        {"insecure-lan-zones:", "yes", true},
    };
    for (size_t i = 0; i < COUNT_OF(options); i++)
        if (ub_ctx_set_option(context, options[i].name, options[i].value) != 0 &&
            !options[i].may_lack)
            return E_IO;
    // "iterator" alone does not validate; with the validator but without an anchor all would be
    // insecure anyway
    return ub_ctx_set_option(context,
                             "module-config:", validate ? "validator iterator" : "iterator") == 0
               ? OK
               : E_IO;
}

static int make_context(struct dns_unbound *d, struct ub_ctx **out)
{
    struct ub_ctx *context = ub_ctx_create();
    if (!context)
        return E_IO;
    int err = set_options(context, d->trust_anchor != NULL);
    if (err == OK && d->trust_anchor && ub_ctx_add_ta_file(context, d->trust_anchor) != 0)
        err = E_SYNTAX;
    for (size_t i = 0; i < d->server_count && err == OK; i++)
        err = ub_ctx_set_fwd(context, d->servers[i]) == 0 ? OK : E_SYNTAX;
    if (err == OK)
        err = ub_ctx_async(context, 1) == 0 ? OK : E_IO;
    // Last, as it ends the time of options (and reads the anchor): names below .test are people's
    // own.
    if (err == OK)
        err = ub_ctx_zone_remove(context, "test.") == 0 ? OK : E_SYNTAX;
    if (err == OK)
        *out = context;
    else
        ub_ctx_delete(context);
    return err;
}

// ---- answers ----------------------------------------------------------------------------------

static void leave_running(struct dns_unbound *d, struct dns_request *r)
{
    list_remove(&r->link);
    if (r->slow)
        d->slow_count--;
    else
        d->running_count--;
}

static unsigned count_out(const struct dns_unbound *d)
{
    return d->running_count + d->slow_count;
}

static void take_records(struct dns_request *r, const struct ub_result *result)
{
    for (int i = 0; result->data[i]; i++)
        dns_request_add(r,
                        bytes_of(result->data[i], result->len[i] > 0 ? (size_t)result->len[i] : 0));
    r->answer.code = DNS_OK;
    r->answer.is_secure = result->secure;
    r->answer.ttl_s = result->ttl > 0 ? (uint32_t)result->ttl : 0;
    if (r->answer.count == 0)
        dns_request_fail(r, DNS_SERVFAIL, "the records in the answer are malformed");
    else
        dns_request_answer(r);
}

static void take_denial(struct dns_request *r, const struct ub_result *result)
{
    r->answer.code = result->nxdomain ? DNS_NXDOMAIN : DNS_NODATA;
    r->answer.is_secure = result->secure;
    r->answer.ttl_s = result->ttl > 0 ? (uint32_t)result->ttl : 0;
    dns_request_answer(r);
}

static const char *rcode_text(int rcode)
{
    return rcode == 1   ? "format error"
           : rcode == 2 ? "server failure"
           : rcode == 5 ? "refused"
                        : "unexpected reply";
}

static void take_result(struct dns_request *r, int err, const struct ub_result *result)
{
    if (err != 0 || !result)
        dns_request_fail(r, DNS_SERVFAIL, ub_strerror(err));
    else if (result->bogus)
        dns_request_fail(r, DNS_BOGUS, result->why_bogus);
    else if (result->rcode == 0 && result->havedata)
        take_records(r, result);
    else if (result->rcode == 0 || result->nxdomain)
        take_denial(r, result);
    else
        dns_request_fail(r, DNS_SERVFAIL, rcode_text(result->rcode));
}

static void on_result(void *arg, int err, struct ub_result *result)
{
    struct dns_request *r = arg;
    struct dns_unbound *d = own(r->dns);
    d->last_answer = sys_mono();
    leave_running(d, r);
    take_result(r, err, result);
    ub_resolve_free(result);
}

// ---- questions --------------------------------------------------------------------------------

static void start_one(struct dns_unbound *d, struct dns_request *r)
{
    if (mono_reached(r->deadline, sys_mono())) {
        dns_request_fail(r, DNS_TIMEOUT, "no answer within the time allowed");
        return;
    }
    if (count_out(d) == 0)
        d->last_answer = sys_mono(); // silence is counted from here
    list_push_back(&d->running, &r->link);
    d->running_count++;
    r->began = sys_mono();
    int err = ub_resolve_async(d->context, r->name, (int)r->type, 1, r, on_result, &r->async_id);
    if (err != 0) {
        leave_running(d, r);
        dns_request_fail(r, DNS_SERVFAIL, ub_strerror(err));
    }
}

static void start_waiting(struct dns_unbound *d)
{
    while (d->running_count < RUNNING_MAX && !list_is_empty(&d->waiting))
        start_one(d, list_get(list_pop_front(&d->waiting), struct dns_request, link));
}

static void start(struct dns_request *r)
{
    struct dns_unbound *d = own(r->dns);
    list_push_back(&d->waiting, &r->link);
    start_waiting(d);
    if (!sys_timer_is_set(&d->sweep))
        sys_timer_set(&d->sweep, mono_add_ms(sys_mono(), SWEEP_MS));
}

static void on_readable(void *ctx)
{
    struct dns_unbound *d = ctx;
    ub_process(d->context);
    start_waiting(d);
}

// ---- the sweep and the watchdog ---------------------------------------------------------------

static void cancel(struct dns_unbound *d, struct dns_request *r, const char *why)
{
    ub_cancel(d->context, r->async_id);
    leave_running(d, r);
    dns_request_fail(r, DNS_TIMEOUT, why);
}

static void cancel_late(struct dns_unbound *d)
{
    struct list *const out[] = {&d->running, &d->slow};
    struct mono now = sys_mono();
    for (size_t i = 0; i < COUNT_OF(out); i++)
        list_each(link, out[i])
        {
            struct dns_request *r = list_get(link, struct dns_request, link);
            if (mono_reached(r->deadline, now))
                cancel(d, r, "no answer within the time allowed");
        }
}

static void set_slow_apart(struct dns_unbound *d)
{
    struct mono now = sys_mono();
    list_each(link, &d->running)
    {
        struct dns_request *r = list_get(link, struct dns_request, link);
        if (mono_ms_between(r->began, now) < SLOW_MS)
            break;
        leave_running(d, r);
        r->slow = true;
        list_push_back(&d->slow, &r->link);
        d->slow_count++;
    }
    while (d->slow_count > SLOW_MAX)
        cancel(d, list_get(d->slow.next, struct dns_request, link),
               "no answer, and too many others wait for theirs");
}

static void on_probe(void *arg, int err, struct ub_result *result)
{
    struct dns_unbound *d = arg;
    d->probed = MONO_NEVER;
    d->last_answer = sys_mono();
    ub_resolve_free(result);
}

// "localhost" is a local zone: answered without a question to anyone.
static bool ask_itself(struct dns_unbound *d)
{
    int id;
    return ub_resolve_async(d->context, "localhost", DNS_A, 1, d, on_probe, &id) == 0;
}

static bool has_descriptors(const struct dns_unbound *d)
{
    int taken[DESCRIPTORS], count = 0;
    while (count < DESCRIPTORS &&
           (taken[count] = fcntl(ub_fd(d->context), F_DUPFD_CLOEXEC, 0)) != -1)
        count++;
    for (int i = 0; i < count; i++)
        close(taken[i]);
    return count == DESCRIPTORS;
}

void dns_unbound_rebuild(struct dns *dns)
{
    struct dns_unbound *d = own(dns);
    struct ub_ctx *context;
    d->probed = MONO_NEVER;
    d->last_answer = sys_mono();
    if (!has_descriptors(d) || make_context(d, &context) != OK) {
        log_error("resolver could not be restarted");
        return;
    }
    sys_watch_close(d->watch);
    d->context = context; // the old one is abandoned, its thread with it
    d->watch = sys_watch_open(ub_fd(context), on_readable, d);
    for (struct list *link;
         (link = list_pop_front(&d->running)) != NULL || (link = list_pop_front(&d->slow)) != NULL;)
        dns_request_fail(list_get(link, struct dns_request, link), DNS_SERVFAIL,
                         "the resolver was restarted");
    d->running_count = d->slow_count = 0;
    (void)ask_itself(d);
    start_waiting(d);
}

static void watch_over(struct dns_unbound *d)
{
    struct mono now = sys_mono();
    if (d->probed.us != MONO_NEVER.us) {
        if (mono_ms_between(d->probed, now) < PROBE_MS)
            return;
        log_error("resolver does not answer: restarting it", LOG_INT("questions", count_out(d)));
        dns_unbound_rebuild(&d->dns);
    } else if (count_out(d) > 0 && mono_ms_between(d->last_answer, now) >= SILENCE_MS) {
        if (ask_itself(d))
            d->probed = now;
    }
}

static void on_sweep(struct sys_timer *timer)
{
    struct dns_unbound *d = container_of(timer, struct dns_unbound, sweep);
    cancel_late(d);
    set_slow_apart(d);
    watch_over(d);
    start_waiting(d);
    if (count_out(d) > 0 || !list_is_empty(&d->waiting) || d->probed.us != MONO_NEVER.us)
        sys_timer_set(&d->sweep, mono_add_ms(sys_mono(), SWEEP_MS));
}

// ---- opening and closing ----------------------------------------------------------------------

static void run_start(struct sys_task *task)
{
    struct dns_unbound *d = container_of(task, struct dns_unbound, start);
    d->watch = sys_watch_open(ub_fd(d->context), on_readable, d);
    (void)ask_itself(d);
}

// "IP@PORT" or "IP", as libunbound reads it: without brackets.
static int copy_server(struct dns_unbound *d, struct bytes text)
{
    struct sys_addr addr;
    char ip[SYS_ADDR_TEXT];
    int err = sys_addr_parse(text, &addr);
    if (err != OK)
        err = sys_addr_parse_ip(text, 53, &addr);
    if (err != OK || (addr.kind != SYS_ADDR_IP4 && addr.kind != SYS_ADDR_IP6))
        return E_SYNTAX;
    snprintf(d->servers[d->server_count++], sizeof d->servers[0], "%.46s@%u",
             sys_addr_format_ip(&addr, ip), addr.port);
    return OK;
}

static int copy_conf(struct dns_unbound *d, const struct dns_conf *conf)
{
    if (conf->server_count > SERVERS_MAX)
        return E_LIMIT;
    for (size_t i = 0; i < conf->server_count; i++) {
        int err = copy_server(d, conf->servers[i]);
        if (err != OK)
            return err;
    }
    if (!conf->trust_anchor)
        return OK;
    if (access(conf->trust_anchor, R_OK) != 0)
        return E_NOT_FOUND;
    d->trust_anchor = strdup(conf->trust_anchor);
    return OK;
}

static void free_dns(struct dns_unbound *d)
{
    free(d->trust_anchor);
    free(d);
}

static void free_requests(struct list *requests)
{
    for (struct list *link; (link = list_pop_front(requests)) != NULL;) {
        struct dns_request *r = list_get(link, struct dns_request, link);
        arena_done(&r->arena);
        free(r);
    }
}

static void close_dns(struct dns *dns)
{
    struct dns_unbound *d = own(dns);
    ub_ctx_delete(d->context);
    free_requests(&d->waiting);
    free_requests(&d->running);
    free_requests(&d->slow);
    free_dns(d);
}

int dns_open(const struct dns_conf *conf, struct sys_loop *loop, struct dns **out)
{
    *out = NULL;
    struct dns_unbound *d = mem_new(sizeof *d);
    d->dns.loop = loop;
    d->dns.start = start;
    d->dns.close = close_dns;
    list_init(&d->waiting);
    list_init(&d->running);
    list_init(&d->slow);
    d->sweep.fire = on_sweep;
    d->probed = MONO_NEVER;
    int err = copy_conf(d, conf);
    if (err == OK)
        err = make_context(d, &d->context);
    if (err != OK) {
        free_dns(d);
        return err;
    }
    d->start.run = run_start;
    sys_post(loop, &d->start); // before any question that can reach it
    *out = &d->dns;
    return OK;
}
