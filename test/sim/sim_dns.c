// SPDX-License-Identifier: MIT
#include "sim_dns.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "dns/dns_request.h"
#include "sim_internal.h"

struct row {
    const char *name; // borrowed: the test's literals
    struct dns_record record;
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

#define TEXT_PART 255 // octets of a character-string, RFC 1035 3.3

static void add_name(struct buf *out, struct bytes name)
{
    struct bytes label;
    while (name.len && bytes_cut(&name, '.', &label)) {
        buf_add_byte(out, (char)label.len);
        buf_add(out, label);
    }
    buf_add_byte(out, '\0');
}

static void add_text(struct buf *out, struct bytes text)
{
    do {
        struct bytes part = bytes_first(text, TEXT_PART);
        buf_add_byte(out, (char)part.len);
        buf_add(out, part);
        text = bytes_skip(text, part.len);
    } while (text.len);
}

// As it stands in a DNS message (RFC 1035 3.3, RFC 3596).
static void add_wire(struct dns_request *r, const struct dns_record *record)
{
    struct buf wire = {0};
    switch (record->type) {
    case DNS_A:
    case DNS_AAAA:
        buf_add(&wire, bytes_of(record->ip, record->type == DNS_A ? 4 : 16));
        break;
    case DNS_MX:
        buf_add_byte(&wire, (char)(record->preference >> 8));
        buf_add_byte(&wire, (char)record->preference);
        add_name(&wire, record->name);
        break;
    default:
        add_text(&wire, record->text);
    }
    dns_request_add(r, buf_bytes(&wire));
    buf_done(&wire);
}

// A name with records of other types only is NODATA.
static void look_up(struct dns_request *r)
{
    bool exists = false, found = false;
    r->answer.ttl_s = 60;
    for (uint32_t i = 0; i < zone.count; i++) {
        if (!bytes_eq_nocase(bytes_cstr(zone.rows[i].name), bytes_cstr(r->name)))
            continue;
        exists = true;
        if (zone.rows[i].record.type != r->type)
            continue;
        found = true;
        add_wire(r, &zone.rows[i].record);
    }
    r->answer.code = found ? DNS_OK : exists ? DNS_NODATA : DNS_NXDOMAIN;
    dns_request_answer(r);
}

static void fire_answer(struct sim_event *event)
{
    struct dns_request *r = event->about;
    sim_note("dns answer", (uint64_t)event->code, r->type);
    switch ((enum sim_dns_mood)event->code) {
    case SIM_DNS_FINE:
        look_up(r);
        break;
    case SIM_DNS_GONE:
        dns_request_fail(r, DNS_NXDOMAIN, "gone");
        break;
    case SIM_DNS_BOGUS:
        dns_request_fail(r, DNS_BOGUS, "bogus");
        break;
    default:
        dns_request_fail(r, DNS_SERVFAIL, "the servers fail");
    }
}

static void start(struct dns_request *r)
{
    if (sim_op_crashes())
        sim_crash_now();
    zone.questions++;
    enum sim_dns_mood mood = mood_of(bytes_cstr(r->name));
    int64_t delay = mood == SIM_DNS_SILENT ? INT64_C(120000000) : sim_between(DICE_DNS, 100, 30000);
    struct sim_event *event =
        sim_event_add(sys_loop_self(), sim_turn_us() + delay, fire_answer, r, BYTES_NONE);
    event->code = (int)mood;
}

static void close_dns(struct dns *dns)
{
    free(dns);
}

int dns_open(const struct dns_conf *conf, struct sys_loop *loop, struct dns **out)
{
    *out = mem_new(sizeof **out);
    (*out)->loop = loop;
    (*out)->start = start;
    (*out)->close = close_dns;
    return OK;
}
