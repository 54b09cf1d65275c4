// SPDX-License-Identifier: MIT
//
// How it works: each byte is compared together with the one before it, 32 pairs at once, by GNU C's vectors: compiled
// for AVX2, and for what every processor of the kind has (SSE2, NEON). The last 32 overlap what was looked at already.
#include "smtp/smtp_plain.h"

#define LANES 32

typedef uint8_t lanes __attribute__((vector_size(LANES)));

struct look {
    lanes bare, dot, nul, all;
};

static uint64_t any(const lanes *v)
{
    uint64_t parts[LANES / 8];
    memcpy(parts, v, sizeof parts);
    return parts[0] | parts[1] | parts[2] | parts[3];
}

static void look_at_byte(char previous, char c, struct smtp_plain *out)
{
    out->is_bare |= (c == '\n') != (previous == '\r');
    out->has_dot |= c == '.' && previous == '\n';
    out->has_nul |= c == 0;
    out->has_8bit |= ((uint8_t)c & 0x80) != 0;
}

static inline __attribute__((always_inline)) void look_at(const char *at, struct look *l)
{
    lanes now, before;
    memcpy(&now, at, sizeof now);
    memcpy(&before, at - 1, sizeof before);
    l->bare |= (lanes)(now == '\n') ^ (lanes)(before == '\r');
    l->dot |= (lanes)(now == '.') & (lanes)(before == '\n');
    l->nul |= (lanes)(now == 0);
    l->all |= now;
}

// s is longer than LANES; its first byte has been looked at.
static inline __attribute__((always_inline)) void look_at_all(struct bytes s, struct look *l)
{
    const char *end = s.at + s.len;
    for (const char *at = s.at + 1; end - at > LANES; at += LANES)
        look_at(at, l);
    look_at(end - LANES, l);
}

static void look_at_all_anywhere(struct bytes s, struct look *l)
{
    look_at_all(s, l);
}

#ifdef __x86_64__
static __attribute__((target("avx2"))) void look_at_all_avx2(struct bytes s, struct look *l)
{
    look_at_all(s, l);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
#define look_at_all_avx2 look_at_all_anywhere
static bool has_avx2(void)
{
    return false;
}
#endif

static void look_at_lanes(struct bytes s, struct smtp_plain *out)
{
    struct look look = {0};
    (has_avx2() ? look_at_all_avx2 : look_at_all_anywhere)(s, &look);
    out->is_bare |= any(&look.bare) != 0;
    out->has_dot |= any(&look.dot) != 0;
    out->has_nul |= any(&look.nul) != 0;
    out->has_8bit |= (any(&look.all) & 0x8080808080808080u) != 0;
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
