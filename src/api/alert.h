// SPDX-License-Identifier: MIT
//
// alert - what goes wrong while the service runs: raised once, over once, never a storm
//
// Pure: it is shown the facts every few seconds and says what has changed. An alert is raised when it was wrong
// ALERT_RAISE_LOOKS times in a row, and over when all was well ALERT_CLEAR_LOOKS times; between wrong and well it stays
// as it is. One that was over is not raised again before ALERT_PAUSE_MS have passed since it last was.
//
// Thread: the main loop; alert_is_raised() any.
// Limits: ALERT_LANES lanes that back off are watched at a time; ALERT_TEXT_MAX bytes of text.
#pragma once

#include <stdatomic.h>

#include "base/clock.h"

#define ALERT_RAISE_LOOKS 2
#define ALERT_CLEAR_LOOKS 3
#define ALERT_PAUSE_MS 600000
#define ALERT_WINDOW 60 // looks that deferrals are counted over
#define ALERT_LANES 256
#define ALERT_TEXT_MAX 500

enum alert_id {
    ALERT_CERTIFICATE, // it ends soon
    ALERT_DISK,        // spool or state has little room
    ALERT_SPOOL,       // takes no mail
    ALERT_RESOLVER,    // the DNS answers nothing
    ALERT_DEFERRALS,   // most attempts are put off
    ALERT_LANE,        // a site could not be reached for long
    ALERTS,
};

struct alert_lane {
    struct bytes name, text; // borrowed
    uint64_t ready;          // recipients that wait for it
};

// One look.
struct alert_facts {
    bool has_certificate;
    int64_t certificate_left_ms;
    struct bytes disk;     // the fuller of the two folders; borrowed
    uint32_t disk_percent; // free
    bool accepting, memory_is_short;
    uint64_t dns_answered, dns_failed;    // so far
    uint64_t delivered, deferred, failed; // recipients so far
    const struct alert_lane *lanes;       // that have mail and back off
    size_t lanes_count;
};

struct alert_limits {
    int64_t certificate_ms; // it is to last longer than that
    int64_t stuck_ms;       // a lane may back off for so long
};

// What the last look saw, for the metrics; any thread.
struct alert_seen {
    _Atomic int64_t certificate_ends_s; // since 1970; 0: there is none to watch
    _Atomic uint32_t disk_percent;
    _Atomic uint64_t dns_answered, dns_failed;
};

struct alerts {
    struct alert_seen seen;
    struct {
        atomic_bool raised;
        uint32_t wrong, well; // looks in a row
        bool ever;
        struct mono raised_at;
        struct wall since;
        char text[ALERT_TEXT_MAX];
    } at[ALERTS];
    struct {
        uint64_t delivered, deferred, failed;
    } window[ALERT_WINDOW];
    uint32_t looks;
    uint64_t dns_answered, dns_failed; // when an answer last came
    struct {
        uint64_t name; // its hash
        struct mono since;
        bool seen;
    } lanes[ALERT_LANES];
    size_t lanes_count;
};

// What has changed: changed() is called for each alert that is raised or over, before this returns.
void alerts_look(struct alerts *a, const struct alert_facts *facts,
                 const struct alert_limits *limits, struct mono now, struct wall at,
                 void (*changed)(void *ctx, enum alert_id id, bool raised, const char *text),
                 void *ctx);
const char *alert_name(enum alert_id id);
bool alert_is_raised(const struct alerts *a, enum alert_id id);
