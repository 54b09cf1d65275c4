// SPDX-License-Identifier: MIT
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
    free(b->at);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->err = OK;
}

char *buf_reserve(struct buf *b, size_t n)
{
    size_t max = b->max ? b->max : BUF_MAX_DEFAULT;
    if (b->err)
        return NULL;
    if (n > max || b->len > max - n) {
        b->err = E_LIMIT;
        return NULL;
    }
    size_t need = b->len + n + 1; // room for the NUL of buf_cstr()
    if (need > b->cap) {
        size_t cap = b->cap < 32 ? 64 : b->cap * 2;
        b->cap = cap < need ? need : cap;
        b->at = mem_resize(b->at, b->cap);
    }
    return b->at + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
    CHECK(n == 0 || b->len + n < b->cap);
    b->len += n;
}

void buf_add(struct buf *b, struct bytes s)
{
    char *at = s.len ? buf_reserve(b, s.len) : NULL;
    if (!at)
        return;
    memcpy(at, s.at, s.len);
    b->len += s.len;
}

void buf_add_cstr(struct buf *b, const char *text)
{
    buf_add(b, bytes_cstr(text));
}

void buf_add_byte(struct buf *b, char c)
{
    buf_add(b, (struct bytes){&c, 1});
}

void buf_add_u64(struct buf *b, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    buf_add(b, (struct bytes){digits + at, sizeof(digits) - at});
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(n >= 0);
    char *at = buf_reserve(b, (size_t)n);
    if (at) {
        vsnprintf(at, (size_t)n + 1, format, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_consume(struct buf *b, size_t n)
{
    CHECK(n <= b->len);
    b->len -= n;
    if (n && b->len)
        memmove(b->at, b->at + n, b->len);
}

void buf_truncate(struct buf *b, size_t len)
{
    CHECK(len <= b->len);
    b->len = len;
}

const char *buf_cstr(struct buf *b)
{
    if (b->err || b->len == 0)
        return "";
    b->at[b->len] = 0;
    return b->at;
}

char *buf_take(struct buf *b)
{
    if (b->err)
        return NULL;
    char *at = b->at ? b->at : mem_new(1);
    at[b->len] = 0;
    *b = (struct buf){.max = b->max};
    return at;
}

static void add_hex(struct buf *b, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char text[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
    buf_add(b, (struct bytes){text, sizeof(text)});
}

// The two-character escape of c, or NULL if it has none.
static const char *short_escape(char c)
{
    switch (c) {
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    default:
        return NULL;
    }
}

void buf_add_escaped(struct buf *b, struct bytes s, size_t max)
{
    size_t shown = 0;
    while (shown < s.len) {
        struct bytes rest = bytes_skip(s, shown);
        size_t n = bytes_utf8_len(rest);
        if (shown + (n ? n : 1) > max) {
            buf_add(b, BYTES("..."));
            return;
        }
        unsigned char c = (unsigned char)rest.at[0];
        const char *escape = short_escape(rest.at[0]);
        if (escape)
            buf_add_cstr(b, escape);
        else if (n == 0 || c < 0x20 || c == 0x7f)
            add_hex(b, c);
        else if (n == 2 && c == 0xc2 && (unsigned char)rest.at[1] < 0xa0) { // C1 controls
            add_hex(b, c);
            add_hex(b, (unsigned char)rest.at[1]);
        } else
            buf_add(b, bytes_first(rest, n));
        shown += n ? n : 1;
    }
}

// Length of the run at the start of s that a JSON string shows as it is.
static size_t json_plain(struct bytes s)
{
    size_t n = 0;
    while (n < s.len && (unsigned char)s.at[n] >= 0x20 && (unsigned char)s.at[n] < 0x7f &&
           s.at[n] != '"' && s.at[n] != '\\')
        n++;
    return n;
}

void buf_add_json(struct buf *b, struct bytes s)
{
    while (s.len) {
        size_t plain = json_plain(s);
        buf_add(b, bytes_first(s, plain));
        s = bytes_skip(s, plain);
        if (s.len == 0)
            return;
        size_t n = bytes_utf8_len(s);
        unsigned char c = (unsigned char)s.at[0];
        const char *escape = short_escape(s.at[0]);
        if (escape)
            buf_add_cstr(b, escape);
        else if (n == 0)
            buf_add(b, BYTES("\xef\xbf\xbd"));
        else if (c < 0x20 || c == 0x7f)
            buf_printf(b, "\\u%04x", c);
        else
            buf_add(b, bytes_first(s, n));
        s = bytes_skip(s, n ? n : 1);
    }
}
