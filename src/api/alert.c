// SPDX-License-Identifier: MIT
#include "api/alert.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/check.h"

#define DISK_WRONG_PERCENT 5
#define DISK_WELL_PERCENT 8
#define DNS_FAILED_MIN 5
#define ATTEMPTS_MIN 50
#define DEFERRED_WRONG_PERCENT 50
#define DEFERRED_WELL_PERCENT 30
#define SHOWN_MAX 200

enum state { WELL, BETWEEN, WRONG };

struct judgement {
    enum state state;
    char text[ALERT_TEXT_MAX];
};

const char *alert_name(enum alert_id id)
{
    static const char *const names[] = {"certificate", "disk",      "spool",
                                        "resolver",    "deferrals", "lane"};
    return names[id];
}

bool alert_is_raised(const struct alerts *a, enum alert_id id)
{
    return atomic_load_explicit((atomic_bool *)(uintptr_t)&a->at[id].raised, memory_order_relaxed);
}

static void judge(struct judgement *j, enum state state, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void judge(struct judgement *j, enum state state, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    j->state = state;
    vsnprintf(j->text, sizeof j->text, format, args);
    va_end(args);
}

// ---- each of them ------------------------------------------------------------------------------------

static void judge_certificate(const struct alert_facts *f, const struct alert_limits *l,
                              struct judgement *j)
{
    long long hours = (long long)(f->certificate_left_ms / 3600000);
    bool wrong = f->has_certificate && f->certificate_left_ms < l->certificate_ms;
    judge(j, wrong ? WRONG : WELL,
          hours < 0 ? "the certificate has ended" : "the certificate ends in %lld hours", hours);
}

static void judge_disk(const struct alert_facts *f, struct judgement *j)
{
    enum state state = f->disk_percent < DISK_WRONG_PERCENT   ? WRONG
                       : f->disk_percent >= DISK_WELL_PERCENT ? WELL
                                                              : BETWEEN;
    judge(j, state, "%u %% of the disk of %.*s are free", f->disk_percent,
          BYTES_FMT(bytes_first(f->disk, SHOWN_MAX)));
}

static void judge_spool(const struct alert_facts *f, struct judgement *j)
{
    if (!f->accepting)
        judge(j, WRONG, "the spool takes no mail: its disk is full, or fails");
    else
        judge(j, f->memory_is_short ? WRONG : WELL,
              "new mail is refused: memory is short (limits.memory)");
}

// Questions fail, and none was answered since.
static void judge_resolver(struct alerts *a, const struct alert_facts *f, struct judgement *j)
{
    bool answered = f->dns_answered != a->dns_answered;
    uint64_t failed = f->dns_failed - a->dns_failed;
    if (answered || !a->looks) {
        a->dns_answered = f->dns_answered;
        a->dns_failed = f->dns_failed;
    }
    judge(j,
          answered                   ? WELL
          : failed >= DNS_FAILED_MIN ? WRONG
                                     : BETWEEN,
          "the last %llu questions to the DNS were not answered", (unsigned long long)failed);
}

static void judge_deferrals(struct alerts *a, const struct alert_facts *f, struct judgement *j)
{
    uint32_t oldest = a->looks < ALERT_WINDOW ? 0 : a->looks % ALERT_WINDOW;
    uint64_t put_off = f->deferred - (a->looks ? a->window[oldest].deferred : f->deferred);
    uint64_t all = put_off;
    if (a->looks)
        all += f->delivered - a->window[oldest].delivered + f->failed - a->window[oldest].failed;
    uint64_t percent = all ? put_off * 100 / all : 0;
    a->window[a->looks % ALERT_WINDOW].delivered = f->delivered;
    a->window[a->looks % ALERT_WINDOW].deferred = f->deferred;
    a->window[a->looks % ALERT_WINDOW].failed = f->failed;
    enum state state = percent < DEFERRED_WELL_PERCENT                            ? WELL
                       : percent >= DEFERRED_WRONG_PERCENT && all >= ATTEMPTS_MIN ? WRONG
                                                                                  : BETWEEN;
    judge(j, state, "%llu of the last %llu attempts were put off by the receivers",
          (unsigned long long)put_off, (unsigned long long)all);
}

static uint64_t hash_of(struct bytes name)
{
    uint64_t h = 0xcbf29ce484222325u; // FNV-1a: only told apart, by nobody hostile
    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (unsigned char)name.at[i]) * 0x100000001b3u;
    return h;
}

// Since when the lane is watched.
static struct mono watch_lane(struct alerts *a, struct bytes name, struct mono now)
{
    uint64_t hash = hash_of(name);
    size_t i = 0;
    while (i < a->lanes_count && a->lanes[i].name != hash)
        i++;
    if (i == ALERT_LANES)
        return now;
    if (i == a->lanes_count) {
        a->lanes[i].name = hash;
        a->lanes[i].since = now;
        a->lanes_count++;
    }
    a->lanes[i].seen = true;
    return a->lanes[i].since;
}

static void forget_lanes(struct alerts *a)
{
    size_t kept = 0;
    for (size_t i = 0; i < a->lanes_count; i++) {
        if (!a->lanes[i].seen)
            continue;
        a->lanes[kept] = a->lanes[i];
        a->lanes[kept++].seen = false;
    }
    a->lanes_count = kept;
}

static void judge_lanes(struct alerts *a, const struct alert_facts *f, const struct alert_limits *l,
                        struct mono now, struct judgement *j)
{
    size_t stuck = 0;
    const struct alert_lane *worst = NULL;
    for (size_t i = 0; i < f->lanes_count; i++) {
        const struct alert_lane *lane = &f->lanes[i];
        if (mono_ms_between(watch_lane(a, lane->name, now), now) < l->stuck_ms)
            continue;
        stuck++;
        worst = !worst || lane->ready > worst->ready ? lane : worst;
    }
    forget_lanes(a);
    if (worst)
        judge(j, WRONG, "%zu lanes stand still; %llu recipients wait for %.*s: %.*s", stuck,
              (unsigned long long)worst->ready, BYTES_FMT(bytes_first(worst->name, SHOWN_MAX)),
              BYTES_FMT(bytes_first(worst->text, SHOWN_MAX)));
    else
        judge(j, WELL, "no lane stands still");
}

// ---- raised and over ---------------------------------------------------------------------------------

static bool may_raise(const struct alerts *a, enum alert_id id, struct mono now)
{
    return !a->at[id].ever || mono_ms_between(a->at[id].raised_at, now) >= ALERT_PAUSE_MS;
}

// True: it has been raised, or is over.
static bool settle(struct alerts *a, enum alert_id id, const struct judgement *j, struct mono now,
                   struct wall at)
{
    bool raised = alert_is_raised(a, id), change;
    a->at[id].wrong = j->state == WRONG ? a->at[id].wrong + 1 : 0;
    a->at[id].well = j->state == WELL ? a->at[id].well + 1 : 0;
    change = raised ? a->at[id].well >= ALERT_CLEAR_LOOKS
                    : a->at[id].wrong >= ALERT_RAISE_LOOKS && may_raise(a, id, now);
    if (j->state == WRONG || change) {
        struct buf text = {0}; // names of servers and their words may be in it
        buf_add_escaped(&text, bytes_cstr(j->text), 300);
        snprintf(a->at[id].text, sizeof a->at[id].text, "%s", buf_cstr(&text));
        buf_done(&text);
    }
    if (!change)
        return false;
    atomic_store(&a->at[id].raised, !raised);
    a->at[id].since = at;
    if (!raised) {
        a->at[id].raised_at = now;
        a->at[id].ever = true;
    }
    return true;
}

static void see(struct alert_seen *seen, const struct alert_facts *f, struct wall now)
{
    int64_t ends_s = now.us / 1000000 + f->certificate_left_ms / 1000;
    atomic_store(&seen->certificate_ends_s, f->has_certificate ? ends_s : 0);
    atomic_store(&seen->disk_percent, f->disk_percent);
    atomic_store(&seen->dns_answered, f->dns_answered);
    atomic_store(&seen->dns_failed, f->dns_failed);
}

void alerts_look(struct alerts *a, const struct alert_facts *facts,
                 const struct alert_limits *limits, struct mono now, struct wall at,
                 void (*changed)(void *ctx, enum alert_id id, bool raised, const char *text),
                 void *ctx)
{
    struct judgement all[ALERTS];
    see(&a->seen, facts, at);
    judge_certificate(facts, limits, &all[ALERT_CERTIFICATE]);
    judge_disk(facts, &all[ALERT_DISK]);
    judge_spool(facts, &all[ALERT_SPOOL]);
    judge_resolver(a, facts, &all[ALERT_RESOLVER]);
    judge_deferrals(a, facts, &all[ALERT_DEFERRALS]);
    judge_lanes(a, facts, limits, now, &all[ALERT_LANE]);
    a->looks++;
    for (int id = 0; id < ALERTS; id++)
        if (settle(a, (enum alert_id)id, &all[id], now, at))
            changed(ctx, (enum alert_id)id, alert_is_raised(a, (enum alert_id)id), a->at[id].text);
}
