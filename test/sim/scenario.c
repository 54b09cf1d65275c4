// SPDX-License-Identifier: MIT
#include "scenario.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "client.h"
#include "peers.h"
#include "relay_host.h"
#include "sim_dns.h"

#define LINE_MAX_BYTES 1024
#define SEGMENT_BYTES ((uint64_t)1 << 20)
#define CLIENTS 4
#define SEND_MAX_MS ((int64_t)3600 * 1000)
#define DOMAINS_MAX 8

static const char base_config[] = "hostname: relay.test\nspool: /spool\nstate: /state\n"
                                  "listeners:\n"
                                  "  - {name: in, address: \"192.0.2.10:25\", tls: none, auth: "
                                  "optional, trusted: [10.0.0.0/8]}\n";

struct sending {
    struct sys_task task;
    struct client_plan plan;
    char domains[DOMAINS_MAX][64];
    uint32_t domain_count, clients, next;
    bool started;
    enum client_manner manner;
    size_t size;
    struct bytes recipients[DOMAINS_MAX];
    char addresses[DOMAINS_MAX][128];
};

static struct {
    const char *file;
    unsigned line;
    bool failed, started;
    char law[32];
    struct buf config;
    uint32_t peers;
    struct sim_host *relay, *clients;
    uint32_t crashes;
    uint64_t asked_turns;
} script;

static bool wrong(const char *what, struct bytes about)
{
    printf("# %s:%u: %s %.*s\n", script.file, script.line, what, BYTES_FMT(about));
    script.failed = true;
    return false;
}

static struct bytes take_word(struct bytes *line)
{
    *line = bytes_trim(*line);
    size_t n = 0;
    while (n < line->len && line->at[n] != ' ')
        n++;
    struct bytes word = bytes_first(*line, n);
    *line = bytes_trim(bytes_skip(*line, n));
    return word;
}

static bool take_number(struct bytes *line, uint64_t *out)
{
    struct bytes word = take_word(line);
    return bytes_to_u64(word, UINT32_MAX, out) == OK || wrong("not a number:", word);
}

static bool take_time(struct bytes *line, int64_t *out_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    struct bytes word = take_word(line);
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        struct bytes unit = bytes_cstr(units[i].unit);
        uint64_t n;
        if (bytes_ends(word, unit) &&
            bytes_to_u64(bytes_first(word, word.len - unit.len), UINT32_MAX, &n) == OK) {
            *out_ms = (int64_t)n * units[i].ms;
            return true;
        }
    }
    return wrong("not a time:", word);
}

static struct peer *take_peer(struct bytes *line)
{
    struct bytes word = take_word(line);
    struct peer *p = peer_find(word);
    if (!p)
        wrong("no such receiver:", word);
    return p;
}

// The index of the word in a row of names, or -1.
static int choose(struct bytes word, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes_eq(word, bytes_cstr(names[i])))
            return (int)i;
    wrong("what is", word);
    return -1;
}

// ---- the world -----------------------------------------------------------------------------------

static bool start_relay(void)
{
    if (!relay_host_start())
        return false;
    script.crashes = sim_host_crashes(script.relay);
    return true;
}

static void begin(void)
{
    if (script.started)
        return;
    script.started = true;
    script.relay = relay_host_new(
        &(struct relay_setup){.config = buf_cstr(&script.config), .segment_bytes = SEGMENT_BYTES});
    script.clients = sim_host_new("clients", NULL);
    peers_start(script.relay, script.peers);
    start_relay();
    book_watch_disk(sim_disk_find(RELAY_SPOOL));
    sim_run_ms(100);
}

// A crash that was planned has happened.
static void look(void)
{
    if (!sim_host_is_down(script.relay) || sim_host_crashes(script.relay) == script.crashes)
        return;
    script.crashes = sim_host_crashes(script.relay);
    book_crashed();
}

static bool never(void *ctx)
{
    look();
    return false;
}

static bool settled(void *ctx)
{
    struct queue_counts counts;
    look();
    if (sim_turns() < script.asked_turns + 50 || !relay_host_is_up())
        return false; // asked now and then only: it looks at every message
    script.asked_turns = sim_turns();
    queue_count(relay_host_queue(), &counts);
    return counts.messages == 0 && book_is_settled(NULL);
}

static bool sent(void *ctx)
{
    const struct sending *s = ctx;
    look();
    return s->started && clients_alive() == 0;
}

// ---- sending -------------------------------------------------------------------------------------

static void next_message(void *ctx, struct client_message *m)
{
    struct sending *s = ctx;
    for (uint32_t i = 0; i < s->domain_count; i++) {
        snprintf(s->addresses[i], sizeof s->addresses[i], "u%u@%s", s->next, s->domains[i]);
        s->recipients[i] = bytes_cstr(s->addresses[i]);
    }
    s->next++;
    *m = (struct client_message){.manner = s->manner,
                                 .sender = BYTES("shop@sender.test"),
                                 .recipients = s->recipients,
                                 .recipients_count = s->domain_count,
                                 .parameters = "",
                                 .notify = "",
                                 .size = s->size};
}

static void run_sending(struct sys_task *task)
{
    struct sending *s = container_of(task, struct sending, task);
    s->started = true;
    for (uint32_t i = 0; i < s->clients; i++)
        client_start(&s->plan);
}

static void boot_sending(void *ctx)
{
    struct sending *s = ctx;
    sys_post(sys_loop_start("clients"), &s->task);
}

static bool take_domains(struct bytes list, struct sending *s)
{
    struct bytes domain;
    while (bytes_cut(&list, ',', &domain)) {
        if (s->domain_count == DOMAINS_MAX)
            return wrong("too many domains:", domain);
        snprintf(s->domains[s->domain_count++], sizeof s->domains[0], "%.*s", BYTES_FMT(domain));
    }
    return s->domain_count > 0;
}

static bool take_options(struct bytes line, struct sending *s)
{
    static const char *const manners[] = {"plain",  "pipelined", "chunked",
                                          "breaks", "stalls",    "smuggles"};
    while (line.len) {
        struct bytes word = take_word(&line);
        uint64_t size;
        if (bytes_eq(word, BYTES("size")) && take_number(&line, &size)) {
            s->size = size;
        } else if (bytes_eq(word, BYTES("by"))) {
            int manner = choose(take_word(&line), manners, COUNT_OF(manners));
            if (manner < 0)
                return false;
            s->manner = (enum client_manner)manner;
        } else {
            return wrong("size or by, not", word);
        }
    }
    return true;
}

static bool do_send(struct bytes line)
{
    uint64_t count;
    struct sending *s = mem_new(sizeof *s); // the world's until its end
    s->size = 500;
    s->task.run = run_sending;
    if (!take_number(&line, &count) || !bytes_eq(take_word(&line), BYTES("to")) ||
        !take_domains(take_word(&line), s) || !take_options(line, s))
        return wrong("send N to DOMAIN", BYTES_NONE);
    s->clients = count % CLIENTS == 0 && count >= 100 ? CLIENTS : 1;
    s->plan = (struct client_plan){.relay = *relay_host_address(),
                                   .messages = (uint32_t)count / s->clients,
                                   .messages_per_connection = 100,
                                   .next = next_message,
                                   .ctx = s};
    if (!sim_host_call(script.clients, boot_sending, s))
        return wrong("the clients crashed", BYTES_NONE);
    return sim_run_until(sent, s, SEND_MAX_MS) || wrong("not all could be sent", BYTES_NONE);
}

// ---- the other commands --------------------------------------------------------------------------

static bool do_conf(struct bytes line)
{
    buf_add(&script.config, line);
    buf_add_byte(&script.config, '\n');
    return !script.started || wrong("conf stands before all else", BYTES_NONE);
}

static bool do_law(struct bytes line)
{
    snprintf(script.law, sizeof script.law, "%.*s", BYTES_FMT(line));
    return true;
}

static bool do_peers(struct bytes line)
{
    uint64_t n;
    if (!take_number(&line, &n) || n < 2 || n > PEERS_MAX || script.started)
        return wrong("peers N, from 2 to 16, before all else", BYTES_NONE);
    script.peers = (uint32_t)n;
    return true;
}

static bool do_rules(struct bytes line)
{
    struct peer *p = take_peer(&line);
    struct buf rule = {0};
    buf_add(&rule, line);
    if (p)
        peer_set_rules(p, buf_cstr(&rule));
    buf_done(&rule);
    return p != NULL;
}

static bool do_path(struct bytes line)
{
    static const char *const names[] = {"ok", "refused", "unreachable", "blackhole", "slow"};
    static const struct sim_path paths[] = {{0},
                                            {.refused = true},
                                            {.unreachable = true},
                                            {.blackhole = true},
                                            {.bytes_per_second = 3000}};
    struct peer *p = take_peer(&line);
    int which = choose(take_word(&line), names, COUNT_OF(names));
    if (p && which >= 0)
        peer_set_path(p, &paths[which]);
    return p && which >= 0;
}

static bool do_dns(struct bytes line)
{
    static const char *const names[] = {"fine", "gone", "servfail", "bogus", "silent", "flapping"};
    struct bytes name = take_word(&line);
    struct buf text = {0};
    int mood = choose(take_word(&line), names, COUNT_OF(names));
    buf_add(&text, name);
    if (mood >= 0)
        sim_dns_mood(buf_cstr(&text), (enum sim_dns_mood)mood);
    buf_done(&text);
    return mood >= 0;
}

static bool do_run(struct bytes line)
{
    int64_t ms;
    if (!take_time(&line, &ms))
        return false;
    sim_run_until(never, NULL, ms);
    return true;
}

static bool do_settle(struct bytes line)
{
    int64_t ms;
    if (!take_time(&line, &ms))
        return false;
    if (sim_run_until(settled, NULL, ms))
        return true;
    book_check_end();
    return wrong("not all is delivered or reported", BYTES_NONE);
}

static bool do_crash(struct bytes line)
{
    static const char *const kinds[] = {"kill", "power"};
    int kind = choose(take_word(&line), kinds, COUNT_OF(kinds));
    uint64_t n;
    if (kind < 0)
        return false;
    if (!line.len) {
        sim_host_crash(script.relay, (enum sim_crash_kind)kind);
        look();
        return true;
    }
    if (!bytes_eq(take_word(&line), BYTES("at")) || !take_number(&line, &n))
        return wrong("crash kill|power at N", BYTES_NONE);
    sim_host_crash_at(script.relay, (enum sim_crash_kind)kind, n);
    return true;
}

static bool do_stop(struct bytes line)
{
    if (!relay_host_stop(SEND_MAX_MS))
        return wrong("the relay does not stop", BYTES_NONE);
    script.crashes = sim_host_crashes(script.relay);
    return true;
}

static bool do_start(struct bytes line)
{
    if (relay_host_is_up())
        return wrong("the relay runs", BYTES_NONE);
    if (!start_relay())
        look();
    sim_run_until(never, NULL, 100);
    return true;
}

static bool do_disk(struct bytes line)
{
    static const char *const ops[] = {"open",     "read",   "write",  "sync", "sync_dir",
                                      "truncate", "rename", "unlink", "mkdir"};
    static const char *const errors[] = {"full", "io"};
    uint64_t n, times = 1;
    int op = choose(take_word(&line), ops, COUNT_OF(ops));
    if (op < 0 || !take_number(&line, &n))
        return false;
    if (line.len && ascii_is_digit(line.at[0]) && !take_number(&line, &times))
        return false;
    int err = choose(take_word(&line), errors, COUNT_OF(errors));
    if (err < 0)
        return false;
    sim_disk_fail(sim_disk_find(RELAY_SPOOL), (enum sim_disk_op)op, n, times, err ? E_IO : E_FULL);
    book_trouble();
    return true;
}

static bool do_clock(struct bytes line)
{
    bool back = bytes_starts(line, BYTES("-"));
    int64_t ms;
    line = bytes_skip(line, back);
    if (!take_time(&line, &ms))
        return false;
    sim_wall_jump_ms(back ? -ms : ms);
    return true;
}

static bool value_of(struct bytes what, struct bytes *line, uint64_t *out)
{
    static const char *const names[] = {"sent",   "accepted", "refused", "broken", "taken",
                                        "failed", "delayed",  "missing", "queued", "attempts"};
    struct book_counts c;
    struct queue_counts q = {0};
    book_count(&c);
    if (relay_host_is_up())
        queue_count(relay_host_queue(), &q);
    int which = choose(what, names, COUNT_OF(names));
    if (which == 9) {
        struct peer *p = take_peer(line);
        *out = p ? sim_attempts_to(&p->address) : 0;
        return p != NULL;
    }
    const uint64_t values[] = {c.sent,   c.accepted, c.refused, c.unknown, c.taken,
                               c.failed, c.delayed,  c.missing, q.messages};
    if (which >= 0)
        *out = values[which];
    return which >= 0;
}

static bool do_expect(struct bytes line)
{
    static const char *const ops[] = {"=", "<=", ">=", "<", ">"};
    struct bytes what = take_word(&line);
    uint64_t value, wanted;
    if (!value_of(what, &line, &value))
        return false;
    int op = choose(take_word(&line), ops, COUNT_OF(ops));
    if (op < 0 || !take_number(&line, &wanted))
        return false;
    const bool holds[] = {value == wanted, value <= wanted, value >= wanted,
                          value<wanted, value> wanted};
    if (holds[op])
        return true;
    printf("# %s:%u: %.*s is %llu, not %s %llu\n", script.file, script.line, BYTES_FMT(what),
           (unsigned long long)value, ops[op], (unsigned long long)wanted);
    script.failed = true;
    return false;
}

static const struct command {
    const char *name;
    bool (*run)(struct bytes line);
    bool before; // stands before the world begins
} commands[] = {
    {"law", do_law, true},      {"conf", do_conf, true},    {"peers", do_peers, true},
    {"rules", do_rules, false}, {"path", do_path, false},   {"dns", do_dns, false},
    {"send", do_send, false},   {"run", do_run, false},     {"settle", do_settle, false},
    {"crash", do_crash, false}, {"stop", do_stop, false},   {"start", do_start, false},
    {"disk", do_disk, false},   {"clock", do_clock, false}, {"expect", do_expect, false},
};

static bool run_line(struct bytes line)
{
    line = bytes_trim(line);
    if (!line.len || line.at[0] == '#')
        return true;
    struct bytes name = take_word(&line);
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (!bytes_eq(name, bytes_cstr(commands[i].name)))
            continue;
        if (!commands[i].before)
            begin();
        return commands[i].run(line);
    }
    return wrong("no such command:", name);
}

static bool run_file(FILE *file)
{
    char line[LINE_MAX_BYTES];
    while (fgets(line, sizeof line, file)) {
        script.line++;
        if (!run_line(bytes_cstr(line)))
            return false;
        if (book_violations())
            return wrong("a law is broken here", BYTES_NONE);
    }
    return true;
}

const char *scenario_law(void)
{
    return script.law[0] ? script.law : "SCENARIO";
}

bool scenario_run(const char *path, uint64_t seed)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        printf("# %s: cannot be read\n", path);
        return false;
    }
    memset(&script, 0, sizeof script);
    script.file = path;
    script.peers = 4;
    buf_add_cstr(&script.config, base_config);
    sim_start(seed);
    sim_dns_start();
    book_open();
    clients_reset();
    bool ok = run_file(file);
    fclose(file);
    book_close();
    sim_stop();
    sim_dns_stop();
    buf_done(&script.config);
    return ok && !script.failed;
}
