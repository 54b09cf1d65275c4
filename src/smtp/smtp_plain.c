// SPDX-License-Identifier: MIT
//
// How it works: each byte is compared together with the one before it, 16 pairs at once, by GNU C's vectors (SSE2,
// NEON). The last 16 overlap what was looked at already.
#include "smtp/smtp_plain.h"

#define LANES 16

typedef uint8_t lanes __attribute__((vector_size(LANES)));

static lanes load(const char *at)
{
    lanes v;
    memcpy(&v, at, sizeof v);
    return v;
}

static bool any(lanes v)
{
    uint64_t halves[2];
    memcpy(halves, &v, sizeof halves);
    return (halves[0] | halves[1]) != 0;
}

static bool any_8bit(lanes v)
{
    uint64_t halves[2];
    memcpy(halves, &v, sizeof halves);
    return ((halves[0] | halves[1]) & 0x8080808080808080u) != 0;
}

static void look_at_byte(char previous, char c, struct smtp_plain *out)
{
    out->is_bare |= (c == '\n') != (previous == '\r');
    out->has_dot |= c == '.' && previous == '\n';
    out->has_nul |= c == 0;
    out->has_8bit |= ((uint8_t)c & 0x80) != 0;
}

struct look {
    lanes bare, dot, nul, all;
};

static inline void look_at(const char *at, struct look *l)
{
    lanes now = load(at), before = load(at - 1);
    l->bare |= (lanes)(now == '\n') ^ (lanes)(before == '\r');
    l->dot |= (lanes)(now == '.') & (lanes)(before == '\n');
    l->nul |= (lanes)(now == 0);
    l->all |= now;
}

// s is longer than LANES; its first byte has been looked at.
static void look_at_lanes(struct bytes s, struct smtp_plain *out)
{
    struct look look = {0};
    const char *end = s.at + s.len;
    for (const char *at = s.at + 1; end - at > LANES; at += LANES)
        look_at(at, &look);
    look_at(end - LANES, &look);
    out->is_bare |= any(look.bare);
    out->has_dot |= any(look.dot);
    out->has_nul |= any(look.nul);
    out->has_8bit |= any_8bit(look.all);
}

struct smtp_plain smtp_plain_look(char previous, struct bytes s)
{
    struct smtp_plain found = {0};
    if (s.len)
        look_at_byte(previous, s.at[0], &found);
    if (s.len > LANES)
        look_at_lanes(s, &found);
    for (size_t i = 1; s.len <= LANES && i < s.len; i++)
        look_at_byte(s.at[i - 1], s.at[i], &found);
    return found;
}

size_t smtp_plain_stretch(char previous, struct bytes s, struct smtp_plain *out)
{
    s = bytes_first(s, SMTP_PLAIN_BLOCK);
    while (s.len && s.at[s.len - 1] == '\r')
        s.len--;
    if (s.len < SMTP_PLAIN_MIN)
        return 0;
    *out = smtp_plain_look(previous, s);
    return out->is_bare || out->has_dot ? 0 : s.len;
}
