// SPDX-License-Identifier: MIT
#include "base/bytes.h"

bool bytes_eq_nocase(struct bytes a, struct bytes b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower(a.at[i]) != ascii_lower(b.at[i]))
            return false;
    return true;
}

bool bytes_starts(struct bytes s, struct bytes prefix)
{
    return s.len >= prefix.len && bytes_eq(bytes_first(s, prefix.len), prefix);
}

bool bytes_starts_nocase(struct bytes s, struct bytes prefix)
{
    return s.len >= prefix.len && bytes_eq_nocase(bytes_first(s, prefix.len), prefix);
}

bool bytes_ends(struct bytes s, struct bytes suffix)
{
    return s.len >= suffix.len && bytes_eq(bytes_skip(s, s.len - suffix.len), suffix);
}

bool bytes_ends_nocase(struct bytes s, struct bytes suffix)
{
    return s.len >= suffix.len && bytes_eq_nocase(bytes_skip(s, s.len - suffix.len), suffix);
}

int bytes_cmp(struct bytes a, struct bytes b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.at, b.at, n) : 0;
    if (order)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

bool bytes_eq_secret(struct bytes a, struct bytes b)
{
    if (a.len != b.len)
        return false;
    volatile unsigned char difference = 0;
    for (size_t i = 0; i < a.len; i++)
        difference |= (unsigned char)(a.at[i] ^ b.at[i]);
    return difference == 0;
}

ptrdiff_t bytes_find(struct bytes s, char c)
{
    const char *hit = s.len ? memchr(s.at, c, s.len) : NULL;
    return hit ? hit - s.at : -1;
}

ptrdiff_t bytes_find_last(struct bytes s, char c)
{
    const char *hit = s.len ? memrchr(s.at, c, s.len) : NULL;
    return hit ? hit - s.at : -1;
}

ptrdiff_t bytes_search(struct bytes s, struct bytes needle)
{
    if (needle.len == 0)
        return 0;
    const char *hit = s.len >= needle.len ? memmem(s.at, s.len, needle.at, needle.len) : NULL;
    return hit ? hit - s.at : -1;
}

bool bytes_cut(struct bytes *s, char c, struct bytes *out_part)
{
    if (!s->at)
        return false;
    ptrdiff_t at = bytes_find(*s, c);
    if (at < 0) {
        *out_part = *s;
        *s = BYTES_NONE;
        return true;
    }
    *out_part = bytes_first(*s, (size_t)at);
    *s = bytes_skip(*s, (size_t)at + 1); // stays non-NULL: "a," has an empty last part
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct bytes bytes_trim(struct bytes s)
{
    while (s.len && is_space(s.at[0]))
        s = bytes_skip(s, 1);
    while (s.len && is_space(s.at[s.len - 1]))
        s.len--;
    return s;
}

int bytes_to_u64(struct bytes s, uint64_t max, uint64_t *out)
{
    if (s.len == 0 || s.len > 20)
        return E_SYNTAX;
    uint64_t value = 0;
    bool beyond = false;
    for (size_t i = 0; i < s.len; i++) {
        if (!ascii_is_digit(s.at[i]))
            return E_SYNTAX;
        uint64_t digit = (uint64_t)(s.at[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            beyond = true;
        else
            value = value * 10 + digit;
    }
    if (beyond || value > max)
        return E_LIMIT;
    *out = value;
    return OK;
}

size_t bytes_utf8_len(struct bytes s)
{
    if (s.len == 0)
        return 0;
    const unsigned char *p = (const unsigned char *)s.at;
    if (p[0] < 0x80)
        return 1;
    // RFC 3629 section 4: the second byte's range depends on the first
    size_t n = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
               : p[0] >= 0xe0 && p[0] <= 0xef ? 3
               : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                              : 0;
    if (n == 0 || s.len < n)
        return 0;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

bool bytes_is_utf8(struct bytes s)
{
    while (s.len) {
        size_t n = bytes_utf8_len(s);
        if (n == 0)
            return false;
        s = bytes_skip(s, n);
    }
    return true;
}

bool bytes_is_ascii(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] >= 0x80)
            return false;
    return true;
}

bool bytes_has_control(struct bytes s, const char *allowed)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c == 0x7f || c == 0)
            return true;
        if (c < 0x20 && !(allowed && strchr(allowed, c)))
            return true;
    }
    return false;
}
