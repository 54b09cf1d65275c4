// SPDX-License-Identifier: MIT
#include "sim_dns.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "sim_internal.h"

struct row {
    const char *name; // borrowed: the test's literals
    struct dns_record record;
};

// The deadline's timer leads back from the query; the request is the world's until it is answered.
struct dns_request {
    struct dns_query *query; // NULL: cancelled
    struct bytes name;
    enum dns_type type;
};

struct dns {
    struct sys_loop *loop;
};

static struct {
    struct row rows[SIM_DNS_RECORDS_MAX];
    uint32_t count;
    struct map moods; // name -> enum sim_dns_mood + 1
    enum sim_dns_mood all;
    uint64_t questions;
} zone;

static void add(const char *name, struct dns_record record)
{
    CHECK(zone.count < SIM_DNS_RECORDS_MAX);
    zone.rows[zone.count++] = (struct row){name, record};
}

void sim_dns_add_mx(const char *domain, uint16_t preference, const char *host)
{
    add(domain,
        (struct dns_record){.type = DNS_MX, .preference = preference, .name = bytes_cstr(host)});
}

void sim_dns_add_address(const char *host, const struct sys_addr *address)
{
    struct dns_record record = {.type = address->kind == SYS_ADDR_IP4 ? DNS_A : DNS_AAAA};
    memcpy(record.ip, address->ip, sizeof record.ip);
    add(host, record);
}

void sim_dns_add_text(const char *name, const char *text)
{
    add(name, (struct dns_record){.type = DNS_TXT, .text = bytes_cstr(text)});
}

void sim_dns_mood(const char *name, enum sim_dns_mood mood)
{
    map_set(&zone.moods, bytes_cstr(name), (void *)(uintptr_t)(mood + 1));
}

void sim_dns_mood_all(enum sim_dns_mood mood)
{
    zone.all = mood;
}

uint64_t sim_dns_questions(void)
{
    return zone.questions;
}

void sim_dns_start(void)
{
    sim_dns_stop();
}

void sim_dns_stop(void)
{
    map_done(&zone.moods);
    memset(&zone, 0, sizeof zone);
}

static enum sim_dns_mood mood_of(struct bytes name)
{
    uintptr_t set = (uintptr_t)map_find(&zone.moods, name);
    enum sim_dns_mood mood = zone.all != SIM_DNS_FINE ? zone.all
                             : set                    ? (enum sim_dns_mood)(set - 1)
                                                      : SIM_DNS_FINE;
    static const enum sim_dns_mood flapping[] = {SIM_DNS_FINE, SIM_DNS_FINE, SIM_DNS_SERVFAIL,
                                                 SIM_DNS_BOGUS, SIM_DNS_SILENT};
    return mood == SIM_DNS_FLAPPING ? flapping[sim_roll(DICE_DNS, COUNT_OF(flapping))] : mood;
}

// ---- answering ---------------------------------------------------------------------------------

// Copies the matching records to `out`; a name with records of other types only is NODATA.
static enum dns_code look_up(const struct dns_request *r, struct dns_record *out, size_t *out_count)
{
    bool exists = false;
    *out_count = 0;
    for (uint32_t i = 0; i < zone.count; i++) {
        if (!bytes_eq_nocase(bytes_cstr(zone.rows[i].name), r->name))
            continue;
        exists = true;
        if (zone.rows[i].record.type == r->type && *out_count < DNS_RECORDS_MAX)
            out[(*out_count)++] = zone.rows[i].record;
    }
    return *out_count ? DNS_OK : exists ? DNS_NODATA : DNS_NXDOMAIN;
}

static void answer(struct dns_request *r, enum sim_dns_mood mood)
{
    struct dns_record records[DNS_RECORDS_MAX];
    struct dns_answer a = {.ttl_s = 60, .records = records};
    if (mood == SIM_DNS_FINE)
        a.code = look_up(r, records, &a.count);
    else
        a.code = mood == SIM_DNS_GONE    ? DNS_NXDOMAIN
                 : mood == SIM_DNS_BOGUS ? DNS_BOGUS
                                         : DNS_SERVFAIL;
    struct dns_query *query = r->query;
    query->request = NULL;
    sys_timer_stop(&query->deadline);
    sim_note("dns answer", a.code, a.count);
    query->done(query, &a);
}

static void request_free(struct dns_request *r)
{
    free((char *)(uintptr_t)r->name.at);
    free(r);
}

static void fire_answer(struct sim_event *event)
{
    struct dns_request *r = event->about;
    if (r->query)
        answer(r, (enum sim_dns_mood)event->code);
    request_free(r);
}

static void out_of_time(struct sys_timer *timer)
{
    struct dns_query *query = container_of(timer, struct dns_query, deadline);
    query->request->query = NULL; // its late answer finds nobody
    query->request = NULL;
    struct dns_answer a = {.code = DNS_TIMEOUT};
    query->done(query, &a);
}

void dns_ask(struct dns *dns, struct dns_query *query, struct bytes name, enum dns_type type,
             struct mono deadline)
{
    CHECK(dns && !query->request);
    if (sim_op_crashes())
        sim_crash_now();
    zone.questions++;
    struct dns_request *r = mem_new(sizeof *r);
    if (bytes_ends(name, BYTES(".")))
        name.len--;
    char *copy = mem_new(name.len + 1);
    if (name.len)
        memcpy(copy, name.at, name.len);
    *r = (struct dns_request){query, bytes_of(copy, name.len), type};
    query->request = r;
    query->deadline.fire = out_of_time;
    sys_timer_set(&query->deadline, deadline);
    enum sim_dns_mood mood = mood_of(r->name);
    int64_t delay =
        mood == SIM_DNS_SILENT ? INT64_C(3600000000) : sim_between(DICE_DNS, 100, 30000);
    struct sim_event *event =
        sim_event_add(sys_loop_self(), sim_turn_us() + delay, fire_answer, r, BYTES_NONE);
    event->code = (int)mood;
}

void dns_cancel(struct dns_query *query)
{
    if (!query->request)
        return;
    query->request->query = NULL;
    query->request = NULL;
    sys_timer_stop(&query->deadline);
}

int dns_open(const struct dns_conf *conf, struct sys_loop *loop, struct dns **out)
{
    *out = mem_new(sizeof **out);
    (*out)->loop = loop;
    return OK;
}

void dns_close(struct dns *dns)
{
    free(dns);
}
