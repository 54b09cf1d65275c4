// SPDX-License-Identifier: MIT
#include "mail/mail_encode.h"

#include "base/check.h"
#include "mail/mail_text.h"

static const char base64_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char upper_hex[] = "0123456789ABCDEF";

// ---- base64

// The four characters of up to three bytes.
static void base64_group(const uint8_t *in, size_t n, char out[4])
{
    uint32_t bits =
        (uint32_t)in[0] << 16 | (n > 1 ? (uint32_t)in[1] << 8 : 0) | (n > 2 ? in[2] : 0);
    out[0] = base64_alphabet[bits >> 18];
    out[1] = base64_alphabet[bits >> 12 & 63];
    out[2] = n > 1 ? base64_alphabet[bits >> 6 & 63] : '=';
    out[3] = n > 2 ? base64_alphabet[bits & 63] : '=';
}

void mail_base64_encode(struct bytes s, struct buf *out)
{
    CHECK(s.len <= SIZE_MAX / 2);
    size_t chars = (s.len + 2) / 3 * 4;
    char *at = buf_reserve(out, chars);
    if (!at)
        return;
    for (size_t i = 0; i < s.len; i += 3, at += 4)
        base64_group((const uint8_t *)s.at + i, s.len - i < 3 ? s.len - i : 3, at);
    buf_commit(out, chars);
}

void mail_base64_encoder_feed(struct mail_base64_encoder *e, struct bytes data, struct buf *out)
{
    char group[4];
    for (size_t i = 0; i < data.len; i++) {
        e->carry[e->carried++] = (uint8_t)data.at[i];
        if (e->carried < 3)
            continue;
        base64_group(e->carry, 3, group);
        buf_add(out, bytes_of(group, 4));
        e->carried = 0;
        e->column += 4;
        if (e->column == MAIL_ENCODED_LINE_MAX) {
            buf_add(out, BYTES("\r\n"));
            e->column = 0;
        }
    }
}

void mail_base64_encoder_finish(struct mail_base64_encoder *e, struct buf *out)
{
    char group[4];
    if (e->carried) {
        base64_group(e->carry, e->carried, group);
        buf_add(out, bytes_of(group, 4));
    }
    if (e->carried || e->column)
        buf_add(out, BYTES("\r\n"));
    *e = (struct mail_base64_encoder){0};
}

int mail_base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (ascii_is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// Writes what the whole group of four, `padding` of them "=", stands for.
static int base64_end_group(struct mail_base64_decoder *d, struct buf *out)
{
    char data[3] = {(char)(d->bits >> 16), (char)(d->bits >> 8), (char)d->bits};
    for (size_t i = 3 - d->padding; i < 3; i++)
        if (data[i])
            return E_SYNTAX; // RFC 4648 section 3.5: spare bits are zero
    buf_add(out, bytes_of(data, 3 - d->padding));
    d->count = 0;
    d->bits = 0;
    return out->err;
}

static int base64_char(struct mail_base64_decoder *d, char c, struct buf *out)
{
    int value = mail_base64_value(c);
    bool is_padding = c == '=' && (d->count == 2 || d->count == 3);
    if (value < 0 && !is_padding)
        return E_SYNTAX;
    if (d->padding && (value >= 0 || d->count == 0))
        return E_SYNTAX; // nothing comes behind the padding
    d->padding += is_padding;
    d->bits = d->bits << 6 | (uint32_t)(value < 0 ? 0 : value);
    return ++d->count == 4 ? base64_end_group(d, out) : OK;
}

int mail_base64_decoder_feed(struct mail_base64_decoder *d, struct bytes text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '\r' || c == '\n' || c == ' ' || c == '\t')
            continue;
        int err = base64_char(d, c, out);
        if (err)
            return err;
    }
    return out->err;
}

int mail_base64_decoder_finish(struct mail_base64_decoder *d)
{
    int err = d->count ? E_SYNTAX : OK;
    *d = (struct mail_base64_decoder){0};
    return err;
}

int mail_base64_decode(struct bytes text, struct buf *out)
{
    struct mail_base64_decoder d = {0};
    size_t start = out->len;
    int err = out->err;
    for (size_t i = 0; i < text.len && err == OK; i++)
        err = base64_char(&d, text.at[i], out);
    if (err == OK)
        err = mail_base64_decoder_finish(&d);
    if (err)
        buf_truncate(out, start);
    return err;
}

// ---- quoted-printable

static void qp_put(struct mail_qp_encoder *e, struct bytes token, struct buf *out)
{
    if (e->column + token.len > MAIL_ENCODED_LINE_MAX - 1) {
        buf_add(out, BYTES("=\r\n"));
        e->column = 0;
    }
    buf_add(out, token);
    e->column += (uint8_t)token.len;
}

static void qp_put_byte(struct mail_qp_encoder *e, char c, bool as_it_is, struct buf *out)
{
    char token[3] = {'=', upper_hex[(unsigned char)c >> 4], upper_hex[c & 15]};
    // A token that a soft break will move to a new line must not begin it so either.
    bool begins_line = e->column == 0 || e->column == MAIL_ENCODED_LINE_MAX - 1;
    if ((c == '.' || c == '-') && begins_line)
        as_it_is = false;
    qp_put(e, as_it_is ? bytes_of(&c, 1) : bytes_of(token, 3), out);
}

static void qp_put_space(struct mail_qp_encoder *e, bool as_it_is, struct buf *out)
{
    if (e->space)
        qp_put_byte(e, e->space, as_it_is, out);
    e->space = 0;
}

// The held start of a "From" that came to something else.
static void qp_put_matched(struct mail_qp_encoder *e, struct buf *out)
{
    if (e->matched)
        qp_put(e, bytes_first(BYTES("From"), e->matched), out);
    e->matched = 0;
}

static void qp_plain(struct mail_qp_encoder *e, char c, struct buf *out)
{
    qp_put_space(e, true, out);
    if (e->column == 0 && e->matched < 4 && c == "From"[e->matched]) {
        e->matched++;
        return;
    }
    qp_put_matched(e, out);
    bool as_it_is = c >= 33 && c <= 126 && c != '=';
    if (c == 'F' && e->column >= MAIL_ENCODED_LINE_MAX - 1)
        as_it_is = false; // it would begin a line, out of reach of the match
    qp_put_byte(e, c, as_it_is, out);
}

static void qp_byte(struct mail_qp_encoder *e, char c, struct buf *out)
{
    if (e->held_cr) {
        e->held_cr = false;
        if (c == '\n') {
            qp_put_matched(e, out);
            qp_put_space(e, false, out);
            buf_add(out, BYTES("\r\n"));
            e->column = 0;
            return;
        }
        qp_plain(e, '\r', out);
    }
    if (c == '\r') {
        e->held_cr = true;
    } else if (c == ' ' || c == '\t') {
        if (e->matched == 4 && c == ' ') { // "From " begins the line
            qp_put(e, BYTES("=46rom"), out);
            e->matched = 0;
        }
        qp_put_matched(e, out);
        qp_put_space(e, true, out);
        e->space = c;
    } else
        qp_plain(e, c, out);
}

void mail_qp_encoder_feed(struct mail_qp_encoder *e, struct bytes data, struct buf *out)
{
    for (size_t i = 0; i < data.len; i++)
        qp_byte(e, data.at[i], out);
}

void mail_qp_encoder_finish(struct mail_qp_encoder *e, struct buf *out)
{
    qp_put_matched(e, out);
    qp_put_space(e, e->held_cr, out);
    if (e->held_cr)
        qp_put_byte(e, '\r', false, out);
    *e = (struct mail_qp_encoder){0};
}

enum qp_state { QP_TEXT, QP_CR, QP_EQUALS, QP_DIGIT, QP_SOFT, QP_SOFT_CR };

static int qp_text(struct mail_qp_decoder *d, char c, struct buf *out)
{
    if (c == '\r') {
        d->state = QP_CR;
        return OK;
    }
    if (c == ' ' || c == '\t') {
        if (d->held == sizeof(d->space))
            return E_SYNTAX; // longer than a line may be
        d->space[d->held++] = c;
        return OK;
    }
    buf_add(out, bytes_of(d->space, d->held));
    d->held = 0;
    if (c == '=')
        d->state = QP_EQUALS;
    else if (c < 33 || c > 126)
        return E_SYNTAX;
    else
        buf_add_byte(out, c);
    return OK;
}

static int qp_after_equals(struct mail_qp_decoder *d, char c)
{
    if (mail_hex_value(c) >= 0 && d->state == QP_EQUALS) {
        d->digit = c;
        d->state = QP_DIGIT;
    } else if (c == ' ' || c == '\t')
        d->state = QP_SOFT; // transport padding
    else if (c == '\r')
        d->state = QP_SOFT_CR;
    else
        return E_SYNTAX;
    return OK;
}

static int qp_decode_byte(struct mail_qp_decoder *d, char c, struct buf *out)
{
    switch ((enum qp_state)d->state) {
    case QP_TEXT:
        return qp_text(d, c, out);
    case QP_EQUALS:
    case QP_SOFT:
        return qp_after_equals(d, c);
    case QP_DIGIT:
        if (mail_hex_value(c) < 0)
            return E_SYNTAX;
        buf_add_byte(out, (char)(mail_hex_value(d->digit) << 4 | mail_hex_value(c)));
        d->state = QP_TEXT;
        return OK;
    default:
        if (c != '\n')
            return E_SYNTAX;
        if (d->state == QP_CR) {
            d->held = 0;
            buf_add(out, BYTES("\r\n"));
        }
        d->state = QP_TEXT;
        return OK;
    }
}

int mail_qp_decoder_feed(struct mail_qp_decoder *d, struct bytes text, struct buf *out)
{
    int err = OK;
    for (size_t i = 0; i < text.len && err == OK; i++)
        err = qp_decode_byte(d, text.at[i], out);
    return err ? err : out->err;
}

int mail_qp_decoder_finish(struct mail_qp_decoder *d)
{
    int err = d->state == QP_TEXT ? OK : E_SYNTAX;
    *d = (struct mail_qp_decoder){0};
    return err;
}

// ---- xtext and its kin

void mail_xtext_encode(struct bytes s, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        char escape[3] = {'+', upper_hex[(unsigned char)c >> 4], upper_hex[c & 15]};
        if (c >= 33 && c <= 126 && c != '+' && c != '=')
            buf_add_byte(out, c);
        else
            buf_add(out, bytes_of(escape, 3));
    }
}

static int upper_hex_value(char c)
{
    return c >= 'a' ? -1 : mail_hex_value(c);
}

int mail_xtext_decode(struct bytes text, struct buf *out)
{
    size_t start = out->len;
    int err = OK;
    for (size_t i = 0; i < text.len && err == OK; i++) {
        char c = text.at[i];
        if (c == '+' && text.len - i > 2 && upper_hex_value(text.at[i + 1]) >= 0 &&
            upper_hex_value(text.at[i + 2]) >= 0) {
            c = (char)(upper_hex_value(text.at[i + 1]) << 4 | upper_hex_value(text.at[i + 2]));
            i += 2;
        } else if (c < 33 || c > 126 || c == '+' || c == '=')
            err = E_SYNTAX;
        buf_add_byte(out, c);
    }
    if (err == OK)
        err = out->err;
    if (err)
        buf_truncate(out, start);
    return err;
}

// QCHAR of RFC 6533 section 3
static bool is_qchar(char c)
{
    return c >= 33 && c <= 126 && c != '+' && c != '=' && c != '\\';
}

static void utf8_addr_encode(struct bytes s, bool keep_utf8, struct buf *out)
{
    while (s.len) {
        size_t n = bytes_utf8_len(s);
        CHECK(n > 0);
        if (is_qchar(s.at[0]) || (n > 1 && keep_utf8))
            buf_add(out, bytes_first(s, n));
        else
            buf_printf(out, "\\x{%02X}", mail_utf8_get(s));
        s = bytes_skip(s, n);
    }
}

void mail_utf8_addr_xtext_encode(struct bytes s, struct buf *out)
{
    utf8_addr_encode(s, false, out);
}

void mail_utf8_addr_unitext_encode(struct bytes s, struct buf *out)
{
    utf8_addr_encode(s, true, out);
}

// EmbeddedUnicodeChar: "\x{" HEXPOINT "}" at the start of s. HEXPOINT has no leading zero, and of
// ASCII stands only for what could not be written plainly; controls are refused. 0: malformed.
static size_t utf8_addr_escape(struct bytes s, uint32_t *out)
{
    size_t at = 3;
    uint32_t value = 0;
    if (!bytes_starts(s, BYTES("\\x{")))
        return 0;
    for (; at < s.len && at < 9 && upper_hex_value(s.at[at]) >= 0; at++)
        value = value << 4 | (uint32_t)upper_hex_value(s.at[at]);
    if (at >= s.len || s.at[at] != '}' || s.at[3] == '0')
        return 0;
    bool is_ascii = value == 0x20 || value == 0x2b || value == 0x3d || value == 0x5c;
    bool is_other = value >= 0xa0 && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff);
    *out = value;
    return is_ascii || is_other ? at + 1 : 0;
}

int mail_utf8_addr_decode(struct bytes text, struct buf *out)
{
    size_t start = out->len;
    int err = OK;
    while (text.len && err == OK) {
        size_t n = is_qchar(text.at[0]) ? 1 : mail_utf8_non_ascii(text);
        uint32_t value;
        if (n)
            buf_add(out, bytes_first(text, n));
        else if ((n = utf8_addr_escape(text, &value)))
            mail_utf8_put(value, out);
        else
            err = E_SYNTAX;
        text = bytes_skip(text, n);
    }
    if (err == OK)
        err = out->err;
    if (err)
        buf_truncate(out, start);
    return err;
}
