// SPDX-License-Identifier: MIT
#include "dns/dns_test_backend.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/check.h"
#include "dns/dns_request.h"

struct waiting {
    struct list link;
    struct sys_timer timer;
    struct dns_request *request;
};

struct dns_test {
    struct dns dns;
    const struct dns_test_rule *rules;
    size_t count;
    unsigned asked;
    struct list waiting;
};

static void add_name(struct buf *out, const char *name)
{
    struct bytes rest = bytes_cstr(name), label;
    while (strcmp(name, ".") != 0 && bytes_cut(&rest, '.', &label)) {
        buf_add_byte(out, (char)label.len);
        buf_add(out, label);
    }
    buf_add_byte(out, '\0');
}

static void add_record(struct dns_request *r, const char *text)
{
    struct buf rdata = {0};
    struct sys_addr addr;
    char *name;
    unsigned long preference = strtoul(text, &name, 10);
    if (r->type == DNS_MX && *name == ' ') {
        buf_add_byte(&rdata, (char)(preference >> 8));
        buf_add_byte(&rdata, (char)preference);
        add_name(&rdata, name + 1);
    } else if (sys_addr_parse_ip(bytes_cstr(text), 0, &addr) == OK) {
        buf_add(&rdata, bytes_of(addr.ip, addr.kind == SYS_ADDR_IP6 ? 16 : 4));
    }
    dns_request_add(r, buf_bytes(&rdata)); // anything else is malformed
    buf_done(&rdata);
}

static const struct dns_test_rule *find_rule(const struct dns_test *t, const struct dns_request *r,
                                             bool *out_name)
{
    *out_name = false;
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(t->rules[i].name, r->name) != 0)
            continue;
        *out_name = true;
        if (t->rules[i].type == r->type)
            return &t->rules[i];
    }
    return NULL;
}

static void answer_many(struct dns_request *r)
{
    r->answer.code = DNS_OK;
    for (int i = DNS_TEST_MANY_COUNT; i-- > 0;) {
        char text[64];
        snprintf(text, sizeof text, "%d m%d.many.example", 10 + i / 2, i);
        add_record(r, text);
    }
    dns_request_answer(r);
}

static void answer_now(struct dns_test *t, struct dns_request *r)
{
    bool has_name;
    const struct dns_test_rule *rule = find_rule(t, r, &has_name);
    if (strcmp(r->name, DNS_TEST_MANY) == 0 && r->type == DNS_MX) {
        answer_many(r);
        return;
    }
    if (strstr(r->name, ".many.example") && r->type != DNS_MX) {
        r->answer.code = DNS_OK;
        for (int i = 0; i < 20; i++)
            add_record(r, r->type == DNS_A ? "192.0.2.1" : "2001:db8::1");
        dns_request_answer(r);
        return;
    }
    has_name = has_name || strstr(r->name, ".many.example");
    r->answer.code = rule ? rule->code : has_name ? DNS_NODATA : DNS_NXDOMAIN;
    r->answer.ttl_s = rule ? rule->ttl_s : 300; // as a denial has it from its SOA record
    for (int i = 0; rule && i < DNS_TEST_RECORDS && rule->records[i]; i++)
        add_record(r, rule->records[i]);
    dns_request_answer(r);
}

static void on_timer(struct sys_timer *timer)
{
    struct waiting *w = container_of(timer, struct waiting, timer);
    list_remove(&w->link);
    answer_now(container_of(w->request->dns, struct dns_test, dns), w->request);
    free(w);
}

static void start(struct dns_request *r)
{
    struct dns_test *t = container_of(r->dns, struct dns_test, dns);
    t->asked++;
    bool has_name;
    const struct dns_test_rule *rule = find_rule(t, r, &has_name);
    bool is_mute = bytes_ends(bytes_cstr(r->name), BYTES("." DNS_TEST_MUTE));
    if (!is_mute && (!rule || rule->delay_ms == 0)) {
        answer_now(t, r);
        return;
    }
    struct waiting *w = mem_new(sizeof *w);
    w->request = r;
    w->timer.fire = on_timer;
    list_push_back(&t->waiting, &w->link);
    if (!is_mute && rule->delay_ms != DNS_TEST_SILENT)
        sys_timer_set(&w->timer, mono_add_ms(sys_mono(), rule->delay_ms));
}

struct dns *dns_test_new(struct sys_loop *loop, const struct dns_test_rule *rules, size_t count)
{
    struct dns_test *t = mem_new(sizeof *t);
    t->dns.loop = loop;
    t->dns.start = start;
    t->rules = rules;
    t->count = count;
    list_init(&t->waiting);
    return &t->dns;
}

unsigned dns_test_asked(const struct dns *dns)
{
    return container_of(dns, const struct dns_test, dns)->asked;
}

void dns_test_free(struct dns *dns)
{
    struct dns_test *t = container_of(dns, struct dns_test, dns);
    for (struct list *link; (link = list_pop_front(&t->waiting)) != NULL;) {
        struct waiting *w = list_get(link, struct waiting, link);
        arena_done(&w->request->arena);
        free(w->request);
        free(w);
    }
    free(t);
}
