// SPDX-License-Identifier: MIT
//
// How it works: all parts of all phrases stand in one trie, whose rows have a column for each byte
// that occurs in any of them (column 0: all others). Compiling fills the rows' gaps with where the
// longest proper suffix would go, breadth first, so that a text is one table look-up a byte. A part
// that ends counts if it stands at the borders of words, is the next one its phrase waits for, and
// begins behind the one before; taking the first that comes is right, because a part that ends
// earlier leaves more room for the rest.
#include "bounce/bounce_words.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/check.h"

#define NO_PART UINT32_MAX

struct part {
    uint32_t phrase;
    uint32_t next; // another part that ends in the same state, or NO_PART
    uint16_t length;
    uint8_t number; // within its phrase
    bool is_last;
    bool word_first, word_last; // its first and last byte belong to a word
    struct bytes text;          // until compiled
};

struct bounce_words {
    struct arena arena; // the phrases
    struct part *parts;
    uint32_t parts_count, parts_cap;
    uint32_t phrases;
    uint8_t column_of[256];
    uint32_t columns;
    uint32_t states;
    uint16_t *rows;    // states * columns
    uint32_t *part_of; // first part that ends in the state, or NO_PART
    uint16_t *shorter; // nearest suffix in which a part ends; 0: none
};

// Letters, digits and everything beyond ASCII: words in other languages have no other borders.
static bool is_word(char c)
{
    return ascii_is_alnum(c) || (unsigned char)c >= 0x80;
}

void bounce_words_normalize(struct bytes text, size_t max, struct buf *out)
{
    bool blank = false;
    size_t start = out->len;
    text = bytes_first(text, max);
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if ((unsigned char)c <= 0x20 || c == 0x7f) {
            blank = true;
            continue;
        }
        if (blank && out->len > start)
            buf_add_byte(out, ' ');
        blank = false;
        buf_add_byte(out, ascii_lower(c));
    }
}

struct bounce_words *bounce_words_new(void)
{
    return mem_new(sizeof(struct bounce_words));
}

void bounce_words_free(struct bounce_words *w)
{
    if (!w)
        return;
    arena_done(&w->arena);
    free(w->parts);
    free(w->rows);
    free(w->part_of);
    free(w->shorter);
    free(w);
}

// ---- adding ----------------------------------------------------------------------------------------------

static void add_part(struct bounce_words *w, struct bytes text, uint8_t number, bool is_last)
{
    if (w->parts_count == w->parts_cap) {
        w->parts_cap = w->parts_cap ? w->parts_cap * 2 : 256;
        w->parts = mem_resize(w->parts, w->parts_cap * sizeof *w->parts);
    }
    w->parts[w->parts_count++] = (struct part){.phrase = w->phrases,
                                               .next = NO_PART,
                                               .length = (uint16_t)text.len,
                                               .number = number,
                                               .is_last = is_last,
                                               .word_first = is_word(text.at[0]),
                                               .word_last = is_word(text.at[text.len - 1]),
                                               .text = text};
}

// The next part of a normalized phrase; false: a star without words at one of its sides.
static bool cut_part(struct bytes *rest, struct bytes *out)
{
    ptrdiff_t star = bytes_search(*rest, BYTES(" * "));
    *out = star < 0 ? *rest : bytes_first(*rest, (size_t)star);
    *rest = star < 0 ? BYTES_NONE : bytes_skip(*rest, (size_t)star + 3);
    return out->len > 0 && !bytes_eq(*out, BYTES("*")) && !bytes_starts(*out, BYTES("* ")) &&
           !bytes_ends(*out, BYTES(" *")) && (star < 0 || rest->len > 0);
}

int bounce_words_add(struct bounce_words *w, struct bytes phrase)
{
    struct buf text = {0};
    CHECK(!w->rows);
    bounce_words_normalize(phrase, BOUNCE_WORDS_TEXT_MAX, &text);
    struct bytes rest = arena_dup(&w->arena, buf_bytes(&text)), parts[BOUNCE_WORDS_PARTS_MAX];
    buf_done(&text);
    size_t count = 0;
    int err = rest.len ? OK : E_SYNTAX;
    while (!err && rest.len) {
        if (count == BOUNCE_WORDS_PARTS_MAX)
            err = E_LIMIT;
        else if (!cut_part(&rest, &parts[count++]))
            err = E_SYNTAX;
    }
    if (err)
        return err;
    for (size_t i = 0; i < count; i++)
        add_part(w, parts[i], (uint8_t)i, i + 1 == count);
    w->phrases++;
    return OK;
}

// ---- compiling -------------------------------------------------------------------------------------------

static void name_columns(struct bounce_words *w)
{
    w->columns = 1;
    for (uint32_t i = 0; i < w->parts_count; i++)
        for (size_t k = 0; k < w->parts[i].text.len; k++) {
            uint8_t *column = &w->column_of[(uint8_t)w->parts[i].text.at[k]];
            if (!*column) // at most 224 bytes are left by normalizing: no overflow
                *column = (uint8_t)w->columns++;
        }
}

static uint16_t *cell(const struct bounce_words *w, uint32_t state, char c)
{
    return &w->rows[(size_t)state * w->columns + w->column_of[(uint8_t)c]];
}

static int add_to_trie(struct bounce_words *w, uint32_t part, uint32_t *states_cap)
{
    struct bytes text = w->parts[part].text;
    uint32_t state = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (!*cell(w, state, text.at[i])) {
            if (w->states == BOUNCE_WORDS_STATES_MAX)
                return E_LIMIT;
            if (w->states == *states_cap) {
                *states_cap *= 2;
                size_t old = (size_t)w->states * w->columns;
                size_t new = (size_t)*states_cap * w->columns;
                w->rows = mem_resize(w->rows, new * sizeof *w->rows);
                memset(w->rows + old, 0, (new - old) * sizeof *w->rows);
                w->part_of = mem_resize(w->part_of, *states_cap * sizeof *w->part_of);
            }
            w->part_of[w->states] = NO_PART;
            *cell(w, state, text.at[i]) = (uint16_t)w->states++;
        }
        state = *cell(w, state, text.at[i]);
    }
    w->parts[part].next = w->part_of[state];
    w->part_of[state] = part;
    return OK;
}

// Breadth first: a state's suffix is nearer to the root, so its row is complete already.
static void fill_gaps(struct bounce_words *w)
{
    uint16_t *order = mem_new(w->states * sizeof *order);
    uint16_t *suffix = mem_new(w->states * sizeof *suffix);
    uint32_t head = 0, tail = 1; // the root is done: its gaps lead to itself
    w->shorter = mem_new(w->states * sizeof *w->shorter);
    while (head < tail) {
        uint32_t state = order[head++];
        uint16_t *row = &w->rows[(size_t)state * w->columns];
        const uint16_t *fallback = &w->rows[(size_t)suffix[state] * w->columns];
        for (uint32_t column = 1; column < w->columns; column++) {
            uint16_t child = row[column];
            if (!child) {
                row[column] = state ? fallback[column] : 0;
                continue;
            }
            uint16_t s = state ? fallback[column] : 0;
            suffix[child] = s;
            w->shorter[child] = w->part_of[s] != NO_PART ? s : w->shorter[s];
            order[tail++] = child;
        }
    }
    free(order);
    free(suffix);
}

int bounce_words_compile(struct bounce_words *w)
{
    uint32_t states_cap = 1024;
    CHECK(!w->rows);
    name_columns(w);
    w->rows = mem_new((size_t)states_cap * w->columns * sizeof *w->rows);
    w->part_of = mem_new(states_cap * sizeof *w->part_of);
    w->part_of[0] = NO_PART;
    w->states = 1;
    for (uint32_t i = 0; i < w->parts_count; i++)
        if (add_to_trie(w, i, &states_cap))
            return E_LIMIT;
    fill_gaps(w);
    return OK;
}

// ---- finding ---------------------------------------------------------------------------------------------

// How far a phrase has been found.
struct progress {
    uint16_t end; // of its last part found
    uint8_t parts;
    bool is_whole;
};

static bool counts(const struct part *p, struct bytes text, size_t end, const struct progress *now)
{
    size_t start = end - p->length;
    return !now->is_whole && now->parts == p->number && (p->number == 0 || start >= now->end) &&
           !(p->word_first && start > 0 && is_word(text.at[start - 1])) &&
           !(p->word_last && end < text.len && is_word(text.at[end]));
}

void bounce_words_find(const struct bounce_words *w, struct bytes raw,
                       void (*on_phrase)(void *ctx, uint32_t phrase), void *ctx)
{
    CHECK(w->rows);
    struct buf buf = {0};
    bounce_words_normalize(raw, BOUNCE_WORDS_TEXT_MAX, &buf);
    struct bytes text = buf_bytes(&buf);
    struct progress *progress = mem_new((w->phrases + 1) * sizeof *progress);
    uint32_t state = 0;
    for (size_t i = 0; i < text.len; i++) {
        state = *cell(w, state, text.at[i]);
        uint32_t s = w->part_of[state] != NO_PART ? state : w->shorter[state];
        for (; s; s = w->shorter[s]) {
            for (uint32_t k = w->part_of[s]; k != NO_PART; k = w->parts[k].next) {
                const struct part *p = &w->parts[k];
                struct progress *now = &progress[p->phrase];
                if (!counts(p, text, i + 1, now))
                    continue;
                now->end = (uint16_t)(i + 1);
                now->parts++;
                now->is_whole = p->is_last;
                if (p->is_last)
                    on_phrase(ctx, p->phrase);
            }
        }
    }
    free(progress);
    buf_done(&buf);
}
