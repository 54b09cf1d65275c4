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
        size_t cap = b->cap < 64 ? 128 : b->cap * 2;
        cap = cap > max ? max + 1 : cap; // so that what fits is what may stand there
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

void buf_add_slices(struct buf *b, const struct bytes *slices, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += slices[i].len;
    if (!buf_reserve(b, total)) // all or nothing
        return;
    for (size_t i = 0; i < count; i++)
        buf_add(b, slices[i]);
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

void buf_add_i64(struct buf *b, int64_t value)
{
    if (value < 0)
        buf_add_byte(b, '-');
    buf_add_u64(b, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void buf_add_padded(struct buf *b, uint64_t value, unsigned digits)
{
    CHECK(digits <= 20);
    char *at = buf_reserve(b, digits);
    if (!at)
        return;
    for (unsigned i = digits; i-- > 0; value /= 10)
        at[i] = (char)('0' + value % 10);
    b->len += digits;
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t room = b->err ? 0 : b->cap - b->len; // most fit into what there is already
    int n = vsnprintf(room ? b->at + b->len : NULL, room, format, args);
    va_end(args);
    CHECK(n >= 0);
    if ((size_t)n < room) {
        b->len += (size_t)n;
    } else {
        char *at = buf_reserve(b, (size_t)n);
        if (at) {
            vsnprintf(at, (size_t)n + 1, format, again);
            b->len += (size_t)n;
        }
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

// Length of the run at the start of s that is shown as it is.
static size_t plain_len(struct bytes s)
{
    size_t n = 0;
    while (n < s.len && (unsigned char)s.at[n] >= 0x20 && (unsigned char)s.at[n] < 0x7f &&
           s.at[n] != '"' && s.at[n] != '\\')
        n++;
    return n;
}

static void add_shown(struct buf *b, struct bytes s, size_t max, bool quotes)
{
    size_t shown = 0;
    while (shown < s.len) {
        size_t plain = plain_len(bytes_mid(s, shown, max - shown));
        buf_add(b, bytes_mid(s, shown, plain));
        shown += plain;
        struct bytes rest = bytes_skip(s, shown);
        if (!rest.len)
            return;
        size_t n = bytes_utf8_len(rest);
        if (shown + (n ? n : 1) > max) {
            buf_add(b, BYTES("..."));
            return;
        }
        unsigned char c = (unsigned char)rest.at[0];
        const char *escape = short_escape(rest.at[0]);
        if (quotes && (c == '"' || c == '\\'))
            buf_add_byte(b, rest.at[0]);
        else if (escape)
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

void buf_add_escaped(struct buf *b, struct bytes s, size_t max)
{
    add_shown(b, s, max, false);
}

void buf_add_visible(struct buf *b, struct bytes s, size_t max)
{
    add_shown(b, s, max, true);
}

void buf_add_json(struct buf *b, struct bytes s)
{
    while (s.len) {
        size_t plain = plain_len(s);
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
