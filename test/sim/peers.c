// SPDX-License-Identifier: MIT
#include "peers.h"

#include <stdio.h>

#include "base/check.h"
#include "cli/sink_server.h"
#include "sim_dns.h"

#define BODY_KEPT 65536

static struct {
    struct peer at[PEERS_MAX];
    uint32_t count;
    struct sim_host *relay;
} peers;

struct start {
    struct peer *peer;
    struct sys_task task;
    int fd;
};

// ---- what they take
// ------------------------------------------------------------------------------

static void check_rate(struct peer *p)
{
    int64_t now = sim_now_us();
    if (now - p->second_us >= 1000000) {
        p->second_us = now;
        p->in_second = 0;
    }
    // Two of the relay's seconds may meet in one of ours.
    if (++p->in_second > 2 * p->limits.messages_per_second + 1)
        book_violation("LANE", "%s got %u messages within a second, the limit is %u", p->domain,
                       p->in_second, p->limits.messages_per_second);
}

static void on_message(void *ctx, const struct sink_message *m)
{
    struct peer *p = ctx;
    const struct peer_limits *l = &p->limits;
    if (l->messages_per_connection && m->number > l->messages_per_connection)
        book_violation("LANE", "%s got %u messages over one connection, the limit is %u", p->domain,
                       m->number, l->messages_per_connection);
    if (l->recipients_per_transaction && m->recipients_count > l->recipients_per_transaction)
        book_violation("LANE", "%s got %zu recipients in one transaction, the limit is %u",
                       p->domain, m->recipients_count, l->recipients_per_transaction);
    if (l->messages_per_second)
        check_rate(p);
    for (size_t i = 0; i < m->recipients_count; i++) {
        ptrdiff_t at = bytes_find_last(m->recipients[i], '@');
        if (!bytes_eq_nocase(bytes_skip(m->recipients[i], (size_t)at + 1), bytes_cstr(p->domain)))
            book_violation("GHOST", "%s got mail for %.*s", p->domain, BYTES_FMT(m->recipients[i]));
    }
    book_taken(m);
}

void peers_check_lanes(void)
{
    for (uint32_t i = 0; i < peers.count; i++) {
        struct peer *p = &peers.at[i];
        uint32_t open = p->limits.connections ? sim_streams_to(peers.relay, &p->address) : 0;
        if (open > p->limits.connections)
            book_violation("LANE", "%u connections to %s, the limit is %u", open, p->domain,
                           p->limits.connections);
    }
}

// ---- start
// ---------------------------------------------------------------------------------------

static void run_start(struct sys_task *task)
{
    struct start *start = container_of(task, struct start, task);
    struct peer *p = start->peer;
    struct sink_server_config config = {.smtp = {.hostname = bytes_cstr(p->host_name),
                                                 .hash = true,
                                                 .without = p->without,
                                                 .keep_body_max = BODY_KEPT,
                                                 .on_message = on_message,
                                                 .ctx = p}};
    p->server = sink_server_new(&config);
    sink_server_listen(p->server, start->fd);
}

static void boot_peer(void *ctx)
{
    struct peer *p = ctx;
    struct start *start = mem_new(sizeof *start);
    start->peer = p;
    start->fd = sim_listen(&p->address);
    start->task.run = run_start;
    sys_post(sys_loop_start(p->domain), &start->task);
}

static void name_peer(struct peer *p, uint32_t number)
{
    static const char *const fixed[] = {"good.test", "sender.test"};
    if (number < COUNT_OF(fixed))
        snprintf(p->domain, sizeof p->domain, "%s", fixed[number]);
    else
        snprintf(p->domain, sizeof p->domain, "p%u.test", number - (uint32_t)COUNT_OF(fixed) + 1);
    snprintf(p->host_name, sizeof p->host_name, "mx.%s", p->domain);
    p->address = (struct sys_addr){
        .kind = SYS_ADDR_IP4, .port = 25, .ip = {198, 51, 100, (uint8_t)(number + 1)}};
    sim_dns_add_mx(p->domain, 10, p->host_name);
    sim_dns_add_address(p->host_name, &p->address);
}

void peers_start(struct sim_host *relay, uint32_t count)
{
    CHECK(count <= PEERS_MAX);
    memset(&peers, 0, sizeof peers);
    peers.relay = relay;
    peers.count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct peer *p = &peers.at[i];
        name_peer(p, i);
        if (i == 3)
            p->without = SINK_NO_PIPELINING | SINK_NO_CHUNKING | SINK_NO_DSN;
        p->host = sim_host_new(p->domain, &p->address);
        CHECK(sim_host_call(p->host, boot_peer, p));
    }
}

struct peer *peer_at(uint32_t number)
{
    CHECK(number < peers.count);
    return &peers.at[number];
}

struct peer *peer_find(struct bytes domain)
{
    for (uint32_t i = 0; i < peers.count; i++)
        if (bytes_eq(bytes_cstr(peers.at[i].domain), domain))
            return &peers.at[i];
    return NULL;
}

uint32_t peers_count(void)
{
    return peers.count;
}

// ---- faults
// --------------------------------------------------------------------------------------

void peer_set_rules(struct peer *p, const char *rules)
{
    struct sink_rules *parsed;
    struct buf errors = {0};
    int err = sink_rules_parse(bytes_cstr(rules), "rules", &parsed, &errors);
    if (err)
        fputs(buf_cstr(&errors), stderr);
    CHECK(!err && p->server);
    sink_server_set_rules(p->server, parsed); // those before stay with their sessions
}

void peer_set_path(struct peer *p, const struct sim_path *path)
{
    sim_path_set(&p->address, path);
}

const char *peer_misbehave(struct peer *p)
{
    static const char *const rules[] = {
        "* rcpt first 1 defer 451 4.7.1 greylisted",
        "* final 30% defer 452 4.3.1 full",
        "* final 20% refuse 554 5.6.0 no thanks",
        "* rcpt 15% refuse 550 5.1.1 unknown",
        "* content 20% drop 700",
        "* content 10% drop",
        "* final 10% lose",
        "* final 3% hang",
        "* final 20% drop",
        "* rcpt 3% hang",
        "* connect 20% hang",
        "* connect 30% defer 421 4.3.2 busy",
        "* mail 20% defer 421 4.7.0 later",
        "* rcpt 10% defer 421 4.7.0 enough",
        "* final 10% defer 421 4.7.0 going down",
        "* data 10% refuse 554 5.7.1 not so",
        "* final delay 3000",
        "* connect delay 5000",
        "* helo 30% drop",
        "* mail rate 2 defer 451 4.7.1 slow down",
        "* rcpt 20% refuse 550 5.7.1 first line\\nsecond line\\nthird line",
    };
    static const struct {
        const char *name;
        struct sim_path path;
    } paths[] = {{"connections refused", {.refused = true}},
                 {"unreachable", {.unreachable = true}},
                 {"a black hole", {.blackhole = true}},
                 {"slow: 3000 bytes a second", {.bytes_per_second = 3000}},
                 {"far: 0.3 s away", {.latency_us_min = 200000, .latency_us_max = 400000}}};
    uint64_t roll = sim_roll(DICE_TEST, COUNT_OF(rules) + COUNT_OF(paths));
    if (roll < COUNT_OF(rules)) {
        peer_set_rules(p, rules[roll]);
        return rules[roll];
    }
    peer_set_path(p, &paths[roll - COUNT_OF(rules)].path);
    return paths[roll - COUNT_OF(rules)].name;
}

void peers_calm(void)
{
    for (uint32_t i = 0; i < peers.count; i++) {
        peer_set_path(&peers.at[i], &(struct sim_path){0});
        peer_set_rules(&peers.at[i], "");
        sim_dns_mood(peers.at[i].domain, SIM_DNS_FINE);
        sim_dns_mood(peers.at[i].host_name, SIM_DNS_FINE);
    }
    sim_dns_mood_all(SIM_DNS_FINE);
}
