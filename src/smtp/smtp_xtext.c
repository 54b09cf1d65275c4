// SPDX-License-Identifier: MIT
//
// smtp_xtext - the encoded values of parameters

#include "smtp/smtp_xtext.h"

#include "mail/mail_encode.h"
#include "mail/mail_text.h"

static int hex_digit(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; // RFC 3461 section 4: upper case
}

bool smtp_xtext_is_valid(struct bytes text, size_t max)
{
    if (text.len == 0 || text.len > max)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c < 0x21 || c > 0x7e || c == '=')
            return false;
        if (c != '+')
            continue;
        int high = i + 2 < text.len ? hex_digit(text.at[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text.at[i + 2]) : -1;
        int value = high * 16 + low;
        if (high < 0 || low < 0 || value < 0x20 || value > 0x7e)
            return false;
        i += 2;
    }
    return true;
}

bool smtp_xtext_decode(struct bytes text, size_t max, struct buf *out)
{
    size_t from = out->len;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c < 0x21 || c > 0x7e || c == '=' || out->len - from == max)
            return false;
        if (c == '+') {
            int high = i + 2 < text.len ? hex_digit(text.at[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text.at[i + 2]) : -1;
            if (low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        buf_add_byte(out, c);
    }
    return out->len > from;
}

#define ORCPT_MAX 500 // RFC 3461 section 4.2

// RFC 6533 section 3: "\x{" 2*6HEXPOINT "}"; the code point must be no control character and no
// surrogate.
static size_t unicode_escape(struct bytes s)
{
    if (!bytes_starts(s, BYTES("\\x{")))
        return 0;
    uint32_t point = 0;
    size_t i = 3;
    for (; i < s.len && i < 3 + 6 && hex_digit(s.at[i]) >= 0; i++)
        point = point * 16 + (uint32_t)hex_digit(s.at[i]);
    if (i < 3 + 2 || i == s.len || s.at[i] != '}' || point > 0x10ffff)
        return 0;
    bool control = point < 0x20 || (point >= 0x7f && point < 0xa0);
    return control || (point >= 0xd800 && point < 0xe000) ? 0 : i + 1;
}

static bool utf8_addr_is_valid(struct bytes s, bool utf8_allowed)
{
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        if (c == '\\') {
            size_t escape = unicode_escape(bytes_skip(s, i));
            if (escape == 0)
                return false;
            i += escape - 1;
        } else if ((unsigned char)c >= 0x80) {
            size_t wide = utf8_allowed ? mail_utf8_non_ascii(bytes_skip(s, i)) : 0;
            if (wide == 0)
                return false;
            i += wide - 1;
        } else if (c < 0x21 || c > 0x7e || c == '=') {
            return false;
        }
    }
    return true;
}

static bool is_atom(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!mail_is_atext(s.at[i]))
            return false;
    return s.len > 0;
}

bool smtp_orcpt_is_valid(struct bytes text, bool utf8_allowed)
{
    ptrdiff_t semicolon = bytes_find(text, ';');
    if (semicolon <= 0 || text.len > ORCPT_MAX)
        return false;
    struct bytes type = bytes_first(text, (size_t)semicolon);
    struct bytes address = bytes_skip(text, (size_t)semicolon + 1);
    if (!is_atom(type))
        return false;
    if (bytes_eq_nocase(type, BYTES("utf-8")))
        return utf8_addr_is_valid(address, utf8_allowed);
    return smtp_xtext_is_valid(address, ORCPT_MAX);
}

void smtp_orcpt_add_ascii(struct bytes orcpt, struct buf *out)
{
    struct bytes type;
    struct buf plain = {0}, ascii = {0};
    if (bytes_cut(&orcpt, ';', &type) && bytes_eq_nocase(type, BYTES("utf-8")) &&
        mail_utf8_addr_decode(orcpt, &plain) == OK) {
        buf_add_all(&ascii, type, BYTES(";"));
        mail_utf8_addr_xtext_encode(buf_bytes(&plain), &ascii);
    }
    if (smtp_orcpt_is_valid(buf_bytes(&ascii), false))
        buf_add(out, buf_bytes(&ascii));
    buf_done(&plain);
    buf_done(&ascii);
}

bool smtp_auth_param_is_valid(struct bytes text)
{
    return bytes_eq(text, BYTES("<>")) || smtp_xtext_is_valid(text, ORCPT_MAX);
}
