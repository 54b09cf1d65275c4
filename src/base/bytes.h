// SPDX-License-Identifier: MIT
//
// bytes - a borrowed slice of memory, passed by value; how everything from outside is read
//
// A slice does not own what it points to and is not NUL-terminated. An empty slice may have at == NULL.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

struct bytes {
    const char *at;
    size_t len;
};

#define BYTES(literal) ((struct bytes){"" literal, sizeof(literal) - 1})
#define BYTES_NONE ((struct bytes){NULL, 0})
// For printf: "%.*s" with BYTES_FMT(slice).
#define BYTES_FMT(slice) (int)(slice).len, (slice).at ? (slice).at : ""

static inline struct bytes bytes_of(const void *at, size_t len)
{
    return (struct bytes){at, len};
}

// Borrows a C string; NULL gives the empty slice.
static inline struct bytes bytes_cstr(const char *text)
{
    return (struct bytes){text, text ? strlen(text) : 0};
}

// The slice without its first n bytes (n clamped to len); its first n bytes; n bytes from offset.
static inline struct bytes bytes_skip(struct bytes s, size_t n)
{
    if (n > s.len)
        n = s.len;
    return n ? (struct bytes){s.at + n, s.len - n} : s;
}

static inline struct bytes bytes_first(struct bytes s, size_t n)
{
    return (struct bytes){s.at, n < s.len ? n : s.len};
}

static inline struct bytes bytes_mid(struct bytes s, size_t offset, size_t n)
{
    return bytes_first(bytes_skip(s, offset), n);
}

static inline bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

// ASCII case-insensitive.
bool bytes_eq_nocase(struct bytes a, struct bytes b);
bool bytes_starts(struct bytes s, struct bytes prefix);
bool bytes_starts_nocase(struct bytes s, struct bytes prefix);
bool bytes_ends(struct bytes s, struct bytes suffix);
bool bytes_ends_nocase(struct bytes s, struct bytes suffix);
// Compares as memcmp does, shorter first on a tie.
int bytes_cmp(struct bytes a, struct bytes b);
// Takes the same time whatever the contents (not the lengths).
bool bytes_eq_secret(struct bytes a, struct bytes b);

// Index of the first (last) byte c, or -1.
ptrdiff_t bytes_find(struct bytes s, char c);
ptrdiff_t bytes_find_last(struct bytes s, char c);
// Index of the first occurrence of needle, or -1.
ptrdiff_t bytes_search(struct bytes s, struct bytes needle);

// Takes the part of *s before the first c into *out_part and moves *s behind it; without a c takes all and
// leaves *s empty. False if *s was empty with at == NULL (nothing more to cut). After the last part *s is
// BYTES_NONE.
bool bytes_cut(struct bytes *s, char c, struct bytes *out_part);

// Without leading and trailing SP, HTAB, CR and LF.
struct bytes bytes_trim(struct bytes s);

// Decimal digits only, whole slice, at most 20 digits. E_SYNTAX; E_LIMIT beyond max.
int bytes_to_u64(struct bytes s, uint64_t max, uint64_t *out) MUST_USE;

// Length in bytes of the valid UTF-8 character (RFC 3629) that s starts with; 0 if there is none.
size_t bytes_utf8_len(struct bytes s);
// Valid UTF-8 (no surrogates, no overlong forms, up to U+10FFFF).
bool bytes_is_utf8(struct bytes s);
bool bytes_is_ascii(struct bytes s);
// Contains a byte below 0x20 other than those in `allowed` (may be NULL), or 0x7f.
bool bytes_has_control(struct bytes s, const char *allowed);

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}
static inline bool ascii_is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static inline bool ascii_is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline bool ascii_is_alnum(char c)
{
    return ascii_is_digit(c) || ascii_is_alpha(c);
}
// Unlike with strchr() NUL is in no set.
static inline bool ascii_is_one_of(char c, const char *set)
{
    return c && strchr(set, c);
}
