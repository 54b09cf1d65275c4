// SPDX-License-Identifier: MIT
//
// sim_world - the scheduler: actors, turns, posts, timers, offload, clocks and crashes
//
// How it works: each loop has a heap of events (posts, packets, finished jobs) and one of timers.
// The next turn goes to the loop that can start first; the dice decide between equals. A turn sees
// the clock as it was when it began; disk calls add to the time it takes, and what it causes
// elsewhere happens after that. A crash jumps out of the turn to the scheduler and takes apart the
// host's loops; the memory of the objects under test is left behind.
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "sim_internal.h"

#define WALL_START_US (INT64_C(1767225600) * 1000000) // 2026-01-01T00:00:00Z
#define MONO_START_US (INT64_C(1000) * 1000000)

static struct {
    bool started, tracing;
    uint64_t seed, hash, turns;
    uint64_t dice[DICE_COUNT];
    int64_t now_us, spent_us, wall_offset_us;
    struct sim_host *hosts[SIM_HOSTS_MAX];
    uint32_t host_count, loop_count;
    struct sys_loop *current;
    struct sim_host *here;
    uint32_t depth; // of guarded calls
    struct sim_event *firing;
    jmp_buf crash_exit;
} world;

// ---- chance and trace --------------------------------------------------------------------------

// SplitMix64 (Steele, Lea, Flood 2014).
static uint64_t dice_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t sim_roll(enum sim_dice dice, uint64_t bound)
{
    CHECK(world.started);
    return (uint64_t)((unsigned __int128)dice_next(&world.dice[dice]) * bound >> 64);
}

int64_t sim_between(enum sim_dice dice, int64_t low, int64_t high)
{
    return high <= low ? low : low + (int64_t)sim_roll(dice, (uint64_t)(high - low) + 1);
}

bool sim_chance(enum sim_dice dice, uint32_t parts, uint32_t of)
{
    return sim_roll(dice, of) < parts;
}

void sys_random(void *out, size_t bytes)
{
    char *at = out;
    while (bytes) {
        uint64_t word = dice_next(&world.dice[DICE_RELAY]);
        size_t n = bytes < sizeof word ? bytes : sizeof word;
        memcpy(at, &word, n);
        at += n;
        bytes -= n;
    }
}

static void hash_add(uint64_t value)
{
    world.hash = (world.hash ^ value) * UINT64_C(0x100000001b3);
    world.hash ^= world.hash >> 29;
}

void sim_note(const char *what, uint64_t a, uint64_t b)
{
    for (const char *c = what; *c; c++)
        hash_add((uint8_t)*c);
    hash_add(a);
    hash_add(b);
    hash_add((uint64_t)sim_turn_us());
    if (world.tracing)
        fprintf(stderr, "%12.6f %-10s %-18s %llu %llu\n",
                (double)(sim_turn_us() - MONO_START_US) / 1e6,
                world.current ? world.current->name : "-", what, (unsigned long long)a,
                (unsigned long long)b);
}

uint64_t sim_trace_hash(void)
{
    return world.hash;
}

uint64_t sim_turns(void)
{
    return world.turns;
}

// ---- clocks ------------------------------------------------------------------------------------

int64_t sim_now_us(void)
{
    return world.now_us;
}

struct wall sim_wall(void)
{
    return (struct wall){WALL_START_US + world.now_us - MONO_START_US + world.wall_offset_us};
}

void sim_wall_jump_ms(int64_t ms)
{
    world.wall_offset_us += ms * 1000;
}

int64_t sim_turn_us(void)
{
    return world.now_us + world.spent_us;
}

void sim_spend_us(int64_t us)
{
    world.spent_us += us;
}

struct mono sys_mono(void)
{
    return (struct mono){sys_loop_self()->mono_us};
}

void sys_hand_over(void)
{
}

void sys_run_promptly(void)
{
}

struct mono sys_mono_now(void)
{
    return (struct mono){sim_turn_us()};
}

struct wall sys_wall(void)
{
    return (struct wall){sys_loop_self()->wall_us};
}

// ---- loops, events, posts ----------------------------------------------------------------------

struct sim_host *sim_here(void)
{
    return world.here;
}

struct sys_loop *sim_loop_current(void)
{
    return world.current;
}

struct sys_loop *sys_loop_self(void)
{
    CHECK(world.current);
    return world.current;
}

struct sys_core *sys_core_of(struct sys_loop *loop)
{
    return &loop->core;
}

struct sys_loop *sys_loop_start(const char *name)
{
    CHECK(world.here && world.loop_count < SIM_LOOPS_MAX);
    struct sys_loop *loop = mem_new(sizeof *loop);
    loop->name = name;
    loop->host = world.here;
    loop->number = ++world.loop_count;
    loop->busy_until_us = sim_turn_us();
    sys_core_init(&loop->core);
    list_push_back(&world.here->loops, &loop->link);
    return loop;
}

struct sim_event *sim_event_add(struct sys_loop *loop, int64_t at_us,
                                void (*fire)(struct sim_event *), void *about, struct bytes data)
{
    struct sim_event *event = mem_new(sizeof *event + data.len);
    event->fire = fire;
    event->about = about;
    event->len = data.len;
    if (data.len)
        memcpy(event->data, data.at, data.len);
    heap_add(&loop->events, &event->node, at_us);
    return event;
}

static void loop_free(struct sys_loop *loop)
{
    struct heap_node *node;
    sim_net_loop_gone(loop);
    while ((node = heap_first(&loop->events))) {
        heap_remove(&loop->events, node);
        free(container_of(node, struct sim_event, node));
    }
    heap_done(&loop->events);
    sys_core_done(&loop->core);
    list_remove(&loop->link);
    free(loop->last_post_us);
    free(loop);
}

static void fire_post(struct sim_event *event)
{
    struct sys_task *task = event->about;
    task->run(task);
}

// Mostly a few microseconds; now and then a thread that is scheduled late.
static int64_t post_delay_us(void)
{
    if (sim_chance(DICE_SCHEDULE, 1, 100))
        return sim_between(DICE_SCHEDULE, 1000, 20000);
    return sim_between(DICE_SCHEDULE, 1, 60);
}

static int64_t *last_post_us(struct sys_loop *to, uint32_t from)
{
    if (from >= to->last_post_count) {
        to->last_post_us = mem_resize(to->last_post_us, (from + 1) * sizeof *to->last_post_us);
        while (to->last_post_count <= from)
            to->last_post_us[to->last_post_count++] = 0;
    }
    return &to->last_post_us[from];
}

void sys_post(struct sys_loop *to, struct sys_task *task)
{
    int64_t at = sim_turn_us() + post_delay_us();
    int64_t *last = last_post_us(to, world.current ? world.current->number : 0);
    if (at <= *last)
        at = *last + 1;
    *last = at;
    sim_event_add(to, at, fire_post, task, BYTES_NONE);
}

void sim_loop_stall_ms(struct sys_loop *loop, int64_t ms)
{
    int64_t until = sim_turn_us() + ms * 1000;
    if (loop->busy_until_us < until)
        loop->busy_until_us = until;
}

// ---- offload -----------------------------------------------------------------------------------

static void job_done(struct sys_task *task)
{
    struct sys_job *job = container_of(task, struct sys_job, task);
    job->home->jobs--;
    job->done(job);
}

static void job_run(struct sys_task *task)
{
    struct sys_job *job = container_of(task, struct sys_job, task);
    job->run(job);
    sim_spend_us(sim_between(DICE_SCHEDULE, 10, 5000));
    job->task.run = job_done;
    sys_post(job->home, &job->task);
}

void sys_offload(struct sys_job *job)
{
    job->home = sys_loop_self();
    job->home->jobs++;
    job->task.run = job_run;
    uint32_t number = 2 * (uint32_t)job->kind + (uint32_t)sim_roll(DICE_SCHEDULE, 2);
    CHECK(number < SIM_OFFLOAD_LOOPS);
    struct sys_loop **thread = &world.here->offload[number];
    if (!*thread)
        *thread = sys_loop_start("offload");
    sys_post(*thread, &job->task);
}

// ---- turns -------------------------------------------------------------------------------------

// When the loop can have its next turn; INT64_MAX if nothing waits.
static int64_t loop_next_us(const struct sys_loop *loop)
{
    const struct heap_node *event = heap_first(&loop->events);
    struct mono timer = sys_core_next_timer(&loop->core);
    int64_t next = INT64_MAX;
    if (event)
        next = event->key;
    if (timer.us < next)
        next = timer.us;
    if (!list_is_empty(&loop->core.turn_ends))
        next = loop->busy_until_us;
    return next < loop->busy_until_us ? loop->busy_until_us : next;
}

static void run_events(struct sys_loop *loop)
{
    uint64_t left = 1 + sim_roll(DICE_SCHEDULE, 32);
    struct heap_node *node;
    while (left-- && (node = heap_first(&loop->events)) && node->key <= loop->mono_us) {
        struct sim_event *event = container_of(node, struct sim_event, node);
        heap_remove(&loop->events, node);
        world.firing = event;
        event->fire(event);
        world.firing = NULL;
        free(event);
    }
}

// libuv runs timers before polling; the dice let them come last as well.
static void turn(void *ctx)
{
    struct sys_loop *loop = ctx;
    bool timers_first = sim_chance(DICE_SCHEDULE, 1, 2);
    if (timers_first)
        sys_core_run_timers(&loop->core, sys_mono());
    run_events(loop);
    if (!timers_first)
        sys_core_run_timers(&loop->core, sys_mono());
    sys_core_run_turn_ends(&loop->core); // what remains gives the loop another turn at once
}

static void turn_in(struct sys_loop *loop)
{
    world.current = loop;
    world.here = loop->host;
    loop->mono_us = world.now_us;
    loop->wall_us = sim_wall().us;
    world.turns++;
    sim_note("turn", loop->number, 0);
}

// Calls fn; false if the host crashed in it.
static bool guarded(void (*fn)(void *ctx), void *ctx)
{
    bool outer = world.depth == 0;
    if (outer && setjmp(world.crash_exit)) {
        world.depth = 0;
        free(world.firing);
        world.firing = NULL;
        return false;
    }
    world.depth++;
    fn(ctx);
    world.depth--;
    return true;
}

static void turn_run(struct sys_loop *loop)
{
    turn_in(loop);
    if (guarded(turn, loop)) {
        loop->busy_until_us = sim_turn_us() + sim_between(DICE_SCHEDULE, 1, 20);
        if (sim_chance(DICE_SCHEDULE, 1, 400))
            loop->busy_until_us += sim_between(DICE_SCHEDULE, 1000, 30000);
    }
    world.current = NULL;
    world.here = NULL;
    world.spent_us = 0;
}

static struct sys_loop *next_loop(int64_t *out_at_us)
{
    struct sys_loop *best = NULL;
    uint32_t equals = 0;
    *out_at_us = INT64_MAX;
    for (uint32_t i = 0; i < world.host_count; i++)
        list_each(link, &world.hosts[i]->loops)
        {
            struct sys_loop *loop = list_get(link, struct sys_loop, link);
            int64_t at = loop_next_us(loop);
            if (at > *out_at_us || at == INT64_MAX)
                continue;
            equals = at < *out_at_us ? 1 : equals + 1;
            if (equals == 1 || sim_roll(DICE_SCHEDULE, equals) == 0)
                best = loop;
            *out_at_us = at;
        }
    return best;
}

static bool step_before(int64_t limit_us)
{
    int64_t at;
    struct sys_loop *loop = next_loop(&at);
    if (!loop || at > limit_us)
        return false;
    CHECK(world.depth == 0 && at >= world.now_us);
    world.now_us = at;
    turn_run(loop);
    return true;
}

bool sim_step(void)
{
    return step_before(INT64_MAX - 1);
}

void sim_run_ms(int64_t ms)
{
    int64_t end = world.now_us + ms * 1000;
    while (step_before(end))
        ;
    world.now_us = end;
}

bool sim_run_until(bool (*done)(void *ctx), void *ctx, int64_t max_ms)
{
    int64_t end = world.now_us + max_ms * 1000;
    while (!done(ctx))
        if (!step_before(end))
            return false;
    return true;
}

// Who has a turn while `loop` stops: itself, or a thread of the pools that still works for it.
static struct sys_loop *next_to_stop(struct sys_loop *loop)
{
    struct sys_loop *next = NULL;
    if (heap_first(&loop->events))
        return loop;
    for (size_t i = 0; loop->jobs && i < SIM_OFFLOAD_LOOPS; i++) {
        struct sys_loop *thread = loop->host->offload[i];
        if (thread && heap_first(&thread->events) &&
            (!next || heap_first(&thread->events)->key < heap_first(&next->events)->key))
            next = thread;
    }
    return next;
}

// Runs what was posted to the loop before the stop, while the caller's own turn stands still.
void sys_loop_stop(struct sys_loop *loop)
{
    struct sys_loop *caller = world.current;
    struct sim_host *here = world.here;
    CHECK(loop != caller);
    int64_t now_us = world.now_us;
    for (struct sys_loop *turns; (turns = next_to_stop(loop));) {
        struct heap_node *node = heap_first(&turns->events);
        if (node->key > world.now_us)
            world.now_us = node->key;
        turn_in(turns);
        guarded(turn, turns);
    }
    world.now_us = now_us;
    loop_free(loop);
    world.current = caller;
    world.here = here;
}

// ---- hosts and crashes -------------------------------------------------------------------------

struct sim_host *sim_host_new(const char *name, const struct sys_addr *address)
{
    CHECK(world.host_count < SIM_HOSTS_MAX);
    struct sim_host *host = mem_new(sizeof *host);
    host->name = name;
    list_init(&host->loops);
    host->next_port = 20000;
    world.hosts[world.host_count++] = host;
    if (address)
        host->address = *address;
    else
        host->address =
            (struct sys_addr){.kind = SYS_ADDR_IP4, .ip = {10, 0, 0, (uint8_t)world.host_count}};
    return host;
}

bool sim_host_call(struct sim_host *host, void (*fn)(void *ctx), void *ctx)
{
    CHECK(!world.here && !host->down);
    world.here = host;
    bool alive = guarded(fn, ctx);
    world.here = NULL;
    world.current = NULL;
    world.spent_us = 0;
    return alive;
}

static void host_take_apart(struct sim_host *host, enum sim_crash_kind kind)
{
    sim_note(kind == SIM_POWER ? "power cut" : "kill", host->crashes, 0);
    host->crashes++;
    host->crash_in = 0;
    host->down = true;
    sim_net_host_down(host, kind);
    sim_disk_host_down(host, kind);
    memset(host->offload, 0, sizeof host->offload);
    list_each(link, &host->loops) loop_free(list_get(link, struct sys_loop, link));
}

void sim_host_crash(struct sim_host *host, enum sim_crash_kind kind)
{
    CHECK(!host->down);
    host_take_apart(host, kind);
    if (world.here == host)
        longjmp(world.crash_exit, 1);
}

void sim_host_crash_at(struct sim_host *host, enum sim_crash_kind kind, uint64_t n)
{
    host->crash_kind = kind;
    host->crash_in = n;
}

bool sim_host_crash_is_armed(const struct sim_host *host)
{
    return host->crash_in > 0;
}

bool sim_op_crashes(void)
{
    struct sim_host *host = world.here;
    return host && host->crash_in && --host->crash_in == 0;
}

void sim_crash_now(void)
{
    struct sim_host *host = world.here;
    CHECK(host);
    host_take_apart(host, host->crash_kind);
    longjmp(world.crash_exit, 1);
}

bool sim_host_is_down(const struct sim_host *host)
{
    return host->down;
}

void sim_host_boot(struct sim_host *host)
{
    CHECK(host->down);
    host->down = false;
}

uint32_t sim_host_crashes(const struct sim_host *host)
{
    return host->crashes;
}

// ---- the world ---------------------------------------------------------------------------------

void sim_start(uint64_t seed)
{
    CHECK(!world.started);
    memset(&world, 0, sizeof world);
    world.started = true;
    world.seed = seed;
    world.hash = UINT64_C(0xcbf29ce484222325);
    uint64_t state = seed;
    for (int i = 0; i < DICE_COUNT; i++)
        world.dice[i] = dice_next(&state);
    const char *trace = getenv("SIM_TRACE");
    world.tracing = trace && *trace && *trace != '0';
    world.now_us = MONO_START_US;
    map_seed(seed);
    sim_net_start();
    sim_disk_start();
}

void sim_stop(void)
{
    CHECK(world.started && !world.current);
    sim_net_stop();
    for (uint32_t i = 0; i < world.host_count; i++) {
        list_each(link, &world.hosts[i]->loops) loop_free(list_get(link, struct sys_loop, link));
        free(world.hosts[i]);
    }
    sim_disk_stop();
    world.started = false;
}

uint64_t sim_seed(void)
{
    return world.seed;
}
