// SPDX-License-Identifier: MIT
//
// run - how it works: what is to happen when is thrown before the start; then the world runs turn by turn, and
// between turns the plan is looked at. When the clients are done, all faults end, and everything accepted must
// come out. At last the machine loses its power while nothing is under way: nothing may come a second time.
#include "run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "client.h"
#include "peers.h"
#include "relay_host.h"
#include "sim_dns.h"
#include "spool/journal.h"

#define CLIENTS 6
#define PEERS 7
#define SECOND_US INT64_C(1000000)
#define BUSY_S 900 // the time in which clients send and faults strike
#define SETTLE_MS ((int64_t)5 * 3600 * 1000)
#define QUIET_MS ((int64_t)20 * 60 * 1000)
#define PLAN_MAX 34 // the last two for a jump and its crash
#define LIFETIME_MS ((int64_t)12 * 3600 * 1000)
#define WALL_JUMP_MS ((int64_t)2 * 86400 * 1000)

static const char config[] =
    "hostname: relay.test\n"
    "spool: /spool\n"
    "state: /state\n"
    "listeners:\n"
    "  - {name: in, address: \"192.0.2.10:25\", tls: none, auth: optional, trusted: [10.0.0.0/8]}\n"
    "retry: {first: 20s, factor: 2, max: 3m, lifetime: 12h, warn_after: 30m}\n"
    "limits: {sessions_per_address: 1000}\n"
    "lanes:\n"
    "  - {match: [p1.test], connections: 1, messages_per_connection: 5}\n"
    "  - {match: [p2.test], connections: 2, recipients_per_transaction: 2}\n"
    "  - {match: [p3.test], connections: 3, messages_per_second: 4}\n"
    "  - {match: [\"*\"], connections: 4}\n";

enum deed {
    DEED_CRASH,
    DEED_DISK_FAULT,
    DEED_PEER_FAULT,
    DEED_PEER_CALM,
    DEED_DNS,
    DEED_WALL_JUMP,
    DEED_RESTART,
    DEED_ROT,
};

struct planned {
    int64_t at_us;
    enum deed deed;
};

static struct {
    struct planned plan[PLAN_MAX];
    uint32_t planned, done;
    struct sim_host *relay, *clients;
    struct run_facts *facts;
    uint32_t crashes_seen;
    bool clock_is_new; // a jump that a crash could still make forgotten
    bool fault_wanted; // a crash undoes what was planned for the disk
    bool rot_wanted;   // at the next start
    uint64_t struck_seen, connected_seen, asked_turns;
    int64_t restart_at_us; // the relay is down until then
    char addresses[64][40];
    struct bytes recipients[BOOK_RECIPIENTS_MAX];
    struct sys_task start_clients;
} run;

// ---- what clients send ---------------------------------------------------------------------------

static struct bytes some_recipient(uint32_t i, const char *domain)
{
    snprintf(run.addresses[i], sizeof run.addresses[i], "r%u.%llu@%s", i,
             (unsigned long long)sim_roll(DICE_TEST, 1000), domain);
    return bytes_cstr(run.addresses[i]);
}

static enum client_manner some_manner(void)
{
    uint64_t roll = sim_roll(DICE_TEST, 100);
    return roll < 45   ? CLIENT_PLAIN
           : roll < 75 ? CLIENT_PIPELINED
           : roll < 90 ? CLIENT_CHUNKED
           : roll < 93 ? CLIENT_BREAKS
           : roll < 94 ? CLIENT_STALLS
                       : CLIENT_SMUGGLES;
}

static void next_message(void *ctx, struct client_message *m)
{
    static char sender[64];
    *m = (struct client_message){.manner = some_manner(), .parameters = "", .notify = ""};
    uint32_t count = 1 + (sim_chance(DICE_TEST, 1, 5) ? (uint32_t)sim_roll(DICE_TEST, 6) : 0);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t peer = sim_roll(DICE_TEST, PEERS);
        run.recipients[i] = some_recipient(i, peer_at(peer == 1 ? 0 : (uint32_t)peer)->domain);
    }
    if (sim_chance(DICE_TEST, 1, 60))
        run.recipients[0] = some_recipient(0, "nowhere.test");
    snprintf(sender, sizeof sender, "s%llu@sender.test",
             (unsigned long long)sim_roll(DICE_TEST, 100));
    m->sender = bytes_cstr(sender);
    m->recipients = run.recipients;
    m->recipients_count = count;
    m->size = sim_chance(DICE_TEST, 1, 40) ? 300000 + sim_roll(DICE_TEST, 100000)
                                           : sim_roll(DICE_TEST, 3000);
    m->eight_bit = sim_chance(DICE_TEST, 1, 4);
}

static int64_t pause_ms(void *ctx)
{
    return sim_chance(DICE_TEST, 1, 3)
               ? 0
               : (int64_t)sim_roll(DICE_TEST, 2 * 1000 * BUSY_S / (RUN_MESSAGES / CLIENTS));
}

static void start_clients(struct sys_task *task)
{
    struct client_plan plan = {.relay = *relay_host_address(),
                               .messages = RUN_MESSAGES / CLIENTS,
                               .messages_per_connection = 8,
                               .next = next_message,
                               .pause_ms = pause_ms};
    for (int i = 0; i < CLIENTS; i++)
        client_start(&plan);
}

static void boot_clients(void *ctx)
{
    run.start_clients.run = start_clients;
    sys_post(sys_loop_start("clients"), &run.start_clients);
}

// ---- the plan ------------------------------------------------------------------------------------

static void insert_deed(enum deed deed, int64_t at_us)
{
    uint32_t i = run.planned++;
    for (; i > 0 && run.plan[i - 1].at_us > at_us; i--)
        run.plan[i] = run.plan[i - 1];
    run.plan[i].at_us = at_us;
    run.plan[i].deed = deed;
}

static void plan_deed(enum deed deed, uint32_t count)
{
    while (count-- && run.planned < PLAN_MAX - 2) {
        int64_t at = sim_now_us() + (5 + (int64_t)sim_roll(DICE_TEST, BUSY_S * 3 / 4)) * SECOND_US;
        insert_deed(deed, at);
    }
}

// With a crash behind it: what a jump was must outlive who saw it.
static void plan_wall_jump(void)
{
    if (!sim_chance(DICE_TEST, 1, 3))
        return;
    int64_t at = sim_now_us() + (30 + (int64_t)sim_roll(DICE_TEST, BUSY_S / 2)) * SECOND_US;
    insert_deed(DEED_WALL_JUMP, at);
    insert_deed(DEED_CRASH, at + (int64_t)sim_roll(DICE_TEST, 100) * SECOND_US);
}

static void make_plan(void)
{
    plan_deed(DEED_CRASH, RUN_CRASHES + (uint32_t)sim_roll(DICE_TEST, 2));
    plan_deed(DEED_DISK_FAULT, RUN_DISK_FAULTS + (uint32_t)sim_roll(DICE_TEST, 2));
    plan_deed(DEED_PEER_FAULT, RUN_PEER_FAULTS + (uint32_t)sim_roll(DICE_TEST, 6));
    plan_deed(DEED_PEER_CALM, (uint32_t)sim_roll(DICE_TEST, 3));
    plan_deed(DEED_DNS, (uint32_t)sim_roll(DICE_TEST, 3));
    plan_deed(DEED_RESTART, sim_chance(DICE_TEST, 1, 3));
    plan_deed(DEED_ROT, sim_chance(DICE_TEST, 1, 3));
}

static enum sim_crash_kind some_crash(void)
{
    return sim_chance(DICE_TEST, 2, 3) ? SIM_POWER : SIM_KILL;
}

static struct sim_disk *disk(void)
{
    return sim_disk_find(RELAY_SPOOL);
}

static void fault_the_disk(void)
{
    static const struct {
        enum sim_disk_op op;
        int err;
    } faults[] = {{SIM_DISK_SYNC, E_IO},   {SIM_DISK_SYNC, E_IO},   {SIM_DISK_WRITE, E_FULL},
                  {SIM_DISK_WRITE, E_IO},  {SIM_DISK_OPEN, E_FULL}, {SIM_DISK_SYNC_DIR, E_IO},
                  {SIM_DISK_UNLINK, E_IO}, {SIM_DISK_RENAME, E_IO}, {SIM_DISK_SYNC, E_FULL}};
    // The first ones are always met; the others only where the spool does such a thing.
    uint64_t which = sim_roll(DICE_TEST, run.facts->disk_faults ? COUNT_OF(faults) : 4);
    sim_disk_sync_drops(disk(), sim_chance(DICE_TEST, 2, 3));
    // Once is the worst: what is tried again seems to work.
    sim_disk_fail(disk(), faults[which].op, 1 + sim_roll(DICE_TEST, 20),
                  sim_chance(DICE_TEST, 1, 2) ? 1 : 1 + sim_roll(DICE_TEST, 4), faults[which].err);
}

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *format, ...)
{
    if (!getenv("SIM_LOG"))
        return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%.6f == ", (double)sim_now_us() / 1e6);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

struct rotting {
    char name[64];
    uint32_t files;
};

static void on_spool_file(void *ctx, const char *name, uint64_t size)
{
    struct rotting *r = ctx;
    bool holds_mail = strncmp(name, SEGMENT_DIRECTORY "/", strlen(SEGMENT_DIRECTORY) + 1) == 0 ||
                      strncmp(name, EXTENT_DIRECTORY "/", strlen(EXTENT_DIRECTORY) + 1) == 0;
    if (holds_mail && sim_roll(DICE_TEST, ++r->files) == 0)
        snprintf(r->name, sizeof r->name, "%s", name);
}

// Not in a segment's header, which would take all mail of the segment with it.
static void rot_a_bit(void)
{
    struct rotting r = {.files = 0};
    sim_disk_each(disk(), on_spool_file, &r);
    if (!r.files || !sim_disk_rot(disk(), r.name, SEGMENT_DATA_AT))
        return;
    tell("a bit of %s rots", r.name);
    book_rotten();
    run.facts->rots++;
}

static void rot(void)
{
    run.rot_wanted = false;
    for (uint64_t bits = 1 + sim_roll(DICE_TEST, 8); bits; bits--)
        rot_a_bit();
}

static void do_deed(enum deed deed)
{
    // Not good.test and sender.test.
    struct peer *peer = peer_at(2 + (uint32_t)sim_roll(DICE_TEST, PEERS - 2));
    sim_note("deed", deed, 0);
    switch (deed) {
    case DEED_CRASH:
        sim_host_crash_at(run.relay, some_crash(), 1 + sim_roll(DICE_TEST, 200));
        tell("a crash is armed");
        break;
    case DEED_DISK_FAULT:
        run.fault_wanted = true;
        fault_the_disk();
        break;
    case DEED_PEER_FAULT:
        tell("%s: %s", peer->domain, peer_misbehave(peer));
        run.facts->peer_faults++;
        break;
    case DEED_PEER_CALM:
        peers_calm();
        break;
    case DEED_DNS:
        sim_dns_mood(sim_chance(DICE_TEST, 1, 2) ? peer->domain : peer->host_name,
                     (enum sim_dns_mood)(SIM_DNS_SERVFAIL + sim_roll(DICE_TEST, 4)));
        break;
    case DEED_WALL_JUMP:
        // Not seen yet, a jump can't outlive a crash: none before it is (another one is planned behind it).
        run.clock_is_new = true;
        sim_host_crash_at(run.relay, SIM_KILL, 0);
        sim_wall_jump_ms(sim_chance(DICE_TEST, 1, 2) ? WALL_JUMP_MS : -WALL_JUMP_MS);
        break;
    case DEED_RESTART:
        tell("an ordered restart");
        book_trouble();
        if (relay_host_stop(3600 * 1000)) {
            run.crashes_seen = sim_host_crashes(run.relay); // an ordered end is none
            run.restart_at_us = sim_now_us() + 10000;
        }
        book_trouble();
        break;
    case DEED_ROT: // while the relay is down
        run.rot_wanted = true;
        sim_host_crash_at(run.relay, some_crash(), 1 + sim_roll(DICE_TEST, 200));
        break;
    }
}

// ---- the machine ---------------------------------------------------------------------------------

static void note_crash(void)
{
    if (sim_host_crashes(run.relay) == run.crashes_seen)
        return;
    run.crashes_seen = sim_host_crashes(run.relay);
    book_crashed();
    tell("crashed");
    run.facts->crashes++;
    run.restart_at_us = sim_now_us() + (int64_t)sim_roll(DICE_TEST, 5000000);
}

static void restart(void)
{
    bool again = sim_chance(DICE_TEST, 1, 4);
    if (run.rot_wanted)
        rot();
    if (again) // a crash in the middle of recovery
        sim_host_crash_at(run.relay, some_crash(), 1 + sim_roll(DICE_TEST, 60));
    bool started = relay_host_start();
    tell("%s", started ? "started" : "crashed while starting");
    run.restart_at_us = 0;
    if (started)
        run.crashes_seen = sim_host_crashes(run.relay); // starts that failed count as none
    else
        note_crash();
    if (started && run.fault_wanted && !run.facts->disk_faults)
        fault_the_disk();
    book_trouble();
}

// A crash that is armed comes before what would make it forgotten; but an idle relay may never get there.
static bool is_time_for(const struct planned *next)
{
    bool forgets = next->deed == DEED_CRASH || next->deed == DEED_RESTART ||
                   next->deed == DEED_WALL_JUMP || next->deed == DEED_ROT;
    bool waits = forgets && sim_host_crash_is_armed(run.relay) && clients_alive() > 0;
    return sim_now_us() >= next->at_us && !run.clock_is_new && !sim_host_is_down(run.relay) &&
           !waits;
}

// Between two turns.
static void look(void)
{
    int64_t now = sim_now_us();
    if (sim_host_is_down(run.relay) && !run.restart_at_us)
        note_crash();
    if (sim_host_is_down(run.relay) && now >= run.restart_at_us)
        restart();
    if (sim_disk_struck(disk()) != run.struck_seen) {
        run.facts->disk_faults += (uint32_t)(sim_disk_struck(disk()) - run.struck_seen);
        run.struck_seen = sim_disk_struck(disk());
        tell("a disk fault");
        book_trouble();
    }
    if (run.clock_is_new && relay_host_clock_is_kept())
        run.clock_is_new = false;
    while (run.done < run.planned && is_time_for(&run.plan[run.done]))
        do_deed(run.plan[run.done++].deed);
    if (sim_streams_connected() != run.connected_seen) {
        run.connected_seen = sim_streams_connected();
        peers_check_lanes();
    }
}

static bool clients_done(void *ctx)
{
    look();
    return clients_alive() == 0 && run.done == run.planned;
}

static bool settled(void *ctx)
{
    look();
    if (sim_turns() < run.asked_turns + 200)
        return false; // asked now and then only: it looks at every message
    run.asked_turns = sim_turns();
    return !sim_host_is_down(run.relay) && book_is_settled(NULL);
}

static bool never(void *ctx)
{
    look();
    return false;
}

// ---- one seed ------------------------------------------------------------------------------------

static void check_queue_is_empty(void)
{
    struct queue_counts counts;
    if (!relay_host_is_up())
        return;
    queue_count(relay_host_queue(), &counts);
    if (counts.messages)
        book_violation("LOST", "%llu messages are still queued when all are delivered or reported",
                       (unsigned long long)counts.messages);
}

static void set_limits(void)
{
    peer_at(2)->limits = (struct peer_limits){.connections = 1, .messages_per_connection = 5};
    peer_at(3)->limits = (struct peer_limits){.connections = 2, .recipients_per_transaction = 2};
    peer_at(4)->limits = (struct peer_limits){.connections = 3, .messages_per_second = 4};
    for (uint32_t i = 0; i < PEERS; i++)
        if (!peer_at(i)->limits.connections)
            peer_at(i)->limits.connections = 4;
}

static void begin(uint64_t seed)
{
    memset(&run, 0, sizeof run);
    sim_start(seed);
    sim_dns_start();
    book_open();
    clients_reset();
    book_set_lifetime_ms(LIFETIME_MS);
    run.relay = relay_host_new(&(struct relay_setup){
        .config = config, .segment_bytes = SPOOL_SEGMENT_BYTES_MIN << sim_roll(DICE_TEST, 2)});
    run.clients = sim_host_new("clients", NULL);
    peers_start(run.relay, PEERS);
    set_limits();
    CHECK(relay_host_start());
    book_watch_disk(disk());
    book_trouble();
    make_plan();
    plan_wall_jump();
    CHECK(sim_host_call(run.clients, boot_clients, NULL));
}

void run_seed(uint64_t seed, struct run_facts *out)
{
    memset(out, 0, sizeof *out);
    begin(seed);
    run.facts = out;
    int64_t start = sim_now_us();
    if (!sim_run_until(clients_done, NULL, 4 * 3600 * 1000))
        book_violation("HUNG", "%u clients are not done", clients_alive());
    sim_host_crash_at(run.relay, SIM_KILL, 0);
    peers_calm();
    book_trouble();
    sim_run_until(settled, NULL, SETTLE_MS);
    book_check_end();
    sim_run_until(never, NULL, QUIET_MS);
    check_queue_is_empty();
    if (!sim_host_is_down(run.relay))
        sim_host_crash(run.relay, SIM_POWER);
    sim_run_until(never, NULL, QUIET_MS);
    check_queue_is_empty();
    book_count(&out->counts);
    out->turns = sim_turns();
    out->trace_hash = sim_trace_hash();
    out->virtual_ms = (sim_now_us() - start) / 1000;
    out->law = book_first_law();
    book_close();
    sim_stop();
    sim_dns_stop();
}
