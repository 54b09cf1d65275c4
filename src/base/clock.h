// SPDX-License-Identifier: MIT
//
// clock - two kinds of time that do not mix: mono for time-outs and rates, wall (UTC) for records
//
// Both count microseconds and are plain structs, so that passing one for the other does not compile.
// Reading a clock is the loop's business (sys/loop.h); these are values.
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

struct mono {
    int64_t us; // since an arbitrary start; never goes back
};
struct wall {
    int64_t us; // since 1970-01-01T00:00:00Z
};

#define MONO_NEVER ((struct mono){INT64_MAX})
#define WALL_NEVER ((struct wall){INT64_MAX})

// Additions saturate at NEVER.
struct mono mono_add_ms(struct mono t, int64_t ms);
struct wall wall_add_ms(struct wall t, int64_t ms);
static inline int64_t mono_ms_between(struct mono from, struct mono to)
{
    return (to.us - from.us) / 1000;
}
static inline int64_t wall_ms_between(struct wall from, struct wall to)
{
    return (to.us - from.us) / 1000;
}
static inline bool mono_reached(struct mono deadline, struct mono now)
{
    return deadline.us <= now.us;
}
static inline bool wall_reached(struct wall deadline, struct wall now)
{
    return deadline.us <= now.us;
}
static inline struct mono mono_min(struct mono a, struct mono b)
{
    return a.us < b.us ? a : b;
}
static inline struct wall wall_min(struct wall a, struct wall b)
{
    return a.us < b.us ? a : b;
}
// For what can't be undone: a wall clock may be wrong for a while, as at a start before it is set. *trusted, a time that
// there has been, comes up to `now` by step_ms a call and never falls; returned is the earlier of the two.
struct wall wall_trust(struct wall *trusted, struct wall now, int64_t step_ms);

// RFC 3339 in UTC with milliseconds: 2026-11-22T05:57:00.123Z
void wall_format(struct wall t, struct buf *out);
// RFC 3339 section 5.6, any offset, optional fraction. E_SYNTAX, E_LIMIT (before 1970, after 9999).
int wall_parse(struct bytes text, struct wall *out) MUST_USE;

// A moment taken apart, in UTC. weekday: 0 is Sunday.
struct civil {
    int year, month, day, hour, minute, second, us, weekday;
};
void wall_split(struct wall t, struct civil *out);
// The moment that *c (weekday not read) names in a zone offset_minutes east of UTC; second 60 counts as 59.
// E_SYNTAX (no such date or time), E_LIMIT (before 1970, after 9999).
int wall_join(const struct civil *c, int offset_minutes, struct wall *out) MUST_USE;
// Days from 1970-01-01 to this date; month 1 to 12.
int64_t clock_days(int year, int month, int day);
// How many days the month (1 to 12) has.
int clock_month_days(int year, int month);
