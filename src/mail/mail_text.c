// SPDX-License-Identifier: MIT
#include "mail/mail_text.h"

bool mail_is_atext(char c)
{
    // RFC 5322 section 3.2.3
    return ascii_is_alnum(c) || ascii_is_one_of(c, "!#$%&'*+-/=?^_`{|}~");
}

size_t mail_utf8_non_ascii(struct bytes s)
{
    size_t n = bytes_utf8_len(s);
    if (n < 2)
        return 0;
    const unsigned char *p = (const unsigned char *)s.at;
    if (p[0] == 0xc2 && p[1] < 0xa0) // C1 controls
        return 0;
    if (n == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9))
        return 0; // line and paragraph separator
    return n;
}

uint32_t mail_utf8_get(struct bytes s)
{
    const unsigned char *p = (const unsigned char *)s.at;
    if (p[0] < 0x80)
        return p[0];
    if (p[0] < 0xe0)
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    if (p[0] < 0xf0)
        return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
           (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}

void mail_utf8_put(uint32_t c, struct buf *out)
{
    char text[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        text[i] = (char)(0x80 | (c & 0x3f));
    text[0] = (char)(lead[n] | c);
    buf_add(out, (struct bytes){text, n});
}

void mail_utf8_repair(struct bytes s, struct buf *out)
{
    while (s.len) {
        size_t n = bytes_utf8_len(s);
        buf_add(out, n ? bytes_first(s, n) : BYTES("\xef\xbf\xbd"));
        s = bytes_skip(s, n ? n : 1);
    }
}

bool mail_skip_cfws(struct bytes *s)
{
    size_t depth = 0, at = 0;
    for (; at < s->len; at++) {
        char c = s->at[at];
        if (c == '(')
            depth++;
        else if (depth && c == ')')
            depth--;
        else if (depth && c == '\\')
            at++;
        else if (!depth && c != ' ' && c != '\t' && c != '\r' && c != '\n')
            break;
    }
    *s = bytes_skip(*s, at);
    return depth == 0;
}

int mail_hex_value(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
