// SPDX-License-Identifier: MIT
//
// buf - an owned, growing, capped byte buffer; how everything is built
//
// Errors stick: after an append that would pass the cap, `err` is E_LIMIT, the contents stay as they were
// and later appends do nothing. Check once at the end. A zeroed struct buf is a valid empty buffer with no
// cap (max == 0 means BUF_MAX_DEFAULT).
#pragma once

#include "base/bytes.h"

#define BUF_MAX_DEFAULT ((size_t)64 << 20)

struct buf {
    char *at;
    size_t len, cap, max;
    int err;
};

void buf_init(struct buf *b, size_t max);
// Frees the memory; the buffer is empty and usable again.
void buf_done(struct buf *b);
// Empties, keeps the memory, clears err.
void buf_clear(struct buf *b);
static inline struct bytes buf_bytes(const struct buf *b)
{
    return (struct bytes){b->at, b->len};
}
// Room for n more bytes; returns where to write them (then buf_commit), or NULL with err set.
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
static inline void buf_add(struct buf *b, struct bytes s)
{
    char *at = s.len ? buf_reserve(b, s.len) : NULL;
    if (at) {
        memcpy(at, s.at, s.len);
        b->len += s.len;
    }
}

static inline void buf_add_cstr(struct buf *b, const char *text)
{
    buf_add(b, bytes_cstr(text));
}

static inline void buf_add_byte(struct buf *b, char c)
{
    char *at = buf_reserve(b, 1);
    if (at) {
        *at = c;
        b->len++;
    }
}

// Appends all of the slices, in order: buf_add_all(b, BYTES("<"), path, BYTES(">")).
void buf_add_slices(struct buf *b, const struct bytes *slices, size_t count);
#define buf_add_all(b, ...)                                                                        \
    buf_add_slices((b), (const struct bytes[]){__VA_ARGS__},                                       \
                   sizeof((const struct bytes[]){__VA_ARGS__}) / sizeof(struct bytes))
void buf_add_u64(struct buf *b, uint64_t value); // decimal
void buf_add_i64(struct buf *b, int64_t value);
// Decimal with leading zeros; the lowest `digits` of it, at most 20.
void buf_add_padded(struct buf *b, uint64_t value, unsigned digits);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Drops the first n bytes.
void buf_consume(struct buf *b, size_t n);
void buf_truncate(struct buf *b, size_t len);
// NUL-terminates behind the contents (not counted in len) and returns at; "" if nothing or failed.
const char *buf_cstr(struct buf *b);
// Moves the memory to the caller (free()); the buffer is empty. NUL-terminated. NULL if err is set.
char *buf_take(struct buf *b);
// Appends s with control bytes, DEL, backslash, double quote and invalid UTF-8 as \xHH (or \n \r \t \\ \"):
// for showing bytes from outside. At most max bytes of s, then "...".
void buf_add_escaped(struct buf *b, struct bytes s, size_t max);
// The same for people, who may copy what they read: quotes and backslashes stand as they are.
void buf_add_visible(struct buf *b, struct bytes s, size_t max);
// Appends s as the inside of a JSON string (RFC 8259 section 7); invalid UTF-8 becomes U+FFFD.
void buf_add_json(struct buf *b, struct bytes s);
