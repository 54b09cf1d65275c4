// SPDX-License-Identifier: MIT
//
// How it works: a lexer that skips white space and comments (CFWS) gives words, literals and single
// characters. An entry is read as words first; the character behind them tells what they were:
//
//     word *( "." word ) "@"     the local-part of a bare address
//     *( word / "." ) "<"        a display name; an address in angle brackets follows
//     1*( word / "." ) ":"       the name of a group
#include "mail/mail_address_list.h"

#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_rfc2047.h"
#include "mail/mail_text.h"

#define WORD_MAX 1000 // of an encoded-word; RFC 2047 section 2 allows 75

enum token { T_ATOM, T_QUOTED, T_LITERAL, T_END, T_BAD, T_CHAR };

struct parser {
    struct bytes text;
    size_t at;        // behind the current token
    size_t start;     // of the current token
    enum token token; // the current token
    char c;           // of T_CHAR
    int err;
    struct buf word;  // value of T_ATOM, T_QUOTED, T_LITERAL
    struct buf words; // local-part that the words of this entry would make
    struct buf name;  // display name that they would make
    bool words_are_local;
    bool after_encoded; // the last word of `name` was an encoded-word
    bool in_group;
    struct arena *arena;
    struct mail_mailbox *rows; // malloc()ed
    size_t count, cap, groups;
};

// ---- lexer

// The next character, a plain or quoted one of quotes, comments and literals: octets it takes; 0:
// none that may stand there. A line end that folds counts as plain.
static size_t plain_length(struct bytes s)
{
    if (s.len == 0)
        return 0;
    char c = s.at[0];
    if (c == '\r')
        return s.len > 2 && s.at[1] == '\n' && (s.at[2] == ' ' || s.at[2] == '\t') ? 2 : 0;
    if (c == '\t' || (c >= 32 && c <= 126))
        return 1;
    return mail_utf8_non_ascii(s);
}

static size_t pair_length(struct bytes s)
{
    return s.len > 1 && (s.at[1] == '\t' || (s.at[1] >= 32 && s.at[1] <= 126)) ? 2 : 0;
}

// Moves behind white space and comments. False: a comment does not end, nests too deep, holds
// controls; mail_skip_cfws() bears the last two.
static bool skip_cfws(struct parser *p)
{
    size_t depth = 0;
    while (p->at < p->text.len) {
        struct bytes rest = bytes_skip(p->text, p->at);
        char c = rest.at[0];
        size_t n = depth && c == '\\' ? pair_length(rest) : plain_length(rest);
        bool is_space = c == ' ' || c == '\t' || c == '\r';
        if (depth == 0 && !is_space && c != '(')
            return true;
        if (n == 0)
            return false;
        if (c == '(' && ++depth > MAIL_COMMENT_DEPTH_MAX)
            p->err = E_LIMIT;
        if (p->err)
            return false;
        depth -= c == ')';
        p->at += n;
    }
    return depth == 0;
}

static enum token read_atom(struct parser *p)
{
    size_t n;
    do {
        struct bytes rest = bytes_skip(p->text, p->at);
        n = rest.len == 0 ? 0 : mail_is_atext(rest.at[0]) ? 1 : mail_utf8_non_ascii(rest);
        p->at += n;
    } while (n);
    buf_add(&p->word, bytes_mid(p->text, p->start, p->at - p->start));
    return p->at > p->start ? T_ATOM : T_BAD;
}

// A quoted-string, or a literal with end "]"; the value is what stands between, line ends of
// folding dropped.
static enum token read_enclosed(struct parser *p, char end)
{
    if (end == ']')
        buf_add_byte(&p->word, '[');
    for (p->at++; p->at < p->text.len;) {
        struct bytes rest = bytes_skip(p->text, p->at);
        bool is_pair = rest.at[0] == '\\';
        size_t n = is_pair ? pair_length(rest) : plain_length(rest);
        p->at += n;
        if (n == 0 || (is_pair && end == ']'))
            return T_BAD;
        if (rest.at[0] == end) {
            if (end == ']')
                buf_add_byte(&p->word, ']');
            return end == ']' ? T_LITERAL : T_QUOTED;
        }
        if (rest.at[0] != '\r')
            buf_add(&p->word, bytes_mid(rest, is_pair, n - is_pair));
    }
    return T_BAD;
}

static void next(struct parser *p)
{
    buf_clear(&p->word);
    p->token = T_BAD;
    if (!skip_cfws(p))
        return;
    p->start = p->at;
    if (p->at == p->text.len) {
        p->token = T_END;
        return;
    }
    p->c = p->text.at[p->at];
    if (p->c == '"')
        p->token = read_enclosed(p, '"');
    else if (p->c == '[')
        p->token = read_enclosed(p, ']');
    else if (ascii_is_one_of(p->c, "<>,;:@.")) {
        p->at++;
        p->token = T_CHAR;
    } else
        p->token = read_atom(p);
}

static bool is_char(const struct parser *p, char c)
{
    return p->token == T_CHAR && p->c == c;
}

static int fail(struct parser *p, int err)
{
    if (!p->err)
        p->err = err;
    return p->err;
}

// ---- what encoded-words hide

// Does the text have something before and behind an "@" that is not `own` in other clothes?
static bool hides_address(struct bytes text, struct bytes own)
{
    ptrdiff_t at = bytes_find(text, '@');
    text = bytes_trim(text);
    if (text.len > 2 && (text.at[0] == '<' || text.at[0] == '"'))
        text = bytes_mid(text, 1, text.len - 2);
    if (at < 0 || (own.len && bytes_eq_nocase(text, own)))
        return false;
    for (size_t i = 1; i + 1 < text.len; i++) {
        unsigned char before = (unsigned char)text.at[i - 1],
                      behind = (unsigned char)text.at[i + 1];
        bool is_part =
            before > ' ' && (ascii_is_alnum((char)behind) || behind == '[' || behind >= 128);
        if (text.at[i] == '@' && is_part)
            return true;
    }
    return false;
}

// Length of the encoded-word that s starts with, taken as a careless reader would; 0: there is
// none. *out_err is set if one starts that is longer than any reader should take.
static size_t careless_word(struct bytes s, int *out_err)
{
    struct bytes rest = bytes_skip(bytes_first(s, WORD_MAX), 2), charset, encoding;
    if (!bytes_cut(&rest, '?', &charset) || !bytes_cut(&rest, '?', &encoding) ||
        encoding.len != 1 || !ascii_is_one_of(encoding.at[0], "bBqQ") ||
        bytes_find(charset, ' ') >= 0)
        return 0;
    ptrdiff_t end = bytes_search(rest, BYTES("?="));
    if (end < 0 && s.len > WORD_MAX)
        *out_err = E_SYNTAX;
    return end < 0 ? 0 : (size_t)(rest.at - s.at) + (size_t)end + 2;
}

// Decodes the encoded-words of a phrase wherever they stand. Tells how many there were.
static size_t careless_decode(struct bytes phrase, struct buf *out, int *out_err)
{
    size_t words = 0;
    while (phrase.len && !*out_err) {
        ptrdiff_t start = bytes_search(phrase, BYTES("=?"));
        struct bytes plain = start < 0 ? phrase : bytes_first(phrase, (size_t)start);
        if (!words || bytes_trim(plain).len)
            buf_add(out, plain);
        phrase = bytes_skip(phrase, plain.len);
        size_t n = phrase.len ? careless_word(phrase, out_err) : 0;
        if (n && mail_rfc2047_decode_word(bytes_first(phrase, n), out) == OK)
            words++;
        else
            buf_add(out, bytes_first(phrase, n = 2));
        phrase = bytes_skip(phrase, n);
    }
    return words;
}

static int check_phrase(struct bytes phrase, struct bytes own)
{
    struct buf text = {0};
    int err = OK;
    if (careless_decode(phrase, &text, &err) && !err &&
        (bytes_has_control(buf_bytes(&text), "\t\r\n") || hides_address(buf_bytes(&text), own)))
        err = E_SYNTAX;
    buf_done(&text);
    return err;
}

// ---- entries

static void start_words(struct parser *p)
{
    buf_clear(&p->words);
    buf_clear(&p->name);
    p->words_are_local = false;
    p->after_encoded = false;
}

// Adds the current word to the display name.
static void add_name_word(struct parser *p, bool after_dot)
{
    size_t before = p->name.len;
    if (p->token == T_ATOM && mail_rfc2047_decode_word(buf_bytes(&p->word), &p->name) == OK) {
        struct buf decoded = {0};
        buf_add(&decoded, bytes_skip(buf_bytes(&p->name), before));
        buf_truncate(&p->name, before);
        if (before && !p->after_encoded && !after_dot)
            buf_add_byte(&p->name, ' ');
        buf_add(&p->name, buf_bytes(&decoded));
        buf_done(&decoded);
        p->after_encoded = true;
        return;
    }
    if (before && !after_dot)
        buf_add_byte(&p->name, ' ');
    buf_add(&p->name, buf_bytes(&p->word));
    p->after_encoded = false;
}

// Reads words and dots up to what is neither. Tells how many there were.
static size_t read_words(struct parser *p)
{
    bool after_word = false, is_local = true;
    size_t n = 0;
    start_words(p);
    for (; !p->err; n++, next(p)) {
        bool is_word = p->token == T_ATOM || p->token == T_QUOTED;
        if (is_word) {
            is_local = is_local && !after_word;
            add_name_word(p, n && !after_word && p->start && p->text.at[p->start - 1] == '.');
            buf_add(&p->words, buf_bytes(&p->word));
        } else if (is_char(p, '.')) {
            if (n == 0)
                fail(p, E_SYNTAX); // no local-part, and no phrase either
            is_local = is_local && after_word;
            buf_add_byte(&p->name, '.');
            buf_add_byte(&p->words, '.');
        } else
            break;
        after_word = is_word;
    }
    p->words_are_local = is_local && after_word;
    return n;
}

// Domain = atom *( "." atom ) / literal, behind the "@"; leaves the parser at what follows.
static int read_domain(struct parser *p, struct buf *out)
{
    next(p);
    if (p->token == T_LITERAL) {
        buf_add(out, buf_bytes(&p->word));
        next(p);
        return OK;
    }
    for (;;) {
        if (p->token != T_ATOM)
            return fail(p, E_SYNTAX);
        buf_add(out, buf_bytes(&p->word));
        next(p);
        if (!is_char(p, '.'))
            return OK;
        buf_add_byte(out, '.');
        next(p);
    }
}

static struct mail_mailbox *add_row(struct parser *p)
{
    if (p->count == MAIL_LIST_MAX) {
        fail(p, E_LIMIT);
        return NULL;
    }
    if (p->count == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 4;
        p->rows = mem_resize(p->rows, p->cap * sizeof(*p->rows));
    }
    return &p->rows[p->count++];
}

// The words are a local-part and the parser is at the "@": reads the domain and adds the mailbox.
static int read_address(struct parser *p, struct bytes name, struct bytes phrase)
{
    struct buf text = {0};
    if (!p->words_are_local || !is_char(p, '@'))
        return fail(p, E_SYNTAX);
    mail_local_format(buf_bytes(&p->words), &text);
    buf_add_byte(&text, '@');
    if (read_domain(p, &text) == OK) {
        struct mail_mailbox *row = add_row(p);
        struct mail_address address;
        int err = mail_address_parse(arena_dup(p->arena, buf_bytes(&text)), &address);
        if (err == OK && bytes_search(address.text, BYTES("=?")) >= 0)
            err = E_SYNTAX; // an encoded-word is none here (RFC 2047 section 5), but some decode it
        if (err == OK)
            err = check_phrase(phrase, address.text);
        if (err || !row)
            fail(p, err);
        else
            *row = (struct mail_mailbox){.name = name, .address = address, .in_group = p->in_group};
    }
    buf_done(&text);
    return p->err;
}

// angle-addr behind its "<"; the words read before are the name.
static int read_angle(struct parser *p, struct bytes phrase)
{
    struct bytes name = arena_dup(p->arena, buf_bytes(&p->name));
    next(p);
    read_words(p); // a source route starts with "@" and gives no words: refused
    if (read_address(p, name, phrase) != OK)
        return p->err;
    if (!is_char(p, '>'))
        return fail(p, E_SYNTAX);
    next(p);
    return OK;
}

// Between two commas: nothing, an address, or the start of a group (then *out_more: an entry
// follows).
static int read_entry(struct parser *p, bool *out_more)
{
    size_t start = p->start;
    size_t words = read_words(p);
    struct bytes phrase = bytes_mid(p->text, start, p->start - start);
    *out_more = false;
    if (is_char(p, '<'))
        return read_angle(p, phrase);
    if (is_char(p, '@'))
        return read_address(p, BYTES_NONE, BYTES_NONE);
    if (words && is_char(p, ':') && !p->in_group) {
        p->in_group = true;
        p->groups++;
        next(p);
        *out_more = true;
        return check_phrase(phrase, BYTES_NONE) ? fail(p, E_SYNTAX) : OK;
    }
    return words ? fail(p, E_SYNTAX) : OK;
}

static int read_list(struct parser *p)
{
    bool more;
    next(p);
    while (!p->err) {
        if (read_entry(p, &more) != OK || more)
            continue;
        if (is_char(p, ';') && p->in_group) {
            p->in_group = false;
            next(p);
        }
        if (p->token == T_END)
            return p->in_group ? fail(p, E_SYNTAX) : OK;
        if (!is_char(p, ','))
            return fail(p, E_SYNTAX);
        next(p);
    }
    return p->err;
}

int mail_address_list_parse(struct bytes value, struct arena *arena, struct mail_address_list *out)
{
    struct parser p = {.text = value, .arena = arena};
    *out = (struct mail_address_list){0};
    int err = read_list(&p);
    if (err == OK && (p.word.err || p.words.err || p.name.err))
        err = E_LIMIT;
    if (err == OK && p.count) {
        out->mailboxes = arena_new(arena, p.count * sizeof(*p.rows));
        memcpy(out->mailboxes, p.rows, p.count * sizeof(*p.rows));
    }
    out->count = err ? 0 : p.count;
    out->groups = err ? 0 : p.groups;
    free(p.rows);
    buf_done(&p.word);
    buf_done(&p.words);
    buf_done(&p.name);
    return err;
}
