// SPDX-License-Identifier: MIT
#include "mail/mail_rfc2047.h"

#include "mail/mail_encode.h"
#include "mail/mail_text.h"

#define WORD_MAX 75      // RFC 2047 section 2
#define WORD_OVERHEAD 12 // "=?utf-8?B?" and "?="
#define WORD_DATA_MIN 16 // even on a line that is nearly full

// ---- encoding

struct folder {
    struct buf *out;
    size_t column;
    bool is_first;
};

// Writes a word behind a space, or on a line of its own when it would not fit.
static void put_word(struct folder *f, struct bytes word)
{
    if (!f->is_first) {
        bool fits = f->column + 1 + word.len <= MAIL_ENCODED_LINE_MAX;
        buf_add_cstr(f->out, fits ? " " : "\r\n ");
        f->column = fits ? f->column + 1 : 1;
    }
    f->is_first = false;
    buf_add(f->out, word);
    f->column += word.len;
}

// Safe in every place where an encoded-word may stand, a phrase too (RFC 2047 section 5 (3)).
static bool is_q_safe(char c)
{
    return ascii_is_alnum(c) || ascii_is_one_of(c, "!*+-/");
}

// Characters of the Q encoding of the bytes.
static size_t q_length(struct bytes s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += is_q_safe(s.at[i]) || s.at[i] == ' ' ? 1 : 3;
    return n;
}

static void q_put(struct bytes s, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == ' ')
            buf_add_byte(out, '_');
        else if (is_q_safe(s.at[i]))
            buf_add_byte(out, s.at[i]);
        else
            buf_printf(out, "=%02X", (unsigned char)s.at[i]);
    }
}

// As many whole characters of s as the next encoded-word can carry.
static size_t word_capacity(const struct folder *f, struct bytes s, bool is_q)
{
    size_t at = 0, used = 0, room = WORD_MAX - WORD_OVERHEAD;
    size_t taken =
        f->is_first ? f->column + WORD_OVERHEAD : 0; // the first word can't go to a new line
    if (taken && room + taken > MAIL_ENCODED_LINE_MAX)
        room = taken + WORD_DATA_MIN < MAIL_ENCODED_LINE_MAX ? MAIL_ENCODED_LINE_MAX - taken
                                                             : WORD_DATA_MIN;
    while (at < s.len) {
        size_t n = bytes_utf8_len(bytes_skip(s, at));
        used += is_q ? q_length(bytes_mid(s, at, n)) : n;
        if (used > (is_q ? room : room / 4 * 3))
            break;
        at += n;
    }
    return at;
}

static void put_encoded_run(struct folder *f, struct bytes s)
{
    bool is_q = q_length(s) <= 2 * s.len; // people can read it
    while (s.len) {
        struct buf word;
        buf_init(&word, 128);
        size_t n = word_capacity(f, s, is_q);
        buf_add_cstr(&word, is_q ? "=?utf-8?Q?" : "=?utf-8?B?");
        if (is_q)
            q_put(bytes_first(s, n), &word);
        else
            mail_base64_encode(bytes_first(s, n), &word);
        buf_add(&word, BYTES("?="));
        put_word(f, buf_bytes(&word));
        buf_done(&word);
        s = bytes_skip(s, n);
    }
}

static bool must_encode(struct bytes word)
{
    return word.len == 0 || word.len > MAIL_ENCODED_LINE_MAX - 1 || !bytes_is_ascii(word) ||
           bytes_has_control(word, NULL) || bytes_search(word, BYTES("=?")) >= 0;
}

static size_t word_length(struct bytes s)
{
    ptrdiff_t space = bytes_find(s, ' ');
    return space < 0 ? s.len : (size_t)space;
}

// Words that must be encoded and stand side by side go into one run, with the spaces between them.
static void encode_words(struct folder *f, struct bytes s)
{
    while (s.len) {
        size_t n = word_length(s);
        if (!must_encode(bytes_first(s, n))) {
            put_word(f, bytes_first(s, n));
            s = bytes_skip(s, n + 1);
            continue;
        }
        while (n < s.len) {
            size_t next = word_length(bytes_skip(s, n + 1));
            if (!must_encode(bytes_mid(s, n + 1, next)))
                break;
            n += 1 + next;
        }
        put_encoded_run(f, bytes_first(s, n));
        s = bytes_skip(s, n + 1);
    }
}

void mail_rfc2047_encode(struct bytes utf8, size_t column, struct buf *out)
{
    struct folder f = {out, column, true};
    struct buf text = {.max = BUF_MAX_DEFAULT};
    mail_utf8_repair(utf8, &text);
    struct bytes s = buf_bytes(&text);
    bool odd_spaces = bytes_starts(s, BYTES(" ")) || bytes_ends(s, BYTES(" ")) ||
                      bytes_search(s, BYTES("  ")) >= 0;
    if (odd_spaces)
        put_encoded_run(&f, s); // as plain words they would not survive
    else
        encode_words(&f, s);
    if (text.err)
        out->err = text.err;
    buf_done(&text);
}

// ---- decoding

enum charset { CHARSET_UTF8, CHARSET_LATIN1, CHARSET_WINDOWS, CHARSET_OTHER };

struct encoded_word {
    enum charset charset;
    bool is_q;
    struct bytes text;
};

static enum charset charset_of(struct bytes name)
{
    static const struct {
        struct bytes name;
        enum charset charset;
    } rows[] = {
        {{"utf-8", 5}, CHARSET_UTF8},
        {{"utf8", 4}, CHARSET_UTF8},
        {{"us-ascii", 8}, CHARSET_UTF8},
        {{"ascii", 5}, CHARSET_UTF8},
        {{"iso-8859-1", 10}, CHARSET_LATIN1},
        {{"latin1", 6}, CHARSET_LATIN1},
        {{"windows-1252", 12}, CHARSET_WINDOWS},
        {{"cp1252", 6}, CHARSET_WINDOWS},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (bytes_eq_nocase(name, rows[i].name))
            return rows[i].charset;
    return CHARSET_OTHER;
}

// encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?="   (RFC 2047, 2231)
static int parse_word(struct bytes s, struct encoded_word *out)
{
    struct bytes charset, encoding;
    if (s.len < 8 || !bytes_starts(s, BYTES("=?")) || !bytes_ends(s, BYTES("?=")))
        return E_SYNTAX;
    s = bytes_mid(s, 2, s.len - 4);
    if (!bytes_cut(&s, '?', &charset) || !bytes_cut(&s, '?', &encoding) || !s.at)
        return E_SYNTAX;
    if (charset.len == 0 || encoding.len != 1 || bytes_find(s, '?') >= 0)
        return E_SYNTAX;
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] < 33 || s.at[i] > 126)
            return E_SYNTAX;
    ptrdiff_t star = bytes_find(charset, '*');
    out->charset = charset_of(star < 0 ? charset : bytes_first(charset, (size_t)star));
    out->is_q = ascii_lower(encoding.at[0]) == 'q';
    out->text = s;
    return out->is_q || ascii_lower(encoding.at[0]) == 'b' ? OK : E_SYNTAX;
}

static int q_decode(struct bytes s, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] != '=') {
            buf_add_byte(out, s.at[i] == '_' ? ' ' : s.at[i]);
            continue;
        }
        if (s.len - i < 3 || mail_hex_value(s.at[i + 1]) < 0 || mail_hex_value(s.at[i + 2]) < 0)
            return E_SYNTAX;
        buf_add_byte(out, (char)(mail_hex_value(s.at[i + 1]) << 4 | mail_hex_value(s.at[i + 2])));
        i += 2;
    }
    return out->err;
}

// The code points of windows-1252's bytes 0x80 to 0x9f; 0 where there is none.
static const uint16_t windows_1252[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017d, 0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178};

static void put_8bit(struct bytes s, bool is_windows, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        uint32_t c = (unsigned char)s.at[i];
        if (is_windows && c >= 0x80 && c < 0xa0)
            c = windows_1252[c - 0x80] ? windows_1252[c - 0x80] : 0xfffd;
        mail_utf8_put(c, out);
    }
}

// Appends the word's bytes as UTF-8, which may be cut in a character where the next word goes on
// with it.
static int decode_raw(struct bytes text, struct buf *out)
{
    struct encoded_word word;
    struct buf data = {.max = BUF_MAX_DEFAULT};
    int err = parse_word(text, &word);
    if (err == OK)
        err = word.is_q ? q_decode(word.text, &data) : mail_base64_decode(word.text, &data);
    if (err == OK && word.charset == CHARSET_OTHER)
        err = E_NOT_FOUND;
    if (err == OK && word.charset == CHARSET_UTF8)
        buf_add(out, buf_bytes(&data));
    else if (err == OK)
        put_8bit(buf_bytes(&data), word.charset == CHARSET_WINDOWS, out);
    buf_done(&data);
    return err;
}

int mail_rfc2047_decode_word(struct bytes text, struct buf *out)
{
    struct buf raw = {.max = BUF_MAX_DEFAULT};
    int err = decode_raw(text, &raw);
    if (err == OK)
        mail_utf8_repair(buf_bytes(&raw), out);
    buf_done(&raw);
    return err ? err : out->err;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Length of the run of (not) white space that s starts with.
static size_t run_length(struct bytes s, bool of_space)
{
    size_t n = 0;
    while (n < s.len && is_space(s.at[n]) == of_space)
        n++;
    return n;
}

void mail_rfc2047_decode(struct bytes value, struct buf *out)
{
    struct buf raw = {.max = BUF_MAX_DEFAULT};
    bool after_word = false;
    value = bytes_trim(value);
    while (value.len) {
        size_t space_len = run_length(value, true), before = raw.len;
        for (size_t i = 0; i < space_len; i++) // unfolded
            if (value.at[i] == ' ' || value.at[i] == '\t')
                buf_add_byte(&raw, value.at[i]);
        value = bytes_skip(value, space_len);
        size_t n = run_length(value, false), behind = raw.len;
        bool is_word = decode_raw(bytes_first(value, n), &raw) == OK;
        if (!is_word)
            buf_add(&raw, bytes_first(value, n));
        else if (after_word && raw.err == OK) { // the space between two words does not count
            memmove(raw.at + before, raw.at + behind, raw.len - behind);
            buf_truncate(&raw, raw.len - (behind - before));
        }
        after_word = is_word;
        value = bytes_skip(value, n);
    }
    mail_utf8_repair(buf_bytes(&raw), out);
    buf_done(&raw);
}
