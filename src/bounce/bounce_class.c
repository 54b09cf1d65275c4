// SPDX-License-Identifier: MIT
#include "bounce/bounce_class.h"

#include "base/check.h"

static const char *const KINDS[BOUNCE_KINDS] = {
    [BOUNCE_KIND_OTHER] = "other",           [BOUNCE_KIND_BOUNCE] = "bounce",
    [BOUNCE_KIND_DELAY] = "delay",           [BOUNCE_KIND_COMPLAINT] = "complaint",
    [BOUNCE_KIND_AUTO_REPLY] = "auto-reply", [BOUNCE_KIND_SUCCESS] = "success",
};

const char *bounce_kind_name(enum bounce_kind kind)
{
    CHECK((unsigned)kind < BOUNCE_KINDS);
    return KINDS[kind];
}

struct bounce_verdict bounce_classify_reply(const struct bounce_rules *rules,
                                            const struct bounce_reply *reply)
{
    return bounce_rules_match(rules, reply);
}

// ---- a reply as text -------------------------------------------------------------------------------------

// The length of the enhanced status code that s begins with, or 0 (RFC 3463 section 2).
static size_t status_length(struct bytes s)
{
    size_t at = 1, digits;
    if (s.len < 5 || (s.at[0] != '2' && s.at[0] != '4' && s.at[0] != '5'))
        return 0;
    for (int part = 0; part < 2; part++) {
        if (at >= s.len || s.at[at] != '.')
            return 0;
        at++;
        for (digits = 0; at < s.len && ascii_is_digit(s.at[at]) && digits < 4; digits++)
            at++;
        if (digits < 1 || digits > 3)
            return 0;
    }
    bool ends = at == s.len || (!ascii_is_alnum(s.at[at]) && !(s.at[at] == '.' && at + 1 < s.len &&
                                                               ascii_is_digit(s.at[at + 1])));
    return ends ? at : 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Does s begin with a reply code?
static bool has_code(struct bytes s, uint16_t *out)
{
    if (s.len < 3 || s.at[0] < '2' || s.at[0] > '5' || !ascii_is_digit(s.at[1]) ||
        !ascii_is_digit(s.at[2]) || (s.len > 3 && !is_blank(s.at[3]) && s.at[3] != '-'))
        return false;
    *out = (uint16_t)((s.at[0] - '0') * 100 + (s.at[1] - '0') * 10 + (s.at[2] - '0'));
    return true;
}

// "550 5.1.1": a code that a status of its class follows can be nothing else.
static bool has_status_behind(struct bytes here)
{
    struct bytes behind = bytes_skip(here, 4);
    return here.len > 4 && status_length(behind) && behind.at[0] == here.at[0];
}

// Where a reply begins in what a mailer says about it: at the start, behind one of ":;<(\"'" and blanks, or where a
// status follows the code.
static bool find_code(struct bytes *text, uint16_t *out)
{
    bool may_begin = true, at_word = true;
    for (size_t i = 0; i < text->len; i++) {
        struct bytes here = bytes_skip(*text, i);
        if ((may_begin || at_word) && has_code(here, out) &&
            (may_begin || has_status_behind(here))) {
            *text = here;
            return true;
        }
        char c = text->at[i];
        at_word = is_blank(c);
        if (!at_word)
            may_begin = c == ':' || c == ';' || c == '<' || c == '(' || c == '"' || c == '\'';
    }
    return false;
}

static struct bytes find_status(struct bytes text, uint16_t code)
{
    for (size_t i = 0; i < text.len; i++) {
        if (i > 0 && (ascii_is_alnum(text.at[i - 1]) || text.at[i - 1] == '.'))
            continue;
        size_t n = status_length(bytes_skip(text, i));
        if (n && (!code || text.at[i] - '0' == code / 100))
            return bytes_mid(text, i, n);
    }
    return BYTES_NONE;
}

struct bytes bounce_class_without_type(struct bytes text)
{
    ptrdiff_t semicolon = bytes_find(bytes_first(text, 40), ';');
    for (ptrdiff_t i = 0; i < semicolon; i++)
        if (!ascii_is_alnum(text.at[i]) && text.at[i] != '-')
            return text;
    return semicolon <= 0 ? text : bytes_trim(bytes_skip(text, (size_t)semicolon + 1));
}

// The words of a reply whose lines were joined with their codes ("550-5.1.1 no\n550 5.1.1 such").
static void add_words(struct bytes text, const struct bounce_reply *reply, struct buf *out)
{
    uint16_t code;
    bool at_word = true;
    for (size_t i = 0; i < text.len; i++) {
        struct bytes here = bytes_skip(text, i);
        if (at_word && reply->code && has_code(here, &code) && code == reply->code) {
            i += 3;
            here = bytes_skip(text, i + 1);
            if (reply->enhanced.len && bytes_starts(here, reply->enhanced))
                i += reply->enhanced.len;
            continue;
        }
        at_word = is_blank(text.at[i]);
        buf_add_byte(out, text.at[i]);
    }
}

struct bounce_verdict bounce_classify_text(const struct bounce_rules *rules, struct bytes text,
                                           struct bounce_reply *out_reply)
{
    struct bounce_reply reply = {0};
    text = bounce_class_without_type(bytes_trim(bytes_first(text, BOUNCE_TEXT_MAX)));
    struct bytes from_code = text;
    if (find_code(&from_code, &reply.code))
        reply.enhanced = find_status(from_code, reply.code);
    else
        reply.enhanced = find_status(text, 0);
    reply.text = text;
    struct buf words = {0};
    add_words(text, &reply, &words);
    struct bounce_reply asked = {reply.code, reply.enhanced, buf_bytes(&words)};
    struct bounce_verdict v = bounce_rules_match(rules, &asked);
    buf_done(&words);
    if (reply.code)
        reply.text = from_code;
    *out_reply = reply;
    return v;
}
