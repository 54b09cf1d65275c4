// SPDX-License-Identifier: MIT
//
// smtp_reply_parser - reads one reply of a server that is not to be trusted

#include "smtp/smtp_reply_parser.h"

void smtp_reply_parser_init(struct smtp_reply_parser *p)
{
    *p = (struct smtp_reply_parser){0};
}

void smtp_reply_parser_done(struct smtp_reply_parser *p)
{
    buf_done(&p->text);
    buf_done(&p->line);
}

void smtp_reply_parser_release(struct smtp_reply_parser *p)
{
    if (p->lines > 0 || p->line.len > 0)
        return;
    smtp_reply_parser_done(p);
    p->reply.text = BYTES_NONE;
}

// 1*3DIGIT
static size_t take_number(struct bytes s, uint16_t *out)
{
    size_t i = 0;
    for (*out = 0; i < s.len && i < 3 && ascii_is_digit(s.at[i]); i++)
        *out = (uint16_t)(*out * 10 + (s.at[i] - '0'));
    return i;
}

// RFC 3463 section 2: class "." subject "." detail.
bool smtp_enhanced_parse(struct bytes text, uint8_t class, struct smtp_enhanced *out,
                         size_t *out_used)
{
    struct smtp_enhanced e = {.class = class};
    if (text.len < 5 || text.at[0] != '0' + class || text.at[1] != '.')
        return false;
    size_t subject = take_number(bytes_skip(text, 2), &e.subject);
    size_t at = 2 + subject;
    if (subject == 0 || at >= text.len || text.at[at] != '.')
        return false;
    size_t detail = take_number(bytes_skip(text, at + 1), &e.detail);
    at += 1 + detail;
    if (detail == 0 || (at < text.len && text.at[at] != ' '))
        return false;
    *out = e;
    *out_used = at < text.len ? at + 1 : at;
    return true;
}

static void add_text(struct smtp_reply_parser *p, struct bytes text)
{
    if (p->lines > 1 && p->text.len < SMTP_REPLY_TEXT_MAX)
        buf_add_byte(&p->text, '\n');
    size_t room = SMTP_REPLY_TEXT_MAX - p->text.len;
    size_t from = p->text.len;
    buf_add(&p->text, bytes_first(text, room));
    for (size_t i = from; i < p->text.len; i++) {
        unsigned char c = (unsigned char)p->text.at[i];
        if (c < 0x20 || c == 0x7f)
            p->text.at[i] = c == '\t' ? ' ' : '?';
    }
}

// Takes the enhanced code off the line where it is of the reply's class; the first line's counts.
static struct bytes take_enhanced(struct smtp_reply_parser *p, struct bytes text)
{
    struct smtp_enhanced e;
    size_t used;
    uint8_t class = (uint8_t)(p->reply.code / 100);
    if (class == 3 || !smtp_enhanced_parse(text, class, &e, &used))
        return text;
    if (p->lines == 1)
        p->reply.enhanced = e;
    return p->reply.enhanced.class ? bytes_skip(text, used) : text;
}

static enum smtp_parse take_line(struct smtp_reply_parser *p, struct bytes line)
{
    uint16_t code;
    if (bytes_ends(line, BYTES("\r")))
        line.len--;
    if (++p->lines > SMTP_REPLY_LINES_MAX || take_number(line, &code) != 3 || code < 200 ||
        code > 599)
        return SMTP_PARSE_BAD;
    char separator = line.len > 3 ? line.at[3] : ' ';
    if ((separator != ' ' && separator != '-') || (p->lines > 1 && code != p->reply.code))
        return SMTP_PARSE_BAD;
    p->reply.code = code;
    add_text(p, take_enhanced(p, bytes_skip(line, 4)));
    return separator == ' ' ? SMTP_PARSE_DONE : SMTP_PARSE_MORE;
}

static void begin(struct smtp_reply_parser *p)
{
    buf_clear(&p->text);
    p->reply = (struct smtp_reply){0};
    p->lines = 0;
    p->done = false;
}

enum smtp_parse smtp_reply_parser_feed(struct smtp_reply_parser *p, struct bytes in,
                                       size_t *out_used)
{
    *out_used = 0;
    if (p->done)
        begin(p);
    while (*out_used < in.len) {
        struct bytes rest = bytes_skip(in, *out_used);
        ptrdiff_t lf = bytes_find(rest, '\n');
        size_t len = lf < 0 ? rest.len : (size_t)lf;
        if (p->line.len + len > SMTP_REPLY_LINE_BYTES_MAX)
            return SMTP_PARSE_BAD;
        buf_add(&p->line, bytes_first(rest, len));
        *out_used += len + (lf >= 0);
        if (lf < 0)
            break;
        enum smtp_parse result = take_line(p, buf_bytes(&p->line));
        buf_clear(&p->line);
        if (result == SMTP_PARSE_DONE) {
            p->reply.text = buf_bytes(&p->text);
            p->done = true;
            p->lines = 0;
        }
        if (result != SMTP_PARSE_MORE)
            return result;
    }
    return SMTP_PARSE_MORE;
}
