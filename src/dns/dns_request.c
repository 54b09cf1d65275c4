// SPDX-License-Identifier: MIT
#include "dns/dns_request.h"

#include <stdio.h>
#include <stdlib.h>

const char *dns_code_text(enum dns_code code)
{
    switch (code) {
    case DNS_OK:
        return "NOERROR";
    case DNS_NODATA:
        return "NODATA";
    case DNS_NXDOMAIN:
        return "NXDOMAIN";
    case DNS_SERVFAIL:
        return "SERVFAIL";
    case DNS_BOGUS:
        return "BOGUS";
    case DNS_TIMEOUT:
        return "TIMEOUT";
    }
    return "?";
}

// ---- at home ----------------------------------------------------------------------------------

static void free_request(struct dns_request *r)
{
    atomic_fetch_sub(&r->dns->outstanding, 1);
    arena_done(&r->arena);
    free(r);
}

static void run_home(struct sys_task *task)
{
    struct dns_request *r = container_of(task, struct dns_request, task);
    struct dns_query *query = r->query;
    if (query) {
        query->request = NULL;
        sys_timer_stop(&query->deadline);
        query->done(query, &r->answer); // may free the query, or ask again
    }
    free_request(r);
}

static void on_deadline(struct sys_timer *timer)
{
    struct dns_query *query = container_of(timer, struct dns_query, deadline);
    query->request->query = NULL;
    query->request = NULL;
    struct dns_answer answer = {.code = DNS_TIMEOUT};
    snprintf(answer.why, sizeof answer.why, "no answer within the time allowed");
    query->done(query, &answer);
}

static void run_there(struct sys_task *task)
{
    struct dns_request *r = container_of(task, struct dns_request, task);
    r->dns->start(r);
}

void dns_ask(struct dns *dns, struct dns_query *query, struct bytes name, enum dns_type type,
             struct mono deadline)
{
    struct dns_request *r = mem_new(sizeof *r);
    r->home = sys_loop_self();
    r->dns = dns;
    r->query = query;
    r->type = type;
    r->deadline = deadline;
    r->task.run = run_there;
    query->request = r;
    query->deadline = (struct sys_timer){.fire = on_deadline};
    sys_timer_set(&query->deadline, deadline);
    unsigned others = atomic_fetch_add(&dns->outstanding, 1);
    if (!dns_name_is_valid(name)) {
        dns_request_fail(r, DNS_NXDOMAIN, "not a possible name");
    } else if (others >= DNS_OUTSTANDING_MAX) {
        dns_request_fail(r, DNS_SERVFAIL, "too many questions at once");
    } else {
        memcpy(r->name, name.at, name.len);
        sys_post(dns->loop, &r->task);
    }
}

void dns_get_counts(const struct dns *dns, uint64_t *out_answered, uint64_t *out_failed)
{
    struct dns *counted = (struct dns *)(uintptr_t)dns;
    *out_answered = atomic_load_explicit(&counted->answered, memory_order_relaxed);
    *out_failed = atomic_load_explicit(&counted->failed, memory_order_relaxed);
}

void dns_close(struct dns *dns)
{
    dns->close(dns);
}

void dns_cancel(struct dns_query *query)
{
    if (!query->request)
        return;
    query->request->query = NULL;
    query->request = NULL;
    sys_timer_stop(&query->deadline);
}

// ---- there ------------------------------------------------------------------------------------

void dns_request_answer(struct dns_request *r)
{
    bool failed = r->answer.code == DNS_SERVFAIL || r->answer.code == DNS_TIMEOUT;
    atomic_fetch_add_explicit(failed ? &r->dns->failed : &r->dns->answered, 1,
                              memory_order_relaxed);
    r->task.run = run_home;
    sys_post(r->home, &r->task);
}

void dns_request_fail(struct dns_request *r, enum dns_code code, const char *why)
{
    r->answer = (struct dns_answer){.code = code};
    snprintf(r->answer.why, sizeof r->answer.why, "%s", why ? why : "");
    for (char *at = r->answer.why; *at; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
    dns_request_answer(r);
}

void dns_request_add(struct dns_request *r, struct bytes rdata)
{
    struct dns_record record;
    if (dns_rdata_parse(r->type, rdata, &r->arena, &record) != OK) {
        r->answer.had_malformed = true;
        return;
    }
    if (r->answer.count == DNS_RECORDS_MAX)
        return;
    if (!r->answer.records)
        r->answer.records = arena_new(&r->arena, DNS_RECORDS_MAX * sizeof record);
    ((struct dns_record *)(uintptr_t)r->answer.records)[r->answer.count++] = record;
}
